use serde_json::{Value, json};

use super::*;
use crate::token::forge::{SIGNER, TENANT, encode, with};

fn parse(keys: &[Value]) -> Result<KeySet, InvalidKeys> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

fn dropped(key: Value) -> UnusableKey {
    match parse(&[key]).unwrap_err() {
        InvalidKeys::NoUsableKey(keys) => keys[0].1,
        InvalidKeys::NotJson(error) => panic!("{error}"),
    }
}

fn changed(name: &str, value: Value) -> Value {
    with(SIGNER.jwk("one"), name, value)
}

#[test]
fn a_key_that_is_not_for_verifying_rs256_is_left_out() {
    for (name, value, why) in [
        ("kty", json!("EC"), UnusableKey::NotRsa),
        ("kty", json!("oct"), UnusableKey::NotRsa),
        ("kty", json!("rsa"), UnusableKey::NotRsa),
        ("use", json!("enc"), UnusableKey::NotForSignatures),
        ("key_ops", json!(["encrypt"]), UnusableKey::NotForVerification),
        ("key_ops", json!([]), UnusableKey::NotForVerification),
        ("alg", json!("RS512"), UnusableKey::OtherAlgorithm),
        ("alg", json!("RSA-OAEP"), UnusableKey::OtherAlgorithm),
        ("kid", Value::Null, UnusableKey::NoKeyId),
        ("kid", json!(""), UnusableKey::NoKeyId),
        ("kty", Value::Null, UnusableKey::Malformed),
        ("n", Value::Null, UnusableKey::Malformed),
        ("n", json!(""), UnusableKey::Malformed),
        ("n", json!("***"), UnusableKey::Malformed),
        ("e", Value::Null, UnusableKey::Malformed),
        ("kid", json!(5), UnusableKey::Malformed),
    ] {
        assert_eq!(dropped(changed(name, value.clone())), why, "{name} = {value}");
    }
    for (name, value) in [
        ("use", Value::Null),
        ("alg", json!("RS256")),
        ("key_ops", json!(["verify"])),
        ("x5c", json!(["AAAA"])),
    ] {
        assert_eq!(parse(&[changed(name, value.clone())]).unwrap().len(), 1, "{name} = {value}");
    }
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
    assert!(keys.find("one", "any", tenant).is_ok());
    assert_eq!(keys.find("new", "any", tenant).err(), Some(Flaw::UnknownKey));
}

#[test]
fn one_kid_may_have_a_key_for_each_issuer() {
    let key = |issuer: &str| changed("issuer", json!(issuer));
    let keys = parse(&[key("https://a/{tenantid}/"), key("https://b/")]).unwrap();
    let tenant = TENANT.parse().unwrap();
    assert_eq!(keys.len(), 2);
    assert!(keys.find("one", &format!("https://a/{TENANT}/"), tenant).is_ok());
    assert!(keys.find("one", "https://b/", tenant).is_ok());
    assert_eq!(keys.find("one", "https://c/", tenant).err(), Some(Flaw::KeyOfAnother));
}

#[test]
fn a_set_without_a_usable_key_says_why_in_one_line() {
    let error = parse(&[changed("kty", json!("EC")), changed("use", json!("enc"))]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no key that verifies RS256, key `one`: its `kty` is not RSA, key `one`: its `use` is not `sig`"
    );
    assert_eq!(parse(&[]).unwrap_err().to_string(), "no key that verifies RS256");
}
