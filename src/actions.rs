//! Which device each forwarded action belongs to.
//!
//! `getPackageUri` and `cancel` name an action, not a device. The proxy records the action of each successful answer to
//! a call that starts one, so that such a call is held to the same device groups as the one that started it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::id::{ActionId, DeviceRef};
use crate::journal::{
    Durability, Heir, JournalError, JournalNumbers, Outlet, Replayed, StateFolder, Unwritten,
};
use crate::principal::Target;

/// The actions that were started through this process and, with a state folder, those before it: the newest of them.
/// Shared by all requests.
///
/// One lock guards it: a record holds it for a microsecond, at most as often as actions are started (25 a minute for
/// one application, by the API's documented limits), and look-ups share it. What can go wrong: an action that is asked
/// for before its answer was recorded, or after 100,000 newer ones, has no known device, and the policy
/// (`unknown_action`) decides. So it is with one whose record a crash took from memory before it was written.
#[derive(Debug)]
pub struct Actions {
    known: Arc<RwLock<Known>>,
    /// To nowhere where the memory ends with the process.
    outlet: Outlet,
}

/// The actions of a state folder, to which nothing is written yet.
#[derive(Debug)]
pub struct KnownBefore {
    known: Known,
    replayed: Replayed,
}

#[derive(Debug)]
struct Known {
    capacity: usize,
    devices: HashMap<ActionId, DeviceRef, foldhash::fast::RandomState>,
    /// The oldest first. INVARIANT: the keys of `devices`, each once.
    order: VecDeque<ActionId>,
    /// How many have gone: the number of the first in `order`, counted over all that ever were.
    gone: u64,
}

/// What is written of an action: its last record counts.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    action: String,
    /// As [`DeviceRef`] prints it and reads it back.
    device: String,
}

/// Actions that are copied at once when the file is written anew: the lock is held for some 10 microseconds.
const STEP: usize = 1_000;

/// Bytes of records that may wait for the disk: some 8,000 actions, the documented limit of five hours for one
/// application.
const QUEUE: usize = 1 << 20;

// === impl Actions ===

impl Actions {
    /// The actions of 66 hours at the documented 1500 an hour for one application; about 25 MB when full.
    pub const DEFAULT_CAPACITY: usize = 100_000;

    /// What its file is called.
    pub const NAME: &str = "actions";

    /// None yet, and never more than `capacity`: then the oldest goes first. They are forgotten with the process.
    pub fn new(capacity: usize) -> Self {
        Self::from(Known::new(capacity))
    }

    /// Those of the folder, and each new one is written to it.
    ///
    /// # Errors
    /// If the folder's file can't be used.
    pub fn open(capacity: usize, folder: &StateFolder) -> Result<Self, JournalError> {
        Self::read(capacity, folder)?.start()
    }

    /// Those of the folder.
    ///
    /// # Errors
    /// If the folder's file can't be used.
    pub fn read(capacity: usize, folder: &StateFolder) -> Result<KnownBefore, JournalError> {
        let mut known = Known::new(capacity);
        let mut strange = 0_u64;
        let replayed = folder.replay(Self::NAME, |bytes| match Record::read(bytes) {
            Some((action, device)) => known.record(action, device),
            None => strange += 1,
        })?;
        if strange > 0 {
            tracing::error!(records = strange, "records of actions could not be read and are left out");
        }
        Ok(KnownBefore { known, replayed })
    }

    /// Notes whose an action is. The API's word is the last one: a second record of the same action replaces the first.
    pub fn record(&self, action: ActionId, device: DeviceRef) {
        let record = (!self.outlet.is_closed()).then(|| Record::write(&action, &device));
        let mut known = self.known.write();
        known.record(action, device);
        // Under the lock, so that the file has the records in the order of the memory.
        if let Some(record) = record
            && self.outlet.put(Self::NAME, &record).is_err()
        {
            tracing::warn!("the state file has no room for an action: it is kept in memory until it has");
        }
    }

    /// Notes what the process before this one has noted since it handed over.
    pub fn receive(&self, record: &[u8]) {
        match Record::read(record) {
            Some((action, device)) => self.record(action, device),
            None => tracing::error!("an action that the process before this one noted cannot be read"),
        }
    }

    /// Leaves the folder's file to another process, and tells it what is noted from now on.
    ///
    /// # Errors
    /// The disk does not take what is not written yet: then everything is as before.
    pub fn pass_to(&self, heir: Heir) -> Result<(), Unwritten> {
        self.outlet.pass_to(heir)
    }

    /// Takes the file back from a process that has not written to it.
    pub fn take_back(&self) {
        self.outlet.take_back();
    }

    /// Writes all that is known to a folder that another process has.
    ///
    /// # Errors
    /// If its file can't be written.
    pub fn write_to(&self, folder: &StateFolder) -> Result<(), JournalError> {
        folder.write(Self::NAME, |put| write_all(&self.known, put))
    }

    /// What a call acts on, by the devices and the action that it names.
    pub fn resolve<'d>(
        &self,
        devices: impl IntoIterator<Item = &'d DeviceRef>,
        action: Option<&ActionId>,
    ) -> SmallVec<[Target; 1]> {
        let behind = action.map(|action| match self.known.read().devices.get(action) {
            Some(device) => Target::Device(device.clone()),
            None => Target::UnknownAction(action.clone()),
        });
        devices.into_iter().cloned().map(Target::Device).chain(behind).collect()
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.known.read().order.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of its journal, and how that stands; none where the memory ends with the process.
    pub fn journal(&self) -> Option<(&'static str, JournalNumbers)> {
        self.outlet.journal()
    }

    /// Writes what is not written yet; from now on nothing is. It blocks the thread, for 5 s at most.
    pub fn close(&self) {
        self.outlet.close();
    }
}

impl From<Known> for Actions {
    fn from(known: Known) -> Self {
        Self { known: Arc::new(RwLock::new(known)), outlet: Outlet::default() }
    }
}

// === impl KnownBefore ===

impl KnownBefore {
    /// Begins to write each new one to the folder.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(self) -> Result<Actions, JournalError> {
        let known = Arc::new(RwLock::new(self.known));
        let memory = known.clone();
        let live = move |put: &mut dyn FnMut(&[u8])| write_all(&memory, put);
        let journal = self.replayed.start(Durability::Power, QUEUE, Box::new(live))?;
        Ok(Actions { known, outlet: Outlet::new(journal) })
    }

    /// The same, and they end with the process.
    pub fn in_memory(self) -> Actions {
        self.known.into()
    }
}

/// Writes every action that is known, the oldest first, and those that come meanwhile.
fn write_all(memory: &RwLock<Known>, put: &mut dyn FnMut(&[u8])) {
    let mut from = 0;
    loop {
        let (step, next) = memory.read().step(from);
        if step.is_empty() {
            return;
        }
        step.iter().for_each(|(action, device)| put(&Record::write(action, device)));
        from = next;
    }
}

// === impl Known ===

impl Known {
    fn new(capacity: usize) -> Self {
        Self { capacity, devices: HashMap::default(), order: VecDeque::new(), gone: 0 }
    }

    fn record(&mut self, action: ActionId, device: DeviceRef) {
        if self.devices.insert(action.clone(), device).is_none() {
            self.order.push_back(action);
        }
        while self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.devices.remove(&oldest);
            self.gone += 1;
        }
    }

    /// The next actions from this number on, and the number behind them. None is left out because older ones went
    /// between two steps.
    fn step(&self, from: u64) -> (Vec<(ActionId, DeviceRef)>, u64) {
        let from = from.max(self.gone);
        let skipped = usize::try_from(from - self.gone).unwrap_or(usize::MAX);
        let named = self.order.iter().skip(skipped).take(STEP);
        let step: Vec<_> =
            named.filter_map(|action| Some((action.clone(), self.devices.get(action)?.clone()))).collect();
        let next = from + step.len() as u64;
        (step, next)
    }
}

// === impl Record ===

impl Record {
    fn write(action: &ActionId, device: &DeviceRef) -> Vec<u8> {
        let record = Self { action: action.to_string(), device: device.to_string() };
        // Two strings can always be written.
        serde_json::to_vec(&record).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Option<(ActionId, DeviceRef)> {
        let Self { action, device } = serde_json::from_slice(bytes).ok()?;
        Some((ActionId::parse(&action)?, DeviceRef::parse(&device)))
    }
}

#[cfg(test)]
mod tests;
