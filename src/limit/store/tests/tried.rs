//! Limits that are tried: they count as if they were enforced, and refuse nobody.

use super::*;
use crate::id::LimitName;

store_contract!(
    sharded,
    crate::limit::Limiter::new(),
    [
        a_limit_on_trial_refuses_nobody_for_want_of_room_for_its_key,
        no_limit_of_a_set_on_trial_refuses_and_each_says_whom_it_would,
        a_call_that_passes_on_trial_is_counted_by_limits_that_are_enforced_alone,
    ]
);

/// A limit of an application on trial.
fn tried(windows: &str) -> String {
    limit("tried", "\"application\"", windows) + "enforce = false\n"
}

/// The limits that would have refused the call, which is admitted.
async fn overrun(limiter: &Limiter, charges: &Charges<'_>, clock: &Clock) -> Vec<LimitName> {
    let mut admission = limiter.acquire(charges, clock).await.unwrap();
    admission.forwarded();
    admission.overrun(charges).to_vec()
}

async fn a_limit_on_trial_refuses_nobody_for_want_of_room_for_its_key(limiter: Limiter) {
    let (set, (clock, _)) = (quotas(&format!("max_keys = 1\n{}", tried("\"2 per minute\""))), clock());
    let [first, second] = [1, 2].map(|number| charges(&set, &application(1, number), "read"));
    assert_eq!(overrun(&limiter, &first, &clock).await, []);
    assert_eq!(overrun(&limiter, &second, &clock).await, [LimitName::from("tried")]);
    assert_eq!(limiter.keys(), 1);
    // One that is enforced beside it does.
    let text = limit("tenant", "\"tenant\"", "\"9 per minute\"") + &tried("\"2 per minute\"");
    let set = quotas(&format!("max_keys = 1\n{text}"));
    let refused = call(&limiter, &charges(&set, &application(1, 2), "read"), &clock).await.unwrap_err();
    assert!(matches!(refused, LimitError::KeysFull { .. }));
}

async fn no_limit_of_a_set_on_trial_refuses_and_each_says_whom_it_would(limiter: Limiter) {
    let written = quotas(&format!("max_keys = 2\ndurable = true\n{}", two_limits()));
    let (set, (clock, hand)) = (written.clone().tried(), clock());
    let of = charges(&set, &application(1, 1), "read");
    let mut found = Vec::new();
    for _ in 0..7 {
        let names = overrun(&limiter, &of, &clock).await;
        found.push(names.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>().join(" "));
    }
    assert_eq!(found, ["", "", "", "app", "app", "tenant app", "tenant app"].map(String::from));
    assert!(limiter.standings(&of, &clock).iter().all(|standing| !standing.shown));
    hand.advance(seconds(60));
    assert_eq!(overrun(&limiter, &of, &clock).await, []);
    assert_eq!((set.durable(), written.durable().is_some()), (None, true), "nothing is waited for");
    // What a person reads of them is what is written.
    assert_eq!(set.describe(&"app".into()), written.describe(&"app".into()));
    // The same windows, once they are enforced.
    hand.advance(seconds(1));
    assert_eq!(fill(&limiter, &charges(&written, &application(1, 1), "read"), &clock).await.0, 2);
}

async fn a_call_that_passes_on_trial_is_counted_by_limits_that_are_enforced_alone(limiter: Limiter) {
    let text = limit("tenant", "\"tenant\"", "\"5 per minute\"") + &tried("\"3 per minute\"");
    let (set, (clock, _)) = (quotas(&text), clock());
    let (caller, operation, scope) = (application(1, 1), "read".parse().unwrap(), Scope::default());
    let passing = set.charges_of_tried(&caller, &operation, &scope);
    for _ in 0..4 {
        assert_eq!(overrun(&limiter, &passing, &clock).await, []);
    }
    let of = set.charges(&caller, &operation, &scope);
    let left = limiter.standings(&of, &clock);
    let left: Vec<_> = left.iter().map(|left| (left.limit.as_str(), left.remaining)).collect();
    assert_eq!(left, [("tenant", 1)], "the other has no key yet");
    call(&limiter, &passing, &clock).await.unwrap();
    assert!(call(&limiter, &passing, &clock).await.is_err(), "what is enforced refuses it");
}
