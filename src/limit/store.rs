//! The limiter, and what any store behind it must promise.
//!
//! # The contract
//!
//! 1. *Exact.* A call admitted at the time *t* leaves every window of every quota that it was charged to with at most
//!    *N* calls admitted in *(t − W, t]*. No call is refused that an unrounded log would have admitted 2 ms before.
//! 2. *All or nothing.* A call is charged to every one of its keys or to none, in one step: no other call sees some of
//!    its charges and not the others. So it is with the actions under way that a call may add to: their lock is taken
//!    first and held while the keys are decided. For a call that is held, the place among them is taken before its turn
//!    is known, and given back if none can be.
//! 3. *A refusal is free.* A refused call is counted nowhere, and says when its caller alone would be admitted.
//! 4. *Late readings.* The clock is read when nothing else can be admitted to the keys of a call any more, or, for a
//!    refusal, when it is known what they were full with: never before that.
//! 5. *Given back.* An [`Admission`] that is dropped before it was [`forwarded`](Admission::forwarded) was never there.
//! 6. *Kept.* A key with a call that a window still counts is never forgotten, not to make room for another either.
//!    What is written under one version of a limit is counted under the next, whatever became of its *N* and *W*.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::id::{ActionId, LimitName};
use crate::limit::charges::{Charges, Lane, Places};
use crate::limit::closures::{Closures, Leave};
use crate::limit::decision::Refused;
use crate::limit::held::Held;
use crate::limit::open::{OpenActions, Slots, Take};
use crate::limit::overview::{FullKey, Fullest};
use crate::limit::quota::{Quota, QuotaSet, Visibility, WhenFull};
use crate::limit::sharded::{Charged, Granted, ShardedStore};
use crate::outcome::{Standing, Standings};
use crate::time::{Clock, Steady};

mod lanes;
mod refusal;
mod surviving;

pub use refusal::{LimitError, OverLimit, Refusal, RetryAfter};
pub use surviving::LimiterBefore;

/// What was admitted, for every key: one for the process, older than any policy and younger than none.
#[derive(Debug, Default)]
pub struct Limiter {
    store: ShardedStore,
    held: Held,
    closures: Arc<Closures>,
    open: OpenActions,
}

/// The leave to forward one call. Dropped before [`forwarded`](Self::forwarded), it gives every charge back.
#[derive(Debug)]
#[must_use = "dropped, an admission gives its charges back"]
pub struct Admission {
    charged: Charged,
    overrun: Places,
    hold: Option<Hold>,
    /// None where no limit counts the actions that it may start.
    slots: Option<Box<Slots>>,
    /// On a lane that is being opened.
    leave: Option<Box<Leave>>,
}

/// How a call was held until its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// When it came.
    pub since: Steady,
    /// When its turn was: the moment at which it counts as admitted.
    pub until: Steady,
    /// When it was woken and went on.
    pub released: Steady,
}

/// What the limits say of a call now, and the places of the actions that it may start.
type Attempt<'a> = (Result<Granted, Refused<'a>>, Option<Box<Slots>>);

/// Limits by their names.
pub type Names = SmallVec<[LimitName; 1]>;

/// What one step of sweeping did, in keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// How many were looked at.
    pub visited: usize,
    /// How many of them were removed.
    pub removed: usize,
}

/// How many keys one call of [`Limiter::sweep`] looks at: called once a second, it sees a million keys a minute.
const SWEEP_STEP: usize = 16_384;

// === impl Limiter ===

impl Limiter {
    /// A limiter that has admitted nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Charges a call to all its limits, or to none if one of them has no room. A call that nothing limits is admitted.
    ///
    /// A call that finds no room is held, if every limit that has none lets it wait, for the shortest of their waits:
    /// its place is taken at once, and it is admitted at that moment, which is what counts, also if it is woken a little
    /// later. Dropped while it waits, the future gives the place back.
    ///
    /// # Errors
    /// Why it is not admitted, and when it alone would be; if it was held, only because its turn was
    /// [postponed](Self::shut) for too long, or as many calls were on their way when it came.
    pub async fn acquire<'a>(&self, charges: &Charges<'a>, clock: &Clock) -> Result<Admission, Refusal<'a>> {
        let mut admission = None;
        if self.closures.is_empty() {
            // Most calls need nothing else.
            if charges.is_simple() {
                match self.store.acquire(charges, clock) {
                    Ok(granted) => return Ok(Admission::new(granted, None, None)),
                    Err(refused) if !may_wait(charges, refused) => return Err(refused.into()),
                    Err(_) => {}
                }
            }
            let admitted = self.place(charges, clock).await?;
            // The API may have closed its lane while it was held.
            if admitted.hold.is_none() || self.closures.is_empty() {
                return Ok(admitted);
            }
            admission = Some(admitted);
        }
        // Boxed, as is whatever else few calls come to: every call would have to carry the room for it.
        Box::pin(self.through_lane(charges, admission, clock)).await
    }

    /// What the limits say now, and the actions that it may start: those of a call that may wait are counted too.
    fn attempt<'a>(&self, charges: &Charges<'a>, clock: &Clock) -> Result<Attempt<'a>, Refusal<'a>> {
        let decide = || {
            let decided = self.store.acquire(charges, clock);
            let take = match &decided {
                Err(refused) if !may_wait(charges, *refused) => Take::Nothing,
                // A call that waits counts as one on its way.
                Ok(_) | Err(_) => Take::Slots,
            };
            (decided, take)
        };
        let (decided, slots) = self.open.acquire(charges.open(), clock, decide).map_err(|none| {
            // Whoever has the windows now counts the actions too.
            if self.store.is_closed() { Refusal::Ended } else { none.into() }
        })?;
        Ok((decided, slots.map(Box::new)))
    }

    async fn place<'a>(&self, charges: &Charges<'a>, clock: &Clock) -> Result<Admission, Refusal<'a>> {
        let (decided, slots) = self.attempt(charges, clock)?;
        let refused = match decided {
            Ok(granted) => return Ok(Admission::new(granted, None, slots)),
            Err(refused) => refused,
        };
        if !may_wait(charges, refused) {
            return Err(refused.into());
        }
        if self.is_queue_full(charges, refused) {
            return Err(refused.into());
        }
        let (granted, hold) = Box::pin(self.held.acquire(&self.store, charges, clock)).await?;
        Ok(Admission::new(granted, hold, slots))
    }

    /// Whether as many calls as may wait already for the limit that is full for the longest: then there is no place to ask
    /// for. It is found without the lock of all seats, so that a flood keeps nobody from them.
    fn is_queue_full(&self, charges: &Charges<'_>, refused: Refused<'_>) -> bool {
        match refused {
            Refused::Over(quota, ..) => match quota.when_full {
                WhenFull::Wait { queue, .. } => self.store.waiting(charges, quota) >= queue.get(),
                WhenFull::Reject => true,
            },
            Refused::Closed(..) | Refused::InFlight(_) | Refused::Ended | Refused::NoCell => false,
        }
    }

    /// The actions that are under way.
    pub fn open_actions(&self) -> &OpenActions {
        &self.open
    }

    /// Which calls are held, and when each has its turn, in the order in which they came. It keeps calls that come to wait
    /// from it meanwhile: 1 ms with 10,000 of them (measured by `cargo bench -- held`).
    pub fn turns(&self) -> Vec<(Lane, Steady)> {
        self.held.turns()
    }

    /// The process ends, and admits nobody after `ends`: every held call whose turn is after it is refused, and so is every
    /// later one that would have to wait for longer; one that waits on a lane that is being opened is refused then.
    pub fn end(&self, ends: Steady) {
        self.held.end(ends);
        self.closures.end(Some(ends));
    }

    /// What the held call that came last is counted by.
    #[cfg(test)]
    pub(super) fn rules_of_last_held(&self) -> Vec<super::key::RuleId> {
        self.held.rules_of_last()
    }

    /// How many calls are held: until their turn, or until another one has ended on a lane that is being opened.
    pub fn held(&self) -> usize {
        self.held.count() + self.closures.waiting()
    }

    /// How the limits of a call stand now: one for each limit and window that has counted somebody. After `acquire`
    /// they count the call itself, and whoever was quicker.
    pub fn standings(&self, charges: &Charges<'_>, clock: &Clock) -> Standings {
        let mut standings = Standings::new();
        self.store.usages(charges, clock, |quota, rate, usage| {
            standings.push(Standing {
                limit: quota.name.clone(),
                rate,
                remaining: usage.remaining,
                grows_in: usage.grows_in,
                shown: quota.visibility == Visibility::Shown,
            });
        });
        standings
    }

    /// The fullest keys of the limits of a set, the fullest first: at most `top`, and at most [`MAX_TOP`](crate::limit::MAX_TOP).
    pub fn fullest(&self, quotas: &QuotaSet, top: usize, clock: &Clock) -> Vec<FullKey> {
        let mut fullest = Fullest::new(quotas, top, clock.steady());
        self.store.each(|key, log| fullest.look(key, log));
        fullest.finish()
    }

    /// How many keys it holds.
    pub fn keys(&self) -> usize {
        self.store.keys()
    }

    /// Looks at the next 16,384 keys, or at all if there are fewer, and removes those that no window counts
    /// a call of. To be called once a second.
    pub fn sweep(&self, clock: &Clock) -> Swept {
        self.closures.sweep(clock.steady());
        self.store.sweep(SWEEP_STEP, clock)
    }
}

// === impl Admission ===

impl Admission {
    fn new(Granted { charged, overrun }: Granted, hold: Option<Hold>, slots: Option<Box<Slots>>) -> Self {
        Self { charged, overrun, hold, slots, leave: None }
    }

    /// The same, on a lane that is being opened.
    fn with(self, leave: Leave) -> Self {
        let mut admission = self;
        admission.leave = Some(Box::new(leave));
        admission
    }

    /// The same, of a call that came then.
    fn since(self, since: Steady) -> Self {
        let mut admission = self;
        if let Some(hold) = &mut admission.hold {
            hold.since = since;
        }
        admission
    }

    /// How it was held; none if it was admitted at once.
    pub fn hold(&self) -> Option<Hold> {
        self.hold
    }

    /// The rules of the keys that it was charged to, before it was forwarded.
    #[cfg(test)]
    pub(super) fn rules(&self) -> Vec<super::key::RuleId> {
        (&self.charged).into()
    }

    /// The limits among those of `charges`, for which it was acquired, that would have refused the call if they were
    /// enforced.
    pub fn overrun(&self, charges: &Charges<'_>) -> Names {
        let mut names = charges.names(self.overrun);
        names.extend(self.slots.iter().flat_map(|slots| slots.overrun().iter().cloned()));
        names
    }

    /// The API has answered: the call has started this action, which is under way from now on.
    pub fn opened(&mut self, action: &ActionId, clock: &Clock) {
        if let Some(slots) = &mut self.slots {
            slots.opened(action, clock);
        }
    }

    /// The upstream has the first byte of the request: the charges stay, whatever becomes of it. The call is on its way
    /// until the admission is dropped.
    pub fn forwarded(&mut self) {
        self.charged.keep();
        if let Some(slots) = &mut self.slots {
            slots.forwarded();
        }
    }

    /// The API's answer says that the call has no action under way.
    pub fn settled(&mut self) {
        if let Some(slots) = &mut self.slots {
            slots.settled();
        }
    }

    /// The API answered, and not that the call was one too many.
    pub fn succeeded(&mut self) {
        if let Some(leave) = &mut self.leave {
            leave.succeed();
        }
        // It opens for others now, not only when the answer has been passed on.
        self.leave = None;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.charged.give_back();
    }
}

/// Whether it is worth asking for a place: every limit that is full has to let the call wait, and so the fullest.
fn may_wait(charges: &Charges<'_>, refused: Refused<'_>) -> bool {
    let waits = |quota: &Quota| matches!(quota.when_full, WhenFull::Wait { .. });
    match refused {
        Refused::Over(quota, ..) => waits(quota),
        Refused::Closed(..) => charges.quotas().any(|quota| waits(quota)),
        Refused::InFlight(_) | Refused::Ended | Refused::NoCell => false,
    }
}

#[cfg(test)]
mod tests;
