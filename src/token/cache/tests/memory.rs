//! What remembering costs: allocations counted, in bytes.

use allocation_counter::measure;

use super::*;
use crate::id::ApplicationId;
use crate::time::Wall;
use crate::token::BearerToken;
use crate::token::claims::Claims;
use crate::token::claims::names::ENTRA;
use crate::token::route::Judge;

/// A caller as the claims of a token of Entra's make it, and a token of its length with this number in it.
fn caller(number: u128) -> (String, Principal) {
    let roles = json!(["Machine.CollectForensics", "Machine.Isolate", "Machine.Read.All", "Alert.Read.All"]);
    let claims = with(application(), "roles", roles);
    let claims = with(claims, "uti", json!("Zk2hxYd9s0mmcO1XlzEEAA")).to_string();
    let mut principal =
        Claims::parse(claims.as_bytes()).unwrap().principal(&ENTRA, TENANT.parse().unwrap()).unwrap();
    principal.subject.application = ApplicationId::from_u128(number);
    (format!("{number:01300}"), principal)
}

#[test]
fn finding_a_token_again_allocates_nothing() {
    let (verifier, token) = (ours(), SIGNER.sign(&user()));
    verify(&verifier, &token).unwrap();
    let headers = headers(&token);
    let (clock, _) = Clock::manual(Wall::from_unix_seconds(NOW));
    let counted = measure(|| {
        let bearer = BearerToken::find(&headers, None).unwrap();
        assert!(verifier.known(bearer, &clock).is_some());
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn a_hundred_thousand_tokens_are_all_remembered_and_take_no_more_bytes_than_they_count_for() {
    const TOKENS: u64 = 100_000;
    let verifier = ours();
    let cache = verifier.cache();
    let claims = application().to_string();
    let Judge { route, keys, .. } =
        verifier.routes().find(&Claims::parse(claims.as_bytes()).unwrap()).unwrap();
    let (clock, _) = Clock::manual(Wall::from_unix_seconds(NOW));
    let published = keys.usable(&clock).unwrap().published.clone();
    let counted = measure(|| {
        for number in 0..TOKENS {
            let (token, principal) = caller(number.into());
            let (rules, keys) = (Rules::Of(route.clone()), Some((keys.clone(), published.clone())));
            let grounds = Grounds { rules, keys, times: None, since: Steady::default() };
            cache.keep(&token, Entry { verdict: Ok(Arc::new(principal)), grounds });
        }
    });
    let state = verifier.remembered();
    assert_eq!(state.entries as u64, TOKENS);
    let taken = u64::try_from(counted.bytes_current).unwrap();
    let each = taken / TOKENS;
    assert!(taken <= state.bytes && (1_800..2_100).contains(&each), "{each} bytes each, {state:?}");
    for number in [0, 1, 4_711, u128::from(TOKENS) - 1] {
        let (token, principal) = caller(number);
        let found = cache.good.get(&token, |_| true).unwrap();
        assert_eq!(found.verdict.as_deref(), Ok(&principal));
    }
}

#[test]
fn a_hostile_stream_leaves_memory_flat_and_pushes_out_no_good_token() {
    // A million with the variable, for a build that is optimized.
    let rounds = if std::env::var_os("TOLLGATE_LONG").is_some() { 100 } else { 4 };
    let verifier = ours();
    let good: Vec<_> =
        (0..50).map(|number| SIGNER.sign(&with(application(), "uti", json!(number.to_string())))).collect();
    for token in &good {
        verify(&verifier, token).unwrap();
    }
    let stranger = STRANGER.sign(&application());
    let (signed, signature) = stranger.rsplit_once('.').unwrap();
    let (head, tail) = (encode(header().to_string().as_bytes()), &signature[30..]);
    let mut taken = Vec::new();
    for round in 0..rounds {
        let counted = measure(|| {
            for number in 0..10_000 {
                // One in fifty has a signature to be verified; the others end at their claims.
                let token = match number % 50 {
                    0 => format!("{signed}.{round:015}{number:015}{tail}"),
                    _ => format!("{head}.{round:0500}{number:0500}.{signature}"),
                };
                verify(&verifier, &token).unwrap_err();
            }
        });
        taken.push(counted.bytes_current);
        let before = verifier.remembered().hits;
        good.iter().for_each(|token| drop(verify(&verifier, token).unwrap()));
        assert_eq!(verifier.remembered().hits, before + good.len() as u64);
    }
    let refused = verifier.remembered_refused();
    assert!(refused.bytes <= REFUSED_SIZE && refused.entries > 5_000, "{refused:?}");
    // The first rounds fill the part; the later ones take what they free.
    let later: i64 = taken.iter().skip(2).sum();
    assert!(later.abs() < 1 << 20, "{taken:?}");
}
