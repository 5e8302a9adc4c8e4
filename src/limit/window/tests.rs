use proptest::prelude::*;

use super::*;
use crate::outcome::Window;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;
const DAY: u64 = 86_400 * SECOND;

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

fn at(nanos: u64) -> Steady {
    Steady::from_nanos(nanos)
}

/// Admits a call if every rate has room, as the store does; else says when all have.
fn call(log: &mut SlidingWindowLog, rates: &[Rate], now: Steady) -> Result<Stamp, Steady> {
    spend(log, rates, Cost::ONE, now)
}

/// The same for a call of some cost.
fn spend(log: &mut SlidingWindowLog, rates: &[Rate], cost: Cost, now: Steady) -> Result<Stamp, Steady> {
    let bounds = bounds(rates);
    match log.full(&bounds, cost, now) {
        Some(full) => Err(full.opens),
        None => Ok(log.admit(&bounds, cost, now)),
    }
}

fn bounds(rates: &[Rate]) -> Bounds {
    Bounds::new(rates.iter().copied().map(Bound::from))
}

fn refund(log: &mut SlidingWindowLog, stamp: Stamp) {
    log.refund(stamp, Cost::ONE);
}

/// The naive limiter: every admission as its exact time, in nanoseconds, and nothing ever forgotten.
#[derive(Default)]
struct Model(Vec<u64>);

impl Model {
    /// How many of its calls lie in the window of `rate` that ends at `now`, lengthened by `slack`.
    fn live(&self, rate: Rate, slack: u64, now: u64) -> u64 {
        let window = rate.window.millis() * MILLI + slack;
        self.0.iter().filter(|admitted| **admitted + window > now).count() as u64
    }

    fn has_room(&self, rates: &[Rate], slack: u64, now: u64) -> bool {
        rates.iter().all(|rate| self.live(*rate, slack, now) < u64::from(rate.count.get()))
    }

    fn call(&mut self, rates: &[Rate], slack: u64, now: u64) {
        if self.has_room(rates, slack, now) {
            self.0.push(now);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Some time passes, in nanoseconds.
    Wait(u64),
    /// As much time passes as makes the next call admissible, or one nanosecond less.
    Edge(u64),
    Call,
    /// The admission with this number, modulo how many there are, is given back.
    Refund(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..3 * MILLI).prop_map(Step::Wait),
        2 => (0..2 * SECOND).prop_map(Step::Wait),
        1 => (0..12 * SECOND).prop_map(Step::Wait),
        2 => (0..=1u64).prop_map(Step::Edge),
        10 => Just(Step::Call),
        2 => any::<usize>().prop_map(Step::Refund),
    ];
    proptest::collection::vec(step, 1..200)
}

fn rates() -> impl Strategy<Value = Vec<Rate>> {
    let rate = (1..12u32, 1..6u32).prop_map(|(count, seconds)| Rate {
        count: count.try_into().unwrap(),
        window: Window::from_seconds(seconds).unwrap(),
    });
    proptest::collection::vec(rate, 1..=3)
}

/// Readings from the start of the clock to past the point where 32 bits of milliseconds begin again.
fn starts() -> impl Strategy<Value = u64> {
    prop_oneof![0..10 * SECOND, ((1u64 << 32) * MILLI - 10 * SECOND)..((1u64 << 32) * MILLI + SECOND)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn it_decides_as_the_model_does_and_never_2_ms_later(start in starts(), rates in rates(), steps in steps()) {
        let (mut log, mut model, mut now) = (SlidingWindowLog::default(), Model::default(), start);
        let mut stamps = Vec::new();
        for step in steps {
            match step {
                Step::Wait(nanos) => now += nanos,
                Step::Edge(before) => {
                    let opens = rates.iter().map(|rate| log.opens((*rate).into(), Cost::ONE)).max().unwrap().as_nanos();
                    now = now.max(opens.saturating_sub(before));
                }
                Step::Call => match call(&mut log, &rates, at(now)) {
                    Ok(stamp) => {
                        prop_assert!(model.has_room(&rates, 0, now), "one too many at {now}");
                        model.0.push(now);
                        stamps.push(stamp);
                    }
                    Err(opens) => {
                        prop_assert!(!model.has_room(&rates, 2 * MILLI, now), "refused too long at {now}");
                        let opens = opens.as_nanos();
                        prop_assert!(call(&mut log, &rates, at(opens - 1)).is_err());
                        prop_assert!(model.has_room(&rates, 0, opens));
                        prop_assert!(rates.iter().all(|rate| log.opens((*rate).into(), Cost::ONE) <= at(opens)));
                    }
                },
                Step::Refund(number) if !stamps.is_empty() => {
                    let index = number % stamps.len();
                    refund(&mut log, stamps.remove(index));
                    model.0.remove(index);
                }
                Step::Refund(_) => {}
            }
            for rate in &rates {
                let usage = log.usage((*rate).into(), Cost::ONE, at(now));
                let room = |slack| u64::from(rate.count.get()).saturating_sub(model.live(*rate, slack, now));
                let remaining = u64::from(usage.remaining);
                prop_assert!(remaining <= room(0) && remaining >= room(2 * MILLI), "{usage:?} at {now}");
                if usage.remaining < rate.count.get() {
                    let grown = at(now) + usage.grows_in;
                    prop_assert!(log.usage((*rate).into(), Cost::ONE, grown).remaining > usage.remaining);
                    let before = at(grown.as_nanos() - 1);
                    prop_assert_eq!(log.usage((*rate).into(), Cost::ONE, before).remaining, usage.remaining);
                } else {
                    prop_assert_eq!(usage.grows_in, Duration::ZERO);
                }
            }
        }
    }

    #[test]
    fn left_alone_it_stays_between_the_model_and_one_that_is_2_ms_slower(
        start in starts(),
        rates in rates(),
        gaps in proptest::collection::vec(prop_oneof![0..3 * MILLI, 0..SECOND], 1..400),
    ) {
        let (mut log, mut model, mut slower) = (SlidingWindowLog::default(), Model::default(), Model::default());
        let (mut now, mut admitted) = (start, 0);
        for gap in gaps {
            now += gap;
            admitted += usize::from(call(&mut log, &rates, at(now)).is_ok());
            model.call(&rates, 0, now);
            slower.call(&rates, 2 * MILLI, now);
            prop_assert!(admitted <= model.0.len(), "more than the model at {now}");
            prop_assert!(admitted >= slower.0.len(), "slower than 2 ms at {now}");
        }
    }
}

#[test]
fn a_minute_and_an_hour_are_held_at_once() {
    let rates = [rate("100 per minute"), rate("1500 per hour")];
    for a_minute in [150, 300] {
        let mut log = SlidingWindowLog::default();
        let time = |n: u64| at(n * 60 * SECOND / a_minute);
        // For an hour, and a minute more.
        let admitted: Vec<_> =
            (0..a_minute * 61).filter(|n| call(&mut log, &rates, time(*n)).is_ok()).collect();
        let minutes = |minute| admitted.iter().filter(|n| **n / a_minute == minute).count();
        // As many as the minute lets through for as long as the hour has room, and as the first ones leave it, again.
        let expected: Vec<_> =
            (0..61).map(|minute| if minute < 15 || minute == 60 { 100 } else { 0 }).collect();
        assert_eq!((0..61).map(minutes).collect::<Vec<_>>(), expected);
        assert_eq!(admitted[99..101], [99, a_minute], "the 101st waits for the first to be a minute old");
        assert_eq!(admitted[1_499..1_501], [14 * a_minute + 99, 60 * a_minute]);
    }
}

#[test]
fn the_ring_grows_to_the_largest_rate_exactly() {
    let rates = [rate("100 per second"), rate("1500 per hour")];
    let mut log = SlidingWindowLog::default();
    let mut most = 0;
    let mut admitted = 0;
    for n in 0..3_000_u64 {
        admitted += usize::from(call(&mut log, &rates, at(n * 2 * SECOND)).is_ok());
        most = most.max(log.stamps.capacity());
    }
    assert_eq!((admitted, log.stamps.len(), most), (2_700, 1_500, 1_500));
}

#[test]
fn a_window_of_24_days_is_exact_where_32_bits_begin_again() {
    let rates = [rate("2 per 2073600s")];
    for start in [0, 40 * DAY, 49 * DAY, 49 * DAY + 61_367 * SECOND] {
        let mut log = SlidingWindowLog::default();
        assert!(call(&mut log, &rates, at(start)).is_ok());
        assert!(call(&mut log, &rates, at(start + 23 * DAY)).is_ok());
        assert_eq!(call(&mut log, &rates, at(start + 24 * DAY - 1)), Err(at(start + 24 * DAY)));
        assert!(call(&mut log, &rates, at(start + 24 * DAY)).is_ok());
        assert_eq!(call(&mut log, &rates, at(start + 24 * DAY)), Err(at(start + 47 * DAY)));
        // An idle log does not come back to life when 49.7 days have passed.
        assert!(call(&mut log, &rates, at(start + 24 * DAY + (1 << 32) * MILLI + SECOND)).is_ok());
        assert_eq!(log.stamps.len(), 1);
    }
}

#[test]
fn a_refund_takes_back_its_own_call_and_only_while_it_is_held() {
    let rates = [rate("3 per 10s")];
    let mut log = SlidingWindowLog::default();
    let stamps: Vec<_> = (1..=3).map(|n| call(&mut log, &rates, at(n * SECOND)).unwrap()).collect();
    refund(&mut log, stamps[1]);
    assert!(call(&mut log, &rates, at(4 * SECOND)).is_ok());
    assert_eq!(call(&mut log, &rates, at(4 * SECOND)), Err(at(11 * SECOND)));
    refund(&mut log, stamps[1]);
    assert_eq!(call(&mut log, &rates, at(4 * SECOND)), Err(at(11 * SECOND)), "it was given back already");
    call(&mut log, &rates, at(11 * SECOND)).unwrap();
    refund(&mut log, stamps[0]);
    assert_eq!(call(&mut log, &rates, at(11 * SECOND)), Err(at(13 * SECOND)), "the ring has forgotten it");
    refund(&mut log, Stamp(99_000));
    assert_eq!(log.stamps.len(), 3);
}

#[test]
fn a_refund_of_the_newest_leaves_the_others_whole() {
    let rates = [rate("2 per 10s")];
    let mut log = SlidingWindowLog::default();
    let first = call(&mut log, &rates, at(SECOND)).unwrap();
    let second = call(&mut log, &rates, at(2 * SECOND)).unwrap();
    refund(&mut log, second);
    assert_eq!(log.expires(), at(11 * SECOND));
    refund(&mut log, first);
    assert_eq!(log.expires(), at(0));
    assert!(call(&mut log, &rates, at(3 * SECOND)).is_ok());
}

#[test]
fn a_larger_rate_starts_from_the_times_still_held_and_a_smaller_one_applies_at_once() {
    let mut log = SlidingWindowLog::default();
    for n in 0..5 {
        call(&mut log, &[rate("5 per 10s")], at(n * SECOND)).unwrap();
    }
    let larger = [rate("7 per 20s")];
    assert!(call(&mut log, &larger, at(12 * SECOND)).is_ok());
    assert!(call(&mut log, &larger, at(12 * SECOND)).is_ok());
    assert_eq!(call(&mut log, &larger, at(12 * SECOND)), Err(at(20 * SECOND)), "all five still count");
    let smaller = [rate("2 per 10s")];
    assert_eq!(log.usage(smaller[0].into(), Cost::ONE, at(13 * SECOND)).remaining, 0);
    assert_eq!(call(&mut log, &smaller, at(13 * SECOND)), Err(at(22 * SECOND)));
}

#[test]
fn a_call_decided_by_an_older_rate_takes_nothing_from_a_newer_one() {
    let (older, newer) = ([rate("1 per second")], [rate("3 per 10s")]);
    let mut log = SlidingWindowLog::default();
    call(&mut log, &newer, at(0)).unwrap();
    call(&mut log, &newer, at(0)).unwrap();
    call(&mut log, &older, at(5 * SECOND)).unwrap();
    assert_eq!(call(&mut log, &newer, at(5 * SECOND)), Err(at(10 * SECOND)));
}

#[test]
fn a_clock_that_went_back_would_not_break_the_order() {
    let rates = [rate("2 per 10s")];
    let mut log = SlidingWindowLog::default();
    call(&mut log, &rates, at(5 * SECOND)).unwrap();
    let stamp = call(&mut log, &rates, at(4 * SECOND)).unwrap();
    assert_eq!(stamp, Stamp(5_000));
    assert_eq!(call(&mut log, &rates, at(14 * SECOND)), Err(at(15 * SECOND)));
}

#[test]
fn the_ring_is_bounded_also_where_an_older_window_would_keep_more() {
    let mut log = SlidingWindowLog::default();
    call(&mut log, &[rate("3 per day")], at(0)).unwrap();
    for n in 1..=9 {
        call(&mut log, &[rate("2 per second")], at(n * SECOND)).unwrap();
        assert!(log.stamps.len() <= 3);
    }
    assert_eq!(call(&mut log, &[rate("3 per day")], at(9 * SECOND)), Err(at(7 * SECOND + DAY)));
}
