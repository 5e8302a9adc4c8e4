//! Connections that come through a balancer which says so by the PROXY protocol.

use super::*;
use crate::support::raw::RawClient;

/// Every connection of a test comes from here.
const HERE: &str = "127.0.0.0/8";

/// The addresses in the audit of a gateway whose balancers are these, for connections that begin so.
async fn audited(proxies: &[&str], beginnings: &[&[u8]]) -> Vec<String> {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let gateway = Setup::new(upstream.address()).proxies(proxies).audit(&audit).start();
    for beginning in beginnings {
        let mut client = gateway.connect().await;
        client.send(beginning).await;
        // A second request on the connection is the same client's, and whatever it says of itself is not looked at.
        for _ in 0..2 {
            client.send(list("X-Forwarded-For: 203.0.113.9\r\n")).await;
            client.read_response().await.assert_status(200);
        }
    }
    gateway.stop();
    let text = std::fs::read_to_string(audit).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let ended = lines.filter(|line| line["event"] == "ended");
    ended.map(|line| line["address"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_balancer_says_where_a_connection_comes_from_and_the_audit_repeats_it() {
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x12\x34\x01\xbb";
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let beginnings = [&b"PROXY TCP4 198.51.100.7 10.0.0.1 4660 443\r\n"[..], v2, b"PROXY UNKNOWN\r\n", local];
    let seen = audited(&["192.0.2.1/32", HERE], &beginnings).await;
    let expected = ["198.51.100.7", "192.0.2.7", "127.0.0.1", "127.0.0.1"].map(|address| [address; 2]);
    assert_eq!(seen, expected.concat());
}

#[tokio::test]
async fn without_the_flag_or_from_another_address_such_a_header_is_a_malformed_request() {
    for proxies in [&[][..], &["192.0.2.0/24"]] {
        assert_eq!(audited(proxies, &[b""]).await, ["127.0.0.1"; 2]);
        let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
        let gateway = Setup::new(upstream.address()).proxies(proxies).start();
        let mut client = gateway.connect().await;
        client.send(format!("PROXY TCP4 198.51.100.7 10.0.0.1 4660 443\r\n{}", list(""))).await;
        client.read_response().await.assert_status(400);
        client.expect_close().await;
        assert!(upstream.requests().is_empty());
    }
}

#[tokio::test]
async fn a_balancers_connection_without_a_right_header_is_closed_without_a_word_and_counted() {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let gateway = Setup::new(upstream.address()).proxies(&[HERE]).start();
    let twice =
        b"PROXY TCP4 198.51.100.7 10.0.0.1 4660 443\r\nPROXY TCP4 198.51.100.7 10.0.0.1 4660 443\r\n\r\n";
    for (index, bytes) in
        [list("").as_bytes(), b"PROXY TCP4 nowhere 10.0.0.1 1 2\r\n", &[0x16; 600]].iter().enumerate()
    {
        let mut client = gateway.connect().await;
        client.send(bytes).await;
        client.expect_close().await;
        let series = format!("tollgate_connections_refused_total{{reason=\"proxy\"}} {}", index + 1);
        expect_metric(&gateway, &series).await;
    }
    // A second header is no request.
    let mut client = gateway.connect().await;
    client.send(twice).await;
    client.read_response().await.assert_status(400);
    // One that says nothing is waited for as long as for a header.
    let mut silent = gateway.connect().await;
    time_until(&gateway, silent.expect_close()).await;
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn behind_a_balancer_each_client_has_the_connections_of_its_own_address() {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let bounds = Bounds { connections_per_address: count(1), ..Bounds::default() };
    let gateway = Setup::new(upstream.address()).bounds(bounds).proxies(&[HERE]).start();
    let through = async |address: &str| {
        let mut client = gateway.connect().await;
        client.send(format!("PROXY TCP4 {address} 10.0.0.1 1 2\r\n{}", list(""))).await;
        client
    };
    let mut first = through("198.51.100.1").await;
    first.read_response().await.assert_status(200);
    let mut other = through("198.51.100.2").await;
    other.read_response().await.assert_status(200);
    let mut second: RawClient = through("198.51.100.1").await;
    second.expect_close().await;
}
