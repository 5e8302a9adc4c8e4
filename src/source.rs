//! Policy files as text, and what is wrong with them, by place.
//!
//! A room that compiles its part of a policy set takes a [`PolicyFiles`] and a [`Problems`]: it goes on after the
//! first mistake, so that one run names them all, and never panics on what it reads.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::time::Wall;

/// One file of a policy set, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    name: Arc<str>,
    text: String,
    modified: Option<Wall>,
}

/// The files of a policy set, by their names in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyFiles(BTreeMap<Arc<str>, SourceFile>);

/// One mistake or warning and its place, printed as `roles.toml:3:1: no role …`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file's name in the policy folder.
    pub file: Arc<str>,
    /// Line and column, both from 1, the column in characters; none where the whole file is meant.
    pub place: Option<(usize, usize)>,
    /// A sentence in lower case without a full stop, input in backticks.
    pub message: String,
}

/// Every mistake found so far, and beside them what is legal but worth a second look.
///
/// Only mistakes make a set unfit: a warning is for whoever wrote the set, and changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems {
    mistakes: Vec<Problem>,
    warnings: Vec<Problem>,
}

/// A TOML file whose syntax is right, taken apart entry by entry.
#[derive(Debug)]
pub struct TomlFile<'a> {
    source: &'a SourceFile,
    table: DeTable<'a>,
}

/// A time as files write it, such as `90s`, `10m` or `1h 30m`; none if it is not within these bounds.
pub(crate) fn time_within(text: &str, bounds: &RangeInclusive<Duration>) -> Option<Duration> {
    let time = Duration::try_from(text.parse::<jiff::SignedDuration>().ok()?).ok()?;
    bounds.contains(&time).then_some(time)
}

// === impl SourceFile ===

impl SourceFile {
    /// A file of this name and text.
    pub fn new(name: &str, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), modified: None }
    }

    /// The same file, last written at this time.
    pub fn with_modified(self, modified: Option<Wall>) -> Self {
        Self { modified, ..self }
    }

    /// When it was last written, if it lies on a disk.
    pub fn modified(&self) -> Option<Wall> {
        self.modified
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

    /// The line and column of the byte at `offset`, both from 1.
    pub fn place(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        (line, column)
    }

    /// Parses the file as TOML; every mistake of syntax becomes a problem, and then there is no table.
    pub fn toml(&self, problems: &mut Problems) -> Option<TomlFile<'_>> {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        for error in &errors {
            problems.toml(self, error, 0..0);
        }
        errors.is_empty().then(|| TomlFile { source: self, table: table.into_inner() })
    }
}

// === impl PolicyFiles ===

impl PolicyFiles {
    /// The file of this name, if the set has it.
    pub fn get(&self, name: &str) -> Option<&SourceFile> {
        self.0.get(name)
    }

    /// The file of this name; that it is missing is a problem, since an empty file would have said so on purpose.
    pub fn require(&self, name: &str, problems: &mut Problems) -> Option<&SourceFile> {
        let file = self.get(name);
        if file.is_none() {
            problems.file(name, "the policy set lacks this file: an empty one grants nothing");
        }
        file
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
        found
    }

    /// The files of this name, whatever their ending, and those in the folder of this name.
    pub fn under(&self, name: &str) -> impl Iterator<Item = &SourceFile> {
        self.iter().filter(move |file| {
            let rest = file.name.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with('/') || rest.strip_prefix('.') == Some(file.ending()))
        })
    }

    /// Adds a file, in the place of one of the same name.
    pub fn insert(&mut self, file: SourceFile) {
        self.0.insert(file.name.clone(), file);
    }

    /// Takes a file out; nothing happens if there is none of this name.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// All files, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &SourceFile> {
        self.0.values()
    }
}

// === impl Problems ===

impl Problems {
    /// Notes a mistake at a span of bytes of a file.
    pub fn at(&mut self, source: &SourceFile, span: Range<usize>, message: impl fmt::Display) {
        self.mistakes.push(Problem::at(source, span, message));
    }

    /// Notes a mistake in a line of a file (from 1), such as a row of a CSV.
    pub fn line(&mut self, source: &SourceFile, line: usize, message: impl fmt::Display) {
        self.mistakes.push(Problem::line(source, line, message));
    }

    /// Notes a mistake at a line and column of a file, both from 1, if they are known.
    pub fn place(&mut self, name: &str, place: Option<(usize, usize)>, message: impl fmt::Display) {
        self.mistakes.push(Problem { file: name.into(), place, message: message.to_string() });
    }

    /// Notes a mistake of a file as a whole.
    pub fn file(&mut self, name: &str, message: impl fmt::Display) {
        self.place(name, None, message);
    }

    /// Notes something legal but odd at a span of bytes of a file.
    pub fn warn_at(&mut self, source: &SourceFile, span: Range<usize>, message: impl fmt::Display) {
        self.warnings.push(Problem::at(source, span, message));
    }

    /// Notes something legal but odd in a line of a file (from 1).
    pub fn warn_line(&mut self, source: &SourceFile, line: usize, message: impl fmt::Display) {
        self.warnings.push(Problem::line(source, line, message));
    }

    fn toml(&mut self, source: &SourceFile, error: &toml::de::Error, within: Range<usize>) {
        // The library's errors about types carry a span of their own, those about missing members only the entry's.
        let span = error.span().unwrap_or(within);
        self.at(source, span, error.message().replace('\n', ", "));
    }

    /// Whether nothing was wrong; warnings do not count.
    pub fn is_empty(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// The mistakes, in the order of files and lines.
    pub fn into_sorted(self) -> Vec<Problem> {
        sorted(self.mistakes)
    }

    /// The warnings, in the order of files and lines.
    pub fn into_warnings(self) -> Vec<Problem> {
        sorted(self.warnings)
    }
}

fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort();
    problems.dedup();
    problems
}

// === impl Problem ===

impl Problem {
    fn at(source: &SourceFile, span: Range<usize>, message: impl fmt::Display) -> Self {
        let place = Some(source.place(span.start));
        Self { file: source.name.clone(), place, message: message.to_string() }
    }

    fn line(source: &SourceFile, line: usize, message: impl fmt::Display) -> Self {
        Self { file: source.name.clone(), place: Some((line, 1)), message: message.to_string() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

// === impl TomlFile ===

impl<'a> TomlFile<'a> {
    /// The file.
    pub fn source(&self) -> &'a SourceFile {
        self.source
    }

    /// Takes the entries of `[[key]]`, each by itself: a bad one becomes a problem and the others are still read.
    pub fn entries<T: Deserialize<'a>>(&mut self, key: &str, problems: &mut Problems) -> Vec<Spanned<T>> {
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
    pub fn value<T: Deserialize<'a>>(&mut self, key: &str, problems: &mut Problems) -> Option<Spanned<T>> {
        let value = self.table.remove(key)?;
        self.read(value, problems)
    }

    /// Every key that was not taken is one that the file should not have.
    pub fn finish(self, problems: &mut Problems) {
        for (key, _) in &self.table {
            problems.at(self.source, key.span(), format_args!("unknown key `{}`", key.get_ref()));
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
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Entry {
        name: Spanned<String>,
        #[expect(dead_code, reason = "only its type is asked")]
        rank: Option<u32>,
    }

    fn read(text: &str) -> (Vec<String>, Vec<String>) {
        let source = SourceFile::new("set.toml", text);
        let mut problems = Problems::default();
        let mut names = Vec::new();
        if let Some(mut file) = source.toml(&mut problems) {
            names = file
                .entries::<Entry>("entry", &mut problems)
                .into_iter()
                .map(|e| e.into_inner().name.into_inner())
                .collect();
            file.finish(&mut problems);
        }
        (names, problems.into_sorted().iter().map(Problem::to_string).collect())
    }

    #[test]
    fn every_entry_is_read_by_itself_and_every_mistake_has_its_place() {
        let (names, problems) = read(
            "[[entry]]\nname = \"a\"\n\n[[entry]]\nname = \"b\"\nrank = \"high\"\n\n[[entry]]\nnane = \"c\"\n\n[[entry]]\nname = \"d\"\n\n[other]\n",
        );
        assert_eq!(names, ["a", "d"]);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].starts_with("set.toml:6:8: invalid type: string \"high\""), "{problems:?}");
        assert!(problems[1].starts_with("set.toml:9:1: unknown field `nane`"), "{problems:?}");
        assert_eq!(problems[2], "set.toml:14:2: unknown key `other`");
    }

    #[test]
    fn a_mistake_of_syntax_has_its_place() {
        let (_, problems) = read("[[entry]]\nname = \n");
        assert!(problems[0].starts_with("set.toml:2:"), "{problems:?}");
    }

    #[test]
    fn a_column_counts_characters() {
        assert_eq!(SourceFile::new("f", "äöü x").place(7), (1, 5));
    }
}
