//! The task that keeps the keys of discovered issuers fresh.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::verifier::Verifier;
use crate::time::Clock;

/// Fetches the keys of discovered issuers: at once those of an issuer that is new, every hour (give or take a
/// tenth) those that it has, and after a failure in 30 s, doubled to 5 min.
#[derive(Debug)]
pub struct KeyRefresher<F> {
    current: F,
    clock: Clock,
}

/// How often the schedule is looked at: the longest that an issuer which a reload added waits for its keys.
const RECHECK: Duration = Duration::from_secs(2);

/// How many issuers are fetched from at once. With 100 tenants that all let us wait, a round takes 63 s.
const CONCURRENT_FETCHES: usize = 8;

// === impl KeyRefresher ===

impl<F: Fn() -> Arc<Verifier>> KeyRefresher<F> {
    /// One that asks `current` for the verifier in force before every round.
    pub fn new(current: F, clock: Clock) -> Self {
        Self { current, clock }
    }

    /// Runs until it is dropped.
    pub async fn run(self) {
        loop {
            refresh_now(&(self.current)(), &self.clock).await;
            self.clock.sleep(RECHECK).await;
        }
    }
}

/// One round: fetches the keys of every issuer whose time has come, as it has at the start for all of them, and
/// waits for the answers, at most 5 s for each of the eight that are asked at once. How it went is in
/// [`Verifier::issuers`].
pub async fn refresh_now(verifier: &Verifier, clock: &Clock) {
    let mut fetches = JoinSet::new();
    for ring in verifier.rings().iter().filter(|ring| ring.due(clock).is_some()) {
        if fetches.len() >= CONCURRENT_FETCHES {
            fetches.join_next().await;
        }
        let (ring, clock) = (ring.clone(), clock.clone());
        fetches.spawn(async move { ring.refresh(&clock).await });
    }
    while fetches.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests;
