use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::source::SourceFile;
use crate::time::Wall;
use crate::token::forge::*;
use crate::token::ring::{DEMAND_WAIT, FIRST_RETRY, LAST_RETRY, REFRESH_INTERVAL};
use crate::token::site::*;
use crate::token::{Fetches, IssuerState, TokenError};

#[tokio::test]
async fn keys_are_found_by_discovery_and_until_then_the_token_waits() {
    let mut site = Site::start();
    let verifier = verifier(&site.files(), None);
    let (clock, hand) = clock();
    let unavailable = TokenError::KeysUnavailable { retry_after: Duration::from_secs(1) };
    let token = site.token();
    let (verdict, ()) = tokio::join!(biased; verify_now(&verifier, &token, &clock), async {
        hand.advance(DEMAND_WAIT);
    });
    assert_eq!(verdict, Some(unavailable));
    assert_eq!(site.count_hits(), 0);

    refresh_now(&verifier, &clock).await;
    assert_eq!(verify_now(&verifier, &site.token(), &clock).await, None);
    assert_eq!(
        state(&verifier, &clock),
        IssuerState {
            name: "site".into(),
            source: format!("{}{CONFIGURATION}", site.base).into(),
            keys: 1,
            fetched: Some(clock.wall()),
            age: Some(Duration::ZERO),
            error: None,
            fetches: Fetches { succeeded: 1, failed: 0 },
        }
    );
    assert_eq!(
        (site.hits.try_recv().unwrap(), site.hits.try_recv().unwrap()),
        (CONFIGURATION.into(), "/keys".into())
    );
}

#[tokio::test]
async fn a_fetch_that_gives_no_keys_says_why_and_keeps_the_old_ones() {
    let site = Site::start();
    let verifier = verifier(&site.files(), None);
    let (clock, hand) = clock();
    refresh_now(&verifier, &clock).await;

    let base = &site.base;
    let large = " ".repeat(1_024 * 1_024) + "{}";
    let cases: &[(&str, Answer, &str)] = &[
        (CONFIGURATION, Answer::Status(500), "answers 500"),
        (CONFIGURATION, Answer::Status(204), "answers 204"),
        (CONFIGURATION, Answer::Redirect(format!("{base}/keys")), "answers 302"),
        (CONFIGURATION, Answer::Ok("<html>".into()), "is not a discovery document"),
        (CONFIGURATION, Answer::Ok("{}".into()), "is not a discovery document"),
        (CONFIGURATION, Answer::Ok(large.clone()), "is larger than 1048576 bytes"),
        ("/keys", Answer::Status(503), "answers 503"),
        ("/keys", Answer::Redirect("https://x/".into()), "answers 302"),
        ("/keys", Answer::Ok("<html>".into()), "not a JSON web key set"),
        ("/keys", Answer::Ok("{\"keys\":[]}".into()), "no key that verifies signatures"),
        (
            "/keys",
            Answer::Ok(json!({"keys": [{"kty": "oct", "kid": "x"}]}).to_string()),
            "its `kty` is none of RSA, EC and OKP",
        ),
        ("/keys", Answer::Ok(large), "is larger than 1048576 bytes"),
    ];
    for (path, answer, expected) in cases {
        site.publish(&[SIGNER.jwk("one")]);
        site.set(path, answer.clone());
        hand.advance(REFRESH_INTERVAL.mul_f64(1.1));
        refresh_now(&verifier, &clock).await;
        let state = state(&verifier, &clock);
        let error = state.error.expect(expected);
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        assert_eq!((state.keys, state.fetched), (1, Some(Wall::from_unix_seconds(NOW))), "{error}");
    }
    hand.step_wall(Wall::from_unix_seconds(NOW));
    assert_eq!(verify_now(&verifier, &site.token(), &clock).await, None);

    site.publish(&[SIGNER.jwk("one"), STRANGER.jwk("two")]);
    hand.advance(LAST_RETRY);
    refresh_now(&verifier, &clock).await;
    assert_eq!((state(&verifier, &clock).keys, state(&verifier, &clock).error), (2, None));
}

#[tokio::test]
async fn a_document_of_another_issuer_or_with_an_open_address_is_refused() {
    let mut site = Site::start();
    let (issuer, keys) = (format!("{}/", site.base), format!("{}/keys", site.base));
    for (issuer, keys, expected) in [
        ("https://evil.example/", keys.as_str(), "is of issuer `https://evil.example/`, not of"),
        (&issuer[..issuer.len() - 1], &keys, "is of issuer"),
        (&issuer, "http://keys.example/keys", "`jwks_uri` is refused: it is neither https nor http"),
        (&issuer, "file:///etc/keys", "`jwks_uri` is refused"),
        (&issuer, "keys", "`jwks_uri` is refused: it is not a URL"),
    ] {
        site.describe(issuer, keys);
        let verifier = verifier(&site.files(), None);
        let (clock, _) = clock();
        refresh_now(&verifier, &clock).await;
        let error = state(&verifier, &clock).error.expect(expected);
        assert!(error.contains(expected), "{error}");
        assert_eq!((state(&verifier, &clock).keys, site.count_hits()), (0, 1), "{error}");
    }
}

#[tokio::test]
async fn a_document_may_be_fetched_for_each_tenant_or_once_for_all() {
    for path in ["/{tid}", ""] {
        let mut site = Site::start();
        let issuer = format!("{}/{{tenantid}}/v2.0", site.base);
        let written = issuer.replace("tenantid", "tid");
        let toml = format!(
            "[[issuer]]\nname = \"site\"\nissuer = \"{written}\"\ntenants = [\"{TENANT}\", \"{OTHER_TENANT}\"]\n\
             audiences = [\"{AUDIENCE}\"]\ndiscovery = \"{}{path}{CONFIGURATION}\"\n",
            site.base
        );
        site.describe(&issuer, &format!("{}/keys", site.base));
        let document = site.answers.lock()[CONFIGURATION].clone();
        for tenant in [TENANT, OTHER_TENANT] {
            site.set(&format!("/{tenant}{CONFIGURATION}"), document.clone());
        }
        let verifier = verifier(&files(&toml, &[]), None);
        let (clock, _) = clock();
        refresh_now(&verifier, &clock).await;
        for tenant in [TENANT, OTHER_TENANT] {
            let claims = with(application(), "iss", json!(issuer.replace("{tenantid}", tenant)));
            let token = SIGNER.sign(&with(claims, "tid", json!(tenant)));
            assert_eq!(verify_now(&verifier, &token, &clock).await, None, "{path}");
        }
        let rings = if path.is_empty() { 1 } else { 2 };
        assert_eq!((verifier.sources(), site.count_hits()), (rings, 2 * rings), "{path}");
    }
}

#[tokio::test]
async fn an_issuers_certificate_is_trusted_by_its_own_authority_only() {
    let (site, pem) = Site::start_tls();
    let (clock, _) = clock();
    let stranger = verifier(&site.files(), None);
    refresh_now(&stranger, &clock).await;
    let error = state(&stranger, &clock).error.unwrap();
    assert!(error.contains("certificate"), "{error}");

    let mut files = site.files();
    let toml = files.get("issuers.toml").unwrap().text().to_owned() + "ca = \"ca.pem\"\n";
    files.insert(SourceFile::new("issuers.toml", toml));
    files.insert(SourceFile::new("ca.pem", pem));
    let verifier = verifier(&files, None);
    refresh_now(&verifier, &clock).await;
    assert_eq!((state(&verifier, &clock).error, state(&verifier, &clock).keys), (None, 1));
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_given_up_after_five_seconds() {
    let mut site = Site::start();
    site.set("/keys", Answer::Never);
    let verifier = verifier(&site.files(), None);
    let (clock, hand) = clock();
    let round = tokio::spawn({
        let (verifier, clock) = (verifier.clone(), clock.clone());
        async move { refresh_now(&verifier, &clock).await }
    });
    while site.hits.recv().await.unwrap() != "/keys" {}
    hand.advance(Duration::from_millis(4_999));
    tokio::task::yield_now().await;
    assert!(!round.is_finished());
    hand.advance(Duration::from_millis(1));
    round.await.unwrap();
    assert_eq!(state(&verifier, &clock).error.as_deref(), Some("no answer in 5 s"));
}

#[tokio::test]
async fn keys_are_fetched_again_after_an_hour_give_or_take_a_tenth() {
    let mut site = Site::start();
    let verifier = verifier(&site.files(), None);
    let (clock, hand) = clock();
    for _ in 0..5 {
        refresh_now(&verifier, &clock).await;
        assert_eq!(site.count_hits(), 2);
        hand.advance(REFRESH_INTERVAL.mul_f64(0.9) - Duration::from_secs(1));
        refresh_now(&verifier, &clock).await;
        assert_eq!(site.count_hits(), 0);
        hand.advance(REFRESH_INTERVAL.mul_f64(0.2) + Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_failure_is_tried_again_in_30_s_doubled_to_5_min() {
    let mut site = Site::start();
    site.set(CONFIGURATION, Answer::Status(500));
    let verifier = verifier(&site.files(), None);
    let (clock, hand) = clock();
    refresh_now(&verifier, &clock).await;
    assert_eq!(site.count_hits(), 1);
    for seconds in [30, 60, 120, 240, 300, 300] {
        let wait = Duration::from_secs(seconds);
        // A request may ask for the keys sooner than their turn comes.
        let retry = Some(TokenError::KeysUnavailable { retry_after: FIRST_RETRY });
        assert_eq!(verify_now(&verifier, &site.token(), &clock).await, retry);
        hand.advance(wait - Duration::from_millis(1));
        refresh_now(&verifier, &clock).await;
        assert_eq!(site.count_hits(), 0, "{seconds}");
        hand.advance(Duration::from_millis(1));
        refresh_now(&verifier, &clock).await;
        assert_eq!(site.count_hits(), 1, "{seconds}");
    }
    site.publish(&[SIGNER.jwk("one")]);
    hand.advance(LAST_RETRY);
    refresh_now(&verifier, &clock).await;
    assert_eq!(site.count_hits(), 2);
    site.set(CONFIGURATION, Answer::Status(500));
    hand.advance(REFRESH_INTERVAL.mul_f64(1.1));
    refresh_now(&verifier, &clock).await;
    hand.advance(FIRST_RETRY);
    site.publish(&[SIGNER.jwk("one")]);
    refresh_now(&verifier, &clock).await;
    assert_eq!(site.count_hits(), 3, "a success starts the waits from the beginning");
}

#[tokio::test]
async fn the_refresher_picks_up_an_issuer_that_a_reload_added() {
    let (mut first, mut second) = (Site::start(), Site::start());
    let current = Arc::new(Mutex::new(verifier(&first.files(), None)));
    let (clock, hand) = clock();
    let refresher = KeyRefresher::new(
        {
            let current = current.clone();
            move || current.lock().clone()
        },
        clock,
    );
    let task = tokio::spawn(refresher.run());
    first.hits.recv().await.unwrap();

    let old = current.lock().clone();
    *current.lock() = verifier(&second.files(), Some(&old));
    let hit = loop {
        hand.advance(RECHECK);
        tokio::task::yield_now().await;
        if let Ok(hit) = second.hits.try_recv() {
            break hit;
        }
    };
    assert_eq!(hit, CONFIGURATION);
    task.abort();
}
