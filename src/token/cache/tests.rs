use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::{Value, json};

use super::*;
use crate::token::Flaw;
use crate::token::Verifier;
use crate::token::forge::*;
use crate::token::keys::KeySet;

mod memory;

/// How many verdicts are held: good ones, refusals.
fn held(verifier: &Verifier) -> (usize, usize) {
    (verifier.remembered().entries, verifier.remembered_refused().entries)
}

/// Every issuer publishes these keys from now on.
fn replace_keys(verifier: &Verifier, keys: &[Value]) {
    let text = json!({ "keys": keys }).to_string();
    for issuer in verifier.keys() {
        let keys = if keys.is_empty() { KeySet::default() } else { KeySet::parse(text.as_bytes()).unwrap() };
        issuer.ring.replace_keys(keys);
    }
}

fn early() -> Value {
    with(application(), "nbf", json!(NOW + 1_000))
}

fn expired() -> Value {
    with(application(), "exp", json!(NOW - 1_000))
}

#[test]
fn a_token_that_was_seen_gets_the_verdict_that_a_new_one_gets_at_every_second_of_its_life() {
    let token = SIGNER.sign(&application());
    let seen = ours();
    // From before `nbf` less the skew to after `exp` and the skew, the edges to the second.
    let edges = [NOW - 300 - 60, NOW - 300, NOW + 3_600, NOW + 3_600 + 60];
    for now in edges.into_iter().flat_map(|edge| edge - 2..=edge + 2).chain([NOW]) {
        // Puts the token into either part of the cache, whatever the time before was.
        for before in [NOW, NOW + 10_000] {
            let _ = verify_at(&seen, &token, before);
            assert_eq!(verify_at(&seen, &token, now), verify_at(&ours(), &token, now), "{}", now - NOW);
        }
    }
}

#[test]
fn a_token_that_was_seen_is_the_same_answer_without_a_second_verification() {
    let (verifier, token) = (ours(), SIGNER.sign(&user()));
    let first = verify(&verifier, &token).unwrap();
    assert!(Arc::ptr_eq(&first, &verify(&verifier, &token).unwrap()));
    let state = verifier.remembered();
    assert_eq!((state.entries, state.hits, state.misses), (1, 1, 1));
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
fn lasting_refusals_are_kept_apart_from_the_good_and_found_again() {
    let refused = [
        ("no token", "x".to_owned()),
        ("malformed claims", SIGNER.sign_text(&header().to_string(), "{")),
        ("a claim of the wrong type", SIGNER.sign(&with(application(), "roles", json!("one")))),
        ("a wrong signature", STRANGER.sign(&application())),
        ("another issuer", SIGNER.sign(&with(application(), "iss", json!("other")))),
        ("another audience", SIGNER.sign(&with(application(), "aud", json!("other")))),
        ("expired", SIGNER.sign(&expired())),
    ];
    let verifier = ours();
    verify(&verifier, &SIGNER.sign(&application())).unwrap();
    for (number, (what, token)) in refused.iter().enumerate() {
        let error = verify(&verifier, token).unwrap_err();
        assert_eq!(held(&verifier), (1, number + 1), "{what}");
        let hits = verifier.remembered_refused().hits;
        assert_eq!(verify(&verifier, token), Err(error), "{what}");
        assert_eq!(verifier.remembered_refused().hits, hits + 1, "{what}");
    }
}

#[test]
fn what_may_be_right_a_moment_later_is_not_kept() {
    let verifier = ours();
    let unknown = with(header(), "kid", json!("two")).to_string();
    let unknown = SIGNER.sign_text(&unknown, &application().to_string());
    assert_eq!(verify(&verifier, &unknown), Err(Flaw::UnknownKey.into()));
    assert_eq!(verify(&verifier, &SIGNER.sign(&early())), Err(TokenError::NotYetValid));
    assert_eq!(verify(&verifier, &"a".repeat(8_193)), Err(Flaw::TooLong.into()));
    replace_keys(&verifier, &[]);
    let error = verify(&verifier, &SIGNER.sign(&application())).unwrap_err();
    assert!(matches!(error, TokenError::KeysUnavailable { .. }), "{error}");
    assert_eq!(held(&verifier), (0, 0));
}

#[test]
fn a_reload_that_leaves_the_issuers_as_they_are_keeps_the_tokens() {
    let (before, token, wrong) = (ours(), SIGNER.sign(&application()), STRANGER.sign(&application()));
    let principal = verify(&before, &token).unwrap();
    verify(&before, &wrong).unwrap_err();
    let after = verifier(&files(&issuers(), &[SIGNER.jwk("one")]), Some(&before));
    assert!(Arc::ptr_eq(&principal, &verify(&after, &token).unwrap()));
    verify(&after, &wrong).unwrap_err();
    assert_eq!((after.remembered().hits, after.remembered_refused().hits), (1, 1));
}

#[test]
fn a_reload_that_changes_one_issuer_keeps_the_tokens_of_the_others() {
    let (before, v1, v2) = (ours(), SIGNER.sign(&application()), SIGNER.sign(&user()));
    verify(&before, &v1).unwrap();
    let principal = verify(&before, &v2).unwrap();
    let after =
        verifier(&files(&issuers().replacen(AUDIENCE, "other", 1), &[SIGNER.jwk("one")]), Some(&before));
    assert!(Arc::ptr_eq(&principal, &verify(&after, &v2).unwrap()));
    assert_eq!(verify(&after, &v1), Err(TokenError::WrongAudience));
}

#[test]
fn a_refused_token_is_held_to_rules_that_change() {
    let before = ours();
    let (elsewhere, stranger) = (with(application(), "aud", json!("other")), STRANGER.sign(&application()));
    let (elsewhere, late) =
        (SIGNER.sign(&elsewhere), SIGNER.sign(&with(application(), "exp", json!(NOW - 90))));
    for token in [&elsewhere, &stranger, &late] {
        verify(&before, token).unwrap_err();
    }
    for (issuers, key, token) in [
        (issuers().replace(AUDIENCE, "other"), &SIGNER, &elsewhere),
        (issuers(), &STRANGER, &stranger),
        (format!("clock_skew = \"120s\"\n{}", issuers()), &SIGNER, &late),
    ] {
        let after = verifier(&files(&issuers, &[key.jwk("one")]), Some(&before));
        assert!(verify(&after, token).is_ok(), "{issuers}");
    }
}

#[test]
fn a_token_that_was_seen_is_verified_again_when_its_issuer_has_other_keys() {
    let (verifier, token) = (ours(), SIGNER.sign(&application()));
    verify(&verifier, &token).unwrap();
    replace_keys(&verifier, &[STRANGER.jwk("one")]);
    assert!(verify(&verifier, &token).is_err());
    replace_keys(&verifier, &[SIGNER.jwk("one")]);
    assert!(verify(&verifier, &token).is_ok());
}

#[test]
fn keys_that_are_added_or_withdrawn_forget_no_token_by_another() {
    let (verifier, token) = (ours(), SIGNER.sign(&application()));
    let wrong = STRANGER.sign(&application());
    let principal = verify(&verifier, &token).unwrap();
    verify(&verifier, &wrong).unwrap_err();
    for keys in [&[SIGNER.jwk("one"), STRANGER.jwk("two")][..], &[SIGNER.jwk("one")]] {
        replace_keys(&verifier, keys);
        assert!(Arc::ptr_eq(&principal, &verify(&verifier, &token).unwrap()));
        verify(&verifier, &wrong).unwrap_err();
    }
    assert_eq!((verifier.remembered().hits, verifier.remembered_refused().hits), (2, 2));
    // A second key of the same name might be the one that is taken.
    replace_keys(&verifier, &[STRANGER.jwk("one"), SIGNER.jwk("one")]);
    assert!(verify(&verifier, &token).is_err());
    assert!(verify(&verifier, &wrong).is_ok());
}

#[test]
fn keys_that_are_fetched_again_and_are_the_same_in_any_order_forget_no_token() {
    let (two, token) = ([SIGNER.jwk("one"), STRANGER.jwk("two")], SIGNER.sign(&application()));
    let verifier = verifier(&files(&issuers(), &two), None);
    let principal = verify(&verifier, &token).unwrap();
    let [one, two] = two;
    replace_keys(&verifier, &[two, one]);
    assert!(Arc::ptr_eq(&principal, &verify(&verifier, &token).unwrap()));
}

/// Every verdict of a verifier that has seen all of this before is the verdict of one that has seen nothing.
#[test]
fn what_is_remembered_never_changes_a_verdict_however_time_rules_and_keys_go() {
    let tokens = [
        SIGNER.sign(&application()),
        SIGNER.sign(&user()),
        STRANGER.sign(&application()),
        SIGNER.sign(&early()),
        SIGNER.sign(&expired()),
        SIGNER.sign(&with(early(), "aud", json!("other"))),
        SIGNER.sign(&with(with(application(), "aud", json!("other")), "nbf", Value::Null)),
        SIGNER.sign(&with(application(), "roles", json!("one"))),
        SIGNER.sign(&with(application(), "iat", json!("one"))),
        SIGNER.sign(&with(application(), "exp", Value::Null)),
        SIGNER.sign(&with(application(), "tid", json!(OTHER_TENANT))),
        SIGNER.sign_text(&with(header(), "kid", json!("two")).to_string(), &user().to_string()),
        "x.y.z".to_owned(),
    ];
    let rules = [
        issuers(),
        issuers().replacen(AUDIENCE, "other", 1),
        issuers().replace(TENANT, OTHER_TENANT),
        format!("clock_skew = \"0s\"\n{}", issuers()),
        format!("cache_entries = 64\n{}", issuers()),
    ];
    let key_sets = [
        vec![SIGNER.jwk("one")],
        vec![STRANGER.jwk("one")],
        vec![SIGNER.jwk("one"), SIGNER.jwk("two")],
        vec![STRANGER.jwk("three")],
    ];
    let times = [-1_000, -361, -360, 0, 940, 999, 1_001, 3_599, 3_660, 3_661, 10_000];

    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut pick = |length: usize| random.next_u32() as usize % length;
    let mut files = files(&rules[0], &key_sets[0]);
    let mut seen = verifier(&files, None);
    let mut verdicts = std::collections::BTreeMap::new();
    for step in 0..3_000 {
        if pick(20) == 0 {
            files = crate::token::forge::files(&rules[pick(rules.len())], &key_sets[pick(key_sets.len())]);
            seen = verifier(&files, Some(&seen));
        }
        let (token, time) = (pick(tokens.len()), times[pick(times.len())]);
        let verdict = verify_at(&seen, &tokens[token], NOW + time);
        assert_eq!(
            verdict,
            verify_at(&verifier(&files, None), &tokens[token], NOW + time),
            "{step}: {token}"
        );
        *verdicts.entry(verdict.err().map(|error| error.to_string())).or_insert(0) += 1;
    }
    // It was worth the trouble: verdicts of every kind, and many of them remembered.
    assert!(verdicts.len() >= 10, "{verdicts:?}");
    let (good, refused) = (seen.remembered(), seen.remembered_refused());
    assert!(good.hits > 50 && refused.hits > 300, "{good:?} {refused:?}");
}

#[test]
fn a_token_is_remembered_for_as_long_as_the_policy_says_and_no_longer() {
    let verifier =
        verifier(&files(&format!("cache_for = \"10m\"\n{}", issuers()), &[SIGNER.jwk("one")]), None);
    let (clock, hand) = Clock::manual(crate::time::Wall::from_unix_seconds(NOW));
    let token = SIGNER.sign(&application());
    let headers = headers(&token);
    let bearer = crate::token::BearerToken::find(&headers, None).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(verifier.verify(bearer, &clock)).unwrap();
    hand.advance(Duration::from_secs(599));
    assert!(verifier.known(bearer, &clock).is_some_and(|verdict| verdict.is_ok()));
    hand.advance(Duration::from_secs(1));
    assert!(verifier.known(bearer, &clock).is_none());
}

#[test]
fn tokens_that_have_expired_are_swept_out_and_the_others_stay() {
    let verifier = ours();
    verify(&verifier, &SIGNER.sign(&application())).unwrap();
    verify(&verifier, &SIGNER.sign(&with(user(), "exp", json!(NOW + 60)))).unwrap();
    verify(&verifier, &STRANGER.sign(&user())).unwrap_err();
    let (clock, hand) = Clock::manual(crate::time::Wall::from_unix_seconds(NOW));
    verifier.sweep(&clock);
    assert_eq!(held(&verifier), (2, 1));
    hand.advance(Duration::from_secs(120));
    verifier.sweep(&clock);
    assert_eq!(held(&verifier), (1, 1));
}

#[test]
fn what_the_file_says_of_the_cache_is_held_to_its_bounds() {
    let wrong = |head: &str| problems(&files(&format!("{head}\n{}", issuers()), &[SIGNER.jwk("one")]));
    for head in [
        "cache_entries = 1",
        "cache_size = \"1 MiB\"",
        "cache_size = \"16 GiB\"",
        "cache_for = \"1s\"",
        "cache_for = \"24h\"",
    ] {
        assert_eq!(wrong(head), [""; 0], "{head}");
    }
    for number in [0, -1, 16_777_217] {
        let problem = format!("issuers.toml:1:17: `{number}` is not a number from 1 to 16777216");
        assert_eq!(wrong(&format!("cache_entries = {number}")), [problem]);
    }
    for text in ["", "1", "1MiB", "1023 KiB", "0 MiB", "+1 MiB", "17 GiB", "99999999999999999999 GiB"] {
        let problem = format!("issuers.toml:1:14: `{text}` is not a size from `1 MiB` to `16 GiB`");
        assert_eq!(wrong(&format!("cache_size = \"{text}\"")), [problem]);
    }
    for text in ["0s", "25h", "soon", ""] {
        let problem = format!("issuers.toml:1:13: `{text}` is not a time from `1s` to `24h`");
        assert_eq!(wrong(&format!("cache_for = \"{text}\"")), [problem]);
    }
    assert!(wrong("cache_for = 600")[0].contains("expected a string"), "{:?}", wrong("cache_for = 600"));
}

#[test]
fn another_size_is_another_cache_whose_lookups_are_counted_on() {
    let (before, token) = (ours(), SIGNER.sign(&application()));
    verify(&before, &token).unwrap();
    let after =
        verifier(&files(&format!("cache_entries = 64\n{}", issuers()), &[SIGNER.jwk("one")]), Some(&before));
    assert_eq!((after.remembered().entries, after.remembered().misses), (0, 1));
}
