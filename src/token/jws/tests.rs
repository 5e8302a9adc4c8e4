use serde_json::{Value, json};

use super::*;
use crate::token::forge::*;
use crate::token::{BearerToken, TokenError};

fn refusal_of_header(header: &str) -> TokenError {
    verify(&ours(), &SIGNER.sign_text(header, &application().to_string())).unwrap_err()
}

#[test]
fn only_an_asymmetric_algorithm_in_its_own_spelling_is_one() {
    for alg in [
        json!("none"),
        json!("None"),
        json!("NONE"),
        json!("nOnE"),
        json!("none "),
        json!(""),
        json!("rs256"),
        json!("RS256 "),
        json!("HS256"),
        json!("HS384"),
        json!("HS512"),
        json!("ES512"),
        json!("ES256K"),
        json!("Ed25519"),
        json!("eddsa"),
        json!("RSA-OAEP"),
        json!("dir"),
        json!(256),
        json!(["RS256"]),
        Value::Null,
    ] {
        let error = refusal_of_header(&with(header(), "alg", alg.clone()).to_string());
        assert_eq!(error, TokenError::Bad(Flaw::Algorithm), "{alg}");
    }
}

#[test]
fn the_algorithm_is_the_keys_own() {
    for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| *algorithm != Algorithm::Rs256) {
        let error = refusal_of_header(&with(header(), "alg", json!(algorithm.as_str())).to_string());
        assert_eq!(error, TokenError::Bad(Flaw::AlgorithmOfAnotherKey), "{algorithm}");
        // Neither does a good signature by the algorithm that the token names help.
        if algorithm.as_str().starts_with(['R', 'P']) {
            let token = SIGNER.signing_by(algorithm).sign(&application());
            assert_eq!(verify(&ours(), &token), Err(TokenError::Bad(Flaw::AlgorithmOfAnotherKey)));
        }
    }
}

#[test]
fn a_token_is_signed_by_any_algorithm_that_its_key_is_for() {
    for algorithm in Algorithm::ALL {
        let (signer, other) = (Signer::of(algorithm), Signer::of(algorithm));
        let verifier = verifier(&files(&issuers(), &[signer.jwk_with_alg("one")]), None);
        assert!(verify(&verifier, &signer.sign(&application())).is_ok(), "{algorithm}");
        let forged = verify(&verifier, &other.sign(&application()));
        assert_eq!(forged, Err(TokenError::Bad(Flaw::Signature)), "{algorithm}");
    }
}

#[test]
fn two_keys_of_one_name_are_told_apart_by_their_algorithms() {
    let (rsa, ec) = (SIGNER.jwk("one"), Signer::of(Algorithm::Es256));
    let verifier = verifier(&files(&issuers(), &[rsa, ec.jwk("one")]), None);
    assert!(verify(&verifier, &SIGNER.sign(&application())).is_ok());
    assert!(verify(&verifier, &ec.sign(&application())).is_ok());
    let strange = SIGNER.signing_by(Algorithm::Ps256).sign(&application());
    assert_eq!(verify(&verifier, &strange), Err(TokenError::Bad(Flaw::AlgorithmOfAnotherKey)));
}

#[test]
fn an_unsigned_token_is_refused() {
    let signed = SIGNER.sign(&application());
    let (body, _) = signed.rsplit_once('.').unwrap();
    assert_eq!(verify(&ours(), &format!("{body}.")), Err(TokenError::Bad(Flaw::NotThreeParts)));
    let none = with(header(), "alg", json!("none")).to_string();
    let body = format!("{}.{}", encode(none.as_bytes()), encode(application().to_string().as_bytes()));
    assert_eq!(verify(&ours(), &format!("{body}.")), Err(TokenError::Bad(Flaw::NotThreeParts)));
    assert_eq!(verify(&ours(), &format!("{body}.AAAA")), Err(TokenError::Bad(Flaw::Algorithm)));
}

#[test]
fn a_parameter_that_changes_the_tokens_meaning_is_refused() {
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("enc", json!("A256GCM")),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("cty", json!("jwt")),
    ] {
        let error = refusal_of_header(&with(header(), name, value).to_string());
        assert_eq!(error, TokenError::Bad(Flaw::Parameter(name)));
    }
}

#[test]
fn typ_is_absent_or_a_jwt_in_any_case() {
    for typ in [
        Value::Null,
        json!("jwt"),
        json!("JWT"),
        json!("at+jwt"),
        json!("AT+JWT"),
        json!("application/at+jwt"),
    ] {
        let header = with(header(), "typ", typ.clone()).to_string();
        assert!(verify(&ours(), &SIGNER.sign_text(&header, &application().to_string())).is_ok(), "{typ}");
    }
    for typ in
        [json!("dpop+jwt"), json!("JOSE"), json!("jwt "), json!("text/jwt"), json!("ä"), json!(""), json!(1)]
    {
        let error = refusal_of_header(&with(header(), "typ", typ.clone()).to_string());
        assert_eq!(error, TokenError::Bad(Flaw::Type), "{typ}");
    }
}

#[test]
fn keys_that_the_token_brings_along_are_ignored() {
    let header = json!({
        "alg": "RS256", "kid": "one", "jwk": STRANGER.jwk("one"), "jku": "https://evil.example/keys",
        "x5u": "https://evil.example/cert", "x5c": ["AAAA"], "x5t": "AAAA",
    });
    let claims = application().to_string();
    assert!(verify(&ours(), &SIGNER.sign_text(&header.to_string(), &claims)).is_ok());
    assert_eq!(
        verify(&ours(), &STRANGER.sign_text(&header.to_string(), &claims)),
        Err(TokenError::Bad(Flaw::Signature))
    );
}

#[test]
fn kid_is_only_a_name_among_the_published_keys() {
    for kid in ["../../dev/null", "one' OR '1'='1", "ONE", "one ", "two", "https://evil.example/"] {
        let error = refusal_of_header(&with(header(), "kid", json!(kid)).to_string());
        assert_eq!(error, TokenError::Bad(Flaw::UnknownKey), "{kid}");
    }
    for kid in [Value::Null, json!(""), json!(1), json!(["one"])] {
        let error = refusal_of_header(&with(header(), "kid", kid.clone()).to_string());
        assert_eq!(error, TokenError::Bad(Flaw::KeyId), "{kid}");
    }
}

#[test]
fn a_key_published_for_another_issuer_does_not_count() {
    let published = |issuer: &str| with(SIGNER.jwk("one"), "issuer", json!(issuer));
    for (issuer, expected) in [
        ("https://sts.windows.net/{tenantid}/".to_owned(), None),
        (format!("https://sts.windows.net/{TENANT}/"), None),
        (format!("https://sts.windows.net/{OTHER_TENANT}/"), Some(TokenError::Bad(Flaw::KeyOfAnother))),
        (
            "https://login.microsoftonline.com/{tenantid}/v2.0".to_owned(),
            Some(TokenError::Bad(Flaw::KeyOfAnother)),
        ),
    ] {
        let verifier = verifier(&files(&issuers(), &[published(&issuer)]), None);
        assert_eq!(verify(&verifier, &SIGNER.sign(&application())).err(), expected, "{issuer}");
    }
}

#[test]
fn a_duplicate_member_is_refused_in_header_and_claims() {
    let twice = header().to_string().replacen('{', "{\"alg\":\"none\",", 1);
    assert_eq!(refusal_of_header(&twice), TokenError::Bad(Flaw::Json("header")));
    let twice = header().to_string().replacen('{', "{\"\\u006bid\":\"two\",", 1);
    assert_eq!(refusal_of_header(&twice), TokenError::Bad(Flaw::Json("header")));
    for member in ["\"tid\":\"x\",", "\"xms\":{\"a\":[{\"b\":1,\"b\":1}]},"] {
        let claims = application().to_string().replacen('{', &format!("{{{member}"), 1);
        let token = SIGNER.sign_text(&header().to_string(), &claims);
        assert_eq!(verify(&ours(), &token), Err(TokenError::Bad(Flaw::Json("claims part"))), "{member}");
    }
}

#[test]
fn a_part_that_is_no_json_object_is_refused() {
    for text in ["", " ", "[]", "null", "{}{}", "{", "\u{feff}{}"] {
        let claims = application().to_string();
        if !text.is_empty() {
            assert_eq!(refusal_of_header(text), TokenError::Bad(Flaw::Json("header")), "{text:?}");
            let error = verify(&ours(), &SIGNER.sign_text(&header().to_string(), text));
            assert_eq!(error, Err(TokenError::Bad(Flaw::Json("claims part"))), "{text:?}");
        } else {
            let error = verify(&ours(), &SIGNER.sign_text(text, &claims));
            assert_eq!(error, Err(TokenError::Bad(Flaw::NotThreeParts)));
        }
    }
    let signed = format!("{}.{}", encode(header().to_string().as_bytes()), encode(b"{\"iss\":\"\xff\"}"));
    let error = verify(&ours(), &SIGNER.sign_encoded(&signed));
    assert_eq!(error, Err(TokenError::Bad(Flaw::Json("claims part"))));
}

#[test]
fn a_token_is_three_parts_and_neither_jwe_nor_the_json_form() {
    let token = SIGNER.sign(&application());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    for text in [
        "a".to_owned(),
        "a.b".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        signed.to_owned(),
        format!(".{token}"),
        format!("{token}.x"),
        format!("{signed}..{signature}"),
        "a.b.c.d.e".to_owned(),
    ] {
        assert_eq!(verify(&ours(), &text), Err(TokenError::Bad(Flaw::NotThreeParts)), "{text}");
    }
}

#[test]
fn base64url_has_one_spelling() {
    let claims = application().to_string();
    // Lengths of 1 and 2 modulo 3 end in a letter with unused bits.
    for spaces in 0..3 {
        let header = header().to_string() + &" ".repeat(spaces);
        let (header, claims) = (encode(header.as_bytes()), encode(claims.as_bytes()));
        let token = SIGNER.sign_encoded(&format!("{header}.{claims}"));
        assert!(verify(&ours(), &token).is_ok());
        for padded in [format!("{header}=.{claims}"), format!("{header}==.{claims}")] {
            let token = SIGNER.sign_encoded(&padded);
            let headers = http::HeaderMap::from_iter([(
                http::header::AUTHORIZATION,
                http::HeaderValue::from_str(&format!("Bearer {token}")).unwrap(),
            )]);
            assert!(BearerToken::find(&headers, None).is_err(), "padding inside is no bearer token");
            assert!(Jws::parse(&token).is_err());
        }
        if header.len() % 4 != 0 {
            let last = header.chars().last().unwrap();
            let next = char::from(last as u8 + 1);
            let token = SIGNER.sign_encoded(&format!("{}{next}.{claims}", &header[..header.len() - 1]));
            assert_eq!(verify(&ours(), &token), Err(TokenError::Bad(Flaw::Encoding("header"))));
        }
    }
    let token = SIGNER.sign(&application());
    for (text, part) in [
        (format!("{token}="), "signature"),
        (format!("{token}=="), "signature"),
        (format!("+{token}"), "header"),
        (format!("{}/", &token[..token.len() - 1]), "signature"),
        (format!("{}~", &token[..token.len() - 1]), "signature"),
    ] {
        assert_eq!(verify(&ours(), &text), Err(TokenError::Bad(Flaw::Encoding(part))), "{text}");
    }
    for white in [" ", "\n", "\r\n", "\t"] {
        assert_eq!(Jws::parse(&format!("{token}{white}")).err(), Some(Flaw::Encoding("signature")));
    }
}

#[test]
fn a_token_of_8_kib_is_read_and_a_longer_one_is_not() {
    let sized = |length: usize| {
        let padding = |n: usize| SIGNER.sign(&with(application(), "x", json!("y".repeat(n))));
        let start = padding(0).len();
        (0..).map(|more| padding((length - start) / 4 * 3 + more - 3)).find(|t| t.len() >= length).unwrap()
    };
    let fits = sized(8_191);
    assert!(fits.len() <= 8_192, "{}", fits.len());
    assert!(verify(&ours(), &fits).is_ok());
    assert_eq!(verify(&ours(), &sized(8_193)), Err(TokenError::Bad(Flaw::TooLong)));
}
