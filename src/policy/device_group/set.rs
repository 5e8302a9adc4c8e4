//! Some of a set's groups.

use super::GroupIndex;

/// Some of a set's groups, one bit a group: 10,000 of them are 1,250 bytes, which a processor keeps at hand.
#[derive(Debug, Default)]
pub(crate) struct GroupSet(Vec<u64>);

// === impl GroupSet ===

impl GroupSet {
    /// Whether the group is one of them.
    pub(crate) fn holds(&self, GroupIndex(group): GroupIndex) -> bool {
        self.0.get(group as usize / 64).is_some_and(|word| word >> (group % 64) & 1 == 1)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<GroupIndex> for GroupSet {
    fn from_iter<I: IntoIterator<Item = GroupIndex>>(groups: I) -> Self {
        let mut words = Vec::new();
        for GroupIndex(group) in groups {
            let place = group as usize / 64;
            if words.len() <= place {
                words.resize(place + 1, 0);
            }
            if let Some(word) = words.get_mut(place) {
                *word |= 1 << (group % 64);
            }
        }
        Self(words)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_was_put_into_it_and_nothing_else(groups in proptest::collection::btree_set(0..300_u32, 0..20)) {
            let set: GroupSet = groups.iter().copied().map(GroupIndex).collect();
            let held: BTreeSet<u32> = (0..400).filter(|group| set.holds(GroupIndex(*group))).collect();
            prop_assert_eq!(set.is_empty(), groups.is_empty());
            prop_assert_eq!(held, groups);
        }
    }
}
