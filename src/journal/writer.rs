//! The thread that writes.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::file::JournalFile;
use super::queue::{Gap, Pause, Queue, Task};
use super::{Durability, Live};

/// Records of a new file between two looks at the queue: they take less than a millisecond.
const PUMP: u32 = 1_000;

/// Between two looks at whether the new file is on the disk.
const LOOK: Duration = Duration::from_millis(20);

/// Batches after which a file that could not be written anew is tried again: a second's worth of those that nobody waits
/// for. A disk that is full stays so for longer, and each attempt costs as much as a whole file.
const REST: u32 = 50;

/// Takes records from the queue and writes them until the journal is closed. Nothing that the disk does ends it.
pub(super) struct Writer {
    queue: Arc<Queue>,
    file: JournalFile,
    live: Live,
    /// Taken from the queue while the file was written anew, and not taken by the disk.
    left: Option<Task>,
    /// Batches to be written before the file may be written anew again.
    rest: u32,
}

/// Writes what comes to the old file while a new one is made.
struct Pump<'w> {
    queue: &'w Queue,
    left: &'w mut Option<Task>,
    /// What the records survive that came since the new file was last on its way to the disk.
    owes: Durability,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(queue: Arc<Queue>, file: JournalFile, live: Live) -> Self {
        Self { queue, file, live, left: None, rest: 0 }
    }

    pub(super) fn run(mut self) {
        let mut spare = Vec::new();
        while let Some(task) = self.left.take().or_else(|| self.queue.take(std::mem::take(&mut spare))) {
            self.write(&task);
            self.rest = self.rest.saturating_sub(1);
            match self.queue.gap() {
                _ if self.rest > 0 || self.queue.is_given() => {}
                Gap::Open(dropped) => self.rewrite(dropped),
                Gap::None if self.file.is_long() => self.rewrite(0),
                Gap::None => {}
            }
            spare = task.frames;
        }
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
        match self.try_rewrite(File::sync_all) {
            Ok(()) => self.queue.close_gap(dropped),
            Err(error) => {
                self.queue.count_old();
                self.rest = REST;
                let file = self.file.path();
                tracing::error!(%error, file = %file.display(), "the state cannot be written anew: the file grows on");
                if let Err(error) = self.file.discard_new() {
                    tracing::error!(%error, file = %file.display(), "what was written anew cannot be taken away");
                }
            }
        }
    }

    /// However long that takes: records that come meanwhile go into the old file as always, and from there into the new
    /// one at its end. None is kept in memory for it. `sync` is how a file gets to the disk, which may hang.
    pub(super) fn try_rewrite(&mut self, sync: impl Fn(&File) -> io::Result<()> + Sync) -> io::Result<()> {
        let Self { queue, file, live, left, rest: _ } = self;
        let (mut new, mut copied) = (file.begin_anew()?, file.length());
        let mut pump = Pump { queue, left, owes: Durability::Process };
        let (mut written, mut count) = (Ok(()), 0_u32);
        live(&mut |record| {
            count = count.wrapping_add(1);
            if written.is_ok() {
                written = new.put(record);
            }
            if written.is_ok() && count.is_multiple_of(PUMP) {
                written = pump.within(Duration::ZERO, file);
            }
        });
        written?;
        // Once what was in memory, which takes long, and then what came meanwhile. What comes during that is little.
        for _ in 0..2 {
            pump.owes = Durability::Process;
            let to_sync = new.flushed()?;
            thread::scope(|scope| {
                let syncing = thread::Builder::new().spawn_scoped(scope, || sync(to_sync))?;
                while !syncing.is_finished() {
                    pump.within(LOOK, file)?;
                }
                syncing.join().unwrap_or_else(|_| Err(io::Error::other("the sync panicked")))
            })?;
            copied = new.append_from(file, copied)?;
        }
        let last = new.flushed()?;
        match pump.owes {
            Durability::Process => {}
            // As when such a record is appended.
            Durability::Power => sync(last)?,
        }
        file.replace_by(new)
    }
}

// === impl Pump ===

impl Pump<'_> {
    /// Writes the records that come within this time.
    fn within(&mut self, wait: Duration, to: &mut JournalFile) -> io::Result<()> {
        let Some(task) = self.queue.take_within(wait) else { return Ok(()) };
        if let Err(error) = to.append(&task.frames, task.durability) {
            *self.left = Some(task);
            return Err(error);
        }
        self.queue.count_written(&task);
        match task.durability {
            Durability::Process => {}
            Durability::Power => self.owes = Durability::Power,
        }
        Ok(())
    }
}

impl Drop for Writer {
    /// However the thread ends, a fault included: who waits for a record must not wait for ever, and none is taken that
    /// nobody writes.
    fn drop(&mut self) {
        self.queue.end();
    }
}
