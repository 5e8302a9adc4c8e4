//! Reads the portal's CSV export. Columns are found by their header, in any order; others are not
//! looked at, which a warning says.

use std::borrow::Cow;

use csv::{ReaderBuilder, StringRecord, Trim};

use crate::id::{DeviceId, EntraDeviceId, plain_name};
use crate::policy::compile::quoted;
use crate::policy::inventory::{Lines, Listed, Next, Reader, Reported};
use crate::source::SourceFile;

/// Where each column is, counted from 0.
struct Columns {
    id: usize,
    name: usize,
    entra_id: Option<usize>,
    domain: Option<usize>,
    os_platform: Option<usize>,
    tags: Option<usize>,
    group: Option<usize>,
}

/// The headers of the Entra id: it changed its name twice.
const ENTRA_ID: &[&str] = &["AAD Device ID", "Azure AD Device ID", "Microsoft Entra Device ID"];

/// The headers of the device group.
const GROUP: &[&str] = &["Device Group", "Group", "RBAC Group"];

/// Reads every row, up to the reader's limit of mistakes.
pub(super) fn read(source: &SourceFile, reader: &mut Reader) {
    let text = source.text().strip_prefix('\u{feff}').unwrap_or(source.text());
    let mut csv = ReaderBuilder::new().flexible(true).trim(Trim::All).from_reader(text.as_bytes());
    let header = match csv.headers() {
        Ok(header) => header.clone(),
        Err(error) => {
            reader.mistake(source, 1, error);
            return;
        }
    };
    let Some(columns) = Columns::find(&header, source, reader) else { return };
    let mut lines = Lines::new(text);
    let mut record = StringRecord::new();
    loop {
        let next = match csv.read_record(&mut record) {
            Err(error) => reader.mistake(source, lines.line, error),
            Ok(false) => return,
            Ok(true) => {
                let line = lines.at(start(&record, text));
                match columns.row(&record, header.len()) {
                    Ok(listed) => reader.device(source, line, &listed),
                    Err(message) => reader.mistake(source, line, message),
                }
            }
        };
        if let Next::Stop = next {
            return;
        }
    }
}

/// Where a record begins, in bytes. The library says where the one before it ended: blank lines may lie between.
fn start(record: &StringRecord, text: &str) -> usize {
    let ended = record.position().map_or(0, |position| position.byte() as usize);
    let rest = text.as_bytes().get(ended..).unwrap_or_default();
    ended + rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

// === impl Columns ===

impl Columns {
    fn find(header: &StringRecord, source: &SourceFile, reader: &mut Reader) -> Option<Self> {
        let mut find = |names: &[&str]| {
            let is_one = |title: &str| names.iter().any(|name| name.eq_ignore_ascii_case(title));
            let mut places = header.iter().enumerate().filter(|(_, title)| is_one(title));
            let first = places.next();
            if let Some((_, second)) = places.next() {
                reader.mistake(source, 1, format_args!("a second column `{second}` of the same meaning"));
            }
            first.map(|(place, _)| place)
        };
        let (id, name) = (find(&["Device ID"]), find(&["Device Name"]));
        let (entra_id, domain) = (find(ENTRA_ID), find(&["Domain"]));
        let (os_platform, tags, group) = (find(&["OS Platform"]), find(&["Tags"]), find(GROUP));
        for (column, place) in [("Device ID", id), ("Device Name", name)] {
            if place.is_none() {
                reader.mistake(source, 1, format_args!("no column `{column}` in the header"));
            }
        }
        let used = [id, name, entra_id, domain, os_platform, tags, group];
        let unused = header.iter().enumerate().filter(|(place, _)| !used.contains(&Some(*place)));
        let unused = quoted(unused.map(|(_, title)| title));
        if !unused.is_empty() {
            let message = format_args!("columns that nothing here looks at: {unused}");
            reader.problems.warn_line(source, 1, message);
        }
        Some(Self { id: id?, name: name?, entra_id, domain, os_platform, tags, group })
    }

    fn row<'r>(&self, record: &'r StringRecord, width: usize) -> Result<Listed<'r>, String> {
        if record.len() != width {
            return Err(format!("{} fields where the header has {width}", record.len()));
        }
        let cell = |place: Option<usize>| {
            let cell = record.get(place?)?;
            (!cell.is_empty()).then_some(cell)
        };
        let id = record.get(self.id).unwrap_or_default();
        let id = id.parse::<DeviceId>().map_err(|error| error.to_string())?;
        let entra_id = match cell(self.entra_id) {
            Some(text) => Some(text.parse::<EntraDeviceId>().map_err(|error| error.to_string())?),
            None => None,
        };
        let tags = cell(self.tags).unwrap_or_default();
        let tags = tags.split([',', ';']).map(str::trim).filter(|tag| !tag.is_empty());
        Ok(Listed {
            id,
            name: cell(Some(self.name)).unwrap_or_default().into(),
            entra_id,
            domain: cell(self.domain).map(|domain| plain_name(domain).into()),
            os_platform: cell(self.os_platform).map(Cow::Borrowed),
            tags: tags.map(Cow::Borrowed).collect(),
            group: match (self.group, cell(self.group)) {
                (None, _) => Reported::Unsaid,
                (Some(_), None) => Reported::None,
                (Some(_), Some(name)) => Reported::Group(name.into()),
            },
        })
    }
}
