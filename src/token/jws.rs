//! The outside of a token: its three parts, and the header that says which key signed it (RFC 7515, compact form).

use std::borrow::Cow;

use base64::Engine;
// Its decoder refuses padding and unused bits that are set: each part has one spelling.
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::algorithm::Algorithm;
use super::error::Flaw;
use super::json::{Json, Object};

/// The longest token that is read, in bytes: Entra's are 1 to 2 KiB, 7 KiB with 200 groups, and what reads a
/// longer one does so before it knows whose it is.
pub(super) const MAX_TOKEN_BYTES: usize = 8 * 1_024;

/// A token taken apart.
pub(super) struct Jws<'a> {
    /// What the signature covers: the first two parts as they were sent, with their dot.
    pub(super) signed: &'a str,
    pub(super) header: Vec<u8>,
    pub(super) claims: Vec<u8>,
    pub(super) signature: Signature<'a>,
}

/// A signature that nobody has checked.
#[derive(Debug)]
pub(super) struct Signature<'a> {
    /// As it was sent, in base64url.
    pub(super) text: &'a str,
    pub(super) bytes: Vec<u8>,
}

/// What we need of a header; the rest of it was refused or does not matter.
pub(super) struct Header<'a> {
    /// How the token says that it is signed. The key has the last word.
    pub(super) algorithm: Algorithm,
    /// What the token says that it is; none if it does not say.
    pub(super) typ: Option<TokenType>,
    /// The key's name among the issuer's keys.
    pub(super) kid: Cow<'a, str>,
}

/// The types of token that are accepted (`typ`, without regard to case, with `application/` or without: RFC 7515,
/// section 4.1.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenType {
    /// `JWT`, which says nothing of its purpose (RFC 7519, section 5.1).
    Jwt,
    /// `at+jwt`: an access token, and no ID token or logout token (RFC 9068, section 2.1).
    AccessToken,
}

/// Parameters that would change what a token is: extensions that must be understood (RFC 7515, 4.1.11; RFC 7797),
/// encryption and compression (RFC 7516), and a token inside the token (RFC 7519, 5.2).
const REFUSED_PARAMETERS: [&str; 5] = ["crit", "b64", "enc", "zip", "cty"];

// === impl Jws ===

impl<'a> Jws<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, Flaw> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Flaw::TooLong);
        }
        let (signed, text) = token.rsplit_once('.').ok_or(Flaw::NotThreeParts)?;
        let (header, claims) = signed.split_once('.').ok_or(Flaw::NotThreeParts)?;
        if header.is_empty() || claims.is_empty() || claims.contains('.') || text.is_empty() {
            return Err(Flaw::NotThreeParts);
        }
        let decode = |text: &str, part| URL_SAFE_NO_PAD.decode(text).map_err(|_| Flaw::Encoding(part));
        let (header, claims) = (decode(header, "header")?, decode(claims, "claims part")?);
        let signature = Signature { text, bytes: decode(text, "signature")? };
        Ok(Self { signed, header, claims, signature })
    }
}

// === impl Header ===

impl<'a> Header<'a> {
    /// Reads the header. Keys that it carries or points to (`jwk`, `jku`, `x5c`, `x5u`) are never looked at.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Flaw> {
        let object = Object::parse(bytes).ok_or(Flaw::Json("header"))?;
        let algorithm = object.get("alg").and_then(Json::text).and_then(Algorithm::named);
        let algorithm = algorithm.ok_or(Flaw::Algorithm)?;
        if let Some(name) = REFUSED_PARAMETERS.into_iter().find(|name| object.get(name).is_some()) {
            return Err(Flaw::Parameter(name));
        }
        let typ = match object.get("typ") {
            None => None,
            Some(typ) => Some(typ.text().and_then(TokenType::named).ok_or(Flaw::Type)?),
        };
        match object.get("kid") {
            Some(Json::Text(kid)) if !kid.is_empty() => Ok(Self { algorithm, typ, kid: kid.clone() }),
            _ => Err(Flaw::KeyId),
        }
    }
}

// === impl TokenType ===

impl TokenType {
    pub(super) fn named(typ: &str) -> Option<Self> {
        let prefix = typ.get(..12).filter(|prefix| prefix.eq_ignore_ascii_case("application/"));
        let subtype = prefix.and_then(|prefix| typ.strip_prefix(prefix)).unwrap_or(typ);
        [Self::Jwt, Self::AccessToken].into_iter().find(|typ| subtype.eq_ignore_ascii_case(typ.as_str()))
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "JWT",
            Self::AccessToken => "at+jwt",
        }
    }
}

#[cfg(test)]
mod tests;
