//! The store in memory: a log for each key, behind a lock of its own, in a sharded map.
//!
//! # What can go wrong between threads, and why it does not
//!
//! - *Deadlock.* A thread that holds a log's lock waits only for logs with larger keys, and never for the map; one that
//!   holds a shard of the map waits for nothing. So no circle of waiting threads can close.
//! - *Half a charge.* All logs of a call are locked before the first is looked at and until the last is written.
//! - *A reading too old.* The clock is read when the locks are held, so that no stamp is older than one before it.
//! - *A charge to a log that nobody finds.* The sweep takes the log out of its cell under the cell's lock, and only
//!   then the cell out of the map. A call that finds an empty cell takes it out too and starts over.
//! - *Starting over for ever.* The sweep passes over a cell that a call holds, so a call starts over only if it got the
//!   cell between the sweep's look at its owners and the end of its lock: once for each pass of the sweep at most, and
//!   never for a sweep of its own.
//! - *One key more than may be.* A key is counted before it is put into the map, so there are never more than `max_keys`.
//!   Of calls that come for the last free place at once, one gets it; the others are told to come again.
//! - *A refund that is not one step.* The charges of a dropped admission are given back key by key. In between another
//!   call may find room in one and none in the next: it is refused, as it would have been just before.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use dashmap::{DashMap, Entry};
use foldhash::fast::RandomState;
use smallvec::SmallVec;

use crate::limit::quota::{Charge, Charges, LimitKey, Visibility};
use crate::limit::store::{Admission, LimitError, OverLimit, RetryAfter, Swept};
use crate::limit::sync::{Arc, AtomicUsize, Mutex, MutexGuard, Ordering};
use crate::limit::window::{SlidingWindowLog, Stamp};
use crate::outcome::{Rate, Standing, Standings};
use crate::time::{Clock, Steady};

/// The place of one key: its log, until the sweep has taken it out.
#[derive(Debug)]
pub(super) struct Cell {
    key: LimitKey,
    /// INVARIANT: once `None`, always `None`.
    log: Mutex<Option<SlidingWindowLog>>,
}

/// A map from keys to their cells that many threads use at once. No method calls back or keeps a lock when it returns.
pub(super) trait KeyMap: Default {
    /// The cell of `key`.
    fn get(&self, key: &LimitKey) -> Option<Arc<Cell>>;

    /// Puts `cell` in, unless its key has one: then that one is the answer, and `cell` comes to nothing.
    fn insert(&self, cell: Arc<Cell>) -> Inserted;

    /// Takes out `cell` itself, and no other with its key.
    fn remove(&self, cell: &Arc<Cell>) -> Removed;
}

/// What became of a cell that was to be put in.
pub(super) enum Inserted {
    New,
    Found(Arc<Cell>),
}

/// What became of a cell that was to be taken out.
pub(super) enum Removed {
    Now,
    Before,
}

/// [`KeyMap`] by DashMap. Key and cell are one allocation, so that the table itself is 9 bytes a slot.
pub(super) struct DashKeys(DashMap<ByKey, (), RandomState>);

/// A cell that is found by its key.
#[derive(Debug)]
struct ByKey(Arc<Cell>);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct ShardedStore<M: KeyMap = DashKeys> {
    map: M,
    /// How many cells are in the map or about to be.
    keys: AtomicUsize,
    /// Every cell of the map, the next to be swept first.
    round: Mutex<VecDeque<Arc<Cell>>>,
}

/// The charges of one admission, as long as they can be given back.
#[derive(Debug, Default)]
pub(super) struct Charged(SmallVec<[(Arc<Cell>, Stamp); 2]>);

/// The stamps of one call, in the order of its charges.
type Stamps = SmallVec<[Stamp; 4]>;

/// No cell could be had.
struct Full;

/// Who holds a cell that no call is using: the map and the sweep.
const IDLE_OWNERS: usize = 2;

/// Shards of the map. More than the threads that will ever want one at once; an empty one takes 128 bytes.
const SHARDS: usize = 256;

/// How many keys a call looks at when the map is full, to make room for its own. More of
/// them than a call has keys, so that a flood of new callers frees places faster than it takes them.
const FULL_STEP: usize = 64;

/// How long a caller without a key is sent away: ten steps of the sweep, which look at 160,000 keys.
const KEYS_FULL_RETRY: RetryAfter = RetryAfter::new(Duration::from_secs(10));

// === impl ShardedStore ===

impl<M: KeyMap> ShardedStore<M> {
    /// See [`Limiter::acquire`](crate::limit::Limiter::acquire).
    pub(super) fn acquire(&self, charges: &Charges<'_>, clock: &Clock) -> Result<Admission, LimitError> {
        loop {
            let cell = |charge: &Charge<'_>| self.cell(&charge.key, charges, clock);
            let cells: SmallVec<[_; 4]> = charges.charges.iter().map(cell).collect::<Result<_, Full>>()?;
            let Some(charged) = attempt(&charges.charges, &cells, clock) else {
                cells.iter().filter(|cell| cell.log.lock().is_none()).for_each(|cell| self.take_out(cell));
                continue;
            };
            let (stamps, standings) = charged?;
            return Ok(Admission { charged: Charged(cells.into_iter().zip(stamps).collect()), standings });
        }
    }

    /// See [`Limiter::keys`](crate::limit::Limiter::keys).
    pub(super) fn keys(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// Looks at the next `step` cells, or at all if there are fewer, and removes those whose log has expired.
    pub(super) fn sweep(&self, step: usize, clock: &Clock) -> Swept {
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
    fn cell(&self, key: &LimitKey, charges: &Charges<'_>, clock: &Clock) -> Result<Arc<Cell>, Full> {
        if let Some(cell) = self.map.get(key) {
            return Ok(cell);
        }
        let max_keys = charges.max_keys.get() as usize;
        let inserted = self.insert(key, max_keys).or_else(|Full| {
            self.sweep(FULL_STEP, clock);
            self.insert(key, max_keys)
        });
        // Another call may have taken the last place for this very key.
        inserted.or_else(|full| self.map.get(key).ok_or(full))
    }

    fn insert(&self, key: &LimitKey, max_keys: usize) -> Result<Arc<Cell>, Full> {
        let one_more = |keys| (keys < max_keys).then_some(keys + 1);
        self.keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).map_err(|_| Full)?;
        let cell = Arc::new(Cell { key: *key, log: Mutex::new(Some(SlidingWindowLog::default())) });
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
    fn take_out(&self, cell: &Arc<Cell>) {
        match self.map.remove(cell) {
            Removed::Now => {
                self.keys.fetch_sub(1, Ordering::Relaxed);
            }
            Removed::Before => {}
        }
    }
}

/// Locks the cells, reads the clock and charges the call; nothing if the sweep has emptied one of the cells.
fn attempt(
    charges: &[Charge<'_>],
    cells: &[Arc<Cell>],
    clock: &Clock,
) -> Option<Result<(Stamps, Standings), OverLimit>> {
    // In the order of their keys, by INVARIANT of `Charges`: so no two calls wait for each other.
    let mut locked: SmallVec<[MutexGuard<'_, _>; 4]> = cells.iter().map(|cell| cell.log.lock()).collect();
    let logs = locked.iter_mut().map(|log| log.as_mut());
    let mut logs = logs.collect::<Option<SmallVec<[&mut SlidingWindowLog; 4]>>>()?;
    let now = clock.steady();
    Some(charge(charges, &mut logs, now).map(|stamps| (stamps, standings(charges, &logs, now))))
}

/// Writes the call into every log, or into none if one of them has no room for it.
fn charge(
    charges: &[Charge<'_>],
    logs: &mut [&mut SlidingWindowLog],
    now: Steady,
) -> Result<Stamps, OverLimit> {
    let mut fullest: Option<(Steady, &Charge<'_>, Rate)> = None;
    for (charge, log) in charges.iter().zip(logs.iter()) {
        for rate in &charge.quota.rates {
            let opens = log.opens(*rate);
            if opens > now && fullest.is_none_or(|(latest, ..)| opens > latest) {
                fullest = Some((opens, charge, *rate));
            }
        }
    }
    if let Some((opens, charge, rate)) = fullest {
        return Err(OverLimit {
            limit: charge.quota.name.clone(),
            rate,
            retry_after: RetryAfter::new(opens.since(now)),
            standings: standings(charges, logs, now),
        });
    }
    Ok(charges.iter().zip(logs).map(|(charge, log)| log.admit(&charge.quota.rates, now)).collect())
}

/// How every rate of the charged quotas stands.
fn standings(charges: &[Charge<'_>], logs: &[&mut SlidingWindowLog], now: Steady) -> Standings {
    let mut standings = Standings::new();
    for (Charge { quota, .. }, log) in charges.iter().zip(logs) {
        for rate in &quota.rates {
            let usage = log.usage(*rate, now);
            standings.push(Standing {
                limit: quota.name.clone(),
                rate: *rate,
                remaining: usage.remaining,
                grows_in: usage.grows_in,
                shown: quota.visibility == Visibility::Shown,
            });
        }
    }
    standings
}

// === impl Full ===

impl From<Full> for LimitError {
    fn from(Full: Full) -> Self {
        Self::KeysFull { retry_after: KEYS_FULL_RETRY }
    }
}

// === impl Charged ===

impl Charged {
    /// The charges stay for good.
    pub(super) fn keep(&mut self) {
        self.0.clear();
    }

    /// Takes every charge back that is not yet out of its windows.
    pub(super) fn give_back(&mut self) {
        for (cell, stamp) in self.0.drain(..) {
            if let Some(log) = cell.log.lock().as_mut() {
                log.refund(stamp);
            }
        }
    }
}

// === impl DashKeys ===

impl KeyMap for DashKeys {
    fn get(&self, key: &LimitKey) -> Option<Arc<Cell>> {
        self.0.get(key).map(|found| found.key().0.clone())
    }

    fn insert(&self, cell: Arc<Cell>) -> Inserted {
        match self.0.entry(ByKey(cell)) {
            Entry::Occupied(found) => Inserted::Found(found.key().0.clone()),
            Entry::Vacant(place) => {
                place.insert(());
                Inserted::New
            }
        }
    }

    fn remove(&self, cell: &Arc<Cell>) -> Removed {
        match self.0.remove_if(&cell.key, |found, ()| Arc::ptr_eq(&found.0, cell)) {
            Some(_) => Removed::Now,
            None => Removed::Before,
        }
    }
}

impl Default for DashKeys {
    fn default() -> Self {
        Self(DashMap::with_hasher_and_shard_amount(RandomState::default(), SHARDS))
    }
}

impl std::fmt::Debug for DashKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DashKeys").finish_non_exhaustive()
    }
}

impl Borrow<LimitKey> for ByKey {
    fn borrow(&self) -> &LimitKey {
        &self.0.key
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

#[cfg(test)]
mod tests;
