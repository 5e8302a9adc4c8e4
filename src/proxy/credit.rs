//! How much longer a client may keep us waiting.

use std::time::Duration;

use super::bounds::Bounds;
use crate::time::{Clock, Steady};

/// It begins with [`Bounds::patience`]. Waiting uses it up, and what is given or taken earns it back at
/// [`Bounds::min_rate`], up to where it began.
#[derive(Debug)]
pub(super) struct Credit {
    left: Duration,
    /// Since when we wait.
    since: Option<Steady>,
}

impl Credit {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self { left: bounds.patience, since: None }
    }

    /// The client keeps us waiting, if it did not before.
    pub(super) fn wait(&mut self, clock: &Clock) {
        self.since.get_or_insert_with(|| clock.steady());
    }

    /// The client gave or took so many bytes, and we do not wait any more.
    pub(super) fn moved(&mut self, bytes: usize, clock: &Clock, bounds: &Bounds) {
        // Whoever never kept us waiting has all the credit there is.
        if self.since.is_some() {
            self.left = self.left(clock);
            self.since = None;
        }
        if self.left < bounds.patience {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let earned = Duration::from_secs(1).saturating_mul(bytes) / bounds.min_rate.get();
            self.left = bounds.patience.min(self.left + earned);
        }
    }

    /// What is left of it.
    pub(super) fn left(&self, clock: &Clock) -> Duration {
        let waited = self.since.map_or(Duration::ZERO, |since| clock.steady().since(since));
        self.left.saturating_sub(waited)
    }
}
