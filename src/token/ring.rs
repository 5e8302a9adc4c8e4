//! The keys of one issuer while time passes: swapped whole, and never for worse.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use super::discovery::{Discovery, FetchError};
use super::keys::KeySet;
use crate::time::{Clock, Steady, Wall};

/// The keys of one issuer, or of one of its tenants where each has a discovery document of its own.
///
/// Shared by the snapshots of several loads of a policy. Verifying reads the keys without a lock. Two fetches at
/// once can only happen while a refresher is replaced, and then the later answer stays.
#[derive(Debug)]
pub(super) struct KeyRing {
    name: Arc<str>,
    source: KeySource,
    keys: ArcSwap<KeySet>,
    health: Mutex<Health>,
}

/// Where keys come from. Equal sources of two loads of a policy share one [`KeyRing`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeySource {
    /// A file of the policy set, by its name and text.
    File { name: Arc<str>, text: String },
    /// The issuer itself.
    Discovery(Discovery),
}

/// How the fetches went.
#[derive(Debug, Default)]
struct Health {
    fetched: Option<Wall>,
    error: Option<Arc<str>>,
    /// Failures since the last success.
    failures: u32,
    /// When to fetch next: at once, at the beginning.
    due: Steady,
}

/// How the keys of one issuer stand, for whoever looks after the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerState {
    /// The issuer's name in `issuers.toml`. An issuer with a discovery document for each tenant has a state for each.
    pub name: Arc<str>,
    /// The file in the policy folder, or the URL of the discovery document.
    pub source: Arc<str>,
    /// How many usable keys are held.
    pub keys: usize,
    /// When they were fetched; none for a file, or if no fetch has succeeded.
    pub fetched: Option<Wall>,
    /// Why the last fetch failed; none if it succeeded. The keys of the one before are still held.
    pub error: Option<Arc<str>>,
}

/// The time between two successful fetches, give or take a tenth: Entra rotates keys without a schedule and asks
/// for about an hour (*Signing key rollover*).
pub(super) const REFRESH_INTERVAL: Duration = Duration::from_secs(3_600);

/// The wait after a failure, doubled after each further one.
pub(super) const FIRST_RETRY: Duration = Duration::from_secs(30);

/// The longest wait after a failure.
pub(super) const LAST_RETRY: Duration = Duration::from_secs(300);

/// The longest that one fetch may take, both documents together: at start-up the gateway waits for it.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

// === impl KeyRing ===

impl KeyRing {
    pub(super) fn new(name: Arc<str>, source: KeySource, keys: KeySet) -> Self {
        Self { name, source, keys: ArcSwap::from_pointee(keys), health: Mutex::default() }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn source(&self) -> &KeySource {
        &self.source
    }

    /// The keys as they are now. Not to be held across an await.
    pub(super) fn keys(&self) -> Guard<Arc<KeySet>> {
        self.keys.load()
    }

    /// How long until the keys are fetched again, in whole seconds rounded up, at least one.
    pub(super) fn retry_after(&self, clock: &Clock) -> Duration {
        let wait = self.health.lock().due.since(clock.steady());
        Duration::from_secs((wait + Duration::from_nanos(999_999_999)).as_secs().max(1))
    }

    /// The discovery to ask, if it is time.
    pub(super) fn due(&self, clock: &Clock) -> Option<&Discovery> {
        match &self.source {
            KeySource::Discovery(discovery) if self.health.lock().due <= clock.steady() => Some(discovery),
            KeySource::Discovery(_) | KeySource::File { .. } => None,
        }
    }

    /// Fetches the keys, if it is time.
    pub(super) async fn refresh(&self, clock: &Clock) {
        let Some(discovery) = self.due(clock) else { return };
        let fetched = clock.timeout(FETCH_TIMEOUT, discovery.fetch()).await;
        self.record(fetched.unwrap_or(Err(FetchError::TimedOut)), clock);
    }

    /// INVARIANT: a failure leaves the keys as they are.
    fn record(&self, fetched: Result<KeySet, FetchError>, clock: &Clock) {
        let mut health = self.health.lock();
        match fetched {
            Ok(keys) => {
                tracing::info!(issuer = %self.name, keys = keys.len(), "fetched the issuer's keys");
                self.replace(keys);
                *health = Health {
                    fetched: Some(clock.wall()),
                    due: clock.steady() + jittered(REFRESH_INTERVAL),
                    ..Health::default()
                };
            }
            Err(error) => {
                tracing::warn!(issuer = %self.name, %error, "can't fetch the issuer's keys");
                let wait = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(health.failures)).min(LAST_RETRY);
                health.failures = health.failures.saturating_add(1);
                health.error = Some(error.to_string().into());
                health.due = clock.steady() + wait;
            }
        }
    }

    /// Puts other keys in the place of these. The same keys stay what they are: tokens that were verified with them
    /// are remembered by this very set.
    pub(super) fn replace(&self, keys: KeySet) {
        if **self.keys.load() != keys {
            self.keys.store(Arc::new(keys));
        }
    }

    pub(super) fn state(&self) -> IssuerState {
        let health = self.health.lock();
        IssuerState {
            name: self.name.clone(),
            source: match &self.source {
                KeySource::File { name, .. } => name.clone(),
                KeySource::Discovery(discovery) => discovery.url.as_str().into(),
            },
            keys: self.keys.load().len(),
            fetched: health.fetched,
            error: health.error.clone(),
        }
    }
}

/// The interval give or take a tenth, so that many gateways don't ask in the same second.
fn jittered(interval: Duration) -> Duration {
    let mut random = [0; 2];
    // Without random numbers the interval is as good, only shared.
    let _ = aws_lc_rs::rand::fill(&mut random);
    interval.mul_f64(0.9 + 0.2 * f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX))
}
