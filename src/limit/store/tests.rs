use std::time::Duration;

use super::*;
use crate::id::{DeviceGroupId, DeviceRef, OperationId};
use crate::limit::fixture::{application, charges, clock, limit, quotas, user};
use crate::limit::{LimitError, Limiter};
use crate::principal::{Scope, ScopedDevice};

const TWO_LIMITS: [(&str, &str, &str); 2] =
    [("tenant", "\"tenant\"", "\"5 per minute\""), ("app", "\"application\"", "\"3 per minute\"")];

fn two_limits() -> String {
    TWO_LIMITS.map(|(name, per, windows)| limit(name, per, windows)).concat()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Every behaviour of the contract, run against one store.
macro_rules! store_contract {
    ($store:ident, $new:expr, [$($behaviour:ident),* $(,)?]) => {
        mod $store {
            $(
                #[tokio::test]
                async fn $behaviour() {
                    super::$behaviour($new).await;
                }
            )*
        }
    };
}

mod flood;
mod in_flight;
mod parts;
mod tried;
mod waiting;

store_contract!(
    sharded,
    crate::limit::Limiter::new(),
    [
        a_call_that_nothing_limits_is_admitted_and_holds_no_key,
        a_call_is_admitted_exactly_when_the_refusal_said,
        a_refused_call_is_charged_to_nothing,
        the_limit_that_is_full_for_the_longest_is_named,
        callers_without_a_common_key_do_not_meet,
        a_dropped_admission_gives_every_charge_back,
        a_forwarded_admission_keeps_its_charges,
        a_change_of_n_and_w_keeps_what_was_admitted,
        a_limit_that_counts_by_something_else_starts_anew,
        a_live_limit_is_never_reset_to_make_room,
        a_call_whose_keys_do_not_all_fit_is_refused,
        only_keys_that_no_window_counts_are_swept,
        standings_count_the_call_itself,
        stepping_the_calendar_changes_nothing,
        a_call_counts_as_many_as_it_costs_and_gives_as_many_back,
        calls_of_one_device_share_a_key_and_those_of_unknown_devices_another,
    ]
);

/// Forwards a call, or says why not.
async fn call(limiter: &Limiter, of: &Charges<'_>, clock: &Clock) -> Result<Standings, LimitError> {
    limiter.acquire(of, clock).await?.forwarded();
    Ok(limiter.standings(of, clock))
}

/// Forwards calls until one is refused.
async fn fill(limiter: &Limiter, of: &Charges<'_>, clock: &Clock) -> (usize, LimitError) {
    let mut admitted = 0;
    loop {
        match call(limiter, of, clock).await {
            Ok(_) => admitted += 1,
            Err(error) => return (admitted, error),
        }
    }
}

fn over(error: LimitError) -> OverLimit {
    match error {
        LimitError::OverLimit(over) => over,
        other => panic!("{other}"),
    }
}

async fn a_call_that_nothing_limits_is_admitted_and_holds_no_key(limiter: Limiter) {
    let (set, (clock, _)) = (quotas(""), clock());
    let standings = call(&limiter, &charges(&set, &application(1, 1), "read"), &clock).await.unwrap();
    assert!(standings.is_empty() && limiter.keys() == 0);
}

async fn a_call_is_admitted_exactly_when_the_refusal_said(limiter: Limiter) {
    let (set, (clock, hand)) = (quotas(""), clock());
    let collect = charges(&set, &application(1, 1), "collect");
    hand.advance(Duration::from_nanos(1));
    let (admitted, error) = fill(&limiter, &collect, &clock).await;
    let refused = over(error);
    assert_eq!((admitted, refused.rate.to_string().as_str()), (100, "100 per 00:01:00"));
    // Stamped a millisecond later by rounding, of which a nanosecond has passed.
    assert_eq!(refused.retry_after.duration(), seconds(60) + Duration::from_nanos(999_999));
    assert_eq!(refused.retry_after.as_secs_rounded_up(), 61);
    hand.advance(refused.retry_after.duration() - Duration::from_nanos(1));
    let last = over(call(&limiter, &collect, &clock).await.unwrap_err()).retry_after;
    assert_eq!((last.duration(), last.as_secs_rounded_up()), (Duration::from_nanos(1), 1));
    hand.advance(Duration::from_nanos(1));
    assert_eq!(fill(&limiter, &collect, &clock).await.0, 100);
}

async fn a_refused_call_is_charged_to_nothing(limiter: Limiter) {
    let (set, (clock, _)) = (quotas(&two_limits()), clock());
    let (one, other) = (application(1, 1), application(1, 2));
    let (admitted, error) = fill(&limiter, &charges(&set, &one, "read"), &clock).await;
    assert_eq!((admitted, over(error).limit.as_str()), (3, "app"));
    for _ in 0..10 {
        assert!(call(&limiter, &charges(&set, &one, "read"), &clock).await.is_err());
    }
    // None of the refused calls took room from the tenant.
    let (admitted, error) = fill(&limiter, &charges(&set, &other, "read"), &clock).await;
    assert_eq!((admitted, over(error).limit.as_str()), (2, "tenant"));
    let standings = limiter.standings(&charges(&set, &other, "read"), &clock);
    let remaining: Vec<_> = standings.iter().map(|s| (s.limit.as_str(), s.remaining, s.shown)).collect();
    assert_eq!(remaining, [("tenant", 0, false), ("app", 1, true)]);
}

async fn the_limit_that_is_full_for_the_longest_is_named(limiter: Limiter) {
    let text = [limit("fast", "", "\"1 per second\", \"1 per minute\""), limit("slow", "", "\"1 per hour\"")];
    let (set, (clock, hand)) = (quotas(&text.concat()), clock());
    let read = charges(&set, &application(1, 1), "read");
    call(&limiter, &read, &clock).await.unwrap();
    hand.advance(seconds(10));
    let refused = over(call(&limiter, &read, &clock).await.unwrap_err());
    assert_eq!((refused.limit.as_str(), refused.retry_after.duration()), ("slow", seconds(3_590)));
    assert_eq!(refused.to_string(), "API calls quota exceeded! maximum allowed 1 per 01:00:00");
    let grows: Vec<_> =
        limiter.standings(&read, &clock).iter().map(|s| (s.remaining, s.grows_in.as_secs())).collect();
    assert_eq!(grows, [(1, 0), (0, 50), (0, 3_590)]);
}

async fn callers_without_a_common_key_do_not_meet(limiter: Limiter) {
    let text = limit("per-user", "\"user\"", "\"2 per minute\"")
        + &limit("per-call", "\"tenant\", \"operation\"", "\"4 per minute\"")
            .replace("[\"read\"]", "\"all\"");
    let (set, (clock, _)) = (quotas(&text), clock());
    assert_eq!(fill(&limiter, &charges(&set, &user(1, 1, 1), "read"), &clock).await.0, 2);
    assert_eq!(fill(&limiter, &charges(&set, &user(1, 2, 1), "read"), &clock).await.0, 0, "the same user");
    // An application's own call has no user, so that a limit per user is not its limit.
    assert_eq!(fill(&limiter, &charges(&set, &application(1, 1), "read"), &clock).await.0, 2);
    assert_eq!(fill(&limiter, &charges(&set, &application(1, 1), "list"), &clock).await.0, 4, "another call");
    assert_eq!(
        fill(&limiter, &charges(&set, &application(2, 1), "read"), &clock).await.0,
        4,
        "another tenant"
    );
}

async fn a_dropped_admission_gives_every_charge_back(limiter: Limiter) {
    let (set, (clock, hand)) = (quotas(&two_limits()), clock());
    let read = charges(&set, &application(1, 1), "read");
    for _ in 0..10 {
        drop(limiter.acquire(&read, &clock).await.unwrap());
        hand.advance(Duration::from_micros(300));
    }
    let held = limiter.acquire(&read, &clock).await.unwrap();
    assert_eq!(fill(&limiter, &read, &clock).await.0, 2);
    drop(held);
    assert_eq!(fill(&limiter, &read, &clock).await.0, 1);
    assert_eq!(fill(&limiter, &charges(&set, &application(1, 2), "read"), &clock).await.0, 2);
}

async fn a_forwarded_admission_keeps_its_charges(limiter: Limiter) {
    let (set, (clock, _)) = (quotas(&two_limits()), clock());
    let read = charges(&set, &application(1, 1), "read");
    let mut admission = limiter.acquire(&read, &clock).await.unwrap();
    admission.forwarded();
    drop(admission);
    assert_eq!(fill(&limiter, &read, &clock).await.0, 2);
}

async fn a_change_of_n_and_w_keeps_what_was_admitted(limiter: Limiter) {
    let (clock, hand) = clock();
    let set = |windows| quotas(&limit("read", "\"application\"", windows));
    let versions = [set("\"3 per minute\""), set("\"5 per hour\""), set("\"2 per minute\"")];
    let [first, larger, smaller] = versions.each_ref().map(|set| charges(set, &application(1, 1), "read"));
    assert_eq!(fill(&limiter, &first, &clock).await.0, 3);
    hand.advance(seconds(61));
    let (admitted, error) = fill(&limiter, &larger, &clock).await;
    assert_eq!((admitted, over(error).retry_after.duration()), (2, seconds(3_539)), "the three still count");
    let (admitted, error) = fill(&limiter, &smaller, &clock).await;
    assert_eq!((admitted, over(error).retry_after.duration()), (0, seconds(60)), "and the two count here");
}

async fn a_limit_that_counts_by_something_else_starts_anew(limiter: Limiter) {
    let (clock, _) = clock();
    let set = |per| quotas(&limit("read", per, "\"2 per minute\""));
    let (before, after) = (set("\"tenant\""), set("\"tenant\", \"application\""));
    assert_eq!(fill(&limiter, &charges(&before, &application(1, 1), "read"), &clock).await.0, 2);
    assert_eq!(fill(&limiter, &charges(&after, &application(1, 1), "read"), &clock).await.0, 2);
    assert_eq!(fill(&limiter, &charges(&before, &application(1, 1), "read"), &clock).await.0, 0, "and back");
}

async fn a_live_limit_is_never_reset_to_make_room(limiter: Limiter) {
    let text = format!("max_keys = 3\n{}", limit("app", "\"application\"", "\"2 per minute\""));
    let (set, (clock, hand)) = (quotas(&text), clock());
    let caller = |number| charges(&set, &application(1, number), "read");
    for number in 1..=3 {
        assert_eq!(fill(&limiter, &caller(number), &clock).await.0, 2);
    }
    let refused = call(&limiter, &caller(4), &clock).await.unwrap_err();
    assert!(
        matches!(refused, LimitError::KeysFull { retry_after } if retry_after.as_secs_rounded_up() == 10)
    );
    assert_eq!(fill(&limiter, &caller(1), &clock).await.0, 0, "those that are there stay full");
    assert_eq!(limiter.keys(), 3);
    hand.advance(seconds(60));
    assert_eq!(fill(&limiter, &caller(4), &clock).await.0, 2, "the others have expired");
    assert_eq!(limiter.keys(), 1);
}

async fn a_call_whose_keys_do_not_all_fit_is_refused(limiter: Limiter) {
    let (set, (clock, _)) = (quotas(&format!("max_keys = 1\n{}", two_limits())), clock());
    let refused = call(&limiter, &charges(&set, &application(1, 1), "read"), &clock).await.unwrap_err();
    assert!(matches!(refused, LimitError::KeysFull { .. }));
}

async fn only_keys_that_no_window_counts_are_swept(limiter: Limiter) {
    let windows = "\"2 per minute\", \"3 per hour\"";
    let (set, (clock, hand)) = (quotas(&limit("app", "\"application\"", windows)), clock());
    let [old, young] = [1, 2].map(|number| charges(&set, &application(1, number), "read"));
    call(&limiter, &old, &clock).await.unwrap();
    hand.advance(seconds(10));
    call(&limiter, &young, &clock).await.unwrap();
    let given_back = limiter.acquire(&charges(&set, &application(1, 3), "read"), &clock).await.unwrap();
    hand.advance(seconds(3_590) - Duration::from_nanos(1));
    assert_eq!(limiter.sweep(&clock), Swept { visited: 3, removed: 0 });
    drop(given_back);
    hand.advance(Duration::from_nanos(1));
    assert_eq!(limiter.sweep(&clock), Swept { visited: 3, removed: 2 });
    assert_eq!(limiter.keys(), 1);
    call(&limiter, &young, &clock).await.unwrap();
    call(&limiter, &young, &clock).await.unwrap();
    assert_eq!(over(call(&limiter, &young, &clock).await.unwrap_err()).retry_after.duration(), seconds(60));
    hand.advance(seconds(7_200));
    assert_eq!(limiter.sweep(&clock), Swept { visited: 1, removed: 1 });
    assert_eq!((limiter.keys(), limiter.sweep(&clock)), (0, Swept::default()));
}

async fn standings_count_the_call_itself(limiter: Limiter) {
    let (set, (clock, hand)) = (quotas(""), clock());
    let collect = charges(&set, &application(1, 1), "collect");
    call(&limiter, &collect, &clock).await.unwrap();
    hand.advance(seconds(61));
    let standings = call(&limiter, &collect, &clock).await.unwrap();
    let [minute, hour] = standings.as_slice() else { panic!("two windows") };
    assert_eq!((minute.remaining, minute.grows_in), (99, seconds(60)));
    assert_eq!((hour.remaining, hour.grows_in), (1_498, seconds(3_539)));
    assert!(minute.shown && hour.shown && minute.limit.as_str() == "collect");
}

async fn stepping_the_calendar_changes_nothing(limiter: Limiter) {
    let (set, (clock, hand)) = (quotas(""), clock());
    let collect = charges(&set, &application(1, 1), "collect");
    fill(&limiter, &collect, &clock).await;
    hand.step_wall(crate::time::Wall::from_unix_seconds(4_000_000_000));
    assert_eq!(fill(&limiter, &collect, &clock).await.0, 0);
}

async fn a_call_counts_as_many_as_it_costs_and_gives_as_many_back(limiter: Limiter) {
    let text =
        limit("units", "\"tenant\"", "\"10 per minute\"").replace("[\"read\"]", "[\"read\", \"list\"]");
    let (set, (clock, hand)) = (quotas(&(text + "cost = { list = 4 }")), clock());
    let [read, list] = ["read", "list"].map(|operation| charges(&set, &application(1, 1), operation));
    let held = limiter.acquire(&list, &clock).await.unwrap();
    hand.advance(seconds(10));
    call(&limiter, &read, &clock).await.unwrap();
    let standings = call(&limiter, &list, &clock).await.unwrap();
    // Nine of ten are taken: none more of four, and one of one.
    assert_eq!((standings[0].remaining, standings[0].grows_in), (0, seconds(50)));
    let refused = over(call(&limiter, &list, &clock).await.unwrap_err());
    assert_eq!(refused.retry_after.duration(), seconds(50));
    assert_eq!(limiter.standings(&read, &clock)[0].remaining, 1);
    drop(held);
    assert_eq!(limiter.standings(&list, &clock)[0].remaining, 1);
    assert_eq!(fill(&limiter, &list, &clock).await.0, 1);
    assert_eq!(fill(&limiter, &read, &clock).await.0, 1);
}

async fn calls_of_one_device_share_a_key_and_those_of_unknown_devices_another(limiter: Limiter) {
    let text = limit("each", "\"device\"", "\"2 per minute\"")
        + &limit("team", "\"tenant\", \"device_group\"", "\"3 per minute\"");
    let (set, (clock, _)) = (quotas(&text), clock());
    let (caller, read) = (application(1, 1), "read".parse::<OperationId>().unwrap());
    let device = |id: Option<&str>, group: Option<&str>| {
        let id = id.map(|id| id.parse().unwrap());
        let named = id.map_or(DeviceRef::Name("pc.example".into()), DeviceRef::Id);
        let device = ScopedDevice { named, id, group: group.map(DeviceGroupId::from) };
        Scope { devices: [device].into_iter().collect(), ..Scope::default() }
    };
    let (long, short) = (&"ab".repeat(20), &"ab".repeat(16));
    for (scope, room) in [
        (device(Some(long), Some("Servers")), 2),
        (device(Some(long), Some("Servers")), 0),
        // Another device of the same group, and a third, whose id begins alike.
        (device(Some(&"cd".repeat(20)), Some("Servers")), 1),
        (device(Some(short), Some("Workstations")), 2),
        (device(None, None), 2),
        (Scope::default(), 0),
    ] {
        assert_eq!(fill(&limiter, &set.charges(&caller, &read, &scope), &clock).await.0, room, "{scope:?}");
    }
}

#[test]
fn a_retry_after_is_whole_seconds_rounded_up_and_never_none() {
    for (millis, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (60_000, 60), (3_599_999, 3_600)] {
        assert_eq!(
            RetryAfter::until(Steady::from_millis(millis), Steady::default()).as_secs_rounded_up(),
            seconds
        );
    }
}
