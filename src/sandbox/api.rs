//! Defender's API as its clients see it: six of its calls, its errors, its limits.
//!
//! The stand-in believes every token that is shaped like one and grants its bearer everything, so that whatever is
//! refused for a permission, a role or a device group was refused by the gateway. (Sources: the API's reference
//! pages on machine actions, machines and common error codes.)

mod action;
mod call;
mod caller;
mod device;
mod quota;
mod reply;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri};
use parking_lot::Mutex;
use serde_json::Value;

use crate::id::{ActionId, DeviceRef};
use crate::sandbox::api::action::{ActionLog, Kind, NewAction};
use crate::sandbox::api::call::{Call, Page};
use crate::sandbox::api::caller::ApiCaller;
use crate::sandbox::api::device::Devices;
use crate::sandbox::api::quota::FixedWindows;
use crate::sandbox::api::reply::{ServiceError, created, entity, list, value};
use crate::time::Clock;

pub use crate::sandbox::api::action::SeededAction;
pub use crate::sandbox::api::device::{ApiDevice, Collections, RbacGroup};
pub use crate::sandbox::api::quota::ApiLimits;

/// How a stand-in is set up.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// The tenant's devices.
    pub devices: Vec<ApiDevice>,
    /// Collections that have succeeded before the first request.
    pub actions: Vec<SeededAction>,
    /// How long a collection runs, on a device that does not say otherwise.
    pub running_for: Duration,
    /// Whether the service's own limits hold.
    pub limits: ApiLimits,
    /// How many of the last requests are kept for [`Api::seen`], body and all; none by default.
    pub keep_seen: usize,
}

/// A request as it arrived, for tests that ask what the upstream got to see.
#[derive(Debug, Clone)]
pub struct SeenRequest {
    /// The method.
    pub method: Method,
    /// Path and query, as sent.
    pub target: Uri,
    /// Every header.
    pub headers: HeaderMap,
    /// The body, to the byte.
    pub body: Bytes,
}

/// The stand-in for Defender's API.
///
/// Bounded: the devices given, 10,000 actions (the oldest finished go first), 10,000 counters and
/// [`ApiSettings::keep_seen`] requests.
#[derive(Debug)]
pub struct Api {
    devices: Devices,
    running_for: Duration,
    clock: Clock,
    actions: Mutex<ActionLog>,
    windows: Option<Mutex<FixedWindows>>,
    keep_seen: usize,
    seen: Mutex<VecDeque<SeenRequest>>,
    received: AtomicU64,
}

/// The largest body that is read: the largest that an operation of the gateway can be set to take.
const MAX_BODY_BYTES: usize = 1024 * 1024;

// === impl ApiSettings ===

impl Default for ApiSettings {
    /// No devices, collections of 30 seconds, the documented limits.
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            actions: Vec::new(),
            running_for: Duration::from_secs(30),
            limits: ApiLimits::Documented,
            keep_seen: 0,
        }
    }
}

// === impl Api ===

impl Api {
    /// A stand-in whose collections run, and whose limits count, by `clock`.
    pub fn new(settings: ApiSettings, clock: Clock) -> Arc<Self> {
        let devices = Devices::new(settings.devices);
        let actions = ActionLog::seeded(&devices, settings.actions, &clock);
        Arc::new(Self {
            devices,
            running_for: settings.running_for,
            clock,
            actions: Mutex::new(actions),
            windows: match settings.limits {
                ApiLimits::Documented => Some(Mutex::default()),
                ApiLimits::Off => None,
            },
            keep_seen: settings.keep_seen,
            seen: Mutex::default(),
            received: AtomicU64::new(0),
        })
    }

    /// The calls that it answers. Paths are compared without regard to case, so there is one handler for all.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }

    /// How many requests have arrived, whatever the answer was.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The last requests, oldest first, at most [`ApiSettings::keep_seen`] of them.
    pub fn seen(&self) -> Vec<SeenRequest> {
        self.seen.lock().iter().cloned().collect()
    }

    fn note(&self, head: &Parts, body: &Bytes) {
        self.received.fetch_add(1, Ordering::Relaxed);
        if self.keep_seen == 0 {
            return;
        }
        let mut seen = self.seen.lock();
        if seen.len() >= self.keep_seen {
            seen.pop_front();
        }
        seen.push_back(SeenRequest {
            method: head.method.clone(),
            target: head.uri.clone(),
            headers: head.headers.clone(),
            body: body.clone(),
        });
    }

    fn answer(&self, head: &Parts, body: &[u8]) -> Result<Response, ServiceError> {
        let caller = ApiCaller::read(&head.headers)?;
        let call = Call::read(&head.method, head.uri.path())?;
        if let Some(windows) = &self.windows {
            windows.lock().charge(&caller, call.operation(), self.clock.steady())?;
        }
        match call {
            Call::Collect(device) => {
                self.start(Kind::CollectInvestigationPackage, &device, comment(body)?, caller)
            }
            Call::LiveResponse(device) => self.start(Kind::LiveResponse, &device, comment(body)?, caller),
            Call::Machine(device) => self.machine(&device),
            Call::Machines => self.machines(head),
            Call::Action(id) => self.action(&id),
            Call::Actions => self.actions(head),
            Call::PackageUri(id) => self.package_uri(&id),
        }
    }

    fn start(
        &self,
        kind: Kind,
        named: &str,
        comment: String,
        caller: ApiCaller,
    ) -> Result<Response, ServiceError> {
        let (place, device) = self.find(named)?;
        let request = NewAction {
            kind,
            device: place,
            requestor: caller.requestor,
            comment,
            runs: device.collections.duration(self.running_for),
        };
        let mut actions = self.actions.lock();
        let action = actions.start(request, &self.clock)?;
        Ok(created(&action.started(device)))
    }

    fn machine(&self, named: &str) -> Result<Response, ServiceError> {
        let (_, device) = self.find(named)?;
        Ok(entity("Machines", &device.machine(self.clock.wall())))
    }

    fn machines(&self, head: &Parts) -> Result<Response, ServiceError> {
        let page = Page::read(&head.uri)?;
        let now = self.clock.wall();
        let devices: Vec<_> =
            self.devices.iter().skip(page.skip).take(page.top).map(|device| device.machine(now)).collect();
        Ok(list("Machines", &devices, page.next_link(head, self.devices.len())))
    }

    fn action(&self, id: &ActionId) -> Result<Response, ServiceError> {
        let actions = self.actions.lock();
        let action = actions.get(id)?;
        let device = self.devices.at(action.device)?;
        Ok(entity("MachineActions", &action.seen_at(self.clock.steady(), device)))
    }

    fn actions(&self, head: &Parts) -> Result<Response, ServiceError> {
        let page = Page::read(&head.uri)?;
        let now = self.clock.steady();
        let actions = self.actions.lock();
        let shown: Vec<_> = actions
            .newest_first()
            .skip(page.skip)
            .take(page.top)
            .filter_map(|action| Some(action.seen_at(now, self.devices.at(action.device).ok()?)))
            .collect();
        Ok(list("MachineActions", &shown, page.next_link(head, actions.len())))
    }

    fn package_uri(&self, id: &ActionId) -> Result<Response, ServiceError> {
        let actions = self.actions.lock();
        let action = actions.get(id)?;
        Ok(value(&action.package_uri(self.clock.steady())?))
    }

    fn find(&self, named: &str) -> Result<(usize, &ApiDevice), ServiceError> {
        self.devices
            .find(&DeviceRef::parse(named))
            .ok_or_else(|| ServiceError::resource_not_found(format!("Machine {named} was not found")))
    }
}

async fn answer(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = match to_bytes(body, MAX_BODY_BYTES).await {
        Ok(body) => body,
        Err(_) => {
            api.received.fetch_add(1, Ordering::Relaxed);
            let too_large = "The request body is too large";
            return ServiceError::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestBodyTooLarge", too_large)
                .into_response();
        }
    };
    api.note(&head, &body);
    api.answer(&head, &body).unwrap_or_else(ServiceError::into_response)
}

/// The member `Comment` of a body; names of members are compared with regard to case, as the service does.
fn comment(body: &[u8]) -> Result<String, ServiceError> {
    let invalid = |message| ServiceError::bad_request("InvalidRequestBody", message);
    match serde_json::from_slice(body) {
        Ok(Value::Object(mut members)) => match members.remove("Comment") {
            Some(Value::String(comment)) if !comment.is_empty() => Ok(comment),
            Some(Value::String(_) | Value::Null) | None => Err(ServiceError::bad_request(
                "MissingRequiredParameter",
                "Required parameter is missing: Comment",
            )),
            Some(_) => Err(invalid("Parameter Comment must be a string")),
        },
        Ok(_) | Err(_) => Err(invalid("Request body is not a valid JSON object")),
    }
}

#[cfg(test)]
mod tests;
