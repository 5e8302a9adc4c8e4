//! Open actions that outlive the process: in a folder, or in the process that takes its place.

use super::record::Record;
use super::{Inner, Lapse, Memory, OpenActions};
use crate::journal::{
    Durability, Heir, JournalError, JournalNumbers, Outlet, Replayed, StateFolder, Unwritten,
};
use crate::limit::sync::{Arc, Mutex};
use crate::time::Clock;

/// The actions under way of a state folder, to which nothing is written yet.
#[derive(Debug)]
pub(in crate::limit) struct OpenBefore {
    memory: Memory,
    replayed: Replayed,
}

/// Bytes of records that may wait for the disk: some 5,000 of them.
const QUEUE: usize = 1 << 20;

// === impl OpenActions ===

impl OpenActions {
    /// Those of the folder that have not lapsed.
    pub(in crate::limit) fn read(folder: &StateFolder, clock: &Clock) -> Result<OpenBefore, JournalError> {
        let (mut memory, mut strange) = (Memory::default(), 0_u64);
        let replayed = folder.replay(Self::NAME, |bytes| match Record::read(bytes) {
            Some(record) => memory.replay(record, clock),
            None => strange += 1,
        })?;
        if strange > 0 {
            tracing::error!(records = strange, "records of open actions could not be read and are left out");
        }
        memory.forget(clock.steady());
        Ok(OpenBefore { memory, replayed })
    }

    /// Notes what the process before this one has noted since it handed over.
    pub fn receive(&self, bytes: &[u8], clock: &Clock) {
        let Some(record) = Record::read(bytes) else {
            return tracing::error!("an open action of the process before this one cannot be read");
        };
        let mut memory = self.0.memory.lock();
        self.write(|| bytes.to_vec());
        memory.replay(record, clock);
    }

    pub(in crate::limit) fn pass_to(&self, heir: Heir) -> Result<(), Unwritten> {
        self.0.outlet.pass_to(heir)
    }

    pub(in crate::limit) fn take_back(&self) {
        self.0.outlet.take_back();
    }

    pub(in crate::limit) fn write_to(&self, folder: &StateFolder) -> Result<(), JournalError> {
        folder.write(Self::NAME, |put| write_all(&self.0.memory, put))
    }

    /// The name of its journal, and how that stands; none where the memory ends with the process.
    pub fn journal(&self) -> Option<(&'static str, JournalNumbers)> {
        self.0.outlet.journal()
    }

    /// Writes what is not written yet; from now on nothing is. It blocks the thread, for 5 s at most.
    pub fn close(&self) {
        self.0.outlet.close();
    }
}

// === impl OpenBefore ===

impl OpenBefore {
    pub(in crate::limit) fn start(self) -> Result<OpenActions, JournalError> {
        let memory = Arc::new(Mutex::new(self.memory));
        let live = memory.clone();
        let live = move |put: &mut dyn FnMut(&[u8])| write_all(&live, put);
        let journal = self.replayed.start(Durability::Power, QUEUE, Box::new(live))?;
        Ok(OpenActions(Arc::new(Inner { memory, outlet: Outlet::new(journal) })))
    }

    pub(in crate::limit) fn in_memory(self) -> OpenActions {
        let memory = Arc::new(Mutex::new(self.memory));
        OpenActions(Arc::new(Inner { memory, outlet: Outlet::default() }))
    }
}

/// Writes every action that is open, the next to lapse first, and those that are opened meanwhile.
pub(super) fn write_all(memory: &Mutex<Memory>, put: &mut dyn FnMut(&[u8])) {
    let mut last: Option<Lapse> = None;
    loop {
        let step = memory.lock().step(last.as_ref());
        step.iter().for_each(|((_, key, action), until)| put(&Record::opened(action, key, *until).write()));
        match step.into_iter().next_back() {
            Some((lapse, _)) => last = Some(lapse),
            None => return,
        }
    }
}
