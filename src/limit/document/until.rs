//! What is in force until a moment only.

use toml::Spanned;

use crate::source::{Problems, SourceFile};
use crate::time::Wall;

/// The moment that a text names; none where nothing is said, or nothing that is a moment.
pub(super) fn until(
    word: Option<&Spanned<String>>,
    source: &SourceFile,
    problems: &mut Problems,
) -> Option<Wall> {
    let word = word?;
    let moment = word.get_ref().parse();
    moment.map_err(|error: crate::time::InvalidWall| problems.at(source, word.span(), error)).ok()
}

/// Says of whatever has an end how that stands: nobody should have to find out at the end.
pub(super) fn warn(
    what: &str,
    word: &Spanned<String>,
    until: Wall,
    now: Wall,
    source: &SourceFile,
    problems: &mut Problems,
) {
    let message = if now < until {
        format!("{what} is in force until {until}")
    } else {
        format!("{what} lapsed at {until} and does nothing any more: take it out, or give it another time")
    };
    problems.warn_at(source, word.span(), message);
}
