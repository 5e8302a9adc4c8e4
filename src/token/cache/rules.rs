//! What `issuers.toml` says of the cache.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;

use crate::source::{Problems, TomlFile, time_within};

/// How much is kept, and for how long: three keys at the head of `issuers.toml`, each optional.
///
/// ```toml
/// cache_entries = 131072      # tokens that were verified and are remembered, at most
/// cache_size    = "256 MiB"   # what they may take
/// cache_for     = "10m"       # how long one is remembered at most; else for as long as it is valid
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::token) struct CacheRules {
    pub(super) entries: NonZeroU64,
    /// In bytes.
    pub(super) size: NonZeroU64,
    pub(super) keeps_for: Option<Duration>,
}

/// A hundred thousand callers with a token each, and some more, since the shares of the locks fill unevenly.
const DEFAULT_ENTRIES: u64 = 131_072;

/// Some 118,000 tokens of Entra's 1.3 KB, each of which takes 1.9 KB with its caller and counts for 2.3 KB.
const DEFAULT_SIZE: u64 = 256 * MIB;

/// From one caller to all that a machine can hold.
const ENTRIES: [u64; 2] = [1, 16_777_216];

/// From as much as leaves each lock's share, at least 64 KiB, room for any token, to 16 GiB.
const SIZE: [u64; 2] = [MIB, 16 * GIB];

/// A token lives for an hour or a day; one that is kept for less than a second was not worth keeping.
const KEEPS_FOR: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

// === impl CacheRules ===

impl CacheRules {
    /// Takes the three keys out of the head of a file. What is wrong with them becomes a problem.
    pub(in crate::token) fn read(file: &mut TomlFile<'_>, problems: &mut Problems) -> Self {
        let default = Self::default();
        let mut rules = default;
        if let Some(written) = file.value::<i64>("cache_entries", problems) {
            let [least, most] = ENTRIES;
            let entries = u64::try_from(*written.get_ref()).ok().filter(|n| (least..=most).contains(n));
            let message = format_args!("`{}` is not a number from {least} to {most}", written.get_ref());
            rules.entries =
                or(entries.and_then(NonZeroU64::new), default.entries, file, &written, message, problems);
        }
        if let Some(written) = file.value::<String>("cache_size", problems) {
            let message = format_args!("`{}` is not a size from `1 MiB` to `16 GiB`", written.get_ref());
            rules.size = or(size(written.get_ref()), default.size, file, &written, message, problems);
        }
        if let Some(written) = file.value::<String>("cache_for", problems) {
            let message = format_args!("`{}` is not a time from `1s` to `24h`", written.get_ref());
            let time = time_within(written.get_ref(), &KEEPS_FOR).map(Some);
            rules.keeps_for = or(time, None, file, &written, message, problems);
        }
        rules
    }

    /// What they say.
    pub(super) fn facts(self) -> [String; 2] {
        let Self { entries, size, keeps_for } = self;
        let keeps_for = match keeps_for {
            Some(time) => format!("{:#} at most", jiff::SignedDuration::try_from(time).unwrap_or_default()),
            None => "as long as it is valid".to_owned(),
        };
        [
            format!("at most {entries} tokens and {} MiB of them are remembered", size.get() / MIB),
            format!("a token is remembered for {keeps_for}"),
        ]
    }
}

impl Default for CacheRules {
    fn default() -> Self {
        let number = |number| NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN);
        Self { entries: number(DEFAULT_ENTRIES), size: number(DEFAULT_SIZE), keeps_for: None }
    }
}

/// What was read, or a problem and something in its place.
fn or<T, U>(
    read: Option<T>,
    otherwise: T,
    file: &TomlFile<'_>,
    written: &Spanned<U>,
    message: fmt::Arguments<'_>,
    problems: &mut Problems,
) -> T {
    read.unwrap_or_else(|| {
        problems.at(file.source(), written.span(), message);
        otherwise
    })
}

/// A size such as `256 MiB` or `1 GiB`, in bytes.
fn size(text: &str) -> Option<NonZeroU64> {
    let (number, unit) = text.split_once(' ')?;
    let unit = match unit {
        "MiB" => MIB,
        "GiB" => GIB,
        _ => return None,
    };
    let number = number.bytes().all(|byte| byte.is_ascii_digit()).then_some(number)?;
    let bytes = number.parse::<u64>().ok()?.checked_mul(unit)?;
    let [least, most] = SIZE;
    NonZeroU64::new(bytes).filter(|_| (least..=most).contains(&bytes))
}
