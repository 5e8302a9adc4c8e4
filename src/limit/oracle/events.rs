//! What happens between calls.

use std::time::Duration;

use super::call::{Version, Waiting, is_in, poll};
use super::list::{Room, What};
use super::rules::{Call, Way};
use super::world::World;
use super::{MICROS, micros};
use crate::limit::{Lane, LimitError};
use crate::time::{Steady, Wall};

impl World {
    /// Something that is not a call.
    pub(super) fn happen(&mut self) {
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
            // Idle, past some windows or all. Whatever is on its way ends, and some keys are forgotten.
            50 => {
                let micros = self.below(70) * MICROS;
                self.pass(micros);
                while !self.taken.is_empty() {
                    self.settle();
                }
                self.limiter.sweep(&self.clock);
            }
            51..60 => self.settle(),
            60 => self.hang_up(),
            61 => self.postpone(),
            62 => {
                let seconds = self.below(4_000_000_000) as i64;
                self.hand.step_wall(Wall::from_unix_seconds(seconds));
                self.stepped = true;
            }
            _ => {
                self.limiter.sweep(&self.clock);
            }
        }
    }

    /// Lets time pass; those whose turn comes take it, in order.
    pub(super) fn pass(&mut self, micros: u64) {
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
        let Waiting { number, call, version, mut charged, at, .. } = waiting;
        self.list.end(What::Waiting, &charged);
        let has_way = self.list.has_way(version.rules, &call);
        match answer {
            Ok(taken) => {
                assert_eq!(taken.admission.hold().map(|hold| micros(hold.until)), Some(at));
                assert!(has_way, "one too many on its way, decision {number}");
                // One that is only tried counts what it would have let in.
                for rule in version.rules.iter().filter(|rule| !rule.is_enforced()) {
                    if rule.applies(&call) && self.list.is_busy(rule, &call) {
                        let (left, kept) =
                            charged.into_iter().partition::<Vec<_>, _>(|((name, ..), _)| *name == rule.name);
                        self.list.remove(&left, number);
                        charged = kept;
                    }
                }
                self.is_charged_to(version, &call, &taken, &charged, number);
                self.take(taken.admission, number, charged, version.rules);
            }
            Err(LimitError::InFlight { .. }) => {
                assert!(!has_way, "there was a way, decision {number}");
                self.list.remove(&charged, number);
                self.left += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// Whether a call has its turn before `end` that was placed by a smaller limit than this version's, where that would
    /// count this call too. It may then take the place of a time that the smaller one had no use for.
    pub(super) fn crowds_out(&self, version: &Version, call: Call, end: u64) -> bool {
        let largest = |way: Way| (way.key, way.windows.iter().map(|(count, _)| *count).max());
        let ways = |version: &Version, call: Call| -> Vec<_> {
            version.rules.iter().flat_map(|rule| rule.ways(&call).map(largest).collect::<Vec<_>>()).collect()
        };
        let ours = ways(version, call);
        self.waiting.iter().filter(|waiting| waiting.at < end).any(|waiting| {
            let charged = |key| waiting.charged.iter().any(|(other, _)| *other == key);
            let theirs = ways(waiting.version, waiting.call);
            theirs.iter().any(|(key, least)| {
                charged(*key) && ours.iter().any(|(other, most)| other == key && most > least)
            })
        })
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
            self.list.remove(&taken.charged, taken.number);
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
            self.list.remove(&gone.charged, gone.number);
            self.list.end(What::Waiting, &gone.charged);
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
        self.limiter.postpone(&lane, Steady::from_nanos(until * 1_000), &self.clock);
        self.waiting.sort_by_key(|waiting| waiting.number);
        let mut moved: Vec<_> = self
            .waiting
            .extract_if(.., |waiting| waiting.at < until && is_in(&waiting.call, &lane))
            .collect();
        for waiting in &moved {
            self.list.remove(&waiting.charged, waiting.number);
        }
        for waiting in &mut moved {
            if let Some(answer) = poll(&mut waiting.answer) {
                assert!(matches!(answer, Err(LimitError::Closed { .. })), "it has no place any more");
                self.list.end(What::Waiting, &waiting.charged);
                waiting.at = u64::MAX;
            }
        }
        moved.retain(|waiting| waiting.at < u64::MAX);
        let mut numbers: Vec<_> = moved.iter().map(|waiting| (waiting.at, waiting.number)).collect();
        numbers.sort_unstable();
        self.waiting.append(&mut moved);
        self.waiting.sort_by_key(|waiting| waiting.number);
        let turns = self.limiter.turns();
        assert_eq!(turns.len(), self.waiting.len());
        for (waiting, (_, at)) in self.waiting.iter_mut().zip(turns) {
            waiting.at = micros(at);
        }
        for (_, number) in numbers {
            self.place_again(number, until);
        }
    }

    /// A call that waits was moved behind a closure, and keeps what it was charged to where that has room.
    fn place_again(&mut self, number: u64, until: u64) {
        let waiting = self.waiting.iter_mut().find(|waiting| waiting.number == number).unwrap();
        let (rules, call, at) = (waiting.version.rules, waiting.call, waiting.at);
        assert!(at >= until, "{number} is before the end of the closure");
        let has_room = |(key, _): &(_, u32)| {
            let way = rules.iter().flat_map(|rule| rule.ways(&call)).find(|way| way.key == *key).unwrap();
            self.list.has_room(&way, at, Room::Possible)
        };
        let is_tried = |(key, _): &((&str, _, _), u32)| {
            rules.iter().any(|rule| rule.name == key.0 && !rule.is_enforced())
        };
        let room = waiting.charged.iter().all(|charge| is_tried(charge) || has_room(charge));
        assert!(room || self.now < self.heals, "one too many behind a closure, {number}");
        let (kept, left) = std::mem::take(&mut waiting.charged)
            .into_iter()
            .partition::<Vec<_>, _>(|charge| !is_tried(charge) || has_room(charge));
        self.list.end(What::Waiting, &left);
        self.list.add(&kept, number, at, self.now);
        waiting.charged = kept;
    }
}
