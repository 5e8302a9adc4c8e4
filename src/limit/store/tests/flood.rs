//! Calls that come when there is no place to wait at, and such as wait when the process stops.

use std::sync::mpsc;
use std::thread;

use futures_util::future::poll_immediate;

use super::*;
use crate::limit::QuotaSet;
use crate::time::ManualClock;

/// A limit of so many in a window, for which as many calls wait.
fn waits(windows: &str, queue: u32) -> QuotaSet {
    let text = limit("waits", "\"application\"", windows);
    quotas(&format!("{text}when_full = {{ wait = \"50s\", queue = {queue} }}\n"))
}

#[test]
fn who_finds_the_queue_full_is_refused_without_the_lock_of_those_that_wait() {
    let (set, (clock, _), limiter) = (waits("\"1 per 20s\"", 1), clock(), Limiter::new());
    let of = charges(&set, &application(1, 1), "read");
    let acquire = || poll_immediate(limiter.acquire(&of, &clock));
    let within = runtime();
    within.block_on(acquire()).unwrap().unwrap().forwarded();
    let mut waiting = Box::pin(limiter.acquire(&of, &clock));
    assert!(within.block_on(poll_immediate(&mut waiting)).is_none());
    let refused = || match runtime().block_on(acquire()) {
        Some(Err(Refusal::Over { retry_after, .. })) => retry_after.duration(),
        other => panic!("{other:?}"),
    };
    let before = refused();
    assert_eq!(before, seconds(40), "behind the one that waits");
    thread::scope(|scope| {
        let locked = limiter.held.locked();
        let (say, hear) = mpsc::channel();
        let refused = &refused;
        scope.spawn(move || say.send(refused()));
        let heard = hear.recv_timeout(seconds(10));
        drop(locked);
        assert_eq!(heard.expect("it waits for the lock"), before);
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// A lane that is being opened, by a call that is on its way.
async fn opening(limiter: &Limiter, of: &Charges<'_>, clock: &Clock, hand: &ManualClock) -> Admission {
    limiter.shut(&of.lane(), seconds(10), clock);
    hand.advance(seconds(10));
    limiter.acquire(of, clock).await.unwrap()
}

#[tokio::test]
async fn a_call_that_waits_on_an_opening_lane_is_refused_when_the_process_ends_and_not_before() {
    let (set, (clock, hand), limiter) = (waits("\"9 per minute\"", 9), clock(), Limiter::new());
    let of = charges(&set, &application(1, 1), "read");
    let on_its_way = opening(&limiter, &of, &clock, &hand).await;
    let mut waiting = Box::pin(limiter.acquire(&of, &clock));
    assert!(poll_immediate(&mut waiting).await.is_none());
    limiter.end(clock.steady() + seconds(20));
    let mut later = Box::pin(limiter.acquire(&of, &clock));
    hand.advance(seconds(19));
    assert!(poll_immediate(&mut waiting).await.is_none() && poll_immediate(&mut later).await.is_none());
    hand.advance(seconds(1));
    for call in [waiting, later] {
        assert!(matches!(poll_immediate(call).await, Some(Err(Refusal::Ended))));
    }
    assert_eq!(limiter.held(), 0);
    drop(on_its_way);
}

#[tokio::test]
async fn when_the_windows_pass_on_nobody_waits_on_a_lane_here_any_more() {
    let (set, (clock, hand), limiter) = (waits("\"9 per minute\"", 9), clock(), Limiter::new());
    let of = charges(&set, &application(1, 1), "read");
    let impatient = quotas(&limit("impatient", "\"application\"", "\"9 per minute\""));
    let impatient = charges(&impatient, &application(1, 1), "read");
    let on_its_way = opening(&limiter, &of, &clock, &hand).await;
    let mut waiting = Box::pin(limiter.acquire(&of, &clock));
    assert!(poll_immediate(&mut waiting).await.is_none());
    assert!(matches!(limiter.acquire(&impatient, &clock).await, Err(Refusal::Closed { .. })));
    let (heir, _gets) = mpsc::channel();
    limiter.pass_to(crate::journal::Heir(heir)).unwrap();
    assert!(matches!(poll_immediate(waiting).await, Some(Err(Refusal::Ended))));
    assert!(matches!(limiter.acquire(&of, &clock).await, Err(Refusal::Ended)));
    assert!(matches!(limiter.acquire(&impatient, &clock).await, Err(Refusal::Ended)));
    // It goes on after all.
    limiter.take_back();
    let mut waiting = Box::pin(limiter.acquire(&of, &clock));
    assert!(poll_immediate(&mut waiting).await.is_none());
    drop(on_its_way);
    assert!(poll_immediate(&mut waiting).await.is_some_and(|admitted| admitted.is_ok()));
}
