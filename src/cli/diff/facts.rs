//! The facts of two sets, and what is so in one of them only.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{DeviceId, EntraDeviceId, LimitName};
use crate::policy::{Facts, KnownDevice, KnownName};
use crate::snapshot::Snapshot;

/// Of many devices of which the same changes, this many are named.
const MAX_DEVICES: usize = 20;

/// Whom those facts are about that are of nobody in particular.
const EVERYBODY: &str = "everybody";

/// Of each subject about which something changes, the facts that are gone (`- …`) and those that are new (`+ …`).
///
/// The issuers must have their own keys still: a rehearsal gives them others.
pub(super) fn changes(old: &Snapshot, new: &Snapshot) -> Vec<(String, Vec<String>)> {
    let (before, after) = (facts(old), facts(new));
    let none = BTreeSet::new();
    let subjects: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let mut changes = Vec::new();
    for subject in subjects {
        let before = before.get(subject).unwrap_or(&none);
        let after = after.get(subject).unwrap_or(&none);
        let gone = before.difference(after).map(|fact| format!("- {fact}"));
        let come = after.difference(before).map(|fact| format!("+ {fact}"));
        let facts: Vec<_> = gone.chain(come).collect();
        if !facts.is_empty() {
            changes.push((subject.clone(), facts));
        }
    }
    let lacking = new.quotas.lacking(&old.quotas);
    let lacking: BTreeMap<_, _> = lacking.iter().map(|(limit, heals)| (of_limit(limit), heals)).collect();
    for (subject, facts) in &mut changes {
        facts.extend(lacking.get(subject).map(|heals| {
            let heals = jiff::SignedDuration::try_from(**heals).unwrap_or_default();
            format!(
                "~ lacks times that it had no use for before, which count as not admitted: that heals within {heals:#}"
            )
        }));
    }
    let moves = moves(old, new);
    if !moves.is_empty() {
        changes.push(("ranks of device groups".to_owned(), moves));
    }
    let devices = devices(old, new);
    if !devices.is_empty() {
        changes.push(("devices".to_owned(), devices));
    }
    changes
}

fn facts(snapshot: &Snapshot) -> Facts {
    let Snapshot { policies, quotas, verifier, .. } = snapshot;
    let mut facts = policies.facts();
    for (limit, _) in quotas.places() {
        let subject = facts.entry(of_limit(limit)).or_default();
        subject.extend(quotas.describe(limit));
    }
    facts.entry(EVERYBODY.to_owned()).or_default().extend(quotas.describe_all());
    for (issuer, fact) in verifier.facts() {
        let subject = issuer.map_or(EVERYBODY.to_owned(), |name| format!("issuer `{name}`"));
        facts.entry(subject).or_default().insert(fact);
    }
    facts
}

fn of_limit(limit: &LimitName) -> String {
    format!("limit `{limit}`")
}

/// The groups of both sets that changed places: as few as explain the new order, each with the one that it is above
/// now. A group that came or went moves no other.
fn moves(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let places: BTreeMap<_, _> = old.policies.ranking().zip(0_usize..).collect();
    let common: Vec<_> =
        new.policies.ranking().filter_map(|group| Some((group, *places.get(group)?))).collect();
    let stay = rising(common.iter().map(|(_, place)| *place));
    let mut moves = Vec::new();
    for (index, (group, place)) in common.iter().enumerate() {
        if stay.contains(place) {
            continue;
        }
        // The group of ungrouped devices is always the last, so there is one below.
        if let Some((below, _)) = common.get(index + 1) {
            moves.push(format!("~ `{group}` is right above `{below}` now"));
        }
    }
    moves
}

/// Members of a longest rising run of these numbers, in their order and with gaps (patience sorting).
fn rising(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
    // Of the runs of each length, the one with the least last number; and before which number each has which.
    let (mut ends, mut before) = (Vec::<usize>::new(), BTreeMap::new());
    for number in numbers {
        let length = ends.partition_point(|end| *end < number);
        if let Some(previous) = length.checked_sub(1).and_then(|shorter| ends.get(shorter)) {
            before.insert(number, *previous);
        }
        match ends.get_mut(length) {
            Some(end) => *end = number,
            None => ends.push(number),
        }
    }
    std::iter::successors(ends.last().copied(), |number| before.get(number).copied()).collect()
}

/// The devices that are in one inventory only, those that are in another group, and those that calls name otherwise.
fn devices(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let (before, after) = (by_id(old), by_id(new));
    let listed = |device: &KnownDevice<'_>| {
        let KnownDevice { id, group, name, .. } = device;
        format!("{id} in `{group}`, called {}", named(*name))
    };
    let gone = before.values().filter(|device| !after.contains_key(&device.id));
    let come = after.values().filter(|device| !before.contains_key(&device.id));
    let both = || after.values().filter_map(|device| Some((device, before.get(&device.id)?)));
    let moved = both().filter(|(is, was)| is.group != was.group);
    let renamed = both().filter(|(is, was)| is.name != was.name);
    let joined = both().filter(|(is, was)| is.entra != was.entra);
    let mut facts = Vec::new();
    facts.extend(some(
        gone.map(|was| format!("- {}", listed(was))),
        "-",
        "are not in the inventory any more",
    ));
    facts.extend(some(come.map(|is| format!("+ {}", listed(is))), "+", "are new in the inventory"));
    let moved =
        moved.map(|(is, was)| format!("~ {} is in `{}`, and was in `{}`", is.id, is.group, was.group));
    facts.extend(some(moved, "~", "are in another group"));
    let renamed = renamed.map(|(KnownDevice { id, group, name, .. }, was)| {
        format!("~ {id} in `{group}` is called {}, and was called {}", named(*name), named(was.name))
    });
    facts.extend(some(renamed, "~", "are called otherwise"));
    let joined = joined.map(|(KnownDevice { id, group, entra, .. }, was)| {
        let said = |id: Option<EntraDeviceId>| id.map_or("none".to_owned(), |id| id.to_string());
        format!("~ {id} in `{group}` has the Entra id {}, and had {}", said(*entra), said(was.entra))
    });
    facts.extend(some(joined, "~", "have another Entra id"));
    facts
}

/// The first of these, and how many there are more.
fn some(mut facts: impl Iterator<Item = String>, sign: &str, what: &str) -> Vec<String> {
    let mut some: Vec<_> = facts.by_ref().take(MAX_DEVICES).collect();
    let more = facts.count();
    some.extend((more > 0).then(|| format!("{sign} {more} more {what}")));
    some
}

fn by_id(set: &Snapshot) -> BTreeMap<DeviceId, KnownDevice<'_>> {
    set.policies.devices().map(|device| (device.id, device)).collect()
}

fn named(name: Option<KnownName<'_>>) -> String {
    match name {
        None => "nothing".to_owned(),
        Some(KnownName { label, rest: None }) => format!("`{label}`"),
        Some(KnownName { label, rest: Some(rest) }) => format!("`{label}.{rest}`"),
    }
}
