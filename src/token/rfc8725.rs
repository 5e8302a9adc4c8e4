//! RFC 8725, *JSON Web Token Best Current Practices*, section 3, point by point: what each asks, and the test that
//! shows it. Details are beside the code that each is about.

use serde_json::{Value, json};

use super::algorithm::Algorithm;
use super::error::{Flaw, TokenError};
use super::forge::*;

/// Section, title, test.
const CHECKLIST: [(&str, &str, fn()); 12] = [
    (
        "3.1",
        "Perform Algorithm Verification",
        rfc_8725_3_1_the_key_has_one_algorithm_and_the_token_may_not_choose,
    ),
    ("3.2", "Use Appropriate Algorithms", rfc_8725_3_2_none_and_hmac_are_not_algorithms),
    (
        "3.3",
        "Validate All Cryptographic Operations",
        rfc_8725_3_3_the_whole_of_a_nested_token_must_be_checked_so_there_is_none,
    ),
    ("3.4", "Validate Cryptographic Inputs", rfc_8725_3_4_a_point_that_is_not_on_its_curve_is_no_key),
    ("3.5", "Ensure Cryptographic Keys Have Sufficient Entropy", rfc_8725_3_5_a_weak_key_is_no_key),
    ("3.6", "Avoid Compression of Encryption Inputs", rfc_8725_3_6_nothing_is_decompressed_or_decrypted),
    ("3.7", "Use UTF-8", rfc_8725_3_7_header_and_claims_are_utf_8),
    (
        "3.8",
        "Validate Issuer and Subject",
        rfc_8725_3_8_the_key_belongs_to_the_issuer_and_the_subject_is_named,
    ),
    ("3.9", "Use and Validate Audience", rfc_8725_3_9_the_token_is_for_us),
    ("3.10", "Do Not Trust Received Claims", rfc_8725_3_10_nothing_in_a_token_leads_anywhere),
    ("3.11", "Use Explicit Typing", rfc_8725_3_11_the_type_is_what_the_policy_asks_for),
    (
        "3.12",
        "Use Mutually Exclusive Validation Rules for Different Kinds of JWTs",
        rfc_8725_3_12_no_token_is_of_two_kinds,
    ),
];

#[test]
fn every_point_of_rfc_8725_has_its_test() {
    for (index, (section, title, test)) in CHECKLIST.into_iter().enumerate() {
        assert_eq!(section, format!("3.{}", index + 1), "{title}");
        test();
    }
}

fn refused(token: &str) -> TokenError {
    verify(&ours(), token).expect_err(token)
}

fn bad(token: &str) -> Flaw {
    match refused(token) {
        TokenError::Bad(flaw) => flaw,
        error => panic!("{error}"),
    }
}

fn with_header(name: &str, value: Value) -> String {
    SIGNER.sign_text(&with(header(), name, value).to_string(), &application().to_string())
}

/// Whether a set of this key alone gives a verifier.
fn is_a_key(jwk: &Value) -> bool {
    problems(&files(&issuers(), std::slice::from_ref(jwk))).is_empty()
}

#[test]
fn rfc_8725_3_1_the_key_has_one_algorithm_and_the_token_may_not_choose() {
    assert!(verify(&ours(), &SIGNER.sign(&application())).is_ok());
    for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| *algorithm != Algorithm::Rs256) {
        let flaw = bad(&with_header("alg", json!(algorithm.as_str())));
        assert_eq!(flaw, Flaw::AlgorithmOfAnotherKey, "{algorithm}");
    }
    // A good signature of the same key by another of its family.
    let token = SIGNER.signing_by(Algorithm::Ps256).sign(&application());
    assert_eq!(bad(&token), Flaw::AlgorithmOfAnotherKey);
}

#[test]
fn rfc_8725_3_2_none_and_hmac_are_not_algorithms() {
    for none in ["none", "None", "NONE", "nOnE", "none\0", ""] {
        let header = with(header(), "alg", json!(none)).to_string();
        let signed =
            format!("{}.{}", encode(header.as_bytes()), encode(application().to_string().as_bytes()));
        assert_eq!(bad(&format!("{signed}.")), Flaw::NotThreeParts, "{none}");
        assert_eq!(bad(&format!("{signed}.AAAA")), Flaw::Algorithm, "{none}");
    }
    // The public key, in every form that somebody might take for a secret.
    let jwk = SIGNER.jwk("one");
    let (n, text) = (jwk["n"].as_str().unwrap(), jwk.to_string());
    for (name, algorithm) in [
        ("HS256", aws_lc_rs::hmac::HMAC_SHA256),
        ("HS384", aws_lc_rs::hmac::HMAC_SHA384),
        ("HS512", aws_lc_rs::hmac::HMAC_SHA512),
    ] {
        let header = with(header(), "alg", json!(name)).to_string();
        let signed =
            format!("{}.{}", encode(header.as_bytes()), encode(application().to_string().as_bytes()));
        for secret in [text.as_bytes(), n.as_bytes(), b""] {
            let tag = aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(algorithm, secret), signed.as_bytes());
            assert_eq!(bad(&format!("{signed}.{}", encode(tag.as_ref()))), Flaw::Algorithm, "{name}");
        }
    }
    assert!(!is_a_key(&json!({"kty": "oct", "kid": "one", "k": "c2VjcmV0", "alg": "HS256"})));
}

#[test]
fn rfc_8725_3_3_the_whole_of_a_nested_token_must_be_checked_so_there_is_none() {
    assert_eq!(bad(&with_header("cty", json!("JWT"))), Flaw::Parameter("cty"));
    let inner = SIGNER.sign(&application());
    assert_eq!(bad(&SIGNER.sign_text(&header().to_string(), &inner)), Flaw::Json("claims part"));
    // Of five parts, as an encrypted one has.
    assert_eq!(bad(&format!("{inner}.AAAA.AAAA")), Flaw::NotThreeParts);
    // A signature that any part of us doubts is no signature.
    assert_eq!(bad(&STRANGER.sign(&application())), Flaw::Signature);
}

#[test]
fn rfc_8725_3_4_a_point_that_is_not_on_its_curve_is_no_key() {
    let key = Signer::of(Algorithm::Es256).jwk("one");
    assert!(is_a_key(&key));
    assert!(!is_a_key(&with(key.clone(), "y", json!(encode(&[1; 32])))));
    assert!(!is_a_key(&with(key, "crv", json!("P-384"))));
    // The neutral element of Ed25519, under which anybody can sign.
    let key = Signer::of(Algorithm::EdDsa).jwk("one");
    let mut neutral = [0; 32];
    neutral[0] = 1;
    assert!(is_a_key(&key));
    assert!(!is_a_key(&with(key, "x", json!(encode(&neutral)))));
}

#[test]
fn rfc_8725_3_5_a_weak_key_is_no_key() {
    let modulus = |bytes: usize| with(SIGNER.jwk("one"), "n", json!(encode(&vec![0xff; bytes])));
    assert!(is_a_key(&modulus(256)));
    for key in [modulus(255), modulus(128), modulus(64), with(SIGNER.jwk("one"), "e", json!("AQ"))] {
        assert!(!is_a_key(&key), "{key}");
    }
}

#[test]
fn rfc_8725_3_6_nothing_is_decompressed_or_decrypted() {
    assert_eq!(bad(&with_header("zip", json!("DEF"))), Flaw::Parameter("zip"));
    assert_eq!(bad(&with_header("enc", json!("A256GCM"))), Flaw::Parameter("enc"));
}

#[test]
fn rfc_8725_3_7_header_and_claims_are_utf_8() {
    let parts =
        |header: &[u8], claims: &[u8]| SIGNER.sign_encoded(&format!("{}.{}", encode(header), encode(claims)));
    let (header, claims) = (header().to_string(), application().to_string());
    for bytes in [b"\xff".as_slice(), b"\xc0\xae", b"\xed\xa0\x80"] {
        let spoiled = [b"{\"x\":\"", bytes, b"\","].concat();
        let (head, body) = (header.as_bytes(), claims.as_bytes());
        assert_eq!(bad(&parts(&[&spoiled, &head[1..]].concat(), body)), Flaw::Json("header"));
        assert_eq!(bad(&parts(head, &[&spoiled, &body[1..]].concat())), Flaw::Json("claims part"));
    }
    let utf_16: Vec<u8> = claims.encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_eq!(bad(&parts(header.as_bytes(), &utf_16)), Flaw::Json("claims part"));
}

#[test]
fn rfc_8725_3_8_the_key_belongs_to_the_issuer_and_the_subject_is_named() {
    let of_another =
        with(SIGNER.jwk("one"), "issuer", json!("https://login.microsoftonline.com/{tenantid}/v2.0"));
    let verifier = verifier(&files(&issuers(), &[of_another]), None);
    let flaw = verify(&verifier, &SIGNER.sign(&application())).unwrap_err();
    assert_eq!(flaw, TokenError::Bad(Flaw::KeyOfAnother));
    assert!(verify(&verifier, &SIGNER.sign(&user())).is_ok());
    for iss in ["https://evil.example/", "https://sts.windows.net/22222222-2222-4222-8222-222222222222/"] {
        assert_eq!(refused(&SIGNER.sign(&with(application(), "iss", json!(iss)))), TokenError::WrongIssuer);
    }
    for (claims, subject) in [(application(), "appid"), (user(), "azp"), (user(), "oid"), (user(), "tid")] {
        for value in [Value::Null, json!("x"), json!(["33333333-3333-4333-8333-333333333333"])] {
            let flaw = bad(&SIGNER.sign(&with(claims.clone(), subject, value.clone())));
            assert!(matches!(flaw, Flaw::Claim { .. }), "{subject} {value}: {flaw}");
        }
    }
}

#[test]
fn rfc_8725_3_9_the_token_is_for_us() {
    for aud in [json!("https://graph.microsoft.com"), json!(["x", "y"]), json!([])] {
        assert_eq!(refused(&SIGNER.sign(&with(application(), "aud", aud))), TokenError::WrongAudience);
    }
    for aud in [Value::Null, json!(5), json!({})] {
        let flaw = bad(&SIGNER.sign(&with(application(), "aud", aud)));
        assert!(matches!(flaw, Flaw::Claim { claim: "aud", .. }), "{flaw}");
    }
}

#[test]
fn rfc_8725_3_10_nothing_in_a_token_leads_anywhere() {
    for kid in [
        "../../../../dev/null",
        "/etc/passwd",
        "x' UNION SELECT 'k",
        "$(id)",
        "${jndi:ldap://x}",
        "\0",
        "%00",
    ] {
        assert_eq!(bad(&with_header("kid", json!(kid))), Flaw::UnknownKey, "{kid}");
    }
    // Keys that come along, or addresses of some, are not looked at: neither do they help nor harm.
    for (name, value) in [
        ("jwk", STRANGER.jwk("one")),
        ("jku", json!("https://evil.example/keys")),
        ("x5u", json!("http://169.254.169.254/latest")),
        ("x5c", json!(["AAAA"])),
    ] {
        let header = with(header(), name, value).to_string();
        assert!(verify(&ours(), &SIGNER.sign_text(&header, &application().to_string())).is_ok(), "{name}");
        assert_eq!(bad(&STRANGER.sign_text(&header, &application().to_string())), Flaw::Signature, "{name}");
    }
    assert_eq!(bad(&with_header("crit", json!(["exp"]))), Flaw::Parameter("crit"));
    assert_eq!(bad(&with_header("b64", json!(false))), Flaw::Parameter("b64"));
}

#[test]
fn rfc_8725_3_11_the_type_is_what_the_policy_asks_for() {
    let toml = issuers().replace("keys =", "typ = \"at+jwt\"\nkeys =");
    let strict = verifier(&files(&toml, &[SIGNER.jwk("one")]), None);
    assert_eq!(
        verify(&strict, &SIGNER.sign(&application())),
        Err(TokenError::Bad(Flaw::OtherType("at+jwt")))
    );
    assert!(verify(&strict, &with_header("typ", json!("at+jwt"))).is_ok());
    for typ in ["dpop+jwt", "logout+jwt", "secevent+jwt", "kb+jwt"] {
        assert_eq!(bad(&with_header("typ", json!(typ))), Flaw::Type, "{typ}");
    }
}

#[test]
fn rfc_8725_3_12_no_token_is_of_two_kinds() {
    assert_eq!(bad(&SIGNER.sign(&with(user(), "idtyp", json!("app")))), Flaw::MixedKinds);
    assert_eq!(bad(&SIGNER.sign(&with(application(), "idtyp", json!("user")))), Flaw::MixedKinds);
    assert_eq!(bad(&SIGNER.sign(&with(application(), "roles", Value::Null))), Flaw::NoKind);
    assert!(matches!(
        bad(&SIGNER.sign(&with(application(), "scp", json!("")))),
        Flaw::Claim { claim: "scp", .. }
    ));
    // Two entries never judge one token: the second is a mistake of the policy.
    let twice =
        issuers() + &issuers().replace("\"v1\"", "\"v3\"").replace("\"v2\"", "\"v4\"").replace(AUDIENCE, "x");
    assert_eq!(problems(&files(&twice, &[SIGNER.jwk("one")])).len(), 2);
}
