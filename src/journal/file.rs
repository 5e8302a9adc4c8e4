//! The file: a line that says what it is, then frames. A frame is the record's length and a checksum of length and
//! record (CRC-32, both 32 bits, little-endian), then the record. No frame is empty, so that a file that a power cut
//! left filled up with zeros ends where they begin.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Durability, FILE_MODE, Journal, JournalError, Replayed};

/// An open journal.
#[derive(Debug)]
pub(super) struct JournalFile {
    name: &'static str,
    folder: PathBuf,
    file: File,
    /// Up to where it holds whole frames, in bytes. What lies behind is written over.
    length: u64,
    /// How long it was when it held nothing that is not needed.
    needed: u64,
}

/// A file that is to take an open journal's place.
#[derive(Debug)]
pub(super) struct NewFile {
    path: PathBuf,
    to: BufWriter<File>,
    /// In bytes.
    length: u64,
    /// Of them, what its owner still needs.
    needed: u64,
    buffer: Vec<u8>,
}

/// The first line of each.
const MAGIC: &[u8] = b"tollgate journal 1\n";

/// Length and checksum, in bytes.
const HEAD: usize = 8;

/// A file shorter than this is not written anew: reading it back takes a few milliseconds.
const SHORT: u64 = 1 << 20;

/// Bytes of an old file that are copied to a new one at once.
const COPY: u64 = 1 << 16;

/// Puts a frame at the end of a buffer; `record` is at least one byte and at most [`Journal::MAX_RECORD`].
pub(super) fn frame(record: &[u8], into: &mut Vec<u8>) {
    let length = (record.len() as u32).to_le_bytes();
    into.extend_from_slice(&length);
    into.extend_from_slice(&checksum(length, record).to_le_bytes());
    into.extend_from_slice(record);
}

fn checksum(length: [u8; 4], record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(record);
    hasher.finalize()
}

/// Reads the next frame's record; none at the end, and where a frame is cut off or damaged.
fn next(from: &mut impl Read, record: &mut Vec<u8>) -> io::Result<Option<u64>> {
    let mut head = [0; HEAD];
    if fill(from, &mut head)? < HEAD {
        return Ok(None);
    }
    let [a, b, c, d, sum @ ..] = head;
    let length = [a, b, c, d];
    let bytes = u32::from_le_bytes(length) as usize;
    if bytes == 0 || bytes > Journal::MAX_RECORD {
        return Ok(None);
    }
    record.resize(bytes, 0);
    let whole = fill(from, record)? == bytes && checksum(length, record) == u32::from_le_bytes(sum);
    Ok(whole.then_some((HEAD + bytes) as u64))
}

/// Reads until the buffer is full or there is no more.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

// === impl JournalFile ===

impl JournalFile {
    pub(super) fn open(
        folder: &Path,
        name: &'static str,
        mut read: impl FnMut(&[u8]),
    ) -> Result<Replayed, JournalError> {
        let path = path(folder, name);
        let failed = |error| JournalError::File { path: path.clone(), error };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let file = options.open(&path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?.len();

        let mut from = BufReader::with_capacity(1 << 16, &file);
        let mut magic = vec![0; MAGIC.len()];
        let begins = fill(&mut from, &mut magic).map_err(failed)?;
        let mut length = MAGIC.len() as u64;
        let mut records = 0;
        if begins < MAGIC.len() {
            // New, or its first write was cut off.
            if !MAGIC.starts_with(magic.get(..begins).unwrap_or_default()) {
                return Err(JournalError::NotAJournal(path));
            }
            file.write_all_at(MAGIC, 0).map_err(failed)?;
        } else if magic != MAGIC {
            return Err(JournalError::NotAJournal(path));
        }
        let mut record = Vec::new();
        while let Some(bytes) = next(&mut from, &mut record).map_err(failed)? {
            read(&record);
            length += bytes;
            records += 1;
        }
        let lost_bytes = found.saturating_sub(length);
        if lost_bytes > 0 {
            tracing::error!(
                file = %path.display(), kept = records, lost_bytes,
                "the end of a state file is cut off or damaged, and is given up"
            );
            file.set_len(length).map_err(failed)?;
        }
        // How much of it is needed nobody knows yet: a long one is written anew at its first record.
        let file = Self { name, folder: folder.to_owned(), file, length, needed: 0 };
        Ok(Replayed { file, records, lost_bytes })
    }

    /// Writes a file from nothing but what `live` writes.
    pub(super) fn write(
        folder: &Path,
        name: &'static str,
        live: impl FnOnce(&mut dyn FnMut(&[u8])),
    ) -> Result<(), JournalError> {
        let path = new_path(folder, name);
        let failed = |error| JournalError::File { path: path.clone(), error };
        let mut new = NewFile::create(path.clone()).map_err(failed)?;
        let mut written = Ok(());
        live(&mut |record| {
            if written.is_ok() {
                written = new.put(record);
            }
        });
        let finish = |mut new: NewFile| {
            new.flushed()?;
            fs::rename(&new.path, self::path(folder, name))
        };
        written.and_then(|()| finish(new)).map_err(failed)
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn path(&self) -> PathBuf {
        path(&self.folder, self.name)
    }

    /// Appends whole frames. After an error the next attempt begins where this one did, so that nothing stands twice
    /// and nothing half.
    pub(super) fn append(&mut self, frames: &[u8], durability: Durability) -> io::Result<()> {
        self.file.write_all_at(frames, self.length)?;
        match durability {
            Durability::Process => {}
            Durability::Power => self.file.sync_data()?,
        }
        self.length += frames.len() as u64;
        Ok(())
    }

    /// Up to where it holds whole frames, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Writes to another file from now on.
    #[cfg(test)]
    pub(super) fn replace(&mut self, file: File) {
        self.file = file;
    }

    /// Whether less than half of it may be needed.
    pub(super) fn is_long(&self) -> bool {
        self.length > SHORT.max(self.needed.saturating_mul(2))
    }

    /// Begins a new file beside this one, to take its place. A file that is as long as this one is not called long any
    /// more, should that fail.
    pub(super) fn begin_anew(&mut self) -> io::Result<NewFile> {
        self.needed = self.length;
        NewFile::create(new_path(&self.folder, self.name))
    }

    /// Puts a new file, which is whole and on the disk, in the place of this one at once.
    pub(super) fn replace_by(&mut self, new: NewFile) -> io::Result<()> {
        let file = new.to.into_inner().map_err(io::IntoInnerError::into_error)?;
        // Whatever can fail before the name is taken does; from then on the old file is nobody's, so that what comes
        // must not go there even if the folder can't be synced.
        let folder = File::open(&self.folder)?;
        fs::rename(&new.path, self.path())?;
        (self.file, self.length, self.needed) = (file, new.length, new.needed);
        // The new name must outlive a power cut before anything is appended to the file behind it.
        folder.sync_all()
    }

    /// Takes away a new file that could not be finished: on a full disk it would have the room that this one needs to
    /// grow.
    pub(super) fn discard_new(&self) -> io::Result<()> {
        match fs::remove_file(new_path(&self.folder, self.name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

// === impl NewFile ===

impl NewFile {
    fn create(path: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(FILE_MODE).open(&path)?;
        let mut to = BufWriter::with_capacity(1 << 16, file);
        to.write_all(MAGIC)?;
        let length = MAGIC.len() as u64;
        Ok(Self { path, to, length, needed: length, buffer: Vec::new() })
    }

    /// Puts a record that is still needed.
    pub(super) fn put(&mut self, record: &[u8]) -> io::Result<()> {
        self.buffer.clear();
        frame(record, &mut self.buffer);
        self.length += self.buffer.len() as u64;
        self.needed += self.buffer.len() as u64;
        self.to.write_all(&self.buffer)
    }

    /// Appends what the old file has beyond this length, which came while this one was written: how much of it is needed
    /// nobody knows. The answer is how long the old one is.
    pub(super) fn append_from(&mut self, old: &JournalFile, mut from: u64) -> io::Result<u64> {
        while from < old.length {
            let step = (old.length - from).min(COPY);
            self.buffer.resize(step as usize, 0);
            old.file.read_exact_at(&mut self.buffer, from)?;
            self.to.write_all(&self.buffer)?;
            self.length += step;
            from += step;
        }
        Ok(from)
    }

    /// The file, with everything that was put into it, to be synced.
    pub(super) fn flushed(&mut self) -> io::Result<&File> {
        self.to.flush()?;
        Ok(self.to.get_ref())
    }
}

fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.journal"))
}

fn new_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.journal.new"))
}
