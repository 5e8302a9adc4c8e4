//! The store in memory: a log for each key, behind a lock of its own, in a sharded map.
//!
//! # What can go wrong between threads, and why it does not
//!
//! - *Deadlock.* A thread that holds a log's lock waits only for logs of later rules, and never for the map. One that
//!   holds a shard of the map waits at most for one log: a call with a single key is decided there and then, which
//!   spares it to count itself among the cell's owners. So no circle of waiting threads can close.
//! - *A shard that is held for long.* As long as one log is: microseconds, since a ring that has to grow, up to 4 MB,
//!   does so without the shard. Only new keys of the same shard, one of 256, wait for that.
//! - *Half a charge.* All logs of a call are locked before the first is looked at and until the last is written.
//! - *A reading too old.* The clock is read when the locks are held, so that no stamp is older than one before it.
//! - *A refusal for a reason that is gone.* What a refused call has found, until when the key is full, lies beside the log,
//!   and the next call with a single key is refused by it without the lock. Whatever changes the log wipes it out first,
//!   under the lock; a call that reads it in that very moment is refused as one that came just before would have been.
//! - *A charge to a log that nobody finds.* The sweep takes the log out of its cell under the cell's lock, and only
//!   then the cell out of the map. A call that finds an empty cell takes it out too and starts over.
//! - *Starting over for ever.* The sweep passes over a cell that a call holds, so a call starts over only if it got the
//!   cell between the sweep's look at its owners and the end of its lock: once for each pass of the sweep at most, and
//!   never for a sweep of its own.
//! - *One key more than may be.* A key is counted before it is put into the map, so there are never more than `max_keys`.
//!   Of calls that come for the last free place at once, one gets it; the others are told to come again.
//! - *A key refused while another could go.* A call that finds the map full looks at 16,384 keys at most, and the next goes
//!   on behind it. Under a flood every key is looked at once a second; one that could go since then may be overlooked
//!   until the next.
//! - *A refund that is not one step.* The charges of a dropped admission are given back key by key. In between another
//!   call may find room in one and none in the next: it is refused, as it would have been just before.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash, Hasher};

use dashmap::{DashMap, Entry};
use foldhash::fast::{FoldHasher, RandomState};

use crate::limit::charges::{Charges, Claim, Way};
use crate::limit::key::{LimitKey, StoredKey};
use crate::limit::quota::Quota;
use crate::limit::sync;
use crate::limit::sync::Arc;
use crate::limit::window::SlidingWindowLog;

mod cells;
#[cfg(test)]
mod model;

pub(super) use cells::{Cell, Cells, Charged, Closed, Granted, Inserted, KeyMap, Placed, Removed, Reserved};

/// The cells of every key that the process knows.
pub(super) type ShardedStore = Cells<DashKeys>;

/// [`KeyMap`] by DashMap. Key and cell are one allocation, so that the table itself is 9 bytes a slot.
#[derive(Clone)]
pub(super) struct DashKeys(std::sync::Arc<DashMap<ByKey, (), KeyHash>>);

/// foldhash, fed with keys in the pieces that they were put together from: a processor waits for bytes that it has just
/// written in two pieces and reads in one.
#[derive(Clone, Default)]
struct KeyHash(RandomState);

struct KeyHasher(FoldHasher<'static>);

/// A cell that is found by its key.
#[derive(Debug)]
struct ByKey(Arc<Cell>);

/// Shards of the map. More than the threads that will ever want one at once; an empty one takes 128 bytes.
const SHARDS: usize = 256;

// === impl ShardedStore ===

impl ShardedStore {
    /// Shows `look` every key and its log. Each log is locked while it is looked at, and so are the 256th part of the
    /// keys against new ones: of a million keys, for half a millisecond.
    pub(super) fn each(&self, mut look: impl FnMut(&[u8], &SlidingWindowLog)) {
        for entry in self.map.0.iter() {
            let cell = &entry.key().0;
            if let Some(log) = cell.log.lock().as_ref() {
                look(cell.key.as_bytes(), log);
            }
        }
    }
}

// === impl DashKeys ===

impl DashKeys {
    /// The cells of all keys, each shard of the map locked while its own are listed.
    pub(super) fn cells(&self) -> Vec<Arc<Cell>> {
        self.0.iter().map(|found| found.key().0.clone()).collect()
    }
}

impl KeyMap for DashKeys {
    fn find<T>(&self, key: &LimitKey, look: impl FnOnce(&Arc<Cell>) -> T) -> Option<T> {
        self.0.get(key.as_bytes()).map(|found| look(&found.key().0))
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

    fn each(&self, mut look: impl FnMut(&Arc<Cell>)) {
        self.0.iter().for_each(|found| look(&found.key().0));
    }

    fn remove(&self, cell: &Arc<Cell>) -> Removed {
        match self.0.remove_if(cell.key.as_bytes(), |found, ()| Arc::ptr_eq(&found.0, cell)) {
            Some(_) => Removed::Now,
            None => Removed::Before,
        }
    }
}

impl Default for DashKeys {
    fn default() -> Self {
        let map = DashMap::with_hasher_and_shard_amount(KeyHash::default(), SHARDS);
        Self(std::sync::Arc::new(map))
    }
}

impl std::fmt::Debug for DashKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DashKeys").finish_non_exhaustive()
    }
}

// === impl KeyHash ===

impl BuildHasher for KeyHash {
    type Hasher = KeyHasher;

    #[inline]
    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(self.0.build_hasher())
    }
}

impl Hasher for KeyHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (ids, rest) = bytes.as_chunks();
        ids.iter().for_each(|id| self.0.write_u128(u128::from_ne_bytes(*id)));
        let (numbers, rest) = rest.as_chunks();
        numbers.iter().for_each(|number| self.0.write_u32(u32::from_ne_bytes(*number)));
        rest.iter().for_each(|byte| self.0.write_u8(*byte));
    }

    #[inline]
    fn write_usize(&mut self, length: usize) {
        self.0.write_usize(length);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

// === impl Cells ===

impl Cells<DashKeys> {
    /// Puts in a key as another process left it. Nobody else uses the cells yet.
    pub(super) fn restore(&self, key: StoredKey, log: SlidingWindowLog) {
        let cell = Arc::new(Cell::new(key, log));
        if let Inserted::New = self.map.insert(cell.clone()) {
            self.keys.fetch_add(1, sync::Ordering::Relaxed);
            self.round.lock().push(cell);
        }
    }

    /// How many calls wait for one of the limits of a call. None do for one with parts, as far as is known here: each of
    /// its parts has a queue of its own.
    pub(super) fn waiting(&self, charges: &Charges<'_>, limit: &Quota) -> u32 {
        let mut waiting = 0;
        let Ok(()) = charges.try_each(|key, Claim { quota, way, .. }| {
            if way == Way::Whole && std::ptr::eq(&**quota, limit) {
                let queued = |cell: &Arc<Cell>| cell.log.lock().as_ref().map_or(0, |log| log.queued().1);
                waiting = self.map.find(key, queued).unwrap_or(0);
            }
            Ok::<(), std::convert::Infallible>(())
        });
        waiting
    }

    /// The map itself.
    pub(super) fn map(&self) -> &DashKeys {
        &self.map
    }
}

// === impl Cell ===

impl Cell {
    pub(super) fn key(&self) -> &StoredKey {
        &self.key
    }

    /// What `look` makes of its log; none if the sweep has taken it out.
    pub(super) fn look<T>(&self, look: impl FnOnce(&SlidingWindowLog) -> Option<T>) -> Option<T> {
        look(self.log.lock().as_ref()?)
    }
}

impl Borrow<[u8]> for ByKey {
    fn borrow(&self) -> &[u8] {
        self.0.key.as_bytes()
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key.as_bytes() == other.0.key.as_bytes()
    }
}

impl Eq for ByKey {}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.as_bytes().hash(state);
    }
}

#[cfg(test)]
mod tests;
