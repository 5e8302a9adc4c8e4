//! How many calls there are at once, so that those on top can be refused at once.
//!
//! A call is counted while it may cost others something: a check, or the API's time. One that is refused is not counted
//! any more when its answer is written, which a client may draw out for as long as it likes. One that waits to know which
//! process decides, or that another process decides, is counted too, but among its own: it costs no check, and a file in
//! each process. There may be as many of these, beside those that were let in before it was known that they are.
//!
//! What can go wrong: one that is refused is counted until it knows, some nanoseconds later, and another that comes just
//! then, when there is room again, is refused too. There are never more than the bound, but for calls that were let
//! in before.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::denial::Denial;

/// The calls that count.
#[derive(Debug, Default)]
pub struct Load(AtomicUsize);

/// One of them, for as long as this lives.
#[derive(Debug)]
#[must_use = "the call counts only while this lives"]
pub(super) struct Burden(Arc<Load>);

// === impl Load ===

impl Load {
    /// Counts a call, if there are fewer than `most` beside those that are `held`: these take memory, and neither time nor
    /// a place at the upstream.
    ///
    /// # Errors
    /// [`Denial::Overload`].
    pub(super) fn add(self: &Arc<Self>, most: usize, held: impl FnOnce() -> usize) -> Result<Burden, Denial> {
        let count = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        let burden = Burden(self.clone());
        if count > most && count.saturating_sub(held()) > most { Err(Denial::Overload) } else { Ok(burden) }
    }

    /// Counts a call that was let in before, however many there are.
    pub(super) fn add_one_more(self: &Arc<Self>) -> Burden {
        self.0.fetch_add(1, Ordering::Relaxed);
        Burden(self.clone())
    }
}

// === impl Burden ===

impl Drop for Burden {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_calls_are_taken_on_as_may_be_beside_those_that_are_held() {
        let load = Arc::<Load>::default();
        let first = load.add(2, || 0).unwrap();
        let second = load.add(2, || 0).unwrap();
        assert_eq!(load.add(2, || 0).unwrap_err(), Denial::Overload);
        let third = load.add(2, || 1).unwrap();
        let fourth = load.add_one_more();
        assert_eq!(load.add(2, || 2).unwrap_err(), Denial::Overload);
        drop((first, second, third));
        let fifth = load.add(2, || 0).unwrap();
        drop((fourth, fifth));
        assert_eq!(load.0.load(Ordering::Relaxed), 0, "a call that is refused is not counted");
    }
}
