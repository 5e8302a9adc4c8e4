//! The index against a walk through all rules.

use proptest::prelude::*;

use super::*;

/// What rules look at.
#[derive(Debug, Clone)]
struct Traits {
    names: Vec<String>,
    domain: Option<String>,
    tags: Vec<String>,
    os_platform: Option<String>,
}

fn holds(condition: &Condition, value: &str) -> bool {
    match condition {
        Condition::StartsWith(text) => value.starts_with(&**text),
        Condition::EndsWith(text) => value.ends_with(&**text),
        Condition::Equals(text) => value == &**text,
        Condition::Contains(text) => value.contains(&**text),
    }
}

fn any_of<'t>(conditions: &[Condition], mut values: impl Iterator<Item = &'t String>) -> bool {
    conditions.is_empty() || values.any(|value| conditions.iter().any(|condition| holds(condition, value)))
}

fn matches(rule: &MatchingRule, device: &Traits) -> bool {
    any_of(&rule.name, device.names.iter())
        && any_of(&rule.domain, device.domain.iter())
        && any_of(&rule.tag, device.tags.iter())
        && any_of(&rule.os_platform, device.os_platform.iter())
}

/// Few letters, so that conditions often hold; two of more bytes than one.
fn text(most: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof!["a", "b", "é", "ß"], 1..=most).prop_map(|letters| letters.concat())
}

fn conditions() -> impl Strategy<Value = Vec<Condition>> {
    let condition = (0..4, text(3)).prop_map(|(kind, text)| {
        let text = text.into();
        match kind {
            0 => Condition::StartsWith(text),
            1 => Condition::EndsWith(text),
            2 => Condition::Equals(text),
            _ => Condition::Contains(text),
        }
    });
    prop_oneof![Just(Vec::new()), proptest::collection::vec(condition, 1..4)]
}

fn rule() -> impl Strategy<Value = MatchingRule> {
    (conditions(), conditions(), conditions(), conditions())
        .prop_map(|(name, domain, tag, os_platform)| MatchingRule { name, domain, tag, os_platform })
}

fn device() -> impl Strategy<Value = Traits> {
    let some = || proptest::option::of(text(5));
    (proptest::collection::vec(text(5), 0..3), some(), proptest::collection::vec(text(5), 0..3), some())
        .prop_map(|(names, domain, tags, os_platform)| Traits { names, domain, tags, os_platform })
}

proptest! {
    #[test]
    fn the_index_finds_the_group_that_a_walk_through_all_rules_finds(
        rules in proptest::collection::vec(rule(), 0..200),
        devices in proptest::collection::vec(device(), 1..20),
    ) {
        let mut index = RuleIndex::build(rules.iter()).unwrap();
        for device in devices {
            let Traits { names, domain, tags, os_platform } = &device;
            index.kind(domain.as_deref(), os_platform.as_deref(), tags.iter().map(String::as_str));
            let found = index.group(names.iter().map(String::as_str));
            let walked = rules.iter().position(|rule| matches(rule, &device));
            prop_assert_eq!(found, walked.map(|place| place as u32), "{:?}", device);
        }
    }
}
