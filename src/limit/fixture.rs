//! Quotas and callers for the tests of this room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::id::{ApplicationId, EntraGroupId, OperationId, TenantId, UserId};
use crate::limit::key::Rule;
use crate::limit::quota::{Idle, Limited, Owner, Part, WhenFull};
use crate::limit::window::{Bound, Bounds};
use crate::limit::{Charges, DocumentedLimit, LimitKey, NamedDevices, Owners, Quota, QuotaSet, Starts};
use crate::outcome::Rate;
use crate::principal::{Scope, Subject, Tenants};
use crate::source::{PolicyFiles, Problem, Problems, SourceFile};
use crate::time::{Clock, ManualClock, Wall};

impl DocumentedLimit {
    pub(super) fn at_no_place(operation: &str, rates: Vec<Rate>) -> Self {
        // As their names say.
        let devices = match operation {
            "list" => NamedDevices::None,
            "tag" => NamedDevices::Several,
            _ => NamedDevices::One,
        };
        let starts = if operation == "collect" { Starts::Action } else { Starts::Nothing };
        Self { operation: operation.parse().unwrap(), devices, starts, rates, place: None }
    }
}

/// Operations `collect` (100 a minute, 1500 an hour), `read`, `list` and `tag` (no documented limits); `list` names no
/// device and `tag` several.
pub(super) fn documented() -> Vec<DocumentedLimit> {
    let rates = |text: &[&str]| text.iter().map(|rate| rate.parse().unwrap()).collect();
    vec![
        DocumentedLimit::at_no_place("collect", rates(&["100 per minute", "1500 per hour"])),
        DocumentedLimit::at_no_place("read", vec![]),
        DocumentedLimit::at_no_place("list", vec![]),
        DocumentedLimit::at_no_place("tag", vec![]),
    ]
}

/// The application `soar` (number 1), the role `responders` (group 1 and user 1), and `both` of both kinds.
pub(super) fn owners() -> Owners {
    let mut owners = Owners::default();
    owners.application(&"soar".into(), &Tenants::Every, ApplicationId::from_u128(1));
    owners.role(&"responders".into(), &Tenants::Every, [EntraGroupId::from_u128(1)], [UserId::from_u128(1)]);
    owners.application(&"both".into(), &Tenants::Every, ApplicationId::from_u128(2));
    owners.role(&"both".into(), &Tenants::Every, [], []);
    owners
}

/// When the sets of tests are compiled: what [`clock`] says first.
pub(super) fn now() -> Wall {
    Wall::from_unix_seconds(1_767_225_600)
}

/// Compiles `limits.toml` of this text, right or wrong.
pub(super) fn compile(text: &str) -> (QuotaSet, Vec<String>) {
    let mut files = PolicyFiles::default();
    files.insert(SourceFile::new("limits.toml", text));
    let mut problems = Problems::default();
    let set = QuotaSet::compile(&files, &documented(), &owners(), now(), &mut problems);
    (set, problems.into_sorted().iter().map(Problem::to_string).collect())
}

/// A set without mistakes.
pub(super) fn quotas(text: &str) -> QuotaSet {
    let (set, problems) = compile(text);
    assert_eq!(problems, [""; 0]);
    set
}

/// A set without mistakes, with every limit of it changed.
pub(super) fn changed(text: &str, mut change: impl FnMut(&mut Quota)) -> QuotaSet {
    let set = quotas(text);
    let mut changed: BTreeMap<OperationId, Vec<Arc<Quota>>> = BTreeMap::new();
    for (operation, quota) in set.all() {
        let mut quota = quota.clone();
        change(&mut quota);
        changed.entry(operation.clone()).or_default().push(Arc::new(quota));
    }
    let limited = changed.into_iter().map(|(id, quotas)| (id, Limited { quotas, actions: Vec::new() }));
    QuotaSet::new(limited, set.places.clone(), set.limits, set.max_keys, set.logins.clone())
}

/// What holds a call for at most so many seconds, and at most so many calls.
pub(super) fn wait(seconds: u64, queue: u32) -> WhenFull {
    WhenFull::Wait { wait: Duration::from_secs(seconds), queue: queue.try_into().unwrap() }
}

/// A part of a limit, named by its owner, with these rates.
pub(super) fn part(of: &Quota, owner: Owner, idle: Idle, rates: &[&str]) -> Part {
    let name: Arc<str> = format!("{owner:?}").into();
    let rule = Rule { name: of.name.clone(), per: of.per, operation: None, part: Some(Arc::clone(&name)) };
    let bounds = rates.iter().map(|rate| Bound::from(rate.parse::<Rate>().unwrap()));
    Part { name, rule: rule.id().unwrap(), bounds: Bounds::new(bounds), owner, idle, until: None }
}

/// One `[[limit]]` on `read`.
pub(super) fn limit(name: &str, per: &str, windows: &str) -> String {
    format!("[[limit]]\nname = \"{name}\"\noperations = [\"read\"]\nper = [{per}]\nwindows = [{windows}]\n")
}

/// An application's own call.
pub(super) fn application(tenant: u128, application: u128) -> Subject {
    Subject {
        tenant: TenantId::from_u128(tenant),
        application: ApplicationId::from_u128(application),
        user: None,
    }
}

/// A user's call through an application.
pub(super) fn user(tenant: u128, through: u128, user: u128) -> Subject {
    Subject { user: Some(UserId::from_u128(user)), ..application(tenant, through) }
}

/// What a call of `operation` is charged to.
pub(super) fn charges<'a>(set: &'a QuotaSet, subject: &Subject, operation: &str) -> Charges<'a> {
    // Charges borrow what they count by; a test's caller may go as far as the test cares.
    let (subject, scope) = (Box::leak(Box::new(*subject)), Box::leak(Box::new(Scope::default())));
    let operation = Box::leak(Box::new(operation.parse().unwrap()));
    set.charges(&*subject, operation, scope)
}

/// A limit of a call, and the key that it is charged to there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Charge<'a> {
    pub(super) key: LimitKey,
    pub(super) quota: &'a Quota,
}

/// Every one of a call.
pub(super) fn each<'a>(of: &Charges<'a>) -> Vec<Charge<'a>> {
    let mut charges = Vec::new();
    let Ok(()) = of.try_each(|key, claim| {
        charges.push(Charge { key: *key, quota: claim.quota });
        Ok::<_, std::convert::Infallible>(())
    });
    charges
}

/// A clock that stands still, and the hand that moves it.
pub(super) fn clock() -> (Clock, Arc<ManualClock>) {
    Clock::manual(now())
}
