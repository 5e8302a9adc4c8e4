//! Callers who are held until their turn: who hangs up makes room, and nothing that is sent meanwhile is lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tollgate::sandbox::issuer::Caller;
use tollgate::source::PolicyFiles;
use tollgate::time::Clock;

use crate::support::gateway::{Setup, TestGateway, policy_with, portal, token};
use crate::support::raw::RawClient;
use crate::support::tls::LocalCertificate;
use crate::support::upstream::{Answer, RecordingUpstream};
use crate::support::{until, within_deadline};

const SECOND: Duration = Duration::from_secs(1);

/// One call in 30 s, and whoever comes then waits.
const WAITING: &str = r#"
    [[limit]]
    name       = "waiting"
    operations = ["list_devices", "collect", "upload_file"]
    per        = ["tenant"]
    windows    = ["1 per 30s"]
    when_full  = { wait = "60s", queue = 100 }
"#;

fn waiting() -> PolicyFiles {
    policy_with("limits.toml", WAITING)
}

fn started() -> (RecordingUpstream, TestGateway) {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let gateway = Setup::new(upstream.address()).policy(waiting()).start();
    (upstream, gateway)
}

/// Takes the only place that there is now.
async fn fill(gateway: &TestGateway) {
    gateway.get(&portal(), "/api/machines").await.assert_status(200);
}

fn list() -> String {
    list_by(&portal())
}

fn list_by(caller: &Caller) -> String {
    let token = token(caller);
    format!("GET /api/machines HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\r\n")
}

async fn held(gateway: &TestGateway, count: usize) {
    let limiter = &gateway.server().line.limiter;
    until(&format!("{count} held calls"), || limiter.held() == count).await;
}

/// A call on a connection of its own that is held.
async fn hold(gateway: &TestGateway) -> RawClient {
    let before = gateway.server().line.limiter.held();
    let mut client = gateway.connect().await;
    client.send(list()).await;
    held(gateway, before + 1).await;
    client
}

/// How many requests ended for this reason.
async fn counted(gateway: &TestGateway, reason: &str) -> u64 {
    let page = gateway.admin("/metrics").await;
    let lines = page.text().lines().filter(|line| {
        line.starts_with("tollgate_requests_total") && line.contains(&format!("reason=\"{reason}\""))
    });
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_held_call_goes_on_at_its_turn_and_its_connection_is_of_further_use() {
    let (upstream, gateway) = started();
    fill(&gateway).await;
    let mut client = hold(&gateway).await;
    // Sent before its turn: it is the next request, and waits for a place of its own.
    client.send(list()).await;
    gateway.hand.advance(30 * SECOND);
    client.read_response().await.assert_status(200);
    held(&gateway, 1).await;
    gateway.hand.advance(30 * SECOND);
    client.read_response().await.assert_status(200);
    assert_eq!(upstream.wait_for(3).await.len(), 3);
    // A call is entered when its answer has gone out.
    let page = within_deadline("both in the books", async {
        loop {
            let page = gateway.admin("/metrics").await.text().to_owned();
            if page.contains(r#"tollgate_held_seconds_count{outcome="admitted"} 2"#) {
                return page;
            }
        }
    })
    .await;
    assert!(page.contains("tollgate_held_requests 0"), "{page}");
    assert!(page.contains(r#"tollgate_held_seconds_bucket{outcome="admitted",le="20"} 0"#), "{page}");
}

#[tokio::test]
async fn a_held_caller_that_hangs_up_makes_room_for_the_next_and_is_entered_as_gone() {
    let (upstream, gateway) = started();
    fill(&gateway).await;
    let first = hold(&gateway).await;
    let mut second = hold(&gateway).await;
    drop(first);
    held(&gateway, 1).await;
    // Its place is after the first one's; who comes now gets that.
    let mut third = hold(&gateway).await;
    gateway.hand.advance(30 * SECOND);
    third.read_response().await.assert_status(200);
    gateway.hand.advance(30 * SECOND);
    second.read_response().await.assert_status(200);
    assert_eq!(upstream.wait_for(3).await.len(), 3);
    within_deadline("one who is gone in the books", async {
        while counted(&gateway, "client_gone").await != 1 {}
    })
    .await;
}

#[tokio::test]
async fn a_held_caller_that_only_closes_its_sending_half_is_given_up() {
    let (_upstream, gateway) = started();
    fill(&gateway).await;
    let mut client = hold(&gateway).await;
    client.finish_sending().await;
    held(&gateway, 0).await;
    client.expect_close().await;
}

#[tokio::test]
async fn a_held_caller_that_breaks_off_is_given_up() {
    let (_upstream, gateway) = started();
    fill(&gateway).await;
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(list().as_bytes()).await.unwrap();
    held(&gateway, 1).await;
    // A close with nothing to wait for is a reset.
    stream.set_zero_linger().unwrap();
    drop(stream);
    held(&gateway, 0).await;
}

#[tokio::test]
async fn a_held_caller_over_tls_that_hangs_up_is_given_up_with_either_protocol() {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let files = LocalCertificate::make();
    let gateway = Setup::new(upstream.address()).policy(waiting()).tls(files.files()).start();
    let url = format!("https://localhost:{}/api/machines", gateway.address().port());
    let call = |client: &reqwest::Client| client.get(&url).bearer_auth(token(&portal())).send();
    within_deadline("an answer", call(&files.client())).await.unwrap();
    for client in [files.client(), files.http1_client()] {
        // Another call keeps the connection of HTTP/2 open, so that it is the stream alone that is reset.
        let stays = tokio::spawn(call(&client));
        held(&gateway, 1).await;
        let goes = tokio::spawn(call(&client));
        held(&gateway, 2).await;
        goes.abort();
        held(&gateway, 1).await;
        stays.abort();
        held(&gateway, 0).await;
    }
    // A connection that is dropped with its streams.
    let client = files.client();
    let stays = tokio::spawn(call(&client));
    held(&gateway, 1).await;
    stays.abort();
    drop(client);
    held(&gateway, 0).await;
}

#[tokio::test]
async fn a_body_that_comes_while_its_call_is_held_is_kept_whole_and_read_no_further_than_a_bound() {
    let (upstream, gateway) = started();
    fill(&gateway).await;
    let path = "/api/libraryfiles";
    let body: Vec<u8> = (0..16_000_000_u32).map(|byte| (byte % 251) as u8).collect();
    let mut client = gateway.connect().await;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: {}\r\n\r\n",
        token(&portal()),
        body.len()
    );
    client.send(head).await;
    held(&gateway, 1).await;
    let (sent, whole) = (Arc::new(std::sync::atomic::AtomicBool::new(false)), body.clone());
    let done = sent.clone();
    let client = tokio::spawn(async move {
        client.send(&whole).await;
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        client
    });
    // Longer than any client may keep us waiting: but here it is we who let it wait.
    for _ in 0..30 {
        Clock::System.sleep(Duration::from_millis(5)).await;
        gateway.hand.advance(Duration::from_millis(990));
    }
    assert!(!sent.load(std::sync::atomic::Ordering::SeqCst), "16 MB were read of a call that is held");
    gateway.hand.advance(SECOND);
    let mut client = client.await.unwrap();
    client.read_response().await.assert_status(200);
    assert!(upstream.wait_for(2).await[1].body == body);
}

#[tokio::test]
async fn a_held_caller_that_hangs_up_behind_more_than_is_read_is_given_up_within_a_second() {
    let (_upstream, gateway) = started();
    fill(&gateway).await;
    let mut client = gateway.connect().await;
    client
        .send(format!(
            "POST /api/libraryfiles HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n",
            token(&portal())
        ))
        .await;
    client.send(vec![b'x'; 50_000]).await;
    held(&gateway, 1).await;
    client.finish_sending().await;
    let limiter = &gateway.server().line.limiter;
    within_deadline("the end of the call", async {
        while limiter.held() > 0 {
            // The look is each second of the gateway's; less than the turn is away in all.
            gateway.hand.advance(Duration::from_millis(10));
            Clock::System.sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_that_expires_while_its_call_is_held_is_refused_at_its_turn_and_nothing_is_charged() {
    let (upstream, gateway) = started();
    fill(&gateway).await;
    // Good for 10 s, and 60 s of skew.
    let caller = portal().valid_for(10 * SECOND);
    gateway.hand.advance(50 * SECOND);
    fill(&gateway).await;
    let mut client = gateway.connect().await;
    client.send(list_by(&caller)).await;
    held(&gateway, 1).await;
    gateway.hand.advance(30 * SECOND);
    let answer = client.read_response().await;
    answer.assert_status(401);
    assert_eq!(answer.header("Tollgate-Reason"), Some("expired"));
    // Its place is free again.
    fill(&gateway).await;
    assert_eq!(upstream.wait_for(3).await.len(), 3);
}

#[tokio::test]
async fn a_process_that_stops_lets_the_held_calls_in_reach_finish_and_refuses_the_others_at_once() {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let gateway = Setup::new(upstream.address())
        .policy(waiting())
        .shutdown(Duration::ZERO, Duration::from_secs(40))
        .start();
    fill(&gateway).await;
    let mut soon = hold(&gateway).await;
    let mut late = hold(&gateway).await;
    let hand = gateway.hand.clone();
    let stopped = tokio::task::spawn_blocking(move || gateway.stop());
    let answer = late.read_response().await;
    answer.assert_status(503);
    assert_eq!(
        (answer.header("Tollgate-Reason"), answer.header("Retry-After")),
        (Some("shutting_down"), Some("2"))
    );
    hand.advance(30 * SECOND);
    soon.read_response().await.assert_status(200);
    within_deadline("the stop", stopped).await.unwrap();
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn no_more_calls_are_held_than_max_held_and_one_beyond_it_is_refused_as_by_a_limit_that_rejects() {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let policy = policy_with("limits.toml", &format!("max_held = 1\n{WAITING}"));
    let gateway = Setup::new(upstream.address()).policy(policy).start();
    fill(&gateway).await;
    let mut first = hold(&gateway).await;
    let answer = gateway.get(&portal(), "/api/machines").await;
    answer.assert_status(429);
    // Its turn would be after that of the one who is held.
    let said = (answer.header("Tollgate-Reason"), answer.header("Retry-After"));
    assert_eq!(said, (Some("over_limit"), Some("60")));
    gateway.hand.advance(30 * SECOND);
    first.read_response().await.assert_status(200);
    let _next = hold(&gateway).await;
}

#[tokio::test]
async fn held_calls_take_no_place_among_those_in_flight() {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let bounds = tollgate::proxy::Bounds {
        in_flight: std::num::NonZeroU32::new(2).unwrap(),
        ..tollgate::proxy::Bounds::default()
    };
    let policy = policy_with("limits.toml", &WAITING.replace("30s", "10s"));
    let gateway = Setup::new(upstream.address()).policy(policy).bounds(bounds).start();
    fill(&gateway).await;
    let first = hold(&gateway).await;
    let _others = (hold(&gateway).await, hold(&gateway).await, hold(&gateway).await);
    drop(first);
    held(&gateway, 3).await;
    assert_eq!(counted(&gateway, "overload").await, 0);
}

#[tokio::test]
async fn a_call_that_waits_for_the_disk_alone_is_not_held_and_its_caller_may_have_closed_its_half() {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let state = tempfile::tempdir().unwrap();
    let limits = "durable = \"fsync\"\n[[limit]]\nname = \"all\"\noperations = [\"list_devices\"]\nper = []\nwindows = [\"100 per minute\"]\n";
    let setup = Setup::new(upstream.address()).policy(policy_with("limits.toml", limits));
    let gateway = setup.state(state.path()).start();
    for _ in 0..5 {
        let mut client = gateway.connect().await;
        client.send(list()).await;
        client.finish_sending().await;
        client.read_response().await.assert_status(200);
    }
    let page = gateway.admin("/metrics").await;
    assert!(page.text().contains("tollgate_held_seconds_count{outcome=\"admitted\"} 0\n"), "{page:?}");
}
