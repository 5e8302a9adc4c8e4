//! What a window is measured by: rates with their margins, and what a call costs.

use std::collections::HashMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;
use std::sync::LazyLock;

use crate::limit::sync::Mutex;
use crate::outcome::Rate;

/// One rate as a log keeps it: in any window of this length, at most so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bound {
    /// The rate.
    pub rate: Rate,
    /// The length of its window with its margin, in milliseconds.
    pub(super) millis: u32,
}

/// All bounds of one limit, with what a log must keep for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    pub(super) each: Box<[Bound]>,
    /// The longest of their windows, in milliseconds.
    pub(super) longest: u32,
    /// The largest of their counts.
    pub(super) largest: NonZeroU32,
    /// The same for equal bounds, for as long as the process lives, and never that of others; none for those that came
    /// when all numbers were given out.
    number: Option<NonZeroU16>,
}

/// The bounds that have a number: as many as there are limits that differ, each some 100 bytes. At the most 6 MB, after
/// thousands of reloads that each change a rate.
static NUMBERS: LazyLock<Mutex<HashMap<Box<[Bound]>, NonZeroU16>>> = LazyLock::new(Mutex::default);

/// By how much a window is longer than its rate says, in milliseconds: for the jitter between us and whoever counts too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Margin(u32);

/// Text that is no such margin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a margin such as `250ms`, whole milliseconds, at most `60s`")]
pub struct InvalidMargin {
    text: String,
}

/// As how many calls a call counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(NonZeroU32);

// === impl Bound ===

impl Bound {
    /// A rate whose windows are longer by a margin.
    pub const fn new(rate: Rate, margin: Margin) -> Self {
        // At most 24 days and a minute, which 32 bits hold.
        Self { rate, millis: rate.window.seconds() * 1_000 + margin.0 }
    }

    /// How long its windows are, in milliseconds.
    pub(in crate::limit) const fn millis(self) -> u32 {
        self.millis
    }
}

impl From<Rate> for Bound {
    fn from(rate: Rate) -> Self {
        Self::new(rate, Margin::default())
    }
}

// === impl Bounds ===

impl Bounds {
    /// The bounds of a limit. One without any admits everything.
    pub fn new(each: impl IntoIterator<Item = Bound>) -> Self {
        let each: Box<[Bound]> = each.into_iter().collect();
        let longest = each.iter().map(|bound| bound.millis).max().unwrap_or(0);
        let largest = each.iter().map(|bound| bound.rate.count).max().unwrap_or(NonZeroU32::MIN);
        let number = number(&each);
        Self { each, longest, largest, number }
    }

    /// A number that says which bounds these are, if they have one.
    pub(in crate::limit) const fn number(&self) -> Option<NonZeroU16> {
        self.number
    }

    /// The longest of their windows, in milliseconds.
    pub(in crate::limit) const fn longest_millis(&self) -> u32 {
        self.longest
    }

    /// The largest of their counts.
    pub(in crate::limit) const fn largest(&self) -> NonZeroU32 {
        self.largest
    }

    /// The smallest of their counts.
    pub(in crate::limit) fn smallest(&self) -> NonZeroU32 {
        self.each.iter().map(|bound| bound.rate.count).min().unwrap_or(NonZeroU32::MIN)
    }

    /// Each of them.
    pub fn each(&self) -> &[Bound] {
        &self.each
    }
}

fn number(bounds: &[Bound]) -> Option<NonZeroU16> {
    let mut numbers = NUMBERS.lock();
    if let Some(number) = numbers.get(bounds) {
        return Some(*number);
    }
    let number = u16::try_from(numbers.len() + 1).ok().and_then(NonZeroU16::new)?;
    numbers.insert(bounds.into(), number);
    Some(number)
}

// === impl Margin ===

impl Margin {
    /// A minute, in milliseconds: a longer one is another window.
    pub const MAX_MILLIS: u32 = 60_000;

    /// A margin of this many milliseconds; `None` if it is more than [`MAX_MILLIS`](Self::MAX_MILLIS).
    pub const fn from_millis(millis: u32) -> Option<Self> {
        if millis <= Self::MAX_MILLIS { Some(Self(millis)) } else { None }
    }
}

impl FromStr for Margin {
    type Err = InvalidMargin;

    fn from_str(text: &str) -> Result<Self, InvalidMargin> {
        let whole =
            text.parse::<jiff::SignedDuration>().ok().filter(|long| long.subsec_nanos() % 1_000_000 == 0);
        whole
            .and_then(|long| u32::try_from(long.as_millis()).ok())
            .and_then(Self::from_millis)
            .ok_or_else(|| InvalidMargin { text: text.chars().take(80).collect() })
    }
}

// === impl Cost ===

impl Cost {
    /// What a call costs if nothing else is said.
    pub const ONE: Self = Self(NonZeroU32::MIN);

    /// Each unit of it is a stamp: this many are written in about a microsecond.
    pub const MAX: u32 = 1_000;

    /// A cost; `None` if it is 0 or more than [`MAX`](Self::MAX).
    pub const fn new(cost: u32) -> Option<Self> {
        match NonZeroU32::new(cost) {
            Some(some) if cost <= Self::MAX => Some(Self(some)),
            _ => None,
        }
    }

    /// As how many calls the call counts.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}
