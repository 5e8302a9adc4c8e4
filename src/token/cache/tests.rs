use serde_json::json;

use super::*;
use crate::token::Verifier;
use crate::token::forge::*;
use crate::token::keys::KeySet;

#[test]
fn a_token_that_was_seen_gets_the_verdict_that_a_new_one_gets_at_every_second_of_its_life() {
    let token = SIGNER.sign(&application());
    let seen = ours();
    // From before `nbf` less the skew to after `exp` and the skew, the edges to the second.
    let edges = [NOW - 300 - 60, NOW - 300, NOW + 3_600, NOW + 3_600 + 60];
    for now in edges.into_iter().flat_map(|edge| edge - 2..=edge + 2).chain([NOW]) {
        // Puts the token into the cache, whatever the time before was.
        let _ = verify_at(&seen, &token, NOW);
        assert_eq!(verify_at(&seen, &token, now), verify_at(&ours(), &token, now), "{}", now - NOW);
    }
}

#[test]
fn a_token_that_was_seen_is_the_same_answer_without_a_second_verification() {
    let (verifier, token) = (ours(), SIGNER.sign(&user()));
    let first = verify(&verifier, &token).unwrap();
    assert!(Arc::ptr_eq(&first, &verify(&verifier, &token).unwrap()));
}

#[test]
fn a_token_that_differs_in_one_letter_is_not_the_one_that_was_seen() {
    let (verifier, token) = (ours(), SIGNER.sign(&application()));
    verify(&verifier, &token).unwrap();
    for place in [10, token.len() / 2, token.len() - 20] {
        let mut other = token.clone().into_bytes();
        other[place] = if other[place] == b'A' { b'B' } else { b'A' };
        assert!(verify(&verifier, &String::from_utf8(other).unwrap()).is_err(), "{place}");
    }
}

#[test]
fn a_refused_token_is_not_kept() {
    let verifier = ours();
    for claims in [with(application(), "aud", json!("other")), with(application(), "exp", json!(NOW - 3_600))]
    {
        assert!(verify(&verifier, &SIGNER.sign(&claims)).is_err());
    }
    assert!(verify(&verifier, &STRANGER.sign(&application())).is_err());
    assert_eq!(verifier.cache().len(), 0);
}

#[test]
fn a_reload_that_leaves_the_issuers_as_they_are_keeps_the_tokens() {
    let (before, token) = (ours(), SIGNER.sign(&application()));
    let principal = verify(&before, &token).unwrap();
    let after = verifier(&files(&issuers(), &[SIGNER.jwk("one")]), Some(&before));
    assert!(Arc::ptr_eq(&principal, &verify(&after, &token).unwrap()));
}

#[test]
fn a_token_that_was_seen_is_held_to_rules_and_keys_that_change() {
    let token = SIGNER.sign(&application());
    let changed: [(&str, Arc<Verifier>); 4] = [
        ("audiences", reloaded(&issuers().replace(AUDIENCE, "other"), SIGNER.jwk("one"))),
        ("tenants", reloaded(&issuers().replace(TENANT, OTHER_TENANT), SIGNER.jwk("one"))),
        ("keys", reloaded(&issuers(), STRANGER.jwk("one"))),
        ("skew", reloaded(&format!("clock_skew = \"0s\"\n{}", issuers()), SIGNER.jwk("one"))),
    ];
    for (what, after) in changed {
        let now = if what == "skew" { NOW + 3_600 } else { NOW };
        assert!(verify_at(&after, &token, now).is_err(), "{what}");
    }

    /// The verifier after a reload, before which the token was seen.
    fn reloaded(issuers: &str, key: serde_json::Value) -> Arc<Verifier> {
        let before = ours();
        verify(&before, &SIGNER.sign(&application())).unwrap();
        verifier(&files(issuers, &[key]), Some(&before))
    }
}

#[test]
fn a_token_that_was_seen_is_verified_again_when_its_issuer_has_other_keys() {
    let (verifier, token) = (ours(), SIGNER.sign(&application()));
    verify(&verifier, &token).unwrap();
    let keys = |key| KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes()).unwrap();
    verifier.keys().iter().for_each(|keys_of| keys_of.ring.replace(keys(STRANGER.jwk("one"))));
    assert!(verify(&verifier, &token).is_err());
    verifier.keys().iter().for_each(|keys_of| keys_of.ring.replace(keys(SIGNER.jwk("one"))));
    assert!(verify(&verifier, &token).is_ok());
}

#[test]
fn there_is_room_for_so_many_bytes_and_no_more() {
    let verifier = ours();
    let principal = verify(&verifier, &SIGNER.sign(&application())).unwrap();
    let keys = verifier.keys()[0].clone();
    let published = Arc::new(Published::default());
    let cache = TokenCache::default();
    for number in 0..10_000 {
        let entry = Verified {
            principal: principal.clone(),
            not_before: None,
            keys: keys.clone(),
            published: published.clone(),
        };
        cache.insert(&format!("{number:08192}"), entry);
    }
    let most = CAPACITY / (2 * 8_192 + ENTRY);
    assert!(cache.len() as u64 <= most && cache.len() as u64 > most / 2, "{} of {most}", cache.len());
}
