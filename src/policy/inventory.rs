//! The inventory: which devices there are, by which names, and in which group each is.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::id::{DeviceId, DeviceRef, EntraDeviceId};
use crate::policy::device_group::{DeviceGroups, GroupIndex};
use crate::source::{PolicyFiles, Problems};
use crate::time::Wall;

mod age;
mod csv;
mod devices;
mod json;
mod listing;

pub(crate) use age::MaxAge;
pub(crate) use devices::Names;
use listing::{Listing, Reader};

/// The devices of `devices.csv`, `devices.json` and the files in `devices/`, and the group that each is in.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    listing: Arc<Listing>,
    /// Of each device, by its place.
    groups: Arc<[GroupIndex]>,
    /// When its oldest file was written; none for files that lie on no disk.
    written: Option<Wall>,
}

/// One device, as far as decisions need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) group: GroupIndex,
}

/// One device as an export lists it.
#[derive(Debug)]
struct Listed<'t> {
    id: DeviceId,
    /// Empty for the devices that the service knows no name of.
    name: Cow<'t, str>,
    entra_id: Option<EntraDeviceId>,
    domain: Option<Cow<'t, str>>,
    os_platform: Option<Cow<'t, str>>,
    tags: SmallVec<[Cow<'t, str>; 4]>,
    group: Reported<'t>,
}

/// What an export says of a device's group.
#[derive(Debug, PartialEq, Eq)]
enum Reported<'t> {
    /// Nothing: it has no such member or column.
    Unsaid,
    /// That it is in none.
    None,
    /// Its name.
    Group(Cow<'t, str>),
}

/// Lines counted on the way through a text, each once.
struct Lines<'a> {
    text: &'a str,
    offset: usize,
    line: usize,
}

/// Whether a reader has use for more of a file.
enum Next {
    Read,
    Stop,
}

// === impl Inventory ===

impl Inventory {
    /// Reads the files, unless `previous` has read the same; the groups that its devices are in are those of `groups`.
    pub(crate) fn compile(
        files: &PolicyFiles,
        groups: &DeviceGroups,
        previous: Option<(&Self, &DeviceGroups)>,
        problems: &mut Problems,
    ) -> Self {
        let stamps: Vec<_> = files.stamps().filter(|(name, _)| Listing::is_of(name)).collect();
        let written = Self::written_in(files);
        let (listing, assigned) = match previous.filter(|(previous, _)| previous.listing.says(&stamps)) {
            Some((previous, before)) => {
                for (name, _) in &stamps {
                    files.read(name, problems);
                }
                let same = std::ptr::eq(before, groups);
                (previous.listing.clone(), same.then(|| previous.groups.clone()))
            }
            None => (Arc::new(Listing::read(files, &stamps, problems)), None),
        };
        listing.judge(groups, files, problems);
        let groups = assigned.unwrap_or_else(|| match listing.devices.assign(groups) {
            Ok(assigned) => assigned.into(),
            Err(error) => {
                let message = format_args!("the rules are too many to be indexed: {error}");
                problems.file(DeviceGroups::FILE, message);
                Arc::default()
            }
        });
        Self { listing, groups, written }
    }

    /// When the oldest of its files among these was written.
    pub(crate) fn written_in(files: &PolicyFiles) -> Option<Wall> {
        files.stamps().filter(|(name, _)| Self::is_of(name)).filter_map(|(_, stamp)| stamp.modified).min()
    }

    /// Whether a file of this name is part of one.
    pub(crate) fn is_of(name: &str) -> bool {
        Listing::is_of(name)
    }

    /// When its oldest file was written.
    pub(crate) fn written(&self) -> Option<Wall> {
        self.written
    }

    /// Says when its oldest file was written.
    pub(crate) fn date(&mut self, written: Option<Wall>) {
        self.written = written;
    }

    /// How many devices there are.
    pub(crate) fn len(&self) -> usize {
        self.listing.devices.len()
    }

    /// Every device, and what calls may name it by.
    pub(crate) fn named(&self) -> impl Iterator<Item = (Device, Names<'_>)> {
        let devices = &self.listing.devices;
        (0..self.len() as u32).filter_map(|place| Some((self.device(place)?, devices.names(place)?)))
    }

    /// Every device that fits the name; none if the inventory lacks it.
    pub(crate) fn find(&self, named: &DeviceRef) -> impl Iterator<Item = Device> {
        self.listing.devices.find(named).filter_map(|place| self.device(place))
    }

    fn device(&self, place: u32) -> Option<Device> {
        Some(Device { id: self.listing.devices.id(place)?, group: *self.groups.get(place as usize)? })
    }

    /// Every group that a device is in.
    pub(crate) fn groups(&self) -> impl Iterator<Item = GroupIndex> {
        self.groups.iter().copied()
    }
}

// === impl Lines ===

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, offset: 0, line: 1 }
    }

    /// The line, from 1, of the byte at `offset`, which is not before the last one asked for.
    fn at(&mut self, offset: usize) -> usize {
        let between = self.text.as_bytes().get(self.offset..offset).unwrap_or_default();
        self.line += memchr::memchr_iter(b'\n', between).count();
        self.offset = offset.max(self.offset);
        self.line
    }
}

#[cfg(test)]
mod tests;
