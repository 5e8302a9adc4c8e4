//! Until when a key is full, where a call sees it without the key's lock.

use super::super::sync::{AtomicU64, Ordering};
use crate::limit::window::{Bounds, Full};
use crate::time::Steady;

/// What a call of cost 1 that was refused has found, for those that come after it: which of which bounds is full for the
/// longest, and until when. Nothing if the log has changed since, or something lies ahead of it.
///
/// One word: the milliseconds of the steady clock (44 bits, 557 years), the number of the bounds (16), and which of them
/// it is (4). It is written under the key's lock alone, and read without it. A call reads it *before* the clock. If it is
/// out of date by then, whoever changed the log was not done when this call began: so it is decided as if it had come
/// first, by a log of which every stamp was there, and its reading is none too early. A call that begins after a charge
/// was given back sees no word from before that: for one word all threads agree in which order it was written.
#[derive(Debug, Default)]
pub(super) struct Shut(AtomicU64);

const PLACE_BITS: u32 = 4;
const NUMBER_BITS: u32 = 16;

// === impl Shut ===

impl Shut {
    /// A call has found the key full. The log is locked, and nothing lies ahead of it.
    pub(super) fn say(&self, bounds: &Bounds, full: Full) {
        let place = bounds.each().iter().position(|bound| bound.rate == full.rate);
        let (Some(number), Some(place)) = (bounds.number(), place) else { return };
        let opens = full.opens.millis_up();
        if place >> PLACE_BITS == 0 && opens.leading_zeros() >= PLACE_BITS + NUMBER_BITS {
            let which = u64::from(number.get()) << PLACE_BITS | place as u64;
            self.0.store(opens << (PLACE_BITS + NUMBER_BITS) | which, Ordering::Relaxed);
        }
    }

    /// The log changes. It is locked.
    pub(super) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// What the last refused call has found, if it was under these bounds: they may have room again since.
    pub(super) fn last(&self, bounds: &Bounds) -> Option<Full> {
        let word = self.0.load(Ordering::Relaxed);
        if word == 0 {
            return None;
        }
        let number = (word >> PLACE_BITS) as u16;
        let bound = bounds.each().get((word & ((1 << PLACE_BITS) - 1)) as usize)?;
        let opens = Steady::from_millis(word >> (PLACE_BITS + NUMBER_BITS));
        (bounds.number()?.get() == number).then_some(Full { rate: bound.rate, opens })
    }
}
