//! What a policy set comes to for whom, as sentences that can be compared with those of another set.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{DeviceGroupId, DeviceId, EntraDeviceId, TenantId};
use crate::policy::BodyContract;
use crate::policy::PolicySet;
use crate::policy::application::{GroupAnswer, OperationAnswer, UnscopedAnswer};
use crate::policy::compile::quoted;
use crate::policy::device_group::{DeviceGroup, GroupIndex};
use crate::policy::document::{GroupSource, StaleInventory, UnknownAction, UnknownDevice, Unlisted};
use crate::policy::effect::Effect;
use crate::policy::operation::{DeviceScope, Operation};
use crate::principal::Tenants;

/// Of each subject, such as an application or an Entra group, what is so.
pub type Facts = BTreeMap<String, BTreeSet<String>>;

/// A device as calls may name it, and the group that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownDevice<'p> {
    /// Its id.
    pub id: DeviceId,
    /// Its group.
    pub group: &'p DeviceGroupId,
    /// Its name; none if it has none.
    pub name: Option<KnownName<'p>>,
    /// Its id in Entra, if it has one.
    pub entra: Option<EntraDeviceId>,
}

/// The name of a device: calls may name it by the whole, or by the first label alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownName<'p> {
    /// What stands before the first dot.
    pub label: &'p str,
    /// What stands behind it, or else the domain; none if neither is known.
    pub rest: Option<&'p str>,
}

impl PolicySet {
    /// What the set comes to.
    ///
    /// INVARIANT: two sets of equal facts, [ranking](Self::ranking) and [devices](Self::devices) decide alike, but for
    /// the age of an inventory, and for which of several devices of one name a limit counts that is listed first.
    /// `tests/commands/diff/fields.rs` holds them to that for each field of each file.
    pub fn facts(&self) -> Facts {
        let mut facts = Facts::new();
        let mut add = |subject: String, fact: String| {
            facts.entry(subject).or_default().insert(fact);
        };
        for operation in self.operations() {
            let subject = format!("operation `{}`", operation.id());
            self::operation(operation).into_iter().for_each(|fact| add(subject.clone(), fact));
        }
        for (id, entry) in self.applications.iter() {
            let subject = format!("application `{}` ({id})", entry.name());
            // Whoever has none is held to none, or may nothing.
            add(subject.clone(), "has an entry, and its users' calls are held to it too".to_owned());
            if entry.confining().is_none() {
                let fact = "is held to no device group: it may also call what names no device, and act on devices and actions that nobody knows";
                add(subject.clone(), fact.to_owned());
            }
            if let Tenants::Only(tenants) = entry.tenants() {
                add(subject.clone(), format!("has this entry in {} alone", of_tenants(tenants)));
            }
            for operation in self.operations() {
                let id = operation.id();
                if entry.operation(id) == OperationAnswer::Named {
                    add(subject.clone(), format!("may be used to call `{id}`"));
                }
                let unscoped = operation.device_scope() == DeviceScope::Unscoped;
                if unscoped && entry.confining().is_some() && entry.unscoped(id) == UnscopedAnswer::Allowed {
                    add(subject.clone(), format!("may call `{id}` although it names no device"));
                }
            }
            for (index, group) in self.all_groups() {
                if entry.device_group(index) == GroupAnswer::Inside {
                    add(subject.clone(), format!("may act on the device group `{}`", group.id()));
                }
            }
        }
        for role in self.roles.iter() {
            let (groups, users) = role.holders();
            let groups = groups.map(|group| format!("Entra group {group}"));
            for subject in groups.chain(users.map(|user| format!("user {user}"))) {
                let within = match role.tenants() {
                    Tenants::Every => String::new(),
                    Tenants::Only(tenants) => format!(" in {}", of_tenants(tenants)),
                };
                add(subject.clone(), format!("holds the role `{}`{within}", role.name()));
                let callable =
                    self.operations().filter(|call| role.covers(call) && !call.delegated().is_empty());
                callable.for_each(|call| add(subject.clone(), format!("may call `{}`{within}", call.id())));
                if role.effect() == Effect::Count {
                    let name = role.name();
                    add(
                        subject,
                        format!("is refused nothing for a lack of roles{within}: `{name}` is not enforced"),
                    );
                }
            }
        }
        for (_, group) in self.all_groups() {
            let subject = format!("device group `{}`", group.id());
            group.describe().into_iter().for_each(|fact| add(subject.clone(), fact));
            if group.effect() == Effect::Count {
                add(subject.clone(), "refuses nobody: it is not enforced".to_owned());
            }
            if group.entra_groups().is_empty() {
                add(subject, "is open to every user with a role".to_owned());
            }
            for entra in group.entra_groups() {
                let fact = format!("opens the device group `{}`", group.id());
                add(format!("Entra group {entra}"), fact);
            }
        }
        self.modes().into_iter().for_each(|fact| add("everybody".to_owned(), fact));
        facts
    }

    /// The device groups by rank, the highest first.
    pub fn ranking(&self) -> impl Iterator<Item = &DeviceGroupId> {
        self.all_groups().map(|(_, group)| group.id())
    }

    /// Every device of the inventory.
    pub fn devices(&self) -> impl Iterator<Item = KnownDevice<'_>> {
        self.inventory.named().map(|(device, names)| KnownDevice {
            id: device.id,
            group: self.groups.get(device.group).id(),
            name: (!names.label.is_empty()).then_some(KnownName { label: names.label, rest: names.rest }),
            entra: names.entra,
        })
    }

    fn all_groups(&self) -> impl Iterator<Item = (GroupIndex, &DeviceGroup)> {
        let ungrouped = self.groups.ungrouped();
        self.groups.ranked().chain([(ungrouped, self.groups.get(ungrouped))])
    }

    fn modes(&self) -> Vec<String> {
        let enforced = match self.enforcement.effect() {
            Effect::Refuse => "what the policy refuses is refused",
            Effect::Count => "what the policy refuses is noted, and passes: nothing of it is enforced",
        };
        let unlisted = match self.applications.unlisted() {
            Unlisted::Refuse => "applications without an entry are refused",
            Unlisted::Permission => "the permissions of applications without an entry decide",
        };
        let unknown_device = match self.groups.unknown_device() {
            UnknownDevice::Refuse => "a device that the inventory lacks is refused",
            UnknownDevice::Ungrouped => "a device that the inventory lacks is an ungrouped one",
        };
        let unknown_action = match self.groups.unknown_action() {
            UnknownAction::Refuse => "an action of an unknown device is refused",
            UnknownAction::Forward => "an action of an unknown device passes",
        };
        let source = match self.groups.source() {
            GroupSource::Rules => "rules say which group a device is in",
            GroupSource::Inventory => "the inventory says which group a device is in",
        };
        let mut modes: Vec<_> =
            [enforced, unlisted, unknown_device, unknown_action, source].map(str::to_owned).to_vec();
        if let Some(age) = self.groups.max_age() {
            let then = match self.groups.stale_inventory() {
                StaleInventory::Refuse => "refused",
                StaleInventory::Use => "used",
            };
            modes.push(format!("an inventory older than {age} is {then}"));
        }
        modes
    }
}

fn of_tenants(tenants: &[TenantId]) -> String {
    let tenants: Vec<_> = tenants.iter().map(ToString::to_string).collect();
    format!("the tenants {}", tenants.join(", "))
}

fn operation(operation: &Operation) -> Vec<String> {
    let list = |what: &str, words: String| match words.as_str() {
        "" => format!("no {what} will do"),
        words => format!("asks for {what} {words}"),
    };
    let mut facts = vec![
        format!("is {} {}", operation.method(), operation.path()),
        list("permission of an application", quoted(operation.application())),
        list("permission of a user", quoted(operation.delegated())),
    ];
    facts.push(match operation.roles() {
        [] => "asks a user for any role".to_owned(),
        roles => format!("asks a user for a role with {}", quoted(roles)),
    });
    if operation.starts_action() {
        facts.push("starts an action".to_owned());
    }
    if operation.shows_actions() {
        facts.push("shows how actions stand".to_owned());
    }
    if operation.changes_tags() {
        facts.push("may change the tags of devices".to_owned());
    }
    facts.extend(operation.body().into_iter().flat_map(BodyContract::facts));
    facts
}
