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

use smallvec::SmallVec;

use crate::id::LimitName;
use crate::limit::quota::{Charges, Places, Quota, Visibility};
use crate::limit::sharded::{Charged, Granted, Refused, ShardedStore};
use crate::limit::window::Full;
use crate::outcome::{Rate, Standing, Standings};
use crate::time::{Clock, Steady};

/// What was admitted, for every key: one for the process, older than any policy and younger than none.
#[derive(Debug, Default)]
pub struct Limiter {
    store: ShardedStore,
}

/// The leave to forward one call. Dropped before [`forwarded`](Self::forwarded), it gives every charge back.
#[derive(Debug)]
#[must_use = "dropped, an admission gives its charges back"]
pub struct Admission {
    charged: Charged,
    overrun: Places,
}

/// Limits by their names.
pub type Names = SmallVec<[LimitName; 1]>;

/// Why a call was not admitted, in the words of the set that it was decided by: cheap to make and to throw away.
#[derive(Debug, Clone, Copy)]
pub enum Refusal<'a> {
    /// A limit has no room: the one that has none for the longest.
    Over {
        /// The limit.
        quota: &'a Quota,
        /// The one of its rates that is full for the longest.
        rate: Rate,
        /// When every limit of the call has room, if nobody else is admitted.
        retry_after: RetryAfter,
    },
    /// As many calls of a limit are on their way as may be at once.
    InFlight {
        /// The limit.
        quota: &'a Quota,
        /// When it is worth another try; no promise, since it depends on how long the others take.
        retry_after: RetryAfter,
    },
    /// The call may not be admitted [yet](Charges::not_before), and is not held for so long.
    Closed {
        /// When it may be, and every limit of it has room, if nobody else is admitted.
        retry_after: RetryAfter,
    },
    /// The call needs a key that nobody used in the last window, and the limiter holds as many as it may.
    KeysFull {
        /// When it is worth another try; no promise, since it depends on the other callers.
        retry_after: RetryAfter,
    },
}

/// Why a call was not admitted, on its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// A limit has no room.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// As many calls of a limit are on their way as may be at once.
    #[error("as many calls are on their way as `{limit}` lets be at once")]
    InFlight {
        /// Its name.
        limit: LimitName,
        /// When it is worth another try; no promise, since it depends on how long the others take.
        retry_after: RetryAfter,
    },
    /// The call may not be admitted [yet](Charges::not_before), and is not held for so long.
    #[error("the API takes no such call for now")]
    Closed {
        /// When it may be, and every limit of it has room, if nobody else is admitted.
        retry_after: RetryAfter,
    },
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
}

/// How long a caller has to wait, in nanoseconds: exact inside, whole seconds outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RetryAfter(u64);

/// What one step of sweeping did, in keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// How many were looked at.
    pub visited: usize,
    /// How many of them were removed.
    pub removed: usize,
}

/// How long a caller without a key is sent away: ten steps of the sweep, which look at 160,000 keys.
const KEYS_FULL_RETRY: RetryAfter = RetryAfter(10_000_000_000);

/// How many keys one call of [`Limiter::sweep`] looks at: called once a second, it sees a million keys a minute.
const SWEEP_STEP: usize = 16_384;

// === impl Limiter ===

impl Limiter {
    /// A limiter that has admitted nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Charges a call to all its keys, or to none if one of them has no room. A call that nothing limits is admitted.
    pub async fn acquire<'a>(&self, charges: &Charges<'a>, clock: &Clock) -> Result<Admission, Refusal<'a>> {
        if charges.from > Steady::default() {
            let now = clock.steady();
            if charges.from > now {
                return Err(Refusal::Closed { retry_after: RetryAfter::until(charges.from, now) });
            }
        }
        match self.store.acquire(charges, clock) {
            Ok(Granted { charged, overrun }) => Ok(Admission { charged, overrun }),
            Err(Refused::Over(quota, Full { rate, opens }, now)) => {
                Err(Refusal::Over { quota, rate, retry_after: RetryAfter::until(opens, now) })
            }
            Err(Refused::NoCell) => Err(Refusal::KeysFull { retry_after: KEYS_FULL_RETRY }),
        }
    }

    /// How the limits of a call stand now: one for each limit and window that has counted somebody. After `acquire`
    /// they count the call itself, and whoever was quicker.
    pub fn standings(&self, charges: &Charges<'_>, clock: &Clock) -> Standings {
        let mut standings = Standings::new();
        self.store.usages(charges, clock, |quota, bound, usage| {
            standings.push(Standing {
                limit: quota.name.clone(),
                rate: bound.rate,
                remaining: usage.remaining,
                grows_in: usage.grows_in,
                shown: quota.visibility == Visibility::Shown,
            });
        });
        standings
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
    /// The limits among those of `charges`, for which it was acquired, that would have refused the call if they were
    /// enforced.
    pub fn overrun(&self, charges: &Charges<'_>) -> Names {
        charges.names(self.overrun)
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

// === impl LimitError ===

impl From<Refusal<'_>> for LimitError {
    fn from(refusal: Refusal<'_>) -> Self {
        match refusal {
            Refusal::Over { quota, rate, retry_after } => {
                Self::OverLimit(OverLimit { limit: quota.name.clone(), rate, retry_after })
            }
            Refusal::InFlight { quota, retry_after } => {
                Self::InFlight { limit: quota.name.clone(), retry_after }
            }
            Refusal::Closed { retry_after } => Self::Closed { retry_after },
            Refusal::KeysFull { retry_after } => Self::KeysFull { retry_after },
        }
    }
}

// === impl RetryAfter ===

impl RetryAfter {
    /// The wait from `now` until then; none if that has passed.
    pub const fn until(then: Steady, now: Steady) -> Self {
        Self(then.as_nanos().saturating_sub(now.as_nanos()))
    }

    /// The exact wait: a call is admitted after it, and one nanosecond before it is not.
    pub const fn duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// The wait as `Retry-After` says it: whole seconds rounded up, never 0.
    pub const fn as_secs_rounded_up(self) -> u64 {
        let seconds = self.0.div_ceil(1_000_000_000);
        if seconds == 0 { 1 } else { seconds }
    }
}

#[cfg(test)]
mod tests;
