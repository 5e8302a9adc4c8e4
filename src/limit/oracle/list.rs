//! A list of all admissions, past and promised, to the microsecond.

use std::collections::{HashMap, VecDeque};

use super::rules::{Call, Key, Rule, Way, Whose};
use super::{BOOT, LONGEST, MICROS};
use crate::limit::quota::Idle;

/// An admission, past or promised.
#[derive(Clone, Copy)]
struct Admitted {
    at: u64,
    /// By how much the limiter may take it for later, since it crossed a boot.
    late: u64,
    cost: u32,
    number: u64,
}

/// What a call was charged to one key.
pub(super) type Charge = (Key, u32);

/// Every admission that may still count, the calls that are on their way or wait, and the parts that are wanted back.
#[derive(Default)]
pub(super) struct List {
    /// By time.
    admitted: HashMap<Key, VecDeque<Admitted>>,
    on_their_way: HashMap<Key, usize>,
    waiting: HashMap<Key, usize>,
    wanted: HashMap<Key, Wanted>,
}

/// Until when nobody but its owner is admitted into a part: at the earliest, and at the latest. The limiter sees a limit as
/// full up to 2 ms longer than the list; whether its owner was refused in that time, the list does not know.
#[derive(Clone, Copy, Default)]
struct Wanted {
    earliest: u64,
    latest: u64,
}

/// How sure it is that there is room.
#[derive(Clone, Copy)]
pub(super) enum Room {
    /// No window is broken, as far as the list knows.
    Possible,
    /// No window is broken, whatever the list does not know.
    Certain,
    /// The same, and so it was for so many microseconds.
    For(u64),
}

/// Which ways come into question.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ways {
    All,
    /// Those that a call may wait for.
    ToWaitFor,
}

impl List {
    /// Whether a call at this moment leaves each window that it lies in with no more than the count.
    pub(super) fn has_room(&self, way: &Way, at: u64, room: Room) -> bool {
        let wanted = match room {
            Room::Possible => self.wanted(way).earliest,
            Room::Certain | Room::For(_) => self.wanted(way).latest,
        };
        (wanted == 0 || at >= wanted + room.slack()) && self.holds(way.key, way.windows, way.cost, at, room)
    }

    /// The same of the windows of one key.
    fn holds(&self, key: Key, windows: &[(u32, u64)], cost: u32, at: u64, room: Room) -> bool {
        let of = self.admitted.get(&key);
        let of = || of.into_iter().flatten();
        windows.iter().all(|(count, window)| {
            let window = window + room.slack();
            let is_in = |one: &&Admitted, end: u64| one.at <= end && one.at + room.late(one) + window > end;
            let sum = |end: u64| -> u32 { of().filter(|one| is_in(one, end)).map(|one| one.cost).sum() };
            let later = of().map(|one| one.at).filter(|time| *time > at && *time < at + window);
            sum(at) + cost <= *count && later.into_iter().all(|end| sum(end) + cost <= *count)
        })
    }

    /// Until when somebody else wants this part back.
    fn wanted(&self, way: &Way) -> Wanted {
        match way.whose {
            Whose::Lent => self.wanted.get(&way.key).copied().unwrap_or_default(),
            Whose::Everybodys | Whose::Own(_) | Whose::Nobodys => Wanted::default(),
        }
    }

    /// Whether a limit has room somewhere.
    pub(super) fn fits(&self, rule: &Rule, call: &Call, at: u64, ways: Ways, room: Room) -> bool {
        those(rule, call, ways).any(|way| self.has_room(&way, at, room))
    }

    /// Whether all limits of a call have that refuse anybody.
    pub(super) fn fits_all(&self, rules: &[Rule], call: &Call, at: u64, ways: Ways, room: Room) -> bool {
        enforced(rules, call).all(|rule| self.fits(rule, call, at, ways, room))
    }

    /// Each moment from `from` to `end` at which a call may begin to fit.
    pub(super) fn moments(&self, rules: &[Rule], call: &Call, from: u64, end: u64) -> Vec<u64> {
        let ways = enforced(rules, call).flat_map(|rule| rule.ways(call));
        let times = ways.flat_map(|way| {
            let of = self.admitted.get(&way.key).into_iter().flatten();
            let opens = move |one: &Admitted| {
                let (at, late) = (one.at, one.late);
                way.windows.iter().map(move |(_, window)| at + late + window).chain([at])
            };
            of.flat_map(opens).chain([self.wanted(&way).latest])
        });
        let mut moments: Vec<_> = times.flat_map(|time| [time, time + 1]).chain([from]).collect();
        moments.retain(|moment| (from..end).contains(moment));
        moments.sort_unstable();
        moments.dedup();
        moments
    }

    /// The ways in which the limiter has counted a call that waits, by the names of limits and parts; and whether each
    /// has room at that moment.
    pub(super) fn place(
        &self,
        rules: &[Rule],
        call: &Call,
        at: u64,
        named: &[(&str, Option<&str>)],
    ) -> (Vec<Charge>, bool) {
        let its =
            |rule| those(rule, call, Ways::ToWaitFor).find(|way| named.contains(&(way.key.0, way.key.1)));
        let ways: Vec<_> = applying(rules, call).filter_map(its).collect();
        let room = ways.iter().all(|way| self.has_room(way, at, Room::Possible));
        (ways.iter().map(|way| (way.key, way.cost)).collect(), room)
    }

    /// Adds a call admitted at this moment, past or to come.
    pub(super) fn add(&mut self, charged: &[Charge], number: u64, at: u64, now: u64) {
        for (key, cost) in charged {
            let of = self.admitted.entry(*key).or_default();
            while of.front().is_some_and(|one| one.at + one.late + LONGEST + MICROS <= now) {
                of.pop_front();
            }
            let place = of.partition_point(|one| one.at <= at);
            of.insert(place, Admitted { at, late: 0, cost: *cost, number });
        }
    }

    pub(super) fn remove(&mut self, charged: &[Charge], number: u64) {
        for (key, _) in charged {
            if let Some(of) = self.admitted.get_mut(key) {
                of.retain(|one| one.number != number);
            }
        }
    }

    pub(super) fn begin(&mut self, what: What, charged: &[Charge]) {
        charged.iter().for_each(|(key, _)| *self.counts(what).entry(*key).or_default() += 1);
    }

    pub(super) fn end(&mut self, what: What, charged: &[Charge]) {
        charged.iter().for_each(|(key, _)| *self.counts(what).get_mut(key).unwrap() -= 1);
    }

    /// Whether as many calls of a limit are on their way as may be.
    pub(super) fn is_busy(&self, rule: &Rule, call: &Call) -> bool {
        let most = rule.in_flight.unwrap_or(usize::MAX);
        rule.ways(call).any(|way| self.on_their_way.get(&way.key).copied().unwrap_or(0) >= most)
    }

    /// Whether all limits of a call let one more on its way.
    pub(super) fn has_way(&self, rules: &[Rule], call: &Call) -> bool {
        enforced(rules, call).all(|rule| !self.is_busy(rule, call))
    }

    /// Whether all limits of a call let one more wait, each of them for so long.
    pub(super) fn may_wait(&self, rules: &[Rule], call: &Call, long: u64) -> bool {
        enforced(rules, call).all(|rule| {
            rule.wait.is_some_and(|(wait, queue)| {
                let waiting = |way: Way| self.waiting.get(&way.key).copied().unwrap_or(0);
                long <= wait && those(rule, call, Ways::ToWaitFor).all(|way| waiting(way) < queue)
            })
        })
    }

    /// A call came, and was charged to these. Of a limit that had no room for it, the lent parts that are its caller's own
    /// are wanted back: for one window of that which is full the longest. `slack` is for how long the limiter may have
    /// taken it for full since it was.
    pub(super) fn want(&mut self, rules: &[Rule], call: &Call, now: u64, charged: &[Charge], slack: u64) {
        for rule in applying(rules, call) {
            let is_own = |way: &Way| way.whose == Whose::Own(Idle::Lent);
            let own: Vec<_> = rule.ways(call).filter(is_own).collect();
            let is_charged = || charged.iter().any(|((name, ..), _)| *name == rule.name);
            if own.is_empty() || is_charged() || self.fits(rule, call, now, Ways::All, Room::For(slack)) {
                continue;
            }
            let certain = !self.fits(rule, call, now, Ways::All, Room::Possible);
            for way in own {
                let (first, last) = self.until(&way, now, slack);
                let wanted = self.wanted.entry(way.key).or_default();
                wanted.latest = wanted.latest.max(last);
                if certain {
                    wanted.earliest = wanted.earliest.max(first);
                }
            }
        }
    }

    /// Until when a part is wanted back from now on: at the earliest, and at the latest.
    fn until(&self, way: &Way, now: u64, slack: u64) -> (u64, u64) {
        // When each window opens, as the list sees it and as the limiter may.
        let opens = |room| way.windows.iter().map(move |window| self.opens(way, *window, now, room));
        let last = opens(Room::Possible).max().unwrap();
        let longest = way.windows.iter().zip(opens(Room::For(slack))).filter(|(_, opens)| *opens >= last);
        let until = longest.map(|((_, window), _)| now.div_ceil(1_000) * 1_000 + window);
        (until.clone().min().unwrap(), until.max().unwrap())
    }

    /// When one window has room.
    fn opens(&self, way: &Way, window: (u32, u64), now: u64, room: Room) -> u64 {
        let of = self.admitted.get(&way.key).into_iter().flatten();
        let opens = |one: &Admitted| [one.at, one.at + room.late(one) + window.1 + room.slack()];
        let mut moments: Vec<_> = of.flat_map(opens).collect();
        moments.retain(|moment| *moment > now);
        moments.sort_unstable();
        let has_room = |at: &u64| self.holds(way.key, &[window], way.cost, *at, room);
        [now].into_iter().chain(moments).find(has_room).unwrap()
    }

    /// The process has ended. What is on its way or waits is forgotten; until when a part is wanted back is written down in
    /// whole seconds.
    pub(super) fn forget(&mut self) {
        self.on_their_way.clear();
        self.waiting.clear();
        for wanted in self.wanted.values_mut() {
            wanted.latest = wanted.latest.div_ceil(MICROS) * MICROS;
        }
    }

    /// Another boot, on which it is `now`: what was at `then` is now. What would still lie ahead was promised to a call that
    /// ended with its process, cannot be told from an admission, and counts as one of now.
    pub(super) fn cross_boot(&mut self, then: u64, now: u64) {
        let shifted = |time: u64| (time + now).saturating_sub(then);
        for one in self.admitted.values_mut().flatten() {
            (one.at, one.late) = (shifted(one.at).min(now), one.late + BOOT);
        }
        // Rounded by these readings too, in either direction, and then to whole seconds.
        for wanted in self.wanted.values_mut().filter(|wanted| wanted.latest > 0) {
            wanted.latest = (shifted(wanted.latest) + BOOT).div_ceil(MICROS) * MICROS;
            wanted.earliest =
                if wanted.earliest > 0 { shifted(wanted.earliest).saturating_sub(BOOT) } else { 0 };
        }
    }

    fn counts(&mut self, what: What) -> &mut HashMap<Key, usize> {
        match what {
            What::OnItsWay => &mut self.on_their_way,
            What::Waiting => &mut self.waiting,
        }
    }
}

impl Room {
    /// By how much windows are to be longer.
    fn slack(self) -> u64 {
        match self {
            Self::Possible | Self::Certain => 0,
            Self::For(slack) => slack,
        }
    }

    /// By how much an admission is to be taken for later.
    fn late(self, one: &Admitted) -> u64 {
        match self {
            Self::Possible => 0,
            Self::Certain | Self::For(_) => one.late,
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

/// Those of them that refuse calls.
pub(super) fn enforced<'a>(rules: &'a [Rule], call: &'a Call) -> impl Iterator<Item = &'a Rule> {
    applying(rules, call).filter(|rule| rule.is_enforced())
}

fn those<'a>(rule: &'a Rule, call: &'a Call, ways: Ways) -> impl Iterator<Item = Way> + 'a {
    rule.ways(call).filter(move |way| ways == Ways::All || way.whose != Whose::Lent)
}
