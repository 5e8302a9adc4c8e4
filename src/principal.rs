//! Who calls, and what the call touches: what `token/` proves and `policy/` and `limit/` may rely on.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::id::{
    ActionId, ApplicationId, DeviceGroupId, DeviceId, DeviceRef, EntraGroupId, Permission, TenantId, UserId,
};
use crate::time::Wall;

/// A caller whose token was verified. Everything in it was signed by an issuer that the policy names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The ids that limits and the audit know the caller by.
    pub subject: Subject,
    /// An application on its own, or a user through one: never both.
    pub kind: PrincipalKind,
    /// The claim `uti`: the token's own id, for the audit. Absent in tokens of issuers that give none.
    pub token_id: Option<Arc<str>>,
    /// The claim `exp`.
    pub expires: Wall,
}

/// The ids of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The claim `tid`.
    pub tenant: TenantId,
    /// The claim `appid` or `azp`: the application, or the one that the user came through.
    pub application: ApplicationId,
    /// The claim `oid` of a user token; none for an application.
    pub user: Option<UserId>,
}

/// The tenants in which something of the policy holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Tenants {
    /// Every one whose tokens are accepted.
    #[default]
    Every,
    /// These.
    Only(Box<[TenantId]>),
}

/// What kind of token it was, with the claims that only this kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrincipalKind {
    /// A client-credentials token: the permissions are the claim `roles`.
    Application {
        /// The claim `roles`.
        permissions: Vec<Permission>,
    },
    /// A delegated token: the permissions are the claim `scp`. The claim `roles` of such a token grants nothing.
    User {
        /// The claim `scp`, split at its spaces.
        permissions: Vec<Permission>,
        /// The claim `groups`.
        groups: Groups,
    },
}

impl Principal {
    /// Whether it is a user whose groups the token could not carry.
    pub fn has_group_overage(&self) -> bool {
        matches!(self.kind, PrincipalKind::User { groups: Groups::Overage, .. })
    }

    /// The permissions of the token's own kind.
    pub fn permissions(&self) -> &[Permission] {
        match &self.kind {
            PrincipalKind::Application { permissions } | PrincipalKind::User { permissions, .. } => {
                permissions
            }
        }
    }
}

/// The Entra groups of a user, or the fact that the token could not carry them all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// The claim `groups`, complete; empty if the token has none.
    Listed(Vec<EntraGroupId>),
    /// Group overage: the user is in more groups than fit (200 in a JWT), so the token names none.
    /// (Entra, *access token claims reference*, "Groups overage claim".)
    Overage,
}

/// What a call acts on: a device that it names, or the one behind an action that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A device, not looked up yet.
    Device(DeviceRef),
    /// An action whose device nobody knows.
    UnknownAction(ActionId),
}

/// The devices that a call acts on, or is refused to, as far as the checks had to find out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// Every device that the call names; empty for a call that names none.
    pub devices: SmallVec<[ScopedDevice; 1]>,
    /// The groups of these that would have refused the call, if they were enforced; each once.
    pub overrun: SmallVec<[DeviceGroupId; 1]>,
}

/// One device of a [`Scope`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopedDevice {
    /// The device as the call named it.
    pub named: DeviceRef,
    /// Its id in Defender: from the call, or from the inventory if that was asked.
    pub id: Option<DeviceId>,
    /// Its device group; none if no device group binds the caller, since then nobody looked.
    pub group: Option<DeviceGroupId>,
}

// === impl Tenants ===

impl Tenants {
    /// Whether it holds in this one.
    pub fn have(&self, tenant: &TenantId) -> bool {
        match self {
            Self::Every => true,
            Self::Only(tenants) => tenants.contains(tenant),
        }
    }

    /// Whether there is one in which both hold.
    pub fn meet(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Every, _) | (_, Self::Every) => true,
            (Self::Only(tenants), other) => tenants.iter().any(|tenant| other.have(tenant)),
        }
    }
}

// === impl Scope ===

impl Scope {
    /// The devices that a call names, before anybody looked for one.
    pub fn named(targets: &[Target]) -> Self {
        let named = |target: &Target| match target {
            Target::Device(named) => Some(ScopedDevice::named(named)),
            Target::UnknownAction(_) => None,
        };
        Self { devices: targets.iter().filter_map(named).collect(), ..Self::default() }
    }
}

impl ScopedDevice {
    /// A device that nobody looked for.
    pub fn named(named: &DeviceRef) -> Self {
        let id = match named {
            DeviceRef::Id(id) => Some(*id),
            DeviceRef::Entra(_) | DeviceRef::Name(_) => None,
        };
        Self { named: named.clone(), id, group: None }
    }
}
