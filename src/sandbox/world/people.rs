//! Who calls in the sandbox.

use std::time::Duration;

use crate::id::{ApplicationId, EntraGroupId, TenantId, UserId};
use crate::sandbox::issuer::{Caller, Issuer, Registration};

/// The sandbox's one tenant.
pub const TENANT: TenantId = TenantId::from_u128(0x5a0db0c5_0000_4000_8000_000000000001);

/// The SOAR's application.
pub const PLAYBOOKS: ApplicationId = ApplicationId::from_u128(0x5a0db0c5_0000_4000_8000_0000000000a1);
/// The application that users come through.
pub(super) const PORTAL: ApplicationId = ApplicationId::from_u128(0x5a0db0c5_0000_4000_8000_0000000000a2);

const RESPONDER: UserId = UserId::from_u128(0x5a0db0c5_0000_4000_8000_0000000000b1);
const READER: UserId = UserId::from_u128(0x5a0db0c5_0000_4000_8000_0000000000b2);
const OUTSIDER: UserId = UserId::from_u128(0x5a0db0c5_0000_4000_8000_0000000000b3);

/// Entra groups that hold a role.
pub(super) const INCIDENT_RESPONDERS: EntraGroupId =
    EntraGroupId::from_u128(0x5a0db0c5_0000_4000_8000_0000000000c1);
pub(super) const TIER_1_ANALYSTS: EntraGroupId =
    EntraGroupId::from_u128(0x5a0db0c5_0000_4000_8000_0000000000c2);
/// Entra groups that may act on a device group.
pub(super) const EXECUTIVE_SUPPORT: EntraGroupId =
    EntraGroupId::from_u128(0x5a0db0c5_0000_4000_8000_0000000000c3);
pub(super) const SERVER_OPERATIONS: EntraGroupId =
    EntraGroupId::from_u128(0x5a0db0c5_0000_4000_8000_0000000000c4);

/// The client secret of `soar-playbooks` at the sandbox's issuer. It is printed, and opens nothing else.
pub const PLAYBOOKS_SECRET: &str = "sandbox-playbooks-secret";

/// A working day: calls that were printed in the morning can be pasted in the afternoon.
const TOKEN_LIFETIME: Duration = Duration::from_secs(8 * 3_600);

/// The four callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// An application, confined to the device groups Workstations and Servers and to three operations.
    Playbooks,
    /// An analyst who may: the role, and every device group.
    Responder,
    /// An analyst whose role lacks "Alerts investigation".
    Reader,
    /// An analyst with the role, but with no access to the device groups Executives and Servers, and without the
    /// permission `Machine.Read`.
    Outsider,
}

/// A token of each of the four.
#[derive(Clone)]
pub struct Tokens {
    playbooks: String,
    responder: String,
    reader: String,
    outsider: String,
}

// === impl Who ===

impl Who {
    /// All four, in the order they are printed.
    pub const ALL: [Self; 4] = [Self::Playbooks, Self::Responder, Self::Reader, Self::Outsider];

    /// The name of the application in `applications.toml`, or of the user in the token.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Playbooks => "soar-playbooks",
            Self::Responder => "responder@contoso.example",
            Self::Reader => "reader@contoso.example",
            Self::Outsider => "outsider@contoso.example",
        }
    }

    /// What the caller may, in a line.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Playbooks => "an application, confined to the device groups Workstations and Servers",
            Self::Responder => "an analyst who may: role Incident responder, every device group",
            Self::Reader => "an analyst whose role, Tier 1 analyst, lacks \"Alerts investigation\"",
            Self::Outsider => {
                "an analyst with the role Incident responder, but no access to Executives or Servers"
            }
        }
    }

    /// What the caller's tokens say.
    pub fn caller(self) -> Caller {
        const COLLECT: &str = "Machine.CollectForensics";
        let user = |id| Caller::user(id, self.name(), PORTAL);
        let caller = match self {
            // Reading a package's address takes an application another permission than asking for the package.
            Self::Playbooks => Caller::application(PLAYBOOKS)
                .permissions([COLLECT, "Machine.Read.All"])
                .claim("app_displayname", self.name()),
            Self::Responder => user(RESPONDER).permissions([COLLECT, "Machine.Read"]).groups([
                INCIDENT_RESPONDERS,
                EXECUTIVE_SUPPORT,
                SERVER_OPERATIONS,
            ]),
            Self::Reader => user(READER).permissions([COLLECT, "Machine.Read"]).groups([TIER_1_ANALYSTS]),
            Self::Outsider => user(OUTSIDER).permissions([COLLECT]).groups([INCIDENT_RESPONDERS]),
        };
        caller.valid_for(TOKEN_LIFETIME)
    }
}

// === impl Tokens ===

impl Tokens {
    /// Has a token issued to each; they are valid for 8 hours.
    pub fn issue(issuer: &Issuer) -> Self {
        let token = |who: Who| issuer.token(&who.caller());
        Self {
            playbooks: token(Who::Playbooks),
            responder: token(Who::Responder),
            reader: token(Who::Reader),
            outsider: token(Who::Outsider),
        }
    }

    /// The token of one.
    pub fn of(&self, who: Who) -> &str {
        match who {
            Who::Playbooks => &self.playbooks,
            Who::Responder => &self.responder,
            Who::Reader => &self.reader,
            Who::Outsider => &self.outsider,
        }
    }
}

/// A token is a credential, so it is not for logs.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

/// The applications that the token endpoint knows: `soar-playbooks`, with [`PLAYBOOKS_SECRET`].
pub fn registrations() -> Vec<Registration> {
    vec![Registration { caller: Who::Playbooks.caller(), secret: PLAYBOOKS_SECRET.into() }]
}
