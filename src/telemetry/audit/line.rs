//! What an audit line says. A fact that is not known is absent, never an empty string.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::id::{
    ApplicationId, DeviceId, DeviceRef, EntraGroupId, LimitName, Permission, RequestId, TenantId, UserId,
};
use crate::outcome::{Decision, Outcome, ReasonCode, Standing, Window};
use crate::principal::{Principal, ScopedDevice};
use crate::source::Problem;
use crate::telemetry::audit::PolicyEvent;
use crate::time::Wall;

/// Which of a request's lines it is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// It is about to be forwarded.
    Admitted,
    /// It was forwarded, and this is what came of it.
    Ended,
    /// It was not forwarded.
    Refused,
}

/// The line of a request.
#[derive(Serialize)]
pub(super) struct RequestLine<'a> {
    /// When the event happened: the header's arrival plus the time to the decision or the end.
    time: Wall,
    event: Event,
    request_id: Text<RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_request_id: Option<&'a str>,
    decision: Decision,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<ReasonCode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "devices")]
    devices: &'a [ScopedDevice],
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<Text<TenantId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<Text<ApplicationId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Text<UserId>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "permissions")]
    permissions: &'a [Permission],
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "groups")]
    groups: &'a [EntraGroupId],
    /// Whether the token could not carry the user's groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    group_overage: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uti: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    policy_version: &'a str,
    admission_us: u64,
    /// How long it waited for its turn in the limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_ms: Option<f64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "limits_left")]
    limits_left: &'a [Standing],
    /// Limits that are not enforced yet, and would have refused the call.
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "names")]
    limits_overrun: &'a [LimitName],
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
}

/// The line of a load or reload of the policy.
#[derive(Serialize)]
pub(super) struct PolicyLine<'a> {
    time: Wall,
    event: &'static str,
    result: &'static str,
    /// The version in force after it.
    policy_version: &'a str,
    /// How many mistakes there are, also those that the line leaves out.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem_count: Option<usize>,
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "problems")]
    problems: &'a [Problem],
}

/// The sum of lines that found no room.
#[derive(Serialize)]
pub(super) struct DroppedLine<'a> {
    time: Wall,
    event: &'static str,
    /// Refused calls by their reason; `admitted`, `ended` and `policy` are the lines of these events.
    counts: &'a BTreeMap<&'static str, u64>,
}

/// What is written as it prints.
struct Text<T>(T);

/// The longest comment that a line holds, in characters: enough for a ticket and a sentence.
const MAX_COMMENT: usize = 200;

/// The longest device name that a line holds, in characters. A DNS name has at most 253, so none is cut.
const MAX_DEVICE_NAME: usize = 256;

/// The most mistakes that a reload's line names. The log and `/policy` have them all.
const MAX_PROBLEMS: usize = 100;

/// A line's usual length with some room, so that it is allocated once.
const USUAL_LENGTH: usize = 1_024;

/// The line in JSON with its line feed. JSON escapes every line feed within.
pub(super) fn encode(line: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::with_capacity(USUAL_LENGTH);
    serde_json::to_writer(&mut bytes, line)?;
    bytes.push(b'\n');
    Ok(bytes)
}

// === impl RequestLine ===

impl<'a> RequestLine<'a> {
    pub(super) fn new(event: Event, outcome: &'a Outcome) -> Self {
        let findings = &outcome.findings;
        let principal = findings.principal.as_deref();
        let subject = principal.map(|principal| principal.subject);
        // Before a call is forwarded its end has no facts, whatever the outcome's fields hold.
        let end = (event != Event::Admitted).then_some(outcome);
        // What a decision was made of stands in its line alone.
        let decided = principal.filter(|_| event != Event::Ended);
        Self {
            time: outcome.received + end.map_or(outcome.admission, |end| end.total),
            event,
            request_id: Text(outcome.request_id),
            client_request_id: outcome.client_request_id.as_deref(),
            decision: outcome.decision,
            reason: outcome.reason,
            operation: findings.operation.as_ref().map(|operation| operation.as_str()),
            devices: &findings.scope.devices,
            tenant: subject.map(|subject| Text(subject.tenant)),
            application: subject.map(|subject| Text(subject.application)),
            application_name: findings.application.as_ref().map(|application| application.as_str()),
            user: subject.and_then(|subject| subject.user).map(Text),
            permissions: decided.map_or(&[], Principal::permissions),
            groups: decided.map_or(&[], |_| &findings.groups),
            group_overage: decided.filter(|principal| principal.has_group_overage()).map(|_| true),
            uti: principal.and_then(|principal| principal.token_id.as_deref()),
            address: outcome.address,
            policy_version: &outcome.policy_version,
            admission_us: u64::try_from(outcome.admission.as_micros()).unwrap_or(u64::MAX),
            held_ms: findings.held.map(millis),
            limits_left: &findings.standings,
            limits_overrun: &findings.overrun,
            upstream_status: end.and_then(|end| end.upstream_status),
            upstream_ms: end.and_then(|end| end.upstream_latency).map(millis),
            total_ms: end.map(|end| millis(end.total)),
            comment: findings.comment.as_deref().map(|comment| cut(comment, MAX_COMMENT)),
        }
    }
}

/// Milliseconds with three decimals.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

/// The first `length` characters.
fn cut(text: &str, length: usize) -> &str {
    text.char_indices().nth(length).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

fn devices<S: Serializer>(devices: &&[ScopedDevice], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Device<'a> {
        #[serde(serialize_with = "device_name")]
        device: &'a DeviceRef,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Text<DeviceId>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        group: Option<&'a str>,
    }

    serializer.collect_seq(devices.iter().map(|device| Device {
        device: &device.named,
        id: device.id.map(Text),
        group: device.group.as_ref().map(|group| group.as_str()),
    }))
}

fn permissions<S: Serializer>(permissions: &&[Permission], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(permissions.iter().map(Permission::as_str))
}

fn groups<S: Serializer>(groups: &&[EntraGroupId], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(groups.iter().map(|group| Text(*group)))
}

fn device_name<S: Serializer>(device: &&DeviceRef, serializer: S) -> Result<S::Ok, S::Error> {
    match device {
        DeviceRef::Name(name) => serializer.serialize_str(cut(name, MAX_DEVICE_NAME)),
        DeviceRef::Id(_) | DeviceRef::Entra(_) => serializer.collect_str(device),
    }
}

fn limits_left<S: Serializer>(standings: &&[Standing], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Left<'a> {
        limit: &'a str,
        window: Text<Window>,
        remaining: u32,
    }

    serializer.collect_seq(standings.iter().map(|standing| Left {
        limit: standing.limit.as_str(),
        window: Text(standing.rate.window),
        remaining: standing.remaining,
    }))
}

fn names<S: Serializer>(names: &&[LimitName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(LimitName::as_str))
}

// === impl PolicyLine ===

impl<'a> PolicyLine<'a> {
    pub(super) fn new(time: Wall, event: &PolicyEvent<'a>) -> Self {
        let (result, policy_version, problem_count, problems): (_, _, _, &[_]) = match *event {
            PolicyEvent::Loaded { version } => ("ok", version, None, &[]),
            PolicyEvent::Failed { version, problems } => ("failed", version, Some(problems.len()), problems),
        };
        let problems = problems.get(..MAX_PROBLEMS).unwrap_or(problems);
        Self { time, event: "policy", result, policy_version, problem_count, problems }
    }
}

fn problems<S: Serializer>(problems: &&[Problem], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(problems.iter().map(Text))
}

// === impl DroppedLine ===

impl<'a> DroppedLine<'a> {
    pub(super) fn new(time: Wall, counts: &'a BTreeMap<&'static str, u64>) -> Self {
        Self { time, event: "dropped", counts }
    }
}

// === impl Text ===

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
