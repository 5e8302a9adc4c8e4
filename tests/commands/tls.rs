//! TLS to the callers: HTTP/1.1 and HTTP/2, and that a refusal costs neither a stream nor the connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use reqwest::{Client, Response, Version};
use serde_json::json;
use tollgate::sandbox::issuer::Caller;
use tollgate::time::Clock;

use super::{Serving, policy_folder};
use crate::support::gateway::{
    COMMENT, EXECUTIVE, PORTAL, Setup, TestGateway, WORKSTATION, playbooks, token, token_of_today,
};
use crate::support::process::text;
use crate::support::tls::{LocalCertificate, Relay};
use crate::support::upstream::{Answer, RecordingUpstream};
use crate::support::within_deadline;

/// A gateway that serves TLS, behind a relay that counts connections.
struct Secure {
    upstream: RecordingUpstream,
    relay: Relay,
    files: LocalCertificate,
    _gateway: TestGateway,
}

impl Secure {
    async fn start() -> Self {
        let upstream = RecordingUpstream::start(Answer::json(201, &json!({"id": "action-1"})), Clock::System);
        let files = LocalCertificate::make();
        let gateway = Setup::new(upstream.address()).tls(files.files()).start();
        let relay = Relay::start(gateway.address()).await;
        Self { upstream, relay, files, _gateway: gateway }
    }

    /// A POST of this body to a path, which must be answered by this version of HTTP.
    async fn post(
        &self,
        client: &Client,
        path: &str,
        token: &str,
        body: impl Into<reqwest::Body>,
    ) -> Response {
        let request = client
            .post(format!("https://{}{path}", self.relay.address))
            .header("Authorization", format!("Bearer {token}"))
            .header("Content-Type", "application/json")
            .body(body);
        within_deadline("an answer", request.send()).await.unwrap()
    }

    async fn collect(&self, client: &Client, token: &str, device: &str) -> Response {
        self.post(client, &format!("/api/machines/{device}/collectInvestigationPackage"), token, COMMENT)
            .await
    }
}

#[tokio::test]
async fn a_client_that_trusts_the_certificate_is_served_over_http_2_and_over_http_1_1() {
    let secure = Secure::start().await;
    for (client, version) in
        [(secure.files.client(), Version::HTTP_2), (secure.files.http1_client(), Version::HTTP_11)]
    {
        let answer = secure.collect(&client, &token(&playbooks()), WORKSTATION).await;
        assert_eq!((answer.status().as_u16(), answer.version()), (201, version));
        assert_eq!(answer.text().await.unwrap(), r#"{"id":"action-1"}"#);
    }
    let requests = secure.upstream.wait_for(2).await;
    for request in requests {
        assert_eq!(request.body, COMMENT.as_bytes());
        assert_eq!(request.header("Host"), Some(&*secure.upstream.address().to_string()));
        assert_eq!(request.path, format!("/api/machines/{WORKSTATION}/collectInvestigationPackage"));
    }
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_certificate_is_not_served() {
    let secure = Secure::start().await;
    let url = format!("https://{}/api/machines", secure.relay.address);
    let stranger = LocalCertificate::make().client();
    assert!(within_deadline("an error", stranger.get(url).send()).await.unwrap_err().is_connect());
}

#[tokio::test]
async fn a_refused_post_over_http_2_is_answered_whole_and_the_connection_goes_on() {
    let secure = Secure::start().await;
    let client = secure.files.client();
    let token = token(&playbooks());
    let collect = format!("/api/machines/{EXECUTIVE}/collectInvestigationPackage");
    for (what, path, token, body, status, reason) in [
        ("a stranger's", collect.as_str(), "none", COMMENT.to_owned(), 401, "bad_token"),
        ("one without a token and 60 KiB", &collect, "none", "x".repeat(60 * 1_024), 401, "bad_token"),
        ("one of an unknown path", "/api/nothing", &token, COMMENT.to_owned(), 404, "no_operation"),
        ("one without a comment", &collect, &token, "{}".to_owned(), 400, "missing_parameter"),
        ("one for a device out of reach", &collect, &token, COMMENT.to_owned(), 403, "device_group"),
        ("one of 200 KiB", &collect, &token, "x".repeat(200 * 1_024), 413, "body_too_large"),
        ("an empty one", &collect, &token, String::new(), 400, "bad_body"),
    ] {
        let answer = secure.post(&client, path, token, body).await;
        assert_eq!((answer.status().as_u16(), answer.version()), (status, Version::HTTP_2), "{what}");
        assert_eq!(answer.headers()["Tollgate-Reason"], reason, "{what}");
        let body: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert!(body["error"]["code"].is_string(), "{what}: {body}");
    }
    assert_eq!(secure.collect(&client, &token, WORKSTATION).await.status().as_u16(), 201);
    assert_eq!(secure.relay.connections(), 1, "a refusal closed the connection");
    secure.upstream.wait_for(1).await;
}

#[tokio::test]
async fn a_body_that_streams_over_http_2_arrives_byte_for_byte() {
    let secure = Secure::start().await;
    let client = secure.files.client();
    let librarian = token(&Caller::application(PORTAL).permissions(["Library.Manage"]));
    for size in [0, 1, 16_384, 65_536, 300_000] {
        let body: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
        let answer = secure.post(&client, "/api/libraryfiles", &librarian, body.clone()).await;
        assert_eq!(answer.status().as_u16(), 201, "{size} bytes");
        let requests = secure.upstream.requests();
        assert!(requests.last().unwrap().body == body, "{size} bytes");
    }
    assert_eq!(secure.relay.connections(), 1);
    secure.upstream.wait_for(5).await;
}

/// A body of unknown length: over HTTP/2 it ends in an empty frame of its own.
struct Pieces(VecDeque<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_over_http_2_ends_once_at_the_upstream_and_the_next_call_finds_its_place() {
    let secure = Secure::start().await;
    let client = secure.files.client();
    let librarian = token(&Caller::application(PORTAL).permissions(["Library.Manage"]));
    for pieces in [&["one", "two"][..], &["three"], &[], &["four", "five"]] {
        let body = Pieces(pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect());
        let body = reqwest::Body::wrap(body);
        assert_eq!(
            secure.post(&client, "/api/libraryfiles", &librarian, body).await.status().as_u16(),
            201,
            "{pieces:?}"
        );
        let request = secure.upstream.requests().pop().unwrap();
        assert_eq!(request.body, pieces.concat().as_bytes());
        assert!(request.raw.ends_with(b"\r\n0\r\n\r\n"), "{}", request.raw.escape_ascii());
    }
    secure.upstream.wait_for(4).await;
    assert_eq!((secure.relay.connections(), secure.upstream.connections()), (1, 1));
}

#[tokio::test]
async fn a_body_that_is_read_first_arrives_as_it_was_sent_however_http_2_cuts_it() {
    let secure = Secure::start().await;
    let client = secure.files.client();
    let path = format!("/api/machines/{WORKSTATION}/collectInvestigationPackage");
    let (head, tail) = COMMENT.split_at(9);
    let long = format!(r#"{{"Comment":"{}"}}"#, "x".repeat(40_000));
    for pieces in
        [&[COMMENT][..], &[head, tail], &["", head, "", tail, ""], &[&long[..20_000], &long[20_000..]]]
    {
        let body = Pieces(pieces.iter().map(|piece| Bytes::copy_from_slice(piece.as_bytes())).collect());
        let answer = secure.post(&client, &path, &token(&playbooks()), reqwest::Body::wrap(body)).await;
        assert_eq!(answer.status().as_u16(), 201, "{} pieces", pieces.len());
        let request = secure.upstream.requests().pop().unwrap();
        assert!(request.body == pieces.concat().as_bytes(), "{} pieces", pieces.len());
    }
    secure.upstream.wait_for(4).await;
    assert_eq!((secure.relay.connections(), secure.upstream.connections()), (1, 1));
}

#[tokio::test]
async fn serve_takes_a_certificate_and_its_key() {
    let (folder, files) = (policy_folder(), LocalCertificate::make());
    let upstream = RecordingUpstream::start(Answer::json(201, &json!({})), Clock::System);
    let (cert, key) = (files.cert(), files.key());
    let tls = ["--tls-cert", text(&cert), "--tls-key", text(&key)];
    let serving = Serving::start(folder.path(), upstream.address(), &tls).await;
    assert!(serving.process.said().contains(&format!("gateway  https://{}", serving.gateway)));

    let path = format!("/api/machines/{WORKSTATION}/collectInvestigationPackage");
    let request = files
        .client()
        .post(format!("https://{}{path}", serving.gateway))
        .header("Authorization", format!("Bearer {}", token_of_today(&playbooks())))
        .header("Content-Type", "application/json")
        .body(COMMENT);
    let answer = within_deadline("an answer", request.send()).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (201, Version::HTTP_2));
}
