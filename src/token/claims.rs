//! The inside of a token: its claims, and the caller that they describe
//! (RFC 7519; Entra, *access token claims reference*).

use std::time::Duration;

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

/// 9999-12-31T23:59:59Z in Unix seconds: a later time is a mistake, of the unit for instance.
const MAX_SECONDS: i64 = 253_402_300_799;

// === impl Claims ===

impl<'a> Claims<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Flaw> {
        Object::parse(bytes).map(Self).ok_or(Flaw::Json("claims part"))
    }

    /// `iss`, as written.
    pub(super) fn issuer(&self) -> Result<&str, Flaw> {
        self.text("iss")?.ok_or(missing("iss"))
    }

    /// `tid`.
    pub(super) fn tenant(&self) -> Result<TenantId, Flaw> {
        self.guid("tid")?.ok_or(missing("tid"))
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
            Some(Json::List(_)) => self.texts("aud")?.unwrap_or_default(),
            Some(_) => return Err(wrong("aud", "is neither a string nor a list of strings").into()),
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
    pub(super) fn principal(&self) -> Result<Principal, Flaw> {
        match self.text("ver")? {
            None | Some("1.0" | "2.0") => {}
            Some(_) => return Err(wrong("ver", "is neither `1.0` nor `2.0`")),
        }
        let application = self.application()?;
        let object = self.guid::<UserId>("oid")?;
        let scopes = self.text("scp")?;
        let roles = self.texts("roles")?.unwrap_or_default();
        let groups = self.groups()?;
        let (user, kind) = match (self.text("idtyp")?, scopes) {
            (None | Some("user"), Some(scopes)) => {
                let permissions: Vec<_> =
                    scopes.split(' ').filter(|scope| !scope.is_empty()).map(Permission::from).collect();
                if permissions.is_empty() {
                    return Err(wrong("scp", "is empty"));
                }
                (Some(object.ok_or(missing("oid"))?), PrincipalKind::User { permissions, groups })
            }
            (None | Some("app"), None) if roles.is_empty() => return Err(Flaw::NoKind),
            (None | Some("app"), None) => {
                let permissions = roles.into_iter().map(Permission::from).collect();
                (None, PrincipalKind::Application { permissions })
            }
            (Some("app"), Some(_)) | (Some("user"), None) => return Err(Flaw::MixedKinds),
            (Some(_), _) => return Err(wrong("idtyp", "is neither `app` nor `user`")),
        };
        Ok(Principal {
            subject: Subject { tenant: self.tenant()?, application, user },
            kind,
            token_id: self.text("uti")?.map(Into::into),
            expires: self.time("exp")?.ok_or(missing("exp"))?,
        })
    }

    /// `appid` in v1 tokens, `azp` in v2 tokens. A token may have both, but not of two applications.
    fn application(&self) -> Result<ApplicationId, Flaw> {
        match (self.guid("appid")?, self.guid("azp")?) {
            (Some(appid), Some(azp)) if appid != azp => Err(Flaw::TwoApplications),
            (Some(application), _) | (None, Some(application)) => Ok(application),
            (None, None) => Err(missing("appid` or `azp")),
        }
    }

    fn groups(&self) -> Result<Groups, Flaw> {
        let overage = match self.0.get("_claim_names") {
            None => false,
            Some(Json::Object(names)) => names.get("groups").is_some(),
            Some(_) => return Err(wrong("_claim_names", "is not an object")),
        };
        let implicit_overage = match self.0.get("hasgroups") {
            None => false,
            Some(Json::Bool(value)) => *value,
            Some(_) => return Err(wrong("hasgroups", "is neither true nor false")),
        };
        let listed = self.texts("groups")?.unwrap_or_default();
        let listed: Result<Vec<EntraGroupId>, _> = listed.into_iter().map(str::parse).collect();
        let listed = listed.map_err(|_| wrong("groups", "is not a list of GUIDs"))?;
        Ok(if overage || implicit_overage { Groups::Overage } else { Groups::Listed(listed) })
    }

    fn text(&self, claim: &'static str) -> Result<Option<&str>, Flaw> {
        match self.0.get(claim) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(claim, "is not a string")),
        }
    }

    fn texts(&self, claim: &'static str) -> Result<Option<Vec<&str>>, Flaw> {
        let error = || wrong(claim, "is not a list of strings");
        match self.0.get(claim) {
            None => Ok(None),
            Some(Json::List(list)) => {
                list.iter().map(Json::text).collect::<Option<_>>().map(Some).ok_or_else(error)
            }
            Some(_) => Err(error()),
        }
    }

    fn guid<T: std::str::FromStr>(&self, claim: &'static str) -> Result<Option<T>, Flaw> {
        self.text(claim)?.map(|text| text.parse().map_err(|_| wrong(claim, "is not a GUID"))).transpose()
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

const fn wrong(claim: &'static str, problem: &'static str) -> Flaw {
    Flaw::Claim { claim, problem }
}

const fn missing(claim: &'static str) -> Flaw {
    wrong(claim, "is missing")
}

#[cfg(test)]
mod tests;
