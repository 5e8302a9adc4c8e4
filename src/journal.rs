//! Memory that outlives the process: files of records, appended to, each record with its length and checksum.
//!
//! A journal knows nothing of what its records say. Its owner reads them back at the start, keeps what they say in
//! memory, and hands in a record for each change; a thread of the journal's own writes them, so that no request waits
//! for a disk. When a file has grown to twice what it needs, it is written anew from the owner's memory beside the old
//! one and takes its name in one step.
//!
//! - **What a crash takes.** A record that was handed in is in the file once the writer has had its turn: a killed
//!   process loses what it held in memory, the last 20 ms as long as the disk keeps up. [`Durability`] says whether a
//!   power cut takes more. Who must not lose a record [waits](Journal::written) for it.
//! - **What a damaged file takes.** Records are read back up to the first that is cut off or whose checksum is wrong,
//!   and everything from there on is given up, with a line in the log and a number that shows it.
//! - **What a full disk takes.** Nothing, as long as the queue has room: the writer tries again each second. Records
//!   that find no room are counted, and made up for by writing the file anew when the disk takes it.
//! - **Passing on.** A journal can be [suspended](Journal::suspend), read back by another process and given over to it; what
//!   its owner still has to say then goes to that process ([`Outlet`]).
//! - **Twice.** While a file is written anew, a record may get into it from the memory and again from the queue. The
//!   owner's records must bear that: reading one twice, in the order in which they were handed in, must change nothing.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod file;
mod outlet;
mod queue;
mod writer;

pub use outlet::{Bequest, Heir, Outlet};
pub use queue::{Full, Position, Unwritten};

use file::JournalFile;
use queue::Queue;
use writer::Writer;

/// A folder that this process alone writes to, for as long as this lives.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    /// Locked; the system lets go of it when the last process ends that has it, however it does.
    lock: File,
}

/// A journal whose records have been read back and which takes none yet.
#[derive(Debug)]
pub struct Replayed {
    file: JournalFile,
    /// Records that were read.
    pub records: u64,
    /// Bytes at the file's end that were given up, since they were cut off or damaged.
    pub lost_bytes: u64,
}

/// A journal that takes records. Dropped, it writes what it holds and ends.
#[derive(Debug)]
pub struct Journal {
    queue: Arc<Queue>,
    name: &'static str,
    lost_bytes: u64,
}

/// What a record survives once it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, however sudden: it is with the system. Records that nobody waits for are gathered for
    /// 20 ms first.
    Process,
    /// A power cut too: each batch of records is synced to the disk, which takes milliseconds.
    Power,
}

/// Writes every record that is still needed, in the order in which they are to be read back. It is called on the
/// journal's own thread, and must not wait for whoever hands in records.
pub type Live = Box<dyn Fn(&mut dyn FnMut(&[u8])) + Send>;

/// How a journal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JournalNumbers {
    /// Records that were written since the process started.
    pub written: u64,
    /// Records that found no room in the queue.
    pub dropped: u64,
    /// Attempts to write that failed.
    pub failures: u64,
    /// Bytes at the file's end that were given up at the start.
    pub lost_bytes: u64,
}

/// A folder or a file in it can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The folder can't be made, or its lock can't be opened.
    #[error("the state folder `{path}` cannot be used: {error}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another process has it.
    #[error("the state folder `{0}` is in use by another process")]
    InUse(PathBuf),
    /// A file in it can't be read or written.
    #[error("the state file `{path}` cannot be used: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A lock that came from another process is not that of this folder.
    #[error("the state folder `{0}` is not the one that the running process has")]
    Other(PathBuf),
    /// A file in it begins otherwise than a journal does.
    #[error("the state file `{0}` is not a journal of this version: move it away to begin with an empty one")]
    NotAJournal(PathBuf),
    /// The system gives no thread.
    #[error("the thread of a state file cannot be started: {0}")]
    Thread(io::Error),
}

/// For the owner alone: the records name devices and callers.
const FOLDER_MODE: u32 = 0o700;

/// The same for the files.
const FILE_MODE: u32 = 0o600;

// === impl StateFolder ===

impl StateFolder {
    /// The file whose lock says that the folder is in use. It stays empty.
    const LOCK: &str = "lock";

    /// Takes the folder, and makes it if there is none.
    ///
    /// # Errors
    /// If it can't be made or another process has it.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let failed = |error| JournalError::Folder { path: path.to_owned(), error };
        fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(FILE_MODE);
        let lock = options.open(path.join(Self::LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), lock }),
            Err(fs::TryLockError::WouldBlock) => Err(JournalError::InUse(path.to_owned())),
            Err(fs::TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// The folder of another process, with the lock that it passed on: both have it then, until one lets go.
    ///
    /// # Errors
    /// If the lock is another folder's.
    pub fn received(path: &Path, lock: OwnedFd) -> Result<Self, JournalError> {
        let lock = File::from(lock);
        let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let failed = |error| JournalError::Folder { path: path.to_owned(), error };
        let own = fs::metadata(path.join(Self::LOCK)).map(id);
        if own.is_ok_and(|own| lock.metadata().is_ok_and(|held| id(held) == own)) {
            // It is held already, and only a mistake could have lost it.
            lock.try_lock().map_err(|error| failed(error.into()))?;
            return Ok(Self { path: path.to_owned(), lock });
        }
        Err(JournalError::Other(path.to_owned()))
    }

    /// The folder's lock, to be passed on.
    pub fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a journal of this name that holds what `live` writes, in the place of any that is there.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(
        &self,
        name: &'static str,
        live: impl FnOnce(&mut dyn FnMut(&[u8])),
    ) -> Result<(), JournalError> {
        JournalFile::write(&self.path, name, live)
    }

    /// Reads the journal of this name back: `read` gets each record, in the order in which they were handed in. There
    /// is an empty one from then on if there was none.
    ///
    /// # Errors
    /// If the file can't be read, or is another's.
    pub fn replay(&self, name: &'static str, read: impl FnMut(&[u8])) -> Result<Replayed, JournalError> {
        JournalFile::open(&self.path, name, read)
    }
}

// === impl Replayed ===

impl Replayed {
    /// Begins to take records. At most `capacity` bytes of them wait to be written, with eight more for each.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(self, durability: Durability, capacity: usize, live: Live) -> Result<Journal, JournalError> {
        let Self { file, lost_bytes, .. } = self;
        let (name, queue) = (file.name(), Arc::new(Queue::new(capacity, durability)));
        let writer = Writer::new(queue.clone(), file, live);
        std::thread::Builder::new()
            .name(format!("state {name}"))
            .spawn(move || writer.run())
            .map_err(JournalError::Thread)?;
        Ok(Journal { queue, name, lost_bytes })
    }
}

// === impl Journal ===

impl Journal {
    /// The largest record, in bytes: what is longer is damage, to whoever reads it back.
    pub const MAX_RECORD: usize = 64 * 1024;

    /// Hands a record in: at least one byte, at most [`MAX_RECORD`](Self::MAX_RECORD). It never waits for the disk. The
    /// answer is where it stands.
    ///
    /// # Errors
    /// There is no room, or the journal is closed, or the record is of no such length. It is counted, and what the
    /// owner has in memory is written anew later.
    pub fn append(&self, record: &[u8]) -> Result<Position, Full> {
        self.queue.push(record)
    }

    /// Behind the last record that was handed in.
    ///
    /// # Errors
    /// One of those that were handed in is not there, since it found no room, or the journal is closed.
    pub fn end(&self) -> Result<Position, Full> {
        self.queue.end_of_records()
    }

    /// Waits until every record before this position is written, without blocking the thread: less than a millisecond
    /// for [`Durability::Process`], and as long as the disk takes to sync, some milliseconds, for [`Durability::Power`].
    ///
    /// # Errors
    /// The disk does not take them. They stay in memory, and may still be written later.
    pub async fn written(&self, position: Position, durability: Durability) -> Result<(), Unwritten> {
        self.queue.written(position, durability).await
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Takes nothing from now on, and writes what was handed in; then it leaves the file alone, so that another process
    /// can have it. Dropped or closed in that state, it writes nothing more. It blocks the thread, for 5 s at most.
    ///
    /// # Errors
    /// The disk does not take all of it: then it goes on as before.
    pub fn suspend(&self) -> Result<(), Unwritten> {
        self.queue.suspend()
    }

    /// Goes on after [`suspend`](Self::suspend). Nobody else may have written to the file. What was refused meanwhile is made
    /// up for from the owner's memory at the next record.
    pub fn resume(&self) {
        self.queue.resume();
    }

    /// Says that records of the owner went elsewhere. They are made up for from its memory at the next record.
    fn miss(&self) {
        self.queue.miss();
    }

    /// How it stands.
    pub fn numbers(&self) -> JournalNumbers {
        JournalNumbers { lost_bytes: self.lost_bytes, ..self.queue.numbers() }
    }

    /// Writes what was handed in, and takes nothing more. It blocks the thread, for 5 s at most.
    pub fn close(&self) {
        self.queue.close();
        self.queue.join();
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.queue.close();
    }
}

#[cfg(test)]
mod tests;
