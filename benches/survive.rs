//! What a journal of the windows costs an admission, how long a start takes that reads them back, and how long a process
//! that takes another one's place keeps calls waiting.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput};
use tollgate::journal::{Heir, StateFolder};
use tollgate::limit::Limiter;
use tollgate::time::{BootId, Clock};

use super::limiter::{DOCUMENTED, World};

/// As many keys as a limiter holds if the policy says nothing else.
const KEYS: u64 = 1_000_000;

const MAX_KEYS: NonZeroU32 = NonZeroU32::new(KEYS as u32).unwrap();

const BOOT: BootId = BootId::from_bytes([1; 16]);

/// A limit that the benchmark does not fill.
const NEVER_FULL: [&str; 2] = ["1000000 per minute", "1000000 per hour"];

/// Calls that are timed in one go: their records have room in the journal's queue, so that the disk is not what is
/// measured.
const BATCH: u64 = 50_000;

/// Of a busy tenant: callers with a key of their own in each limit.
const SOME_KEYS: u64 = 10_000;

/// Measures an admission with a journal and without, a start with a million keys, and hand-overs.
pub(crate) fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("survive");
    group.throughput(Throughput::Elements(1));
    for (name, folder) in [("without", None), ("with", Some(tempfile::tempdir().unwrap()))] {
        let mut world = World::new(1, NEVER_FULL, Clock::System);
        let state = folder.as_ref().map(|folder| StateFolder::open(folder.path()).unwrap());
        if let Some(state) = &state {
            world.limiter = Limiter::open(state, MAX_KEYS, BOOT, &world.clock).unwrap();
        }
        group.bench_function(format!("admitted_{name}_journal"), |b| {
            b.iter_custom(|calls| {
                // Whole batches, however few are asked for: a few alone measure how the writer is woken.
                let batches = calls.div_ceil(BATCH);
                let mut took = Duration::ZERO;
                for _ in 0..batches {
                    let begin = world.clock.steady();
                    (0..BATCH).for_each(|number| {
                        black_box(world.call(number));
                    });
                    took += world.clock.steady().since(begin);
                    catch_up(&world.limiter);
                }
                took.mul_f64(calls as f64 / (batches * BATCH) as f64)
            });
        });
        world.limiter.close();
    }

    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let mut world = World::new(1, DOCUMENTED, Clock::System);
    world.limiter = Limiter::open(&state, MAX_KEYS, BOOT, &world.clock).unwrap();
    (0..KEYS).for_each(|number| assert!(world.call(number).is_some()));
    world.limiter.close();
    group.sample_size(10);
    group.throughput(Throughput::Elements(KEYS));
    group.bench_function("a_start_with_a_million_keys", |b| {
        b.iter_batched(
            || (),
            |()| {
                let limiter = Limiter::open(&state, MAX_KEYS, BOOT, &world.clock).unwrap();
                assert_eq!(limiter.keys(), KEYS as usize);
                limiter
            },
            BatchSize::PerIteration,
        );
    });
    hand_over(&mut group);
    group.finish();
}

/// What calls wait for while a process takes another one's place: the windows are put into a folder by the one, and read
/// back by the other.
fn hand_over(group: &mut BenchmarkGroup<'_, WallTime>) {
    for keys in [SOME_KEYS, KEYS] {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        let world = World::new(1, DOCUMENTED, Clock::System);
        (0..keys).for_each(|number| assert!(world.call(number).is_some()));
        group.throughput(Throughput::Elements(keys));
        group.bench_function(format!("a_hand_over_with_{keys}_keys"), |b| {
            b.iter_with_large_drop(|| {
                let (to, _) = std::sync::mpsc::channel();
                world.limiter.pass_to(Heir(to)).unwrap();
                world.limiter.write_to(&state, BOOT, &world.clock).unwrap();
                let read = Limiter::read(&state, MAX_KEYS, BOOT, &world.clock).unwrap().in_memory();
                assert_eq!(read.keys(), keys as usize);
                read
            });
        });
    }
}

/// Waits until the journal has written what was handed in.
fn catch_up(limiter: &Limiter) {
    let mut before = None;
    while let Some((_, now)) = limiter.journal()
        && before.replace(now) != Some(now)
    {
        // The writer gathers for 20 ms: two looks that see the same lie further apart.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(Clock::System.sleep(Duration::from_millis(60)));
    }
}
