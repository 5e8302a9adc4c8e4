//! How old an inventory may be.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::source::time_within;

/// The age from which on an inventory is too old: more than nothing, at most a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MaxAge(Duration);

/// Text that is no such age.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an age such as `36h`, at most `8784h`")]
pub(crate) struct InvalidMaxAge {
    text: String,
}

impl MaxAge {
    /// 366 days: whoever wants more wants none.
    const MAX: Duration = Duration::from_secs(8_784 * 3_600);

    pub(crate) fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for MaxAge {
    type Err = InvalidMaxAge;

    fn from_str(text: &str) -> Result<Self, InvalidMaxAge> {
        time_within(text, &(Duration::from_nanos(1)..=Self::MAX))
            .map(Self)
            .ok_or_else(|| InvalidMaxAge { text: text.into() })
    }
}

impl fmt::Display for MaxAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::SignedDuration::try_from(self.0) {
            Ok(duration) => write!(f, "{duration:#}"),
            Err(_) => write!(f, "{} s", self.0.as_secs()),
        }
    }
}
