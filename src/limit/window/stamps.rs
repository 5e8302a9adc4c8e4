//! Where the stamps of a log lie: three in the log itself, as most keys never hold more, and more in a ring of their own.
//! What lies ahead of a key lies behind the ring's pointer, so that a key that nobody waits for pays nothing for it.

use std::collections::VecDeque;
use std::ops::Range;

use super::ahead::Ahead;

/// How many stamps need no memory of their own: as many as fit beside the ring's pointer.
const FEW: usize = 3;

/// The lower 32 bits of stamps, oldest first. 16 bytes, and from the fourth stamp on 40 and 4 for each place of the ring.
#[derive(Debug)]
pub(super) enum Stamps {
    /// The first `len` of the array.
    Few { len: u8, stamps: [u32; FEW] },
    /// In a box, since it would make every log 24 bytes larger, and few have a ring.
    Many(Box<Ring>),
}

/// Where more stamps lie, and what lies ahead.
#[derive(Debug)]
pub(super) struct Ring {
    stamps: VecDeque<u32>,
    ahead: Option<Box<Ahead>>,
}

// === impl Stamps ===

impl Stamps {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few { len, .. } => usize::from(*len),
            Self::Many(ring) => ring.stamps.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<u32> {
        match self {
            Self::Few { len, stamps } if index < usize::from(*len) => stamps.get(index).copied(),
            Self::Few { .. } => None,
            Self::Many(ring) => ring.stamps.get(index).copied(),
        }
    }

    /// The stamp that has so many younger ones.
    pub(super) fn nth_last(&self, younger: usize) -> Option<u32> {
        match self {
            Self::Few { len, stamps } => {
                stamps.get(..usize::from(*len)).and_then(|held| held.iter().rev().nth(younger)).copied()
            }
            Self::Many(ring) => {
                ring.stamps.get(ring.stamps.len().checked_sub(younger)?.checked_sub(1)?).copied()
            }
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
                *self = Self::Many(Box::new(Ring { stamps: ring, ahead: None }));
            }
            Self::Many(ring) => {
                let ring = &mut ring.stamps;
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
            Self::Many(ring) => drop(ring.stamps.drain(range)),
        }
    }

    /// How many stamps at the front are `old`, of which none follows one that is not. O(log n).
    pub(super) fn partition_point(&self, mut old: impl FnMut(u32) -> bool) -> usize {
        match self {
            Self::Few { len, stamps } => {
                stamps.iter().take(usize::from(*len)).take_while(|low| old(**low)).count()
            }
            Self::Many(ring) => ring.stamps.partition_point(|low| old(*low)),
        }
    }

    /// How many stamps it has places for.
    pub(super) fn capacity(&self) -> usize {
        match self {
            Self::Few { .. } => FEW,
            Self::Many(ring) => ring.stamps.capacity(),
        }
    }

    /// What lies ahead, if anything does.
    pub(super) fn ahead(&self) -> Option<&Ahead> {
        match self {
            Self::Few { .. } => None,
            Self::Many(ring) => ring.ahead.as_deref(),
        }
    }

    pub(super) fn ahead_mut(&mut self) -> Option<&mut Ahead> {
        match self {
            Self::Few { .. } => None,
            Self::Many(ring) => ring.ahead.as_deref_mut(),
        }
    }

    /// Changes what lies ahead, which may be nothing before.
    pub(super) fn change_ahead(&mut self, change: impl FnOnce(&mut Ahead)) {
        match self {
            Self::Few { len, stamps } => {
                let held = stamps.get(..usize::from(*len)).unwrap_or_default();
                let mut ring = Box::new(Ring { stamps: held.iter().copied().collect(), ahead: None });
                change(ring.ahead.get_or_insert_default());
                *self = Self::Many(ring);
            }
            Self::Many(ring) => change(ring.ahead.get_or_insert_default()),
        }
    }

    /// Nothing lies ahead any more.
    pub(super) fn drop_ahead(&mut self) {
        if let Self::Many(ring) = self {
            ring.ahead = None;
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
