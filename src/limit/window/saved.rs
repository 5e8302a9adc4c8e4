//! A log as it is written down, and made again from what was written.

use std::num::NonZeroU32;

use super::{Ahead, SlidingWindowLog, whole};

/// What a log keeps its times for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::limit) struct Kept {
    /// The longest window seen, in milliseconds.
    pub(in crate::limit) longest: u32,
    /// The largest count seen.
    pub(in crate::limit) largest: NonZeroU32,
}

// === impl SlidingWindowLog ===

impl SlidingWindowLog {
    /// The log of these times, oldest first, of which no more are kept than it needs.
    pub(in crate::limit) fn restored(kept: Kept, stamps: &[u64]) -> Self {
        let mut log = Self { longest: kept.longest, largest: kept.largest, ..Self::default() };
        let largest = kept.largest.get() as usize;
        let needed = stamps.get(stamps.len().saturating_sub(largest)..).unwrap_or_default();
        needed.iter().for_each(|stamp| log.stamps.push(*stamp as u32, 1, largest));
        log.high = needed.last().map_or(0, |youngest| (youngest >> 32) as u32);
        log
    }

    /// What it keeps its times for.
    pub(in crate::limit) fn kept(&self) -> Kept {
        Kept { longest: self.longest, largest: self.largest }
    }

    /// Its times in milliseconds, oldest first, and behind them what is promised to calls that wait.
    pub(in crate::limit) fn times(&self) -> impl Iterator<Item = u64> {
        let youngest = self.youngest().unwrap_or(0);
        let ring = (0..self.stamps.len()).filter_map(|index| self.stamps.get(index));
        let ring = ring.map(move |low| whole(youngest, low));
        ring.chain(self.stamps.ahead().into_iter().flat_map(Ahead::times))
    }
}
