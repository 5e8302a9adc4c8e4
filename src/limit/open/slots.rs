//! The places of one call among the actions under way.

use std::time::Duration;

use smallvec::SmallVec;

use super::record::Record;
use super::{OpenActions, OpenKey};
use crate::id::{ActionId, RequestId};
use crate::limit::store::Names;
use crate::time::Clock;

/// The places that one call has taken, given back when it ends.
#[derive(Debug)]
pub(in crate::limit) struct Slots {
    /// None once an action has them.
    open: Option<OpenActions>,
    taken: SmallVec<[(OpenKey, Duration); 1]>,
    overrun: Names,
    stage: Stage,
    clock: Clock,
}

/// How much is known of whether a call has started an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The API did not see it, or said that it has not.
    Nothing,
    /// The API saw it, and has not said.
    Unknown,
}

/// For how long a call keeps its places that the API saw, and whose answer nobody read: a script of a live-response
/// session times out after so long (*Run live response commands on a device*).
const UNANSWERED: Duration = Duration::from_secs(600);

// === impl Slots ===

impl Slots {
    pub(super) fn new(
        open: OpenActions,
        taken: SmallVec<[(OpenKey, Duration); 1]>,
        overrun: Names,
        clock: &Clock,
    ) -> Self {
        Self { open: Some(open), taken, overrun, stage: Stage::Nothing, clock: clock.clone() }
    }

    /// The limits that would have refused the call, if they were enforced.
    pub(in crate::limit) fn overrun(&self) -> &Names {
        &self.overrun
    }

    /// The API has the first byte of the call: unless it says otherwise, an action may be under way.
    pub(in crate::limit) fn forwarded(&mut self) {
        self.stage = Stage::Unknown;
    }

    /// The API has answered that no action is under way.
    pub(in crate::limit) fn settled(&mut self) {
        self.stage = Stage::Nothing;
    }

    /// The API has answered: the call has started this action, which has its places from now on.
    pub(in crate::limit) fn opened(&mut self, action: &ActionId, clock: &Clock) {
        let Some(open) = self.open.take() else { return };
        let mut memory = open.0.memory.lock();
        let (now, wall) = (clock.steady(), clock.wall());
        for (key, open_for) in self.taken.drain(..) {
            memory.leave(&key);
            open.write(|| Record::opened(action, &key, wall + open_for).write());
            memory.open(action, key, now + open_for, wall + open_for);
        }
    }
}

impl Drop for Slots {
    /// A call whose caller hung up, or that failed at the API, may have started an action that nobody can name: it keeps
    /// its places for [`UNANSWERED`], so that nobody gets past a limit by not waiting for the answer.
    fn drop(&mut self) {
        let Some(open) = self.open.take().filter(|_| !self.taken.is_empty()) else { return };
        let nameless = match self.stage {
            Stage::Nothing => None,
            Stage::Unknown => ActionId::parse(&format!("unanswered-{}", RequestId::random())),
        };
        let mut memory = open.0.memory.lock();
        for (key, open_for) in self.taken.drain(..) {
            memory.leave(&key);
            if let Some(action) = &nameless {
                let (now, wall) = (self.clock.steady(), self.clock.wall());
                let lapse = open_for.min(UNANSWERED);
                open.write(|| Record::opened(action, &key, wall + lapse).write());
                memory.open(action, key, now + lapse, wall + lapse);
            }
        }
    }
}
