//! Clients that take their time.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tls::{PREFACE, call, frames, http2, rest, secure};
use super::*;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Event, FrameClient, HEADERS, PING, fields, frame,
};
use crate::support::upstream::Ending;
use crate::support::within_deadline;

/// After this every request ends, whatever else would have ended it before.
const REQUEST: Duration = Duration::from_secs(15 * 60);

#[tokio::test]
async fn a_header_has_ten_seconds_from_its_first_byte_however_it_trickles() {
    let (upstream, gateway) = start(Bounds::default());
    for before in [0, 1] {
        let mut client = gateway.connect().await;
        for _ in 0..before {
            client.send(list("")).await;
            client.read_response().await.assert_status(200);
        }
        settled(&gateway).await;
        let trickle = async {
            for byte in list("").bytes().cycle() {
                if client.try_send([byte]).await.is_err() {
                    return;
                }
                // So slowly that its end is far, also for a busy machine.
                Clock::System.sleep(Duration::from_millis(10)).await;
                if gateway.server().metrics.requests_in_flight() > 0 {
                    return;
                }
            }
        };
        let counted = async {
            let series = format!("kind=\"header_timeout\"}} {}\n", before + 1);
            while !gateway.admin("/metrics").await.text().contains(&series) {}
        };
        let waited = time_until(&gateway, async {
            tokio::select! {
                () = trickle => {}
                () = counted => {}
            }
        });
        let (passed, ()) = waited.await;
        assert!((Duration::from_secs(10)..REQUEST).contains(&passed), "{passed:?}");
        let answer = client.read_response().await;
        assert_eq!((answer.status, answer.header("Tollgate-Reason")), (400, Some("malformed_request")));
    }
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_without_a_word() {
    let (_upstream, gateway) = start(Bounds::default());
    let mut client = gateway.connect().await;
    let (passed, ()) = time_until(&gateway, client.expect_close()).await;
    assert!((Duration::from_secs(10)..REQUEST).contains(&passed), "{passed:?}");
    let mut client = gateway.connect().await;
    client.send(list("")).await;
    client.read_response().await.assert_status(200);
    let (passed, ()) = time_until(&gateway, client.expect_close()).await;
    assert!((Duration::from_secs(60)..REQUEST).contains(&passed), "{passed:?}");
}

#[tokio::test]
async fn a_streamed_body_that_stops_is_refused_and_never_reaches_the_upstream_as_whole() {
    let (upstream, gateway) = start(Bounds::default());
    let authorization = bearer(&portal());
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let mut client = gateway.connect().await;
        client
            .send(format!(
                "POST /api/libraryfiles HTTP/1.1\r\nHost: gateway\r\nAuthorization: {authorization}\r\n{framing}\r\n\r\n5\r\nabc"
            ))
            .await;
        let (passed, answer) = time_until(&gateway, client.read_response()).await;
        assert!((Duration::from_secs(60)..REQUEST).contains(&passed), "{passed:?}");
        assert_eq!((answer.status, answer.header("Tollgate-Reason")), (400, Some("malformed_request")));
        client.expect_close().await;
    }
    expect_metric(&gateway, "tollgate_malformed_requests_total{kind=\"body_timeout\"} 2").await;
    settled(&gateway).await;
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_client_that_waits_for_a_slow_upstream_after_its_body_is_not_slow_itself() {
    let (clock, hand) = Clock::manual(crate::support::gateway::BEGINNING);
    let upstream = RecordingUpstream::start(Answer::new(200, "").after(Duration::from_secs(1)), clock);
    let gateway = TestGateway::start(upstream.address());
    let authorization = bearer(&portal());
    for (index, framing) in ["Content-Length: 10", "Transfer-Encoding: chunked"].into_iter().enumerate() {
        let mut client = gateway.connect().await;
        let head = format!(
            "POST /api/libraryfiles HTTP/1.1\r\nHost: gateway\r\nAuthorization: {authorization}\r\n{framing}\r\n\r\n"
        );
        client.send(head + "5\r\nabcde\r\n0\r\n\r\n").await;
        upstream.wait_for(index + 1).await;
        for _ in 0..100 {
            gateway.hand.advance(Duration::from_secs(5));
            tokio::task::yield_now().await;
        }
        hand.advance(Duration::from_secs(1));
        client.read_response().await.assert_status(200);
    }
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_lets_go_of_its_request() {
    let (_upstream, gateway) = {
        let upstream = RecordingUpstream::start(Answer::new(200, vec![0; 32 << 20]), Clock::System);
        let gateway = TestGateway::start(upstream.address());
        (upstream, gateway)
    };
    let mut client = gateway.connect().await;
    client.send(list("")).await;
    until("the request", || gateway.server().metrics.requests_in_flight() == 1).await;
    let (passed, ()) = time_until(&gateway, settled(&gateway)).await;
    assert!((Duration::from_secs(60)..REQUEST).contains(&passed), "{passed:?}");
    let read = client.read_to_end().await.len();
    assert!(read < 32 << 20, "{read}");
}

#[tokio::test]
async fn a_client_of_http_1_0_that_does_not_take_its_answer_cannot_take_what_it_got_for_the_whole() {
    const LENGTH: usize = 32 << 20;
    let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{LENGTH:x}\r\n");
    let answer = [head.as_bytes(), &vec![b'a'; LENGTH], b"\r\n0\r\n\r\n"].concat();
    let upstream = RecordingUpstream::start(Answer::raw(answer), Clock::System);
    let gateway = TestGateway::start(upstream.address());
    let mut client = tokio::net::TcpStream::connect(gateway.address()).await.unwrap();
    client.write_all(list("").replace("HTTP/1.1", "HTTP/1.0").as_bytes()).await.unwrap();
    until("the request", || gateway.server().metrics.requests_in_flight() == 1).await;
    let (passed, ()) = time_until(&gateway, settled(&gateway)).await;
    assert!((Duration::from_secs(60)..REQUEST).contains(&passed), "{passed:?}");
    let mut read = Vec::new();
    let end = within_deadline("the end", client.read_to_end(&mut read)).await;
    assert!(end.is_err() && read.starts_with(b"HTTP/1.1 200 "), "{end:?} after {}", read.len());
}

#[tokio::test]
async fn a_request_ends_with_its_time_whoever_takes_it() {
    let upstream = RecordingUpstream::start(Answer::new(200, "").ending(Ending::Never), Clock::System);
    // Short, so that a busy machine has the time to let it pass.
    let request = Duration::from_secs(100);
    let bounds = Bounds { request, ..Bounds::default() };
    let setup = Setup::new(upstream.address()).bounds(bounds);
    let gateway = setup.upstream_timeout(Duration::from_secs(3_600)).start();
    let mut client = gateway.connect().await;
    client.send(list("")).await;
    upstream.wait_for(1).await;
    let (passed, ()) = time_until(&gateway, client.expect_close()).await;
    assert!(passed >= request, "{passed:?}");
    settled(&gateway).await;
}

// === TLS and HTTP/2 ===

#[tokio::test]
async fn a_tls_handshake_has_ten_seconds() {
    let (_upstream, gateway, _files) = secure(Bounds::default());
    let mut client = gateway.connect().await;
    client.send([0x16, 3, 1]).await;
    let (passed, ()) = time_until(&gateway, client.expect_close()).await;
    assert!((Duration::from_secs(10)..REQUEST).contains(&passed), "{passed:?}");
}

#[tokio::test]
async fn an_http_2_connection_that_never_begins_is_closed() {
    let (_upstream, gateway, files) = secure(Bounds::default());
    let stream = http2(gateway.address(), &files).await;
    let (passed, _) = time_until(&gateway, rest(stream)).await;
    assert!((Duration::from_secs(60)..REQUEST).contains(&passed), "{passed:?}");
}

/// In real time: Pingora's own timer knows no other.
#[tokio::test]
async fn an_http_2_connection_without_a_request_is_closed() {
    let idle = Duration::from_millis(200);
    let (_upstream, gateway, files) = secure(Bounds { idle, ..Bounds::default() });
    let mut stream = http2(gateway.address(), &files).await;
    let started = Clock::System.steady();
    stream.write_all(PREFACE).await.unwrap();
    within_deadline("the end of the connection", rest(stream)).await;
    assert!(Clock::System.steady().since(started) >= idle);
}

#[tokio::test]
async fn a_header_block_has_ten_seconds_over_http_2_from_its_first_frame_however_it_trickles() {
    // Nothing else ends it within the test.
    let day = Duration::from_secs(24 * 3_600);
    let bounds = Bounds { patience: day, idle: day, request: day, ..Bounds::default() };
    let (upstream, gateway, files) = secure(bounds);
    let block = fields(&call("GET", "/api/machines"));
    // Fewer pieces than a block may have.
    for pieces in [0, 20] {
        let mut client = frames(&gateway, &files).await;
        // Of another stream, which has not ended.
        upload(&mut client, 1).await;
        assert_eq!(client.event().await, Event::Settled);
        assert_eq!(read(&mut client, 1).await, None);
        client.send(frame(HEADERS, END_STREAM, 3, &block)).await;
        let (passed, ()) = time_until(&gateway, async {
            for _ in 0..pieces {
                client.send(frame(CONTINUATION, 0, 3, b"")).await;
                Clock::System.sleep(Duration::from_millis(1)).await;
            }
            while client.event().await != Event::Closed {}
        })
        .await;
        assert!(passed >= Duration::from_secs(10), "{passed:?}");
    }
    settled(&gateway).await;
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_frame_that_comes_in_two_over_http_2_is_waited_for_and_then_forgotten() {
    let (_upstream, gateway, files) = secure(Bounds::default());
    let mut client = frames(&gateway, &files).await;
    assert_eq!(client.event().await, Event::Settled);
    let ping = frame(PING, 0, 0, b"tollgate");
    // Each wait is short enough, and all together are longer than a block may take.
    for _ in 0..4 {
        client.send(&ping[..5]).await;
        Clock::System.sleep(Duration::from_millis(20)).await;
        gateway.hand.advance(Duration::from_secs(8));
        client.send(&ping[5..]).await;
        assert_eq!(client.event().await, Event::Pong);
    }
}

// === bodies over HTTP/2 ===

/// What a stream comes to whose client is too slow (RFC 9113, section 7: `CANCEL`).
const CANCEL: u32 = 8;

/// Opens a stream for a body of the file library, which streams on.
async fn upload(client: &mut FrameClient, stream: u32) {
    let head = fields(&call("POST", "/api/libraryfiles"));
    client.send(frame(HEADERS, END_HEADERS, stream, &head)).await;
}

/// Waits until the gateway has read what was sent; what became of the stream, if that was said before.
async fn read(client: &mut FrameClient, stream: u32) -> Option<Event> {
    client.ping().await;
    loop {
        match client.event().await {
            Event::Pong => return None,
            event @ (Event::Answer { stream: of, .. } | Event::Reset { stream: of, .. }) if of == stream => {
                return Some(event);
            }
            Event::Closed => panic!("closed within a body"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_streamed_body_that_stops_or_drips_over_http_2_ends_its_stream_and_no_other() {
    let (upstream, gateway, files) = secure(Bounds::default());
    let mut client = frames(&gateway, &files).await;
    upload(&mut client, 1).await;
    client.send(frame(DATA, 0, 1, b"abc")).await;
    let (passed, outcome) = time_until(&gateway, client.outcome(1)).await;
    assert_eq!(outcome, Event::Reset { stream: 1, code: CANCEL });
    assert!((Duration::from_secs(60)..REQUEST).contains(&passed), "{passed:?}");

    // A byte in five seconds, for as long as it lasts.
    upload(&mut client, 3).await;
    let mut passed = Duration::ZERO;
    let outcome = loop {
        client.send(frame(DATA, 0, 3, b"a")).await;
        if let Some(outcome) = read(&mut client, 3).await {
            break outcome;
        }
        gateway.hand.advance(Duration::from_secs(5));
        passed += Duration::from_secs(5);
    };
    assert_eq!(outcome, Event::Reset { stream: 3, code: CANCEL });
    assert!((Duration::from_secs(60)..REQUEST).contains(&passed), "{passed:?}");

    expect_metric(&gateway, "tollgate_malformed_requests_total{kind=\"body_timeout\"} 2").await;
    settled(&gateway).await;
    assert!(upstream.requests().is_empty());
    let list = fields(&call("GET", "/api/machines"));
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 5, &list)).await;
    assert_eq!(client.outcome(5).await, Event::Answer { stream: 5, status: 200 });
}

#[tokio::test]
async fn a_streamed_body_that_keeps_the_least_rate_over_http_2_may_take_its_time() {
    let (upstream, gateway, files) = secure(Bounds::default());
    let mut client = frames(&gateway, &files).await;
    upload(&mut client, 1).await;
    for _ in 0..40 {
        client.send(frame(DATA, 0, 1, &[b'a'; 6 * 1_024])).await;
        assert_eq!(read(&mut client, 1).await, None);
        gateway.hand.advance(Duration::from_secs(5));
    }
    client.send(frame(DATA, END_STREAM, 1, b"")).await;
    assert_eq!(client.outcome(1).await, Event::Answer { stream: 1, status: 200 });
    assert_eq!(upstream.wait_for(1).await[0].body.len(), 40 * 6 * 1_024);
}

/// A body of pieces of 64 KiB, which counts those that were taken.
struct Pieces {
    left: u64,
    taken: Arc<AtomicUsize>,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let Some(left) = self.left.checked_sub(1) else { return Poll::Ready(None) };
        self.left = left;
        self.taken.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(&[b'a'; 1 << 16])))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left << 16)
    }
}

#[tokio::test]
async fn a_client_is_not_slow_over_http_2_while_the_upstream_does_not_take_its_body() {
    let listener = tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let files = crate::support::tls::LocalCertificate::make();
    let gateway = Setup::new(listener.local_addr().unwrap()).tls(files.files()).start();
    let taken = Arc::<AtomicUsize>::default();
    let body = reqwest::Body::wrap(Pieces { left: 16 << 4, taken: taken.clone() });
    let url = format!("https://{}/api/libraryfiles", gateway.address());
    let request = files.client().post(url).header("Authorization", bearer(&portal())).body(body);
    let request = tokio::spawn(request.send());
    let (mut upstream, _) = within_deadline("a connection", listener.accept()).await.unwrap();
    // Until everything in between is full.
    within_deadline("a body that is not taken any further", async {
        let mut before = 0;
        while taken.load(Ordering::SeqCst) == 0 || taken.load(Ordering::SeqCst) != before {
            before = taken.load(Ordering::SeqCst);
            Clock::System.sleep(Duration::from_secs(3)).await;
        }
    })
    .await;
    assert!(taken.load(Ordering::SeqCst) < 16 << 4, "all of it found room");
    for _ in 0..100 {
        gateway.hand.advance(Duration::from_secs(5));
        Clock::System.sleep(Duration::from_millis(1)).await;
    }
    let mut seen = 0;
    let mut bytes = vec![0; 1 << 16];
    while seen < 16 << 20 {
        seen += within_deadline("the body", upstream.read(&mut bytes)).await.unwrap();
    }
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let answer = within_deadline("the answer", request).await.unwrap().unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
}

#[tokio::test]
async fn a_body_that_is_read_first_has_a_clients_patience_over_http_2_too() {
    let patience = Duration::from_secs(10);
    let (upstream, gateway, files) = secure(Bounds { patience, ..Bounds::default() });
    let mut client = frames(&gateway, &files).await;
    let mut head = call("POST", &format!("/api/machines/{WORKSTATION}/collectInvestigationPackage"));
    head.push(("content-type".to_owned(), "application/json".to_owned()));
    client.send(frame(HEADERS, END_HEADERS, 1, &fields(&head))).await;
    client.send(frame(DATA, 0, 1, b"{")).await;
    let mut outcome = std::pin::pin!(client.outcome(1));
    // It has a second left, if the gateway has begun to wait for it.
    gateway.hand.advance(patience - Duration::from_secs(1));
    let early = Clock::System.timeout(Duration::from_millis(100), &mut outcome).await;
    assert!(early.is_err(), "{early:?}");
    // And now none, at last; but every body ends after a minute, which does not pass.
    let mut ended = None;
    for _ in 0..4 {
        gateway.hand.advance(patience);
        ended = Clock::System.timeout(Duration::from_secs(5), &mut outcome).await.ok();
        if ended.is_some() {
            break;
        }
    }
    assert_eq!(ended, Some(Event::Answer { stream: 1, status: 400 }));
    expect_metric(&gateway, "tollgate_malformed_requests_total{kind=\"body_timeout\"} 1").await;
    assert!(upstream.requests().is_empty());
}
