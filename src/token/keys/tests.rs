use serde_json::{Value, json};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

use super::*;
use crate::token::forge::{SIGNER, Signer, TENANT, encode, with};

fn parse(keys: &[Value]) -> Result<KeySet, InvalidKeys> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

fn dropped(key: Value) -> UnusableKey {
    match parse(&[key]).unwrap_err() {
        InvalidKeys::NoUsableKey(keys) => keys[0].1,
        error => panic!("{error}"),
    }
}

fn changed(name: &str, value: Value) -> Value {
    with(SIGNER.jwk("one"), name, value)
}

/// A key for each curve.
fn curves() -> [Value; 3] {
    [Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa].map(|algorithm| Signer::of(algorithm).jwk("one"))
}

fn find<'k>(
    keys: &'k KeySet,
    kid: &str,
    algorithm: Algorithm,
    issuer: &str,
    tenant: TenantId,
) -> Result<&'k VerifyingKey, Flaw> {
    keys.named(kid).ok_or(Flaw::UnknownKey)?.find(algorithm, issuer, tenant)
}

fn only(key: Value) -> Algorithm {
    let keys = parse(&[key]).unwrap();
    keys.by_name["one"].keys[0].algorithm
}

#[test]
fn a_key_that_is_not_for_verifying_signatures_is_left_out() {
    for (name, value, why) in [
        ("kty", json!("oct"), UnusableKey::OtherType),
        ("kty", json!("rsa"), UnusableKey::OtherType),
        ("kty", json!("AKP"), UnusableKey::OtherType),
        ("kty", json!("EC"), UnusableKey::OtherCurve),
        ("use", json!("enc"), UnusableKey::NotForSignatures),
        ("use", json!("SIG"), UnusableKey::NotForSignatures),
        ("key_ops", json!(["encrypt"]), UnusableKey::NotForVerification),
        ("key_ops", json!(["sign"]), UnusableKey::NotForVerification),
        ("key_ops", json!([]), UnusableKey::NotForVerification),
        ("alg", json!("RSA-OAEP"), UnusableKey::OtherAlgorithm),
        ("alg", json!("RSA1_5"), UnusableKey::OtherAlgorithm),
        ("alg", json!("HS256"), UnusableKey::OtherAlgorithm),
        ("alg", json!("none"), UnusableKey::OtherAlgorithm),
        ("alg", json!("rs256"), UnusableKey::OtherAlgorithm),
        ("alg", json!("ES256"), UnusableKey::OtherAlgorithm),
        ("alg", json!(256), UnusableKey::Malformed),
        ("kid", Value::Null, UnusableKey::NoKeyId),
        ("kid", json!(""), UnusableKey::NoKeyId),
        ("kty", Value::Null, UnusableKey::Malformed),
        ("n", Value::Null, UnusableKey::Malformed),
        ("n", json!(""), UnusableKey::Malformed),
        ("n", json!("***"), UnusableKey::Malformed),
        ("e", Value::Null, UnusableKey::Malformed),
        ("kid", json!(5), UnusableKey::Malformed),
        ("d", json!("AQAB"), UnusableKey::Private),
    ] {
        assert_eq!(dropped(changed(name, value.clone())), why, "{name} = {value}");
    }
    for (name, value) in [
        ("use", Value::Null),
        ("alg", json!("RS256")),
        ("key_ops", json!(["verify"])),
        ("key_ops", json!(["sign", "verify"])),
        ("x5c", json!(["AAAA"])),
    ] {
        assert_eq!(parse(&[changed(name, value.clone())]).unwrap().len(), 1, "{name} = {value}");
    }
}

#[test]
fn a_secret_is_never_a_key() {
    let secret = json!({"kty": "oct", "kid": "one", "use": "sig", "alg": "HS256", "k": encode(&[1; 32])});
    assert_eq!(dropped(secret), UnusableKey::OtherType);
}

#[test]
fn a_key_without_alg_is_for_the_one_algorithm_of_its_type() {
    assert_eq!(only(SIGNER.jwk("one")), Algorithm::Rs256);
    let [p256, p384, ed25519] = curves();
    assert_eq!(only(p256), Algorithm::Es256);
    assert_eq!(only(p384), Algorithm::Es384);
    assert_eq!(only(ed25519), Algorithm::EdDsa);
}

#[test]
fn a_key_with_alg_is_for_that_algorithm_alone_and_of_its_type() {
    let [p256, p384, ed25519] = curves();
    let keys = [(SIGNER.jwk("one"), 0..6), (p256, 6..7), (p384, 7..8), (ed25519, 8..9)];
    for (key, allowed) in keys {
        for (index, algorithm) in Algorithm::ALL.into_iter().enumerate() {
            let key = with(key.clone(), "alg", json!(algorithm.as_str()));
            if allowed.contains(&index) {
                assert_eq!(only(key), algorithm);
            } else {
                assert_eq!(dropped(key), UnusableKey::OtherAlgorithm, "{algorithm}");
            }
        }
    }
}

#[test]
fn a_curve_is_one_of_three_and_of_its_own_type() {
    let [p256, p384, ed25519] = curves();
    for (key, crv) in [
        (&p256, json!("P-521")),
        (&p256, json!("secp256k1")),
        (&p256, json!("p-256")),
        (&p256, json!("Ed25519")),
        (&p256, Value::Null),
        (&ed25519, json!("Ed448")),
        (&ed25519, json!("X25519")),
        (&ed25519, json!("P-256")),
    ] {
        assert_eq!(dropped(with(key.clone(), "crv", crv.clone())), UnusableKey::OtherCurve, "{crv}");
    }
    // Coordinates of the other curve's length.
    assert_eq!(dropped(with(p256, "crv", json!("P-384"))), UnusableKey::Malformed);
    assert_eq!(dropped(with(p384, "crv", json!("P-256"))), UnusableKey::Malformed);
}

#[test]
fn a_point_is_on_its_curve_and_written_in_full() {
    let [p256, p384, ed25519] = curves();
    for (key, length) in [(&p256, 32), (&p384, 48)] {
        for (name, bytes) in [("x", vec![0; length]), ("y", vec![0; length]), ("y", vec![0xff; length])] {
            assert_eq!(dropped(with(key.clone(), name, json!(encode(&bytes)))), UnusableKey::Point, "{name}");
        }
        for bytes in [vec![1; length - 1], vec![1; length + 1], vec![]] {
            let key = with(key.clone(), "y", json!(encode(&bytes)));
            assert_eq!(dropped(key), UnusableKey::Malformed, "{}", bytes.len());
        }
    }
    for bytes in [vec![1; 31], vec![1; 33]] {
        assert_eq!(dropped(with(ed25519.clone(), "x", json!(encode(&bytes)))), UnusableKey::Malformed);
    }
    let swapped = with(with(p256.clone(), "x", p256["y"].clone()), "y", p256["x"].clone());
    assert_eq!(dropped(swapped), UnusableKey::Point);
}

#[test]
fn an_ed25519_key_under_which_anybody_can_sign_is_left_out() {
    // The neutral element as R and zero as S solve the equation for one message in eight or more.
    let mut forged = [0; 64];
    forged[0] = 1;
    let [_, _, ed25519] = curves();
    for (y, forgeable) in jwk::SMALL_ORDER.iter().zip([true, true, true, true, true, false, false]) {
        for sign in [0, 0x80] {
            let mut point = *y;
            point[31] |= sign;
            let key = UnparsedPublicKey::new(&ED25519, point);
            let found = (0..256_u32).any(|message| key.verify(&message.to_be_bytes(), &forged).is_ok());
            // aws-lc takes no second form of a number, so that the last two keys never verify anything.
            assert!(found || !forgeable || sign != 0, "{point:02x?}");
            let key = with(ed25519.clone(), "x", json!(encode(&point)));
            assert_eq!(dropped(key), UnusableKey::Point, "{point:02x?}");
        }
    }
}

#[test]
fn a_key_with_a_member_twice_is_left_out() {
    let key = SIGNER.jwk("one").to_string();
    for member in ["\"alg\":\"RS256\"", "\"kid\":\"two\"", "\"use\":\"enc\""] {
        let set = format!("{{\"keys\":[{}]}}", key.replacen('{', &format!("{{{member},{member},"), 1));
        assert!(KeySet::parse(set.as_bytes()).is_err(), "{member}");
    }
}

#[test]
fn a_set_of_more_than_a_thousand_keys_is_refused() {
    let keys = |count| parse(&vec![json!({"kty": "AKP"}); count]).unwrap_err().to_string();
    assert!(keys(1_000).starts_with("no key that verifies signatures"));
    assert_eq!(keys(1_001), "it holds 1001 keys, where 1000 are taken");
}

#[test]
fn a_modulus_has_2048_bits_or_more_and_no_leading_zero() {
    let modulus = |first: u8, length: usize| {
        let mut bytes = vec![0xff; length];
        bytes[0] = first;
        changed("n", json!(encode(&bytes)))
    };
    assert_eq!(dropped(modulus(0xff, 128)), UnusableKey::Size(1_024));
    assert_eq!(dropped(modulus(0x7f, 256)), UnusableKey::Size(2_047));
    assert_eq!(dropped(modulus(0x01, 1_025)), UnusableKey::Size(8_193));
    assert_eq!(dropped(modulus(0x00, 257)), UnusableKey::Malformed);
    assert!(parse(&[modulus(0x80, 256)]).is_ok());
}

#[test]
fn an_exponent_is_odd_and_more_than_one() {
    for bytes in [&[1][..], &[2], &[1, 0, 0], &[1, 0, 0, 0, 1]] {
        assert_eq!(dropped(changed("e", json!(encode(bytes)))), UnusableKey::Exponent, "{bytes:?}");
    }
    assert_eq!(dropped(changed("e", json!(encode(&[0, 3])))), UnusableKey::Malformed);
}

#[test]
fn a_key_of_an_unknown_kind_does_not_hide_the_others() {
    let keys = parse(&[json!({"kty": "AKP", "kid": "new"}), json!(5), SIGNER.jwk("one")]).unwrap();
    let tenant = TENANT.parse().unwrap();
    assert_eq!(keys.len(), 1);
    assert!(find(&keys, "one", Algorithm::Rs256, "any", tenant).is_ok());
    assert_eq!(find(&keys, "new", Algorithm::Rs256, "any", tenant).err(), Some(Flaw::UnknownKey));
}

#[test]
fn one_kid_may_have_a_key_for_each_issuer() {
    let key = |issuer: &str| changed("issuer", json!(issuer));
    let keys = parse(&[key("https://a/{tenantid}/"), key("https://b/")]).unwrap();
    let tenant = TENANT.parse().unwrap();
    assert_eq!(keys.len(), 2);
    assert!(find(&keys, "one", Algorithm::Rs256, &format!("https://a/{TENANT}/"), tenant).is_ok());
    assert!(find(&keys, "one", Algorithm::Rs256, "https://b/", tenant).is_ok());
    assert_eq!(find(&keys, "one", Algorithm::Rs256, "https://c/", tenant).err(), Some(Flaw::KeyOfAnother));
}

#[test]
fn a_set_without_a_usable_key_says_why_in_one_line() {
    let error = parse(&[changed("kty", json!("oct")), changed("use", json!("enc"))]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no key that verifies signatures, key `one`: its `kty` is none of RSA, EC and OKP, \
         key `one`: its `use` is not `sig`"
    );
    assert_eq!(parse(&[]).unwrap_err().to_string(), "no key that verifies signatures");
}
