//! The inventory: which devices there are, by which names, and in which group each is.

use std::collections::{HashMap, HashSet};

use smallvec::SmallVec;

use crate::id::{DeviceId, DeviceRef, EntraDeviceId};
use crate::policy::device_group::{DeviceGroups, GroupIndex, Traits};
use crate::policy::document::GroupSource;
use crate::source::{PolicyFiles, Problems, SourceFile};
use crate::time::Wall;

mod age;
mod csv;
mod json;

pub(crate) use age::MaxAge;

/// The devices of `devices.csv`, `devices.json` and the files in `devices/`.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    devices: Vec<Device>,
    /// Every way to name a device; two devices may share a name or an Entra id.
    by_ref: HashMap<DeviceRef, SmallVec<[u32; 2]>, foldhash::fast::RandomState>,
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
struct Listed {
    id: DeviceId,
    /// Empty for the devices that the service knows no name of.
    name: String,
    entra_id: Option<EntraDeviceId>,
    domain: Option<String>,
    os_platform: Option<String>,
    tags: Vec<String>,
    group: Reported,
}

/// What an export says of a device's group.
#[derive(Debug, PartialEq, Eq)]
enum Reported {
    /// Nothing: it has no such member or column.
    Unsaid,
    /// That it is in none.
    None,
    /// Its name.
    Group(String),
}

/// An inventory that is being read.
struct Reader<'a> {
    groups: &'a DeviceGroups,
    inventory: Inventory,
    /// The groups that exports name and the set lacks, each once.
    undeclared: HashSet<String>,
    /// Mistakes of this file so far.
    mistakes: usize,
    problems: &'a mut Problems,
}

/// Lines counted on the way through a text, each once.
struct Lines<'a> {
    text: &'a str,
    offset: usize,
    line: usize,
}

/// An export of the wrong kind has a mistake in each of its rows: this many are enough to see it.
const MAX_MISTAKES: usize = 100;

/// Whether a reader has use for more of a file.
enum Next {
    Read,
    Stop,
}

// === impl Inventory ===

impl Inventory {
    /// The files that say it, without their ending, and the folder whose files say it together.
    const FILES: &str = "devices";

    pub(crate) fn compile(files: &PolicyFiles, groups: &DeviceGroups, problems: &mut Problems) -> Self {
        let (inventory, undeclared) = (Self::default(), HashSet::new());
        let mut reader = Reader { groups, inventory, undeclared, mistakes: 0, problems };
        let mut read = 0;
        for source in files.under(Self::FILES) {
            reader.mistakes = 0;
            match source.ending() {
                "csv" => csv::read(source, &mut reader),
                "json" => json::read(source, &mut reader),
                _other => continue,
            }
            reader.problems.mark_read(source);
            read += 1;
        }
        if read == 0 {
            reader.problems.file("devices.csv", "the policy set has neither this file nor `devices.json` nor any in `devices/`: one with a header alone lists no device");
        }
        let written = files.under(Self::FILES).filter_map(SourceFile::modified).min();
        Self { written, ..reader.inventory }
    }

    /// When its oldest file was written.
    pub(crate) fn written(&self) -> Option<Wall> {
        self.written
    }

    /// How many devices there are.
    pub(crate) fn len(&self) -> usize {
        self.devices.len()
    }

    /// Every device.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Device> {
        self.devices.iter().copied()
    }

    /// Every device that fits the name; none if the inventory lacks it.
    pub(crate) fn find(&self, named: &DeviceRef) -> impl Iterator<Item = Device> {
        let places = self.by_ref.get(named).map_or(&[][..], SmallVec::as_slice);
        places.iter().filter_map(|place| self.devices.get(*place as usize).copied())
    }

    fn add(&mut self, listed: &Listed, group: GroupIndex) {
        let place = self.devices.len() as u32;
        self.devices.push(Device { id: listed.id, group });
        let mut refs: SmallVec<[DeviceRef; 5]> = SmallVec::new();
        refs.push(DeviceRef::Id(listed.id));
        refs.extend(listed.entra_id.map(DeviceRef::Entra));
        if !listed.name.is_empty() {
            // Read as a call's own words are, so that a name that looks like an id is found as well.
            refs.push(DeviceRef::parse(&listed.name));
            match (listed.name.split_once('.'), &listed.domain) {
                (Some((label, _)), _) => refs.push(DeviceRef::parse(label)),
                (None, Some(domain)) => refs.push(DeviceRef::parse(&format!("{}.{domain}", listed.name))),
                (None, None) => {}
            }
        }
        for named in refs {
            let places = self.by_ref.entry(named).or_default();
            if places.last() != Some(&place) {
                places.push(place);
            }
        }
    }
}

// === impl Reader ===

impl Reader<'_> {
    /// Takes a device; `line` is where the file lists it, counted from 1.
    fn device(&mut self, source: &SourceFile, line: usize, listed: &Listed) -> Next {
        if self.inventory.find(&DeviceRef::Id(listed.id)).any(|device| device.id == listed.id) {
            return self.mistake(source, line, format_args!("the device `{}` is listed twice", listed.id));
        }
        let group = match (self.groups.source(), &listed.group) {
            (GroupSource::Rules, _) => Ok(self.groups.of(&listed.traits())),
            (GroupSource::Inventory, Reported::None) => self.groups.reported(None),
            (GroupSource::Inventory, Reported::Group(name)) => self.groups.reported(Some(name)),
            (GroupSource::Inventory, Reported::Unsaid) => {
                let message = format_args!(
                    "no device group of `{}`, and `source` leaves it to the inventory",
                    listed.id
                );
                return self.mistake(source, line, message);
            }
        };
        let group = group.unwrap_or_else(|closed| {
            if let Reported::Group(name) = &listed.group
                && self.undeclared.insert(name.clone())
            {
                let message = format_args!(
                    "the device group `{name}` is not in {}, so its devices are open to nobody whom groups confine",
                    DeviceGroups::FILE
                );
                self.problems.warn_line(source, line, message);
            }
            closed
        });
        self.inventory.add(listed, group);
        Next::Read
    }

    fn mistake(&mut self, source: &SourceFile, line: usize, message: impl std::fmt::Display) -> Next {
        self.problems.line(source, line, message);
        self.mistakes += 1;
        if self.mistakes < MAX_MISTAKES {
            return Next::Read;
        }
        self.problems.line(source, line, "too many mistakes: the rest of the file was not read");
        Next::Stop
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
        self.line += between.iter().filter(|byte| **byte == b'\n').count();
        self.offset = offset.max(self.offset);
        self.line
    }
}

// === impl Listed ===

impl Listed {
    fn traits(&self) -> Traits {
        let name = self.name.to_lowercase();
        let label = name.split_once('.').map(|(label, _)| label.to_owned());
        Traits {
            names: label.into_iter().chain([name]).filter(|name| !name.is_empty()).collect(),
            domain: self.domain.as_ref().map(|domain| domain.to_lowercase()),
            tags: self.tags.iter().map(|tag| tag.to_lowercase()).collect(),
            os_platform: self.os_platform.as_ref().map(|platform| platform.to_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests;
