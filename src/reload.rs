//! Policy files on disk: watch → read → compile → swap, whole or not at all.
//!
//! The last good set stays in force until a better one is compiled. A set is read as one unit: if a file changes
//! while the folder is being read, the reading is thrown away and done again.

mod folder;
mod watch;
mod workshop;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

pub use self::folder::PolicySource;
use self::folder::{KnownInventory, Signature};
use self::watch::{Watch, quiet};
use self::workshop::Workshop;
use crate::policy::PolicySet;
use crate::snapshot::{Snapshot, version};
use crate::source::{Problem, Problems};
use crate::time::{Clock, Wall};

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
    /// The inventory of the set in force, which need not be read again.
    known: KnownInventory,
    /// Sets that were in force and that requests may still carry. One that is carried no more is freed by the thread
    /// that compiles: a request that let go of the last would free a million devices before it can answer.
    retired: Vec<Arc<Snapshot>>,
}

/// What the last reload came to.
#[derive(Debug)]
struct Shown {
    refused: Option<Refused>,
    /// When the inventory in force was written.
    inventory: Option<Wall>,
}

/// For file systems that report nothing (NFS, some overlays).
const POLL: Duration = Duration::from_secs(30);

/// How often it is looked whether the last request that carries a set of before has ended.
const RETIRED: Duration = Duration::from_secs(1);

// === impl PolicyStore ===

impl PolicyStore {
    /// Reads and compiles the first set.
    ///
    /// # Errors
    /// Every mistake in it, by place: without a good set there is nothing to fall back on.
    pub fn open(source: PolicySource, clock: Clock) -> Result<Self, Vec<Problem>> {
        let known = KnownInventory::default();
        let (files, seen) = source.read(&known).map_err(Problems::into_sorted)?;
        let snapshot = Snapshot::compile(&files, None, clock.wall())?;
        let shown = Shown { refused: None, inventory: snapshot.policies.inventory_date() };
        let known = KnownInventory::new(&files, &seen);
        Ok(Self {
            source,
            current: ArcSwap::from_pointee(snapshot),
            turn: Mutex::new(Turn { seen: Some(seen), known, retired: Vec::new() }),
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

    /// Reads the files, every one of them, and, if they say something new and nothing wrong, puts it in force.
    pub fn reload(&self) -> Reload {
        let mut turn = self.turn.lock();
        turn.known = KnownInventory::default();
        self.reload_in(&mut turn)
    }

    fn reload_in(&self, turn: &mut Turn) -> Reload {
        let (files, seen) = match self.source.read(&turn.known) {
            Ok(read) => read,
            Err(problems) => {
                turn.seen = None;
                return self.refuse(problems.into_sorted());
            }
        };
        let known = KnownInventory::new(&files, &seen);
        turn.seen = Some(seen);
        let current = self.current.load_full();
        let inventory = PolicySet::inventory_date_of(&files);
        // Where an inventory can be too old, one that was fetched anew is new, even if it says what it said.
        let aged = current.policies.inventory_ages() && inventory != current.policies.inventory_date();
        if version(&files) == current.version && !aged {
            turn.known = known;
            *self.shown.lock() = Shown { refused: None, inventory };
            return Reload::Unchanged;
        }
        match Snapshot::compile(&files, Some(&current), self.clock.wall()) {
            Ok(snapshot) => {
                let snapshot = Arc::new(snapshot);
                turn.known = known;
                turn.retired.push(self.current.swap(snapshot.clone()));
                *self.shown.lock() = Shown { refused: None, inventory };
                Reload::Loaded(snapshot)
            }
            Err(problems) => self.refuse(problems),
        }
    }

    /// Frees the sets of before that no request carries any more; says when to look again.
    ///
    /// INVARIANT: who holds the last share of a set that is in force no more cannot lose it to somebody else: shares
    /// are made of those that there are, and the store gives out none.
    fn free(&self) -> Duration {
        let retired = &mut self.turn.lock().retired;
        retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        if retired.is_empty() { POLL } else { RETIRED }
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
        let (mut watch, mut pause) = (Watch::default(), POLL);
        let workshop = loop {
            match Workshop::open() {
                Ok(workshop) => break workshop,
                Err(error) => report(&self.broken(&error)),
            }
            self.clock.sleep(POLL).await;
        };
        loop {
            if let PolicySource::Folder(folder) = &self.source {
                watch.follow(folder, &changed);
            }
            let due = tokio::select! {
                () = changed.notified() => {
                    quiet(&changed).await;
                    Due::IfDifferent
                }
                () = self.clock.sleep(pause) => Due::IfDifferent,
                () = self.asked.notified() => Due::Now,
            };
            let store = self.clone();
            let reload = match workshop.run(move || (store.reload_if(due), store.free())).await {
                Ok((reload, then)) => {
                    pause = then;
                    reload
                }
                // A mistake of ours is one of the set's too, as long as the set brings it about.
                Err(error) => Some(self.broken(&error)),
            };
            if let Some(reload) = reload {
                report(&reload);
            }
        }
    }

    fn broken(&self, error: &dyn std::error::Error) -> Reload {
        let mut problems = Problems::default();
        problems.file("the policy set", format_args!("compiling it failed: {error}"));
        self.refuse(problems.into_sorted())
    }

    fn reload_if(&self, due: Due) -> Option<Reload> {
        if let Due::IfDifferent = due {
            let found = self.source.signature();
            if found.is_some() && self.turn.lock().seen == found {
                return None;
            }
        }
        let before = self.refused();
        let reload = match due {
            Due::IfDifferent => self.reload_in(&mut self.turn.lock()),
            Due::Now => self.reload(),
        };
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
