//! A JSON object as it is written, member by member.

use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

/// A line's usual length with some room, so that it is allocated once.
const USUAL_LENGTH: usize = 1_024;

/// An object whose end is still to be written. Its names are words of ours, and need no escapes.
pub(super) struct Object(Vec<u8>);

impl Default for Object {
    fn default() -> Self {
        let mut bytes = Vec::with_capacity(USUAL_LENGTH);
        bytes.push(b'{');
        Self(bytes)
    }
}

impl Object {
    /// A text, whatever is in it.
    pub(super) fn text(&mut self, name: &'static str, text: &str) {
        self.name(name);
        self.string(text);
    }

    /// The same, if there is one.
    pub(super) fn text_if(&mut self, name: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// One of our own words: letters and underscores.
    pub(super) fn word(&mut self, name: &'static str, word: &'static str) {
        self.name(name);
        self.0.push(b'"');
        self.0.extend_from_slice(word.as_bytes());
        self.0.push(b'"');
    }

    /// What prints as letters, digits, `-`, `.` and `:`, as ids, times and addresses do: nothing to escape.
    pub(super) fn shown(&mut self, name: &'static str, value: impl Display) {
        self.name(name);
        self.quoted(value);
    }

    /// What prints as JSON does: a whole number or a truth value.
    pub(super) fn number(&mut self, name: &'static str, value: impl Display) {
        self.name(name);
        self.print(value);
    }

    /// Milliseconds with three decimals.
    pub(super) fn millis(&mut self, name: &'static str, duration: Duration) {
        self.name(name);
        let micros = duration.as_micros();
        self.print(format_args!("{}.{:03}", micros / 1_000, micros % 1_000));
    }

    /// Texts, whatever is in them; absent if there are none.
    pub(super) fn texts<'t>(&mut self, name: &'static str, texts: impl ExactSizeIterator<Item = &'t str>) {
        self.list(name, texts, Self::string);
    }

    /// What [`shown`](Self::shown) takes; absent if there is none.
    pub(super) fn shown_list<T: Display>(&mut self, name: &'static str, values: &[T]) {
        self.list(name, values.iter(), Self::quoted);
    }

    /// An object of each item; absent if there is none.
    pub(super) fn objects<T>(&mut self, name: &'static str, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.list(name, items.iter(), |line, item| {
            line.0.push(b'{');
            write(line, item);
            line.0.push(b'}');
        });
    }

    /// The whole, with a line feed.
    pub(super) fn into_line(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"}\n");
        self.0
    }

    fn list<T>(
        &mut self,
        name: &'static str,
        items: impl ExactSizeIterator<Item = T>,
        write: impl Fn(&mut Self, T),
    ) {
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

    fn name(&mut self, name: &'static str) {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn string(&mut self, text: &str) {
        // Without a branch, so that many bytes are compared at a time (RFC 8259, section 7: what must be escaped).
        let escapes = |found, &byte: &u8| found | (byte < b' ') | (byte == b'"') | (byte == b'\\');
        if text.as_bytes().iter().fold(false, escapes) {
            // Writing a text into memory can't fail.
            let _ = serde_json::to_writer(&mut self.0, text);
        } else {
            self.0.push(b'"');
            self.0.extend_from_slice(text.as_bytes());
            self.0.push(b'"');
        }
    }

    fn quoted(&mut self, value: impl Display) {
        self.0.push(b'"');
        self.print(value);
        self.0.push(b'"');
    }

    fn print(&mut self, value: impl Display) {
        // Writing into memory can't fail.
        let _ = write!(self.0, "{value}");
    }
}
