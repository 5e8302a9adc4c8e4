//! What keys say by number, as it is written down: the rules and the device groups, whose numbers live only as long as
//! the process.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Dimension, GROUPS, LimitKey, Per, RULES, Rule, RuleId, StoredKey, group_number};
use crate::id::{DeviceGroupId, LimitName};
use crate::limit::window::Kept;

/// A rule and its number, as it is written: once, before any key that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::limit) struct NamedRule {
    pub(in crate::limit) number: u32,
    limit: String,
    per: Vec<Dimension>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<String>,
    /// The longest window of its keys so far, in milliseconds.
    pub(in crate::limit) longest: u32,
    /// The largest count of its keys so far.
    pub(in crate::limit) largest: u32,
}

/// A device group and its number, as it is written: once, before any key that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::limit) struct NamedGroup {
    pub(in crate::limit) number: u32,
    group: String,
}

/// What the numbers in written keys mean, and what they are here.
#[derive(Debug, Default)]
pub(in crate::limit) struct Numbers {
    rules: HashMap<u32, KnownRule>,
    groups: HashMap<u32, u32>,
}

/// A rule that was written, as this process has it.
#[derive(Debug, Clone, Copy)]
pub(in crate::limit) struct KnownRule {
    pub(in crate::limit) id: RuleId,
    per: Per,
    longest: u32,
    largest: u32,
}

/// A rule's number and a group's lie at the end of a key, so many bytes each.
const NUMBER: usize = 4;

// === impl NamedRule ===

impl NamedRule {
    /// The rule of this number.
    pub(in crate::limit) fn find(number: u32) -> Option<Self> {
        let rules = RULES.lock();
        rules.iter().find(|(_, id)| id.0 == number).map(|(rule, id)| Self::new(rule, *id))
    }

    fn new(rule: &Rule, id: RuleId) -> Self {
        Self {
            number: id.0,
            limit: rule.name.as_str().to_owned(),
            per: Dimension::ALL.into_iter().filter(|dimension| rule.per.has(*dimension)).collect(),
            operation: rule.operation.as_ref().map(|operation| operation.as_str().to_owned()),
            part: rule.part.as_ref().map(|part| part.as_ref().to_owned()),
            longest: 0,
            largest: 0,
        }
    }

    /// Whether its keys have a group's number.
    pub(in crate::limit) fn counts_groups(&self) -> bool {
        self.per.contains(&Dimension::DeviceGroup)
    }

    fn known(&self) -> Option<KnownRule> {
        let per = self.per.iter().fold(Per::default(), |per, dimension| per.with(*dimension));
        let rule = Rule {
            name: LimitName::from(self.limit.as_str()),
            per,
            operation: match &self.operation {
                Some(name) => Some(name.parse().ok()?),
                None => None,
            },
            part: self.part.as_deref().map(Into::into),
        };
        Some(KnownRule { id: rule.id().ok()?, per, longest: self.longest, largest: self.largest })
    }
}

// === impl KnownRule ===

impl KnownRule {
    /// What its keys keep their times for; none if they keep none.
    pub(in crate::limit) fn kept(self) -> Option<Kept> {
        Some(Kept { longest: self.longest, largest: self.largest.try_into().ok()? })
    }
}

// === impl NamedGroup ===

impl NamedGroup {
    /// Every group whose number is no less.
    pub(in crate::limit) fn all_from(number: u32) -> Vec<Self> {
        let groups = GROUPS.read();
        let named = groups.iter().filter(|(_, its)| **its >= number);
        named.map(|(group, number)| Self { number: *number, group: group.as_str().to_owned() }).collect()
    }
}

// === impl Numbers ===

impl Numbers {
    /// What follows is of another process.
    pub(in crate::limit) fn forget(&mut self) {
        self.rules.clear();
        self.groups.clear();
    }

    /// A rule that can't be known any more, since there are too many, is left out.
    pub(in crate::limit) fn learn_rule(&mut self, named: &NamedRule) -> Option<KnownRule> {
        let known = named.known()?;
        self.rules.insert(named.number, known);
        Some(known)
    }

    pub(in crate::limit) fn learn_group(&mut self, named: &NamedGroup) {
        self.groups.insert(named.number, group_number(&DeviceGroupId::from(named.group.as_str())));
    }

    /// A written key as this process has it, and its rule; none if it has a number that nothing was said of.
    pub(in crate::limit) fn read(&self, written: &[u8]) -> Option<(LimitKey, KnownRule)> {
        let (ids, number) = written.split_last_chunk::<NUMBER>()?;
        let rule = self.rules.get(&u32::from_ne_bytes(*number))?;
        let mut key = LimitKey::default();
        let mut put = |bytes: &[u8]| {
            key.bytes.get_mut(key.length..key.length + bytes.len())?.copy_from_slice(bytes);
            key.length += bytes.len();
            Some(())
        };
        if rule.per.has(Dimension::DeviceGroup) {
            let (ids, group) = ids.split_last_chunk::<NUMBER>()?;
            let group = match u32::from_ne_bytes(*group) {
                0 => 0,
                known => *self.groups.get(&known)?,
            };
            put(ids)?;
            put(&group.to_ne_bytes())?;
        } else {
            put(ids)?;
        }
        put(&rule.id.0.to_ne_bytes())?;
        Some((key, *rule))
    }
}

// === impl StoredKey ===

impl StoredKey {
    /// The number of its rule.
    pub(in crate::limit) fn rule_number(&self) -> u32 {
        self.as_bytes().last_chunk::<NUMBER>().map_or(0, |number| u32::from_ne_bytes(*number))
    }

    /// The number of its device group, if its rule counts by groups.
    pub(in crate::limit) fn group_number(&self) -> u32 {
        let before = self.as_bytes().split_last_chunk::<NUMBER>();
        before.and_then(|(ids, _)| ids.last_chunk::<NUMBER>()).map_or(0, |number| u32::from_ne_bytes(*number))
    }
}
