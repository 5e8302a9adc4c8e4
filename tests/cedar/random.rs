//! Policy sets, callers and calls by chance, from words that are few enough to meet.

use uuid::Uuid;

use super::documents::{
    Application, Caller, Condition, Device, Documents, Effect, Group, How, List, Modes, Names, Operation,
    Role, Rule, Source, Stale, UNGROUPED, UnknownAction, UnknownDevice, Unlisted, User,
};
use super::judge::Named;
use crate::support::dice::Dice;

/// To the letter: the last two are two.
const PERMISSIONS: [&str; 6] =
    ["Machine.Read", "Machine.Write", "Machine.Isolate", "Alert.Read", "Alert.Write", "alert.write"];

const ROLE_PERMISSIONS: [&str; 4] =
    ["View data", "Alerts investigation", "Manage security settings", "Live response advanced"];

/// As roles may write them; of the last four, two together are one of those above.
const ROLE_WORDS: [&str; 10] = [
    "View data",
    "Alerts investigation",
    "Manage security settings",
    "Live response advanced",
    "Security data basics (read)",
    "Alerts (manage)",
    "Core security settings (manage)",
    "Detection tuning (manage)",
    "Advanced live response (manage)",
    "File collection (manage)",
];

const FIRST: [&str; 8] = ["ws-1", "WS-2", "ws-10", "srv-1", "Exec-1", "exec-10", "kiosk", "*"];
const BEHIND: [&str; 4] = ["", ".corp.example", ".LAB.corp.example", ".example"];
const DOMAINS: [&str; 4] = ["", "corp.example", "lab.corp.example", "Example"];
const PLATFORMS: [&str; 5] = ["", "Windows11", "Windows10", "WindowsServer2022", "Linux"];
const TAGS: [&str; 5] = ["VIP", "tier 0", "tier 1", "lab", "*"];

/// Device groups, and two that no file declares.
const GROUPS: [&str; 14] = [
    "group 0", "group 1", "group 2", "group 3", "group 4", "group 5", "group 6", "group 7", "group 8",
    "group 9", "group 10", "group 11", "nowhere", "Group 1",
];

/// What the API says of a device in no group.
const NO_GROUP: [&str; 4] = ["", UNGROUPED, "UnassignedGroup", "None"];

/// Ids by their last digits.
const ENTRA_GROUPS: [u128; 8] = [0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7];
const USERS: [u128; 4] = [0xb0, 0xb1, 0xb2, 0xb3];
const TENANTS: [u128; 2] = [0x71, 0x72];
const APPLICATIONS: [u128; 8] = [0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7];

/// An application that no file lists.
const STRANGER: u128 = 0xff;

fn owned(words: Vec<&str>) -> Vec<String> {
    words.into_iter().map(ToOwned::to_owned).collect()
}

/// Every tenant, or one.
fn some_tenants(dice: &mut Dice) -> Option<Vec<u128>> {
    dice.one_in(4).then(|| vec![*dice.of(&TENANTS)])
}

// === impl Documents ===

impl Documents {
    /// A small set, or one in six times a larger one, still of at most 100 policies.
    pub(crate) fn random(dice: &mut Dice) -> Self {
        let scale = if dice.one_in(6) { 3 } else { 1 };
        let modes = Modes::random(dice);
        let operations: Vec<_> =
            (0..=dice.below(6 * scale)).map(|number| Operation::random(number, dice)).collect();
        let roles = (0..dice.below(5)).map(|number| Role::random(number, dice)).collect();
        let mut groups: Vec<_> =
            (0..dice.below(4 * scale)).map(|number| Group::random(GROUPS[number], number, dice)).collect();
        // The order in the file says nothing; ranks do, which need not follow each other.
        for number in (1..groups.len()).rev() {
            let (rank, other) = (groups[number].rank, dice.below(number + 1));
            groups[number].rank = groups[other].rank;
            groups[other].rank = rank;
        }
        let ungrouped = Group::random(UNGROUPED, 0, dice);
        let names: Vec<_> = groups.iter().chain([&ungrouped]).map(|group| group.name.clone()).collect();
        let listed = dice.below(3 * scale);
        let mut applications = Vec::new();
        for id in &APPLICATIONS[..listed] {
            let first = Application::random(*id, &operations, &names, dice);
            // Another entry of the application, for the other tenant.
            if first.tenants.as_deref() == Some(&TENANTS[..1]) && dice.one_in(2) {
                let name = format!("{}-elsewhere", first.name);
                let tenants = Some(TENANTS[1..].to_vec());
                let other = Application::random(*id, &operations, &names, dice);
                applications.push(Application { name, tenants, ..other });
            }
            applications.push(first);
        }
        let devices = (0..dice.below(12)).map(|number| Device::random(number, dice)).collect();
        Self { operations, roles, groups, ungrouped, applications, devices, modes }
    }

    /// A device by one of its names, or one that the inventory lacks.
    fn name_device(&self, dice: &mut Dice) -> String {
        let unknown = || "unknown-pc.corp.example".to_owned();
        if self.devices.is_empty() || dice.one_in(10) {
            return unknown();
        }
        let device = dice.of(&self.devices);
        let first = device.name.split('.').next().unwrap_or_default();
        let name = match dice.below(5) {
            0 => device.entra.map(|id| Uuid::from_u128(id).to_string()).unwrap_or_default(),
            1 => device.name.clone(),
            2 => first.to_owned(),
            3 if !device.name.is_empty() => format!("{first}.{}", device.domain),
            _ => device.id.clone(),
        };
        let name = if name.is_empty() || name.ends_with('.') { device.id.clone() } else { name };
        if dice.one_in(2) { name.to_uppercase() } else { name }
    }

    /// What a call of an operation names.
    pub(crate) fn random_named(&self, operation: &Operation, dice: &mut Dice) -> Named {
        match operation.names {
            Names::Nowhere => Named::Nothing,
            _ if dice.one_in(30) => Named::Nothing,
            Names::Action if dice.one_in(3) => Named::UnknownAction,
            Names::Path | Names::Action => Named::Devices(vec![self.name_device(dice)]),
            Names::Body => Named::Devices((0..=dice.below(3)).map(|_| self.name_device(dice)).collect()),
        }
    }
}

// === impl Modes ===

impl Modes {
    fn random(dice: &mut Dice) -> Self {
        Self {
            effect: if dice.one_in(20) { Effect::Tried } else { Effect::Enforced },
            source: *dice.of(&[Source::Rules, Source::Rules, Source::Inventory]),
            unlisted: *dice.of(&[Unlisted::Refuse, Unlisted::Permission]),
            unknown_device: *dice.of(&[UnknownDevice::Refuse, UnknownDevice::Ungrouped]),
            unknown_action: *dice.of(&[UnknownAction::Refuse, UnknownAction::Forward]),
            stale: *dice.of(&[None, None, Some(Stale::Refuse), Some(Stale::Use)]),
        }
    }
}

// === impl Operation ===

impl Operation {
    fn random(number: usize, dice: &mut Dice) -> Self {
        let roles = if dice.one_in(3) { Vec::new() } else { vec![*dice.of(&ROLE_PERMISSIONS)] };
        let more = if roles.is_empty() { Vec::new() } else { dice.some(&ROLE_PERMISSIONS, 4) };
        Self {
            name: format!("operation_{number}"),
            names: *dice.of(&[
                Names::Path,
                Names::Path,
                Names::Path,
                Names::Action,
                Names::Body,
                Names::Nowhere,
            ]),
            application: owned(dice.some(&PERMISSIONS, 2)),
            delegated: owned(dice.some(&PERMISSIONS, 2)),
            roles: roles.into_iter().chain(more).collect(),
        }
    }
}

// === impl Role ===

impl Role {
    fn random(number: usize, dice: &mut Dice) -> Self {
        Self {
            name: format!("role {number}"),
            tenants: some_tenants(dice),
            permissions: dice.some(&ROLE_WORDS, 2),
            entra_groups: dice.some(&ENTRA_GROUPS, 3),
            users: dice.some(&USERS, 4),
            effect: if dice.one_in(10) { Effect::Tried } else { Effect::Enforced },
        }
    }
}

// === impl Group ===

impl Group {
    fn random(name: &str, number: usize, dice: &mut Dice) -> Self {
        Self {
            name: name.to_owned(),
            rank: number * 3 + 1,
            rule: Rule::random(dice),
            entra_groups: if dice.one_in(2) { dice.some(&ENTRA_GROUPS, 2) } else { Vec::new() },
            effect: if dice.one_in(5) { Effect::Tried } else { Effect::Enforced },
        }
    }
}

// === impl Rule ===

impl Rule {
    /// Of one property at least.
    fn random(dice: &mut Dice) -> Self {
        let mut rule = Self::default();
        for _ in 0..=dice.below(4) {
            let (list, words) = match dice.below(4) {
                0 => (&mut rule.name, [&FIRST[..], &DOMAINS[1..]].concat()),
                1 => (&mut rule.domain, DOMAINS[1..].to_vec()),
                2 => (&mut rule.tag, TAGS.to_vec()),
                _ => (&mut rule.os_platform, PLATFORMS[1..].to_vec()),
            };
            list.push(Condition::random(dice.of::<&str>(&words), dice));
        }
        rule
    }
}

// === impl Condition ===

impl Condition {
    /// A part of the word that fits the operator.
    fn random(word: &str, dice: &mut Dice) -> Self {
        let how = *dice.of(&[How::StartsWith, How::EndsWith, How::Equals, How::Contains]);
        let cut = dice.below(word.len());
        let value = match how {
            How::Equals => word,
            How::StartsWith => &word[..=cut],
            How::EndsWith | How::Contains => &word[cut..],
        };
        // Spaces at an end are not part of a value.
        let value = if value.trim() == value { value } else { word };
        Self { how, value: if dice.one_in(3) { value.to_uppercase() } else { value.to_owned() } }
    }
}

// === impl Application ===

impl Application {
    fn random(id: u128, operations: &[Operation], groups: &[String], dice: &mut Dice) -> Self {
        let named = if dice.one_in(3) { operations.to_vec() } else { dice.some(operations, 2) };
        let all = named.len() == operations.len() && dice.one_in(2);
        let names = |operations: &[Operation]| operations.iter().map(|one| one.name.clone()).collect();
        let unscoped: Vec<_> = named.iter().filter(|one| one.names == Names::Nowhere).cloned().collect();
        Self {
            id,
            tenants: some_tenants(dice),
            name: format!("application-{id:x}"),
            operations: if all { List::All } else { List::Only(names(&named)) },
            device_groups: if dice.one_in(3) { List::All } else { List::Only(dice.some(groups, 2)) },
            unscoped_operations: names(&dice.some(&unscoped, 2)),
        }
    }
}

// === impl Device ===

impl Device {
    fn random(number: usize, dice: &mut Dice) -> Self {
        // Old ids have 32 digits.
        let digits = if dice.one_in(8) { 32 } else { 40 };
        let id = format!("{:0digits$x}", 0xd000 + number);
        let first = if dice.one_in(12) { "" } else { *dice.of(&FIRST) };
        let behind = if first.is_empty() { "" } else { *dice.of(&BEHIND) };
        let group = if dice.one_in(3) { *dice.of(&NO_GROUP) } else { *dice.of(&GROUPS) };
        Self {
            id: if dice.one_in(2) { id.to_uppercase() } else { id },
            // Some devices share one.
            entra: (!dice.one_in(3)).then(|| 0xdd00_0000_0000 + dice.below(8) as u128),
            name: format!("{first}{behind}"),
            domain: (*dice.of(&DOMAINS)).to_owned(),
            os_platform: (*dice.of(&PLATFORMS)).to_owned(),
            tags: owned(dice.some(&TAGS, 4)),
            group: group.to_owned(),
        }
    }
}

// === impl Caller ===

impl Caller {
    /// More often than not one who may do something.
    pub(crate) fn random(documents: &Documents, dice: &mut Dice) -> Self {
        let listed: Vec<u128> = documents.applications.iter().map(|entry| entry.id).collect();
        let application = if listed.is_empty() || dice.one_in(4) { STRANGER } else { *dice.of(&listed) };
        let all = dice.one_in(2);
        let permissions = if all { PERMISSIONS.to_vec() } else { dice.some(&PERMISSIONS, 2) };
        let user = (!dice.one_in(3)).then(|| User {
            id: *dice.of(&USERS),
            groups: (!dice.one_in(6)).then(|| {
                let all = dice.one_in(3);
                if all { ENTRA_GROUPS.to_vec() } else { dice.some(&ENTRA_GROUPS, 2) }
            }),
        });
        Self { tenant: *dice.of(&TENANTS), application, permissions: owned(permissions), user }
    }
}
