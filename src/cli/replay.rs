//! Audit lines as calls: what a line says of a call is enough to make it again, but for its body.

use std::fmt;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::rehearsal::{Call, Played, Rehearsal, Stage};
use crate::id::{ActionId, DeviceRef};
use crate::outcome::ReasonCode;
use crate::policy::Operation;
use crate::time::Wall;

/// What an audit line says of a call. What it says beside that does not matter here.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Recorded {
    time: String,
    event: Event,
    pub(super) policy_version: Option<String>,
    reason: Option<String>,
    would_refuse: Option<String>,
    pub(super) operation: Option<String>,
    application_name: Option<String>,
    #[serde(default)]
    devices: Vec<RecordedDevice>,
    tenant: Option<String>,
    application: Option<String>,
    user: Option<String>,
    permissions: Option<Vec<String>>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    group_overage: bool,
}

/// Which line of a call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    /// Of an admitted call, before it was forwarded.
    Admitted,
    /// Of a refused one.
    Refused,
    /// Of anything else: the end of a call, a reload.
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, Deserialize)]
struct RecordedDevice {
    device: String,
}

/// Why a line cannot be made a call again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unplayable {
    /// It is the second line of a call, or of a reload.
    NoDecision,
    /// The call was refused before anything was known of its caller, or for its body, or failed later.
    NotByPolicy,
    /// It lacks the token's permissions, or its time is none.
    Incomplete,
    /// The policy has no operation of that name.
    NoOperation,
}

/// The action that a replayed call names: the line tells its device and not its id.
const ACTION: &str = "00000000-0000-4000-8000-000000000000";

/// What stands in a path as it is: RFC 3986, `unreserved`. A line has a device's name decoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

// === impl Recorded ===

impl Recorded {
    /// When the decision was made; none if the line does not say it.
    pub(super) fn time(&self) -> Option<Wall> {
        let time = self.time.parse::<jiff::Timestamp>().ok()?;
        let nanos = u64::try_from(time.subsec_nanosecond()).ok()?;
        Some(Wall::from_unix_seconds(time.as_second()) + std::time::Duration::from_nanos(nanos))
    }

    /// `admitted`, or the reason.
    pub(super) fn verdict(&self) -> &str {
        match self.event {
            Event::Admitted => "admitted",
            Event::Refused | Event::Other => self.reason.as_deref().unwrap_or("refused"),
        }
    }

    /// The same, and what would have refused the call if it were enforced.
    pub(super) fn decision(&self) -> String {
        match (self.event, &self.would_refuse) {
            (Event::Admitted, Some(reason)) => format!("`admitted` with `{reason}` not enforced"),
            (Event::Admitted, None) | (Event::Refused | Event::Other, _) => format!("`{}`", self.verdict()),
        }
    }

    /// Who called, as a person knows it.
    pub(super) fn caller(&self) -> String {
        let application =
            self.application_name.as_deref().or(self.application.as_deref()).unwrap_or("nobody");
        match &self.user {
            Some(user) => format!("user {user} through {application}"),
            None => format!("application {application}"),
        }
    }

    /// What it was called on; nothing for a call that named no device.
    pub(super) fn on(&self) -> String {
        let devices: Vec<_> = self.devices.iter().map(|device| device.device.as_str()).collect();
        if devices.is_empty() { String::new() } else { format!(" on {}", devices.join(", ")) }
    }

    /// Whether the line tells enough of a call that the policy decided; its time, if so.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn is_playable(&self) -> Result<Wall, Unplayable> {
        if self.event == Event::Other {
            return Err(Unplayable::NoDecision);
        }
        let known = |word: &str| ReasonCode::ALL.iter().find(|reason| reason.as_str() == word);
        let by_policy = |word: &str| known(word).is_some_and(|reason| is_by_policy(*reason));
        if !self.reason.as_deref().is_none_or(by_policy) || self.operation.is_none() || self.tenant.is_none()
        {
            return Err(Unplayable::NotByPolicy);
        }
        self.time().filter(|_| self.permissions.is_some()).ok_or(Unplayable::Incomplete)
    }

    /// The operation of the line in a set.
    ///
    /// # Errors
    /// That the line is of no call which this set could decide.
    pub(super) fn operation<'s>(&self, rehearsal: &'s Rehearsal) -> Result<&'s Operation, Unplayable> {
        self.is_playable()?;
        let name = self.operation.as_deref().unwrap_or_default();
        let mut operations = rehearsal.snapshot().policies.operations();
        operations.find(|operation| operation.id().as_str() == name).ok_or(Unplayable::NoOperation)
    }

    /// Makes the call again, with these groups beside the recorded ones.
    pub(super) fn play(
        &self,
        operation: &Operation,
        more_groups: &[String],
        stage: &Stage<'_>,
        rehearsal: &Rehearsal,
    ) -> (Call, Played) {
        let token = rehearsal.sign(&self.claims(more_groups, stage.now(), rehearsal));
        let call = self.call(operation, stage);
        let played = stage.play(&call, Some(&token));
        (call, played)
    }

    fn claims(&self, more_groups: &[String], now: Wall, rehearsal: &Rehearsal) -> Value {
        let issuers = rehearsal.issuers();
        let ours = |tenant: &String| issuers.iter().find(|issuer| issuer.tenant.to_string() == *tenant);
        let issuer = self.tenant.as_ref().and_then(ours).or(issuers.first());
        let mut claims = Map::new();
        let Some(issuer) = issuer else { return Value::Object(claims) };
        let now = now.unix_seconds();
        for (name, value) in [
            ("iss", json!(issuer.iss)),
            ("aud", json!(issuer.audience)),
            ("nbf", json!(now)),
            ("exp", json!(now + 3_600)),
        ] {
            claims.insert(name.to_owned(), value);
        }
        let permissions = self.permissions.as_deref().unwrap_or_default();
        let mut set = |entra: &str, value: Value| {
            if let Some(name) = issuer.claim(entra) {
                claims.insert(name.to_owned(), value);
            }
        };
        set("tid", json!(self.tenant));
        set("appid", json!(self.application));
        issuer.version.into_iter().for_each(|version| set("ver", json!(version)));
        match &self.user {
            Some(user) => {
                set("idtyp", json!("user"));
                set("oid", json!(user));
                set("scp", json!(permissions.join(" ")));
            }
            None => {
                set("idtyp", json!("app"));
                set("roles", json!(permissions));
            }
        }
        let groups: Vec<_> = self.groups.iter().chain(more_groups).collect();
        match self.group_overage {
            true => set("_claim_names", json!({ "groups": "src1" })),
            false if groups.is_empty() => {}
            false => set("groups", json!(groups)),
        }
        Value::Object(claims)
    }

    /// The call, with whatever the operation takes where the line does not tell; and its action's device is known.
    fn call(&self, operation: &Operation, stage: &Stage<'_>) -> Call {
        let mut devices: Vec<DeviceRef> = Vec::new();
        for device in self.devices.iter().map(|device| DeviceRef::parse(&device.device)) {
            // A name that fits several devices stands in the line once for each, and stood in the call once.
            if !devices.contains(&device) {
                devices.push(device);
            }
        }
        let first = self.devices.first().map_or("unknown", |device| device.device.as_str());
        if let (Some(action), Some(device)) = (ActionId::parse(ACTION), devices.first()) {
            stage.actions().record(action, device.clone());
        }
        let target = filled(operation.path(), first);
        let mut headers = HeaderMap::new();
        let body = operation.body().map(|contract| contract.example(&devices).to_string());
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let (method, body) = (operation.method().clone(), body.map_or(Bytes::new(), Bytes::from));
        Call { method, target, headers, body, address: None }
    }
}

/// A path with values in the place of its parameters.
fn filled(path: &str, device: &str) -> String {
    let mut parts = path.split('{');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (parameter, rest) = part.split_once('}').unwrap_or((part, ""));
        match parameter {
            "device" => filled.extend(utf8_percent_encode(device, ENCODED)),
            "action" => filled += ACTION,
            _other => filled += "example",
        }
        filled += rest;
    }
    filled
}

/// Whether the policy gave this reason, for what a line tells of.
const fn is_by_policy(reason: ReasonCode) -> bool {
    match reason {
        ReasonCode::MissingPermission
        | ReasonCode::MissingRole
        | ReasonCode::GroupOverage
        | ReasonCode::Application
        | ReasonCode::DeviceGroup
        | ReasonCode::UnscopedOperation
        | ReasonCode::UnknownAction
        | ReasonCode::UnknownDevice
        | ReasonCode::StaleInventory
        | ReasonCode::OverLimit
        | ReasonCode::InFlight
        | ReasonCode::OpenActions
        | ReasonCode::KeysFull => true,
        // For the request itself.
        ReasonCode::MalformedRequest
        | ReasonCode::TwoTokens
        | ReasonCode::BadAuthorization
        | ReasonCode::TokenInQuery
        | ReasonCode::HeaderTooLarge
        | ReasonCode::NoOperation
        // For the token.
        | ReasonCode::NoToken
        | ReasonCode::BadToken
        | ReasonCode::Expired
        | ReasonCode::NotYetValid
        | ReasonCode::WrongAudience
        | ReasonCode::WrongIssuer
        | ReasonCode::FailedLogins
        | ReasonCode::KeysUnavailable
        // For the body, which no line has.
        | ReasonCode::WrongType
        | ReasonCode::BadBody
        | ReasonCode::MissingParameter
        | ReasonCode::BodyTooLarge
        // For how the process, the API or the caller was at that moment.
        | ReasonCode::UpstreamLimited
        | ReasonCode::ShuttingDown
        | ReasonCode::Overload
        | ReasonCode::CircuitOpen
        | ReasonCode::AuditUnavailable
        | ReasonCode::StoreUnavailable
        | ReasonCode::UpstreamUnavailable
        | ReasonCode::UpstreamUnreadable
        | ReasonCode::UpstreamTimeout
        | ReasonCode::ClientGone
        | ReasonCode::Internal => false,
    }
}

// === impl Unplayable ===

impl fmt::Display for Unplayable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDecision => "no decision: the end of a call, or no call at all",
            Self::NotByPolicy => "not decided by the policy: refused for the request, its token or its body",
            Self::Incomplete => "without the token's permissions, or without a time",
            Self::NoOperation => "of an operation that the policy does not have",
        })
    }
}
