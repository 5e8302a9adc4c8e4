//! The API's own 429: what it closes, for how long, and how that opens again.

use super::*;
use crate::support::gateway::{BEGINNING, policy};
use crate::support::until;

const LIST: &str = "/api/machines";

fn limited(retry_after: &str) -> Answer {
    let answer = Answer::new(429, "the service's own words").header("Content-Type", "text/plain");
    if retry_after.is_empty() { answer } else { answer.header("Retry-After", retry_after) }
}

/// Status, reason and `Retry-After`.
fn said(answer: &RawResponse) -> (u16, Option<&str>, Option<&str>) {
    (answer.status, answer.header("Tollgate-Reason"), answer.header("Retry-After"))
}

#[tokio::test]
async fn the_apis_429_is_passed_on_and_closes_the_operation_to_that_application_alone() {
    let (upstream, gateway) = start(Answer::new(200, "here"));
    upstream.answer_next(limited("7"));
    let first = gateway.collect(&playbooks(), WORKSTATION).await;
    assert_eq!((said(&first), first.text()), ((429, None, Some("7")), "the service's own words"));

    let closed = (429, Some("upstream_limited"), Some("7"));
    let answer = gateway.collect(&playbooks(), WORKSTATION).await;
    assert_eq!(said(&answer), closed);
    assert_eq!(answer.json()["error"]["code"], "TooManyRequests");
    gateway.hand.advance(Duration::from_millis(1_001));
    assert_eq!(said(&gateway.collect(&playbooks(), WORKSTATION).await).2, Some("6"), "the rest, rounded up");
    // Another operation of the application, and the operation for another one.
    gateway.get(&portal(), LIST).await.assert_status(200);
    gateway.collect(&responder(), WORKSTATION).await.assert_status(200);
    let page = gateway.admin("/limits").await.json();
    assert_eq!(page["closed"][0]["operation"], "collect");
    assert_eq!(page["closed"][0]["application"], "playbooks");
    assert_eq!(page["closed"][0]["opens_in_ms"], 5_999);

    gateway.hand.advance(Duration::from_millis(5_999));
    let answer = gateway.collect(&playbooks(), WORKSTATION).await;
    // The refused calls were charged to nothing, and the first one was.
    assert_eq!((answer.status, answer.remaining()), (200, 98));
    assert_eq!(upstream.requests().len(), 4, "nothing reached the API while it was closed");
    let metrics = gateway.admin("/metrics").await;
    let counted = r#"tollgate_upstream_limited_total{operation="collect",retry_after="said"} 1"#;
    assert!(metrics.text().contains(counted), "{metrics:?}");
}

#[tokio::test]
async fn it_is_closed_for_as_long_as_the_api_says_but_for_an_hour_at_most_and_a_minute_if_it_says_nothing() {
    // 40 seconds after the test begins.
    let date = "Tue, 24 Nov 2026 09:47:20 GMT";
    for (retry_after, seconds) in [("", 60), ("never", 60), ("7200", 3_600), (date, 40), ("0", 0)] {
        let (upstream, gateway) = start(Answer::new(200, ""));
        upstream.answer_next(limited(retry_after));
        gateway.collect(&playbooks(), WORKSTATION).await.assert_status(429);
        let next = gateway.collect(&playbooks(), WORKSTATION).await;
        match seconds {
            0 => assert_eq!(next.status, 200),
            _ => assert_eq!(said(&next), (429, Some("upstream_limited"), Some(&*seconds.to_string()))),
        }
    }
}

#[tokio::test]
async fn it_opens_with_one_call_at_a_time_and_twice_as_many_after_each_success() {
    // The API answers when it is told to, which is when the call that is too many is known.
    let (clock, hand) = Clock::manual(BEGINNING);
    let upstream = RecordingUpstream::start(Answer::new(200, "").after(Duration::from_secs(1)), clock);
    let gateway = TestGateway::start(upstream.address());
    upstream.answer_next(limited("1"));
    gateway.collect(&playbooks(), WORKSTATION).await.assert_status(429);
    gateway.hand.advance(Duration::from_secs(1));
    // One success doubles what may go at a time: after the second round, with two of them, eight may.
    for most in [1, 2, 8] {
        let before = upstream.requests().len();
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..most + 1 {
            let mut client = gateway.connect().await;
            let token = crate::support::gateway::token(&playbooks());
            calls.spawn(async move { client.collect(&token, WORKSTATION, COMMENT).await });
        }
        // The one that is too many comes back at once, the others when the API answers.
        let refused = calls.join_next().await.unwrap().unwrap();
        assert_eq!(said(&refused), (429, Some("upstream_limited"), Some("1")), "{most}");
        upstream.wait_for(before + most).await;
        assert!(calls.try_join_next().is_none());
        hand.advance(Duration::from_secs(1));
        let answers = calls.join_all().await;
        assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    }
    // Another 429 closes it again.
    upstream.answer_next(limited("9"));
    gateway.collect(&playbooks(), WORKSTATION).await.assert_status(429);
    let again = gateway.collect(&playbooks(), WORKSTATION).await;
    assert_eq!(said(&again), (429, Some("upstream_limited"), Some("9")));
}

#[tokio::test]
async fn a_failure_of_the_api_opens_nothing_further_and_a_call_that_never_left_gives_its_turn_back() {
    let (upstream, gateway) = start(Answer::new(200, ""));
    upstream.answer_next(limited("1"));
    gateway.collect(&playbooks(), WORKSTATION).await.assert_status(429);
    gateway.hand.advance(Duration::from_secs(1));
    for status in [503, 500] {
        upstream.answer_next(Answer::new(status, ""));
        gateway.collect(&playbooks(), WORKSTATION).await.assert_status(status);
        // It gives its turn back when it is over, which may be after its caller has the answer.
        until("the end of the call", || gateway.server().metrics.requests_in_flight() == 0).await;
        let closed = gateway.admin("/limits").await.json()["closed"].clone();
        assert_eq!(closed[0]["opens_in_ms"], 0, "it is still being opened");
    }
    // What the line refuses never asks.
    gateway.collect(&playbooks(), "no-such-device").await.assert_status(404);
    for _ in 0..6 {
        gateway.collect(&playbooks(), WORKSTATION).await.assert_status(200);
    }
    assert_eq!(
        gateway.admin("/limits").await.json()["closed"],
        json!([]),
        "64 at a time are as many as there are"
    );
}

#[tokio::test]
async fn calls_that_may_wait_are_held_behind_the_closure_and_go_in_their_order() {
    let upstream = RecordingUpstream::start(Answer::new(200, ""), Clock::System);
    let waits = "documented_when_full = { wait = \"20s\", queue = 10 }\n";
    let mut files = policy();
    files.insert(tollgate::source::SourceFile::new("limits.toml", waits));
    let gateway = Setup::new(upstream.address()).policy(files).start();
    upstream.answer_next(limited("5"));
    gateway.collect(&playbooks(), WORKSTATION).await.assert_status(429);
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..4 {
        let mut client = gateway.connect().await;
        let authorization = bearer(&playbooks());
        calls.spawn(async move {
            let path = format!("/api/machines/{WORKSTATION}/collectInvestigationPackage?number={number}");
            let headers = [("Authorization", &*authorization), ("Content-Type", "application/json")];
            client.request("POST", &path, &headers, COMMENT).await
        });
        let held = || gateway.server().line.limiter.held() == number + 1;
        until("the call is held", held).await;
    }
    assert_eq!(upstream.requests().len(), 1);
    gateway.hand.advance(Duration::from_secs(5));
    let answers = calls.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let seen: Vec<_> = upstream.requests().iter().map(|request| request.path.clone()).collect();
    let numbers: Vec<_> = seen.iter().filter_map(|path| path.split_once('=').map(|(_, it)| it)).collect();
    assert_eq!(numbers, ["0", "1", "2", "3"], "{seen:?}");
    // One that would have to wait for longer is told so.
    upstream.answer_next(limited("21"));
    gateway.collect(&playbooks(), WORKSTATION).await.assert_status(429);
    let refused = gateway.collect(&playbooks(), WORKSTATION).await;
    assert_eq!(said(&refused), (429, Some("upstream_limited"), Some("21")));
}
