//! The keys that an issuer published (RFC 7517), those of them that can verify a token's signature.

mod facts;
mod jwk;

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::signature::ParsedPublicKey;
use jsonwebtoken::{DecodingKey, crypto};
use serde::Deserialize;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::algorithm::Algorithm;
use super::error::Flaw;
use super::jws::Signature;
use super::template::Template;
use crate::id::TenantId;

use jwk::KeyDocument;
pub(super) use jwk::UnusableKey;

/// Keys by their `kid`.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    by_name: HashMap<Box<str>, Arc<NamedKeys>>,
}

/// The keys of one `kid`: mostly one, but Entra publishes one `kid` for several issuers.
#[derive(Debug, Default)]
pub(super) struct NamedKeys {
    name: Box<str>,
    keys: SmallVec<[VerifyingKey; 1]>,
    /// Each as it was published.
    published: SmallVec<[Box<str>; 1]>,
}

/// One key with the algorithm that it is for.
#[derive(Debug)]
pub(super) struct VerifyingKey {
    key: PublicKey,
    algorithm: Algorithm,
    /// Whose key it is, if the set says so (Entra's common sets do).
    issuer: Option<Template>,
}

/// What a signature is checked with.
#[derive(Debug)]
enum PublicKey {
    /// RSA, ready for use: the library would take it apart anew for each token, a tenth of what a check costs.
    Rsa(ParsedPublicKey),
    /// A point of a curve, as the library takes it.
    Point(DecodingKey),
}

/// A document that gives no key.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidKeys {
    #[error("not a JSON web key set: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("it holds {0} keys, where {MAX_KEYS} are taken")]
    TooMany(usize),
    /// With each key that is there, and why it is of no use.
    #[error("no key that verifies signatures{}", list(.0))]
    NoUsableKey(Vec<(Option<String>, UnusableKey)>),
}

#[derive(Deserialize)]
struct KeySetDocument<'a> {
    /// Each read by itself: a key of a kind that we don't know must not hide the others.
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// The name of a key that is otherwise of no use.
#[derive(Deserialize)]
struct KeyName {
    kid: Option<String>,
}

/// The most keys of a set: Microsoft asks for room for 10 to 1000 (*Signing key rollover*).
const MAX_KEYS: usize = 1_000;

// === impl InvalidKeys ===

impl InvalidKeys {
    /// The line of the mistake, from 1, if it is one of syntax.
    pub(super) fn line(&self) -> Option<usize> {
        match self {
            Self::NotJson(error) => Some(error.line().max(1)),
            Self::TooMany(_) | Self::NoUsableKey(_) => None,
        }
    }
}

// === impl KeySet ===

impl KeySet {
    /// Reads a key set and leaves out the keys that are not for us.
    pub(super) fn parse(text: &[u8]) -> Result<Self, InvalidKeys> {
        let document: KeySetDocument<'_> = serde_json::from_slice(text)?;
        if document.keys.len() > MAX_KEYS {
            return Err(InvalidKeys::TooMany(document.keys.len()));
        }
        let mut named: HashMap<String, NamedKeys> = HashMap::new();
        let mut unusable = Vec::new();
        for key in document.keys {
            let kid = serde_json::from_str(key.get()).ok().and_then(|KeyName { kid }| kid);
            let read = serde_json::from_str::<KeyDocument>(key.get()).map_err(|_| UnusableKey::Malformed);
            match read.and_then(VerifyingKey::try_from) {
                Ok(verifying) => {
                    let named = named.entry(kid.unwrap_or_default()).or_default();
                    named.keys.push(verifying);
                    named.published.push(key.get().into());
                }
                Err(error) => unusable.push((kid, error)),
            }
        }
        if named.is_empty() {
            return Err(InvalidKeys::NoUsableKey(unusable));
        }
        let named = named.into_iter().map(|(name, keys)| {
            let name: Box<str> = name.into();
            (name.clone(), Arc::new(NamedKeys { name, ..keys }))
        });
        Ok(Self { by_name: named.collect() })
    }

    /// Keeps of `before` whatever is still published.
    pub(super) fn keep(&mut self, before: &Self) {
        for (name, keys) in &mut self.by_name {
            if let Some(same) = before.by_name.get(name).filter(|before| before.published == keys.published) {
                *keys = same.clone();
            }
        }
    }

    /// The keys of this name.
    pub(super) fn named(&self, kid: &str) -> Option<&Arc<NamedKeys>> {
        self.by_name.get(kid)
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.by_name.values().map(|named| named.keys.len()).sum()
    }

    /// Whether there is none, as before the first fetch.
    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

impl PartialEq for KeySet {
    /// The same keys, whatever else was published beside them.
    fn eq(&self, other: &Self) -> bool {
        self.by_name == other.by_name
    }
}

// === impl NamedKeys ===

impl NamedKeys {
    /// The `kid`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The key that is `issuer`'s and signs by this algorithm. The algorithm of the token chooses between two keys at
    /// most; it never says how one is used.
    pub(super) fn find(
        &self,
        algorithm: Algorithm,
        issuer: &str,
        tenant: TenantId,
    ) -> Result<&VerifyingKey, Flaw> {
        let mut ours = self.keys.iter().filter(|key| key.belongs_to(issuer, tenant)).peekable();
        ours.peek().ok_or(Flaw::KeyOfAnother)?;
        ours.find(|key| key.algorithm == algorithm).ok_or(Flaw::AlgorithmOfAnotherKey)
    }
}

impl PartialEq for NamedKeys {
    /// The same keys were published, to the letter.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.published == other.published
    }
}

/// At most so many keys are named in an error, so that it stays one readable line.
const LISTED_KEYS: usize = 5;

fn list(unusable: &[(Option<String>, UnusableKey)]) -> String {
    let name = |kid: &Option<String>| {
        kid.as_deref().unwrap_or("?").chars().take(40).flat_map(char::escape_debug).collect::<String>()
    };
    unusable.iter().take(LISTED_KEYS).map(|(kid, error)| format!(", key `{}`: {error}", name(kid))).collect()
}

// === impl VerifyingKey ===

impl VerifyingKey {
    /// Checks that `signature` is this key's over `signed`.
    pub(super) fn verify(&self, signed: &str, signature: &Signature<'_>) -> Result<(), Flaw> {
        let signed = signed.as_bytes();
        let verified = match &self.key {
            PublicKey::Rsa(key) => key.verify_sig(signed, &signature.bytes).is_ok(),
            PublicKey::Point(key) => {
                crypto::verify(signature.text, signed, key, self.algorithm.library()).unwrap_or(false)
            }
        };
        if verified { Ok(()) } else { Err(Flaw::Signature) }
    }

    fn belongs_to(&self, issuer: &str, tenant: TenantId) -> bool {
        self.issuer.as_ref().is_none_or(|template| template.of(tenant) == issuer)
    }
}

#[cfg(test)]
mod tests;
