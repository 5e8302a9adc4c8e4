//! The devices in memory: small, found by each of their names, and with all that rules look at, so that rules that
//! change need no file read again.
//!
//! A device is one cache line of 64 bytes, the first label of its name, and a slot in each of three indexes. What many
//! devices share is kept once: domains, and the combinations of domain, tags and platform ([`Kind`]). Which group each
//! is in is not said here: that follows from rules, which change more often.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::num::NonZeroU32;

use aho_corasick::BuildError;
use foldhash::fast::RandomState;
use smallvec::SmallVec;

use crate::id::{DeviceId, DeviceRef, EntraDeviceId};
use crate::policy::device_group::{DeviceGroups, GroupIndex};
use crate::policy::document::GroupSource;

mod draft;
mod index;
mod texts;

pub(super) use draft::{Draft, Novelty};
use index::{Index, Verdict};
use texts::{TextId, Texts};

/// Every device of an inventory.
#[derive(Debug, Default)]
pub(super) struct Devices {
    list: Vec<Record>,
    /// The first labels of all names in lower case, one behind the other.
    labels: String,
    texts: Texts,
    kinds: Vec<Kind>,
    by_id: Index,
    /// The first device of each; the others hang behind it.
    by_entra: Index,
    /// The same by the first label of the name.
    by_label: Index,
    /// Names that read as an id of one kind or the other, as a call's own words would be read.
    odd: HashMap<DeviceRef, Vec<u32>, RandomState>,
    state: RandomState,
}

/// One device, in one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Record {
    id: DeviceId,
    entra: Option<EntraDeviceId>,
    /// Where its label is.
    label: u32,
    label_length: u32,
    /// What stands behind the first dot of its name.
    suffix: Option<TextId>,
    kind: u32,
    same_entra: Option<Slot>,
    same_label: Option<Slot>,
}

/// What a device is found by beside its id, in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Names<'d> {
    /// The first label of its name; empty if it has none.
    pub(crate) label: &'d str,
    /// What stands behind its first dot, or else its domain.
    pub(crate) rest: Option<&'d str>,
    pub(crate) entra: Option<EntraDeviceId>,
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

/// The places of the devices that fit a name, in the order in which they are listed.
#[derive(Debug)]
pub(super) struct Found<'d> {
    devices: &'d Devices,
    next: Option<u32>,
    way: Way,
}

/// How the devices of one name hang together.
#[derive(Debug)]
enum Way {
    /// There is one.
    Alone,
    SameEntra,
    SameLabel,
    /// Those of the same label whose names go on like this, or that are in this domain.
    Behind(TextId),
    Listed(std::vec::IntoIter<u32>),
}

const _: () = assert!(size_of::<Record>() == 64);

// === impl Devices ===

impl Devices {
    /// No more than this: with it, every number here fits into 32 bits.
    pub(super) const MAX: usize = 1 << 24;

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The id of the device at a place.
    pub(super) fn id(&self, place: u32) -> Option<DeviceId> {
        self.list.get(place as usize).map(|record| record.id)
    }

    /// Every device that fits the name, in the order in which they are listed.
    pub(super) fn find(&self, named: &DeviceRef) -> Found<'_> {
        let found = match named {
            DeviceRef::Id(id) => {
                // A device may be meant by its id in Entra, written without hyphens.
                let entra = id.as_entra().and_then(|id| self.of_entra(&id));
                let found = self.found(self.of_id(id), Way::Alone);
                if entra.is_none() {
                    found
                } else {
                    self.listed(found.chain(self.found(entra, Way::SameEntra)))
                }
            }
            DeviceRef::Entra(id) => self.found(self.of_entra(id), Way::SameEntra),
            DeviceRef::Name(name) => self.of_name(name),
        };
        if self.odd.is_empty() {
            return found;
        }
        let Some(odd) = self.odd.get(named) else { return found };
        self.listed(found.chain(odd.iter().copied()))
    }

    /// These places, each once and in order.
    fn listed(&self, places: impl Iterator<Item = u32>) -> Found<'_> {
        let mut places: Vec<u32> = places.collect();
        places.sort_unstable();
        places.dedup();
        self.found(None, Way::Listed(places.into_iter()))
    }

    fn found(&self, next: Option<u32>, way: Way) -> Found<'_> {
        Found { devices: self, next, way }
    }

    fn of_id(&self, id: &DeviceId) -> Option<u32> {
        self.by_id.find(self.hash(id), |place| self.is(place, |record| record.id == *id))
    }

    fn of_entra(&self, id: &EntraDeviceId) -> Option<u32> {
        self.by_entra.find(self.hash(id), |place| self.is(place, |record| record.entra == Some(*id)))
    }

    /// A name with a dot is a device's whole name, or its name and its domain; one without is also a first label.
    fn of_name(&self, name: &str) -> Found<'_> {
        let (label, rest) = name.split_once('.').map_or((name, None), |(label, rest)| (label, Some(rest)));
        let way = match rest.map(|rest| self.texts.find(rest)) {
            None => Way::SameLabel,
            Some(Some(text)) => Way::Behind(text),
            // No device has such a suffix or domain.
            Some(None) => return self.found(None, Way::Alone),
        };
        let is = |place| self.is(place, |record| self.label(record) == label);
        self.found(self.by_label.find(self.hash(label), is), way)
    }

    fn is(&self, place: u32, holds: impl FnOnce(&Record) -> bool) -> Verdict {
        self.list.get(place as usize).is_some_and(holds).into()
    }

    fn hash<T: Hash + ?Sized>(&self, key: &T) -> u64 {
        self.state.hash_one(key)
    }

    fn label(&self, record: &Record) -> &str {
        let start = record.label as usize;
        self.labels.get(start..start + record.label_length as usize).unwrap_or_default()
    }

    /// What the device at a place is found by.
    pub(super) fn names(&self, place: u32) -> Option<Names<'_>> {
        let record = self.list.get(place as usize)?;
        let rest = self.rest(record).map(|rest| self.texts.text(rest));
        Some(Names { label: self.label(record), rest, entra: record.entra })
    }

    /// How a device's name goes on behind its first label, or else its domain.
    fn rest(&self, record: &Record) -> Option<TextId> {
        let domain = || self.kinds.get(record.kind as usize).and_then(|kind| kind.domain);
        record.suffix.or_else(domain)
    }

    /// The group that each device is in, by its place.
    ///
    /// # Errors
    /// If the rules are more than can be indexed.
    pub(super) fn assign(&self, groups: &DeviceGroups) -> Result<Vec<GroupIndex>, BuildError> {
        match groups.source() {
            GroupSource::Rules => self.assign_by_rules(groups),
            GroupSource::Inventory => Ok(self.assign_as_reported(groups)),
        }
    }

    fn assign_by_rules(&self, groups: &DeviceGroups) -> Result<Vec<GroupIndex>, BuildError> {
        let mut rules = groups.rules()?;
        let mut assigned = vec![groups.ungrouped(); self.list.len()];
        // Those of a kind one after another, so that what they share is asked once.
        let (mut current, mut name) = (None, String::new());
        for place in self.by_kind() {
            let Some(record) = self.list.get(place as usize) else { continue };
            if current != Some(record.kind)
                && let Some(Kind { domain, os_platform, tags, .. }) = self.kinds.get(record.kind as usize)
            {
                let text = |id: &TextId| self.texts.text(*id);
                let (domain, os_platform) = (domain.as_ref().map(text), os_platform.as_ref().map(text));
                rules.kind(domain, os_platform, tags.iter().map(text));
                current = Some(record.kind);
            }
            let first = self.label(record);
            name.clear();
            if let Some(suffix) = record.suffix {
                name.extend([first, ".", self.texts.text(suffix)]);
            }
            let names = [first, &name].into_iter().filter(|name| !name.is_empty());
            let group = groups.at(rules.group(names));
            if let Some(assigned) = assigned.get_mut(place as usize) {
                *assigned = group;
            }
        }
        Ok(assigned)
    }

    /// Every place, by kind: sorted by counting, since there are few kinds.
    fn by_kind(&self) -> Vec<u32> {
        let mut next = vec![0_u32; self.kinds.len() + 1];
        for record in &self.list {
            if let Some(count) = next.get_mut(record.kind as usize + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for count in &mut next {
            sum += *count;
            *count = sum;
        }
        let mut order = vec![0; self.list.len()];
        for (place, record) in self.list.iter().enumerate() {
            if let Some(at) = next.get_mut(record.kind as usize)
                && let Some(slot) = order.get_mut(*at as usize)
            {
                *slot = place as u32;
                *at += 1;
            }
        }
        order
    }

    fn assign_as_reported(&self, groups: &DeviceGroups) -> Vec<GroupIndex> {
        let mut known: HashMap<Option<TextId>, GroupIndex, RandomState> = HashMap::default();
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
        let kinds = self.list.iter().map(|record| record.kind as usize);
        kinds.map(|kind| of_kind.get(kind).copied().unwrap_or_default()).collect()
    }
}

// === impl Found ===

impl Iterator for Found<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if let Way::Listed(places) = &mut self.way {
            return places.next();
        }
        loop {
            let place = self.next.take()?;
            let after = |slot: Option<Slot>| slot.map(|slot| slot.get() - 1);
            let record = self.devices.list.get(place as usize)?;
            self.next = match self.way {
                Way::Alone | Way::Listed(_) => None,
                Way::SameEntra => after(record.same_entra),
                Way::SameLabel | Way::Behind(_) => after(record.same_label),
            };
            match self.way {
                Way::Behind(rest) if self.devices.rest(record) != Some(rest) => {}
                _ => return Some(place),
            }
        }
    }
}

#[cfg(test)]
mod tests;
