//! The documents as the files that a user writes.

use std::fmt::Debug;

use tollgate::source::{PolicyFiles, SourceFile};
use tollgate::time::Wall;
use uuid::Uuid;

use super::documents::{
    Application, Device, Documents, Effect, Group, How, List, MAX_AGE, Modes, Names, Operation, Role, Rule,
    Source,
};

// === impl Documents ===

impl Documents {
    /// The files, the inventory being written at this time.
    pub(crate) fn files(&self, written: Option<Wall>) -> PolicyFiles {
        let Self { operations, roles, groups, ungrouped, applications, devices, modes } = self;
        let groups: String = groups.iter().map(|group| group.toml(modes.source)).collect();
        let groups = format!("{}[ungrouped]\n{}{groups}", modes.toml(), ungrouped.access());
        let applications: String = applications.iter().map(Application::toml).collect();
        let head = "Device Name,Domain,Tags,Group,OS Platform,AAD Device ID,Device ID\n";
        let devices = devices.iter().fold(head.to_owned(), |text, device| text + &device.csv());
        let mut files = PolicyFiles::default();
        let enforce = modes.effect.toml();
        for (name, text) in [
            ("policy.toml", enforce.to_owned()),
            ("operations.toml", operations.iter().map(Operation::toml).collect()),
            ("roles.toml", roles.iter().map(Role::toml).collect()),
            ("device-groups.toml", groups),
            ("applications.toml", format!("unlisted = {}\n{applications}", word(modes.unlisted))),
            ("devices.csv", devices),
        ] {
            files.insert(SourceFile::new(name, text).with_modified(written));
        }
        files
    }
}

/// The word of the files for a mode.
fn word(mode: impl Debug) -> String {
    format!("{mode:?}").to_lowercase().split(' ').map(|word| format!("{word:?}")).collect()
}

fn guids(ids: &[u128]) -> String {
    let ids: Vec<_> = ids.iter().map(|id| Uuid::from_u128(*id).to_string()).collect();
    format!("{ids:?}")
}

fn of_tenants(tenants: Option<&[u128]>) -> String {
    tenants.map(|ids| format!("tenants = {}\n", guids(ids))).unwrap_or_default()
}

// === impl Effect ===

impl Effect {
    fn toml(self) -> &'static str {
        match self {
            Self::Enforced => "",
            Self::Tried => "enforce = false\n",
        }
    }
}

// === impl Modes ===

impl Modes {
    fn toml(&self) -> String {
        let Self { effect: _, source, unlisted: _, unknown_device, unknown_action, stale } = *self;
        let age = stale.map(|mode| format!("max_age = \"{MAX_AGE}h\"\nstale_inventory = {}\n", word(mode)));
        format!(
            "source = {}\nunknown_device = {}\nunknown_action = {}\n{}",
            word(source),
            word(unknown_device),
            word(unknown_action),
            age.unwrap_or_default()
        )
    }
}

// === impl Operation ===

impl Operation {
    /// Its method and its path, with this in the place of its parameter.
    pub(crate) fn request(&self, parameter: &str) -> (&'static str, String) {
        let Self { name, .. } = self;
        match self.names {
            Names::Path => ("POST", format!("/api/machines/{parameter}/{name}")),
            Names::Action => ("GET", format!("/api/machineactions/{parameter}/{name}")),
            Names::Body => ("POST", format!("/api/machines/{name}")),
            Names::Nowhere => ("GET", format!("/api/{name}")),
        }
    }

    fn toml(&self) -> String {
        let Self { name, names, application, delegated, roles } = self;
        let (method, path) = self.request(match names {
            Names::Action => "{action}",
            Names::Path | Names::Body | Names::Nowhere => "{device}",
        });
        let role = match &roles[..] {
            [] => String::new(),
            [one] => format!("role = {one:?}\n"),
            many => format!("role = {many:?}\n"),
        };
        let body = match names {
            Names::Body => "body = { type = \"application/json\", devices = \"MachineIds\" }\n",
            Names::Path | Names::Action | Names::Nowhere => "",
        };
        format!(
            "[[operation]]\nname = {name:?}\nmethod = {method:?}\npath = {path:?}\napplication = {application:?}\n\
             delegated = {delegated:?}\n{role}{body}"
        )
    }
}

// === impl Role ===

impl Role {
    fn toml(&self) -> String {
        let Self { name, tenants, permissions, entra_groups, users, effect } = self;
        let (groups, users) = (guids(entra_groups), guids(users));
        format!(
            "[[role]]\nname = {name:?}\npermissions = {permissions:?}\nentra_groups = {groups}\nusers = {users}\n{}{}",
            of_tenants(tenants.as_deref()),
            effect.toml()
        )
    }
}

// === impl Group ===

impl Group {
    fn toml(&self, source: Source) -> String {
        let Self { name, rank, rule, .. } = self;
        let rule = match source {
            Source::Rules => format!("match = {}\n", rule.toml()),
            Source::Inventory => String::new(),
        };
        format!("[[device_group]]\nname = {name:?}\nrank = {rank}\n{rule}{}", self.access())
    }

    fn access(&self) -> String {
        format!("entra_groups = {}\n{}", guids(&self.entra_groups), self.effect.toml())
    }
}

// === impl Rule ===

impl Rule {
    fn toml(&self) -> String {
        let Self { name, domain, tag, os_platform } = self;
        let all = [("name", name), ("domain", domain), ("tag", tag), ("os_platform", os_platform)];
        let asked = all.into_iter().filter(|(_, conditions)| !conditions.is_empty());
        let properties: Vec<_> = asked
            .map(|(property, conditions)| {
                let conditions = conditions.iter().map(|condition| {
                    let operator = match condition.how {
                        How::StartsWith => "starts with",
                        How::EndsWith => "ends with",
                        How::Equals => "equals",
                        How::Contains => "contains",
                    };
                    format!("{operator} {}", condition.value)
                });
                format!("{property} = {:?}", conditions.collect::<Vec<_>>())
            })
            .collect();
        format!("{{ {} }}", properties.join(", "))
    }
}

// === impl Application ===

impl Application {
    fn toml(&self) -> String {
        let Self { id, tenants, name, operations, device_groups, unscoped_operations } = self;
        format!(
            "[[application]]\nid = {:?}\nname = {name:?}\noperations = {}\ndevice_groups = {}\n\
             unscoped_operations = {unscoped_operations:?}\n{}",
            Uuid::from_u128(*id).to_string(),
            operations.toml(),
            device_groups.toml(),
            of_tenants(tenants.as_deref())
        )
    }
}

// === impl List ===

impl List {
    fn toml(&self) -> String {
        match self {
            Self::All => "\"all\"".to_owned(),
            Self::Only(names) => format!("{names:?}"),
        }
    }
}

// === impl Device ===

impl Device {
    fn csv(&self) -> String {
        let Self { id, entra, name, domain, os_platform, tags, group } = self;
        let entra = entra.map(|id| Uuid::from_u128(id).to_string()).unwrap_or_default();
        format!("{name},{domain},{},{group},{os_platform},{entra},{id}\n", tags.join(";"))
    }
}
