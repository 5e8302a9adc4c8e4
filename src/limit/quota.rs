//! The rules, and which of them a call is charged to.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::id::{ApplicationId, EntraGroupId, LimitName, OperationId, UserId};
use crate::limit::key::{Dimension, LimitKey, Per, RuleId};
use crate::limit::logins::{Attempt, LoginQuota};
use crate::limit::store::Names;
use crate::limit::window::{Bounds, Cost};
use crate::outcome::Rate;
use crate::principal::{Scope, Subject};
use crate::source::{Place, PolicyFiles, Problems};
use crate::time::Steady;

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
}

/// A part of a limit that is promised to somebody: a window of its own, and a key of its own beside the limit's.
///
/// A call is counted in one part, or in the rest, and in all bounds of it. It goes to the first that has room: those of
/// its caller, the rest, and then the lent ones that nobody wants back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) rule: RuleId,
    pub(super) bounds: Bounds,
    pub(super) owner: Owner,
    pub(super) idle: Idle,
}

/// To whom a part is promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    Application(ApplicationId),
    User(UserId),
    /// Whoever holds a role, as these groups and users.
    Holders {
        groups: HashSet<EntraGroupId>,
        users: HashSet<UserId>,
    },
}

/// What becomes of a part that its owner does not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Idle {
    /// Nobody else ever uses it.
    Kept,
    /// Others use what is idle, until its owner was refused: from then on nobody else is admitted into it, for one
    /// window of the bound that was full the longest.
    Lent,
}

/// What becomes of a call that finds no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenFull {
    Reject,
    /// It is held for at most so long, and at most so many are at a time for one key.
    Wait {
        wait: Duration,
        queue: NonZeroU32,
    },
}

/// Who calls, as limits see it.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The ids.
    pub subject: &'a Subject,
    /// Those of the user's groups that the policy names.
    pub groups: &'a [EntraGroupId],
}

/// Every limit of a policy set, by operation. Immutable: a part of a snapshot.
#[derive(Debug, Clone)]
pub struct QuotaSet {
    /// INVARIANT: at most [`MAX_CHARGES`] quotas an operation, in the order of their rules, no rule twice.
    by_operation: HashMap<OperationId, Arc<[Arc<Quota>]>, RandomState>,
    /// The same, by where the text of an operation's name lies. A snapshot has each name once, so that most calls find
    /// their quotas here, without a look at the text. The set keeps the names, so that no other text comes to lie there.
    by_address: HashMap<usize, Arc<[Arc<Quota>]>, RandomState>,
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
    /// The earliest moment at which the call may be admitted.
    pub(super) from: Steady,
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
            let quotas: Arc<[_]> = quotas.into();
            set.by_address.insert(address(&operation), quotas.clone());
            set.by_operation.insert(operation, quotas);
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
        let (quotas, caller, from) = (self.quotas(operation), caller.into(), Steady::default());
        Charges { quotas, caller, scope, from, max_keys: self.max_keys }
    }

    /// Whether a limit of the operation counts by device or device group, so that these must be known.
    pub fn counts_devices(&self, operation: &OperationId) -> bool {
        self.quotas(operation).iter().any(|quota| quota.per.counts_devices())
    }

    fn quotas(&self, operation: &OperationId) -> &[Arc<Quota>] {
        let found = self.by_address.get(&address(operation)).or_else(|| self.by_operation.get(operation));
        found.map_or(&[][..], |quotas| quotas)
    }

    /// The limit on failed logins, if there is one.
    pub fn login_limit(&self) -> Option<&LimitName> {
        self.logins.as_ref().map(|quota| &quota.name)
    }

    /// Every limit, and where it is written.
    pub fn places(&self) -> impl Iterator<Item = (&LimitName, &Place)> {
        self.places.iter()
    }

    /// What a limit counts apart, in the words of `per`; nothing for one that counts all calls together.
    pub fn counts_by(&self, limit: &LimitName) -> impl Iterator<Item = &'static str> {
        let mut quotas = self.by_operation.values().flat_map(|quotas| quotas.iter());
        let per = quotas.find(|quota| quota.name == *limit).map(|quota| quota.per).unwrap_or_default();
        Dimension::ALL.into_iter().filter(move |dimension| per.has(*dimension)).map(Dimension::as_str)
    }

    /// What a limit comes to, as sentences that can be compared with those of another set.
    pub fn describe(&self, limit: &LimitName) -> Vec<String> {
        let mut facts = Vec::new();
        for (operation, quotas) in &self.by_operation {
            for quota in quotas.iter().filter(|quota| quota.name == *limit) {
                facts.push(match quota.cost.get() {
                    1 => format!("is for `{operation}`"),
                    cost => format!("is for `{operation}`, each call of which counts {cost}"),
                });
                facts.extend(quota.bounds.each().iter().map(|bound| {
                    match u64::from(bound.millis()) - bound.rate.window.millis() {
                        0 => format!("lets {} through", bound.rate),
                        margin => format!("lets {} through, and waits {margin} ms longer", bound.rate),
                    }
                }));
                facts.extend((quota.effect == Effect::Shadow).then(|| "is on trial".to_owned()));
            }
        }
        let counts: Vec<_> = self.counts_by(limit).collect();
        if !counts.is_empty() {
            facts.push(format!("counts by {}", counts.join(", ")));
        }
        if let Some(logins) = self.logins.as_ref().filter(|logins| logins.name == *limit) {
            let each = logins.bounds.each().iter();
            facts.extend(each.map(|bound| format!("lets {} fail from an address", bound.rate)));
        }
        facts
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
        let counts =
            self.by_operation.values().flat_map(|quotas| quotas.iter()).map(|quota| quota.bounds.largest());
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

// === impl Owner ===

impl Owner {
    /// Whether the part is this caller's.
    pub(super) fn is(&self, caller: Caller<'_>) -> bool {
        let user = caller.subject.user.as_ref();
        match self {
            Self::Application(application) => caller.subject.application == *application,
            Self::User(owner) => user == Some(owner),
            Self::Holders { groups, users } => {
                user.is_some_and(|user| users.contains(user))
                    || caller.groups.iter().any(|group| groups.contains(group))
            }
        }
    }
}

// === impl Caller ===

/// A caller of whose groups nothing is known.
impl<'a> From<&'a Subject> for Caller<'a> {
    fn from(subject: &'a Subject) -> Self {
        Self { subject, groups: &[] }
    }
}

// === impl Charges ===

impl<'a> Charges<'a> {
    /// The same, of a call that may not be admitted before this moment, whatever room there is. It is held until then
    /// if every limit of it lets it wait for so long, or refused as [`Closed`](crate::limit::Refusal::Closed).
    pub fn not_before(self, from: Steady) -> Self {
        Self { from, ..self }
    }

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
