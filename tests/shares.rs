//! What a limit promises to some of its callers, until when, and how many actions may be under way, end to end.

use std::time::Duration;

use serde_json::json;
use tollgate::sandbox::issuer::Caller;
use tollgate::source::{PolicyFiles, SourceFile};
use tollgate::time::Clock;

use crate::support::gateway::{
    Setup, TestGateway, UNGROUPED, WORKSTATION, playbooks, policy_with, portal, responder, token,
};
use crate::support::raw::RawResponse;
use crate::support::until;
use crate::support::upstream::{Answer, RecordingUpstream};

/// Two operations that show how actions stand.
const SHOWN: &str = r#"
    [[operation]]
    name        = "get_action"
    method      = "GET"
    path        = "/api/machineactions/{action}"
    application = ["Machine.Read.All"]
    delegated   = []
    action      = "shown"

    [[operation]]
    name        = "list_actions"
    method      = "GET"
    path        = "/api/machineactions"
    application = ["Machine.Read.All"]
    delegated   = []
    action      = "shown"
"#;

/// A gateway under `limits.toml` of this text, in front of an upstream that starts every action.
fn started(limits: &str) -> (RecordingUpstream, TestGateway) {
    let upstream = RecordingUpstream::start(Answer::new(201, "{}"), Clock::System);
    let gateway = Setup::new(upstream.address()).policy(set(limits)).start();
    (upstream, gateway)
}

fn set(limits: &str) -> PolicyFiles {
    let mut files = policy_with("limits.toml", limits);
    files.insert(SourceFile::new("operations/actions.toml", SHOWN));
    files
}

/// The action of this number, as the API shows it.
fn action(number: u32, status: &str) -> serde_json::Value {
    json!({ "id": format!("action-{number}"), "type": "LiveResponse", "status": status, "commands": [{ "status": "Failed" }] })
}

/// The upstream starts the action of this number next, and the gateway lets it.
async fn start(upstream: &RecordingUpstream, gateway: &TestGateway, number: u32) {
    upstream.answer_next(Answer::json(201, &action(number, "Pending")));
    gateway.collect(&portal(), UNGROUPED).await.assert_status(201);
}

fn assert_open_actions(refused: &RawResponse) {
    refused.assert_status(429);
    assert_eq!(refused.header("Tollgate-Reason"), Some("open_actions"));
    assert_eq!(refused.header("Retry-After"), Some("60"));
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("`sessions`"), "{refused:?}");
}

const KEPT: &str = r#"
    [[documented]]
    operation = "collect"
    share     = { "Responder" = { part = "30%", idle = "kept" } }
"#;

const SESSIONS: &str = r#"
    [[limit]]
    name         = "sessions"
    operations   = ["collect"]
    per          = ["tenant"]
    open_actions = 2
"#;

#[tokio::test]
async fn every_call_of_the_owner_of_a_kept_part_is_let_in_at_once_while_a_script_loops() {
    let (_upstream, gateway) = started(KEPT);
    // The script and the responder come through one application, which the service counts as one.
    let mut script = gateway.connect().await;
    let mut responders = gateway.connect().await;
    let (looping, incident) = (token(&portal()), token(&responder()));
    let mut admitted = 0;
    for round in 0..200 {
        let answer = script.collect(&looping, WORKSTATION, r#"{"Comment":"loop"}"#).await;
        admitted += u32::from(answer.status == 201);
        if round >= 100 && round % 3 == 0 && round < 190 {
            let answer = responders.collect(&incident, WORKSTATION, r#"{"Comment":"incident"}"#).await;
            assert_eq!(answer.status, 201, "round {round}: {answer:?}");
        }
    }
    assert_eq!(admitted, 70, "nobody else uses the part, and nobody else's share is smaller");
    // The part of 30 is used up, and so is the rest.
    responders.collect(&incident, WORKSTATION, r#"{"Comment":"incident"}"#).await.assert_status(429);
    // Another application has a limit of its own.
    gateway.collect(&playbooks(), WORKSTATION).await.assert_status(201);
}

#[tokio::test]
async fn a_part_goes_back_to_everybody_at_its_end_without_a_reload() {
    let limits = r#"
        [[limit]]
        name       = "mine"
        operations = ["collect"]
        per        = ["tenant"]
        windows    = ["10 per hour"]
        share      = { "playbooks" = { part = "40%", idle = "kept", until = "2026-11-24T09:50:00Z" } }
    "#;
    let (_upstream, gateway) = started(limits);
    let calls = async |expected: &[u16]| {
        for expected in expected {
            gateway.collect(&portal(), WORKSTATION).await.assert_status(*expected);
        }
    };
    calls(&[201, 201, 201, 201, 201, 201, 429, 429]).await;
    // 3 min 20 s after the beginning: one moment before the end, and the end.
    gateway.hand.advance(Duration::from_millis(199_999));
    calls(&[429]).await;
    gateway.hand.advance(Duration::from_millis(1));
    calls(&[201, 201, 201, 201, 429]).await;
}

#[tokio::test]
async fn a_limit_is_not_applied_any_more_from_its_end_on() {
    let limits = r#"
        [[limit]]
        name       = "freeze"
        operations = ["collect"]
        per        = []
        windows    = ["1 per day"]
        until      = "2026-11-24T10:46:40+01:00"
    "#;
    let (_upstream, gateway) = started(limits);
    // It ends at the very beginning of the test's time: it is there and does nothing.
    for _ in 0..3 {
        gateway.collect(&portal(), WORKSTATION).await.assert_status(201);
    }
    let (_upstream, gateway) = started(&limits.replace("10:46:40+01:00", "09:46:41Z"));
    gateway.collect(&portal(), WORKSTATION).await.assert_status(201);
    gateway.collect(&portal(), WORKSTATION).await.assert_status(429);
    gateway.hand.advance(Duration::from_secs(1));
    for _ in 0..3 {
        gateway.collect(&portal(), WORKSTATION).await.assert_status(201);
    }
}

#[tokio::test]
async fn the_audit_tells_of_an_end_when_it_is_loaded_and_when_it_comes() {
    let limits = r#"
        [[limit]]
        name       = "freeze"
        operations = ["collect"]
        per        = []
        windows    = ["1 per day"]
        until      = "2026-11-24T09:47:00Z"
    "#;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let upstream = RecordingUpstream::start(Answer::new(201, "{}"), Clock::System);
    let gateway = Setup::new(upstream.address()).policy(set(limits)).audit(&file).start();
    let lines = || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter(|line| line["what"] == "the limit `freeze`").collect::<Vec<_>>()
    };
    until("a line of the end", || lines().len() == 1).await;
    assert_eq!(
        (&lines()[0]["result"], &lines()[0]["until"]),
        (&json!("until"), &json!("2026-11-24T09:47:00.000Z"))
    );
    until("a line of what lapsed", || {
        gateway.hand.advance(Duration::from_secs(1));
        lines().len() >= 2
    })
    .await;
    assert_eq!(lines()[1]["result"], "lapsed");
    assert!(lines()[1]["time"].as_str().unwrap() >= "2026-11-24T09:47:00.000Z");
}

#[tokio::test]
async fn a_kept_part_and_an_idle_lent_part_are_what_they_say() {
    let limits = r#"
        [[limit]]
        name       = "mine"
        operations = ["collect"]
        per        = ["tenant"]
        windows    = ["10 per minute"]
        share      = { "playbooks" = { part = "50%", idle = "lent" }, "Responder" = { part = "20%", idle = "kept" } }
    "#;
    let (_upstream, gateway) = started(limits);
    let status = async |caller: fn() -> Caller| gateway.collect(&caller(), WORKSTATION).await.status;
    // Three are everybody's, five are lent while they are idle, two are not.
    for number in 0..9 {
        assert_eq!(status(portal).await, if number < 8 { 201 } else { 429 }, "{number}");
    }
    assert_eq!((status(responder).await, status(responder).await), (201, 201));
    // Their owner is refused, and has them back within one window: nobody else gets one of them meanwhile.
    gateway.hand.advance(Duration::from_secs(30));
    assert_eq!(status(playbooks).await, 429);
    gateway.hand.advance(Duration::from_secs(30));
    for number in 0..5 {
        assert_eq!(status(portal).await, if number < 3 { 201 } else { 429 }, "{number}");
    }
    for _ in 0..5 {
        assert_eq!(status(playbooks).await, 201);
    }
}

#[tokio::test]
async fn no_more_actions_are_under_way_than_may_be_until_an_answer_shows_that_one_ended() {
    let (upstream, gateway) = started(SESSIONS);
    start(&upstream, &gateway, 1).await;
    start(&upstream, &gateway, 2).await;
    assert_open_actions(&gateway.collect(&portal(), WORKSTATION).await);
    // An answer that shows it under way, a refusal, and one about another action change nothing.
    for answer in [
        Answer::json(200, &action(1, "InProgress")),
        Answer::json(404, &action(1, "Succeeded")),
        Answer::json(200, &action(3, "Succeeded")),
        Answer::json(206, &action(1, "Succeeded")),
    ] {
        upstream.answer_next(answer);
        gateway.get(&portal(), "/api/machineactions/action-1").await;
    }
    assert_open_actions(&gateway.collect(&portal(), WORKSTATION).await);
    upstream.answer_next(Answer::json(200, &action(1, "Failed")));
    gateway.get(&portal(), "/api/machineactions/action-1").await.assert_status(200);
    start(&upstream, &gateway, 3).await;
    assert_open_actions(&gateway.collect(&portal(), WORKSTATION).await);
    // Whoever lists them sees them end too, whatever piece of the list comes when.
    let list =
        json!({ "value": [action(3, "Cancelled"), action(9, "Failed"), action(2, "TimeOut")] }).to_string();
    let (one, two) = list.split_at(70);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
        one.len(),
        two.len()
    );
    upstream.answer_next(Answer::raw(chunked));
    let listed = gateway.get(&portal(), "/api/machineactions").await;
    assert_eq!(listed.json()["value"][2]["status"], "TimeOut", "nothing of the answer is changed");
    start(&upstream, &gateway, 4).await;
    start(&upstream, &gateway, 5).await;
    assert_open_actions(&gateway.collect(&portal(), WORKSTATION).await);
    let asked = upstream.requests().into_iter().filter(|request| request.method == "GET");
    for request in asked {
        assert_eq!(request.header("Accept-Encoding"), Some("identity"));
    }
}

#[tokio::test]
async fn a_call_that_starts_no_action_holds_no_place() {
    let (upstream, gateway) = started(SESSIONS);
    for answer in [
        Answer::json(400, &json!({ "error": { "code": "ActiveRequestAlreadyExists" } })),
        Answer::new(500, ""),
        Answer::new(201, "{}"),
        Answer::json(201, &action(7, "Succeeded")),
    ] {
        upstream.answer_next(answer);
        gateway.collect(&portal(), UNGROUPED).await;
    }
    start(&upstream, &gateway, 1).await;
    start(&upstream, &gateway, 2).await;
    assert_open_actions(&gateway.collect(&portal(), WORKSTATION).await);
    assert_eq!(upstream.requests().len(), 6, "the refused one never left");
}

#[tokio::test]
async fn actions_under_way_are_shown_and_outlive_the_gateway() {
    let state = tempfile::tempdir().unwrap();
    let upstream = RecordingUpstream::start(Answer::new(201, "{}"), Clock::System);
    let setup = || Setup::new(upstream.address()).policy(set(SESSIONS)).state(state.path()).start();
    let gateway = setup();
    start(&upstream, &gateway, 1).await;
    start(&upstream, &gateway, 2).await;
    let metrics = gateway.admin("/metrics").await;
    assert!(metrics.text().contains("tollgate_open_actions{limit=\"sessions\"} 2\n"), "{}", metrics.text());
    gateway.stop();

    let gateway = setup();
    assert_open_actions(&gateway.collect(&portal(), WORKSTATION).await);
    upstream.answer_next(Answer::json(200, &action(2, "Succeeded")));
    gateway.get(&portal(), "/api/machineactions/action-2").await.assert_status(200);
    start(&upstream, &gateway, 3).await;
    assert_open_actions(&gateway.collect(&portal(), WORKSTATION).await);
}
