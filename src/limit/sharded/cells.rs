//! How calls, refunds and the sweep share the cells. The locks and counters are `super`'s: the threads' own, or those of
//! a model checker that runs the same text.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::sync::{Arc, AtomicUsize, Mutex, MutexGuard, Ordering};
use crate::limit::key::{LimitKey, StoredKey};
use crate::limit::quota::{Charge, Charges, Effect, Places, Quota};
use crate::limit::store::Swept;
use crate::limit::window::{Bound, Cost, Full, SlidingWindowLog, Stamp, Usage};
use crate::time::{Clock, Steady};

/// The place of one key: its log, until the sweep has taken it out. 80 bytes for most keys, and the counters of `Arc`.
#[derive(Debug)]
pub(in crate::limit) struct Cell {
    pub(super) key: StoredKey,
    /// INVARIANT: once `None`, always `None`.
    pub(super) log: Mutex<Option<SlidingWindowLog>>,
}

/// A map from keys to their cells that many threads use at once. No method keeps a lock when it returns.
pub(in crate::limit) trait KeyMap: Default {
    /// What `look` makes of the cell of `key`. A part of the map is locked meanwhile, so that `look` waits for nothing
    /// but the cell's log.
    fn find<T>(&self, key: &LimitKey, look: impl FnOnce(&Arc<Cell>) -> T) -> Option<T>;

    /// Puts `cell` in, unless its key has one: then that one is the answer, and `cell` comes to nothing.
    fn insert(&self, cell: Arc<Cell>) -> Inserted;

    /// Takes out `cell` itself, and no other with its key.
    fn remove(&self, cell: &Arc<Cell>) -> Removed;
}

/// What became of a cell that was to be put in.
pub(in crate::limit) enum Inserted {
    New,
    Found(Arc<Cell>),
}

/// What became of a cell that was to be taken out.
pub(in crate::limit) enum Removed {
    Now,
    Before,
}

/// Every key's cell, and the order in which they are swept.
#[derive(Debug, Default)]
pub(in crate::limit) struct Cells<M> {
    pub(super) map: M,
    /// How many cells are in the map or about to be.
    keys: AtomicUsize,
    /// Every cell of the map, the next to be swept first.
    pub(super) round: Mutex<VecDeque<Arc<Cell>>>,
}

/// A call that was charged.
#[derive(Debug, Default)]
pub(in crate::limit) struct Granted {
    pub(in crate::limit) charged: Charged,
    /// The charges whose quota would have refused it, if it were enforced.
    pub(in crate::limit) overrun: Places,
}

/// The charges of one admission, as long as they can be given back.
#[derive(Debug, Default)]
pub(in crate::limit) struct Charged(SmallVec<[Paid; 2]>);

#[derive(Debug)]
struct Paid {
    cell: Arc<Cell>,
    stamp: Stamp,
    cost: Cost,
}

/// A key that a call is to be charged to, and the quota that says how.
type Debt<'a> = (Arc<Cell>, &'a Quota);

/// The stamps of a call, in the order of its charges; none where it was not charged.
type Stamps = SmallVec<[Option<Stamp>; 8]>;

/// Why a call was not charged.
#[derive(Debug, Clone, Copy)]
pub(in crate::limit) enum Refused<'a> {
    /// A bound is full: the one that is for the longest.
    Over(&'a Quota, Full, Steady),
    /// A cell was needed, and none could be had.
    NoCell,
}

/// Who holds a cell that no call is using: the map and the sweep.
const IDLE_OWNERS: usize = 2;

/// How many keys a call looks at when the map is full, to make room for its own. More of
/// them than a call has keys, so that a flood of new callers frees places faster than it takes them.
const FULL_STEP: usize = 64;

// === impl Cells ===

impl<M: KeyMap> Cells<M> {
    /// Charges a call to all its keys, or to none.
    pub(in crate::limit) fn acquire<'a>(
        &self,
        charges: &Charges<'a>,
        clock: &Clock,
    ) -> Result<Granted, Refused<'a>> {
        let mut key = LimitKey::default();
        if let Some(quota) = charges.only(&mut key)
            && let Some(Some(decided)) = self.map.find(&key, |cell| at_once(cell, quota, clock))
        {
            return decided;
        }
        loop {
            let mut debts: SmallVec<[Debt<'_>; 8]> = SmallVec::new();
            for charge in charges.iter() {
                debts.push((self.cell(&charge.key, charges, clock)?, charge.quota));
            }
            let Some(decided) = attempt(&debts, clock) else {
                let emptied = debts.iter().filter(|(cell, _)| cell.log.lock().is_none());
                emptied.for_each(|(cell, _)| self.take_out(cell));
                continue;
            };
            let (stamps, overrun) = decided?;
            let mut charged = SmallVec::new();
            for ((cell, quota), stamp) in debts.into_iter().zip(stamps) {
                if let Some(stamp) = stamp {
                    charged.push(Paid { cell, stamp, cost: quota.cost });
                }
            }
            return Ok(Granted { charged: Charged(charged), overrun });
        }
    }

    /// How every bound of the charges that have a cell stands.
    pub(in crate::limit) fn usages(
        &self,
        charges: &Charges<'_>,
        clock: &Clock,
        mut each: impl FnMut(&Quota, Bound, Usage),
    ) {
        for Charge { key, quota } in charges.iter() {
            let Some(cell) = self.map.find(&key, Arc::clone) else { continue };
            let log = cell.log.lock();
            let Some(log) = log.as_ref() else { continue };
            let now = clock.steady();
            for bound in quota.bounds.each() {
                each(quota, *bound, log.usage(*bound, quota.cost, now));
            }
        }
    }

    /// How many cells there are.
    pub(in crate::limit) fn keys(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// Looks at the next `step` cells, or at all if there are fewer, and removes those whose log has expired.
    pub(in crate::limit) fn sweep(&self, step: usize, clock: &Clock) -> Swept {
        let mut round = self.round.lock();
        let step = step.min(round.len());
        let mut batch: Vec<_> = round.drain(..step).collect();
        drop(round);
        // Read once and before the locks: a reading too old can only keep a cell for another round.
        let now = clock.steady();
        batch.retain(|cell| {
            let mut log = cell.log.lock();
            let expires = log.as_ref().map_or(Steady::default(), SlidingWindowLog::expires);
            if expires > now || Arc::strong_count(cell) > IDLE_OWNERS {
                return true;
            }
            *log = None;
            drop(log);
            self.take_out(cell);
            false
        });
        let removed = step - batch.len();
        self.round.lock().extend(batch);
        Swept { visited: step, removed }
    }

    /// The cell of `key`, a new one if there is room for it.
    fn cell<'a>(
        &self,
        key: &LimitKey,
        charges: &Charges<'a>,
        clock: &Clock,
    ) -> Result<Arc<Cell>, Refused<'a>> {
        if let Some(cell) = self.map.find(key, Arc::clone) {
            return Ok(cell);
        }
        let max_keys = charges.max_keys.get() as usize;
        let inserted = self.insert(key, max_keys).or_else(|_| {
            self.sweep(FULL_STEP, clock);
            self.insert(key, max_keys)
        });
        // Another call may have taken the last place for this very key.
        inserted.or_else(|full| self.map.find(key, Arc::clone).ok_or(full))
    }

    fn insert<'a>(&self, key: &LimitKey, max_keys: usize) -> Result<Arc<Cell>, Refused<'a>> {
        let one_more = |keys| (keys < max_keys).then_some(keys + 1);
        let counted = self.keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        counted.map_err(|_| Refused::NoCell)?;
        let cell = Arc::new(Cell { key: key.into(), log: Mutex::new(Some(SlidingWindowLog::default())) });
        match self.map.insert(cell.clone()) {
            Inserted::New => {
                self.round.lock().push_back(cell.clone());
                Ok(cell)
            }
            Inserted::Found(cell) => {
                self.keys.fetch_sub(1, Ordering::Relaxed);
                Ok(cell)
            }
        }
    }

    /// Takes a cell without a log out of the map.
    pub(super) fn take_out(&self, cell: &Arc<Cell>) {
        match self.map.remove(cell) {
            Removed::Now => {
                self.keys.fetch_sub(1, Ordering::Relaxed);
            }
            Removed::Before => {}
        }
    }
}

/// Charges a call to its only key, unless that takes long or the key is gone: then nothing happens, and there is no
/// answer.
fn at_once<'a>(cell: &Arc<Cell>, quota: &'a Quota, clock: &Clock) -> Option<Result<Granted, Refused<'a>>> {
    let mut log = cell.log.lock();
    let log = log.as_mut()?;
    let now = clock.steady();
    let (cost, mut granted) = (quota.cost, Granted::default());
    match (log.full(&quota.bounds, cost, now), quota.effect) {
        (Some(full), Effect::Enforced) => return Some(Err(Refused::Over(quota, full, now))),
        (Some(_), Effect::Shadow) => granted.overrun = Places::default().with(0),
        (None, _) if log.must_grow(&quota.bounds, cost) => return None,
        (None, _) => {
            let stamp = log.admit(&quota.bounds, cost, now);
            granted.charged.0.push(Paid { cell: cell.clone(), stamp, cost });
        }
    }
    Some(Ok(granted))
}

/// Locks the cells, reads the clock and charges the call; nothing if the sweep has emptied one of the cells.
fn attempt<'a>(debts: &[Debt<'a>], clock: &Clock) -> Option<Result<(Stamps, Places), Refused<'a>>> {
    // In the order of their rules, as `Charges` has them, and no rule twice: so no two calls wait for each other.
    let mut locked: SmallVec<[MutexGuard<'_, Option<SlidingWindowLog>>; 8]> = SmallVec::new();
    for (cell, _) in debts {
        locked.push(cell.log.lock());
    }
    let mut logs: SmallVec<[&mut SlidingWindowLog; 8]> = SmallVec::new();
    for log in &mut locked {
        logs.push(log.as_mut()?);
    }
    let now = clock.steady();
    let (mut fullest, mut overrun): (Option<(&Quota, Full)>, _) = (None, Places::default());
    for (((_, quota), log), place) in debts.iter().zip(&logs).zip(0..) {
        match (log.full(&quota.bounds, quota.cost, now), quota.effect) {
            (None, _) => {}
            (Some(_), Effect::Shadow) => overrun = overrun.with(place),
            (Some(full), Effect::Enforced) => {
                if fullest.is_none_or(|(_, latest)| full.opens > latest.opens) {
                    fullest = Some((quota, full));
                }
            }
        }
    }
    if let Some((quota, full)) = fullest {
        return Some(Err(Refused::Over(quota, full, now)));
    }
    let mut stamps = Stamps::new();
    for (((_, quota), log), place) in debts.iter().zip(logs).zip(0..) {
        stamps.push((!overrun.has(place)).then(|| log.admit(&quota.bounds, quota.cost, now)));
    }
    Some(Ok((stamps, overrun)))
}

// === impl Charged ===

impl Charged {
    /// The charges stay for good.
    pub(in crate::limit) fn keep(&mut self) {
        self.0.clear();
    }

    /// Takes every charge back that is not yet out of its windows.
    pub(in crate::limit) fn give_back(&mut self) {
        for Paid { cell, stamp, cost } in self.0.drain(..) {
            if let Some(log) = cell.log.lock().as_mut() {
                log.refund(stamp, cost);
            }
        }
    }
}
