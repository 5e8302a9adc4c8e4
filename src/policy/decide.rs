//! Who may do what to which device: deny by default, each row of the two tables a sentence.

use smallvec::SmallVec;

use crate::id::{DeviceGroupId, DeviceRef};
use crate::outcome::Tried;
use crate::policy::PolicySet;
use crate::policy::application::{Application, GroupAnswer, OperationAnswer, UnscopedAnswer};
use crate::policy::device_group::{GroupAccess, GroupIndex};
use crate::policy::document::{StaleInventory, UnknownAction, UnknownDevice, Unlisted};
use crate::policy::effect::Effect;
use crate::policy::operation::{DeviceScope, Operation};
use crate::policy::role::RoleAnswer;
use crate::principal::{Groups, Principal, PrincipalKind, Scope, ScopedDevice, Target};
use crate::time::Clock;

mod refusal;

pub use refusal::{PermitError, ReachError, TokenKind};

/// Leave to call an operation, on whatever devices [`reach`](Self::reach) lets it.
#[derive(Debug, Clone)]
#[must_use = "leave to call an operation says nothing of its devices yet"]
pub struct Grant<'a> {
    policies: &'a PolicySet,
    operation: &'a Operation,
    bounds: Bounds<'a>,
    tried: Option<Box<Tried>>,
}

/// Leave to make a call on its devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The devices.
    pub scope: Scope,
    /// The check that refused it all the same, and is not enforced.
    pub tried: Option<Box<Tried>>,
}

/// What holds a call to certain device groups. Where neither does, nobody looks a device up.
#[derive(Debug, Clone, Copy, Default)]
struct Bounds<'a> {
    /// The user's groups, if there is a device group that they do not open.
    user: Option<&'a Groups>,
    /// The entry of the application, if it confines to device groups.
    application: Option<&'a Application>,
}

/// Whether the caller may call the operation: the permission first, then the application's entry, then the role.
///
/// | token | permission | entry of the application | role | |
/// |---|---|---|---|---|
/// | any | missing | any | any | `missing_permission` |
/// | any | held | omits the operation | any | `application` |
/// | application | held | none for its tenant, `unlisted = "refuse"` | - | `application` |
/// | application | held | none, `unlisted = "permission"` | - | granted |
/// | application | held | names the operation | - | granted |
/// | user | held | none, or names the operation | missing | `missing_role` |
/// | user | held | none, or names the operation | depends on groups left out | `group_overage` |
/// | user | held | none, or names the operation | either, and surely holds a role with `enforce = false` | granted, and it is noted |
/// | user | held | none, or names the operation | held | granted |
///
/// In a set with `enforce = false` each of the refusals is noted, and granted.
pub(crate) fn permit<'a>(
    policies: &'a PolicySet,
    principal: &'a Principal,
    operation: &'a Operation,
) -> Result<Grant<'a>, PermitError> {
    let grant = |bounds, tried| Grant { policies, operation, bounds, tried };
    match (judge(policies, principal, operation), policies.enforcement.effect()) {
        (Ok((bounds, tried)), _) => Ok(grant(bounds, tried)),
        (Err(error), Effect::Refuse) => Err(error),
        (Err(error), Effect::Count) => {
            let tried = Tried::new(error.reason(), &error, SmallVec::new());
            Ok(grant(Bounds::default(), Some(Box::new(tried))))
        }
    }
}

/// The same of a set that is enforced: what binds the call from here on, and what would have refused it.
fn judge<'a>(
    policies: &'a PolicySet,
    principal: &'a Principal,
    operation: &Operation,
) -> Result<(Bounds<'a>, Option<Box<Tried>>), PermitError> {
    let subject = &principal.subject;
    let (kind, needed) = match principal.kind {
        PrincipalKind::Application { .. } => (TokenKind::Application, operation.application()),
        PrincipalKind::User { .. } => (TokenKind::User, operation.delegated()),
    };
    let held = principal.permissions();
    if !needed.iter().any(|permission| held.contains(permission)) {
        return Err(PermitError::MissingPermission { needed: needed.to_vec(), held: held.to_vec(), kind });
    }
    let entry = policies.applications.of(subject);
    if let Some(application) = entry
        && application.operation(operation.id()) == OperationAnswer::Omitted
    {
        let application = application.name().clone();
        return Err(PermitError::Operation { application, operation: operation.id().clone() });
    }
    let mut tried = None;
    let user = match (&principal.kind, entry, policies.applications.unlisted()) {
        // Nobody has said anything of this application.
        (PrincipalKind::Application { .. }, None, Unlisted::Refuse) => {
            return Err(PermitError::UnlistedApplication { application: subject.application });
        }
        // Nor here, but the policy leaves such applications to their permissions, as the service does.
        (PrincipalKind::Application { .. }, None, Unlisted::Permission) => None,
        // An entry names the operation; which devices, `reach` will see.
        (PrincipalKind::Application { .. }, Some(_), _) => None,
        // A user needs a role, whatever the application.
        (PrincipalKind::User { groups, .. }, _, _) => {
            let error = match policies.roles.answer(operation.roles(), subject, groups) {
                RoleAnswer::Held => None,
                RoleAnswer::Missing => Some(PermitError::MissingRole { needed: operation.roles().to_vec() }),
                RoleAnswer::Unknown => Some(PermitError::GroupOverage),
            };
            if let Some(error) = error {
                tried = Some(try_roles(policies, principal, error)?);
            }
            Some(groups)
        }
    };
    let user = user.filter(|groups| policies.groups.bind(groups));
    Ok((Bounds { user, application: entry.and_then(Application::confining) }, tried))
}

/// Lets a user pass who lacks the role permission and surely holds a role that is not enforced: what it leaves out is
/// noted and not refused. The permission, the application's entry, device groups and limits hold as ever.
fn try_roles(
    policies: &PolicySet,
    principal: &Principal,
    error: PermitError,
) -> Result<Box<Tried>, PermitError> {
    let held = policies.roles.iter().filter(|role| role.effect() == Effect::Count);
    let roles: SmallVec<_> =
        held.filter(|role| role.is_held_by(principal)).map(|role| role.name().clone()).collect();
    if roles.is_empty() { Err(error) } else { Ok(Box::new(Tried::new(error.reason(), &error, roles))) }
}

// === impl Grant ===

impl Grant<'_> {
    /// Whether the call may act on all these devices, and which devices those are.
    ///
    /// | the call | the caller | |
    /// |---|---|---|
    /// | names no device, and its operation never does | an application confined to device groups (or a user through one), operation not in `unscoped_operations` | `unscoped_operation` |
    /// | names no device, and its operation never does | anybody else | may |
    /// | names no device, though its operation does | bound by a device group | `unscoped_operation` |
    /// | names devices | bound by no device group | may; nothing is looked up |
    /// | an action of unknown device | bound | `unknown_action`, or passes if the policy says `forward` |
    /// | a device, the inventory being older than `max_age` | bound | `stale_inventory`, or as below if the policy says `use` |
    /// | a device that the inventory lacks | bound | `unknown_device`, or counts as ungrouped if the policy says so |
    /// | a device of a group outside the application's entry | confined by it | `device_group` |
    /// | a device of a group that opens to other users only | a user | `device_group` |
    /// | a device of a group that may open or not | a user with group overage | `group_overage` |
    /// | any of these three, of a group with `enforce = false` | bound | may, and it is noted |
    /// | a device of any other group | bound | may |
    ///
    /// A name that fits several devices counts as all of them. In a set with `enforce = false` each of the refusals is
    /// noted, and the call may.
    pub fn reach(&self, targets: &[Target], clock: &Clock) -> Result<Reach, ReachError> {
        match (self.reach_all(targets, clock), self.policies.enforcement.effect()) {
            (Ok(scope), _) => Ok(Reach { scope, tried: self.tried.clone() }),
            (Err(error), Effect::Refuse) => Err(error),
            (Err(error), Effect::Count) => {
                let mut scope = Scope::named(targets);
                self.policies.look_up(&mut scope);
                let tried = || Box::new(Tried::new(error.reason(), &error, SmallVec::new()));
                Ok(Reach { scope, tried: self.tried.clone().or_else(|| Some(tried())) })
            }
        }
    }

    fn reach_all(&self, targets: &[Target], clock: &Clock) -> Result<Scope, ReachError> {
        if targets.is_empty() {
            return self.reach_nothing();
        }
        let mut scope = Scope::default();
        for target in targets {
            match target {
                Target::Device(named) if self.bounds.open() => scope.devices.push(ScopedDevice::named(named)),
                Target::Device(named) => {
                    self.believe_inventory(clock)?;
                    self.reach_device(named, &mut scope)?;
                }
                Target::UnknownAction(_) if self.bounds.open() => {}
                Target::UnknownAction(action) => match self.policies.groups.unknown_action() {
                    UnknownAction::Forward => {}
                    UnknownAction::Refuse => {
                        return Err(ReachError::UnknownAction { action: action.clone() });
                    }
                },
            }
        }
        Ok(scope)
    }

    fn reach_nothing(&self) -> Result<Scope, ReachError> {
        let id = self.operation.id();
        let answer = match (self.operation.device_scope(), self.bounds.application) {
            (DeviceScope::Unscoped, Some(application)) => application.unscoped(id),
            // The API itself filters such answers for users.
            (DeviceScope::Unscoped, None) => UnscopedAnswer::Allowed,
            (DeviceScope::Named, _) if self.bounds.open() => UnscopedAnswer::Allowed,
            (DeviceScope::Named, _) => UnscopedAnswer::Refused,
        };
        match answer {
            UnscopedAnswer::Allowed => Ok(Scope::default()),
            UnscopedAnswer::Refused => Err(ReachError::Unscoped { operation: id.clone() }),
        }
    }

    fn believe_inventory(&self, clock: &Clock) -> Result<(), ReachError> {
        let PolicySet { groups, inventory, .. } = self.policies;
        let (Some(max_age), Some(written)) = (groups.max_age(), inventory.written()) else { return Ok(()) };
        match groups.stale_inventory() {
            StaleInventory::Refuse if clock.wall().since(written) > max_age.duration() => {
                Err(ReachError::StaleInventory { max_age: max_age.to_string().into() })
            }
            StaleInventory::Refuse | StaleInventory::Use => Ok(()),
        }
    }

    fn reach_device(&self, named: &DeviceRef, scope: &mut Scope) -> Result<(), ReachError> {
        let before = scope.devices.len();
        for device in self.policies.inventory.find(named) {
            let group = Some(self.reach_group(named, device.group, scope)?);
            scope.devices.push(ScopedDevice { named: named.clone(), id: Some(device.id), group });
        }
        if scope.devices.len() > before {
            return Ok(());
        }
        match self.policies.groups.unknown_device() {
            UnknownDevice::Refuse => Err(ReachError::UnknownDevice { named: named.clone() }),
            // The API might know it, as a device that is in a group.
            UnknownDevice::Ungrouped if named.may_be_id() => {
                Err(ReachError::UnknownDevice { named: named.clone() })
            }
            UnknownDevice::Ungrouped => {
                let group = Some(self.reach_group(named, self.policies.groups.ungrouped(), scope)?);
                scope.devices.push(ScopedDevice { group, ..ScopedDevice::named(named) });
                Ok(())
            }
        }
    }

    fn reach_group(
        &self,
        named: &DeviceRef,
        index: GroupIndex,
        scope: &mut Scope,
    ) -> Result<DeviceGroupId, ReachError> {
        let group = self.policies.groups.get(index);
        let user = self.bounds.user.map_or(GroupAccess::Open, |groups| group.access(groups));
        let application =
            self.bounds.application.map_or(GroupAnswer::Inside, |entry| entry.device_group(index));
        match (application, user) {
            (GroupAnswer::Inside, GroupAccess::Open) => Ok(group.id().clone()),
            _refused if group.effect() == Effect::Count => {
                if !scope.overrun.contains(group.id()) {
                    scope.overrun.push(group.id().clone());
                }
                Ok(group.id().clone())
            }
            // The entry settles it, whatever the user's groups are.
            (GroupAnswer::Outside, _) | (GroupAnswer::Inside, GroupAccess::Closed) => {
                Err(ReachError::DeviceGroup { named: named.clone(), group: group.id().clone() })
            }
            (GroupAnswer::Inside, GroupAccess::Unknown) => Err(ReachError::GroupOverage),
        }
    }
}

// === impl Bounds ===

impl Bounds<'_> {
    fn open(&self) -> bool {
        self.user.is_none() && self.application.is_none()
    }
}

#[cfg(test)]
mod tests;
