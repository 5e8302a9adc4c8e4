//! What is wrong with a policy set, or odd, and where.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::{PolicyFiles, SourceFile, hint};

/// A place in a file of a policy set, printed as `roles.toml:3:16`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file's name in the policy folder.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// How many characters of the line are meant.
    pub width: usize,
}

/// One mistake or warning and its place, printed in one line as `roles.toml:3:1: no role …; did you mean …?`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file's name in the policy folder.
    pub file: Arc<str>,
    /// Line and column, both from 1, the column in characters; none where the whole file is meant.
    pub place: Option<(usize, usize)>,
    /// A sentence in lower case without a full stop, input in backticks.
    pub message: String,
    /// What would probably be right, as a question or as a list.
    pub hint: Option<String>,
    /// The line that it stands in; none where the whole file is meant, or its text is not at hand.
    pub excerpt: Option<Excerpt>,
}

/// A line of a file, or the part of it around a word, fit to be printed: no control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Excerpt {
    /// The text.
    pub text: String,
    /// How many characters of it stand before the word.
    pub before: usize,
    /// How many characters the word has, at least one.
    pub width: usize,
}

/// Every mistake found so far, beside them what is legal but worth a second look, and which files were read.
///
/// Only mistakes make a set unfit: a warning is for whoever wrote the set, and changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems {
    mistakes: Vec<Problem>,
    warnings: Vec<Problem>,
    read: BTreeSet<Arc<str>>,
    /// By what they are, the names of what is missing for a mistake of its own; none for one that nobody can name.
    left_out: BTreeSet<(&'static str, Option<String>)>,
}

/// An excerpt is at most this many characters long: it fits a terminal, and a JSON page may be one line.
pub(super) const MAX_EXCERPT: usize = 160;

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

    /// Notes a mistake at a place that was kept.
    pub fn place(&mut self, files: &PolicyFiles, place: &Place, message: impl fmt::Display) {
        self.mistakes.push(Problem::place(files, place, message));
    }

    /// Notes a mistake of a file as a whole.
    pub fn file(&mut self, name: &str, message: impl fmt::Display) {
        self.mistakes.push(Problem::new(name.into(), None, message));
    }

    /// Adds to the mistake that was noted last what would probably be right, if anybody knows.
    pub fn hint(&mut self, hint: Option<String>) {
        if let Some(last) = self.mistakes.last_mut() {
            last.hint = hint;
        }
    }

    /// Notes something legal but odd at a span of bytes of a file.
    pub fn warn_at(&mut self, source: &SourceFile, span: Range<usize>, message: impl fmt::Display) {
        self.warnings.push(Problem::at(source, span, message));
    }

    /// Notes something legal but odd in a line of a file (from 1).
    pub fn warn_line(&mut self, source: &SourceFile, line: usize, message: impl fmt::Display) {
        self.warnings.push(Problem::line(source, line, message));
    }

    /// Notes something legal but odd at a place that was kept.
    pub fn warn_place(&mut self, files: &PolicyFiles, place: &Place, message: impl fmt::Display) {
        self.warnings.push(Problem::place(files, place, message));
    }

    pub(super) fn toml(&mut self, source: &SourceFile, error: &toml::de::Error, within: Range<usize>) {
        // The library's errors about types carry a span of their own, those about missing members only the entry's.
        let span = error.span().unwrap_or(within);
        let message = error.message().replace('\n', ", ");
        let hint = hint::expected(&message);
        self.at(source, span, message);
        self.hint(hint);
    }

    /// Notes again what was odd about files that are not read again.
    pub(crate) fn warn_again(&mut self, warning: Problem) {
        self.warnings.push(warning);
    }

    /// Takes over the mistakes of others and which files were read; gives back the warnings.
    pub(crate) fn append(&mut self, others: Self) -> Vec<Problem> {
        self.mistakes.extend(others.mistakes);
        self.read.extend(others.read);
        self.left_out.extend(others.left_out);
        others.warnings
    }

    /// Notes that a thing is left out for a mistake of its own, by its name, if it has one: whoever names it makes none.
    pub fn leave_out(&mut self, what: &'static str, name: Option<String>) {
        self.left_out.insert((what, name));
    }

    /// Whether a thing of this name may be missing only since it was left out.
    pub fn is_left_out(&self, what: &'static str, name: &str) -> bool {
        let mut left_out = self.left_out.iter().filter(|(of, _)| *of == what);
        left_out.any(|(_, left_out)| left_out.as_deref().is_none_or(|left_out| left_out == name))
    }

    /// How many mistakes there are so far.
    pub fn count(&self) -> usize {
        self.mistakes.len()
    }

    /// Notes that a room has read a file.
    pub fn mark_read(&mut self, file: &SourceFile) {
        self.read.insert(file.name().clone());
    }

    pub(super) fn has_read(&self, file: &SourceFile) -> bool {
        self.read.contains(file.name())
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

    /// Mistakes and warnings, each in the order of files and lines.
    pub fn into_parts(self) -> (Vec<Problem>, Vec<Problem>) {
        (sorted(self.mistakes), sorted(self.warnings))
    }
}

fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort();
    problems.dedup();
    problems
}

// === impl Problem ===

impl Problem {
    fn new(file: Arc<str>, place: Option<(usize, usize)>, message: impl fmt::Display) -> Self {
        Self { file, place, message: printable(&message.to_string()), hint: None, excerpt: None }
    }

    fn at(source: &SourceFile, span: Range<usize>, message: impl fmt::Display) -> Self {
        let place = Some(source.place(span.start));
        Self { excerpt: Excerpt::of(source.text(), span), ..Self::new(source.name().clone(), place, message) }
    }

    fn line(source: &SourceFile, line: usize, message: impl fmt::Display) -> Self {
        let span = source.line_span(line);
        let excerpt = span.and_then(|span| Excerpt::of(source.text(), span));
        Self { excerpt, ..Self::new(source.name().clone(), Some((line, 1)), message) }
    }

    fn place(files: &PolicyFiles, place: &Place, message: impl fmt::Display) -> Self {
        let excerpt = files.get(&place.file).and_then(|source| {
            let line = source.line_span(place.line)?;
            let mut starts = source.text().get(line.clone())?.char_indices().map(|(at, _)| line.start + at);
            let start = starts.nth(place.column.checked_sub(1)?)?;
            let end = starts.nth(place.width.saturating_sub(1)).unwrap_or(line.end);
            Excerpt::of(source.text(), start..end)
        });
        let known = Some((place.line, place.column));
        Self { excerpt, ..Self::new(place.file.clone(), known, message) }
    }
}

/// The message in one line and without what could move a terminal's cursor.
fn printable(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

/// `roles.toml:3:1: unknown role permission `x`; did you mean `y`?`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.file, self.message)?,
            None => write!(f, "{}: {}", self.file, self.message)?,
        }
        self.hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

// === impl Excerpt ===

impl Excerpt {
    /// The line of `span`, or the part of it around the span's first line.
    fn of(text: &str, span: Range<usize>) -> Option<Self> {
        // A page of an inventory may be one line of many megabytes, of which no more is looked at than fits.
        let (head, tail) = (text.get(..span.start)?, text.get(span.start..)?);
        let tail = tail.char_indices().take_while(|(_, c)| !matches!(c, '\n' | '\r'));
        let meant = tail.clone().take_while(|(at, _)| *at < span.len());
        let width = meant.take(MAX_EXCERPT).count().max(1);
        // What does not fit is cut off before the word first, since what follows it explains it.
        let room = MAX_EXCERPT - width;
        let shown = head.char_indices().rev().take_while(|(_, c)| *c != '\n').take(room / 2);
        let before = shown.clone().count();
        let head = head.get(shown.last().map_or(head.len(), |(at, _)| at)..)?;
        let chars = head.chars().chain(tail.map(|(_, c)| c)).take(MAX_EXCERPT);
        let visible = |c: char| match c {
            '\t' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        };
        Some(Self { text: chars.map(visible).collect::<String>().trim_end().to_owned(), before, width })
    }
}

// === impl Place ===

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, .. } = self;
        write!(f, "{file}:{line}:{column}")
    }
}
