//! The policy files as written. Nothing here is checked beyond its shape; each noun's own file makes it valid.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use toml::Spanned;

use crate::policy::effect::Enforcement;
use crate::source::{FileSchema, list_or_all, one_or_many};

/// A word and its place.
pub(crate) type Word = Spanned<String>;

/// `[[operation]]` of `operations.toml`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OperationDocument {
    #[schemars(with = "String")]
    pub(crate) name: Word,
    #[schemars(with = "MethodWord")]
    pub(crate) method: Spanned<MethodWord>,
    #[schemars(with = "String")]
    pub(crate) path: Word,
    #[schemars(with = "Vec<String>")]
    pub(crate) application: Spanned<Vec<Word>>,
    #[schemars(with = "Vec<String>")]
    pub(crate) delegated: Spanned<Vec<Word>>,
    #[schemars(schema_with = "one_or_many")]
    #[serde(default)]
    pub(crate) role: Option<Spanned<OneOrMany>>,
    pub(crate) body: Option<BodyDocument>,
    #[schemars(with = "Option<String>")]
    pub(crate) max_body: Option<Word>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) limits: Vec<Word>,
    #[schemars(with = "Option<ActionWord>")]
    pub(crate) action: Option<Spanned<ActionWord>>,
    #[serde(default)]
    pub(crate) changes_tags: bool,
}

/// The methods that the API uses.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum MethodWord {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// What a successful answer of the operation says about actions.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ActionWord {
    /// It is one, which the call has started.
    Started,
    /// It is one or a list of them, as they stand.
    Shown,
}

/// `body` of an operation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BodyDocument {
    #[serde(rename = "type")]
    pub(crate) media_type: MediaTypeWord,
    #[serde(default)]
    pub(crate) required: BTreeMap<String, MemberWord>,
    #[schemars(with = "Option<String>")]
    pub(crate) devices: Option<Word>,
}

/// The body types that can be read.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(crate) enum MediaTypeWord {
    #[serde(rename = "application/json")]
    Json,
}

/// What a required member must be.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MemberWord {
    String,
    Number,
    Boolean,
    List,
    Object,
}

/// `[[role]]` of `roles.toml`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleDocument {
    #[schemars(with = "String")]
    pub(crate) name: Word,
    #[schemars(with = "Vec<String>")]
    pub(crate) permissions: Vec<Word>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) entra_groups: Vec<Word>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) users: Vec<Word>,
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) tenants: Option<Spanned<Vec<Word>>>,
    pub(crate) enforce: Option<bool>,
}

/// `[[device_group]]` of `device-groups.toml`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceGroupDocument {
    #[schemars(with = "String")]
    pub(crate) name: Word,
    #[schemars(with = "NonZeroU32")]
    pub(crate) rank: Spanned<NonZeroU32>,
    #[serde(rename = "match")]
    #[schemars(with = "Option<MatchDocument>")]
    pub(crate) rule: Option<Spanned<MatchDocument>>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) entra_groups: Vec<Word>,
    pub(crate) enforce: Option<bool>,
}

/// `match` of a device group: for each property that is given, at least one value must match.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MatchDocument {
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) name: Option<Spanned<Vec<Word>>>,
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) domain: Option<Spanned<Vec<Word>>>,
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) tag: Option<Spanned<Vec<Word>>>,
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) os_platform: Option<Spanned<Vec<Word>>>,
}

/// `[ungrouped]` of `device-groups.toml`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UngroupedDocument {
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) entra_groups: Vec<Word>,
    pub(crate) enforce: Option<bool>,
}

/// `source` of `device-groups.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GroupSource {
    /// The groups' rules say which devices are in them.
    #[default]
    Rules,
    /// The inventory says which group each device is in, as the API reports it.
    Inventory,
}

/// `unknown_device` of `device-groups.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnknownDevice {
    /// Whoever a device group binds is refused.
    #[default]
    Refuse,
    /// It counts as one of "Ungrouped devices (default)".
    Ungrouped,
}

/// `stale_inventory` of `device-groups.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StaleInventory {
    /// Whoever a device group binds is refused.
    #[default]
    Refuse,
    /// It is asked as if it were new.
    Use,
}

/// `unknown_action` of `device-groups.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnknownAction {
    /// Whoever a device group binds is refused.
    #[default]
    Refuse,
    /// The call passes, whatever the device is.
    Forward,
}

/// `[[application]]` of `applications.toml`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApplicationDocument {
    #[schemars(with = "String")]
    pub(crate) id: Word,
    #[schemars(with = "String")]
    pub(crate) name: Word,
    #[schemars(schema_with = "list_or_all")]
    pub(crate) operations: Spanned<ListOrAll>,
    #[schemars(schema_with = "list_or_all")]
    pub(crate) device_groups: Spanned<ListOrAll>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) unscoped_operations: Vec<Word>,
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) tenants: Option<Spanned<Vec<Word>>>,
}

/// `unlisted` of `applications.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unlisted {
    /// An application without an entry may call nothing.
    #[default]
    Refuse,
    /// Its permissions alone decide, as in the service.
    Permission,
}

/// One name, or a list of them.
#[derive(Debug)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<Word>),
}

/// A list of names, or the word `"all"`.
#[derive(Debug)]
pub(crate) enum ListOrAll {
    All,
    List(Vec<Word>),
}

/// The schemas of this room's files.
pub(crate) fn schemas() -> Vec<FileSchema> {
    vec![
        Enforcement::schema(),
        FileSchema::new("operations.toml").entries::<OperationDocument>("operation"),
        FileSchema::new("roles.toml").entries::<RoleDocument>("role"),
        FileSchema::new("device-groups.toml")
            .value::<GroupSource>("source")
            .value::<UnknownDevice>("unknown_device")
            .value::<UnknownAction>("unknown_action")
            .value::<String>("max_age")
            .value::<StaleInventory>("stale_inventory")
            .value::<UngroupedDocument>("ungrouped")
            .entries::<DeviceGroupDocument>("device_group"),
        FileSchema::new("applications.toml")
            .value::<Unlisted>("unlisted")
            .entries::<ApplicationDocument>("application"),
    ]
}

// === impl ListOrAll ===

impl<'de> Deserialize<'de> for ListOrAll {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = ListOrAll;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names or the word \"all\"")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<ListOrAll, E> {
                if word == "all" {
                    return Ok(ListOrAll::All);
                }
                Err(E::invalid_value(serde::de::Unexpected::Str(word), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ListOrAll, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(ListOrAll::List(list))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

// === impl OneOrMany ===

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a list of names")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany::One(word.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMany, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(OneOrMany::Many(list))
            }
        }

        deserializer.deserialize_any(Either)
    }
}
