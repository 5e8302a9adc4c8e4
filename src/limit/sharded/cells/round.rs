//! The order in which cells are swept, and how a call finds room for its key where there is none.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::sync::Arc;
use super::{Cell, Cells, IDLE_OWNERS, KeyMap};
use crate::limit::store::Swept;
use crate::limit::window::SlidingWindowLog;
use crate::time::{Clock, Steady};

/// Every cell of the map, the next to be swept first.
#[derive(Debug, Default)]
pub(in crate::limit::sharded) struct Round {
    pub(in crate::limit::sharded) cells: VecDeque<Arc<Cell>>,
    /// How many are to be looked at until every one has been since `since`.
    left: usize,
    since: Steady,
    /// When the last whole round began, if there was one.
    last: Option<Steady>,
}

/// How many keys a call looks at when the map is full, to make room for its own. More of them than a call has keys, so
/// that a flood of new callers frees places faster than it takes them.
const FULL_STEP: usize = 64;

/// How many it looks at while none can go: as many as the sweep does in a second. So a key that can go is found by the
/// 62nd call at the latest among a million.
const FULL_SEARCH: usize = 16_384;

/// How long calls look at no more than the next 64 keys, from the beginning of a round in which every key was looked at.
/// So a flood of new callers has every key looked at once a second, and not by each of its calls; a key whose window has
/// passed within that second may be overlooked, and its place is refused to a new one until then.
const FULL_REST: Duration = Duration::from_secs(1);

// === impl Cells ===

impl<M: KeyMap> Cells<M> {
    /// Looks at the next `step` cells, or at all if there are fewer, and removes those whose log has expired.
    pub(in crate::limit) fn sweep(&self, step: usize, clock: &Clock) -> Swept {
        let mut batch = self.round.lock().next(step);
        let visited = batch.len();
        // Read once and before the locks: a reading too old can only keep a cell for another round.
        let now = clock.steady();
        batch.retain(|cell| {
            let mut log = cell.log.lock();
            let expires = log.as_ref().map_or(Steady::default(), SlidingWindowLog::expires);
            // A call that waits or is on its way holds its cells.
            if expires > now || Arc::strong_count(cell) > IDLE_OWNERS {
                return true;
            }
            *log = None;
            drop(log);
            self.take_out(cell);
            false
        });
        let swept = Swept { visited, removed: visited - batch.len() };
        self.round.lock().put_back(batch, swept, now);
        swept
    }

    /// Makes room for a key, if any can be found that no window counts a call of.
    pub(super) fn make_room(&self, clock: &Clock) {
        let mut looked = 0;
        loop {
            let Swept { visited, removed } = self.sweep(FULL_STEP, clock);
            looked += visited;
            let found = removed > 0 || visited == 0;
            if found || looked >= FULL_SEARCH || self.round.lock().rests(clock.steady()) {
                return;
            }
        }
    }
}

// === impl Round ===

impl Round {
    /// A new one comes last.
    pub(in crate::limit::sharded) fn push(&mut self, cell: Arc<Cell>) {
        self.cells.push_back(cell);
        self.left += 1;
    }

    fn next(&mut self, step: usize) -> Vec<Arc<Cell>> {
        let step = step.min(self.cells.len());
        self.cells.drain(..step).collect()
    }

    /// Those that stay, of some that were looked at `now`.
    fn put_back(&mut self, batch: Vec<Arc<Cell>>, swept: Swept, now: Steady) {
        self.cells.extend(batch);
        self.left = self.left.saturating_sub(swept.visited);
        if self.left > 0 {
            return;
        }
        // Also if some of them went: where keys expire one by one, calls would search for ever.
        self.last = Some(self.since);
        (self.left, self.since) = (self.cells.len(), now);
    }

    /// Whether every key has been looked at not long ago.
    fn rests(&self, now: Steady) -> bool {
        self.last.is_some_and(|last| now < last + FULL_REST)
    }
}
