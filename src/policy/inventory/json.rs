//! Reads saved answers of `GET /api/machines`: a page, a list of pages, or several of either one after another.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::id::{DeviceId, EntraDeviceId, InvalidId, plain_name};
use crate::policy::inventory::{Lines, Listed, Next, Reader, Reported};
use crate::source::SourceFile;

/// One answer; its other members say nothing of devices.
#[derive(Deserialize)]
struct PageDocument<'a> {
    #[serde(borrow)]
    value: Vec<&'a RawValue>,
}

/// The members of a machine that matter here; the API gives some thirty.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MachineDocument<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    computer_dns_name: Option<Text<'a>>,
    #[serde(borrow)]
    aad_device_id: Option<Text<'a>>,
    #[serde(borrow)]
    os_platform: Option<Text<'a>>,
    #[serde(borrow)]
    machine_tags: Option<Vec<Text<'a>>>,
    /// Pages that were asked for with `$select` may lack it, which is not the same as null.
    #[serde(default, borrow, deserialize_with = "present")]
    rbac_group_name: Option<Option<Text<'a>>>,
}

/// A string, borrowed from the file where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A member that is there, if only as null.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Text<'de>>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// One file on its way, and how far its lines are counted.
struct Pages<'a, 'r> {
    source: &'a SourceFile,
    reader: &'r mut Reader,
    lines: Lines<'a>,
}

/// Reads every machine of every page, up to the reader's limit of mistakes.
pub(super) fn read(source: &SourceFile, reader: &mut Reader) {
    let text = source.text().strip_prefix('\u{feff}').unwrap_or(source.text());
    let mut pages = Pages { source, reader, lines: Lines::new(source.text()) };
    for document in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        let next = match document {
            Ok(document) => pages.document(document),
            Err(error) => {
                // Past a mistake of syntax nothing can be told apart any more.
                pages.mistake(1, &error);
                Next::Stop
            }
        };
        if let Next::Stop = next {
            return;
        }
    }
}

// === impl Pages ===

impl Pages<'_, '_> {
    fn document(&mut self, document: &RawValue) -> Next {
        if !document.get().starts_with('[') {
            return self.page(document);
        }
        match serde_json::from_str::<Vec<&RawValue>>(document.get()) {
            Ok(pages) => each(pages, |page| self.page(page)),
            Err(error) => {
                let line = self.line(document);
                self.mistake(line, &error)
            }
        }
    }

    fn page(&mut self, page: &RawValue) -> Next {
        let line = self.line(page);
        match serde_json::from_str::<PageDocument<'_>>(page.get()) {
            Ok(page) => each(page.value, |machine| self.machine(machine)),
            Err(error) => self.mistake(line, &error),
        }
    }

    fn machine(&mut self, machine: &RawValue) -> Next {
        let line = self.line(machine);
        match serde_json::from_str::<MachineDocument<'_>>(machine.get()) {
            Ok(document) => match Listed::try_from(document) {
                Ok(listed) => self.reader.device(self.source, line, &listed),
                Err(error) => self.reader.mistake(self.source, line, error),
            },
            Err(error) => self.mistake(line, &error),
        }
    }

    /// Notes what the parser found in a fragment of the file that begins in `line`.
    fn mistake(&mut self, line: usize, error: &serde_json::Error) -> Next {
        // The text ends in a line and column of the fragment.
        let text = error.to_string();
        let text = text.split(" at line ").next().unwrap_or_default();
        self.reader.mistake(self.source, line + error.line().saturating_sub(1), text)
    }

    /// The line that a fragment begins in. Fragments are parts of the file's own text and come in its order.
    fn line(&mut self, fragment: &RawValue) -> usize {
        let start = self.source.text().as_ptr() as usize;
        self.lines.at((fragment.get().as_ptr() as usize).saturating_sub(start))
    }
}

/// Takes one after another until one says stop.
fn each<T>(items: Vec<T>, mut take: impl FnMut(T) -> Next) -> Next {
    for item in items {
        if let Next::Stop = take(item) {
            return Next::Stop;
        }
    }
    Next::Read
}

// === impl Listed ===

impl<'a> TryFrom<MachineDocument<'a>> for Listed<'a> {
    type Error = InvalidId;

    fn try_from(document: MachineDocument<'a>) -> Result<Self, InvalidId> {
        let given = |text: Option<Text<'a>>| text.map(|Text(text)| text).filter(|text| !text.is_empty());
        let name = given(document.computer_dns_name).unwrap_or_default();
        Ok(Self {
            id: document.id.0.parse::<DeviceId>()?,
            entra_id: given(document.aad_device_id).map(|text| text.parse::<EntraDeviceId>()).transpose()?,
            domain: plain_name(&name).split_once('.').map(|(_, domain)| domain.to_owned().into()),
            name,
            os_platform: given(document.os_platform),
            tags: document.machine_tags.into_iter().flatten().map(|Text(tag)| tag).collect(),
            group: match document.rbac_group_name {
                None => Reported::Unsaid,
                Some(name) => given(name).map_or(Reported::None, Reported::Group),
            },
        })
    }
}
