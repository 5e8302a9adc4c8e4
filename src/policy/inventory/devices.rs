//! The devices in memory: small, found by each of their names, and with all that rules look at, so that rules that
//! change need no file read again.
//!
//! A device is 64 bytes, the first label of its name, and a place in each of three tables of 32-bit numbers. What many
//! devices share is kept once: domains, and the combinations of domain, tags and platform ([`Kind`]).

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::num::NonZeroU32;

use aho_corasick::BuildError;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use super::{Device, Listed, Reported};
use crate::id::{DeviceId, DeviceRef, EntraDeviceId};
use crate::policy::device_group::{DeviceGroups, GroupIndex};
use crate::policy::document::GroupSource;

mod texts;

use texts::{TextId, Texts};

/// Every device of an inventory.
#[derive(Debug, Default)]
pub(super) struct Devices {
    list: Vec<Record>,
    /// The first labels of all names in lower case, one behind the other.
    labels: String,
    texts: Texts,
    kinds: Vec<Kind>,
    kind_of: HashMap<Kind, u32, RandomState>,
    by_id: HashTable<u32>,
    /// The last device of each; the others hang behind it.
    by_entra: HashTable<u32>,
    /// The same by the first label of the name.
    by_label: HashTable<u32>,
    /// Names that read as an id of one kind or the other, as a call's own words would be read.
    odd: HashMap<DeviceRef, Vec<u32>, RandomState>,
    state: RandomState,
}

/// One device.
#[derive(Debug)]
struct Record {
    id: DeviceId,
    entra: Option<EntraDeviceId>,
    /// Where its label begins; it ends where the next one's begins.
    label: u32,
    /// What stands behind the first dot of its name.
    suffix: Option<TextId>,
    kind: u32,
    group: GroupIndex,
    same_entra: Option<Slot>,
    same_label: Option<Slot>,
}

/// A device's place in the list, plus one.
type Slot = NonZeroU32;

/// What rules look at beside the name, in lower case, and the group that the inventory reports.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    domain: Option<TextId>,
    os_platform: Option<TextId>,
    tags: SmallVec<[TextId; 4]>,
    reported: Option<TextId>,
}

const _: () = assert!(size_of::<Record>() == 64);

// === impl Devices ===

impl Devices {
    /// No more than this: with it, every number here fits into 32 bits.
    pub(super) const MAX: usize = 1 << 24;

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Device> {
        self.list.iter().map(|record| Device { id: record.id, group: record.group })
    }

    /// Whether there is a device of this id.
    pub(super) fn has(&self, id: &DeviceId) -> bool {
        self.place(id).is_some()
    }

    /// Every device that fits the name, in the order in which they are listed.
    pub(super) fn find(&self, named: &DeviceRef) -> impl Iterator<Item = Device> {
        let mut places: SmallVec<[u32; 4]> = SmallVec::new();
        match named {
            DeviceRef::Id(id) => places.extend(self.place(id)),
            DeviceRef::Entra(id) => self.of_entra(id, &mut places),
            DeviceRef::Name(name) => self.of_name(name, &mut places),
        }
        if !self.odd.is_empty() {
            places.extend(self.odd.get(named).into_iter().flatten().copied());
        }
        if places.len() > 1 {
            places.sort_unstable();
            places.dedup();
        }
        let records = places.into_iter().filter_map(|place| self.list.get(place as usize));
        records.map(|record| Device { id: record.id, group: record.group })
    }

    fn place(&self, id: &DeviceId) -> Option<u32> {
        let is = |place: &u32| self.list.get(*place as usize).is_some_and(|record| record.id == *id);
        self.by_id.find(self.state.hash_one(id), is).copied()
    }

    fn of_entra(&self, id: &EntraDeviceId, places: &mut SmallVec<[u32; 4]>) {
        let is = |place: &u32| self.list.get(*place as usize).is_some_and(|record| record.entra == Some(*id));
        let mut next = self.by_entra.find(self.state.hash_one(id), is).copied();
        while let Some(place) = next {
            places.push(place);
            next = self.list.get(place as usize).and_then(|record| record.same_entra).map(place_of);
        }
    }

    /// A name with a dot is a device's whole name, or its name and its domain; one without is also a first label.
    fn of_name(&self, name: &str, places: &mut SmallVec<[u32; 4]>) {
        let (label, rest) = name.split_once('.').map_or((name, None), |(label, rest)| (label, Some(rest)));
        let rest = match rest {
            None => None,
            Some(rest) => match self.texts.find(rest) {
                Some(text) => Some(text),
                // No device has such a suffix or domain.
                None => return,
            },
        };
        let is = |place: &u32| self.label(*place) == label;
        let mut next = self.by_label.find(self.state.hash_one(label), is).copied();
        while let Some(place) = next {
            let Some(record) = self.list.get(place as usize) else { return };
            let domain = || self.kinds.get(record.kind as usize).and_then(|kind| kind.domain);
            if rest.is_none() || record.suffix.or_else(domain) == rest {
                places.push(place);
            }
            next = record.same_label.map(place_of);
        }
    }

    fn label(&self, place: u32) -> &str {
        label(&self.list, &self.labels, place)
    }

    /// Adds a device whose id no other has. Its group is known after [`assign`](Self::assign).
    pub(super) fn add(&mut self, listed: &Listed<'_>) {
        let place = self.list.len() as u32;
        let name = texts::lower(&listed.name);
        let (first, suffix) =
            name.split_once('.').map_or((&*name, None), |(first, rest)| (first, Some(rest)));
        let kind = self.kind(listed);
        let record = Record {
            id: listed.id,
            entra: listed.entra_id,
            label: self.labels.len() as u32,
            suffix: suffix.map(|suffix| self.texts.intern(suffix)),
            kind,
            group: GroupIndex::default(),
            same_entra: None,
            same_label: None,
        };
        self.labels.push_str(first);
        self.list.push(record);
        self.index(place, listed, &name, first);
    }

    /// Puts the last device of the list into the tables.
    fn index(&mut self, place: u32, listed: &Listed<'_>, name: &str, first: &str) {
        let Self { list, labels, by_id, by_entra, by_label, odd, state, .. } = self;
        let id_of = |place: &u32| list.get(*place as usize).map(|record| record.id);
        by_id.insert_unique(state.hash_one(listed.id), place, |other| hash(state, id_of(other)));
        if let Some(id) = listed.entra_id {
            let entra_of = |place: &u32| list.get(*place as usize).and_then(|record| record.entra);
            let before = match by_entra.find_mut(state.hash_one(id), |other| entra_of(other) == Some(id)) {
                Some(head) => Some(std::mem::replace(head, place)),
                None => {
                    by_entra.insert_unique(state.hash_one(id), place, |other| hash(state, entra_of(other)));
                    None
                }
            };
            if let Some(record) = list.last_mut() {
                record.same_entra = before.and_then(slot_of);
            }
        }
        if name.is_empty() {
            return;
        }
        let is = |other: &u32| *other != place && label(list, labels, *other) == first;
        let before = match by_label.find_mut(state.hash_one(first), is) {
            Some(head) => Some(std::mem::replace(head, place)),
            None => {
                let rehash = |other: &u32| state.hash_one(label(list, labels, *other));
                by_label.insert_unique(state.hash_one(first), place, rehash);
                None
            }
        };
        if let Some(record) = list.last_mut() {
            record.same_label = before.and_then(slot_of);
        }
        for word in [name, first] {
            let named = DeviceRef::parse(word);
            if !matches!(named, DeviceRef::Name(_)) {
                odd.entry(named).or_default().push(place);
            }
        }
    }

    fn kind(&mut self, listed: &Listed<'_>) -> u32 {
        let texts = &mut self.texts;
        let mut intern = |text: &str| texts.intern(&texts::lower(text));
        let mut tags: SmallVec<[TextId; 4]> = listed.tags.iter().map(|tag| intern(tag)).collect();
        tags.sort_unstable();
        let kind = Kind {
            domain: listed.domain.as_deref().map(&mut intern),
            os_platform: listed.os_platform.as_deref().map(&mut intern),
            tags,
            // As it is written: groups' names are.
            reported: match &listed.group {
                Reported::Group(name) => Some(texts.intern(name)),
                Reported::Unsaid | Reported::None => None,
            },
        };
        if let Some(known) = self.kind_of.get(&kind) {
            return *known;
        }
        let new = self.kinds.len() as u32;
        self.kinds.push(kind.clone());
        self.kind_of.insert(kind, new);
        new
    }

    /// Nothing more comes: gives back what was reserved for it.
    pub(super) fn finish(&mut self) {
        let Self { list, labels, texts, kinds, by_id, by_entra, by_label, state, .. } = self;
        list.shrink_to_fit();
        labels.shrink_to_fit();
        texts.finish();
        kinds.shrink_to_fit();
        let record = |place: &u32| list.get(*place as usize);
        by_id.shrink_to_fit(|place| hash(state, record(place).map(|record| record.id)));
        by_entra.shrink_to_fit(|place| hash(state, record(place).and_then(|record| record.entra)));
        by_label.shrink_to_fit(|place| state.hash_one(label(list, labels, *place)));
    }

    /// Says of each device which group it is in, by its own memory alone.
    ///
    /// # Errors
    /// If the rules are more than can be indexed.
    pub(super) fn assign(&mut self, groups: &DeviceGroups) -> Result<(), BuildError> {
        match groups.source() {
            GroupSource::Rules => self.assign_by_rules(groups),
            GroupSource::Inventory => {
                self.assign_as_reported(groups);
                Ok(())
            }
        }
    }

    fn assign_by_rules(&mut self, groups: &DeviceGroups) -> Result<(), BuildError> {
        let mut rules = groups.rules()?;
        // Those of a kind one after another, so that what they share is asked once.
        let mut order: Vec<u32> = (0..self.list.len() as u32).collect();
        order.sort_by_key(|place| self.list.get(*place as usize).map(|record| record.kind));
        let (mut current, mut name) = (None, String::new());
        for place in order {
            let Some(record) = self.list.get(place as usize) else { continue };
            if current != Some(record.kind)
                && let Some(Kind { domain, os_platform, tags, .. }) = self.kinds.get(record.kind as usize)
            {
                let text = |id: &TextId| self.texts.text(*id);
                let (domain, os_platform) = (domain.as_ref().map(text), os_platform.as_ref().map(text));
                rules.kind(domain, os_platform, tags.iter().map(text));
                current = Some(record.kind);
            }
            let first = self.label(place);
            name.clear();
            if let Some(suffix) = record.suffix {
                name.extend([first, ".", self.texts.text(suffix)]);
            }
            let names = [first, &name].into_iter().filter(|name| !name.is_empty());
            let group = groups.at(rules.group(names));
            if let Some(record) = self.list.get_mut(place as usize) {
                record.group = group;
            }
        }
        Ok(())
    }

    fn assign_as_reported(&mut self, groups: &DeviceGroups) {
        let mut known: HashMap<Option<TextId>, GroupIndex> = HashMap::new();
        let of_kind: Vec<GroupIndex> = self
            .kinds
            .iter()
            .map(|kind| {
                *known.entry(kind.reported).or_insert_with(|| {
                    let name = kind.reported.map(|name| self.texts.text(name));
                    groups.reported(name).unwrap_or_else(|closed| closed)
                })
            })
            .collect();
        for record in &mut self.list {
            record.group = of_kind.get(record.kind as usize).copied().unwrap_or_default();
        }
    }
}

fn place_of(slot: Slot) -> u32 {
    slot.get() - 1
}

fn slot_of(place: u32) -> Option<Slot> {
    NonZeroU32::new(place.wrapping_add(1))
}

fn hash<T: std::hash::Hash>(state: &RandomState, value: Option<T>) -> u64 {
    value.map_or(0, |value| state.hash_one(value))
}

fn label<'l>(list: &[Record], labels: &'l str, place: u32) -> &'l str {
    let from = |place: usize| list.get(place).map(|record| record.label as usize);
    let start = from(place as usize).unwrap_or(labels.len());
    labels.get(start..from(place as usize + 1).unwrap_or(labels.len())).unwrap_or_default()
}

#[cfg(test)]
mod tests;
