//! Policy files as text, and what is wrong with them, by place.
//!
//! A room that compiles its part of a policy set takes a [`PolicyFiles`] and a [`Problems`]: it goes on after the
//! first mistake, so that one run names them all, and never panics on what it reads.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::time::Wall;

mod hint;
mod lines;
mod problem;
mod schema;

pub use hint::{did_you_mean, known_are};
pub use problem::{Excerpt, Place, Problem, Problems};
pub use schema::{FileSchema, list_or_all, one_or_many, table, table_or_text};

/// One file of a policy set, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    name: Arc<str>,
    text: String,
    lines: lines::Lines,
    stamp: FileStamp,
}

/// What tells two versions of a file apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    /// The SHA-256 of what it says.
    pub digest: [u8; 32],
    /// When it was last written, if it lies on a disk.
    pub modified: Option<Wall>,
}

/// The files of a policy set, by their names in its folder.
///
/// Of some, only the stamp may be at hand: whoever compiles the set has compiled them before, and what came of it is
/// part of the set before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyFiles {
    files: BTreeMap<Arc<str>, SourceFile>,
    unread: BTreeMap<Arc<str>, FileStamp>,
}

/// A TOML file whose syntax is right, taken apart entry by entry.
#[derive(Debug)]
pub struct TomlFile<'a> {
    source: &'a SourceFile,
    table: DeTable<'a>,
    /// The keys that were asked for, for whoever misspelt one.
    known: Vec<&'static str>,
}

/// The names that files of a policy set have, for whoever misspelt one. Key files have whatever name `issuers.toml` says.
const KNOWN_FILES: [&str; 9] = [
    "applications.toml",
    "device-groups.toml",
    "devices.csv",
    "devices.json",
    "issuers.toml",
    "limits.toml",
    "operations.toml",
    "policy.toml",
    "roles.toml",
];

/// What can be left out of a set for a mistake of its own: an operation.
pub const OPERATION: &str = "operation";

/// Whom a part of a limit can be promised to: an application or a role.
pub const OWNER: &str = "owner";

/// The names of the folders in a policy set.
const KNOWN_FOLDERS: [&str; 3] = ["devices", "operations", "tests"];

/// A time as files write it, such as `90s`, `10m` or `1h 30m`; none if it is not within these bounds.
pub(crate) fn time_within(text: &str, bounds: &RangeInclusive<Duration>) -> Option<Duration> {
    let time = Duration::try_from(text.parse::<jiff::SignedDuration>().ok()?).ok()?;
    bounds.contains(&time).then_some(time)
}

// === impl SourceFile ===

impl SourceFile {
    /// A file of this name and text.
    pub fn new(name: &str, text: impl Into<String>) -> Self {
        let text = text.into();
        let mut digest = [0; 32];
        digest.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        let stamp = FileStamp { digest, modified: None };
        Self { name: name.into(), text, lines: lines::Lines::default(), stamp }
    }

    /// The same file, last written at this time.
    pub fn with_modified(self, modified: Option<Wall>) -> Self {
        Self { stamp: FileStamp { modified, ..self.stamp }, ..self }
    }

    /// When it was last written, if it lies on a disk.
    pub fn modified(&self) -> Option<Wall> {
        self.stamp.modified
    }

    /// What tells it from another version of itself.
    pub fn stamp(&self) -> FileStamp {
        self.stamp
    }

    /// The file's name in the policy folder, with the folder within it that it lies in: `operations/alerts.toml`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What stands behind the last dot of its name.
    pub fn ending(&self) -> &str {
        self.name.rsplit_once('.').map_or("", |(_, ending)| ending)
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The place of a span of bytes, to be kept; of one over several lines, what it has of the first.
    pub fn place_of(&self, span: Range<usize>) -> Place {
        let (line, column) = self.place(span.start);
        let meant = self.text.get(span).and_then(|text| text.lines().next()).unwrap_or_default();
        Place { file: self.name.clone(), line, column, width: meant.chars().count() }
    }

    /// The place of a line, counted from 1.
    pub(crate) fn line_place(&self, line: usize) -> Place {
        Place { file: self.name.clone(), line, column: 1, width: problem::MAX_EXCERPT }
    }

    /// The line and column of the byte at `offset`, both from 1.
    pub fn place(&self, offset: usize) -> (usize, usize) {
        let end = if self.text.is_char_boundary(offset) { offset } else { self.text.len() };
        let (line, start) = self.lines.at(&self.text, end);
        let column = self.text.get(start..end).map_or(0, |before| before.chars().count()) + 1;
        (line, column)
    }

    /// The bytes of a line, counted from 1, without its line feed; none if there is no such line.
    fn line_span(&self, line: usize) -> Option<Range<usize>> {
        self.lines.span(&self.text, line)
    }

    /// Parses the file as TOML; every mistake of syntax becomes a problem, and then there is no table.
    pub fn toml(&self, problems: &mut Problems) -> Option<TomlFile<'_>> {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        for error in &errors {
            problems.toml(self, error, 0..0);
        }
        errors.is_empty().then(|| TomlFile { source: self, table: table.into_inner(), known: Vec::new() })
    }
}

// === impl PolicyFiles ===

impl PolicyFiles {
    /// The file of this name, if the set has it.
    pub fn get(&self, name: &str) -> Option<&SourceFile> {
        self.files.get(name)
    }

    /// The file of this name; that it is missing is a problem, since an empty file would have said so on purpose.
    pub fn require(&self, name: &str, problems: &mut Problems) -> Option<&SourceFile> {
        let file = self.read(name, problems);
        if file.is_none() {
            problems.file(name, "the policy set lacks this file: an empty one grants nothing");
        }
        file
    }

    /// The file of this name, if the set has it, which from now on counts as read.
    pub fn read(&self, name: &str, problems: &mut Problems) -> Option<&SourceFile> {
        let file = self.get(name)?;
        problems.mark_read(file);
        Some(file)
    }

    /// Every file that no room has read is a mistake: whoever wrote it believes that it is in force.
    pub fn all_read(&self, problems: &mut Problems) {
        let unread: Vec<_> = self.iter().filter(|file| !problems.has_read(file)).collect();
        for file in unread {
            let message = "no part of the policy reads this file, so that nothing in it is in force";
            problems.file(&file.name, message);
            problems.hint(match file.name.split_once('/') {
                // Unless the folder is right, and its files are of another kind.
                Some((folder, rest)) if KNOWN_FOLDERS.contains(&folder) => {
                    rest.rsplit_once('/').map(|(_, file)| format!("did you mean `{folder}/{file}`?"))
                }
                Some((folder, _)) => did_you_mean(folder, KNOWN_FOLDERS),
                None => did_you_mean(&file.name, KNOWN_FILES),
            });
        }
    }

    /// The files that together say what one file may say alone: `<name>.toml` and every `.toml` in the folder `<name>`.
    /// That there is none is a problem, as for [`require`](Self::require).
    pub fn gather(&self, name: &str, problems: &mut Problems) -> Vec<&SourceFile> {
        let found: Vec<_> = self.under(name).filter(|file| file.ending() == "toml").collect();
        if found.is_empty() {
            let message = format_args!(
                "the policy set has neither this file nor any in `{name}/`: an empty one grants nothing"
            );
            problems.file(&format!("{name}.toml"), message);
        }
        found.iter().for_each(|file| problems.mark_read(file));
        found
    }

    /// The files of this name, whatever their ending, and those in the folder of this name, but none deeper within it.
    pub fn under(&self, name: &str) -> impl Iterator<Item = &SourceFile> {
        self.iter().filter(move |file| {
            let rest = file.name.strip_prefix(name);
            rest.is_some_and(|rest| match rest.strip_prefix('/') {
                Some(within) => !within.contains('/'),
                None => rest.strip_prefix('.') == Some(file.ending()),
            })
        })
    }

    /// Adds a file, in the place of one of the same name.
    pub fn insert(&mut self, file: SourceFile) {
        self.unread.remove(&file.name);
        self.files.insert(file.name.clone(), file);
    }

    /// Takes a file out; nothing happens if there is none of this name.
    pub fn remove(&mut self, name: &str) {
        self.files.remove(name);
        self.unread.remove(name);
    }

    /// Adds the stamp of a file that says what it said when a set before was compiled.
    pub fn insert_unread(&mut self, name: &str, stamp: FileStamp) {
        self.files.remove(name);
        self.unread.insert(name.into(), stamp);
    }

    /// All files whose text is at hand, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.values()
    }

    /// The stamps of all files, in the order of their names.
    pub fn stamps(&self) -> impl Iterator<Item = (Arc<str>, FileStamp)> {
        let read = self.files.values().map(|file| (file.name.clone(), file.stamp));
        let unread = self.unread.iter().map(|(name, stamp)| (name.clone(), *stamp));
        read.chain(unread).collect::<BTreeMap<_, _>>().into_iter()
    }
}

// === impl TomlFile ===

impl<'a> TomlFile<'a> {
    /// The file.
    pub fn source(&self) -> &'a SourceFile {
        self.source
    }

    /// The names of the entries of `[[key]]`, also of those with mistakes; none for one that says no name, and for
    /// something else than such entries.
    pub fn names(&self, key: &str) -> Vec<Option<String>> {
        let entries = match self.table.get(key).map(Spanned::get_ref) {
            None => return Vec::new(),
            Some(DeValue::Array(entries)) => entries,
            Some(_) => return vec![None],
        };
        let name = |entry: &Spanned<DeValue<'_>>| match entry.get_ref().get("name").map(Spanned::get_ref) {
            Some(DeValue::String(name)) => Some(name.to_string()),
            Some(_) | None => None,
        };
        entries.iter().map(name).collect()
    }

    /// Takes the entries of `[[key]]`, each by itself: a bad one becomes a problem and the others are still read.
    pub fn entries<T: Deserialize<'a>>(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Vec<Spanned<T>> {
        self.known.push(key);
        let Some(value) = self.table.remove(key) else { return Vec::new() };
        let span = value.span();
        match value.into_inner() {
            DeValue::Array(array) => {
                array.into_iter().filter_map(|entry| self.read(entry, problems)).collect()
            }
            other => {
                let message =
                    format!("`{key}` must be a list of tables (`[[{key}]]`), not {}", other.type_str());
                problems.at(self.source, span, message);
                Vec::new()
            }
        }
    }

    /// Takes the value of a single key.
    pub fn value<T: Deserialize<'a>>(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<Spanned<T>> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        self.read(value, problems)
    }

    /// Every key that was not taken is one that the file should not have.
    pub fn finish(self, problems: &mut Problems) {
        for (key, _) in &self.table {
            let word = key.get_ref();
            let hint = did_you_mean(word, self.known.iter().copied());
            problems.at(self.source, key.span(), format_args!("unknown key `{word}`"));
            problems.hint(hint);
        }
    }

    fn read<T: Deserialize<'a>>(
        &self,
        value: Spanned<DeValue<'a>>,
        problems: &mut Problems,
    ) -> Option<Spanned<T>> {
        let span = value.span();
        match T::deserialize(value.into_deserializer()) {
            Ok(document) => Some(Spanned::new(span, document)),
            Err(error) => {
                problems.toml(self.source, &error, span);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
