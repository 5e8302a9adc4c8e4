//! A forge for the tests of this room: keys, and tokens of any shape signed with them.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};

use super::algorithm::Algorithm;
use super::cloud::Cloud;
use super::{BearerToken, TokenError, Verifier, issuer};
use crate::principal::Principal;
use crate::source::{PolicyFiles, Problem, Problems, SourceFile};
use crate::time::{Clock, Wall};

pub(super) const NOW: i64 = 1_800_000_000;
pub(super) const TENANT: &str = "11111111-1111-4111-8111-111111111111";
pub(super) const OTHER_TENANT: &str = "22222222-2222-4222-8222-222222222222";
pub(super) const APPLICATION: &str = "33333333-3333-4333-8333-333333333333";
pub(super) const USER: &str = "44444444-4444-4444-8444-444444444444";
pub(super) const GROUP: &str = "55555555-5555-4555-8555-555555555555";
pub(super) const AUDIENCE: &str = "https://api.securitycenter.microsoft.com";

/// The key that the issuers of the tests publish as `one`.
pub(super) static SIGNER: LazyLock<Signer> = LazyLock::new(Signer::generate);
/// A key that nobody published.
pub(super) static STRANGER: LazyLock<Signer> = LazyLock::new(Signer::generate);

/// A key, and how it signs.
pub(super) struct Signer {
    key: SigningKey,
    algorithm: Algorithm,
}

#[derive(Clone)]
enum SigningKey {
    Rsa(Arc<KeyPair>),
    Ec(Arc<EcdsaKeyPair>),
    Edwards(Arc<Ed25519KeyPair>),
}

impl Signer {
    fn generate() -> Self {
        Self::of(Algorithm::Rs256)
    }

    /// A new key for an algorithm.
    pub(super) fn of(algorithm: Algorithm) -> Self {
        use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        let ec = |curve| SigningKey::Ec(Arc::new(EcdsaKeyPair::generate(curve).unwrap()));
        let key = match algorithm {
            Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512 => {
                SigningKey::Rsa(Arc::new(KeyPair::generate(KeySize::Rsa2048).unwrap()))
            }
            Es256 => ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Es384 => ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            EdDsa => SigningKey::Edwards(Arc::new(Ed25519KeyPair::generate().unwrap())),
        };
        Self { key, algorithm }
    }

    /// The same RSA key for another algorithm.
    pub(super) fn signing_by(&self, algorithm: Algorithm) -> Self {
        Self { key: self.key.clone(), algorithm }
    }

    /// The public key as a JSON web key of this name, without `alg`.
    pub(super) fn jwk(&self, kid: &str) -> Value {
        match &self.key {
            SigningKey::Rsa(key) => {
                let (n, e) = (key.public_key().modulus(), key.public_key().exponent());
                json!({
                    "kty": "RSA", "use": "sig", "kid": kid,
                    "n": encode(n.big_endian_without_leading_zero()),
                    "e": encode(e.big_endian_without_leading_zero()),
                })
            }
            SigningKey::Ec(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(key.public_key().as_ref().len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "use": "sig", "kid": kid, "crv": curve, "x": encode(x), "y": encode(y)})
            }
            SigningKey::Edwards(key) => {
                let x = encode(key.public_key().as_ref());
                json!({"kty": "OKP", "use": "sig", "kid": kid, "crv": "Ed25519", "x": x})
            }
        }
    }

    /// The same with its `alg`.
    pub(super) fn jwk_with_alg(&self, kid: &str) -> Value {
        with(self.jwk(kid), "alg", json!(self.algorithm.as_str()))
    }

    /// A token of exactly this text, signed as it is.
    pub(super) fn sign_text(&self, header: &str, claims: &str) -> String {
        self.sign_encoded(&format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes())))
    }

    /// `signed` with its signature behind a dot, whatever it is.
    pub(super) fn sign_encoded(&self, signed: &str) -> String {
        let random = SystemRandom::new();
        let signature = match &self.key {
            SigningKey::Rsa(key) => {
                let encoding: &dyn RsaEncoding = match self.algorithm {
                    Algorithm::Rs384 => &RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &RSA_PSS_SHA256,
                    Algorithm::Ps384 => &RSA_PSS_SHA384,
                    Algorithm::Ps512 => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(encoding, &random, signed.as_bytes(), &mut signature).unwrap();
                signature
            }
            SigningKey::Ec(key) => key.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
            SigningKey::Edwards(key) => key.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", encode(&signature))
    }

    /// An ordinary token by the key named `one`.
    pub(super) fn sign(&self, claims: &Value) -> String {
        let header = with(header(), "alg", json!(self.algorithm.as_str()));
        self.sign_text(&header.to_string(), &claims.to_string())
    }
}

pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn header() -> Value {
    json!({"alg": "RS256", "typ": "JWT", "kid": "one"})
}

/// The claims of an application, as Entra's v1 endpoint gives them.
pub(super) fn application() -> Value {
    json!({
        "ver": "1.0", "iss": format!("https://sts.windows.net/{TENANT}/"), "tid": TENANT, "aud": AUDIENCE,
        "iat": NOW - 300, "nbf": NOW - 300, "exp": NOW + 3_600, "appid": APPLICATION, "oid": USER, "uti": "abc",
        "roles": ["Machine.CollectForensics", "Machine.Isolate"],
    })
}

/// The claims of a user, as Entra's v2 endpoint gives them.
pub(super) fn user() -> Value {
    json!({
        "ver": "2.0", "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"), "tid": TENANT,
        "aud": AUDIENCE, "nbf": NOW - 300, "exp": NOW + 3_600, "azp": APPLICATION, "oid": USER,
        "scp": "Machine.CollectForensics Machine.Read", "groups": [GROUP],
    })
}

/// The object with one member more, or another value for it; without it for `null`.
pub(super) fn with(mut object: Value, name: &str, value: Value) -> Value {
    let members = object.as_object_mut().unwrap();
    members.remove(name);
    if !value.is_null() {
        members.insert(name.to_owned(), value);
    }
    object
}

/// Two issuers of one tenant, v1 and v2, whose keys are in `keys.json`.
pub(super) fn issuers() -> String {
    let entry = |name: &str, issuer: &str| {
        format!(
            "[[issuer]]\nname = \"{name}\"\nissuer = \"{issuer}\"\ntenants = [\"{TENANT}\"]\n\
             audiences = [\"{AUDIENCE}\"]\nkeys = \"keys.json\"\n\n"
        )
    };
    entry("v1", "https://sts.windows.net/{tid}/")
        + &entry("v2", "https://login.microsoftonline.com/{tid}/v2.0")
}

pub(super) fn files(issuers: &str, keys: &[Value]) -> PolicyFiles {
    let mut files = PolicyFiles::default();
    files.insert(SourceFile::new("issuers.toml", issuers));
    files.insert(SourceFile::new("keys.json", json!({ "keys": keys }).to_string()));
    files
}

/// Compiles what must be right.
pub(super) fn verifier(files: &PolicyFiles, previous: Option<&Verifier>) -> Arc<Verifier> {
    let mut problems = Problems::default();
    let verifier = Verifier::compile(files, previous, &mut problems);
    assert_eq!(problems.into_sorted(), []);
    Arc::new(verifier)
}

/// Compiles what must be right, in a world of these clouds.
pub(super) fn verifier_in(clouds: &'static [Cloud], files: &PolicyFiles) -> Arc<Verifier> {
    let mut problems = Problems::default();
    let verifier = issuer::compile_in(clouds, files, None, &mut problems);
    assert_eq!(problems.into_sorted(), []);
    Arc::new(verifier)
}

/// Compiles what must be wrong.
pub(super) fn problems(files: &PolicyFiles) -> Vec<String> {
    let mut problems = Problems::default();
    Verifier::compile(files, None, &mut problems);
    problems.into_sorted().iter().map(Problem::to_string).collect()
}

/// The verifier of [`issuers`].
pub(super) fn ours() -> Arc<Verifier> {
    verifier(&files(&issuers(), &[SIGNER.jwk("one")]), None)
}

/// Sends `token` to `verifier` at [`NOW`], as the line does.
pub(super) fn verify(verifier: &Verifier, token: &str) -> Result<Arc<Principal>, TokenError> {
    verify_at(verifier, token, NOW)
}

/// The headers of a request that brings `token`.
pub(super) fn headers(token: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    HeaderMap::from_iter([(header::AUTHORIZATION, value)])
}

pub(super) fn verify_at(verifier: &Verifier, token: &str, now: i64) -> Result<Arc<Principal>, TokenError> {
    let headers = headers(token);
    let bearer = BearerToken::find(&headers, None).unwrap();
    let (clock, _) = Clock::manual(Wall::from_unix_seconds(now));
    if let Some(verdict) = verifier.known(bearer, &clock) {
        return verdict;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(verifier.verify(bearer, &clock))
}
