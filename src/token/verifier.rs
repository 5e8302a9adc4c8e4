//! The line from a token to a caller.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;
use tokio::sync::Notify;

use super::bearer::BearerToken;
use super::cache::{TokenCache, Verified};
use super::claims::{Claims, Expected};
use super::error::{Flaw, TokenError};
use super::issuer;
use super::jws::{Header, Jws};
use super::ring::{IssuerKeys, IssuerState, Published};
use super::route::{Judge, Routes};
use crate::id::TenantId;
use crate::principal::Principal;
use crate::source::{PolicyFiles, Problems};
use crate::time::Clock;

/// `issuers.toml`, compiled: whose tokens are accepted.
///
/// ```toml
/// clock_skew = "60s"   # 0 to 300 seconds; 60 if not given
/// keep_keys  = "24h"   # how long the last good keys are used while an issuer is away: 1 to 168 hours; 24 if not given
///
/// [[issuer]]           # Entra: its login host, issuers, keys and the API's audiences are known
/// cloud   = "commercial"                              # or "gcc", "gcc-high", "dod"
/// tenants = ["f839b112-d9d7-4d27-9bf6-94542403f21c"]  # `tid` must be one of these
///
/// [[issuer]]           # any other
/// name       = "contoso"
/// issuer     = "https://id.contoso.example/{tid}/"    # `iss`, with the tenant in the place of `{tid}`, if it has one
/// tenants    = ["f839b112-d9d7-4d27-9bf6-94542403f21c"]
/// audiences  = ["https://api.securitycenter.microsoft.com"]
/// discovery  = "https://id.contoso.example/.well-known/openid-configuration"
/// # or a key set in the policy folder:     keys = "keys.json"
/// # certificates to trust for `discovery`: ca   = "issuer-ca.pem"
/// algorithms = ["PS256", "ES256"]                     # of its keys; all that are accepted if not given
/// typ        = "at+jwt"                               # what the header must say; "JWT" or "at+jwt" or nothing if not given
/// claims     = { appid = "client_id", oid = "sub", scp = "scope", uti = "jti" }  # Entra's names if not given
/// ```
#[derive(Debug, Default)]
pub struct Verifier {
    skew: Duration,
    routes: Routes,
    keys: Vec<IssuerKeys>,
    /// Rung when a request waits for keys. Handed on from load to load, with the rings that ring it.
    bell: Arc<Notify>,
    /// Shared with the verifier before, if that had the same rules.
    cache: Arc<TokenCache>,
}

// === impl Verifier ===

impl Verifier {
    /// Compiles `issuers.toml` and the key files that it names. An issuer that is as it was in `previous` keeps
    /// its keys. Every mistake becomes a problem, and then the result must not be used.
    pub fn compile(files: &PolicyFiles, previous: Option<&Self>, problems: &mut Problems) -> Self {
        issuer::compile(files, previous, problems)
    }

    pub(super) fn new(skew: Duration, routes: Routes, keys: Vec<IssuerKeys>, bell: Arc<Notify>) -> Self {
        Self { skew, routes, keys, bell, cache: Arc::default() }
    }

    /// This verifier, with the verified tokens of one that judges every token as it does.
    pub(super) fn inheriting(self, previous: Option<&Self>) -> Self {
        match previous.filter(|previous| previous.skew == self.skew && previous.routes == self.routes) {
            Some(previous) => Self { cache: previous.cache.clone(), ..self },
            None => self,
        }
    }

    /// Proves who calls. The order of the checks is in the room's own documentation.
    ///
    /// It waits only for a key that is not held and that a fetch may bring, for at most 3 s.
    pub async fn verify(&self, bearer: BearerToken<'_>, clock: &Clock) -> Result<Arc<Principal>, TokenError> {
        let token = bearer.as_str();
        if let Some(principal) = self.cache.get(token, self.skew, clock) {
            return Ok(principal);
        }
        let jws = Jws::parse(token)?;
        let header = Header::parse(&jws.header)?;
        let claims = Claims::parse(&jws.claims)?;

        let Judge { rules, tenant, keys } = self.routes.find(&claims)?;
        rules.check(&header)?;
        let signed = Signed { jws: &jws, header: &header, issuer: claims.issuer()?, tenant };
        let mut verdict = signed.check(keys, clock);
        if verdict.as_ref().is_err_and(|error| error.may_lack_a_key()) {
            keys.renew(clock).await;
            verdict = signed.check(keys, clock);
        }
        let published = verdict?;

        // Read anew: it may have waited.
        claims.check(&Expected { audiences: &rules.audiences, skew: self.skew, now: clock.wall() })?;
        let principal = Arc::new(claims.principal(&rules.claims, tenant)?);
        let not_before = claims.not_before()?;
        let verified = Verified { principal: principal.clone(), not_before, keys: keys.clone(), published };
        self.cache.insert(token, verified);
        Ok(principal)
    }

    /// How the keys of each issuer stand, in the order of the file.
    pub fn issuers(&self, clock: &Clock) -> impl Iterator<Item = IssuerState> {
        self.keys.iter().map(|keys| keys.state(clock))
    }

    /// How many key files and discovery documents there are.
    pub fn sources(&self) -> usize {
        self.keys.len()
    }

    #[cfg(test)]
    pub(super) fn cache(&self) -> &TokenCache {
        &self.cache
    }

    /// Waits until a request asks for keys.
    pub(super) async fn demanded(&self) {
        self.bell.notified().await;
    }

    pub(super) fn bell(&self) -> &Arc<Notify> {
        &self.bell
    }

    pub(super) fn keys(&self) -> &[IssuerKeys] {
        &self.keys
    }
}

/// A token whose signature is in question.
struct Signed<'a> {
    jws: &'a Jws<'a>,
    header: &'a Header<'a>,
    issuer: &'a str,
    tenant: TenantId,
}

// === impl Signed ===

impl Signed<'_> {
    /// Checks the signature with the keys as they are now, and returns them.
    fn check(&self, keys: &IssuerKeys, clock: &Clock) -> Result<Arc<Published>, TokenError> {
        let Self { jws, header, issuer, tenant } = *self;
        let unavailable = || TokenError::KeysUnavailable { retry_after: keys.retry_after(clock) };
        let published = keys.usable(clock).ok_or_else(unavailable)?;
        if published.issuer.as_deref().is_some_and(|name| name != issuer) {
            return Err(TokenError::WrongIssuer);
        }
        let key = published.keys.find(&header.kid, header.algorithm, issuer, tenant)?;
        key.verify(jws.signed, jws.signature)?;
        Ok(Guard::into_inner(published))
    }
}

// === impl TokenError ===

impl TokenError {
    /// Whether keys that the issuer has published since might make another verdict of it.
    fn may_lack_a_key(&self) -> bool {
        matches!(self, Self::Bad(Flaw::UnknownKey) | Self::KeysUnavailable { .. })
    }
}

#[cfg(test)]
mod tests;
