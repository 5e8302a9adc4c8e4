//! Who calls: tokens as callers send them, and keys that rotate or are away meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tollgate::id::{TenantId, UserId};
use tollgate::proxy::Bounds;
use tollgate::sandbox::issuer::{Caller, Issuer, TokenVersion};
use tollgate::time::Clock;

use crate::support::gateway::{
    BEGINNING, PORTAL, Setup, TENANT, TestGateway, WORKSTATION, issuer, responder,
};
use crate::support::key_site::KeySite;
use crate::support::raw::{RawClient, RawResponse};
use crate::support::upstream::{Answer, RecordingUpstream};
use crate::support::within_deadline;

/// An issuer of the same name as every other, with a key of its own, whose tokens are of the beginning of manual time.
fn new_issuer() -> Arc<Issuer> {
    let (clock, _) = Clock::manual(BEGINNING);
    Issuer::new("https://issuer.example", TENANT, Vec::new(), clock).unwrap()
}

fn upstream() -> RecordingUpstream {
    RecordingUpstream::start(Answer::json(200, &json!({})), Clock::System)
}

/// An application that may read devices, as often as it likes.
fn reader() -> Caller {
    Caller::application(PORTAL).permissions(["Machine.Read.All"])
}

async fn read(client: &mut RawClient, token: &str) -> RawResponse {
    let authorization = format!("Bearer {token}");
    client
        .request("GET", &format!("/api/machines/{WORKSTATION}"), &[("Authorization", &authorization)], b"")
        .await
}

/// The value of a series of `/metrics`.
async fn metric(gateway: &TestGateway, series: &str) -> Option<f64> {
    let page = gateway.admin("/metrics").await;
    page.text().lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

const KEYS: &str = "tollgate_issuer_keys{issuer=\"site\"}";
const FETCHED: &str = "tollgate_issuer_fetches_total{issuer=\"site\",result=\"ok\"}";
const FAILED: &str = "tollgate_issuer_fetches_total{issuer=\"site\",result=\"failed\"}";

/// Waits until a series has this value at least.
async fn reaches(gateway: &TestGateway, series: &str, value: f64) {
    within_deadline(series, async {
        while metric(gateway, series).await.is_none_or(|now| now < value) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_that_proves_nobody_is_answered_401_with_its_reason() {
    let upstream = upstream();
    let gateway = TestGateway::start(upstream.address());
    let claims = |name: &str, value: Value| {
        let mut claims = issuer().claims(&reader());
        claims[name] = value;
        issuer().sign(&claims)
    };
    let now = BEGINNING.unix_seconds();
    let good = issuer().token(&reader());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let cases = [
        (claims("exp", json!(now - 60)), "expired"),
        (claims("nbf", json!(now + 61)), "not_yet_valid"),
        (claims("aud", json!("https://graph.microsoft.com")), "wrong_audience"),
        (claims("iss", json!("https://evil.example/")), "wrong_issuer"),
        (claims("tid", json!(TenantId::from_u128(9).to_string())), "wrong_issuer"),
        (claims("exp", json!("1")), "bad_token"),
        (claims("aud", json!(1)), "bad_token"),
        (claims("roles", json!("Machine.Read.All")), "bad_token"),
        (claims("roles", json!([])), "bad_token"),
        (claims("scp", json!("")), "bad_token"),
        (new_issuer().token(&reader()), "bad_token"),
        (format!("{signed}."), "bad_token"),
        (format!("{signed}.{signature}="), "bad_token"),
        (signed.to_owned(), "bad_token"),
        ("a.b.c.d.e".to_owned(), "bad_token"),
        ("x".repeat(9_000), "bad_token"),
    ];
    let mut client = gateway.connect().await;
    for (token, reason) in cases {
        let answer = read(&mut client, &token).await;
        answer.assert_status(401);
        assert_eq!(answer.header("Tollgate-Reason"), Some(reason), "{token}");
        assert_eq!(answer.header("WWW-Authenticate"), Some("Bearer error=\"invalid_token\""), "{token}");
        assert!(!answer.text().contains(&token), "the answer repeats the token");
    }
    assert_eq!(upstream.requests().len(), 0);
    read(&mut client, &good).await.assert_status(200);
}

#[tokio::test]
async fn tokens_of_both_versions_pass_by_the_entry_that_each_names() {
    let upstream = upstream();
    let gateway = TestGateway::start(upstream.address());
    let mut client = gateway.connect().await;
    for version in [TokenVersion::V1, TokenVersion::V2] {
        read(&mut client, &issuer().token(&reader().of_version(version))).await.assert_status(200);
    }
    // The audience of the other entry.
    let crossed = reader().for_audience("fc780465-2017-40d4-a0c5-307022471b92");
    let answer = read(&mut client, &issuer().token(&crossed)).await;
    assert_eq!((answer.status, answer.header("Tollgate-Reason")), (401, Some("wrong_audience")));
}

#[tokio::test]
async fn a_user_with_too_many_groups_for_a_token_works_if_roles_names_the_user() {
    let upstream = upstream();
    let gateway = TestGateway::start(upstream.address());
    let user = |id: u128| {
        Caller::user(UserId::from_u128(id), "analyst@test.example", PORTAL)
            .permissions(["Machine.CollectForensics"])
            .group_overage()
    };
    // `roles.toml` of the tests lists this one under `users` of the role Responder.
    gateway.collect(&user(0xb9), WORKSTATION).await.assert_status(200);
    let stranger = gateway.collect(&user(0xba), WORKSTATION).await;
    assert_eq!((stranger.status, stranger.header("Tollgate-Reason")), (403, Some("group_overage")));
    // Who is in no group at all is told so, and not that the groups are unknown.
    let nobody = gateway.collect(&responder().groups([]), WORKSTATION).await;
    assert_eq!((nobody.status, nobody.header("Tollgate-Reason")), (403, Some("missing_role")));
    assert_eq!(upstream.requests().len(), 1);
}

/// Callers that send a token of whatever issuer signs at the moment, each on a connection of its own.
struct Load {
    current: Arc<Mutex<Arc<Issuer>>>,
    passed: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    callers: JoinSet<()>,
}

impl Load {
    /// # Panics
    /// In its tasks, if a call does not pass: [`Load::stop`] shows it.
    fn start(gateway: &TestGateway, issuer: Arc<Issuer>) -> Self {
        let current = Arc::new(Mutex::new(issuer));
        let (passed, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let mut callers = JoinSet::new();
        for _ in 0..8 {
            let (current, passed, stop) = (current.clone(), passed.clone(), stop.clone());
            let address = gateway.address();
            callers.spawn(async move {
                let mut client = RawClient::connect(address).await;
                while !stop.load(Ordering::SeqCst) {
                    let token = current.lock().token(&reader());
                    read(&mut client, &token).await.assert_status(200);
                    passed.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { current, passed, stop, callers }
    }

    /// Signs with another key from now on, and waits until some calls have passed since.
    async fn sign_by(&self, issuer: &Arc<Issuer>) {
        *self.current.lock() = issuer.clone();
        self.more().await;
    }

    /// Waits until some more calls have passed.
    async fn more(&self) {
        let goal = self.passed.load(Ordering::SeqCst) + 40;
        within_deadline("calls that pass", async {
            while self.passed.load(Ordering::SeqCst) < goal && !self.callers.is_empty() {
                Clock::System.sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    /// Ends it; every call has passed.
    async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.callers.join_all().await;
    }
}

#[tokio::test]
async fn a_rotation_of_keys_under_load_refuses_no_good_token_and_ends_the_old_key() {
    let (old, new) = (new_issuer(), new_issuer());
    let (upstream, site) = (upstream(), KeySite::start(&old));
    // The clock is moved under the callers, whose connections are not what this is about.
    let day = Duration::from_secs(24 * 3_600);
    let bounds = Bounds { header: day, idle: day, patience: day, request: day, ..Bounds::default() };
    let gateway = Setup::new(upstream.address()).policy(site.policy()).bounds(bounds).start();
    // The calls begin before the first fetch has ended, and wait for it.
    let load = Load::start(&gateway, old.clone());
    load.more().await;
    assert_eq!(site.fetches(), 1);

    // Old alone, both published, the new one signs, the old one is withdrawn.
    gateway.hand.advance(Duration::from_secs(30));
    site.publish(&[&old, &new]);
    load.more().await;
    load.sign_by(&new).await;
    assert_eq!(site.fetches(), 2, "the first token by the new key fetched it");
    assert_eq!(metric(&gateway, KEYS).await, Some(2.0));
    load.sign_by(&old).await;
    load.sign_by(&new).await;
    site.publish(&[&new]);
    let withdrawn = old.token(&reader());
    let mut client = gateway.connect().await;
    read(&mut client, &withdrawn).await.assert_status(200);

    // The site asks for 5 min.
    gateway.hand.advance(Duration::from_secs(300));
    reaches(&gateway, FETCHED, 3.0).await;
    let answer = read(&mut gateway.connect().await, &withdrawn).await;
    assert_eq!((answer.status, answer.header("Tollgate-Reason")), (401, Some("bad_token")));
    load.more().await;
    load.stop().await;
    assert_eq!(metric(&gateway, KEYS).await, Some(1.0));
}

#[tokio::test]
async fn a_flood_of_unknown_keys_slows_no_caller_and_hardly_asks_the_issuer() {
    let issuer = new_issuer();
    let (upstream, site) = (upstream(), KeySite::start(&issuer));
    let gateway = Setup::new(upstream.address()).policy(site.policy()).start();
    // Each is one that nobody has seen: what is remembered would not be slowed.
    let good = || issuer.token(&reader().claim("uti", tollgate::id::RequestId::random().to_string()));
    let mut client = gateway.connect().await;
    read(&mut client, &good()).await.assert_status(200);

    gateway.hand.advance(Duration::from_secs(30));
    site.hang();
    // Two hundred strangers at once, whose answers wait for the issuer.
    let unknown = new_issuer().token(&reader());
    let mut flood = JoinSet::new();
    for _ in 0..200 {
        let (mut client, token) = (gateway.connect().await, unknown.clone());
        flood.spawn(async move { read(&mut client, &token).await });
    }
    site.wait_for_fetches(2).await;
    // The clock stands still and the issuer hangs: whoever has to wait for either never comes to an end.
    for _ in 0..50 {
        read(&mut client, &good()).await.assert_status(200);
    }
    assert!(flood.try_join_next().is_none());
    // Three seconds are the most that anybody waits, five the most that a fetch takes.
    gateway.hand.advance(Duration::from_secs(5));
    for answer in flood.join_all().await {
        assert_eq!((answer.status, answer.header("Tollgate-Reason")), (503, Some("keys_unavailable")));
    }
    reaches(&gateway, FAILED, 1.0).await;
    for _ in 0..50 {
        read(&mut client, &unknown).await.assert_status(503);
    }
    assert_eq!(site.fetches(), 2);
    read(&mut client, &good()).await.assert_status(200);

    // Once the issuer has answered, a key that it does not name is nobody's.
    site.publish(&[&issuer]);
    gateway.hand.advance(Duration::from_secs(30));
    let answer = read(&mut client, &unknown).await;
    assert_eq!((answer.status, answer.header("Tollgate-Reason")), (401, Some("bad_token")));
    assert_eq!(site.fetches(), 3);
}

#[tokio::test]
async fn a_rotation_that_the_issuer_cannot_be_asked_about_makes_no_good_token_a_bad_one() {
    let (old, new) = (new_issuer(), new_issuer());
    let (upstream, site) = (upstream(), KeySite::start(&old));
    let gateway = Setup::new(upstream.address()).policy(site.policy()).start();
    let mut client = gateway.connect().await;
    read(&mut client, &old.token(&reader())).await.assert_status(200);

    gateway.hand.advance(Duration::from_secs(30));
    site.fail();
    let token = new.token(&reader());
    for _ in 0..3 {
        let answer = read(&mut client, &token).await;
        assert_eq!((answer.status, answer.header("Tollgate-Reason")), (503, Some("keys_unavailable")));
        assert_eq!(answer.header("Retry-After"), Some("30"));
    }
    read(&mut client, &old.token(&reader())).await.assert_status(200);
    assert_eq!(metric(&gateway, "tollgate_failed_login_addresses").await, Some(0.0));

    site.publish(&[&old, &new]);
    gateway.hand.advance(Duration::from_secs(30));
    read(&mut client, &token).await.assert_status(200);
}

#[tokio::test]
async fn an_issuer_that_is_away_for_a_day_is_missed_only_then() {
    let issuer = new_issuer();
    let (upstream, site) = (upstream(), KeySite::start(&issuer));
    let gateway = Setup::new(upstream.address()).policy(site.policy()).start();
    let mut client = gateway.connect().await;
    let day = Duration::from_secs(24 * 3_600);
    let token = issuer.token(&reader().valid_for(2 * day));
    read(&mut client, &token).await.assert_status(200);

    site.fail();
    gateway.hand.advance(day);
    reaches(&gateway, FAILED, 1.0).await;
    let mut client = gateway.connect().await;
    read(&mut client, &token).await.assert_status(200);
    assert_eq!(metric(&gateway, KEYS).await, Some(1.0));
    assert_eq!(metric(&gateway, "tollgate_issuer_keys_age_seconds{issuer=\"site\"}").await, Some(86_400.0));

    gateway.hand.advance(Duration::from_secs(1));
    let answer = read(&mut client, &token).await;
    assert_eq!((answer.status, answer.header("Tollgate-Reason")), (503, Some("keys_unavailable")));
    let wait: u64 = answer.header("Retry-After").unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(answer.header("WWW-Authenticate"), None, "a 503 is not about the token");
    assert_eq!(metric(&gateway, KEYS).await, Some(0.0));
    assert_eq!(
        metric(&gateway, "tollgate_tokens_verified_total{result=\"keys_unavailable\"}").await,
        Some(1.0)
    );
    assert_eq!(gateway.admin("/readyz").await.status, 503);

    // Back again: whoever comes after the wait that was promised passes.
    site.publish(&[&issuer]);
    gateway.hand.advance(Duration::from_secs(wait));
    read(&mut client, &token).await.assert_status(200);
    assert_eq!(gateway.admin("/readyz").await.status, 200);
}
