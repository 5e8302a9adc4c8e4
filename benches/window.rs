//! The window of one key, without locks and maps: 100 per minute and 1500 per hour, full.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use tollgate::limit::{Bound, Bounds, Cost, SlidingWindowLog};
use tollgate::outcome::Rate;
use tollgate::time::Steady;

const SECOND: Duration = Duration::from_secs(1);

/// 1500 calls an hour, evenly: the most that the hour allows.
const GAP: Duration = Duration::from_millis(2_400);

/// Measures each of the three things that are done with a log.
pub(crate) fn bench(c: &mut Criterion) {
    let rates = ["100 per minute", "1500 per hour"].map(|rate| Bound::from(rate.parse::<Rate>().unwrap()));
    let bounds = Bounds::new(rates);
    let mut group = c.benchmark_group("window");

    let (mut log, mut now) = full(&bounds);
    group.bench_function("admitted", |b| {
        b.iter(|| {
            now = now + GAP;
            assert!(black_box(&rates).iter().all(|rate| log.opens(*rate, Cost::ONE) <= now));
            black_box(log.admit(&bounds, Cost::ONE, now))
        });
    });

    let (log, now) = full(&bounds);
    group.bench_function("refused", |b| {
        b.iter(|| black_box(&rates).iter().map(|rate| black_box(&log).opens(*rate, Cost::ONE)).max());
    });

    group.bench_function("remaining", |b| {
        let later = now + SECOND * 1_800;
        b.iter(|| black_box(&rates).map(|rate| black_box(&log).usage(rate, Cost::ONE, later)));
    });

    let (mut log, now) = full(&bounds);
    group.bench_function("admitted_and_given_back", |b| {
        let later = now + GAP;
        b.iter(|| {
            let stamp = log.admit(black_box(&bounds), Cost::ONE, later);
            log.refund(stamp, Cost::ONE);
        });
    });
    group.finish();
}

/// A log that holds 1500 calls, and the time of the last.
fn full(bounds: &Bounds) -> (SlidingWindowLog, Steady) {
    let (mut log, mut now) = (SlidingWindowLog::default(), Steady::default() + SECOND);
    for _ in 0..1_500 {
        log.admit(bounds, Cost::ONE, now);
        now = now + GAP;
    }
    (log, now)
}
