//! What is done once in a while, for as long as the process runs.

use std::sync::Arc;
use std::time::Duration;

use crate::admit::Line;
use crate::reload::PolicyStore;
use crate::time::Clock;

/// How often keys without a live charge are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// How often it is written down how the two clocks stand: by so much time may have passed unseen when the calendar's is
/// set and the machine is started anew.
const ANCHOR: Duration = Duration::from_secs(60);

/// How often remembered tokens that have expired are looked for. Nobody is let in by one: it only takes room.
const FORGET_TOKENS: Duration = Duration::from_secs(60);

/// Forgets what no window counts any more.
pub(super) async fn sweep(line: Arc<Line>) {
    loop {
        line.clock.sleep(SWEEP).await;
        line.limiter.sweep(&line.clock);
        line.logins.sweep(&line.clock);
    }
}

/// Writes down how the two clocks stand.
pub(super) async fn anchor(line: Arc<Line>) {
    loop {
        line.clock.sleep(ANCHOR).await;
        line.limiter.anchor();
    }
}

/// Forgets tokens that have expired.
pub(super) async fn forget_tokens(policies: Arc<PolicyStore>, clock: Clock) {
    loop {
        clock.sleep(FORGET_TOKENS).await;
        policies.load().verifier.sweep(&clock);
    }
}
