//! Why a call was not admitted, and when it is worth another try.

use std::time::Duration;

use crate::id::LimitName;
use crate::limit::decision::Refused;
use crate::limit::open::{NoSlot, OpenQuota};
use crate::limit::quota::Quota;
use crate::limit::window::Full;
use crate::outcome::Rate;
use crate::time::Steady;

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
    /// As many actions are under way as a limit lets be at once.
    OpenActions {
        /// The limit.
        quota: &'a OpenQuota,
        /// When it is worth another try: a minute at most. No promise, since nobody knows when an action ends.
        retry_after: RetryAfter,
    },
    /// The call may not be admitted [yet](crate::limit::Charges::not_before), and is not held for so long.
    Closed {
        /// When it may be, and every limit of it has room, if nobody else is admitted.
        retry_after: RetryAfter,
    },
    /// The call needs a key that nobody used in the last window, and the limiter holds as many as it may.
    KeysFull {
        /// When it is worth another try; no promise, since it depends on the other callers.
        retry_after: RetryAfter,
    },
    /// The call's turn would be after the end of the process.
    Ended,
    /// What the policy wants to be written before the call is forwarded can't be.
    Unwritten {
        /// When it is worth another try; no promise, since it depends on the disk.
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
    /// As many actions are under way as a limit lets be at once.
    #[error("as many actions are under way as `{limit}` lets be at once")]
    OpenActions {
        /// Its name.
        limit: LimitName,
        /// When it is worth another try: a minute at most. No promise, since nobody knows when an action ends.
        retry_after: RetryAfter,
    },
    /// The call may not be admitted [yet](crate::limit::Charges::not_before), and is not held for so long.
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
    /// The call's turn would be after the end of the process.
    #[error("the gateway is shutting down before the call's turn comes")]
    Ended,
    /// What the policy wants to be written before the call is forwarded can't be.
    #[error("the store of the limits cannot be used")]
    Unwritten {
        /// When it is worth another try; no promise, since it depends on the disk.
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
pub struct RetryAfter(pub(super) u64);

/// How long a caller without a key is sent away: ten steps of the sweep, which look at 160,000 keys.
const KEYS_FULL_RETRY: RetryAfter = RetryAfter(10_000_000_000);

/// How long a caller is sent away when the store can't be used: the journal tries its disk again once a second.
pub(super) const STORE_RETRY: RetryAfter = RetryAfter(1_000_000_000);

/// How long a caller is sent away whose limit has as many calls on their way as may be: one of them may end at any time.
const IN_FLIGHT_RETRY: RetryAfter = RetryAfter(1_000_000_000);

// === impl Refusal ===

impl<'a> From<Refused<'a>> for Refusal<'a> {
    fn from(refused: Refused<'a>) -> Self {
        match refused {
            Refused::Over(quota, Full { rate, opens }, now) => {
                Self::Over { quota, rate, retry_after: RetryAfter::until(opens, now) }
            }
            Refused::InFlight(quota) => Self::InFlight { quota, retry_after: IN_FLIGHT_RETRY },
            Refused::Closed(opens, now) => Self::Closed { retry_after: RetryAfter::until(opens, now) },
            Refused::Ended => Self::Ended,
            Refused::NoCell => Self::KeysFull { retry_after: KEYS_FULL_RETRY },
        }
    }
}

impl<'a> From<NoSlot<'a>> for Refusal<'a> {
    fn from(none: NoSlot<'a>) -> Self {
        match none {
            NoSlot::Full(quota, retry_after) => Self::OpenActions { quota, retry_after },
            NoSlot::Memory => Self::KeysFull { retry_after: KEYS_FULL_RETRY },
        }
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
            Refusal::OpenActions { quota, retry_after } => {
                Self::OpenActions { limit: quota.name.clone(), retry_after }
            }
            Refusal::Closed { retry_after } => Self::Closed { retry_after },
            Refusal::Ended => Self::Ended,
            Refusal::KeysFull { retry_after } => Self::KeysFull { retry_after },
            Refusal::Unwritten { retry_after } => Self::Unwritten { retry_after },
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
