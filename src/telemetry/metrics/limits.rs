//! What the limits show: how much they hold, who waits, and what the API itself has closed.

use super::{Metrics, as_gauge};
use crate::id::{LimitName, OperationId};

// === impl Metrics ===

impl Metrics {
    /// Shows how many keys the limiter holds.
    pub fn limiter_keys(&self, keys: usize) {
        self.0.families.limiter_keys.set(as_gauge(keys));
    }

    /// Shows how many calls wait for their turn.
    pub fn held_requests(&self, calls: usize) {
        self.0.families.held.set(as_gauge(calls));
    }

    /// Counts a call that the API itself turned away. `said` is a word of the caller's source.
    pub fn upstream_limited(&self, operation: &OperationId, said: &'static str) {
        self.0.families.upstream_limited.with_label_values(&[operation.as_str(), said]).inc();
    }

    /// Shows how many operations the API has closed, each to one application.
    pub fn upstream_closed(&self, lanes: usize) {
        self.0.families.upstream_closed.set(as_gauge(lanes));
    }

    /// Shows how many actions are under way, by the limit that counts them; those of no other are shown any more.
    pub fn open_actions(&self, counts: impl IntoIterator<Item = (LimitName, usize)>) {
        let _scrape = self.0.loaded.lock();
        let gauges = &self.0.families.open_actions;
        gauges.reset();
        for (limit, count) in counts {
            gauges.with_label_values(&[limit.as_str()]).set(as_gauge(count));
        }
    }
}
