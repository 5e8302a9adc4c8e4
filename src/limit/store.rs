//! The limiter, and what any store behind it must promise.
//!
//! # The contract
//!
//! 1. *Exact.* A call admitted at the time *t* leaves every window of every quota that it was charged to with at most
//!    *N* calls admitted in *(t − W, t]*. No call is refused that an unrounded log would have admitted 2 ms before.
//! 2. *All or nothing.* A call is charged to every one of its keys or to none, in one step: no other call sees some of
//!    its charges and not the others.
//! 3. *A refusal is free.* A refused call is counted nowhere, and says when its caller alone would be admitted.
//! 4. *Late readings.* The clock is read once for each attempt, when nothing else can be admitted to its keys any more.
//! 5. *Given back.* An [`Admission`] that is dropped before it was [`forwarded`](Admission::forwarded) was never there.
//! 6. *Kept.* A key with a call that a window still counts is never forgotten, not to make room for another either.
//!    What is written under one version of a limit is counted under the next, whatever became of its *N* and *W*.

use std::time::Duration;

use crate::id::LimitName;
use crate::limit::quota::Charges;
use crate::limit::sharded::{Charged, ShardedStore};
use crate::outcome::{Rate, Standings};
use crate::time::Clock;

/// What was admitted, for every key: one for the process, older than any policy and younger than none.
#[derive(Debug, Default)]
pub struct Limiter {
    store: ShardedStore,
}

/// The leave to forward one call. Dropped before [`forwarded`](Self::forwarded), it gives every charge back.
#[derive(Debug)]
#[must_use = "dropped, an admission gives its charges back"]
pub struct Admission {
    pub(super) charged: Charged,
    pub(super) standings: Standings,
}

/// Why a call was not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// A limit has no room.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// The call needs a key that nobody used in the last window, and the limiter holds as many as it may.
    #[error("the limiter holds as many keys as it may")]
    KeysFull {
        /// When it is worth another try; no promise, since it depends on the other callers.
        retry_after: RetryAfter,
    },
}

/// The limit that has no room for the longest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("API calls quota exceeded! maximum allowed {rate}")]
pub struct OverLimit {
    /// Its name.
    pub limit: LimitName,
    /// The one of its rates that is full for the longest.
    pub rate: Rate,
    /// When every limit of the call has room, if nobody else is admitted.
    pub retry_after: RetryAfter,
    /// How all the call's limits stand.
    pub standings: Standings,
}

/// How long a caller has to wait: exact inside, whole seconds outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RetryAfter(Duration);

/// What one step of sweeping did, in keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// How many were looked at.
    pub visited: usize,
    /// How many of them were removed.
    pub removed: usize,
}

/// How many keys one call of [`Limiter::sweep`] looks at: called once a second, it sees a million keys a minute.
const SWEEP_STEP: usize = 16_384;

// === impl Limiter ===

impl Limiter {
    /// A limiter that has admitted nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Charges a call to all its keys, or to none if one of them has no room. A call that nothing limits is admitted.
    pub async fn acquire(&self, charges: &Charges<'_>, clock: &Clock) -> Result<Admission, LimitError> {
        self.store.acquire(charges, clock)
    }

    /// How many keys it holds.
    pub fn keys(&self) -> usize {
        self.store.keys()
    }

    /// Looks at the next 16,384 keys, or at all if there are fewer, and removes those that no window counts
    /// a call of. To be called once a second.
    pub fn sweep(&self, clock: &Clock) -> Swept {
        self.store.sweep(SWEEP_STEP, clock)
    }
}

// === impl Admission ===

impl Admission {
    /// How the call's limits stand with this call in them: one for each limit and window.
    pub fn standings(&self) -> &Standings {
        &self.standings
    }

    /// The upstream has the first byte of the request: the charges stay, whatever becomes of it.
    pub fn forwarded(&mut self) {
        self.charged.keep();
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.charged.give_back();
    }
}

// === impl RetryAfter ===

impl RetryAfter {
    /// A wait of this length.
    pub const fn new(wait: Duration) -> Self {
        Self(wait)
    }

    /// The exact wait: a call is admitted after it, and one nanosecond before it is not.
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// The wait as `Retry-After` says it: whole seconds rounded up, never 0.
    pub const fn as_secs_rounded_up(self) -> u64 {
        let seconds = self.0.as_secs().saturating_add((self.0.subsec_nanos() > 0) as u64);
        if seconds == 0 { 1 } else { seconds }
    }
}

#[cfg(test)]
mod tests;
