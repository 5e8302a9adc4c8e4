//! The audit: one JSON line for each call before it is forwarded, one when it ends, one for each refusal and each
//! reload.
//!
//! The caller's thread writes the line into a buffer in memory; a thread of its own hands whole buffers to the file.
//! A line is made where the outcome is and not on the writer's thread: the queue is then bounded in bytes, exactly,
//! and no reference count of an outcome bounces between cores.
//!
//! - A line counts as kept once it is queued. What a killed process loses is what it held in memory: the lines of
//!   about the last 5 ms, or those that a failing disk has held up.
//! - When the file cannot be written, lines stay queued and are tried again. The lines of admitted calls have a queue
//!   of their own that strangers cannot fill: once it is full, [`Audit::admitted`] fails and the call must not be
//!   forwarded. Lines of refused calls that find no room are dropped, counted, and later summed by reason in one line.
//! - The file is created 0600 (one that exists keeps its mode), appended to, and opened anew when its path names
//!   another file or none, and on [`Audit::reopen`].

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::id::LimitName;
use crate::outcome::{Decision, Outcome, ReasonCode};
use crate::source::Problem;
use crate::telemetry::metrics::{AuditResult, Metrics};
use crate::time::{Clock, Wall};

mod line;
mod queue;
mod sink;
mod writer;

use line::{Event, PolicyLine};
use queue::{Queue, Room};
use sink::Sink;
use writer::Writer;

/// Where the lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    /// To the process's standard output, written `-`.
    Stdout,
    /// To the end of a file.
    File(PathBuf),
}

/// What becomes of a call whose line cannot be queued: the flag `--audit-full`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuditFullMode {
    /// It is refused with `audit_unavailable`: no call without its line.
    #[default]
    Refuse,
    /// It is forwarded all the same, and its line is counted as dropped.
    Drop,
}

/// The line of a call that is about to be forwarded cannot be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit has no room for the line that must be written first")]
pub struct AuditFull;

/// The audit cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be opened.
    #[error("the audit file `{path}` cannot be opened: {error}")]
    Open {
        /// As it was given.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Standard output cannot be used.
    #[error("the audit cannot write to standard output: {0}")]
    Stdout(io::Error),
    /// The system gives no thread.
    #[error("the audit's thread cannot be started: {0}")]
    Thread(io::Error),
}

/// What came of a load or reload of the policy.
#[derive(Debug, Clone, Copy)]
pub enum PolicyEvent<'a> {
    /// This version is in force from now on.
    Loaded {
        /// The new version.
        version: &'a str,
        /// The limits that grew, so that their windows lack times that they had no use for before, and how long that
        /// takes to heal.
        lacking: &'a BTreeMap<LimitName, Duration>,
    },
    /// The set on disk was wrong, and the version before stays in force.
    Failed {
        /// The version that stays.
        version: &'a str,
        /// Every mistake, with its place.
        problems: &'a [Problem],
    },
    /// A limit of the version that is now in force, or a part of one, has an end.
    Until {
        /// The version.
        version: &'a str,
        /// The limit, or the part and the limit.
        what: &'a str,
        /// When it lapses.
        until: Wall,
    },
    /// It has lapsed.
    Lapsed {
        /// The version.
        version: &'a str,
        /// The limit, or the part and the limit.
        what: &'a str,
        /// When it did.
        until: Wall,
    },
}

/// The audit's handle. Cheap to clone; all clones write to the same file.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    queue: Arc<Queue>,
    mode: AuditFullMode,
    metrics: Metrics,
    clock: Clock,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").field("mode", &self.0.mode).finish_non_exhaustive()
    }
}

// === impl AuditTarget ===

impl FromStr for AuditTarget {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "-" { Self::Stdout } else { Self::File(text.into()) })
    }
}

// === impl Audit ===

impl Audit {
    /// Opens the target and starts the thread that writes to it.
    pub fn start(
        target: AuditTarget,
        mode: AuditFullMode,
        metrics: Metrics,
        clock: Clock,
    ) -> Result<Self, AuditError> {
        Self::start_with(Queue::new(Queue::CAPACITY), target, mode, metrics, clock)
    }

    fn start_with(
        queue: Queue,
        target: AuditTarget,
        mode: AuditFullMode,
        metrics: Metrics,
        clock: Clock,
    ) -> Result<Self, AuditError> {
        let sink = match target {
            AuditTarget::Stdout => Sink::stdout().map_err(AuditError::Stdout)?,
            AuditTarget::File(path) => {
                Sink::file(path.clone()).map_err(|error| AuditError::Open { path, error })?
            }
        };
        let queue = Arc::new(queue);
        let writer = Writer::new(queue.clone(), sink, metrics.clone(), clock.clone());
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())
            .map_err(AuditError::Thread)?;
        Ok(Self(Arc::new(Inner { queue, mode, metrics, clock })))
    }

    /// Queues the line of a call that was admitted, before it is forwarded. What `outcome` says of the upstream and
    /// of the total is left out: it has not happened.
    ///
    /// # Errors
    /// There is no room, or the audit is closed: the call must be refused with
    /// [`ReasonCode::AuditUnavailable`]. Under [`AuditFullMode::Drop`] this never fails.
    pub fn admitted(&self, outcome: &Outcome) -> Result<(), AuditFull> {
        match (
            self.push(Room::Admitted, "admitted", Ok(line::request(Event::Admitted, outcome))),
            self.0.mode,
        ) {
            (Ok(()), _) | (Err(AuditFull), AuditFullMode::Drop) => Ok(()),
            (Err(AuditFull), AuditFullMode::Refuse) => Err(AuditFull),
        }
    }

    /// Queues the line of a request at its end: `ended` if it was admitted, `refused` if not. Without room it is
    /// dropped, counted, and summed in a later line.
    pub fn finished(&self, outcome: &Outcome) {
        let (room, word, event) = match outcome.decision {
            Decision::Admitted => (Room::Ended, "ended", Event::Ended),
            Decision::Refused => {
                (Room::Refused, outcome.reason.map_or("none", ReasonCode::as_str), Event::Refused)
            }
        };
        // A dropped line was counted by `push`; nobody waits for this one.
        let _ = self.push(room, word, Ok(line::request(event, outcome)));
    }

    /// Queues the line of a load or reload of the policy.
    pub fn policy(&self, event: &PolicyEvent<'_>) {
        // A dropped line was counted by `push`; the reload has its own counter and log line.
        let _ = self.push(Room::Ended, "policy", line::encode(&PolicyLine::new(self.0.clock.wall(), event)));
    }

    /// Opens the file anew, also if its path still names the same one.
    pub fn reopen(&self) {
        self.0.queue.reopen();
    }

    /// Waits until every line queued so far is in the file, or an attempt to write it has failed, or 5 s have passed.
    /// It blocks the thread.
    pub fn flush(&self) {
        self.0.queue.flush();
    }

    /// Writes what is queued and ends the writer; what cannot be written now is dropped and counted.
    /// From now on there is room for nothing. It blocks the thread, for 5 s at most.
    pub fn close(&self) {
        self.0.queue.shut();
        self.0.queue.join();
    }

    /// Queues a line, or counts it as dropped under `word`.
    fn push(
        &self,
        room: Room,
        word: &'static str,
        line: serde_json::Result<Vec<u8>>,
    ) -> Result<(), AuditFull> {
        let pushed = line.map_err(|_| AuditFull).and_then(|line| self.0.queue.push(room, &line));
        if pushed.is_err() {
            self.0.queue.count_dropped(word);
            self.0.metrics.audit_lines(AuditResult::Dropped, 1);
        }
        pushed
    }
}

// === impl Inner ===

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.shut();
    }
}

#[cfg(test)]
mod tests;
