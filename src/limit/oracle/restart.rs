//! The process ends and another one takes its place, on the same boot of the machine or on the next.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::list::Charge;
use super::world::World;
use super::{MICROS, micros};
use crate::journal::StateFolder;
use crate::limit::Limiter;
use crate::limit::fixture::clock;
use crate::time::{BootId, Clock, ManualClock, Wall};

/// Where the windows survive.
pub(super) struct State {
    path: tempfile::TempDir,
    /// None while nobody has it.
    folder: Option<StateFolder>,
    boot: u8,
    /// How many processes have written to it.
    processes: u32,
}

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Its calls are given back first.
    Stopped,
    /// The same, and it hands its windows over instead of leaving its journal.
    Passed,
    /// It writes nothing more. What was admitted and not forwarded stays charged.
    Killed,
}

/// More keys than any trace has.
const MANY: NonZeroU32 = NonZeroU32::new(1_000_000).unwrap();

/// After so many processes the windows pass to a new journal. One that is longer than 1 MiB may be written anew, at a moment
/// of the disk's, and the trace would not be the same each time.
const PROCESSES: u32 = 3;

/// How many seconds before the first reading of a boot the steady clock begins: 32 days.
const BEFORE_BOOT: u64 = 32 * 24 * 3_600;

// === impl State ===

impl State {
    pub(super) fn new() -> Self {
        Self { path: tempfile::tempdir().unwrap(), folder: None, boot: 0, processes: 0 }
    }

    pub(super) fn open(&mut self, clock: &Clock) -> Limiter {
        let folder = StateFolder::open(self.path.path()).unwrap();
        let limiter = Limiter::open(&folder, MANY, self.boot(), clock).unwrap();
        self.folder = Some(folder);
        self.processes += 1;
        limiter
    }

    fn boot(&self) -> BootId {
        BootId::from_bytes([self.boot; 16])
    }

    /// The journal was not written anew.
    fn is_short(&self) {
        let length = std::fs::metadata(self.path.path().join("windows.journal")).unwrap().len();
        assert!(length < 1 << 20, "it may have been written anew: {length}");
    }

    /// Writes all that a limiter counts to a new folder, in the place of this one.
    fn pass(&mut self, limiter: &Limiter, clock: &Clock) {
        let heir = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(heir.path()).unwrap();
        limiter.write_to(&folder, self.boot(), clock).unwrap();
        (self.path, self.processes) = (heir, 0);
    }
}

/// The clocks of a machine that was just started.
pub(super) fn just_booted(micros: u64) -> (Clock, Arc<ManualClock>) {
    let (clock, hand) = clock();
    hand.advance(Duration::from_secs(BEFORE_BOOT) + Duration::from_micros(micros));
    (clock, hand)
}

// === impl World ===

impl World {
    /// The process ends, and some time later there is another one.
    pub(super) fn restart(&mut self) {
        let end = match self.below(3) {
            _ if self.state.processes == PROCESSES => End::Passed,
            0 => End::Passed,
            1 => End::Stopped,
            _ => End::Killed,
        };
        let down = match self.below(4) {
            0 => 0,
            1 | 2 => self.below(2 * MICROS),
            _ => self.below(70 * MICROS),
        };
        if self.stepped {
            // Another minute has passed, at least, since the calendar was set.
            self.limiter.anchor();
            self.stepped = false;
        }
        let promised = self.end(end);
        self.state.is_short();
        self.list.forget();
        self.state.folder = None;
        if self.below(3) == 0 {
            self.reboot(down);
        } else {
            self.hand.advance(Duration::from_micros(down));
            self.now += down;
            // A promise whose time has come cannot be told from an admission.
            let last = (self.now / 1_000 + 1) * 1_000;
            let broken = promised.iter().filter(|(at, ..)| *at > last);
            broken.for_each(|(_, number, charged)| self.list.remove(charged, *number));
        }
        self.limiter = Arc::new(self.state.open(&self.clock));
        self.seen.restarts += 1;
    }

    /// The next boot of the machine: its steady clock begins anew, and the calendar's says what has passed. Nothing, if it
    /// was set back meanwhile.
    fn reboot(&mut self, down: u64) {
        let (before, wall) = (self.now, self.clock.wall());
        let micros_in = self.below(3_000);
        (self.clock, self.hand) = just_booted(micros_in);
        self.now = micros(self.clock.steady());
        self.state.boot = self.state.boot.wrapping_add(1);
        let passed = if self.below(4) == 0 {
            let back = self.below(100_000) as i64;
            self.hand.step_wall(Wall::from_unix_seconds((wall.unix_seconds() - back).max(0)));
            0
        } else {
            self.hand.step_wall(wall + Duration::from_micros(down));
            down
        };
        self.list.cross_boot(before + passed, self.now);
        self.heals = (self.heals + self.now).saturating_sub(before + passed);
        self.seen.reboots += 1;
    }

    /// What is left behind of calls that waited: their moments, their numbers, and what they were charged to.
    fn end(&mut self, end: End) -> Vec<(u64, u64, Vec<Charge>)> {
        if end == End::Killed {
            self.limiter.close();
        }
        let (waiting, taken) = (std::mem::take(&mut self.waiting), std::mem::take(&mut self.taken));
        let mut promised = Vec::new();
        for waiting in waiting {
            match end {
                End::Killed => promised.push((waiting.at, waiting.number, waiting.charged)),
                End::Stopped | End::Passed => self.list.remove(&waiting.charged, waiting.number),
            }
        }
        for taken in taken.iter().filter(|taken| !taken.forwarded && end != End::Killed) {
            self.list.remove(&taken.charged, taken.number);
        }
        drop(taken);
        if end == End::Passed {
            self.state.pass(&self.limiter, &self.clock);
        }
        self.limiter.close();
        promised
    }
}
