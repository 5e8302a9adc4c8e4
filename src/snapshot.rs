//! Everything that the files of a policy set say, compiled together: what one request is decided by.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;

use crate::id::LimitName;
use crate::limit::{DocumentedLimit, NamedDevices, Owners, QuotaSet, Starts};
use crate::policy::{BodyContract, DeviceScope, Operation, PolicySet};
use crate::principal::Tenants;
use crate::source::{PolicyFiles, Problem, Problems};
use crate::time::Wall;
use crate::token::Verifier;

/// An immutable policy set. A request loads it once and carries it to its end, so that none sees two versions.
#[derive(Debug)]
pub struct Snapshot {
    /// The first 12 hexadecimal digits of a SHA-256 of the files' names and their own SHA-256: enough to tell versions apart, short enough to read out.
    pub version: Arc<str>,
    /// When it was compiled.
    pub loaded: Wall,
    /// Operations, roles, device groups, applications and the inventory.
    pub policies: PolicySet,
    /// Whose tokens are accepted.
    pub verifier: Arc<Verifier>,
    /// The limits.
    pub quotas: QuotaSet,
    /// The limits whose windows lack times that the set before had no use for, and how long that takes to heal.
    pub lacking: BTreeMap<LimitName, Duration>,
    /// What is legal in the files but worth a second look, in the order of files and lines.
    pub warnings: Vec<Problem>,
}

/// How much a snapshot holds, for the start message and `/policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Calls of the API.
    pub operations: usize,
    /// Roles.
    pub roles: usize,
    /// Device groups, without the ungrouped one.
    pub device_groups: usize,
    /// Applications that have an entry.
    pub applications: usize,
    /// Devices of the inventory.
    pub devices: usize,
    /// Limits, documented ones included.
    pub limits: usize,
    /// Issuers: key files, and discovery documents, of which a tenant of Entra has two.
    pub issuers: usize,
}

impl Snapshot {
    /// Compiles a policy set. `previous` hands on what must outlive a reload, the keys of issuers that did not change,
    /// and what of it need not be made again: an inventory and device groups that say what they said.
    ///
    /// # Errors
    /// Every mistake of every file, sorted by place.
    pub fn compile(files: &PolicyFiles, previous: Option<&Self>, loaded: Wall) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::default();
        let policies =
            PolicySet::compile_after(previous.map(|snapshot| &snapshot.policies), files, &mut problems);
        let verifier = Verifier::compile(files, previous.map(|snapshot| &*snapshot.verifier), &mut problems);
        let documented: Vec<_> = policies
            .operations()
            .map(|operation| DocumentedLimit {
                operation: operation.id().clone(),
                devices: named_devices(operation),
                starts: if operation.starts_action() { Starts::Action } else { Starts::Nothing },
                rates: operation.limits().to_vec(),
                place: operation.places().limits.clone(),
            })
            .collect();
        let quotas = QuotaSet::compile(files, &documented, &owners(&policies), loaded, &mut problems);
        files.all_read(&mut problems);
        if !problems.is_empty() {
            return Err(problems.into_sorted());
        }
        strangers(&policies, &verifier, files, &mut problems);
        let quotas = if policies.is_tried() { quotas.tried() } else { quotas };
        let (version, verifier) = (version(files), Arc::new(verifier));
        let lacking = previous.map(|previous| quotas.lacking(&previous.quotas)).unwrap_or_default();
        let warnings = problems.into_warnings();
        Ok(Self { version, loaded, policies, verifier, quotas, lacking, warnings })
    }

    /// How much of everything there is.
    pub fn counts(&self) -> Counts {
        let policies = self.policies.counts();
        Counts {
            operations: policies.operations,
            roles: policies.roles,
            device_groups: policies.device_groups,
            applications: policies.applications,
            devices: policies.devices,
            limits: self.quotas.len(),
            issuers: self.verifier.sources(),
        }
    }
}

/// Says which tenants the policy confines something to and no issuer speaks for.
fn strangers(policies: &PolicySet, verifier: &Verifier, files: &PolicyFiles, problems: &mut Problems) {
    for (what, tenants, place) in policies.tenants() {
        let Tenants::Only(tenants) = tenants else { continue };
        for tenant in tenants.iter().filter(|tenant| !verifier.knows(tenant)) {
            let message = format_args!(
                "{what} is for the tenant {tenant}, whose tokens no issuer of issuers.toml may sign"
            );
            problems.warn_place(files, place, message);
        }
    }
}

/// Who may be promised a part of a limit.
fn owners(policies: &PolicySet) -> Owners {
    let mut owners = Owners::default();
    policies.application_tenants().for_each(|(id, name, tenants)| owners.application(name, tenants, *id));
    for role in policies.roles() {
        let (groups, users) = role.holders();
        owners.role(role.name(), role.tenants(), groups.copied(), users.copied());
    }
    owners
}

/// How many devices its calls name: a path names one, a body a list.
fn named_devices(operation: &Operation) -> NamedDevices {
    match (operation.device_scope(), operation.body().is_some_and(BodyContract::names_devices)) {
        (DeviceScope::Unscoped, _) => NamedDevices::None,
        (DeviceScope::Named, false) => NamedDevices::One,
        (DeviceScope::Named, true) => NamedDevices::Several,
    }
}

/// The version of a set of files: two sets have the same one iff they have the same names and bytes.
pub fn version(files: &PolicyFiles) -> Arc<str> {
    let mut hash = digest::Context::new(&digest::SHA256);
    for (name, stamp) in files.stamps() {
        // The length first, so that no two different sets feed the same bytes.
        hash.update(&(name.len() as u64).to_be_bytes());
        hash.update(name.as_bytes());
        hash.update(&stamp.digest);
    }
    let hash = hash.finish();
    hash.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// `12 operations, 3 roles, …`
impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { operations, roles, device_groups, applications, devices, limits, issuers } = self;
        let counted = [
            (operations, "operation"),
            (roles, "role"),
            (device_groups, "device group"),
            (applications, "application"),
            (devices, "device"),
            (limits, "limit"),
            (issuers, "issuer"),
        ];
        for (index, (count, noun)) in counted.into_iter().enumerate() {
            let (comma, plural) = (if index == 0 { "" } else { ", " }, if *count == 1 { "" } else { "s" });
            write!(f, "{comma}{count} {noun}{plural}")?;
        }
        Ok(())
    }
}
