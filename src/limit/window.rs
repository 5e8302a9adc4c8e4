//! The exact window of one key: pure arithmetic, no clock and no lock.
//!
//! # Why it is exact
//!
//! (Where moments ahead are promised to calls that wait, see `search`.) A log holds the stamps of admitted calls, oldest first, a call that costs *c* as *c* equal ones. A stamp is its call's
//! reading rounded up to the millisecond, *now* is rounded down. A rate of *N* per *W* has room for a cost of *c* iff
//! the stamp that has *N* − *c* younger ones is missing or satisfies `stamp + W <= now`.
//!
//! - *Never too many.* Let the call be admitted at the exact time *t*, and let that stamp be of a call admitted at *s*.
//!   Then `s + W <= stamp + W <= now <= t`, so that call and all older ones lie outside *(t − W, t]*, and the window
//!   holds at most *N* − *c* and this call's *c*. A window that ends between two admissions holds no more than the one
//!   that ends at the admission before it.
//! - *Never much too late.* `stamp < s + 1 ms` and `now > t − 1 ms`, so a call that is refused at *t* is one that an
//!   unrounded log would have refused at *t* − 2 ms.
//! - *Enough is kept.* A stamp leaves the log when it lies outside the longest window, or when as many younger ones are
//!   held as the largest rate counts: no rate looks at it again. (A younger one that is given back brings it into sight
//!   of a rate that was larger before a reload. There it is missing, and what is missing counts as not admitted.)
//! - *32 bits are enough.* The upper half of the youngest stamp is kept once, the lower half of each (49.7 days). No
//!   stamp that is held is older than the youngest by more than the longest window, at most 24 days and a margin.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::outcome::Rate;
use crate::time::Steady;

mod ahead;
mod bounds;
mod saved;
mod search;
mod stamps;

use ahead::Ahead;
pub(super) use ahead::MAX_AHEAD;
pub use bounds::{Bound, Bounds, Cost, InvalidMargin, Margin};
pub(super) use saved::Kept;
pub(super) use search::Search;
use stamps::Stamps;

/// The times at which calls of one key were admitted, as far as its bounds still need them: 4 bytes a time.
///
/// What is needed is what any bound seen since the log was last empty needs, so that a call that was decided by an
/// older policy takes nothing from a newer one.
#[derive(Debug)]
pub struct SlidingWindowLog {
    stamps: Stamps,
    /// The upper 32 bits of the youngest stamp.
    high: u32,
    /// The longest window seen, in milliseconds.
    longest: u32,
    /// The largest count seen: no more stamps are ever held.
    largest: NonZeroU32,
    /// How many calls of the key are on their way. No window counts them; it is here since these four bytes are free.
    in_flight: u32,
}

/// When a call was admitted, in milliseconds of the steady clock, rounded up: what a refund takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u64);

/// How one bound stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// How many more calls of this cost it would admit now.
    pub remaining: u32,
    /// When `remaining` next grows, if nobody calls; zero if it is at its most.
    pub grows_in: Duration,
}

/// The bound that is full for the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) rate: Rate,
    /// The moment from which it has room.
    pub(super) opens: Steady,
}

// === impl SlidingWindowLog ===

impl SlidingWindowLog {
    /// The moment from which a bound has room for such a call, if nobody else is admitted: in the past if it has room
    /// now. O(1).
    pub fn opens(&self, bound: Bound, cost: Cost) -> Steady {
        let opens = self.youngest().map(|youngest| self.opens_after(youngest, bound, cost));
        opens.map_or(Steady::default(), Steady::from_millis)
    }

    /// The bound that is full for the longest; none if all have room `now`. O(1) for each.
    pub(super) fn full(&self, bounds: &Bounds, cost: Cost, now: Steady) -> Option<Full> {
        let youngest = self.youngest()?;
        let (mut fullest, mut latest) = (None, now.millis_down());
        for bound in &bounds.each {
            let opens = self.opens_after(youngest, *bound, cost);
            if opens > latest {
                (fullest, latest) = (Some(bound.rate), opens);
            }
        }
        Some(Full { rate: fullest?, opens: Steady::from_millis(latest) })
    }

    /// Writes down a call admitted `now`. Every one of `bounds` must have room for its cost; where one has not, the
    /// call takes the place of the oldest that the largest count keeps.
    ///
    /// O(log N) and the cost, and O(N) where the ring has to grow, to the powers of two and at last to the largest N.
    pub fn admit(&mut self, bounds: &Bounds, cost: Cost, now: Steady) -> Stamp {
        self.measure(bounds, now);
        // The steady clock never goes back; if it did, the order of the ring would still hold.
        let stamp = self.youngest().unwrap_or(0).max(now.millis_up());
        self.append(stamp, cost.get() as usize);
        Stamp(stamp)
    }

    /// Promises a moment ahead to a call that waits, which [`Search`] has found for it, in whole milliseconds: whenever
    /// it is woken, that is when it is admitted. O(queue).
    pub(super) fn reserve(&mut self, bounds: &Bounds, cost: Cost, at: Stamp, now: Steady) {
        self.measure(bounds, now);
        self.stamps.change_ahead(|ahead| {
            ahead.insert(at.0, cost);
            ahead.begin_wait();
        });
    }

    /// A call waits no longer, whatever becomes of the moment that it had.
    pub(super) fn end_wait(&mut self) {
        if let Some(ahead) = self.stamps.ahead_mut() {
            ahead.end_wait();
        }
    }

    /// How many stamps lie ahead, and how many calls wait.
    pub(super) fn queued(&self) -> (usize, u32) {
        self.stamps.ahead().map_or((0, 0), |ahead| (ahead.len(), ahead.waiting()))
    }

    /// Nobody but its owner is to be admitted until then.
    pub(super) fn want(&mut self, until: Steady) {
        self.stamps.change_ahead(|ahead| ahead.want(until.millis_up()));
    }

    /// Until when nobody but its owner is admitted, in milliseconds; 0 if nobody wants it back.
    pub(super) fn wanted(&self) -> u64 {
        self.stamps.ahead().map_or(0, Ahead::wanted)
    }

    /// Whether nothing lies ahead: the ring alone decides.
    pub(super) fn is_plain(&self) -> bool {
        self.stamps.ahead().is_none()
    }

    /// Adds the promised moments that have come to the ring. To be called before anything is asked of a log that is not
    /// [plain](Self::is_plain).
    pub(super) fn settle(&mut self, now: Steady) {
        let millis = now.millis_down();
        while let Some((stamp, count)) = self.stamps.ahead_mut().and_then(|ahead| ahead.pop_due(millis)) {
            self.append(self.youngest().unwrap_or(0).max(stamp), count);
        }
        if self.stamps.ahead().is_some_and(|ahead| ahead.is_over(millis)) {
            self.stamps.drop_ahead();
        }
    }

    /// The search for the first moment at which a bound lets such a call in.
    pub(super) fn search(&self, bound: Bound, cost: Cost, now: Steady) -> Search<'_> {
        Search::new(self, bound, cost.get(), Stamp(now.millis_up()))
    }

    /// Sees to it that the log keeps what these bounds need, and nothing that no window counts.
    fn measure(&mut self, bounds: &Bounds, now: Steady) {
        self.longest = self.longest.max(bounds.longest);
        self.largest = self.largest.max(bounds.largest);
        self.forget(now);
        if self.stamps.len() == 0 && self.is_plain() {
            (self.longest, self.largest) = (bounds.longest, bounds.largest);
        }
    }

    /// Writes down a stamp that is no older than any other of the ring.
    fn append(&mut self, stamp: u64, cost: usize) {
        let (held, largest) = (self.stamps.len(), self.largest.get() as usize);
        let cost = cost.min(largest);
        if held + cost > largest {
            self.stamps.remove(0..held + cost - largest);
        }
        self.stamps.push(stamp as u32, cost, largest);
        self.high = (stamp >> 32) as u32;
    }

    /// Whether the next call of this cost moves the ring to a larger place, which takes O(N).
    pub(super) fn must_grow(&self, bounds: &Bounds, cost: Cost) -> bool {
        let largest = self.largest.max(bounds.largest).get() as usize;
        (self.stamps.len() + cost.get() as usize).min(largest) > self.stamps.capacity()
    }

    /// Takes back a call of this cost admitted at `stamp`, or promised that moment, as far as its stamps are still held. Stamps of one
    /// millisecond are interchangeable. O(log N) and a move of at most half the ring.
    pub fn refund(&mut self, stamp: Stamp, cost: Cost) {
        let ahead = self.stamps.ahead_mut().map_or(0, |ahead| ahead.remove(stamp.0, cost.get()));
        let Some(youngest) = self.youngest() else { return };
        let end = self.stamps.partition_point(|low| whole(youngest, low) <= stamp.0);
        let cost = ((cost.get() - ahead) as usize).min(end);
        let of_it =
            |index: &usize| self.stamps.get(*index).is_some_and(|low| whole(youngest, low) == stamp.0);
        let start = (end - cost..end).find(of_it).unwrap_or(end);
        self.stamps.remove(start..end);
        // The one that is the youngest now may be of an older half.
        if let Some(low) = self.stamps.nth_last(0) {
            self.high = (whole(youngest, low) >> 32) as u32;
        }
    }

    /// How a bound stands `now` for calls of this cost. O(log N).
    pub fn usage(&self, bound: Bound, cost: Cost, now: Steady) -> Usage {
        let (count, cost) = (bound.rate.count.get(), cost.get());
        let live = self.youngest().map_or(0, |youngest| {
            let now = now.millis_down();
            let dead = |low| whole(youngest, low) + u64::from(bound.millis) <= now;
            self.stamps.len() - self.stamps.partition_point(dead)
        });
        let free = u32::try_from(live).map_or(0, |live| count.saturating_sub(live));
        if !self.is_plain() {
            return self.usage_beside_promises(bound, cost, free, now);
        }
        let remaining = free / cost;
        // There is room for one more when no more are live than leave it.
        let grown = count.checked_sub(cost.saturating_mul(remaining.saturating_add(1)));
        let grows = grown.and_then(|left| {
            let stamp = whole(self.youngest()?, self.stamps.nth_last(left as usize)?);
            Some(Steady::from_millis(stamp + u64::from(bound.millis)))
        });
        Usage { remaining, grows_in: grows.map_or(Duration::ZERO, |grows| grows.since(now)) }
    }

    /// The same, where of the units that are `free` some may be promised to others. O(queue), and the count at most.
    fn usage_beside_promises(&self, bound: Bound, cost: u32, free: u32, now: Steady) -> Usage {
        let remaining = Search::new(self, bound, cost, Stamp(now.millis_up())).most(free) / cost;
        let one_more = cost.saturating_mul(remaining.saturating_add(1));
        let grows_in = (one_more <= bound.rate.count.get()).then(|| {
            let mut search = Search::new(self, bound, one_more, Stamp(now.millis_up()));
            Steady::from_millis(search.earliest(now.millis_down())).since(now)
        });
        Usage { remaining, grows_in: grows_in.unwrap_or_default() }
    }

    /// The moment from which no bound counts any of its stamps, and the log may be thrown away.
    pub fn expires(&self) -> Steady {
        let ahead = self.stamps.ahead();
        let last = ahead.and_then(Ahead::last).or_else(|| self.youngest());
        let counted = last.map_or(0, |stamp| stamp + u64::from(self.longest));
        Steady::from_millis(counted.max(ahead.map_or(0, Ahead::wanted)))
    }

    /// One call more is on its way.
    pub(super) fn depart(&mut self) {
        self.in_flight += 1;
    }

    /// One call less is on its way.
    pub(super) fn arrive(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// How many calls are on their way.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// When a bound has room, in milliseconds.
    fn opens_after(&self, youngest: u64, bound: Bound, cost: Cost) -> u64 {
        // A cost is never more than the count: `check` sees to it.
        let younger = bound.rate.count.get().saturating_sub(cost.get()) as usize;
        match self.stamps.nth_last(younger) {
            Some(low) => whole(youngest, low) + u64::from(bound.millis),
            None => 0,
        }
    }

    /// Drops the stamps that lie outside the longest window.
    fn forget(&mut self, now: Steady) {
        let (Some(oldest), Some(youngest)) = (self.stamps.get(0), self.youngest()) else { return };
        let (now, longest) = (now.millis_down(), u64::from(self.longest));
        if whole(youngest, oldest) + longest <= now {
            let dead = self.stamps.partition_point(|low| whole(youngest, low) + longest <= now);
            self.stamps.remove(0..dead);
        }
    }

    fn youngest(&self) -> Option<u64> {
        self.stamps.nth_last(0).map(|low| u64::from(self.high) << 32 | u64::from(low))
    }
}

impl Default for SlidingWindowLog {
    fn default() -> Self {
        Self { stamps: Stamps::default(), high: 0, longest: 0, largest: NonZeroU32::MIN, in_flight: 0 }
    }
}

/// A stamp from its lower 32 bits: the last one with these that is not after the youngest.
fn whole(youngest: u64, low: u32) -> u64 {
    youngest - u64::from((youngest as u32).wrapping_sub(low))
}

// === impl Stamp ===

impl Stamp {
    pub(super) const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub(super) const fn millis(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;
