//! The file behind the audit: appended to, and opened anew when its path names another.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::telemetry::audit::queue::FileTask;

/// Where batches of lines are written to.
pub(super) struct Sink {
    file: File,
    /// None for standard output.
    path: Option<PathBuf>,
}

/// Whole lines, and how far they are written.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    written: usize,
}

/// Read and write for the owner alone: the lines name people.
const MODE: u32 = 0o600;

// === impl Sink ===

impl Sink {
    pub(super) fn stdout() -> io::Result<Self> {
        let descriptor = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self { file: descriptor.into(), path: None })
    }

    pub(super) fn file(path: PathBuf) -> io::Result<Self> {
        Ok(Self { file: open(&path)?, path: Some(path) })
    }

    /// What errors and logs call it.
    pub(super) fn name(&self) -> String {
        self.path.as_ref().map_or("standard output".to_owned(), |path| format!("`{}`", path.display()))
    }

    /// Writes what is left of a batch. After an error it may be called again: no line is written twice, and one that
    /// was cut off in a file that has been replaced since is written whole to the new one.
    pub(super) fn write(&mut self, batch: &mut Batch, task: FileTask) -> io::Result<()> {
        if let Some(path) = &self.path
            && (task == FileTask::Reopen || moved(&self.file, path)?)
        {
            close(std::mem::replace(&mut self.file, open(path)?));
            batch.rewind_to_line();
        }
        while let Some(rest) = batch.rest() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => batch.written += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether the path names another file than the open one, or none.
fn moved(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) != (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Opens a file at its end, and ends the line that a crash may have left there.
fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.len() > 0 {
        let mut last = [0];
        file.read_exact_at(&mut last, metadata.len() - 1)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

/// Closes a file on a thread of its own. If it was removed meanwhile, its end is now, and takes the system as long as it is
/// large: of two gigabytes, longer than the queue has room for at full load, and then calls would be refused.
fn close(file: File) {
    // Without a thread it is closed here.
    let _ = std::thread::Builder::new().name("audit-close".to_owned()).spawn(move || drop(file));
}

// === impl Batch ===

impl Batch {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, written: 0 }
    }

    fn rest(&self) -> Option<&[u8]> {
        self.bytes.get(self.written..).filter(|rest| !rest.is_empty())
    }

    /// Goes back to the beginning of the line that is half written: its other half is in another file.
    fn rewind_to_line(&mut self) {
        let written = self.bytes.get(..self.written).unwrap_or_default();
        self.written = written.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_half_written_to_a_file_since_replaced_is_whole_in_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut sink = Sink::file(path.clone()).unwrap();
        let bytes = b"{1}\n{22}\n{333}\n".to_vec();
        for (written, rest) in
            [(0, "{1}\n{22}\n{333}\n"), (4, "{22}\n{333}\n"), (6, "{22}\n{333}\n"), (12, "{333}\n")]
        {
            std::fs::remove_file(&path).unwrap();
            let mut batch = Batch { bytes: bytes.clone(), written };
            sink.write(&mut batch, FileTask::Keep).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), rest, "after {written} bytes");
        }
    }

    #[test]
    fn a_batch_goes_on_where_it_stopped_in_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, "{1}\n").unwrap();
        let mut sink = Sink::file(path.clone()).unwrap();
        let mut batch = Batch { bytes: b"{1}\n{22}\n".to_vec(), written: 4 };
        sink.write(&mut batch, FileTask::Keep).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{1}\n{22}\n");
        assert!(batch.rest().is_none());
    }
}
