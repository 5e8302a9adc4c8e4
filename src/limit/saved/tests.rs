//! What is read back is what was written, on the same boot and on another.

use std::num::NonZeroU32;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::journal::StateFolder;
use crate::limit::fixture::{application, charges, clock, limit, quotas};
use crate::limit::{Charges, LimitError, Limiter, QuotaSet};
use crate::time::{Clock, ManualClock};

mod durable;
mod grown;
mod promised;
mod wanted;

const BOOT: BootId = BootId::from_bytes([1; 16]);
const NEXT_BOOT: BootId = BootId::from_bytes([2; 16]);
const MANY: NonZeroU32 = NonZeroU32::new(1_000_000).unwrap();

/// By how much a time may be late after a new boot: each reading of a clock is rounded.
const ROUNDED: Duration = Duration::from_millis(4);

/// A limiter whose windows are in a folder, and which can be started anew.
struct Surviving {
    folder: TempDir,
    open: Option<(StateFolder, Limiter)>,
    clock: Clock,
}

impl Surviving {
    fn new(clock: &Clock) -> Self {
        let mut new = Self { folder: tempfile::tempdir().unwrap(), open: None, clock: clock.clone() };
        new.start(BOOT, MANY);
        new
    }

    fn start(&mut self, boot: BootId, max_keys: NonZeroU32) {
        if let Some((_, limiter)) = self.open.take() {
            limiter.close();
        }
        let folder = StateFolder::open(self.folder.path()).unwrap();
        let limiter = Limiter::open(&folder, max_keys, boot, &self.clock).unwrap();
        self.open = Some((folder, limiter));
    }

    /// The process ends without a word: its file is what it was before.
    fn crash(&mut self) {
        let file = self.folder.path().join("windows.journal");
        let before = std::fs::read(&file).unwrap();
        let (folder, limiter) = self.open.take().unwrap();
        limiter.close();
        drop(folder);
        std::fs::write(file, before).unwrap();
    }

    fn limiter(&self) -> &Limiter {
        &self.open.as_ref().unwrap().1
    }

    /// How many of so many calls are admitted.
    async fn admitted(&self, of: &Charges<'_>, calls: usize) -> usize {
        let mut admitted = 0;
        for _ in 0..calls {
            admitted += usize::from(call(self.limiter(), of, &self.clock).await.is_ok());
        }
        admitted
    }
}

async fn call(limiter: &Limiter, of: &Charges<'_>, clock: &Clock) -> Result<(), LimitError> {
    let admission = limiter.acquire(of, clock).await?;
    limiter.written(admission, of).await?.forwarded();
    Ok(())
}

fn ten_a_minute() -> QuotaSet {
    quotas(&limit("read-per-app", "\"application\"", "\"10 per minute\""))
}

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3_600)
}

/// Two clocks a day after the machine was started: the manual one begins with it.
fn a_day_in() -> (Clock, std::sync::Arc<ManualClock>) {
    let (clock, hand) = clock();
    hand.advance(hours(24));
    (clock, hand)
}

#[test]
fn every_record_is_read_as_it_was_written() {
    let anchor = Anchor { steady: 5, wall: u64::MAX };
    let entry = Entry { number: (1 << 48) - 1, stamp: 77, cost: 1_000, key: b"some key" };
    let kept = Kept { longest: 60_000, largest: NonZeroU32::MAX };
    let times: Vec<u64> = (0..40_000).map(|time| (1 << 33) + time / 2).collect();
    let mut records = Vec::new();
    write_key(9, kept, b"k", &times, &mut |record| records.push(record.to_owned()));

    assert_eq!(Record::read(&write_session(BOOT, anchor)), Some(Record::Session { boot: BOOT, anchor }));
    assert_eq!(Record::read(&write_anchor(anchor)), Some(Record::Anchor(anchor)));
    assert_eq!(Record::read(&entry.admitted()), Some(Record::Admitted(entry)));
    assert_eq!(Record::read(&entry.given_back()), Some(Record::GivenBack(entry)));
    assert_eq!(Record::read(&write_wanted(7, b"k")), Some(Record::Wanted { until: 7, key: b"k" }));
    let expected = Record::Held { number: 9, kept, key: b"k", times: times[..15_000].to_vec() };
    assert_eq!(Record::read(&records[0]), Some(expected));
    let expected = Record::HeldMore { key: b"k", times: times[30_000..].to_vec() };
    assert_eq!((Record::read(&records[2]), records.len()), (Some(expected), 3));
    for record in [&b""[..], b"\0", b"\x0a", b"\x01short", b"\x05", b"\x07", b"\x09", b"\x03{}"] {
        assert_eq!(Record::read(record), None, "{record:?}");
    }
}

#[test]
fn an_admission_per_tenant_and_application_takes_59_bytes() {
    let entry = Entry { number: 1, stamp: 2, cost: 1, key: &[0; 36] };
    let frame = 8;
    assert_eq!(entry.admitted().len() + frame, 59);
}

#[tokio::test]
async fn a_limiter_that_is_started_anew_again_and_again_decides_as_one_that_never_was() {
    let set = quotas(
        &[
            limit("tenant", "\"tenant\"", "\"7 per 3s\", \"40 per minute\""),
            limit("app", "\"tenant\", \"application\"", "\"4 per second\""),
            limit("groups", "\"device_group\"", "\"35 per minute\""),
        ]
        .concat(),
    );
    let (clock, hand) = a_day_in();
    let (mut surviving, never_ended) = (Surviving::new(&clock), Limiter::new());
    // Xorshift: the same run each time.
    let mut random = 0x2545_f491_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let (mut refused, mut restarts) = (0, 0);
    // So many that the file is written anew on the way.
    for _ in 0..40_000 {
        hand.advance(Duration::from_micros(next(40_000)));
        let of = charges(&set, &application(1 + u128::from(next(3)), 1 + u128::from(next(2))), "read");
        let ours = surviving.limiter().acquire(&of, &clock).await;
        let theirs = never_ended.acquire(&of, &clock).await;
        match (ours, theirs) {
            (Ok(mut ours), Ok(mut theirs)) => {
                if next(4) > 0 {
                    ours.forwarded();
                    theirs.forwarded();
                }
            }
            (Err(ours), Err(theirs)) => {
                refused += 1;
                assert_eq!(LimitError::from(ours), LimitError::from(theirs));
            }
            (ours, theirs) => panic!("{ours:?} is not {theirs:?}"),
        }
        if next(1_000) == 0 {
            surviving.start(BOOT, MANY);
            restarts += 1;
        }
    }
    assert!(refused > 1_000 && restarts > 10, "{refused} {restarts}");
    let length = std::fs::metadata(surviving.folder.path().join("windows.journal")).unwrap().len();
    assert!(length < 2 << 20, "the file was not written anew: {length}");
}

#[tokio::test]
async fn after_a_new_boot_a_call_is_as_long_ago_as_the_calendar_says() {
    let (clock, hand) = a_day_in();
    let mut surviving = Surviving::new(&clock);
    let (set, app) = (ten_a_minute(), application(1, 1));
    let of = charges(&set, &app, "read");
    assert_eq!(surviving.admitted(&of, 6).await, 6);
    hand.advance(Duration::from_secs(20));
    assert_eq!(surviving.admitted(&of, 3).await, 3);
    surviving.limiter().anchor();

    // The machine was down for half a minute, and its steady clock begins anew.
    let (rebooted, hand) = just_booted(clock.wall() + Duration::from_secs(30));
    surviving.clock = rebooted;
    surviving.start(NEXT_BOOT, MANY);
    assert_eq!(surviving.admitted(&of, 10).await, 1, "nine are held");
    hand.advance(Duration::from_millis(10_000) + ROUNDED);
    assert_eq!(surviving.admitted(&of, 10).await, 6, "six were a minute ago");
}

#[test]
fn over_a_new_boot_a_time_is_rounded_up_and_never_down() {
    let records = some_records();
    let [before, now] = [
        // Almost a millisecond later than they say, and none.
        Anchor { steady: 86_400_100, wall: 5_000 },
        Anchor { steady: 1_000_000_000, wall: 5_010 },
    ];
    let mut replay = Replay::default();
    records.iter().take(3).for_each(|record| replay.read(record));
    replay.read(&write_anchor(before));
    let Restored { keys, .. } = replay.finish(NEXT_BOOT, now, 10);
    let times: Vec<_> = keys.iter().flat_map(|(_, log)| log.times()).collect();
    // It came 98 ms before the first reading, and the calendar may have moved by 9 ms and a little.
    assert_eq!(times, [1_000_000_001 - 98 - 9]);
}

#[tokio::test]
async fn after_a_crash_and_a_new_boot_calls_since_the_last_anchor_are_no_longer_ago_than_they_are() {
    let (clock, hand) = a_day_in();
    let mut surviving = Surviving::new(&clock);
    let set = quotas(&format!("durable = true\n{}", limit("app", "\"application\"", "\"10 per minute\"")));
    let app = application(1, 1);
    let of = charges(&set, &app, "read");
    surviving.limiter().anchor();
    hand.advance(Duration::from_secs(50));
    assert_eq!(surviving.admitted(&of, 10).await, 10);

    let (rebooted, hand) = just_booted(clock.wall() + Duration::from_secs(15));
    surviving.crash();
    surviving.clock = rebooted;
    surviving.start(NEXT_BOOT, MANY);
    assert_eq!(surviving.admitted(&of, 1).await, 0, "ten were 15 s ago");
    hand.advance(Duration::from_millis(44_990));
    assert_eq!(surviving.admitted(&of, 1).await, 0);
    hand.advance(Duration::from_millis(20));
    assert_eq!(surviving.admitted(&of, 10).await, 10);
}

#[tokio::test]
async fn a_calendar_that_was_set_while_the_process_ran_moves_nothing_once_it_was_stopped() {
    let (clock, hand) = a_day_in();
    let mut surviving = Surviving::new(&clock);
    let (set, app) = (ten_a_minute(), application(1, 1));
    let of = charges(&set, &app, "read");
    // The calendar is set forward while the process runs: what it says at its end is written down then.
    hand.advance(Duration::from_secs(50));
    hand.step_wall(clock.wall() + hours(1));
    assert_eq!(surviving.admitted(&of, 10).await, 10);

    let (rebooted, _) = just_booted(clock.wall() + Duration::from_secs(15));
    surviving.clock = rebooted;
    surviving.start(NEXT_BOOT, MANY);
    assert_eq!(surviving.admitted(&of, 1).await, 0, "ten were 15 s ago");
}

#[tokio::test]
async fn a_calendar_that_was_set_back_meanwhile_frees_nothing_early_and_puts_nothing_into_the_future() {
    let (clock, _) = a_day_in();
    let mut surviving = Surviving::new(&clock);
    let (set, app) = (ten_a_minute(), application(1, 1));
    let of = charges(&set, &app, "read");
    assert_eq!(surviving.admitted(&of, 10).await, 10);

    let (rebooted, hand) = just_booted(Wall::from_unix_seconds(1_735_689_600));
    surviving.clock = rebooted;
    surviving.start(NEXT_BOOT, MANY);
    assert_eq!(surviving.admitted(&of, 1).await, 0);
    hand.advance(Duration::from_secs(59));
    assert_eq!(surviving.admitted(&of, 1).await, 0);
    hand.advance(Duration::from_secs(2));
    assert_eq!(surviving.admitted(&of, 10).await, 10);
}

/// The clocks of a machine that was just started: the steady one begins 32 days after its origin.
fn just_booted(wall: Wall) -> (Clock, std::sync::Arc<ManualClock>) {
    let (clock, hand) = clock();
    hand.advance(hours(24 * 32));
    hand.step_wall(wall);
    (clock, hand)
}

#[tokio::test]
async fn no_more_keys_come_back_than_may_be_and_those_that_are_kept_the_longest_do() {
    let (clock, hand) = a_day_in();
    let mut surviving = Surviving::new(&clock);
    let set = ten_a_minute();
    for app in 1..=5 {
        assert_eq!(surviving.admitted(&charges(&set, &application(1, app), "read"), 10).await, 10);
        hand.advance(Duration::from_secs(1));
    }
    surviving.start(BOOT, NonZeroU32::new(2).unwrap());
    assert_eq!(surviving.limiter().keys(), 2);
    for (app, admitted) in [(5, 0), (4, 0), (3, 1)] {
        let of = charges(&set, &application(1, app), "read");
        assert_eq!(surviving.admitted(&of, 1).await, admitted, "{app}");
    }
}

#[tokio::test]
async fn a_key_whose_windows_have_passed_does_not_come_back() {
    let (clock, hand) = a_day_in();
    let mut surviving = Surviving::new(&clock);
    let set = ten_a_minute();
    surviving.admitted(&charges(&set, &application(1, 1), "read"), 1).await;
    hand.advance(Duration::from_secs(59));
    surviving.admitted(&charges(&set, &application(1, 2), "read"), 1).await;
    hand.advance(Duration::from_secs(2));
    surviving.start(BOOT, MANY);
    assert_eq!(surviving.limiter().keys(), 1);
}

/// The records of a rule and of three admissions of one key.
fn some_records() -> Vec<Vec<u8>> {
    let (clock, _) = a_day_in();
    let mut records = vec![write_session(BOOT, Anchor::new(clock.steady(), clock.wall()))];
    let rule = r#"{"number":900000,"limit":"written","per":["tenant"],"longest":60000,"largest":10}"#;
    records.push([&[RULE], rule.as_bytes()].concat());
    let key = [&[7; 16][..], &900_000_u32.to_ne_bytes()].concat();
    let entry = |number| Entry { number, stamp: 86_400_001 + number, cost: 1, key: &key };
    records.extend((1..=3).map(|number| entry(number).admitted().to_vec()));
    records.push(entry(2).given_back().to_vec());
    records
}

fn times_of(records: &[Vec<u8>]) -> Vec<u64> {
    let mut replay = Replay::default();
    records.iter().for_each(|record| replay.read(record));
    assert_eq!(replay.strange, 0);
    let Restored { keys, .. } = replay.finish(BOOT, Anchor { steady: 86_400_100, wall: 0 }, 10);
    keys.iter().flat_map(|(_, log)| log.times()).collect()
}

#[test]
fn records_that_a_key_counts_already_change_nothing_and_later_ones_do() {
    let mut records = some_records();
    let key = [&[7; 16][..], &900_000_u32.to_ne_bytes()].concat();
    let given_back = Entry { number: 4, stamp: 86_400_003, cost: 1, key: &key };
    records.pop();
    records.push(given_back.given_back().to_vec());
    assert_eq!(times_of(&records), [86_400_002, 86_400_004]);
    // Each stands twice, as after a file was written anew.
    let twice: Vec<_> = records[..2].iter().chain(&records[2..]).chain(&records[2..]).cloned().collect();
    assert_eq!(times_of(&twice), [86_400_002, 86_400_004]);
    // A key that counts up to the second record, and then all of them from the queue.
    let kept = Kept { longest: 60_000, largest: NonZeroU32::new(10).unwrap() };
    let mut anew = records[..2].to_vec();
    write_key(2, kept, &key, &[86_400_002, 86_400_003], &mut |record| anew.push(record.to_owned()));
    anew.extend_from_slice(&records[2..]);
    assert_eq!(times_of(&anew), [86_400_002, 86_400_004]);
}

#[test]
fn a_rule_is_known_by_its_name_whatever_its_number_was() {
    let records = some_records();
    let mut replay = Replay::default();
    records.iter().for_each(|record| replay.read(record));
    let Restored { keys, .. } = replay.finish(BOOT, Anchor { steady: 86_400_100, wall: 0 }, 10);
    let rule = NamedRule::find(keys[0].0.rule_number()).unwrap();
    assert!(rule.number < 900_000);
    assert!(serde_json::to_string(&rule).unwrap().contains(r#""limit":"written","per":["tenant"]"#));

    // What was said of no rule is left out, and counted.
    let mut replay = Replay::default();
    records.iter().skip(2).for_each(|record| replay.read(record));
    assert_eq!(replay.strange, 4);
}
