//! A file that takes another's place in one step, or leaves it as it was.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Written beside the file, under a name that no policy set reads; removed when dropped before [`keep`](Self::keep).
pub(super) struct NewFile {
    path: PathBuf,
    beside: PathBuf,
    to: BufWriter<File>,
}

/// For the owner alone: it names every device.
const MODE: u32 = 0o600;

// === impl NewFile ===

impl NewFile {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        // One of its own for each process: two that run at once must not write into each other's.
        let mut hidden = OsString::from(format!(".{}-", std::process::id()));
        hidden.push(name);
        let beside = path.with_file_name(hidden);
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&beside)?;
        Ok(Self { path: path.to_owned(), beside, to: BufWriter::new(file) })
    }

    /// Appends a page, with a line's end behind it.
    pub(super) fn write(&mut self, page: &[u8]) -> io::Result<()> {
        self.to.write_all(page)?;
        self.to.write_all(b"\n")
    }

    /// Gives it its name, in the place of whatever had it.
    pub(super) fn keep(mut self) -> io::Result<()> {
        self.to.flush()?;
        self.to.get_ref().sync_all()?;
        fs::rename(&self.beside, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After `keep` there is no such file any more.
        let _ = fs::remove_file(&self.beside);
    }
}
