//! Cedar, asked about the documents.

use std::collections::{HashMap, HashSet};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request,
    RestrictedExpression,
};
use uuid::Uuid;

use super::documents::{
    Application, Caller, Device, Documents, Effect, Names, Operation, Role, Source, UNGROUPED, UnknownAction,
    UnknownDevice,
};
use super::policies::UNDECLARED;

/// What the API reports as the group of a device that is in none.
const NO_GROUP: [&str; 5] = ["", UNGROUPED, "UnassignedGroup", "Unassigned", "None"];

/// The role permissions of these documents, and what each is called in Unified RBAC.
const UNIFIED: [(&str, &[&str]); 4] = [
    ("View data", &["Security data basics (read)"]),
    ("Alerts investigation", &["Alerts (manage)"]),
    ("Manage security settings", &["Core security settings (manage)", "Detection tuning (manage)"]),
    ("Live response advanced", &["Advanced live response (manage)", "File collection (manage)"]),
];

/// Policies and entities of one set of documents.
pub(crate) struct Judge<'d> {
    documents: &'d Documents,
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
}

/// What a call acts on, as it says it.
#[derive(Debug, Clone)]
pub(crate) enum Named {
    /// Devices, or the one behind an action, by any of their names.
    Devices(Vec<String>),
    /// An action that nobody knows.
    UnknownAction,
    Nothing,
}

fn uid(kind: &str, name: impl ToString) -> EntityUid {
    let kind: EntityTypeName = kind.parse().unwrap();
    EntityUid::from_type_name_and_id(kind, EntityId::new(name.to_string()))
}

fn guid(kind: &str, id: u128) -> EntityUid {
    uid(kind, Uuid::from_u128(id))
}

/// A group or a person, as one that may hold roles in a tenant.
fn holder_in(tenant: u128, id: u128) -> EntityUid {
    uid("Holder", format!("{} in {}", Uuid::from_u128(id), Uuid::from_u128(tenant)))
}

fn user(number: usize) -> EntityUid {
    uid("User", number)
}

fn text(text: impl ToString) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_string())
}

fn entity(uid: EntityUid, parents: impl IntoIterator<Item = EntityUid>) -> Entity {
    Entity::new_no_attrs(uid, parents.into_iter().collect())
}

// === impl Judge ===

impl<'d> Judge<'d> {
    /// Knows these callers by their places.
    pub(crate) fn new(documents: &'d Documents, callers: &[Caller]) -> Self {
        let mut entities: Vec<Entity> = Vec::new();
        for group in documents.all_groups() {
            let tried = (group.effect == Effect::Tried).then(|| uid("Groups", "tried"));
            entities.push(entity(uid("DeviceGroup", &group.name), tried));
        }
        let all: HashSet<u128> = callers.iter().map(|caller| caller.tenant).collect();
        let all: Vec<u128> = all.into_iter().collect();
        // What holds in some tenants alone hangs below what stands for it in one of them.
        let mut below: HashMap<EntityUid, HashSet<EntityUid>> = HashMap::new();
        for Application { id, tenants, .. } in &documents.applications {
            let tenants = tenants.as_ref().unwrap_or(&all).iter();
            below.entry(guid("Application", *id)).or_default().extend(tenants.map(|id| guid("Tenant", *id)));
        }
        for role in &documents.roles {
            let tried = (role.effect == Effect::Tried).then(|| uid("Roles", "tried"));
            entities.push(entity(uid("Role", &role.name), role.grants().chain(tried)));
            for tenant in role.tenants.as_ref().unwrap_or(&all) {
                for holder in role.entra_groups.iter().chain(&role.users) {
                    below.entry(holder_in(*tenant, *holder)).or_default().insert(uid("Role", &role.name));
                }
            }
        }
        entities.extend(below.into_iter().map(|(uid, parents)| Entity::new_no_attrs(uid, parents)));
        for (number, caller) in callers.iter().enumerate() {
            let Some(person) = &caller.user else { continue };
            let holders = caller.groups().iter().chain([&person.id]).map(|id| holder_in(caller.tenant, *id));
            let groups = caller.groups().iter().map(|id| guid("EntraGroup", *id));
            entities.push(entity(user(number), groups.chain(holders)));
        }
        entities.extend(documents.place_devices());
        let unlisted = entity(uid("Device", "unlisted"), [uid("DeviceGroup", UNGROUPED)]);
        entities.push(unlisted);
        Self {
            documents,
            authorizer: Authorizer::new(),
            policies: documents.policies().parse().unwrap(),
            entities: Entities::from_entities(entities, None).unwrap(),
        }
    }

    /// How many policies there are, with those that say which devices a group matches.
    pub(crate) fn policies(&self) -> usize {
        self.policies.policies().count() + self.documents.rules().lines().count()
    }

    /// What has to be asked about a call: each of these must be allowed.
    pub(crate) fn requests(
        &self,
        (number, caller): (usize, &Caller),
        operation: &Operation,
        named: &Named,
        inventory_hours: i64,
    ) -> Vec<Request> {
        let application = guid("Application", caller.application);
        let principal = caller.user.as_ref().map_or(application.clone(), |_| user(number));
        let permissions = RestrictedExpression::new_set(caller.permissions.iter().map(text));
        let context = [
            ("application".to_owned(), RestrictedExpression::new_entity_uid(application)),
            ("tenant".to_owned(), RestrictedExpression::new_entity_uid(guid("Tenant", caller.tenant))),
            ("permissions".to_owned(), permissions),
            ("inventory_hours".to_owned(), RestrictedExpression::new_long(inventory_hours)),
        ];
        let context = Context::from_pairs(context).unwrap();
        let request = |resource| {
            let action = uid("Action", &operation.name);
            Request::new(principal.clone(), action, resource, context.clone(), None).unwrap()
        };
        self.resources(operation.names, named).into_iter().map(request).collect()
    }

    /// Whether all of them are allowed.
    pub(crate) fn decide(&self, requests: &[Request]) -> Decision {
        let allowed = requests.iter().all(|request| {
            let response = self.authorizer.is_authorized(request, &self.policies, &self.entities);
            let errors: Vec<_> = response.diagnostics().errors().collect();
            assert!(errors.is_empty(), "{errors:?}");
            response.decision() == Decision::Allow
        });
        if allowed { Decision::Allow } else { Decision::Deny }
    }

    fn resources(&self, names: Names, named: &Named) -> Vec<EntityUid> {
        let modes = self.documents.modes;
        match (named, names, modes.unknown_action, modes.unknown_device) {
            (Named::Nothing, Names::Nowhere, ..) => vec![uid("Nothing", "unscoped")],
            (Named::Nothing, ..) => vec![uid("Nothing", "device")],
            (Named::UnknownAction, _, UnknownAction::Refuse, _) => vec![uid("Unknown", "action")],
            (Named::UnknownAction, _, UnknownAction::Forward, _) => vec![uid("Forwarded", "action")],
            (Named::Devices(named), _, _, unknown) => {
                let unknown = match unknown {
                    UnknownDevice::Refuse => uid("Unknown", "device"),
                    UnknownDevice::Ungrouped => uid("Device", "unlisted"),
                };
                let found = named.iter().flat_map(|name| {
                    let fit = self.documents.devices.iter().filter(|device| device.fits(name));
                    let found: Vec<_> = fit.map(|device| uid("Device", &device.id)).collect();
                    if found.is_empty() { vec![unknown.clone()] } else { found }
                });
                found.collect()
            }
        }
    }
}

// === impl Documents ===

impl Documents {
    /// Every device, in its group.
    fn place_devices(&self) -> Vec<Entity> {
        let authorizer = Authorizer::new();
        let rules: PolicySet = self.rules().parse().unwrap();
        let mut ranked: Vec<_> = self.groups.iter().collect();
        ranked.sort_by_key(|group| group.rank);
        let place = |device: &Device| {
            let listed = Entities::from_entities([device.entity(None)], None).unwrap();
            let matched = |group: &str| {
                let (device, group) = (uid("Device", &device.id), uid("DeviceGroup", group));
                let request = Request::new(device, uid("Action", "match"), group, Context::empty(), None);
                let response = authorizer.is_authorized(&request.unwrap(), &rules, &listed);
                assert_eq!(response.diagnostics().errors().count(), 0);
                response.decision() == Decision::Allow
            };
            let mut names = ranked.iter().map(|group| &*group.name);
            let group = match self.modes.source {
                Source::Rules => names.find(|name| matched(name)).unwrap_or(UNGROUPED),
                Source::Inventory if NO_GROUP.contains(&&*device.group) => UNGROUPED,
                Source::Inventory => names.find(|name| *name == device.group).unwrap_or(UNDECLARED),
            };
            device.entity(Some(uid("DeviceGroup", group)))
        };
        self.devices.iter().map(place).collect()
    }
}

// === impl Role ===

impl Role {
    /// What it grants: its permissions by their own names or by all of their names in Unified RBAC, and "any role".
    fn grants(&self) -> impl Iterator<Item = EntityUid> {
        let given = |name: &&str| self.permissions.contains(name);
        let held = UNIFIED.iter().filter(move |(name, unified)| given(name) || unified.iter().all(&given));
        let any = [uid("RolePermission", "any")];
        held.map(|(name, _)| uid("RolePermission", name)).chain(any)
    }
}

// === impl Device ===

impl Device {
    fn entity(&self, parent: Option<EntityUid>) -> Entity {
        let between_bars = |values: &[&str]| {
            let values = values.iter().filter(|value| !value.is_empty());
            let text = values.fold(String::new(), |text, value| text + "|" + &value.to_lowercase());
            if text.is_empty() { text } else { text + "|" }
        };
        let first = self.name.split('.').next().unwrap_or_default();
        let tags: Vec<&str> = self.tags.iter().map(String::as_str).collect();
        let attributes = [
            ("names", between_bars(&[first, &self.name])),
            ("domain", between_bars(&[&self.domain])),
            ("os_platform", between_bars(&[&self.os_platform])),
            ("tags", between_bars(&tags)),
        ];
        let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), text(value)));
        Entity::new(uid("Device", &self.id), attributes.collect(), parent.into_iter().collect()).unwrap()
    }

    /// Whether this is one of its names: its id, its Entra id, its DNS name, the first part of that, or, of a device
    /// whose name has no more than one part, that and its domain.
    fn fits(&self, named: &str) -> bool {
        let (named, name) = (named.to_lowercase(), self.name.to_lowercase());
        let (first, behind) = name.split_once('.').unwrap_or((&name, &self.domain));
        let entra = self.entra.map(|id| Uuid::from_u128(id).to_string());
        named == self.id.to_lowercase()
            || Some(&named) == entra.as_ref()
            || named == name
            || named == first
            || (!behind.is_empty() && named == format!("{first}.{}", behind.to_lowercase()))
    }
}
