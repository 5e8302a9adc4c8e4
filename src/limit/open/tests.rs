use super::*;
use crate::journal::StateFolder;
use crate::limit::fixture::{application, charges, clock, quotas, user};
use crate::limit::{LimitError, Limiter, QuotaSet};
use crate::principal::Subject;
use crate::time::BootId;

/// A limit of so many actions of `collect` per tenant, beside the documented one.
fn set(most: u32, lines: &str) -> QuotaSet {
    quotas(&format!(
        "[[limit]]\nname = \"sessions\"\noperations = [\"collect\"]\nper = [\"tenant\"]\nopen_actions = {most}\n{lines}\n"
    ))
}

fn id(number: u32) -> ActionId {
    ActionId::parse(&format!("action-{number}")).unwrap()
}

/// A call of `subject`, forwarded if it is admitted.
async fn call(
    limiter: &Limiter,
    set: &QuotaSet,
    subject: Subject,
    clock: &Clock,
) -> Result<crate::limit::Admission, LimitError> {
    let of = charges(set, &subject, "collect");
    let mut admission = limiter.acquire(&of, clock).await.map_err(LimitError::from)?;
    admission.forwarded();
    Ok(admission)
}

/// The same, and the action that it starts.
async fn start(limiter: &Limiter, set: &QuotaSet, number: u32, clock: &Clock) -> Result<(), LimitError> {
    call(limiter, set, application(1, 1), clock).await?.opened(&id(number), clock);
    Ok(())
}

fn refused_for(result: Result<(), LimitError>) -> u64 {
    match result {
        Err(LimitError::OpenActions { limit, retry_after }) if limit.as_str() == "sessions" => {
            retry_after.as_secs_rounded_up()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn no_more_actions_are_under_way_than_may_be_and_one_that_ended_makes_room() {
    let (set, limiter, (clock, _)) = (set(3, ""), Limiter::new(), clock());
    for number in 0..3 {
        start(&limiter, &set, number, &clock).await.unwrap();
    }
    assert_eq!(refused_for(start(&limiter, &set, 3, &clock).await), 60);
    limiter.open_actions().ended(&id(9));
    assert_eq!(refused_for(start(&limiter, &set, 3, &clock).await), 60, "nobody knows that action");
    limiter.open_actions().ended(&id(1));
    limiter.open_actions().ended(&id(1));
    start(&limiter, &set, 3, &clock).await.unwrap();
    refused_for(start(&limiter, &set, 4, &clock).await);
    assert_eq!(limiter.open_actions().count(&clock)[&LimitName::from("sessions")], 3);
    // Another tenant's are its own.
    let _ = call(&limiter, &set, application(2, 1), &clock).await.unwrap();
}

#[tokio::test]
async fn a_call_that_may_start_an_action_counts_until_it_is_over() {
    let (set, limiter, (clock, _)) = (set(1, ""), Limiter::new(), clock());
    let under_way = call(&limiter, &set, application(1, 1), &clock).await.unwrap();
    refused_for(start(&limiter, &set, 0, &clock).await);
    // It ends with an answer that names no action.
    let mut under_way = under_way;
    under_way.settled();
    drop(under_way);
    assert!(limiter.open_actions().count(&clock).is_empty());
    start(&limiter, &set, 0, &clock).await.unwrap();
    refused_for(start(&limiter, &set, 1, &clock).await);
}

#[tokio::test]
async fn an_action_whose_end_nobody_saw_lapses() {
    let (set, limiter, (clock, hand)) = (set(1, "open_for = \"5m\""), Limiter::new(), clock());
    start(&limiter, &set, 0, &clock).await.unwrap();
    hand.advance(Duration::from_secs(290));
    assert_eq!(refused_for(start(&limiter, &set, 1, &clock).await), 10, "no later than that there is room");
    hand.advance(Duration::from_millis(9_999));
    assert_eq!(refused_for(start(&limiter, &set, 1, &clock).await), 1);
    hand.advance(Duration::from_millis(1));
    start(&limiter, &set, 1, &clock).await.unwrap();
    assert!(!limiter.open_actions().is_empty());
    hand.advance(Duration::from_secs(300));
    assert!(limiter.open_actions().count(&clock).is_empty() && limiter.open_actions().is_empty());
}

#[tokio::test]
async fn a_call_is_counted_in_all_its_limits_or_in_none() {
    let text = |windows: &str| format!("windows = [\"{windows}\"]");
    let (clock, _) = clock();
    // No room in a window: no place is taken.
    let (of, limiter) = (set(5, &text("1 per hour")), Limiter::new());
    let first = call(&limiter, &of, application(1, 1), &clock).await.unwrap();
    let refused = call(&limiter, &of, application(1, 1), &clock).await.unwrap_err();
    assert!(matches!(refused, LimitError::OverLimit(_)), "{refused:?}");
    assert_eq!(limiter.open_actions().count(&clock)[&LimitName::from("sessions")], 1);
    drop(first);
    // No place: no window counts it.
    let (of, limiter) = (set(1, &text("2 per hour")), Limiter::new());
    start(&limiter, &of, 0, &clock).await.unwrap();
    for _ in 0..5 {
        refused_for(start(&limiter, &of, 1, &clock).await);
    }
    limiter.open_actions().ended(&id(0));
    start(&limiter, &of, 1, &clock).await.unwrap();
}

#[tokio::test]
async fn a_limit_on_trial_refuses_nobody_and_says_whom_it_would() {
    let (set, limiter, (clock, _)) = (set(1, "enforce = false"), Limiter::new(), clock());
    start(&limiter, &set, 0, &clock).await.unwrap();
    let of = charges(&set, &application(1, 1), "collect");
    let mut admission = limiter.acquire(&of, &clock).await.unwrap();
    assert_eq!(admission.overrun(&of).to_vec(), [LimitName::from("sessions")]);
    admission.opened(&id(1), &clock);
    assert_eq!(
        limiter.open_actions().count(&clock)[&LimitName::from("sessions")],
        1,
        "as if it were enforced"
    );
}

#[tokio::test]
async fn a_limit_counts_by_what_it_says() {
    let text = |per: &str| {
        quotas(&format!(
            "[[limit]]\nname = \"sessions\"\noperations = [\"collect\"]\nper = [{per}]\nopen_actions = 1\n"
        ))
    };
    let (clock, _) = clock();
    for (per, others) in [
        ("", [false, false, false, false]),
        ("\"tenant\"", [true, false, false, false]),
        ("\"application\"", [false, true, false, false]),
        ("\"user\"", [false, false, true, true]),
        ("\"tenant\", \"user\"", [true, false, true, true]),
    ] {
        let (set, limiter) = (text(per), Limiter::new());
        let first = call(&limiter, &set, user(1, 1, 1), &clock).await.unwrap();
        let callers = [user(2, 1, 1), user(1, 2, 1), user(1, 1, 2), application(1, 1)];
        let mut admitted = [false; 4];
        for (place, caller) in admitted.iter_mut().zip(callers) {
            *place = call(&limiter, &set, caller, &clock).await.is_ok();
        }
        assert_eq!(admitted, others, "{per}");
        drop(first);
    }
}

#[tokio::test]
async fn a_call_whose_answer_nobody_read_keeps_its_place_for_ten_minutes_and_one_that_was_not_sent_does_not()
{
    let (set, limiter, (clock, hand)) = (set(1, ""), Limiter::new(), clock());
    let of = charges(&set, &application(1, 1), "collect");
    drop(limiter.acquire(&of, &clock).await.unwrap());
    // Its caller hung up, or the API broke off: an action may be under way, and nobody can name it.
    drop(call(&limiter, &set, application(1, 1), &clock).await.unwrap());
    refused_for(start(&limiter, &set, 0, &clock).await);
    hand.advance(Duration::from_secs(599));
    assert_eq!(refused_for(start(&limiter, &set, 0, &clock).await), 1);
    hand.advance(Duration::from_secs(1));
    start(&limiter, &set, 0, &clock).await.unwrap();
}

#[tokio::test]
async fn open_actions_outlive_the_process_until_they_end_or_lapse() {
    let folder = tempfile::tempdir().unwrap();
    let (set, (clock, hand)) = (set(3, "open_for = \"1h\""), clock());
    let (boot, keys) = (BootId::from_bytes([1; 16]), NonZeroU32::MAX);
    let open = || Limiter::open(&StateFolder::open(folder.path()).unwrap(), keys, boot, &clock).unwrap();
    let limiter = open();
    start(&limiter, &set, 0, &clock).await.unwrap();
    hand.advance(Duration::from_secs(600));
    start(&limiter, &set, 1, &clock).await.unwrap();
    start(&limiter, &set, 2, &clock).await.unwrap();
    limiter.open_actions().ended(&id(1));
    limiter.open_actions().close();
    drop(limiter);

    let limiter = open();
    start(&limiter, &set, 3, &clock).await.unwrap();
    refused_for(start(&limiter, &set, 4, &clock).await);
    limiter.open_actions().ended(&id(2));
    limiter.open_actions().close();
    drop(limiter);

    // The first has lapsed while nobody ran.
    hand.advance(Duration::from_secs(3_000));
    let limiter = open();
    let numbers = limiter.open_actions().count(&clock);
    assert_eq!(numbers[&LimitName::from("sessions")], 1, "the one that was started last");
    let (name, numbers) = limiter.open_actions().journal().unwrap();
    assert_eq!((name, numbers.dropped, numbers.lost_bytes), ("open-actions", 0, 0));
    limiter.open_actions().close();
    drop(limiter);

    // A clock that is set back for a year keeps nothing for longer than 30 days.
    hand.step_wall(Wall::from_unix_seconds(1_735_689_600));
    let limiter = open();
    hand.advance(MAX_OPEN_FOR - Duration::from_secs(1));
    assert_eq!(limiter.open_actions().count(&clock).len(), 1);
    hand.advance(Duration::from_secs(1));
    assert!(limiter.open_actions().count(&clock).is_empty());
}

#[tokio::test]
async fn a_file_that_is_written_anew_has_every_open_action() {
    let (set, limiter, (clock, hand)) = (set(5_000, ""), Limiter::new(), clock());
    for number in 0..2_500 {
        hand.advance(Duration::from_secs(60));
        start(&limiter, &set, number, &clock).await.unwrap();
    }
    let mut again = Memory::default();
    lasting::write_all(&limiter.open_actions().0.memory, &mut |bytes| {
        again.replay(Record::read(bytes).unwrap(), &clock);
    });
    assert_eq!(again.actions.len(), 2_500);
    let replayed = again.actions.keys().collect::<BTreeSet<_>>();
    let memory = limiter.open_actions().0.memory.lock();
    assert_eq!(replayed, memory.actions.keys().collect());
}

#[tokio::test]
async fn what_is_counted_of_all_limits_together_is_bounded() {
    let (set, limiter, (clock, hand)) = (set(1, "").clone(), Limiter::new(), clock());
    let text =
        "[[limit]]\nname = \"sessions\"\noperations = [\"collect\"]\nper = [\"user\"]\nopen_actions = 1\n";
    let by_user = quotas(text);
    for number in 0..OpenActions::MAX as u32 {
        hand.advance(Duration::from_secs(1));
        let subject = user(1, number.into(), number.into());
        call(&limiter, &by_user, subject, &clock).await.unwrap().opened(&id(number), &clock);
    }
    let refused = call(&limiter, &by_user, user(1, 20_000, 20_000), &clock).await.unwrap_err();
    assert!(matches!(refused, LimitError::KeysFull { .. }), "{refused:?}");
    let tried = quotas(&format!("{text}enforce = false\n"));
    drop(call(&limiter, &tried, user(1, 20_000, 20_000), &clock).await.unwrap());
    assert!(call(&limiter, &set, application(1, 1), &clock).await.is_err());
    limiter.open_actions().ended(&id(7));
    let _ = call(&limiter, &by_user, user(1, 20_000, 20_000), &clock).await.unwrap();
}

#[tokio::test]
async fn once_another_process_counts_the_actions_nobody_is_refused_for_those_that_this_one_knew() {
    let (set, limiter, (clock, _)) = (set(1, ""), Limiter::new(), clock());
    start(&limiter, &set, 0, &clock).await.unwrap();
    refused_for(start(&limiter, &set, 1, &clock).await);
    let (heir, _gets) = std::sync::mpsc::channel();
    limiter.pass_to(crate::journal::Heir(heir)).unwrap();
    assert_eq!(start(&limiter, &set, 1, &clock).await, Err(LimitError::Ended));
    limiter.take_back();
    refused_for(start(&limiter, &set, 1, &clock).await);
}
