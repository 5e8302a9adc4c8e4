//! What it costs to see a token for the first time, beside what its signature alone costs.

#![expect(clippy::expect_used, clippy::panic, reason = "what can't be set up can't be measured")]

use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{BatchSize, Criterion};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde_json::json;
use tollgate::principal::Principal;
use tollgate::source::{PolicyFiles, Problems, SourceFile};
use tollgate::time::{Clock, Wall};
use tollgate::token::{BearerToken, Verifier};

const TENANT: &str = "f839b112-d9d7-4d27-9bf6-94542403f21c";
const AUDIENCE: &str = "https://api.securitycenter.microsoft.com";
const NOW: i64 = 1_800_000_000;

/// An RS256 token with a key of 2048 bits and the claims of an application token of Entra, about 1.3 KB.
struct Scenario {
    n: Vec<u8>,
    e: Vec<u8>,
    signed: String,
    signature: Vec<u8>,
}

impl Scenario {
    fn new() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let header = json!({
            "typ": "JWT", "alg": "RS256", "x5t": "nOo3ZDrODXEK1jKWhXslHR_KXEg", "kid": "nOo3ZDrODXEK1jKWhXslHR_KXEg",
        });
        let claims = json!({
            "aud": AUDIENCE, "iss": format!("https://sts.windows.net/{TENANT}/"), "iat": NOW - 300,
            "nbf": NOW - 300, "exp": NOW + 3_600, "aio": "E2ZgYFBXmRJ1yOhMSpZ9uT5jy9gEALAxkcnCBgA=",
            "app_displayname": "soar-playbooks", "appid": "1b730954-1685-4b74-9bfd-dac224a7b894", "appidacr": "1",
            "idp": format!("https://sts.windows.net/{TENANT}/"), "idtyp": "app",
            "oid": "c0ffee00-1111-4222-8333-444455556666",
            "rh": "0.AXkAErE5-NfZJ02b9pRUJAPyHGV0ePwXINRAoMUwcCJHG5J5AAA.",
            "roles": ["Machine.CollectForensics", "Machine.Isolate", "Machine.ReadWrite.All", "Alert.Read.All"],
            "sub": "c0ffee00-1111-4222-8333-444455556666", "tenant_region_scope": "EU", "tid": TENANT,
            "uti": "Zk2hxYd9s0mmcO1XlzEEAA", "ver": "1.0", "wids": ["0997a1d0-0d1d-4acb-b408-d5ca73121e90"],
            "xms_idrel": "7 26", "xms_rd": "0.42LlYBJi9BIS4WAXEvj",
        });
        let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .expect("a signature");
        let key = pair.public_key();
        Self {
            n: key.modulus().big_endian_without_leading_zero().to_vec(),
            e: key.exponent().big_endian_without_leading_zero().to_vec(),
            signed,
            signature,
        }
    }

    fn verifier(&self) -> Verifier {
        let (n, e) = (URL_SAFE_NO_PAD.encode(&self.n), URL_SAFE_NO_PAD.encode(&self.e));
        let keys = json!({"keys": [{"kty": "RSA", "kid": "nOo3ZDrODXEK1jKWhXslHR_KXEg", "n": n, "e": e}]});
        let issuers = format!(
            "[[issuer]]\nname = \"entra\"\nissuer = \"https://sts.windows.net/{{tid}}/\"\n\
             tenants = [\"{TENANT}\"]\naudiences = [\"{AUDIENCE}\"]\nkeys = \"keys.json\"\n"
        );
        let mut files = PolicyFiles::default();
        files.insert(SourceFile::new("issuers.toml", issuers));
        files.insert(SourceFile::new("keys.json", keys.to_string()));
        let mut problems = Problems::default();
        let verifier = Verifier::compile(&files, None, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        verifier
    }

    fn headers(&self) -> HeaderMap {
        let token = format!("Bearer {}.{}", self.signed, URL_SAFE_NO_PAD.encode(&self.signature));
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&token).expect("a header"))])
    }
}

/// The group `token`.
pub(crate) fn bench(c: &mut Criterion) {
    let scenario = Scenario::new();
    let (verifier, headers) = (scenario.verifier(), scenario.headers());
    let (clock, _) = Clock::manual(Wall::from_unix_seconds(NOW));
    let components = RsaPublicKeyComponents { n: &scenario.n, e: &scenario.e };
    let parsed = components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).expect("a key");
    let message = scenario.signed.as_bytes();

    let mut group = c.benchmark_group("token");
    // A new verifier each time: one that has seen the token would not verify it again.
    group.bench_function("first sight, RS256-2048, 1.3 KB", |b| {
        b.iter_batched_ref(
            || scenario.verifier(),
            |verifier| verify(verifier, &headers, &clock),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("seen before", |b| b.iter(|| verify(&verifier, &headers, &clock)));
    group.bench_function("aws-lc, the signature alone, key parsed each time", |b| {
        b.iter(|| components.verify(&RSA_PKCS1_2048_8192_SHA256, black_box(message), &scenario.signature));
    });
    group.bench_function("aws-lc, the signature alone, key parsed once", |b| {
        b.iter(|| parsed.verify_sig(black_box(message), &scenario.signature));
    });
    group.finish();
}

fn verify(verifier: &Verifier, headers: &HeaderMap, clock: &Clock) -> Arc<Principal> {
    let bearer = BearerToken::find(black_box(headers), None).expect("a token");
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(verdict) = pin!(verifier.verify(bearer, clock)).poll(&mut context) else {
        panic!("nothing to wait for")
    };
    verdict.expect("a good token")
}
