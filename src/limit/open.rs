//! Actions that are under way: how many there may be at once, and how many there are.
//!
//! The service runs live response in 25 sessions at a time and turns further ones away. It tells nobody when one ends;
//! but every answer that shows the action passes here. So an action is *open* from the answer that says it was started
//! until the first answer that shows a final status, or until `open_for` has passed since. A call that may start one
//! counts from its admission on, so that there are never more than may be, however long the answers take.
//!
//! # What can go wrong, and why it does not matter much
//!
//! - *Nobody looks.* An action that ended and was never asked for again stays open until `open_for`: too few are let
//!   in, never too many. A playbook that waits for its actions closes them by that.
//! - *An answer that names no action*, or none at all: the call is no longer on its way, and what it may have started
//!   is not counted, since nothing would ever close it.
//! - *Contention.* One lock guards all of it. It is taken by calls under such a limit, some 10 a minute by the
//!   documents, and once for each final status that passes, and is held while the call's other limits decide: their
//!   locks are taken under it, and it is never taken under one of theirs.
//! - *Room.* At most [`OpenActions::MAX`] actions and calls are counted, some 5 MB; a call beyond that is refused.
//! - *A restart.* With a state folder, open actions are kept by the moment on the calendar at which they lapse. A clock
//!   that is set forward meanwhile closes some too early, and one that is set back some too late: none is open for more
//!   than 30 days after the start.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::time::Duration;

use smallvec::SmallVec;

use crate::id::{ActionId, LimitName, OperationId};
use crate::journal::Outlet;
use crate::limit::key::Per;
use crate::limit::quota::Effect;
use crate::limit::store::{Names, RetryAfter};
use crate::limit::sync::{Arc, Mutex};
use crate::time::{Clock, Steady, Wall};

mod key;
mod lasting;
mod record;
mod slots;

pub(super) use key::OpenKey;
pub(super) use lasting::OpenBefore;
pub(super) use record::MAX_OPEN_FOR;
use record::Record;
pub(super) use slots::Slots;

/// A limit on actions under way, as the calls of an operation that starts them meet it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenQuota {
    pub(super) name: LimitName,
    pub(super) per: Per,
    /// The operation, if the limit counts each by itself.
    pub(super) operation: Option<OperationId>,
    pub(super) most: NonZeroU32,
    /// How long an action counts whose end nobody saw.
    pub(super) open_for: Duration,
    pub(super) effect: Effect,
    /// From when on it is not applied any more; none if that never comes.
    pub(super) until: Option<Wall>,
}

/// The actions under way of every limit that bounds them. Cheap to clone: all clones are one.
#[derive(Debug, Clone, Default)]
pub struct OpenActions(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    memory: Arc<Mutex<Memory>>,
    /// To nowhere where the memory ends with the process.
    outlet: Outlet,
}

/// INVARIANT: each action in `lapsing` is in its key's `open` and in `actions`, and the other way round.
#[derive(Debug, Default)]
struct Memory {
    keys: HashMap<OpenKey, Held>,
    actions: HashMap<ActionId, SmallVec<[(OpenKey, Steady); 1]>>,
    /// Every open action once for each of its keys, the next to lapse first, with that moment on the calendar.
    lapsing: BTreeMap<Lapse, Wall>,
    on_their_way: usize,
}

/// When an action stops to count in a key.
type Lapse = (Steady, OpenKey, ActionId);

/// What one key counts.
#[derive(Debug, Default)]
struct Held {
    on_their_way: u32,
    open: BTreeSet<(Steady, ActionId)>,
}

/// What becomes of the places of a call whose other limits have decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    Slots,
    Nothing,
}

/// Why a call has no place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoSlot<'a> {
    /// As many actions are under way as may be.
    Full(&'a OpenQuota, RetryAfter),
    /// As many are counted as ever may be, of all limits together.
    Memory,
}

/// A minute: when a caller may ask again at the latest. Whoever sees an action end may be the next, and nobody knows
/// when that is; the moment at which the oldest lapses is a bound, and days away.
const RETRY: Duration = Duration::from_secs(60);

/// Actions that are copied at once when the file is written anew: the lock is held for some 100 microseconds.
const STEP: usize = 1_000;

// === impl OpenActions ===

impl OpenActions {
    /// The most that are counted, of all limits together: the documents let 25 be at a time for one tenant.
    pub const MAX: usize = 10_000;

    /// What its file is called.
    pub const NAME: &str = "open-actions";

    /// Takes a place in each of these limits if `decide` says so, and in none if one has no room: then `decide` is not
    /// asked. Nobody else takes a place meanwhile.
    pub(super) fn acquire<'a, T>(
        &self,
        asked: impl IntoIterator<Item = (&'a OpenQuota, OpenKey)>,
        clock: &Clock,
        decide: impl FnOnce() -> (T, Take),
    ) -> Result<(T, Option<Slots>), NoSlot<'a>> {
        let asked: SmallVec<[_; 1]> = asked.into_iter().collect();
        if asked.is_empty() {
            return Ok((decide().0, None));
        }
        let mut memory = self.0.memory.lock();
        let now = clock.steady();
        memory.forget(now);
        // No `Slots` before the end: one that is dropped takes the lock.
        let (mut taken, mut overrun) = (SmallVec::new(), Names::new());
        for (quota, key) in asked {
            let room = memory.len() + taken.len() < Self::MAX;
            match (memory.first(&key, quota.most), quota.effect) {
                (None, Effect::Shadow) if !room => overrun.push(quota.name.clone()),
                (None, _) => taken.push((key, quota.open_for)),
                (Some(_), Effect::Shadow) => overrun.push(quota.name.clone()),
                (Some(lapse), Effect::Enforced) => {
                    let soon = now + RETRY;
                    let again = lapse.map_or(soon, |lapse| lapse.min(soon));
                    return Err(NoSlot::Full(quota, RetryAfter::until(again, now)));
                }
            }
        }
        if memory.len() + taken.len() > Self::MAX {
            return Err(NoSlot::Memory);
        }
        let (decided, take) = decide();
        match take {
            Take::Slots => taken.iter().for_each(|(key, _)| memory.enter(key)),
            Take::Nothing => taken.clear(),
        }
        drop(memory);
        Ok((decided, Some(Slots::new(self.clone(), taken, overrun, clock))))
    }

    /// An answer says that the action has ended.
    pub fn ended(&self, action: &ActionId) {
        let mut memory = self.0.memory.lock();
        if memory.close(action) {
            self.write(|| Record::closed(action).write());
        }
    }

    /// Whether any action is open: if none is, nobody has to read answers.
    pub fn is_empty(&self) -> bool {
        self.0.memory.lock().lapsing.is_empty()
    }

    /// How many places are taken in each limit that has any, calls on their way included.
    pub fn count(&self, clock: &Clock) -> BTreeMap<LimitName, usize> {
        let mut memory = self.0.memory.lock();
        memory.forget(clock.steady());
        let mut counts = BTreeMap::new();
        for (key, held) in &memory.keys {
            *counts.entry(LimitName::from(key.limit())).or_default() += held.len();
        }
        counts
    }

    /// To be called under the lock, so that the file has the records in the order of the memory.
    fn write(&self, record: impl FnOnce() -> Vec<u8>) {
        if !self.0.outlet.is_closed() && self.0.outlet.put(Self::NAME, &record()).is_err() {
            tracing::warn!(
                "the state file has no room for an open action: it is kept in memory until it has"
            );
        }
    }
}

// === impl Memory ===

impl Memory {
    fn len(&self) -> usize {
        self.lapsing.len() + self.on_their_way
    }

    /// None if a key has room for one more; else when its oldest action lapses, if it has one.
    fn first(&self, key: &OpenKey, most: NonZeroU32) -> Option<Option<Steady>> {
        let held = self.keys.get(key).filter(|held| held.len() >= most.get() as usize)?;
        Some(held.open.first().map(|(lapse, _)| *lapse))
    }

    /// A call is on its way.
    fn enter(&mut self, key: &OpenKey) {
        self.keys.entry(key.clone()).or_default().on_their_way += 1;
        self.on_their_way += 1;
    }

    /// It no longer is.
    fn leave(&mut self, key: &OpenKey) {
        if let Some(held) = self.keys.get_mut(key) {
            held.on_their_way = held.on_their_way.saturating_sub(1);
            self.on_their_way = self.on_their_way.saturating_sub(1);
        }
        self.tidy(key);
    }

    /// Counts an action until `lapse`, which is `until` on the calendar.
    fn open(&mut self, action: &ActionId, key: OpenKey, lapse: Steady, until: Wall) {
        let of_it = self.actions.entry(action.clone()).or_default();
        if of_it.iter().any(|(known, _)| *known == key) {
            return;
        }
        of_it.push((key.clone(), lapse));
        self.keys.entry(key.clone()).or_default().open.insert((lapse, action.clone()));
        self.lapsing.insert((lapse, key, action.clone()), until);
    }

    /// Counts an action no more. Whether it was counted.
    fn close(&mut self, action: &ActionId) -> bool {
        let Some(of_it) = self.actions.remove(action) else { return false };
        for (key, lapse) in of_it {
            self.lapsing.remove(&(lapse, key.clone(), action.clone()));
            if let Some(held) = self.keys.get_mut(&key) {
                held.open.remove(&(lapse, action.clone()));
            }
            self.tidy(&key);
        }
        true
    }

    /// Counts no action any more that lapsed.
    fn forget(&mut self, now: Steady) {
        while let Some(first) = self.lapsing.first_entry()
            && first.key().0 <= now
        {
            let ((lapse, key, action), _) = first.remove_entry();
            if let Some(of_it) = self.actions.get_mut(&action) {
                of_it.retain(|(of, _)| *of != key);
                if of_it.is_empty() {
                    self.actions.remove(&action);
                }
            }
            if let Some(held) = self.keys.get_mut(&key) {
                held.open.remove(&(lapse, action));
            }
            self.tidy(&key);
        }
    }

    fn tidy(&mut self, key: &OpenKey) {
        if self.keys.get(key).is_some_and(|held| held.len() == 0) {
            self.keys.remove(key);
        }
    }

    fn replay(&mut self, record: Record, clock: &Clock) {
        match record {
            Record::Opened(opened) => {
                let left = opened.left(clock.wall());
                if !left.is_zero() && self.len() < OpenActions::MAX {
                    self.open(&opened.action, opened.key, clock.steady() + left, clock.wall() + left);
                }
            }
            Record::Closed(action) => {
                self.close(&action);
            }
        }
    }

    /// The next actions to be copied.
    fn step(&self, last: Option<&Lapse>) -> Vec<(Lapse, Wall)> {
        let range = match last {
            Some(last) => self.lapsing.range((std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded)),
            None => self.lapsing.range::<Lapse, _>(..),
        };
        range.take(STEP).map(|(lapse, until)| (lapse.clone(), *until)).collect()
    }
}

// === impl Held ===

impl Held {
    fn len(&self) -> usize {
        self.open.len() + self.on_their_way as usize
    }
}

#[cfg(test)]
mod tests;
