//! All rules at once: which groups a device matches, without asking each of them.
//!
//! For each property there is an index from text to the groups that have a condition which holds for it: equality by
//! hash, beginnings and ends by a trie each, what is contained by one automaton. What a device's value finds there is
//! a set of groups; the sets of the four properties, each with the groups that do not look at it, are cut with one
//! another, and the first of what is left is the highest ranked. A set is one bit a group, so that a device costs at
//! most the conditions that hold for it and a look at each word of some sets (160 words at 10,000 groups), however many
//! rules there are.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, BuildError};
use smallvec::SmallVec;

use super::rule::{Condition, MatchingRule};

/// The rules of a set, to be asked of many devices one after another.
#[derive(Debug)]
pub(crate) struct RuleIndex {
    name: Property,
    domain: Property,
    tag: Property,
    os_platform: Property,
    /// What is left of the groups once all but the name are looked at.
    kind: Groups,
    scratch: Groups,
}

/// A set of groups, by rank.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Groups(Vec<u64>);

/// The conditions on one property.
#[derive(Debug)]
struct Property {
    /// The groups that do not look at it.
    indifferent: Groups,
    equals: HashMap<Box<str>, Posting, foldhash::fast::RandomState>,
    starts: Trie,
    ends: Trie,
    contains: Option<(AhoCorasick, Vec<Posting>)>,
}

/// The groups that have a condition.
#[derive(Debug)]
enum Posting {
    Few(Vec<u32>),
    /// More than a set has words.
    Many(Groups),
}

/// Texts by their beginnings, byte by byte.
#[derive(Debug)]
struct Trie(Vec<Node>);

#[derive(Debug, Default)]
struct Node {
    /// By the byte.
    next: SmallVec<[(u8, u32); 2]>,
    posting: Option<Posting>,
}

/// The conditions on one property, before they are indexed: each text with the groups that have it.
#[derive(Default)]
struct Gathered<'r> {
    indifferent: Vec<u32>,
    equals: HashMap<&'r str, Vec<u32>>,
    starts: HashMap<&'r str, Vec<u32>>,
    ends: HashMap<&'r str, Vec<u32>>,
    contains: HashMap<&'r str, Vec<u32>>,
}

// === impl RuleIndex ===

impl RuleIndex {
    /// `rules` are those of all groups, the highest ranked first.
    ///
    /// # Errors
    /// If the texts of `contains` are more than an automaton can hold (2^31 bytes).
    pub(super) fn build<'r>(
        rules: impl ExactSizeIterator<Item = &'r MatchingRule>,
    ) -> Result<Self, BuildError> {
        let groups = rules.len();
        let [mut name, mut domain, mut tag, mut os_platform] = [(); 4].map(|()| Gathered::default());
        for (group, rule) in rules.enumerate() {
            let group = group as u32;
            name.take(&rule.name, group);
            domain.take(&rule.domain, group);
            tag.take(&rule.tag, group);
            os_platform.take(&rule.os_platform, group);
        }
        Ok(Self {
            name: name.index(groups)?,
            domain: domain.index(groups)?,
            tag: tag.index(groups)?,
            os_platform: os_platform.index(groups)?,
            kind: Groups::none(groups),
            scratch: Groups::none(groups),
        })
    }

    /// From now on devices have this domain, these tags and this platform, all in lower case.
    pub(crate) fn kind<'t>(
        &mut self,
        domain: Option<&str>,
        os_platform: Option<&str>,
        tags: impl Iterator<Item = &'t str>,
    ) {
        let Self { kind, scratch, .. } = self;
        self.tag.satisfied(tags, kind);
        self.domain.satisfied(domain.into_iter(), scratch);
        kind.cut(scratch);
        self.os_platform.satisfied(os_platform.into_iter(), scratch);
        kind.cut(scratch);
    }

    /// The place of the highest ranked group that a device of these names matches, all in lower case.
    pub(crate) fn group<'t>(&mut self, names: impl Iterator<Item = &'t str>) -> Option<u32> {
        let Self { kind, scratch, .. } = self;
        self.name.satisfied(names, scratch);
        kind.first_in_both(scratch)
    }
}

// === impl Groups ===

impl Groups {
    fn none(groups: usize) -> Self {
        Self(vec![0; groups.div_ceil(64)])
    }

    fn of(listed: &[u32], groups: usize) -> Self {
        let mut set = Self::none(groups);
        listed.iter().for_each(|group| set.add(*group));
        set
    }

    fn add(&mut self, group: u32) {
        if let Some(word) = self.0.get_mut(group as usize / 64) {
            *word |= 1 << (group % 64);
        }
    }

    fn add_all(&mut self, others: &Self) {
        self.0.iter_mut().zip(&others.0).for_each(|(word, other)| *word |= other);
    }

    fn cut(&mut self, others: &Self) {
        self.0.iter_mut().zip(&others.0).for_each(|(word, other)| *word &= other);
    }

    fn first_in_both(&self, others: &Self) -> Option<u32> {
        let words = self.0.iter().zip(&others.0).map(|(word, other)| word & other);
        let (place, word) = words.enumerate().find(|(_, word)| *word != 0)?;
        Some(place as u32 * 64 + word.trailing_zeros())
    }
}

// === impl Property ===

impl Property {
    /// The groups that do not look at it, or have a condition that holds for one of the values.
    fn satisfied<'t>(&self, values: impl Iterator<Item = &'t str>, into: &mut Groups) {
        into.0.clone_from(&self.indifferent.0);
        for value in values {
            if let Some(posting) = self.equals.get(value) {
                posting.add_to(into);
            }
            self.starts.each(value.bytes(), |posting| posting.add_to(into));
            self.ends.each(value.bytes().rev(), |posting| posting.add_to(into));
            if let Some((automaton, postings)) = &self.contains {
                let found = automaton.find_overlapping_iter(value);
                found
                    .filter_map(|found| postings.get(found.pattern().as_usize()))
                    .for_each(|p| p.add_to(into));
            }
        }
    }
}

// === impl Gathered ===

impl<'r> Gathered<'r> {
    fn take(&mut self, conditions: &'r [Condition], group: u32) {
        if conditions.is_empty() {
            self.indifferent.push(group);
        }
        for condition in conditions {
            let (texts, text) = match condition {
                Condition::Equals(text) => (&mut self.equals, text),
                Condition::StartsWith(text) => (&mut self.starts, text),
                Condition::EndsWith(text) => (&mut self.ends, text),
                Condition::Contains(text) => (&mut self.contains, text),
            };
            texts.entry(text).or_default().push(group);
        }
    }

    fn index(self, groups: usize) -> Result<Property, BuildError> {
        let posting = |listed| Posting::new(listed, groups);
        let mut starts = Trie::new();
        let mut ends = Trie::new();
        self.starts.into_iter().for_each(|(text, listed)| starts.insert(text.bytes(), posting(listed)));
        self.ends.into_iter().for_each(|(text, listed)| ends.insert(text.bytes().rev(), posting(listed)));
        let (texts, listed): (Vec<_>, Vec<_>) = self.contains.into_iter().unzip();
        let contains = if texts.is_empty() {
            None
        } else {
            Some((AhoCorasick::new(texts)?, listed.into_iter().map(posting).collect()))
        };
        Ok(Property {
            indifferent: Groups::of(&self.indifferent, groups),
            equals: self.equals.into_iter().map(|(text, listed)| (text.into(), posting(listed))).collect(),
            starts,
            ends,
            contains,
        })
    }
}

// === impl Posting ===

impl Posting {
    fn new(listed: Vec<u32>, groups: usize) -> Self {
        if listed.len() > groups.div_ceil(64) {
            Self::Many(Groups::of(&listed, groups))
        } else {
            Self::Few(listed)
        }
    }

    fn add_to(&self, set: &mut Groups) {
        match self {
            Self::Few(listed) => listed.iter().for_each(|group| set.add(*group)),
            Self::Many(groups) => set.add_all(groups),
        }
    }
}

// === impl Trie ===

impl Trie {
    fn new() -> Self {
        Self(vec![Node::default()])
    }

    /// INVARIANT: every number of a node is that of one in the list, the root is the first.
    fn insert(&mut self, text: impl Iterator<Item = u8>, posting: Posting) {
        let mut at = 0;
        for byte in text {
            let new = self.0.len() as u32;
            let Some(node) = self.0.get_mut(at) else { return };
            at = match node.next.binary_search_by_key(&byte, |(next, _)| *next) {
                Ok(place) => node.next.get(place).map_or(at, |(_, next)| *next as usize),
                Err(place) => {
                    node.next.insert(place, (byte, new));
                    self.0.push(Node::default());
                    new as usize
                }
            };
        }
        if let Some(node) = self.0.get_mut(at) {
            node.posting = Some(posting);
        }
    }

    /// What was inserted under any beginning of the text.
    fn each(&self, text: impl Iterator<Item = u8>, mut take: impl FnMut(&Posting)) {
        let mut node = self.0.first();
        for byte in text {
            let next = node.and_then(|node| {
                let place = node.next.binary_search_by_key(&byte, |(next, _)| *next).ok()?;
                self.0.get(node.next.get(place)?.1 as usize)
            });
            let Some(next) = next else { return };
            next.posting.iter().for_each(&mut take);
            node = Some(next);
        }
    }
}

#[cfg(test)]
mod tests;
