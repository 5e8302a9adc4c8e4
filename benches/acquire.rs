//! `Limiter::acquire` so many times and nothing else, for `benches/acquire.sh`, which counts its instructions.

use std::hint::black_box;
use std::time::Duration;

use tollgate::time::{Clock, Wall};

use crate::limiter::{DOCUMENTED, World};

/// What the first argument is if the process is to make calls and end.
const WORD: &str = "acquire";

/// If the process was told to, with `acquire refused|admitted KEYS CALLS`, makes these calls and ends.
pub(crate) fn play_role() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [word, outcome, keys, calls] = arguments.as_slice() else { return };
    if word != WORD {
        return;
    }
    let make: fn(usize, u64) = match outcome.as_str() {
        "refused" => refused,
        "admitted" => admitted,
        _ => return,
    };
    make(keys.parse().unwrap(), calls.parse().unwrap());
    std::process::exit(0);
}

fn refused(keys: usize, calls: u64) {
    // A hand that nobody moves: the windows that are full stay so, however slowly the processor is simulated.
    let (clock, _hand) = Clock::manual(Wall::default());
    let world = World::new(keys, DOCUMENTED, clock);
    while world.call(0).is_some() {}
    for _ in 0..calls {
        assert!(black_box(world.call(black_box(0))).is_none());
    }
}

fn admitted(keys: usize, calls: u64) {
    let (clock, hand) = Clock::manual(Wall::default());
    let world = World::new(keys, DOCUMENTED, clock);
    for number in 1..=calls {
        // The hour has room for a hundred calls more every four minutes.
        if number.is_multiple_of(100) {
            hand.advance(Duration::from_secs(240));
        }
        assert!(black_box(world.call(black_box(0))).is_some());
    }
}
