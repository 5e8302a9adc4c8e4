//! The two clocks. Nothing else in Tollgate reads a clock; everything that needs the time takes a [`Clock`].
//!
//! [`Steady`] never steps and counts through suspend: windows, waits and deadlines. [`Wall`] is what calendars
//! say: token times and the audit. The two are different types, so one can't stand in for the other.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Either;
use jiff::fmt::temporal::DateTimePrinter;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A reading of the clock that never steps, in nanoseconds since an arbitrary origin (on Linux, 32 days before the boot).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Steady(u64);

impl Steady {
    /// A reading of this many nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// A reading of this many milliseconds after the origin; the last one there is if that is past it.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(NANOS_PER_MILLI))
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the origin, rounded down: how windows read *now*.
    pub const fn millis_down(self) -> u64 {
        self.0 / NANOS_PER_MILLI
    }

    /// Whole milliseconds since the origin, rounded up: how windows stamp an admission.
    pub const fn millis_up(self) -> u64 {
        self.0.div_ceil(NANOS_PER_MILLI)
    }

    /// How long after `earlier` this is; nothing if it is before.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Steady {
    type Output = Self;

    /// A moment `duration` later; the last one there is (584 years) if that is past it.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

const NANOS_PER_MILLI: u64 = 1_000_000;

/// How long before the boot the steady clock's origin lies, in nanoseconds: 32 days, so that it can say when a call was
/// that a window (24 days at most) still counts after the machine was started anew.
const BEFORE_BOOT: u64 = 32 * 24 * 3_600 * 1_000_000_000;

/// A reading of the calendar's clock: seconds since 1970-01-01T00:00:00Z, leap seconds left out, with nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Wall {
    seconds: i64,
    nanos: u32,
}

impl Wall {
    /// The reading this many seconds after 1970, as tokens write `exp`, `nbf` and `iat`.
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self { seconds, nanos: 0 }
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn unix_seconds(self) -> i64 {
        self.seconds
    }

    /// How long after `earlier` this is; nothing if it is before.
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = |wall: Self| i128::from(wall.seconds) * 1_000_000_000 + i128::from(wall.nanos);
        Duration::from_nanos(u64::try_from((nanos(self) - nanos(earlier)).max(0)).unwrap_or(u64::MAX))
    }
}

impl std::ops::Add<Duration> for Wall {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = self.nanos + duration.subsec_nanos();
        let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Self {
            seconds: self.seconds.saturating_add(seconds).saturating_add(i64::from(nanos / 1_000_000_000)),
            nanos: nanos % 1_000_000_000,
        }
    }
}

/// How the calendar's clock prints.
const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

impl Wall {
    /// Writes what it prints as to the end of `bytes`.
    pub fn print(self, bytes: &mut Vec<u8>) {
        match self.timestamp() {
            Ok(timestamp) => {
                // Writing into memory can't fail.
                let _ = PRINTER.print_timestamp(&timestamp, bytes);
            }
            Err(_) => bytes.extend_from_slice(self.seconds.to_string().as_bytes()),
        }
    }

    fn timestamp(self) -> Result<jiff::Timestamp, jiff::Error> {
        jiff::Timestamp::new(self.seconds, i32::try_from(self.nanos).unwrap_or(0))
    }
}

/// RFC 3339 in UTC with milliseconds, as the audit and `/policy` print it.
impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.timestamp() {
            Ok(timestamp) => write!(f, "{timestamp:.3}"),
            Err(_) => write!(f, "{}", self.seconds),
        }
    }
}

/// A time of RFC 3339, with an offset from UTC: `2026-03-01T18:00:00Z`.
impl std::str::FromStr for Wall {
    type Err = InvalidWall;

    fn from_str(text: &str) -> Result<Self, InvalidWall> {
        let time: jiff::Timestamp = text.parse().map_err(|_| InvalidWall(text.chars().take(80).collect()))?;
        // A timestamp before 1970 has both negative, and a reading its nanoseconds always from 0 on.
        let nanos = time.as_nanosecond();
        Ok(Self {
            seconds: i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(i64::MAX),
            nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
        })
    }
}

/// Text that is no such time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time such as `2026-03-01T18:00:00Z`")]
pub struct InvalidWall(String);

impl serde::Serialize for Wall {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which boot of the machine a steady reading belongs to: readings of two boots can't be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootId([u8; 16]);

impl BootId {
    /// The running boot's, which Linux draws at random (`/proc/sys/kernel/random/boot_id`, random(4)). Where it can't be
    /// read, no two processes have the same: their readings are then compared by the calendar's clock.
    pub fn read() -> Self {
        let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let read = read.ok().and_then(|text| uuid::Uuid::try_parse(text.trim()).ok());
        Self(read.unwrap_or_else(uuid::Uuid::new_v4).into_bytes())
    }

    /// The boot of this id.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id's sixteen bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// For how long a server asks to be left alone, by the value of `Retry-After` (RFC 9110, section 10.2.3): seconds, or a
/// date in HTTP's preferred form (section 5.6.7), of which nothing is left once it has passed. None if it is neither.
pub fn retry_after(value: &str, now: Wall) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Wall::from_unix_seconds(date.as_second()).since(now))
}

/// A wait that ran out of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct TimedOut;

/// Where the time comes from: the machine, or a test's hand. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's own clocks.
    System,
    /// A clock that moves only when it is told to.
    Manual(Arc<ManualClock>),
}

impl Clock {
    /// A clock that moves only when [`ManualClock::advance`] is called, and the handle that moves it.
    pub fn manual(wall: Wall) -> (Self, Arc<ManualClock>) {
        let manual = Arc::new(ManualClock {
            now: Mutex::new((Steady(NANOS_PER_MILLI), wall)),
            moved: Notify::new(),
            fault: AtomicU32::new(0),
        });
        (Self::Manual(manual.clone()), manual)
    }

    /// Reads the clock that never steps.
    pub fn steady(&self) -> Steady {
        match self {
            Self::System => {
                // CLOCK_MONOTONIC stops in suspend; a limit must not, since the service's own clock does not.
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                Steady(BEFORE_BOOT + now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
            }
            Self::Manual(manual) => manual.read().0,
        }
    }

    /// Reads the calendar's clock.
    pub fn wall(&self) -> Wall {
        match self {
            Self::System => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
                Wall { seconds: now.tv_sec, nanos: now.tv_nsec as u32 }
            }
            Self::Manual(manual) => manual.read().1,
        }
    }

    /// Waits until `duration` has passed on this clock.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.steady() + duration).await;
    }

    /// Waits until this clock reads `deadline`, or a little more.
    pub async fn sleep_until(&self, deadline: Steady) {
        match self {
            #[expect(clippy::disallowed_methods, reason = "this is the one place that sleeps")]
            Self::System => tokio::time::sleep(deadline.since(self.steady())).await,
            Self::Manual(manual) => manual.sleep_until(deadline).await,
        }
    }

    /// Waits for `work`, but no longer than `limit` from now. What this returns holds the work once: an `async fn` would
    /// hold it twice, and move it.
    pub fn timeout<F: Future>(
        &self,
        limit: Duration,
        work: F,
    ) -> impl Future<Output = Result<F::Output, TimedOut>> + use<F> {
        match self {
            #[expect(
                clippy::disallowed_methods,
                reason = "beside `sleep_until`, this is the one place that waits"
            )]
            Self::System => {
                Either::Left(tokio::time::timeout(limit, work).map(|done| done.map_err(|_| TimedOut)))
            }
            Self::Manual(manual) => {
                // Read before the work begins: what its first step takes counts too.
                let (manual, deadline) = (manual.clone(), manual.read().0 + limit);
                Either::Right(Box::pin(async move {
                    tokio::select! {
                        biased;
                        output = work => Ok(output),
                        () = manual.sleep_until(deadline) => Err(TimedOut),
                    }
                }))
            }
        }
    }
}

/// The clock of tests: it stands still until it is advanced, and then wakes whoever was waiting.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<(Steady, Wall)>,
    moved: Notify,
    /// Which reading from now on panics; 0 is none.
    fault: AtomicU32,
}

impl ManualClock {
    /// Makes one reading panic, the first for 1, or none any more for 0. Whatever does anything reads the clock, so this
    /// shows what a fault in the middle of it leaves behind.
    pub fn fail_at(&self, reading: u32) {
        self.fault.store(reading, Ordering::SeqCst);
    }

    #[expect(clippy::panic, reason = "a test has asked for it")]
    fn read(&self) -> (Steady, Wall) {
        let before = self.fault.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if before == Ok(1) {
            panic!("the clock fails, as it was told to");
        }
        *self.now.lock()
    }

    /// Moves both clocks on by `duration` and wakes the sleepers whose time has come.
    pub fn advance(&self, duration: Duration) {
        let mut now = self.now.lock();
        *now = (now.0 + duration, now.1 + duration);
        drop(now);
        self.moved.notify_waiters();
    }

    /// Sets the calendar's clock alone, as an administrator or NTP would; the steady clock does not notice.
    pub fn step_wall(&self, wall: Wall) {
        self.now.lock().1 = wall;
    }

    async fn sleep_until(&self, deadline: Steady) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            // Registered before the clock is read, so that an advance in between is not missed.
            moved.as_mut().enable();
            if self.now.lock().0 >= deadline {
                return;
            }
            moved.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_rounded_down_and_a_stamp_up() {
        let reading = Steady::from_nanos(1_500_001);
        assert_eq!((reading.millis_down(), reading.millis_up()), (1, 2));
        assert_eq!(Steady::from_nanos(2_000_000).millis_up(), 2);
    }

    #[test]
    fn a_time_is_read_as_it_is_printed_and_in_other_offsets() {
        for (text, printed) in [
            ("2026-03-01T18:00:00Z", "2026-03-01T18:00:00.000Z"),
            ("2026-03-01T18:00:00.250+01:00", "2026-03-01T17:00:00.250Z"),
            ("1969-12-31T23:59:59.75Z", "1969-12-31T23:59:59.750Z"),
        ] {
            assert_eq!(text.parse::<Wall>().unwrap().to_string(), printed);
        }
        for text in ["2026-03-01", "2026-03-01T18:00:00", "tomorrow", ""] {
            assert!(text.parse::<Wall>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_calendar_prints_as_rfc_3339_with_milliseconds() {
        let wall = Wall::from_unix_seconds(1_767_225_600) + Duration::from_micros(1_234_567);
        assert_eq!(wall.to_string(), "2026-01-01T00:00:01.234Z");
        let mut bytes = b"at ".to_vec();
        wall.print(&mut bytes);
        assert_eq!(bytes, b"at 2026-01-01T00:00:01.234Z");
        assert_eq!(wall.since(Wall::from_unix_seconds(1_767_225_600)), Duration::from_micros(1_234_567));
    }

    #[tokio::test]
    async fn a_manual_clock_wakes_its_sleepers_and_only_on_time() {
        let (clock, hand) = Clock::manual(Wall::default());
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.timeout(Duration::from_secs(2), std::future::pending::<()>()).await }
        });
        tokio::task::yield_now().await;
        hand.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        hand.advance(Duration::from_secs(1));
        assert_eq!(sleeper.await.unwrap(), Err(TimedOut));
    }

    #[test]
    fn stepping_the_calendar_does_not_move_the_steady_clock() {
        let (clock, hand) = Clock::manual(Wall::from_unix_seconds(1_000));
        let before = clock.steady();
        hand.step_wall(Wall::from_unix_seconds(10));
        assert_eq!((clock.steady(), clock.wall()), (before, Wall::from_unix_seconds(10)));
    }
}
