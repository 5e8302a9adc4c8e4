//! `Limiter::acquire` whole: map, locks, clock, window, standings. Beside it governor (GCRA, which admits up to twice its
//! limit in a window), with one keyed limiter for the minute and one for the hour, asked one after the other.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use governor::clock::MonotonicClock;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use tollgate::id::{ApplicationId, OperationId, TenantId};
use tollgate::limit::{Charges, DocumentedLimit, Limiter, NamedDevices, Owners, QuotaSet, Starts};
use tollgate::principal::{Scope, Subject};
use tollgate::source::{PolicyFiles, Problems, SourceFile};
use tollgate::time::{Clock, Wall};

type Governor = RateLimiter<u128, DashMapStateStore<u128>, MonotonicClock>;

/// The documented limit of most calls of the API.
pub(crate) const DOCUMENTED: [&str; 2] = ["100 per minute", "1500 per hour"];

/// Two windows that the benchmark does not fill: there are 100,000 keys that share the calls.
const NEVER_FULL: [&str; 2] = ["1000000 per minute", "1000000 per hour"];

/// How many keys are many: more than fit into the caches of a small server.
const MANY: u64 = 100_000;

/// How many keys make every call one whose key is in no cache.
const COLD: u64 = 1_000_000;

const THREADS: [u64; 3] = [1, 2, 4];

/// Measures one hot key, several keys a call, many keys, and threads on one key and on many.
pub(crate) fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("limiter");
    refused_on_one_key(&mut group);
    admitted_on_few_keys(&mut group);
    admitted_on_many_keys(&mut group);
    admitted_on_cold_keys(&mut group);
    group.finish();
}

/// A limiter, and one operation under some limits, each per tenant and application.
pub(crate) struct World {
    set: QuotaSet,
    pub(crate) operation: OperationId,
    scope: Scope,
    pub(crate) limiter: Limiter,
    pub(crate) clock: Clock,
}

fn refused_on_one_key(group: &mut BenchmarkGroup<'_, WallTime>) {
    let world = World::new(1, DOCUMENTED, Clock::System);
    while world.call(0).is_some() {}
    let minute = Governor::new(per_minute(100), DashMapStateStore::default(), MonotonicClock);
    let hour = Governor::new(per_hour(1_500), DashMapStateStore::default(), MonotonicClock);
    let governor = || minute.check_key(&1).is_ok() && hour.check_key(&1).is_ok();
    while governor() {}
    for threads in THREADS {
        group.throughput(Throughput::Elements(threads));
        group.bench_function(BenchmarkId::new("one_key_refused", threads), |b| {
            b.iter_custom(|calls| in_threads(threads, calls, |_| world.call(0).is_some()));
        });
        group.bench_function(BenchmarkId::new("one_key_refused_governor", threads), |b| {
            b.iter_custom(|calls| in_threads(threads, calls, |_| governor()));
        });
    }
    // The minute has room and the hour has not, so that governor, too, looks at both.
    group.throughput(Throughput::Elements(1));
    let minute = Governor::new(per_minute(u32::MAX), DashMapStateStore::default(), MonotonicClock);
    group.bench_function("one_key_refused_governor_by_the_hour", |b| {
        b.iter(|| (minute.check_key(black_box(&1)).is_ok(), hour.check_key(black_box(&1)).is_ok()));
    });
}

fn admitted_on_few_keys(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.throughput(Throughput::Elements(1));
    for keys in [1, 2, 8] {
        let (clock, hand) = Clock::manual(Wall::default());
        let world = World::new(keys, DOCUMENTED, clock);
        let mut number = 0_u64;
        group.bench_function(BenchmarkId::new("admitted_by_keys", keys), |b| {
            b.iter(|| {
                number += 1;
                // The hour has room for a hundred calls more every four minutes, and holds 1500 all the time.
                if number.is_multiple_of(100) {
                    hand.advance(Duration::from_secs(240));
                }
                world.call(0).unwrap()
            });
        });
    }
    let minute = Governor::new(per_minute(u32::MAX), DashMapStateStore::default(), MonotonicClock);
    let hour = Governor::new(per_hour(u32::MAX), DashMapStateStore::default(), MonotonicClock);
    group.bench_function(BenchmarkId::new("admitted_by_keys_governor", 1), |b| {
        b.iter(|| (minute.check_key(black_box(&1)).is_ok(), hour.check_key(black_box(&1)).is_ok()));
    });
}

/// Keys that are met in an order without pattern, a few calls each in a minute.
fn admitted_on_cold_keys(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.throughput(Throughput::Elements(1));
    let world = World::new(1, DOCUMENTED, Clock::System);
    (0..COLD).for_each(|number| assert!(world.call(number).is_some()));
    group.bench_function("cold_keys_admitted", |b| {
        b.iter_custom(|calls| in_threads(1, calls, |number| world.call(number % COLD)));
    });
    drop(world);
    let minute = Governor::new(per_minute(100), DashMapStateStore::default(), MonotonicClock);
    let hour = Governor::new(per_hour(1_500), DashMapStateStore::default(), MonotonicClock);
    let governor = |key: &u128| minute.check_key(key).is_ok() && hour.check_key(key).is_ok();
    (0..COLD).for_each(|number| assert!(governor(&number.into())));
    group.bench_function("cold_keys_admitted_governor", |b| {
        b.iter_custom(|calls| in_threads(1, calls, |number| governor(&(number % COLD).into())));
    });
}

fn admitted_on_many_keys(group: &mut BenchmarkGroup<'_, WallTime>) {
    let world = World::new(1, NEVER_FULL, Clock::System);
    let minute = Governor::new(per_minute(1_000_000), DashMapStateStore::default(), MonotonicClock);
    let hour = Governor::new(per_hour(1_000_000), DashMapStateStore::default(), MonotonicClock);
    let governor = |key: &u128| minute.check_key(key).is_ok() && hour.check_key(key).is_ok();
    for number in 0..MANY {
        assert!(world.call(number).is_some() && governor(&number.into()));
    }
    for threads in THREADS {
        group.throughput(Throughput::Elements(threads));
        group.bench_function(BenchmarkId::new("many_keys_admitted", threads), |b| {
            b.iter_custom(|calls| in_threads(threads, calls, |number| world.call(number % MANY).unwrap()));
        });
        group.bench_function(BenchmarkId::new("many_keys_admitted_governor", threads), |b| {
            b.iter_custom(|calls| in_threads(threads, calls, |number| governor(&(number % MANY).into())));
        });
    }
}

// === impl World ===

impl World {
    pub(crate) fn new(limits: usize, rates: [&str; 2], clock: Clock) -> Self {
        let limit = |number| {
            format!(
                "[[limit]]\nname = \"bench-{number}\"\noperations = \"all\"\nper = [\"tenant\", \"application\"]\nwindows = {rates:?}\n"
            )
        };
        Self::of(&(0..limits).map(limit).collect::<String>(), clock)
    }

    /// The same under the limits of this file.
    pub(crate) fn of(limits: &str, clock: Clock) -> Self {
        let mut files = PolicyFiles::default();
        files.insert(SourceFile::new("limits.toml", limits));
        let operation = "call".parse::<OperationId>().unwrap();
        let (devices, rates) = (NamedDevices::None, vec![]);
        let documented = [DocumentedLimit {
            operation: operation.clone(),
            devices,
            starts: Starts::Nothing,
            rates,
            place: None,
        }];
        let mut problems = Problems::default();
        let set = QuotaSet::compile(&files, &documented, &Owners::default(), Wall::default(), &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        Self { set, operation, scope: Scope::default(), limiter: Limiter::new(), clock }
    }

    /// What a call by this caller is charged to.
    pub(crate) fn charges<'a>(&'a self, subject: &'a Subject) -> Charges<'a> {
        self.set.charges(subject, &self.operation, &self.scope)
    }

    /// One call by this application, forwarded if it is admitted: then, how many windows it is in.
    pub(crate) fn call(&self, application: u64) -> Option<usize> {
        let application = ApplicationId::from_u128(application.into());
        let subject = Subject { tenant: TenantId::from_u128(1), application, user: None };
        let charges = self.charges(&subject);
        // The limiter in memory never waits, so one poll is all it takes.
        let acquire = pin!(self.limiter.acquire(&charges, &self.clock));
        let Poll::Ready(admitted) = acquire.poll(&mut Context::from_waker(Waker::noop())) else {
            return None;
        };
        let mut admission = admitted.ok()?;
        admission.forwarded();
        Some(charges.len())
    }
}

/// How long it takes `threads` threads to do `calls` pieces of work each. The numbers that they get are evenly spread
/// and the same in every run.
fn in_threads<T>(threads: u64, calls: u64, work: impl Fn(u64) -> T + Sync) -> Duration {
    let start = Barrier::new(threads as usize + 1);
    thread::scope(|scope| {
        let (start, work) = (&start, &work);
        let run = |thread: u64| {
            move || {
                let mut number = thread + 1;
                start.wait();
                for _ in 0..calls {
                    // Knuth's linear congruential generator (MMIX).
                    number = number
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    black_box(work(number >> 33));
                }
            }
        };
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(run(thread))).collect();
        start.wait();
        let begin = Clock::System.steady();
        running.into_iter().for_each(|thread| thread.join().unwrap());
        Clock::System.steady().since(begin)
    })
}

fn per_minute(count: u32) -> Quota {
    Quota::per_minute(NonZeroU32::new(count).unwrap())
}

fn per_hour(count: u32) -> Quota {
    Quota::per_hour(NonZeroU32::new(count).unwrap())
}
