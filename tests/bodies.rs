//! Bodies: what is read before the decision, what streams past it, and what a refused one does to its connection.

use std::time::Duration;

use tollgate::time::Clock;

use crate::support::gateway::{COMMENT, TestGateway, WORKSTATION, bearer, playbooks, portal};
use crate::support::raw::RawClient;
use crate::support::until;
use crate::support::upstream::{Answer, RecordedRequest, RecordingUpstream};

const COLLECT: &str = "/api/machines/1111111111111111111111111111111111111111/collectInvestigationPackage";
const IMPORT: &str = "/api/indicators/import";
const UPLOAD: &str = "/api/libraryfiles";

const KIB: usize = 1024;

/// How a body says where it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Framing {
    Length,
    Chunked,
}

use Framing::{Chunked, Length};

fn start() -> (RecordingUpstream, TestGateway) {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let gateway = TestGateway::start(upstream.address());
    (upstream, gateway)
}

/// A JSON object with a comment, exactly this long, whose bytes differ from place to place.
fn object(length: usize) -> Vec<u8> {
    let (before, after) = (br#"{"Comment":"c","data":""#, br#""}"#);
    let filler = bytes(length - before.len() - after.len()).into_iter().map(|byte| b'a' + byte % 26);
    [before.as_slice(), &filler.collect::<Vec<_>>(), after].concat()
}

/// Bytes of which no two neighbourhoods are alike.
fn bytes(length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// The head of a POST, up to its empty line.
fn head(path: &str, authorization: &str, more: &str, framing: Framing, length: usize) -> Vec<u8> {
    let framing = match framing {
        Length => format!("Content-Length: {length}"),
        Chunked => "Transfer-Encoding: chunked".to_owned(),
    };
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: {authorization}\r\nContent-Type: application/json\r\n{more}{framing}\r\n\r\n"
    );
    head.into_bytes()
}

/// A body as it goes over the wire; chunks are 10,000 bytes long.
fn framed(body: &[u8], framing: Framing) -> Vec<u8> {
    match framing {
        Length => body.to_vec(),
        Chunked => {
            let chunk = |chunk: &[u8]| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
            let mut framed: Vec<u8> = body.chunks(10_000).flat_map(chunk).collect();
            framed.extend_from_slice(b"0\r\n\r\n");
            framed
        }
    }
}

fn post(path: &str, authorization: &str, framing: Framing, body: &[u8]) -> Vec<u8> {
    [head(path, authorization, "", framing, body.len()), framed(body, framing)].concat()
}

/// Asks for nothing, to see that the connection still carries requests.
async fn assert_usable(client: &mut RawClient, what: &str) {
    let next = client.request("GET", "/api/next", &[], "").await;
    assert_eq!(next.header("Tollgate-Reason"), Some("no_operation"), "{what}");
}

fn assert_body(request: &RecordedRequest, body: &[u8], what: &str) {
    // Not `assert_eq`: it would print megabytes.
    assert!(request.body == body, "{what}: sent {} bytes, {} arrived", body.len(), request.body.len());
}

#[tokio::test]
async fn a_body_that_is_read_first_reaches_the_upstream_byte_for_byte() {
    let (upstream, gateway) = start();
    let authorization = bearer(&portal());
    let mut client = gateway.connect().await;
    let table = [
        ("a small one", COLLECT, Length, 40),
        ("one byte below 64 KiB", COLLECT, Length, 64 * KIB - 1),
        ("64 KiB", COLLECT, Length, 64 * KIB),
        ("a small one in chunks", COLLECT, Chunked, 40),
        ("one byte below 64 KiB in chunks", COLLECT, Chunked, 64 * KIB - 1),
        ("64 KiB in chunks", COLLECT, Chunked, 64 * KIB),
        ("one byte below 64 KiB, where more is allowed", IMPORT, Length, 64 * KIB - 1),
        ("64 KiB, where more is allowed", IMPORT, Length, 64 * KIB),
        ("one byte above 64 KiB, where it is allowed", IMPORT, Length, 64 * KIB + 1),
        ("two buffers", IMPORT, Length, 128 * KIB),
        ("400 KiB", IMPORT, Length, 400 * KIB),
        ("512 KiB", IMPORT, Length, 512 * KIB),
        ("64 KiB in chunks, where more is allowed", IMPORT, Chunked, 64 * KIB),
    ];
    for (index, (what, path, framing, length)) in table.into_iter().enumerate() {
        let body = object(length);
        client.send(post(path, &authorization, framing, &body)).await;
        let answer = client.read_response().await;
        assert_eq!((answer.status, answer.text()), (200, "taken"), "{what}");
        let request = upstream.wait_for(index + 1).await.remove(index);
        assert_body(&request, &body, what);
        let (length, coding) = match framing {
            Length => (Some(length.to_string()), None),
            Chunked => (None, Some("chunked")),
        };
        assert_eq!(request.header("Content-Length"), length.as_deref(), "{what}");
        assert_eq!(request.header("Transfer-Encoding"), coding, "{what}");
    }
}

#[tokio::test]
async fn a_body_larger_than_its_operation_takes_is_refused_and_the_upstream_sees_none_of_it() {
    let (upstream, gateway) = start();
    let authorization = bearer(&portal());
    for (what, path, framing, length) in [
        ("one byte above 64 KiB", COLLECT, Length, 64 * KIB + 1),
        ("one byte above 64 KiB in chunks", COLLECT, Chunked, 64 * KIB + 1),
        ("one byte above 512 KiB", IMPORT, Length, 512 * KIB + 1),
        ("more in chunks than can be kept", IMPORT, Chunked, 64 * KIB + 1),
    ] {
        let mut client = gateway.connect().await;
        client.send(post(path, &authorization, framing, &object(length))).await;
        let answer = client.read_response().await;
        assert_eq!(
            (answer.status, answer.header("Tollgate-Reason")),
            (413, Some("body_too_large")),
            "{what}"
        );
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_body_without_a_contract_streams_byte_for_byte() {
    let (upstream, gateway) = start();
    let authorization = bearer(&portal());
    let mut client = gateway.connect().await;
    for (index, (what, framing, length)) in [
        ("5 MiB", Length, 5 * KIB * KIB),
        ("5 MiB in chunks", Chunked, 5 * KIB * KIB),
        ("64 KiB", Length, 64 * KIB),
        ("one byte above 64 KiB", Length, 64 * KIB + 1),
        ("one byte above 64 KiB in chunks", Chunked, 64 * KIB + 1),
        ("one byte", Length, 1),
        ("nothing, with a length", Length, 0),
        ("nothing, in chunks", Chunked, 0),
    ]
    .into_iter()
    .enumerate()
    {
        let body = bytes(length);
        client.send(post(UPLOAD, &authorization, framing, &body)).await;
        let answer = client.read_response().await;
        assert_eq!((answer.status, answer.text()), (200, "taken"), "{what}");
        let request = upstream.wait_for(index + 1).await.remove(index);
        assert_body(&request, &body, what);
    }
}

#[tokio::test]
async fn a_body_may_come_in_any_pieces() {
    let (upstream, gateway) = start();
    let authorization = bearer(&portal());
    let mut client = gateway.connect().await;
    for (index, (path, framing)) in
        [(COLLECT, Length), (COLLECT, Chunked), (UPLOAD, Length), (UPLOAD, Chunked)].into_iter().enumerate()
    {
        // No Nagle at this end: each piece is a segment of its own.
        for piece in post(path, &authorization, framing, COMMENT.as_bytes()).chunks(7) {
            client.send(piece).await;
            tokio::task::yield_now().await;
        }
        client.read_response().await.assert_status(200);
        let request = upstream.wait_for(index + 1).await.remove(index);
        assert_body(&request, COMMENT.as_bytes(), path);
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it_once_the_call_may_be_read() {
    let (upstream, gateway) = start();
    let authorization = bearer(&playbooks());
    let mut client = gateway.connect().await;
    client.send(head(COLLECT, &authorization, "Expect: 100-continue\r\n", Length, COMMENT.len())).await;
    client.expect_interim(100).await;
    assert!(upstream.requests().is_empty());
    client.send(COMMENT).await;
    client.read_response().await.assert_status(200);
    let request = upstream.wait_for(1).await.remove(0);
    assert_body(&request, COMMENT.as_bytes(), "after 100");
    assert_eq!(request.header("Expect"), None);
    assert_usable(&mut client, "after 100").await;
}

#[tokio::test]
async fn a_refused_client_that_waits_for_100_continue_gets_its_final_answer_at_once() {
    let (upstream, gateway) = start();
    let good = bearer(&playbooks());
    for (what, path, authorization, more, length, status) in [
        ("no operation", "/api/nothing", good.as_str(), "", 10, 404),
        ("a bad token", COLLECT, "Bearer a.b.c", "", 10, 401),
        ("a type that is not taken", COLLECT, good.as_str(), "Content-Encoding: gzip\r\n", 10, 415),
        ("too large", COLLECT, good.as_str(), "", 64 * KIB + 1, 413),
        (
            "without the permission, to stream",
            UPLOAD,
            &bearer(&playbooks().permissions(["Machine.Read.All"])),
            "",
            10,
            403,
        ),
    ] {
        let mut client = gateway.connect().await;
        client
            .send(head(path, authorization, &format!("Expect: 100-continue\r\n{more}"), Length, length))
            .await;
        let answer = client.read_response().await;
        assert_eq!((answer.status, answer.interim.len()), (status, 0), "{what}: {}", answer.text());
        // Whether a body follows is the client's choice now: only a new connection is certain.
        assert_eq!(answer.header("Connection"), Some("close"), "{what}");
        client.expect_close().await;
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn what_the_header_says_of_a_body_decides_whether_it_is_read() {
    let (upstream, gateway) = start();
    let authorization = bearer(&playbooks());
    let mut client = gateway.connect().await;
    let json = "Content-Type: application/json";
    let coded = |coding: &str| format!("{json}\r\nContent-Encoding: {coding}");
    let mut passed = 0;
    for (what, headers, status) in [
        ("plain JSON", json.to_owned(), 200),
        ("in capitals", "CONTENT-TYPE: Application/JSON".to_owned(), 200),
        ("with its charset", format!("{json}; charset=utf-8"), 200),
        ("with its charset in quotes", format!("{json};charset=\"UTF-8\""), 200),
        ("coded as itself", coded("identity"), 200),
        ("another charset", format!("{json}; charset=utf-16"), 415),
        ("another parameter", format!("{json}; profile=x"), 415),
        ("two charsets", format!("{json}; charset=utf-8; charset=utf-8"), 415),
        ("another type", "Content-Type: text/plain".to_owned(), 415),
        ("a longer type", "Content-Type: application/json-patch+json".to_owned(), 415),
        ("two types in one header", format!("{json}, text/plain"), 415),
        ("two types", format!("{json}\r\n{json}"), 415),
        ("no type", "X-None: 1".to_owned(), 415),
        ("an empty type", "Content-Type:".to_owned(), 415),
        ("coded", coded("gzip"), 415),
        ("coded twice", coded("identity, gzip"), 415),
        ("with an empty coding", coded(""), 415),
    ] {
        let length = COMMENT.len();
        let request = format!(
            "POST {COLLECT} HTTP/1.1\r\nHost: gateway\r\nAuthorization: {authorization}\r\n{headers}\r\nContent-Length: {length}\r\n\r\n{COMMENT}"
        );
        client.send(request).await;
        let answer = client.read_response().await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        passed += usize::from(status == 200);
    }
    assert_eq!(upstream.requests().len(), passed);
}

#[tokio::test]
async fn a_body_that_two_readers_could_understand_differently_is_refused() {
    let (upstream, gateway) = start();
    let authorization = bearer(&playbooks());
    let mut client = gateway.connect().await;
    let table: &[(&str, &[u8], &str)] = &[
        ("nothing", b"", "bad_body"),
        ("no JSON", b"Comment", "bad_body"),
        ("a byte-order mark", b"\xef\xbb\xbf{\"Comment\":\"c\"}", "bad_body"),
        ("no UTF-8", b"{\"Comment\":\"\xff\"}", "bad_body"),
        ("UTF-16", b"{\0\"\0C\0\"\0", "bad_body"),
        ("two objects", br#"{"Comment":"c"}{"Comment":"d"}"#, "bad_body"),
        ("a list", br#"[{"Comment":"c"}]"#, "bad_body"),
        ("a member twice", br#"{"Comment":"c","Comment":"d"}"#, "bad_body"),
        ("a member twice, once escaped", br#"{"Comment":"c","\u0043omment":"d"}"#, "bad_body"),
        ("a member twice further down", br#"{"Comment":"c","x":[{"y":1,"y":2}]}"#, "bad_body"),
        ("a member in another case", br#"{"Comment":"c","comment":"d"}"#, "bad_body"),
        ("only in another case", br#"{"comment":"c"}"#, "bad_body"),
        ("a comment that is a number", br#"{"Comment":1}"#, "bad_body"),
        ("no comment", br#"{"Other":"c"}"#, "missing_parameter"),
        ("a blank comment", br#"{"Comment":" "}"#, "missing_parameter"),
        ("a comment of null", br#"{"Comment":null}"#, "missing_parameter"),
    ];
    for (what, body, reason) in table {
        client.send(post(COLLECT, &authorization, Length, body)).await;
        let answer = client.read_response().await;
        assert_eq!((answer.status, answer.header("Tollgate-Reason")), (400, Some(*reason)), "{what}");
    }
    // A POST without any body is one of nothing.
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    let answer = client.request("POST", COLLECT, &headers, "").await;
    assert_eq!(answer.header("Tollgate-Reason"), Some("bad_body"));
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_refusal_reads_a_small_body_away_and_keeps_the_connection() {
    let (upstream, gateway) = start();
    let mut client = gateway.connect().await;
    for (what, framing, length) in [
        ("small", Length, 100),
        ("small, in chunks", Chunked, 100),
        ("64 KiB", Length, 64 * KIB),
        ("more than one chunk", Chunked, 60_000),
        ("empty, in chunks", Chunked, 0),
    ] {
        client.send(post(COLLECT, "Bearer a.b.c", framing, &bytes(length))).await;
        let answer = client.read_response().await;
        assert_eq!((answer.status, answer.header("Connection")), (401, Some("keep-alive")), "{what}");
        assert_usable(&mut client, what).await;
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_large_body_that_is_refused_early_still_gets_its_answer() {
    let (upstream, gateway) = start();
    let mut client = gateway.connect().await;
    let length = 10 * KIB * KIB;
    client.send(head(UPLOAD, "Bearer a.b.c", "", Length, length)).await;
    // The gateway may close before all is written: the answer is what counts.
    let _ = client.try_send(bytes(length)).await;
    let answer = client.read_response().await;
    assert_eq!((answer.status, answer.header("Connection")), (401, Some("close")));
    client.expect_close().await;
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_client_that_hangs_up_in_the_middle_of_its_body_is_charged_nothing() {
    let (upstream, gateway) = start();
    let authorization = bearer(&playbooks());
    for framing in [Length, Chunked] {
        let mut client = gateway.connect().await;
        let request = post(COLLECT, &authorization, framing, COMMENT.as_bytes());
        client.send(&request[..request.len() - 9]).await;
        drop(client);
    }
    until("the end of both", || gateway.server().metrics.requests_in_flight() == 0).await;
    assert_eq!(gateway.server().line.limiter.keys(), 0);
    let answer = gateway.collect(&playbooks(), WORKSTATION).await;
    answer.assert_status(200);
    assert_eq!(answer.remaining(), 99);
    assert_eq!(upstream.wait_for(1).await.len(), 1);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_in_a_minute_is_refused() {
    let (upstream, gateway) = start();
    let mut client = gateway.connect().await;
    client.send(head(COLLECT, &bearer(&playbooks()), "Expect: 100-continue\r\n", Length, 10)).await;
    client.expect_interim(100).await;
    gateway.hand.advance(Duration::from_millis(59_999));
    client.send("{").await;
    gateway.hand.advance(Duration::from_millis(1));
    let answer = client.read_response().await;
    assert_eq!((answer.status, answer.header("Tollgate-Reason")), (400, Some("malformed_request")));
    client.expect_close().await;
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn bytes_after_a_body_reach_the_upstream_only_as_a_request_that_was_decided() {
    let (upstream, gateway) = start();
    let good = bearer(&portal());
    let smuggled = "GET /api/alerts HTTP/1.1\r\nHost: gateway\r\n\r\n";
    for (what, request) in [
        ("after a body that was read", post(COLLECT, &good, Length, COMMENT.as_bytes())),
        ("after chunks that were read", post(COLLECT, &good, Chunked, COMMENT.as_bytes())),
        ("after a body that streamed", post(UPLOAD, &good, Length, b"file")),
        ("after chunks that streamed", post(UPLOAD, &good, Chunked, b"file")),
        ("after a body that was refused", post(COLLECT, "Bearer a.b.c", Length, COMMENT.as_bytes())),
        ("after chunks that were refused", post(COLLECT, "Bearer a.b.c", Chunked, COMMENT.as_bytes())),
    ] {
        let mut client = gateway.connect().await;
        client.send([request, smuggled.into()].concat()).await;
        let first = client.read_response().await;
        assert!(matches!(first.status, 200 | 401), "{what}");
        // The second waited its turn, and was decided by itself.
        let second = client.read_response().await;
        assert_eq!((second.status, second.header("Tollgate-Reason")), (404, Some("no_operation")), "{what}");
    }
    let paths: Vec<_> = upstream.wait_for(4).await.into_iter().map(|request| request.path).collect();
    assert_eq!(paths, [COLLECT, COLLECT, UPLOAD, UPLOAD]);
}
