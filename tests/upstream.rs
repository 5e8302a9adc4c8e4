//! What the API gets to see of a call, what of its answers comes back, and what a call is charged if it fails there.

mod actions;
mod circuit;
mod http10;
mod http2;
mod limited;
mod pages;
mod places;
mod repeats;
mod streams;

use std::time::Duration;

use serde_json::{Value, json};
use tollgate::time::Clock;

use crate::support::gateway::{
    COMMENT, Setup, TestGateway, WORKSTATION, bearer, playbooks, portal, responder,
};
use crate::support::raw::RawResponse;
use crate::support::upstream::{Answer, Ending, RecordingUpstream, nobody};

/// Two a minute, and for the application without bounds any action will do.
const PACKAGE: &str = "/api/machineactions/none/getPackageUri";

fn start(answer: Answer) -> (RecordingUpstream, TestGateway) {
    let upstream = RecordingUpstream::start(answer, Clock::System);
    let gateway = TestGateway::start(upstream.address());
    (upstream, gateway)
}

fn reason(answer: &RawResponse) -> (u16, Option<&str>) {
    (answer.status, answer.header("Tollgate-Reason"))
}

fn is_guid(text: &str) -> bool {
    text.len() == 36 && text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
}

// === the request ===

#[tokio::test]
async fn the_upstream_sees_the_request_as_it_was_sent_but_for_host_request_id_and_encoding() {
    let (upstream, gateway) = start(Answer::new(200, ""));
    let authorization = bearer(&playbooks());
    let target = "/API/v1.0/machines/WS-1/collectInvestigationPackage?a=%2F..//&b=c%20d";
    let mut client = gateway.connect().await;
    let sent = [
        ("user-agent", "a client/1.0 (odd)"),
        ("X-ODD-case", "kept  as it is"),
        ("Authorization", &authorization),
        ("Content-Type", "application/json; charset=utf-8"),
        ("Accept-Encoding", "gzip, br"),
        ("X-Twice", "one"),
        ("x-twice", "two"),
        ("Cookie", "a=b; c=d"),
        ("X-Empty", ""),
    ];
    client.request("POST", target, &sent, COMMENT).await.assert_status(200);

    let request = upstream.wait_for(1).await.remove(0);
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", target));
    assert_eq!(request.body, COMMENT.as_bytes());
    let (host, length) = (upstream.address().to_string(), COMMENT.len().to_string());
    let id = request.header("X-Request-Id").unwrap();
    assert!(is_guid(id), "{id}");
    let mut expected: Vec<_> = sent.iter().filter(|(name, _)| *name != "Accept-Encoding").copied().collect();
    // The action's id must be readable in the answer.
    expected.push(("Accept-Encoding", "identity"));
    expected.extend([("Host", host.as_str()), ("Content-Length", &length), ("X-Request-Id", id)]);
    let lower = |headers: &mut dyn Iterator<Item = (&str, &str)>| {
        let mut headers: Vec<_> =
            headers.map(|(name, value)| format!("{}: {value}", name.to_lowercase())).collect();
        headers.sort();
        headers
    };
    let mut seen = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    assert_eq!(lower(&mut seen), lower(&mut expected.into_iter()));
    // In the case and the order of the client.
    let raw = String::from_utf8(request.raw.clone()).unwrap();
    let places = ["user-agent: ", "X-ODD-case: ", "Cookie: ", "X-Empty: "].map(|name| raw.find(name));
    assert!(places.is_sorted() && places[0].is_some(), "{raw}");
}

#[tokio::test]
async fn an_encoding_is_negotiated_where_no_answer_has_to_be_read() {
    let (upstream, gateway) = start(Answer::new(200, ""));
    let headers = [("Authorization", &*bearer(&portal())), ("Accept-Encoding", "gzip")];
    gateway.connect().await.request("GET", "/api/machines", &headers, "").await.assert_status(200);
    assert_eq!(upstream.wait_for(1).await[0].header("Accept-Encoding"), Some("gzip"));
}

#[tokio::test]
async fn the_request_id_at_the_upstream_is_ours_and_the_clients_own_is_in_the_audit() {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let upstream = RecordingUpstream::start(Answer::new(200, ""), Clock::System);
    let gateway = Setup::new(upstream.address()).audit(&audit).start();
    let mut client = gateway.connect().await;
    let authorization = bearer(&portal());
    let headers = [("Authorization", authorization.as_str()), ("X-Request-Id", "the client's own")];
    client.request("GET", "/api/machines", &headers, "").await.assert_status(200);
    let refused = client.request("GET", "/api/nothing", &headers, "").await;
    gateway.stop();

    let request = upstream.wait_for(1).await.remove(0);
    let id = request.header("X-Request-Id").unwrap();
    assert!(is_guid(id), "{id}");
    let text = std::fs::read_to_string(audit).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = |event: &str| lines.iter().find(|line| line["event"] == event).unwrap();
    assert_eq!((&line("admitted")["request_id"], &line("ended")["request_id"]), (&json!(id), &json!(id)));
    assert_eq!(line("refused")["request_id"], refused.json()["error"]["target"]);
    for event in ["admitted", "ended", "refused"] {
        assert_eq!(line(event)["client_request_id"], "the client's own");
    }
}

#[tokio::test]
async fn nothing_hop_by_hop_is_passed_on_and_a_client_cannot_have_ours_removed() {
    let (upstream, gateway) = start(Answer::new(200, ""));
    let authorization = bearer(&portal());
    for (what, headers, gone) in [
        ("kept alive", &["Connection: keep-alive", "Keep-Alive: timeout=5"][..], &["keep-alive"][..]),
        ("the client's own", &["Connection: x-private", "X-Private: 1"], &["x-private"]),
        ("trailers", &["Connection: TE", "TE: trailers", "Trailer: X-Sum"], &["te"]),
        ("a proxy's", &["Proxy-Connection: keep-alive"], &["proxy-connection"]),
        ("our request id", &["Connection: x-request-id", "X-Request-Id: theirs"], &[]),
        ("the token", &["Connection: authorization"], &[]),
        ("all of ours", &["Connection: close, x-request-id, authorization, content-type"], &[]),
        (
            "a tunnel",
            &["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"],
            &["upgrade"],
        ),
        (
            "HTTP/2",
            &["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"],
            &["upgrade", "http2-settings"],
        ),
    ] {
        let before = upstream.requests().len();
        let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let mut client = gateway.connect().await;
        let head = format!(
            "GET /api/machines HTTP/1.1\r\nHost: gateway\r\nAuthorization: {authorization}\r\nContent-Type: text/plain\r\n{lines}\r\n"
        );
        client.send(head).await;
        let answer = client.read_response().await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        let request = upstream.wait_for(before + 1).await.remove(before);
        for name in gone.iter().chain(&["connection"]) {
            assert_eq!(request.header(name), None, "{what}");
        }
        assert_eq!(request.header("Authorization"), Some(authorization.as_str()), "{what}");
        assert_eq!(request.header("Content-Type"), Some("text/plain"), "{what}");
        assert_eq!(request.header("Host"), Some(upstream.address().to_string().as_str()), "{what}");
        assert!(request.header("X-Request-Id").is_some_and(is_guid), "{what}: {:?}", request.headers);
    }
    // The host cannot be named at all.
    let passed = upstream.requests().len();
    let headers =
        [("Authorization", authorization.as_str()), ("Connection", "x-request-id, authorization, host")];
    gateway.connect().await.request("GET", "/api/machines", &headers, "").await.assert_status(400);
    assert_eq!(upstream.requests().len(), passed);
}

// === the answer ===

#[tokio::test]
async fn an_answer_of_the_apis_own_is_passed_on_unchanged() {
    let (upstream, gateway) = start(Answer::new(200, ""));
    let mut client = gateway.connect().await;
    let authorization = bearer(&portal());
    for status in [200, 201, 202, 204, 301, 400, 401, 403, 404, 409, 500, 502, 503, 504, 429] {
        let body =
            if status == 204 { "" } else { r#"{"error":{"code":"Theirs","message":"m","target":"t"}}"# };
        upstream.answer_next(
            Answer::new(status, body)
                .header("Content-Type", "application/json;odata.metadata=minimal")
                .header("Retry-After", "7")
                .header("WWW-Authenticate", r#"Bearer error="invalid_token", claims="x""#)
                .header("Location", "https://api.example/elsewhere")
                .header("request-id", "theirs"),
        );
        let answer = client.request("GET", "/api/machines", &[("Authorization", &authorization)], "").await;
        assert_eq!((answer.status, answer.text()), (status, body));
        assert_eq!(answer.header("Tollgate-Reason"), None, "{status}");
        for (name, value) in [
            ("Content-Type", "application/json;odata.metadata=minimal"),
            ("Retry-After", "7"),
            ("WWW-Authenticate", r#"Bearer error="invalid_token", claims="x""#),
            ("Location", "https://api.example/elsewhere"),
            ("request-id", "theirs"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{status}");
        }
    }
}

#[tokio::test]
async fn the_upstream_cannot_speak_with_our_voice() {
    let spoofed = |answer: Answer| {
        answer
            .header("Tollgate-Reason", "over_limit")
            .header("tollgate-reason", "internal")
            .header("RateLimit", r#""theirs";r=1000"#)
            .header("RateLimit-Policy", r#""theirs";q=1000;w=1"#)
    };
    let (_upstream, gateway) = start(spoofed(Answer::new(200, "")));
    let limited = gateway.get(&portal(), PACKAGE).await;
    assert_eq!(limited.header("Tollgate-Reason"), None);
    assert_eq!(
        limited.header("RateLimit"),
        Some(r#""package_uri-minute";r=1;t=60, "package_uri-hour";r=119;t=3600"#)
    );
    assert_eq!(
        limited.header("RateLimit-Policy"),
        Some(r#""package_uri-minute";q=2;w=60, "package_uri-hour";q=120;w=3600"#)
    );
    let unlimited = gateway.get(&portal(), "/api/machines").await;
    for name in ["Tollgate-Reason", "RateLimit", "RateLimit-Policy"] {
        assert_eq!(unlimited.header(name), None);
    }
}

#[tokio::test]
async fn a_large_answer_arrives_byte_for_byte_however_it_is_framed() {
    let (upstream, gateway) = start(Answer::new(200, ""));
    let body: Vec<u8> =
        (0..20_u64 << 20).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(100_000) {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let unframed = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &body].concat();
    for (what, answer) in [
        ("with its length", Answer::new(200, body.clone())),
        ("in chunks", Answer::raw(chunked)),
        ("until the end of the connection", Answer::raw(unframed).ending(Ending::CloseAfter)),
    ] {
        upstream.answer_next(answer);
        let answer = gateway.get(&portal(), "/api/machines").await;
        assert!(answer.status == 200 && answer.body == body, "{what}: {} bytes", answer.body.len());
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_passed_off_as_whole() {
    let (upstream, gateway) = start(Answer::new(200, ""));
    let cut = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    for answer in [
        Answer::new(200, "a whole body").ending(Ending::CloseWithin),
        Answer::raw(cut).ending(Ending::CloseAfter),
    ] {
        upstream.answer_next(answer);
        let mut client = gateway.connect().await;
        client.send_request("GET", "/api/machines", &[("Authorization", &bearer(&portal()))], "").await;
        let text = String::from_utf8(client.read_to_end().await).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200 ") && !text.contains("body") && !text.ends_with("0\r\n\r\n"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn an_upstream_that_switches_protocols_gets_no_tunnel() {
    let switch =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw bytes";
    let (_upstream, gateway) = start(Answer::raw(switch));
    let headers = [
        ("Authorization", &*bearer(&portal())),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    let answer = gateway.connect().await.request("GET", "/api/machines", &headers, "").await;
    assert_eq!(reason(&answer), (502, Some("upstream_unavailable")));
}

// === what a failure costs ===

#[tokio::test]
async fn a_call_of_which_nothing_was_sent_is_charged_to_nothing() {
    let address = nobody();
    let gateway = TestGateway::start(address);
    for _ in 0..3 {
        let answer = gateway.get(&portal(), PACKAGE).await;
        assert_eq!(reason(&answer), (502, Some("upstream_unavailable")));
    }
    let upstream = RecordingUpstream::start_at(address, Answer::new(200, ""), Clock::System);
    for remaining in [1, 0] {
        let answer = gateway.get(&portal(), PACKAGE).await;
        assert_eq!((answer.status, answer.remaining()), (200, remaining));
    }
    assert_eq!(reason(&gateway.get(&portal(), PACKAGE).await), (429, Some("over_limit")));
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn a_call_that_the_upstream_saw_stays_charged_whatever_became_of_it() {
    for (what, ending, status) in [
        ("no answer in time", Ending::Never, 504),
        ("a hang-up", Ending::CloseBefore, 502),
        ("an answer that says that it failed", Ending::KeepAlive, 500),
    ] {
        let upstream = RecordingUpstream::start(Answer::new(500, "").ending(ending), Clock::System);
        let setup = Setup::new(upstream.address());
        // Whatever comes may take its time on a busy machine.
        let gateway = match ending {
            Ending::Never => setup.upstream_timeout(Duration::from_millis(50)).start(),
            _ => setup.start(),
        };
        for _ in 0..2 {
            assert_eq!(gateway.get(&portal(), PACKAGE).await.status, status, "{what}");
        }
        assert_eq!(reason(&gateway.get(&portal(), PACKAGE).await), (429, Some("over_limit")), "{what}");
        // Given up on, one may be read later.
        upstream.wait_for(2).await;
        assert_eq!(upstream.requests().len(), 2, "{what}");
    }
}

#[tokio::test]
async fn a_pooled_connection_that_the_upstream_closed_costs_nobody_an_answer() {
    let (upstream, gateway) = start(Answer::new(200, "").ending(Ending::CloseAfter));
    for count in 1..=10 {
        gateway.collect(&playbooks(), WORKSTATION).await.assert_status(200);
        assert_eq!(upstream.wait_for(count).await.len(), count);
    }
    assert_eq!(upstream.connections(), 10);
}

#[tokio::test]
async fn calls_share_the_connections_to_the_upstream() {
    let (upstream, gateway) = start(Answer::new(200, ""));
    for _ in 0..5 {
        gateway.collect(&playbooks(), WORKSTATION).await.assert_status(200);
    }
    assert_eq!(upstream.connections(), 1);
}
