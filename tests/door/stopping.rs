//! Stopping: who is being served is served to the end, and nobody else is waited for.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::support::gateway::BEGINNING;
use crate::support::{own_address, within_deadline};

/// Nobody waits as long as this in a test that passes.
const LONG: Duration = Duration::from_secs(60);

/// A gateway in front of an API that answers when its own clock, which is returned too, has moved by a second.
fn held(
    delay: Duration,
    grace: Duration,
) -> (RecordingUpstream, TestGateway, std::sync::Arc<tollgate::time::ManualClock>) {
    let (clock, hand) = Clock::manual(BEGINNING);
    let upstream = RecordingUpstream::start(Answer::new(200, "taken").after(Duration::from_secs(1)), clock);
    // Where no other test listens, also when this one does no more.
    let setup = Setup::new(upstream.address()).listen(own_address(0));
    (upstream, setup.shutdown(delay, grace).start(), hand)
}

/// Stops it elsewhere; done when it has stopped.
fn stop(gateway: TestGateway) -> impl Future<Output = ()> {
    let stopped = tokio::task::spawn_blocking(move || gateway.stop());
    async { within_deadline("the stop", stopped).await.unwrap() }
}

#[tokio::test]
async fn a_request_in_flight_is_answered_and_told_that_it_was_the_last_and_idle_connections_are_closed() {
    let (upstream, gateway, hand) = held(Duration::ZERO, LONG);
    let mut idle = gateway.connect().await;
    idle.send("GET /api/nothing HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    idle.read_response().await.assert_status(404);
    let mut silent = gateway.connect().await;
    let mut busy = gateway.connect().await;
    busy.send(list("")).await;
    upstream.wait_for(1).await;
    let (address, metrics) = (gateway.address(), gateway.server().metrics.clone());
    let stopped = stop(gateway);
    idle.expect_close().await;
    silent.expect_close().await;
    until("the listener's end", || std::net::TcpStream::connect(address).is_err()).await;
    assert_eq!(metrics.requests_in_flight(), 1);
    hand.advance(Duration::from_secs(1));
    let answer = busy.read_response().await;
    assert_eq!((answer.status, answer.header("Connection")), (200, Some("close")));
    busy.expect_close().await;
    // It does not wait for the whole grace, since nobody is left.
    stopped.await;
}

#[tokio::test]
async fn before_the_listeners_close_requests_are_served_for_as_long_as_was_set_and_their_connections_told_to_go()
 {
    let (upstream, gateway, _hand) = held(LONG, LONG);
    upstream.answer_always(Answer::new(200, ""));
    let address = gateway.address();
    let (policies, admin) = (gateway.server().policies.clone(), gateway.server().admin);
    assert!(!policies.load().version.is_empty());
    let mut open = gateway.connect().await;
    open.send(list("")).await;
    assert_eq!(open.read_response().await.header("Connection"), Some("keep-alive"));
    // It will not come to its end in this test: the process's own end ends it.
    std::mem::forget(std::thread::spawn(move || gateway.stop()));
    let page = |path: &'static str| async move {
        crate::support::raw::RawClient::connect(admin).await.request("GET", path, &[], b"").await
    };
    within_deadline("failing readiness", async { while page("/readyz").await.status != 503 {} }).await;
    open.send(list("")).await;
    let answer = open.read_response().await;
    assert_eq!((answer.status, answer.header("Connection")), (200, Some("close")));
    let mut client = crate::support::raw::RawClient::connect(address).await;
    client.send("GET /api/nothing HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    let answer = client.read_response().await;
    assert_eq!((answer.status, answer.header("Connection")), (404, Some("close")));
}

#[tokio::test]
async fn what_is_not_done_within_the_grace_is_cut_off() {
    let (upstream, gateway, _hand) = held(Duration::ZERO, Duration::from_millis(100));
    let mut busy = gateway.connect().await;
    busy.send(list("")).await;
    upstream.wait_for(1).await;
    let started = Clock::System.steady();
    stop(gateway).await;
    assert!(Clock::System.steady().since(started) >= Duration::from_millis(100));
    busy.expect_close().await;
}

#[tokio::test]
async fn a_client_of_http_1_0_cannot_take_an_answer_that_is_cut_off_then_for_a_whole_one() {
    let half = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let upstream = RecordingUpstream::start(Answer::raw(half), Clock::System);
    let gateway = Setup::new(upstream.address()).shutdown(Duration::ZERO, Duration::from_millis(100)).start();
    let mut client = tokio::net::TcpStream::connect(gateway.address()).await.unwrap();
    client.write_all(list("").replace("HTTP/1.1", "HTTP/1.0").as_bytes()).await.unwrap();
    let mut read = Vec::new();
    within_deadline("half an answer", async {
        while !read.ends_with(b"half") {
            assert_ne!(client.read_buf(&mut read).await.unwrap(), 0);
        }
    })
    .await;
    stop(gateway).await;
    let end = within_deadline("the end of the connection", client.read_to_end(&mut read)).await;
    assert!(end.is_err(), "{end:?}");
}

#[tokio::test]
async fn an_http_2_connection_is_told_to_go_away_and_one_that_does_not_is_not_waited_for() {
    const GOAWAY: u8 = 7;
    // It is not waited for, so that a busy machine may stand still for as long as it has to say so.
    for _ in 0..5 {
        if frames_until_the_end().await.iter().all(|kinds| kinds.contains(&GOAWAY)) {
            return;
        }
    }
    panic!("somebody was not told to go away, five times");
}

/// The kinds of the frames that a connection of each thread gets when its gateway stops.
async fn frames_until_the_end() -> Vec<Vec<u8>> {
    let (_upstream, gateway, files) = tls::secure_with(|setup| setup.threads(2));
    let mut connections = Vec::new();
    for _ in 0..2 {
        let mut stream = tls::http2(gateway.address(), &files).await;
        stream.write_all(tls::PREFACE).await.unwrap();
        // Its settings, so that the connection is served.
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).await.unwrap();
        connections.push((frame, stream));
    }
    let stopped = stop(gateway);
    let mut each = Vec::new();
    for (frame, stream) in connections {
        let bytes = within_deadline("the end of the connection", tls::rest(stream)).await;
        let mut kinds = vec![frame[3]];
        let mut rest = &bytes[usize::from(frame[2])..];
        while let [_, high, low, kind, ..] = rest {
            kinds.push(*kind);
            rest = &rest[9 + usize::from(*high) * 256 + usize::from(*low)..];
        }
        each.push(kinds);
    }
    stopped.await;
    each
}
