//! What calls owe: charges that can be given back, and places of calls that wait.

use smallvec::SmallVec;

use super::super::sync::Arc;
use super::{Asked, At, Cell, Debt, Granted, Locked, Stamps};
use crate::limit::charges::{Claim, Places, Way};
use crate::limit::decision::place_again;
#[cfg(test)]
use crate::limit::key::RuleId;
use crate::limit::quota::{Effect, Quota};
use crate::limit::scribe::Scribe;
use crate::limit::window::{Cost, Stamp};
use crate::time::{Clock, Steady};

/// The charges of one admission, as long as they can be given back, and the calls on their way that it is among.
#[derive(Debug, Default)]
pub(in crate::limit) struct Charged {
    paid: SmallVec<[Paid; 2]>,
    scribe: Scribe,
}

/// What was charged to one key.
#[derive(Debug)]
pub(super) struct Paid {
    cell: Arc<Cell>,
    stamp: Stamp,
    cost: Cost,
    owes: Owes,
}

/// What a key gets back from an admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owes {
    /// The charge, unless the call was forwarded.
    Charge,
    /// That, and when it ends the call is no longer on its way.
    ChargeAndWay,
    /// The call was forwarded, and is on its way.
    Way,
}

/// The place of a call that waits, the same moment in all its keys.
#[derive(Debug)]
pub(in crate::limit) struct Reserved {
    /// In the order of their rules.
    keys: SmallVec<[Key; 2]>,
    overrun: Places,
    at: Stamp,
    last: Steady,
    scribe: Scribe,
}

/// One key of a call that waits.
#[derive(Debug)]
struct Key {
    cell: Arc<Cell>,
    quota: std::sync::Arc<Quota>,
    place: u8,
    way: Way,
}

// === impl Charged ===

impl Charged {
    pub(super) fn new(debts: SmallVec<[Debt<'_>; 8]>, stamps: &Stamps, scribe: &Scribe) -> Self {
        let paid = debts.into_iter().zip(stamps).filter_map(|((cell, claim), stamp)| {
            let stamp = (*stamp)?;
            Some(Paid { cell, stamp, cost: claim.quota.cost, owes: Owes::by(claim.quota) })
        });
        Self { paid: paid.collect(), scribe: scribe.clone() }
    }

    pub(super) fn only(cell: Arc<Cell>, quota: &Quota, stamp: Stamp, scribe: &Scribe) -> Self {
        let mut paid = SmallVec::new();
        paid.push(Paid { cell, stamp, cost: quota.cost, owes: Owes::by(quota) });
        Self { paid, scribe: scribe.clone() }
    }

    /// The charges stay for good.
    pub(in crate::limit) fn keep(&mut self) {
        self.paid.retain(|paid| {
            let on_its_way = paid.owes != Owes::Charge;
            paid.owes = Owes::Way;
            on_its_way
        });
    }

    /// Takes every charge back that is not yet out of its windows. The call is no longer on its way.
    pub(in crate::limit) fn give_back(&mut self) {
        for Paid { cell, stamp, cost, owes } in self.paid.drain(..) {
            let mut log = cell.log.lock();
            let Some(log) = log.as_mut() else { continue };
            if owes != Owes::Way {
                cell.leave(log, stamp, cost, &self.scribe);
            }
            if owes != Owes::Charge {
                log.arrive();
            }
        }
    }
}

/// The rules of the keys that are still owed something.
#[cfg(test)]
impl From<&Charged> for Vec<RuleId> {
    fn from(charged: &Charged) -> Self {
        charged.paid.iter().filter_map(|paid| RuleId::of(paid.cell.key.as_bytes())).collect()
    }
}

#[cfg(test)]
impl From<&Reserved> for Vec<RuleId> {
    fn from(reserved: &Reserved) -> Self {
        reserved.keys.iter().filter_map(|key| RuleId::of(key.cell.key.as_bytes())).collect()
    }
}

// === impl Owes ===

impl Owes {
    fn by(quota: &Quota) -> Self {
        match quota.in_flight {
            Some(_) => Self::ChargeAndWay,
            None => Self::Charge,
        }
    }
}

// === impl Reserved ===

impl Reserved {
    pub(super) fn new(
        debts: SmallVec<[Debt<'_>; 8]>,
        stamps: &Stamps,
        overrun: Places,
        at: Stamp,
        last: Steady,
        scribe: &Scribe,
    ) -> Self {
        let placed = debts.into_iter().zip(stamps).filter(|(_, stamp)| stamp.is_some());
        let keys = placed.map(|((cell, Claim { quota, place, way }), _)| Key {
            cell,
            quota: quota.clone(),
            place,
            way,
        });
        Self { keys: keys.collect(), overrun, at, last, scribe: scribe.clone() }
    }

    /// When its turn is.
    pub(in crate::limit) fn at(&self) -> Stamp {
        self.at
    }

    /// Its turn has come: it is charged for good, as of the moment that was promised, whenever it was woken. If as many
    /// calls are on their way as may be, it gives its place back, and that limit is named by its place.
    pub(in crate::limit) fn take_turn(mut self) -> Result<Granted, u8> {
        let (mut busy, mut overrun) = (None, Places::default());
        {
            let mut locked = self.lock();
            let mut asked = self.asked(&mut locked);
            for (Claim { quota, place, .. }, log) in &asked {
                match quota.effect {
                    _ if quota.in_flight.is_none_or(|most| log.in_flight() < most.get()) => {}
                    Effect::Enforced => busy = busy.or(Some(*place)),
                    Effect::Shadow => overrun = overrun.with(*place),
                }
            }
            if busy.is_none() {
                for (key, (claim, log)) in self.keys.iter().zip(&mut asked) {
                    log.end_wait();
                    // One that is only tried counts what it would have let in.
                    if overrun.has(claim.place) {
                        key.cell.leave(log, self.at, claim.quota.cost, &self.scribe);
                    } else if claim.quota.in_flight.is_some() {
                        log.depart();
                    }
                }
            }
        }
        if let Some(place) = busy {
            self.give_back();
            return Err(place);
        }
        let let_in = self.keys.into_iter().filter(|key| !overrun.has(key.place));
        let paid = let_in.map(|Key { cell, quota, .. }| Paid {
            cell,
            stamp: self.at,
            cost: quota.cost,
            owes: Owes::by(&quota),
        });
        let charged = Charged { paid: paid.collect(), scribe: self.scribe };
        Ok(Granted { charged, overrun: self.overrun.and(overrun) })
    }

    /// Gives its place back: it was never there.
    pub(in crate::limit) fn give_back(&mut self) {
        for Key { cell, quota, .. } in &self.keys {
            if let Some(log) = cell.log.lock().as_mut() {
                cell.leave(log, self.at, quota.cost, &self.scribe);
                log.end_wait();
            }
        }
    }

    /// Gives a call that has given its place back the first one from `from` on, in the keys that it had. If that is
    /// later than it waits for, it has none, and this is when it would have been.
    pub(in crate::limit) fn place_again(&mut self, from: Steady, clock: &Clock) -> Result<(), Steady> {
        let mut locked = self.lock();
        let mut asked = self.asked(&mut locked);
        let now = clock.steady();
        asked.iter_mut().for_each(|(_, log)| log.settle(now));
        let from = Stamp::from_millis(from.millis_up().max(now.millis_up()));
        let (at, overrun) = place_again(&asked, from, now);
        if Steady::from_millis(at.millis()) > self.last {
            return Err(Steady::from_millis(at.millis()));
        }
        for (key, (claim, log)) in self.keys.iter().zip(asked) {
            if !overrun.has(claim.place) {
                key.cell.enter(log, claim, At::Later(at, self.last), now, &self.scribe);
            }
        }
        drop(locked);
        self.at = at;
        self.overrun = self.overrun.and(overrun);
        self.keys.retain(|key| !overrun.has(key.place));
        Ok(())
    }

    fn lock(&self) -> Locked<'_> {
        self.keys.iter().map(|key| key.cell.log.lock()).collect()
    }

    /// The logs, none of which is gone: the sweep passes over a cell that a call holds.
    fn asked<'l>(&'l self, locked: &'l mut Locked<'_>) -> SmallVec<[Asked<'l, 'l>; 8]> {
        let asked = self.keys.iter().zip(locked).filter_map(|(key, log)| {
            let Key { quota, place, way, .. } = key;
            Some((Claim { quota, place: *place, way: *way }, log.as_mut()?))
        });
        asked.collect()
    }
}
