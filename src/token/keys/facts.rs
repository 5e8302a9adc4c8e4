//! Keys as sentences that can be compared with those of another set.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{KeySet, VerifyingKey};

impl KeySet {
    /// What each key comes to, whatever its set says beside that.
    pub(in crate::token) fn facts(&self) -> impl Iterator<Item = String> {
        self.by_name.values().flat_map(|named| {
            let keys = named.keys.iter().zip(&named.published).zip(1..);
            keys.map(|((key, published), place)| fact(named.name(), place, key, published))
        })
    }
}

/// Of two keys of one name and algorithm the first is used, so its place belongs to it.
fn fact(kid: &str, place: usize, key: &VerifyingKey, published: &str) -> String {
    let VerifyingKey { algorithm, issuer, .. } = key;
    let kid = kid.escape_debug();
    let place = if place > 1 { format!(", number {place} of that name") } else { String::new() };
    let of = issuer.as_ref().map(|issuer| format!(", of {}", issuer.as_str())).unwrap_or_default();
    format!(
        "signs by {algorithm} with the key `{kid}`{place}, whose thumbprint is {}{of}",
        thumbprint(published)
    )
}

/// The thumbprint of a key (RFC 7638, section 3): a digest of the members that make it one, in their order.
fn thumbprint(published: &str) -> String {
    let key: Map<String, Value> = serde_json::from_str(published).unwrap_or_default();
    let members = match key.get("kty").and_then(Value::as_str) {
        Some("RSA") => &["e", "kty", "n"][..],
        Some("EC") => &["crv", "kty", "x", "y"],
        Some(_) | None => &["crv", "kty", "x"],
    };
    let member = |name: &&str| Some(format!("\"{name}\":{}", key.get(*name)?));
    let members: Vec<_> = members.iter().filter_map(member).collect();
    URL_SAFE_NO_PAD.encode(digest(&SHA256, format!("{{{}}}", members.join(",")).as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_that_of_the_rfc_whatever_stands_beside_the_key() {
        // RFC 7638, section 3.1.
        let key = r#"{
            "kty": "RSA",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
            "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"
        }"#;
        assert_eq!(thumbprint(key), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
}
