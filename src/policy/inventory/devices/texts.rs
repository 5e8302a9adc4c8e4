//! Texts that many devices share, each kept once.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::num::NonZeroU32;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// A text by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TextId(NonZeroU32);

/// The texts.
#[derive(Debug, Default)]
pub(super) struct Texts {
    list: Vec<Box<str>>,
    by_text: HashTable<TextId>,
    state: RandomState,
}

/// In lower case; most are.
pub(super) fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        Cow::Borrowed(text)
    } else if text.is_ascii() {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Owned(text.to_lowercase())
    }
}

// === impl Texts ===

impl Texts {
    pub(super) fn find(&self, text: &str) -> Option<TextId> {
        self.by_text.find(self.state.hash_one(text), |id| self.text(*id) == text).copied()
    }

    pub(super) fn text(&self, id: TextId) -> &str {
        text(&self.list, id)
    }

    pub(super) fn intern(&mut self, new: &str) -> TextId {
        if let Some(known) = self.find(new) {
            return known;
        }
        let Self { list, by_text, state } = self;
        list.push(new.into());
        // The list is not empty, and shorter than 2^32: there are at most some texts for each device.
        let id = TextId(NonZeroU32::new(list.len() as u32).unwrap_or(NonZeroU32::MIN));
        by_text.insert_unique(state.hash_one(new), id, |id| state.hash_one(text(list, *id)));
        id
    }

    /// Gives back what was reserved for more.
    pub(super) fn finish(&mut self) {
        let Self { list, by_text, state } = self;
        list.shrink_to_fit();
        by_text.shrink_to_fit(|id| state.hash_one(text(list, *id)));
    }
}

fn text(list: &[Box<str>], id: TextId) -> &str {
    list.get(id.0.get() as usize - 1).map_or("", |text| text)
}
