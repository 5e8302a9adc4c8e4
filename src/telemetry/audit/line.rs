//! What an audit line says. A fact that is not known is absent, never an empty string.

mod object;
mod plain;

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::{Serialize, Serializer};

use self::object::{Object, name};
use crate::id::{DeviceGroupId, DeviceRef, LimitName, Permission, RoleName};
use crate::outcome::Outcome;
use crate::principal::ScopedDevice;
use crate::source::Problem;
use crate::telemetry::audit::PolicyEvent;
use crate::time::Wall;

/// Which of a request's lines it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It is about to be forwarded.
    Admitted,
    /// It was forwarded, and this is what came of it.
    Ended,
    /// It was not forwarded.
    Refused,
}

/// The line of a load or reload of the policy.
#[derive(Serialize)]
pub(super) struct PolicyLine<'a> {
    time: Wall,
    event: &'static str,
    result: &'static str,
    /// The version in force after it.
    policy_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Wall>,
    /// In seconds, how long each limit that grew counts times that it had no use for before as not admitted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    lacking_s: BTreeMap<&'a str, f64>,
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

/// The line in JSON with its line feed. JSON escapes every line feed within.
pub(super) fn encode(line: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The line of a request, with its line feed. Each call makes two: `serde_json` would look at each byte
/// of it for escapes, also of ids and of our own words.
pub(super) fn request(event: Event, outcome: &Outcome) -> Vec<u8> {
    let findings = &outcome.findings;
    let principal = findings.principal.as_deref();
    // Before a call is forwarded its end has no facts, whatever the outcome's fields hold.
    let end = (event != Event::Admitted).then_some(outcome);
    // What a decision was made of stands in its line alone.
    let decided = principal.filter(|_| event != Event::Ended);

    let mut line = Object::default();
    // The header's arrival plus the time to the decision or the end.
    line.plain(name!("time"), outcome.received + end.map_or(outcome.admission, |end| end.total));
    line.word(name!("event"), event.as_str());
    line.plain(name!("request_id"), outcome.request_id);
    line.text_if(name!("client_request_id"), outcome.client_request_id.as_deref());
    line.word(name!("decision"), outcome.decision.as_str());
    if let Some(reason) = outcome.reason {
        line.word(name!("reason"), reason.as_str());
    }
    line.text_if(name!("operation"), findings.operation.as_ref().map(|operation| operation.as_str()));
    line.objects(name!("devices"), &findings.scope.devices, device);
    if let Some(subject) = principal.map(|principal| principal.subject) {
        line.plain(name!("tenant"), subject.tenant);
        line.plain(name!("application"), subject.application);
    }
    let application = findings.application.as_ref();
    line.text_if(name!("application_name"), application.map(|application| application.as_str()));
    if let Some(user) = principal.and_then(|principal| principal.subject.user) {
        line.plain(name!("user"), user);
    }
    if let Some(decided) = decided {
        line.texts(name!("permissions"), decided.permissions().iter().map(Permission::as_str));
        line.plain_list(name!("groups"), &findings.groups);
        if decided.has_group_overage() {
            // The token could not carry the user's groups.
            line.yes(name!("group_overage"));
        }
    }
    line.text_if(name!("uti"), principal.and_then(|principal| principal.token_id.as_deref()));
    if let Some(address) = outcome.address {
        line.plain(name!("address"), address);
    }
    line.text(name!("policy_version"), &outcome.policy_version);
    line.number(name!("admission_us"), outcome.admission.as_micros());
    // How long it waited for its turn in the limits.
    if let Some(held) = findings.held {
        line.millis(name!("held_ms"), held);
    }
    line.objects(name!("limits_left"), &findings.standings, |left, standing| {
        left.text(name!("limit"), standing.limit.as_str());
        left.plain(name!("window"), standing.rate.window);
        left.number(name!("remaining"), standing.remaining);
    });
    // What is not enforced yet, and would have refused the call.
    if let Some(reason) = findings.would_refuse() {
        line.word(name!("would_refuse"), reason.as_str());
    }
    if let Some(tried) = &findings.tried {
        line.text(name!("would_say"), &tried.message);
        line.texts(name!("roles_overrun"), tried.roles.iter().map(RoleName::as_str));
    }
    line.texts(name!("limits_overrun"), findings.overrun.iter().map(LimitName::as_str));
    line.texts(name!("device_groups_overrun"), findings.scope.overrun.iter().map(DeviceGroupId::as_str));
    if let Some(end) = end {
        if let Some(status) = end.upstream_status {
            line.number(name!("upstream_status"), status);
        }
        if let Some(latency) = end.upstream_latency {
            line.millis(name!("upstream_ms"), latency);
        }
        line.millis(name!("total_ms"), end.total);
    }
    line.text_if(name!("comment"), findings.comment.as_deref().map(|comment| cut(comment, MAX_COMMENT)));
    line.into_line()
}

fn device(line: &mut Object, device: &ScopedDevice) {
    match &device.named {
        DeviceRef::Name(name) => line.text(name!("device"), cut(name, MAX_DEVICE_NAME)),
        DeviceRef::Id(id) => line.plain(name!("device"), *id),
        DeviceRef::Entra(id) => line.plain(name!("device"), *id),
    }
    if let Some(id) = device.id {
        line.plain(name!("id"), id);
    }
    line.text_if(name!("group"), device.group.as_ref().map(|group| group.as_str()));
}

/// The first `length` characters.
fn cut(text: &str, length: usize) -> &str {
    // Most are shorter, and need no counting: a character is a byte or more.
    if text.len() <= length {
        return text;
    }
    text.char_indices().nth(length).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

// === impl Event ===

impl Event {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Ended => "ended",
            Self::Refused => "refused",
        }
    }
}

// === impl PolicyLine ===

impl<'a> PolicyLine<'a> {
    pub(super) fn new(time: Wall, event: &PolicyEvent<'a>) -> Self {
        let line = |result, policy_version| Self {
            time,
            event: "policy",
            result,
            policy_version,
            what: None,
            until: None,
            lacking_s: BTreeMap::new(),
            problem_count: None,
            problems: &[],
        };
        match *event {
            PolicyEvent::Loaded { version, lacking } => {
                let lacking = lacking.iter().map(|(limit, heals)| (limit.as_str(), heals.as_secs_f64()));
                Self { lacking_s: lacking.collect(), ..line("ok", version) }
            }
            PolicyEvent::Failed { version, problems } => Self {
                problem_count: Some(problems.len()),
                problems: problems.get(..MAX_PROBLEMS).unwrap_or(problems),
                ..line("failed", version)
            },
            PolicyEvent::Until { version, what, until } => {
                Self { what: Some(what), until: Some(until), ..line("until", version) }
            }
            PolicyEvent::Lapsed { version, what, until } => {
                Self { what: Some(what), until: Some(until), ..line("lapsed", version) }
            }
        }
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
