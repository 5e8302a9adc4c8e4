//! A list of all admissions, past and promised, to the microsecond.

use std::collections::{HashMap, VecDeque};

use super::rules::{Call, Key, Rule};
use super::{LONGEST, SLACK};

/// When, at what cost, and with which number.
type Admitted = (u64, u32, u64);

/// Every admission that may still count, and the calls that are on their way or wait.
#[derive(Default)]
pub(super) struct List {
    /// By time.
    admitted: HashMap<Key, VecDeque<Admitted>>,
    on_their_way: HashMap<Key, usize>,
    waiting: HashMap<Key, usize>,
}

impl List {
    /// Whether a call at this moment leaves each window of a rule that it lies in with no more than the count.
    pub(super) fn fits(&self, rule: &Rule, call: &Call, at: u64) -> bool {
        let of = self.admitted.get(&rule.key(call));
        let of = || of.into_iter().flatten();
        let cost = rule.costs[call.operation];
        rule.windows.iter().all(|(count, window)| {
            let sum = |end: u64| -> u32 {
                of().filter(|(time, ..)| *time <= end && time + window > end).map(|(_, cost, _)| cost).sum()
            };
            let later = of().map(|(time, ..)| *time).filter(|time| *time > at && *time < at + window);
            sum(at) + cost <= *count && later.into_iter().all(|end| sum(end) + cost <= *count)
        })
    }

    pub(super) fn fits_all(&self, rules: &[Rule], call: &Call, at: u64) -> bool {
        applying(rules, call).all(|rule| self.fits(rule, call, at))
    }

    /// Each moment from `from` to `end` at which a call may begin to fit.
    pub(super) fn moments(&self, rules: &[Rule], call: &Call, from: u64, end: u64) -> Vec<u64> {
        let times = applying(rules, call).flat_map(|rule| {
            let of = self.admitted.get(&rule.key(call)).into_iter().flatten().map(|(time, ..)| *time);
            of.flat_map(|time| rule.windows.iter().map(move |(_, window)| time + window).chain([time]))
        });
        let mut moments: Vec<_> = times.flat_map(|time| [time, time + 1]).chain([from]).collect();
        moments.retain(|moment| (from..end).contains(moment));
        moments.sort_unstable();
        moments.dedup();
        moments
    }

    /// Adds a call admitted at this moment, past or to come.
    pub(super) fn add(&mut self, rules: &[Rule], call: &Call, number: u64, at: u64, now: u64) -> Vec<Key> {
        let keys = applying(rules, call).map(|rule| {
            let of = self.admitted.entry(rule.key(call)).or_default();
            while of.front().is_some_and(|(time, ..)| time + LONGEST + SLACK <= now) {
                of.pop_front();
            }
            let place = of.partition_point(|(time, ..)| *time <= at);
            of.insert(place, (at, rule.costs[call.operation], number));
            rule.key(call)
        });
        keys.collect()
    }

    pub(super) fn remove(&mut self, keys: &[Key], number: u64) {
        for key in keys {
            if let Some(of) = self.admitted.get_mut(key) {
                of.retain(|(.., other)| *other != number);
            }
        }
    }

    pub(super) fn begin(&mut self, what: What, keys: &[Key]) {
        keys.iter().for_each(|key| *self.counts(what).entry(*key).or_default() += 1);
    }

    pub(super) fn end(&mut self, what: What, keys: &[Key]) {
        keys.iter().for_each(|key| *self.counts(what).get_mut(key).unwrap() -= 1);
    }

    /// Whether all limits of a call let one more on its way.
    pub(super) fn has_way(&mut self, rules: &[Rule], call: &Call) -> bool {
        let most = |rule: &Rule| rule.in_flight.unwrap_or(usize::MAX);
        applying(rules, call)
            .all(|rule| self.on_their_way.get(&rule.key(call)).copied().unwrap_or(0) < most(rule))
    }

    /// Whether all limits of a call let one more wait, each of them for so long.
    pub(super) fn may_wait(&self, rules: &[Rule], call: &Call, long: u64) -> bool {
        applying(rules, call).all(|rule| {
            let waiting = self.waiting.get(&rule.key(call)).copied().unwrap_or(0);
            rule.wait.is_some_and(|(wait, queue)| long <= wait && waiting < queue)
        })
    }

    fn counts(&mut self, what: What) -> &mut HashMap<Key, usize> {
        match what {
            What::OnItsWay => &mut self.on_their_way,
            What::Waiting => &mut self.waiting,
        }
    }
}

/// What is counted of a key beside its admissions.
#[derive(Clone, Copy)]
pub(super) enum What {
    OnItsWay,
    Waiting,
}

pub(super) fn applying<'a>(rules: &'a [Rule], call: &'a Call) -> impl Iterator<Item = &'a Rule> {
    rules.iter().filter(|rule| rule.applies(call))
}
