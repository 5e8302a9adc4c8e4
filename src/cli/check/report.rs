//! What `tollgate check --format json` prints: one object, whatever was found.

use serde::Serialize;

use crate::snapshot::{Counts, Snapshot};
use crate::source::Problem;

/// A policy set as it was judged.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    /// The set, if it has no mistakes; else null.
    policy: Option<Policy<'a>>,
    /// Every mistake, in the order of files and lines. Empty iff the set is right.
    mistakes: Vec<Found<'a>>,
    /// What is legal but worth a second look, in the same order. Only a set without mistakes is looked at for it.
    warnings: Vec<Found<'a>>,
}

/// A right set.
#[derive(Serialize)]
struct Policy<'a> {
    /// Twelve hexadecimal digits, as `/policy` and the audit have them.
    version: &'a str,
    /// How much it holds.
    holds: Counts,
}

/// A mistake or a warning.
#[derive(Serialize)]
struct Found<'a> {
    /// The file, by its name in the policy folder.
    file: &'a str,
    /// The line, from 1; null where the whole file is meant.
    line: Option<usize>,
    /// The column, from 1, in characters; null where the whole file is meant.
    column: Option<usize>,
    /// How many characters are meant; null where the line is not known.
    width: Option<usize>,
    /// The line, or the part of a long one around the word; null where it is not known.
    text: Option<&'a str>,
    /// What is wrong, a sentence.
    message: &'a str,
    /// What would probably be right; null if nobody knows.
    hint: Option<&'a str>,
}

// === impl Report ===

impl<'a> Report<'a> {
    pub(super) fn new(compiled: Result<&'a Snapshot, &'a [Problem]>) -> Self {
        let found = |problems: &'a [Problem]| problems.iter().map(Found::new).collect();
        match compiled {
            Ok(snapshot) => Self {
                policy: Some(Policy { version: &snapshot.version, holds: snapshot.counts() }),
                mistakes: Vec::new(),
                warnings: found(&snapshot.warnings),
            },
            Err(problems) => Self { policy: None, mistakes: found(problems), warnings: Vec::new() },
        }
    }
}

// === impl Found ===

impl<'a> Found<'a> {
    fn new(problem: &'a Problem) -> Self {
        let (line, column) = problem.place.unzip();
        Self {
            file: &problem.file,
            line,
            column,
            width: problem.excerpt.as_ref().map(|excerpt| excerpt.width),
            text: problem.excerpt.as_ref().map(|excerpt| excerpt.text.as_str()),
            message: &problem.message,
            hint: problem.hint.as_deref(),
        }
    }
}
