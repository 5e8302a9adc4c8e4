//! The thread that writes.

use std::sync::Arc;

use super::Live;
use super::file::JournalFile;
use super::queue::{Gap, Pause, Queue, Task};

/// Takes records from the queue and writes them until the journal is closed. Nothing that the disk does ends it.
pub(super) struct Writer {
    queue: Arc<Queue>,
    file: JournalFile,
    live: Live,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(queue: Arc<Queue>, file: JournalFile, live: Live) -> Self {
        Self { queue, file, live }
    }

    pub(super) fn run(mut self) {
        let mut spare = Vec::new();
        while let Some(task) = self.queue.take(spare) {
            self.write(&task);
            match self.queue.gap() {
                Gap::Open(dropped) => self.rewrite(dropped),
                Gap::None if self.file.is_long() => self.rewrite(0),
                Gap::None => {}
            }
            spare = task.frames;
        }
        self.queue.end();
    }

    /// Writes a batch, as often as it takes; once the journal is closing, one more attempt must do.
    fn write(&mut self, task: &Task) {
        let (mut failed, mut last) = (None, Pause::Over);
        loop {
            match self.file.append(&task.frames, task.durability) {
                Ok(()) => {
                    if failed.is_some() {
                        tracing::warn!("the state is written to `{}` again", self.file.path().display());
                    }
                    return self.queue.count_written(task);
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

    /// Writes the file anew. So many records had found no room before.
    fn rewrite(&mut self, dropped: u64) {
        match self.file.rewrite(&self.live) {
            Ok(()) => self.queue.close_gap(dropped),
            Err(error) => {
                self.queue.count_failure();
                let file = self.file.path();
                tracing::error!(%error, file = %file.display(), "the state cannot be written anew: the file grows on");
            }
        }
    }
}
