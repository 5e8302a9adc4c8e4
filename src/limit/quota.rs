//! The rules, and which of them a call is charged to.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::id::{LimitName, OperationId};
use crate::journal::Durability;
use crate::limit::charges::{Caller, Charges};
use crate::limit::key::{Dimension, Per, RuleId};
use crate::limit::logins::{Attempt, LoginQuota};
use crate::limit::open::OpenQuota;
use crate::limit::window::{Bounds, Cost};
use crate::outcome::Rate;
use crate::principal::{Scope, Subject};
use crate::source::{Place, PolicyFiles, Problems};
use crate::time::{Steady, Wall};

mod describe;
mod era;
mod part;

pub use describe::End;
use era::Eras;
pub(super) use part::{Idle, Owner, Part};

/// The most keys that one call may be charged to: their locks are held at the same time.
pub const MAX_CHARGES: usize = 8;

/// How many calls may be held at a time: each has a connection that does nothing meanwhile.
const DEFAULT_MAX_HELD: NonZeroU32 = match NonZeroU32::new(10_000) {
    Some(held) => held,
    None => NonZeroU32::MIN,
};

/// What a key takes without its times, in bytes, with its share of the table.
const KEY_BYTES: u64 = 165;

/// What the time of an admission takes, in bytes.
const TIME_BYTES: u64 = 4;

/// The limits that the service documents for an operation, counted per tenant and application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentedLimit {
    /// The operation, whose name is the limit's too.
    pub operation: OperationId,
    /// How many devices a call of it names.
    pub devices: NamedDevices,
    /// What a call of it starts.
    pub starts: Starts,
    /// Its rates; none for an operation without documented limits.
    pub rates: Vec<Rate>,
    /// Where the first of them stands; none where there is none.
    pub place: Option<Place>,
}

/// The limits of an operation.
#[derive(Debug, Clone, Default)]
pub(super) struct Limited {
    pub(super) quotas: Vec<Arc<Quota>>,
    pub(super) actions: Vec<Arc<OpenQuota>>,
}

/// What a successful call of an operation starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starts {
    /// A machine action, which is under way when the call is over.
    Action,
    /// Nothing that outlasts the call.
    Nothing,
}

/// How many devices the calls of an operation name, in the path or in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedDevices {
    /// None.
    None,
    /// One, or an action behind which there is one.
    One,
    /// One or more.
    Several,
}

/// One limit as the calls of an operation meet it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    pub(super) rule: RuleId,
    pub(super) per: Per,
    pub(super) name: LimitName,
    /// Shortest window first; no two of one length.
    pub(super) bounds: Bounds,
    /// INVARIANT: no more than the smallest count.
    pub(super) cost: Cost,
    pub(super) effect: Effect,
    pub(super) visibility: Visibility,
    pub(super) when_full: WhenFull,
    /// How many of its calls may be on their way at once; none where that is not bounded. Without `parts`.
    pub(super) in_flight: Option<NonZeroU32>,
    /// What is promised to some of its callers. `rule` and `bounds` are then those of the rest, which is nobody's. If
    /// one of the limit's bounds has no rest, the rest is without bounds, and takes no call at all. So is a part.
    pub(super) parts: Box<[Part]>,
    /// What the limit lets through altogether, parts included.
    pub(super) whole: Bounds,
    /// From when on it is not applied any more; none if that never comes.
    pub(super) until: Option<Wall>,
}

/// What becomes of a call that finds no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum WhenFull {
    #[default]
    Reject,
    /// It is held for at most so long, and at most so many are at a time for one key.
    Wait { wait: Duration, queue: NonZeroU32 },
}

/// Every limit of a policy set, by operation. Immutable: a part of a snapshot.
#[derive(Debug, Clone)]
pub struct QuotaSet {
    /// INVARIANT: at most [`MAX_CHARGES`] keys an operation, parts included, in the order of their rules, no rule twice.
    by_operation: HashMap<OperationId, Arc<Eras>, RandomState>,
    /// The same, by where the text of an operation's name lies. A snapshot has each name once, so that most calls find
    /// their quotas here, without a look at the text. The set keeps the names, so that no other text comes to lie there.
    by_address: HashMap<usize, Arc<Eras>, RandomState>,
    /// Where each limit is written.
    pub(super) places: HashMap<LimitName, Place>,
    pub(super) limits: usize,
    pub(super) max_keys: NonZeroU32,
    /// How many calls may be held at a time, of all limits together.
    pub(super) max_held: NonZeroU32,
    /// What an admission must survive before the call is forwarded; nothing is waited for if none.
    pub(super) durable: Option<Durability>,
    /// The limit on failed logins, if there is one.
    pub(super) logins: Option<LoginQuota>,
}

/// Whether a limit refuses what it has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It does.
    Enforced,
    /// It counts as if it did, and only says what it would have refused.
    Shadow,
}

/// Whether callers get to see how a limit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    Shown,
    Hidden,
}

// === impl DocumentedLimit ===

impl DocumentedLimit {
    pub(super) fn mistake(&self, files: &PolicyFiles, problems: &mut Problems, message: impl fmt::Display) {
        match &self.place {
            Some(place) => problems.place(files, place, message),
            None => problems.file("operations.toml", message),
        }
    }
}

// === impl QuotaSet ===

impl QuotaSet {
    pub(super) fn new(
        limited: impl IntoIterator<Item = (OperationId, Limited)>,
        places: HashMap<LimitName, Place>,
        limits: usize,
        max_keys: NonZeroU32,
        logins: Option<LoginQuota>,
    ) -> Self {
        let ((by_operation, by_address), max_held) = (Default::default(), DEFAULT_MAX_HELD);
        let durable = None;
        let mut set = Self { by_operation, by_address, places, limits, max_keys, max_held, durable, logins };
        for (operation, limited) in limited {
            let eras = Arc::new(Eras::new(limited));
            set.by_address.insert(address(&operation), eras.clone());
            set.by_operation.insert(operation, eras);
        }
        set
    }

    /// The same with another bound of held calls, if there is one.
    pub(super) fn holding(self, max_held: Option<NonZeroU32>) -> Self {
        Self { max_held: max_held.unwrap_or(self.max_held), ..self }
    }

    /// What a call of `operation` by this caller is charged to. A limit per user does not apply to an application's own
    /// call, which has none. Where a limit [counts devices](Self::counts_devices), the scope must have been looked up.
    pub fn charges<'a>(
        &'a self,
        caller: impl Into<Caller<'a>>,
        operation: &'a OperationId,
        scope: &'a Scope,
    ) -> Charges<'a> {
        let caller = caller.into();
        let limits = self.eras(operation).map_or((&[][..], &[][..]), |eras| eras.at(caller.at));
        self.charges_to(limits, caller, operation, scope)
    }

    /// The same of a call that passes since what refuses it is not enforced: limits that are tried do not count it, just
    /// as if it had been refused, and those that are enforced do.
    pub fn charges_of_tried<'a>(
        &'a self,
        caller: impl Into<Caller<'a>>,
        operation: &'a OperationId,
        scope: &'a Scope,
    ) -> Charges<'a> {
        let caller = caller.into();
        let limits = self.eras(operation).map_or((&[][..], &[][..]), |eras| eras.enforced_at(caller.at));
        self.charges_to(limits, caller, operation, scope)
    }

    fn charges_to<'a>(
        &'a self,
        (quotas, actions): (&'a [Arc<Quota>], &'a [Arc<OpenQuota>]),
        caller: Caller<'a>,
        operation: &'a OperationId,
        scope: &'a Scope,
    ) -> Charges<'a> {
        let (from, by) = (Steady::default(), None);
        let Self { max_keys, max_held, durable, .. } = *self;
        Charges { quotas, actions, caller, scope, operation, from, by, max_keys, max_held, durable }
    }

    /// The same set, none of whose limits is enforced but that on failed logins: the others count as if they were, and say
    /// whom they would refuse. What must survive a crash is then no limit, and nothing is waited for.
    #[must_use]
    pub fn tried(self) -> Self {
        let tried =
            |(operation, eras): (&OperationId, &Arc<Eras>)| (operation.clone(), Arc::new(eras.tried()));
        let by_operation: HashMap<_, _, _> = self.by_operation.iter().map(tried).collect();
        let by_address = by_operation.iter().map(|(name, eras)| (address(name), eras.clone())).collect();
        Self { by_operation, by_address, durable: None, ..self }
    }

    /// Whether a limit of the operation counts by device or device group, so that these must be known.
    pub fn counts_devices(&self, operation: &OperationId) -> bool {
        self.eras(operation).is_some_and(|eras| {
            eras.all().iter().any(|quota| quota.per.counts_devices())
                || eras.all_actions().iter().any(|quota| quota.per.counts_devices())
        })
    }

    fn eras(&self, operation: &OperationId) -> Option<&Eras> {
        let found = self.by_address.get(&address(operation)).or_else(|| self.by_operation.get(operation));
        found.map(|eras| &**eras)
    }

    /// Every limit of every operation, those that have lapsed included.
    pub(super) fn all(&self) -> impl Iterator<Item = (&OperationId, &Quota)> {
        self.by_operation
            .iter()
            .flat_map(|(operation, eras)| eras.all().iter().map(move |quota| (operation, &**quota)))
    }

    /// The limit on failed logins, if there is one.
    pub fn login_limit(&self) -> Option<&LimitName> {
        self.logins.as_ref().map(|quota| &quota.name)
    }

    /// Every limit, and where it is written.
    pub fn places(&self) -> impl Iterator<Item = (&LimitName, &Place)> {
        self.places.iter()
    }

    /// The same of limits on actions under way.
    fn all_actions(&self) -> impl Iterator<Item = (&OperationId, &OpenQuota)> {
        self.by_operation
            .iter()
            .flat_map(|(operation, eras)| eras.all_actions().iter().map(move |quota| (operation, &**quota)))
    }

    /// Where a limit is written.
    pub fn place(&self, limit: &LimitName) -> Option<&Place> {
        self.places.get(limit)
    }

    /// A login that is tried from this address, as the limit on failed ones counts it.
    pub fn attempt(&self, address: Option<IpAddr>) -> Attempt<'_> {
        Attempt::new(self.logins.as_ref(), address)
    }

    /// The most that the limiter may come to hold under this set, in bytes: every key full, each of the largest limit.
    pub fn worst_case_bytes(&self) -> u64 {
        let counts = self.all().flat_map(|(_, quota)| {
            let parts = quota.parts.iter().map(|part| part.bounds.largest());
            parts.chain([quota.bounds.largest()])
        });
        let each = counts.map(|largest| KEY_BYTES + TIME_BYTES * u64::from(largest.get())).max().unwrap_or(0);
        each * u64::from(self.max_keys.get())
    }

    /// How many limits there are, documented ones included.
    pub fn len(&self) -> usize {
        self.limits
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.limits == 0
    }

    pub(super) fn with_durable(self, durable: Option<Durability>) -> Self {
        Self { durable, ..self }
    }

    /// What the record of an admission must survive before the call is forwarded; nothing is waited for if none.
    pub fn durable(&self) -> Option<Durability> {
        self.durable
    }

    /// The most keys that the limiter may hold under this set.
    pub fn max_keys(&self) -> NonZeroU32 {
        self.max_keys
    }
}

fn address(operation: &OperationId) -> usize {
    operation.as_str().as_ptr().addr()
}

// === impl Quota ===

impl Quota {
    /// Whether a call of this subject has all that the limit counts by.
    pub(super) fn counts(&self, subject: &Subject) -> bool {
        subject.user.is_some() || !self.per.has(Dimension::User)
    }

    /// Whether any part of it, or its rest, may count a call of this caller.
    pub(super) fn takes(&self, caller: Caller<'_>) -> bool {
        let open = |part: &Part| part.idle == Idle::Lent || part.owner.is(caller);
        self.fits(&self.bounds) || self.parts.iter().any(|part| self.fits(&part.bounds) && open(part))
    }

    /// Whether it counts all calls together that the API counts together: what it has no room for, it has none for from
    /// any other caller of the lane.
    pub(super) fn binds_lanes(&self) -> bool {
        let lane = Per::default().with(Dimension::Tenant).with(Dimension::Application);
        self.parts.is_empty() && self.per.is_coarser(lane)
    }

    /// The one of its rates with the longest window.
    pub(super) fn longest_rate(&self) -> Option<Rate> {
        let bounds = self.parts.iter().map(|part| &part.bounds).chain([&self.bounds]);
        let rates = bounds.flat_map(|bounds| bounds.each().iter().map(|bound| bound.rate));
        rates.max_by_key(|rate| rate.window)
    }

    /// Whether a part of it, or its rest, ever has room for a call.
    pub(super) fn fits(&self, bounds: &Bounds) -> bool {
        !bounds.each().is_empty() && self.cost.get() <= bounds.smallest().get()
    }
}
