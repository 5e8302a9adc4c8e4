//! Machine actions: collections and sessions of live response that were asked for, and how far they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use uuid::Uuid;

use crate::id::{ActionId, DeviceId, DeviceRef};
use crate::sandbox::api::device::{ApiDevice, Collections, Devices};
use crate::sandbox::api::reply::ServiceError;
use crate::time::{Clock, Steady, Wall};

/// A collection that succeeded before the first request.
#[derive(Debug, Clone)]
pub struct SeededAction {
    /// Its id.
    pub id: ActionId,
    /// The device it collected from; one that the stand-in lacks has no action.
    pub device: DeviceId,
    /// Who asked for it, as the service prints it.
    pub requestor: String,
    /// Why.
    pub comment: String,
}

/// What an action does, as the service calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Kind {
    CollectInvestigationPackage,
    LiveResponse,
}

/// An action that is asked for.
#[derive(Debug)]
pub(crate) struct NewAction {
    pub(crate) kind: Kind,
    /// The device's place among [`Devices`].
    pub(crate) device: usize,
    pub(crate) requestor: Arc<str>,
    pub(crate) comment: String,
    pub(crate) runs: Duration,
}

/// An action that was started.
#[derive(Debug)]
pub(crate) struct Action {
    id: ActionId,
    kind: Kind,
    pub(crate) device: usize,
    requestor: Arc<str>,
    comment: String,
    created: Wall,
    runs: Duration,
    ends: Steady,
}

/// The actions the service remembers, and the one that each device is busy with.
#[derive(Debug, Default)]
pub(crate) struct ActionLog {
    /// By their number, in the order they were started.
    actions: BTreeMap<u64, Action>,
    numbers: HashMap<ActionId, u64>,
    /// In the order they end: the first is the one to forget.
    ends: BTreeSet<(Steady, u64)>,
    /// Kept apart, so that a device stays busy even if its action is forgotten.
    busy_until: HashMap<usize, Steady>,
    started: u64,
}

/// The service's words for how far an action is; the stand-in's never fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Status {
    Pending,
    InProgress,
    Succeeded,
}

/// An action as the service prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MachineActionDocument<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: Kind,
    title: Option<&'a str>,
    scope: Option<&'a str>,
    requestor: &'a str,
    request_source: &'a str,
    #[serde(rename = "externalID")]
    external_id: Option<&'a str>,
    requestor_comment: &'a str,
    cancellation_requestor: Option<&'a str>,
    cancellation_comment: Option<&'a str>,
    status: Status,
    machine_id: String,
    computer_dns_name: &'a str,
    creation_date_time_utc: Wall,
    cancellation_date_time_utc: Option<Wall>,
    last_update_date_time_utc: Wall,
    error_h_result: u32,
    commands: [(); 0],
    related_file_info: Option<()>,
}

// === impl ActionLog ===

impl ActionLog {
    /// About 5 MB: enough that an action is still there when its client asks, and flat under load.
    pub(crate) const MAX_ACTIONS: usize = 10_000;

    /// The sessions of live response that run at once, of the whole tenant.
    pub(crate) const MAX_SESSIONS: usize = 25;

    /// What there is before the first request: the seeded actions, and one on each device that is always busy.
    pub(crate) fn seeded(devices: &Devices, seeds: Vec<SeededAction>, clock: &Clock) -> Self {
        let mut log = Self::default();
        for seed in seeds {
            let Some((device, _)) = devices.find(&DeviceRef::Id(seed.device)) else { continue };
            let request = NewAction {
                kind: Kind::CollectInvestigationPackage,
                device,
                requestor: seed.requestor.into(),
                comment: seed.comment,
                runs: Duration::ZERO,
            };
            log.insert(seed.id, request, clock);
        }
        for (device, _) in
            devices.iter().enumerate().filter(|(_, device)| device.collections == Collections::NeverEnd)
        {
            let request = NewAction {
                kind: Kind::CollectInvestigationPackage,
                device,
                requestor: "Automation".into(),
                comment: "Runs from the start and never ends".into(),
                runs: Duration::MAX,
            };
            log.insert(new_id(), request, clock);
        }
        log
    }

    /// Starts an action.
    ///
    /// # Errors
    ///
    /// 400 `ActiveRequestAlreadyExists` while another runs on the device, 429 while as many sessions of live response
    /// run as may at once (*Run live response commands*, `run-live-response.md`).
    pub(crate) fn start(&mut self, request: NewAction, clock: &Clock) -> Result<&Action, ServiceError> {
        let already =
            || ServiceError::bad_request("ActiveRequestAlreadyExists", "Action is already in progress");
        if self.busy_until.get(&request.device).is_some_and(|until| clock.steady() < *until) {
            return Err(already());
        }
        if request.kind == Kind::LiveResponse && self.sessions(clock.steady()) >= Self::MAX_SESSIONS {
            let message = format!("Maximum allowed {} concurrently running sessions", Self::MAX_SESSIONS);
            return Err(ServiceError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message));
        }
        let number = self.insert(new_id(), request, clock);
        self.actions.get(&number).ok_or_else(already)
    }

    /// How many sessions of live response run.
    fn sessions(&self, now: Steady) -> usize {
        let running = self.ends.range((now, u64::MAX)..).filter_map(|(_, number)| self.actions.get(number));
        running.filter(|action| action.kind == Kind::LiveResponse).count()
    }

    fn insert(&mut self, id: ActionId, request: NewAction, clock: &Clock) -> u64 {
        if self.actions.len() >= Self::MAX_ACTIONS
            && let Some((_, number)) = self.ends.pop_first()
            && let Some(forgotten) = self.actions.remove(&number)
        {
            self.numbers.remove(&forgotten.id);
        }
        let number = self.started;
        self.started += 1;
        let ends = clock.steady() + request.runs;
        self.numbers.insert(id.clone(), number);
        self.ends.insert((ends, number));
        self.busy_until.insert(request.device, ends);
        self.actions.insert(
            number,
            Action {
                id,
                kind: request.kind,
                device: request.device,
                requestor: request.requestor,
                comment: request.comment,
                created: clock.wall(),
                runs: request.runs,
                ends,
            },
        );
        number
    }

    /// The action of this id.
    ///
    /// # Errors
    ///
    /// 404 `ResourceNotFound`.
    pub(crate) fn get(&self, id: &ActionId) -> Result<&Action, ServiceError> {
        self.numbers
            .get(id)
            .and_then(|number| self.actions.get(number))
            .ok_or_else(|| ServiceError::resource_not_found(format!("Machine action {id} was not found")))
    }

    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Action> {
        self.actions.values().rev()
    }

    pub(crate) fn len(&self) -> usize {
        self.actions.len()
    }
}

fn new_id() -> ActionId {
    #[expect(clippy::expect_used, reason = "a GUID has 36 characters, an action id up to 64")]
    ActionId::parse(&Uuid::new_v4().to_string()).expect("a GUID is an action id")
}

// === impl Action ===

impl Action {
    /// The action as the answer to its start prints it.
    pub(crate) fn started<'a>(&'a self, device: &'a ApiDevice) -> MachineActionDocument<'a> {
        self.document(device, Status::Pending, self.created)
    }

    /// The action as it is at `now`.
    pub(crate) fn seen_at<'a>(&'a self, now: Steady, device: &'a ApiDevice) -> MachineActionDocument<'a> {
        match self.status(now) {
            Status::Succeeded => self.document(device, Status::Succeeded, self.created + self.runs),
            status @ (Status::Pending | Status::InProgress) => self.document(device, status, self.created),
        }
    }

    /// Where the package is: a string with quotes of its own, as the service sends it.
    ///
    /// # Errors
    ///
    /// 404 until the action has succeeded.
    pub(crate) fn package_uri(&self, now: Steady) -> Result<String, ServiceError> {
        match self.status(now) {
            Status::Succeeded => Ok(format!(
                "\"https://userrequests.contoso.example:443/safedownload/WDATP_Investigation_Package.zip?token={}\"",
                Uuid::new_v4()
            )),
            Status::Pending | Status::InProgress => Err(ServiceError::new(
                StatusCode::NOT_FOUND,
                "ResourceNotFound",
                format!("The package of machine action {} is not complete", self.id),
            )),
        }
    }

    fn status(&self, now: Steady) -> Status {
        if now >= self.ends { Status::Succeeded } else { Status::InProgress }
    }

    fn document<'a>(
        &'a self,
        device: &'a ApiDevice,
        status: Status,
        last_update: Wall,
    ) -> MachineActionDocument<'a> {
        MachineActionDocument {
            id: self.id.to_string(),
            kind: self.kind,
            title: None,
            scope: None,
            requestor: &self.requestor,
            request_source: &self.requestor,
            external_id: None,
            requestor_comment: &self.comment,
            cancellation_requestor: None,
            cancellation_comment: None,
            status,
            machine_id: device.id.to_string(),
            computer_dns_name: &device.name,
            creation_date_time_utc: self.created,
            cancellation_date_time_utc: None,
            last_update_date_time_utc: last_update,
            error_h_result: 0,
            commands: [],
            related_file_info: None,
        }
    }
}
