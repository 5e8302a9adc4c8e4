//! How calls, refunds and the sweep share the cells. The locks and counters are `super`'s: the threads' own, or those of
//! a model checker that runs the same text.

use smallvec::SmallVec;

use super::sync::{Arc, AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering};
use crate::limit::charges::{Charges, Claim, Places};
use crate::limit::decision::{Asked, At, Hold, Refused, Turn, Verdict, When, decide};
use crate::limit::key::{LimitKey, StoredKey};
use crate::limit::quota::Effect;
use crate::limit::saved::in_whole_seconds;
use crate::limit::scribe::Scribe;
use crate::limit::window::{Cost, SlidingWindowLog, Stamp};
use crate::time::{Clock, Steady};

#[path = "cells/alone.rs"]
mod alone;
#[path = "cells/charged.rs"]
mod charged;
#[path = "cells/round.rs"]
mod round;
#[path = "cells/shut.rs"]
mod shut;
#[path = "cells/shut_out.rs"]
mod shut_out;
#[path = "cells/usages.rs"]
mod usages;

pub(in crate::limit) use charged::{Charged, Reserved};
use round::Round;
use shut::Shut;
use shut_out::shut_out;

/// The place of one key: its log, until the sweep has taken it out. 88 bytes for most keys, and the counter of `Arc`.
#[derive(Debug)]
pub(in crate::limit) struct Cell {
    pub(super) key: StoredKey,
    shut: Shut,
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

    /// Shows `look` every cell that was put in before it began, and perhaps others. A part of the map is locked meanwhile.
    fn each(&self, look: impl FnMut(&Arc<Cell>));

    /// Takes out `cell` itself, and no other with its key.
    fn remove(&self, cell: &Arc<Cell>) -> Removed;
}

/// Whether anybody is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::limit) enum Closed {
    ToAll,
    ToNobody,
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
    pub(super) keys: AtomicUsize,
    pub(super) round: Mutex<Round>,
    /// Writes down every stamp that enters a log, every one that leaves it other than by its age, and which parts are wanted
    /// back.
    pub(in crate::limit) scribe: Scribe,
    /// Set when another process is to have the keys: nobody is charged any more. Read under the locks of a call's cells, so
    /// that whoever sets it and then has had each lock once knows that no charge is still being made; and behind whatever
    /// refuses a call without them.
    closed: AtomicBool,
}

/// A call that was charged.
#[derive(Debug, Default)]
pub(in crate::limit) struct Granted {
    pub(in crate::limit) charged: Charged,
    /// The limits that would have refused it, if they were enforced.
    pub(in crate::limit) overrun: Places,
}

/// A call that has its turn now, or has one to wait for.
#[derive(Debug)]
pub(in crate::limit) enum Placed {
    Now(Granted),
    Later(Reserved),
}

/// A call that was decided, and where it was entered.
struct Outcome<'a> {
    debts: SmallVec<[Debt<'a>; 8]>,
    turn: Turn,
    stamps: Stamps,
}

/// A key that a call may be charged to, and how.
type Debt<'a> = (Arc<Cell>, Claim<'a>);

/// The logs of a call while it is decided, in the order of their rules.
type Locked<'l> = SmallVec<[MutexGuard<'l, Option<SlidingWindowLog>>; 8]>;

/// What became of each debt: its stamp, if the call was charged to it.
type Stamps = SmallVec<[Option<Stamp>; 8]>;

/// Who holds a cell that no call is using: the map and the sweep.
const IDLE_OWNERS: usize = 2;

// === impl Cells ===

impl<M> Cells<M> {
    /// Whether nobody is charged.
    #[inline]
    pub(in crate::limit) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// The same refusal, which was found without the lock of a cell, as long as anybody is charged. Later it is for
    /// whoever has the keys then to refuse.
    fn unless_closed<'a>(&self, refused: Refused<'a>) -> Refused<'a> {
        if self.is_closed() { Refused::Ended } else { refused }
    }
}

impl<M: KeyMap> Cells<M> {
    /// Charges a call to all its limits, or to none.
    #[inline]
    pub(in crate::limit) fn acquire<'a>(
        &self,
        charges: &Charges<'a>,
        clock: &Clock,
    ) -> Result<Granted, Refused<'a>> {
        match self.acquire_alone(charges, clock) {
            Some(decided) => decided,
            None => self.acquire_all(charges, clock),
        }
    }

    fn acquire_all<'a>(&self, charges: &Charges<'a>, clock: &Clock) -> Result<Granted, Refused<'a>> {
        let Outcome { debts, turn, stamps } = self.decide(charges, Hold::Never, clock)?;
        let charged = Charged::new(debts, &stamps, &self.scribe);
        Ok(Granted { charged, overrun: turn.overrun })
    }

    /// The same, but a call that has to wait, and may, is given a place in all its limits, or in none.
    pub(in crate::limit) fn hold<'a>(
        &self,
        charges: &Charges<'a>,
        clock: &Clock,
    ) -> Result<Placed, Refused<'a>> {
        let Outcome { debts, turn, stamps } = self.decide(charges, Hold::IfItMay, clock)?;
        let Turn { at, overrun, .. } = turn;
        Ok(match at {
            At::Now => {
                let charged = Charged::new(debts, &stamps, &self.scribe);
                Placed::Now(Granted { charged, overrun })
            }
            At::Later(at, last) => {
                Placed::Later(Reserved::new(debts, &stamps, overrun, at, last, &self.scribe))
            }
        })
    }

    fn decide<'a>(
        &self,
        charges: &Charges<'a>,
        hold: Hold,
        clock: &Clock,
    ) -> Result<Outcome<'a>, Refused<'a>> {
        let overrun = shut_out(charges, clock).map_err(|refused| self.unless_closed(refused))?;
        loop {
            let mut debts: SmallVec<[Debt<'_>; 8]> = SmallVec::new();
            let mut overrun = overrun;
            charges.try_each(|key, claim| {
                match self.cell(key, charges, clock) {
                    Ok(cell) => debts.push((cell, claim)),
                    // A limit that is tried refuses nobody, also where there is no room for its key.
                    Err(_) if claim.quota.effect == Effect::Shadow => overrun = overrun.with(claim.place),
                    Err(full) => return Err(self.unless_closed(full)),
                }
                Ok(())
            })?;
            debts.retain(|(_, claim)| !overrun.has(claim.place));
            // No two calls wait for each other: all lock in this order, and no rule is there twice.
            if !debts.is_sorted_by_key(|(_, claim)| claim.rule()) {
                debts.sort_unstable_by_key(|(_, claim)| claim.rule());
            }
            let Some(decided) = attempt(&debts, charges, hold, clock, self) else {
                let emptied = debts.iter().filter(|(cell, _)| cell.log.lock().is_none());
                emptied.for_each(|(cell, _)| self.take_out(cell));
                continue;
            };
            let (mut turn, stamps) = decided?;
            turn.overrun = turn.overrun.and(overrun);
            return Ok(Outcome { debts, turn, stamps });
        }
    }

    /// Charges nobody from now on, or again.
    pub(in crate::limit) fn close(&self, closed: Closed) {
        self.closed.store(closed == Closed::ToAll, Ordering::Relaxed);
        // Whoever has a lock may have looked before; whoever has it next has not.
        if closed == Closed::ToAll {
            self.map.each(|cell| drop(cell.log.lock()));
        }
    }

    /// How many cells there are.
    pub(in crate::limit) fn keys(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
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
            self.make_room(clock);
            self.insert(key, max_keys)
        });
        // Another call may have taken the last place for this very key.
        inserted.or_else(|full| self.map.find(key, Arc::clone).ok_or(full))
    }

    fn insert<'a>(&self, key: &LimitKey, max_keys: usize) -> Result<Arc<Cell>, Refused<'a>> {
        let one_more = |keys| (keys < max_keys).then_some(keys + 1);
        let counted = self.keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        counted.map_err(|_| Refused::NoCell)?;
        let cell = Arc::new(Cell::new(key.into(), SlidingWindowLog::default()));
        match self.map.insert(cell.clone()) {
            Inserted::New => {
                self.round.lock().push(cell.clone());
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

// === impl Cell ===

impl Cell {
    pub(super) fn new(key: StoredKey, log: SlidingWindowLog) -> Self {
        Self { key, shut: Shut::default(), log: Mutex::new(Some(log)) }
    }

    /// Every stamp that enters the log of a cell enters it here: of a call admitted now, or of one that has its turn
    /// later.
    fn enter(
        &self,
        log: &mut SlidingWindowLog,
        claim: Claim<'_>,
        at: At,
        now: Steady,
        scribe: &Scribe,
    ) -> Stamp {
        self.shut.forget();
        let (bounds, cost) = (claim.bounds(), claim.quota.cost);
        let stamp = match at {
            At::Now => log.admit(bounds, cost, now),
            At::Later(stamp, _) => {
                log.reserve(bounds, cost, stamp, now);
                stamp
            }
        };
        scribe.admitted(&self.key, log, stamp, cost);
        stamp
    }

    /// The owner of this part was refused, and wants it back until then.
    fn want(&self, log: &mut SlidingWindowLog, until: Steady, scribe: &Scribe) {
        let before = in_whole_seconds(log.wanted());
        log.want(until);
        let written = in_whole_seconds(log.wanted());
        if written > before {
            scribe.wanted(&self.key, log, written);
        }
    }

    /// Every stamp that leaves a log other than by its age leaves it here.
    fn leave(&self, log: &mut SlidingWindowLog, stamp: Stamp, cost: Cost, scribe: &Scribe) {
        self.shut.forget();
        log.refund(stamp, cost);
        scribe.given_back(&self.key, stamp, cost);
    }
}

/// Locks the cells, reads the clock and charges the call; nothing if the sweep has emptied one of the cells.
fn attempt<'a, M>(
    debts: &[Debt<'a>],
    charges: &Charges<'a>,
    hold: Hold,
    clock: &Clock,
    cells: &Cells<M>,
) -> Option<Result<(Turn, Stamps), Refused<'a>>> {
    let mut locked: Locked<'_> = debts.iter().map(|(cell, _)| cell.log.lock()).collect();
    let mut asked: SmallVec<[Asked<'_, '_>; 8]> = SmallVec::new();
    for (log, (_, claim)) in locked.iter_mut().zip(debts) {
        asked.push((*claim, log.as_mut()?));
    }
    if cells.is_closed() {
        return Some(Err(Refused::Ended));
    }
    let now = clock.steady();
    asked.iter_mut().filter(|(_, log)| !log.is_plain()).for_each(|(_, log)| log.settle(now));
    let Verdict { turn, wanted } = decide(&asked, When { now, from: charges.from, by: charges.by, hold });
    for (index, until) in wanted {
        if let (Some((_, log)), Some((cell, _))) = (asked.get_mut(index), debts.get(index)) {
            cell.want(log, until, &cells.scribe);
        }
    }
    Some(turn.map(|turn| {
        let mut charged = turn.charged.iter().copied().peekable();
        let stamps = debts.iter().zip(asked).enumerate().map(|(index, ((cell, claim), (_, log)))| {
            charged.next_if_eq(&index)?;
            let stamp = cell.enter(log, *claim, turn.at, now, &cells.scribe);
            if let (At::Now, Some(_)) = (turn.at, claim.quota.in_flight) {
                log.depart();
            }
            Some(stamp)
        });
        let stamps = stamps.collect();
        (turn, stamps)
    }))
}
