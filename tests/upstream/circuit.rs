//! An upstream that keeps failing is left alone, tried, and used again.

use super::*;
use crate::support::gateway::BEGINNING;
use crate::support::until;

/// How long it is left alone.
const PAUSE: Duration = Duration::from_secs(5);

/// A gateway whose upstream has failed as often as it may.
async fn failing(upstream: &RecordingUpstream) -> TestGateway {
    let gateway = TestGateway::start(upstream.address());
    for _ in 0..10 {
        upstream.answer_next(Answer::new(200, "").ending(Ending::CloseBefore));
        list(&gateway).await.assert_status(502);
    }
    assert_eq!(upstream.take_requests().len(), 10);
    gateway
}

async fn list(gateway: &TestGateway) -> RawResponse {
    gateway.get(&portal(), "/api/machines").await
}

async fn assert_left_alone(gateway: &TestGateway) {
    let answer = list(gateway).await;
    assert_eq!(reason(&answer), (503, Some("circuit_open")));
    assert_eq!(answer.header("Retry-After"), Some("5"));
}

#[tokio::test]
async fn an_upstream_that_keeps_failing_is_left_alone_and_one_call_at_a_time_tries_it_until_it_answers() {
    let (clock, hand) = Clock::manual(BEGINNING);
    let upstream = RecordingUpstream::start(Answer::new(200, ""), clock);
    let gateway = failing(&upstream).await;
    assert_left_alone(&gateway).await;
    assert!(upstream.requests().is_empty());

    gateway.hand.advance(PAUSE);
    upstream.answer_next(Answer::new(200, "").ending(Ending::CloseBefore));
    list(&gateway).await.assert_status(502);
    assert_left_alone(&gateway).await;
    assert_eq!(upstream.take_requests().len(), 1);

    gateway.hand.advance(PAUSE);
    upstream.answer_next(Answer::new(200, "").after(Duration::from_secs(1)));
    let probe = async { list(&gateway).await.assert_status(200) };
    let others = async {
        upstream.wait_for(1).await;
        assert_left_alone(&gateway).await;
        hand.advance(Duration::from_secs(1));
    };
    tokio::join!(probe, others);
    for _ in 0..3 {
        list(&gateway).await.assert_status(200);
    }
    assert_eq!(upstream.requests().len(), 4);
}

#[tokio::test]
async fn a_call_that_tries_it_and_takes_its_time_keeps_nobody_else_from_trying() {
    let upstream = RecordingUpstream::start(Answer::new(200, ""), Clock::System);
    let gateway = failing(&upstream).await;
    gateway.hand.advance(PAUSE);
    let mut slow = gateway.connect().await;
    let authorization = bearer(&portal());
    slow.send(format!(
        "POST /api/libraryfiles HTTP/1.1\r\nHost: gateway\r\nAuthorization: {authorization}\r\nContent-Length: 6\r\n\r\na "
    ))
    .await;
    // On a connection of its own: those before were closed.
    until("the probe", || upstream.connections() == 11).await;
    assert_left_alone(&gateway).await;
    gateway.hand.advance(PAUSE);
    list(&gateway).await.assert_status(200);
    list(&gateway).await.assert_status(200);
    slow.send("body").await;
    slow.read_response().await.assert_status(200);
}
