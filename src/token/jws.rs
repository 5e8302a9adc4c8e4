//! The outside of a token: its three parts, and the header that says which key signed it (RFC 7515, compact form).

use std::borrow::Cow;

use base64::Engine;
// Its decoder refuses padding and unused bits that are set: each part has one spelling.
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

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
    /// As it was sent, but known to be base64url in its one spelling.
    pub(super) signature: &'a str,
}

/// What we need of a header; the rest of it was refused or does not matter.
pub(super) struct Header<'a> {
    /// The key's name among the issuer's keys.
    pub(super) kid: Cow<'a, str>,
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
        let (signed, signature) = token.rsplit_once('.').ok_or(Flaw::NotThreeParts)?;
        let (header, claims) = signed.split_once('.').ok_or(Flaw::NotThreeParts)?;
        if header.is_empty() || claims.is_empty() || claims.contains('.') || signature.is_empty() {
            return Err(Flaw::NotThreeParts);
        }
        let decode = |text: &str, part| URL_SAFE_NO_PAD.decode(text).map_err(|_| Flaw::Encoding(part));
        let (header, claims) = (decode(header, "header")?, decode(claims, "claims part")?);
        decode(signature, "signature")?;
        Ok(Self { signed, header, claims, signature })
    }
}

// === impl Header ===

impl<'a> Header<'a> {
    /// Reads the header. Keys that it carries or points to (`jwk`, `jku`, `x5c`, `x5u`) are never looked at.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Flaw> {
        let object = Object::parse(bytes).ok_or(Flaw::Json("header"))?;
        if object.get("alg") != Some(&Json::Text("RS256".into())) {
            return Err(Flaw::Algorithm);
        }
        if let Some(name) = REFUSED_PARAMETERS.into_iter().find(|name| object.get(name).is_some()) {
            return Err(Flaw::Parameter(name));
        }
        match object.get("typ") {
            None => {}
            Some(Json::Text(typ))
                if typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("at+jwt") => {}
            Some(_) => return Err(Flaw::Type),
        }
        match object.get("kid") {
            Some(Json::Text(kid)) if !kid.is_empty() => Ok(Self { kid: kid.clone() }),
            _ => Err(Flaw::KeyId),
        }
    }
}

#[cfg(test)]
mod tests;
