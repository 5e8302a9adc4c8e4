//! What tests share. A panic here is a failed test: the message shows what was expected and what came.

pub(crate) mod dice;
pub(crate) mod frames;
pub(crate) mod gateway;
pub(crate) mod key_site;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod tls;
pub(crate) mod upstream;
mod wire;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tollgate::time::Clock;

/// How long a test waits for bytes that must come. It is the machine's time: what hangs must fail, also if the clock
/// under test stands still. A busy machine has been seen to take ten seconds for what is done in one.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for `work`; fails the test if it takes longer than [`DEADLINE`].
pub(crate) async fn within_deadline<F: Future>(what: &str, work: F) -> F::Output {
    Clock::System
        .timeout(DEADLINE, work)
        .await
        .unwrap_or_else(|_| panic!("{what}: nothing for {} s", DEADLINE.as_secs()))
}

/// Waits until `reached` says so, and fails the test if it does not: for what tells nobody when it happens.
pub(crate) async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    within_deadline(what, async {
        while !reached() {
            Clock::System.sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A loopback address of this test run's own, so that a port on it is nobody else's. Whoever lets the system choose a port
/// of another address may get one that a test has just let go of.
pub(crate) fn own_address(port: u16) -> SocketAddr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    (Ipv4Addr::new(127, high % 128 + 1, middle, low), port).into()
}

/// How long the files of a policy may take to be written for the gateway to see them as one change: much less than its
/// quiet time.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Writes, and says whether that was at once: a busy machine may stop in between for as long as it likes.
pub(crate) fn at_once(write: impl FnOnce()) -> Option<()> {
    let started = Clock::System.steady();
    write();
    (Clock::System.steady().since(started) <= AT_ONCE).then_some(())
}

/// Tries until the machine writes at once, which a test that counts reloads needs.
pub(crate) async fn tried<T>(mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..10 {
        if let Some(done) = attempt().await {
            return done;
        }
    }
    panic!("files were not written within {} ms, ten times", AT_ONCE.as_millis());
}
