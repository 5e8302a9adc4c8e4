//! Calls on their way.

use super::*;
use crate::limit::QuotaSet;
use crate::limit::fixture::{changed, wait};
use crate::limit::quota::Effect;

store_contract!(
    sharded,
    crate::limit::Limiter::new(),
    [
        as_many_calls_are_on_their_way_as_may_be_until_one_ends,
        a_call_that_was_forwarded_keeps_its_charge_and_leaves_the_way_at_its_end,
        a_full_window_is_named_before_a_full_way,
        a_held_call_takes_the_way_when_its_turn_comes_or_gives_its_place_back,
        a_way_that_is_only_tried_lets_everybody_through,
        a_way_that_is_only_tried_lets_held_calls_through,
        a_key_of_which_a_call_is_on_its_way_is_not_swept,
    ]
);

/// At most two calls of an application on their way, and ten a minute in the tenant.
fn two_at_once() -> QuotaSet {
    let text = limit("way", "\"application\"", "\"9 per minute\"")
        + &limit("ten", "\"tenant\"", "\"10 per minute\"");
    changed(&text, |quota| quota.in_flight = (quota.name.as_str() == "way").then(|| 2.try_into().unwrap()))
}

async fn as_many_calls_are_on_their_way_as_may_be_until_one_ends(limiter: Limiter) {
    let (set, (clock, _)) = (two_at_once(), clock());
    let [read, other] = [1, 2].map(|number| charges(&set, &application(1, number), "read"));
    let first = limiter.acquire(&read, &clock).await.unwrap();
    let _second = limiter.acquire(&read, &clock).await.unwrap();
    let refused = LimitError::from(limiter.acquire(&read, &clock).await.unwrap_err());
    let LimitError::InFlight { limit, retry_after } = refused else { panic!("{refused}") };
    assert_eq!((limit.as_str(), retry_after.as_secs_rounded_up()), ("way", 1));
    assert_eq!(limiter.standings(&other, &clock)[0].remaining, 8, "it was charged to nothing");
    call(&limiter, &other, &clock).await.unwrap();
    drop(first);
    let _third = limiter.acquire(&read, &clock).await.unwrap();
    assert!(limiter.acquire(&read, &clock).await.is_err());
}

async fn a_call_that_was_forwarded_keeps_its_charge_and_leaves_the_way_at_its_end(limiter: Limiter) {
    let (set, (clock, _)) = (two_at_once(), clock());
    let read = charges(&set, &application(1, 1), "read");
    for round in 1..=4 {
        let mut both =
            [limiter.acquire(&read, &clock).await.unwrap(), limiter.acquire(&read, &clock).await.unwrap()];
        both.iter_mut().for_each(Admission::forwarded);
        assert!(matches!(limiter.acquire(&read, &clock).await, Err(Refusal::InFlight { .. })));
        drop(both);
        assert_eq!(limiter.standings(&read, &clock)[0].remaining, 9 - 2 * round);
    }
}

async fn a_full_window_is_named_before_a_full_way(limiter: Limiter) {
    let set = changed(&limit("one", "", "\"1 per minute\""), |quota| quota.in_flight = 1.try_into().ok());
    let (read, (clock, _)) = (charges(&set, &application(1, 1), "read"), clock());
    let _first = limiter.acquire(&read, &clock).await.unwrap();
    assert!(matches!(limiter.acquire(&read, &clock).await, Err(Refusal::Over { .. })));
}

async fn a_held_call_takes_the_way_when_its_turn_comes_or_gives_its_place_back(limiter: Limiter) {
    let set = changed(&limit("one", "", "\"1 per 10s\""), |quota| {
        quota.in_flight = 1.try_into().ok();
        quota.when_full = wait(60, 9);
    });
    let (read, (clock, hand)) = (charges(&set, &application(1, 1), "read"), clock());
    let first = limiter.acquire(&read, &clock).await.unwrap();
    let turns = async { tokio::join!(limiter.acquire(&read, &clock), limiter.acquire(&read, &clock)) };
    let time = async {
        hand.advance(seconds(10));
        // The second's turn comes while the first is on its way still, the third's when it has ended.
        tokio::task::yield_now().await;
        drop(first);
        hand.advance(seconds(10));
    };
    let ((second, third), ()) = tokio::join!(turns, time);
    assert!(matches!(second, Err(Refusal::InFlight { .. })), "{second:?}");
    assert!(third.is_ok(), "{third:?}");
    assert_eq!(limiter.held(), 0);
    drop(third);
    assert_eq!(limiter.standings(&read, &clock)[0].remaining, 1, "neither has left anything");
}

async fn a_way_that_is_only_tried_lets_everybody_through(limiter: Limiter) {
    let set = changed(&limit("way", "", "\"9 per minute\""), |quota| {
        (quota.in_flight, quota.effect) = (1.try_into().ok(), Effect::Shadow);
    });
    let (read, (clock, _)) = (charges(&set, &application(1, 1), "read"), clock());
    let first = limiter.acquire(&read, &clock).await.unwrap();
    let second = limiter.acquire(&read, &clock).await.unwrap();
    assert_eq!((first.overrun(&read).len(), second.overrun(&read).len()), (0, 1));
    drop(first);
    assert_eq!(limiter.acquire(&read, &clock).await.unwrap().overrun(&read).len(), 0);
}

async fn a_way_that_is_only_tried_lets_held_calls_through(limiter: Limiter) {
    let text = limit("one", "", "\"1 per 10s\"") + &limit("way", "", "\"9 per minute\"");
    let set = changed(&text, |quota| match quota.name.as_str() {
        "one" => quota.when_full = wait(60, 9),
        _way => (quota.in_flight, quota.effect) = (1.try_into().ok(), Effect::Shadow),
    });
    let (read, (clock, hand)) = (charges(&set, &application(1, 1), "read"), clock());
    let _first = limiter.acquire(&read, &clock).await.unwrap();
    let time = async { hand.advance(seconds(10)) };
    let (second, ()) = tokio::join!(limiter.acquire(&read, &clock), time);
    assert_eq!(second.unwrap().overrun(&read).as_slice(), ["way".into()]);
}

async fn a_key_of_which_a_call_is_on_its_way_is_not_swept(limiter: Limiter) {
    let (set, (clock, hand)) = (two_at_once(), clock());
    let read = charges(&set, &application(1, 1), "read");
    let mut long = limiter.acquire(&read, &clock).await.unwrap();
    long.forwarded();
    hand.advance(seconds(3_600));
    assert_eq!(limiter.sweep(&clock), Swept { visited: 2, removed: 1 });
    drop(long);
    assert_eq!(limiter.sweep(&clock), Swept { visited: 1, removed: 1 });
}
