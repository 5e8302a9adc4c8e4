//! What a key says of itself without its lock.

use std::sync::mpsc;

use super::*;
use crate::limit::decision::Refused;
use crate::limit::fixture::{changed, compile, part};
use crate::limit::quota::{Idle, Owner};
use crate::time::Steady;

/// When a refused call would be admitted.
fn opens(store: &Store, of: &Charges<'_>, clock: &Clock) -> Option<Steady> {
    match store.acquire(of, clock) {
        Err(Refused::Over(_, full, now)) => {
            assert!(full.opens > now && now == clock.steady());
            Some(full.opens)
        }
        Err(refused) => panic!("{refused:?}"),
        Ok(mut granted) => {
            granted.charged.keep();
            None
        }
    }
}

fn rates(windows: &str) -> QuotaSet {
    quotas(&limit("shut", "\"application\"", windows))
}

#[test]
fn a_key_that_was_found_full_refuses_again_without_its_lock_until_it_opens() {
    let (set, (clock, hand), store) = (rates("\"2 per minute\", \"3 per hour\""), clock(), Store::default());
    let (caller, hour) = (application(1, 1), Duration::from_secs(3_600));
    let of = charges(&set, &caller, "read");
    let start = clock.steady();
    assert!(opens(&store, &of, &clock).is_none() && opens(&store, &of, &clock).is_none());
    let in_a_minute = start + Duration::from_secs(60);
    assert_eq!(opens(&store, &of, &clock), Some(in_a_minute));
    let cell = store.map.find(&key(&of), Arc::clone).unwrap();
    let refused_while_locked = || {
        thread::scope(|scope| {
            let locked = cell.log.lock();
            let (say, hear) = mpsc::channel();
            let (store, of, clock) = (&store, &of, &clock);
            scope.spawn(move || say.send(opens(store, of, clock)));
            let heard = hear.recv_timeout(Duration::from_secs(10));
            drop(locked);
            heard.expect("it waits for the lock")
        })
    };
    assert_eq!(refused_while_locked(), Some(in_a_minute));
    hand.advance(Duration::from_millis(59_999));
    assert_eq!(refused_while_locked(), Some(in_a_minute));
    hand.advance(Duration::from_millis(1));
    assert_eq!(opens(&store, &of, &clock), None, "it has room again");
    assert_eq!(opens(&store, &of, &clock), Some(start + hour), "and now another window is full");
    assert_eq!(opens(&store, &of, &clock), Some(start + hour));
}

#[test]
fn a_charge_that_is_given_back_opens_a_key_that_was_found_full() {
    let (set, (clock, _), store) = (rates("\"1 per minute\""), clock(), Store::default());
    let of = charges(&set, &application(1, 1), "read");
    let mut granted = store.acquire(&of, &clock).unwrap();
    assert!(opens(&store, &of, &clock).is_some() && opens(&store, &of, &clock).is_some());
    granted.charged.give_back();
    assert_eq!(opens(&store, &of, &clock), None);
    assert!(opens(&store, &of, &clock).is_some());
}

#[test]
fn a_key_that_was_found_full_is_asked_anew_under_other_rates_and_for_other_costs() {
    let ((clock, _), store) = (clock(), Store::default());
    let caller = application(1, 1);
    let call = |set: &QuotaSet, operation| opens(&store, &charges(set, &caller, operation), &clock);
    let minute = rates("\"1 per minute\"");
    assert_eq!(call(&minute, "read"), None);
    let first = call(&minute, "read").unwrap();
    assert_eq!(call(&rates("\"1 per minute\""), "read"), Some(first), "the same rates read anew");
    let ten = call(&rates("\"1 per 10s\""), "read").unwrap();
    assert_eq!(first.since(ten), Duration::from_secs(50), "a shorter window opens sooner");
    assert_eq!(call(&minute, "read"), Some(first), "those still under way by the old ones are told theirs");
    let costly = "[[limit]]\nname = \"shut\"\noperations = [\"read\", \"list\"]\nper = [\"application\"]\n\
                  windows = [\"3 per minute\"]\ncost = { list = 3 }\n";
    let (set, problems) = compile(costly);
    assert_eq!(problems, [""; 0]);
    assert_eq!(call(&set, "list"), Some(first), "there is no room for three");
    assert_eq!(call(&set, "read"), None, "but for one");
    assert_eq!(call(&set, "read"), None);
    assert!(call(&set, "read").is_some());
    assert_eq!(call(&rates("\"9 per minute\""), "read"), None, "a larger count has room");
    // The one that was let in under more is the last that counts: the key is asked anew.
    assert_eq!(call(&set, "read"), Some(first));
}

#[test]
fn once_another_process_has_the_keys_nobody_is_refused_by_what_this_one_has_found() {
    let ((clock, _), store) = (clock(), Store::default());
    let full = quotas(&format!("max_keys = 1\n{}", limit("shut", "\"application\"", "\"1 per minute\"")));
    let of = |number| charges(&full, &application(1, number), "read");
    assert_eq!(opens(&store, &of(1), &clock), None);
    let in_a_minute = opens(&store, &of(1), &clock);
    assert!(in_a_minute.is_some());
    // A limit that has no part for this caller.
    let parts = changed(&limit("shut", "\"tenant\"", "\"4 per minute\""), |quota| {
        let owner = Owner::Application(crate::id::ApplicationId::from_u128(1));
        quota.parts = Box::new([part(quota, owner, Idle::Kept, &["4 per minute"])]);
        quota.bounds = crate::limit::Bounds::new(std::iter::empty());
    });
    let shut_out = charges(&parts, &application(1, 9), "read");

    store.close(Closed::ToAll);
    assert!(matches!(store.acquire(&of(1), &clock), Err(Refused::Ended)), "found full");
    assert!(matches!(store.acquire(&of(2), &clock), Err(Refused::Ended)), "no room for its key");
    assert!(matches!(store.acquire(&shut_out, &clock), Err(Refused::Ended)), "no part");
    store.close(Closed::ToNobody);
    assert_eq!(opens(&store, &of(1), &clock), in_a_minute);
    assert!(matches!(store.acquire(&of(2), &clock), Err(Refused::NoCell)));
    assert!(matches!(store.acquire(&shut_out, &clock), Err(Refused::Over(..))));
}
