//! The first moment at which a call may be admitted to a key, when moments ahead of it are promised to others.
//!
//! # Why it is exact
//!
//! Let *S* be the stamps of a key, past and promised, soonest first, a call that costs *c* as *c* equal ones. No window
//! of a rate *N* per *W* holds more than *N* of them iff `S[i] + W <= S[i + N]` for every *i*. A call of cost *c* at the
//! moment *t* comes to stand at a place *p* where all of `S[..p]` are at or before *t* and all of `S[p..]` are after it.
//! Of the new pairs *(i, i + N)* those matter that have the call in them or between them, and they ask that
//!
//! - (a) `S[p - (N - c + 1)] + W <= t`, where that exists: the window that ends at *t* holds no more than *N − c*
//!   others. (The pairs that end at one of the call's own stamps; the last of them is the strictest.)
//! - (b) `S[j - (N - c)] + W <= S[j]` for each *j* from *p* on, as long as *j − (N − c)* is before *p*: the windows
//!   that begin before *t* and end at a promised moment after it.
//! - (c) `t + W <= S[p + (N - c)]`, where that exists: the windows that begin at *t*. (The pairs that begin at one of
//!   the call's own stamps; the first is the strictest.)
//!
//! Behind the last stamp only (a) is left, so there always is a moment. Among equal stamps the order means nothing, and
//! with it the place. A set that a reload has made too full is left alone: only windows with the new call are looked at.
//!
//! A past stamp is rounded up, a promised moment is whole milliseconds. So (b) is the same with the exact times: a whole
//! number is no less than a time iff it is no less than the time rounded up. In (a) *now* is rounded down, and in (c) a
//! call that is admitted *now* counts as rounded up, as its stamp will.
//!
//! # How long it takes
//!
//! From one moment to a later one the place only moves on, and so does the last stamp that (b) has looked at. A search
//! goes once over what is promised, however often it is asked: O(queue) for each bound, and what a jump to a later
//! place takes, O(log queue).

use super::{Bound, SlidingWindowLog, whole};
use crate::limit::window::Stamp;

/// The search for the place of one call under one bound. Asked for later and later moments.
#[derive(Debug)]
pub(in crate::limit) struct Search<'a> {
    log: &'a SlidingWindowLog,
    pub(in crate::limit) bound: Bound,
    /// The youngest past stamp.
    youngest: u64,
    /// How many stamps are past, and how many there are in all.
    past: usize,
    total: usize,
    /// *N − c*: how many others any window of the call may hold.
    others: usize,
    /// How the call is stamped if it is admitted at once.
    stamp: u64,
    /// *p*: how many stamps are at or before the moment that was asked for last.
    place: usize,
    /// Up to where (b) was looked at, and the last stamp that fails it.
    seen: usize,
    blocked: Option<usize>,
}

// === impl Search ===

impl<'a> Search<'a> {
    /// A search in a log to which every promised moment that has come was [added](SlidingWindowLog::settle). `stamp` is
    /// how a call that is admitted at once is stamped; `units` is its cost.
    pub(super) fn new(log: &'a SlidingWindowLog, bound: Bound, units: u32, stamp: Stamp) -> Self {
        let past = log.stamps.len();
        let total = past + log.stamps.ahead().map_or(0, super::Ahead::len);
        // A cost is never more than the count: whoever asks sees to it.
        let others = bound.rate.count.get().saturating_sub(units) as usize;
        Self {
            log,
            bound,
            youngest: log.youngest().unwrap_or(0),
            past,
            total,
            others,
            stamp: stamp.0,
            place: past,
            seen: past,
            blocked: None,
        }
    }

    /// The first moment from `from` on, in milliseconds, at which the bound lets the call in. Never asked for an
    /// earlier one than before.
    pub(in crate::limit) fn earliest(&mut self, from: u64) -> u64 {
        let window = u64::from(self.bound.millis);
        let mut at = from;
        loop {
            if self.stamp_at(self.place).is_some_and(|next| next <= at) {
                self.place = self.past + self.log.stamps.ahead().map_or(0, |ahead| ahead.until(at));
                self.seen = self.seen.max(self.place);
            }
            // (b)
            while self.seen < (self.place + self.others).min(self.total) {
                let first = self.seen.checked_sub(self.others).and_then(|first| self.stamp_at(first));
                let last = self.stamp_at(self.seen);
                if first.zip(last).is_some_and(|(first, last)| first + window > last) {
                    self.blocked = Some(self.seen);
                }
                self.seen += 1;
            }
            if let Some(blocked) = self.blocked.filter(|blocked| *blocked >= self.place) {
                at = self.stamp_at(blocked).unwrap_or(at);
                continue;
            }
            // (a)
            let before = self.place.checked_sub(self.others + 1).and_then(|before| self.stamp_at(before));
            if let Some(opens) = before.map(|before| before + window).filter(|opens| *opens > at) {
                at = opens;
                continue;
            }
            // (c)
            let behind = self.stamp_at(self.place + self.others);
            match behind.filter(|behind| at.max(self.stamp) + window > *behind) {
                Some(behind) => at = self.stamp_at(self.place).unwrap_or(behind),
                None => return at,
            }
        }
    }

    /// How many units of `free`, which the past leaves, may be admitted at once and break no promise.
    pub(super) fn most(&self, free: u32) -> u32 {
        let (window, count) = (u64::from(self.bound.millis), self.bound.rate.count.get() as usize);
        let mut free = free as usize;
        for last in self.past..self.total {
            let Some(end) = self.stamp_at(last).filter(|end| self.stamp + window > *end) else { break };
            // With so many more, the window that ends there would have to hold none of those before this stamp.
            let too_many = |free: usize| {
                let first = (last + free).checked_sub(count).and_then(|first| self.stamp_at(first));
                first.is_some_and(|first| first + window > end)
            };
            while free > 0 && too_many(free) {
                free -= 1;
            }
        }
        free as u32
    }

    fn stamp_at(&self, index: usize) -> Option<u64> {
        match index.checked_sub(self.past) {
            None => self.log.stamps.get(index).map(|low| whole(self.youngest, low)),
            Some(ahead) => self.log.stamps.ahead()?.get(ahead),
        }
    }
}

#[cfg(test)]
mod tests;
