//! The records in memory, between the threads that hand them in and the one that writes them.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{Journal, JournalNumbers, file};

/// How long the writer waits after a failed write: a disk that is full stays so for longer.
const RETRY: Duration = Duration::from_secs(1);

/// How long closing waits for the writer: a disk that hangs must not keep a process from ending.
const PATIENCE: Duration = Duration::from_secs(5);

/// A bounded buffer of whole frames.
///
/// One lock guards it, held for a checksum and a copy of one record. The writer holds what it took until it is written:
/// twice the capacity in all.
#[derive(Debug)]
pub(super) struct Queue {
    /// In bytes.
    capacity: usize,
    state: Mutex<State>,
    /// The writer waits on it: there are records, or it is to end.
    work: Condvar,
    /// Whoever closes waits on it: the writer has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    frames: Vec<u8>,
    records: u64,
    gap: Gap,
    phase: Phase,
    numbers: JournalNumbers,
}

/// Whether everything that was handed in is in the file or on its way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    #[default]
    None,
    /// Records found no room: the file must be written anew.
    Open,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// Nothing is taken any more; the writer writes what there is.
    Closing,
    /// The writer has ended.
    Ended,
}

/// What the writer is to write next.
#[derive(Debug, Default)]
pub(super) struct Task {
    pub(super) frames: Vec<u8>,
    pub(super) records: u64,
    pub(super) gap: Gap,
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

// === impl Queue ===

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::default(), work: Condvar::new(), ended: Condvar::new() }
    }

    pub(super) fn push(&self, record: &[u8]) -> Result<(), Full> {
        let mut state = self.state.lock();
        let fits = (1..=Journal::MAX_RECORD).contains(&record.len())
            && record.len() <= self.capacity.saturating_sub(state.frames.len());
        if !fits || state.phase != Phase::Open {
            state.numbers.dropped += 1;
            state.gap = Gap::Open;
            return Err(Full);
        }
        file::frame(record, &mut state.frames);
        state.records += 1;
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Waits for records; none once the journal is closed and everything was taken. `spare` is a buffer to use again.
    pub(super) fn take(&self, mut spare: Vec<u8>) -> Option<Task> {
        spare.clear();
        let mut state = self.state.lock();
        while state.frames.is_empty() && state.phase == Phase::Open {
            self.work.wait(&mut state);
        }
        if state.frames.is_empty() {
            return None;
        }
        let frames = std::mem::replace(&mut state.frames, spare);
        let (records, gap) = (std::mem::take(&mut state.records), std::mem::take(&mut state.gap));
        Some(Task { frames, records, gap })
    }

    /// Waits before the next attempt, unless the journal is closing.
    pub(super) fn pause(&self) -> Pause {
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            self.work.wait_while_for(&mut state, |state| state.phase == Phase::Open, RETRY);
        }
        if state.phase == Phase::Open { Pause::Over } else { Pause::Closing }
    }

    pub(super) fn count_written(&self, records: u64) {
        self.state.lock().numbers.written += records;
    }

    pub(super) fn count_dropped(&self, records: u64) {
        self.state.lock().numbers.dropped += records;
    }

    pub(super) fn count_failure(&self) {
        self.state.lock().numbers.failures += 1;
    }

    pub(super) fn numbers(&self) -> JournalNumbers {
        self.state.lock().numbers
    }

    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
        }
        drop(state);
        self.work.notify_one();
    }

    /// The writer has ended.
    pub(super) fn end(&self) {
        self.state.lock().phase = Phase::Ended;
        self.ended.notify_all();
    }

    pub(super) fn join(&self) {
        let mut state = self.state.lock();
        self.ended.wait_while_for(&mut state, |state| state.phase != Phase::Ended, PATIENCE);
    }
}
