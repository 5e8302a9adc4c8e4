//! The rules, and which of them a call is charged to.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use crate::id::{LimitName, OperationId};
use crate::limit::logins::{Attempt, LoginQuota};
use crate::limit::sync::Mutex;
use crate::outcome::Rate;
use crate::principal::{Scope, Subject};
use crate::source::{Place, PolicyFiles, Problems};

/// The most keys that one call may be charged to: their locks are held at the same time.
pub const MAX_CHARGES: usize = 8;

/// The limits that the service documents for an operation, counted per tenant and application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentedLimit {
    /// The operation, whose name is the limit's too.
    pub operation: OperationId,
    /// Its rates; none for an operation without documented limits.
    pub rates: Vec<Rate>,
    /// Where the first of them stands; none where there is none.
    pub place: Option<Place>,
}

/// One limit as the calls of an operation meet it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    pub(super) rule: RuleId,
    pub(super) per: Per,
    pub(super) name: LimitName,
    /// Shortest window first; no two of one length.
    pub(super) rates: SmallVec<[Rate; 2]>,
    pub(super) visibility: Visibility,
}

/// Every limit of a policy set, by operation. Immutable: a part of a snapshot.
#[derive(Debug, Clone)]
pub struct QuotaSet {
    /// INVARIANT: at most [`MAX_CHARGES`] quotas an operation, in the order of their rules, no rule twice.
    pub(super) by_operation: HashMap<OperationId, Vec<Arc<Quota>>, RandomState>,
    /// Where each limit is written.
    pub(super) places: HashMap<LimitName, Place>,
    pub(super) limits: usize,
    pub(super) max_keys: NonZeroU32,
    /// The limit on failed logins, if there is one.
    pub(super) logins: Option<LoginQuota>,
}

/// One instance of a limit: the limit, and the tenant, application and user that it counts for.
///
/// 52 bytes without a pointer, compared byte for byte and never by a digest: two keys are never mistaken for one. It is
/// the same across reloads for as long as the limit's name and its `per` are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LimitKey {
    rule: RuleId,
    /// Tenant, application, user; zeros for what the limit does not count by. Which that is, the rule says.
    ids: [[u8; 16]; 3],
}

/// One call's debt to one key.
#[derive(Debug, Clone)]
pub struct Charge<'a> {
    pub(super) key: LimitKey,
    pub(super) quota: &'a Quota,
}

/// Everything that a call is charged to.
#[derive(Debug, Clone)]
pub struct Charges<'a> {
    /// INVARIANT: in the order of their keys, no key twice, at most [`MAX_CHARGES`].
    pub(super) charges: SmallVec<[Charge<'a>; 2]>,
    pub(super) max_keys: NonZeroU32,
}

/// Whether callers get to see how a limit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    Shown,
    Hidden,
}

/// What a limit counts by, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Per(u8);

/// One thing that a limit may count by, as `per` spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Dimension {
    Tenant,
    Application,
    User,
    Operation,
    /// Where a call comes from: of failed logins alone.
    Address,
}

/// The number of a rule: the same for the same rule for as long as the process lives, and never used for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RuleId(u32);

/// What makes a limit the same limit after a reload.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Rule {
    pub(super) name: LimitName,
    pub(super) per: Per,
    /// The operation, if the limit counts each by itself.
    pub(super) operation: Option<OperationId>,
}

/// More rules than the process can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_RULES} different limits since the process started: restart it to load more")]
pub(super) struct TooManyRules;

/// The rules known so far. One that is gone from the policy keeps its number, since it may come back and its log may
/// still be held; each takes about 100 bytes, so the most that reloads can make it grow to is 100 MB.
const MAX_RULES: usize = 1_000_000;

static RULES: LazyLock<Mutex<HashMap<Rule, RuleId>>> = LazyLock::new(Mutex::default);

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
    /// What a call of `operation` by `subject` is charged to. A limit per user does not apply to an application's own
    /// call, which has none. No limit counts by device, so that the scope decides nothing.
    pub fn charges(&self, subject: &Subject, operation: &OperationId, _scope: &Scope) -> Charges<'_> {
        let quotas = self.by_operation.get(operation).map_or(&[][..], Vec::as_slice);
        let charge = |quota| Some(Charge { key: LimitKey::new(quota, subject)?, quota });
        // Keys begin with the rule, so that the order of the rules is that of the keys.
        Charges {
            charges: quotas.iter().filter_map(|quota| charge(quota)).collect(),
            max_keys: self.max_keys,
        }
    }

    /// A login that is tried from this address, as the limit on failed ones counts it.
    pub fn attempt(&self, address: Option<IpAddr>) -> Attempt<'_> {
        Attempt::new(self.logins.as_ref(), address)
    }

    /// How many limits there are, documented ones included.
    pub fn len(&self) -> usize {
        self.limits
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.limits == 0
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
        let quota = self.by_operation.values().flatten().find(|quota| quota.name == *limit);
        let per = quota.map(|quota| quota.per).unwrap_or_default();
        Dimension::ALL.into_iter().filter(move |dimension| per.has(*dimension)).map(Dimension::as_str)
    }

    /// What a limit comes to, as sentences that can be compared with those of another set.
    pub fn describe(&self, limit: &LimitName) -> Vec<String> {
        let mut facts = Vec::new();
        for (operation, quotas) in &self.by_operation {
            for quota in quotas.iter().filter(|quota| quota.name == *limit) {
                facts.push(format!("is for `{operation}`"));
                facts.extend(quota.rates.iter().map(|rate| format!("lets {rate} through")));
            }
        }
        let counts: Vec<_> = self.counts_by(limit).collect();
        if !counts.is_empty() {
            facts.push(format!("counts by {}", counts.join(", ")));
        }
        if let Some(logins) = self.logins.as_ref().filter(|logins| logins.name == *limit) {
            facts.extend(logins.rates.iter().map(|rate| format!("lets {rate} fail from an address")));
        }
        facts
    }

    /// Where a limit is written.
    pub fn place(&self, limit: &LimitName) -> Option<&Place> {
        self.places.get(limit)
    }

    /// The most keys that the limiter may hold under this set.
    pub fn max_keys(&self) -> NonZeroU32 {
        self.max_keys
    }
}

// === impl LimitKey ===

impl LimitKey {
    /// The key of `subject` under `quota`; none if the quota counts by something that the subject does not have.
    fn new(quota: &Quota, subject: &Subject) -> Option<Self> {
        let id = |dimension, id: &[u8; 16]| if quota.per.has(dimension) { *id } else { [0; 16] };
        let user = match (subject.user, quota.per.has(Dimension::User)) {
            (Some(user), true) => *user.as_bytes(),
            (None, true) => return None,
            (_, false) => [0; 16],
        };
        let tenant = id(Dimension::Tenant, subject.tenant.as_bytes());
        let application = id(Dimension::Application, subject.application.as_bytes());
        Some(Self { rule: quota.rule, ids: [tenant, application, user] })
    }
}

/// In two writes, where a derived one makes eight.
impl Hash for LimitKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.rule.0);
        state.write(self.ids.as_flattened());
    }
}

// === impl Charges ===

impl Charges<'_> {
    /// How many keys the call is charged to.
    pub fn len(&self) -> usize {
        self.charges.len()
    }

    /// Whether nothing limits the call.
    pub fn is_empty(&self) -> bool {
        self.charges.is_empty()
    }
}

// === impl Per ===

impl Per {
    pub(super) const fn with(self, dimension: Dimension) -> Self {
        Self(self.0 | 1 << dimension as u8)
    }

    /// Whether one of its keys counts every call of this operation that one of `other`'s counts.
    pub(super) const fn is_coarser(self, other: Self) -> bool {
        self.0 & !Self(0).with(Dimension::Operation).0 & !other.0 == 0
    }

    pub(super) const fn has(self, dimension: Dimension) -> bool {
        self.0 & 1 << dimension as u8 != 0
    }

    /// Whether a key of its is one caller's own, so that showing how it stands shows nobody else's traffic.
    pub(super) const fn default_visibility(self) -> Visibility {
        if self.has(Dimension::Application) || self.has(Dimension::User) {
            Visibility::Shown
        } else {
            Visibility::Hidden
        }
    }
}

// === impl Dimension ===

impl Dimension {
    const ALL: [Self; 5] = [Self::Tenant, Self::Application, Self::User, Self::Operation, Self::Address];

    /// The word in `per`.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Application => "application",
            Self::User => "user",
            Self::Operation => "operation",
            Self::Address => "address",
        }
    }
}

// === impl Rule ===

impl Rule {
    /// The number of this rule, a new one if it was never seen.
    pub(super) fn id(self) -> Result<RuleId, TooManyRules> {
        let mut rules = RULES.lock();
        let next = rules.len();
        if let Some(id) = rules.get(&self) {
            return Ok(*id);
        }
        let id = u32::try_from(next).ok().filter(|_| next < MAX_RULES).map(RuleId).ok_or(TooManyRules)?;
        rules.insert(self, id);
        Ok(id)
    }
}
