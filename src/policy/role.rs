//! Roles: which users hold which role permissions.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

use crate::id::{EntraGroupId, OperationId, RoleName, TenantId, UserId};
use crate::policy::compile::{Reading, Sought, Taken, quoted};
use crate::policy::device_group::DeviceGroups;
use crate::policy::document::{RoleDocument, Word};
use crate::policy::effect::Effect;
use crate::policy::operation::{Operation, Operations};
use crate::principal::{Groups, Principal, PrincipalKind, Subject, Tenants};
use crate::source::{OWNER, Place, PolicyFiles, Problems};

/// Declares [`RolePermission`] with the word of each and its names in Unified RBAC, so that the list is written once.
macro_rules! role_permissions {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $unified:expr;)*) => {
        /// What a role of Defender allows, in the portal's words
        /// (*Create and manage roles for role-based access control*, `user-roles.md`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum RolePermission {
            $($(#[$doc])* $variant,)*
        }

        impl RolePermission {
            /// Every one there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The words that policy files use.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// The permissions of Unified RBAC that together stand for it (*Map Microsoft Defender XDR Unified
            /// role-based access control permissions*, `compare-rbac-roles.md`).
            pub const fn unified(self) -> &'static [&'static str] {
                match self {
                    $(Self::$variant => &$unified,)*
                }
            }
        }
    };
}

role_permissions! {
    /// Read what security operations see: alerts, devices, actions.
    ViewData = "View data", ["Security data basics (read)"];
    /// Read what vulnerability management sees.
    ViewVulnerabilities = "View data: Defender Vulnerability Management", ["Vulnerability management (read)"];
    /// Take response actions and approve pending ones.
    ActiveRemediation = "Active remediation actions", ["Response (manage)"];
    /// Vulnerability management: create exceptions.
    ExceptionHandling = "Active remediation actions: Exception handling", ["Exception handling (manage)"];
    /// Vulnerability management: submit remediation requests.
    RemediationHandling = "Active remediation actions: Remediation handling", ["Remediation handling (manage)"];
    /// Vulnerability management: block applications.
    ApplicationHandling = "Active remediation actions: Application handling", ["Application handling (manage)"];
    /// Vulnerability management: profiles of security baselines.
    SecurityBaselines = "Security baselines: manage profiles", ["Security baselines assessment (manage)"];
    /// Manage alerts, start investigations, collect packages, tag devices.
    AlertsInvestigation = "Alerts investigation", ["Alerts (manage)"];
    /// Roles, device groups, storage.
    ManagePortal = "Manage portal system settings", ["System setting (Read and manage)"];
    /// Suppressions, exclusions, indicators, onboarding.
    ManageSecurity = "Manage security settings", ["Core security settings (manage)", "Detection tuning (manage)"];
    /// Live response: read and download.
    LiveResponseBasic = "Live response basic", ["Basic live response (manage)"];
    /// Live response: upload and run.
    LiveResponseAdvanced = "Live response advanced", ["Advanced live response (manage)", "File collection (manage)"];
}

/// A word that is no role permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown role permission `{word}`")]
pub struct InvalidRolePermission {
    word: String,
}

/// The roles of `roles.toml`, by what they allow.
#[derive(Debug, Default)]
pub(crate) struct Roles {
    list: Vec<Role>,
    by_permission: HashMap<RolePermission, Holders>,
    any: Holders,
}

/// One role of the file.
#[derive(Debug)]
pub struct Role {
    name: RoleName,
    permissions: Vec<RolePermission>,
    place: Place,
    holders: Members,
    tenants: Tenants,
    effect: Effect,
}

/// Who holds something, in every tenant or in one.
#[derive(Debug, Default)]
struct Holders {
    everywhere: Members,
    within: HashMap<TenantId, Members, foldhash::fast::RandomState>,
}

/// Users, by themselves and by their groups.
#[derive(Debug, Default)]
struct Members {
    users: HashSet<UserId, foldhash::fast::RandomState>,
    groups: HashSet<EntraGroupId, foldhash::fast::RandomState>,
}

/// Whether a user holds what an operation asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RoleAnswer {
    /// Neither by object id nor by a group.
    Missing,
    /// It depends on groups that the token could not carry.
    Unknown,
    /// By either.
    Held,
}

// === impl RolePermission ===

impl RolePermission {
    /// The words of all of them.
    pub(crate) fn words() -> impl Iterator<Item = &'static str> + Clone {
        Self::ALL.iter().map(|permission| permission.as_str())
    }
}

impl fmt::Display for RolePermission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RolePermission {
    type Err = InvalidRolePermission;

    fn from_str(word: &str) -> Result<Self, InvalidRolePermission> {
        let known = Self::ALL.iter().find(|known| known.as_str() == word);
        known.copied().ok_or_else(|| InvalidRolePermission { word: word.into() })
    }
}

// === impl Roles ===

impl Roles {
    /// The file that says it.
    pub(crate) const FILE: &str = "roles.toml";

    pub(crate) fn compile(
        files: &PolicyFiles,
        operations: &Operations,
        device_groups: &DeviceGroups,
        problems: &mut Problems,
    ) -> Self {
        let mut roles = Self::default();
        let source = files.require(Self::FILE, problems);
        let opened = Sought::open(OWNER, "role", source, problems);
        let (Some(source), Some((mut file, mut sought))) = (source, opened) else { return roles };
        let documents = file.entries::<RoleDocument>("role", problems);
        sought.finish(file, problems);

        let mut reading = Reading::new(source, problems);
        let mut names = Taken::new("role");
        for document in documents {
            let document = document.into_inner();
            if let Some(name) = reading.name::<String>(&document.name) {
                reading.take(&mut names, name, document.name.span());
            }
            let users: Vec<UserId> = reading.parse_all(&document.users);
            let groups: Vec<EntraGroupId> = reading.parse_all(&document.entra_groups);
            let permissions = held(&document.permissions, &mut reading);
            let mut holders = groups.iter().map(|group| Groups::Listed(vec![*group]));
            // Of a user who is named, nobody knows the groups.
            let named = !users.is_empty() && device_groups.bind(&Groups::Listed(Vec::new()));
            let confined = named || holders.any(|holder| device_groups.bind(&holder));
            let effect = Effect::of(document.enforce);
            // Whoever holds one that is not enforced lacks no role permission.
            let may = if effect == Effect::Count { RolePermission::ALL } else { &permissions };
            let tagging = quoted(tagging(operations, may));
            if confined && device_groups.match_by_tag() && !tagging.is_empty() {
                let message = format!(
                    "holders of `{}` are confined by device groups, some groups match by tag, and they may change tags by {tagging}: they could move a device into another group",
                    document.name.get_ref()
                );
                reading.warn(document.name.span(), message);
            }
            let tenants = reading.tenants(document.tenants.as_ref());
            for permission in &permissions {
                roles.by_permission.entry(*permission).or_default().add(&tenants, &users, &groups);
            }
            roles.any.add(&tenants, &users, &groups);
            let mut holders = Members::default();
            holders.add(&users, &groups);
            let name = RoleName::from(document.name.get_ref().as_str());
            let place = reading.place(document.name.span());
            roles.list.push(Role { name, permissions, place, holders, tenants, effect });
        }
        let there: HashSet<&str> = roles.list.iter().map(|role| role.name.as_str()).collect();
        sought.leave_out(|name| there.contains(name), problems);
        roles
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// The Entra groups that hold any of them, in no order.
    pub(crate) fn entra_groups(&self) -> impl Iterator<Item = &EntraGroupId> {
        self.list.iter().flat_map(|role| role.holders.groups.iter())
    }

    /// Every one, in the order of the file.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Role> {
        self.list.iter()
    }

    /// Whether the user holds one of the role permissions, or any role at all where an operation asks for none.
    pub(crate) fn answer(&self, needed: &[RolePermission], subject: &Subject, groups: &Groups) -> RoleAnswer {
        if needed.is_empty() {
            return self.any.answer(subject, groups);
        }
        let mut best = RoleAnswer::Missing;
        for permission in needed {
            let holders = self.by_permission.get(permission);
            best = best.max(holders.map_or(RoleAnswer::Missing, |holders| holders.answer(subject, groups)));
            if best == RoleAnswer::Held {
                break;
            }
        }
        best
    }
}

/// The role permissions that a role's words stand for, by their own names or by all of their names in Unified RBAC.
fn held(words: &[Word], reading: &mut Reading<'_>) -> Vec<RolePermission> {
    let given = |name: &str| words.iter().any(|word| word.get_ref() == name);
    let held = RolePermission::ALL.iter().copied().filter(|permission| {
        given(permission.as_str()) || permission.unified().iter().all(|name| given(name))
    });
    let held: Vec<_> = held.collect();
    for word in words {
        let unified = RolePermission::ALL.iter().find(|all| all.unified().contains(&word.get_ref().as_str()));
        match unified {
            Some(permission) if held.contains(permission) => {}
            Some(permission) => {
                let message = format!(
                    "`{}` grants nothing by itself: {} together are `{permission}`",
                    word.get_ref(),
                    quoted(permission.unified())
                );
                reading.warn(word.span(), message);
            }
            None => {
                let unified = RolePermission::ALL.iter().flat_map(|all| all.unified()).copied();
                let all = RolePermission::words().chain(unified);
                let _: Option<RolePermission> = reading.parse_one_of(word, all);
            }
        }
    }
    held
}

/// The operations that change tags and that users with these role permissions may call.
fn tagging<'o>(
    operations: &'o Operations,
    permissions: &[RolePermission],
) -> impl Iterator<Item = &'o OperationId> {
    let granted = |operation: &&Operation| {
        let role = operation.roles().is_empty()
            || operation.roles().iter().any(|needed| permissions.contains(needed));
        operation.changes_tags() && !operation.delegated().is_empty() && role
    };
    operations.iter().filter(granted).map(Operation::id)
}

// === impl Role ===

impl Role {
    /// Its name.
    pub fn name(&self) -> &RoleName {
        &self.name
    }

    /// Where it stands.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What comes of its holders' calls that need another role permission than it has.
    pub(crate) fn effect(&self) -> Effect {
        self.effect
    }

    /// Whether the caller of a token is known to hold it: no application does.
    pub fn is_held_by(&self, principal: &Principal) -> bool {
        let PrincipalKind::User { groups, .. } = &principal.kind else { return false };
        let Subject { tenant, user, .. } = &principal.subject;
        self.tenants.have(tenant) && self.holders.answer(user.as_ref(), groups) == RoleAnswer::Held
    }

    /// Whether it lets its holders make the calls of an operation, as far as roles decide.
    pub fn covers(&self, operation: &Operation) -> bool {
        operation.roles().is_empty()
            || operation.roles().iter().any(|needed| self.permissions.contains(needed))
    }

    /// The tenants in which it is held.
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// The Entra groups and the users that hold it, in no order.
    pub(crate) fn holders(&self) -> (impl Iterator<Item = &EntraGroupId>, impl Iterator<Item = &UserId>) {
        (self.holders.groups.iter(), self.holders.users.iter())
    }

    /// Whether nobody holds it.
    pub(crate) fn is_vacant(&self) -> bool {
        self.holders.groups.is_empty() && self.holders.users.is_empty()
    }
}

// === impl Holders ===

impl Holders {
    fn add(&mut self, tenants: &Tenants, users: &[UserId], groups: &[EntraGroupId]) {
        match tenants {
            Tenants::Every => self.everywhere.add(users, groups),
            Tenants::Only(tenants) => {
                tenants.iter().for_each(|tenant| self.within.entry(*tenant).or_default().add(users, groups));
            }
        }
    }

    fn answer(&self, subject: &Subject, groups: &Groups) -> RoleAnswer {
        let user = subject.user.as_ref();
        let everywhere = self.everywhere.answer(user, groups);
        let within = self.within.get(&subject.tenant).map(|members| members.answer(user, groups));
        within.map_or(everywhere, |within| within.max(everywhere))
    }
}

// === impl Members ===

impl Members {
    fn add(&mut self, users: &[UserId], groups: &[EntraGroupId]) {
        self.users.extend(users);
        self.groups.extend(groups);
    }

    fn answer(&self, user: Option<&UserId>, groups: &Groups) -> RoleAnswer {
        if user.is_some_and(|user| self.users.contains(user)) {
            return RoleAnswer::Held;
        }
        match groups {
            Groups::Listed(listed) if listed.iter().any(|group| self.groups.contains(group)) => {
                RoleAnswer::Held
            }
            Groups::Listed(_) => RoleAnswer::Missing,
            // No group could help: then it does not matter which ones the token left out.
            Groups::Overage if self.groups.is_empty() => RoleAnswer::Missing,
            Groups::Overage => RoleAnswer::Unknown,
        }
    }
}
