//! The file: a line that says what it is, then frames. A frame is the record's length and a checksum of length and
//! record (CRC-32, both 32 bits, little-endian), then the record. No frame is empty, so that a file that a power cut
//! left filled up with zeros ends where they begin.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Durability, FILE_MODE, Journal, JournalError, Live, Replayed};

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

/// The first line of each.
const MAGIC: &[u8] = b"tollgate journal 1\n";

/// Length and checksum, in bytes.
const HEAD: usize = 8;

/// A file shorter than this is not written anew: reading it back takes a few milliseconds.
const SHORT: u64 = 1 << 20;

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

    /// Writes to another file from now on.
    #[cfg(test)]
    pub(super) fn replace(&mut self, file: File) {
        self.file = file;
    }

    /// Whether less than half of it may be needed.
    pub(super) fn is_long(&self) -> bool {
        self.length > SHORT.max(self.needed.saturating_mul(2))
    }

    /// Writes what is needed to a new file, which takes this one's place at once and whole. After an error everything is
    /// as it was, and a file that is as long as this one is not called long any more.
    pub(super) fn rewrite(&mut self, live: &Live) -> io::Result<()> {
        self.needed = self.length;
        let (path, beside) = (self.path(), self.folder.join(format!("{}.journal.new", self.name)));
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(true).mode(FILE_MODE).open(&beside)?;
        let mut to = BufWriter::with_capacity(1 << 16, &file);
        let (mut buffer, mut length) = (Vec::new(), MAGIC.len() as u64);
        let mut written = to.write_all(MAGIC);
        live(&mut |record| {
            if written.is_ok() {
                buffer.clear();
                frame(record, &mut buffer);
                length += buffer.len() as u64;
                written = to.write_all(&buffer);
            }
        });
        written.and_then(|()| to.flush())?;
        drop(to);
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        // The new name must outlive a power cut before anything is appended to the file behind it.
        File::open(&self.folder)?.sync_all()?;
        (self.file, self.length, self.needed) = (file, length, length);
        Ok(())
    }
}

fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.journal"))
}
