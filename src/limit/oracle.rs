//! The limiter against a list of all admissions, in traces that are made to break it.
//!
//! The list keeps every admission to the microsecond, rounds nothing and forgets nothing that a window may count. Of each
//! decision it is asked whether there was room: where the limiter admits, there was, and where it refuses, there was
//! none 2 ms before. `TOLLGATE_ORACLE=10000000` makes so many decisions, best in release.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::id::OperationId;
use crate::limit::fixture::{application, clock, quotas, user};
use crate::limit::{Admission, LimitError, Limiter, QuotaSet};
use crate::principal::{Scope, Subject};
use crate::time::{Clock, ManualClock, Wall};

/// How many decisions are made if the environment does not say.
const DECISIONS: u64 = 250_000;

/// By how much the limiter may be later than the list, in microseconds.
const SLACK: u64 = 2_000;

const MICROS: u64 = 1_000_000;

/// A limit, as the list counts it.
struct Rule {
    name: &'static str,
    per: fn(&Call) -> [u128; 2],
    /// Applications' own calls have no user.
    users_only: bool,
    /// Counts, and windows with their margin in microseconds.
    windows: &'static [(u32, u64)],
    /// What a call of `read` and of `list` costs.
    costs: [u32; 2],
}

/// One version of the policy, as file and as rules.
struct Version {
    set: QuotaSet,
    rules: &'static [Rule],
}

struct Call {
    tenant: u128,
    application: u128,
    user: Option<u128>,
    operation: usize,
}

/// A limit and whom it counts for there.
type Key = (&'static str, [u128; 2]);

/// When, at what cost, and with which number.
type Admitted = (u64, u32, u64);

/// Every admission that may still count.
#[derive(Default)]
struct List(HashMap<Key, VecDeque<Admitted>>);

/// An admission that may be given back.
struct Held {
    admission: Admission,
    number: u64,
    keys: Vec<Key>,
}

struct World {
    limiter: Limiter,
    clock: Clock,
    hand: Arc<ManualClock>,
    list: List,
    held: Vec<Held>,
    random: u64,
    now: u64,
    /// Until when a limit that grew may lack times.
    heals: u64,
}

const OPERATIONS: [&str; 2] = ["read", "list"];

const LARGE: &[Rule] = &[
    Rule {
        name: "tenant",
        per: |call| [call.tenant, 0],
        users_only: false,
        windows: &[(9, MICROS), (40, 20 * MICROS)],
        costs: [1, 4],
    },
    Rule {
        name: "app",
        per: |call| [call.tenant << 64 | call.application, call.operation as u128],
        users_only: false,
        windows: &[(5, 2 * MICROS + 250_000), (12, 10 * MICROS + 250_000), (30, 60 * MICROS + 250_000)],
        costs: [1, 1],
    },
    Rule {
        name: "user",
        per: |call| [call.user.unwrap_or(0), 0],
        users_only: true,
        windows: &[(7, 3 * MICROS)],
        costs: [2, 2],
    },
];

const LARGE_FILE: &str = r#"
[[limit]]
name = "tenant"
operations = ["read", "list"]
per = ["tenant"]
windows = ["9 per second", "40 per 20s"]
cost = { list = 4 }
[[limit]]
name = "app"
operations = ["read", "list"]
per = ["tenant", "application", "operation"]
windows = ["5 per 2s", "12 per 10s", "30 per minute"]
margin = "250ms"
[[limit]]
name = "user"
operations = ["read", "list"]
per = ["user"]
windows = ["7 per 3s"]
cost = 2
"#;

const SMALL: &[Rule] = &[
    Rule {
        name: "tenant",
        per: |call| [call.tenant, 0],
        users_only: false,
        windows: &[(4, MICROS)],
        costs: [1, 1],
    },
    Rule {
        name: "app",
        per: |call| [call.tenant << 64 | call.application, call.operation as u128],
        users_only: false,
        windows: &[(3, 5 * MICROS)],
        costs: [3, 1],
    },
];

const SMALL_FILE: &str = r#"
[[limit]]
name = "tenant"
operations = ["read", "list"]
per = ["tenant"]
windows = ["4 per second"]
[[limit]]
name = "app"
operations = ["read", "list"]
per = ["tenant", "application", "operation"]
windows = ["3 per 5s"]
cost = { read = 3 }
"#;

/// The longest window of all, in microseconds.
const LONGEST: u64 = 60 * MICROS + 250_000;

// === impl List ===

impl List {
    /// What a key's admissions cost whose window, longer by `slack`, has not passed.
    fn live(&self, key: &Key, window: u64, slack: u64, now: u64) -> u32 {
        let of = self.0.get(key).into_iter().flatten();
        of.filter(|(time, ..)| time + window + slack > now).map(|(_, cost, _)| cost).sum()
    }

    fn has_room(&self, rules: &[Rule], call: &Call, slack: u64, now: u64) -> bool {
        applying(rules, call).all(|rule| {
            let key = (rule.name, (rule.per)(call));
            let room = |(count, window): &(u32, u64)| {
                self.live(&key, *window, slack, now) + rule.costs[call.operation] <= *count
            };
            rule.windows.iter().all(room)
        })
    }

    fn admit(&mut self, rules: &[Rule], call: &Call, number: u64, now: u64) -> Vec<Key> {
        let keys = applying(rules, call).map(|rule| {
            let key = (rule.name, (rule.per)(call));
            let of = self.0.entry(key).or_default();
            while of.front().is_some_and(|(time, ..)| time + LONGEST + SLACK <= now) {
                of.pop_front();
            }
            of.push_back((now, rule.costs[call.operation], number));
            key
        });
        keys.collect()
    }

    fn give_back(&mut self, held: &Held) {
        for key in &held.keys {
            if let Some(of) = self.0.get_mut(key) {
                of.retain(|(.., number)| *number != held.number);
            }
        }
    }
}

fn applying<'a>(rules: &'a [Rule], call: &'a Call) -> impl Iterator<Item = &'a Rule> {
    rules.iter().filter(|rule| call.user.is_some() || !rule.users_only)
}

// === impl World ===

impl World {
    fn new(seed: u64) -> Self {
        let (clock, hand) = clock();
        let now = clock.steady().as_nanos() / 1_000;
        let (limiter, list, held) = (Limiter::new(), List::default(), Vec::new());
        Self { limiter, clock, hand, list, held, random: seed, now, heals: 0 }
    }

    /// A number below `end`: SplitMix64.
    fn below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % end
    }

    fn pass(&mut self, micros: u64) {
        self.hand.advance(Duration::from_micros(micros));
        self.now += micros;
    }

    fn caller(&mut self) -> Call {
        let user = self.below(2) == 0;
        Call {
            tenant: self.below(2).into(),
            application: self.below(3).into(),
            user: user.then(|| self.below(2).into()),
            operation: self.below(2) as usize,
        }
    }

    /// Decides one call and asks the list what it thinks of that. If it was refused, in how many microseconds it opens.
    fn call(&mut self, version: &Version, call: &Call, number: u64) -> Option<u64> {
        let subject: Subject = match call.user {
            Some(number) => user(call.tenant, call.application, number),
            None => application(call.tenant, call.application),
        };
        let (operation, scope) =
            (OPERATIONS[call.operation].parse::<OperationId>().unwrap(), Scope::default());
        let charges = version.set.charges(&subject, &operation, &scope);
        let (rules, now) = (version.rules, self.now);
        let decided = at_once(self.limiter.acquire(&charges, &self.clock));
        match decided.map_err(LimitError::from) {
            Ok(mut admission) => {
                let room = self.list.has_room(rules, call, 0, now);
                assert!(room || now < self.heals, "one too many, decision {number} at {now} µs");
                let keys = self.list.admit(rules, call, number, now);
                if self.below(4) == 0 {
                    self.held.push(Held { admission, number, keys });
                } else {
                    admission.forwarded();
                }
                None
            }
            Err(LimitError::OverLimit(over)) => {
                let room = self.list.has_room(rules, call, SLACK, now);
                assert!(!room, "refused too long, decision {number} at {now} µs: {over}");
                Some(over.retry_after.duration().as_micros() as u64)
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// Gives back an admission of those that are held, or lets it go on.
    fn settle(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let place = self.below(self.held.len() as u64) as usize;
        let mut held = self.held.swap_remove(place);
        if self.below(2) == 0 {
            held.admission.forwarded();
        } else {
            self.list.give_back(&held);
        }
    }

    /// Something that is not a call.
    fn happen(&mut self) {
        match self.below(64) {
            // A flood: within a millisecond or a few.
            0..24 => (),
            24..40 => {
                let micros = self.below(3_000);
                self.pass(micros);
            }
            // A program that polls.
            40..48 => {
                let micros = self.below(2 * MICROS);
                self.pass(micros);
            }
            // Cron: at the next whole second.
            48..52 => self.pass(MICROS - self.now % MICROS),
            // Idle, past some windows or all.
            52 => {
                let micros = self.below(70) * MICROS;
                self.pass(micros);
            }
            53..62 => self.settle(),
            62 => {
                let seconds = self.below(4_000_000_000) as i64;
                self.hand.step_wall(Wall::from_unix_seconds(seconds));
            }
            _ => {
                self.limiter.sweep(&self.clock);
            }
        }
    }
}

/// What comes of a future that has nothing to wait for.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

#[test]
fn the_limiter_decides_as_a_list_of_all_admissions_and_never_2_ms_later() {
    let decisions = std::env::var("TOLLGATE_ORACLE").ok().map_or(DECISIONS, |number| number.parse().unwrap());
    let versions =
        [(LARGE_FILE, LARGE), (SMALL_FILE, SMALL)].map(|(file, rules)| Version { set: quotas(file), rules });
    let (mut world, mut version, mut refused) = (World::new(decisions), &versions[0], 0);
    let mut number = 0;
    while number < decisions {
        number += 1;
        if number % 20_000 == 0 {
            version = if std::ptr::eq(version, &versions[0]) { &versions[1] } else { &versions[0] };
            world.heals = world.now + LONGEST;
        }
        world.happen();
        let caller = world.caller();
        let Some(opens) = world.call(version, &caller, number) else { continue };
        refused += 1;
        // Sometimes the same caller comes again when it was told, and a microsecond before.
        if world.below(8) == 0 {
            world.pass(opens.saturating_sub(1));
            assert!(world.call(version, &caller, number + 1).is_some(), "told too late at {}", world.now);
            world.pass(opens.min(1) + 1);
            assert!(world.call(version, &caller, number + 2).is_none(), "told too early at {}", world.now);
            number += 2;
        }
    }
    println!("{decisions} decisions, {refused} refused");
    assert!(refused > decisions / 20 && refused < decisions * 19 / 20, "{refused} of {decisions} refused");
}
