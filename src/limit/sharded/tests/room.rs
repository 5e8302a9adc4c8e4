//! A new key where there are as many as may be.

use super::*;
use crate::limit::decision::Refused;

/// A limit of one call a minute for each application, with so many keys.
fn at_most(keys: u32) -> QuotaSet {
    quotas(&format!("max_keys = {keys}\n{}", limit("room", "\"application\"", "\"1 per minute\"")))
}

/// A store that is full: with live keys, and a last one whose call was given back.
fn full_of(keys: u32, set: &QuotaSet, clock: &Clock) -> Store {
    let store = Store::default();
    (1..keys).for_each(|n| call(&store, &charges(set, &application(1, n.into()), "read"), clock).unwrap());
    call_in_vain(&store, &charges(set, &application(1, keys.into()), "read"), clock);
    assert_eq!(store.keys(), keys as usize);
    store
}

/// Whether a caller whom nobody knows has room for its key.
fn comes(store: &Store, number: u128, set: &QuotaSet, clock: &Clock) -> bool {
    match store.acquire(&charges(set, &application(1, 1_000_000 + number), "read"), clock) {
        Ok(mut granted) => {
            granted.charged.keep();
            true
        }
        Err(Refused::NoCell) => false,
        Err(refused) => panic!("{refused:?}"),
    }
}

#[test]
fn a_new_key_has_the_place_of_a_dead_one_behind_however_many_live_ones() {
    let (set, (clock, _)) = (at_most(1_000), clock());
    let store = full_of(1_000, &set, &clock);
    assert!(comes(&store, 1, &set, &clock), "one of a thousand keys counts nothing");
    assert!(!comes(&store, 2, &set, &clock), "every key is live");
    assert_eq!(store.keys(), 1_000);
}

#[test]
fn among_many_keys_one_call_looks_at_a_part_of_them_and_the_next_goes_on() {
    let (set, (clock, _)) = (at_most(20_000), clock());
    let store = full_of(20_000, &set, &clock);
    let refused = (1..).take_while(|number| !comes(&store, *number, &set, &clock)).count();
    assert_eq!(refused, 1, "each looks at 16,384");
}

#[test]
fn a_flood_of_new_keys_has_every_live_one_looked_at_once_a_second() {
    let (set, (clock, hand)) = (at_most(1_000), clock());
    let store = full_of(1_000, &set, &clock);
    assert!(comes(&store, 1, &set, &clock) && !comes(&store, 2, &set, &clock));
    // How far a call turns the round of a thousand.
    let turns = || {
        let first = store.round.lock().cells.front().unwrap().clone();
        assert!(!comes(&store, 3, &set, &clock));
        let round = store.round.lock();
        round.cells.len() - round.cells.iter().position(|cell| Arc::ptr_eq(cell, &first)).unwrap()
    };
    assert_eq!([turns(), turns(), turns()], [64; 3]);
    hand.advance(Duration::from_secs(1));
    assert_ne!(turns(), 64, "then it looks at all of them again");
    assert_eq!(turns(), 64);
    hand.advance(Duration::from_secs(59));
    assert!(comes(&store, 4, &set, &clock), "the others have expired");
}
