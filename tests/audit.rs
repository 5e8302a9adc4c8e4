//! The trail of decisions end to end: what each line says, when it is written, and what never stands in it.

mod file;
mod never;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate::id::ApplicationId;
use tollgate::sandbox::issuer::Caller;
use tollgate::snapshot::version;
use tollgate::time::{Clock, ManualClock, Wall};

use crate::support::gateway::{
    COMMENT, EXECUTIVE, PLAYBOOKS, PORTAL, RESPONDERS, Setup, TestGateway, WORKSTATION, bearer, playbooks,
    policy, portal, responder, rewritten, token,
};
use crate::support::raw::RawResponse;
use crate::support::until;
use crate::support::upstream::{Answer, Ending, RecordingUpstream};

/// A gateway that keeps an audit, and the file.
struct Audited {
    upstream: RecordingUpstream,
    /// Moves the upstream's time.
    upstream_hand: std::sync::Arc<ManualClock>,
    gateway: TestGateway,
    folder: TempDir,
}

// === impl Audited ===

impl Audited {
    fn start(answer: Answer, set: impl FnOnce(Setup) -> Setup) -> Self {
        let (clock, upstream_hand) = Clock::manual(Wall::default());
        let upstream = RecordingUpstream::start(answer, clock);
        let folder = tempfile::tempdir().unwrap();
        let setup = Setup::new(upstream.address()).audit(folder.path().join("audit.jsonl"));
        Self { upstream, upstream_hand, gateway: set(setup).start(), folder }
    }

    /// In front of an upstream that answers at once.
    fn usual() -> Self {
        Self::start(Answer::json(201, &json!({ "id": "action-1" })), |setup| setup)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    /// Waits until this many calls' lines are in the file, and returns them; fails the test if there are more.
    async fn lines(&self, count: usize) -> Vec<Value> {
        until("the audit's lines", || lines_in(&self.path()).len() >= count).await;
        let lines = lines_in(&self.path());
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines
    }

    async fn collect(&self, caller: &Caller, device: &str) -> RawResponse {
        self.gateway.collect(caller, device).await
    }
}

/// The lines of calls in a file: each is one JSON object, and the last one is whole.
fn lines_in(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The writer may be in the middle of a line.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")));
    lines.filter(|line: &Value| line["event"] != "policy").collect()
}

fn events(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["event"].as_str().unwrap()).collect()
}

/// A claim of a token, as its bearer could read it.
fn claim(token: &str, name: &str) -> String {
    use base64::Engine;
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims[name].as_str().unwrap().to_owned()
}

fn collect_path(device: &str) -> String {
    format!("/api/machines/{device}/collectInvestigationPackage")
}

/// A collection with a body of its own, on a connection of its own.
async fn collect_with(gateway: &TestGateway, caller: &Caller, body: impl AsRef<[u8]>) -> RawResponse {
    let authorization = bearer(caller);
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    gateway.connect().await.request("POST", &collect_path(WORKSTATION), &headers, body).await
}

// === when ===

#[tokio::test]
async fn the_line_of_an_admitted_call_is_in_the_file_before_the_api_answers_and_another_when_it_did() {
    let slow = Answer::json(201, &json!({ "id": "action-1" })).after(Duration::from_secs(1));
    let audited = Audited::start(slow, |setup| setup);
    let mut client = audited.gateway.connect().await;
    let authorization = bearer(&playbooks());
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    client.send_request("POST", &collect_path(WORKSTATION), &headers, COMMENT).await;
    audited.upstream.wait_for(1).await;
    let before = audited.lines(1).await;
    assert_eq!(events(&before), ["admitted"]);
    for unknown in ["upstream_status", "upstream_ms", "total_ms"] {
        assert_eq!(before[0].get(unknown), None, "{unknown}");
    }

    audited.gateway.hand.advance(Duration::from_micros(250_500));
    audited.upstream_hand.advance(Duration::from_secs(1));
    client.read_response().await.assert_status(201);
    let after = audited.lines(2).await;
    assert_eq!(events(&after), ["admitted", "ended"]);
    assert_eq!(after[1]["upstream_status"], 201);
    assert_eq!((&after[1]["upstream_ms"], &after[1]["total_ms"]), (&json!(250.5), &json!(250.5)));
    assert_eq!(after[0]["request_id"], after[1]["request_id"]);
}

#[tokio::test]
async fn a_refused_call_has_one_line_and_no_line_is_admitted_without_being_forwarded() {
    let audited = Audited::usual();
    audited.collect(&playbooks(), EXECUTIVE).await.assert_status(403);
    audited.collect(&playbooks(), WORKSTATION).await.assert_status(201);
    audited.collect(&Caller::application(PLAYBOOKS).permissions(["Library.Manage"]), WORKSTATION).await;
    let lines = audited.lines(4).await;
    // Of different queues, so that their order in the file is not promised.
    let count = |event| events(&lines).iter().filter(|found| **found == event).count();
    assert_eq!([count("refused"), count("admitted"), count("ended")], [2, 1, 1]);
    assert_eq!(audited.upstream.requests().len(), 1);
}

// === what ===

#[tokio::test]
async fn every_fact_of_an_admitted_call_stands_in_its_lines() {
    let slow = Answer::json(201, &json!({ "id": "action-1" })).after(Duration::from_secs(1));
    let audited = Audited::start(slow, |setup| setup);
    let token = token(&responder());
    let mut client = audited.gateway.connect().await;
    let authorization = format!("Bearer {token}");
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Content-Type", "application/json"),
        ("Content-Length", "24"),
        ("Expect", "100-continue"),
        ("X-Request-Id", "case-7"),
    ];
    // The decision takes 1.5 ms, and the API 20 ms.
    client.send_request("POST", &collect_path("WS-1"), &headers, "").await;
    client.expect_interim(100).await;
    audited.gateway.hand.advance(Duration::from_micros(1_500));
    client.send(COMMENT).await;
    let request = &audited.upstream.wait_for(1).await[0];
    audited.gateway.hand.advance(Duration::from_millis(20));
    audited.upstream_hand.advance(Duration::from_secs(1));
    client.read_response().await.assert_status(201);

    let admitted = json!({
        "time": "2026-11-24T09:46:40.001Z",
        "event": "admitted",
        "request_id": request.header("X-Request-Id").unwrap(),
        "client_request_id": "case-7",
        "decision": "admitted",
        "operation": "collect",
        "devices": [{ "device": "ws-1", "id": WORKSTATION, "group": "Workstations" }],
        "tenant": "00000000-0000-0000-0000-00000000007e",
        "application": PORTAL.to_string(),
        "application_name": "portal",
        "user": "00000000-0000-0000-0000-0000000000b1",
        "permissions": ["Machine.CollectForensics", "Machine.Read"],
        "groups": [RESPONDERS.to_string()],
        "uti": claim(&token, "uti"),
        "address": "127.0.0.1",
        "policy_version": version(&policy()).to_string(),
        "admission_us": 1_500,
        "limits_left": [
            { "limit": "collect", "window": "minute", "remaining": 99 },
            { "limit": "collect", "window": "hour", "remaining": 1_499 },
        ],
        "comment": "alert 1234",
    });
    let mut ended = admitted.clone();
    ended.as_object_mut().unwrap().retain(|name, _| name != "permissions" && name != "groups");
    for (name, value) in [
        ("time", json!("2026-11-24T09:46:40.021Z")),
        ("event", json!("ended")),
        ("upstream_status", json!(201)),
        ("upstream_ms", json!(20.0)),
        ("total_ms", json!(21.5)),
    ] {
        ended[name] = value;
    }
    assert_eq!(audited.lines(2).await, [admitted, ended]);
}

/// A call that does not get to the API, or to its end, and the facts of its last line beside those of every line.
struct Row {
    words: &'static str,
    call: Call,
    facts: Value,
}

enum Call {
    /// These bytes, on a connection of their own.
    Raw(String),
    Collect(Caller, &'static str),
    Body(Caller, &'static str),
    Get(Caller, &'static str),
}

/// The facts of a verified application.
fn facts_of(application: ApplicationId, name: &str, more: Value) -> Value {
    let mut facts = json!({
        "tenant": "00000000-0000-0000-0000-00000000007e",
        "application": application.to_string(),
        "application_name": name,
    });
    facts.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    facts
}

#[tokio::test]
async fn a_fact_stands_in_a_line_if_it_was_found_out_and_is_absent_if_not() {
    let stranger =
        Caller::application(ApplicationId::from_u128(0xa9)).permissions(["Machine.CollectForensics"]);
    let nameless = json!({
        "reason": "application",
        "operation": "collect",
        "tenant": "00000000-0000-0000-0000-00000000007e",
        "application": "00000000-0000-0000-0000-0000000000a9",
        "devices": [{ "device": WORKSTATION, "id": WORKSTATION }],
    });
    let comment = json!("alert 1234");
    let rows = [
        Row {
            words: "no operation",
            call: Call::Raw("GET /api/elsewhere HTTP/1.1\r\nHost: gateway\r\n\r\n".into()),
            facts: json!({ "reason": "no_operation" }),
        },
        Row {
            words: "two meanings",
            call: Call::Raw(
                "GET //api/machines HTTP/1.1\r\nHost: gateway\r\nX-Request-Id: mine\r\n\r\n".into(),
            ),
            // Nothing is read of a request that is refused at the door.
            facts: json!({ "reason": "malformed_request" }),
        },
        Row {
            words: "a path of nobody's, and the client's own id",
            call: Call::Raw(
                "GET /api/nothing HTTP/1.1\r\nHost: gateway\r\nX-Request-Id: mine\r\n\r\n".into(),
            ),
            facts: json!({ "reason": "no_operation", "client_request_id": "mine" }),
        },
        Row {
            words: "no token",
            call: Call::Raw("GET /api/machines HTTP/1.1\r\nHost: gateway\r\n\r\n".into()),
            facts: json!({ "reason": "no_token", "operation": "list_devices" }),
        },
        Row {
            words: "an expired token",
            call: Call::Collect(playbooks().claim("exp", 1_000_000), WORKSTATION),
            facts: json!({ "reason": "expired", "operation": "collect" }),
        },
        Row {
            words: "an application without an entry",
            call: Call::Collect(stranger.claim("uti", "t-1"), WORKSTATION),
            facts: nameless,
        },
        Row {
            words: "a bad body",
            call: Call::Body(playbooks().claim("uti", "t-1"), "{}"),
            facts: facts_of(
                PLAYBOOKS,
                "playbooks",
                json!({
                    "reason": "missing_parameter",
                    "operation": "collect",
                    "devices": [{ "device": WORKSTATION, "id": WORKSTATION }],
                }),
            ),
        },
        Row {
            words: "a device of another group",
            call: Call::Collect(playbooks().claim("uti", "t-1"), EXECUTIVE),
            facts: facts_of(
                PLAYBOOKS,
                "playbooks",
                json!({
                    "reason": "device_group",
                    "operation": "collect",
                    "comment": comment,
                    "devices": [{ "device": EXECUTIVE, "id": EXECUTIVE }],
                }),
            ),
        },
        Row {
            words: "a list though confined",
            call: Call::Get(playbooks().claim("uti", "t-1"), "/api/machines?$top=5"),
            facts: facts_of(
                PLAYBOOKS,
                "playbooks",
                json!({ "reason": "unscoped_operation", "operation": "list_devices" }),
            ),
        },
        Row {
            words: "a full limit",
            call: Call::Collect(portal().claim("uti", "t-1"), WORKSTATION),
            facts: facts_of(
                PORTAL,
                "portal",
                json!({
                    "reason": "over_limit",
                    "operation": "collect",
                    "comment": comment,
                    "devices": [{ "device": WORKSTATION, "id": WORKSTATION }],
                    "limits_left": [{ "limit": "collect", "window": "minute", "remaining": 0 }],
                }),
            ),
        },
    ];
    let one = rewritten(
        policy(),
        "operations.toml",
        r#"["100 per minute", "1500 per hour"]"#,
        r#"["1 per minute"]"#,
    );
    for Row { words, call, facts } in rows {
        let audited = Audited::start(Answer::new(201, "{}"), |setup| setup.policy(one.clone()));
        let full = facts["reason"] == "over_limit";
        if full {
            audited.collect(&portal(), WORKSTATION).await.assert_status(201);
            audited.lines(2).await;
        }
        let answer = match call {
            Call::Raw(bytes) => {
                let mut client = audited.gateway.connect().await;
                client.send(bytes).await;
                client.read_response().await
            }
            Call::Collect(caller, device) => audited.collect(&caller, device).await,
            Call::Body(caller, body) => collect_with(&audited.gateway, &caller, body).await,
            Call::Get(caller, path) => audited.gateway.get(&caller, path).await,
        };
        let mut expected = json!({
            "time": "2026-11-24T09:46:40.000Z",
            "event": "refused",
            "request_id": answer.json()["error"]["target"],
            "decision": "refused",
            "address": "127.0.0.1",
            "policy_version": version(&one).to_string(),
            "admission_us": 0,
            "total_ms": 0.0,
        });
        if facts.get("tenant").is_some() {
            expected["uti"] = json!("t-1");
        }
        expected.as_object_mut().unwrap().extend(facts.as_object().unwrap().clone());
        let lines = audited.lines(if full { 3 } else { 1 }).await;
        // Whoever is known is known with what the token permits.
        let mut last = lines.last().unwrap().clone();
        let permissions = last.as_object_mut().unwrap().remove("permissions");
        assert_eq!(permissions.is_some(), expected.get("tenant").is_some(), "{words}");
        assert_eq!(last, expected, "{words}");
    }
}

#[tokio::test]
async fn an_admitted_call_that_fails_at_the_api_ends_with_the_reason() {
    let audited = Audited::start(Answer::new(201, "").ending(Ending::CloseBefore), |setup| setup);
    audited.collect(&playbooks(), WORKSTATION).await.assert_status(502);
    let lines = audited.lines(2).await;
    assert_eq!(events(&lines), ["admitted", "ended"]);
    assert_eq!(lines[0].get("reason"), None);
    assert_eq!(
        (&lines[1]["decision"], &lines[1]["reason"]),
        (&json!("admitted"), &json!("upstream_unavailable"))
    );
    assert_eq!(lines[1].get("upstream_status"), None);
}

#[tokio::test]
async fn a_comment_is_cut_to_two_hundred_characters_and_reaches_the_api_whole() {
    let audited = Audited::usual();
    for (place, length) in [199, 200, 201, 5_000].into_iter().enumerate() {
        let comment = "ü".repeat(length);
        let body = json!({ "Comment": comment }).to_string();
        collect_with(&audited.gateway, &playbooks(), &body).await.assert_status(201);
        let lines = audited.lines(2 * place + 2).await;
        for line in &lines[2 * place..] {
            assert_eq!(line["comment"].as_str().unwrap(), "ü".repeat(length.min(200)));
        }
        assert_eq!(audited.upstream.requests()[place].body, body.as_bytes());
    }
}
