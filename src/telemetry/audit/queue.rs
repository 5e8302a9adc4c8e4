//! The lines in memory, between the threads that make them and the one that writes them.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::telemetry::audit::AuditFull;

/// How long the writer lets lines gather after the first, so that a busy gateway pays one wake-up and one write for
/// all of them. A quarter of a full queue ends it early.
const LINGER: Duration = Duration::from_millis(5);

/// How long the writer waits after a failed write. A disk that is full stays so for longer; a reopening ends it early.
const RETRY: Duration = Duration::from_secs(1);

/// How long flushing and closing wait for the writer: a pipe that nobody reads must not keep a process from ending.
const PATIENCE: Duration = Duration::from_secs(5);

/// Two bounded buffers of whole lines: one for admitted calls, one for refused ones.
///
/// One lock guards both, held for a copy of one line (about 1 KB) or of the refused lines to the admitted ones. The
/// writer holds what it took until it is written, at most as much again as the queue: six times the capacity of text.
pub(super) struct Queue {
    /// In bytes, for the lines of admitted calls before they are forwarded, and again for those of refused calls.
    /// Lines at the end of admitted calls may fill as much again, so that a full queue stops new calls before it
    /// costs the ends of those that were forwarded.
    capacity: usize,
    state: Mutex<State>,
    /// The writer waits on it: there are lines, or something else to do.
    work: Condvar,
    /// Whoever flushes waits on it: lines were written, or could not be.
    settled: Condvar,
}

#[derive(Default)]
struct State {
    admitted: Vec<u8>,
    refused: Vec<u8>,
    /// Lines that found no room, since they were last summed.
    dropped: BTreeMap<&'static str, u64>,
    /// Lines ever queued.
    queued: u64,
    /// Lines among them that the writer took.
    taken: u64,
    /// Lines among them that the writer is done with.
    settled: u64,
    /// Attempts to write that failed.
    failures: u64,
    wish: Wish,
    phase: Phase,
}

/// What the writer should do beside writing when lines have gathered.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Wish {
    #[default]
    Nothing,
    /// Write now.
    Flush,
    /// Open the file anew, and write now.
    Reopen,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Lines are taken.
    #[default]
    Open,
    /// No line is taken any more; the writer writes what there is.
    Closing,
    /// The writer has ended.
    Ended,
}

/// Which bound holds for a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// A call that is about to be forwarded.
    Admitted,
    /// A call that was forwarded, or another rare line that strangers cannot cause.
    Ended,
    /// A refused call.
    Refused,
}

/// What the writer is to do next.
#[derive(Default)]
pub(super) struct Task {
    /// Whole lines, those of admitted calls first.
    pub(super) bytes: Vec<u8>,
    /// How many lines these are.
    pub(super) lines: u64,
    /// Lines that found no room since the last task.
    pub(super) dropped: BTreeMap<&'static str, u64>,
    /// What to do with the file before.
    pub(super) file: FileTask,
}

/// What to do with the file before a write.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FileTask {
    /// Open it anew only if its path names another file.
    #[default]
    Keep,
    /// Open it anew.
    Reopen,
}

/// How the wait after a failed write ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pause {
    /// Try again.
    Over(FileTask),
    /// The audit is closing: there is one more attempt at most.
    Closing,
}

// === impl Queue ===

impl Queue {
    /// 4 MiB, about 6,000 lines of 700 bytes: at 20,000 admitted calls a second, two lines each, the disk may stall
    /// for 0.15 s before calls are refused.
    pub(super) const CAPACITY: usize = 4 << 20;

    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::default(), work: Condvar::new(), settled: Condvar::new() }
    }

    /// Queues a line that ends in a line feed, if there is room.
    pub(super) fn push(&self, room: Room, line: &[u8]) -> Result<(), AuditFull> {
        let mut state = self.state.lock();
        let before = state.len();
        if state.phase != Phase::Open {
            return Err(AuditFull);
        }
        let (buffer, capacity) = match room {
            Room::Admitted => (&mut state.admitted, self.capacity),
            Room::Ended => (&mut state.admitted, self.capacity.saturating_mul(2)),
            Room::Refused => (&mut state.refused, self.capacity),
        };
        if buffer.len().saturating_add(line.len()) > capacity {
            return Err(AuditFull);
        }
        buffer.extend_from_slice(line);
        state.queued += 1;
        let (after, early) = (state.len(), self.capacity / 4);
        drop(state);
        // The first line wakes the writer, and the one that fills a quarter ends its waiting for more; all the others
        // cost no system call.
        if before == 0 || (before < early && after >= early) {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Adds one to the sum of dropped lines of this word, unless the sum would find no writer any more.
    pub(super) fn count_dropped(&self, word: &'static str) {
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            *state.dropped.entry(word).or_default() += 1;
        }
    }

    /// Waits for work and takes all there is; `None` once the queue is shut and empty.
    pub(super) fn take(&self, mut spare: Vec<u8>) -> Option<Task> {
        let mut state = self.state.lock();
        while state.len() == 0 && state.wish != Wish::Reopen && state.phase == Phase::Open {
            // Whoever flushes an empty queue waits for nothing.
            state.wish = Wish::Nothing;
            self.work.wait(&mut state);
        }
        if state.wish == Wish::Nothing && state.len() < self.capacity / 4 && state.phase == Phase::Open {
            self.work.wait_for(&mut state, LINGER);
        }
        if state.len() == 0 && state.dropped.is_empty() && state.wish != Wish::Reopen {
            // Nothing to do, so it is the closing that ended the wait.
            state.phase = Phase::Ended;
            self.settled.notify_all();
            return None;
        }
        spare.clear();
        let bytes = std::mem::replace(&mut state.admitted, spare);
        let mut task = Task {
            bytes,
            lines: state.queued - state.taken,
            dropped: std::mem::take(&mut state.dropped),
            file: state.wish.into(),
        };
        task.bytes.append(&mut state.refused);
        state.taken = state.queued;
        state.wish = Wish::Nothing;
        Some(task)
    }

    /// Notes that what was taken is written, or given up.
    pub(super) fn settle(&self) {
        let mut state = self.state.lock();
        state.settled = state.taken;
        self.settled.notify_all();
    }

    /// Notes that what was taken could not be written, and waits before the next attempt.
    pub(super) fn pause(&self) -> Pause {
        let mut state = self.state.lock();
        state.failures += 1;
        self.settled.notify_all();
        if state.wish == Wish::Nothing && state.phase == Phase::Open {
            self.work.wait_for(&mut state, RETRY);
        }
        if state.phase != Phase::Open {
            return Pause::Closing;
        }
        Pause::Over(std::mem::take(&mut state.wish).into())
    }

    pub(super) fn reopen(&self) {
        self.state.lock().wish = Wish::Reopen;
        self.work.notify_one();
    }

    pub(super) fn flush(&self) {
        let mut state = self.state.lock();
        let (queued, failures) = (state.queued, state.failures);
        if state.wish == Wish::Nothing {
            state.wish = Wish::Flush;
        }
        self.work.notify_one();
        let waiting = |state: &mut State| state.settled < queued && state.failures == failures;
        self.settled.wait_while_for(&mut state, waiting, PATIENCE);
    }

    /// Takes no more lines; the writer ends when it has written those that there are.
    pub(super) fn shut(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
            self.work.notify_one();
        }
    }

    /// Waits until the writer has ended.
    pub(super) fn join(&self) {
        let mut state = self.state.lock();
        self.settled.wait_while_for(&mut state, |state| state.phase != Phase::Ended, PATIENCE);
    }
}

impl From<Wish> for FileTask {
    fn from(wish: Wish) -> Self {
        match wish {
            Wish::Nothing | Wish::Flush => Self::Keep,
            Wish::Reopen => Self::Reopen,
        }
    }
}

// === impl State ===

impl State {
    fn len(&self) -> usize {
        self.admitted.len() + self.refused.len()
    }
}
