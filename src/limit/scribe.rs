//! Who writes windows down as they change: every admission and every one given back, under the lock of its key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::journal::{Durability, Journal, JournalError, JournalNumbers, Replayed, StateFolder, Unwritten};
use crate::limit::key::StoredKey;
use crate::limit::key::names::{NamedGroup, NamedRule};
use crate::limit::saved::{self, Anchor, Entry, Replay, Restored};
use crate::limit::sharded::{Cell, DashKeys};
use crate::limit::window::{Cost, Kept, SlidingWindowLog, Stamp};
use crate::time::{BootId, Clock};

/// Writes down what becomes of the keys, or nothing where the windows end with the process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Scribe(Option<Arc<Desk>>);

#[derive(Debug)]
struct Desk {
    journal: Journal,
    ledger: Arc<Ledger>,
}

/// What makes records of keys: their numbers, and what numbers in them mean.
#[derive(Debug)]
pub(super) struct Ledger {
    boot: BootId,
    clock: Clock,
    /// The number of the next record. Drawn under the lock of the record's key.
    next: AtomicU64,
    said: RwLock<Said>,
}

/// The rules and groups whose names were written, so that keys may have their numbers.
#[derive(Debug, Clone, Default)]
struct Said {
    /// By their numbers.
    rules: Vec<Option<NamedRule>>,
    /// Every group up to this number.
    groups: u32,
}

/// The windows of a state folder, of which nothing is written yet.
#[derive(Debug)]
pub(super) struct Opened {
    replayed: Replayed,
    ledger: Ledger,
    /// When they were read: what was still ahead then is gone, and so it is for whoever reads the file after that.
    read: Anchor,
}

/// What the file is called.
const NAME: &str = "windows";

/// Bytes of records that may wait for the disk: some 250,000 admissions of one key each, so that a disk that stands
/// still for a second costs nothing at any rate that the gateway can serve.
const QUEUE: usize = 16 << 20;

// === impl Scribe ===

impl Scribe {
    /// A call was entered in the log of this key, whose lock is held.
    #[inline]
    pub(super) fn admitted(&self, key: &StoredKey, log: &SlidingWindowLog, stamp: Stamp, cost: Cost) {
        if let Some(desk) = &self.0 {
            desk.name(key, log);
            // One that finds no room is counted, and made up for when the file is written anew.
            let _ = desk.journal.append(&desk.ledger.entry(key, stamp, cost).admitted());
        }
    }

    /// The owner of this part, whose key is locked, wants it back until then, in milliseconds of whole seconds.
    pub(super) fn wanted(&self, key: &StoredKey, log: &SlidingWindowLog, until: u64) {
        if let Some(desk) = &self.0 {
            desk.name(key, log);
            let _ = desk.journal.append(&saved::write_wanted(until, key.as_bytes()));
        }
    }

    /// The same call was taken out of it again.
    pub(super) fn given_back(&self, key: &StoredKey, stamp: Stamp, cost: Cost) {
        if let Some(desk) = &self.0 {
            let _ = desk.journal.append(&desk.ledger.entry(key, stamp, cost).given_back());
        }
    }

    /// Waits until everything that was written down so far survives as much as this; at once where nothing is.
    ///
    /// # Errors
    /// The journal can't be written.
    pub(super) async fn written(&self, durability: Durability) -> Result<(), Unwritten> {
        let Some(desk) = &self.0 else { return Ok(()) };
        let end = desk.journal.end().map_err(|_| Unwritten)?;
        desk.journal.written(end, durability).await
    }

    /// Writes down how the two clocks stand now.
    pub(super) fn anchor(&self) {
        if let Some(desk) = &self.0 {
            let _ = desk.journal.append(&saved::write_anchor(desk.ledger.now()));
        }
    }

    /// The journal's name, and how it stands; none where nothing is written.
    pub(super) fn journal(&self) -> Option<(&'static str, JournalNumbers)> {
        self.0.as_ref().map(|desk| (desk.journal.name(), desk.journal.numbers()))
    }

    /// Writes what is not written yet, and then leaves the file alone until it is resumed.
    ///
    /// # Errors
    /// The disk does not take it: then it goes on.
    pub(super) fn suspend(&self) -> Result<(), Unwritten> {
        self.0.as_ref().map_or(Ok(()), |desk| desk.journal.suspend())
    }

    /// Goes on writing.
    pub(super) fn resume(&self) {
        if let Some(desk) = &self.0 {
            desk.journal.resume();
        }
    }

    /// Writes what is not written yet, and how the two clocks stand; from now on nothing is.
    pub(super) fn close(&self) {
        self.anchor();
        if let Some(desk) = &self.0 {
            desk.journal.close();
        }
    }
}

// === impl Desk ===

impl Desk {
    /// Says what the numbers in a key mean, unless that was said.
    #[inline]
    fn name(&self, key: &StoredKey, log: &SlidingWindowLog) {
        let kept = log.kept();
        if !self.ledger.said.read().covers(key, kept) {
            self.ledger.said.write().say(key, kept, |record| self.journal.append(record).is_ok());
        }
    }
}

/// Writes these keys to a folder, in the place of what it has.
pub(super) fn write_to(
    folder: &StateFolder,
    keys: &DashKeys,
    boot: BootId,
    clock: &Clock,
) -> Result<(), JournalError> {
    folder.write(NAME, |put| Ledger::new(1, boot, clock).write_all(keys, put))
}

// === impl Opened ===

impl Opened {
    /// Reads the windows of a folder back.
    pub(super) fn open(
        folder: &StateFolder,
        max_keys: usize,
        boot: BootId,
        clock: &Clock,
    ) -> Result<(Self, Restored), JournalError> {
        let mut replay = Replay::default();
        let replayed = folder.replay(NAME, |record| replay.read(record))?;
        if replay.strange > 0 {
            tracing::error!(
                records = replay.strange,
                "records of windows could not be read and are left out"
            );
        }
        let now = Anchor::new(clock.steady(), clock.wall());
        let restored = replay.finish(boot, now, max_keys);
        if restored.left_out > 0 {
            tracing::error!(
                keys = restored.left_out,
                "more windows were kept than `max_keys` admits: those that end first are forgotten"
            );
        }
        let ledger = Ledger::new(restored.next, boot, clock);
        Ok((Self { replayed, ledger, read: now }, restored))
    }

    /// Begins to write what becomes of these keys.
    pub(super) fn start(self, keys: DashKeys) -> Result<Scribe, JournalError> {
        let ledger = Arc::new(self.ledger);
        let live = {
            let ledger = ledger.clone();
            move |put: &mut dyn FnMut(&[u8])| ledger.write_all(&keys, put)
        };
        let journal = self.replayed.start(Durability::Process, QUEUE, Box::new(live))?;
        // INVARIANT: it is written once, before any admission: what stands before it and lies ahead of its reading is gone for
        // whoever reads the file. A file that has room for nothing would be said so by the first admission.
        let _ = journal.append(&saved::write_session(ledger.boot, self.read));
        Ok(Scribe(Some(Arc::new(Desk { journal, ledger }))))
    }
}

// === impl Ledger ===

impl Ledger {
    fn new(next: u64, boot: BootId, clock: &Clock) -> Self {
        Self { boot, clock: clock.clone(), next: AtomicU64::new(next), said: RwLock::default() }
    }

    fn now(&self) -> Anchor {
        Anchor::new(self.clock.steady(), self.clock.wall())
    }

    fn entry<'k>(&self, key: &'k StoredKey, stamp: Stamp, cost: Cost) -> Entry<'k> {
        Entry {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            stamp: stamp.millis(),
            // At most 1,000.
            cost: cost.get() as u16,
            key: key.as_bytes(),
        }
    }

    /// Writes everything that is needed to know every window. A key is locked for as long as its times are copied.
    pub(super) fn write_all(&self, keys: &DashKeys, put: &mut dyn FnMut(&[u8])) {
        put(&saved::write_session(self.boot, self.now()));
        let mut said = self.said.read().clone();
        said.rules.iter().flatten().for_each(|rule| put(&saved::write_rule(rule)));
        NamedGroup::all_from(1).iter().for_each(|group| put(&saved::write_group(group)));
        for cell in keys.cells() {
            let Some((number, kept, times, wanted)) = self.snapshot(&cell) else { continue };
            said.say(cell.key(), kept, |record| {
                put(record);
                true
            });
            saved::write_key(number, kept, cell.key().as_bytes(), &times, put);
            if wanted > 0 {
                let until = saved::in_whole_seconds(wanted);
                put(&saved::write_wanted(until, cell.key().as_bytes()));
            }
        }
    }

    /// The times of a key, the last record that they count, and until when it is wanted back; none if no window counts
    /// them.
    fn snapshot(&self, cell: &Cell) -> Option<(u64, Kept, Vec<u64>, u64)> {
        cell.look(|log| {
            let is_live = log.expires() > self.clock.steady();
            // Every number of this key was drawn under its lock, which is held.
            let number = self.next.load(Ordering::Relaxed).saturating_sub(1);
            is_live.then(|| (number, log.kept(), log.times().collect(), log.wanted()))
        })
    }
}

// === impl Said ===

impl Said {
    /// Whether all that the key says by number is known, and that its log keeps no more than its rule says.
    fn covers(&self, key: &StoredKey, kept: Kept) -> bool {
        match self.rules.get(key.rule_number() as usize) {
            Some(Some(rule)) => {
                let groups = !rule.counts_groups() || key.group_number() <= self.groups;
                groups && rule.longest >= kept.longest && rule.largest >= kept.largest.get()
            }
            Some(None) | None => false,
        }
    }

    /// Says what is missing; what was not heard is said again the next time.
    fn say(&mut self, key: &StoredKey, kept: Kept, mut put: impl FnMut(&[u8]) -> bool) {
        if self.covers(key, kept) {
            return;
        }
        let number = key.rule_number() as usize;
        let known = self.rules.get(number).cloned().flatten();
        let Some(mut rule) = known.or_else(|| NamedRule::find(key.rule_number())) else { return };
        rule.longest = rule.longest.max(kept.longest);
        rule.largest = rule.largest.max(kept.largest.get());
        if rule.counts_groups() {
            let news = NamedGroup::all_from(self.groups + 1);
            let last = news.iter().map(|group| group.number).max();
            if news.iter().all(|group| put(&saved::write_group(group))) {
                self.groups = last.unwrap_or(self.groups);
            }
        }
        if put(&saved::write_rule(&rule)) {
            if self.rules.len() <= number {
                self.rules.resize(number + 1, None);
            }
            if let Some(place) = self.rules.get_mut(number) {
                *place = Some(rule);
            }
        }
    }
}
