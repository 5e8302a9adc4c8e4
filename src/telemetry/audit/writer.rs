//! The thread that writes.

use std::io;
use std::sync::Arc;

use crate::telemetry::audit::line::{DroppedLine, encode};
use crate::telemetry::audit::queue::{FileTask, Pause, Queue, Task};
use crate::telemetry::audit::sink::{Batch, Sink};
use crate::telemetry::metrics::{AuditResult, Metrics};
use crate::time::Clock;

/// Takes lines from the queue and writes them until the queue is closed. Nothing that the file does ends it.
pub(super) struct Writer {
    queue: Arc<Queue>,
    sink: Sink,
    metrics: Metrics,
    clock: Clock,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(queue: Arc<Queue>, sink: Sink, metrics: Metrics, clock: Clock) -> Self {
        Self { queue, sink, metrics, clock }
    }

    pub(super) fn run(mut self) {
        let mut spare = Vec::new();
        while let Some(task) = self.queue.take(spare) {
            let (mut batch, lines, file) = self.batch(task);
            let result = self.write(&mut batch, file);
            self.metrics.audit_lines(result, lines);
            self.queue.settle();
            spare = batch.bytes;
        }
    }

    /// The lines of a task, and after them the sum of those that found no room.
    fn batch(&self, task: Task) -> (Batch, u64, FileTask) {
        let Task { mut bytes, mut lines, dropped, file } = task;
        if !dropped.is_empty() {
            match encode(&DroppedLine::new(self.clock.wall(), &dropped)) {
                Ok(line) => {
                    bytes.extend_from_slice(&line);
                    lines += 1;
                }
                Err(error) => tracing::error!(%error, ?dropped, "the sum of dropped audit lines is lost"),
            }
        }
        (Batch::new(bytes), lines, file)
    }

    /// Writes a batch, as often as it takes; once the audit is closing, one more attempt must do.
    fn write(&mut self, batch: &mut Batch, mut file: FileTask) -> AuditResult {
        let mut failed: Option<io::Error> = None;
        loop {
            let Err(error) = self.sink.write(batch, file) else {
                if failed.is_some() {
                    tracing::warn!("the audit is written to {} again", self.sink.name());
                }
                return AuditResult::Written;
            };
            self.metrics.audit_error();
            // Said once for a whole outage: the metric counts the attempts.
            if failed.is_none() {
                tracing::error!(%error, "the audit cannot be written to {}: lines are kept and tried again", self.sink.name());
            }
            failed = Some(error);
            file = match self.queue.pause() {
                Pause::Over(task) => task,
                Pause::Closing => return self.write_last(batch),
            };
        }
    }

    /// The attempt after which a batch is given up: there may be room since the one before, up to a second ago.
    fn write_last(&mut self, batch: &mut Batch) -> AuditResult {
        let Err(error) = self.sink.write(batch, FileTask::Keep) else { return AuditResult::Written };
        self.metrics.audit_error();
        tracing::error!(%error, "the audit is closed with lines that {} did not take", self.sink.name());
        AuditResult::Dropped
    }
}
