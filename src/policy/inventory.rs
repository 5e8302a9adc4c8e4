//! The inventory: which devices there are, by which names, and in which group each is.

use std::borrow::Cow;
use std::collections::HashSet;

use smallvec::SmallVec;

use crate::id::{DeviceId, DeviceRef, EntraDeviceId};
use crate::policy::device_group::{DeviceGroups, GroupIndex};
use crate::policy::document::GroupSource;
use crate::source::{PolicyFiles, Problems, SourceFile};
use crate::time::Wall;

mod age;
mod csv;
mod devices;
mod json;

pub(crate) use age::MaxAge;
use devices::Devices;

/// The devices of `devices.csv`, `devices.json` and the files in `devices/`.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    devices: Devices,
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

/// An inventory that is being read.
struct Reader<'a> {
    groups: &'a DeviceGroups,
    devices: Devices,
    /// The groups that exports name, each once.
    reported: HashSet<String>,
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
        let (devices, reported) = (Devices::default(), HashSet::new());
        let mut reader = Reader { groups, devices, reported, mistakes: 0, problems };
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
        let Reader { mut devices, problems, .. } = reader;
        devices.finish();
        if let Err(error) = devices.assign(groups) {
            problems.file(DeviceGroups::FILE, format_args!("the rules are too many to be indexed: {error}"));
        }
        Self { devices, written }
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
        self.devices.iter()
    }

    /// Every device that fits the name; none if the inventory lacks it.
    pub(crate) fn find(&self, named: &DeviceRef) -> impl Iterator<Item = Device> {
        self.devices.find(named)
    }
}

// === impl Reader ===

impl Reader<'_> {
    /// Takes a device; `line` is where the file lists it, counted from 1.
    fn device(&mut self, source: &SourceFile, line: usize, listed: &Listed<'_>) -> Next {
        if self.devices.has(&listed.id) {
            return self.mistake(source, line, format_args!("the device `{}` is listed twice", listed.id));
        }
        if self.devices.len() >= Devices::MAX {
            self.problems.line(source, line, format_args!("more than {} devices", Devices::MAX));
            return Next::Stop;
        }
        match (self.groups.source(), &listed.group) {
            (GroupSource::Inventory, Reported::Unsaid) => {
                let message = format_args!(
                    "no device group of `{}`, and `source` leaves it to the inventory",
                    listed.id
                );
                return self.mistake(source, line, message);
            }
            (GroupSource::Inventory, Reported::Group(name)) => self.declared(source, line, name),
            (GroupSource::Rules, _) | (GroupSource::Inventory, Reported::None) => {}
        }
        self.devices.add(listed);
        Next::Read
    }

    /// Warns, once for each, of a group that the set lacks.
    fn declared(&mut self, source: &SourceFile, line: usize, name: &str) {
        if self.reported.contains(name) {
            return;
        }
        self.reported.insert(name.to_owned());
        if self.groups.reported(Some(name)).is_err() {
            let message = format_args!(
                "the device group `{name}` is not in {}, so its devices are open to nobody whom groups confine",
                DeviceGroups::FILE
            );
            self.problems.warn_line(source, line, message);
        }
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

#[cfg(test)]
mod tests;
