//! A limiter whose windows outlive the process: in a folder, or in the process that takes its place.

use std::num::NonZeroU32;

use super::refusal::STORE_RETRY;
use super::{Admission, Limiter, Refusal};
use crate::journal::{Heir, JournalError, JournalNumbers, StateFolder, Unwritten};
use crate::limit::charges::Charges;
use crate::limit::open::{OpenActions, OpenBefore};
use crate::limit::saved::{KeptBefore, Restored};
use crate::limit::scribe::{self, Opened};
use crate::limit::sharded::{Closed, ShardedStore};
use crate::time::{BootId, Clock, Steady};

/// The windows and the open actions of a folder, to which nothing is written yet.
#[derive(Debug)]
pub struct LimiterBefore {
    opened: Opened,
    store: ShardedStore,
    open: OpenBefore,
    kept: KeptBefore,
}

// === impl Limiter ===

impl Limiter {
    /// A limiter whose windows are those of the folder, and every admission is written to it, as are the actions under
    /// way. At most `max_keys` keys are read back: if there are more, those are left out whose windows pass first.
    ///
    /// # Errors
    /// If one of the folder's files can't be used.
    pub fn open(
        folder: &StateFolder,
        max_keys: NonZeroU32,
        boot: BootId,
        clock: &Clock,
    ) -> Result<Self, JournalError> {
        Self::read(folder, max_keys, boot, clock)?.start()
    }

    /// Reads them back, and writes nothing.
    ///
    /// # Errors
    /// If one of the folder's files can't be used.
    pub fn read(
        folder: &StateFolder,
        max_keys: NonZeroU32,
        boot: BootId,
        clock: &Clock,
    ) -> Result<LimiterBefore, JournalError> {
        let (opened, Restored { keys, kept, .. }) =
            Opened::open(folder, max_keys.get() as usize, boot, clock)?;
        let store = ShardedStore::default();
        keys.into_iter().for_each(|(key, log)| store.restore(key, log));
        Ok(LimiterBefore { opened, store, open: OpenActions::read(folder, clock)?, kept })
    }

    /// Admits nobody any more, so that another process can have the windows, and leaves the folder's files to it; what it
    /// learns of open actions from now on goes to `heir`. A held call gives its place back and is refused as at the end
    /// of the process. It blocks the thread, for 10 s at most.
    ///
    /// # Errors
    /// The disk does not take what is not written yet: then calls are admitted as before, except those that were held.
    pub fn pass_to(&self, heir: Heir) -> Result<(), Unwritten> {
        self.store.close(Closed::ToAll);
        self.end(Steady::default());
        let passed = self.open.pass_to(heir).and_then(|()| self.store.scribe.suspend());
        passed.inspect_err(|_| self.take_back())
    }

    /// Goes on after [`pass_to`](Self::pass_to), if nobody else has written to the files.
    pub fn take_back(&self) {
        self.store.scribe.resume();
        self.open.take_back();
        self.held.go_on();
        self.closures.end(None);
        self.store.close(Closed::ToNobody);
    }

    /// Writes all that it counts to a folder that another process has. To be called when it admits nobody.
    ///
    /// # Errors
    /// If one of the folder's files can't be written.
    pub fn write_to(&self, folder: &StateFolder, boot: BootId, clock: &Clock) -> Result<(), JournalError> {
        self.open.write_to(folder)?;
        scribe::write_to(folder, self.store.map(), boot, clock)
    }

    /// Writes down how the two clocks stand, by which windows are told over a new boot of the machine. To be called once
    /// a minute.
    pub fn anchor(&self) {
        self.store.scribe.anchor();
    }

    /// The name of its journal, and how that stands; none where the windows end with the process.
    pub fn journal(&self) -> Option<(&'static str, JournalNumbers)> {
        self.store.scribe.journal()
    }

    /// Writes what is not written yet; from now on nothing is. It blocks the thread, for 5 s at most.
    pub fn close(&self) {
        self.store.scribe.close();
    }

    /// Waits until an admission survives as much as the policy asks for, before the call is forwarded.
    ///
    /// # Errors
    /// It can't be written, and is given back.
    pub async fn written<'a>(
        &self,
        admission: Admission,
        charges: &Charges<'a>,
    ) -> Result<Admission, Refusal<'a>> {
        match charges.durable {
            None => Ok(admission),
            Some(durability) => match self.store.scribe.written(durability).await {
                Ok(()) => Ok(admission),
                Err(_) => Err(Refusal::Unwritten { retry_after: STORE_RETRY }),
            },
        }
    }
}

// === impl LimiterBefore ===

impl LimiterBefore {
    /// By what limits its windows were kept.
    pub fn kept(&self) -> &KeptBefore {
        &self.kept
    }

    /// Begins to write every admission to the folder.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(self) -> Result<Limiter, JournalError> {
        let Self { opened, mut store, open, kept: _ } = self;
        store.scribe = opened.start(store.map().clone())?;
        Ok(Limiter { store, open: open.start()?, ..Limiter::default() })
    }

    /// The same, and the windows end with the process.
    pub fn in_memory(self) -> Limiter {
        Limiter { store: self.store, open: self.open.in_memory(), ..Limiter::default() }
    }
}
