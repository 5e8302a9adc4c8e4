//! What a device must look like to be in a group.

use std::fmt;
use std::str::FromStr;

use toml::Spanned;

use crate::policy::compile::Reading;
use crate::policy::document::MatchDocument;

/// What a device must look like to be in a group: for each list that is not empty, one of it must match.
#[derive(Debug, Default)]
pub(super) struct MatchingRule {
    pub(super) name: Vec<Condition>,
    pub(super) domain: Vec<Condition>,
    pub(super) tag: Vec<Condition>,
    pub(super) os_platform: Vec<Condition>,
}

/// One value of a rule, such as `starts with EXEC-`, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Equals(Box<str>),
    Contains(Box<str>),
}

/// Text that is not a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a condition: write `starts with …`, `ends with …`, `equals …` or `contains …`")]
pub(super) struct InvalidCondition {
    text: String,
}

// === impl MatchingRule ===

impl MatchingRule {
    pub(super) fn read(document: &Spanned<MatchDocument>, reading: &mut Reading<'_>) -> Self {
        let MatchDocument { name, domain, tag, os_platform } = document.get_ref();
        let properties = [name, domain, tag, os_platform];
        if properties.iter().all(|property| property.is_none()) {
            reading
                .at(document.span(), "`match` must name at least one property, or every device would match");
        }
        let [name, domain, tag, os_platform] = properties.map(|property| match property {
            Some(values) if values.get_ref().is_empty() => {
                reading
                    .at(values.span(), "an empty list of conditions matches nothing: leave the property out");
                Vec::new()
            }
            Some(values) => reading.parse_all(values.get_ref()),
            None => Vec::new(),
        });
        Self { name, domain, tag, os_platform }
    }

    /// What it asks for, a sentence for each property.
    pub(super) fn describe(&self) -> Vec<String> {
        let Self { name, domain, tag, os_platform } = self;
        let all = [("name", name), ("domain", domain), ("tag", tag), ("OS platform", os_platform)];
        let asked = all.into_iter().filter(|(_, conditions)| !conditions.is_empty());
        let sentence = |(property, conditions): (&str, &Vec<Condition>)| {
            let conditions: Vec<_> = conditions.iter().map(ToString::to_string).collect();
            format!("holds devices whose {property} {}", conditions.join(" or "))
        };
        asked.map(sentence).collect()
    }

    /// Whether it depends on a device's tags.
    pub(super) fn looks_at_tags(&self) -> bool {
        !self.tag.is_empty()
    }
}

// === impl Condition ===

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartsWith(text) => write!(f, "starts with `{text}`"),
            Self::EndsWith(text) => write!(f, "ends with `{text}`"),
            Self::Equals(text) => write!(f, "equals `{text}`"),
            Self::Contains(text) => write!(f, "contains `{text}`"),
        }
    }
}

impl FromStr for Condition {
    type Err = InvalidCondition;

    fn from_str(text: &str) -> Result<Self, InvalidCondition> {
        let read = |operator: &str, condition: fn(Box<str>) -> Self| {
            let value = text.strip_prefix(operator)?.trim();
            (!value.is_empty()).then(|| condition(value.to_lowercase().into()))
        };
        read("starts with ", Self::StartsWith)
            .or_else(|| read("ends with ", Self::EndsWith))
            .or_else(|| read("equals ", Self::Equals))
            .or_else(|| read("contains ", Self::Contains))
            .ok_or_else(|| InvalidCondition { text: text.into() })
    }
}
