//! A limiter whose windows outlive the process.

use std::num::NonZeroU32;

use super::refusal::STORE_RETRY;
use super::{Admission, Limiter, Refusal};
use crate::journal::{JournalError, JournalNumbers, StateFolder};
use crate::limit::charges::Charges;
use crate::limit::saved::Restored;
use crate::limit::scribe::Opened;
use crate::limit::sharded::ShardedStore;
use crate::time::{BootId, Clock};

// === impl Limiter ===

impl Limiter {
    /// A limiter whose windows are those of the folder, and every admission is written to it. At most `max_keys` keys are
    /// read back: if there are more, those are left out whose windows pass first.
    ///
    /// # Errors
    /// If the folder's file can't be used.
    pub fn open(
        folder: &StateFolder,
        max_keys: NonZeroU32,
        boot: BootId,
        clock: &Clock,
    ) -> Result<Self, JournalError> {
        let (opened, Restored { keys, .. }) = Opened::open(folder, max_keys.get() as usize, boot, clock)?;
        let mut store = ShardedStore::default();
        keys.into_iter().for_each(|(key, log)| store.restore(key, log));
        store.scribe = opened.start(store.map().clone())?;
        Ok(Self { store, ..Self::default() })
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
