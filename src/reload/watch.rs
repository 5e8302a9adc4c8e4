//! When to look at a policy folder: what the file system tells of it, and waiting until it is quiet.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::folder::Listing;
use crate::time::Clock;

/// Quiet time after the last event before files are read: editors and `kubectl` write a set in several steps.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// How long that quiet is waited for: a folder in which something else keeps writing is read all the same.
const RESTLESS: Duration = Duration::from_secs(5);

/// The policy folder's watcher. It stays for as long as the folders do, so that it sees what happens while files are
/// read and compiled.
#[derive(Debug, Default)]
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    /// Device and inode of the folder and of those within it that it looks at; none if they could not be watched.
    watched: Vec<(u64, u64)>,
    warned: bool,
}

impl Watch {
    /// Watches the folder of this name and those within it, if they are not the ones that are being watched.
    pub(super) fn follow(&mut self, folder: &Path, changed: &Arc<Notify>) {
        let all = std::iter::once(folder.to_owned()).chain(Listing::of_set(folder).folders);
        let found: Vec<_> =
            all.filter_map(|path| fs::metadata(path).ok()).map(|meta| (meta.dev(), meta.ino())).collect();
        if !found.is_empty() && self.watched == found {
            return;
        }
        self.watched.clear();
        match watch_folder(folder, changed.clone()) {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                self.watched = found;
                // Nobody told of what happened between the last reading and this moment.
                changed.notify_one();
            }
            // The watcher before, if there is one, still sees the folder it lay in, and so its return.
            Err(error) if !self.warned => {
                self.warned = true;
                tracing::warn!(folder = %folder.display(), %error, "cannot watch the policy folder, polling it");
            }
            Err(_) => {}
        }
    }
}

/// Waits until nothing has changed for [`DEBOUNCE`], at most [`RESTLESS`]: by the machine's clock, as events come.
pub(super) async fn quiet(changed: &Notify) {
    let clock = Clock::System;
    let deadline = clock.steady() + RESTLESS;
    while clock.timeout(DEBOUNCE, changed.notified()).await.is_ok() && clock.steady() < deadline {}
}

/// Watches a folder, those within it, and its name in the folder it lies in: each may be replaced by a rename, and a
/// link by another.
fn watch_folder(folder: &Path, changed: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    // Events name what happened by its whole path.
    let folder = &std::path::absolute(folder)?;
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = folder.file_name().map(|name| parent.join(name));
    let within = folder.to_owned();
    let named = beside.clone();
    // Others write beside it, as the audit may: that keeps nobody waiting.
    let ours = move |path: &PathBuf| {
        path.starts_with(&within) || named.as_ref().is_some_and(|named| path.starts_with(named))
    };
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
        Ok(event) if !is_change(event.kind) => {}
        Ok(event) if !event.paths.is_empty() && !event.paths.iter().any(&ours) => {}
        Ok(_) | Err(_) => changed.notify_one(),
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    for path in &Listing::of_set(folder).folders {
        watcher.watch(path, RecursiveMode::NonRecursive)?;
    }
    if beside.is_some() {
        watcher.watch(parent, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// Our own reading is an event too, and would be followed by another without end.
fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
}
