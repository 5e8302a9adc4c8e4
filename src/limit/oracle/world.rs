//! The limiter, the list, and the calls that are decided by both.

use std::sync::Arc;

use super::call::{Let, Taken, Version, Waiting, ask, poll};
use super::list::{Charge, List, Room, Ways, What, applying, enforced};
use super::restart::{State, just_booted};
use super::rules::{Call, Rule, Way, Whose};
use super::{MICROS, SLACK, micros};
use crate::limit::quota::Idle;
use crate::limit::{Admission, LimitError, Limiter};
use crate::time::{Clock, ManualClock};

/// Of so many refusals, one is looked at from every side.
const THOROUGH: u64 = 16;

/// What the limiter said to a call.
pub(super) enum Decision {
    Admitted,
    /// It opens after so many microseconds.
    Refused(u64),
    Held(u64),
    /// As many as may be are on their way.
    NoWay,
}

pub(super) struct World {
    pub(super) limiter: Arc<Limiter>,
    pub(super) state: State,
    pub(super) clock: Clock,
    pub(super) hand: Arc<ManualClock>,
    pub(super) list: List,
    pub(super) taken: Vec<Taken>,
    pub(super) waiting: Vec<Waiting>,
    random: u64,
    pub(super) now: u64,
    /// Until when a limit that grew may lack times.
    pub(super) heals: u64,
    /// The calendar was set since it was last written down.
    pub(super) stepped: bool,
    /// How many calls found no way when their turn came, and gave their place back.
    pub(super) left: u64,
    pub(super) seen: Seen,
}

/// What the trace came by.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) held: u64,
    /// Calls with a single limit that refuses, and how many were.
    pub(super) alone: u64,
    pub(super) alone_refused: u64,
    /// Calls that a limit would have refused that is only tried.
    pub(super) overrun: u64,
    /// Calls that were counted in a part of their caller's own that is kept, in one that is lent, and in somebody else's.
    pub(super) kept: u64,
    pub(super) own_lent: u64,
    pub(super) lent: u64,
    pub(super) restarts: u64,
    pub(super) reboots: u64,
}

// === impl World ===

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let (clock, hand) = just_booted(0);
        let (now, mut state) = (micros(clock.steady()), State::new());
        let (limiter, list) = (Arc::new(state.open(&clock)), List::default());
        Self {
            limiter,
            state,
            clock,
            hand,
            list,
            taken: Vec::new(),
            waiting: Vec::new(),
            random: seed,
            now,
            heals: 0,
            stepped: false,
            left: 0,
            seen: Seen::default(),
        }
    }

    /// A number below `end`: SplitMix64.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % end
    }

    pub(super) fn caller(&mut self) -> Call {
        let user = self.below(2) == 0;
        Call {
            tenant: self.below(2).into(),
            application: self.below(3).into(),
            user: user.then(|| self.below(2).into()),
            operation: self.below(2) as usize,
        }
    }

    pub(super) fn take(
        &mut self,
        mut admission: Admission,
        number: u64,
        charged: Vec<Charge>,
        rules: &[Rule],
    ) {
        let forwarded = self.below(4) != 0;
        if forwarded {
            admission.forwarded();
        }
        if !forwarded || self.below(4) == 0 {
            let is_bounded =
                |(key, _): &&Charge| rules.iter().any(|rule| rule.name == key.0 && rule.in_flight.is_some());
            let on_its_way: Vec<_> = charged.iter().filter(is_bounded).copied().collect();
            self.list.begin(What::OnItsWay, &on_its_way);
            self.taken.push(Taken { admission, number, charged, on_its_way, forwarded });
        }
    }

    /// Decides one call and asks the list what it thinks of that.
    pub(super) fn call(&mut self, version: &'static Version, call: Call, number: u64) -> Decision {
        let alone = is_alone(version, &call);
        self.seen.alone += u64::from(alone);
        let decision = self.decide(version, call, number);
        self.seen.alone_refused += u64::from(alone && matches!(decision, Decision::Refused(_)));
        decision
    }

    fn decide(&mut self, version: &'static Version, call: Call, number: u64) -> Decision {
        let (rules, now) = (version.rules, self.now);
        let mut answer = ask(self.limiter.clone(), version, call, self.clock.clone());
        match poll(&mut answer) {
            None => {
                let (_, at) = self.limiter.turns().pop().unwrap();
                let at = micros(at);
                let room = self.list.fits_all(rules, &call, at, Ways::ToWaitFor, Room::Possible);
                assert!(room || now < self.heals, "one too many is promised, decision {number} at {now} µs");
                let fits = |rule: &&Rule| self.list.fits(rule, &call, now, Ways::All, Room::Possible);
                for rule in enforced(rules, &call).filter(|rule| !fits(rule)) {
                    let waits = rule.wait.is_some_and(|(wait, _)| at <= now + wait);
                    // One that grew may lack times, and takes itself for open.
                    let lacks = now < self.heals;
                    assert!(waits || lacks, "{} lets none wait, decision {number} at {now} µs", rule.name);
                }
                self.is_not_late(rules, &call, at, Ways::ToWaitFor, number);
                self.list.want(rules, &call, now, &[], SLACK);
                let named = version.names(&self.limiter.rules_of_last_held());
                let (charged, room) = self.list.place(rules, &call, at, &named);
                assert!(room || now < self.heals, "one too many in a part, decision {number} at {now} µs");
                let counts = |rule: &Rule| charged.iter().any(|((name, ..), _)| *name == rule.name);
                assert!(enforced(rules, &call).all(counts), "a limit forgot it, decision {number}");
                self.list.add(&charged, number, at, now);
                self.list.begin(What::Waiting, &charged);
                self.waiting.push(Waiting { answer, number, call, version, charged, at });
                self.seen.held += 1;
                Decision::Held(at - now)
            }
            Some(Ok(taken)) => {
                let room = self.list.fits_all(rules, &call, now, Ways::All, Room::Possible);
                assert!(room || now < self.heals, "one too many, decision {number} at {now} µs");
                assert!(self.list.has_way(rules, &call), "one too many on its way, decision {number}");
                let charged = self.charged(version, &call, &taken.admission, number);
                self.is_charged_to(version, &call, &taken, &charged, number);
                self.list.want(rules, &call, now, &charged, SLACK);
                self.list.add(&charged, number, now, now);
                self.take(taken.admission, number, charged, rules);
                Decision::Admitted
            }
            Some(Err(LimitError::OverLimit(over))) => {
                let wait = over.retry_after.duration().as_micros() as u64;
                let waits = self.might_wait(rules, &call, wait);
                assert!(!waits, "might have waited {wait} µs, decision {number} at {now} µs");
                self.is_not_late(rules, &call, now + wait, Ways::All, number);
                self.list.want(rules, &call, now, &[], SLACK);
                Decision::Refused(wait)
            }
            Some(Err(LimitError::InFlight { .. })) => {
                assert!(!self.list.has_way(rules, &call), "there was a way, decision {number}");
                self.list.want(rules, &call, now, &[], SLACK);
                Decision::NoWay
            }
            Some(Err(other)) => panic!("{other}"),
        }
    }

    /// What a call was charged to that was admitted now: the first way of each limit that had room, and nothing where a
    /// limit that is only tried had none.
    fn charged(&mut self, version: &Version, call: &Call, admission: &Admission, number: u64) -> Vec<Charge> {
        let (now, named) = (self.now, version.charged(admission));
        let mut charged = Vec::new();
        for rule in applying(version.rules, call) {
            let ways: Vec<_> = rule.ways(call).collect();
            let is_its = |way: &Way| named.contains(&(way.key.0, way.key.1));
            let plain = |way: &Way| self.list.has_room(way, now, Room::For(SLACK));
            let place = ways.iter().position(is_its);
            let before = &ways[..place.unwrap_or(ways.len())];
            let busy = self.list.is_busy(rule, call);
            let passed_over = before.iter().find(|way| plain(way)).filter(|_| place.is_some() || !busy);
            assert!(
                passed_over.is_none(),
                "{} has room, decision {number} at {now} µs: {:?}",
                rule.name,
                passed_over.map(|way| way.whose)
            );
            let Some(way) = place.map(|place| ways[place]) else {
                assert!(!rule.is_enforced(), "{} charged nothing, decision {number}", rule.name);
                continue;
            };
            let room = self.list.has_room(&way, now, Room::Possible);
            assert!(room || now < self.heals, "one too many in {:?}, decision {number} at {now} µs", way.key);
            assert!(rule.is_enforced() || !busy, "one too many on its way, decision {number}");
            match way.whose {
                Whose::Own(Idle::Kept) => self.seen.kept += 1,
                Whose::Own(Idle::Lent) => self.seen.own_lent += 1,
                Whose::Lent => self.seen.lent += 1,
                Whose::Everybodys | Whose::Nobodys => {}
            }
            charged.push((way.key, way.cost));
        }
        charged
    }

    /// An admission was charged to these keys alone, and names every other limit.
    pub(super) fn is_charged_to(
        &mut self,
        version: &Version,
        call: &Call,
        taken: &Let,
        charged: &[Charge],
        number: u64,
    ) {
        let mut named = version.charged(&taken.admission);
        named.sort_unstable();
        let mut keys: Vec<_> = charged.iter().map(|((name, part, _), _)| (*name, *part)).collect();
        keys.sort_unstable();
        assert_eq!(named, keys, "decision {number}");
        let is_charged = |rule: &&Rule| charged.iter().any(|((name, ..), _)| *name == rule.name);
        let mut overrun: Vec<_> =
            applying(version.rules, call).filter(|rule| !is_charged(rule)).map(|rule| rule.name).collect();
        overrun.sort_unstable();
        let mut said: Vec<_> = taken.overrun.iter().map(|name| name.as_str()).collect();
        said.sort_unstable();
        assert_eq!(said, overrun, "decision {number}");
        self.seen.overrun += overrun.len() as u64;
    }

    /// Whether a call that would be admitted after so many microseconds had to be held instead of refused.
    fn might_wait(&self, rules: &[Rule], call: &Call, long: u64) -> bool {
        if !self.list.may_wait(rules, call, long) {
            return false;
        }
        if enforced(rules, call).all(|rule| rule.parts.is_empty()) {
            return true;
        }
        // It waits for no part that is lent, and so perhaps for longer.
        let fits = |at: &u64| self.list.fits_all(rules, call, *at, Ways::ToWaitFor, Room::For(SLACK));
        let moments = self.list.moments(rules, call, self.now, self.now + long + 60 * MICROS);
        let moments = moments.into_iter().map(|moment| moment + SLACK);
        let first = moments.into_iter().find(fits);
        first.is_some_and(|first| self.list.may_wait(rules, call, first - self.now))
    }

    /// No moment from now to 2 ms before this one breaks no window.
    fn is_not_late(&mut self, rules: &[Rule], call: &Call, at: u64, ways: Ways, number: u64) {
        let (from, end) = (self.now, at.saturating_sub(SLACK));
        let moments = match self.below(THOROUGH) {
            0 => self.list.moments(rules, call, from, end),
            _ => [from].into_iter().filter(|from| *from < end).collect(),
        };
        for moment in moments {
            let fits = self.list.fits_all(rules, call, moment, ways, Room::Certain);
            assert!(
                !fits,
                "late, decision {number} at {from} µs: {moment} µs before {at} µs would have done"
            );
        }
    }
}

/// Whether it is a single limit that decides a call. The store then takes the path for such calls.
fn is_alone(version: &Version, call: &Call) -> bool {
    let mut applying = applying(version.rules, call);
    let alone = applying.next().is_some_and(|rule| rule.parts.is_empty()) && applying.next().is_none();
    // A limit of users is looked up for an application's own call too.
    let alone = alone && version.rules.iter().filter(|rule| rule.costs[call.operation] > 0).count() == 1;
    assert_eq!(version.is_alone(call), alone);
    alone
}
