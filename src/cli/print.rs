//! Mistakes and warnings for people: the place, the sentence, the line itself, and a caret below the word.

use std::fmt;
use std::io::Write;

use crate::source::{Excerpt, Problem};

/// Prints a line to standard output. That nobody reads it any more, as when a pager was left, is no failure.
pub(super) fn say(line: impl fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A problem with the line that it stands in, over several lines:
///
/// ```text
/// roles.toml:30:30: unknown role permission `Alert investigation`
///    |
/// 30 | permissions  = ["View data", "Alert investigation"]
///    |                              ^^^^^^^^^^^^^^^^^^^^^
///    = did you mean `Alerts investigation`?
/// ```
pub(super) struct Pointed<'p>(pub(super) &'p Problem);

impl fmt::Display for Pointed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { file, place, message, hint, excerpt } = self.0;
        let number = place.map(|(line, column)| (line.to_string(), column));
        match &number {
            Some((line, column)) => write!(f, "{file}:{line}:{column}: {message}")?,
            None => write!(f, "{file}: {message}")?,
        }
        let margin = number.as_ref().map_or(0, |(line, _)| line.len());
        if let (Some(Excerpt { text, before, width }), Some((line, _))) = (excerpt, &number) {
            let (empty, caret) = ("", "^".repeat(*width));
            write!(f, "\n{empty:margin$} |\n{line} | {text}\n{empty:margin$} | {empty:before$}{caret}")?;
        }
        hint.iter().try_for_each(|hint| write!(f, "\n{:margin$} = {hint}", ""))
    }
}
