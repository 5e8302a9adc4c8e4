//! What is legal in a policy set and yet unlikely to be meant: for whoever wrote it, and of no consequence.

use std::collections::{BTreeMap, HashSet};

use crate::policy::PolicySet;
use crate::policy::application::OperationAnswer;
use crate::policy::compile::quoted;
use crate::policy::document::Unlisted;
use crate::policy::effect::Effect;
use crate::policy::operation::Operation;
use crate::source::{PolicyFiles, Problems};

/// Of a list that is longer, a warning names this many.
const MAX_NAMED: usize = 10;

/// Looks for it in a set without mistakes.
pub(super) fn warn(set: &PolicySet, files: &PolicyFiles, problems: &mut Problems) {
    tried_set(set, files, problems);
    uncallable(set, files, problems);
    vacant_roles(set, files, problems);
    tried_roles(set, files, problems);
    empty_groups(set, files, problems);
    idle_applications(set, files, problems);
    tried_groups(set, files, problems);
    if let (Unlisted::Permission, Some(place)) =
        (set.applications.unlisted(), set.applications.unlisted_place())
    {
        let message = "every application without an entry may make whatever calls its permissions name, on every device";
        problems.warn_place(files, place, message);
    }
}

/// A set that refuses nobody.
fn tried_set(set: &PolicySet, files: &PolicyFiles, problems: &mut Problems) {
    if let (Effect::Count, Some(place)) = (set.enforcement.effect(), set.enforcement.place()) {
        let message = "nothing of this policy is enforced: whoever shows a good token may make every call of the catalogue, on every device and at any rate, and what would be refused is noted";
        problems.warn_place(files, place, message);
    }
}

/// Operations that ask for a permission and that no role and no entry lets anybody call, file by file. One that asks for
/// none (`application = []` and `delegated = []`) says by itself that nobody may call it.
fn uncallable(set: &PolicySet, files: &PolicyFiles, problems: &mut Problems) {
    let mut by_file: BTreeMap<_, Vec<&Operation>> = BTreeMap::new();
    for operation in set.operations() {
        let closed = operation.application().is_empty() && operation.delegated().is_empty();
        if !closed && !callable(set, operation) {
            by_file.entry(&operation.places().name.file).or_default().push(operation);
        }
    }
    for operations in by_file.values() {
        let Some(first) = operations.first() else { continue };
        let names = quoted(operations.iter().take(MAX_NAMED).map(|operation| operation.id()));
        let more = match operations.len().saturating_sub(MAX_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format_args!(
            "nobody can call {names}{more}: no role that somebody holds has the role permission, and no entry of applications.toml allows it"
        );
        problems.warn_place(files, &first.places().name, message);
    }
}

fn callable(set: &PolicySet, operation: &Operation) -> bool {
    let mut entries = set.applications.iter().map(|(_, entry)| entry.allows_somewhere(operation));
    let by_application = !operation.application().is_empty()
        && (set.applications.unlisted() == Unlisted::Permission
            || entries.any(|answer| answer == OperationAnswer::Named));
    let mut roles = set.roles.iter().filter(|role| !role.is_vacant());
    by_application || !operation.delegated().is_empty() && roles.any(|role| role.covers(operation))
}

fn vacant_roles(set: &PolicySet, files: &PolicyFiles, problems: &mut Problems) {
    for role in set.roles.iter().filter(|role| role.is_vacant()) {
        let message =
            format_args!("nobody holds the role `{}`: it has no `entra_groups` and no `users`", role.name());
        problems.warn_place(files, role.place(), message);
    }
}

/// Roles whose holders lack no role permission.
fn tried_roles(set: &PolicySet, files: &PolicyFiles, problems: &mut Problems) {
    for role in set.roles.iter().filter(|role| role.effect() == Effect::Count) {
        let message = format_args!(
            "the role `{}` is not enforced: whatever role permission its holders lack is noted, and they may make the call",
            role.name()
        );
        problems.warn_place(files, role.place(), message);
    }
}

/// Groups without a device. An inventory that is empty has yet to be filled, and says nothing of the groups.
fn empty_groups(set: &PolicySet, files: &PolicyFiles, problems: &mut Problems) {
    let filled: HashSet<_> = set.inventory.groups().collect();
    if filled.is_empty() {
        return;
    }
    for (index, group) in set.groups.ranked() {
        let Some(place) = group.place().filter(|_| !filled.contains(&index)) else { continue };
        let message = format_args!(
            "no device of the inventory is in the group `{}`: nothing matches it, or only what a group of a higher rank takes",
            group.id()
        );
        problems.warn_place(files, place, message);
    }
}

/// Groups that refuse nobody. That of ungrouped devices has a place, since only its table can say so.
fn tried_groups(set: &PolicySet, files: &PolicyFiles, problems: &mut Problems) {
    let ungrouped = set.groups.get(set.groups.ungrouped());
    for group in set.groups.ranked().map(|(_, group)| group).chain([ungrouped]) {
        if let (Effect::Count, Some(place)) = (group.effect(), group.place()) {
            let message = format_args!(
                "the group `{}` is not enforced: whom it would refuse is noted, and may act on its devices",
                group.id()
            );
            problems.warn_place(files, place, message);
        }
    }
}

fn idle_applications(set: &PolicySet, files: &PolicyFiles, problems: &mut Problems) {
    for (_, entry) in set.applications.iter() {
        let mut answers = set.operations().map(|operation| entry.allows_somewhere(operation));
        if !answers.any(|answer| answer == OperationAnswer::Named) {
            let message = format_args!("`{}` is listed and not allowed anything", entry.name());
            problems.warn_place(files, &entry.places().name, message);
        }
    }
}
