//! The inside of a token: its claims, and the caller that they describe
//! (RFC 7519; Entra, *access token claims reference*).

pub(super) mod names;

use std::str::FromStr;
use std::time::Duration;

use names::{Claim, ClaimNames, Form, Permissions};

use super::error::{Flaw, TokenError};
use super::json::{Json, Object};
use crate::id::{ApplicationId, EntraGroupId, Permission, TenantId, UserId};
use crate::principal::{Groups, Principal, PrincipalKind, Subject};
use crate::time::Wall;

/// The claims of a token. Until its signature is verified they only say which key to verify it with.
pub(super) struct Claims<'a>(Object<'a>);

/// When a token is valid, as it says itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetime {
    /// `nbf`; none if it was valid at once.
    not_before: Option<Wall>,
    /// `exp`.
    expires: Wall,
}

/// Where in its life a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// `nbf` has not come.
    Early,
    Valid,
    /// `exp` has passed.
    Over,
}

/// What a token must hold to be for us, and now.
pub(super) struct Expected<'a> {
    /// `aud` must name one of these, to the letter.
    pub(super) audiences: &'a [Box<str>],
    /// How far the issuer's clock and ours may be apart.
    pub(super) skew: Duration,
    pub(super) now: Wall,
}

/// The form of Entra's tokens (`ver`), which the API that a token is for has chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// Whose token it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Application,
    User,
}

/// 9999-12-31T23:59:59Z in Unix seconds: a later time is a mistake, of the unit for instance.
const MAX_SECONDS: i64 = 253_402_300_799;

// === impl Claims ===

impl<'a> Claims<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Flaw> {
        Object::parse(bytes).map(Self).ok_or(Flaw::Json("claims part"))
    }

    /// `iss`, as written.
    pub(super) fn issuer(&self) -> Result<&str, Flaw> {
        match self.0.get("iss") {
            Some(Json::Text(issuer)) => Ok(issuer),
            Some(_) => Err(wrong("iss", "is not a string")),
            None => Err(missing("iss")),
        }
    }

    /// The tenant that the token names; none if the issuer's tokens name none.
    pub(super) fn tenant(&self, names: &ClaimNames) -> Result<Option<TenantId>, Flaw> {
        if names.tid.name.is_none() {
            return Ok(None);
        }
        self.id(&names.tid)?.ok_or(missing("tid")).map(Some)
    }

    /// The version of the token's form; none if it says none.
    pub(super) fn version(&self, names: &ClaimNames) -> Result<Option<Version>, Flaw> {
        match self.string(&names.ver)? {
            None => Ok(None),
            Some("1.0") => Ok(Some(Version::V1)),
            Some("2.0") => Ok(Some(Version::V2)),
            Some(_) => Err(wrong("ver", "is neither `1.0` nor `2.0`")),
        }
    }

    /// The verdicts that only the holder of a signed token is told: its time and its audience.
    pub(super) fn check(&self, expected: &Expected<'_>) -> Result<(), TokenError> {
        let lifetime = self.lifetime()?;
        self.time("iat")?;
        match lifetime.phase(expected.now, expected.skew) {
            Phase::Early => return Err(TokenError::NotYetValid),
            Phase::Valid => {}
            Phase::Over => return Err(TokenError::Expired),
        }
        let audiences = match self.0.get("aud") {
            Some(Json::Text(audience)) => vec![audience.as_ref()],
            Some(list) => texts(list).ok_or(wrong("aud", "is neither a string nor a list of strings"))?,
            None => return Err(missing("aud").into()),
        };
        if audiences.iter().any(|audience| expected.audiences.iter().any(|ours| **ours == **audience)) {
            Ok(())
        } else {
            Err(TokenError::WrongAudience)
        }
    }

    /// `exp` and `nbf`.
    pub(super) fn lifetime(&self) -> Result<Lifetime, Flaw> {
        let expires = self.time("exp")?.ok_or(missing("exp"))?;
        Ok(Lifetime { expires, not_before: self.time("nbf")? })
    }

    /// The caller. Only of a token whose signature is verified and that passed [`check`](Self::check).
    pub(super) fn principal(&self, names: &ClaimNames, tenant: TenantId) -> Result<Principal, Flaw> {
        self.version(names)?;
        let application = self.application(names)?;
        let object = self.id::<UserId>(&names.oid)?;
        let scopes = self.permissions(&names.scp)?;
        let roles = self.permissions(&names.roles)?;
        let groups = self.groups(&names.groups)?;
        let (user, kind) = match self.kind(names, scopes.as_ref())? {
            Kind::User => {
                let permissions = scopes.unwrap_or_default();
                if permissions.is_empty() {
                    return Err(wrong("scp", "is empty"));
                }
                (Some(object.ok_or(missing("oid"))?), PrincipalKind::User { permissions, groups })
            }
            Kind::Application => {
                let permissions = roles.unwrap_or_default();
                if permissions.is_empty() {
                    return Err(Flaw::NoKind);
                }
                (None, PrincipalKind::Application { permissions })
            }
        };
        Ok(Principal {
            subject: Subject { tenant, application, user },
            kind,
            token_id: self.string(&names.uti)?.map(Into::into),
            expires: self.time("exp")?.ok_or(missing("exp"))?,
        })
    }

    /// Whose token it is: what `idtyp` says and `scp` does not deny. Where both kinds have their permissions in one
    /// claim, only `idtyp` can say it.
    fn kind(&self, names: &ClaimNames, scopes: Option<&Vec<Permission>>) -> Result<Kind, Flaw> {
        let said = match self.string(&names.idtyp)? {
            None => None,
            Some("app") => Some(Kind::Application),
            Some("user") => Some(Kind::User),
            Some(_) => return Err(wrong("idtyp", "is neither `app` nor `user`")),
        };
        if names.shares_permissions() {
            return said.ok_or(missing("idtyp"));
        }
        match (said, scopes) {
            (None | Some(Kind::User), Some(_)) => Ok(Kind::User),
            (None | Some(Kind::Application), None) => Ok(Kind::Application),
            (Some(Kind::Application), Some(_)) | (Some(Kind::User), None) => Err(Flaw::MixedKinds),
        }
    }

    /// `appid` in v1 tokens, `azp` in v2 tokens. A token may have both, but not of two applications.
    fn application(&self, names: &ClaimNames) -> Result<ApplicationId, Flaw> {
        match (self.id(&names.appid)?, self.id(&names.azp)?) {
            (Some(appid), Some(azp)) if appid != azp => Err(Flaw::TwoApplications),
            (Some(application), _) | (None, Some(application)) => Ok(application),
            (None, None) if names.azp.name.is_none() => Err(missing("appid")),
            (None, None) => Err(missing("appid` or `azp")),
        }
    }

    /// The groups, or that they are elsewhere: `_claim_names` (OpenID Connect Core, section 5.6.2) of the claim, or
    /// Entra's `hasgroups`. Without a name for the claim, the issuer tells no groups and the user is in none.
    fn groups(&self, claim: &Claim) -> Result<Groups, Flaw> {
        let Some(name) = &claim.name else { return Ok(Groups::Listed(Vec::new())) };
        let overage = match self.0.get("_claim_names") {
            None => false,
            Some(Json::Object(names)) => names.get(name).is_some(),
            Some(_) => return Err(wrong("_claim_names", "is not an object")),
        };
        let implicit_overage = match self.0.get("hasgroups") {
            None => false,
            Some(Json::Bool(value)) => *value,
            Some(_) => return Err(wrong("hasgroups", "is neither true nor false")),
        };
        let listed = match self.0.get(name) {
            None => Vec::new(),
            Some(list) => texts(list).ok_or(wrong(claim.entra, "is not a list of strings"))?,
        };
        let listed: Result<Vec<EntraGroupId>, _> = listed.into_iter().map(str::parse).collect();
        let listed = listed.map_err(|_| wrong(claim.entra, "is not a list of GUIDs"))?;
        Ok(if overage || implicit_overage { Groups::Overage } else { Groups::Listed(listed) })
    }

    fn permissions(&self, permissions: &Permissions) -> Result<Option<Vec<Permission>>, Flaw> {
        let Permissions { claim, form } = permissions;
        let words = match (self.member(claim), form) {
            (None, _) => return Ok(None),
            (Some(Json::Text(text)), Form::Words | Form::Any) => {
                text.split(' ').filter(|word| !word.is_empty()).collect()
            }
            (Some(list), Form::List) => texts(list).ok_or(wrong(claim.entra, "is not a list of strings"))?,
            (Some(list), Form::Any) => {
                texts(list).ok_or(wrong(claim.entra, "is neither a string nor a list of strings"))?
            }
            (Some(_), Form::Words) => return Err(wrong(claim.entra, "is not a string")),
        };
        Ok(Some(words.into_iter().map(Permission::from).collect()))
    }

    fn member(&self, claim: &Claim) -> Option<&Json<'a>> {
        self.0.get(claim.name.as_deref()?)
    }

    fn string(&self, claim: &Claim) -> Result<Option<&str>, Flaw> {
        match self.member(claim) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(claim.entra, "is not a string")),
        }
    }

    fn id<T: FromStr>(&self, claim: &Claim) -> Result<Option<T>, Flaw> {
        let parse = |text: &str| text.parse().map_err(|_| wrong(claim.entra, "is not a GUID"));
        self.string(claim)?.map(parse).transpose()
    }

    /// A `NumericDate`. RFC 7519 allows a fraction; no issuer that we know writes one, so it is refused.
    fn time(&self, claim: &'static str) -> Result<Option<Wall>, Flaw> {
        match self.0.get(claim) {
            None => Ok(None),
            Some(Json::Integer(seconds)) if (0..=MAX_SECONDS).contains(seconds) => {
                Ok(Some(Wall::from_unix_seconds(*seconds)))
            }
            Some(_) => Err(wrong(claim, "is not a whole number of seconds since 1970")),
        }
    }
}

// === impl Lifetime ===

impl Lifetime {
    /// Where a token stands `now`, for an issuer's clock that may be `skew` before or behind ours.
    pub(super) fn phase(&self, now: Wall, skew: Duration) -> Phase {
        if now >= self.expires + skew {
            Phase::Over
        } else if self.not_before.is_some_and(|time| now + skew < time) {
            Phase::Early
        } else {
            Phase::Valid
        }
    }
}

/// The elements of a list of strings; none if it is anything else.
fn texts<'a>(list: &'a Json<'_>) -> Option<Vec<&'a str>> {
    let Json::List(list) = list else { return None };
    list.iter().map(Json::text).collect()
}

const fn wrong(claim: &'static str, problem: &'static str) -> Flaw {
    Flaw::Claim { claim, problem }
}

const fn missing(claim: &'static str) -> Flaw {
    wrong(claim, "is missing")
}

#[cfg(test)]
mod tests;
