//! What it costs to see a token for the first time, beside what its signature alone costs, and to see it again.

#![expect(clippy::expect_used, clippy::panic, reason = "what can't be set up can't be measured")]

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::{available_parallelism, scope};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::Criterion;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde_json::json;
use tollgate::principal::Principal;
use tollgate::source::{PolicyFiles, Problems, SourceFile};
use tollgate::time::Clock;
use tollgate::token::{BearerToken, TokenError, Verifier};

const TENANT: &str = "f839b112-d9d7-4d27-9bf6-94542403f21c";
const AUDIENCE: &str = "https://api.securitycenter.microsoft.com";

/// As many as are verified before a new verifier is made: signing them takes a fifth of a second.
const NEW_TOKENS: usize = 256;

/// An issuer with a key of 2048 bits, and RS256 tokens of it with the claims of an application token of Entra, about
/// 1.3 KB each. All are valid now and for an hour.
struct Scenario {
    pair: KeyPair,
    n: Vec<u8>,
    e: Vec<u8>,
    now: i64,
}

/// What a signature is over, and the signature.
struct Signed {
    message: String,
    signature: Vec<u8>,
}

impl Scenario {
    fn new() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let key = pair.public_key();
        let n = key.modulus().big_endian_without_leading_zero().to_vec();
        let e = key.exponent().big_endian_without_leading_zero().to_vec();
        Self { pair, n, e, now: Clock::System.wall().unix_seconds() }
    }

    /// The token of this number, for this audience.
    fn sign(&self, number: usize, audience: &str) -> Signed {
        let header = json!({
            "typ": "JWT", "alg": "RS256", "x5t": "nOo3ZDrODXEK1jKWhXslHR_KXEg", "kid": "nOo3ZDrODXEK1jKWhXslHR_KXEg",
        });
        let claims = json!({
            "aud": audience, "iss": format!("https://sts.windows.net/{TENANT}/"), "iat": self.now - 300,
            "nbf": self.now - 300, "exp": self.now + 3_600, "aio": "E2ZgYFBXmRJ1yOhMSpZ9uT5jy9gEALAxkcnCBgA=",
            "app_displayname": "soar-playbooks", "appid": "1b730954-1685-4b74-9bfd-dac224a7b894", "appidacr": "1",
            "idp": format!("https://sts.windows.net/{TENANT}/"), "idtyp": "app",
            "oid": "c0ffee00-1111-4222-8333-444455556666",
            "rh": "0.AXkAErE5-NfZJ02b9pRUJAPyHGV0ePwXINRAoMUwcCJHG5J5AAA.",
            "roles": ["Machine.CollectForensics", "Machine.Isolate", "Machine.ReadWrite.All", "Alert.Read.All"],
            "sub": "c0ffee00-1111-4222-8333-444455556666", "tenant_region_scope": "EU", "tid": TENANT,
            "uti": format!("{number:022}"), "ver": "1.0", "wids": ["0997a1d0-0d1d-4acb-b408-d5ca73121e90"],
            "xms_idrel": "7 26", "xms_rd": "0.42LlYBJi9BIS4WAXEvj",
        });
        let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
            .expect("a signature");
        Signed { message, signature }
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
}

impl Signed {
    /// The headers of a request that brings the token.
    fn headers(&self) -> HeaderMap {
        let token = format!("Bearer {}.{}", self.message, URL_SAFE_NO_PAD.encode(&self.signature));
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&token).expect("a header"))])
    }
}

/// The group `token`.
pub(crate) fn bench(c: &mut Criterion) {
    let clock = &Clock::System;
    let scenario = Scenario::new();
    let (good, elsewhere) = (scenario.sign(0, AUDIENCE), scenario.sign(0, "https://graph.microsoft.com"));
    let headers: Vec<_> = (0..NEW_TOKENS).map(|number| scenario.sign(number, AUDIENCE).headers()).collect();
    let new: Vec<_> = headers.iter().map(bearer).collect();

    let mut group = c.benchmark_group("token");
    // As the line asks: whether it is known, and then what it is. Each verifier sees a token once.
    group.bench_function("first sight, RS256-2048, 1.3 KB", |b| {
        b.iter_custom(|tokens| {
            let mut left = usize::try_from(tokens).expect("a count");
            let mut spent = Duration::ZERO;
            while left > 0 {
                let verifier = scenario.verifier();
                let round = new.get(..left.min(new.len())).expect("at most all");
                let begin = clock.steady();
                for bearer in round {
                    assert!(verifier.known(*bearer, clock).is_none());
                    black_box(verify(&verifier, *bearer, clock)).expect("a good token");
                }
                spent += clock.steady().since(begin);
                left -= round.len();
            }
            spent
        });
    });
    let components = RsaPublicKeyComponents { n: &scenario.n, e: &scenario.e };
    let parsed = components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).expect("a key");
    let message = good.message.as_bytes();
    group.bench_function("aws-lc, the signature alone, key parsed each time", |b| {
        b.iter(|| components.verify(&RSA_PKCS1_2048_8192_SHA256, black_box(message), &good.signature));
    });
    group.bench_function("aws-lc, the signature alone, key parsed once", |b| {
        b.iter(|| parsed.verify_sig(black_box(message), &good.signature));
    });

    let verifier = scenario.verifier();
    let (good, elsewhere) = (good.headers(), elsewhere.headers());
    let (good, elsewhere) = (bearer(&good), bearer(&elsewhere));
    verify(&verifier, good, clock).expect("a good token");
    verify(&verifier, elsewhere, clock).expect_err("for somebody else");
    group.bench_function("seen before", |b| {
        b.iter(|| verifier.known(black_box(good), clock).expect("known").expect("a good token"));
    });
    let threads = available_parallelism().map_or(1, NonZeroUsize::get);
    group.bench_function(format!("seen before, by {threads} threads at once"), |b| {
        b.iter_custom(|lookups| {
            let begin = clock.steady();
            scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| (0..lookups).for_each(|_| drop(black_box(verifier.known(good, clock)))));
                }
            });
            clock.steady().since(begin)
        });
    });
    group.bench_function("refused before", |b| {
        b.iter(|| verifier.known(black_box(elsewhere), clock).expect("known").expect_err("a wrong token"));
    });
    group.bench_function("found among the headers", |b| {
        let headers = headers.first().expect("a request");
        b.iter(|| BearerToken::find(black_box(headers), None).expect("a token"));
    });
    group.finish();
}

fn bearer(headers: &HeaderMap) -> BearerToken<'_> {
    BearerToken::find(headers, None).expect("a token")
}

fn verify(verifier: &Verifier, bearer: BearerToken<'_>, clock: &Clock) -> Result<Arc<Principal>, TokenError> {
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(verdict) = pin!(verifier.verify(bearer, clock)).poll(&mut context) else {
        panic!("nothing to wait for")
    };
    verdict
}
