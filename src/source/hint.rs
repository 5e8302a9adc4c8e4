//! What a misspelt word was probably meant to be.

use std::fmt;

/// Of a list that is longer, a message names this many.
const MAX_NAMED: usize = 12;

/// The question whether `word` was meant to be one of `known`; none if it is like none of them.
///
/// The nearest is the one with the fewest letters added, left out, changed or swapped, without regard to case, and not
/// more than a third of the letters: further away, a guess misleads.
pub fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let word = word.to_lowercase();
    let near = |candidate: &&str| strsim::osa_distance(&word, &candidate.to_lowercase());
    let nearest = known.into_iter().min_by_key(near)?;
    let length = word.chars().count().max(nearest.chars().count());
    (near(&nearest) <= (length / 3).max(1)).then(|| format!("did you mean `{nearest}`?"))
}

/// The question, or else which words there are.
pub fn known_are<'k>(word: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> Option<String> {
    did_you_mean(word, known.clone())
        .or_else(|| Some(format!("known are {}", Listed(known.into_iter().collect()))))
}

/// What the library that reads TOML says it expected, as a question.
pub(super) fn expected(message: &str) -> Option<String> {
    // "unknown field `nane`, expected `name` or `rank`", "unknown variant `x`, expected one of `a`, `b`".
    let (found, expected) = message.strip_prefix("unknown ")?.split_once(", expected ")?;
    let quoted = |text: &'_ str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let word = quoted(found).into_iter().next()?;
    did_you_mean(&word, quoted(expected).iter().map(String::as_str))
}

struct Listed<'k>(Vec<&'k str>);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(words) = self;
        for (index, word) in words.iter().take(MAX_NAMED).enumerate() {
            write!(f, "{}`{word}`", if index == 0 { "" } else { ", " })?;
        }
        match words.len().saturating_sub(MAX_NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
