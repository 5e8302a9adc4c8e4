//! How fast a client gives or takes, measured by how long it keeps us waiting: what an upstream or a full queue of ours
//! delays is not held against it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::proxy::bounds::Bounds;
use crate::proxy::credit::Credit;
use crate::time::Clock;

/// One direction of a connection: how much longer the client may keep us waiting, and an alarm for when it has.
#[derive(Debug)]
pub(super) struct Pace {
    credit: Credit,
    /// Of the present wait.
    alarm: Alarm,
}

/// A deadline, which is set when it is first waited for.
#[derive(Default)]
pub(super) struct Alarm(Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>);

// === impl Alarm ===

impl Alarm {
    /// Ready once this time has passed since the first call.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        clock: &Clock,
        after: impl FnOnce() -> Duration,
    ) -> Poll<()> {
        let alarm = self.0.get_or_insert_with(|| {
            let (clock, after) = (clock.clone(), after());
            Box::pin(async move { clock.sleep(after).await })
        });
        alarm.as_mut().poll(cx)
    }

    /// What was waited for has come.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Alarm").field(&self.0.is_some()).finish()
    }
}

// === impl Pace ===

impl Pace {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self { credit: Credit::new(bounds), alarm: Alarm::default() }
    }

    /// The client gave or took so many bytes.
    pub(super) fn moved(&mut self, bytes: usize, clock: &Clock, bounds: &Bounds) {
        self.alarm.clear();
        self.credit.moved(bytes, clock, bounds);
    }

    /// The client gives or takes nothing now. Ready once it has kept us waiting for too long.
    pub(super) fn poll_too_slow(&mut self, cx: &mut Context<'_>, clock: &Clock) -> Poll<()> {
        let credit = &mut self.credit;
        self.alarm.poll(cx, clock, || {
            credit.wait(clock);
            credit.left(clock)
        })
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
