//! The keys of one issuer while time passes: swapped whole, and never for worse.

mod schedule;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};

use super::discovery::{Discovery, FetchError, Publication};
use super::keys::{KeySet, NamedKeys};
use crate::time::{Clock, Steady, Wall};

pub(super) use schedule::FETCH_TIMEOUT;
use schedule::{Answered, Begun, Demand, Schedule};
#[cfg(test)]
pub(super) use schedule::{FIRST_RETRY, LAST_RETRY, REFRESH_INTERVAL};

/// The keys of one issuer, or of one of its tenants where each has a discovery document of its own.
///
/// Shared by the snapshots of several loads of a policy. Verifying reads the keys without a lock; only a request whose
/// key is not among them waits, for at most [`DEMAND_WAIT`], and the others never for it. One fetch is under way
/// at a time.
#[derive(Debug)]
pub(super) struct KeyRing {
    source: KeySource,
    held: ArcSwap<Held>,
    health: Mutex<Health>,
    /// Told of the end of each fetch.
    ended: watch::Sender<()>,
    /// The places of requests that wait for it.
    waiters: Semaphore,
    /// Wakes whoever fetches.
    bell: Arc<Notify>,
}

/// A ring as one load of a policy uses it: how long it trusts keys is the policy's own, and not the ring's.
#[derive(Debug, Clone)]
pub(super) struct IssuerKeys {
    /// The issuer's name in the policy.
    pub(super) name: Arc<str>,
    pub(super) ring: Arc<KeyRing>,
    /// For how long the last good keys are used while the issuer is away.
    pub(super) keep: Duration,
}

/// Where keys come from. Equal sources of two loads of a policy share one [`KeyRing`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeySource {
    /// A file of the policy set, by its name and text.
    File { name: Arc<str>, text: String },
    /// The issuer itself.
    Discovery(Discovery),
}

/// What an issuer publishes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Published {
    pub(super) keys: KeySet,
    /// The issuer's name, where only its own document tells it.
    pub(super) issuer: Option<Arc<str>>,
}

/// What of an issuer's publication a verdict rests on.
#[derive(Debug, Clone)]
pub(super) enum Basis {
    /// All of it.
    Whole(Arc<Published>),
    /// The keys of one name, and the issuer's.
    Named { keys: Arc<NamedKeys>, issuer: Option<Arc<str>> },
}

/// What came of a request's wish for newer keys.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// The keys are what the issuer publishes, as of the last half a minute, or those of a file.
    Current,
    /// The issuer could not be asked, or did not answer in time.
    Unknown,
}

/// What is known of an issuer at one moment.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// INVARIANT: the same one for as long as the issuer publishes the same, and of one that changed the same
    /// [`NamedKeys`] for each name whose keys did not: what was judged by them is remembered so.
    pub(super) published: Arc<Published>,
    /// What the discovery document calls the issuer; none for a file, and before the first fetch.
    named: Option<Arc<str>>,
    /// When it was fetched; none for a file, and before the first fetch.
    fetched: Option<(Steady, Wall)>,
}

/// How the fetches go.
#[derive(Debug, Default)]
struct Health {
    schedule: Schedule,
    error: Option<Arc<str>>,
    fetches: Fetches,
}

/// How many fetches have ended since the ring was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fetches {
    /// With new keys.
    pub succeeded: u64,
    /// Without, so that the ones before were kept.
    pub failed: u64,
}

/// How the keys of one issuer stand, for whoever looks after the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerState {
    /// The issuer's name in `issuers.toml`. An issuer with several discovery documents has a state for each.
    pub name: Arc<str>,
    /// The file in the policy folder, or the URL of the discovery document.
    pub source: Arc<str>,
    /// How many keys are held and may be used: none once they are older than `keep_keys`.
    pub keys: usize,
    /// When they were fetched; none for a file, or if no fetch has succeeded.
    pub fetched: Option<Wall>,
    /// How long ago that was.
    pub age: Option<Duration>,
    /// Why the last fetch failed; none if it succeeded. The keys of the one before are still held.
    pub error: Option<Arc<str>>,
    /// What became of the fetches.
    pub fetches: Fetches,
}

/// A fetch under way. Dropped before it is done (its task was aborted), it lets another begin.
pub(super) struct Fetch {
    ring: Arc<KeyRing>,
    /// The issuer's name, for the log.
    name: Arc<str>,
}

/// The most requests that wait for one issuer at once: a quarter of those that may be in flight by default, so that
/// strangers with invented keys never take all of them. Whoever comes on top is told at once that the key can't be had.
pub(super) const MAX_WAITERS: usize = 256;

/// The longest that a request waits for a fetch that might bring its key: Entra answers within a second, and clients
/// give a call up after ten or more.
pub(super) const DEMAND_WAIT: Duration = Duration::from_secs(3);

// === impl KeyRing ===

impl KeyRing {
    /// A ring with the keys of a file, or without any, which `bell` is rung for.
    pub(super) fn new(source: KeySource, keys: KeySet, bell: Arc<Notify>) -> Self {
        let published = Arc::new(Published { keys, issuer: None });
        let held = ArcSwap::from_pointee(Held { published, named: None, fetched: None });
        let (health, ended, waiters) =
            (Mutex::default(), watch::Sender::new(()), Semaphore::new(MAX_WAITERS));
        Self { source, held, health, ended, waiters, bell }
    }

    /// A ring of a rehearsal, which holds this for good and has no source.
    pub(super) fn publishing(name: &Arc<str>, published: Published) -> Self {
        let source = KeySource::File { name: name.clone(), text: String::new() };
        let ring = Self::new(source, KeySet::default(), Arc::default());
        ring.replace(published, None, None);
        ring
    }

    /// A ring for `source` that begins with what this one holds: the same document of the same issuer, of which more or
    /// fewer tenants are believed now. None if it is another, or nothing is held.
    pub(super) fn succeeded_by(&self, source: &KeySource) -> Option<Self> {
        let (KeySource::Discovery(before), KeySource::Discovery(after)) = (&self.source, source) else {
            return None;
        };
        let held = self.held.load_full();
        let issuer = after.issuer.check(held.named.as_deref()?).ok()?;
        let same = before.url == after.url && before.ca == after.ca && issuer == held.published.issuer;
        same.then(|| {
            let ring = Self::new(source.clone(), KeySet::default(), self.bell.clone());
            ring.held.store(held);
            ring
        })
    }

    pub(super) fn source(&self) -> &KeySource {
        &self.source
    }

    /// What is held now.
    pub(super) fn published(&self) -> Arc<Published> {
        self.held.load().published.clone()
    }

    /// Puts what the issuer publishes in the place of what it published.
    fn replace(&self, mut publication: Published, named: Option<Arc<str>>, fetched: Option<(Steady, Wall)>) {
        let before = self.held.load().published.clone();
        publication.keys.keep(&before.keys);
        let published = if *before == publication { before } else { Arc::new(publication) };
        self.held.store(Arc::new(Held { published, named, fetched }));
    }

    /// What a fetch does in the end.
    #[cfg(test)]
    pub(super) fn replace_keys(&self, keys: KeySet) {
        self.replace(Published { keys, issuer: None }, None, None);
    }

    /// Fetches the keys and keeps what comes of it.
    async fn fetch(&self, name: &str, clock: &Clock) {
        let KeySource::Discovery(discovery) = &self.source else { return };
        let fetched = clock.timeout(FETCH_TIMEOUT, discovery.fetch()).await;
        self.record(name, fetched.unwrap_or(Err(FetchError::TimedOut)), clock);
    }

    /// INVARIANT: a failure leaves the keys as they are.
    fn record(&self, name: &str, fetched: Result<Publication, FetchError>, clock: &Clock) {
        let mut health = self.health.lock();
        let now = clock.steady();
        match fetched {
            Ok(Publication { keys, issuer, named, max_age }) => {
                tracing::info!(issuer = name, keys = keys.len(), "fetched the issuer's keys");
                self.replace(Published { keys, issuer }, Some(named), Some((now, clock.wall())));
                health.schedule.ended(Answered::Keys { max_age }, now);
                health.error = None;
                health.fetches.succeeded += 1;
            }
            Err(error) => {
                tracing::warn!(issuer = name, %error, "can't fetch the issuer's keys");
                health.schedule.ended(Answered::Nothing, now);
                health.error = Some(error.to_string().into());
                health.fetches.failed += 1;
            }
        }
    }
}

// === impl IssuerKeys ===

impl IssuerKeys {
    /// The keys as they are now; none if there are none, or they are too old to be trusted. Not to be held across an
    /// await.
    pub(super) fn usable(&self, clock: &Clock) -> Option<Guard<Arc<Held>>> {
        let held = self.ring.held.load();
        let expired = held.fetched.is_some_and(|(at, _)| clock.steady() > at + self.keep);
        (!held.published.keys.is_empty() && !expired).then_some(held)
    }

    /// How long until the keys are fetched again, in whole seconds rounded up, at least one: at the latest when a request
    /// without its key may ask for them.
    pub(super) fn retry_after(&self, clock: &Clock) -> Duration {
        let wait = self.ring.health.lock().schedule.next().since(clock.steady());
        Duration::from_secs((wait + Duration::from_nanos(999_999_999)).as_secs().max(1))
    }

    /// Asks for the keys out of turn, and waits until a fetch has ended, at most [`DEMAND_WAIT`]. Returns at once if
    /// there is nothing to wait for: keys in a file, a fetch that ended too recently, or no place to wait in.
    pub(super) async fn renew(&self, clock: &Clock) -> Renewal {
        let KeySource::Discovery(_) = self.ring.source else { return Renewal::Current };
        let Ok(_place) = self.ring.waiters.try_acquire() else { return Renewal::Unknown };
        // Before the schedule is asked, so that no end is missed.
        let mut ended = self.ring.ended.subscribe();
        let demand = self.ring.health.lock().schedule.demand(clock.steady());
        if let Demand::Noted = demand {
            self.ring.bell.notify_one();
        }
        if let Demand::Noted | Demand::UnderWay = demand {
            // Whatever becomes of the wait, what counts is whether the issuer has answered.
            let _ = clock.timeout(DEMAND_WAIT, ended.changed()).await;
        }
        let current = self.ring.health.lock().schedule.is_current(clock.steady());
        if current { Renewal::Current } else { Renewal::Unknown }
    }

    /// Whether a verdict that rests on `basis` would rest on the same now.
    pub(super) fn bear(&self, basis: &Basis, clock: &Clock) -> bool {
        // Keys that are too old to be trusted are not the same any more.
        self.usable(clock).is_some_and(|held| match basis {
            Basis::Whole(published) => Arc::ptr_eq(&held.published, published),
            Basis::Named { keys, issuer } => {
                let now = held.published.keys.named(keys.name());
                now.is_some_and(|now| Arc::ptr_eq(now, keys)) && held.published.issuer == *issuer
            }
        })
    }

    /// Begins a fetch, if a request has asked for one.
    pub(super) fn begin_demanded(&self, clock: &Clock) -> Option<Fetch> {
        let Begun = self.ring.health.lock().schedule.begin_demanded(clock.steady())?;
        Some(self.fetch())
    }

    /// Begins a fetch, if it is time.
    pub(super) fn begin_due(&self, clock: &Clock) -> Option<Fetch> {
        let KeySource::Discovery(_) = self.ring.source else { return None };
        let Begun = self.ring.health.lock().schedule.begin_due(clock.steady(), self.keep)?;
        Some(self.fetch())
    }

    fn fetch(&self) -> Fetch {
        Fetch { ring: self.ring.clone(), name: self.name.clone() }
    }

    /// Waits for the end of the fetch under way, if there is one.
    pub(super) async fn settled(&self, clock: &Clock) {
        let mut ended = self.ring.ended.subscribe();
        if self.ring.health.lock().schedule.under_way() {
            let _ = clock.timeout(FETCH_TIMEOUT, ended.changed()).await;
        }
    }

    pub(super) fn state(&self, clock: &Clock) -> IssuerState {
        let usable = self.usable(clock).map_or(0, |held| held.published.keys.len());
        let fetched = self.ring.held.load().fetched;
        let health = self.ring.health.lock();
        IssuerState {
            name: self.name.clone(),
            source: match &self.ring.source {
                KeySource::File { name, .. } => name.clone(),
                KeySource::Discovery(discovery) => discovery.url.as_str().into(),
            },
            keys: usable,
            fetched: fetched.map(|(_, wall)| wall),
            age: fetched.map(|(at, _)| clock.steady().since(at)),
            error: health.error.clone(),
            fetches: health.fetches,
        }
    }
}

impl PartialEq for IssuerKeys {
    /// The same keys for as long, now and after every fetch.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.ring, &other.ring) && self.keep == other.keep
    }
}

// === impl Fetch ===

impl Fetch {
    /// Fetches the keys; whoever waited for them is told.
    pub(super) async fn run(self, clock: Clock) {
        self.ring.fetch(&self.name, &clock).await;
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.ring.health.lock().schedule.dropped();
        self.ring.ended.send_replace(());
    }
}

#[cfg(test)]
mod tests;
