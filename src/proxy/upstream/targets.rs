//! The addresses of the API: which of them is used, and which are passed over.
//!
//! The first that can be connected to is used by everyone, so that connections are shared. What can go wrong: an address
//! that takes connections and then fails each call stays the one that is used; the circuit stands in for its callers then.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use pingora::upstreams::peer::HttpPeer;
use tokio::task::JoinSet;

use super::probe::Prober;
use crate::time::Clock;

/// One address of the API.
#[derive(Debug)]
pub(in crate::proxy) struct Target {
    pub(super) address: SocketAddr,
    /// As Pingora is to connect to it; made once.
    peer: HttpPeer,
    /// The `Host` that it expects.
    pub(super) authority: HeaderValue,
    /// Whether the last attempt to connect to it failed.
    passed_over: AtomicBool,
}

/// All of them, in the order in which they are tried.
#[derive(Debug, Default)]
pub(super) struct Targets(ArcSwap<Vec<Arc<Target>>>);

// === impl Target ===

impl Target {
    pub(super) fn new(address: SocketAddr, peer: HttpPeer, authority: HeaderValue) -> Self {
        Self { address, peer, authority, passed_over: AtomicBool::new(false) }
    }

    /// What Pingora is to connect to.
    pub(in crate::proxy) fn peer(&self) -> &HttpPeer {
        &self.peer
    }

    /// It could not be connected to.
    pub(in crate::proxy) fn pass_over(&self) {
        if !self.passed_over.swap(true, Ordering::Relaxed) {
            tracing::warn!(address = %self.address, "the upstream cannot be connected to at an address");
        }
    }

    fn take_again(&self) {
        if self.passed_over.swap(false, Ordering::Relaxed) {
            tracing::info!(address = %self.address, "the upstream can be connected to at an address again");
        }
    }

    fn is_passed_over(&self) -> bool {
        self.passed_over.load(Ordering::Relaxed)
    }
}

// === impl Targets ===

impl Targets {
    /// The first that is not passed over. If all are, each has its chance again: nobody knows which is back first.
    pub(super) fn choose(&self) -> Option<Arc<Target>> {
        let targets = self.0.load();
        let first = targets.iter().find(|target| !target.is_passed_over());
        if first.is_none() {
            targets.iter().for_each(|target| target.passed_over.store(false, Ordering::Relaxed));
        }
        first.or(targets.first()).cloned()
    }

    /// Puts these in the place of those before; an address that stays is passed over as it was.
    pub(super) fn replace(&self, targets: Vec<Target>) {
        let before = self.0.load();
        for target in &targets {
            let same = before.iter().find(|known| known.address == target.address);
            target.passed_over.store(same.is_some_and(|known| known.is_passed_over()), Ordering::Relaxed);
        }
        self.0.store(Arc::new(targets.into_iter().map(Arc::new).collect()));
    }

    /// Tries to connect to each, if there is a choice: callers come back to one that is back, and need not find out
    /// by themselves that another is gone.
    pub(super) async fn probe(&self, prober: &Arc<Prober>, limit: Duration, clock: &Clock) {
        let targets = self.0.load_full();
        if targets.len() < 2 {
            return;
        }
        let mut probes = JoinSet::new();
        for target in targets.iter().cloned() {
            let (prober, clock) = (prober.clone(), clock.clone());
            probes.spawn(async move {
                match prober.connect(&target, limit, &clock).await {
                    Ok(()) => target.take_again(),
                    Err(error) => {
                        tracing::debug!(address = %target.address, %error, "an address was tried in vain");
                        target.pass_over();
                    }
                }
            });
        }
        while probes.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(ports: &[u16]) -> Vec<Target> {
        let target = |port: &u16| {
            let address = SocketAddr::from(([127, 0, 0, 1], *port));
            let peer = HttpPeer::new(address, false, String::new());
            Target::new(address, peer, HeaderValue::from_static("api.example"))
        };
        ports.iter().map(target).collect()
    }

    #[test]
    fn the_first_that_is_not_passed_over_is_used_and_if_all_are_each_has_its_chance_again() {
        let all = Targets::default();
        assert!(all.choose().is_none());
        all.replace(targets(&[1, 2, 3]));
        let port = || all.choose().unwrap().address.port();
        // Of many connections that fail at once, all move on to the same.
        let failed = [(); 4].map(|()| all.choose().unwrap());
        failed.iter().for_each(|target| target.pass_over());
        assert_eq!(port(), 2);
        all.choose().unwrap().pass_over();
        assert_eq!(port(), 3);
        failed[0].take_again();
        assert_eq!(port(), 1);
        all.replace(targets(&[3, 2, 4]));
        assert_eq!(port(), 3, "2 is still passed over");
        (0..2).for_each(|_| all.choose().unwrap().pass_over());
        assert_eq!((port(), port()), (3, 3));
    }

    #[tokio::test]
    async fn a_probe_finds_out_who_is_gone_and_who_is_back() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap().port();
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let all = Targets::default();
        all.replace(targets(&[gone, there]));
        let (prober, limit) = (Arc::<Prober>::default(), Duration::from_secs(5));
        all.probe(&prober, limit, &Clock::System).await;
        assert_eq!(all.choose().unwrap().address.port(), there);
        let _back = std::net::TcpListener::bind(("127.0.0.1", gone)).unwrap();
        all.probe(&prober, limit, &Clock::System).await;
        assert_eq!(all.choose().unwrap().address.port(), gone);
        drop(listener);
        all.replace(targets(&[there]));
        all.probe(&prober, limit, &Clock::System).await;
        assert_eq!(all.choose().unwrap().address.port(), there, "there is no choice");
    }
}
