//! The facts of two sets, and what is so in one of them only.

use std::collections::{BTreeMap, BTreeSet};

use crate::cli::rehearsal::Rehearsal;
use crate::id::{DeviceGroupId, DeviceId, LimitName};
use crate::policy::Facts;
use crate::snapshot::Snapshot;

/// Of many devices that are in another group, this many are named.
const MAX_DEVICES: usize = 20;

/// Of each subject about which something changes, the facts that are gone (`- …`) and those that are new (`+ …`).
pub(super) fn changes(old: &Rehearsal, new: &Rehearsal) -> Vec<(String, Vec<String>)> {
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
    let lacking = new.snapshot().quotas.lacking(&old.snapshot().quotas);
    let lacking: BTreeMap<_, _> = lacking.iter().map(|(limit, heals)| (of_limit(limit), heals)).collect();
    for (subject, facts) in &mut changes {
        facts.extend(lacking.get(subject).map(|heals| {
            let heals = jiff::SignedDuration::try_from(**heals).unwrap_or_default();
            format!(
                "~ lacks times that it had no use for before, which count as not admitted: that heals within {heals:#}"
            )
        }));
    }
    let moves = moves(old.snapshot(), new.snapshot());
    if !moves.is_empty() {
        changes.push(("ranks of device groups".to_owned(), moves));
    }
    let devices = devices(old.snapshot(), new.snapshot());
    if !devices.is_empty() {
        changes.push(("devices".to_owned(), devices));
    }
    changes
}

fn facts(rehearsal: &Rehearsal) -> Facts {
    let Snapshot { policies, quotas, .. } = rehearsal.snapshot();
    let mut facts = policies.facts();
    for (limit, _) in quotas.places() {
        let subject = facts.entry(of_limit(limit)).or_default();
        subject.extend(quotas.describe(limit));
    }
    for issuer in rehearsal.issuers() {
        let subject = facts.entry(format!("issuer `{}`", issuer.name)).or_default();
        subject.insert(format!("speaks for the tenant {} as {}", issuer.tenant, issuer.iss));
        subject.extend(issuer.audiences().map(|audience| format!("may name the audience {audience}")));
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

/// The devices that are in one inventory only, and those that are in another group.
fn devices(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let before: BTreeMap<DeviceId, &DeviceGroupId> = old.policies.devices().collect();
    let after: BTreeMap<DeviceId, &DeviceGroupId> = new.policies.devices().collect();
    let gone = before.keys().filter(|id| !after.contains_key(id)).count();
    let come = after.keys().filter(|id| !before.contains_key(id)).count();
    let moved: Vec<_> = after
        .iter()
        .filter_map(|(id, group)| {
            let before = before.get(id).filter(|before| *before != group)?;
            Some(format!("~ {id} is in `{group}`, and was in `{before}`"))
        })
        .collect();
    let more = moved.len().saturating_sub(MAX_DEVICES);
    let mut facts = Vec::new();
    facts.extend((gone > 0).then(|| format!("- {gone} are not in the inventory any more")));
    facts.extend((come > 0).then(|| format!("+ {come} are new in the inventory")));
    facts.extend(moved.into_iter().take(MAX_DEVICES));
    facts.extend((more > 0).then(|| format!("~ {more} more are in another group")));
    facts
}
