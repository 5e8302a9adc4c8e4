//! The service's own limits: per tenant, application and call, in fixed windows.

use std::collections::HashMap;

use http::StatusCode;

use crate::id::{ApplicationId, TenantId};
use crate::sandbox::api::call::Operation;
use crate::sandbox::api::caller::ApiCaller;
use crate::sandbox::api::reply::ServiceError;
use crate::time::Steady;

/// Whether the service's own limits hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiLimits {
    /// The documented ones: 100 a minute and 1500 an hour, for `getPackageUri` 2 and 120, for live response 10 a minute
    /// and 25 sessions at a time.
    Documented,
    /// None, for load tests of what stands in front.
    Off,
}

/// So many in each window of such a length.
#[derive(Debug, Clone, Copy)]
struct Limit {
    count: u32,
    seconds: u64,
}

type Key = (TenantId, ApplicationId, Operation);

/// The counters. What shape the service's windows have is not documented; its messages are those of a family of
/// throttlers with fixed windows that do not count what they refuse.
#[derive(Debug, Default)]
pub(crate) struct FixedWindows {
    counts: HashMap<Key, [Count; 2]>,
}

/// How many a window has seen.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    /// The window's number since the origin of the clock.
    window: u64,
    count: u32,
}

// === impl FixedWindows ===

impl FixedWindows {
    /// Tokens are not verified, so anyone can invent applications: past this many keys (6 calls of 1,700
    /// applications, 1 MB) the stand-in forgets and counts anew.
    pub(crate) const MAX_KEYS: usize = 10_000;

    /// Counts a call, or says until when it may not be made.
    ///
    /// # Errors
    ///
    /// 429 with `Retry-After`; its code is the number that the service was seen to send.
    pub(crate) fn charge(
        &mut self,
        caller: &ApiCaller,
        operation: Operation,
        now: Steady,
    ) -> Result<(), ServiceError> {
        if self.counts.len() >= Self::MAX_KEYS {
            self.counts.clear();
        }
        let counts = self.counts.entry((caller.tenant, caller.application, operation)).or_default();
        let limits = limits(operation);
        for (count, limit) in counts.iter_mut().zip(limits) {
            let window = now.as_nanos() / limit.nanos();
            if count.window != window {
                *count = Count { window, count: 0 };
            }
            if count.count >= limit.count {
                return Err(limit.exceeded(now));
            }
        }
        for count in counts {
            count.count += 1;
        }
        Ok(())
    }
}

// === impl Limit ===

impl Limit {
    const fn nanos(self) -> u64 {
        self.seconds * 1_000_000_000
    }

    fn exceeded(self, now: Steady) -> ServiceError {
        let length = format!("{:02}:{:02}:00", self.seconds / 3_600, self.seconds / 60 % 60);
        let message = format!("API calls quota exceeded! maximum allowed {} per {length}", self.count);
        let left = self.nanos() - now.as_nanos() % self.nanos();
        ServiceError {
            retry_after: Some(std::time::Duration::from_nanos(left)),
            ..ServiceError::new(StatusCode::TOO_MANY_REQUESTS, "429", message)
        }
    }
}

/// A minute's and an hour's limit, as the pages of the calls give them.
const fn limits(operation: Operation) -> [Limit; 2] {
    let (minute, hour) = match operation {
        Operation::PackageUri => (2, 120),
        // No hourly limit is documented: ten a minute are six hundred.
        Operation::LiveResponse => (10, 600),
        Operation::Collect
        | Operation::Machine
        | Operation::Machines
        | Operation::Action
        | Operation::Actions => (100, 1_500),
    };
    [Limit { count: minute, seconds: 60 }, Limit { count: hour, seconds: 3_600 }]
}
