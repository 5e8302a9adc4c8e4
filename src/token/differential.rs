//! Our verifier beside a plain use of the library: generated tokens, each changed in one place, through both.
//!
//! The plain use is what the library's documentation shows: the key that `kid` names, its one algorithm, `exp`, `iss` and
//! `aud` required, audience and issuers set, the same leeway. Two verdicts may differ only by a [`Rule`], and only where
//! the change that was made can bring that rule up. Times are decades away from both clocks, since the
//! library reads the machine's.
//!
//! `TOLLGATE_DIFFERENTIAL=300000` asks for that many tokens instead of the few that fit into everybody's tests.

mod change;

use std::collections::{BTreeMap, HashMap};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{DecodingKey, TokenData, Validation, decode, decode_header};
use serde_json::{Map, Value, json};

use super::BearerToken;
use super::algorithm::Algorithm;
use super::error::{Flaw, TokenError};
use super::forge::*;
use super::jws::MAX_TOKEN_BYTES;
use crate::principal::{Principal, PrincipalKind};
use crate::time::{Clock, Wall};

use change::CHANGES;

/// How many tokens are judged if nobody asks for more: some five seconds without optimisation.
const TOKENS: usize = 20_000;

const SEED: u64 = 0x7011_9a7e;

/// 2001 and 2096 in Unix seconds.
const PAST: i64 = 1_000_000_000;
const FUTURE: i64 = 4_000_000_000;

/// Why we refuse what the library accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    /// A member given twice means two things; the library takes the last.
    MemberTwice,
    /// Parameters that change what the token is: the library overlooks them.
    RefusedParameter,
    /// `typ` is `JWT` or `at+jwt`; the library does not look at it.
    Type,
    /// At most 8 KiB.
    TooLong,
    /// `iss` is one string; the library also takes a list with one of ours in it.
    OneIssuer,
    /// `iss` and `tid` together name the issuer; the library does not know `tid`.
    Tenant,
    /// Times are whole seconds of this era; the library rounds fractions and does not read `iat`.
    WholeSeconds,
    /// What a caller is known by must be there and of its type; the library does not read it.
    Identity,
    /// A token is an application's or a user's.
    Kind,
}

/// What we accept and the library refuses: a header parameter that we never look at, and that it can't read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ignored;

/// A good token and what it is made of.
struct Base {
    signer: usize,
    header: Value,
    claims: Value,
    token: String,
}

/// Keys of every algorithm, and good tokens by each.
struct Scene {
    signers: Vec<(Algorithm, Signer)>,
    bases: Vec<Base>,
}

/// Numbers that look like chance and are the same every time (SplitMix64).
struct Random(u64);

// === impl Random ===

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    fn key<'a>(&mut self, object: &'a Value) -> &'a str {
        let names: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
        names[self.below(names.len())]
    }

    fn value(&mut self) -> Value {
        let values = [
            Value::Null,
            json!(true),
            json!(false),
            json!(0),
            json!(-1),
            json!(1.5),
            json!(FUTURE),
            json!(PAST),
            json!(""),
            json!(" "),
            json!("x"),
            json!("app"),
            json!("user"),
            json!("1.0"),
            json!("2.0"),
            json!(AUDIENCE),
            json!(TENANT),
            json!(OTHER_TENANT),
            json!([]),
            json!(["x"]),
            json!(["exp"]),
            json!([GROUP]),
            json!([1]),
            json!({}),
            json!({"groups": "src1"}),
        ];
        self.of(&values).clone()
    }
}

// === impl Scene ===

impl Scene {
    fn new() -> Self {
        let rsa = Signer::of(Algorithm::Rs256);
        let signers: Vec<_> = Algorithm::ALL
            .into_iter()
            .map(|algorithm| match algorithm.as_str().starts_with(['R', 'P']) {
                true => (algorithm, rsa.signing_by(algorithm)),
                false => (algorithm, Signer::of(algorithm)),
            })
            .collect();
        let mut scene = Self { signers, bases: Vec::new() };
        for signer in 0..scene.signers.len() {
            let name = scene.signers[signer].0.as_str();
            let header = json!({"alg": name, "typ": "JWT", "kid": name});
            for claims in [application(), user()] {
                let claims = with(with(claims, "exp", json!(FUTURE)), "nbf", json!(PAST));
                let mut base = Base { signer, header: header.clone(), claims, token: String::new() };
                base.token = scene.sign(&base, &base.header, &base.claims);
                scene.bases.push(base);
            }
        }
        scene
    }

    /// A good token: mostly of the algorithms that sign fast, so that more of them fit into the time.
    fn base(&self, random: &mut Random) -> &Base {
        let first = if random.below(8) == 0 { 0 } else { self.bases.len() - 6 };
        random.of(&self.bases[first..])
    }

    /// The keys as they are published, each named by its algorithm.
    fn keys(&self) -> Vec<Value> {
        self.signers.iter().map(|(algorithm, signer)| signer.jwk_with_alg(algorithm.as_str())).collect()
    }

    fn sign(&self, base: &Base, header: &Value, claims: &Value) -> String {
        self.sign_text(base, &header.to_string(), claims.to_string().as_bytes())
    }

    fn sign_text(&self, base: &Base, header: &str, claims: &[u8]) -> String {
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims));
        self.signers[base.signer].1.sign_encoded(&signed)
    }
}

/// The library, plainly used: a key and what to ask for by `kid`.
struct Library(HashMap<String, (DecodingKey, Validation)>);

impl Library {
    fn new(scene: &Scene) -> Self {
        let keys = scene.keys().into_iter().zip(&scene.signers).map(|(jwk, (algorithm, _))| {
            let jwk: Jwk = serde_json::from_value(jwk).unwrap();
            let mut validation = Validation::new(algorithm.library());
            validation.set_required_spec_claims(&["exp", "iss", "aud"]);
            validation.set_audience(&[AUDIENCE]);
            validation.set_issuer(&[
                format!("https://sts.windows.net/{TENANT}/"),
                format!("https://login.microsoftonline.com/{TENANT}/v2.0"),
            ]);
            validation.leeway = 60;
            validation.validate_nbf = true;
            (algorithm.as_str().to_owned(), (DecodingKey::from_jwk(&jwk).unwrap(), validation))
        });
        Self(keys.collect())
    }

    fn verify(&self, token: &str) -> Option<Map<String, Value>> {
        let header = decode_header(token).ok()?;
        let (key, validation) = self.0.get(&header.kid?)?;
        decode(token, key, validation).ok().map(|TokenData { claims, .. }| claims)
    }
}

/// The rule by which we refused.
fn rule(error: TokenError) -> Option<Rule> {
    let TokenError::Bad(flaw) = error else {
        return (error == TokenError::WrongIssuer).then_some(Rule::Tenant);
    };
    match flaw {
        Flaw::Json(_) => Some(Rule::MemberTwice),
        Flaw::Parameter(_) => Some(Rule::RefusedParameter),
        Flaw::Type => Some(Rule::Type),
        Flaw::TooLong => Some(Rule::TooLong),
        Flaw::Claim { claim: "iss", .. } => Some(Rule::OneIssuer),
        Flaw::Claim { claim: "exp" | "nbf" | "iat", .. } => Some(Rule::WholeSeconds),
        Flaw::Claim { claim: "scp", problem: "is empty" } | Flaw::NoKind | Flaw::MixedKinds => {
            Some(Rule::Kind)
        }
        Flaw::Claim { .. } | Flaw::TwoApplications => Some(Rule::Identity),
        _ => None,
    }
}

/// What both accepted must say the same of the caller.
fn agree(ours: &Principal, theirs: &Map<String, Value>) {
    assert_eq!(theirs["tid"], json!(ours.subject.tenant.to_string()));
    assert_eq!(theirs["exp"], json!(ours.expires.unix_seconds()));
    let application = theirs.get("appid").or(theirs.get("azp")).unwrap();
    assert_eq!(*application, json!(ours.subject.application.to_string()));
    let permissions: Vec<_> = ours.permissions().iter().map(|permission| permission.as_str()).collect();
    match &ours.kind {
        PrincipalKind::Application { .. } => {
            assert_eq!((theirs.get("scp"), &theirs["roles"]), (None, &json!(permissions)));
        }
        PrincipalKind::User { .. } => {
            let words: Vec<_> = theirs["scp"].as_str().unwrap().split(' ').collect();
            assert_eq!(
                (words, &theirs["oid"]),
                (permissions, &json!(ours.subject.user.unwrap().to_string()))
            );
        }
    }
}

#[test]
fn every_difference_from_a_plain_use_of_the_library_is_a_rule_of_ours() {
    let count = std::env::var("TOLLGATE_DIFFERENTIAL").map_or(TOKENS, |count| count.parse().unwrap());
    let scene = Scene::new();
    let (ours, theirs) = (verifier(&files(&issuers(), &scene.keys()), None), Library::new(&scene));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (clock, _) = Clock::manual(Wall::from_unix_seconds(NOW));
    let mut random = Random(SEED);
    let (mut accepted, mut refused, mut ignored) = (0, 0, 0);
    let mut differences: BTreeMap<Rule, usize> = BTreeMap::new();
    for _ in 0..count {
        let change = random.of(&CHANGES);
        let base = scene.base(&mut random);
        let token = (change.make)(&scene, &mut random, base);
        // What is no bearer token never comes to the verifier.
        let case = || format!("{}: {token}", change.name);
        let Ok(bearer) = HeaderValue::from_str(&format!("Bearer {token}")) else { continue };
        let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer)]);
        let Ok(bearer) = BearerToken::find(&headers, None) else { continue };
        match (runtime.block_on(ours.verify(bearer, &clock)), theirs.verify(&token)) {
            (Ok(principal), Some(claims)) => {
                agree(&principal, &claims);
                accepted += 1;
            }
            (Err(_), None) => refused += 1,
            (Ok(_), None) => {
                assert_eq!(change.ignored, Some(Ignored), "we accept what the library refuses, {}", case());
                ignored += 1;
            }
            (Err(error), Some(_)) => {
                let rule = rule(error).unwrap_or_else(|| panic!("no rule for `{error}`, {}", case()));
                assert!(change.may.contains(&rule), "`{error}` ({rule:?}) is unexpected of {}", case());
                assert!(rule != Rule::TooLong || token.len() > MAX_TOKEN_BYTES, "{}", case());
                *differences.entry(rule).or_default() += 1;
            }
        }
    }
    println!(
        "{accepted} accepted by both, {refused} refused by both, {ignored} accepted by us alone, {differences:?}"
    );
    // The test has teeth: it saw both verdicts many times, and every rule at work.
    assert!(accepted > count / 10 && refused > count / 4 && ignored > 0, "{accepted} {refused} {ignored}");
    assert_eq!(differences.len(), 9, "{differences:?}");
}
