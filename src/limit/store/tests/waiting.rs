//! Calls that are held until their turn.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::limit::fixture::{changed, wait};
use crate::limit::quota::Effect;
use crate::limit::{Hold, QuotaSet};
use crate::time::ManualClock;

store_contract!(
    sharded,
    crate::limit::Limiter::new(),
    [
        a_call_that_finds_no_room_is_held_until_its_turn,
        held_calls_are_admitted_in_the_order_in_which_they_came,
        a_call_that_would_wait_for_too_long_is_refused_at_once_and_told_when_it_would_be_admitted,
        a_queue_holds_as_many_calls_as_it_says,
        a_call_waits_only_if_every_full_limit_lets_it_and_for_the_shortest_of_their_waits,
        a_held_call_that_goes_away_gives_its_place_to_the_next_that_fits,
        a_call_of_a_less_full_key_goes_before_one_that_waits_but_does_not_break_its_promise,
        a_limit_on_trial_holds_nobody_and_counts_those_that_others_hold,
        a_call_that_may_not_be_admitted_yet_waits_where_its_limits_let_it,
        postponed_calls_keep_their_order_and_go_before_later_ones,
        no_more_calls_are_held_than_may_be_in_all,
        a_place_is_kept_under_another_version_of_the_limit,
        a_key_that_a_call_waits_for_is_not_swept_and_nothing_is_left_of_one_that_went_away,
        a_call_of_some_cost_waits_for_as_many_places,
    ]
);

/// A call that is waiting, or is about to.
struct Call<'c>(Pin<Box<dyn Future<Output = Result<Option<Hold>, LimitError>> + 'c>>);

impl<'c> Call<'c> {
    fn new(limiter: &'c Limiter, of: &'c Charges<'_>, clock: &'c Clock) -> Self {
        Self(Box::pin(async move {
            let mut admission = limiter.acquire(of, clock).await.map_err(LimitError::from)?;
            admission.forwarded();
            Ok(admission.hold())
        }))
    }

    /// The answer, if there is one by now.
    fn poll(&mut self) -> Option<Result<Option<Hold>, LimitError>> {
        match self.0.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }

    /// The same call, once it waits.
    #[track_caller]
    fn held(mut self) -> Self {
        let answer = self.poll();
        assert!(answer.is_none(), "{answer:?}");
        self
    }

    /// Since when and until when it was held.
    #[track_caller]
    fn admitted(&mut self) -> Option<Hold> {
        self.poll().expect("it still waits").expect("it is admitted")
    }

    #[track_caller]
    fn refused(&mut self) -> LimitError {
        self.poll().expect("it still waits").expect_err("it is refused")
    }
}

/// A limit: its name, its `per`, its windows, and for how many seconds and in what queue it lets calls wait.
type Waits<'t> = (&'t str, &'t str, &'t str, Option<(u64, u32)>);

/// Limits on `read`, each of which holds calls for so many seconds and in such a queue, or rejects them.
fn waiting(limits: &[Waits<'_>]) -> QuotaSet {
    let text: String = limits.iter().map(|(name, per, windows, _)| limit(name, per, windows)).collect();
    changed(&text, |quota| {
        let of = limits.iter().find(|(name, ..)| quota.name.as_str() == *name);
        if let Some((.., Some((seconds, queue)))) = of {
            quota.when_full = wait(*seconds, *queue);
        }
    })
}

/// Two a minute by application, held for up to 90 s, 10 at a time.
fn two_a_minute() -> QuotaSet {
    waiting(&[("w-app", "\"application\"", "\"2 per minute\"", Some((90, 10)))])
}

fn after(start: Steady, seconds: u64) -> Steady {
    start + Duration::from_secs(seconds)
}

fn pass(hand: &ManualClock, secs: u64) {
    hand.advance(seconds(secs));
}

async fn a_call_that_finds_no_room_is_held_until_its_turn(limiter: Limiter) {
    let (set, (clock, hand)) = (two_a_minute(), clock());
    let (read, start) = (charges(&set, &application(1, 1), "read"), clock.steady());
    let at_once = limiter.acquire(&read, &clock).await.unwrap().hold();
    assert_eq!(at_once, None);
    // The first was given back.
    fill_two(&limiter, &read, &clock).await;
    pass(&hand, 10);
    let mut call = Call::new(&limiter, &read, &clock).held();
    assert_eq!(limiter.held(), 1);
    hand.advance(seconds(50) - Duration::from_nanos(1));
    assert!(call.poll().is_none());
    hand.advance(Duration::from_nanos(1));
    let hold = Hold { since: after(start, 10), until: after(start, 60), released: after(start, 60) };
    assert_eq!((call.admitted(), limiter.held()), (Some(hold), 0));
    assert_eq!(limiter.standings(&read, &clock)[0].remaining, 1, "it was admitted at that moment");
}

async fn fill_two(limiter: &Limiter, of: &Charges<'_>, clock: &Clock) {
    for _ in 0..2 {
        call(limiter, of, clock).await.unwrap();
    }
}

async fn held_calls_are_admitted_in_the_order_in_which_they_came(limiter: Limiter) {
    let (set, (clock, hand)) = (waiting(&[("w-app", "", "\"2 per minute\"", Some((300, 10)))]), clock());
    let (read, start) = (charges(&set, &application(1, 1), "read"), clock.steady());
    call(&limiter, &read, &clock).await.unwrap();
    pass(&hand, 7);
    call(&limiter, &read, &clock).await.unwrap();
    let mut calls: Vec<_> = (0..5).map(|_| Call::new(&limiter, &read, &clock).held()).collect();
    let mut turns = Vec::new();
    for _ in 0..200 {
        pass(&hand, 1);
        calls.retain_mut(|call| match call.poll() {
            Some(answer) => {
                let hold = answer.unwrap().unwrap();
                assert_eq!(hold.until, hold.released);
                turns.push(hold.until.since(start).as_secs());
                false
            }
            None => true,
        });
    }
    assert_eq!(turns, [60, 67, 120, 127, 180]);
}

async fn a_call_that_would_wait_for_too_long_is_refused_at_once_and_told_when_it_would_be_admitted(
    limiter: Limiter,
) {
    let (set, (clock, hand)) = (two_a_minute(), clock());
    let read = charges(&set, &application(1, 1), "read");
    fill_two(&limiter, &read, &clock).await;
    let waits: Vec<_> = (0..2).map(|_| Call::new(&limiter, &read, &clock).held()).collect();
    let refused = over(Call::new(&limiter, &read, &clock).refused());
    assert_eq!(refused.retry_after.duration(), seconds(120), "the two that wait come before it");
    pass(&hand, 29);
    assert_eq!(over(Call::new(&limiter, &read, &clock).refused()).retry_after.duration(), seconds(91));
    pass(&hand, 1);
    let _held = Call::new(&limiter, &read, &clock).held();
    assert_eq!((waits.len(), limiter.held()), (2, 3));
}

async fn a_queue_holds_as_many_calls_as_it_says(limiter: Limiter) {
    let (set, (clock, hand)) = (waiting(&[("w-app", "", "\"2 per minute\"", Some((600, 3)))]), clock());
    let read = charges(&set, &application(1, 1), "read");
    fill_two(&limiter, &read, &clock).await;
    let mut calls: Vec<_> = (0..3).map(|_| Call::new(&limiter, &read, &clock).held()).collect();
    assert_eq!(over(Call::new(&limiter, &read, &clock).refused()).retry_after.duration(), seconds(120));
    pass(&hand, 60);
    assert_eq!(calls.iter_mut().filter_map(Call::poll).count(), 2);
    let _held = [(); 2].map(|()| Call::new(&limiter, &read, &clock).held());
    assert!(matches!(Call::new(&limiter, &read, &clock).refused(), LimitError::OverLimit(_)));
}

async fn a_call_waits_only_if_every_full_limit_lets_it_and_for_the_shortest_of_their_waits(limiter: Limiter) {
    let set = waiting(&[
        ("w-tenant", "\"tenant\"", "\"3 per minute\"", None),
        ("w-app", "\"application\"", "\"2 per minute\"", Some((70, 10))),
        ("call", "\"application\", \"operation\"", "\"2 per 30s\"", Some((40, 10))),
    ]);
    let (clock, hand) = clock();
    let [one, other] = [1, 2].map(|number| charges(&set, &application(1, number), "read"));
    fill_two(&limiter, &one, &clock).await;
    let refused = over(Call::new(&limiter, &one, &clock).refused());
    assert_eq!(
        (refused.limit.as_str(), refused.retry_after.duration()),
        ("w-app", seconds(60)),
        "40 s are too short"
    );
    pass(&hand, 20);
    let _held = Call::new(&limiter, &one, &clock).held();
    call(&limiter, &other, &clock).await.unwrap();
    let refused = over(Call::new(&limiter, &other, &clock).refused());
    assert_eq!(
        (refused.limit.as_str(), refused.retry_after.duration()),
        ("w-tenant", seconds(40)),
        "it rejects"
    );
}

async fn a_held_call_that_goes_away_gives_its_place_to_the_next_that_fits(limiter: Limiter) {
    let (set, (clock, hand)) = (two_a_minute(), clock());
    let (read, start) = (charges(&set, &application(1, 1), "read"), clock.steady());
    fill_two(&limiter, &read, &clock).await;
    let gone = Call::new(&limiter, &read, &clock).held();
    let mut stays = Call::new(&limiter, &read, &clock).held();
    drop(gone);
    assert_eq!(limiter.held(), 1);
    pass(&hand, 1);
    let mut next = Call::new(&limiter, &read, &clock).held();
    assert!(matches!(Call::new(&limiter, &read, &clock).refused(), LimitError::OverLimit(_)));
    pass(&hand, 59);
    for call in [&mut stays, &mut next] {
        assert_eq!(call.admitted().unwrap().until, after(start, 60));
    }
}

async fn a_call_of_a_less_full_key_goes_before_one_that_waits_but_does_not_break_its_promise(
    limiter: Limiter,
) {
    let set = waiting(&[
        ("w-tenant", "\"tenant\"", "\"3 per minute\"", None),
        ("w-app", "\"application\"", "\"1 per 30s\"", Some((60, 10))),
    ]);
    let (clock, hand) = clock();
    let start = clock.steady();
    let [one, two, three] = [1, 2, 3].map(|number| charges(&set, &application(1, number), "read"));
    call(&limiter, &one, &clock).await.unwrap();
    let mut held = Call::new(&limiter, &one, &clock).held();
    pass(&hand, 1);
    call(&limiter, &two, &clock).await.unwrap();
    // Two of three are taken, but in 29 s there would be four.
    let refused = over(Call::new(&limiter, &three, &clock).refused());
    assert_eq!((refused.limit.as_str(), refused.retry_after.duration()), ("w-tenant", seconds(59)));
    assert_eq!(limiter.standings(&three, &clock)[0].remaining, 0);
    pass(&hand, 29);
    assert_eq!(held.admitted().unwrap().until, after(start, 30));
    pass(&hand, 30);
    call(&limiter, &three, &clock).await.unwrap();
}

async fn a_limit_on_trial_holds_nobody_and_counts_those_that_others_hold(limiter: Limiter) {
    let (clock, hand) = clock();
    let text = limit("trial", "\"tenant\"", "\"1 per minute\"")
        + &limit("w-app", "\"application\"", "\"2 per 30s\"");
    let set = changed(&text, |quota| {
        quota.when_full = wait(60, 10);
        if quota.name.as_str() == "trial" {
            quota.effect = Effect::Shadow;
        }
    });
    let read = charges(&set, &application(1, 1), "read");
    call(&limiter, &read, &clock).await.unwrap();
    let mut admission = limiter.acquire(&read, &clock).await.unwrap();
    assert_eq!((admission.overrun(&read).len(), admission.hold()), (1, None));
    admission.forwarded();
    pass(&hand, 29);
    let mut early = Call::new(&limiter, &read, &clock).held();
    pass(&hand, 1);
    assert!(early.admitted().is_some());
    pass(&hand, 30);
    let standings = limiter.standings(&read, &clock);
    let trial = standings.iter().find(|standing| standing.limit.as_str() == "trial").unwrap();
    assert_eq!(trial.remaining, 1, "only the first was charged to it");
}

async fn a_call_that_may_not_be_admitted_yet_waits_where_its_limits_let_it(limiter: Limiter) {
    let (set, (clock, hand)) = (two_a_minute(), clock());
    let start = clock.steady();
    let opens = after(start, 20) + Duration::from_micros(1);
    let closed = charges(&set, &application(1, 1), "read").not_before(opens);
    let mut held = Call::new(&limiter, &closed, &clock).held();
    pass(&hand, 20);
    assert!(held.poll().is_none());
    hand.advance(Duration::from_millis(1));
    // Whole milliseconds.
    assert_eq!(held.admitted().unwrap().until, after(start, 20) + Duration::from_millis(1));
    let _same = Call::new(&limiter, &closed, &clock).admitted();
    let mut over_limit = Call::new(&limiter, &closed, &clock).held();
    pass(&hand, 60);
    assert!(over_limit.admitted().is_some());

    let late = charges(&set, &application(1, 2), "read").not_before(after(start, 300));
    let refused = Call::new(&limiter, &late, &clock).refused();
    let left = after(start, 300).since(clock.steady());
    assert!(
        matches!(refused, LimitError::Closed { retry_after } if retry_after.duration() == left),
        "{refused:?}"
    );
    let rejects = quotas(&limit("rejects", "", "\"9 per minute\""));
    let soon = charges(&rejects, &application(1, 1), "read").not_before(after(clock.steady(), 1));
    assert!(matches!(Call::new(&limiter, &soon, &clock).refused(), LimitError::Closed { .. }));
    assert_eq!(limiter.standings(&soon, &clock).len(), 1);
    assert_eq!(limiter.standings(&soon, &clock)[0].remaining, 9, "nothing was charged");
    let free = quotas("");
    let nothing = charges(&free, &application(1, 1), "read").not_before(after(clock.steady(), 1));
    assert!(matches!(Call::new(&limiter, &nothing, &clock).refused(), LimitError::Closed { .. }));
}

async fn postponed_calls_keep_their_order_and_go_before_later_ones(limiter: Limiter) {
    let (set, (clock, hand)) = (waiting(&[("w-app", "", "\"2 per 10s\"", Some((85, 50)))]), clock());
    let (read, start) = (charges(&set, &application(1, 1), "read"), clock.steady());
    let other = charges(&set, &application(1, 2), "read");
    fill_two(&limiter, &read, &clock).await;
    let closed = read.not_before(after(start, 35));
    let mut calls: Vec<_> =
        "ABCDEFGH".chars().map(|name| (name, Call::new(&limiter, &read, &clock).held())).collect();
    calls.push(('o', Call::new(&limiter, &other, &clock).held()));
    // Their turns are 10, 10, 20, 20, 30, 30, 40, 40, and 50 for the other application.
    limiter.held.postpone(&read.lane(), after(start, 35), &clock);
    calls.push(('l', Call::new(&limiter, &closed, &clock).held()));
    assert_eq!(over(Call::new(&limiter, &closed, &clock).refused()).retry_after.duration(), seconds(90));
    let mut turns = Vec::new();
    for second in 1..=70 {
        pass(&hand, 1);
        calls.retain_mut(|(name, call)| match call.poll() {
            Some(answer) => {
                assert_eq!(answer.unwrap().unwrap().until, after(start, second));
                turns.push((*name, second));
                false
            }
            None => true,
        });
    }
    // Those behind the closure keep their turns; the others are fitted in.
    let expected = [('G', 40), ('H', 40), ('A', 50), ('o', 50), ('B', 60), ('C', 60), ('D', 70), ('E', 70)];
    assert_eq!(turns, expected);
    limiter.held.postpone(&read.lane(), after(start, 90), &clock);
    let [(_, last), (_, later)] = calls.as_mut_slice() else { panic!("two are left") };
    for (call, until) in [(last, 90), (later, 90)] {
        let LimitError::Closed { retry_after } = call.refused() else { panic!("too late") };
        assert_eq!(retry_after.duration(), after(start, until).since(clock.steady()));
    }
    assert_eq!(limiter.standings(&read, &clock)[0].remaining, 0, "and have left their places");
    pass(&hand, 10);
    assert_eq!(limiter.standings(&read, &clock)[0].remaining, 2);
}

async fn no_more_calls_are_held_than_may_be_in_all(limiter: Limiter) {
    let ((clock, _), mut set) = (clock(), two_a_minute());
    set.max_held = std::num::NonZeroU32::new(2).unwrap();
    let callers = [1, 2, 3].map(|number| charges(&set, &application(1, number), "read"));
    let mut calls = Vec::new();
    for of in &callers {
        fill_two(&limiter, of, &clock).await;
        calls.push(Call::new(&limiter, of, &clock));
    }
    assert_eq!(calls.iter_mut().map(|call| call.poll().is_some()).collect::<Vec<_>>(), [false, false, true]);
    drop(calls);
    assert_eq!(limiter.held(), 0);
}

async fn a_place_is_kept_under_another_version_of_the_limit(limiter: Limiter) {
    let (clock, hand) = clock();
    let [old, new] = ["\"2 per minute\"", "\"1 per minute\""]
        .map(|windows| waiting(&[("w-app", "", windows, Some((90, 9)))]));
    let [before, after_it] = [&old, &new].map(|set| charges(set, &application(1, 1), "read"));
    fill_two(&limiter, &before, &clock).await;
    let mut held = [(); 2].map(|()| Call::new(&limiter, &before, &clock).held());
    assert_eq!(over(Call::new(&limiter, &after_it, &clock).refused()).retry_after.duration(), seconds(120));
    pass(&hand, 60);
    assert!(held.iter_mut().all(|call| call.admitted().is_some()));
    assert_eq!(limiter.standings(&after_it, &clock)[0].remaining, 0);
}

async fn a_key_that_a_call_waits_for_is_not_swept_and_nothing_is_left_of_one_that_went_away(
    limiter: Limiter,
) {
    let (set, (clock, hand)) = (two_a_minute(), clock());
    let read = charges(&set, &application(1, 1), "read");
    fill_two(&limiter, &read, &clock).await;
    let held = Call::new(&limiter, &read, &clock).held();
    // Nobody polls it when its turn comes, for an hour.
    pass(&hand, 3_600);
    assert_eq!(limiter.sweep(&clock), Swept { visited: 1, removed: 0 });
    drop(held);
    assert_eq!(limiter.standings(&read, &clock)[0].remaining, 2);
    assert_eq!(limiter.sweep(&clock), Swept { visited: 1, removed: 1 });
}

async fn a_call_of_some_cost_waits_for_as_many_places(limiter: Limiter) {
    let text = limit("units", "", "\"5 per minute\"").replace("[\"read\"]", "[\"read\", \"list\"]");
    let set = changed(&(text + "cost = { list = 4 }"), |quota| quota.when_full = wait(200, 10));
    let (clock, hand) = clock();
    let start = clock.steady();
    let [read, list] = ["read", "list"].map(|operation| charges(&set, &application(1, 1), operation));
    fill_two(&limiter, &read, &clock).await;
    pass(&hand, 10);
    call(&limiter, &read, &clock).await.unwrap();
    let mut large = Call::new(&limiter, &list, &clock).held();
    // There would be room for one more beside the three, but not when the turn of the large one comes.
    assert_eq!(limiter.standings(&read, &clock)[0].remaining, 0);
    let mut small = Call::new(&limiter, &read, &clock).held();
    for (call, until) in [(&mut large, 60), (&mut small, 70)] {
        hand.advance(after(start, until).since(clock.steady()) - Duration::from_nanos(1));
        assert!(call.poll().is_none());
        hand.advance(Duration::from_nanos(1));
        assert_eq!(call.admitted().unwrap().until, after(start, until));
    }
}
