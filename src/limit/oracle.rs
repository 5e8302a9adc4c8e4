//! The limiter against a list of all admissions, in traces that are made to break it.
//!
//! The list keeps every admission to the microsecond, past and promised, rounds nothing and forgets nothing that a window
//! may count. Of each decision it is asked whether there was room: where the limiter admits, or promises a moment, there
//! is, in every window that the call lies in; and there was none at any moment up to 2 ms before. Calls wait, hang up, are
//! postponed, are given back and are on their way, while the policy changes: from several limits to a single one, which is
//! decided without its lock where it is full, to some that are only tried, and to one of which parts are kept and lent.
//! The process ends every now and then, and the next one reads back what it left, on the same boot or on another.
//!
//! What the list does not know, it follows, if it is within those 2 ms: in which part a call was counted, and whether a
//! limit that is only tried has counted it.
//!
//! `TOLLGATE_ORACLE=10000000` makes so many decisions, best in release.

use crate::time::Steady;

mod call;
mod events;
mod list;
mod restart;
mod rules;
mod world;

use call::Version;
use rules::{
    LARGE, LARGE_FILE, ONE, ONE_FILE, SHARED, SHARED_FILE, SHARED_ON_TRIAL, SHARED_ON_TRIAL_FILE, SMALL,
    SMALL_FILE, TRIED, TRIED_FILE, TWO, TWO_FILE,
};
use world::{Decision, World};

/// How many decisions are made if the environment does not say.
const DECISIONS: u64 = 250_000;

/// From one reload to the next.
const RELOAD: u64 = 5_000;

/// For so many decisions after a reload, calls that began before it are decided by the version before.
const UNDER_WAY: u64 = 64;

/// From one restart to the next.
const RESTART: u64 = 4_000;

/// By how much the limiter may be later than the list, in microseconds.
const SLACK: u64 = 2_000;

/// By how much a time may be made later, beside that, where it crosses a boot: two readings of each clock are rounded.
const BOOT: u64 = 4_000;

const MICROS: u64 = 1_000_000;

/// The longest window of all, in microseconds.
const LONGEST: u64 = 60 * MICROS + 250_000;

fn micros(at: Steady) -> u64 {
    at.as_nanos() / 1_000
}

/// The version that is in force, and the one before.
struct Versions {
    all: Vec<&'static Version>,
    now: usize,
    before: usize,
}

impl Versions {
    fn new() -> Self {
        let all = [
            (LARGE_FILE, LARGE),
            (SMALL_FILE, SMALL),
            (ONE_FILE, ONE),
            (TWO_FILE, TWO),
            (TRIED_FILE, TRIED),
            (SHARED_FILE, SHARED),
            (SHARED_ON_TRIAL_FILE, SHARED_ON_TRIAL),
        ];
        let all = all.map(|version| &*Box::leak(Box::new(Version::new(version))));
        Self { all: all.into(), now: 0, before: 0 }
    }

    /// The one that decides this call.
    fn at(&mut self, number: u64, world: &mut World) -> &'static Version {
        let since = number % RELOAD;
        if number > RELOAD && since < UNDER_WAY {
            world.heals = world.now + LONGEST;
            let before = world.below(2) == 0;
            return self.all[if before { self.before } else { self.now }];
        }
        self.all[self.now]
    }

    /// Another one is in force.
    fn reload(&mut self, world: &mut World) {
        let next = 1 + world.below(self.all.len() as u64 - 1) as usize;
        (self.before, self.now) = (self.now, (self.now + next) % self.all.len());
        world.heals = world.now + LONGEST;
    }
}

fn decide(decisions: u64) {
    let (mut world, mut versions, mut refused) = (World::new(decisions), Versions::new(), 0);
    let (mut number, mut reload, mut restart) = (0, RELOAD, RESTART);
    while number < decisions {
        number += 1;
        if number >= reload {
            reload += RELOAD;
            versions.reload(&mut world);
        }
        if number >= restart {
            restart += RESTART;
            world.restart();
        }
        world.happen();
        let (caller, version) = (world.caller(), versions.at(number, &mut world));
        let Decision::Refused(opens) = world.call(version, caller, number) else { continue };
        refused += 1;
        // Sometimes the same caller comes again when it was told, and a microsecond before.
        if world.below(8) == 0 {
            let left = world.left;
            let crowded_out = world.crowds_out(version, caller, world.now + opens);
            world.pass(opens.saturating_sub(1));
            number += 1;
            match world.call(version, caller, number) {
                // It was told when it is admitted at the latest.
                _ if world.left > left => {}
                Decision::Admitted => {
                    assert!(crowded_out, "told too late at {}, decision {number}", world.now);
                }
                // One that waits does so for its own parts, and not for what is lent.
                Decision::Held(opens) => assert!(opens == 1 || version.has_parts() && opens > 1),
                Decision::NoWay => {}
                Decision::Refused(left) => {
                    assert_eq!(left, opens.min(1));
                    world.pass(opens.min(1));
                    number += 1;
                    let again = world.call(version, caller, number);
                    assert!(
                        matches!(again, Decision::Admitted | Decision::NoWay),
                        "told too early at {}",
                        world.now
                    );
                }
            }
        }
    }
    let seen = &world.seen;
    println!("{decisions} decisions, {refused} refused, {seen:?}");
    assert!(refused > decisions / 20 && refused < decisions * 19 / 20, "{refused} of {decisions} refused");
    assert!(seen.held > decisions / 100, "{seen:?}");
    assert!(seen.alone > decisions / 10 && seen.alone_refused > decisions / 50, "{seen:?}");
    assert!(seen.overrun > decisions / 100, "{seen:?}");
    let parts = [seen.kept, seen.own_lent, seen.lent];
    assert!(parts.iter().all(|counted| *counted > decisions / 500), "{seen:?}");
    assert!(seen.restarts > decisions / (2 * RESTART) && seen.reboots > 0, "{seen:?}");
}

#[test]
fn the_limiter_decides_as_a_list_of_all_admissions_and_never_2_ms_later() {
    decide(std::env::var("TOLLGATE_ORACLE").ok().map_or(DECISIONS, |number| number.parse().unwrap()));
}

#[test]
#[ignore = "takes ten minutes: `cargo test --release --lib -- --ignored decides_100_million`"]
fn the_limiter_decides_100_million_calls_as_a_list_of_all_admissions() {
    decide(100_000_000);
}
