//! The line from a token to a caller.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::bearer::BearerToken;
use super::cache::{CacheRules, CacheState, Entry, Grounds, Rules, TokenCache};
use super::claims::{Claims, Expected};
use super::error::{Flaw, TokenError};
use super::issuer;
use super::jws::{Header, Jws};
use super::ring::{Basis, IssuerKeys, IssuerState, Renewal};
use super::route::{InvalidRehearsalKeys, Judge, RehearsalIssuer, Routes};
use crate::id::TenantId;
use crate::principal::Principal;
use crate::source::{PolicyFiles, Problems};
use crate::time::Clock;

/// `issuers.toml`, compiled: whose tokens are accepted.
///
/// ```toml
/// clock_skew    = "60s"    # 0 to 300 seconds; 60 if not given
/// keep_keys     = "24h"    # how long the last good keys are used while an issuer is away: 1 to 168 hours; 24 if not given
/// cache_entries = 131072   # verified tokens that are remembered, at most
/// cache_size    = "256 MiB"  # what they may take
/// cache_for     = "10m"    # for how long at most; if not given, while they are valid
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
    routes: Arc<Routes>,
    keys: Vec<IssuerKeys>,
    /// Rung when a request waits for keys. Handed on from load to load, with the rings that ring it.
    bell: Arc<Notify>,
    /// Shared with the verifier before.
    cache: Arc<TokenCache>,
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
        routes: Routes,
        keys: Vec<IssuerKeys>,
        bell: Arc<Notify>,
        cache: CacheRules,
        previous: Option<&Self>,
    ) -> Self {
        let cache = TokenCache::following(cache, previous.map(|previous| &previous.cache));
        let routes = routes.following(previous.map(|previous| &previous.routes));
        Self { skew, routes, keys, bell, cache }
    }

    /// Whether an issuer may speak for this tenant.
    pub fn knows(&self, tenant: &TenantId) -> bool {
        self.routes.have(tenant)
    }

    /// What the policy asks of tokens, as sentences that can be compared with those of another set: of an issuer, by
    /// its name, or of none in particular.
    pub fn facts(&self) -> Vec<(Option<&str>, String)> {
        let skew = jiff::SignedDuration::try_from(self.skew).unwrap_or_default();
        let skew = format!("the clocks of issuers may differ from this one's by {skew:#}");
        let of_all = [skew].into_iter().chain(self.cache.facts()).map(|fact| (None, fact));
        of_all.chain(self.routes.facts().into_iter().map(|(name, fact)| (Some(name), fact))).collect()
    }

    /// This verifier with the keys of a JSON web key set in the place of every issuer's, for whoever rehearses a policy
    /// and signs the tokens: see `route/rehearsal.rs`. A gateway has no use for it.
    ///
    /// # Errors
    /// If no key of the set can verify a signature.
    pub fn rehearsing(self, keys: &str) -> Result<(Self, Vec<RehearsalIssuer>), InvalidRehearsalKeys> {
        let (routes, issuers) = self.routes.rehearsing(keys, &self.keys)?;
        Ok((Self { routes: Arc::new(routes), ..self }, issuers))
    }

    /// The verdict on a token that was judged before, if a verification now would come to the same: the caller, or a
    /// lasting refusal. No cryptography, and no allocation.
    pub fn known(
        &self,
        bearer: BearerToken<'_>,
        clock: &Clock,
    ) -> Option<Result<Arc<Principal>, TokenError>> {
        let entry = self.cache.get(bearer.as_str(), |entry| self.holds(entry, clock))?;
        Some(entry.verdict.clone())
    }

    /// Proves who calls. The order of the checks is in the room's own documentation. A verdict that lasts is remembered,
    /// for [`known`](Self::known).
    ///
    /// It waits only for a key that is not held and that a fetch may bring, for at most 3 s. If that fetch brings no
    /// answer, nobody knows whether the key is the issuer's, and the keys are unavailable.
    pub async fn verify(&self, bearer: BearerToken<'_>, clock: &Clock) -> Result<Arc<Principal>, TokenError> {
        let token = bearer.as_str();
        let rules = Rules::All(self.routes.clone());
        let mut grounds = Grounds { rules, keys: None, times: None, since: clock.steady() };
        let verdict = self.judge(token, clock, &mut grounds).await;
        self.cache.keep(token, Entry { verdict: verdict.clone(), grounds });
        verdict
    }

    /// Judges a token, and notes what the verdict rests on before it is used.
    async fn judge(
        &self,
        token: &str,
        clock: &Clock,
        grounds: &mut Grounds,
    ) -> Result<Arc<Principal>, TokenError> {
        let jws = Jws::parse(token)?;
        let header = Header::parse(&jws.header)?;
        let claims = Claims::parse(&jws.claims)?;

        let Judge { route, rules, tenant, keys } = self.routes.find(&claims)?;
        rules.check(&header)?;
        let signed = Signed { jws: &jws, header: &header, issuer: claims.issuer()?, tenant };
        let mut verdict = signed.check(keys, clock, grounds);
        if verdict.is_err_and(TokenError::may_lack_a_key) {
            let renewal = keys.renew(clock).await;
            verdict = signed.check(keys, clock, grounds);
            if renewal == Renewal::Unknown && verdict == Err(Flaw::UnknownKey.into()) {
                return Err(TokenError::KeysUnavailable { retry_after: keys.retry_after(clock) });
            }
        }
        verdict?;

        // Read anew: it may have waited.
        let now = clock.wall();
        grounds.times = claims.lifetime().ok().map(|lifetime| (lifetime, lifetime.phase(now, self.skew)));
        claims.check(&Expected { audiences: &rules.audiences, skew: self.skew, now })?;
        let principal = claims.principal(&rules.claims, tenant)?;
        grounds.rules = Rules::Of(route);
        Ok(Arc::new(principal))
    }

    /// Whether the token of a caller that was verified before is still valid.
    ///
    /// # Errors
    /// [`TokenError::Expired`], by the clock skew that tokens are verified with.
    pub fn check_expiry(&self, principal: &Principal, clock: &Clock) -> Result<(), TokenError> {
        if clock.wall() >= principal.expires + self.skew { Err(TokenError::Expired) } else { Ok(()) }
    }

    /// Throws away verdicts that do not hold any more, such as those on tokens that have expired. To be called once
    /// a minute.
    pub fn sweep(&self, clock: &Clock) {
        self.cache.retain(|entry| self.holds(entry, clock));
    }

    /// How the keys of each issuer stand, in the order of the file.
    pub fn issuers(&self, clock: &Clock) -> impl Iterator<Item = IssuerState> {
        self.keys.iter().map(|keys| keys.state(clock))
    }

    /// How many key files and discovery documents there are.
    pub fn sources(&self) -> usize {
        self.keys.len()
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

    fn holds(&self, entry: &Entry, clock: &Clock) -> bool {
        entry.grounds.hold(&self.routes, self.skew, self.cache.keeps_for(), clock)
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
    /// Checks the signature with the keys as they are now.
    fn check(&self, keys: &IssuerKeys, clock: &Clock, grounds: &mut Grounds) -> Result<(), TokenError> {
        let Self { jws, header, issuer, tenant } = *self;
        let unavailable = || TokenError::KeysUnavailable { retry_after: keys.retry_after(clock) };
        let published = keys.usable(clock).ok_or_else(unavailable)?.published.clone();
        grounds.keys = Some((keys.clone(), Basis::Whole(published.clone())));
        if published.issuer.as_deref().is_some_and(|name| name != issuer) {
            return Err(TokenError::WrongIssuer);
        }
        let named = published.keys.named(&header.kid).ok_or(Flaw::UnknownKey)?;
        let basis = Basis::Named { keys: named.clone(), issuer: published.issuer.clone() };
        grounds.keys = Some((keys.clone(), basis));
        named.find(header.algorithm, issuer, tenant)?.verify(jws.signed, &jws.signature)?;
        Ok(())
    }
}

// === impl TokenError ===

impl TokenError {
    /// Whether keys that the issuer has published since might make another verdict of it.
    fn may_lack_a_key(self) -> bool {
        matches!(self, Self::Bad(Flaw::UnknownKey) | Self::KeysUnavailable { .. })
    }
}

#[cfg(test)]
mod tests;
