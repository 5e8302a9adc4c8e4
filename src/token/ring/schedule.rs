//! When the keys of one issuer are fetched: in turn, and out of turn when a request needs a key that is not there.

use std::time::Duration;

use crate::time::Steady;

/// The fetches of one issuer, past and next. At the beginning it is time.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    stage: Stage,
    /// When the last fetch began.
    began: Option<Steady>,
    /// When the last one that succeeded began and ended.
    succeeded: Option<(Steady, Steady)>,
    /// Failures since then.
    failures: u32,
    /// When to fetch next in turn.
    due: Steady,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Idle,
    /// A request has asked for a fetch that has not begun.
    Demanded,
    Fetching,
}

/// What became of a request's wish for a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// The last fetch is too recent: what it brought is what there is.
    TooSoon,
    /// One is under way or will be at once.
    UnderWay,
    /// It is the first to ask: somebody must be woken.
    Noted,
}

/// The right to fetch, which one at a time has.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Begun;

/// What a fetch brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// Keys, and for how long the issuer says that they may be kept.
    Keys { max_age: Option<Duration> },
    /// Nothing that can be used.
    Nothing,
}

/// The longest that one fetch may take, both documents together.
pub(in crate::token) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The time between two fetches in turn, less up to a tenth, unless the issuer asks for a shorter one: Entra rotates keys
/// without a schedule and asks for about an hour (*Signing key rollover*). An issuer that asks for more is asked as often
/// all the same, so that a key that was withdrawn is worth nothing after an hour.
pub(in crate::token) const REFRESH_INTERVAL: Duration = Duration::from_secs(3_600);

/// The shortest such time that an issuer may ask for: one that forbids caches must not be asked all the time.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(300);

/// The wait after a failure, doubled after each further one.
pub(in crate::token) const FIRST_RETRY: Duration = Duration::from_secs(30);

/// The longest wait after a failure.
pub(in crate::token) const LAST_RETRY: Duration = Duration::from_secs(300);

/// The least time between the beginnings of two fetches that requests ask for: strangers can ask as often as they
/// like. For as long, what was fetched is what there is.
pub(in crate::token) const DEMAND_INTERVAL: Duration = Duration::from_secs(30);

// === impl Schedule ===

impl Schedule {
    /// Notes that a request needs a key that is not there.
    pub(super) fn demand(&mut self, now: Steady) -> Demand {
        match self.stage {
            Stage::Demanded | Stage::Fetching => Demand::UnderWay,
            Stage::Idle if now < self.next_demand() => Demand::TooSoon,
            Stage::Idle => {
                self.stage = Stage::Demanded;
                Demand::Noted
            }
        }
    }

    /// Begins what a request has asked for.
    pub(super) fn begin_demanded(&mut self, now: Steady) -> Option<Begun> {
        (self.stage == Stage::Demanded).then(|| self.begin(now))
    }

    /// Begins the next fetch in turn, if it is time: early enough that keys which are kept for `keep` are fetched twice
    /// before they are too old.
    pub(super) fn begin_due(&mut self, now: Steady, keep: Duration) -> Option<Begun> {
        let half = self.succeeded.filter(|_| self.failures == 0).map(|(_, ended)| ended + keep / 2);
        let due = half.map_or(self.due, |half| half.min(self.due));
        (self.stage != Stage::Fetching && due <= now).then(|| self.begin(now))
    }

    fn begin(&mut self, now: Steady) -> Begun {
        self.stage = Stage::Fetching;
        self.began = Some(now);
        Begun
    }

    pub(super) fn under_way(&self) -> bool {
        self.stage == Stage::Fetching
    }

    /// Notes the end of a fetch.
    pub(super) fn ended(&mut self, answered: Answered, now: Steady) {
        self.stage = Stage::Idle;
        match answered {
            Answered::Keys { max_age } => {
                let interval =
                    max_age.map_or(REFRESH_INTERVAL, |age| age.clamp(SHORTEST_INTERVAL, REFRESH_INTERVAL));
                self.succeeded = Some((self.began.unwrap_or(now), now));
                self.failures = 0;
                self.due = now + jittered(interval);
            }
            Answered::Nothing => {
                let wait = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(self.failures)).min(LAST_RETRY);
                self.failures = self.failures.saturating_add(1);
                self.due = now + wait;
            }
        }
    }

    /// Notes that a fetch is gone: if it has not ended, it never will.
    pub(super) fn dropped(&mut self) {
        if self.stage == Stage::Fetching {
            self.stage = Stage::Idle;
        }
    }

    /// Whether the issuer has said lately what its keys are: then a key that is not among them is none.
    pub(super) fn is_current(&self, now: Steady) -> bool {
        self.succeeded.is_some_and(|(began, _)| now < began + DEMAND_INTERVAL)
    }

    /// When there may be keys again: when the fetch under way ends at the latest, or when the next one may begin, in turn
    /// or because a request asks for it.
    pub(super) fn next(&self) -> Steady {
        match (self.stage, self.began) {
            (Stage::Fetching, Some(began)) => began + FETCH_TIMEOUT,
            _ => self.due.min(self.next_demand()),
        }
    }

    fn next_demand(&self) -> Steady {
        self.began.map_or(Steady::default(), |began| began + DEMAND_INTERVAL)
    }
}

/// The interval less up to a tenth, so that many gateways don't ask in the same second.
fn jittered(interval: Duration) -> Duration {
    let mut random = [0; 2];
    // Without random numbers the interval is as good, only shared.
    let _ = aws_lc_rs::rand::fill(&mut random);
    interval.mul_f64(0.9 + 0.1 * f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX))
}
