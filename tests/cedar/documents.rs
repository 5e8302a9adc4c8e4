//! What policy documents say, as their author thinks of it: the one source of both sides, which share nothing else.

/// The name of the group of devices that no rule matches.
pub(crate) const UNGROUPED: &str = "Ungrouped devices (default)";

/// How old the inventory may be where that matters, in hours.
pub(crate) const MAX_AGE: i64 = 36;

/// One policy set.
#[derive(Debug, Clone)]
pub(crate) struct Documents {
    pub(crate) operations: Vec<Operation>,
    pub(crate) roles: Vec<Role>,
    pub(crate) groups: Vec<Group>,
    /// That of ungrouped devices, whose rank and rule say nothing.
    pub(crate) ungrouped: Group,
    pub(crate) applications: Vec<Application>,
    pub(crate) devices: Vec<Device>,
    pub(crate) modes: Modes,
}

/// What the heads of the files say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Modes {
    /// Of the whole set.
    pub(crate) effect: Effect,
    pub(crate) source: Source,
    pub(crate) unlisted: Unlisted,
    pub(crate) unknown_device: UnknownDevice,
    pub(crate) unknown_action: UnknownAction,
    /// What becomes of calls when the inventory is older than [`MAX_AGE`]; none if it may be of any age.
    pub(crate) stale: Option<Stale>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Rules,
    Inventory,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unlisted {
    Refuse,
    Permission,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnknownDevice {
    Refuse,
    Ungrouped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnknownAction {
    Refuse,
    Forward,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stale {
    Refuse,
    Use,
}

#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) names: Names,
    pub(crate) application: Vec<String>,
    pub(crate) delegated: Vec<String>,
    /// Empty if any role will do.
    pub(crate) roles: Vec<&'static str>,
}

/// Where a call of an operation names its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Path,
    Action,
    Body,
    Nowhere,
}

#[derive(Debug, Clone)]
pub(crate) struct Role {
    pub(crate) name: String,
    /// None if it holds in every one.
    pub(crate) tenants: Option<Vec<u128>>,
    pub(crate) permissions: Vec<&'static str>,
    pub(crate) entra_groups: Vec<u128>,
    pub(crate) users: Vec<u128>,
    pub(crate) effect: Effect,
}

#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) rank: usize,
    pub(crate) rule: Rule,
    pub(crate) entra_groups: Vec<u128>,
    pub(crate) effect: Effect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Enforced,
    Tried,
}

/// Each property that a rule names has conditions, of which one must hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rule {
    pub(crate) name: Vec<Condition>,
    pub(crate) domain: Vec<Condition>,
    pub(crate) tag: Vec<Condition>,
    pub(crate) os_platform: Vec<Condition>,
}

#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) how: How,
    pub(crate) value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    StartsWith,
    EndsWith,
    Equals,
    Contains,
}

#[derive(Debug, Clone)]
pub(crate) struct Application {
    pub(crate) id: u128,
    /// None if it holds in every one.
    pub(crate) tenants: Option<Vec<u128>>,
    pub(crate) name: String,
    pub(crate) operations: List,
    pub(crate) device_groups: List,
    pub(crate) unscoped_operations: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) enum List {
    All,
    Only(Vec<String>),
}

#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) id: String,
    pub(crate) entra: Option<u128>,
    pub(crate) name: String,
    pub(crate) domain: String,
    pub(crate) os_platform: String,
    pub(crate) tags: Vec<String>,
    /// What the inventory says of its group; empty if that it is in none.
    pub(crate) group: String,
}

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) tenant: u128,
    pub(crate) application: u128,
    pub(crate) permissions: Vec<String>,
    /// None for an application on its own.
    pub(crate) user: Option<User>,
}

#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) id: u128,
    /// None if the token could not carry them.
    pub(crate) groups: Option<Vec<u128>>,
}

// === impl Documents ===

impl Documents {
    /// Every group, that of ungrouped devices last.
    pub(crate) fn all_groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().chain([&self.ungrouped])
    }
}

// === impl Caller ===

impl Caller {
    /// The groups that its token carries.
    pub(crate) fn groups(&self) -> &[u128] {
        self.user.as_ref().and_then(|user| user.groups.as_deref()).unwrap_or_default()
    }
}
