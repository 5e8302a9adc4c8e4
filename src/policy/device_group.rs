//! Device groups: which group a device is in, and whose users may act on it.
//!
//! The rules are the portal's: a device is in exactly one group, the highest ranked whose rule matches it; the values
//! of one property are alternatives, and every property that a rule names must match. (*Create and manage device
//! groups*, `machine-groups.md`.)

use std::collections::HashMap;

use crate::id::{DeviceGroupId, EntraGroupId};
use crate::policy::compile::{Reading, Sought, Taken};
use crate::policy::document::{
    DeviceGroupDocument, GroupSource, StaleInventory, UngroupedDocument, UnknownAction, UnknownDevice, Word,
};
use crate::policy::effect::Effect;
use crate::policy::inventory::MaxAge;
use crate::principal::Groups;
use crate::source::{Place, PolicyFiles, Problems, known_are};

mod index;
mod rule;
mod set;

pub(crate) use index::RuleIndex;
use rule::MatchingRule;
pub(crate) use set::GroupSet;

/// The group of a device that no rule matches, by the name that the portal gives it.
pub(crate) const UNGROUPED: &str = "Ungrouped devices (default)";

/// The group of a device that the inventory puts into one that `device-groups.toml` lacks: open to nobody.
const UNDECLARED: &str = "Undeclared device group";

/// What the API reports as the group of a device that is in none (`get-remediation-one-activity.md`,
/// `export-firmware-hardware-assessment.md`).
const NO_GROUP: &[&str] = &[UNGROUPED, "UnassignedGroup", "Unassigned", "None"];

/// A group by its place among the set's groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct GroupIndex(u32);

/// The device groups of `device-groups.toml`.
#[derive(Debug)]
pub(crate) struct DeviceGroups {
    /// By rank, the highest first.
    ranked: Vec<DeviceGroup>,
    /// The ranked ones and that of ungrouped devices.
    by_name: HashMap<DeviceGroupId, GroupIndex, foldhash::fast::RandomState>,
    ungrouped: DeviceGroup,
    undeclared: DeviceGroup,
    source: GroupSource,
    unknown_device: UnknownDevice,
    unknown_action: UnknownAction,
    max_age: Option<MaxAge>,
    stale_inventory: StaleInventory,
    places: Box<ModePlaces>,
    /// Of the file that says all this.
    digest: Option<[u8; 32]>,
}

/// Where the file says what becomes of what is not known; none of what it leaves out.
#[derive(Debug, Default)]
pub(crate) struct ModePlaces {
    pub(crate) unknown_device: Option<Place>,
    pub(crate) unknown_action: Option<Place>,
    pub(crate) max_age: Option<Place>,
    pub(crate) stale_inventory: Option<Place>,
}

/// One group. Each decision on a device looks at another one, so it is small: what no decision needs lies elsewhere.
#[derive(Debug)]
pub(crate) struct DeviceGroup {
    id: DeviceGroupId,
    opens_to: OpensTo,
    effect: Effect,
    rule: Box<MatchingRule>,
    /// Where it stands; none of what no file says.
    place: Option<Box<Place>>,
}

const _: () = assert!(size_of::<DeviceGroup>() <= 64);

/// Which users may act on a group's devices, if they have a role.
#[derive(Debug)]
enum OpensTo {
    /// All of them: the file names no Entra group.
    Everybody,
    /// The members of these Entra groups.
    Members(Box<[EntraGroupId]>),
    /// None.
    Nobody,
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

    /// What one is called in messages.
    const ONE: &str = "device group";

    pub(crate) fn compile(files: &PolicyFiles, problems: &mut Problems) -> Self {
        let mut groups = Self::default();
        let Some(source) = files.require(Self::FILE, problems) else {
            problems.leave_out(Self::ONE, None);
            return groups;
        };
        groups.digest = Some(source.stamp().digest);
        let opened = Sought::open(Self::ONE, "device_group", Some(source), problems);
        let Some((mut file, mut sought)) = opened else { return groups };
        if let Some(word) = file.value("source", problems) {
            groups.source = word.into_inner();
        }
        let place = |span| Some(source.place_of(span));
        if let Some(word) = file.value("unknown_device", problems) {
            groups.places.unknown_device = place(word.span());
            groups.unknown_device = word.into_inner();
        }
        if let Some(word) = file.value("unknown_action", problems) {
            groups.places.unknown_action = place(word.span());
            groups.unknown_action = word.into_inner();
        }
        let max_age = file.value::<String>("max_age", problems);
        let stale_inventory = file.value("stale_inventory", problems);
        let ungrouped = file.value::<UngroupedDocument>("ungrouped", problems);
        let documents = file.entries::<DeviceGroupDocument>("device_group", problems);
        sought.finish(file, problems);

        let mut reading = Reading::new(source, problems);
        groups.places.max_age = max_age.as_ref().and_then(|word| place(word.span()));
        groups.max_age = max_age.as_ref().and_then(|word| reading.parse(word));
        if let Some(mode) = stale_inventory {
            if max_age.is_none() {
                reading.at(mode.span(), "`stale_inventory` without `max_age`: no inventory is ever too old");
            }
            groups.places.stale_inventory = place(mode.span());
            groups.stale_inventory = mode.into_inner();
        }
        let (mut names, mut ranks) = (Taken::new("device group"), Taken::new("rank"));
        let mut ranked = Vec::new();
        for document in documents {
            let document = document.into_inner();
            let rank = *document.rank.get_ref();
            reading.take(&mut names, document.name.get_ref().clone(), document.name.span());
            reading.take(&mut ranks, rank, document.rank.span());
            if let Some(group) = DeviceGroup::read(&document, groups.source, &mut reading) {
                ranked.push((rank, group));
            }
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        groups.ranked = ranked.into_iter().map(|(_, group)| group).collect();
        if let Some(document) = ungrouped {
            groups.ungrouped.place = Some(Box::new(source.place_of(document.span())));
            let document = document.into_inner();
            groups.ungrouped.effect = Effect::of(document.enforce);
            groups.ungrouped.opens_to = OpensTo::read(&document.entra_groups, &mut reading);
        }
        // Of two of one name, which is a mistake, the lower ranked stays.
        let names = groups.ranked().map(|(index, group)| (group.id.clone(), index));
        groups.by_name = names.chain([(UNGROUPED.into(), groups.ungrouped())]).collect();
        sought.leave_out(|name| groups.by_name.contains_key(name), problems);
        groups
    }

    /// Whether they are what the file of these says.
    pub(crate) fn says(&self, files: &PolicyFiles) -> bool {
        files.get(Self::FILE).is_some_and(|source| Some(source.stamp().digest) == self.digest)
    }

    /// How many there are, without the one of ungrouped devices.
    pub(crate) fn len(&self) -> usize {
        self.ranked.len()
    }

    /// The Entra groups that any of them is open to.
    pub(crate) fn entra_groups(&self) -> impl Iterator<Item = &EntraGroupId> {
        self.ranked.iter().chain([&self.ungrouped]).flat_map(DeviceGroup::entra_groups)
    }

    /// The ranked groups, the highest first, each with its index.
    pub(crate) fn ranked(&self) -> impl Iterator<Item = (GroupIndex, &DeviceGroup)> {
        self.ranked.iter().enumerate().map(|(index, group)| (GroupIndex(index as u32), group))
    }

    pub(crate) fn unknown_device(&self) -> UnknownDevice {
        self.unknown_device
    }

    pub(crate) fn unknown_action(&self) -> UnknownAction {
        self.unknown_action
    }

    /// Who says which group a device is in.
    pub(crate) fn source(&self) -> GroupSource {
        self.source
    }

    /// How old an inventory may be; none if it never is too old.
    pub(crate) fn max_age(&self) -> Option<MaxAge> {
        self.max_age
    }

    pub(crate) fn stale_inventory(&self) -> StaleInventory {
        self.stale_inventory
    }

    /// Where the file says what becomes of what is not known.
    pub(crate) fn places(&self) -> &ModePlaces {
        &self.places
    }

    /// The group of an index: behind the ranked ones come that of ungrouped devices and the undeclared.
    pub(crate) fn get(&self, index: GroupIndex) -> &DeviceGroup {
        match self.ranked.get(index.0 as usize) {
            Some(group) => group,
            None if index == self.ungrouped() => &self.ungrouped,
            None => &self.undeclared,
        }
    }

    /// The group of devices that no rule matches.
    pub(crate) fn ungrouped(&self) -> GroupIndex {
        GroupIndex(self.ranked.len() as u32)
    }

    /// The group that the inventory reports of a device; an error if `device-groups.toml` has none of this name: the
    /// index is then that of the group that is open to nobody.
    pub(crate) fn reported(&self, name: Option<&str>) -> Result<GroupIndex, GroupIndex> {
        let Some(name) = name else { return Ok(self.ungrouped()) };
        match self.by_name.get(name) {
            Some(index) => Ok(*index),
            None if NO_GROUP.contains(&name) => Ok(self.ungrouped()),
            None => Err(GroupIndex(self.ranked.len() as u32 + 1)),
        }
    }

    /// The group that a file names; a name that there is not is a problem.
    pub(crate) fn named(&self, word: &Word, reading: &mut Reading<'_>) -> Option<GroupIndex> {
        if let Some(index) = self.by_name.get(word.get_ref().as_str()) {
            return Some(*index);
        }
        let all = self.ranked.iter().chain([&self.ungrouped]);
        let known = known_are(word.get_ref(), all.map(|group| group.id.as_str()));
        reading.unknown(Self::ONE, word, known);
        None
    }

    /// The rules of all groups, to be asked of many devices.
    ///
    /// # Errors
    /// If they are more than can be indexed.
    pub(crate) fn rules(&self) -> Result<RuleIndex, aho_corasick::BuildError> {
        RuleIndex::build(self.ranked.iter().map(|group| &*group.rule))
    }

    /// The group of a device for which the rules found that of this place, or none.
    pub(crate) fn at(&self, place: Option<u32>) -> GroupIndex {
        place.map_or(self.ungrouped(), GroupIndex)
    }

    /// Whether a device's group depends on its tags.
    ///
    /// Groups that the inventory reports may, whatever the portal's rules are.
    pub(crate) fn match_by_tag(&self) -> bool {
        self.source == GroupSource::Inventory || self.ranked.iter().any(|group| group.rule.looks_at_tags())
    }

    /// Whether there is a group, that of ungrouped devices included, that is not open to a user of these groups.
    pub(crate) fn bind(&self, user: &Groups) -> bool {
        let mut all = self.ranked.iter().chain([&self.ungrouped]);
        // The inventory may report groups that are open to nobody.
        self.source == GroupSource::Inventory || all.any(|group| group.access(user) != GroupAccess::Open)
    }
}

impl Default for DeviceGroups {
    fn default() -> Self {
        let group = |id: &str, opens_to| DeviceGroup {
            id: id.into(),
            opens_to,
            effect: Effect::default(),
            rule: Box::default(),
            place: None,
        };
        Self {
            ranked: Vec::new(),
            by_name: HashMap::from_iter([(UNGROUPED.into(), GroupIndex(0))]),
            ungrouped: group(UNGROUPED, OpensTo::Everybody),
            undeclared: group(UNDECLARED, OpensTo::Nobody),
            source: GroupSource::default(),
            unknown_device: UnknownDevice::default(),
            unknown_action: UnknownAction::default(),
            max_age: None,
            stale_inventory: StaleInventory::default(),
            places: Box::default(),
            digest: None,
        }
    }
}

// === impl DeviceGroup ===

impl DeviceGroup {
    fn read(document: &DeviceGroupDocument, source: GroupSource, reading: &mut Reading<'_>) -> Option<Self> {
        let id = reading.name::<DeviceGroupId>(&document.name);
        if document.name.get_ref() == UNGROUPED {
            reading.at(document.name.span(), format_args!("`{UNGROUPED}` is what `[ungrouped]` describes"));
        }
        let opens_to = OpensTo::read(&document.entra_groups, reading);
        let rule = match (source, &document.rule) {
            (GroupSource::Rules, Some(rule)) => MatchingRule::read(rule, reading),
            (GroupSource::Rules, None) => {
                reading
                    .at(document.name.span(), "no `match`, and `source` does not leave it to the inventory");
                return None;
            }
            (GroupSource::Inventory, Some(rule)) => {
                reading.at(rule.span(), "`match` has no say where `source` leaves it to the inventory");
                return None;
            }
            (GroupSource::Inventory, None) => MatchingRule::default(),
        };
        let place = Some(Box::new(reading.place(document.name.span())));
        let effect = Effect::of(document.enforce);
        Some(Self { id: id?, opens_to, effect, rule: Box::new(rule), place })
    }

    pub(crate) fn id(&self) -> &DeviceGroupId {
        &self.id
    }

    /// What comes of a call that it is not open to.
    pub(crate) fn effect(&self) -> Effect {
        self.effect
    }

    /// The Entra groups that it is open to; none if it is open to everybody with a role.
    pub(crate) fn entra_groups(&self) -> &[EntraGroupId] {
        match &self.opens_to {
            OpensTo::Members(groups) => groups,
            OpensTo::Everybody | OpensTo::Nobody => &[],
        }
    }

    /// What a device must be like to be in it, a sentence for each property.
    pub(crate) fn describe(&self) -> Vec<String> {
        self.rule.describe()
    }

    /// Where the file says it; none for ungrouped devices without a table of their own.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_deref()
    }

    /// Whether a user of these groups may act on the devices of this one.
    pub(crate) fn access(&self, user: &Groups) -> GroupAccess {
        match (&self.opens_to, user) {
            (OpensTo::Everybody, _) => GroupAccess::Open,
            (OpensTo::Nobody, _) => GroupAccess::Closed,
            (OpensTo::Members(theirs), Groups::Listed(listed)) => {
                let member = listed.iter().any(|group| theirs.contains(group));
                if member { GroupAccess::Open } else { GroupAccess::Closed }
            }
            (OpensTo::Members(_), Groups::Overage) => GroupAccess::Unknown,
        }
    }
}

// === impl OpensTo ===

impl OpensTo {
    fn read(entra_groups: &[Word], reading: &mut Reading<'_>) -> Self {
        if entra_groups.is_empty() {
            return Self::Everybody;
        }
        Self::Members(reading.parse_all(entra_groups).into())
    }
}
