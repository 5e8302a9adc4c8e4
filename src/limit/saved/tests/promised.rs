//! Moments that were promised to calls that waited when their process ended.

use super::*;

#[tokio::test]
async fn a_promise_to_a_call_that_waited_ends_with_its_process() {
    let (clock, hand) = a_day_in();
    let mut surviving = Surviving::new(&clock);
    let (set, app) = (waits(), application(1, 1));
    let of = charges(&set, &app, "read");
    assert_eq!(surviving.admitted(&of, 10).await, 10);
    hand.advance(Duration::from_secs(30));
    let waiting = surviving.limiter().acquire(&of, &clock);
    assert!(futures_util::future::poll_immediate(waiting).await.is_none(), "it waits, and then is gone");
    {
        let mut waiting = Box::pin(surviving.limiter().acquire(&of, &clock));
        assert!(futures_util::future::poll_immediate(&mut waiting).await.is_none());
        surviving.limiter().close();
    }
    surviving.start(BOOT, MANY);
    hand.advance(Duration::from_millis(30_001));
    assert_eq!(surviving.admitted(&of, 11).await, 10, "ten are free again");
}

/// Ten a minute, and who comes later waits.
fn waits() -> QuotaSet {
    let waits = "when_full = { wait = \"50s\", queue = 10 }\n";
    quotas(&[limit("held", "\"application\"", "\"10 per minute\""), waits.into()].concat())
}

/// A process that is killed 30 s after it has admitted ten, with two calls that wait.
async fn killed_while_two_wait(surviving: &mut Surviving, hand: &ManualClock, of: &Charges<'_>) {
    assert_eq!(surviving.admitted(of, 10).await, 10);
    hand.advance(Duration::from_secs(30));
    let mut waiting = [0, 1].map(|_| Box::pin(surviving.limiter().acquire(of, &surviving.clock)));
    for call in &mut waiting {
        assert!(futures_util::future::poll_immediate(call).await.is_none(), "it waits");
    }
    surviving.limiter().close();
}

#[tokio::test]
async fn a_promise_that_was_over_at_one_start_is_over_at_the_next_one_too() {
    let (clock, hand) = a_day_in();
    let mut surviving = Surviving::new(&clock);
    let (set, app) = (waits(), application(1, 1));
    let of = charges(&set, &app, "read");
    killed_while_two_wait(&mut surviving, &hand, &of).await;
    // The next one begins before that moment, and the one after it behind.
    surviving.start(BOOT, MANY);
    hand.advance(Duration::from_millis(30_001));
    surviving.start(BOOT, MANY);
    assert_eq!(surviving.admitted(&of, 11).await, 10);
}

#[tokio::test]
async fn a_promise_that_was_over_at_one_start_is_over_on_the_next_boot_too() {
    let (clock, hand) = a_day_in();
    let mut surviving = Surviving::new(&clock);
    let (set, app) = (waits(), application(1, 1));
    let of = charges(&set, &app, "read");
    killed_while_two_wait(&mut surviving, &hand, &of).await;
    surviving.start(BOOT, MANY);
    let (rebooted, hand) = just_booted(clock.wall() + Duration::from_millis(30_001) + ROUNDED);
    surviving.clock = rebooted;
    surviving.start(NEXT_BOOT, MANY);
    hand.advance(ROUNDED);
    assert_eq!(surviving.admitted(&of, 11).await, 10);
}

#[tokio::test]
async fn a_promise_that_a_new_boot_finds_counts_as_a_call_of_its_first_start() {
    let (clock, hand) = a_day_in();
    let mut surviving = Surviving::new(&clock);
    let (set, app) = (waits(), application(1, 1));
    let of = charges(&set, &app, "read");
    killed_while_two_wait(&mut surviving, &hand, &of).await;
    let (rebooted, hand) = just_booted(clock.wall() + Duration::from_secs(10));
    surviving.clock = rebooted;
    surviving.start(NEXT_BOOT, MANY);
    // The ten were 40 s ago, and the two are taken for calls of now.
    hand.advance(Duration::from_secs(20) + ROUNDED);
    assert_eq!(surviving.admitted(&of, 8).await, 8);
    let mut ninth = Box::pin(surviving.limiter().acquire(&of, &surviving.clock));
    assert!(futures_util::future::poll_immediate(&mut ninth).await.is_none(), "it waits");
    // Not for longer than a minute from the start on.
    hand.advance(Duration::from_secs(40));
    assert!(futures_util::future::poll_immediate(&mut ninth).await.is_some_and(|answer| answer.is_ok()));
}

#[test]
fn more_promises_than_a_window_counts_displace_no_admission_that_it_does() {
    let mut records: Vec<_> = some_records().into_iter().take(2).collect();
    let key = [&[7; 16][..], &900_000_u32.to_ne_bytes()].concat();
    let mut write = |number, stamp| {
        records.push(Entry { number, stamp, cost: 1, key: &key }.admitted().to_vec());
    };
    // Ten a minute is all that it counts.
    (1..=10).for_each(|number| write(number, 86_400_000 + number));
    (11..=90).for_each(|number| write(number, 86_460_000 + number));
    assert_eq!(times_of(&records), (1..=10).map(|number| 86_400_000 + number).collect::<Vec<_>>());
}
