//! What was written down, read back.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::{Anchor, Entry, Record, in_whole_seconds};
use crate::limit::key::names::Numbers;
use crate::limit::key::{LimitKey, RuleId, StoredKey};
use crate::limit::window::{Kept, MAX_AHEAD, SlidingWindowLog};
use crate::time::{BootId, Steady};

/// The windows as the records that were read so far leave them.
///
/// Times are kept in the steady clock of the process that wrote them. Where another boot begins, all of them move at
/// once: by the last moment at which both of its clocks are known, and the first of the next boot, so that a time is as
/// long ago as the calendar's clock says, and never in the future.
#[derive(Debug, Default)]
pub(in crate::limit) struct Replay {
    keys: HashMap<StoredKey, Held, RandomState>,
    numbers: Numbers,
    /// What the keys of each rule were last said to keep their times for.
    kept: HashMap<RuleId, Kept>,
    session: Option<(BootId, Anchor)>,
    /// The last number that was drawn.
    last: u64,
    /// Records that say nothing that can be read.
    pub(in crate::limit) strange: u64,
}

/// One key. Two times need no memory of their own.
#[derive(Debug)]
struct Held {
    /// The last record that it counts.
    number: u64,
    kept: Kept,
    /// In milliseconds, oldest first.
    times: SmallVec<[u64; 2]>,
    /// Until when nobody but the owner of this part is admitted into it, in milliseconds; 0 if it was never wanted back.
    wanted: u64,
}

/// For how long, and how many, times were kept under each rule by the process before this one. What its limits had no use
/// for is gone.
#[derive(Debug, Clone, Default)]
pub struct KeptBefore(HashMap<RuleId, Kept>);

/// What was read back.
#[derive(Debug, Default)]
pub(in crate::limit) struct Restored {
    /// Every key that a window still counts a call of.
    pub(in crate::limit) keys: Vec<(StoredKey, SlidingWindowLog)>,
    /// The number of the next record.
    pub(in crate::limit) next: u64,
    /// For how long, and how many, times were kept under each rule.
    pub(in crate::limit) kept: KeptBefore,
    /// Keys that went since there were too many: those that would have been forgotten first.
    pub(in crate::limit) left_out: usize,
}

// === impl Replay ===

impl Replay {
    pub(in crate::limit) fn read(&mut self, record: &[u8]) {
        if Record::read(record).and_then(|record| self.take(record)).is_none() {
            self.strange += 1;
        }
    }

    fn take(&mut self, record: Record<'_>) -> Option<()> {
        match record {
            Record::Session { boot, anchor } => {
                self.begin(boot, anchor);
                self.numbers.forget();
            }
            Record::Anchor(anchor) => self.session.as_mut()?.1 = anchor,
            Record::Rule(rule) => {
                if let Some(known) = self.numbers.learn_rule(&rule)
                    && let Some(kept) = known.kept()
                {
                    self.kept.insert(known.id, kept);
                }
            }
            Record::Group(group) => self.numbers.learn_group(&group),
            Record::Admitted(entry) => {
                if let Some(held) = self.counts(&entry)? {
                    held.admit(entry.stamp, entry.cost.into());
                }
            }
            Record::GivenBack(entry) => {
                if let Some(held) = self.counts(&entry)? {
                    held.give_back(entry.stamp, entry.cost.into());
                }
            }
            Record::Held { number, kept, key, times } => {
                let (key, _) = self.numbers.read(key)?;
                self.last = self.last.max(number);
                let held = Held { number, kept, times: times.into(), wanted: 0 };
                self.keys.insert(StoredKey::from(&key), held);
            }
            Record::HeldMore { key, times } => {
                let (key, _) = self.numbers.read(key)?;
                self.keys.get_mut(key.as_bytes())?.times.extend(times);
            }
            Record::Wanted { until, key } => {
                let (key, rule) = self.numbers.read(key)?;
                let held = self.held(&key, rule.kept()?);
                held.wanted = held.wanted.max(until);
            }
        }
        Some(())
    }

    /// The key of an admission that it has not yet counted.
    fn counts(&mut self, entry: &Entry<'_>) -> Option<Option<&mut Held>> {
        let (key, rule) = self.numbers.read(entry.key)?;
        self.last = self.last.max(entry.number);
        let kept = rule.kept()?;
        let held = self.held(&key, kept);
        if entry.number <= held.number {
            return Some(None);
        }
        held.number = entry.number;
        held.kept.longest = held.kept.longest.max(kept.longest);
        held.kept.largest = held.kept.largest.max(kept.largest);
        Some(Some(held))
    }

    fn held(&mut self, key: &LimitKey, kept: Kept) -> &mut Held {
        let new = || Held { number: 0, kept, times: SmallVec::new(), wanted: 0 };
        self.keys.entry(StoredKey::from(key)).or_insert_with(new)
    }

    /// A process begins, perhaps on another boot.
    fn begin(&mut self, boot: BootId, now: Anchor) {
        let before = self.session.replace((boot, now));
        match before.filter(|(before, _)| *before != boot) {
            Some((_, last)) => self.cross_boot(last, now),
            // A moment ahead was promised to a call that waited, and that call ended with its process. The next one may
            // begin when it has come, so that it has to go now.
            None => self.keys.values_mut().for_each(|held| held.end_promises(now.steady)),
        }
    }

    fn cross_boot(&mut self, last: Anchor, now: Anchor) {
        // Every reading is rounded down: a time is made less than 4 ms later, and never earlier.
        let passed = now.wall.saturating_sub(last.wall).saturating_sub(1);
        // A call after the last anchor is less long ago than that, and is not taken for one at it. A moment that would
        // still be ahead was promised to a call that waited, or the calendar was set back: it counts as now.
        let then = last.steady.saturating_add(passed);
        for held in self.keys.values_mut() {
            held.times
                .iter_mut()
                .for_each(|time| *time = (now.steady + 1).saturating_sub(then.saturating_sub(*time)));
            let rest = held.wanted.saturating_sub(then);
            held.wanted = if rest > 0 { in_whole_seconds(now.steady.saturating_add(rest)) } else { 0 };
        }
    }

    /// The logs as they are `now`, on this boot: at most `max_keys`, those that are to be kept for the longest.
    pub(in crate::limit) fn finish(mut self, boot: BootId, now: Anchor, max_keys: usize) -> Restored {
        self.begin(boot, now);
        let live = self.keys.into_iter().filter_map(|(key, mut held)| {
            // What no window counts any more goes: a log tells times apart over 49 days only.
            let longest = u64::from(held.kept.longest);
            let dead = held.times.partition_point(|time| time.saturating_add(longest) <= now.steady);
            held.times.drain(..dead);
            let counted = held.times.last().map_or(0, |last| last.saturating_add(longest));
            let expires = counted.max(held.wanted);
            (expires > now.steady).then_some((expires, key, held))
        });
        let mut live: Vec<_> = live.collect();
        let mut kept = KeptBefore(self.kept);
        live.iter().for_each(|(_, key, held)| kept.add(key, held.kept));
        let left_out = live.len().saturating_sub(max_keys);
        if left_out > 0 {
            live.sort_unstable_by_key(|(expires, ..)| std::cmp::Reverse(*expires));
            live.truncate(max_keys);
        }
        let keys = live.into_iter();
        let keys = keys.map(|(_, key, held)| {
            let mut log = SlidingWindowLog::restored(held.kept, &held.times);
            if held.wanted > now.steady {
                log.want(Steady::from_millis(held.wanted));
            }
            (key, log)
        });
        Restored { keys: keys.collect(), next: self.last + 1, kept, left_out }
    }
}

// === impl KeptBefore ===

impl KeptBefore {
    /// A key may keep less than its rule has since: nobody was charged to it.
    fn add(&mut self, key: &StoredKey, kept: Kept) {
        let Some(rule) = RuleId::of(key.as_bytes()) else { return };
        let least = self.0.entry(rule).or_insert(kept);
        least.longest = least.longest.min(kept.longest);
        least.largest = least.largest.min(kept.largest);
    }

    /// What times were kept for under a rule; none if nobody was charged under it.
    pub(in crate::limit) fn of(&self, rule: RuleId) -> Option<Kept> {
        self.0.get(&rule).copied()
    }
}

// === impl Held ===

impl Held {
    fn admit(&mut self, stamp: u64, cost: usize) {
        // A promise to a call that waits may lie behind it.
        let place = self.times.partition_point(|time| *time <= stamp);
        self.times.insert_many(place, std::iter::repeat_n(stamp, cost));
        // A charge given back brings one more into sight, so more is kept than is counted; and so does a promise that ends
        // with its process, of which there may be more than a window counts.
        let enough = 2 * self.kept.largest.get() as usize + MAX_AHEAD;
        if self.times.len() >= 2 * enough {
            self.times.drain(..self.times.len() - enough);
        }
    }

    /// What was promised from now on goes. A call of this very millisecond is rounded up, and no promise.
    fn end_promises(&mut self, now: u64) {
        let end = self.times.partition_point(|time| *time <= now + 1);
        self.times.truncate(end);
    }

    fn give_back(&mut self, stamp: u64, cost: usize) {
        let end = self.times.partition_point(|time| *time <= stamp);
        let start = self.times.partition_point(|time| *time < stamp).max(end.saturating_sub(cost));
        self.times.drain(start..end);
    }
}
