//! Every order in which a few threads can charge, give back and sweep: loom runs the text of `cells` over its own locks
//! and counters, and over a map that is nothing but a lock.

use std::collections::BTreeMap;

use super::super::fixture::{application, changed, clock, limit, wait};
use super::super::key::LimitKey;
use super::super::{Charges, QuotaSet};
use crate::id::OperationId;
use crate::limit::decision::Refused;
use crate::principal::Scope;
use crate::time::Clock;

#[expect(clippy::duplicate_mod, reason = "the same text over other locks is the point")]
#[path = "cells.rs"]
mod cells;
mod sync;

use cells::{Cell, Cells, Inserted, KeyMap, Placed, Removed, Shut};
use sync::{Arc, Mutex};

/// [`KeyMap`] in the simplest way, and always in the same order: the checker repeats what it has seen.
#[derive(Debug, Default)]
struct OneLock(Mutex<BTreeMap<Vec<u8>, Arc<Cell>>>);

/// What the threads of one order share.
struct World {
    set: std::sync::Arc<QuotaSet>,
    cells: Cells<OneLock>,
    clock: Clock,
}

/// What a held call does.
#[derive(Clone, Copy)]
enum End {
    /// It takes its turn, and stays charged.
    Turn,
    /// It is moved to a later moment, and takes that.
    Moved,
    /// It goes away.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    AtOnce,
    Held,
    Refused,
}

// === impl OneLock ===

impl KeyMap for OneLock {
    fn find<T>(&self, key: &LimitKey, look: impl FnOnce(&Arc<Cell>) -> T) -> Option<T> {
        self.0.lock().get(key.as_bytes()).map(look)
    }

    fn insert(&self, cell: Arc<Cell>) -> Inserted {
        let mut cells = self.0.lock();
        let key = cell.key.as_bytes().to_vec();
        if let Some(found) = cells.get(&key) {
            return Inserted::Found(found.clone());
        }
        cells.insert(key, cell);
        Inserted::New
    }

    fn each(&self, look: impl FnMut(&Arc<Cell>)) {
        self.0.lock().values().for_each(look);
    }

    fn remove(&self, cell: &Arc<Cell>) -> Removed {
        let mut cells = self.0.lock();
        match cells.get(cell.key.as_bytes()) {
            Some(found) if Arc::ptr_eq(found, cell) => {
                cells.remove(cell.key.as_bytes());
                Removed::Now
            }
            _ => Removed::Before,
        }
    }
}

// === impl World ===

impl World {
    fn new(set: &std::sync::Arc<QuotaSet>) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self { set: set.clone(), cells: Cells::default(), clock: clock().0 })
    }

    fn with_charges<T>(&self, number: u128, work: impl FnOnce(&Charges<'_>) -> T) -> T {
        let (subject, scope) = (application(1, number), Scope::default());
        work(&self.set.charges(&subject, &"read".parse::<OperationId>().unwrap(), &scope))
    }

    /// How many calls of this application are admitted, if it makes one.
    fn call(&self, number: u128) -> usize {
        self.with_charges(number, |of| match self.cells.acquire(of, &self.clock) {
            Ok(mut granted) => {
                granted.charged.keep();
                1
            }
            Err(Refused::Over(quota, full, now)) => {
                assert!(full.opens > now && quota.bounds.each().iter().any(|bound| bound.rate == full.rate));
                0
            }
            Err(Refused::NoCell | Refused::Ended | Refused::InFlight(_) | Refused::Closed(..)) => 0,
        })
    }

    /// A call that is admitted, if it is, and given back.
    fn call_in_vain(&self, number: u128) {
        self.with_charges(number, |of| {
            if let Ok(mut granted) = self.cells.acquire(of, &self.clock) {
                granted.charged.give_back();
            }
        });
    }

    /// A call that has its turn now or later; then it takes that, or goes away.
    fn wait(&self, number: u128, end: End) -> Outcome {
        self.with_charges(number, |of| match self.cells.hold(of, &self.clock) {
            Ok(Placed::Now(mut granted)) => {
                granted.charged.keep();
                Outcome::AtOnce
            }
            Ok(Placed::Later(mut reserved)) => {
                assert_eq!(reserved.at().millis(), self.clock.steady().millis_up() + 60_000);
                match end {
                    End::Turn => drop(reserved.take_turn().unwrap()),
                    End::Moved => {
                        reserved.give_back();
                        let later = self.clock.steady() + std::time::Duration::from_secs(70);
                        reserved.place_again(later, &self.clock).unwrap();
                        assert_eq!(reserved.at().millis(), later.millis_up());
                        drop(reserved.take_turn().unwrap());
                    }
                    End::Gone => reserved.give_back(),
                }
                Outcome::Held
            }
            Err(_) => Outcome::Refused,
        })
    }

    /// How many calls each limit still admits.
    fn remaining(&self, number: u128) -> Vec<u32> {
        let mut remaining = Vec::new();
        self.with_charges(number, |of| {
            self.cells.usages(of, &self.clock, |_, _, usage| remaining.push(usage.remaining));
        });
        remaining
    }
}

fn two_limits(tenant: u32, application: u32) -> String {
    limit("model-tenant", "\"tenant\"", &format!("\"{tenant} per minute\""))
        + &limit("model-app", "\"application\"", &format!("\"{application} per minute\""))
}

/// Does `work` under these limits in every order of its threads in which these are stopped against their will at most
/// three times.
fn every_order(limits: &str, work: fn(std::sync::Arc<World>)) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    // Compiled once: loom's threads have small stacks.
    let set = std::sync::Arc::new(changed(limits, |quota| quota.when_full = wait(90, 9)));
    model.check(move || work(World::new(&set)));
}

fn spawn<T: 'static>(world: &std::sync::Arc<World>, work: fn(&World) -> T) -> loom::thread::JoinHandle<T> {
    let world = world.clone();
    loom::thread::spawn(move || work(&world))
}

#[test]
fn calls_that_share_their_keys_never_wait_for_each_other_for_ever_and_never_get_one_too_many() {
    every_order(&two_limits(2, 1), |world| {
        let other = spawn(&world, |world| world.call(1));
        let mine = world.call(1) + world.call(2);
        assert_eq!(mine + other.join().unwrap(), 2);
        assert_eq!(world.remaining(1)[0], 0);
    });
}

#[test]
fn a_call_that_meets_the_sweep_is_charged_where_the_next_one_looks() {
    every_order(&two_limits(2, 2), |world| {
        // Empty cells, which the sweep may take at once.
        world.call_in_vain(1);
        let sweep = spawn(&world, |world| world.cells.sweep(10, &world.clock).visited);
        assert_eq!(world.call(1), 1);
        sweep.join().unwrap();
        assert_eq!(world.remaining(1), [1, 1]);
        assert_eq!(world.cells.keys(), 2);
    });
}

#[test]
fn a_call_under_one_limit_that_meets_the_sweep_is_charged_where_the_next_one_looks() {
    every_order(&limit("model-one", "\"tenant\"", "\"2 per minute\""), |world| {
        world.call_in_vain(1);
        let sweep = spawn(&world, |world| world.cells.sweep(10, &world.clock).visited);
        assert_eq!(world.call(1), 1);
        sweep.join().unwrap();
        assert_eq!((world.remaining(1), world.cells.keys()), (vec![1], 1));
    });
}

#[test]
fn a_charge_that_is_given_back_leaves_no_trace_whoever_calls_meanwhile() {
    every_order(&two_limits(1, 1), |world| {
        let other = spawn(&world, |world| world.call_in_vain(1));
        let mine = world.call(2);
        other.join().unwrap();
        assert_eq!(world.remaining(2)[0] as usize, 1 - mine);
        assert_eq!(mine + world.call(2), 1, "there is room for one, sooner or later");
    });
}

#[test]
fn once_the_windows_are_shut_nothing_is_charged_that_whoever_reads_them_then_does_not_see() {
    every_order(&two_limits(9, 9), |world| {
        world.call_in_vain(1);
        let reader = spawn(&world, |world| {
            world.cells.shut(Shut::ToAll);
            world.remaining(1)[0]
        });
        let charged = world.call(1);
        let seen = reader.join().unwrap();
        assert_eq!(9 - seen as usize, charged);
        assert_eq!((world.remaining(1)[0], world.call(1)), (seen, 0));
        world.cells.shut(Shut::ToNobody);
        assert_eq!(world.call(1), 1);
    });
}

#[test]
fn a_key_that_is_new_while_the_windows_are_shut_is_charged_nothing_that_is_not_seen() {
    every_order(&limit("model-one", "\"tenant\"", "\"9 per minute\""), |world| {
        let reader = spawn(&world, |world| {
            world.cells.shut(Shut::ToAll);
            world.remaining(1).first().copied()
        });
        let charged = world.call(1);
        assert_eq!(9 - reader.join().unwrap().unwrap_or(9) as usize, charged);
    });
}

#[test]
fn the_last_free_key_is_had_by_one() {
    every_order(
        &format!("max_keys = 1\n{}", limit("model-few", "\"application\"", "\"9 per minute\"")),
        |world| {
            let other = spawn(&world, |world| world.call(2));
            let mine = world.call(1);
            let both = mine + other.join().unwrap();
            assert!(both <= 1 && world.cells.keys() <= 1, "{both}");
        },
    );
}

#[test]
fn a_call_that_waits_and_one_that_does_not_get_what_there_is_and_no_more() {
    every_order(&two_limits(1, 1), |world| {
        let other = spawn(&world, |world| world.call(1));
        let mine = world.wait(1, End::Gone);
        let admitted = other.join().unwrap() + usize::from(mine == Outcome::AtOnce);
        assert!(admitted <= 1 && mine != Outcome::Refused, "{admitted} {mine:?}");
        assert_eq!(world.remaining(1), [1 - admitted as u32; 2], "the one that went away has left nothing");
    });
}

#[test]
fn calls_that_wait_share_their_keys_in_one_step() {
    every_order(&two_limits(1, 1), |world| {
        world.call(1);
        let other = spawn(&world, |world| world.wait(1, End::Turn));
        let mine = world.wait(1, End::Turn);
        let both = [mine, other.join().unwrap()];
        assert!(
            both.contains(&Outcome::Held) && both.contains(&Outcome::Refused),
            "one turn in reach: {both:?}"
        );
    });
}

#[test]
fn a_place_that_is_taken_while_another_is_given_back_is_in_both_keys_or_in_none() {
    every_order(&two_limits(2, 2), |world| {
        world.call(1);
        world.call(1);
        let other = spawn(&world, |world| world.wait(1, End::Gone));
        let mine = world.wait(1, End::Gone);
        assert_eq!([mine, other.join().unwrap()], [Outcome::Held; 2]);
        world.with_charges(1, |of| {
            let Ok(Placed::Later(held)) = world.cells.hold(of, &world.clock) else { panic!("it is full") };
            assert_eq!(held.at().millis(), world.clock.steady().millis_up() + 60_000);
        });
    });
}

#[test]
fn a_call_that_waits_where_the_sweep_goes_by_has_its_place_where_the_next_one_looks() {
    every_order(&limit("model-one", "\"tenant\"", "\"1 per minute\""), |world| {
        world.call_in_vain(1);
        let sweep = spawn(&world, |world| world.cells.sweep(10, &world.clock).visited);
        assert_eq!(world.wait(1, End::Turn), Outcome::AtOnce);
        sweep.join().unwrap();
        assert_eq!((world.remaining(1), world.cells.keys()), (vec![0], 1));
    });
}

#[test]
fn a_place_that_is_moved_is_there_for_nobody_else() {
    every_order(&two_limits(1, 1), |world| {
        world.call(1);
        let other = spawn(&world, |world| world.call(2));
        assert_eq!(world.wait(1, End::Moved), Outcome::Held);
        assert_eq!((other.join().unwrap(), world.remaining(1)), (0, vec![0, 0]));
        assert_eq!(world.wait(1, End::Gone), Outcome::Refused, "the next turn is out of reach");
    });
}
