//! How fast a client gives or takes, measured by how long it keeps us waiting: what an upstream or a full queue of ours
//! delays is not held against it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::proxy::bounds::Bounds;
use crate::time::{Clock, Steady};

/// One direction of a connection: how much longer the client may keep us waiting.
///
/// It begins with [`Bounds::patience`]. Waiting uses it up, and what is given or taken earns it back at
/// [`Bounds::min_rate`], up to where it began.
pub(super) struct Pace {
    credit: Duration,
    wait: Option<Wait>,
}

/// The present wait.
struct Wait {
    since: Steady,
    alarm: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pace").field("credit", &self.credit).finish_non_exhaustive()
    }
}

impl Pace {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self { credit: bounds.patience, wait: None }
    }

    /// The client gave or took so many bytes.
    pub(super) fn moved(&mut self, bytes: usize, clock: &Clock, bounds: &Bounds) {
        // Whoever never kept us waiting has all the credit there is.
        if let Some(wait) = self.wait.take() {
            self.credit = self.credit.saturating_sub(clock.steady().since(wait.since));
        }
        if self.credit < bounds.patience {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let earned = Duration::from_secs(1).saturating_mul(bytes) / bounds.min_rate.get();
            self.credit = bounds.patience.min(self.credit + earned);
        }
    }

    /// The client gives or takes nothing now. Ready once it has kept us waiting for too long.
    pub(super) fn poll_too_slow(&mut self, cx: &mut Context<'_>, clock: &Clock) -> Poll<()> {
        let credit = self.credit;
        let wait = self.wait.get_or_insert_with(|| {
            let timer = clock.clone();
            Wait { since: clock.steady(), alarm: Box::pin(async move { timer.sleep(credit).await }) }
        });
        wait.alarm.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::time::Wall;

    #[test]
    fn a_client_has_its_patience_and_earns_it_back_at_the_least_rate() {
        let bounds = Bounds {
            patience: Duration::from_secs(10),
            min_rate: std::num::NonZeroU32::new(100).unwrap(),
            ..Bounds::default()
        };
        let (clock, hand) = Clock::manual(Wall::default());
        let mut pace = Pace::new(&bounds);
        let cx = &mut Context::from_waker(Waker::noop());
        // A second at a time, each for as many bytes as it may be for: that can go on.
        for _ in 0..100 {
            assert!(pace.poll_too_slow(cx, &clock).is_pending());
            hand.advance(Duration::from_secs(1));
            pace.moved(100, &clock, &bounds);
        }
        // For half as many, each costs half a second.
        for second in 1..=19 {
            assert!(pace.poll_too_slow(cx, &clock).is_pending(), "{second}");
            hand.advance(Duration::from_secs(1));
            pace.moved(50, &clock, &bounds);
        }
        assert!(pace.poll_too_slow(cx, &clock).is_pending());
        hand.advance(Duration::from_millis(500));
        assert!(pace.poll_too_slow(cx, &clock).is_ready());
        // Much at once earns no more than there was.
        pace.moved(1_000_000, &clock, &bounds);
        assert!(pace.poll_too_slow(cx, &clock).is_pending());
        hand.advance(Duration::from_millis(9_999));
        assert!(pace.poll_too_slow(cx, &clock).is_pending());
        hand.advance(Duration::from_millis(1));
        assert!(pace.poll_too_slow(cx, &clock).is_ready());
    }
}
