//! Limits that are shared out.

use super::*;
use crate::id::{ApplicationId, EntraGroupId, UserId};
use crate::limit::fixture::{changed, part, wait};
use crate::limit::quota::{Effect, Idle, Owner};
use crate::limit::{Bound, Bounds, Caller, QuotaSet};
use crate::outcome::Rate;
use crate::time::Wall;

store_contract!(
    sharded,
    crate::limit::Limiter::new(),
    [
        a_kept_part_is_there_for_its_owner_whatever_others_do,
        an_idle_part_is_lent_until_its_owner_finds_it_full_and_is_back_within_a_window,
        a_refusal_says_when_the_first_of_the_ways_opens,
        how_it_stands_is_told_for_all_parts_that_a_call_may_be_counted_in,
        a_caller_for_whom_there_is_no_part_is_refused_for_a_window,
        a_call_waits_for_its_own_parts_and_the_rest_and_never_for_what_is_lent,
        whoever_holds_a_role_shares_its_part,
        a_shared_limit_and_another_are_charged_together_or_not_at_all,
        parts_on_trial_refuse_nobody,
    ]
);

fn rest(rates: &[&str]) -> Bounds {
    Bounds::new(rates.iter().map(|rate| Bound::from(rate.parse::<Rate>().unwrap())))
}

/// A limit of ten a minute in a tenant: three kept for application 1, four lent of application 2, three for everybody.
fn shared() -> QuotaSet {
    changed(&limit("shared", "\"tenant\"", "\"10 per minute\""), share)
}

fn share(quota: &mut Quota) {
    let owner = |number| Owner::Application(ApplicationId::from_u128(number));
    let kept = part(quota, owner(1), Idle::Kept, &["3 per minute"]);
    let lent = part(quota, owner(2), Idle::Lent, &["4 per minute"]);
    quota.parts = Box::new([kept, lent]);
    quota.bounds = rest(&["3 per minute"]);
}

async fn a_kept_part_is_there_for_its_owner_whatever_others_do(limiter: Limiter) {
    let (set, (clock, hand)) = (shared(), clock());
    let [owner, script] = [1, 9].map(|number| charges(&set, &application(1, number), "read"));
    for _ in 0..5 {
        assert_eq!(fill(&limiter, &script, &clock).await.0, 7, "the rest, and what is lent");
        assert_eq!(fill(&limiter, &owner, &clock).await.0, 3);
        hand.advance(seconds(60));
    }
    // And its owner takes of the others' too, where they are not there.
    assert_eq!(fill(&limiter, &owner, &clock).await.0, 10);
    assert_eq!(fill(&limiter, &script, &clock).await.0, 0);
}

async fn an_idle_part_is_lent_until_its_owner_finds_it_full_and_is_back_within_a_window(limiter: Limiter) {
    let (set, (clock, hand)) = (shared(), clock());
    let [owner, script] = [2, 9].map(|number| charges(&set, &application(1, number), "read"));
    assert_eq!(fill(&limiter, &script, &clock).await.0, 7);
    hand.advance(seconds(30));
    assert!(call(&limiter, &owner, &clock).await.is_err(), "it is marked as wanted from now on");
    hand.advance(seconds(30));
    // The window has passed; the script has the rest, and no more.
    assert_eq!(fill(&limiter, &script, &clock).await.0, 3);
    assert_eq!(fill(&limiter, &owner, &clock).await.0, 4);
    // That was a refusal again: until 120 s it is wanted, and full until then.
    hand.advance(seconds(60));
    assert_eq!(fill(&limiter, &script, &clock).await.0, 7, "nobody wants it any more");
}

async fn a_refusal_says_when_the_first_of_the_ways_opens(limiter: Limiter) {
    let (set, (clock, hand)) = (shared(), clock());
    let [kept, lent, script] = [1, 2, 9].map(|number| charges(&set, &application(1, number), "read"));
    // The rest at 0 s, what is lent at 10 s.
    for _ in 0..3 {
        call(&limiter, &script, &clock).await.unwrap();
    }
    hand.advance(seconds(10));
    let (admitted, error) = fill(&limiter, &script, &clock).await;
    let refused = over(error);
    assert_eq!((admitted, refused.retry_after.duration()), (4, seconds(50)), "the rest opens first");
    assert_eq!(refused.rate.to_string(), "3 per 00:01:00");
    // The owner's refusal marks it: it is nobody else's for 60 s.
    hand.advance(seconds(10));
    assert_eq!(over(call(&limiter, &lent, &clock).await.unwrap_err()).retry_after.duration(), seconds(40));
    hand.advance(seconds(41));
    assert_eq!(fill(&limiter, &script, &clock).await.0, 3);
    let refused = over(call(&limiter, &script, &clock).await.unwrap_err());
    assert_eq!(refused.retry_after.duration(), seconds(19), "no longer wanted before the rest opens");
    hand.advance(seconds(19));
    assert_eq!(fill(&limiter, &script, &clock).await.0, 4);
    assert_eq!(fill(&limiter, &kept, &clock).await.0, 3);
}

async fn how_it_stands_is_told_for_all_parts_that_a_call_may_be_counted_in(limiter: Limiter) {
    let (set, (clock, hand)) = (shared(), clock());
    let [kept, script] = [1, 9].map(|number| charges(&set, &application(1, number), "read"));
    assert!(limiter.standings(&kept, &clock).is_empty());
    call(&limiter, &script, &clock).await.unwrap();
    hand.advance(seconds(10));
    call(&limiter, &kept, &clock).await.unwrap();
    let of = |of| {
        let standings = limiter.standings(of, &clock);
        let [standing] = standings.as_slice() else { panic!("{standings:?}") };
        (standing.rate.count.get(), standing.remaining, standing.grows_in)
    };
    assert_eq!(of(&kept), (10, 8, seconds(50)));
    assert_eq!(of(&script), (7, 6, seconds(50)));
}

async fn a_caller_for_whom_there_is_no_part_is_refused_for_a_window(limiter: Limiter) {
    let set = changed(&limit("all", "\"tenant\"", "\"4 per minute\", \"9 per hour\""), |quota| {
        let owner = Owner::Application(ApplicationId::from_u128(1));
        quota.parts = Box::new([part(quota, owner, Idle::Kept, &["4 per minute", "9 per hour"])]);
        quota.bounds = rest(&[]);
    });
    let (clock, _) = clock();
    let [owner, script] = [1, 9].map(|number| charges(&set, &application(1, number), "read"));
    assert_eq!(fill(&limiter, &owner, &clock).await.0, 4);
    let refused = over(call(&limiter, &script, &clock).await.unwrap_err());
    assert_eq!((refused.limit.as_str(), refused.retry_after.duration()), ("all", seconds(3_600)));
}

async fn a_call_waits_for_its_own_parts_and_the_rest_and_never_for_what_is_lent(limiter: Limiter) {
    let set = changed(&limit("shared", "\"tenant\"", "\"10 per minute\""), |quota| {
        share(quota);
        quota.when_full = wait(70, 10);
    });
    let (clock, hand) = clock();
    let [owner, script] = [2, 9].map(|number| charges(&set, &application(1, number), "read"));
    // The owner has its own, at 0 s, and the script the rest, at 5 s.
    for _ in 0..4 {
        call(&limiter, &owner, &clock).await.unwrap();
    }
    hand.advance(seconds(5));
    for _ in 0..3 {
        call(&limiter, &script, &clock).await.unwrap();
    }
    let held = async { tokio::join!(limiter.acquire(&script, &clock), limiter.acquire(&owner, &clock)) };
    let time = async {
        for _ in 0..60 {
            hand.advance(seconds(1));
            tokio::task::yield_now().await;
        }
    };
    let start = clock.steady();
    let ((script, owner), ()) = tokio::join!(held, time);
    let held = |admission: Result<Admission, Refusal<'_>>| {
        admission.unwrap().hold().unwrap().until.since(start).as_secs()
    };
    assert_eq!((held(script), held(owner)), (60, 55));
}

async fn whoever_holds_a_role_shares_its_part(limiter: Limiter) {
    let (group, named) = (EntraGroupId::from_u128(7), UserId::from_u128(3));
    let set = changed(&limit("all", "\"tenant\"", "\"4 per minute\""), |quota| {
        let owner = Owner::Holders { groups: [group].into(), users: [named].into() };
        quota.parts = Box::new([part(quota, owner, Idle::Kept, &["3 per minute"])]);
        quota.bounds = rest(&["1 per minute"]);
    });
    let ((clock, _), operation, scope) = (clock(), "read".parse().unwrap(), Scope::default());
    let subjects = [1, 2, 3].map(|number| user(1, 1, number));
    let by_group = Caller { subject: &subjects[0], groups: &[group], at: Wall::default() };
    let by_name = Caller { subject: &subjects[2], groups: &[], at: Wall::default() };
    let stranger =
        Caller { subject: &subjects[1], groups: &[EntraGroupId::from_u128(8)], at: Wall::default() };
    let admitted = async |caller| fill(&limiter, &set.charges(caller, &operation, &scope), &clock).await.0;
    assert_eq!(admitted(stranger).await, 1);
    call(&limiter, &set.charges(by_group, &operation, &scope), &clock).await.unwrap();
    assert_eq!(admitted(by_name).await, 2);
    assert_eq!(admitted(by_group).await, 0);
}

async fn a_shared_limit_and_another_are_charged_together_or_not_at_all(limiter: Limiter) {
    let text = limit("shared", "\"tenant\"", "\"10 per minute\"")
        + &limit("part-app", "\"application\"", "\"2 per minute\"");
    let set = changed(&text, |quota| {
        if quota.name.as_str() == "shared" {
            share(quota);
        }
    });
    let (clock, _) = clock();
    let of = |number| charges(&set, &application(1, number), "read");
    assert_eq!(fill(&limiter, &of(9), &clock).await.0, 2);
    for number in 10..13 {
        assert_eq!(fill(&limiter, &of(number), &clock).await.0, if number < 12 { 2 } else { 1 });
    }
    let given_back = limiter.acquire(&of(1), &clock).await.unwrap();
    drop(given_back);
    assert_eq!(fill(&limiter, &of(1), &clock).await.0, 2);
    let standings = limiter.standings(&of(1), &clock);
    let remaining: Vec<_> =
        standings.iter().map(|standing| (standing.limit.as_str(), standing.remaining)).collect();
    assert_eq!(remaining, [("part-app", 0), ("shared", 1)]);
}

async fn parts_on_trial_refuse_nobody(limiter: Limiter) {
    let set = changed(&limit("shared", "\"tenant\"", "\"10 per minute\""), |quota| {
        share(quota);
        quota.effect = Effect::Shadow;
    });
    let (clock, _) = clock();
    let script = charges(&set, &application(1, 9), "read");
    for n in 0..12 {
        let mut admission = limiter.acquire(&script, &clock).await.unwrap();
        assert_eq!(admission.overrun(&script).len(), usize::from(n >= 7));
        admission.forwarded();
    }
}
