//! Calls with a single key, as most are: each is decided while its part of the map is locked, which spares it to count
//! itself among the cell's owners.

use super::super::sync::Arc;
use super::{Cell, Cells, Charged, Granted, KeyMap};
use crate::limit::charges::{Charges, Claim, Places, Way};
use crate::limit::decision::{At, Refused};
use crate::limit::key::LimitKey;
use crate::limit::quota::{Effect, Quota};
use crate::limit::window::{Cost, Full, Stamp};
use crate::time::{Clock, Steady};

/// What became of a call. Small, since it is handed on through the map.
enum Decided {
    Full(Full, Steady),
    /// As many calls are on their way as may be.
    Busy,
    In(Arc<Cell>, Stamp),
    /// The limit, which is only tried, has no room.
    Overrun,
    /// Nobody is charged any more.
    Closed,
}

impl<M: KeyMap> Cells<M> {
    /// Charges a call to its only key, unless it has more, or that takes long, or more than the ring has to be looked at,
    /// or nobody had the key yet: then nothing happens, and there is no answer.
    #[inline]
    pub(super) fn acquire_alone<'a>(
        &self,
        charges: &Charges<'a>,
        clock: &Clock,
    ) -> Option<Result<Granted, Refused<'a>>> {
        let mut key = LimitKey::default();
        let quota = charges.only(&mut key)?;
        let decided = self.map.find(&key, |cell| decide(cell, quota, clock, self))??;
        Some(match decided {
            Decided::Closed => Err(Refused::Ended),
            Decided::Full(full, now) => Err(Refused::Over(quota, full, now)),
            Decided::Busy => Err(Refused::InFlight(quota)),
            Decided::In(cell, stamp) => {
                let charged = Charged::only(cell, quota, stamp, &self.scribe);
                Ok(Granted { charged, overrun: Places::default() })
            }
            Decided::Overrun => {
                Ok(Granted { charged: Charged::default(), overrun: Places::default().with(0) })
            }
        })
    }
}

#[inline]
fn decide<M>(
    cell: &Arc<Cell>,
    quota: &std::sync::Arc<Quota>,
    clock: &Clock,
    cells: &Cells<M>,
) -> Option<Decided> {
    let is_told = quota.effect == Effect::Enforced && quota.cost == Cost::ONE;
    if is_told && let Some(full) = cell.shut.last(&quota.bounds) {
        // Looked at behind the word: who is refused by it was so while somebody was still charged.
        if cells.is_closed() {
            return Some(Decided::Closed);
        }
        let now = clock.steady();
        if full.opens > now {
            return Some(Decided::Full(full, now));
        }
    }
    look_and_decide(cell, quota, clock, cells)
}

fn look_and_decide<M>(
    cell: &Arc<Cell>,
    quota: &std::sync::Arc<Quota>,
    clock: &Clock,
    cells: &Cells<M>,
) -> Option<Decided> {
    let mut log = cell.log.lock();
    let log = log.as_mut()?;
    if cells.is_closed() {
        return Some(Decided::Closed);
    }
    if !log.is_plain() {
        return None;
    }
    let (now, cost) = (clock.steady(), quota.cost);
    let busy = quota.in_flight.filter(|most| log.in_flight() >= most.get());
    Some(match (log.full(&quota.bounds, cost, now), busy, quota.effect) {
        (Some(full), _, Effect::Enforced) => {
            if cost == Cost::ONE {
                cell.shut.say(&quota.bounds, full);
            }
            Decided::Full(full, now)
        }
        (None, Some(_), Effect::Enforced) => Decided::Busy,
        (Some(_), _, Effect::Shadow) | (_, Some(_), Effect::Shadow) => Decided::Overrun,
        (None, None, _) if log.must_grow(&quota.bounds, cost) => return None,
        (None, None, _) => {
            let claim = Claim { quota, place: 0, way: Way::Whole };
            let stamp = cell.enter(log, claim, At::Now, now, &cells.scribe);
            if quota.in_flight.is_some() {
                log.depart();
            }
            Decided::In(cell.clone(), stamp)
        }
    })
}
