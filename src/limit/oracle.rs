//! The limiter against a list of all admissions, in traces that are made to break it.
//!
//! The list keeps every admission to the microsecond, past and promised, rounds nothing and forgets nothing that a window
//! may count. Of each decision it is asked whether there was room: where the limiter admits, or promises a moment, there
//! is, in every window that the call lies in; and there was none at any moment up to 2 ms before. Calls wait, hang up, are
//! postponed, are given back and are on their way, while the policy changes. `TOLLGATE_ORACLE=10000000` makes so many
//! decisions, best in release.

use std::sync::Arc;
use std::time::Duration;

use crate::limit::fixture::{clock, quotas};
use crate::limit::{Admission, Lane, LimitError, Limiter};
use crate::time::{Clock, ManualClock, Steady, Wall};

mod call;
mod list;
mod rules;

use call::{Taken, Version, Waiting, ask, is_in, poll};
use list::{List, What, applying};
use rules::{Call, Key, LARGE, LARGE_FILE, Rule, SMALL, SMALL_FILE};

/// How many decisions are made if the environment does not say.
const DECISIONS: u64 = 250_000;

/// By how much the limiter may be later than the list, in microseconds.
const SLACK: u64 = 2_000;

const MICROS: u64 = 1_000_000;

/// The longest window of all, in microseconds.
const LONGEST: u64 = 60 * MICROS + 250_000;

/// Of so many refusals, one is looked at from every side.
const THOROUGH: u64 = 16;

/// What the limiter said to a call.
enum Decision {
    Admitted,
    /// It opens after so many microseconds.
    Refused(u64),
    Held(u64),
    /// As many as may be are on their way.
    NoWay,
}

struct World {
    limiter: &'static Limiter,
    clock: Clock,
    hand: Arc<ManualClock>,
    list: List,
    taken: Vec<Taken>,
    waiting: Vec<Waiting>,
    random: u64,
    now: u64,
    /// Until when a limit that grew may lack times.
    heals: u64,
    held: u64,
    /// How many calls found no way when their turn came, and gave their place back.
    left: u64,
}

// === impl World ===

impl World {
    fn new(seed: u64) -> Self {
        let (clock, hand) = clock();
        let now = micros(clock.steady());
        let (limiter, list) = (Box::leak(Box::new(Limiter::new())), List::default());
        let (taken, waiting) = Default::default();
        Self { limiter, clock, hand, list, taken, waiting, random: seed, now, heals: 0, held: 0, left: 0 }
    }

    /// A number below `end`: SplitMix64.
    fn below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % end
    }

    /// Lets time pass; those whose turn comes take it, in order.
    fn pass(&mut self, micros: u64) {
        self.hand.advance(Duration::from_micros(micros));
        self.now += micros;
        let now = self.now;
        let (mut due, waiting) = self.waiting.drain(..).partition::<Vec<_>, _>(|waiting| waiting.at <= now);
        self.waiting = waiting;
        due.sort_by_key(|waiting| (waiting.at, waiting.number));
        due.into_iter().for_each(|waiting| self.turn(waiting));
    }

    /// The turn of a call that waited has come.
    fn turn(&mut self, mut waiting: Waiting) {
        let answer = poll(&mut waiting.answer).expect("its turn has come");
        let Waiting { number, call, version, keys, at, .. } = waiting;
        self.list.end(What::Waiting, &keys);
        let has_way = self.list.has_way(version.1, &call);
        match answer {
            Ok(admission) => {
                assert_eq!(admission.hold().map(|hold| micros(hold.until)), Some(at));
                assert!(has_way, "one too many on its way, decision {number}");
                self.take(admission, number, keys, version.1);
            }
            Err(LimitError::InFlight { .. }) => {
                assert!(!has_way, "there was a way, decision {number}");
                self.list.remove(&keys, number);
                self.left += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn take(&mut self, mut admission: Admission, number: u64, keys: Vec<Key>, rules: &[Rule]) {
        let forwarded = self.below(4) != 0;
        if forwarded {
            admission.forwarded();
        }
        if !forwarded || self.below(4) == 0 {
            let bounded =
                |key: &&Key| rules.iter().any(|rule| rule.name == key.0 && rule.in_flight.is_some());
            let on_its_way: Vec<_> = keys.iter().filter(bounded).copied().collect();
            self.list.begin(What::OnItsWay, &on_its_way);
            self.taken.push(Taken { admission, number, keys, on_its_way, forwarded });
        }
    }

    fn caller(&mut self) -> Call {
        let user = self.below(2) == 0;
        Call {
            tenant: self.below(2).into(),
            application: self.below(3).into(),
            user: user.then(|| self.below(2).into()),
            operation: self.below(2) as usize,
        }
    }

    /// Decides one call and asks the list what it thinks of that.
    fn call(&mut self, version: Version, call: Call, number: u64) -> Decision {
        let (rules, now) = (version.1, self.now);
        let mut answer = ask(self.limiter, version, call, self.clock.clone());
        match poll(&mut answer) {
            None => {
                let (_, at) = self.limiter.turns().pop().unwrap();
                let at = micros(at);
                let room = self.list.fits_all(rules, &call, at);
                assert!(room || now < self.heals, "one too many is promised, decision {number} at {now} µs");
                for rule in applying(rules, &call).filter(|rule| !self.list.fits(rule, &call, now)) {
                    assert!(
                        rule.wait.is_some_and(|(wait, _)| at <= now + wait),
                        "{} lets none wait",
                        rule.name
                    );
                }
                self.is_not_late(rules, &call, at, number);
                let keys = self.list.add(rules, &call, number, at, now);
                self.list.begin(What::Waiting, &keys);
                self.waiting.push(Waiting { answer, number, call, version, keys, at });
                self.held += 1;
                Decision::Held(at - now)
            }
            Some(Ok(admission)) => {
                let room = self.list.fits_all(rules, &call, now);
                assert!(room || now < self.heals, "one too many, decision {number} at {now} µs");
                assert!(self.list.has_way(rules, &call), "one too many on its way, decision {number}");
                let keys = self.list.add(rules, &call, number, now, now);
                self.take(admission, number, keys, rules);
                Decision::Admitted
            }
            Some(Err(LimitError::OverLimit(over))) => {
                let wait = over.retry_after.duration().as_micros() as u64;
                let waits = self.list.may_wait(rules, &call, wait);
                assert!(!waits, "might have waited {wait} µs, decision {number} at {now} µs");
                self.is_not_late(rules, &call, now + wait, number);
                Decision::Refused(wait)
            }
            Some(Err(LimitError::InFlight { .. })) => {
                assert!(!self.list.has_way(rules, &call), "there was a way, decision {number}");
                Decision::NoWay
            }
            Some(Err(other)) => panic!("{other}"),
        }
    }

    /// No moment from now to 2 ms before this one breaks no window.
    fn is_not_late(&mut self, rules: &[Rule], call: &Call, at: u64, number: u64) {
        let (from, end) = (self.now, at.saturating_sub(SLACK));
        let moments = match self.below(THOROUGH) {
            0 => self.list.moments(rules, call, from, end),
            _ => [from].into_iter().filter(|from| *from < end).collect(),
        };
        for moment in moments {
            let fits = self.list.fits_all(rules, call, moment);
            assert!(
                !fits,
                "late, decision {number} at {from} µs: {moment} µs before {at} µs would have done"
            );
        }
    }

    /// Gives back an admission of those that are taken, or lets it go on, or it ends.
    fn settle(&mut self) {
        if self.taken.is_empty() {
            return;
        }
        let place = self.below(self.taken.len() as u64) as usize;
        let mut taken = self.taken.swap_remove(place);
        self.list.end(What::OnItsWay, &taken.on_its_way);
        if !taken.forwarded && self.below(2) == 0 {
            taken.admission.forwarded();
        } else if !taken.forwarded {
            self.list.remove(&taken.keys, taken.number);
        }
    }

    /// A call that waits hangs up, or it is seen that it still waits.
    fn hang_up(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let place = self.below(self.waiting.len() as u64) as usize;
        assert!(poll(&mut self.waiting[place].answer).is_none(), "it is before its turn");
        if self.below(2) == 0 {
            let gone = self.waiting.swap_remove(place);
            self.list.remove(&gone.keys, gone.number);
            self.list.end(What::Waiting, &gone.keys);
        }
    }

    /// The API closes what a call that waits is for, up to 3 s from now.
    fn postpone(&mut self) {
        let turns = self.limiter.turns();
        if turns.is_empty() {
            return;
        }
        let lane: Lane = turns[self.below(turns.len() as u64) as usize].0.clone();
        let until = self.now + self.below(3_000) * 1_000;
        self.limiter.held.postpone(&lane, Steady::from_nanos(until * 1_000), &self.clock);
        self.waiting.sort_by_key(|waiting| waiting.number);
        let moved: Vec<_> = self
            .waiting
            .extract_if(.., |waiting| waiting.at < until && is_in(&waiting.call, &lane))
            .collect();
        let mut moved = moved;
        moved.sort_by_key(|waiting| (waiting.at, waiting.number));
        for waiting in &moved {
            self.list.remove(&waiting.keys, waiting.number);
        }
        for mut waiting in moved {
            match poll(&mut waiting.answer) {
                Some(answer) => {
                    assert!(matches!(answer, Err(LimitError::Closed { .. })), "{answer:?}");
                    self.list.end(What::Waiting, &waiting.keys);
                }
                None => self.waiting.push(waiting),
            }
        }
        self.waiting.sort_by_key(|waiting| waiting.number);
        let turns = self.limiter.turns();
        assert_eq!(turns.len(), self.waiting.len());
        let mut places: Vec<_> = self
            .waiting
            .iter_mut()
            .zip(turns)
            .filter_map(|(waiting, (_, at))| {
                let (before, at) = (waiting.at, micros(at));
                waiting.at = at;
                (before != at).then_some((before, waiting.number, waiting.call, waiting.version, at))
            })
            .collect();
        places.sort_by_key(|(before, number, ..)| (*before, *number));
        for (_, number, call, version, at) in places {
            let room = self.list.fits_all(version.1, &call, at);
            assert!(
                at >= until && (room || self.now < self.heals),
                "one too many behind a closure, {number}"
            );
            self.list.add(version.1, &call, number, at, self.now);
        }
    }

    /// Something that is not a call.
    fn happen(&mut self) {
        match self.below(64) {
            // A flood: within a millisecond or a few.
            0..22 => (),
            22..38 => {
                let micros = self.below(3_000);
                self.pass(micros);
            }
            // A program that polls.
            38..46 => {
                let micros = self.below(2 * MICROS);
                self.pass(micros);
            }
            // Cron: at the next whole second.
            46..50 => self.pass(MICROS - self.now % MICROS),
            // Idle, past some windows or all.
            50 => {
                let micros = self.below(70) * MICROS;
                self.pass(micros);
            }
            51..60 => self.settle(),
            60 => self.hang_up(),
            61 => self.postpone(),
            62 => {
                let seconds = self.below(4_000_000_000) as i64;
                self.hand.step_wall(Wall::from_unix_seconds(seconds));
            }
            _ => {
                self.limiter.sweep(&self.clock);
            }
        }
    }
}

fn micros(at: Steady) -> u64 {
    at.as_nanos() / 1_000
}

#[test]
fn the_limiter_decides_as_a_list_of_all_admissions_and_never_2_ms_later() {
    let decisions = std::env::var("TOLLGATE_ORACLE").ok().map_or(DECISIONS, |number| number.parse().unwrap());
    let versions: [Version; 2] = [(LARGE_FILE, LARGE), (SMALL_FILE, SMALL)]
        .map(|(file, rules)| &*Box::leak(Box::new((quotas(file), rules))));
    let (mut world, mut version, mut refused) = (World::new(decisions), versions[0], 0);
    let mut number = 0;
    while number < decisions {
        number += 1;
        if number % 20_000 == 0 {
            version = if std::ptr::eq(version, versions[0]) { versions[1] } else { versions[0] };
            world.heals = world.now + LONGEST;
        }
        world.happen();
        let caller = world.caller();
        let Decision::Refused(opens) = world.call(version, caller, number) else { continue };
        refused += 1;
        // Sometimes the same caller comes again when it was told, and a microsecond before.
        if world.below(8) == 0 {
            let left = world.left;
            world.pass(opens.saturating_sub(1));
            number += 1;
            match world.call(version, caller, number) {
                // It was told when it is admitted at the latest.
                _ if world.left > left => {}
                Decision::Admitted => panic!("told too late at {}", world.now),
                Decision::Held(opens) => assert_eq!(opens, 1),
                Decision::NoWay => {}
                Decision::Refused(left) => {
                    assert_eq!(left, opens.min(1));
                    world.pass(opens.min(1));
                    number += 1;
                    let again = world.call(version, caller, number);
                    assert!(
                        matches!(again, Decision::Admitted | Decision::NoWay),
                        "told too early at {}",
                        world.now
                    );
                }
            }
        }
    }
    println!("{decisions} decisions, {refused} refused, {} held", world.held);
    assert!(refused > decisions / 20 && refused < decisions * 19 / 20, "{refused} of {decisions} refused");
    assert!(world.held > decisions / 100, "{} of {decisions} held", world.held);
}
