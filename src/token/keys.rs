//! The keys that an issuer published (RFC 7517), those of them that can verify a token's signature.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::Deserialize;
use smallvec::SmallVec;

use super::error::Flaw;
use super::template::Template;
use crate::id::TenantId;

/// Keys by their `kid`. Entra publishes one `kid` for several issuers, so a name may have several keys.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    by_name: HashMap<Box<str>, SmallVec<[VerifyingKey; 1]>>,
    /// The keys as they were published, of no use ones too, in an order that does not depend on the issuer's.
    published: Vec<String>,
}

/// One key with the algorithm that it is for.
#[derive(Debug)]
pub(super) struct VerifyingKey {
    key: DecodingKey,
    algorithm: Algorithm,
    /// Whose key it is, if the set says so (Entra's common sets do).
    issuer: Option<Template>,
}

/// A document that gives no key.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidKeys {
    #[error("not a JSON web key set: {0}")]
    NotJson(#[from] serde_json::Error),
    /// With each key that is there, and why it is of no use.
    #[error("no key that verifies RS256{}", list(.0))]
    NoUsableKey(Vec<(Option<String>, UnusableKey)>),
}

/// Why a key is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnusableKey {
    #[error("it is not a key of JSON web key's form")]
    Malformed,
    #[error("its `kty` is not RSA")]
    NotRsa,
    #[error("it has no `kid`")]
    NoKeyId,
    #[error("its `use` is not `sig`")]
    NotForSignatures,
    #[error("its `key_ops` lack `verify`")]
    NotForVerification,
    #[error("its `alg` is not RS256")]
    OtherAlgorithm,
    #[error("its modulus has {0} bits, where 2048 to 8192 are taken")]
    Size(usize),
    #[error("its exponent is not an odd number from 3 to 4294967295")]
    Exponent,
}

#[derive(Deserialize)]
struct KeySetDocument {
    /// Each read by itself: a key of a kind that we don't know must not hide the others.
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct KeyDocument {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
    issuer: Option<String>,
}

// === impl InvalidKeys ===

impl InvalidKeys {
    /// The line of the mistake, from 1, if it is one of syntax.
    pub(super) fn line(&self) -> Option<usize> {
        match self {
            Self::NotJson(error) => Some(error.line().max(1)),
            Self::NoUsableKey(_) => None,
        }
    }
}

// === impl KeySet ===

impl KeySet {
    /// Reads a key set and leaves out the keys that are not for us.
    pub(super) fn parse(text: &[u8]) -> Result<Self, InvalidKeys> {
        let document: KeySetDocument = serde_json::from_slice(text)?;
        let mut published: Vec<_> = document.keys.iter().map(serde_json::Value::to_string).collect();
        published.sort_unstable();
        let mut keys = Self { published, ..Self::default() };
        let mut unusable = Vec::new();
        for value in document.keys {
            let kid = value.get("kid").and_then(|kid| kid.as_str()).map(str::to_owned);
            let read = KeyDocument::deserialize(value).map_err(|_| UnusableKey::Malformed);
            match read.and_then(VerifyingKey::try_from) {
                Ok(key) => keys.by_name.entry(kid.unwrap_or_default().into()).or_default().push(key),
                Err(error) => unusable.push((kid, error)),
            }
        }
        if keys.by_name.is_empty() { Err(InvalidKeys::NoUsableKey(unusable)) } else { Ok(keys) }
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.by_name.values().map(SmallVec::len).sum()
    }

    /// Whether there is none, as before the first fetch.
    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The key of this name that is `issuer`'s.
    pub(super) fn find(&self, kid: &str, issuer: &str, tenant: TenantId) -> Result<&VerifyingKey, Flaw> {
        let keys = self.by_name.get(kid).ok_or(Flaw::UnknownKey)?;
        keys.iter().find(|key| key.belongs_to(issuer, tenant)).ok_or(Flaw::KeyOfAnother)
    }
}

impl PartialEq for KeySet {
    /// The same keys were published, to the letter.
    fn eq(&self, other: &Self) -> bool {
        self.published == other.published
    }
}

/// At most so many keys are named in an error, so that it stays one readable line.
const LISTED_KEYS: usize = 5;

fn list(unusable: &[(Option<String>, UnusableKey)]) -> String {
    let name = |kid: &Option<String>| kid.as_deref().unwrap_or("?").chars().take(40).collect::<String>();
    unusable.iter().take(LISTED_KEYS).map(|(kid, error)| format!(", key `{}`: {error}", name(kid))).collect()
}

// === impl VerifyingKey ===

impl VerifyingKey {
    /// Checks that `signature` is this key's over `signed`.
    pub(super) fn verify(&self, signed: &str, signature: &str) -> Result<(), Flaw> {
        match crypto::verify(signature, signed.as_bytes(), &self.key, self.algorithm) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Flaw::Signature),
        }
    }

    fn belongs_to(&self, issuer: &str, tenant: TenantId) -> bool {
        self.issuer.as_ref().is_none_or(|template| template.of(tenant) == issuer)
    }
}

impl TryFrom<KeyDocument> for VerifyingKey {
    type Error = UnusableKey;

    fn try_from(document: KeyDocument) -> Result<Self, UnusableKey> {
        if document.kty != "RSA" {
            return Err(UnusableKey::NotRsa);
        }
        if document.kid.is_none_or(|kid| kid.is_empty()) {
            return Err(UnusableKey::NoKeyId);
        }
        if document.usage.is_some_and(|usage| usage != "sig") {
            return Err(UnusableKey::NotForSignatures);
        }
        if document.key_ops.is_some_and(|operations| !operations.iter().any(|word| word == "verify")) {
            return Err(UnusableKey::NotForVerification);
        }
        if document.alg.is_some_and(|alg| alg != "RS256") {
            return Err(UnusableKey::OtherAlgorithm);
        }
        let n = number(document.n)?;
        let e = number(document.e)?;
        let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
        if !(2_048..=8_192).contains(&bits) {
            return Err(UnusableKey::Size(bits));
        }
        // With an exponent of 1 every message is its own signature; aws-lc takes no more than 33 bits.
        if e.len() > 4 || e == [1] || e.last().is_none_or(|byte| byte % 2 == 0) {
            return Err(UnusableKey::Exponent);
        }
        let key = DecodingKey::from_rsa_raw_components(&n, &e);
        Ok(Self { key, algorithm: Algorithm::RS256, issuer: document.issuer.as_deref().map(Template::new) })
    }
}

/// A positive number in `Base64urlUInt` (RFC 7518, section 2): big-endian, without leading zeros.
fn number(text: Option<String>) -> Result<Vec<u8>, UnusableKey> {
    let bytes = text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or(UnusableKey::Malformed)?;
    if bytes.first().is_none_or(|byte| *byte == 0) { Err(UnusableKey::Malformed) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests;
