//! What an issuer calls the claims that we read.

use std::borrow::Cow;

/// The claims of one issuer's tokens. Each field has Entra's name; other issuers may call it otherwise, or lack it.
/// The claims of RFC 7519 (`iss`, `aud`, `exp`, `nbf`, `iat`) have no other name anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::token) struct ClaimNames {
    pub(in crate::token) ver: Claim,
    pub(in crate::token) tid: Claim,
    pub(in crate::token) appid: Claim,
    pub(in crate::token) azp: Claim,
    pub(in crate::token) oid: Claim,
    pub(in crate::token) idtyp: Claim,
    pub(in crate::token) roles: Permissions,
    pub(in crate::token) scp: Permissions,
    pub(in crate::token) groups: Claim,
    pub(in crate::token) uti: Claim,
}

/// One claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::token) struct Claim {
    /// Entra's name, by which errors and policies know it.
    pub(in crate::token) entra: &'static str,
    /// The issuer's name; none if its tokens have no such claim.
    pub(in crate::token) name: Option<Cow<'static, str>>,
}

/// A claim that lists permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::token) struct Permissions {
    pub(in crate::token) claim: Claim,
    pub(in crate::token) form: Form,
}

/// How permissions are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::token) enum Form {
    /// One string, spaces between the words.
    Words,
    /// A list of strings.
    List,
    /// Either: RFC 9068 has the one for `scope` and the other for `roles`, and issuers differ.
    Any,
}

/// The names and forms of Entra (*access token claims reference*).
pub(in crate::token) static ENTRA: ClaimNames = ClaimNames {
    ver: Claim::entra("ver"),
    tid: Claim::entra("tid"),
    appid: Claim::entra("appid"),
    azp: Claim::entra("azp"),
    oid: Claim::entra("oid"),
    idtyp: Claim::entra("idtyp"),
    roles: Permissions { claim: Claim::entra("roles"), form: Form::List },
    scp: Permissions { claim: Claim::entra("scp"), form: Form::Words },
    groups: Claim::entra("groups"),
    uti: Claim::entra("uti"),
};

// === impl Claim ===

impl Claim {
    /// A claim that is called as Entra calls it.
    const fn entra(name: &'static str) -> Self {
        Self { entra: name, name: Some(Cow::Borrowed(name)) }
    }

    /// A claim that is called otherwise, or is never there.
    pub(in crate::token) fn called(entra: &'static str, name: Option<String>) -> Self {
        Self { entra, name: name.map(Cow::Owned) }
    }
}

// === impl ClaimNames ===

impl ClaimNames {
    /// Whether permissions of applications and of users are one claim, so that only `idtyp` tells their tokens apart.
    pub(in crate::token) fn shares_permissions(&self) -> bool {
        self.roles.claim.name == self.scp.claim.name
    }
}
