//! The tools are tested too: a client that overlooks a byte proves nothing.

use std::time::Duration;

use serde_json::json;
use tollgate::time::{Clock, Wall};

use crate::support::raw::{Asked, RawClient};
use crate::support::upstream::{Answer, Ending, RecordingUpstream};

async fn upstream(answer: Answer) -> (RecordingUpstream, RawClient) {
    let upstream = RecordingUpstream::start(answer, Clock::System);
    let client = RawClient::connect(upstream.address()).await;
    (upstream, client)
}

#[tokio::test]
async fn a_request_is_recorded_byte_for_byte_and_its_answer_read_as_it_was_written() {
    let answer = Answer::json(201, &json!({ "id": 1 })).header("x-ODD-case", "a  b");
    let (upstream, mut client) = upstream(answer).await;
    let response =
        client.request("POST", "/a%2Fb?q=%20", &[("X-Case", "One"), ("x-case", "two")], "{}").await;

    response.assert_status(201);
    assert_eq!(response.phrase, "Scripted");
    assert_eq!(response.headers.last(), Some(&("x-ODD-case".to_owned(), "a  b".to_owned())));
    assert_eq!(response.header("CONTENT-type"), Some("application/json"));
    assert_eq!(response.json(), json!({ "id": 1 }));

    let requests = upstream.wait_for(1).await;
    let raw = "POST /a%2Fb?q=%20 HTTP/1.1\r\nHost: gateway\r\nX-Case: One\r\nx-case: two\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(String::from_utf8(requests[0].raw.clone()).unwrap(), raw);
    assert_eq!((requests[0].method.as_str(), requests[0].path.as_str()), ("POST", "/a%2Fb?q=%20"));
    assert_eq!(requests[0].headers[2], ("x-case".to_owned(), "two".to_owned()));
    assert_eq!((requests[0].body.as_slice(), requests[0].header("HOST")), (&b"{}"[..], Some("gateway")));
}

#[tokio::test]
async fn a_connection_carries_many_requests_and_queued_answers_come_first() {
    let (upstream, mut client) = upstream(Answer::new(200, "always")).await;
    upstream.answer_next(Answer::new(503, "once"));
    let statuses = [
        client.request("GET", "/1", &[], "").await.status,
        client.request("GET", "/2", &[], "").await.status,
    ];
    upstream.answer_always(Answer::new(204, ""));
    let last = client.request("GET", "/3", &[("Transfer-Encoding", "chunked")], "2\r\nab\r\n0\r\n\r\n").await;
    assert_eq!((statuses, last.status), ([503, 200], 204));
    let requests = upstream.wait_for(3).await;
    assert_eq!((requests[2].body.as_slice(), requests[2].connection), (&b"ab"[..], 1));
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn chunks_interim_answers_and_heads_have_their_own_lengths() {
    let chunked = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
    let (upstream, mut client) = upstream(Answer::raw(chunked)).await;
    let response = client.request("GET", "/", &[], "").await;
    assert_eq!((response.status, response.text()), (200, "abcd"));
    assert_eq!(response.interim[0].status, 100);

    upstream.answer_always(Answer::new(200, "not sent to a HEAD"));
    let head = client.request("HEAD", "/", &[], "").await;
    assert_eq!((head.header("content-length"), head.body.len()), (Some("18"), 0));
    client.send_request("HEAD", "/", &[], "").await;
    assert_eq!(client.read_response_to(Asked::Head).await.body, b"");
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.read_response().await.text(), "not sent to a HEAD");
}

#[tokio::test]
async fn an_upstream_closes_when_it_is_told_to() {
    for (ending, bytes) in [
        (Ending::CloseBefore, ""),
        (Ending::CloseWithin, "HTTP/1.1 200 Scripted\r\nContent-Length: 4\r\n\r\nab"),
        (Ending::CloseAfter, "HTTP/1.1 200 Scripted\r\nContent-Length: 4\r\n\r\nabcd"),
    ] {
        let (upstream, mut client) = upstream(Answer::new(200, "abcd").ending(ending)).await;
        client.send_request("GET", "/", &[], "").await;
        assert_eq!(client.read_to_end().await, bytes.as_bytes(), "{ending:?}");
        client.expect_close().await;
        assert_eq!(upstream.requests().len(), 1);
    }
}

#[tokio::test]
async fn an_upstream_that_never_answers_still_records_and_notices_no_end() {
    let (upstream, mut client) = upstream(Answer::new(200, "").ending(Ending::Never)).await;
    client.send_request("GET", "/", &[], "").await;
    client.finish_sending().await;
    assert_eq!(upstream.wait_for(1).await.len(), 1);
}

#[tokio::test]
async fn a_delay_passes_on_the_clock_that_the_upstream_was_given() {
    let (clock, hand) = Clock::manual(Wall::default());
    let answer = Answer::new(200, "late").after(Duration::from_secs(3_600));
    let upstream = RecordingUpstream::start(answer, clock);
    let mut client = RawClient::connect(upstream.address()).await;
    client.send_request("GET", "/", &[], "").await;
    upstream.wait_for(1).await;
    hand.advance(Duration::from_secs(3_600));
    assert_eq!(client.read_response().await.text(), "late");
    assert!(client.try_send("GET /2 HTTP/1.1\r\n\r\n").await.is_ok());
}

#[tokio::test]
#[should_panic(expected = "expected one length")]
async fn a_response_of_two_lengths_fails_the_test() {
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let (_upstream, mut client) = upstream(Answer::raw(two)).await;
    client.request("GET", "/", &[], "").await;
}

#[tokio::test]
#[should_panic(expected = "expected the end of the stream, got `extra`")]
async fn a_byte_after_a_response_fails_the_test_that_expects_none() {
    let answer = Answer::raw("HTTP/1.1 204 None\r\n\r\nextra").ending(Ending::CloseAfter);
    let (_upstream, mut client) = upstream(answer).await;
    client.request("GET", "/", &[], "").await.assert_status(204);
    client.expect_close().await;
}
