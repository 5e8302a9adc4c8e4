//! What the process remembers of calls, and where that lives: in a state folder, in memory, or in the process before or
//! after this one.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::handover::Kind;
use crate::actions::{Actions, KnownBefore};
use crate::admit::Line;
use crate::journal::{Heir, JournalError, StateFolder, Unwritten};
use crate::limit::{KeptBefore, Limiter, LimiterBefore, OpenActions};
use crate::proxy::Succession;
use crate::time::{BootId, Clock};

/// What is remembered of calls.
pub(super) struct Memory {
    pub(super) limiter: Limiter,
    pub(super) actions: Actions,
    /// By what limits the windows were kept.
    pub(super) kept: KeptBefore,
}

/// The same, read back, and not written to yet.
pub(super) struct Inherited {
    limiter: LimiterBefore,
    actions: KnownBefore,
}

/// What this process would pass on.
#[derive(Debug, Clone)]
pub(super) struct Estate {
    pub(super) line: Arc<Line>,
    pub(super) state: Option<Arc<StateFolder>>,
    pub(super) succession: Arc<Succession>,
}

/// Why it can't be passed on.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotPassed {
    /// The disk does not take what must be written first.
    #[error(transparent)]
    Unwritten(#[from] Unwritten),
    /// The folder for it can't be written.
    #[error(transparent)]
    Folder(#[from] JournalError),
}

// === impl Memory ===

impl Memory {
    /// Nothing is remembered, and nothing will be after the end.
    pub(super) fn empty() -> Self {
        let actions = Actions::new(Actions::DEFAULT_CAPACITY);
        Self { limiter: Limiter::new(), actions, kept: KeptBefore::default() }
    }
}

// === impl Inherited ===

impl Inherited {
    /// What a folder has; at most `max_keys` windows.
    ///
    /// # Errors
    /// If one of its files can't be used.
    pub(super) fn read(
        folder: &StateFolder,
        max_keys: NonZeroU32,
        clock: &Clock,
    ) -> Result<Self, JournalError> {
        let actions = Actions::read(Actions::DEFAULT_CAPACITY, folder)?;
        Ok(Self { limiter: Limiter::read(folder, max_keys, BootId::read(), clock)?, actions })
    }

    /// Begins to write to the folder.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start(self) -> Result<Memory, JournalError> {
        let kept = self.limiter.kept().clone();
        Ok(Memory { limiter: self.limiter.start()?, actions: self.actions.start()?, kept })
    }

    /// The same, and it ends with the process.
    pub(super) fn in_memory(self) -> Memory {
        let kept = self.limiter.kept().clone();
        Memory { limiter: self.limiter.in_memory(), actions: self.actions.in_memory(), kept }
    }
}

// === impl Estate ===

impl Estate {
    /// Admits nobody any more, and puts everything that counts into the folder. Calls wait meanwhile. It blocks the thread.
    ///
    /// # Errors
    /// If that can't be written: then all is as before.
    pub(super) fn pass_to(&self, heir: Heir, folder: &StateFolder, kind: Kind) -> Result<(), NotPassed> {
        self.succession.begin();
        self.try_pass_to(heir, folder, kind).inspect_err(|_| self.take_back())
    }

    fn try_pass_to(&self, heir: Heir, folder: &StateFolder, kind: Kind) -> Result<(), NotPassed> {
        let Line { limiter, actions, clock, .. } = &*self.line;
        limiter.pass_to(heir.clone())?;
        actions.pass_to(heir)?;
        match kind {
            Kind::Kept => {}
            Kind::Lent => {
                limiter.write_to(folder, BootId::read(), clock)?;
                actions.write_to(folder)?;
            }
        }
        Ok(())
    }

    /// Goes on as before.
    pub(super) fn take_back(&self) {
        self.line.actions.take_back();
        self.line.limiter.take_back();
        self.succession.stay();
    }

    /// Takes in what the process before this one has learned since.
    pub(super) fn receive(line: &Line, name: &str, record: &[u8]) {
        match name {
            Actions::NAME => line.actions.receive(record),
            OpenActions::NAME => line.limiter.open_actions().receive(record, &line.clock),
            _ => tracing::error!(name, "the process before this one says what this one does not know"),
        }
    }
}
