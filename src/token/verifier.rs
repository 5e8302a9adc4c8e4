//! The line from a token to a caller.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::bearer::BearerToken;
use super::cache::{TokenCache, Verified};
use super::claims::{Claims, Expected};
use super::error::TokenError;
use super::issuer;
use super::jws::{Header, Jws};
use super::ring::{IssuerState, KeyRing};
use crate::id::TenantId;
use crate::principal::Principal;
use crate::source::{PolicyFiles, Problems};
use crate::time::Clock;

/// `issuers.toml`, compiled: whose tokens are accepted.
///
/// ```toml
/// clock_skew = "60s"                                    # 0 to 300 seconds; 60 if not given
///
/// [[issuer]]
/// name      = "contoso"
/// issuer    = "https://sts.windows.net/{tid}/"          # `iss`, with the tenant in the place of `{tid}`
/// tenants   = ["f839b112-d9d7-4d27-9bf6-94542403f21c"]  # `tid` must be one of these
/// audiences = ["https://api.securitycenter.microsoft.com"]
/// discovery = "https://login.microsoftonline.com/{tid}/.well-known/openid-configuration"
/// # or a key set in the policy folder:     keys = "keys.json"
/// # certificates to trust for `discovery`: ca   = "issuer-ca.pem"
/// ```
#[derive(Debug, Default)]
pub struct Verifier {
    skew: Duration,
    /// By `iss`, to the letter.
    routes: HashMap<Box<str>, Route>,
    rings: Vec<Arc<KeyRing>>,
    /// Shared with the verifier before, if that had the same rules.
    cache: Arc<TokenCache>,
}

/// What a value of `iss` leads to.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) audiences: Arc<[Box<str>]>,
    /// The tenants that this issuer may speak for, each with its keys: one, where the issuer's name holds the tenant.
    pub(super) tenants: Vec<(TenantId, Arc<KeyRing>)>,
}

// === impl Verifier ===

impl Verifier {
    /// Compiles `issuers.toml` and the key files that it names. An issuer that is as it was in `previous` keeps
    /// its keys. Every mistake becomes a problem, and then the result must not be used.
    pub fn compile(files: &PolicyFiles, previous: Option<&Self>, problems: &mut Problems) -> Self {
        issuer::compile(files, previous, problems)
    }

    pub(super) fn new(skew: Duration, routes: HashMap<Box<str>, Route>, rings: Vec<Arc<KeyRing>>) -> Self {
        Self { skew, routes, rings, cache: Arc::default() }
    }

    /// This verifier, with the verified tokens of one that judges every token as it does.
    pub(super) fn inheriting(self, previous: Option<&Self>) -> Self {
        match previous.filter(|previous| previous.skew == self.skew && previous.routes == self.routes) {
            Some(previous) => Self { cache: previous.cache.clone(), ..self },
            None => self,
        }
    }

    /// Proves who calls. The order of the checks is in the room's own documentation.
    pub async fn verify(&self, bearer: BearerToken<'_>, clock: &Clock) -> Result<Arc<Principal>, TokenError> {
        let (token, now) = (bearer.as_str(), clock.wall());
        if let Some(principal) = self.cache.get(token, self.skew, now) {
            return Ok(principal);
        }
        let jws = Jws::parse(token)?;
        let header = Header::parse(&jws.header)?;
        let claims = Claims::parse(&jws.claims)?;

        let (issuer, tenant) = (claims.issuer()?, claims.tenant()?);
        let (route, ring) = self.route(issuer, tenant).ok_or(TokenError::WrongIssuer)?;
        let keys = ring.keys();
        if keys.is_empty() {
            return Err(TokenError::KeysUnavailable { retry_after: ring.retry_after(clock) });
        }
        keys.find(&header.kid, issuer, tenant)?.verify(jws.signed, jws.signature)?;

        claims.check(&Expected { audiences: &route.audiences, skew: self.skew, now })?;
        let principal = Arc::new(claims.principal()?);
        let not_before = claims.not_before()?;
        let verified =
            Verified { principal: principal.clone(), not_before, ring: ring.clone(), keys: keys.clone() };
        self.cache.insert(token, verified);
        Ok(principal)
    }

    /// How the keys of each issuer stand, in the order of the file.
    pub fn issuers(&self) -> impl Iterator<Item = IssuerState> {
        self.rings.iter().map(|ring| ring.state())
    }

    pub(super) fn rings(&self) -> &[Arc<KeyRing>] {
        &self.rings
    }

    #[cfg(test)]
    pub(super) fn cache(&self) -> &TokenCache {
        &self.cache
    }

    fn route(&self, issuer: &str, tenant: TenantId) -> Option<(&Route, &Arc<KeyRing>)> {
        let route = self.routes.get(issuer)?;
        let (_, ring) = route.tenants.iter().find(|(id, _)| *id == tenant)?;
        Some((route, ring))
    }
}

// === impl Route ===

impl PartialEq for Route {
    /// The same verdict on every token: the same audiences, tenants, and rings of keys.
    fn eq(&self, other: &Self) -> bool {
        let mut tenants = self.tenants.iter().zip(&other.tenants);
        self.audiences == other.audiences
            && self.tenants.len() == other.tenants.len()
            && tenants.all(|(ours, theirs)| ours.0 == theirs.0 && Arc::ptr_eq(&ours.1, &theirs.1))
    }
}

#[cfg(test)]
mod tests;
