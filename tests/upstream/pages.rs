//! Answers in pages: every link to another page leads through the gateway.

use tollgate::time::Clock;

use super::reason;
use crate::support::gateway::{Setup, TestGateway, bearer, portal};
use crate::support::upstream::{Answer, RecordingUpstream};

const LIST: &str = "/api/machines";
const PAGE: &str = r#"{"value":[{"id":"1"}],"@odata.nextLink":"https://api.example/api/machines?$skip=1"}"#;
const TURNED: &str =
    r#"{"value":[{"id":"1"}],"@odata.nextLink":"https://gate.example:8443/api/machines?$skip=1"}"#;

fn start(answer: Answer) -> (RecordingUpstream, TestGateway) {
    let upstream = RecordingUpstream::start(answer, Clock::System);
    let gateway = Setup::new(upstream.address()).public_url("https://gate.example:8443").start();
    (upstream, gateway)
}

/// A page in two chunks.
fn in_chunks(first: &str, second: &str) -> Answer {
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    Answer::raw(format!("{head}{}{}0\r\n\r\n", chunk(first), chunk(second)))
}

#[tokio::test]
async fn a_link_to_the_next_page_leads_through_the_gateway_wherever_the_answer_is_cut() {
    let (upstream, gateway) = start(Answer::new(200, ""));
    let authorization = bearer(&portal());
    let mut client = gateway.connect().await;
    for cut in 1..PAGE.len() {
        let (first, second) = PAGE.split_at(cut);
        upstream.answer_next(in_chunks(first, second));
        let answer = client.request("GET", LIST, &[("Authorization", &authorization)], b"").await;
        assert_eq!((answer.status, answer.text()), (200, TURNED), "cut at {cut}");
    }
    assert_eq!(gateway.get(&portal(), LIST).await.status, 200);
}

#[tokio::test]
async fn an_answer_of_known_length_gets_the_length_that_it_has_afterwards_and_the_connection_is_kept() {
    let (upstream, gateway) = start(Answer::new(200, ""));
    let authorization = bearer(&portal());
    let mut client = gateway.connect().await;
    for content_type in
        ["application/json", "application/json; odata.metadata=minimal; charset=utf-8", "text/plain"]
    {
        upstream.answer_next(Answer::new(200, PAGE).header("Content-Type", content_type));
        let answer = client.request("GET", LIST, &[("Authorization", &authorization)], b"").await;
        assert_eq!((answer.status, answer.text()), (200, TURNED), "{content_type}");
        assert_eq!(answer.header("Content-Length"), None, "{content_type}");
    }
    upstream.answer_next(Answer::new(200, PAGE));
    let answer = client.request("GET", LIST, &[("Authorization", &authorization)], b"").await;
    assert_eq!(answer.text(), TURNED, "no type");
}

#[tokio::test]
async fn the_api_is_asked_for_whole_and_plain_answers_and_one_that_is_encoded_is_not_passed_on() {
    let (upstream, gateway) = start(Answer::new(200, PAGE));
    let authorization = bearer(&portal());
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Accept-Encoding", "gzip, br"),
        ("Range", "bytes=0-50"),
        ("If-Range", "\"a\""),
    ];
    let answer = gateway.connect().await.request("GET", LIST, &headers, b"").await;
    assert_eq!(answer.text(), TURNED);
    let request = upstream.take_requests().remove(0);
    assert_eq!(request.header("Accept-Encoding"), Some("identity"));
    assert_eq!((request.header("Range"), request.header("If-Range")), (None, None));

    for (name, value) in [
        ("Content-Encoding", "gzip"),
        ("Content-Encoding", "identity, br"),
        ("Content-Type", "application/json; charset=utf-16"),
        ("Content-Type", "application/json;charset=\"UTF-7\";a=b"),
    ] {
        upstream.answer_next(Answer::new(200, PAGE).header(name, value));
        let answer = gateway.get(&portal(), LIST).await;
        assert_eq!(reason(&answer), (502, Some("upstream_unreadable")), "{name}: {value}");
        assert!(!answer.text().contains("nextLink"));
    }
    upstream.answer_next(Answer::new(200, PAGE).header("Content-Encoding", "identity"));
    assert_eq!(gateway.get(&portal(), LIST).await.text(), TURNED);
}

#[tokio::test]
async fn what_cannot_be_a_page_is_passed_on_byte_for_byte() {
    let (upstream, gateway) = start(Answer::new(200, ""));
    let authorization = bearer(&portal());
    for (method, path, answer) in [
        ("GET", LIST, Answer::new(200, PAGE).header("Content-Type", "application/zip")),
        ("GET", LIST, Answer::new(400, PAGE).header("Content-Type", "application/json")),
        ("POST", "/api/libraryfiles", Answer::new(200, PAGE).header("Content-Type", "application/json")),
    ] {
        upstream.answer_next(answer);
        let headers = [("Authorization", authorization.as_str())];
        let answer = gateway.connect().await.request(method, path, &headers, b"").await;
        assert_eq!(answer.text(), PAGE, "{method} {path}");
        assert_eq!(answer.header("Content-Length"), Some(PAGE.len().to_string().as_str()));
    }
}

#[tokio::test]
async fn without_a_public_address_links_stay_as_they_are_and_so_does_what_the_api_is_asked_for() {
    let (upstream, gateway) = super::start(Answer::new(200, PAGE).header("Content-Type", "application/json"));
    let authorization = bearer(&portal());
    let headers =
        [("Authorization", authorization.as_str()), ("Accept-Encoding", "gzip"), ("Range", "bytes=0-5")];
    let answer = gateway.connect().await.request("GET", LIST, &headers, b"").await;
    assert_eq!(answer.text(), PAGE);
    let request = upstream.take_requests().remove(0);
    assert_eq!(request.header("Range"), Some("bytes=0-5"));
}
