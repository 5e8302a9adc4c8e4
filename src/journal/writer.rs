//! The thread that writes.

use std::sync::Arc;

use super::file::JournalFile;
use super::queue::{Gap, Pause, Queue, Task};
use super::{Durability, Live};

/// Takes records from the queue and writes them until the journal is closed. Nothing that the disk does ends it.
pub(super) struct Writer {
    queue: Arc<Queue>,
    file: JournalFile,
    durability: Durability,
    live: Live,
    /// Whether records are missing from the file that the owner still has in memory.
    gap: Gap,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(queue: Arc<Queue>, file: JournalFile, durability: Durability, live: Live) -> Self {
        Self { queue, file, durability, live, gap: Gap::None }
    }

    pub(super) fn run(mut self) {
        let mut spare = Vec::new();
        while let Some(task) = self.queue.take(spare) {
            if task.gap == Gap::Open {
                self.gap = Gap::Open;
            }
            self.write(&task);
            if self.gap == Gap::Open || self.file.is_long() {
                self.rewrite();
            }
            spare = task.frames;
        }
        self.queue.end();
    }

    /// Writes a batch, as often as it takes; once the journal is closing, one more attempt must do.
    fn write(&mut self, task: &Task) {
        let (mut failed, mut last) = (None, Pause::Over);
        loop {
            match self.file.append(&task.frames, self.durability) {
                Ok(()) => {
                    if failed.is_some() {
                        tracing::warn!("the state is written to `{}` again", self.file.path().display());
                    }
                    return self.queue.count_written(task.records);
                }
                Err(error) => {
                    self.queue.count_failure();
                    // Said once for a whole outage: the metric counts the attempts.
                    if failed.is_none() {
                        let file = self.file.path();
                        tracing::error!(%error, file = %file.display(), "the state cannot be written: it is kept and tried again");
                    }
                    failed = Some(error);
                }
            }
            if last == Pause::Closing {
                tracing::error!(
                    records = task.records,
                    "the state is closed with records that the disk did not take"
                );
                return self.queue.count_dropped(task.records);
            }
            last = self.queue.pause();
        }
    }

    fn rewrite(&mut self) {
        match self.file.rewrite(&self.live) {
            Ok(()) => self.gap = Gap::None,
            Err(error) => {
                self.queue.count_failure();
                let file = self.file.path();
                tracing::error!(%error, file = %file.display(), "the state cannot be written anew: the file grows on");
            }
        }
    }
}
