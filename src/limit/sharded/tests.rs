use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::*;
use crate::limit::fixture::{application, charges, clock, each, limit, quotas};
use crate::limit::store::Swept;
use crate::limit::{Charges, QuotaSet};
use crate::time::Clock;

mod memory;
mod room;
mod shut;

type Store = ShardedStore;

const THREADS: usize = 8;

fn call(store: &Store, of: &Charges<'_>, clock: &Clock) -> Option<()> {
    store.acquire(of, clock).ok()?.charged.keep();
    Some(())
}

/// A call that is admitted or not, and whose charges are given back.
fn call_in_vain<M: KeyMap>(store: &Cells<M>, of: &Charges<'_>, clock: &Clock) {
    if let Ok(mut granted) = store.acquire(of, clock) {
        granted.charged.give_back();
    }
}

/// Says that the work is done, also when it failed.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The key of the first limit.
fn key(of: &Charges<'_>) -> LimitKey {
    each(of)[0].key
}

/// A limit per tenant and one per application, so that two applications share the first key and not the second.
fn shared(tenant: u32, application: u32) -> QuotaSet {
    let text = limit("shared-tenant", "\"tenant\"", &format!("\"{tenant} per minute\""))
        + &limit("shared-app", "\"application\"", &format!("\"{application} per minute\""));
    quotas(&text)
}

/// Runs `work` in all threads at once, each with its number.
fn in_threads(work: impl Fn(usize) + Sync) {
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                start.wait();
                work(number);
            });
        }
    });
}

#[test]
fn many_threads_on_shared_keys_are_admitted_exactly_n_times() {
    let (set, (clock, _)) = (shared(1_000, 400), clock());
    let collisions = AtomicUsize::new(0);
    // Each round is a tenant and three applications of its own. Rounds go on until threads have met at a lock.
    for round in 0..1_000_u128 {
        let store = Store::default();
        let admitted = [const { AtomicUsize::new(0) }; 3];
        in_threads(|number| {
            let application_of = |n: usize| application(round, round * 3 + (n % 3) as u128);
            for n in number..number + 300 {
                let of = charges(&set, &application_of(n), "read");
                if let Some(cell) = store.map.find(&key(&of), Arc::clone)
                    && cell.log.try_lock().is_none()
                {
                    collisions.fetch_add(1, Ordering::Relaxed);
                }
                if call(&store, &of, &clock).is_some() {
                    admitted[n % 3].fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let admitted = admitted.map(AtomicUsize::into_inner);
        assert_eq!(admitted.iter().sum::<usize>(), 1_000, "{admitted:?}");
        assert!(admitted.iter().all(|of_one| *of_one <= 400), "{admitted:?}");
        assert_eq!(store.keys(), 4);
        if round >= 10 && collisions.load(Ordering::Relaxed) > 0 {
            return;
        }
    }
    panic!("the threads never met");
}

#[test]
fn charges_given_back_by_many_threads_leave_every_key_as_it_was() {
    let (set, (clock, _)) = (shared(20, 20), clock());
    let store = Store::default();
    in_threads(|number| {
        for n in 0..500 {
            let of = charges(&set, &application(1, (number + n) as u128 % 4), "read");
            call_in_vain(&store, &of, &clock);
        }
    });
    for last in 0..4 {
        let of = charges(&set, &application(1, last), "read");
        let mut held = store.acquire(&of, &clock).unwrap();
        store.usages(&of, &clock, |quota, _, usage| assert_eq!(usage.remaining, 19, "{quota:?}"));
        held.charged.give_back();
    }
}

#[test]
fn an_acquire_that_races_the_sweep_loses_nothing() {
    let (set, (clock, _)) = (shared(6, 4), clock());
    let (store, swept, done) = (Store::default(), AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                swept.fetch_add(store.sweep(1_000, &clock).removed, Ordering::Relaxed);
            }
        });
        let done = Done(&done);
        // Every round is a new tenant: its cells are empty for a moment, which is when the sweep may take them.
        for round in 0..20_000_u128 {
            let admitted = AtomicUsize::new(0);
            let of = [0, 1].map(|n| charges(&set, &application(round, round * 2 + n), "read"));
            let two = |of: &Charges<'_>| {
                call_in_vain(&store, of, &clock);
                for _ in 0..5 {
                    admitted.fetch_add(usize::from(call(&store, of, &clock).is_some()), Ordering::Relaxed);
                }
            };
            if round % 100 == 0 {
                thread::scope(|scope| of.each_ref().map(|of| scope.spawn(|| two(of))).map(drop));
            } else {
                of.iter().for_each(two);
            }
            // The two applications may do 4 each and 6 together. (A charge that is given back meanwhile may refuse one.)
            of.iter().for_each(two);
            assert_eq!(admitted.into_inner(), 6);
            if round >= 2_000 && swept.load(Ordering::Relaxed) > 0 {
                break;
            }
        }
        drop(done);
    });
    assert!(swept.into_inner() > 0, "the sweep never met an empty cell");
}

#[test]
fn a_call_that_finds_an_emptied_cell_starts_over_with_a_new_one() {
    let (set, (clock, _)) = (shared(2, 2), clock());
    let (store, of) = (Store::default(), charges(&set, &application(1, 1), "read"));
    call_in_vain(&store, &of, &clock);
    // The sweep has emptied the cell and was stopped before it took it out of the map.
    let cell = store.map.find(&key(&of), Arc::clone).unwrap();
    *cell.log.lock() = None;
    assert!(call(&store, &of, &clock).is_some());
    assert!(!Arc::ptr_eq(&cell, &store.map.find(&key(&of), Arc::clone).unwrap()));
    // And now it goes on: the new cell stays.
    store.take_out(&cell);
    assert_eq!(store.keys(), 2);
    assert!(call(&store, &of, &clock).is_some() && call(&store, &of, &clock).is_none());
}

#[test]
fn a_key_is_in_the_map_once_however_many_threads_put_it_in_and_take_it_out() {
    let set = quotas(&limit("stress", "\"application\"", "\"9 per minute\""));
    let keys: Vec<_> = (0..16).map(|n| key(&charges(&set, &application(1, n), "read"))).collect();
    let (map, inside) = (DashKeys::default(), [const { AtomicUsize::new(0) }; 16]);
    in_threads(|number| {
        for n in 0..20_000 {
            let place = (n * 7 + number) % keys.len();
            let cell = Arc::new(Cell::new((&keys[place]).into(), SlidingWindowLog::default()));
            match map.insert(cell.clone()) {
                Inserted::New => {
                    // Nobody else takes it out, so that it is the only one in there until it goes.
                    assert_eq!(inside[place].fetch_add(1, Ordering::SeqCst), 0);
                    assert!(map.find(&keys[place], |found| Arc::ptr_eq(found, &cell)).unwrap());
                    assert_eq!(inside[place].fetch_sub(1, Ordering::SeqCst), 1);
                    assert!(matches!(map.remove(&cell), Removed::Now));
                }
                Inserted::Found(found) => {
                    assert_eq!(found.key.as_bytes(), keys[place].as_bytes());
                    assert!(matches!(map.remove(&cell), Removed::Before), "it is another's");
                }
            }
        }
    });
    assert!(keys.iter().all(|key| map.find(key, |_| ()).is_none()) && map.0.is_empty());
}

/// A map that looks at every cell before it goes.
#[derive(Debug, Default)]
struct Watched(DashKeys);

impl KeyMap for Watched {
    fn find<T>(&self, key: &LimitKey, look: impl FnOnce(&Arc<Cell>) -> T) -> Option<T> {
        self.0.find(key, look)
    }

    fn insert(&self, cell: Arc<Cell>) -> Inserted {
        self.0.insert(cell)
    }

    fn each(&self, look: impl FnMut(&Arc<Cell>)) {
        self.0.each(look);
    }

    fn remove(&self, cell: &Arc<Cell>) -> Removed {
        assert!(cell.log.lock().is_none(), "a call that has just got this cell would be charged to nothing");
        self.0.remove(cell)
    }
}

#[test]
fn the_sweep_empties_a_cell_before_it_takes_it_out() {
    let (set, (clock, hand)) = (shared(2, 2), clock());
    let store = Cells::<Watched>::default();
    call_in_vain(&store, &charges(&set, &application(1, 1), "read"), &clock);
    store.acquire(&charges(&set, &application(1, 2), "read"), &clock).unwrap().charged.keep();
    hand.advance(Duration::from_secs(60));
    assert_eq!(store.sweep(10, &clock), Swept { visited: 3, removed: 3 });
}

#[test]
fn a_cell_that_a_call_holds_is_not_swept() {
    let (set, (clock, _)) = (shared(2, 2), clock());
    let (store, of) = (Store::default(), charges(&set, &application(1, 1), "read"));
    call_in_vain(&store, &of, &clock);
    let held = store.map.find(&key(&of), Arc::clone).unwrap();
    assert_eq!(store.sweep(10, &clock), Swept { visited: 2, removed: 1 });
    drop(held);
    assert_eq!(store.sweep(10, &clock), Swept { visited: 1, removed: 1 });
    assert_eq!(store.keys(), 0);
}

#[test]
fn a_step_of_the_sweep_is_bounded_and_the_next_goes_on_behind_it() {
    let (set, (clock, hand)) = (shared(100, 1), clock());
    let store = Store::default();
    (0..99).for_each(|n| call(&store, &charges(&set, &application(1, n), "read"), &clock).unwrap());
    assert_eq!(store.sweep(40, &clock), Swept { visited: 40, removed: 0 });
    hand.advance(Duration::from_secs(60));
    assert_eq!(store.sweep(60, &clock), Swept { visited: 60, removed: 60 });
    assert_eq!(store.sweep(1_000, &clock), Swept { visited: 40, removed: 40 });
    assert_eq!(store.keys(), 0);
}

#[test]
fn threads_that_want_the_last_key_get_one_between_them() {
    let set = quotas(&format!("max_keys = 5\n{}", limit("few", "\"application\"", "\"1000 per minute\"")));
    let (store, (clock, _)) = (Store::default(), clock());
    in_threads(|number| {
        for n in 0..200 {
            let _ = call(&store, &charges(&set, &application(1, (number * 200 + n) as u128), "read"), &clock);
            assert!(store.keys() <= 5);
        }
    });
    assert_eq!((store.keys(), store.round.lock().cells.len()), (5, 5));
}
