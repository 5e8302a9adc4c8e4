//! What a decision rested on: which lines of the policy were asked, and what they said. For people; it decides nothing.
//!
//! It asks the same questions of the same values as `decide`, in the same order, and stops where that stopped.

use std::fmt;

use crate::id::{ActionId, DeviceRef};
use crate::policy::PolicySet;
use crate::policy::application::{Application, GroupAnswer, OperationAnswer, UnscopedAnswer};
use crate::policy::compile::quoted;
use crate::policy::device_group::{DeviceGroup, GroupAccess, GroupIndex};
use crate::policy::document::{StaleInventory, UnknownAction, UnknownDevice, Unlisted};
use crate::policy::effect::Effect;
use crate::policy::operation::{DeviceScope, Operation};
use crate::policy::role::{Role, RoleAnswer};
use crate::principal::{Groups, Principal, PrincipalKind, Scope};
use crate::source::Place;
use crate::time::Wall;

/// One thing that a step looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ground {
    /// What it found, a sentence.
    pub found: String,
    /// Where the policy says it; none where it says nothing.
    pub place: Option<Place>,
}

/// What a call asked of the devices that it would act on.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The devices that it names, and what was found out of them.
    pub scope: &'a Scope,
    /// The action that it names, if nobody knows its device.
    pub unknown_action: Option<&'a ActionId>,
    /// When that was.
    pub now: Wall,
}

/// Of many devices that a call names, this many are told of.
const MAX_DEVICES: usize = 20;

impl Ground {
    fn new(found: impl fmt::Display, place: Option<&Place>) -> Self {
        Self { found: found.to_string(), place: place.cloned() }
    }
}

/// `found (roles.toml:3:16)`
impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.found)?;
        self.place.iter().try_for_each(|place| write!(f, " ({place})"))
    }
}

impl PolicySet {
    /// What [`permit`](Self::permit) looked at for this caller and operation.
    pub fn permit_grounds(&self, principal: &Principal, operation: &Operation) -> Vec<Ground> {
        let places = operation.places();
        let (who, needed, place) = match principal.kind {
            PrincipalKind::Application { .. } => {
                ("an application", operation.application(), &places.application)
            }
            PrincipalKind::User { .. } => ("a user's token", operation.delegated(), &places.delegated),
        };
        let held: Vec<_> = needed.iter().filter(|needed| principal.permissions().contains(needed)).collect();
        let found = match (needed.is_empty(), held.is_empty()) {
            (true, _) => format!("no permission lets {who} make the call"),
            (false, true) => format!("{who} needs one of {}, and has none of them", quoted(needed)),
            (false, false) => format!("{who} needs one of {}, and has {}", quoted(needed), quoted(&held)),
        };
        let mut grounds = vec![Ground::new(found, Some(place))];
        if held.is_empty() {
            return grounds;
        }
        let entry = self.applications.of(&principal.subject);
        grounds.push(self.entry_ground(entry, principal, operation));
        let omitted = entry.is_some_and(|entry| entry.operation(operation.id()) == OperationAnswer::Omitted);
        if let (PrincipalKind::User { groups, .. }, false) = (&principal.kind, omitted) {
            grounds.extend(self.role_grounds(principal, groups, operation));
        }
        grounds
    }

    fn entry_ground(
        &self,
        entry: Option<&Application>,
        principal: &Principal,
        operation: &Operation,
    ) -> Ground {
        let Some(entry) = entry else {
            let place = self.applications.unlisted_place();
            let id = principal.subject.application;
            return match (&principal.kind, self.applications.unlisted()) {
                (PrincipalKind::User { .. }, _) => Ground::new(
                    format_args!("the application `{id}` has no entry that would hold its users"),
                    None,
                ),
                (PrincipalKind::Application { .. }, Unlisted::Refuse) => Ground::new(
                    format_args!("the application `{id}` has no entry, and such are refused"),
                    place,
                ),
                (PrincipalKind::Application { .. }, Unlisted::Permission) => Ground::new(
                    format_args!("the application `{id}` has no entry, and its permissions decide"),
                    place,
                ),
            };
        };
        let says = match entry.operation(operation.id()) {
            OperationAnswer::Named => "allows",
            OperationAnswer::Omitted => "does not allow",
        };
        let found = format_args!("the entry of `{}` {says} the operation", entry.name());
        Ground::new(found, Some(&entry.places().operations))
    }

    fn role_grounds(&self, principal: &Principal, groups: &Groups, operation: &Operation) -> Vec<Ground> {
        let needed = match operation.roles() {
            [] => "the user needs a role, whichever".to_owned(),
            roles => format!("the user needs a role with one of {}", quoted(roles)),
        };
        let place = operation.places().role.as_ref();
        let mut grounds = vec![Ground::new(needed, place.or(Some(&operation.places().name)))];
        let covering = |role: &&Role| role.covers(operation) && role.is_held_by(principal);
        let held = self.roles.iter().filter(covering);
        let held =
            held.map(|role| Ground::new(format_args!("and holds `{}`", role.name()), Some(role.place())));
        let before = grounds.len();
        grounds.extend(held);
        if grounds.len() > before {
            return grounds;
        }
        let found = match self.roles.answer(operation.roles(), &principal.subject, groups) {
            RoleAnswer::Unknown => {
                "and whether the user holds one depends on groups that the token leaves out"
            }
            RoleAnswer::Held | RoleAnswer::Missing => "and holds none of those",
        };
        grounds.push(Ground::new(found, None));
        let tried = self.roles.iter().filter(|role| role.effect() == Effect::Count);
        grounds.extend(tried.filter(|role| role.is_held_by(principal)).map(|role| {
            let found = format_args!("and passes, since `{}` is held and not enforced", role.name());
            Ground::new(found, Some(role.place()))
        }));
        let others = self.roles.iter().filter(|role| role.covers(operation) && !role.is_vacant());
        grounds.extend(
            others.map(|role| Ground::new(format_args!("`{}` would do", role.name()), Some(role.place()))),
        );
        grounds
    }

    /// What [`Grant::reach`](crate::policy::Grant::reach) looked at, for a caller who may make the call.
    pub fn reach_grounds(
        &self,
        principal: &Principal,
        operation: &Operation,
        asked: &Asked<'_>,
    ) -> Vec<Ground> {
        let Asked { scope, unknown_action, now } = asked;
        let entry = self.applications.of(&principal.subject).and_then(Application::confining);
        let user = match &principal.kind {
            PrincipalKind::User { groups, .. } => Some(groups).filter(|groups| self.groups.bind(groups)),
            PrincipalKind::Application { .. } => None,
        };
        if operation.device_scope() == DeviceScope::Unscoped {
            return vec![unscoped(entry, operation)];
        }
        if entry.is_none() && user.is_none() {
            return vec![Ground::new("no device group binds the caller: no device was looked up", None)];
        }
        let mut grounds = Vec::new();
        if let Some(action) = unknown_action {
            grounds.push(self.unknown_action_ground(action));
            if self.groups.unknown_action() == UnknownAction::Refuse {
                return grounds;
            }
        }
        let mut names: Vec<&DeviceRef> = scope.devices.iter().map(|device| &device.named).collect();
        names.dedup();
        if let (Some(ground), false) = (self.stale_ground(*now), names.is_empty()) {
            grounds.push(ground);
            if self.groups.stale_inventory() == StaleInventory::Refuse {
                return grounds;
            }
        }
        for named in names.into_iter().take(MAX_DEVICES) {
            let mut indices: Vec<_> =
                self.inventory.find(named).map(|device| (Some(device.id), device.group)).collect();
            if indices.is_empty() {
                grounds.push(self.unknown_device_ground(named));
                let counts = self.groups.unknown_device() == UnknownDevice::Ungrouped;
                indices.extend(counts.then(|| (None, self.groups.ungrouped())));
            }
            for (id, index) in indices {
                let group = self.groups.get(index);
                let device = id.map_or(String::new(), |id| format!(", device {id}"));
                let found = format_args!("`{named}`{device}, is in the group `{}`", group.id());
                grounds.push(Ground::new(found, group.place()));
                grounds.extend(entry.map(|entry| entry_of_group(entry, index, group)));
                grounds.extend(user.map(|groups| access(group, groups)));
                if scope.overrun.contains(group.id()) {
                    let found = format_args!("the group `{}` is not enforced: the call passes", group.id());
                    grounds.push(Ground::new(found, group.place()));
                }
            }
        }
        grounds
    }

    fn unknown_action_ground(&self, action: &ActionId) -> Ground {
        let becomes = match self.groups.unknown_action() {
            UnknownAction::Refuse => "a call that names such a one is refused",
            UnknownAction::Forward => "a call that names such a one passes, whatever its device",
        };
        let found = format_args!("nobody knows the device of the action `{action}`, and {becomes}");
        Ground::new(found, self.groups.places().unknown_action.as_ref())
    }

    fn unknown_device_ground(&self, named: &DeviceRef) -> Ground {
        let becomes = match self.groups.unknown_device() {
            UnknownDevice::Refuse => ", and a call that names such a device is refused",
            UnknownDevice::Ungrouped => ": it counts as ungrouped",
        };
        let found = format_args!("the inventory lacks `{named}`{becomes}");
        Ground::new(found, self.groups.places().unknown_device.as_ref())
    }

    /// That the inventory is too old, if it is.
    fn stale_ground(&self, now: Wall) -> Option<Ground> {
        let (max_age, written) = (self.groups.max_age()?, self.inventory.written()?);
        if now.since(written) <= max_age.duration() {
            return None;
        }
        let places = self.groups.places();
        let becomes = match self.groups.stale_inventory() {
            StaleInventory::Refuse => "is not believed",
            StaleInventory::Use => "is asked all the same",
        };
        let found =
            format_args!("the inventory was written at {written}, is older than {max_age} and {becomes}");
        Some(Ground::new(found, places.stale_inventory.as_ref().or(places.max_age.as_ref())))
    }
}

fn unscoped(entry: Option<&Application>, operation: &Operation) -> Ground {
    let Some(entry) = entry else {
        return Ground::new(
            "the call names no device, and no entry confines the caller to device groups",
            None,
        );
    };
    let says = match entry.unscoped(operation.id()) {
        UnscopedAnswer::Allowed => "has it among its `unscoped_operations`",
        UnscopedAnswer::Refused => {
            "confines it to device groups without having it among its `unscoped_operations`"
        }
    };
    let found = format_args!("the call names no device, and the entry of `{}` {says}", entry.name());
    Ground::new(found, Some(&entry.places().device_groups))
}

fn entry_of_group(entry: &Application, index: GroupIndex, group: &DeviceGroup) -> Ground {
    let says = match entry.device_group(index) {
        GroupAnswer::Inside => "allows",
        GroupAnswer::Outside => "does not allow",
    };
    let found = format_args!("the entry of `{}` {says} the group `{}`", entry.name(), group.id());
    Ground::new(found, Some(&entry.places().device_groups))
}

fn access(group: &DeviceGroup, groups: &Groups) -> Ground {
    let says = match group.access(groups) {
        GroupAccess::Open => "is open to the user",
        GroupAccess::Closed => "is open to members of its Entra groups only, and the user is in none of them",
        GroupAccess::Unknown => "may be open to the user: it depends on groups that the token leaves out",
    };
    Ground::new(format_args!("the group `{}` {says}", group.id()), group.place())
}
