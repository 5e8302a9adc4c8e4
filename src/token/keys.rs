//! The keys that an issuer published (RFC 7517), those of them that can verify a token's signature.

mod jwk;

use std::collections::HashMap;

use aws_lc_rs::signature::ParsedPublicKey;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, crypto};
use serde::Deserialize;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::algorithm::Algorithm;
use super::error::Flaw;
use super::template::Template;
use crate::id::TenantId;

use jwk::KeyDocument;
pub(super) use jwk::UnusableKey;

/// Keys by their `kid`. Entra publishes one `kid` for several issuers, so a name may have several keys.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    by_name: HashMap<Box<str>, SmallVec<[VerifyingKey; 1]>>,
    /// The keys as they were published, of no use ones too, in an order that does not depend on the issuer's.
    published: Vec<Box<str>>,
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
        let mut published: Vec<Box<str>> = document.keys.iter().map(|key| key.get().into()).collect();
        published.sort_unstable();
        let mut keys = Self { published, ..Self::default() };
        let mut unusable = Vec::new();
        for key in document.keys {
            let kid = serde_json::from_str(key.get()).ok().and_then(|KeyName { kid }| kid);
            let read = serde_json::from_str::<KeyDocument>(key.get()).map_err(|_| UnusableKey::Malformed);
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

    /// The key of this name that is `issuer`'s and signs by this algorithm. The algorithm of the token chooses between
    /// two keys at most; it never says how one is used.
    pub(super) fn find(
        &self,
        kid: &str,
        algorithm: Algorithm,
        issuer: &str,
        tenant: TenantId,
    ) -> Result<&VerifyingKey, Flaw> {
        let named = self.by_name.get(kid).ok_or(Flaw::UnknownKey)?;
        let mut ours = named.iter().filter(|key| key.belongs_to(issuer, tenant)).peekable();
        ours.peek().ok_or(Flaw::KeyOfAnother)?;
        ours.find(|key| key.algorithm == algorithm).ok_or(Flaw::AlgorithmOfAnotherKey)
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
    let name = |kid: &Option<String>| {
        kid.as_deref().unwrap_or("?").chars().take(40).flat_map(char::escape_debug).collect::<String>()
    };
    unusable.iter().take(LISTED_KEYS).map(|(kid, error)| format!(", key `{}`: {error}", name(kid))).collect()
}

// === impl VerifyingKey ===

impl VerifyingKey {
    /// Checks that `signature` is this key's over `signed`.
    pub(super) fn verify(&self, signed: &str, signature: &str) -> Result<(), Flaw> {
        let signed = signed.as_bytes();
        let verified = match &self.key {
            PublicKey::Rsa(key) => {
                let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Flaw::Signature)?;
                key.verify_sig(signed, &signature).is_ok()
            }
            PublicKey::Point(key) => {
                crypto::verify(signature, signed, key, self.algorithm.library()).unwrap_or(false)
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
