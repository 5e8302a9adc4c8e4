//! Where an owner's records go, also after its journal has passed to another process.

use std::sync::mpsc::Sender;

use parking_lot::RwLock;

use super::{Full, Journal, JournalNumbers, Unwritten};

/// Where an owner's records go: to its journal, if it has one, and to its heir, once it has one.
///
/// A process that hands over still learns something: how the calls end that it has begun. Its heir gets that as records,
/// in the order in which they were put, and may know the first few of them already.
#[derive(Debug, Default)]
pub struct Outlet {
    journal: Option<Journal>,
    /// Read by whoever puts a record for as long as that takes, so that none falls between journal and heir.
    heir: RwLock<Option<Heir>>,
}

/// Who gets the records of a journal that was passed on.
#[derive(Debug, Clone)]
pub struct Heir(pub Sender<Bequest>);

/// One record of one journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bequest {
    /// What the journal is called.
    pub name: &'static str,
    /// What it would have got.
    pub record: Vec<u8>,
}

// === impl Outlet ===

impl Outlet {
    /// An outlet to this journal.
    pub fn new(journal: Journal) -> Self {
        Self { journal: Some(journal), heir: RwLock::default() }
    }

    /// Whether nobody wants the records now.
    pub fn is_closed(&self) -> bool {
        self.journal.is_none() && self.heir.read().is_none()
    }

    /// Puts a record, under the lock by which the owner keeps its records in order. `name` is the journal's.
    ///
    /// # Errors
    /// As [`Journal::append`]; where there is neither journal nor heir, nobody wants it, and that is no error.
    pub fn put(&self, name: &'static str, record: &[u8]) -> Result<(), Full> {
        match (&*self.heir.read(), &self.journal) {
            // An heir that is gone needs to know nothing.
            (Some(Heir(to)), _) => to.send(Bequest { name, record: record.to_owned() }).or(Ok(())),
            (None, Some(journal)) => journal.append(record).map(|_| ()),
            (None, None) => Ok(()),
        }
    }

    /// Sends every record to `heir` from now on, and leaves the journal's file to it, with all that was put before. It
    /// blocks the thread, for 5 s at most.
    ///
    /// # Errors
    /// The disk does not take all of that: then everything is as before.
    pub fn pass_to(&self, heir: Heir) -> Result<(), Unwritten> {
        *self.heir.write() = Some(heir);
        let suspended = self.journal.as_ref().map_or(Ok(()), Journal::suspend);
        suspended.inspect_err(|_| self.take_back())
    }

    /// Takes the journal back, which nobody has written to. What the heir got meanwhile is made up for from memory.
    pub fn take_back(&self) {
        if let Some(journal) = &self.journal {
            journal.miss();
            journal.resume();
        }
        *self.heir.write() = None;
    }

    /// The journal's name, and how it stands; none if there is none.
    pub fn journal(&self) -> Option<(&'static str, JournalNumbers)> {
        self.journal.as_ref().map(|journal| (journal.name(), journal.numbers()))
    }

    /// Writes what is not written yet; from now on nothing is, and no heir gets anything. It blocks the thread, for 5 s at
    /// most.
    pub fn close(&self) {
        *self.heir.write() = None;
        if let Some(journal) = &self.journal {
            journal.close();
        }
    }
}
