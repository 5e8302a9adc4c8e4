//! Why the policy refuses a call.

use std::sync::Arc;

use crate::id::{
    ActionId, ApplicationId, ApplicationName, DeviceGroupId, DeviceRef, OperationId, Permission,
};
use crate::outcome::ReasonCode;
use crate::policy::role::RolePermission;

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
