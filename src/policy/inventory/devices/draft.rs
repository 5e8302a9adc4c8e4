//! Devices on their way from a file into memory.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use super::texts::{self, TextId};
use super::{Devices, Index, Kind, Record, Slot};
use crate::id::{DeviceId, DeviceRef, plain_name};
use crate::policy::inventory::{Listed, Reported};

/// The devices read so far.
#[derive(Debug, Default)]
pub(in crate::policy::inventory) struct Draft {
    devices: Devices,
    kind_of: HashMap<Kind, u32, RandomState>,
    /// So that no device is listed twice.
    by_id: HashTable<u32>,
}

/// What a device brought that was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy::inventory) enum Novelty {
    /// A combination of domain, tags, platform and reported group.
    Kind,
    /// Itself alone.
    None,
}

/// The lengths that texts of ids have: no other name is read as one.
const ID_LENGTHS: [usize; 4] = [32, 36, 38, 40];

// === impl Draft ===

impl Draft {
    pub(in crate::policy::inventory) fn len(&self) -> usize {
        self.devices.list.len()
    }

    /// Makes room for some devices more.
    pub(in crate::policy::inventory) fn reserve(&mut self, devices: usize) {
        let Self { devices: Devices { list, state, .. }, by_id, .. } = self;
        by_id.reserve(devices.min(Devices::MAX), |place| hash_of(state, list, *place));
    }

    /// Whether there is a device of this id.
    pub(in crate::policy::inventory) fn has(&self, id: &DeviceId) -> bool {
        let is = |place: &u32| self.devices.list.get(*place as usize).is_some_and(|record| record.id == *id);
        self.by_id.find(self.devices.state.hash_one(id), is).is_some()
    }

    /// Adds a device whose id no other has.
    pub(in crate::policy::inventory) fn add(&mut self, listed: &Listed<'_>) -> Novelty {
        let (kind, novelty) = self.kind(listed);
        let Self { devices: Devices { list, labels, texts, odd, state, .. }, by_id, .. } = self;
        let place = list.len() as u32;
        let name = texts::lower(plain_name(&listed.name));
        let (first, suffix) =
            name.split_once('.').map_or((&*name, None), |(first, rest)| (first, Some(rest)));
        list.push(Record {
            id: listed.id,
            entra: listed.entra_id,
            label: labels.len() as u32,
            label_length: first.len() as u32,
            suffix: suffix.map(|suffix| texts.intern(suffix)),
            kind,
            same_entra: None,
            same_label: None,
        });
        labels.push_str(first);
        by_id.insert_unique(state.hash_one(listed.id), place, |other| hash_of(state, list, *other));
        for word in [&*name, first] {
            if ID_LENGTHS.contains(&word.len()) {
                let named = DeviceRef::parse(word);
                if !matches!(named, DeviceRef::Name(_)) {
                    odd.entry(named).or_default().push(place);
                }
            }
        }
        novelty
    }

    fn kind(&mut self, listed: &Listed<'_>) -> (u32, Novelty) {
        let Devices { texts, kinds, .. } = &mut self.devices;
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
            return (*known, Novelty::None);
        }
        let new = kinds.len() as u32;
        kinds.push(kind.clone());
        self.kind_of.insert(kind, new);
        (new, Novelty::Kind)
    }

    /// Nothing more comes: indexes what there is, and gives back what was reserved for more.
    pub(in crate::policy::inventory) fn finish(self) -> Devices {
        let Self { mut devices, kind_of, by_id } = self;
        drop((kind_of, by_id));
        let Devices { list, labels, texts, kinds, odd, .. } = &mut devices;
        list.shrink_to_fit();
        labels.shrink_to_fit();
        texts.finish();
        kinds.shrink_to_fit();
        odd.shrink_to_fit();
        let (by_id, _) = index(&devices, |record| Some(&record.id));
        let (by_entra, entras) = index(&devices, |record| record.entra.as_ref());
        let label = |record| Some(devices.label(record)).filter(|label| !label.is_empty());
        let (by_label, labels) = index(&devices, label);
        devices.by_id = by_id;
        devices.by_entra = by_entra;
        devices.by_label = by_label;
        let slot = |place: u32| Slot::new(place + 1);
        for (place, next) in entras {
            if let Some(record) = devices.list.get_mut(place as usize) {
                record.same_entra = slot(next);
            }
        }
        for (place, next) in labels {
            if let Some(record) = devices.list.get_mut(place as usize) {
                record.same_label = slot(next);
            }
        }
        devices
    }
}

/// An index from keys to the first device of each, and, of each device whose key another further down has too, its
/// place and that of the next.
fn index<'d, K: Hash + Eq + ?Sized + 'd>(
    devices: &'d Devices,
    key: impl Fn(&'d Record) -> Option<&'d K>,
) -> (Index, Vec<(u32, u32)>) {
    let mut index = Index::for_keys(devices.list.iter().filter(|record| key(record).is_some()).count());
    let mut shared = Vec::new();
    for (place, record) in devices.list.iter().enumerate().rev() {
        let Some(new) = key(record) else { continue };
        let place = place as u32;
        let is =
            |other: u32| devices.list.get(other as usize).and_then(&key).is_some_and(|key| key == new).into();
        if let Some(next) = index.put(devices.hash(new), place, is) {
            shared.push((place, next));
        }
    }
    (index, shared)
}

fn hash_of(state: &RandomState, list: &[Record], place: u32) -> u64 {
    list.get(place as usize).map_or(0, |record| state.hash_one(record.id))
}
