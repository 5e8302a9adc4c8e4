//! Lent parts that their owner wants back.

use std::sync::Arc;

use super::*;
use crate::limit::fixture::{changed, part};
use crate::limit::quota::{Idle, Owner};
use crate::limit::{Bound, Bounds};
use crate::outcome::Rate;

/// Ten a minute in a tenant: four lent of application 2, six for everybody.
fn shared() -> QuotaSet {
    changed(&limit("shared-survives", "\"tenant\"", "\"10 per minute\""), |quota| {
        let owner = Owner::Application(crate::id::ApplicationId::from_u128(2));
        quota.parts = Box::new([part(quota, owner, Idle::Lent, &["4 per minute"])]);
        quota.bounds = Bounds::new([Bound::from("6 per minute".parse::<Rate>().unwrap())]);
    })
}

/// Somebody else has all of it, and 50 s later its owner wants its part back.
async fn wanted(surviving: &Surviving, hand: &ManualClock, [owner, other]: [&Charges<'_>; 2]) {
    assert_eq!(surviving.admitted(other, 11).await, 10);
    hand.advance(Duration::from_secs(50));
    assert_eq!(surviving.admitted(owner, 5).await, 0);
}

#[tokio::test]
async fn a_part_that_its_owner_wants_back_is_kept_for_it_over_a_restart() {
    let (clock, hand) = a_day_in();
    let (mut surviving, set) = (Surviving::new(&clock), shared());
    let callers = [2, 9].map(|number| application(1, number));
    let [owner, other] = [0, 1].map(|index| charges(&set, &callers[index], "read"));
    wanted(&surviving, &hand, [&owner, &other]).await;
    // Once from the record of its refusal, and once from a file that was written from memory.
    surviving.start(BOOT, MANY);
    let anew = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(anew.path()).unwrap();
    surviving.limiter().write_to(&folder, BOOT, &clock).unwrap();
    drop(folder);
    surviving.folder = anew;
    surviving.start(BOOT, MANY);
    hand.advance(Duration::from_millis(10_001));
    assert_eq!(surviving.admitted(&other, 10).await, 6, "the rest, and nothing of the part");
    assert_eq!(surviving.admitted(&owner, 10).await, 4);
}

#[tokio::test]
async fn a_part_that_its_owner_wants_back_is_kept_for_it_over_a_new_boot_and_no_longer_than_before() {
    let (clock, hand) = a_day_in();
    let (mut surviving, set) = (Surviving::new(&clock), shared());
    let callers = [2, 9].map(|number| application(1, number));
    let [owner, other] = [0, 1].map(|index| charges(&set, &callers[index], "read"));
    wanted(&surviving, &hand, [&owner, &other]).await;
    let (rebooted, hand) = just_booted(clock.wall() + Duration::from_secs(20));
    surviving.clock = rebooted;
    surviving.start(NEXT_BOOT, MANY);
    assert_eq!(surviving.admitted(&other, 10).await, 6);
    // Wanted for a minute from 20 s ago on, and on each boot for what that is short of a whole second.
    hand.advance(Duration::from_secs(42));
    assert_eq!(surviving.admitted(&other, 10).await, 4);
}

/// Its owner wants a part back, and again after so many milliseconds of the process that follows. So many later, which is
/// less than a minute, yet another one keeps it for its owner.
async fn wanted_again(
    [again, later]: [u64; 2],
    replace: impl FnOnce(&mut Surviving, Arc<ManualClock>) -> (BootId, Arc<ManualClock>),
) {
    let (clock, hand) = a_day_in();
    let (mut surviving, set) = (Surviving::new(&clock), shared());
    let callers = [2, 9].map(|number| application(1, number));
    let [owner, other] = [0, 1].map(|index| charges(&set, &callers[index], "read"));
    wanted(&surviving, &hand, [&owner, &other]).await;
    let (boot, hand) = replace(&mut surviving, hand);
    hand.advance(Duration::from_millis(again));
    assert_eq!(surviving.admitted(&owner, 1).await, 0);
    surviving.start(boot, MANY);
    hand.advance(Duration::from_millis(later));
    assert_eq!(surviving.admitted(&other, 10).await, 6, "the rest, and nothing of the part");
}

#[tokio::test]
async fn a_part_that_is_wanted_again_after_the_windows_were_passed_on_is_kept_for_one_window_more() {
    wanted_again([700, 59_600], |surviving, hand| {
        let anew = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(anew.path()).unwrap();
        surviving.limiter().write_to(&folder, BOOT, &surviving.clock).unwrap();
        drop(folder);
        surviving.folder = anew;
        surviving.start(BOOT, MANY);
        (BOOT, hand)
    })
    .await;
}

#[tokio::test]
async fn a_part_that_is_wanted_again_after_a_new_boot_is_kept_for_one_window_more() {
    wanted_again([1_200, 59_900], |surviving, _| {
        let (rebooted, hand) = just_booted(surviving.clock.wall());
        hand.advance(Duration::from_millis(300));
        surviving.clock = rebooted;
        surviving.start(NEXT_BOOT, MANY);
        (NEXT_BOOT, hand)
    })
    .await;
}

#[tokio::test]
async fn an_owner_that_is_refused_again_and_again_writes_once_a_second() {
    let (clock, hand) = a_day_in();
    let (surviving, set) = (Surviving::new(&clock), shared());
    let callers = [2, 9].map(|number| application(1, number));
    let [owner, other] = [0, 1].map(|index| charges(&set, &callers[index], "read"));
    wanted(&surviving, &hand, [&owner, &other]).await;
    for _ in 0..100 {
        hand.advance(Duration::from_millis(10));
        assert_eq!(surviving.admitted(&owner, 1).await, 0);
    }
    surviving.limiter().close();
    // A session, two rules, ten admissions, that it was wanted from two seconds on, and the clocks at the end.
    assert_eq!(surviving.limiter().journal().unwrap().1.written, 1 + 2 + 10 + 2 + 1);
}
