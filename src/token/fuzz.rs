//! Input that nobody should send, from a fixed seed: the bearer parser and the verifier neither panic on it nor accept
//! it. 180,000 inputs with every run of the tests; `TOLLGATE_LONG=1` makes it fifty times as many.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::{Value, json};

use super::BearerToken;
use super::claims::names::ENTRA;
use super::claims::{Claims, Expected};
use super::forge::*;
use super::jws::{Header, Jws};
use crate::time::Wall;

/// Numbers from a fixed seed, and what is made of them.
struct Source(TestRng);

impl Source {
    fn new() -> Self {
        Self(TestRng::deterministic_rng(RngAlgorithm::ChaCha))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0.next_u32() as usize % bound.max(1)
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.below(most + 1)];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}

fn times(usual: usize) -> usize {
    if std::env::var_os("TOLLGATE_LONG").is_some() { usual * 50 } else { usual }
}

#[test]
fn no_header_makes_the_bearer_parser_panic_or_find_what_is_not_one_token() {
    const PIECES: &[&[u8]] = &[
        b"Bearer",
        b"bearer",
        b"BEARER ",
        b"Bearer ",
        b"Bearer  ",
        b"Basic",
        b" ",
        b"  ",
        b"\t",
        b",",
        b"=",
        b"==",
        b"a.b.c",
        b"abc",
        b".",
        b"..",
        b"\xff",
        b"\xc3\xa4",
        b"\"",
        b"%20",
        b"token",
        b"+/-_~",
        b";",
        b":",
    ];
    const QUERIES: &[&str] =
        &["", "a=b", "access_token=x", "%61ccess_token", "x;ACCESS_TOKEN=", "%zz&%", "=&=;"];
    let mut source = Source::new();
    let mut found = 0;
    for _ in 0..times(60_000) {
        let mut headers = HeaderMap::new();
        for _ in 0..source.below(5) / 2 {
            let mut value = source.one(&[&b""[..], b"Bearer ", b"bearer  "]).to_vec();
            for _ in 0..source.below(6) {
                value.extend_from_slice(source.one(PIECES));
            }
            if source.below(4) == 0 {
                value.extend(source.bytes(12));
            }
            headers.extend(HeaderValue::from_bytes(&value).map(|value| (AUTHORIZATION, value)));
        }
        let query = (source.below(2) == 0).then(|| source.one(QUERIES));
        let Ok(bearer) = BearerToken::find(&headers, query) else { continue };
        found += 1;
        // What was found is all that the one header says, but for the scheme and the spaces behind it.
        let [value] = headers.get_all(AUTHORIZATION).iter().collect::<Vec<_>>()[..] else {
            panic!("{headers:?}")
        };
        let (scheme, token) = value.to_str().unwrap().split_once(' ').unwrap();
        assert!(scheme.eq_ignore_ascii_case("bearer") && token.trim_start_matches(' ') == bearer.as_str());
        let letters = bearer.as_str().trim_end_matches('=');
        assert!(!letters.is_empty());
        assert!(letters.chars().all(|c| c.is_ascii_alphanumeric() || "-._~+/".contains(c)), "{letters}");
        assert!(query.is_none_or(|query| !query.to_lowercase().contains("token")), "{query:?}");
    }
    assert!(found > 1_000, "{found}");
}

#[test]
fn no_token_that_differs_from_one_that_was_signed_is_accepted() {
    let verifier = ours();
    let good = [SIGNER.sign(&application()), SIGNER.sign(&user())];
    let mut source = Source::new();
    let mut refusals = std::collections::BTreeSet::new();
    for _ in 0..times(40_000) {
        let token = mutated(&mut source, &good);
        if !token.is_empty() && HeaderValue::from_str(&format!("Bearer {token}")).is_ok() {
            let Some(verdict) = try_verify(&verifier, &token) else { continue };
            assert_eq!(verdict.is_ok(), good.contains(&token), "{token}");
            refusals.extend(verdict.err().map(|error| error.to_string()));
        }
    }
    assert!(refusals.len() > 15, "{refusals:#?}");
}

/// A token with something done to it, or two with something done to both.
fn mutated(source: &mut Source, good: &[String; 2]) -> String {
    let mut token = good[source.below(2)].clone().into_bytes();
    for _ in 0..=source.below(2) {
        let at = source.below(token.len());
        let letter = *source.one(&[&b'A', &b'-', &b'_', &b'.', &b'=', &b'+', &b'9', &b'~']);
        match source.below(10) {
            0 if at < token.len() => token[at] = letter,
            1 => token.insert(at, letter),
            2 if at < token.len() => drop(token.remove(at)),
            3 => token.truncate(at),
            4 => token.extend_from_slice(good[source.below(2)].as_bytes()),
            _ => token = with_another_part(source, &token).into_bytes(),
        }
    }
    String::from_utf8(token).unwrap()
}

/// The token with one of its parts replaced: by one that was made, by bytes, or by another token's.
fn with_another_part(source: &mut Source, token: &[u8]) -> String {
    let text = String::from_utf8(token.to_vec()).unwrap();
    let mut parts: Vec<_> = text.split('.').map(str::to_owned).collect();
    let place = source.below(parts.len());
    parts[place] = match source.below(6) {
        0 => encode(&source.bytes(64)),
        1 => encode(json_text(source, 3).as_bytes()),
        2 => String::new(),
        3 => {
            let (name, value) = (source.one(HEADER_NAMES), value(source, 2));
            encode(with(header(), name, value).to_string().as_bytes())
        }
        4 => {
            let (name, value) = (source.one(CLAIM_NAMES), value(source, 2));
            encode(with(application(), name, value).to_string().as_bytes())
        }
        _ => parts[source.below(parts.len())].clone(),
    };
    parts.join(".")
}

const HEADER_NAMES: &[&str] =
    &["alg", "kid", "typ", "crit", "b64", "jku", "jwk", "x5u", "enc", "zip", "cty", "x"];
const CLAIM_NAMES: &[&str] = &[
    "iss",
    "tid",
    "aud",
    "exp",
    "nbf",
    "iat",
    "ver",
    "appid",
    "azp",
    "oid",
    "scp",
    "roles",
    "idtyp",
    "groups",
    "uti",
    "_claim_names",
    "hasgroups",
    "x",
];

/// A value such as a claim might have, right or wrong.
fn value(source: &mut Source, depth: usize) -> Value {
    match source.below(if depth == 0 { 7 } else { 9 }) {
        0 => json!(
            source
                .one(&["RS256", "none", "HS256", "one", "two", "JWT", "app", "user", "1.0", "", "a b", "ä"])
        ),
        1 => json!(source.one(&[TENANT, OTHER_TENANT, AUDIENCE, APPLICATION, "https://sts.windows.net/"])),
        2 => json!(NOW + source.below(20_000) as i64 - 10_000),
        3 => json!(f64::from(source.0.next_u32()) * 1e290),
        4 => json!(source.below(2) == 0),
        5 => json!([i64::MIN, i64::MAX, -1, 0][source.below(4)]),
        6 => Value::Null,
        7 => (0..source.below(4)).map(|_| value(source, depth - 1)).collect(),
        _ => {
            let member = |source: &mut Source| (source.one(CLAIM_NAMES).to_owned(), value(source, depth - 1));
            Value::Object((0..source.below(4)).map(|_| member(source)).collect())
        }
    }
}

/// Something that is nearly JSON.
fn json_text(source: &mut Source, depth: usize) -> String {
    let mut text = value(source, depth).to_string();
    for _ in 0..source.below(3) {
        let at = source.below(text.len() + 1);
        if text.is_char_boundary(at) {
            text.insert_str(
                at,
                source.one(&["{", "}", "[", "]", "\"", ",", ":", "\\u0000", "\\ud800", "1e999", "-", "\0"]),
            );
        }
    }
    text
}

#[test]
fn no_claims_and_no_header_make_their_readers_panic() {
    let mut source = Source::new();
    let mut callers = 0;
    for number in 0..times(60_000) {
        let text = match number % 4 {
            0 => json_text(&mut source, 4),
            1 => String::from_utf8_lossy(&source.bytes(80)).into_owned(),
            _ => {
                let mut claims = if source.below(2) == 0 { application() } else { user() };
                for _ in 0..=source.below(3) {
                    claims = with(claims, source.one(CLAIM_NAMES), value(&mut source, 2));
                }
                claims.to_string()
            }
        };
        let _ = Header::parse(text.as_bytes());
        let Ok(claims) = Claims::parse(text.as_bytes()) else { continue };
        let _ = (claims.issuer(), claims.tenant(&ENTRA));
        let expected = Expected {
            audiences: &[AUDIENCE.into()],
            skew: std::time::Duration::from_secs(60),
            now: Wall::from_unix_seconds(NOW),
        };
        if claims.check(&expected).is_ok() && claims.principal(&ENTRA, TENANT.parse().unwrap()).is_ok() {
            callers += 1;
        }
    }
    assert!(callers > 3_000, "{callers}");
}

#[test]
fn no_bytes_make_the_reader_of_tokens_panic_or_read_more_than_they_are() {
    let mut source = Source::new();
    let deep =
        |brackets: usize| encode(format!("{}1{}", "[".repeat(brackets), "]".repeat(brackets)).as_bytes());
    for brackets in [1, 127, 128, 129, 2_000, 3_000] {
        // Nesting ends the parser's work, not its stack.
        let token = format!("{}.{}.AA", encode(header().to_string().as_bytes()), deep(brackets));
        assert!(try_verify(&ours(), &token).unwrap().is_err(), "{brackets}");
    }
    for _ in 0..times(20_000) {
        let bytes = source.bytes(40);
        let text: String = bytes.iter().map(|byte| b"ABab01-_..=+~"[*byte as usize % 13] as char).collect();
        if let Ok(jws) = Jws::parse(&text) {
            assert_eq!(format!("{}.{}", jws.signed, jws.signature.text), text);
            assert_eq!(format!("{}.{}", encode(&jws.header), encode(&jws.claims)), jws.signed);
        }
    }
}

/// The verdict, if a request can bring the token at all.
fn try_verify(
    verifier: &super::Verifier,
    token: &str,
) -> Option<Result<std::sync::Arc<crate::principal::Principal>, super::TokenError>> {
    BearerToken::find(&headers(token), None).is_ok().then(|| verify(verifier, token))
}
