//! The keys that calls are counted under: one instance of a limit each.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use parking_lot::RwLock;

use crate::id::{ApplicationId, DeviceGroupId, DeviceId, LimitName, OperationId, TenantId, UserId};
use crate::limit::sync::Mutex;
use crate::principal::{Scope, Subject};

pub(super) mod names;

/// One instance of a limit: the limit, and whom it counts for there.
///
/// The ids that the rule counts by, in one order and nothing else, and the rule's number, compared byte for byte and
/// never by a digest: two keys are never mistaken for one. It is the same across reloads for as long as the limit's
/// name and its `per` are. Lies on the stack.
#[derive(Clone, Copy)]
pub struct LimitKey {
    bytes: [u8; LimitKey::MAX],
    length: usize,
}

/// A key at rest, in 40 bytes if it holds no more than two ids.
pub(super) enum StoredKey {
    Short { length: u8, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

/// What a limit counts by, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Per(u8);

/// One thing that a limit may count by, as `per` spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Dimension {
    Tenant,
    Application,
    User,
    Operation,
    Device,
    DeviceGroup,
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
    /// Whose part of the limit it is, as the policy names them; none for the limit itself, or the rest of it.
    pub(super) part: Option<Arc<str>>,
}

/// Whom a key counts for: what its limit counts by, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Whose {
    /// The tenant.
    pub tenant: Option<TenantId>,
    /// The application.
    pub application: Option<ApplicationId>,
    /// The user.
    pub user: Option<UserId>,
    /// The operation, if the limit counts each by itself.
    pub operation: Option<OperationId>,
    /// The device by its id, in hexadecimal digits; empty for all that nobody knows.
    pub device: Option<String>,
    /// The device group; empty for all devices of none.
    pub device_group: Option<String>,
}

/// More rules than the process can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_RULES} different limits since the process started: restart it to load more")]
pub(super) struct TooManyRules;

/// The rules known so far. One that is gone from the policy keeps its number, since it may come back and its log may
/// still be held; each takes about 100 bytes, so the most that reloads can make it grow to is 100 MB.
const MAX_RULES: usize = 1_000_000;

static RULES: LazyLock<Mutex<HashMap<Rule, RuleId>>> = LazyLock::new(Mutex::default);

/// The numbers of device groups, as [`RULES`] has those of rules.
static GROUPS: LazyLock<RwLock<HashMap<DeviceGroupId, u32>>> = LazyLock::new(RwLock::default);

/// A rule and two GUIDs, tenant and application say, with room to spare for the alignment that there is anyway.
const SHORT: usize = 38;

// === impl LimitKey ===

impl LimitKey {
    /// A rule, tenant, application and user, a device with the length of its id, and a device group.
    const MAX: usize = 4 + 3 * 16 + 21 + 4;

    /// Makes it the key of `subject` under a rule that counts by nothing that the subject does not have. To be called
    /// once for each key.
    ///
    /// Of several devices it is the first that counts. All devices and groups that nobody knows are one.
    #[inline]
    pub(super) fn set(&mut self, rule: RuleId, per: Per, subject: &Subject, scope: &Scope) {
        let mut length = 0;
        if per.has(Dimension::Tenant) {
            length = self.put(length, subject.tenant.as_bytes());
        }
        if per.has(Dimension::Application) {
            length = self.put(length, subject.application.as_bytes());
        }
        if let (Some(user), true) = (&subject.user, per.has(Dimension::User)) {
            length = self.put(length, user.as_bytes());
        }
        if per.counts_devices() {
            length = self.put_device(length, per, scope);
        }
        self.length = self.put(length, &rule.0.to_ne_bytes());
    }

    fn put_device(&mut self, mut length: usize, per: Per, scope: &Scope) -> usize {
        let device = scope.devices.first();
        if per.has(Dimension::Device) {
            let id = device.and_then(|device| device.id);
            let id = id.as_ref().map_or(&[][..], DeviceId::as_bytes);
            let mut padded = [0; 20];
            padded.iter_mut().zip(id).for_each(|(place, byte)| *place = *byte);
            length = self.put(length, &padded);
            // An id of 16 bytes is not one of 20 that ends in zeros, and none is neither.
            length = self.put(length, &[id.len() as u8]);
        }
        if per.has(Dimension::DeviceGroup) {
            let group = device.and_then(|device| device.group.as_ref());
            length = self.put(length, &group.map_or(0, group_number).to_ne_bytes());
        }
        length
    }

    #[inline]
    fn put<const N: usize>(&mut self, start: usize, part: &[u8; N]) -> usize {
        // `MAX` has room for every part there is.
        match self.bytes.get_mut(start..).and_then(|rest| rest.first_chunk_mut()) {
            Some(place) => {
                *place = *part;
                start + N
            }
            None => start,
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}

impl Default for LimitKey {
    fn default() -> Self {
        Self { bytes: [0; Self::MAX], length: 0 }
    }
}

impl PartialEq for LimitKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for LimitKey {}

impl Hash for LimitKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LimitKey({:02x?})", self.as_bytes())
    }
}

// === impl StoredKey ===

impl StoredKey {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or(bytes),
            Self::Long(bytes) => bytes,
        }
    }
}

impl From<&LimitKey> for StoredKey {
    fn from(key: &LimitKey) -> Self {
        let from = key.as_bytes();
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..from.len()) {
            Some(place) => {
                place.copy_from_slice(from);
                Self::Short { length: key.length as u8, bytes }
            }
            None => Self::Long(from.into()),
        }
    }
}

impl Borrow<[u8]> for StoredKey {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for StoredKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for StoredKey {}

impl Hash for StoredKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredKey({:02x?})", self.as_bytes())
    }
}

// === impl Per ===

impl Per {
    pub(super) const fn with(self, dimension: Dimension) -> Self {
        Self(self.0 | 1 << dimension as u8)
    }

    pub(super) const fn has(self, dimension: Dimension) -> bool {
        self.0 & 1 << dimension as u8 != 0
    }

    /// Whether one of its keys counts every call of this operation that one of `other`'s counts.
    pub(super) const fn is_coarser(self, other: Self) -> bool {
        self.0 & !Self(0).with(Dimension::Operation).0 & !other.0 == 0
    }

    /// Whether it takes a device to know the key.
    pub(super) const fn counts_devices(self) -> bool {
        self.has(Dimension::Device) || self.has(Dimension::DeviceGroup)
    }
}

// === impl Dimension ===

impl Dimension {
    pub(super) const ALL: [Self; 7] = [
        Self::Tenant,
        Self::Application,
        Self::User,
        Self::Operation,
        Self::Device,
        Self::DeviceGroup,
        Self::Address,
    ];

    /// The word in `per`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Application => "application",
            Self::User => "user",
            Self::Operation => "operation",
            Self::Device => "device",
            Self::DeviceGroup => "device_group",
            Self::Address => "address",
        }
    }
}

// === impl Whose ===

impl Whose {
    /// Whom the key of these bytes counts for, under its rule.
    pub(super) fn of(key: &[u8], rule: &Rule) -> Self {
        let mut rest = key;
        let mut take = |bytes: usize| {
            let (part, behind) = rest.split_at_checked(bytes).unwrap_or((rest, &[]));
            rest = behind;
            part
        };
        let mut guid = |dimension| {
            let has = rule.per.has(dimension);
            has.then(|| take(16).first_chunk().map(|bytes| u128::from_be_bytes(*bytes))).flatten()
        };
        let tenant = guid(Dimension::Tenant).map(TenantId::from_u128);
        let application = guid(Dimension::Application).map(ApplicationId::from_u128);
        let user = guid(Dimension::User).map(UserId::from_u128);
        let device = rule.per.has(Dimension::Device).then(|| {
            let (id, length) = (take(20), take(1).first().copied().unwrap_or_default());
            let id = id.get(..usize::from(length)).unwrap_or(id);
            id.iter().map(|byte| format!("{byte:02x}")).collect()
        });
        let device_group = rule.per.has(Dimension::DeviceGroup).then(|| {
            let number = take(4).first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
            let groups = GROUPS.read();
            let group = groups.iter().find(|(_, known)| **known == number);
            group.map_or_else(String::new, |(group, _)| group.to_string())
        });
        Self { tenant, application, user, operation: rule.operation.clone(), device, device_group }
    }
}

/// The number of a device group, from 1; 0, as if nobody knew it, once there were more than [`MAX_RULES`].
fn group_number(group: &DeviceGroupId) -> u32 {
    if let Some(number) = GROUPS.read().get(group) {
        return *number;
    }
    let mut groups = GROUPS.write();
    match u32::try_from(groups.len() + 1) {
        Ok(next) if groups.len() < MAX_RULES => *groups.entry(group.clone()).or_insert(next),
        _ => groups.get(group).copied().unwrap_or(0),
    }
}

// === impl RuleId ===

impl RuleId {
    /// The rule of the key of these bytes.
    pub(super) fn of(key: &[u8]) -> Option<Self> {
        key.last_chunk().map(|bytes| Self(u32::from_ne_bytes(*bytes)))
    }
}

// === impl Rule ===

impl Rule {
    /// The rules of these numbers.
    pub(super) fn of(ids: &HashSet<RuleId>) -> HashMap<RuleId, Self> {
        let rules = RULES.lock();
        rules.iter().filter(|(_, id)| ids.contains(id)).map(|(rule, id)| (*id, rule.clone())).collect()
    }

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
