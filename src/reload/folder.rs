//! A policy set on disk: which files belong to it, and reading them as one unit.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::policy::PolicySet;
use crate::source::{FileStamp, PolicyFiles, Problem, Problems, SourceFile};
use crate::time::Wall;

mod listing;

pub(super) use self::listing::Listing;
use self::listing::{Listed, Unreadable};

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

    /// The cases of the folder `tests` and of those within it; none if there is no such folder. They are no part of what
    /// is in force.
    ///
    /// # Errors
    /// Every file that cannot be read or is no text.
    pub fn cases(&self) -> Result<PolicyFiles, Vec<Problem>> {
        let Self::Folder(folder) = self else { return Ok(PolicyFiles::default()) };
        let (tests, mut problems) = (folder.join(TESTS), Problems::default());
        // A link that leads nowhere is there, and its cases are missing.
        if fs::symlink_metadata(&tests).is_err() {
            return Ok(PolicyFiles::default());
        }
        let listing = Listing::of_cases(&tests);
        listing.note(&mut problems);
        match read_listed(&listing.files, &KnownInventory::default(), &mut problems) {
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

    /// What the folder looks like now; none if not all of it can be looked at.
    pub(super) fn signature(&self) -> Option<Signature> {
        match self {
            Self::Memory(_) => Some(Signature::default()),
            Self::Folder(folder) => Signature::of(&Listing::of_set(folder)),
        }
    }
}

fn read_folder(folder: &Path, known: &KnownInventory) -> Result<(PolicyFiles, Signature), Problems> {
    let mut problems = Problems::default();
    for _ in 0..READ_ATTEMPTS {
        problems = Problems::default();
        match read_once(folder, known, &mut problems) {
            Attempt::Read(read) if problems.is_empty() => return Ok(read),
            Attempt::Read(_) => return Err(problems),
            Attempt::Again => {}
        }
    }
    Err(problems)
}

/// What came of reading a folder.
enum Attempt {
    Read((PolicyFiles, Signature)),
    /// It may be otherwise in a moment: it changed meanwhile, or a file is missing that is being replaced.
    Again,
}

fn read_once(folder: &Path, known: &KnownInventory, problems: &mut Problems) -> Attempt {
    let listing = Listing::of_set(folder);
    let Some(before) = Signature::of(&listing) else {
        listing.note(problems);
        return Attempt::Again;
    };
    let files = match read_listed(&listing.files, known, problems) {
        Ok(files) => files,
        Err(unreadable) => {
            unreadable.note(problems);
            return Attempt::Again;
        }
    };
    if Signature::of(&Listing::of_set(folder)).as_ref() == Some(&before) {
        return Attempt::Read((files, before));
    }
    problems.file(&folder.display().to_string(), "the files change while they are read");
    Attempt::Again
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

// === impl Signature ===

impl Signature {
    /// None if something could not be looked at.
    fn of(listing: &Listing) -> Option<Self> {
        let files = listing.files.iter().map(|file| file.signature.clone());
        listing.unreadable.is_empty().then(|| Self(files.collect()))
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
