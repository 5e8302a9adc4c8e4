//! Windows as they are written down: what a journal holds of them, and what passes from process to process.
//!
//! A record is a byte that says what it is, and then, numbers being little-endian:
//!
//! | byte | record | what follows |
//! |---|---|---|
//! | 1 | a process begins | the boot's id (16 bytes), an anchor |
//! | 2 | an anchor | the steady and the calendar's milliseconds at one moment (8 bytes each) |
//! | 3 | a rule | JSON: its number and what it is |
//! | 4 | a device group | JSON: its number and its name |
//! | 5 | an admission | its number (6), its time (6), its cost (2), its key |
//! | 6 | an admission given back | the same, with a number of its own |
//! | 7 | a key | the last number that it counts (6), its longest window (4) and largest count (4), the length of the key (1), the key, times |
//! | 8 | more of that key | the length of the key (1), the key, times |
//! | 9 | a lent part that its owner wants back | until when (6), its key |
//!
//! Times are steady milliseconds: the first in 6 bytes, of each other what it is later, in 4. A key is its ids as in
//! memory, and ends in the rule's number. So an admission takes 23 bytes with the frame, and those of the key: 59 for a
//! limit per tenant and application, 75 per user of these.

use crate::limit::key::names::{NamedGroup, NamedRule};
use crate::limit::window::Kept;
use crate::time::{BootId, Steady, Wall};

mod replay;

pub use replay::KeptBefore;
pub(super) use replay::{Replay, Restored};

/// What is written down, and read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Session { boot: BootId, anchor: Anchor },
    Anchor(Anchor),
    Rule(NamedRule),
    Group(NamedGroup),
    Admitted(Entry<'a>),
    GivenBack(Entry<'a>),
    Held { number: u64, kept: Kept, key: &'a [u8], times: Vec<u64> },
    HeldMore { key: &'a [u8], times: Vec<u64> },
    Wanted { until: u64, key: &'a [u8] },
}

/// One admission at one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// Drawn under the key's lock, so that the numbers of a key are in the order of its log.
    pub(super) number: u64,
    pub(super) stamp: u64,
    pub(super) cost: u16,
    pub(super) key: &'a [u8],
}

/// The two clocks at one moment, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) steady: u64,
    /// Since 1970.
    pub(super) wall: u64,
}

/// A buffer for an admission: the largest key has 77 bytes.
pub(super) type Buffer = smallvec::SmallVec<[u8; 96]>;

const SESSION: u8 = 1;
const ANCHOR: u8 = 2;
const RULE: u8 = 3;
const GROUP: u8 = 4;
const ADMITTED: u8 = 5;
const GIVEN_BACK: u8 = 6;
const HELD: u8 = 7;
const HELD_MORE: u8 = 8;
const WANTED: u8 = 9;

/// Times in one record: they take 60 of the 64 KiB that a record may have.
const TIMES: usize = 15_000;

// === impl Anchor ===

impl Anchor {
    pub(super) fn new(steady: Steady, wall: Wall) -> Self {
        let wall = u64::try_from(wall.since(Wall::default()).as_millis()).unwrap_or(u64::MAX);
        Self { steady: steady.millis_down(), wall }
    }

    fn write(self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.steady.to_le_bytes());
        to.extend_from_slice(&self.wall.to_le_bytes());
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let steady = u64::from_le_bytes(*take(from)?);
        Some(Self { steady, wall: u64::from_le_bytes(*take(from)?) })
    }
}

// === impl Entry ===

impl Entry<'_> {
    fn write(&self, kind: u8) -> Buffer {
        let mut to = Buffer::new();
        to.push(kind);
        to.extend_from_slice(&short(self.number));
        to.extend_from_slice(&short(self.stamp));
        to.extend_from_slice(&self.cost.to_le_bytes());
        to.extend_from_slice(self.key);
        to
    }

    pub(super) fn admitted(&self) -> Buffer {
        self.write(ADMITTED)
    }

    pub(super) fn given_back(&self) -> Buffer {
        self.write(GIVEN_BACK)
    }
}

// === impl Record ===

/// Hands each record of a key to `put`: more than one if it has more than 15,000 times.
pub(super) fn write_key(number: u64, kept: Kept, key: &[u8], times: &[u64], put: &mut dyn FnMut(&[u8])) {
    let mut record = vec![HELD];
    record.extend_from_slice(&short(number));
    record.extend_from_slice(&kept.longest.to_le_bytes());
    record.extend_from_slice(&kept.largest.get().to_le_bytes());
    for chunk in times.chunks(TIMES) {
        record.push(key.len() as u8);
        record.extend_from_slice(key);
        let mut before: Option<&u64> = None;
        for time in chunk {
            match before {
                None => record.extend_from_slice(&short(*time)),
                // Less than the longest window, and 32 bits hold more.
                Some(before) => {
                    record.extend_from_slice(&(time.saturating_sub(*before) as u32).to_le_bytes())
                }
            }
            before = Some(time);
        }
        put(&record);
        record.clear();
        record.push(HELD_MORE);
    }
}

/// Until when a part is wanted back, as it is written down: a caller that is refused again and again writes no more than once
/// a second, as long as each record is whole seconds. A process that reads it keeps others out for as much longer at most.
pub(super) fn in_whole_seconds(until: u64) -> u64 {
    until.div_ceil(1_000) * 1_000
}

/// A part that nobody but its owner is admitted into until then, in steady milliseconds.
pub(super) fn write_wanted(until: u64, key: &[u8]) -> Buffer {
    let mut to = Buffer::new();
    to.push(WANTED);
    to.extend_from_slice(&short(until));
    to.extend_from_slice(key);
    to
}

pub(super) fn write_session(boot: BootId, anchor: Anchor) -> Vec<u8> {
    let mut record = vec![SESSION];
    record.extend_from_slice(boot.as_bytes());
    anchor.write(&mut record);
    record
}

pub(super) fn write_anchor(anchor: Anchor) -> Vec<u8> {
    let mut record = vec![ANCHOR];
    anchor.write(&mut record);
    record
}

pub(super) fn write_rule(rule: &NamedRule) -> Vec<u8> {
    // Names and numbers can always be written.
    [vec![RULE], serde_json::to_vec(rule).unwrap_or_default()].concat()
}

pub(super) fn write_group(group: &NamedGroup) -> Vec<u8> {
    [vec![GROUP], serde_json::to_vec(group).unwrap_or_default()].concat()
}

impl<'a> Record<'a> {
    /// None if it is no record of this version.
    pub(super) fn read(record: &'a [u8]) -> Option<Self> {
        let (kind, mut from) = record.split_first()?;
        Some(match *kind {
            SESSION => {
                let boot = BootId::from_bytes(*take(&mut from)?);
                Self::Session { boot, anchor: Anchor::read(&mut from)? }
            }
            ANCHOR => Self::Anchor(Anchor::read(&mut from)?),
            RULE => Self::Rule(serde_json::from_slice(from).ok()?),
            GROUP => Self::Group(serde_json::from_slice(from).ok()?),
            ADMITTED => Self::Admitted(entry(from)?),
            GIVEN_BACK => Self::GivenBack(entry(from)?),
            HELD => {
                let number = long(*take(&mut from)?);
                let longest = u32::from_le_bytes(*take(&mut from)?);
                let largest = u32::from_le_bytes(*take(&mut from)?).try_into().ok()?;
                let (key, times) = key_and_times(from)?;
                Self::Held { number, kept: Kept { longest, largest }, key, times }
            }
            HELD_MORE => {
                let (key, times) = key_and_times(from)?;
                Self::HeldMore { key, times }
            }
            WANTED => Self::Wanted { until: long(*take(&mut from)?), key: from },
            _ => return None,
        })
    }
}

fn entry(mut from: &[u8]) -> Option<Entry<'_>> {
    let (number, stamp) = (long(*take(&mut from)?), long(*take(&mut from)?));
    let cost = u16::from_le_bytes(*take(&mut from)?);
    Some(Entry { number, stamp, cost, key: from })
}

fn key_and_times(mut from: &[u8]) -> Option<(&[u8], Vec<u64>)> {
    let [length] = *take(&mut from)?;
    let (key, mut from) = from.split_at_checked(length.into())?;
    let mut time = long(*take(&mut from)?);
    let mut times = vec![time];
    while !from.is_empty() {
        time += u64::from(u32::from_le_bytes(*take(&mut from)?));
        times.push(time);
    }
    Some((key, times))
}

fn take<'a, const N: usize>(from: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(taken)
}

/// The lower six bytes: enough for 8,900 years of milliseconds, and for a million admissions a second over nine years.
fn short(number: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, ..] = number.to_le_bytes();
    [a, b, c, d, e, f]
}

fn long([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

#[cfg(test)]
mod tests;
