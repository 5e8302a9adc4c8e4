//! Policy files on disk: watch → read → compile → swap, whole or not at all.
//!
//! The last good set stays in force until a better one is compiled. A set is read as one unit: if a file changes
//! while the folder is being read, the reading is thrown away and done again.

mod watch;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::watch::{Watch, quiet};
use crate::snapshot::{Snapshot, version};
use crate::source::{PolicyFiles, Problem, Problems, SourceFile};
use crate::time::{Clock, Wall};

/// Where a policy set comes from.
#[derive(Debug, Clone)]
pub enum PolicySource {
    /// A folder, read again whenever it changes.
    Folder(PathBuf),
    /// Files that never change, as the sandbox has them.
    Memory(PolicyFiles),
}

/// The policy set in force, and how it came to be.
#[derive(Debug)]
pub struct PolicyStore {
    source: PolicySource,
    current: ArcSwap<Snapshot>,
    /// Held for as long as a reload takes, so that two can't overtake each other. Nobody else waits for it.
    turn: Mutex<Turn>,
    /// What whoever looks at the store sees. Held for moments.
    shown: Mutex<Shown>,
    clock: Clock,
    /// Someone (SIGHUP, an administrator) wants the files read now.
    asked: Notify,
}

/// What came of reading the files.
#[derive(Debug)]
pub enum Reload {
    /// They say what they said.
    Unchanged,
    /// A new set is in force.
    Loaded(Arc<Snapshot>),
    /// They are wrong in these places, and the set before stays in force.
    Refused(Vec<Problem>),
}

/// A set that was refused.
#[derive(Debug, Clone)]
pub struct Refused {
    /// When it was read.
    pub at: Wall,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// What a reload leaves for the next one.
#[derive(Debug)]
struct Turn {
    /// What the last reading found on disk, so that the same is not compiled twice; none if it could not be read.
    seen: Option<Signature>,
}

/// What the last reload came to.
#[derive(Debug)]
struct Shown {
    refused: Option<Refused>,
    /// When the inventory in force was written.
    inventory: Option<Wall>,
}

/// Names, sizes, change times and inodes of a folder's files: if two are equal, nobody wrote in between.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Signature(Vec<(String, u64, Option<Duration>, u64)>);

/// The endings of files that belong to a policy set.
const ENDINGS: [&str; 4] = ["toml", "csv", "json", "pem"];

/// The folders within a policy set whose files belong to it.
const FOLDERS: [&str; 2] = ["devices", "operations"];

/// The folder of the cases that a policy set must decide as written: whoever tests the set reads it, nobody else.
const TESTS: &str = "tests";

/// 1 GiB: an inventory of a million devices as JSON pages is about as large; more is a mistake, not a policy.
const MAX_FILE: u64 = 1 << 30;

/// How often a folder is read again if it keeps changing under the reader: an editor or a copy is done by then.
const READ_ATTEMPTS: usize = 5;

/// For file systems that report nothing (NFS, some overlays).
const POLL: Duration = Duration::from_secs(30);

// === impl PolicySource ===

impl PolicySource {
    /// The files as they are now, for whoever compiles them once.
    ///
    /// # Errors
    /// Every file that cannot be read or is no text.
    pub fn files(&self) -> Result<PolicyFiles, Vec<Problem>> {
        self.read().map(|(files, _)| files).map_err(Problems::into_sorted)
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
        let read = list_into(&mut listed, &tests, TESTS).and_then(|()| read_listed(&listed, &mut problems));
        match read {
            Ok(files) if problems.is_empty() => Ok(files),
            Ok(_) => Err(problems.into_sorted()),
            Err(error) => {
                problems.file(TESTS, format_args!("cannot be read: {error}"));
                Err(problems.into_sorted())
            }
        }
    }

    fn read(&self) -> Result<(PolicyFiles, Signature), Problems> {
        match self {
            Self::Memory(files) => Ok((files.clone(), Signature::default())),
            Self::Folder(folder) => read_folder(folder),
        }
    }

    fn signature(&self) -> io::Result<Signature> {
        match self {
            Self::Memory(_) => Ok(Signature::default()),
            Self::Folder(folder) => {
                Ok(Signature(list(folder)?.into_iter().map(|file| file.signature).collect()))
            }
        }
    }
}

/// One file of a folder that belongs to a policy set.
struct Listed {
    /// With the folder within the set that it lies in: `operations/alerts.toml`.
    name: String,
    path: PathBuf,
    signature: (String, u64, Option<Duration>, u64),
}

fn list(folder: &Path) -> io::Result<Vec<Listed>> {
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
fn folders(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    let visible = named.filter(|(name, path)| !name.starts_with('.') && name != TESTS && path.is_dir());
    let mut folders: Vec<_> = visible.collect();
    folders.sort();
    folders
}

fn list_into(files: &mut Vec<Listed>, folder: &Path, within: &str) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
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
        let meta = fs::metadata(&path)?;
        if meta.is_file() {
            let modified = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            files.push(Listed { signature: (name.clone(), meta.len(), modified, meta.ino()), name, path });
        }
    }
    Ok(())
}

fn read_folder(folder: &Path) -> Result<(PolicyFiles, Signature), Problems> {
    let mut problems = Problems::default();
    for _ in 0..READ_ATTEMPTS {
        problems = Problems::default();
        match read_once(folder, &mut problems) {
            Ok(Some(read)) if problems.is_empty() => return Ok(read),
            Ok(Some(_)) => return Err(problems),
            Ok(None) => problems.file(&folder.display().to_string(), "the files change while they are read"),
            Err(error) => {
                problems.file(&folder.display().to_string(), format_args!("cannot be read: {error}"))
            }
        }
    }
    Err(problems)
}

/// Reads the folder; `None` if it changed meanwhile.
fn read_once(folder: &Path, problems: &mut Problems) -> io::Result<Option<(PolicyFiles, Signature)>> {
    let listed = list(folder)?;
    let files = read_listed(&listed, problems)?;
    let before = Signature(listed.into_iter().map(|file| file.signature).collect());
    let after = Signature(list(folder)?.into_iter().map(|file| file.signature).collect());
    Ok((before == after).then_some((files, after)))
}

fn read_listed(listed: &[Listed], problems: &mut Problems) -> io::Result<PolicyFiles> {
    let mut files = PolicyFiles::default();
    for file in listed {
        if file.signature.1 > MAX_FILE {
            problems.file(&file.name, format_args!("larger than {} MiB", MAX_FILE >> 20));
            continue;
        }
        match String::from_utf8(fs::read(&file.path)?) {
            Ok(text) => {
                let modified = file.signature.2.map(|since| Wall::from_unix_seconds(0) + since);
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

// === impl PolicyStore ===

impl PolicyStore {
    /// Reads and compiles the first set.
    ///
    /// # Errors
    /// Every mistake in it, by place: without a good set there is nothing to fall back on.
    pub fn open(source: PolicySource, clock: Clock) -> Result<Self, Vec<Problem>> {
        let (files, seen) = source.read().map_err(Problems::into_sorted)?;
        let snapshot = Snapshot::compile(&files, None, clock.wall())?;
        let shown = Shown { refused: None, inventory: snapshot.policies.inventory_date() };
        Ok(Self {
            source,
            current: ArcSwap::from_pointee(snapshot),
            turn: Mutex::new(Turn { seen: Some(seen) }),
            shown: Mutex::new(shown),
            clock,
            asked: Notify::new(),
        })
    }

    /// The set in force. A request takes it once and keeps it.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The set that was refused last, unless a good one came after it.
    pub fn refused(&self) -> Option<Refused> {
        self.shown.lock().refused.clone()
    }

    /// When the files of the inventory in force were written, the oldest if there are several.
    pub fn inventory_date(&self) -> Option<Wall> {
        self.shown.lock().inventory
    }

    /// Asks whoever runs [`watch`](Self::watch) to read the files now.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Reads the files and, if they say something new and nothing wrong, puts it in force.
    pub fn reload(&self) -> Reload {
        let mut turn = self.turn.lock();
        let (files, seen) = match self.source.read() {
            Ok((files, seen)) => (files, Some(seen)),
            Err(problems) => {
                turn.seen = None;
                return self.refuse(problems.into_sorted());
            }
        };
        turn.seen = seen;
        let current = self.current.load_full();
        let inventory = files.under("devices").filter_map(SourceFile::modified).min();
        // Where an inventory can be too old, one that was fetched anew is new, even if it says what it said.
        let aged = current.policies.inventory_ages() && inventory != current.policies.inventory_date();
        if version(&files) == current.version && !aged {
            *self.shown.lock() = Shown { refused: None, inventory };
            return Reload::Unchanged;
        }
        match Snapshot::compile(&files, Some(&current), self.clock.wall()) {
            Ok(snapshot) => {
                let snapshot = Arc::new(snapshot);
                self.current.store(snapshot.clone());
                *self.shown.lock() = Shown { refused: None, inventory };
                Reload::Loaded(snapshot)
            }
            Err(problems) => self.refuse(problems),
        }
    }

    fn refuse(&self, problems: Vec<Problem>) -> Reload {
        let refused = Refused { at: self.clock.wall(), problems: problems.clone() };
        self.shown.lock().refused = Some(refused);
        Reload::Refused(problems)
    }

    /// Reloads whenever the files change, someone asks, or half a minute has passed and the folder looks different;
    /// tells `report` what came of each. Runs until it is dropped.
    pub async fn watch(self: Arc<Self>, report: impl Fn(&Reload)) {
        let changed = Arc::new(Notify::new());
        let mut watch = Watch::default();
        loop {
            if let PolicySource::Folder(folder) = &self.source {
                watch.follow(folder, &changed);
            }
            let forced = tokio::select! {
                () = changed.notified() => {
                    quiet(&changed).await;
                    Due::IfDifferent
                }
                () = self.clock.sleep(POLL) => Due::IfDifferent,
                () = self.asked.notified() => Due::Now,
            };
            let store = self.clone();
            let reload = tokio::task::spawn_blocking(move || store.reload_if(forced)).await;
            // A mistake of ours is one of the set's too, as long as the set brings it about.
            let reload = reload.unwrap_or_else(|error| {
                let mut problems = Problems::default();
                problems.file("the policy set", format_args!("compiling it failed: {error}"));
                Some(self.refuse(problems.into_sorted()))
            });
            if let Some(reload) = reload {
                report(&reload);
            }
        }
    }

    fn reload_if(&self, due: Due) -> Option<Reload> {
        if let Due::IfDifferent = due {
            let same =
                self.source.signature().is_ok_and(|found| self.turn.lock().seen.as_ref() == Some(&found));
            if same {
                return None;
            }
        }
        let (before, reload) = (self.refused(), self.reload());
        // Files that still can't be read are looked at again and again, and spoken of once.
        if let (Due::IfDifferent, Reload::Refused(problems), Some(before)) = (due, &reload, before)
            && *problems == before.problems
        {
            self.shown.lock().refused = Some(before);
            return None;
        }
        Some(reload)
    }
}

/// Why a reload is being considered.
enum Due {
    /// Something happened in the folder, or might have.
    IfDifferent,
    /// Someone asked for it.
    Now,
}

#[cfg(test)]
mod tests;
