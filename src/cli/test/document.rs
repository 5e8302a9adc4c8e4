//! The files in `tests/` of a policy folder as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::{Spanned, Table, Value};

use crate::source::{FileSchema, table, table_or_text};

/// A word and its place.
pub(super) type Word = Spanned<String>;

/// `[[device]]`: a device that is there for the cases. If a suite has any, they stand in the place of the inventory.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceDocument {
    #[schemars(with = "String")]
    pub(super) id: Word,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) domain: String,
    #[serde(default)]
    pub(super) os_platform: String,
    #[serde(default)]
    pub(super) tags: Vec<String>,
    #[serde(default)]
    pub(super) entra_id: String,
    /// What the API would report, for a set that leaves groups to the inventory.
    pub(super) group: Option<String>,
}

/// `[[caller]]`: who calls, by the claims of the token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CallerDocument {
    #[schemars(with = "String")]
    pub(super) name: Word,
    /// A name of `applications.toml`, or the id of an application.
    #[schemars(with = "String")]
    pub(super) application: Word,
    /// The object id of a user who comes through the application.
    #[schemars(with = "Option<String>")]
    pub(super) user: Option<Word>,
    /// `scp` of a user's token, `roles` of an application's.
    pub(super) permissions: Vec<String>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) groups: Vec<Word>,
    /// More groups than the token could carry.
    #[serde(default)]
    pub(super) group_overage: bool,
    /// A name of `issuers.toml`; left out, the first.
    #[schemars(with = "Option<String>")]
    pub(super) issuer: Option<Word>,
    /// One of the issuer's tenants; left out, the first.
    #[schemars(with = "Option<String>")]
    pub(super) tenant: Option<Word>,
    /// Further claims, or other values for those that the above makes.
    #[serde(default)]
    #[schemars(schema_with = "table")]
    pub(super) claims: Table,
}

/// `[[case]]`: a call and what must become of it, or several in a row.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseDocument {
    #[schemars(with = "String")]
    pub(super) name: Word,
    /// When it begins, as RFC 3339 writes it.
    #[schemars(with = "Option<String>")]
    pub(super) begins: Option<Word>,
    /// How old the inventory is when it begins, as `max_age` counts it; left out, its files say it.
    #[schemars(with = "Option<String>")]
    pub(super) inventory_age: Option<Word>,
    /// Actions that were started through the gateway before: their ids, and each one's device.
    #[serde(default)]
    pub(super) actions: BTreeMap<String, String>,
    #[serde(default)]
    #[schemars(with = "Vec<StepDocument>")]
    pub(super) steps: Vec<Spanned<StepDocument>>,
    // What follows is the only step, or what the steps have in common.
    #[schemars(with = "Option<String>")]
    pub(super) caller: Option<Word>,
    #[schemars(with = "Option<String>")]
    pub(super) call: Option<Word>,
    #[schemars(schema_with = "table_or_text")]
    #[serde(default)]
    pub(super) body: Option<Value>,
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub(super) headers: Option<BTreeMap<String, Word>>,
    #[schemars(with = "Option<String>")]
    pub(super) address: Option<Word>,
    #[schemars(with = "Option<String>")]
    pub(super) expect: Option<Word>,
    #[schemars(with = "Option<String>")]
    pub(super) if_enforced: Option<Word>,
    #[schemars(with = "Option<String>")]
    pub(super) operation: Option<Word>,
    pub(super) left: Option<BTreeMap<String, u32>>,
    pub(super) retry_after: Option<u64>,
    #[schemars(with = "Option<String>")]
    pub(super) held: Option<Word>,
}

/// One of `steps`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StepDocument {
    /// How long after the beginning of the case.
    #[schemars(with = "Option<String>")]
    pub(super) at: Option<Word>,
    /// How many times the call is made.
    #[schemars(with = "Option<u32>")]
    pub(super) repeat: Option<Spanned<u32>>,
    /// Which token each of these times brings.
    #[serde(default)]
    pub(super) tokens: Tokens,
    #[schemars(with = "Option<String>")]
    pub(super) caller: Option<Word>,
    #[schemars(with = "Option<String>")]
    pub(super) call: Option<Word>,
    #[schemars(schema_with = "table_or_text")]
    #[serde(default)]
    pub(super) body: Option<Value>,
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub(super) headers: Option<BTreeMap<String, Word>>,
    #[schemars(with = "Option<String>")]
    pub(super) address: Option<Word>,
    /// `admitted`, or the reason of the refusal.
    #[schemars(with = "String")]
    pub(super) expect: Word,
    /// The same if everything were enforced.
    #[schemars(with = "Option<String>")]
    pub(super) if_enforced: Option<Word>,
    /// The operation that the call is.
    #[schemars(with = "Option<String>")]
    pub(super) operation: Option<Word>,
    /// How many more of each limit and window would be admitted, by the names of `RateLimit`.
    pub(super) left: Option<BTreeMap<String, u32>>,
    /// What `Retry-After` says, in seconds.
    pub(super) retry_after: Option<u64>,
    /// How long it waits for room before that.
    #[schemars(with = "Option<String>")]
    pub(super) held: Option<Word>,
}

/// `tokens` of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Tokens {
    /// The same one, as a script does.
    #[default]
    Same,
    /// Each a new one, as whoever tries tokens does.
    New,
}

/// The schema of the files.
pub(in crate::cli) fn schema() -> FileSchema {
    FileSchema::new("tests/*.toml")
        .entries::<DeviceDocument>("device")
        .entries::<CallerDocument>("caller")
        .entries::<CaseDocument>("case")
}
