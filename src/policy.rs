//! The policy room: what the API's calls are, and who may call which on which devices.
//!
//! ```text
//! operations.toml ───▶ Operations ──▶ route: which operation a request line asks for
//! roles.toml ────────▶ Roles ────────┐
//! applications.toml ─▶ Applications ─┼▶ permit: may this caller call it at all
//! device-groups.toml ▶ DeviceGroups ─┤
//! devices.csv, .json ▶ Inventory ────┴▶ Grant::reach: may it on these devices
//! policy.toml ───────▶ Enforcement: whether what these refuse is refused
//! ```
//!
//! A set is compiled once and never changes; decisions take no lock and ask nobody.

use std::collections::HashSet;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::id::{ActionId, ApplicationId, ApplicationName, DeviceGroupId, DeviceRef, EntraGroupId};
use crate::policy::application::Applications;
use crate::policy::device_group::DeviceGroups;
use crate::policy::effect::{Effect, Enforcement};
use crate::policy::inventory::Inventory;
use crate::policy::operation::Operations;
use crate::policy::role::Roles;
use crate::principal::{Groups, Principal, PrincipalKind, Scope, Subject, Tenants};
use crate::source::{Place, PolicyFiles, Problems};
use crate::time::Wall;

mod application;
mod body;
mod compile;
mod decide;
mod device_group;
mod document;
mod effect;
mod facts;
mod grounds;
mod inventory;
mod odd;
mod operation;
mod role;
mod route;

pub use body::{BadBody, BodyContract, BodyError, Contents};
pub use decide::{Grant, PermitError, Reach, ReachError, TokenKind};
pub(crate) use document::schemas;
pub use facts::{Facts, KnownDevice, KnownName};
pub use grounds::{Asked, Ground};
pub use operation::{DeviceScope, Operation, OperationPlaces};
pub use role::{InvalidRolePermission, Role, RolePermission};

/// The policy of one version: operations, roles, applications, device groups and the inventory.
#[derive(Debug)]
pub struct PolicySet {
    enforcement: Enforcement,
    operations: Operations,
    roles: Roles,
    groups: Arc<DeviceGroups>,
    applications: Applications,
    inventory: Inventory,
    /// Every Entra group that roles and device groups name.
    named: HashSet<EntraGroupId, foldhash::fast::RandomState>,
}

/// What a request line asks for.
#[derive(Debug, Clone)]
pub struct Routed<'p> {
    /// The operation.
    pub operation: &'p Operation,
    /// The device that the path names.
    pub device: Option<DeviceRef>,
    /// The action that the path names.
    pub action: Option<ActionId>,
}

/// No operation has this method and path: the API has none, or the policy does not say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("No operation of this gateway's policy has this method and path")]
pub struct NoOperation;

/// How much a set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Operations of `operations.toml`.
    pub operations: usize,
    /// Roles of `roles.toml`.
    pub roles: usize,
    /// Device groups of `device-groups.toml`, without the one of ungrouped devices.
    pub device_groups: usize,
    /// Entries of `applications.toml`.
    pub applications: usize,
    /// Devices of the inventory.
    pub devices: usize,
}

/// What a successful answer of the API says of machine actions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is the action that was started, on this device.
    Started(DeviceRef),
    /// It is one or several, as they stand.
    Actions,
    /// Nothing.
    Other,
}

// === impl Routed ===

impl Routed<'_> {
    /// The device that a machine action in the API's successful answer belongs to; none if the operation starts none.
    pub fn starts_action_on(&self) -> Option<&DeviceRef> {
        self.device.as_ref().filter(|_| self.operation.starts_action())
    }

    /// What a successful answer of the API says of machine actions.
    pub fn answer(&self) -> Answer {
        match self.starts_action_on() {
            Some(device) => Answer::Started(device.clone()),
            None if self.operation.shows_actions() => Answer::Actions,
            None => Answer::Other,
        }
    }
}

// === impl PolicySet ===

impl PolicySet {
    /// Compiles this room's files. Every mistake becomes a problem, and what it stands in is left out of the set so
    /// that other rooms can go on to find theirs.
    ///
    /// INVARIANT: a set that came with a problem decides nothing. What was left out may have been a restriction, so
    /// the caller refuses the whole policy unless `problems` is empty.
    #[must_use]
    pub fn compile(files: &PolicyFiles, problems: &mut Problems) -> Self {
        Self::compile_after(None, files, problems)
    }

    /// The same, where a set of files without a mistake was compiled before: what costs most, device groups and the
    /// inventory, is shared with it if it says what it said.
    #[must_use]
    pub fn compile_after(previous: Option<&Self>, files: &PolicyFiles, problems: &mut Problems) -> Self {
        let enforcement = Enforcement::compile(files, problems);
        let operations = Operations::compile(files, problems);
        let groups = match previous.map(|previous| &previous.groups).filter(|groups| groups.says(files)) {
            Some(groups) => {
                files.require(DeviceGroups::FILE, problems);
                groups.clone()
            }
            None => Arc::new(DeviceGroups::compile(files, problems)),
        };
        let roles = Roles::compile(files, &operations, &groups, problems);
        let applications = Applications::compile(files, &operations, &groups, problems);
        let before = previous.map(|previous| (&previous.inventory, &*previous.groups));
        let inventory = Inventory::compile(files, &groups, before, problems);
        let named = roles.entra_groups().chain(groups.entra_groups()).copied().collect();
        let set = Self { enforcement, operations, roles, groups, applications, inventory, named };
        // What is left of a set with mistakes looks odder than it is.
        if problems.is_empty() {
            odd::warn(&set, files, problems);
        }
        set
    }

    /// The operation that a request asks for: `raw_target` is its target as sent, of which the query is not looked at.
    pub fn route(&self, method: &http::Method, raw_target: &str) -> Result<Routed<'_>, NoOperation> {
        let (operation, captures) = self.operations.find(method, raw_target).ok_or(NoOperation)?;
        let (device, action) = operation.named(&captures).ok_or(NoOperation)?;
        Ok(Routed { operation, device, action })
    }

    /// Whether the caller may call the operation, leaving aside on which devices.
    pub fn permit<'a>(
        &'a self,
        principal: &'a Principal,
        operation: &'a Operation,
    ) -> Result<Grant<'a>, PermitError> {
        decide::permit(self, principal, operation)
    }

    /// Finds out which devices these are and which groups they are in, where no check had to. A device that the
    /// inventory lacks keeps what the call says of it, and of several that fit a name it is the first.
    pub fn look_up(&self, scope: &mut Scope) {
        for device in scope.devices.iter_mut().filter(|device| device.group.is_none()) {
            if let Some(known) = self.inventory.find(&device.named).next() {
                device.id = Some(known.id);
                device.group = Some(self.groups.get(known.group).id().clone());
            }
        }
    }

    /// The name that `applications.toml` gives an application in a tenant.
    pub fn application_name(&self, subject: &Subject) -> Option<&ApplicationName> {
        self.applications.of(subject).map(|application| application.name())
    }

    /// The names that it gives an application in any tenant.
    pub fn application_names(&self, id: &ApplicationId) -> impl Iterator<Item = &ApplicationName> {
        self.applications.named(id).map(|application| application.name())
    }

    /// Those of a user's groups that the set names.
    pub fn named_groups(&self, principal: &Principal) -> SmallVec<[EntraGroupId; 4]> {
        match &principal.kind {
            PrincipalKind::User { groups: Groups::Listed(groups), .. } => {
                groups.iter().filter(|group| self.named.contains(*group)).copied().collect()
            }
            PrincipalKind::User { groups: Groups::Overage, .. } | PrincipalKind::Application { .. } => {
                SmallVec::new()
            }
        }
    }

    /// Every Entra group that the set names, in no order.
    pub fn entra_groups(&self) -> impl Iterator<Item = &EntraGroupId> {
        self.named.iter()
    }

    /// Every operation, in the order of the file.
    pub fn operations(&self) -> impl ExactSizeIterator<Item = &Operation> {
        self.operations.iter()
    }

    /// Every role, in the order of the file.
    pub fn roles(&self) -> impl ExactSizeIterator<Item = &Role> {
        self.roles.iter()
    }

    /// Every device group by rank, that of ungrouped devices last, and where each stands.
    pub fn device_groups(&self) -> impl Iterator<Item = (&DeviceGroupId, Option<&Place>)> {
        let ungrouped = self.groups.get(self.groups.ungrouped());
        let all = self.groups.ranked().map(|(_, group)| group).chain([ungrouped]);
        all.map(|group| (group.id(), group.place()))
    }

    /// The device group of each device that fits the name; none if the inventory lacks it.
    pub fn groups_of(&self, named: &DeviceRef) -> impl Iterator<Item = &DeviceGroupId> {
        self.inventory.find(named).map(|device| self.groups.get(device.group).id())
    }

    /// Every application that has an entry, by its name, and where that stands.
    pub fn applications(&self) -> impl Iterator<Item = (&ApplicationId, &ApplicationName, &Place)> {
        self.applications.iter().map(|(id, entry)| (id, entry.name(), &entry.places().name))
    }

    /// The tenants in which each entry holds, by its application and name.
    pub fn application_tenants(&self) -> impl Iterator<Item = (&ApplicationId, &ApplicationName, &Tenants)> {
        self.applications.iter().map(|(id, entry)| (id, entry.name(), entry.tenants()))
    }

    /// The tenants that entries and roles are confined to, and where each of these stands, by what it is.
    pub fn tenants(&self) -> impl Iterator<Item = (String, &Tenants, &Place)> {
        let entries = self.applications.iter().map(|(_, entry)| {
            (format!("the entry of `{}`", entry.name()), entry.tenants(), &entry.places().name)
        });
        let role = |role: &'_ Role| format!("the role `{}`", role.name());
        entries.chain(self.roles.iter().map(move |one| (role(one), one.tenants(), one.place())))
    }

    /// Whether a file of this name, if a set has one, is part of its inventory.
    pub fn is_inventory(name: &str) -> bool {
        Inventory::is_of(name)
    }

    /// When the oldest file of the inventory was written; none for files that lie on no disk.
    pub fn inventory_date(&self) -> Option<Wall> {
        self.inventory.written()
    }

    /// Takes the oldest file of the inventory to have been written then, whatever the disk says: for rehearsals.
    pub(crate) fn date_inventory(&mut self, written: Option<Wall>) {
        self.inventory.date(written);
    }

    /// When the oldest file of the inventory that these files have was written.
    pub fn inventory_date_of(files: &PolicyFiles) -> Option<Wall> {
        Inventory::written_in(files)
    }

    /// Whether its inventory can become too old.
    pub fn inventory_ages(&self) -> bool {
        self.groups.max_age().is_some()
    }

    /// Whether nothing of the set is enforced: what it would refuse is noted, and passes.
    pub fn is_tried(&self) -> bool {
        self.enforcement.effect() == Effect::Count
    }

    /// How much it holds.
    pub fn counts(&self) -> Counts {
        Counts {
            operations: self.operations.iter().len(),
            roles: self.roles.len(),
            device_groups: self.groups.len(),
            applications: self.applications.len(),
            devices: self.inventory.len(),
        }
    }
}

#[cfg(test)]
mod tests;
