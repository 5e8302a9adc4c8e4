use std::time::Duration;

use proptest::prelude::*;

use super::super::{Bounds, Cost, Usage};
use super::*;
use crate::outcome::{Rate, Window};
use crate::time::Steady;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;

/// A key as two lists: what is past and what is promised, in milliseconds, each call with its cost.
#[derive(Default)]
struct Model {
    past: Vec<(u64, u32)>,
    ahead: Vec<(u64, u32)>,
}

impl Model {
    fn settle(&mut self, now: u64) {
        let (due, ahead) = self.ahead.iter().partition(|(at, _)| *at <= now);
        self.ahead = ahead;
        self.past.extend::<Vec<_>>(due);
    }

    /// Whether a call between these two millisecond readings of one moment breaks no window.
    fn is_legal(&self, bound: Bound, units: u32, down: u64, up: u64) -> bool {
        let (count, window) = (u64::from(bound.rate.count.get()), u64::from(bound.millis()));
        let sum = |in_it: &dyn Fn(u64, bool) -> bool| {
            let past = self.past.iter().filter(|(at, _)| in_it(*at, true));
            let ahead = self.ahead.iter().filter(|(at, _)| in_it(*at, false));
            past.chain(ahead).map(|(_, cost)| u64::from(*cost)).sum::<u64>() + u64::from(units)
        };
        let before = sum(&|at, is_past| (is_past || at <= down) && at + window > down);
        let ends = self.ahead.iter().map(|(end, _)| *end).filter(|end| *end > down && *end < up + window);
        before <= count && ends.into_iter().all(|end| sum(&|at, _| at + window > end && at <= end) <= count)
    }

    /// The first legal moment, tried one after the other wherever anything changes.
    fn earliest(&self, bounds: &Bounds, units: u32, from: u64, stamp: u64) -> u64 {
        let times = self.past.iter().chain(&self.ahead).map(|(at, _)| *at);
        let windows = |at: u64| bounds.each().iter().map(move |bound| at + u64::from(bound.millis()));
        let mut moments: Vec<_> =
            times.flat_map(|at| windows(at).chain([at])).flat_map(|at| [at, at + 1]).collect();
        moments.push(from);
        moments.retain(|at| *at >= from);
        moments.sort_unstable();
        let legal =
            |at: &u64| bounds.each().iter().all(|bound| self.is_legal(*bound, units, *at, (*at).max(stamp)));
        moments.into_iter().find(legal).unwrap()
    }
}

/// The first moment on which the searches of all bounds agree.
fn agree(log: &SlidingWindowLog, bounds: &Bounds, units: u32, from: u64, stamp: u64) -> u64 {
    let search = |bound: &Bound| Search::new(log, *bound, units, Stamp(stamp));
    let mut searches: Vec<_> = bounds.each().iter().map(search).collect();
    let mut at = from;
    loop {
        let latest = searches.iter_mut().map(|search| search.earliest(at)).max().unwrap();
        if latest == at {
            return at;
        }
        at = latest;
    }
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    /// A call of this cost, which waits if it has to, or for a moment so many milliseconds from now at the earliest.
    Call(u32, Option<u64>),
    /// A call that was placed, by its number modulo how many there are, is given back.
    Refund(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..3 * MILLI).prop_map(Step::Wait),
        2 => (0..2 * SECOND).prop_map(Step::Wait),
        10 => (1..4u32, prop_oneof![4 => Just(None), 1 => (0..9_000u64).prop_map(Some)])
            .prop_map(|(cost, from)| Step::Call(cost, from)),
        3 => any::<usize>().prop_map(Step::Refund),
    ];
    proptest::collection::vec(step, 1..120)
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let rate = (3..12u32, 1..6u32).prop_map(|(count, seconds)| Rate {
        count: count.try_into().unwrap(),
        window: Window::from_seconds(seconds).unwrap(),
    });
    proptest::collection::vec(rate.prop_map(Bound::from), 1..=3).prop_map(Bounds::new)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn it_finds_the_first_moment_that_breaks_no_window_and_no_promise(
        start in prop_oneof![0..SECOND, ((1u64 << 32) * MILLI - 9 * SECOND)..((1u64 << 32) * MILLI)],
        bounds in bounds(),
        steps in steps(),
    ) {
        let (mut log, mut model, mut now) = (SlidingWindowLog::default(), Model::default(), start);
        let mut placed: Vec<(u64, u32)> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(nanos) => now += nanos,
                Step::Call(units, later) => {
                    let reading = Steady::from_nanos(now);
                    log.settle(reading);
                    model.settle(reading.millis_down());
                    let from = reading.millis_down() + later.map_or(0, |later| later + 1);
                    let at = agree(&log, &bounds, units, from, reading.millis_up());
                    prop_assert_eq!(at, model.earliest(&bounds, units, from, reading.millis_up()), "at {}", now);
                    let cost = Cost::new(units).unwrap();
                    let stamp = if at == reading.millis_down() {
                        model.past.push((reading.millis_up(), units));
                        log.admit(&bounds, cost, reading).millis()
                    } else if at <= from + 20_000 {
                        model.ahead.push((at, units));
                        log.reserve(&bounds, cost, Stamp(at), reading);
                        at
                    } else {
                        continue;
                    };
                    placed.push((stamp, units));
                }
                Step::Refund(number) if !placed.is_empty() => {
                    let index = number % placed.len();
                    let gone = placed.swap_remove(index);
                    log.refund(Stamp(gone.0), Cost::new(gone.1).unwrap());
                    log.end_wait();
                    // Stamps of one moment are all the same, whichever call they are of, and those to come go first.
                    let mut left = gone.1;
                    for list in [&mut model.ahead, &mut model.past] {
                        for (_, units) in list.iter_mut().filter(|(at, _)| *at == gone.0) {
                            let taken = left.min(*units);
                            (*units, left) = (*units - taken, left - taken);
                        }
                        list.retain(|(_, units)| *units > 0);
                    }
                }
                Step::Refund(_) => {}
            }
            let reading = Steady::from_nanos(now);
            log.settle(reading);
            model.settle(reading.millis_down());
            for bound in bounds.each() {
                let usage = log.usage(*bound, Cost::ONE, reading);
                let (down, up) = (reading.millis_down(), reading.millis_up());
                let legal = |units: &u32| model.is_legal(*bound, *units, down, up);
                let most = (1..=bound.rate.count.get()).take_while(legal).last().unwrap_or(0);
                prop_assert_eq!(usage.remaining, most, "{:?} at {}", bound, now);
                if most < bound.rate.count.get() {
                    let one = Bounds::new([*bound]);
                    let grows = model.earliest(&one, most + 1, down, up);
                    prop_assert_eq!(usage.grows_in, Steady::from_millis(grows).since(reading));
                }
            }
        }
    }
}

#[test]
fn a_call_given_back_takes_its_units_from_what_is_promised_at_the_same_moment_first() {
    let bounds = Bounds::new([Bound::from("4 per second".parse::<Rate>().unwrap())]);
    let (now, stamp) = (Steady::from_nanos(7_738 * MILLI + 1), Stamp(7_739));
    let mut log = SlidingWindowLog::default();
    log.reserve(&bounds, Cost::new(2).unwrap(), stamp, now);
    assert_eq!(log.admit(&bounds, Cost::ONE, now).millis(), stamp.millis());
    log.refund(stamp, Cost::ONE);
    assert_eq!(log.usage(bounds.each()[0], Cost::ONE, now).remaining, 2);
    let due = Steady::from_millis(stamp.millis());
    log.settle(due);
    assert_eq!(log.usage(bounds.each()[0], Cost::ONE, due).remaining, 2);
    log.refund(stamp, Cost::new(2).unwrap());
    assert_eq!(log.usage(bounds.each()[0], Cost::ONE, due).remaining, 4);
}

#[test]
fn a_full_key_is_as_full_with_ten_thousand_promises_and_a_place_behind_them_is_found() {
    let rate: Rate = "100 per second".parse().unwrap();
    let (bounds, now) = (Bounds::new([rate.into()]), Steady::from_millis(5_000));
    let mut log = SlidingWindowLog::default();
    for call in 0..10_100_u64 {
        log.settle(now);
        let at = log.search(rate.into(), Cost::ONE, now).earliest(5_000);
        assert_eq!(at, 5_000 + call / 100 * 1_000);
        match at {
            5_000 => drop(log.admit(&bounds, Cost::ONE, now)),
            _ => log.reserve(&bounds, Cost::ONE, Stamp(at), now),
        }
    }
    assert_eq!(log.queued(), (10_000, 10_000));
    let full = Usage { remaining: 0, grows_in: Duration::from_secs(101) };
    assert_eq!(log.usage(rate.into(), Cost::ONE, now), full);
    assert_eq!(log.expires(), Steady::from_millis(5_000 + 101_000));
    log.settle(Steady::from_millis(60_000));
    assert_eq!(log.queued().0, 4_500);
    assert_eq!(log.stamps.len(), 100);
}

#[test]
fn nothing_is_kept_of_a_side_list_that_is_over() {
    let rate: Rate = "1 per second".parse().unwrap();
    let (bounds, mut log) = (Bounds::new([rate.into()]), SlidingWindowLog::default());
    log.reserve(&bounds, Cost::ONE, Stamp(2_000), Steady::from_millis(1_000));
    log.want(Steady::from_millis(3_000));
    log.settle(Steady::from_millis(2_500));
    assert!(!log.is_plain(), "its call waits, and it is wanted");
    log.end_wait();
    log.settle(Steady::from_millis(2_999));
    assert_eq!((log.is_plain(), log.wanted()), (false, 3_000));
    log.settle(Steady::from_millis(3_000));
    assert_eq!((log.is_plain(), log.stamps.len()), (true, 1));
}
