//! The door: what a slow, greedy or careless client can do to others, which is nothing.

mod certificates;
mod conformance;
mod floods;
mod fuzz;
mod panics;
mod proxied;
mod refused;
mod slow;
mod stopping;
mod threads;
pub(crate) mod tls;
mod unread;

use std::num::NonZeroU32;
use std::time::Duration;

use tollgate::proxy::Bounds;
use tollgate::time::Clock;

use crate::support::gateway::{Setup, TestGateway, WORKSTATION, bearer, playbooks, portal};
use crate::support::upstream::{Answer, RecordingUpstream};
use crate::support::{until, within_deadline};

fn start(bounds: Bounds) -> (RecordingUpstream, TestGateway) {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let gateway = Setup::new(upstream.address()).bounds(bounds).start();
    (upstream, gateway)
}

fn count(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

/// A GET of a list, with these lines of header.
fn list(lines: &str) -> String {
    format!(
        "GET /api/machines HTTP/1.1\r\nHost: gateway\r\nAuthorization: {}\r\n{lines}\r\n",
        bearer(&portal())
    )
}

/// Waits until the metrics say this: a call is counted once it is over, which may be after its caller has the answer.
async fn expect_metric(gateway: &TestGateway, series: &str) {
    let line = format!("{series}\n");
    within_deadline(series, async {
        while !gateway.admin("/metrics").await.text().contains(&line) {
            Clock::System.sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Moves the gateway's clock until `work` is done; how far it was moved is at least what was waited for.
async fn time_until<T>(gateway: &TestGateway, work: impl Future<Output = T>) -> (Duration, T) {
    const STEP: Duration = Duration::from_millis(250);
    // By then most of what is waited for has come. A busy machine may be late with it, and is given the time.
    const SOON: Duration = Duration::from_secs(65);
    within_deadline("what time is to bring", async {
        tokio::pin!(work);
        let mut passed = Duration::ZERO;
        loop {
            let pause = Duration::from_millis(if passed < SOON { 1 } else { 10 });
            tokio::select! {
                biased;
                output = &mut work => return (passed, output),
                () = Clock::System.sleep(pause) => {}
            }
            gateway.hand.advance(STEP);
            passed += STEP;
        }
    })
    .await
}

/// Waits until nothing is being served.
async fn settled(gateway: &TestGateway) {
    until("the end of the requests", || gateway.server().metrics.requests_in_flight() == 0).await;
}

// === counted ===

#[tokio::test]
async fn a_body_that_stops_or_is_not_framed_as_it_should_be_is_counted_by_kind() {
    let (upstream, gateway) = start(Bounds::default());
    let head = format!(
        "POST /api/machines/{WORKSTATION}/collectInvestigationPackage HTTP/1.1\r\nHost: gateway\r\n\
         Authorization: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        bearer(&playbooks())
    );
    let mut client = gateway.connect().await;
    client.send(format!("{head}5;x\r\n")).await;
    client.read_response().await.assert_status(400);
    client.expect_close().await;
    let mut client = gateway.connect().await;
    client.send(head.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n")).await;
    client.expect_interim(100).await;
    gateway.hand.advance(Duration::from_secs(60));
    client.read_response().await.assert_status(400);
    // One whose header waited is counted too, and said so.
    let mut client = gateway.connect().await;
    client.send("GET /api").await;
    let (_, answer) = time_until(&gateway, client.read_response()).await;
    assert_eq!((answer.status, answer.header("Tollgate-Reason")), (400, Some("malformed_request")));
    client.expect_close().await;
    for kind in ["body_framing", "body_timeout", "header_timeout"] {
        expect_metric(&gateway, &format!("tollgate_malformed_requests_total{{kind=\"{kind}\"}} 1")).await;
    }
    assert!(upstream.requests().is_empty());
}

// === greedy ===

#[tokio::test]
async fn one_address_has_as_many_connections_as_it_may_and_a_closed_one_makes_room() {
    let (_upstream, gateway) = start(Bounds { connections_per_address: count(2), ..Bounds::default() });
    let mut first = gateway.connect().await;
    let mut second = gateway.connect().await;
    for client in [&mut first, &mut second] {
        client.send(list("")).await;
        client.read_response().await.assert_status(200);
    }
    gateway.connect().await.expect_close().await;
    expect_metric(&gateway, "tollgate_connections 2").await;
    expect_metric(&gateway, "tollgate_connections_refused_total{reason=\"address\"} 1").await;
    expect_metric(&gateway, "tollgate_connections_refused_total{reason=\"total\"} 0").await;
    drop(first);
    expect_metric(&gateway, "tollgate_connections 1").await;
    gateway.get(&portal(), "/api/machines").await.assert_status(200);
}

#[tokio::test]
async fn a_connection_is_closed_after_as_many_requests_as_it_may_carry() {
    let (_upstream, gateway) = start(Bounds { requests_per_connection: count(3), ..Bounds::default() });
    let mut client = gateway.connect().await;
    for connection in ["keep-alive", "keep-alive", "close"] {
        client.send(list("")).await;
        let answer = client.read_response().await;
        assert_eq!((answer.status, answer.header("Connection")), (200, Some(connection)));
    }
    client.expect_close().await;
}

#[tokio::test]
async fn more_requests_than_may_be_in_flight_are_refused_before_their_token_is_looked_at() {
    let (clock, hand) = Clock::manual(crate::support::gateway::BEGINNING);
    let upstream = RecordingUpstream::start(Answer::new(200, "").after(Duration::from_secs(1)), clock);
    let gateway =
        Setup::new(upstream.address()).bounds(Bounds { in_flight: count(1), ..Bounds::default() }).start();
    let mut first = gateway.connect().await;
    first.send(list("")).await;
    upstream.wait_for(1).await;
    let mut client = gateway.connect().await;
    for authorization in [bearer(&portal()), "Bearer not.a.token".to_owned()] {
        let answer = client.request("GET", "/api/machines", &[("Authorization", &authorization)], "").await;
        assert_eq!((answer.status, answer.header("Tollgate-Reason")), (503, Some("overload")));
        assert_eq!(
            (answer.header("Retry-After"), answer.header("Connection")),
            (Some("1"), Some("keep-alive"))
        );
    }
    gateway.admin("/readyz").await.assert_status(200);
    hand.advance(Duration::from_secs(1));
    first.read_response().await.assert_status(200);
    settled(&gateway).await;
    upstream.answer_always(Answer::new(200, ""));
    client.send(list("")).await;
    client.read_response().await.assert_status(200);
}

// === careless ===

#[tokio::test]
async fn requests_that_are_sent_early_are_answered_in_their_turn_also_by_a_client_that_closes_its_half() {
    let (upstream, gateway) = start(Bounds::default());
    let collection = |comment: &str| {
        let path = format!("/api/machines/{WORKSTATION}/collectInvestigationPackage");
        let body = format!("{{\"Comment\":\"{comment}\"}}");
        let (authorization, length) = (bearer(&playbooks()), body.len());
        format!(
            "POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: {authorization}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let mut client = gateway.connect().await;
    client.send(collection("one") + &list("") + &collection("three")).await;
    client.finish_sending().await;
    for _ in 0..3 {
        client.read_response().await.assert_status(200);
    }
    client.expect_close().await;
    let bodies: Vec<_> = upstream.wait_for(3).await.into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [&b"{\"Comment\":\"one\"}"[..], b"", b"{\"Comment\":\"three\"}"]);
}

#[tokio::test]
async fn a_client_that_closes_its_half_after_its_request_gets_the_answer_and_one_that_cuts_its_body_reaches_nobody()
 {
    let (upstream, gateway) = start(Bounds::default());
    let mut client = gateway.connect().await;
    client.send(list("")).await;
    client.finish_sending().await;
    let answer = client.read_response().await;
    assert_eq!((answer.status, answer.header("Connection")), (200, Some("close")));
    client.expect_close().await;

    let authorization = bearer(&portal());
    for (what, framing, body) in [
        ("read first", "Content-Length: 30", "{\"Comment\":\"c\""),
        ("streamed", "Content-Length: 30", "a part"),
        ("in chunks", "Transfer-Encoding: chunked", "6\r\na part\r\n"),
    ] {
        let path = match what {
            "read first" => format!("/api/machines/{WORKSTATION}/collectInvestigationPackage"),
            _ => "/api/libraryfiles".to_owned(),
        };
        let mut client = gateway.connect().await;
        client
            .send(format!(
                "POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: {authorization}\r\n\
                 Content-Type: application/json\r\n{framing}\r\n\r\n{body}"
            ))
            .await;
        client.finish_sending().await;
        client.expect_close().await;
        settled(&gateway).await;
        assert_eq!(upstream.requests().len(), 1, "{what}");
    }
}
