//! Whether a call is admitted, to which of its keys it is charged, and when its turn is if it has to wait: pure
//! arithmetic over the logs of its keys, no clock and no lock.
//!
//! A limit without parts has one key for a call; one with parts has one for each part that the call may be counted in,
//! and one for the rest. A limit has room at a moment if one of its ways has; the call is admitted at the first moment
//! at which all enforced limits have room. That moment is found by asking each in turn, from the latest moment that any
//! of them asked for, until none asks for a later one: each answer only moves on, so that the first moment on which
//! all agree is the first there is.

use std::time::Duration;

use smallvec::SmallVec;

use crate::limit::charges::{Claim, Places, Way};
use crate::limit::quota::{Effect, Idle, Quota, WhenFull};
use crate::limit::window::{Bound, Full, MAX_AHEAD, Search, SlidingWindowLog, Stamp};
use crate::time::Steady;

/// A way in which the call may be counted, and the log of that key, to which every promised moment that has come
/// was [added](SlidingWindowLog::settle).
pub(super) type Asked<'a, 'l> = (Claim<'a>, &'l mut SlidingWindowLog);

/// When the call is decided.
#[derive(Debug, Clone, Copy)]
pub(super) struct When {
    pub(super) now: Steady,
    /// The earliest moment at which it may be admitted.
    pub(super) from: Steady,
    /// The last moment that it waits for, whatever its limits let it.
    pub(super) by: Option<Steady>,
    pub(super) hold: Hold,
}

/// Whether a call that has to wait is given a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    Never,
    IfItMay,
}

/// What is to be written. Nothing is, yet.
#[derive(Debug)]
pub(super) struct Verdict<'a> {
    pub(super) turn: Result<Turn, Refused<'a>>,
    /// The parts that their owner found full, by their index in what was asked, and until when it wants them back.
    pub(super) wanted: SmallVec<[(usize, Steady); 1]>,
}

/// The call is let in.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) at: At,
    /// The keys that it is charged to, by their index in what was asked, in order.
    pub(super) charged: SmallVec<[usize; 8]>,
    /// The limits that would not have let it in, if they were enforced.
    pub(super) overrun: Places,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum At {
    Now,
    /// Later, and no later than the last moment that it waits for.
    Later(Stamp, Steady),
}

/// Why a call was not charged.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refused<'a> {
    /// A bound is full: the one that is for the longest, and when all have room.
    Over(&'a Quota, Full, Steady),
    /// As many calls are on their way as may be.
    InFlight(&'a Quota),
    /// It may not be admitted yet, but then; and what the time is.
    Closed(Steady, Steady),
    /// Its turn would be after the end of the process.
    Ended,
    /// A cell was needed, and none could be had.
    NoCell,
}

/// One way, and the search in its log.
struct Seeker<'a, 'l> {
    claim: Claim<'a>,
    log: &'l SlidingWindowLog,
    searches: SmallVec<[Search<'l>; 2]>,
    /// What it answered last.
    opens: Option<u64>,
}

/// All ways of a call.
struct Council<'a, 'l>(SmallVec<[Seeker<'a, 'l>; 8]>);

/// Which ways come into question.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ways {
    All,
    /// Those that a call may wait for: what is lent is lent while it is idle, and not for later.
    OfItsOwn,
}

/// A moment that never comes.
const NEVER: u64 = u64::MAX;

/// Decides a call.
pub(super) fn decide<'a>(asked: &[Asked<'a, '_>], when: When) -> Verdict<'a> {
    let plain = |(claim, log): &Asked<'_, '_>| claim.way == Way::Whole && log.is_plain();
    if when.from <= when.now
        && asked.iter().all(plain)
        && let Some(turn) = decide_plain(asked, when)
    {
        return Verdict { turn, wanted: SmallVec::new() };
    }
    Council::new(asked, when.now).decide(when)
}

/// The same where nothing lies ahead and nothing has parts; none if the call is to be given a place.
fn decide_plain<'a>(asked: &[Asked<'a, '_>], when: When) -> Option<Result<Turn, Refused<'a>>> {
    let (mut fullest, mut overrun): (Option<(&Quota, Full)>, _) = (None, Places::default());
    let mut busy = None;
    for (Claim { quota, place, .. }, log) in asked {
        let full = log.full(&quota.bounds, quota.cost, when.now);
        let is_busy = quota.in_flight.is_some_and(|most| log.in_flight() >= most.get());
        match (full, quota.effect) {
            (None, Effect::Enforced) if is_busy => busy = busy.or(Some(&**quota)),
            (None, _) if !is_busy => {}
            (_, Effect::Shadow) => overrun = overrun.with(*place),
            (None, Effect::Enforced) => {}
            (Some(full), Effect::Enforced) => {
                if fullest.is_none_or(|(_, latest)| full.opens > latest.opens) {
                    fullest = Some((&**quota, full));
                }
            }
        }
    }
    match (fullest, busy) {
        (Some(_), _) if when.hold == Hold::IfItMay => None,
        (Some((quota, full)), _) => Some(Err(Refused::Over(quota, full, when.now))),
        (None, Some(quota)) => Some(Err(Refused::InFlight(quota))),
        (None, None) => {
            let let_in = asked.iter().zip(0..).filter(|((claim, _), _)| !overrun.has(claim.place));
            let charged = let_in.map(|(_, index)| index).collect();
            Some(Ok(Turn { at: At::Now, charged, overrun }))
        }
    }
}

/// The first moment from `from` on at which all of these have room for a call that is held already, and the limits that
/// would not have it then, if they were enforced.
pub(super) fn place_again(asked: &[Asked<'_, '_>], from: Stamp, now: Steady) -> (Stamp, Places) {
    let mut council = Council::new(asked, now);
    let (at, _) = council.agree(from.millis(), Ways::OfItsOwn);
    let mut overrun = Places::default();
    for place in council.places() {
        let is_one = council.0.iter().any(|seeker| seeker.claim.place == place);
        if is_one && council.opens(place, at, Ways::OfItsOwn) > at {
            overrun = overrun.with(place);
        }
    }
    (Stamp::from_millis(at), overrun)
}

// === impl Council ===

impl<'a, 'l> Council<'a, 'l> {
    fn new(asked: &'l [Asked<'a, '_>], now: Steady) -> Self {
        let seekers = asked.iter().map(|(claim, log)| {
            let bounds = claim.bounds().each().iter();
            let searches = bounds.map(|bound| log.search(*bound, claim.quota.cost, now)).collect();
            Seeker { claim: *claim, log, searches, opens: None }
        });
        Self(seekers.collect())
    }

    fn decide(mut self, when: When) -> Verdict<'a> {
        let When { now, from, hold, .. } = when;
        let start = if from <= now { now.millis_down() } else { from.millis_up() };
        let mut wanted = SmallVec::new();
        let mut fullest: Option<(&'a Quota, Bound, u64)> = None;
        for place in self.places() {
            let opens = self.opens(place, start, Ways::All);
            if opens == start {
                continue;
            }
            wanted.extend(self.wanted_back(place, start, now));
            if self.is_enforced(place)
                && fullest.is_none_or(|(.., latest)| opens > latest)
                && let Some((quota, bound)) = self.bound_that_opens(place, start, now)
            {
                fullest = Some((quota, bound, opens));
            }
        }
        let turn = if fullest.is_none() && from <= now {
            match self.busy() {
                Some(quota) => Err(Refused::InFlight(quota)),
                None => Ok(self.turn(At::Now, start)),
            }
        } else {
            let (opens, late) = self.agree(start, Ways::All);
            let held = match hold {
                Hold::Never => None,
                Hold::IfItMay => self.hold(opens, late, when),
            };
            let opens = Steady::from_millis(opens);
            held.ok_or(match fullest {
                Some((quota, bound, _)) => Refused::Over(quota, Full { rate: bound.rate, opens }, now),
                None => Refused::Closed(opens, now),
            })
        };
        Verdict { turn, wanted }
    }

    /// The place that the call is given, if all limits that make it wait let it.
    fn hold(&mut self, from: u64, late: Places, when: When) -> Option<Turn> {
        let (at, later) = self.agree(from, Ways::OfItsOwn);
        if at == NEVER {
            return None;
        }
        // A call that may not be admitted yet waits for every limit of its.
        let waits_for =
            |claim: &Claim<'_>| when.from > when.now || late.has(claim.place) || later.has(claim.place);
        let mut longest = None;
        for Seeker { claim, .. } in self.0.iter().filter(|seeker| seeker.is_enforced()) {
            match claim.quota.when_full {
                _ if !waits_for(claim) => {}
                WhenFull::Reject => return None,
                WhenFull::Wait { wait, .. } => {
                    longest = Some(longest.map_or(wait, |l: Duration| l.min(wait)))
                }
            }
        }
        let last = when.now + longest?;
        let last = when.by.map_or(last, |by| by.min(last));
        let turn = self.turn(At::Later(Stamp::from_millis(at), last), at);
        let has_place = |seeker: &Seeker<'_, '_>| {
            let Seeker { claim, log, .. } = seeker;
            let ((stamps, calls), cost) = (log.queued(), claim.quota.cost.get() as usize);
            let room = match claim.quota.when_full {
                WhenFull::Wait { queue, .. } if seeker.is_enforced() && waits_for(claim) => {
                    calls < queue.get()
                }
                WhenFull::Wait { .. } | WhenFull::Reject => true,
            };
            room && stamps + cost <= MAX_AHEAD
        };
        let mut charged = turn.charged.iter().filter_map(|index| self.0.get(*index));
        (Steady::from_millis(at) <= last && charged.all(has_place)).then_some(turn)
    }

    /// The first moment from `from` on at which every enforced limit has room, and those that put it off.
    fn agree(&mut self, from: u64, ways: Ways) -> (u64, Places) {
        let (mut at, mut late) = (from, Places::default());
        loop {
            let mut latest = at;
            for place in self.places() {
                if !self.is_enforced(place) {
                    continue;
                }
                let opens = self.opens(place, at, ways);
                if opens > at {
                    late = late.with(place);
                }
                latest = latest.max(opens);
            }
            if latest == at || latest == NEVER {
                return (latest, late);
            }
            at = latest;
        }
    }

    /// Each limit's first way at that moment. A limit that is only tried has none if it has no room.
    fn turn(&mut self, at: At, moment: u64) -> Turn {
        let ways = match at {
            At::Now => Ways::All,
            At::Later(..) => Ways::OfItsOwn,
        };
        let (mut charged, mut overrun) = (SmallVec::new(), Places::default());
        for place in self.places() {
            let of_it = self.0.iter_mut().enumerate().filter(|(_, seeker)| seeker.comes_into(place, ways));
            let open = of_it.filter_map(|(index, seeker)| {
                let in_time = seeker.earliest(moment) == moment;
                // One that waits is counted among those on their way when its turn comes.
                let goes = in_time && (ways == Ways::OfItsOwn || !seeker.is_busy());
                goes.then_some((seeker.claim.way, index))
            });
            match open.min() {
                Some((_, index)) => charged.push(index),
                None => overrun = overrun.with(place),
            }
        }
        charged.sort_unstable();
        Turn { at, charged, overrun }
    }

    /// The first moment from `from` on at which a limit has room.
    fn opens(&mut self, place: u8, from: u64, ways: Ways) -> u64 {
        let of_it = self.0.iter_mut().filter(|seeker| seeker.comes_into(place, ways));
        of_it.map(|seeker| seeker.earliest(from)).min().unwrap_or(NEVER)
    }

    /// The bound that a limit without room at `from` waits for: the one that is full the longest, of the way that opens
    /// first.
    fn bound_that_opens(&self, place: u8, from: u64, now: Steady) -> Option<(&'a Quota, Bound)> {
        let of_it = self.0.iter().filter(|seeker| seeker.claim.place == place);
        let first = of_it.min_by_key(|seeker| seeker.opens)?;
        // A lent part that its owner wants back may have room.
        let bound = first.fullest(from, now).or_else(|| first.claim.bounds().each().last().copied());
        Some((first.claim.quota, bound?))
    }

    /// The lent parts of a limit that are the caller's own, and until when it wants them back.
    fn wanted_back(&self, place: u8, from: u64, now: Steady) -> SmallVec<[(usize, Steady); 1]> {
        let of_it = self.0.iter().enumerate().filter(|(_, seeker)| seeker.claim.place == place);
        let wanted = of_it.filter_map(|(index, seeker)| {
            let lent = matches!(seeker.claim.way, Way::Own(_))
                && seeker.claim.part().is_some_and(|part| part.idle == Idle::Lent);
            let bound = if lent { seeker.fullest(from, now)? } else { return None };
            Some((index, now + Duration::from_millis(bound.millis().into())))
        });
        wanted.collect()
    }

    /// An enforced limit of which as many calls are on their way as may be.
    fn busy(&self) -> Option<&'a Quota> {
        let busy = self.0.iter().find(|seeker| seeker.is_enforced() && seeker.is_busy());
        busy.map(|seeker| &**seeker.claim.quota)
    }

    fn is_enforced(&self, place: u8) -> bool {
        self.0.iter().any(|seeker| seeker.claim.place == place && seeker.is_enforced())
    }

    fn places(&self) -> std::ops::Range<u8> {
        0..self.0.iter().map(|seeker| seeker.claim.place + 1).max().unwrap_or(0)
    }
}

// === impl Seeker ===

impl Seeker<'_, '_> {
    /// The first moment from `from` on at which it has room. Never asked for an earlier one than before.
    fn earliest(&mut self, from: u64) -> u64 {
        if let Some(opens) = self.opens.filter(|opens| *opens >= from) {
            return opens;
        }
        let wanted = match self.claim.way {
            Way::Lent(_) => self.log.wanted(),
            Way::Whole | Way::Own(_) | Way::Rest => 0,
        };
        let mut at = from.max(wanted);
        loop {
            let latest = self.searches.iter_mut().map(|search| search.earliest(at)).max().unwrap_or(at);
            if latest == at {
                break;
            }
            at = latest;
        }
        self.opens = Some(at);
        at
    }

    /// The bound that is full for the longest of those that have no room at `from`.
    fn fullest(&self, from: u64, now: Steady) -> Option<Bound> {
        let bounds = self.claim.bounds().each().iter();
        let opens =
            bounds.map(|bound| (self.log.search(*bound, self.claim.quota.cost, now).earliest(from), *bound));
        opens.filter(|(opens, _)| *opens > from).max_by_key(|(opens, _)| *opens).map(|(_, bound)| bound)
    }

    fn comes_into(&self, place: u8, ways: Ways) -> bool {
        self.claim.place == place && (ways == Ways::All || !matches!(self.claim.way, Way::Lent(_)))
    }

    fn is_enforced(&self) -> bool {
        self.claim.quota.effect == Effect::Enforced
    }

    fn is_busy(&self) -> bool {
        self.claim.quota.in_flight.is_some_and(|most| self.log.in_flight() >= most.get())
    }
}
