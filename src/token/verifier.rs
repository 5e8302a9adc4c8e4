//! The line from a token to a caller.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::bearer::BearerToken;
use super::cache::{CacheRules, CacheState, Entry, Grounds, Rules, TokenCache};
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
/// clock_skew    = "60s"                                 # 0 to 300 seconds; 60 if not given
/// cache_entries = 131072                                # verified tokens that are remembered, at most
/// cache_size    = "256 MiB"                             # what they may take
/// cache_for     = "10m"                                 # for how long at most; if not given, while they are valid
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
    routes: Arc<Routes>,
    rings: Vec<Arc<KeyRing>>,
    /// Shared with the verifier before.
    cache: Arc<TokenCache>,
}

/// What each value of `iss` leads to, to the letter. The seed is random: nobody can choose names that collide.
pub(super) type Routes = HashMap<Box<str>, Arc<Route>, RandomState>;

/// What a value of `iss` leads to.
#[derive(Debug)]
pub(super) struct Route {
    /// The value.
    pub(super) issuer: Box<str>,
    pub(super) audiences: Arc<[Box<str>]>,
    /// The tenants that this issuer may speak for, each with its keys: one, where the issuer's name holds the tenant.
    pub(super) tenants: Vec<(TenantId, Arc<KeyRing>)>,
}

// === impl Verifier ===

impl Verifier {
    /// Compiles `issuers.toml` and the key files that it names. An issuer that is as it was in `previous` keeps
    /// its keys and the tokens that were verified with them. Every mistake becomes a problem, and then the result must
    /// not be used.
    pub fn compile(files: &PolicyFiles, previous: Option<&Self>, problems: &mut Problems) -> Self {
        issuer::compile(files, previous, problems)
    }

    /// A verifier by these rules, after `previous`.
    pub(super) fn new(
        skew: Duration,
        routes: HashMap<Box<str>, Route>,
        rings: Vec<Arc<KeyRing>>,
        cache: CacheRules,
        previous: Option<&Self>,
    ) -> Self {
        let cache = TokenCache::following(cache, previous.map(|previous| &previous.cache));
        let before = previous.map(|previous| &previous.routes);
        // A route that judges as the one before is the one before: what rests on it stays.
        let kept = |iss: &str, route: &Route| before?.get(iss).filter(|before| ***before == *route).cloned();
        let routes: Routes = routes
            .into_iter()
            .map(|(iss, route)| {
                let route = kept(&iss, &route).unwrap_or_else(|| Arc::new(route));
                (iss, route)
            })
            .collect();
        let routes = before.filter(|before| ***before == routes).cloned().unwrap_or_else(|| Arc::new(routes));
        Self { skew, routes, rings, cache }
    }

    /// The caller of a token that was verified before, if a verification now would find the same. No cryptography,
    /// and no allocation.
    pub fn known(&self, bearer: BearerToken<'_>, clock: &Clock) -> Option<Arc<Principal>> {
        let entry = self.cache.good.get(bearer.as_str(), |entry| self.holds(entry, clock))?;
        entry.verdict.as_ref().ok().cloned()
    }

    /// Proves who calls. The order of the checks is in the room's own documentation. The verdict is remembered, for
    /// [`known`](Self::known) or, if it is a lasting refusal, for the next time that the token comes.
    pub async fn verify(&self, bearer: BearerToken<'_>, clock: &Clock) -> Result<Arc<Principal>, TokenError> {
        let token = bearer.as_str();
        if let Some(entry) = self.cache.refused.get(token, |entry| self.holds(entry, clock)) {
            return entry.verdict.clone();
        }
        let rules = Rules::All(self.routes.clone());
        let mut grounds = Grounds { rules, keys: None, times: None, since: clock.steady() };
        let verdict = self.judge(token, clock, &mut grounds);
        self.cache.keep(token, Entry { verdict: verdict.clone(), grounds });
        verdict
    }

    /// Judges a token, and notes what the verdict rests on before it is used.
    fn judge(&self, token: &str, clock: &Clock, grounds: &mut Grounds) -> Result<Arc<Principal>, TokenError> {
        let jws = Jws::parse(token)?;
        let header = Header::parse(&jws.header)?;
        let claims = Claims::parse(&jws.claims)?;

        let (issuer, tenant) = (claims.issuer()?, claims.tenant()?);
        let (route, ring) = self.route(issuer, tenant).ok_or(TokenError::WrongIssuer)?;
        let keys = ring.keys();
        if keys.is_empty() {
            return Err(TokenError::KeysUnavailable { retry_after: ring.retry_after(clock) });
        }
        grounds.keys = Some((ring.clone(), keys.clone()));
        keys.find(&header.kid, issuer, tenant)?.verify(jws.signed, jws.signature)?;

        let now = clock.wall();
        grounds.times = claims.lifetime().ok().map(|lifetime| (lifetime, lifetime.phase(now, self.skew)));
        claims.check(&Expected { audiences: &route.audiences, skew: self.skew, now })?;
        let principal = claims.principal()?;
        grounds.rules = Rules::Of(route.clone());
        Ok(Arc::new(principal))
    }

    /// Throws away verdicts that do not hold any more, such as those on tokens that have expired. To be called once
    /// a minute: 100,000 take some milliseconds.
    pub fn sweep(&self, clock: &Clock) {
        self.cache.retain(|entry| self.holds(entry, clock));
    }

    /// How the keys of each issuer stand, in the order of the file.
    pub fn issuers(&self) -> impl Iterator<Item = IssuerState> {
        self.rings.iter().map(|ring| ring.state())
    }

    /// How many tokens are remembered as verified.
    pub fn remembered(&self) -> CacheState {
        self.cache.good.state()
    }

    /// How many are remembered as refused.
    pub fn remembered_refused(&self) -> CacheState {
        self.cache.refused.state()
    }

    #[cfg(test)]
    pub(super) fn routes(&self) -> &Routes {
        &self.routes
    }

    #[cfg(test)]
    pub(super) fn cache(&self) -> &TokenCache {
        &self.cache
    }

    pub(super) fn rings(&self) -> &[Arc<KeyRing>] {
        &self.rings
    }

    fn holds(&self, entry: &Entry, clock: &Clock) -> bool {
        entry.grounds.hold(&self.routes, self.skew, self.cache.keeps_for(), clock)
    }

    fn route(&self, issuer: &str, tenant: TenantId) -> Option<(&Arc<Route>, &Arc<KeyRing>)> {
        let route = self.routes.get(issuer)?;
        let (_, ring) = route.tenants.iter().find(|(id, _)| *id == tenant)?;
        Some((route, ring))
    }
}

// === impl Route ===

impl PartialEq for Route {
    /// The same verdict on every token: the same audiences, tenants, and rings of keys.
    fn eq(&self, other: &Self) -> bool {
        let Self { issuer, audiences, tenants } = self;
        let same_size = tenants.len() == other.tenants.len();
        let mut tenants = tenants.iter().zip(&other.tenants);
        *issuer == other.issuer
            && *audiences == other.audiences
            && same_size
            && tenants.all(|(ours, theirs)| ours.0 == theirs.0 && Arc::ptr_eq(&ours.1, &theirs.1))
    }
}

#[cfg(test)]
mod tests;
