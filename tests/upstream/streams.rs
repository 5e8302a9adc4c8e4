//! Connections to the upstream as they are on the wire: when they begin, when they end, and what is on them meanwhile.

use std::net::{Ipv4Addr, SocketAddr};

use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tollgate::settings::UpstreamUrl;

use super::places::TlsFront;
use super::*;
use crate::support::frames::{DATA, END_HEADERS, END_STREAM, Event, FrameClient, HEADERS, fields, frame};
use crate::support::gateway::token;
use crate::support::tls::LocalCertificate;
use crate::support::within_deadline;

const TAKEN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    within_deadline("a connection", listener.accept()).await.unwrap().0
}

/// Reads until this has come.
async fn read_through(stream: &mut TcpStream, what: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !bytes.windows(what.len()).any(|window| window == what.as_bytes()) {
        let read = within_deadline(what, stream.read_buf(&mut bytes)).await.unwrap();
        assert!(read > 0, "closed after {}", bytes.escape_ascii());
    }
    bytes
}

/// A listener that takes no connection any more: whoever tries waits.
struct Full {
    address: SocketAddr,
    _listener: tokio::net::TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Full {
    async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) =
            Clock::System.timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            waiting.push(stream.unwrap());
            assert!(waiting.len() < 100, "this system takes connections without end");
        }
        Self { address, _listener: listener, _waiting: waiting }
    }
}

// === when they begin ===

#[tokio::test]
async fn a_place_that_does_not_take_the_connection_in_time_is_passed_over_for_the_next() {
    let full = Full::start().await;
    let upstream = RecordingUpstream::start(Answer::new(200, ""), Clock::System);
    let connect = Duration::from_millis(300);
    // Of several, since a busy machine may let more time pass than the five seconds that it is if nothing is set.
    for _ in 0..5 {
        let next = UpstreamUrl::http(upstream.address());
        let setup = Setup::new(full.address);
        let gateway = setup.upstream(|it| (it.connect, it.fallbacks) = (connect, vec![next])).start();
        let started = Clock::System.steady();
        gateway.get(&portal(), "/api/machines").await.assert_status(200);
        let first = Clock::System.steady().since(started);
        assert!(first >= connect, "{first:?}");
        if first < Duration::from_secs(5) {
            return;
        }
    }
    panic!("the next place was tried after five seconds and more, each time");
}

#[tokio::test]
async fn where_no_place_takes_the_connection_in_time_the_call_is_charged_to_nothing() {
    let full = Full::start().await;
    let setup = Setup::new(full.address).upstream(|it| it.connect = Duration::from_millis(100));
    let gateway = setup.start();
    for _ in 0..3 {
        let answer = gateway.get(&portal(), PACKAGE).await;
        assert_eq!(reason(&answer), (502, Some("upstream_unavailable")));
    }
}

#[tokio::test]
async fn a_tls_session_is_taken_up_again_by_the_next_connection() {
    let upstream =
        RecordingUpstream::start(Answer::new(200, "").header("Connection", "close"), Clock::System);
    let files = LocalCertificate::make();
    let front = TlsFront::start(&files, &upstream).await;
    let (url, ca) = (front.url.clone(), Some(files.ca_file()));
    let gateway = Setup::new(nobody()).upstream(|it| (it.url, it.ca) = (url, ca)).start();
    for _ in 0..4 {
        gateway.get(&portal(), "/api/machines").await.assert_status(200);
    }
    let handshakes = front.handshakes();
    assert_ne!(handshakes[0], HandshakeKind::Resumed);
    assert_eq!(handshakes[1..], [HandshakeKind::Resumed; 3]);
}

// === when they end ===

#[tokio::test]
async fn a_connection_that_no_call_needs_is_closed_after_its_idle_time() {
    let (listener, address) = listen().await;
    let idle = Duration::from_millis(300);
    let gateway = Setup::new(address).upstream(|it| it.idle = idle).start();
    for _ in 0..2 {
        let call = async { gateway.get(&portal(), "/api/machines").await.assert_status(200) };
        let answer = async {
            let mut upstream = accept(&listener).await;
            read_through(&mut upstream, "\r\n\r\n").await;
            // Before the gateway can have the answer.
            let answered = Clock::System.steady();
            upstream.write_all(TAKEN).await.unwrap();
            (upstream, answered)
        };
        let ((), (mut upstream, answered)) = tokio::join!(call, answer);
        let end = within_deadline("the end of the connection", upstream.read(&mut [0])).await;
        assert_eq!(end.unwrap(), 0);
        assert!(Clock::System.steady().since(answered) >= idle);
    }
}

// === what is on them ===

#[tokio::test]
async fn the_api_sees_the_first_byte_of_an_upload_before_the_client_has_sent_the_last() {
    for framing in ["Content-Length: 9", "Transfer-Encoding: chunked"] {
        let (listener, address) = listen().await;
        let gateway = TestGateway::start(address);
        let chunked = framing.starts_with("Transfer");
        let piece = |text: &str| {
            if chunked { format!("{:x}\r\n{text}\r\n", text.len()) } else { text.to_owned() }
        };
        let mut client = gateway.connect().await;
        let authorization = bearer(&portal());
        let head = format!(
            "POST /api/libraryfiles HTTP/1.1\r\nHost: gateway\r\nAuthorization: {authorization}\r\n{framing}\r\n\r\n"
        );
        client.send(head + &piece("first")).await;
        let mut upstream = accept(&listener).await;
        read_through(&mut upstream, "first").await;
        client.send(piece("last") + if chunked { "0\r\n\r\n" } else { "" }).await;
        read_through(&mut upstream, if chunked { "0\r\n\r\n" } else { "last" }).await;
        upstream.write_all(TAKEN).await.unwrap();
        client.read_response().await.assert_status(200);
    }
}

#[tokio::test]
async fn the_same_of_an_upload_over_http_2() {
    let (listener, address) = listen().await;
    let files = LocalCertificate::make();
    let gateway = Setup::new(address).tls(files.files()).start();
    let stream = crate::door::tls::http2(gateway.address(), &files).await;
    let mut client = FrameClient::new(stream);
    client.begin().await;
    let authorization = format!("Bearer {}", token(&portal()));
    let head = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "gateway"),
        (":path", "/api/libraryfiles"),
        ("authorization", &authorization),
    ];
    client.send(frame(HEADERS, END_HEADERS, 1, &fields(&head))).await;
    client.send(frame(DATA, 0, 1, b"first")).await;
    let mut upstream = accept(&listener).await;
    read_through(&mut upstream, "first").await;
    client.send(frame(DATA, END_STREAM, 1, b"last")).await;
    read_through(&mut upstream, "0\r\n\r\n").await;
    upstream.write_all(TAKEN).await.unwrap();
    assert_eq!(client.outcome(1).await, Event::Answer { stream: 1, status: 200 });
}
