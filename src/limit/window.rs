//! The exact window of one key: pure arithmetic, no clock and no lock.
//!
//! # Why it is exact
//!
//! A log holds the stamps of admitted calls, oldest first, a call that costs *c* as *c* equal ones. A stamp is its call's
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
use std::str::FromStr;
use std::time::Duration;

use crate::outcome::Rate;
use crate::time::Steady;

mod stamps;

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
}

/// One rate as a log keeps it: in any window of this length, at most so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The rate.
    pub rate: Rate,
    /// The length of its window with its margin, in milliseconds.
    millis: u32,
}

/// All bounds of one limit, with what a log must keep for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    each: Box<[Bound]>,
    /// The longest of their windows, in milliseconds.
    longest: u32,
    /// The largest of their counts.
    largest: NonZeroU32,
}

/// By how much a window is longer than its rate says, in milliseconds: for the jitter between us and whoever counts too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Margin(u32);

/// Text that is no such margin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a margin such as `250ms`, whole milliseconds, at most `60s`")]
pub struct InvalidMargin {
    text: String,
}

/// As how many calls a call counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(NonZeroU32);

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
        self.longest = self.longest.max(bounds.longest);
        self.largest = self.largest.max(bounds.largest);
        self.forget(now);
        let held = self.stamps.len();
        if held == 0 {
            (self.longest, self.largest) = (bounds.longest, bounds.largest);
        }
        let largest = self.largest.get() as usize;
        let cost = (cost.get() as usize).min(largest);
        if held + cost > largest {
            self.stamps.remove(0..held + cost - largest);
        }
        // The steady clock never goes back; if it did, the order of the ring would still hold.
        let stamp = self.youngest().unwrap_or(0).max(now.millis_up());
        self.stamps.push(stamp as u32, cost, largest);
        self.high = (stamp >> 32) as u32;
        Stamp(stamp)
    }

    /// Whether the next call of this cost moves the ring to a larger place, which takes O(N).
    pub(super) fn must_grow(&self, bounds: &Bounds, cost: Cost) -> bool {
        let largest = self.largest.max(bounds.largest).get() as usize;
        (self.stamps.len() + cost.get() as usize).min(largest) > self.stamps.capacity()
    }

    /// Takes back a call of this cost admitted at `stamp`, as far as its stamps are still held. Stamps of one
    /// millisecond are interchangeable. O(log N) and a move of at most half the ring.
    pub fn refund(&mut self, stamp: Stamp, cost: Cost) {
        let Some(youngest) = self.youngest() else { return };
        let end = self.stamps.partition_point(|low| whole(youngest, low) <= stamp.0);
        let cost = (cost.get() as usize).min(end);
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
        let remaining = u32::try_from(live).map_or(0, |live| count.saturating_sub(live)) / cost;
        // There is room for one more when no more are live than leave it.
        let grown = count.checked_sub(cost.saturating_mul(remaining.saturating_add(1)));
        let grows = grown.and_then(|left| {
            let stamp = whole(self.youngest()?, self.stamps.nth_last(left as usize)?);
            Some(Steady::from_millis(stamp + u64::from(bound.millis)))
        });
        Usage { remaining, grows_in: grows.map_or(Duration::ZERO, |grows| grows.since(now)) }
    }

    /// The moment from which no bound counts any of its stamps, and the log may be thrown away.
    pub fn expires(&self) -> Steady {
        self.youngest()
            .map_or(Steady::default(), |stamp| Steady::from_millis(stamp + u64::from(self.longest)))
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
        Self { stamps: Stamps::default(), high: 0, longest: 0, largest: NonZeroU32::MIN }
    }
}

/// A stamp from its lower 32 bits: the last one with these that is not after the youngest.
fn whole(youngest: u64, low: u32) -> u64 {
    youngest - u64::from((youngest as u32).wrapping_sub(low))
}

// === impl Bound ===

impl Bound {
    /// A rate whose windows are longer by a margin.
    pub const fn new(rate: Rate, margin: Margin) -> Self {
        // At most 24 days and a minute, which 32 bits hold.
        Self { rate, millis: rate.window.seconds() * 1_000 + margin.0 }
    }

    /// How long its windows are, in milliseconds.
    pub(super) const fn millis(self) -> u32 {
        self.millis
    }
}

impl From<Rate> for Bound {
    fn from(rate: Rate) -> Self {
        Self::new(rate, Margin::default())
    }
}

// === impl Bounds ===

impl Bounds {
    /// The bounds of a limit. One without any admits everything.
    pub fn new(each: impl IntoIterator<Item = Bound>) -> Self {
        let each: Box<[Bound]> = each.into_iter().collect();
        let longest = each.iter().map(|bound| bound.millis).max().unwrap_or(0);
        let largest = each.iter().map(|bound| bound.rate.count).max().unwrap_or(NonZeroU32::MIN);
        Self { each, longest, largest }
    }

    /// The largest of their counts.
    pub(super) const fn largest(&self) -> NonZeroU32 {
        self.largest
    }

    /// The smallest of their counts.
    pub(super) fn smallest(&self) -> NonZeroU32 {
        self.each.iter().map(|bound| bound.rate.count).min().unwrap_or(NonZeroU32::MIN)
    }

    /// Each of them.
    pub fn each(&self) -> &[Bound] {
        &self.each
    }
}

// === impl Margin ===

impl Margin {
    /// A minute, in milliseconds: a longer one is another window.
    pub const MAX_MILLIS: u32 = 60_000;

    /// A margin of this many milliseconds; `None` if it is more than [`MAX_MILLIS`](Self::MAX_MILLIS).
    pub const fn from_millis(millis: u32) -> Option<Self> {
        if millis <= Self::MAX_MILLIS { Some(Self(millis)) } else { None }
    }
}

impl FromStr for Margin {
    type Err = InvalidMargin;

    fn from_str(text: &str) -> Result<Self, InvalidMargin> {
        let whole =
            text.parse::<jiff::SignedDuration>().ok().filter(|long| long.subsec_nanos() % 1_000_000 == 0);
        whole
            .and_then(|long| u32::try_from(long.as_millis()).ok())
            .and_then(Self::from_millis)
            .ok_or_else(|| InvalidMargin { text: text.chars().take(80).collect() })
    }
}

// === impl Cost ===

impl Cost {
    /// What a call costs if nothing else is said.
    pub const ONE: Self = Self(NonZeroU32::MIN);

    /// Each unit of it is a stamp: this many are written in about a microsecond.
    pub const MAX: u32 = 1_000;

    /// A cost; `None` if it is 0 or more than [`MAX`](Self::MAX).
    pub const fn new(cost: u32) -> Option<Self> {
        match NonZeroU32::new(cost) {
            Some(some) if cost <= Self::MAX => Some(Self(some)),
            _ => None,
        }
    }

    /// As how many calls the call counts.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

#[cfg(test)]
mod tests;
