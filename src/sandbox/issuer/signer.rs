//! The key, and signatures by it.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// An RSA key that could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot make an RSA key: the random numbers of the operating system failed")]
pub struct SignerError;

/// An RSA key of 2048 bits, named by its thumbprint.
#[derive(Debug)]
pub(crate) struct Signer {
    key: KeyPair,
    random: SystemRandom,
    id: String,
    modulus: String,
    exponent: String,
}

// === impl Signer ===

impl Signer {
    /// Makes a key: some tenths of a second.
    pub(crate) fn generate() -> Result<Self, SignerError> {
        let key = KeyPair::generate(KeySize::Rsa2048).map_err(|_| SignerError)?;
        let public = key.public_key();
        let modulus = URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero());
        let exponent = URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero());
        // RFC 7638: the required members, sorted by name, without spaces.
        let thumbprint = format!(r#"{{"e":"{exponent}","kty":"RSA","n":"{modulus}"}}"#);
        let id = URL_SAFE_NO_PAD.encode(digest(&SHA256, thumbprint.as_bytes()));
        Ok(Self { key, random: SystemRandom::new(), id, modulus, exponent })
    }

    /// The public key as a JWK that signs the tokens of `issuer`.
    pub(crate) fn jwk(&self, issuer: &str) -> Value {
        json!({
            "kty": "RSA",
            "use": "sig",
            "kid": self.id,
            "x5t": self.id,
            "n": self.modulus,
            "e": self.exponent,
            "issuer": issuer,
        })
    }

    /// A compact JWS with an RS256 signature.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = json!({ "typ": "JWT", "alg": "RS256", "x5t": self.id, "kid": self.id });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(&header), encode(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        #[expect(clippy::expect_used, reason = "fails only if the buffer is not of the key's own length")]
        self.key
            .sign(&RSA_PKCS1_SHA256, &self.random, message.as_bytes(), &mut signature)
            .expect("a signature fits its key");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
