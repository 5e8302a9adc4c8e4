//! The rules, and which of them a call is charged to.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::id::{EntraGroupId, LimitName, OperationId};
use crate::limit::key::{Dimension, LimitKey, Per, RuleId};
use crate::limit::logins::{Attempt, LoginQuota};
use crate::limit::store::Names;
use crate::limit::window::{Bounds, Cost};
use crate::outcome::Rate;
use crate::principal::{Scope, Subject};
use crate::source::{Place, PolicyFiles, Problems};
use crate::time::Wall;

mod describe;
mod era;
mod part;

use era::Eras;
pub(super) use part::{Idle, Owner, Part};

/// The most keys that one call may be charged to: their locks are held at the same time.
pub const MAX_CHARGES: usize = 8;

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
    /// Its rates; none for an operation without documented limits.
    pub rates: Vec<Rate>,
    /// Where the first of them stands; none where there is none.
    pub place: Option<Place>,
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
    /// What is promised to some of its callers. `rule` and `bounds` are then those of the rest, which is nobody's; a
    /// bound that has no rest is left out of it, and the rest without any bound takes no call at all.
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

/// Who calls, and when, as limits see it.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The ids.
    pub subject: &'a Subject,
    /// Those of the user's groups that the policy names.
    pub groups: &'a [EntraGroupId],
    /// The calendar's time, by which limits and parts lapse.
    pub at: Wall,
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
    places: HashMap<LimitName, Place>,
    pub(super) limits: usize,
    pub(super) max_keys: NonZeroU32,
    /// The limit on failed logins, if there is one.
    pub(super) logins: Option<LoginQuota>,
}

/// Everything that a call is charged to: the limits of its operation, and what they count by.
#[derive(Debug, Clone, Copy)]
pub struct Charges<'a> {
    /// INVARIANT: in the order of their rules, no rule twice.
    quotas: &'a [Arc<Quota>],
    caller: Caller<'a>,
    scope: &'a Scope,
    pub(super) max_keys: NonZeroU32,
}

/// One call's debt to one key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Charge<'a> {
    pub(super) key: LimitKey,
    pub(super) quota: &'a Quota,
}

/// Charges of a call, by their places among all of them: a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Places(u8);

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
        quotas: impl IntoIterator<Item = (OperationId, Vec<Arc<Quota>>)>,
        places: HashMap<LimitName, Place>,
        limits: usize,
        max_keys: NonZeroU32,
        logins: Option<LoginQuota>,
    ) -> Self {
        let (by_operation, by_address) = Default::default();
        let mut set = Self { by_operation, by_address, places, limits, max_keys, logins };
        for (operation, quotas) in quotas {
            let eras = Arc::new(Eras::new(quotas));
            set.by_address.insert(address(&operation), eras.clone());
            set.by_operation.insert(operation, eras);
        }
        set
    }

    /// What a call of `operation` by this caller is charged to. A limit per user does not apply to an application's own
    /// call, which has none. Where a limit [counts devices](Self::counts_devices), the scope must have been looked up.
    pub fn charges<'a>(
        &'a self,
        caller: impl Into<Caller<'a>>,
        operation: &OperationId,
        scope: &'a Scope,
    ) -> Charges<'a> {
        let caller = caller.into();
        let quotas = self.eras(operation).map_or(&[][..], |eras| eras.at(caller.at));
        Charges { quotas, caller, scope, max_keys: self.max_keys }
    }

    /// Whether a limit of the operation counts by device or device group, so that these must be known.
    pub fn counts_devices(&self, operation: &OperationId) -> bool {
        let quotas = self.eras(operation).map_or(&[][..], Eras::all);
        quotas.iter().any(|quota| quota.per.counts_devices())
    }

    fn eras(&self, operation: &OperationId) -> Option<&Eras> {
        let found = self.by_address.get(&address(operation)).or_else(|| self.by_operation.get(operation));
        found.map(|eras| &**eras)
    }

    /// Every limit of every operation, those that have lapsed included.
    fn all(&self) -> impl Iterator<Item = (&OperationId, &Quota)> {
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
    fn counts(&self, subject: &Subject) -> bool {
        subject.user.is_some() || !self.per.has(Dimension::User)
    }
}

// === impl Caller ===

/// A caller of whose groups nothing is known, before anything has lapsed.
impl<'a> From<&'a Subject> for Caller<'a> {
    fn from(subject: &'a Subject) -> Self {
        Self { subject, groups: &[], at: Wall::default() }
    }
}

// === impl Charges ===

impl<'a> Charges<'a> {
    /// How many keys the call is charged to.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether nothing limits the call.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Each of them, in the order of their rules, no key twice, at most [`MAX_CHARGES`].
    pub(super) fn iter(&self) -> impl Iterator<Item = Charge<'a>> {
        let (subject, scope) = (self.caller.subject, self.scope);
        self.quotas.iter().filter(|quota| quota.counts(subject)).map(|quota| {
            let mut key = LimitKey::default();
            key.set(quota.rule, quota.per, subject, scope);
            Charge { key, quota }
        })
    }

    /// The only one, if there is one limit, its key written into `key`: where it lies from then on, since moving it
    /// would take as long as making it.
    pub(super) fn only(&self, key: &mut LimitKey) -> Option<&'a Quota> {
        let [quota] = self.quotas else { return None };
        quota.counts(self.caller.subject).then(|| {
            key.set(quota.rule, quota.per, self.caller.subject, self.scope);
            &**quota
        })
    }

    /// The limits of these places.
    pub(super) fn names(&self, places: Places) -> Names {
        if places == Places::default() {
            return Names::new();
        }
        let named = self.iter().zip(0..).filter(|(_, place)| places.has(*place));
        named.map(|(charge, _)| charge.quota.name.clone()).collect()
    }
}

// === impl Places ===

impl Places {
    /// These and one more, of the first [`MAX_CHARGES`].
    pub(super) const fn with(self, place: u8) -> Self {
        Self(self.0 | 1 << place)
    }

    pub(super) const fn has(self, place: u8) -> bool {
        self.0 & 1 << place != 0
    }
}
