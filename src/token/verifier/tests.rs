use serde_json::json;

use super::*;
use crate::token::Flaw;
use crate::token::forge::*;

fn refusal(claims: &serde_json::Value) -> TokenError {
    verify(&ours(), &SIGNER.sign(claims)).unwrap_err()
}

#[test]
fn iss_is_matched_to_the_letter() {
    let v1 = format!("https://sts.windows.net/{TENANT}/");
    for iss in [
        format!("https://sts.windows.net/{TENANT}"),
        format!("https://STS.windows.net/{TENANT}/"),
        format!("http://sts.windows.net/{TENANT}/"),
        format!("{v1}#"),
        format!("https://sts.windows.net/{OTHER_TENANT}/"),
        "https://sts.windows.net/{tid}/".to_owned(),
        String::new(),
    ] {
        assert_eq!(refusal(&with(application(), "iss", json!(iss))), TokenError::WrongIssuer, "{iss}");
    }
}

#[test]
fn iss_and_tid_must_agree_and_the_tenant_must_be_listed() {
    assert_eq!(refusal(&with(application(), "tid", json!(OTHER_TENANT))), TokenError::WrongIssuer);
    let claims = with(application(), "iss", json!(format!("https://sts.windows.net/{OTHER_TENANT}/")));
    assert_eq!(refusal(&with(claims, "tid", json!(OTHER_TENANT))), TokenError::WrongIssuer);
}

#[test]
fn one_fixed_issuer_may_speak_for_several_tenants() {
    let toml = issuers()
        .replace("https://sts.windows.net/{tid}/", "https://idp.example/")
        .replace(&format!("[\"{TENANT}\"]"), &format!("[\"{TENANT}\", \"{OTHER_TENANT}\"]"));
    let verifier = verifier(&files(&toml, &[SIGNER.jwk("one")]), None);
    for (tenant, accepted) in [(TENANT, true), (OTHER_TENANT, true), (USER, false)] {
        let claims = with(with(application(), "iss", json!("https://idp.example/")), "tid", json!(tenant));
        assert_eq!(verify(&verifier, &SIGNER.sign(&claims)).is_ok(), accepted, "{tenant}");
    }
}

#[test]
fn each_entry_has_its_own_audiences() {
    let toml = issuers().replacen(AUDIENCE, "only-v1", 1);
    let verifier = verifier(&files(&toml, &[SIGNER.jwk("one")]), None);
    assert!(verify(&verifier, &SIGNER.sign(&user())).is_ok());
    assert_eq!(verify(&verifier, &SIGNER.sign(&application())), Err(TokenError::WrongAudience));
    assert!(verify(&verifier, &SIGNER.sign(&with(application(), "aud", json!("only-v1")))).is_ok());
    assert_eq!(
        verify(&verifier, &SIGNER.sign(&with(user(), "aud", json!("only-v1")))),
        Err(TokenError::WrongAudience)
    );
}

#[test]
fn a_bad_signature_is_never_told_that_it_is_expired_or_for_another_audience() {
    let expired = with(application(), "exp", json!(NOW - 1_000));
    let elsewhere = with(application(), "aud", json!("x"));
    let early = with(application(), "nbf", json!(NOW + 1_000));
    for (claims, verdict) in [
        (expired, TokenError::Expired),
        (elsewhere, TokenError::WrongAudience),
        (early, TokenError::NotYetValid),
    ] {
        assert_eq!(verify(&ours(), &SIGNER.sign(&claims)), Err(verdict));
        assert_eq!(verify(&ours(), &STRANGER.sign(&claims)), Err(TokenError::Bad(Flaw::Signature)));
    }
}

#[test]
fn every_change_of_one_letter_is_refused() {
    let token = SIGNER.sign(&application());
    let verifier = ours();
    for index in 0..token.len() {
        for letter in [b'A', b'.', token.as_bytes()[index] ^ 1, token.as_bytes()[index] ^ 2] {
            let mut changed = token.clone().into_bytes();
            changed[index] = letter;
            let Ok(changed) = String::from_utf8(changed) else { continue };
            if changed == token || changed.bytes().any(|b| !b.is_ascii_alphanumeric() && !b"-_.".contains(&b))
            {
                continue;
            }
            assert!(verify(&verifier, &changed).is_err(), "{index} {letter}");
        }
    }
}

#[test]
fn a_signature_of_another_length_is_wrong() {
    let token = SIGNER.sign(&application());
    let (signed, _) = token.rsplit_once('.').unwrap();
    for bytes in [&[0][..], &[0; 255], &[0; 256], &[0xff; 256], &[0; 257], &[0; 1_024]] {
        let error = verify(&ours(), &format!("{signed}.{}", encode(bytes)));
        assert_eq!(error, Err(TokenError::Bad(Flaw::Signature)), "{}", bytes.len());
    }
}

#[test]
fn the_hmac_of_the_public_key_is_not_a_signature() {
    let header = with(header(), "alg", json!("HS256")).to_string();
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(application().to_string().as_bytes()));
    let secret = SIGNER.jwk("one").to_string();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    let error = verify(&ours(), &format!("{signed}.{}", encode(tag.as_ref())));
    assert_eq!(error, Err(TokenError::Bad(Flaw::Algorithm)));
}

#[test]
fn what_we_accept_the_jsonwebtoken_library_accepts_with_the_same_key() {
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(SIGNER.jwk("one")).unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
    for (claims, signer) in [(application(), &SIGNER), (user(), &SIGNER), (application(), &STRANGER)] {
        let token = signer.sign(&claims);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let theirs =
            jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key, jsonwebtoken::Algorithm::RS256);
        assert_eq!(verify(&ours(), &token).is_ok(), theirs.unwrap());
    }
}

#[test]
fn no_message_repeats_a_part_of_the_token() {
    let secret = "c2VjcmV0";
    let claims = application();
    let tokens = [
        secret.to_owned(),
        SIGNER.sign_text(secret, secret),
        SIGNER.sign_text(&with(header(), "alg", json!(secret)).to_string(), &claims.to_string()),
        SIGNER.sign_text(&with(header(), "kid", json!(secret)).to_string(), &claims.to_string()),
        SIGNER.sign(&with(claims.clone(), "iss", json!(secret))),
        SIGNER.sign(&with(claims.clone(), "tid", json!(secret))),
        SIGNER.sign(&with(claims.clone(), "aud", json!(secret))),
        SIGNER.sign(&with(claims, "idtyp", json!(secret))),
    ];
    for token in tokens {
        let error = verify(&ours(), &token).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret), "{error}");
    }
}

#[test]
fn an_entry_may_ask_for_a_type_of_token() {
    for (asked, typ, accepted) in [
        ("at+jwt", json!("at+jwt"), true),
        ("at+jwt", json!("application/AT+JWT"), true),
        ("at+jwt", json!("JWT"), false),
        ("at+jwt", serde_json::Value::Null, false),
        ("JWT", json!("jwt"), true),
        ("JWT", json!("at+jwt"), false),
        ("JWT", serde_json::Value::Null, false),
    ] {
        let toml = issuers().replacen("keys =", &format!("typ = \"{asked}\"\nkeys ="), 1);
        let verifier = verifier(&files(&toml, &[SIGNER.jwk("one")]), None);
        let header = with(header(), "typ", typ.clone()).to_string();
        let verdict = verify(&verifier, &SIGNER.sign_text(&header, &application().to_string()));
        let expected = if accepted { None } else { Some(TokenError::Bad(Flaw::OtherType(asked))) };
        assert_eq!(verdict.err(), expected, "{asked} {typ}");
        // The other entry asks for nothing.
        assert!(verify(&verifier, &SIGNER.sign(&user())).is_ok());
    }
}

#[test]
fn an_entry_may_confine_its_algorithms() {
    let toml = issuers().replacen("keys =", "algorithms = [\"PS256\", \"ES256\"]\nkeys =", 1);
    let pss = SIGNER.signing_by(crate::token::algorithm::Algorithm::Ps256);
    let verifier = verifier(&files(&toml, &[SIGNER.jwk("one"), pss.jwk_with_alg("one")]), None);
    assert_eq!(verify(&verifier, &SIGNER.sign(&application())), Err(TokenError::Bad(Flaw::Algorithm)));
    assert!(verify(&verifier, &pss.sign(&application())).is_ok());
    assert!(verify(&verifier, &SIGNER.sign(&user())).is_ok());
}
