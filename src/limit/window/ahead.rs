//! What of a key lies ahead: moments that are promised to calls that wait, and until when its owner wants a part back.

use std::collections::VecDeque;

use super::Cost;

/// How many stamps may lie ahead of one key: as many as the longest queue there is. Whoever looks for a place may look
/// at each of them, with the key locked, which takes 0.1 ms (measured by `cargo bench -- held`).
pub(in crate::limit) const MAX_AHEAD: usize = 10_000;

/// The side list of a key: 56 bytes, and 8 for each place of the list.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Promised moments in whole milliseconds, soonest first; a call that costs *c* as *c* equal ones.
    stamps: VecDeque<u64>,
    /// How many calls wait for one of them.
    waiting: u32,
    /// Until when nobody but its owner is admitted into this part, in milliseconds.
    wanted: u64,
}

// === impl Ahead ===

impl Ahead {
    pub(super) fn len(&self) -> usize {
        self.stamps.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<u64> {
        self.stamps.get(index).copied()
    }

    pub(super) fn times(&self) -> impl Iterator<Item = u64> {
        self.stamps.iter().copied()
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.stamps.back().copied()
    }

    /// How many stamps are no later than `at`. O(log n).
    pub(super) fn until(&self, at: u64) -> usize {
        self.stamps.partition_point(|stamp| *stamp <= at)
    }

    /// O(n), and at the end, where most come to stand, only the cost.
    pub(super) fn insert(&mut self, at: u64, cost: Cost) {
        let (place, cost) = (self.until(at), cost.get() as usize);
        let behind = self.stamps.len() - place;
        self.stamps.extend(std::iter::repeat_n(at, cost));
        if behind > 0
            && let Some(moved) = self.stamps.make_contiguous().get_mut(place..)
        {
            moved.rotate_right(cost);
        }
    }

    /// Takes out up to so many stamps of this moment, and says how many. O(n).
    pub(super) fn remove(&mut self, at: u64, most: u32) -> u32 {
        let end = self.until(at);
        let start = self.stamps.partition_point(|stamp| *stamp < at).max(end.saturating_sub(most as usize));
        drop(self.stamps.drain(start..end));
        (end - start) as u32
    }

    /// Takes out the soonest moment that has come, with how many stamps it has.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<(u64, usize)> {
        let first = self.stamps.front().copied().filter(|first| *first <= now)?;
        let count = self.until(first);
        drop(self.stamps.drain(..count));
        Some((first, count))
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting
    }

    pub(super) fn begin_wait(&mut self) {
        self.waiting += 1;
    }

    pub(super) fn end_wait(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    pub(super) fn wanted(&self) -> u64 {
        self.wanted
    }

    pub(super) fn want(&mut self, until: u64) {
        self.wanted = self.wanted.max(until);
    }

    /// Whether there is nothing in it to remember.
    pub(super) fn is_over(&self, now: u64) -> bool {
        self.stamps.is_empty() && self.waiting == 0 && self.wanted <= now
    }
}
