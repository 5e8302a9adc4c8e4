//! A JSON object as it is written, member by member.

use std::time::Duration;

use super::plain::Plain;
use crate::telemetry::json::{push_plain, push_string};

/// A line's usual length with some room, so that it is allocated once.
const USUAL_LENGTH: usize = 1_024;

/// An object whose end is still to be written.
///
/// Each member begins with a comma; that of the first becomes the brace at the end.
pub(super) struct Object(Vec<u8>);

/// A member's name as it is written, with what stands around it: a word of ours, which needs no escapes.
#[derive(Clone, Copy)]
pub(super) struct Name(pub(super) &'static str);

/// Makes a [`Name`] of a literal.
macro_rules! name {
    ($name:literal) => {
        $crate::telemetry::audit::line::object::Name(concat!(",\"", $name, "\":"))
    };
}
pub(super) use name;

impl Default for Object {
    fn default() -> Self {
        Self(Vec::with_capacity(USUAL_LENGTH))
    }
}

impl Object {
    /// A text, whatever is in it.
    pub(super) fn text(&mut self, name: Name, text: &str) {
        self.name(name);
        push_string(&mut self.0, text);
    }

    /// The same, if there is one.
    pub(super) fn text_if(&mut self, name: Name, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// One of our own words: letters and underscores.
    pub(super) fn word(&mut self, name: Name, word: &'static str) {
        self.name(name);
        push_plain(&mut self.0, word);
    }

    /// What needs no escape.
    pub(super) fn plain(&mut self, name: Name, value: impl Plain) {
        self.name(name);
        self.quoted(value);
    }

    /// A whole number.
    pub(super) fn number(&mut self, name: Name, value: impl itoa::Integer) {
        self.name(name);
        self.decimal(value);
    }

    /// That something is so.
    pub(super) fn yes(&mut self, name: Name) {
        self.name(name);
        self.0.extend_from_slice(b"true");
    }

    /// Milliseconds with three decimals.
    pub(super) fn millis(&mut self, name: Name, duration: Duration) {
        self.name(name);
        self.decimal(duration.as_millis());
        // A digit before them keeps the zeros.
        let mut buffer = itoa::Buffer::new();
        let thousandths = buffer.format(1_000 + duration.subsec_micros() % 1_000).as_bytes();
        self.0.push(b'.');
        self.0.extend_from_slice(thousandths.get(1..).unwrap_or_default());
    }

    /// Texts, whatever is in them; absent if there are none.
    pub(super) fn texts<'t>(&mut self, name: Name, texts: impl ExactSizeIterator<Item = &'t str>) {
        self.list(name, texts, |line, text| push_string(&mut line.0, text));
    }

    /// What [`plain`](Self::plain) takes; absent if there is none.
    pub(super) fn plain_list<T: Plain + Copy>(&mut self, name: Name, values: &[T]) {
        self.list(name, values.iter(), |line, value| line.quoted(*value));
    }

    /// An object of each item; absent if there is none.
    pub(super) fn objects<T>(&mut self, name: Name, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.list(name, items.iter(), |line, item| {
            let start = line.0.len();
            write(line, item);
            line.close(start);
        });
    }

    /// The whole, with a line feed.
    pub(super) fn into_line(mut self) -> Vec<u8> {
        self.close(0);
        self.0.push(b'\n');
        self.0
    }

    /// Ends the object whose first member begins at `start`.
    fn close(&mut self, start: usize) {
        match self.0.get_mut(start) {
            Some(comma) => *comma = b'{',
            None => self.0.push(b'{'),
        }
        self.0.push(b'}');
    }

    fn list<T>(&mut self, name: Name, items: impl ExactSizeIterator<Item = T>, write: impl Fn(&mut Self, T)) {
        if items.len() == 0 {
            return;
        }
        self.name(name);
        let mut before = b'[';
        for item in items {
            self.0.push(std::mem::replace(&mut before, b','));
            write(self, item);
        }
        self.0.push(b']');
    }

    fn name(&mut self, name: Name) {
        self.0.extend_from_slice(name.0.as_bytes());
    }

    fn quoted(&mut self, value: impl Plain) {
        self.0.push(b'"');
        value.print(&mut self.0);
        self.0.push(b'"');
    }

    fn decimal(&mut self, value: impl itoa::Integer) {
        self.0.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }
}
