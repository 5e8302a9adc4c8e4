//! Who may do what to which device: deny by default, each row of the two tables a sentence.

use std::sync::Arc;

use crate::id::{
    ActionId, ApplicationId, ApplicationName, DeviceGroupId, DeviceRef, OperationId, Permission,
};
use crate::outcome::ReasonCode;
use crate::policy::PolicySet;
use crate::policy::application::{Application, GroupAnswer, OperationAnswer, UnscopedAnswer};
use crate::policy::device_group::{Effect, GroupAccess, GroupIndex};
use crate::policy::document::{StaleInventory, UnknownAction, UnknownDevice, Unlisted};
use crate::policy::operation::{DeviceScope, Operation};
use crate::policy::role::{RoleAnswer, RolePermission};
use crate::principal::{Groups, Principal, PrincipalKind, Scope, ScopedDevice, Target};
use crate::time::Clock;

/// Leave to call an operation, on whatever devices [`reach`](Self::reach) lets it.
#[derive(Debug, Clone, Copy)]
#[must_use = "leave to call an operation says nothing of its devices yet"]
pub struct Grant<'a> {
    policies: &'a PolicySet,
    operation: &'a Operation,
    bounds: Bounds<'a>,
}

/// What holds a call to certain device groups. Where neither does, nobody looks a device up.
#[derive(Debug, Clone, Copy)]
struct Bounds<'a> {
    /// The user's groups, if there is a device group that they do not open.
    user: Option<&'a Groups>,
    /// The entry of the application, if it confines to device groups.
    application: Option<&'a Application>,
}

/// Whether a token is an application's own or a user's: permissions have different names in the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Permissions are `roles`.
    Application,
    /// Permissions are `scp`.
    User,
}

/// Why a caller may not call an operation at all. Its text is meant for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PermitError {
    /// The token has none of the permissions that the operation asks for.
    #[error(
        "Missing {}. API required {}: {}, {}: {}.",
        kind.missing(), kind.required(), listed(needed, "none would do"), kind.held(), listed(held, "none")
    )]
    MissingPermission {
        /// Any one of these would do; empty if nobody of this kind may call it.
        needed: Vec<Permission>,
        /// What the token has.
        held: Vec<Permission>,
        /// What kind of token it is.
        kind: TokenKind,
    },
    /// `applications.toml` has no entry for the application, and such applications are refused.
    #[error("The application `{application}` is not listed in this gateway's policy")]
    UnlistedApplication {
        /// The application.
        application: ApplicationId,
    },
    /// The entry of the application, or of the one that the user came through, does not name the operation.
    #[error("The policy does not allow the application `{application}` the operation `{operation}`")]
    Operation {
        /// The application.
        application: ApplicationName,
        /// The operation.
        operation: OperationId,
    },
    /// No role of the user holds the role permission.
    #[error("{}", missing_role(needed))]
    MissingRole {
        /// Any one of these role permissions would do; empty where any role would.
        needed: Vec<RolePermission>,
    },
    /// Whether a role does, depends on groups that the token could not carry.
    #[error("{OVERAGE}")]
    GroupOverage,
}

/// Why a caller with leave to call an operation may not call it on these devices. Its text is meant for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReachError {
    /// The inventory lacks the device.
    #[error("Machine {named} was not found")]
    UnknownDevice {
        /// As the call names it.
        named: DeviceRef,
    },
    /// The inventory is too old to be believed.
    #[error(
        "The device inventory is older than {max_age}, so this gateway cannot tell which group the device is in"
    )]
    StaleInventory {
        /// How old it may be, such as `36h`.
        max_age: Arc<str>,
    },
    /// The device is in a group that is not the caller's.
    #[error("The device `{named}` is in the device group `{group}`, which is not open to this caller")]
    DeviceGroup {
        /// As the call names it.
        named: DeviceRef,
        /// The group.
        group: DeviceGroupId,
    },
    /// The caller is confined to device groups, and nothing says which devices the operation would act on.
    #[error(
        "The application is confined to device groups, and the devices of the operation `{operation}` are not known beforehand"
    )]
    Unscoped {
        /// The operation.
        operation: OperationId,
    },
    /// Nobody knows the device behind the action.
    #[error("The device of the action `{action}` is not known to this gateway")]
    UnknownAction {
        /// The action.
        action: ActionId,
    },
    /// Whether the device's group is open to the user depends on groups that the token could not carry.
    #[error("{OVERAGE}")]
    GroupOverage,
}

const OVERAGE: &str =
    "The user is in more groups than the token can carry, so this gateway cannot tell what they may do";

/// Permissions in the service's style: `A,B`.
fn listed(permissions: &[Permission], nothing: &'static str) -> String {
    if permissions.is_empty() {
        return nothing.to_owned();
    }
    let words: Vec<&str> = permissions.iter().map(Permission::as_str).collect();
    words.join(",")
}

fn missing_role(needed: &[RolePermission]) -> String {
    if needed.is_empty() {
        return "Missing role. The user holds no role of this gateway's policy.".to_owned();
    }
    let words: Vec<&str> = needed.iter().map(|permission| permission.as_str()).collect();
    format!("Missing role permission. API required role permission: {}.", words.join(" or "))
}

/// Whether the caller may call the operation: the permission first, then the application's entry, then the role.
///
/// | token | permission | entry of the application | role | |
/// |---|---|---|---|---|
/// | any | missing | any | any | `missing_permission` |
/// | any | held | omits the operation | any | `application` |
/// | application | held | none, `unlisted = "refuse"` | - | `application` |
/// | application | held | none, `unlisted = "permission"` | - | granted |
/// | application | held | names the operation | - | granted |
/// | user | held | none, or names the operation | missing | `missing_role` |
/// | user | held | none, or names the operation | depends on groups left out | `group_overage` |
/// | user | held | none, or names the operation | held | granted |
pub(crate) fn permit<'a>(
    policies: &'a PolicySet,
    principal: &'a Principal,
    operation: &'a Operation,
) -> Result<Grant<'a>, PermitError> {
    let subject = &principal.subject;
    let (kind, needed) = match principal.kind {
        PrincipalKind::Application { .. } => (TokenKind::Application, operation.application()),
        PrincipalKind::User { .. } => (TokenKind::User, operation.delegated()),
    };
    let held = principal.permissions();
    if !needed.iter().any(|permission| held.contains(permission)) {
        return Err(PermitError::MissingPermission { needed: needed.to_vec(), held: held.to_vec(), kind });
    }
    let entry = policies.applications.get(&subject.application);
    if let Some(application) = entry
        && application.operation(operation.id()) == OperationAnswer::Omitted
    {
        let application = application.name().clone();
        return Err(PermitError::Operation { application, operation: operation.id().clone() });
    }
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
            match policies.roles.answer(operation.roles(), subject.user.as_ref(), groups) {
                RoleAnswer::Held => Some(groups),
                RoleAnswer::Missing => {
                    return Err(PermitError::MissingRole { needed: operation.roles().to_vec() });
                }
                RoleAnswer::Unknown => return Err(PermitError::GroupOverage),
            }
        }
    };
    let user = user.filter(|groups| policies.groups.bind(groups));
    let application = entry.and_then(Application::confining);
    Ok(Grant { policies, operation, bounds: Bounds { user, application } })
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
    /// A name that fits several devices counts as all of them.
    pub fn reach(&self, targets: &[Target], clock: &Clock) -> Result<Scope, ReachError> {
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

// === impl TokenKind ===

impl TokenKind {
    const fn missing(self) -> &'static str {
        match self {
            Self::Application => "application roles",
            Self::User => "scopes",
        }
    }

    const fn required(self) -> &'static str {
        match self {
            Self::Application => "roles",
            Self::User => "scopes",
        }
    }

    const fn held(self) -> &'static str {
        match self {
            Self::Application => "application roles",
            Self::User => "token scopes",
        }
    }
}

// === impl PermitError ===

impl PermitError {
    /// The word for it.
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::MissingPermission { .. } => ReasonCode::MissingPermission,
            Self::UnlistedApplication { .. } | Self::Operation { .. } => ReasonCode::Application,
            Self::MissingRole { .. } => ReasonCode::MissingRole,
            Self::GroupOverage => ReasonCode::GroupOverage,
        }
    }
}

// === impl ReachError ===

impl ReachError {
    /// The word for it.
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::UnknownDevice { .. } => ReasonCode::UnknownDevice,
            Self::StaleInventory { .. } => ReasonCode::StaleInventory,
            Self::DeviceGroup { .. } => ReasonCode::DeviceGroup,
            Self::Unscoped { .. } => ReasonCode::UnscopedOperation,
            Self::UnknownAction { .. } => ReasonCode::UnknownAction,
            Self::GroupOverage => ReasonCode::GroupOverage,
        }
    }
}

#[cfg(test)]
mod tests;
