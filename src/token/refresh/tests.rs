use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::source::{PolicyFiles, SourceFile};
use crate::time::{ManualClock, Wall};
use crate::token::forge::*;
use crate::token::ring::{FIRST_RETRY, LAST_RETRY, REFRESH_INTERVAL};
use crate::token::{IssuerState, TokenError};

/// What a path answers.
#[derive(Clone)]
enum Answer {
    Ok(String),
    Status(u16),
    Redirect(String),
    Never,
}

type Answers = Arc<Mutex<HashMap<String, Answer>>>;

/// An issuer on the loopback, whose answers a test writes.
struct Site {
    base: String,
    answers: Answers,
    /// The paths that were asked for.
    hits: UnboundedReceiver<String>,
}

const CONFIGURATION: &str = "/.well-known/openid-configuration";

impl Site {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (site, router) = Self::new("http", address);
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        site
    }

    /// One with a certificate, and the authority that signed it in PEM.
    fn start_tls() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (site, router) = Self::new("https", listener.local_addr().unwrap());

        let mut authority = rcgen::CertificateParams::new([]).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = authority.self_signed(&key).unwrap().pem();
        let authority = rcgen::Issuer::new(authority, key);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &authority).unwrap();

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.into()], key.into())
            .unwrap();
        let config = axum_server::tls_rustls::RustlsConfig::from_config(Arc::new(config));
        let server = axum_server::from_tcp_rustls(listener, config).unwrap();
        tokio::spawn(server.serve(router.into_make_service()));
        (site, pem)
    }

    fn new(scheme: &str, address: SocketAddr) -> (Self, Router) {
        let (sender, hits) = unbounded_channel();
        let answers = Answers::default();
        let router = Router::new().fallback(answer).with_state((answers.clone(), sender));
        let site = Self { base: format!("{scheme}://{address}"), answers, hits };
        site.publish(&[SIGNER.jwk("one")]);
        (site, router)
    }

    fn set(&self, path: &str, answer: Answer) {
        self.answers.lock().insert(path.to_owned(), answer);
    }

    fn publish(&self, keys: &[Value]) {
        self.describe(&format!("{}/", self.base), &format!("{}/keys", self.base));
        self.set("/keys", Answer::Ok(json!({ "keys": keys }).to_string()));
    }

    fn describe(&self, issuer: &str, keys: &str) {
        let document = json!({"issuer": issuer, "jwks_uri": keys, "x": [1]}).to_string();
        self.set(CONFIGURATION, Answer::Ok(document));
    }

    /// A policy whose only issuer is this one.
    fn files(&self) -> PolicyFiles {
        files(
            &format!(
                "[[issuer]]\nname = \"site\"\nissuer = \"{0}/\"\ntenants = [\"{TENANT}\"]\n\
                 audiences = [\"{AUDIENCE}\"]\ndiscovery = \"{0}{CONFIGURATION}\"\n",
                self.base
            ),
            &[],
        )
    }

    fn token(&self) -> String {
        SIGNER.sign(&with(application(), "iss", json!(format!("{}/", self.base))))
    }

    fn count_hits(&mut self) -> usize {
        std::iter::from_fn(|| self.hits.try_recv().ok()).count()
    }
}

async fn answer(
    State((answers, hits)): State<(Answers, UnboundedSender<String>)>,
    request: axum::extract::Request,
) -> Response {
    let path = request.uri().path().to_owned();
    let answer = answers.lock().get(&path).cloned().unwrap_or(Answer::Status(404));
    let _ = hits.send(path);
    let response = Response::builder();
    match answer {
        Answer::Ok(body) => response.body(Body::from(body)).unwrap(),
        Answer::Status(status) => response.status(status).body(Body::empty()).unwrap(),
        Answer::Redirect(to) => response.status(302).header("location", to).body(Body::empty()).unwrap(),
        Answer::Never => std::future::pending().await,
    }
}

fn clock() -> (Clock, Arc<ManualClock>) {
    Clock::manual(Wall::from_unix_seconds(NOW))
}

fn state(verifier: &Verifier) -> IssuerState {
    verifier.issuers().next().unwrap()
}

async fn verify_now(verifier: &Verifier, token: &str, clock: &Clock) -> Option<TokenError> {
    let value = http::HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    let headers = http::HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
    verifier.verify(crate::token::BearerToken::find(&headers, None).unwrap(), clock).await.err()
}

#[tokio::test]
async fn keys_are_found_by_discovery_and_until_then_the_token_waits() {
    let mut site = Site::start();
    let verifier = verifier(&site.files(), None);
    let (clock, _) = clock();
    let unavailable = TokenError::KeysUnavailable { retry_after: Duration::from_secs(1) };
    assert_eq!(verify_now(&verifier, &site.token(), &clock).await, Some(unavailable));

    refresh_now(&verifier, &clock).await;
    assert_eq!(verify_now(&verifier, &site.token(), &clock).await, None);
    assert_eq!(
        state(&verifier),
        IssuerState {
            name: "site".into(),
            source: format!("{}{CONFIGURATION}", site.base).into(),
            keys: 1,
            fetched: Some(clock.wall()),
            error: None,
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
        ("/keys", Answer::Ok("{\"keys\":[]}".into()), "no key that verifies RS256"),
        (
            "/keys",
            Answer::Ok(json!({"keys": [{"kty": "EC", "kid": "x"}]}).to_string()),
            "its `kty` is not RSA",
        ),
        ("/keys", Answer::Ok(large), "is larger than 1048576 bytes"),
    ];
    for (path, answer, expected) in cases {
        site.publish(&[SIGNER.jwk("one")]);
        site.set(path, answer.clone());
        hand.advance(REFRESH_INTERVAL.mul_f64(1.1));
        refresh_now(&verifier, &clock).await;
        let state = state(&verifier);
        let error = state.error.expect(expected);
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        assert_eq!((state.keys, state.fetched), (1, Some(Wall::from_unix_seconds(NOW))), "{error}");
    }
    hand.step_wall(Wall::from_unix_seconds(NOW));
    assert_eq!(verify_now(&verifier, &site.token(), &clock).await, None);

    site.publish(&[SIGNER.jwk("one"), STRANGER.jwk("two")]);
    hand.advance(LAST_RETRY);
    refresh_now(&verifier, &clock).await;
    assert_eq!((state(&verifier).keys, state(&verifier).error), (2, None));
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
        refresh_now(&verifier, &clock().0).await;
        let error = state(&verifier).error.expect(expected);
        assert!(error.contains(expected), "{error}");
        assert_eq!((state(&verifier).keys, site.count_hits()), (0, 1), "{error}");
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
        assert_eq!((verifier.issuers().count(), site.count_hits()), (rings, 2 * rings), "{path}");
    }
}

#[tokio::test]
async fn an_issuers_certificate_is_trusted_by_its_own_authority_only() {
    let (site, pem) = Site::start_tls();
    let (clock, _) = clock();
    let stranger = verifier(&site.files(), None);
    refresh_now(&stranger, &clock).await;
    let error = state(&stranger).error.unwrap();
    assert!(error.contains("certificate"), "{error}");

    let mut files = site.files();
    let toml = files.get("issuers.toml").unwrap().text().to_owned() + "ca = \"ca.pem\"\n";
    files.insert(SourceFile::new("issuers.toml", toml));
    files.insert(SourceFile::new("ca.pem", pem));
    let verifier = verifier(&files, None);
    refresh_now(&verifier, &clock).await;
    assert_eq!((state(&verifier).error, state(&verifier).keys), (None, 1));
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
    assert_eq!(state(&verifier).error.as_deref(), Some("no answer in 5 s"));
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
        let retry = Some(TokenError::KeysUnavailable { retry_after: wait });
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
