//! What the files of an inventory say, whatever the rules of device groups are.

use std::collections::HashSet;
use std::sync::Arc;

use super::devices::{Devices, Draft, Novelty};
use super::{Listed, Next, Reported, csv, json};
use crate::id::DeviceId;
use crate::policy::device_group::DeviceGroups;
use crate::policy::document::GroupSource;
use crate::source::{FileStamp, Place, PolicyFiles, Problem, Problems, SourceFile};

/// The devices of some files; sets of the same files share it.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) devices: Devices,
    /// Which files they are of.
    files: Vec<(Arc<str>, FileStamp)>,
    /// Each group that the files name, and where first.
    reported: Vec<(Box<str>, Place)>,
    /// Devices of which a file says no group: the first [`MAX_MISTAKES`] of each file.
    silent: Vec<(DeviceId, Place)>,
    /// What was odd about the files.
    warnings: Vec<Problem>,
}

/// Files that are being read.
#[derive(Default)]
pub(super) struct Reader {
    draft: Draft,
    reported: Vec<(Box<str>, Place)>,
    known: HashSet<Box<str>>,
    silent: Vec<(DeviceId, Place)>,
    /// Devices without a group in this file so far.
    silent_here: usize,
    /// Mistakes of this file so far.
    mistakes: usize,
    pub(super) problems: Problems,
}

/// An export of the wrong kind has a mistake in each of its rows: this many are enough to see it.
const MAX_MISTAKES: usize = 100;

/// The longest name in bytes; DNS has 253 (RFC 1035, section 2.3.4). So all names together are shorter than 4 GiB.
const MAX_NAME: usize = 255;

/// Bytes of a file that tell of one device, at the least that is usual, so that room is made once.
const USUAL_ROW: usize = 128;

// === impl Listing ===

impl Listing {
    /// The files that say it, without their ending, and the folder whose files say it together.
    const FILES: &str = "devices";

    /// Whether a file of this name is one of an inventory.
    pub(super) fn is_of(name: &str) -> bool {
        let within = name.strip_prefix(Self::FILES).is_some_and(|rest| match rest.strip_prefix('/') {
            Some(file) => !file.contains('/'),
            None => rest.rfind('.') == Some(0),
        });
        within && (name.ends_with(".csv") || name.ends_with(".json"))
    }

    /// Whether it is what these files say.
    pub(super) fn says(&self, files: &[(Arc<str>, FileStamp)]) -> bool {
        let key = |(name, stamp): &(Arc<str>, FileStamp)| (name.clone(), stamp.digest);
        !files.is_empty() && self.files.iter().map(key).eq(files.iter().map(key))
    }

    /// Reads the files of these stamps.
    pub(super) fn read(
        files: &PolicyFiles,
        stamps: &[(Arc<str>, FileStamp)],
        problems: &mut Problems,
    ) -> Self {
        let mut reader = Reader::default();
        for (name, _) in stamps {
            (reader.mistakes, reader.silent_here) = (0, 0);
            let Some(source) = files.read(name, &mut reader.problems) else {
                reader.problems.file(name, "the file is not at hand, only what was read of it before");
                continue;
            };
            reader.draft.reserve(source.text().len() / USUAL_ROW);
            match source.ending() {
                "csv" => csv::read(source, &mut reader),
                _json => json::read(source, &mut reader),
            }
        }
        if stamps.is_empty() {
            problems.file("devices.csv", "the policy set has neither this file nor `devices.json` nor any in `devices/`: one with a header alone lists no device");
        }
        let Reader { draft, reported, silent, problems: found, .. } = reader;
        let warnings = problems.append(found);
        Self { devices: draft.finish(), files: stamps.to_vec(), reported, silent, warnings }
    }

    /// Says what is wrong with it or odd, the groups being these.
    pub(super) fn judge(&self, groups: &DeviceGroups, files: &PolicyFiles, problems: &mut Problems) {
        self.warnings.iter().for_each(|warning| problems.warn_again(warning.clone()));
        match groups.source() {
            GroupSource::Rules => return,
            GroupSource::Inventory => {}
        }
        for (id, place) in &self.silent {
            let message = format_args!("no device group of `{id}`, and `source` leaves it to the inventory");
            problems.place(files, place, message);
        }
        for (name, place) in &self.reported {
            if groups.reported(Some(name)).is_err() {
                let message = format_args!(
                    "the device group `{name}` is not in {}, so its devices are open to nobody whom groups confine",
                    DeviceGroups::FILE
                );
                problems.warn_place(files, place, message);
            }
        }
    }
}

// === impl Reader ===

impl Reader {
    /// Takes a device; `line` is where the file lists it, counted from 1.
    pub(super) fn device(&mut self, source: &SourceFile, line: usize, listed: &Listed<'_>) -> Next {
        if self.draft.has(&listed.id) {
            return self.mistake(source, line, format_args!("the device `{}` is listed twice", listed.id));
        }
        if listed.name.len() > MAX_NAME {
            let message = format_args!("the name of `{}` is longer than {MAX_NAME} bytes", listed.id);
            return self.mistake(source, line, message);
        }
        // A quote that nothing closes makes a name of all rows behind it.
        if listed.name.contains(char::is_control) {
            let message = format_args!("the name of `{}` has a control character", listed.id);
            return self.mistake(source, line, message);
        }
        if self.draft.len() >= Devices::MAX {
            self.problems.line(source, line, format_args!("more than {} devices", Devices::MAX));
            return Next::Stop;
        }
        let novelty = self.draft.add(listed);
        match (&listed.group, novelty) {
            (Reported::Unsaid, _) if self.silent_here < MAX_MISTAKES => {
                self.silent_here += 1;
                self.silent.push((listed.id, source.line_place(line)));
            }
            // A group that no device before had makes a kind that no device before was of.
            (Reported::Group(name), Novelty::Kind) if !self.known.contains(&**name) => {
                self.known.insert((&**name).into());
                self.reported.push(((&**name).into(), source.line_place(line)));
            }
            (Reported::Unsaid | Reported::None | Reported::Group(_), _) => {}
        }
        Next::Read
    }

    /// Notes a mistake in a line, counted from 1.
    pub(super) fn mistake(
        &mut self,
        source: &SourceFile,
        line: usize,
        message: impl std::fmt::Display,
    ) -> Next {
        self.problems.line(source, line, message);
        self.mistakes += 1;
        if self.mistakes < MAX_MISTAKES {
            return Next::Read;
        }
        self.problems.line(source, line, "too many mistakes: the rest of the file was not read");
        Next::Stop
    }
}
