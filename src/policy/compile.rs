//! From words in a file to valid values: what the nouns' own `compile` functions share.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use toml::Spanned;

use crate::policy::document::Word;
use crate::principal::Tenants;
use crate::source::{Place, Problems, SourceFile, TomlFile, known_are};

/// One file on its way from words to values, and where its mistakes go.
pub(crate) struct Reading<'a> {
    source: &'a SourceFile,
    problems: &'a mut Problems,
}

/// The keys of one kind that have been given so far, each with its file and line.
pub(crate) struct Taken<K> {
    what: &'static str,
    places: HashMap<K, (Arc<str>, usize)>,
}

/// Things that a set needs to know when others name them, on their way out of a file: which of them the file has, also if
/// a mistake keeps it from being read.
pub(crate) struct Sought {
    what: &'static str,
    names: Vec<Option<String>>,
}

/// The longest name: it stands in metrics, audit lines and headers.
const MAX_NAME_CHARACTERS: usize = 128;

// === impl Reading ===

impl<'a> Reading<'a> {
    pub(crate) fn new(source: &'a SourceFile, problems: &'a mut Problems) -> Self {
        Self { source, problems }
    }

    /// The place of a span, to be kept.
    pub(crate) fn place(&self, span: Range<usize>) -> Place {
        self.source.place_of(span)
    }

    /// Notes a mistake at a place of the file.
    pub(crate) fn at(&mut self, span: Range<usize>, message: impl fmt::Display) {
        self.problems.at(self.source, span, message);
    }

    /// Adds to the mistake that was noted last what would probably be right, if anybody knows.
    pub(crate) fn hint(&mut self, hint: Option<String>) {
        self.problems.hint(hint);
    }

    /// How many mistakes there are so far.
    pub(crate) fn mistakes(&self) -> usize {
        self.problems.count()
    }

    /// Notes that a thing of this name is not what the file says, for a mistake that was noted.
    pub(crate) fn leave_out(&mut self, what: &'static str, name: String) {
        self.problems.leave_out(what, Some(name));
    }

    /// Notes that a word names nothing of its kind, unless that may be missing for a mistake of its own.
    pub(crate) fn unknown(&mut self, what: &'static str, word: &Word, hint: Option<String>) {
        if !self.problems.is_left_out(what, word.get_ref()) {
            self.at(word.span(), format_args!("unknown {what} `{}`", word.get_ref()));
            self.hint(hint);
        }
    }

    /// Notes something legal but odd at a place of the file.
    pub(crate) fn warn(&mut self, span: Range<usize>, message: impl fmt::Display) {
        self.problems.warn_at(self.source, span, message);
    }

    /// The value that a word stands for; a word that stands for none is a problem.
    pub(crate) fn parse<T: FromStr<Err: fmt::Display>>(&mut self, word: &Word) -> Option<T> {
        match word.get_ref().parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.at(word.span(), error);
                None
            }
        }
    }

    /// The value that a word stands for; a word that stands for none is a problem, with a hint which one was meant or
    /// which ones there are.
    pub(crate) fn parse_one_of<'k, T: FromStr<Err: fmt::Display>>(
        &mut self,
        word: &Word,
        known: impl IntoIterator<Item = &'k str> + Clone,
    ) -> Option<T> {
        match word.get_ref().parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.at(word.span(), error);
                self.hint(known_are(word.get_ref(), known));
                None
            }
        }
    }

    /// The values of a list; each word that stands for none is a problem and left out.
    pub(crate) fn parse_all<T: FromStr<Err: fmt::Display>>(&mut self, words: &[Word]) -> Vec<T> {
        words.iter().filter_map(|word| self.parse(word)).collect()
    }

    /// The tenants of a list, of which each is one at least; left out, every tenant.
    pub(crate) fn tenants(&mut self, words: Option<&Spanned<Vec<Word>>>) -> Tenants {
        let Some(words) = words else { return Tenants::Every };
        if words.get_ref().is_empty() {
            self.at(words.span(), "an empty list of tenants: leave `tenants` out if it is for every one");
        }
        Tenants::Only(self.parse_all(words.get_ref()).into())
    }

    /// A name that may stand in labels and log lines.
    pub(crate) fn name<T: for<'t> From<&'t str>>(&mut self, word: &Word) -> Option<T> {
        let text = word.get_ref();
        let fits = !text.is_empty() && text.chars().count() <= MAX_NAME_CHARACTERS;
        if !fits || text.trim() != text || text.chars().any(char::is_control) {
            let message = format_args!(
                "a name has 1 to {MAX_NAME_CHARACTERS} characters, no control characters and no space at either end"
            );
            self.at(word.span(), message);
            return None;
        }
        Some(T::from(text))
    }

    /// Notes a key; one that was given before is a problem.
    pub(crate) fn take<K: Eq + std::hash::Hash + fmt::Display>(
        &mut self,
        taken: &mut Taken<K>,
        key: K,
        span: Range<usize>,
    ) {
        let (line, _) = self.source.place(span.start);
        let file = self.source.name();
        match taken.places.get(&key) {
            Some((first_file, first)) => {
                let of = if first_file == file { String::new() } else { format!(" of `{first_file}`") };
                let message = format!(
                    "the {} `{key}` is given twice, in line {first}{of} for the first time",
                    taken.what
                );
                self.at(span, message);
            }
            None => {
                taken.places.insert(key, (file.clone(), line));
            }
        }
    }
}

// === impl Sought ===

impl Sought {
    /// The file's table and its entries of `key`, each of them a `what`; no table after a mistake of syntax or where there
    /// is no file.
    pub(crate) fn open<'s>(
        what: &'static str,
        key: &str,
        source: Option<&'s SourceFile>,
        problems: &mut Problems,
    ) -> Option<(TomlFile<'s>, Self)> {
        let file = source.and_then(|source| source.toml(problems));
        let Some(file) = file else {
            problems.leave_out(what, None);
            return None;
        };
        let names = file.names(key);
        Some((file, Self { what, names }))
    }

    /// Ends the file. What stands under a key that it should not have is nobody's, and may be anything.
    pub(crate) fn finish(&mut self, file: TomlFile<'_>, problems: &mut Problems) {
        let before = problems.count();
        file.finish(problems);
        self.names.extend((problems.count() > before).then_some(None));
    }

    /// Notes those that are not there: a mistake of theirs has been told, and whoever names them makes none.
    pub(crate) fn leave_out(self, there: impl Fn(&str) -> bool, problems: &mut Problems) {
        let missing = self.names.into_iter().filter(|name| !name.as_deref().is_some_and(&there));
        missing.for_each(|name| problems.leave_out(self.what, name));
    }
}

// === impl Taken ===

impl<K> Taken<K> {
    /// No key yet; `what` names their kind in messages.
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, places: HashMap::new() }
    }
}

/// Names as a list in a message: "`a`, `b`".
pub(crate) fn quoted<T: fmt::Display>(words: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}
