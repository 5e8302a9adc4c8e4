//! Where the lines of a file begin.

use std::ops::Range;
use std::sync::OnceLock;

/// The first byte of each line of a text, found when a line is asked for the first time: a set of 10,000 device groups
/// asks for some ten thousand, a set without mistakes in its inventory for none of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(OnceLock<Vec<usize>>);

impl Lines {
    fn starts(&self, text: &str) -> &[usize] {
        self.0.get_or_init(|| {
            let ends = memchr::memchr_iter(b'\n', text.as_bytes());
            std::iter::once(0).chain(ends.map(|end| end + 1)).collect()
        })
    }

    /// The line, from 1, of the byte at `offset`, and where that line begins.
    pub(super) fn at(&self, text: &str, offset: usize) -> (usize, usize) {
        let starts = self.starts(text);
        let line = starts.partition_point(|start| *start <= offset).max(1);
        (line, starts.get(line - 1).copied().unwrap_or_default())
    }

    /// The bytes of a line, counted from 1, without its line feed.
    pub(super) fn span(&self, text: &str, line: usize) -> Option<Range<usize>> {
        let starts = self.starts(text);
        let start = *starts.get(line.checked_sub(1)?)?;
        Some(start..starts.get(line).map_or(text.len(), |next| next - 1))
    }
}

/// They follow from the text.
impl PartialEq for Lines {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Lines {}
