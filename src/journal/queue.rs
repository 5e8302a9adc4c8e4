//! The records in memory, between the threads that hand them in and the one that writes them.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::{Durability, Journal, JournalNumbers, file};

/// How long the writer waits after a failed write: a disk that is full stays so for longer.
const RETRY: Duration = Duration::from_secs(1);

/// How long closing waits for the writer: a disk that hangs must not keep a process from ending.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long records are gathered that nobody waits for: fifty wake-ups and writes a second, however many records come.
const GATHER: Duration = Duration::from_millis(20);

/// A bounded buffer of whole frames.
///
/// One lock guards it, held for a checksum and a copy of one record. The writer holds what it took until it is written:
/// twice the capacity in all.
#[derive(Debug)]
pub(super) struct Queue {
    /// In bytes.
    capacity: usize,
    /// What every record survives, whether anybody waits for it or not.
    durability: Durability,
    state: Mutex<State>,
    /// The writer waits on it: there are records, or somebody waits for them, or it is to end.
    work: Condvar,
    /// Whoever closes or suspends waits on it: the writer has ended, or rests.
    ended: Condvar,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
struct State {
    frames: Vec<u8>,
    records: u64,
    /// How many records were handed in, those without room left out.
    handed: u64,
    /// Up to where they must be written, and synced, since somebody waits.
    awaited: Reached,
    /// Of the records without room, how many were made up for.
    made_up: u64,
    phase: Phase,
    /// Whether the writer waits for records, and has none.
    rests: bool,
    /// Whether the file may be another's already, so that it is not to be written anew.
    given: bool,
    /// Whether the file lacks what went elsewhere while it was another's.
    lacks: bool,
    numbers: JournalNumbers,
}

/// Up to which record the file has got.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) written: u64,
    pub(super) synced: u64,
}

/// What those see who wait.
#[derive(Debug, Default, Clone, Copy)]
struct Progress {
    reached: Reached,
    disk: Disk,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Disk {
    #[default]
    Takes,
    /// The last attempt failed, or there will be none.
    Refuses,
}

/// Whether everything that was handed in is in the file or on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    None,
    /// Records found no room: the file must be written anew. So many had found none so far.
    Open(u64),
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// Nothing is taken for now; the writer writes what there is, and then leaves the file alone.
    Suspended,
    /// Nothing is taken any more; the writer writes what there is.
    Closing,
    /// The writer has ended.
    Ended,
}

/// What the writer is to write next: nothing, if it is only to sync.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) frames: Vec<u8>,
    pub(super) records: u64,
    pub(super) durability: Durability,
    /// Up to where the file has got then.
    handed: u64,
}

/// How the wait after a failed write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    /// Try again.
    Over,
    /// The journal is closing: there is one more attempt.
    Closing,
}

/// A journal takes no record now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state file has no room for the record")]
pub struct Full;

/// A record cannot be written now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state file cannot be written")]
pub struct Unwritten;

/// A place in what was handed in: behind a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(u64);

// === impl Queue ===

impl Queue {
    pub(super) fn new(capacity: usize, durability: Durability) -> Self {
        Self {
            capacity,
            durability,
            state: Mutex::default(),
            work: Condvar::new(),
            ended: Condvar::new(),
            progress: watch::Sender::new(Progress::default()),
        }
    }

    pub(super) fn push(&self, record: &[u8]) -> Result<Position, Full> {
        let mut state = self.state.lock();
        let fits = (1..=Journal::MAX_RECORD).contains(&record.len())
            && record.len() <= self.capacity.saturating_sub(state.frames.len());
        if !fits || state.phase != Phase::Open {
            state.numbers.dropped += 1;
            return Err(Full);
        }
        // While there are some already, the writer knows.
        let is_first = state.frames.is_empty();
        file::frame(record, &mut state.frames);
        state.records += 1;
        state.handed += 1;
        let position = Position(state.handed);
        drop(state);
        if is_first {
            self.work.notify_one();
        }
        Ok(position)
    }

    pub(super) fn end_of_records(&self) -> Result<Position, Full> {
        let state = self.state.lock();
        let whole = state.gap() == Gap::None && matches!(state.phase, Phase::Open | Phase::Suspended);
        whole.then_some(Position(state.handed)).ok_or(Full)
    }

    pub(super) async fn written(&self, position: Position, durability: Durability) -> Result<(), Unwritten> {
        let mut progress = self.progress.subscribe();
        {
            let mut state = self.state.lock();
            let awaited = &mut state.awaited;
            let before = *awaited;
            match durability {
                Durability::Process => awaited.written = awaited.written.max(position.0),
                Durability::Power => awaited.synced = awaited.synced.max(position.0),
            }
            let more = *awaited != before;
            drop(state);
            if more {
                self.work.notify_one();
            }
        }
        let is_over = |progress: &Progress| {
            progress.disk == Disk::Refuses || progress.reached.has(position, durability)
        };
        match progress.wait_for(is_over).await {
            Ok(progress) if progress.reached.has(position, durability) => Ok(()),
            Ok(_) | Err(_) => Err(Unwritten),
        }
    }

    /// Waits for records; none once the journal is closed and everything was taken. `spare` is a buffer to use again.
    pub(super) fn take(&self, mut spare: Vec<u8>) -> Option<Task> {
        spare.clear();
        let mut state = self.state.lock();
        let is_on = |phase| matches!(phase, Phase::Open | Phase::Suspended);
        while state.frames.is_empty() && !self.must_sync(&state) && is_on(state.phase) {
            state.rests = true;
            self.ended.notify_all();
            self.work.wait(&mut state);
        }
        state.rests = false;
        if self.durability == Durability::Process {
            let nobody_waits = |state: &mut State| {
                let is_awaited = state.awaited.written.max(state.awaited.synced) > self.reached().written;
                state.phase == Phase::Open && !is_awaited && !self.must_sync(state)
            };
            self.work.wait_while_for(&mut state, nobody_waits, GATHER);
        }
        self.next(&mut state, spare)
    }

    /// The records that come within this time; none if none does.
    pub(super) fn take_within(&self, wait: Duration) -> Option<Task> {
        let mut state = self.state.lock();
        if !wait.is_zero() {
            let idle = |state: &mut State| state.frames.is_empty() && !self.must_sync(state);
            self.work.wait_while_for(&mut state, idle, wait);
        }
        self.next(&mut state, Vec::new())
    }

    fn next(&self, state: &mut State, spare: Vec<u8>) -> Option<Task> {
        let must_sync = self.must_sync(state);
        if state.frames.is_empty() && !must_sync {
            return None;
        }
        let durability = if must_sync { Durability::Power } else { self.durability };
        let frames = std::mem::replace(&mut state.frames, spare);
        let records = std::mem::take(&mut state.records);
        Some(Task { frames, records, durability, handed: state.handed })
    }

    fn must_sync(&self, state: &State) -> bool {
        state.awaited.synced > self.reached().synced
    }

    fn reached(&self) -> Reached {
        self.progress.borrow().reached
    }

    /// Whether the file lacks what found no room.
    pub(super) fn gap(&self) -> Gap {
        self.state.lock().gap()
    }

    /// Whether the file may be another's.
    pub(super) fn is_given(&self) -> bool {
        self.state.lock().given
    }

    /// The file was written anew, from what was in memory after so many records had found no room.
    pub(super) fn close_gap(&self, dropped: u64) {
        let mut state = self.state.lock();
        state.made_up = state.made_up.max(dropped);
        state.lacks = false;
    }

    /// Waits before the next attempt, unless the journal is closing.
    pub(super) fn pause(&self) -> Pause {
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            self.work.wait_while_for(&mut state, |state| state.phase == Phase::Open, RETRY);
        }
        if state.phase == Phase::Open { Pause::Over } else { Pause::Closing }
    }

    pub(super) fn count_written(&self, task: &Task) {
        self.state.lock().numbers.written += task.records;
        self.progress.send_modify(|progress| {
            progress.disk = Disk::Takes;
            progress.reached.written = task.handed;
            match task.durability {
                Durability::Process => {}
                Durability::Power => progress.reached.synced = task.handed,
            }
        });
    }

    pub(super) fn count_dropped(&self, records: u64) {
        self.state.lock().numbers.dropped += records;
    }

    pub(super) fn count_failure(&self) {
        self.state.lock().numbers.failures += 1;
        self.progress.send_modify(|progress| progress.disk = Disk::Refuses);
    }

    /// The file could not be written anew. It takes records all the same, so that nobody who waits is sent away.
    pub(super) fn count_old(&self) {
        self.state.lock().numbers.failures += 1;
    }

    pub(super) fn numbers(&self) -> JournalNumbers {
        self.state.lock().numbers
    }

    /// Takes nothing from now on, and waits until the writer has written what there is and leaves the file alone.
    pub(super) fn suspend(&self) -> Result<(), Unwritten> {
        let mut state = self.state.lock();
        if state.phase != Phase::Open || state.gap() != Gap::None {
            return Err(Unwritten);
        }
        (state.phase, state.given) = (Phase::Suspended, true);
        self.work.notify_one();
        let busy = |state: &mut State| !(state.rests && state.frames.is_empty());
        self.ended.wait_while_for(&mut state, busy, PATIENCE);
        // What is refused meanwhile comes later than what was asked for.
        let written = state.rests && state.frames.is_empty() && self.reached().written == state.handed;
        if written {
            return Ok(());
        }
        (state.phase, state.given) = (Phase::Open, false);
        Err(Unwritten)
    }

    /// Notes that a record went elsewhere, which is made up for at the next.
    pub(super) fn miss(&self) {
        self.state.lock().lacks = true;
    }

    /// Takes records again. What was refused meanwhile is made up for at the next.
    pub(super) fn resume(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Suspended {
            (state.phase, state.given) = (Phase::Open, false);
        }
    }

    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Open | Phase::Suspended) {
            state.phase = Phase::Closing;
        }
        drop(state);
        self.work.notify_one();
    }

    /// The writer has ended.
    pub(super) fn end(&self) {
        self.state.lock().phase = Phase::Ended;
        self.ended.notify_all();
        self.progress.send_modify(|progress| progress.disk = Disk::Refuses);
    }

    pub(super) fn join(&self) {
        let mut state = self.state.lock();
        self.ended.wait_while_for(&mut state, |state| state.phase != Phase::Ended, PATIENCE);
    }
}

// === impl State ===

impl State {
    fn gap(&self) -> Gap {
        let dropped = self.numbers.dropped;
        if dropped > self.made_up || self.lacks { Gap::Open(dropped) } else { Gap::None }
    }
}

// === impl Reached ===

impl Reached {
    fn has(self, position: Position, durability: Durability) -> bool {
        position.0
            <= match durability {
                Durability::Process => self.written,
                Durability::Power => self.synced,
            }
    }
}
