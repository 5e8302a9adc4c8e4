//! A policy set on disk: which files belong to it, and reading them as one unit.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::policy::PolicySet;
use crate::source::{FileStamp, PolicyFiles, Problem, Problems, SourceFile};
use crate::time::Wall;

/// Where a policy set comes from.
#[derive(Debug, Clone)]
pub enum PolicySource {
    /// A folder, read again whenever it changes.
    Folder(PathBuf),
    /// Files that never change, as the sandbox has them.
    Memory(PolicyFiles),
}

/// What the file system says of a folder's files: if two are equal, nobody wrote in between.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Signature(Vec<FileSignature>);

/// What the file system says of a file. Of a write that leaves size and time of the last write as they were, as a copy
/// with the times of another file may be, the time of the last change tells.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileSignature {
    name: String,
    size: u64,
    modified: Option<Duration>,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
    inode: u64,
}

/// The inventory of the set in force: what the file system said of its files, and what tells their texts apart. While
/// the first stays as it is, they are not read again.
#[derive(Debug, Default)]
pub(super) struct KnownInventory(BTreeMap<String, (FileSignature, FileStamp)>);

/// The endings of files that belong to a policy set.
const ENDINGS: [&str; 4] = ["toml", "csv", "json", "pem"];

/// The folders within a policy set whose files belong to it.
const FOLDERS: [&str; 2] = ["devices", "operations"];

/// The folder of the cases that a policy set must decide as written: whoever tests the set reads it, nobody else.
const TESTS: &str = "tests";

/// 1 GiB: an inventory of a million devices as JSON pages is about as large; more is a mistake, not a policy.
const MAX_FILE: u64 = 1 << 30;

/// 2 GiB: so large may all files be together, which are in memory at once while they are compiled.
const MAX_SET: u64 = 2 << 30;

/// How often a folder is read again if it keeps changing under the reader: an editor or a copy is done by then.
const READ_ATTEMPTS: usize = 5;

// === impl PolicySource ===

impl PolicySource {
    /// The files as they are now, for whoever compiles them once.
    ///
    /// # Errors
    /// Every file that cannot be read or is no text.
    pub fn files(&self) -> Result<PolicyFiles, Vec<Problem>> {
        self.read(&KnownInventory::default()).map(|(files, _)| files).map_err(Problems::into_sorted)
    }

    /// The cases of the folder `tests`; none if there is no such folder. They are no part of what is in force.
    ///
    /// # Errors
    /// Every file that cannot be read or is no text.
    pub fn cases(&self) -> Result<PolicyFiles, Vec<Problem>> {
        let Self::Folder(folder) = self else { return Ok(PolicyFiles::default()) };
        let (tests, mut problems, mut listed) = (folder.join(TESTS), Problems::default(), Vec::new());
        if !tests.is_dir() {
            return Ok(PolicyFiles::default());
        }
        let known = KnownInventory::default();
        let read =
            list_into(&mut listed, &tests, TESTS).and_then(|()| read_listed(&listed, &known, &mut problems));
        match read {
            Ok(files) if problems.is_empty() => return Ok(files),
            Ok(_) => {}
            Err(unreadable) => unreadable.note(&mut problems),
        }
        Err(problems.into_sorted())
    }

    /// The files as they are now; of the inventory that is known, if nobody has written to it, the stamps alone.
    pub(super) fn read(&self, known: &KnownInventory) -> Result<(PolicyFiles, Signature), Problems> {
        match self {
            Self::Memory(files) => Ok((files.clone(), Signature::default())),
            Self::Folder(folder) => read_folder(folder, known),
        }
    }

    /// What the folder looks like now; none if it cannot be looked at.
    pub(super) fn signature(&self) -> Option<Signature> {
        match self {
            Self::Memory(_) => Some(Signature::default()),
            Self::Folder(folder) => list(folder).ok().map(|listed| Signature::of(&listed)),
        }
    }
}

/// One file of a folder that belongs to a policy set.
struct Listed {
    /// With the folder within the set that it lies in: `operations/alerts.toml`.
    name: String,
    path: PathBuf,
    signature: FileSignature,
}

/// A file or folder that cannot be read.
struct Unreadable {
    name: String,
    error: io::Error,
}

fn list(folder: &Path) -> Result<Vec<Listed>, Unreadable> {
    let mut files = Vec::new();
    list_into(&mut files, folder, "")?;
    for (within, path) in folders(folder) {
        match list_into(&mut files, &path, &within) {
            Err(error) if FOLDERS.contains(&within.as_str()) => return Err(error),
            // One that may not be read, such as a file system's own `lost+found`, is nobody's policy.
            Ok(()) | Err(_) => {}
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// The folders within a policy set, its cases left out. Two of them have names that mean something; the others are
/// read too, so that a misspelt name is a mistake and not a part of the policy that is missing.
pub(super) fn folders(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    let visible = named.filter(|(name, path)| !name.starts_with('.') && name != TESTS && path.is_dir());
    let mut folders: Vec<_> = visible.collect();
    folders.sort();
    folders
}

fn list_into(files: &mut Vec<Listed>, folder: &Path, within: &str) -> Result<(), Unreadable> {
    let whole = |error| Unreadable { name: folder.display().to_string(), error };
    for entry in fs::read_dir(folder).map_err(whole)? {
        let path = entry.map_err(whole)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let ours = path
            .extension()
            .and_then(|ending| ending.to_str())
            .is_some_and(|ending| ENDINGS.contains(&ending));
        // Hidden files are editors' drafts, and Kubernetes' `..data`, through which the visible links lead.
        if !ours || name.starts_with('.') {
            continue;
        }
        let name = if within.is_empty() { name.to_owned() } else { format!("{within}/{name}") };
        let meta = fs::metadata(&path).map_err(|error| Unreadable { name: name.clone(), error })?;
        if meta.is_file() {
            files.push(Listed { signature: FileSignature::new(&name, &meta), name, path });
        }
    }
    Ok(())
}

fn read_folder(folder: &Path, known: &KnownInventory) -> Result<(PolicyFiles, Signature), Problems> {
    let mut problems = Problems::default();
    for _ in 0..READ_ATTEMPTS {
        problems = Problems::default();
        match read_once(folder, known, &mut problems) {
            Ok(Some(read)) if problems.is_empty() => return Ok(read),
            Ok(Some(_)) => return Err(problems),
            Ok(None) => problems.file(&folder.display().to_string(), "the files change while they are read"),
            // It may be about to come back, as a file does that is replaced.
            Err(unreadable) => unreadable.note(&mut problems),
        }
    }
    Err(problems)
}

/// Reads the folder; `None` if it changed meanwhile.
fn read_once(
    folder: &Path,
    known: &KnownInventory,
    problems: &mut Problems,
) -> Result<Option<(PolicyFiles, Signature)>, Unreadable> {
    let listed = list(folder)?;
    let files = read_listed(&listed, known, problems)?;
    let (before, after) = (Signature::of(&listed), Signature::of(&list(folder)?));
    Ok((before == after).then_some((files, after)))
}

fn read_listed(
    listed: &[Listed],
    known: &KnownInventory,
    problems: &mut Problems,
) -> Result<PolicyFiles, Unreadable> {
    let mut files = PolicyFiles::default();
    let stamps = known.stamps(listed);
    let mut size = 0;
    let over = listed.iter().find(|file| {
        size += file.signature.size;
        file.signature.size <= MAX_FILE && size > MAX_SET
    });
    if let Some(file) = over {
        let message = format_args!("larger than {} MiB with the files before it", MAX_SET >> 20);
        problems.file(&file.name, message);
        return Ok(files);
    }
    for file in listed {
        if let Some(stamp) = stamps.and_then(|stamps| stamps.get(&file.name)) {
            files.insert_unread(&file.name, stamp.1);
            continue;
        }
        if file.signature.size > MAX_FILE {
            problems.file(&file.name, format_args!("larger than {} MiB", MAX_FILE >> 20));
            continue;
        }
        let bytes = fs::read(&file.path);
        let bytes = bytes.map_err(|error| Unreadable { name: file.name.clone(), error })?;
        match String::from_utf8(bytes) {
            Ok(text) => {
                let modified = file.signature.modified.map(|since| Wall::from_unix_seconds(0) + since);
                files.insert(SourceFile::new(&file.name, text).with_modified(modified));
            }
            Err(error) => {
                let offset = error.utf8_error().valid_up_to();
                // What stands before the offset stays as it is.
                let read = SourceFile::new(&file.name, String::from_utf8_lossy(error.as_bytes()));
                problems.at(&read, offset..offset, "not UTF-8 text from here on");
            }
        }
    }
    Ok(files)
}

// === impl Unreadable ===

impl Unreadable {
    fn note(self, problems: &mut Problems) {
        problems.file(&self.name, format_args!("cannot be read: {}", self.error));
    }
}

// === impl Signature ===

impl Signature {
    fn of(listed: &[Listed]) -> Self {
        Self(listed.iter().map(|file| file.signature.clone()).collect())
    }
}

impl FileSignature {
    fn new(name: &str, meta: &Metadata) -> Self {
        let modified = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let changed = (meta.ctime(), meta.ctime_nsec());
        Self { name: name.to_owned(), size: meta.len(), modified, changed, inode: meta.ino() }
    }
}

// === impl KnownInventory ===

impl KnownInventory {
    /// The inventory of a set that has been compiled from these files, which looked like this.
    pub(super) fn new(files: &PolicyFiles, seen: &Signature) -> Self {
        let stamps: BTreeMap<_, _> = files.stamps().collect();
        let inventory = seen.0.iter().filter(|file| PolicySet::is_inventory(&file.name));
        let known = inventory.filter_map(|file| {
            let stamp = *stamps.get(file.name.as_str())?;
            Some((file.name.clone(), (file.clone(), stamp)))
        });
        Self(known.collect())
    }

    /// The stamps of its files, if those of the folder are these, each as it was.
    fn stamps(&self, listed: &[Listed]) -> Option<&BTreeMap<String, (FileSignature, FileStamp)>> {
        let listed = listed.iter().map(|file| &file.signature);
        let found = listed.filter(|file| PolicySet::is_inventory(&file.name));
        found.eq(self.0.values().map(|(signature, _)| signature)).then_some(&self.0)
    }
}
