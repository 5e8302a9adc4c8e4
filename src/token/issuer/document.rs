//! `issuers.toml` as it is written.

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use crate::source::FileSchema;

/// A word with its place.
pub(super) type Word = Spanned<String>;

/// Words with their places.
pub(super) type Words = Spanned<Vec<Word>>;

/// One `[[issuer]]`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IssuerDocument {
    #[schemars(with = "Option<String>")]
    pub(super) name: Option<Word>,
    #[schemars(with = "Option<String>")]
    pub(super) cloud: Option<Word>,
    #[schemars(with = "Option<String>")]
    pub(super) issuer: Option<Word>,
    #[schemars(with = "Vec<String>")]
    pub(super) tenants: Words,
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) audiences: Option<Words>,
    #[schemars(with = "Option<String>")]
    pub(super) keys: Option<Word>,
    #[schemars(with = "Option<String>")]
    pub(super) discovery: Option<Word>,
    #[schemars(with = "Option<String>")]
    pub(super) ca: Option<Word>,
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) algorithms: Option<Words>,
    #[schemars(with = "Option<String>")]
    pub(super) typ: Option<Word>,
    #[schemars(with = "Option<ClaimsDocument>")]
    pub(super) claims: Option<Spanned<ClaimsDocument>>,
    #[schemars(with = "Option<String>")]
    pub(super) keep_keys: Option<Word>,
}

/// The member `claims`: what the issuer calls the claims that have these names in Entra's tokens.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimsDocument {
    #[schemars(with = "String")]
    pub(super) appid: Word,
    #[schemars(with = "Option<String>")]
    pub(super) tid: Option<Word>,
    #[schemars(with = "Option<String>")]
    pub(super) oid: Option<Word>,
    #[schemars(with = "Option<String>")]
    pub(super) idtyp: Option<Word>,
    #[schemars(with = "Option<String>")]
    pub(super) roles: Option<Word>,
    #[schemars(with = "Option<String>")]
    pub(super) scp: Option<Word>,
    #[schemars(with = "Option<String>")]
    pub(super) groups: Option<Word>,
    #[schemars(with = "Option<String>")]
    pub(super) uti: Option<Word>,
}

/// The schema of the file.
pub(crate) fn schema() -> FileSchema {
    FileSchema::new("issuers.toml")
        .value::<String>("clock_skew")
        .value::<String>("keep_keys")
        .value::<i64>("cache_entries")
        .value::<String>("cache_size")
        .value::<String>("cache_for")
        .entries::<IssuerDocument>("issuer")
}
