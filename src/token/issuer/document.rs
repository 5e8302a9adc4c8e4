//! `issuers.toml` as it is written.

use serde::Deserialize;
use toml::Spanned;

/// A word with its place.
pub(super) type Word = Spanned<String>;

/// Words with their places.
pub(super) type Words = Spanned<Vec<Word>>;

/// One `[[issuer]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IssuerDocument {
    pub(super) name: Option<Word>,
    pub(super) cloud: Option<Word>,
    pub(super) issuer: Option<Word>,
    pub(super) tenants: Words,
    pub(super) audiences: Option<Words>,
    pub(super) keys: Option<Word>,
    pub(super) discovery: Option<Word>,
    pub(super) ca: Option<Word>,
    pub(super) algorithms: Option<Words>,
    pub(super) typ: Option<Word>,
    pub(super) claims: Option<Spanned<ClaimsDocument>>,
    pub(super) keep_keys: Option<Word>,
}

/// The member `claims`: what the issuer calls the claims that have these names in Entra's tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimsDocument {
    pub(super) appid: Word,
    pub(super) tid: Option<Word>,
    pub(super) oid: Option<Word>,
    pub(super) idtyp: Option<Word>,
    pub(super) roles: Option<Word>,
    pub(super) scp: Option<Word>,
    pub(super) groups: Option<Word>,
    pub(super) uti: Option<Word>,
}
