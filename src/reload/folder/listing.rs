//! What lies in a policy folder: the files that belong to the set, at whatever depth, and the folders they lie in.
//!
//! A file that is left out without a word is a part of the policy that somebody believes in force. So everything that
//! could be one is listed, and what cannot be looked at is a mistake: a link that leads nowhere could be a folder.

use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{FileSignature, TESTS};
use crate::source::Problems;

/// What a folder holds, in the order of the names.
#[derive(Debug, Default)]
pub(in crate::reload) struct Listing {
    pub(super) files: Vec<Listed>,
    /// The folders within it, at whatever depth.
    pub(in crate::reload) folders: Vec<PathBuf>,
    /// What cannot be read, or only in part.
    pub(super) unreadable: Vec<Unreadable>,
    /// How much was looked at.
    entries: usize,
}

/// One file of a folder that belongs to a policy set.
#[derive(Debug)]
pub(super) struct Listed {
    /// With the folder within the set that it lies in: `operations/alerts.toml`.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) signature: FileSignature,
}

/// A file or folder that cannot be read.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) name: String,
    pub(super) error: io::Error,
}

/// A folder on the way from the set's own to what is being looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// Which folder is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The set's own, and those within it but that of the cases.
    Set,
    /// That of the cases.
    Cases,
}

/// The endings of files that belong to a policy set, in either case: one in capitals is misspelt, and not nobody's.
const ENDINGS: [&str; 4] = ["toml", "csv", "json", "pem"];

/// What a file system puts into its topmost folder, and lets nobody read.
const LOST_AND_FOUND: &str = "lost+found";

/// Folders within folders: a set needs one, and what lies deeper than this was not written by a person.
const MAX_DEPTH: usize = 8;

/// Each is watched, and links can make many of a few.
const MAX_FOLDERS: usize = 1_000;

/// Files and folders: a million devices in pages of a hundred are 10,000 files.
const MAX_ENTRIES: usize = 100_000;

// === impl Listing ===

impl Listing {
    /// What belongs to the set of this folder, whoever reads it; the cases do not.
    pub(in crate::reload) fn of_set(folder: &Path) -> Self {
        Self::list(folder, "", Way::Set)
    }

    /// What is in the folder of the cases.
    pub(super) fn of_cases(folder: &Path) -> Self {
        Self::list(folder, TESTS, Way::Cases)
    }

    fn list(folder: &Path, name: &str, way: Way) -> Self {
        let mut listing = Self::default();
        match fs::metadata(folder).map(|meta| Identity::of(&meta)) {
            Ok(identity) => listing.folder(folder, name, way, &mut vec![identity]),
            Err(error) => listing.cannot(folder.display(), error),
        }
        listing.files.sort_by(|a, b| a.name.cmp(&b.name));
        listing.folders.sort();
        listing
    }

    /// Says of everything that cannot be read that it cannot.
    pub(super) fn note(&self, problems: &mut Problems) {
        self.unreadable.iter().for_each(|unreadable| unreadable.note(problems));
    }

    /// Lists a folder of this name within the set; `above` ends with itself.
    fn folder(&mut self, path: &Path, name: &str, way: Way, above: &mut Vec<Identity>) {
        let shown = || if name.is_empty() { path.display().to_string() } else { name.to_owned() };
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.cannot(shown(), error),
        };
        for entry in entries {
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                // Once, however many folders are not looked at any more.
                if self.entries == MAX_ENTRIES + 1 {
                    let message = format!("more than {MAX_ENTRIES} files are in it or before it");
                    self.cannot(shown(), io::Error::other(message));
                }
                return;
            }
            match entry {
                Ok(entry) => self.entry(&entry, name, way, above),
                Err(error) => self.cannot(shown(), error),
            }
        }
    }

    fn entry(&mut self, entry: &DirEntry, within: &str, way: Way, above: &mut Vec<Identity>) {
        let (path, file_name) = (entry.path(), entry.file_name());
        // Hidden files are editors' drafts, and Kubernetes' `..data`, through which the visible links lead.
        if file_name.as_encoded_bytes().starts_with(b".") {
            return;
        }
        let topmost = above.len() == 1 && way == Way::Set;
        if topmost && (file_name == TESTS || file_name == LOST_AND_FOUND) {
            return;
        }
        let kind = entry.file_type();
        let ours = is_ours(&path);
        if !ours && kind.as_ref().is_ok_and(fs::FileType::is_file) {
            return;
        }
        let text = file_name.to_string_lossy();
        let name = if within.is_empty() { text.into_owned() } else { format!("{within}/{text}") };
        let meta = match fs::metadata(&path) {
            Ok(meta) => meta,
            // What is neither a link nor one of ours was a draft that is gone by now.
            Err(_) if !ours && !kind.is_ok_and(|kind| kind.is_symlink()) => return,
            Err(error) => return self.cannot(name, error),
        };
        if !ours && !meta.is_dir() {
            return;
        }
        if file_name.to_str().is_none() {
            return self.cannot(name, io::Error::other("its name is not UTF-8 text"));
        }
        if meta.is_dir() {
            self.within(path, &name, way, Identity::of(&meta), above);
        } else if meta.is_file() {
            self.files.push(Listed { signature: FileSignature::new(&name, &meta), name, path });
        } else {
            self.cannot(name, io::Error::other("it is neither a file nor a folder"));
        }
    }

    /// Lists a folder within another, unless that would have no end.
    fn within(&mut self, path: PathBuf, name: &str, way: Way, identity: Identity, above: &mut Vec<Identity>) {
        if above.contains(&identity) {
            return self.cannot(name, io::Error::other("it leads back to a folder that it lies in"));
        }
        if above.len() > MAX_DEPTH {
            return self.cannot(name, io::Error::other(format!("it lies deeper than {MAX_DEPTH} folders")));
        }
        if self.folders.len() >= MAX_FOLDERS {
            // Once, however many more there are.
            if self.entries <= MAX_ENTRIES {
                self.entries = MAX_ENTRIES + 1;
                let message = format!("more than {MAX_FOLDERS} folders are before it");
                self.cannot(name, io::Error::other(message));
            }
            return;
        }
        above.push(identity);
        self.folder(&path, name, way, above);
        above.pop();
        self.folders.push(path);
    }

    fn cannot(&mut self, name: impl ToString, error: io::Error) {
        self.unreadable.push(Unreadable { name: name.to_string(), error });
    }
}

/// Whether a file of this name belongs to a set.
fn is_ours(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.iter().any(|ours| ours.eq_ignore_ascii_case(ending)))
}

// === impl Unreadable ===

impl Unreadable {
    pub(super) fn note(&self, problems: &mut Problems) {
        problems.file(&self.name, format_args!("cannot be read: {}", self.error));
    }
}

// === impl Identity ===

impl Identity {
    fn of(meta: &Metadata) -> Self {
        Self { device: meta.dev(), inode: meta.ino() }
    }
}
