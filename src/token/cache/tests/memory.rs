//! What remembering costs: allocations counted, in bytes.

use std::sync::LazyLock;

use allocation_counter::measure;

use super::*;
use crate::id::ApplicationId;
use crate::time::Wall;
use crate::token::BearerToken;
use crate::token::claims::Claims;
use crate::token::claims::names::ENTRA;
use crate::token::route::Judge;

/// The same caller again and again, whose texts are shared.
static CALLER: LazyLock<Principal> = LazyLock::new(parsed);

/// A caller as the claims of a token of Entra's make it.
fn parsed() -> Principal {
    let roles = json!(["Machine.CollectForensics", "Machine.Isolate", "Machine.Read.All", "Alert.Read.All"]);
    let claims = with(application(), "roles", roles);
    let claims = with(claims, "uti", json!("Zk2hxYd9s0mmcO1XlzEEAA")).to_string();
    Claims::parse(claims.as_bytes()).unwrap().principal(&ENTRA, TENANT.parse().unwrap()).unwrap()
}

/// A caller with this number in its id, and a token of Entra's length with the number in it.
fn caller(mut principal: Principal, number: u128) -> (String, Principal) {
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

/// A hundred thousand callers at once, with a token each.
const CALLERS: u64 = 100_000;

/// Remembers them all, as their verification would.
fn remember_all(verifier: &Verifier, principal: impl Fn() -> Principal) {
    let claims = application().to_string();
    let claims = Claims::parse(claims.as_bytes()).unwrap();
    let Judge { route, keys, .. } = verifier.routes().find(&claims).unwrap();
    let (clock, _) = Clock::manual(Wall::from_unix_seconds(NOW));
    let named = keys.usable(&clock).unwrap().published.keys.named("one").unwrap().clone();
    let basis = Basis::Named { keys: named, issuer: None };
    for number in 0..CALLERS {
        let (token, principal) = caller(principal(), number.into());
        let (rules, keys) = (Rules::Of(route.clone()), Some((keys.clone(), basis.clone())));
        let grounds = Grounds { rules, keys, times: None, since: clock.steady() };
        verifier.cache().keep(&token, Entry { verdict: Ok(Arc::new(principal)), grounds });
    }
}

/// Whether every one of them is known.
fn all_are_known(verifier: &Verifier) -> bool {
    let (clock, _) = Clock::manual(Wall::from_unix_seconds(NOW));
    (0..CALLERS).all(|number| {
        let (token, principal) = caller(CALLER.clone(), number.into());
        let headers = headers(&token);
        let known = verifier.known(BearerToken::find(&headers, None).unwrap(), &clock);
        known.is_some_and(|verdict| verdict.as_deref() == Ok(&principal))
    })
}

#[test]
fn a_hundred_thousand_tokens_are_all_remembered_and_take_no_more_bytes_than_they_count_for() {
    let verifier = ours();
    let counted = measure(|| remember_all(&verifier, parsed));
    let state = verifier.remembered();
    assert_eq!(state.entries as u64, CALLERS);
    let taken = u64::try_from(counted.bytes_current).unwrap();
    let each = taken / CALLERS;
    assert!(taken <= state.bytes && (1_800..2_100).contains(&each), "{each} bytes each, {state:?}");
    assert!(all_are_known(&verifier));
}

#[test]
fn a_hostile_stream_leaves_memory_flat_and_pushes_out_no_good_token() {
    // A million with the variable, for a build that is optimized.
    let rounds = if std::env::var_os("TOLLGATE_LONG").is_some() { 100 } else { 4 };
    let verifier = ours();
    remember_all(&verifier, || CALLER.clone());
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
    }
    assert!(all_are_known(&verifier));
    assert_eq!(verifier.remembered().entries as u64, CALLERS);
    let refused = verifier.remembered_refused();
    assert!(refused.bytes <= REFUSED_SIZE && refused.entries > 5_000, "{refused:?}");
    println!("{} wrong tokens, {refused:?}, bytes taken by each ten thousand: {taken:?}", rounds * 10_000);
    // The first rounds fill the part; the later ones take what they free.
    let later: i64 = taken.iter().skip(2).sum();
    assert!(later.abs() < 1 << 20, "{taken:?}");
}
