//! The steps of the line as a person reads them: what each looked at, what it found, and which line of the policy said so.

use std::fmt;

use crate::cli::rehearsal::{Call, Played, Stage};
use crate::denial::Denial;
use crate::limit::Caller;
use crate::outcome::{Findings, Standing};
use crate::policy::{Asked, Ground, Operation};
use crate::principal::{Principal, PrincipalKind};
use crate::snapshot::Snapshot;

/// The steps of one call, up to the one that it did not pass.
pub(super) struct Steps(Vec<Step>);

struct Step {
    name: StepName,
    grounds: Vec<Ground>,
}

/// The steps, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum StepName {
    Door,
    Route,
    Authenticate,
    Permit,
    Read,
    Reach,
    Acquire,
}

// === impl Steps ===

impl Steps {
    /// The steps of a call that was played on this stage.
    pub(super) fn of(call: &Call, played: &Played, stage: &Stage<'_>, snapshot: &Snapshot) -> Self {
        let Played { findings, verdict, .. } = played;
        let unknown_action = stage.unknown_action(call);
        let last = verdict.as_ref().err().map_or(StepName::Acquire, StepName::refusing);
        let policies = &snapshot.policies;
        let operation = policies.operations().find(|call| Some(call.id()) == findings.operation.as_ref());
        let mut steps = Vec::new();
        for name in StepName::ALL.into_iter().filter(|name| *name <= last) {
            let principal = findings.principal.as_deref();
            let grounds = match (name, operation, principal) {
                (StepName::Door, ..) => door(call),
                (StepName::Route, Some(operation), _) => route(operation),
                (StepName::Authenticate, _, Some(principal)) => authenticate(principal, findings),
                (StepName::Permit, Some(operation), Some(principal)) => {
                    policies.permit_grounds(principal, operation)
                }
                (StepName::Read, Some(operation), _) => read(operation, call),
                (StepName::Reach, Some(operation), Some(principal)) => {
                    let (scope, unknown_action) = (&findings.scope, unknown_action.as_ref());
                    let asked = Asked { scope, unknown_action, now: stage.now() };
                    policies.reach_grounds(principal, operation, &asked)
                }
                (StepName::Acquire, Some(operation), Some(principal)) => {
                    acquire(findings, operation, principal, snapshot)
                }
                (_, None, _) | (_, _, None) => Vec::new(),
            };
            steps.push(Step { name, grounds });
        }
        if let (Err(denial), Some(last)) = (verdict, steps.last_mut()) {
            let retry = denial.retry_after().map(|seconds| format!("; try again in {seconds} s"));
            let found = format!("refused, `{}`: {denial}{}", denial.reason(), retry.unwrap_or_default());
            last.grounds.push(Ground { found, place: None });
        }
        Self(steps)
    }
}

fn said(found: impl Into<String>) -> Ground {
    Ground { found: found.into(), place: None }
}

fn door(call: &Call) -> Vec<Ground> {
    vec![said(format!("{} {}", call.method, call.target))]
}

fn route(operation: &Operation) -> Vec<Ground> {
    let found = format!("is the operation `{}`, {} {}", operation.id(), operation.method(), operation.path());
    vec![Ground { found, place: Some(operation.places().name.clone()) }]
}

fn authenticate(principal: &Principal, findings: &Findings) -> Vec<Ground> {
    let subject = principal.subject;
    let name = findings.application.as_ref().map(|name| format!(" (`{name}`)")).unwrap_or_default();
    let who = match subject.user {
        Some(user) => format!("the user {user} through the application {}{name}", subject.application),
        None => format!("the application {}{name}", subject.application),
    };
    let permissions: Vec<_> = principal.permissions().iter().map(|permission| permission.as_str()).collect();
    let mut grounds = vec![
        said(format!("{who}, of the tenant {}", subject.tenant)),
        said(format!("until {}, with the permissions {}", principal.expires, permissions.join(", "))),
    ];
    if let PrincipalKind::User { .. } = principal.kind {
        let groups: Vec<_> = findings.groups.iter().map(ToString::to_string).collect();
        grounds.push(said(match (principal.has_group_overage(), groups.is_empty()) {
            (true, _) => "the token could not carry the user's groups".to_owned(),
            (false, true) => "in no Entra group that the policy names".to_owned(),
            (false, false) => format!("in these Entra groups of the policy: {}", groups.join(", ")),
        }));
    }
    grounds
}

fn read(operation: &Operation, call: &Call) -> Vec<Ground> {
    let found = match operation.body() {
        None => "the body is not looked at".to_owned(),
        Some(contract) => {
            format!("the body has {} bytes, at most {} are taken", call.body.len(), contract.max_bytes())
        }
    };
    vec![Ground { found, place: Some(operation.places().name.clone()) }]
}

fn acquire(
    findings: &Findings,
    operation: &Operation,
    principal: &Principal,
    snapshot: &Snapshot,
) -> Vec<Ground> {
    let caller = Caller { subject: &principal.subject, groups: &findings.groups, at: snapshot.loaded };
    let charges = snapshot.quotas.charges(caller, operation.id(), &findings.scope);
    let parts = charges.explain().into_iter();
    let parts = parts.map(|(limit, found)| Ground { found, place: snapshot.quotas.place(&limit).cloned() });
    let parts: Vec<_> = parts.collect();
    if findings.standings.is_empty() && parts.is_empty() {
        return vec![said("no limit applies")];
    }
    let ground = |standing: &Standing| {
        let Standing { limit, rate, remaining, .. } = standing;
        let counts: Vec<_> = snapshot.quotas.counts_by(limit).collect();
        let counts = if counts.is_empty() { "all calls together".to_owned() } else { counts.join(", ") };
        let found = format!("`{limit}`, {rate}, by {counts}: {remaining} left");
        Ground { found, place: snapshot.quotas.place(limit).cloned() }
    };
    findings.standings.iter().map(ground).chain(parts).collect()
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Step { name, grounds } in &self.0 {
            let mut name = name.as_str();
            for ground in grounds {
                writeln!(f, "{name:<13} {ground}")?;
                name = "";
            }
        }
        Ok(())
    }
}

// === impl StepName ===

impl StepName {
    const ALL: [Self; 7] =
        [Self::Door, Self::Route, Self::Authenticate, Self::Permit, Self::Read, Self::Reach, Self::Acquire];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Door => "door",
            Self::Route => "route",
            Self::Authenticate => "authenticate",
            Self::Permit => "permit",
            Self::Read => "read",
            Self::Reach => "reach",
            Self::Acquire => "acquire",
        }
    }

    /// The step that says so.
    const fn refusing(denial: &Denial) -> Self {
        match denial {
            Denial::Malformed(_) | Denial::HeaderTooLarge { .. } | Denial::Overload => Self::Door,
            Denial::NoOperation(_) => Self::Route,
            Denial::Bearer(_) | Denial::Token(_) | Denial::Logins(_) => Self::Authenticate,
            Denial::Permit(_) => Self::Permit,
            Denial::Body(_) => Self::Read,
            Denial::Reach(_) => Self::Reach,
            Denial::Limit(_)
            | Denial::CircuitOpen { .. }
            | Denial::AuditUnavailable
            | Denial::UpstreamUnavailable
            | Denial::UpstreamUnreadable
            | Denial::UpstreamTimeout
            | Denial::ClientGone
            | Denial::Internal => Self::Acquire,
        }
    }
}
