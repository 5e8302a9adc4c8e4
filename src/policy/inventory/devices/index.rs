//! From the hash of a key to places in a list: made once, never changed, and asked at the cost of one cache line.
//!
//! A general table reads two lines before it knows a place, one of control bytes and one of the value, and a third is
//! the record's. Here a slot has both, 32 bits of the hash and the place, so that a look-up that finds something reads
//! one line of this and one of the list, as a table that holds its keys does, at a third of its memory.

/// Places by the hash of a key, one for each key.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The low half of the hash above, the place plus one below; 0 where there is none.
    slots: Box<[u64]>,
}

// === impl Index ===

impl Index {
    /// With room for this many keys, a third of it free: a key that is there is found after two slots, one that is
    /// not after five, on average (Knuth, *The Art of Computer Programming*, volume 3, section 6.4, algorithm L).
    pub(super) fn for_keys(keys: usize) -> Self {
        Self { slots: vec![0; keys + keys / 2 + 1].into_boxed_slice() }
    }

    /// The place of the key of this hash, of which `is` knows whether a place has it.
    pub(super) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> Verdict) -> Option<u32> {
        let from = self.first(hash);
        let (before, behind) = self.slots.split_at_checked(from)?;
        // There is a free slot, so the walk ends.
        for slot in behind.iter().chain(before) {
            match place_in(*slot) {
                None => return None,
                Some(place) if *slot >> 32 == hash & LOW && is(place) == Verdict::Same => return Some(place),
                Some(_) => {}
            }
        }
        None
    }

    /// Puts a place under the key of this hash; gives back the place that stood there. Nothing is kept once it is full.
    pub(super) fn put(&mut self, hash: u64, place: u32, mut is: impl FnMut(u32) -> Verdict) -> Option<u32> {
        let from = self.first(hash);
        let (before, behind) = self.slots.split_at_mut_checked(from)?;
        let new = (hash & LOW) << 32 | (u64::from(place) + 1);
        for slot in behind.iter_mut().chain(before) {
            match place_in(*slot) {
                None => {
                    *slot = new;
                    return None;
                }
                Some(known) if *slot >> 32 == hash & LOW && is(known) == Verdict::Same => {
                    *slot = new;
                    return Some(known);
                }
                Some(_) => {}
            }
        }
        None
    }

    /// Where the walk for a hash begins: the high half, scaled to the number of slots.
    fn first(&self, hash: u64) -> usize {
        (((hash >> 32) * self.slots.len() as u64) >> 32) as usize
    }
}

/// Whether a place has the key that is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has.
    Same,
    /// It has another whose hash is alike.
    Other,
}

/// 32 bits.
const LOW: u64 = u32::MAX as u64;

fn place_in(slot: u64) -> Option<u32> {
    ((slot & LOW) as u32).checked_sub(1)
}

// === impl Verdict ===

impl From<bool> for Verdict {
    fn from(same: bool) -> Self {
        if same { Self::Same } else { Self::Other }
    }
}
