//! The exact window of one key: pure arithmetic, no clock and no lock.
//!
//! # Why it is exact
//!
//! A log holds the stamps of admitted calls, oldest first. A stamp is its call's reading rounded up to the
//! millisecond, *now* is rounded down. A rate of *N* per *W* has room iff the *N*-th stamp from the end is missing or
//! satisfies `stamp + W <= now`.
//!
//! - *Never too many.* Let the call be admitted at the exact time *t*, and let the *N*-th call before it have been
//!   admitted at *s*. Then `s + W <= stamp + W <= now <= t`, so that call and all older ones lie outside *(t − W, t]*,
//!   and the window holds at most *N* − 1 calls and this one. A window that ends between two admissions holds no more
//!   than the one that ends at the admission before it.
//! - *Never much too late.* `stamp < s + 1 ms` and `now > t − 1 ms`, so a call that is refused at *t* is one that an
//!   unrounded log would have refused at *t* − 2 ms.
//! - *Enough is kept.* A stamp leaves the log when it lies outside the longest window, or when as many younger ones are
//!   held as the largest rate counts. Either way no rate looks at it again, also after younger ones were given back.
//! - *32 bits are enough.* The newest stamp is kept whole, an older one as its lower 32 bits (49.7 days). No stamp that
//!   is held is older than the newest by more than the longest window, at most 24 days.

use std::collections::VecDeque;
use std::time::Duration;

use crate::outcome::Rate;
use crate::time::Steady;

/// The times at which calls of one key were admitted, as far as its rates still need them: 4 bytes a time.
///
/// What is needed is what any rate seen since the log was last empty needs, so that a call that was decided by an
/// older policy takes nothing from a newer one.
#[derive(Debug, Default)]
pub struct SlidingWindowLog {
    /// The lower 32 bits of the stamps, oldest first, never falling.
    ring: VecDeque<u32>,
    /// The last stamp there ever was, given back or not, in milliseconds.
    newest: u64,
    /// The longest window seen, in milliseconds.
    longest: u32,
    /// The largest count seen: the ring never holds more.
    largest: u32,
}

/// When a call was admitted, in milliseconds of the steady clock, rounded up: what a refund takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u64);

/// How one rate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// How many more it would admit now.
    pub remaining: u32,
    /// When `remaining` next grows, if nobody calls; zero if it is at its most.
    pub grows_in: Duration,
}

/// The least room a ring takes when it takes any, in stamps: one line of a small allocator.
const SMALLEST_RING: usize = 4;

// === impl SlidingWindowLog ===

impl SlidingWindowLog {
    /// The moment from which `rate` has room, if nobody else is admitted: in the past if it has room now. O(1).
    pub fn opens(&self, rate: Rate) -> Steady {
        self.nth_last(rate.count.get()).map_or(Steady::default(), |stamp| leaves(stamp, rate.window.millis()))
    }

    /// Writes down a call admitted `now`. Every one of `rates` must have room: [`opens`](Self::opens) is not after `now`.
    /// Where it has none, the call takes the place of the oldest that the largest rate counts.
    ///
    /// O(log N), and O(N) where the ring has to grow, which it does to the powers of two and at last to the largest N.
    pub fn admit(&mut self, rates: &[Rate], now: Steady) -> Stamp {
        for rate in rates {
            self.longest = self.longest.max(millis(*rate));
            self.largest = self.largest.max(rate.count.get());
        }
        self.forget(now);
        if self.ring.is_empty() {
            self.longest = rates.iter().map(|rate| millis(*rate)).max().unwrap_or(0);
            self.largest = rates.iter().map(|rate| rate.count.get()).max().unwrap_or(0);
        }
        let largest = self.largest as usize;
        if self.ring.len() >= largest {
            self.ring.pop_front();
        } else if self.ring.len() == self.ring.capacity() {
            let room = (self.ring.len() * 2).max(SMALLEST_RING).min(largest);
            self.ring.reserve_exact(room - self.ring.len());
        }
        // The steady clock never goes back; if it did, the order of the ring would still hold.
        self.newest = self.newest.max(now.millis_up());
        self.ring.push_back(self.newest as u32);
        Stamp(self.newest)
    }

    /// Takes back one call admitted at `stamp`; nothing if its stamp is not held any more. Stamps of one millisecond are
    /// interchangeable. O(log N) and a move of at most half the ring.
    pub fn refund(&mut self, stamp: Stamp) {
        let after = self.ring.partition_point(|&low| self.whole(low) <= stamp.0);
        let Some(index) = after.checked_sub(1) else { return };
        if self.ring.get(index).is_none_or(|&low| self.whole(low) != stamp.0) {
            return;
        }
        self.ring.remove(index);
    }

    /// How `rate` stands `now`. O(1) if it is full, else O(log N).
    pub fn usage(&self, rate: Rate, now: Steady) -> Usage {
        let count = rate.count.get();
        let opens = self.opens(rate);
        if opens > now {
            return Usage { remaining: 0, grows_in: opens.since(now) };
        }
        let live =
            self.ring.len() - self.ring.partition_point(|&low| !self.is_live(low, rate.window.millis(), now));
        let oldest = self.nth_last(u32::try_from(live).unwrap_or(u32::MAX));
        Usage {
            remaining: u32::try_from(live).map_or(0, |live| count.saturating_sub(live)),
            grows_in: oldest.map_or(Duration::ZERO, |stamp| leaves(stamp, rate.window.millis()).since(now)),
        }
    }

    /// The moment from which no rate counts any of its stamps, and the log may be thrown away.
    pub fn expires(&self) -> Steady {
        self.nth_last(1).map_or(Steady::default(), |stamp| leaves(stamp, self.longest.into()))
    }

    /// Drops the stamps that lie outside the longest window.
    fn forget(&mut self, now: Steady) {
        let longest = self.longest.into();
        if self.ring.front().is_none_or(|&low| self.is_live(low, longest, now)) {
            return;
        }
        let dead = self.ring.partition_point(|&low| !self.is_live(low, longest, now));
        self.ring.drain(..dead);
    }

    fn is_live(&self, low: u32, window: u64, now: Steady) -> bool {
        self.whole(low) + window > now.millis_down()
    }

    /// The `n`-th stamp from the end, counted from 1.
    fn nth_last(&self, n: u32) -> Option<u64> {
        let index = self.ring.len().checked_sub(n as usize)?;
        self.ring.get(index).map(|&low| self.whole(low))
    }

    /// A stamp from its lower 32 bits: the last one with these that is not after the newest.
    fn whole(&self, low: u32) -> u64 {
        self.newest - u64::from((self.newest as u32).wrapping_sub(low))
    }
}

/// The moment at which `stamp` leaves a window of this many milliseconds.
fn leaves(stamp: u64, window: u64) -> Steady {
    Steady::from_nanos((stamp + window).saturating_mul(1_000_000))
}

/// The length of the window of `rate` in milliseconds: at most 24 days, which 32 bits hold.
fn millis(rate: Rate) -> u32 {
    rate.window.seconds() * 1_000
}

#[cfg(test)]
mod tests;
