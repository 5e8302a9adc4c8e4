//! The task that keeps the keys of discovered issuers fresh.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::verifier::Verifier;
use crate::time::Clock;

/// Fetches the keys of discovered issuers: at once those of an issuer that is new, or that a request needs and lacks
/// (at most every 30 s for an issuer); every hour, less up to a tenth, or sooner if the issuer's `Cache-Control` says so,
/// but not within 5 min, those that it has; and after a failure in 30 s, doubled to 5 min.
///
/// It runs beside the requests: they wait for it, if they must, but never do its work.
#[derive(Debug)]
pub struct KeyRefresher<F> {
    current: F,
    clock: Clock,
}

/// How often the schedule is looked at: the longest that an issuer which a reload added waits for its keys.
const RECHECK: Duration = Duration::from_secs(2);

/// How many documents are fetched at once in turn. With 100 of them that all let us wait, a round takes 65 s (13 times
/// 5 s; a tenant of a cloud has two). Fetches that requests wait for come on top, one for each document.
const CONCURRENT_FETCHES: usize = 8;

// === impl KeyRefresher ===

impl<F: Fn() -> Arc<Verifier>> KeyRefresher<F> {
    /// One that asks `current` for the verifier in force before every look at the schedule.
    pub fn new(current: F, clock: Clock) -> Self {
        Self { current, clock }
    }

    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut fetches = JoinSet::new();
        loop {
            let verifier = (self.current)();
            begin(&verifier, &mut fetches, &self.clock);
            tokio::select! {
                () = verifier.demanded() => {}
                () = self.clock.sleep(RECHECK) => {}
                Some(_) = fetches.join_next() => {}
            }
        }
    }
}

/// One round: fetches the keys of every issuer whose time has come, as it has at the start for all of them, and
/// waits for the answers, at most 5 s for each of the eight that are asked at once. How it went is in
/// [`Verifier::issuers`].
pub async fn refresh_now(verifier: &Verifier, clock: &Clock) {
    let mut fetches = JoinSet::new();
    loop {
        begin(verifier, &mut fetches, clock);
        if fetches.join_next().await.is_none() {
            break;
        }
    }
    // Somebody else may have begun some of them.
    for keys in verifier.keys() {
        keys.settled(clock).await;
    }
}

/// Begins the fetches that are demanded, and those whose time has come as far as there is room.
fn begin(verifier: &Verifier, fetches: &mut JoinSet<()>, clock: &Clock) {
    for fetch in verifier.keys().iter().filter_map(|keys| keys.begin_demanded(clock)) {
        fetches.spawn(fetch.run(clock.clone()));
    }
    for keys in verifier.keys() {
        if fetches.len() >= CONCURRENT_FETCHES {
            return;
        }
        if let Some(fetch) = keys.begin_due(clock) {
            fetches.spawn(fetch.run(clock.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
