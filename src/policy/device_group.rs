//! Device groups: which group a device is in, and whose users may act on it.
//!
//! The rules are the portal's: a device is in exactly one group, the highest ranked whose rule matches it; the values
//! of one property are alternatives, and every property that a rule names must match. (*Create and manage device
//! groups*, `machine-groups.md`.)

use std::str::FromStr;

use toml::Spanned;

use crate::id::{DeviceGroupId, EntraGroupId};
use crate::policy::compile::{Reading, Taken, quoted};
use crate::policy::document::{
    DeviceGroupDocument, MatchDocument, UngroupedDocument, UnknownAction, UnknownDevice, Word,
};
use crate::principal::Groups;
use crate::source::{PolicyFiles, Problems};

/// The group of a device that no rule matches, by the name that the portal gives it.
pub(crate) const UNGROUPED: &str = "Ungrouped devices (default)";

/// A group by its place among the set's groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct GroupIndex(u32);

/// The device groups of `device-groups.toml`.
#[derive(Debug)]
pub(crate) struct DeviceGroups {
    /// By rank, the highest first.
    ranked: Vec<DeviceGroup>,
    ungrouped: DeviceGroup,
    unknown_device: UnknownDevice,
    unknown_action: UnknownAction,
}

/// One group.
#[derive(Debug)]
pub(crate) struct DeviceGroup {
    id: DeviceGroupId,
    rule: MatchingRule,
    /// The Entra groups whose members may act on it; if none, every user with a role may.
    entra_groups: Vec<EntraGroupId>,
}

/// What a device must look like to be in a group: for each list that is not empty, one of it must match.
#[derive(Debug, Default)]
struct MatchingRule {
    name: Vec<Condition>,
    domain: Vec<Condition>,
    tag: Vec<Condition>,
    os_platform: Vec<Condition>,
}

/// One value of a rule, such as `starts with EXEC-`, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Equals(Box<str>),
    Contains(Box<str>),
}

/// Text that is not a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a condition: write `starts with …`, `ends with …`, `equals …` or `contains …`")]
struct InvalidCondition {
    text: String,
}

/// What rules look at, in lower case.
#[derive(Debug, Default)]
pub(crate) struct Traits {
    /// The name as the inventory gives it, and its first label if that is shorter.
    pub(crate) names: Vec<String>,
    pub(crate) domain: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) os_platform: Option<String>,
}

/// Whether a user may act on a group's devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupAccess {
    /// The group is open to everybody with a role, or the user is in one of its Entra groups.
    Open,
    /// The user is in none of them.
    Closed,
    /// It depends on groups that the token could not carry.
    Unknown,
}

// === impl DeviceGroups ===

impl DeviceGroups {
    /// The file that says it.
    pub(crate) const FILE: &str = "device-groups.toml";

    pub(crate) fn compile(files: &PolicyFiles, problems: &mut Problems) -> Self {
        let mut groups = Self::default();
        let Some(source) = files.require(Self::FILE, problems) else { return groups };
        let Some(mut file) = source.toml(problems) else { return groups };
        if let Some(word) = file.value("unknown_device", problems) {
            groups.unknown_device = word.into_inner();
        }
        if let Some(word) = file.value("unknown_action", problems) {
            groups.unknown_action = word.into_inner();
        }
        let ungrouped = file.value::<UngroupedDocument>("ungrouped", problems);
        let documents = file.entries::<DeviceGroupDocument>("device_group", problems);
        file.finish(problems);

        let mut reading = Reading::new(source, problems);
        let (mut names, mut ranks) = (Taken::new("device group"), Taken::new("rank"));
        let mut ranked = Vec::new();
        for document in documents {
            let document = document.into_inner();
            let rank = *document.rank.get_ref();
            reading.take(&mut names, document.name.get_ref().clone(), document.name.span());
            reading.take(&mut ranks, rank, document.rank.span());
            if let Some(group) = DeviceGroup::read(&document, &mut reading) {
                ranked.push((rank, group));
            }
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        groups.ranked = ranked.into_iter().map(|(_, group)| group).collect();
        if let Some(document) = ungrouped {
            groups.ungrouped.entra_groups = reading.parse_all(&document.into_inner().entra_groups);
        }
        groups
    }

    /// How many there are, without the one of ungrouped devices.
    pub(crate) fn len(&self) -> usize {
        self.ranked.len()
    }

    pub(crate) fn unknown_device(&self) -> UnknownDevice {
        self.unknown_device
    }

    pub(crate) fn unknown_action(&self) -> UnknownAction {
        self.unknown_action
    }

    /// The group of an index; what is no ranked group is the one of ungrouped devices.
    pub(crate) fn get(&self, index: GroupIndex) -> &DeviceGroup {
        self.ranked.get(index.0 as usize).unwrap_or(&self.ungrouped)
    }

    /// The group of devices that no rule matches.
    pub(crate) fn ungrouped(&self) -> GroupIndex {
        GroupIndex(self.ranked.len() as u32)
    }

    /// The group that a file names; a name that there is not is a problem.
    pub(crate) fn named(&self, word: &Word, reading: &mut Reading<'_>) -> Option<GroupIndex> {
        let all = self.ranked.iter().chain([&self.ungrouped]);
        if let Some(place) = all.clone().position(|group| group.id.as_str() == word.get_ref()) {
            return Some(GroupIndex(place as u32));
        }
        let known = quoted(all.map(|group| &group.id));
        reading.at(word.span(), format_args!("unknown device group `{}`, known are {known}", word.get_ref()));
        None
    }

    /// The group that a device is in: the highest ranked that matches.
    pub(crate) fn of(&self, device: &Traits) -> GroupIndex {
        let place = self.ranked.iter().position(|group| group.rule.matches(device));
        place.map_or(self.ungrouped(), |place| GroupIndex(place as u32))
    }

    /// Whether a device's group depends on its tags.
    pub(crate) fn match_by_tag(&self) -> bool {
        self.ranked.iter().any(|group| !group.rule.tag.is_empty())
    }

    /// Whether there is a group, that of ungrouped devices included, that is not open to a user of these groups.
    pub(crate) fn bind(&self, user: &Groups) -> bool {
        let mut all = self.ranked.iter().chain([&self.ungrouped]);
        all.any(|group| group.access(user) != GroupAccess::Open)
    }
}

impl Default for DeviceGroups {
    fn default() -> Self {
        let ungrouped =
            DeviceGroup { id: UNGROUPED.into(), rule: MatchingRule::default(), entra_groups: Vec::new() };
        Self {
            ranked: Vec::new(),
            ungrouped,
            unknown_device: UnknownDevice::default(),
            unknown_action: UnknownAction::default(),
        }
    }
}

// === impl DeviceGroup ===

impl DeviceGroup {
    fn read(document: &DeviceGroupDocument, reading: &mut Reading<'_>) -> Option<Self> {
        let id = reading.name::<DeviceGroupId>(&document.name);
        if document.name.get_ref() == UNGROUPED {
            reading.at(document.name.span(), format_args!("`{UNGROUPED}` is what `[ungrouped]` describes"));
        }
        let entra_groups = reading.parse_all(&document.entra_groups);
        let rule = MatchingRule::read(&document.rule, reading);
        Some(Self { id: id?, rule, entra_groups })
    }

    pub(crate) fn id(&self) -> &DeviceGroupId {
        &self.id
    }

    /// Whether a user of these groups may act on the devices of this one.
    pub(crate) fn access(&self, user: &Groups) -> GroupAccess {
        match user {
            _ if self.entra_groups.is_empty() => GroupAccess::Open,
            Groups::Listed(listed) if listed.iter().any(|group| self.entra_groups.contains(group)) => {
                GroupAccess::Open
            }
            Groups::Listed(_) => GroupAccess::Closed,
            Groups::Overage => GroupAccess::Unknown,
        }
    }
}

// === impl MatchingRule ===

impl MatchingRule {
    fn read(document: &Spanned<MatchDocument>, reading: &mut Reading<'_>) -> Self {
        let MatchDocument { name, domain, tag, os_platform } = document.get_ref();
        let properties = [name, domain, tag, os_platform];
        if properties.iter().all(|property| property.is_none()) {
            reading
                .at(document.span(), "`match` must name at least one property, or every device would match");
        }
        let [name, domain, tag, os_platform] = properties.map(|property| match property {
            Some(values) if values.get_ref().is_empty() => {
                reading
                    .at(values.span(), "an empty list of conditions matches nothing: leave the property out");
                Vec::new()
            }
            Some(values) => reading.parse_all(values.get_ref()),
            None => Vec::new(),
        });
        Self { name, domain, tag, os_platform }
    }

    fn matches(&self, device: &Traits) -> bool {
        any_of(&self.name, device.names.iter().map(String::as_str))
            && any_of(&self.domain, device.domain.as_deref())
            && any_of(&self.tag, device.tags.iter().map(String::as_str))
            && any_of(&self.os_platform, device.os_platform.as_deref())
    }
}

/// A property that the rule leaves out matches; otherwise one condition must hold for one of the device's values.
fn any_of<'t>(conditions: &[Condition], values: impl IntoIterator<Item = &'t str>) -> bool {
    conditions.is_empty()
        || values.into_iter().any(|value| conditions.iter().any(|condition| condition.holds(value)))
}

// === impl Condition ===

impl Condition {
    /// Whether it holds for a value in lower case.
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::StartsWith(text) => value.starts_with(&**text),
            Self::EndsWith(text) => value.ends_with(&**text),
            Self::Equals(text) => value == &**text,
            Self::Contains(text) => value.contains(&**text),
        }
    }
}

impl FromStr for Condition {
    type Err = InvalidCondition;

    fn from_str(text: &str) -> Result<Self, InvalidCondition> {
        let read = |operator: &str, condition: fn(Box<str>) -> Self| {
            let value = text.strip_prefix(operator)?.trim();
            (!value.is_empty()).then(|| condition(value.to_lowercase().into()))
        };
        read("starts with ", Self::StartsWith)
            .or_else(|| read("ends with ", Self::EndsWith))
            .or_else(|| read("equals ", Self::Equals))
            .or_else(|| read("contains ", Self::Contains))
            .ok_or_else(|| InvalidCondition { text: text.into() })
    }
}
