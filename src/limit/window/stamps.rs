//! Where the stamps of a log lie: three in the log itself, as most keys never hold more, and more in a ring of their own.

use std::collections::VecDeque;
use std::ops::Range;

/// How many stamps need no memory of their own: as many as fit beside the ring's pointer.
const FEW: usize = 3;

/// The lower 32 bits of stamps, oldest first. 16 bytes, and from the fourth stamp on 32 and 4 for each place of the ring.
#[derive(Debug)]
pub(super) enum Stamps {
    /// The first `len` of the array.
    Few { len: u8, stamps: [u32; FEW] },
    #[expect(clippy::box_collection, reason = "it would make every log 16 bytes larger, and few have a ring")]
    Many(Box<VecDeque<u32>>),
}

// === impl Stamps ===

impl Stamps {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few { len, .. } => usize::from(*len),
            Self::Many(ring) => ring.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<u32> {
        match self {
            Self::Few { len, stamps } if index < usize::from(*len) => stamps.get(index).copied(),
            Self::Few { .. } => None,
            Self::Many(ring) => ring.get(index).copied(),
        }
    }

    /// The stamp that has so many younger ones.
    pub(super) fn nth_last(&self, younger: usize) -> Option<u32> {
        match self {
            Self::Few { len, stamps } => {
                stamps.get(..usize::from(*len)).and_then(|held| held.iter().rev().nth(younger)).copied()
            }
            Self::Many(ring) => ring.get(ring.len().checked_sub(younger)?.checked_sub(1)?).copied(),
        }
    }

    /// Appends `count` stamps of one value. The ring grows to the next power of two, but to no more than `most`, which
    /// is no less than what it is to hold.
    pub(super) fn push(&mut self, low: u32, count: usize, most: usize) {
        let needed = self.len() + count;
        match self {
            Self::Few { len, stamps } if needed <= FEW => {
                let places = stamps.iter_mut().skip(usize::from(*len)).take(count);
                places.for_each(|place| *place = low);
                *len += count as u8;
            }
            Self::Few { len, stamps } => {
                let mut ring = VecDeque::with_capacity(room(needed, most));
                ring.extend(stamps.iter().take(usize::from(*len)));
                ring.extend(std::iter::repeat_n(low, count));
                *self = Self::Many(Box::new(ring));
            }
            Self::Many(ring) => {
                if needed > ring.capacity() {
                    ring.reserve_exact(room(needed, most) - ring.len());
                }
                ring.extend(std::iter::repeat_n(low, count));
            }
        }
    }

    /// Takes out the stamps in `range`, which lies inside. Moves the shorter of the two parts beside it.
    pub(super) fn remove(&mut self, range: Range<usize>) {
        match self {
            Self::Few { len, stamps } => {
                let removed = range.len();
                stamps.copy_within(range.end..usize::from(*len), range.start);
                *len -= removed as u8;
            }
            Self::Many(ring) => drop(ring.drain(range)),
        }
    }

    /// How many stamps at the front are `old`, of which none follows one that is not. O(log n).
    pub(super) fn partition_point(&self, mut old: impl FnMut(u32) -> bool) -> usize {
        match self {
            Self::Few { len, stamps } => {
                stamps.iter().take(usize::from(*len)).take_while(|low| old(**low)).count()
            }
            Self::Many(ring) => ring.partition_point(|low| old(*low)),
        }
    }

    /// How many stamps it has places for.
    pub(super) fn capacity(&self) -> usize {
        match self {
            Self::Few { .. } => FEW,
            Self::Many(ring) => ring.capacity(),
        }
    }
}

impl Default for Stamps {
    fn default() -> Self {
        Self::Few { len: 0, stamps: [0; FEW] }
    }
}

/// The places of a ring for `needed` stamps.
fn room(needed: usize, most: usize) -> usize {
    needed.next_power_of_two().min(most).max(needed)
}
