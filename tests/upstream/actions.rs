//! What is learnt from the answer to a call that starts an action.

use std::time::Duration;

use serde_json::json;

use super::{reason, start};
use crate::support::gateway::{
    COMMENT, EXECUTIVE, UNGROUPED, WORKSTATION, bearer, playbooks, portal, responder,
};
use crate::support::upstream::Answer;

const COLLECT: &str = "/api/machines/1111111111111111111111111111111111111111/collectInvestigationPackage";

#[tokio::test]
async fn an_action_belongs_to_the_device_that_it_was_started_on() {
    let (upstream, gateway) = start(Answer::new(200, ""));
    let chunked = "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{\"id\":\"ac\r\n9\r\ntion-4\"} \r\n0\r\n\r\n";
    for (device, answer) in [
        (WORKSTATION, Answer::json(201, &json!({ "id": "Action-1", "machineId": WORKSTATION }))),
        (EXECUTIVE, Answer::json(201, &json!({ "id": "Action-2", "machineId": EXECUTIVE }))),
        ("ws-1", Answer::json(201, &json!({ "id": "Action-3", "machineId": EXECUTIVE }))),
        ("WS-1.test.example", Answer::raw(chunked)),
        (UNGROUPED, Answer::json(200, &json!({ "id": "Action-6", "machineId": WORKSTATION }))),
        (UNGROUPED, Answer::json(202, &json!({ "id": "Action-7" }))),
    ] {
        upstream.answer_next(answer);
        assert!((200..203).contains(&gateway.collect(&portal(), device).await.status), "{device}");
    }
    let package = |action: &str| format!("/api/machineactions/{action}/getPackageUri");
    for (what, caller, action, expected) in [
        ("of an open device", playbooks(), "action-1", (200, None)),
        ("in capitals", playbooks(), "ACTION-1", (200, None)),
        ("of another group's device", playbooks(), "action-2", (403, Some("device_group"))),
        (
            "of a name that the API took for another group's device",
            playbooks(),
            "action-3",
            (403, Some("device_group")),
        ),
        ("of a device by name", playbooks(), "action-4", (200, None)),
        ("of a 200", playbooks(), "action-6", (200, None)),
        ("of a 202", playbooks(), "action-7", (403, Some("device_group"))),
        ("of nobody's", playbooks(), "action-5", (403, Some("unknown_action"))),
        ("of an open device, by a user", responder(), "action-1", (200, None)),
        ("of another group's device, by a user", responder(), "action-2", (403, Some("device_group"))),
        ("of nobody's, by a user", responder(), "action-5", (403, Some("unknown_action"))),
        ("of nobody's, by an application without bounds", portal(), "action-5", (200, None)),
    ] {
        assert_eq!(reason(&gateway.get(&caller, &package(action)).await), expected, "{what}");
        gateway.hand.advance(Duration::from_secs(60));
    }
}

#[tokio::test]
async fn an_answer_without_a_readable_action_id_is_passed_on_and_nothing_is_learnt_from_it() {
    let (upstream, gateway) = start(Answer::new(200, ""));
    let mut client = gateway.connect().await;
    let authorization = bearer(&portal());
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0xae, 5, 0, 0x43, 0xbf, 0xa6, 0xa3, 2, 0, 0, 0];
    let long = format!(r#"{{"id":"{}"}}"#, "a".repeat(65));
    let padded = format!(r#"{{"data":"{}","id":"action-1"}}"#, "a".repeat(70_000));
    for (what, status, body) in [
        ("nothing", 201, b"".as_slice()),
        ("no id", 201, b"{}"),
        ("an id that is a number", 201, br#"{"id":1}"#),
        ("an empty id", 201, br#"{"id":""}"#),
        ("an id that is too long", 201, long.as_bytes()),
        ("no JSON", 201, b"action-1"),
        ("a list", 201, br#"[{"id":"action-1"}]"#),
        ("gzip all the same", 201, &gzip),
        ("an id after more than is kept", 201, padded.as_bytes()),
        ("an id, but of another place", 303, br#"{"id":"action-1"}"#),
        ("an id, but a refusal", 400, br#"{"id":"action-1"}"#),
    ] {
        upstream.answer_next(Answer::new(status, body).header("Content-Encoding", "gzip"));
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let answer = client.request("POST", COLLECT, &headers, COMMENT).await;
        assert!(answer.status == status && answer.body == body, "{what}: {}", answer.status);
        assert!(gateway.server().line.actions.is_empty(), "{what}");
    }
    // Nor from a call that starts none.
    upstream.answer_next(Answer::json(201, &json!({ "id": "action-1" })));
    let headers = [("Authorization", authorization.as_str())];
    client.request("POST", "/api/libraryfiles", &headers, "file").await.assert_status(201);
    assert!(gateway.server().line.actions.is_empty());
    let answer = gateway.collect(&portal(), UNGROUPED).await;
    answer.assert_status(200);
}
