//! The documents as Cedar policies: what each sentence of them permits or forbids.
//!
//! Principals are `User` and `Application`, this one in each `Tenant` that has an entry for it, actions are the
//! operations, and a call acts on a resource:
//!
//! - a `Device`, in the `DeviceGroup` that it belongs to: of a call that names several, each is asked for;
//! - `Unknown::"device"` or `Unknown::"action"`, which the inventory or the memory of actions lacks;
//! - `Nothing::"device"`, where the call could name one and does not, and `Nothing::"unscoped"`, where none could;
//! - `Forwarded::"action"`, an unknown action that is to pass whatever its device.

use std::fmt::Write as _;

use uuid::Uuid;

use super::documents::{
    Application, Condition, Documents, Effect, Group, How, List, MAX_AGE, Operation, Rule, Source, Stale,
    Unlisted,
};

/// Who is in no group that anybody could name, and open to nobody.
pub(crate) const UNDECLARED: &str = "what the inventory alone names";

// === impl Documents ===

impl Documents {
    /// The policies that decide calls.
    pub(crate) fn policies(&self) -> String {
        let mut text = String::new();
        if self.modes.effect == Effect::Tried {
            return "permit (principal, action, resource);\n".to_owned();
        }
        self.operations.iter().for_each(|operation| operation.permit(&mut text));
        if self.modes.unlisted == Unlisted::Refuse {
            text.push_str(
                "forbid (principal is Application, action, resource) unless { principal in context.tenant };\n",
            );
        }
        let unsure = self.unsure();
        self.applications.iter().for_each(|entry| entry.forbid(&unsure, &mut text));
        self.all_groups().for_each(|group| group.forbid(&mut text));
        if self.modes.source == Source::Inventory {
            writeln!(text, "forbid (principal is User, action, resource in DeviceGroup::{UNDECLARED:?});")
                .unwrap();
        }
        writeln!(
            text,
            "forbid (principal is User, action, resource) when {{ {unsure} }} unless {{ {} }};",
            self.all_open()
        )
        .unwrap();
        text
    }

    /// The policies that say which devices the rule of a group matches, whatever its rank.
    pub(crate) fn rules(&self) -> String {
        let rule = |Group { name, rule, .. }: &Group| {
            format!(
                "permit (principal is Device, action == Action::\"match\", resource == DeviceGroup::{name:?}) \
                 when {{ {} }};\n",
                rule.expression()
            )
        };
        self.groups.iter().map(rule).collect()
    }

    /// Whether nobody can say which group a call acts on.
    fn unsure(&self) -> String {
        let unsure = "resource is Unknown || resource == Nothing::\"device\"";
        match self.modes.stale {
            Some(Stale::Refuse) => {
                format!("{unsure} || (resource is Device && context.inventory_hours > {MAX_AGE})")
            }
            Some(Stale::Use) | None => unsure.to_owned(),
        }
    }

    /// Whether every group is open to the user.
    fn all_open(&self) -> String {
        if self.modes.source == Source::Inventory {
            return "false".to_owned();
        }
        let bound = self.all_groups().filter(|group| !group.entra_groups.is_empty());
        bound.fold("true".to_owned(), |text, group| format!("{text} && {}", group.member()))
    }
}

/// Entities of a type, as a list.
fn entities<T: std::fmt::Display>(kind: &str, names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("{kind}::\"{name}\"")).collect();
    format!("[{}]", names.join(", "))
}

// === impl Operation ===

impl Operation {
    fn permit(&self, text: &mut String) {
        let Self { name, application, delegated, roles, .. } = self;
        if !application.is_empty() {
            writeln!(
                text,
                "permit (principal is Application, action == Action::{name:?}, resource) \
                 when {{ context.permissions.containsAny({application:?}) }};"
            )
            .unwrap();
        }
        if !delegated.is_empty() {
            let roles = match &roles[..] {
                [] => entities("RolePermission", ["any"]),
                roles => entities("RolePermission", roles),
            };
            let role = format!("(principal in {roles} || principal in Roles::\"tried\")");
            writeln!(
                text,
                "permit (principal is User, action == Action::{name:?}, resource) \
                 when {{ context.permissions.containsAny({delegated:?}) && {role} }};"
            )
            .unwrap();
        }
    }
}

// === impl Application ===

impl Application {
    fn forbid(&self, unsure: &str, text: &mut String) {
        let mut called = format!("context.application == Application::\"{}\"", Uuid::from_u128(self.id));
        if let Some(tenants) = &self.tenants {
            let tenants = entities("Tenant", tenants.iter().map(|id| Uuid::from_u128(*id)));
            write!(called, " && {tenants}.contains(context.tenant)").unwrap();
        }
        if let List::Only(operations) = &self.operations {
            let named = entities("Action", operations);
            writeln!(
                text,
                "forbid (principal, action, resource) when {{ {called} }} unless {{ action in {named} }};"
            )
            .unwrap();
        }
        let List::Only(groups) = &self.device_groups else { return };
        let (groups, unscoped) =
            (entities("DeviceGroup", groups), entities("Action", &self.unscoped_operations));
        writeln!(
            text,
            "forbid (principal, action, resource is Device) when {{ {called} }} \
             unless {{ resource in {groups} || resource in Groups::\"tried\" }};\n\
             forbid (principal, action, resource) when {{ {called} && ({unsure}) }};\n\
             forbid (principal, action, resource == Nothing::\"unscoped\") when {{ {called} }} \
             unless {{ action in {unscoped} }};"
        )
        .unwrap();
    }
}

// === impl Group ===

impl Group {
    fn forbid(&self, text: &mut String) {
        if self.effect == Effect::Enforced && !self.entra_groups.is_empty() {
            writeln!(
                text,
                "forbid (principal is User, action, resource in DeviceGroup::{:?}) unless {{ {} }};",
                self.name,
                self.member()
            )
            .unwrap();
        }
    }

    /// Whether the user is in one of its Entra groups.
    fn member(&self) -> String {
        let groups = self.entra_groups.iter().map(|id| Uuid::from_u128(*id));
        format!("principal in {}", entities("EntraGroup", groups))
    }
}

// === impl Rule ===

impl Rule {
    fn expression(&self) -> String {
        let Self { name, domain, tag, os_platform } = self;
        let all = [("names", name), ("domain", domain), ("tags", tag), ("os_platform", os_platform)];
        let asked = all.into_iter().filter(|(_, conditions)| !conditions.is_empty());
        let properties = asked.map(|(property, conditions)| {
            let one_of: Vec<_> = conditions.iter().map(|condition| condition.expression(property)).collect();
            format!("({})", one_of.join(" || "))
        });
        properties.collect::<Vec<_>>().join(" && ")
    }
}

// === impl Condition ===

impl Condition {
    /// A property is text of all its values in lower case, each between two bars: `|exec-1|exec-1.corp.example|`.
    fn expression(&self, property: &str) -> String {
        let value = self.value.to_lowercase().replace('*', "\\*");
        let pattern = match self.how {
            How::StartsWith => format!("*|{value}*"),
            How::EndsWith => format!("*{value}|*"),
            How::Equals => format!("*|{value}|*"),
            How::Contains => format!("*{value}*"),
        };
        format!("principal.{property} like \"{pattern}\"")
    }
}
