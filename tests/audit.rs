//! The trail of decisions end to end: what each line says, when it is written, and what never stands in it.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate::id::{ApplicationId, UserId};
use tollgate::sandbox::issuer::Caller;
use tollgate::snapshot::version;
use tollgate::telemetry::audit::AuditFullMode;
use tollgate::time::{Clock, ManualClock, Wall};

use crate::support::gateway::{
    COMMENT, EXECUTIVE, PLAYBOOKS, PORTAL, Setup, TestGateway, WORKSTATION, bearer, issuer, playbooks,
    policy, portal, responder, rewritten, token, write_policy,
};
use crate::support::raw::{RawClient, RawResponse};
use crate::support::upstream::{Answer, Ending, RecordingUpstream};
use crate::support::{until, within_deadline};

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
            facts: json!({ "reason": "malformed_request", "client_request_id": "mine" }),
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
                json!({ "reason": "missing_parameter", "operation": "collect" }),
            ),
        },
        Row {
            words: "a device of another group",
            call: Call::Collect(playbooks().claim("uti", "t-1"), EXECUTIVE),
            facts: facts_of(
                PLAYBOOKS,
                "playbooks",
                json!({ "reason": "device_group", "operation": "collect", "comment": comment }),
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
        assert_eq!(lines.last(), Some(&expected), "{words}");
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

// === what never ===

#[tokio::test]
async fn nothing_of_a_token_stands_in_the_file_and_nothing_that_a_refused_token_claims() {
    let audited = Audited::usual();
    let claimed = || {
        Caller::user(
            UserId::from_u128(0x00c0_ffee),
            "claimed@test.example",
            ApplicationId::from_u128(0x000d_ecaf),
        )
        .permissions(["Claimed.Permission"])
        .claim("uti", "claimed-uti")
    };
    let mut forged = token(&claimed());
    let signature = forged.rfind('.').unwrap() + 1;
    forged.replace_range(signature.., &token(&playbooks())[token(&playbooks()).rfind('.').unwrap() + 1..]);
    let tokens = [
        token(&playbooks()),
        token(&claimed()),
        forged,
        token(&claimed().claim("exp", 1_000_000)),
        token(&claimed().claim("nbf", 9_000_000_000_i64)),
        token(&claimed().for_audience("https://elsewhere.example")),
        issuer().sign(&json!({ "iss": "https://claimed.example/" })),
        "claimed.claimed.claimed".to_owned(),
    ];
    let mut answers = Vec::new();
    for token in &tokens {
        let device = collect_path("claimed-device");
        for headers in [
            format!("Authorization: Bearer {token}\r\n"),
            format!("Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n"),
            format!("Authorization: Basic {token}\r\n"),
            format!("Authorization: {token}\r\n"),
        ] {
            answers.push(post(&audited.gateway, &device, &headers, r#"{"Comment":"claimed comment"}"#).await);
        }
        let query = format!("{device}?access_token={token}");
        answers.push(post(&audited.gateway, &query, "", COMMENT).await);
    }
    assert!(answers.iter().all(|answer| answer.status != 201));
    audited.collect(&playbooks(), WORKSTATION).await.assert_status(201);
    audited.lines(answers.len() + 2).await;
    let text = std::fs::read_to_string(audited.path()).unwrap();
    for part in tokens.iter().flat_map(|token| token.split('.')).filter(|part| part.len() > 10) {
        assert!(!text.contains(part), "{part}");
    }
    // Two of these tokens are genuine, and something else is missing: what they say was verified.
    let genuine = ["\"unknown_device\"", "\"missing_permission\""];
    let is_genuine = |line: &&str| genuine.iter().any(|reason| line.contains(reason));
    assert_eq!(text.lines().filter(is_genuine).count(), 2);
    assert!(text.contains("claimed-uti"));
    let others: String = text.lines().filter(|line| !is_genuine(line)).collect();
    for claimed in ["claimed", "c0ffee", "decaf", "Claimed", "Bearer", "eyJ"] {
        assert!(!others.contains(claimed), "{claimed}: {others}");
    }
}

/// A POST with these header lines, on a connection of its own.
async fn post(gateway: &TestGateway, path: &str, headers: &str, body: &str) -> RawResponse {
    let mut client = gateway.connect().await;
    let length = body.len();
    client
        .send(format!(
            "POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ))
        .await;
    client.read_response().await
}

#[tokio::test]
async fn no_text_of_a_caller_breaks_a_line_or_forges_one() {
    let audited = Audited::usual();
    let forged =
        "x\"}\n{\"event\":\"admitted\",\"decision\":\"admitted\"}\r\n\u{0}\u{1b}[2J\u{85}\u{2028}\u{7f}\\";
    // In the body, as JSON allows it, and as it does not.
    let body = json!({ "Comment": forged }).to_string();
    collect_with(&audited.gateway, &playbooks(), &body).await.assert_status(201);
    collect_with(&audited.gateway, &playbooks(), b"{\"Comment\":\"a\nb\"}").await.assert_status(400);
    collect_with(&audited.gateway, &playbooks(), b"{\"Comment\":\"\xff\"}").await.assert_status(400);
    // In the claim of a token that an issuer signed.
    let caller = playbooks().claim("uti", forged);
    collect_with(&audited.gateway, &caller, COMMENT).await.assert_status(201);
    // In the name of a device, as far as a path may hold it.
    let name = "x%22%7D,%7B%22event%22:%22admitted%22%7D%E2%80%A8%C3%BC";
    audited.collect(&portal(), name).await.assert_status(201);
    // In the client's own request id: what is not visible ASCII is not recorded, and what is too long is cut.
    let ids: [(&[u8], Option<&str>); 4] = [
        (b"\"},{\"event\":\"admitted\"}\\", Some("\"},{\"event\":\"admitted\"}\\")),
        (b"tab\there", Some("tab\there")),
        (b"caf\xe9", None),
        (&[b'x'; 500], Some(&"x".repeat(128))),
    ];
    let mut answers = 8;
    for (id, recorded) in ids {
        let mut client = audited.gateway.connect().await;
        let head = format!(
            "GET /api/machines HTTP/1.1\r\nHost: gateway\r\nAuthorization: {}\r\n",
            bearer(&playbooks())
        );
        client.send([head.as_bytes(), b"X-Request-Id: ", id, b"\r\n\r\n"].concat()).await;
        client.read_response().await.assert_status(403);
        answers += 1;
        let lines = audited.lines(answers).await;
        assert_eq!(lines.last().unwrap().get("client_request_id").and_then(Value::as_str), recorded);
    }

    // Twelve lines, each an object of its own, and the texts in them as they were.
    let lines = lines_in(&audited.path());
    let admitted = lines.iter().filter(|line| line["event"] == "admitted").count();
    assert_eq!(admitted, 3);
    assert_eq!(lines.iter().filter(|line| line["comment"] == forged).count(), 2);
    assert_eq!(lines.iter().filter(|line| line["uti"] == forged).count(), 2);
    let named = |line: &&Value| line["devices"][0]["device"] == "x\"},{\"event\":\"admitted\"}\u{2028}ü";
    assert_eq!(lines.iter().filter(named).count(), 2);
    let bytes = std::fs::read(audited.path()).unwrap();
    assert!(bytes.iter().all(|byte| *byte >= b' ' || *byte == b'\n'), "a control character");
}

// === the file ===

#[tokio::test]
async fn the_file_is_for_its_owner_alone_and_a_new_one_is_begun_when_it_was_renamed() {
    let audited = Audited::usual();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    audited.collect(&playbooks(), WORKSTATION).await.assert_status(201);
    audited.lines(2).await;
    assert_eq!(mode(&audited.path()), 0o600);

    let renamed = audited.folder.path().join("audit.jsonl.1");
    std::fs::rename(audited.path(), &renamed).unwrap();
    audited.collect(&playbooks(), EXECUTIVE).await.assert_status(403);
    let fresh = audited.lines(1).await;
    assert_eq!(events(&fresh), ["refused"]);
    assert_eq!(mode(&audited.path()), 0o600);
    assert_eq!(events(&lines_in(&renamed)), ["admitted", "ended"]);

    // One that is deleted is begun anew likewise.
    std::fs::remove_file(audited.path()).unwrap();
    audited.collect(&playbooks(), EXECUTIVE).await.assert_status(403);
    audited.lines(1).await;
}

#[tokio::test]
async fn loads_of_the_policy_are_lines_with_the_version_and_the_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let policy_folder = folder.path().join("policy");
    std::fs::create_dir(&policy_folder).unwrap();
    write_policy(&policy(), &policy_folder);
    let audited = Audited::start(Answer::new(201, "{}"), |setup| setup.policy_folder(&policy_folder));
    let loads = || -> Vec<Value> {
        let text = std::fs::read_to_string(audited.path()).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["event"] == "policy").collect()
    };
    let first = version(&policy()).to_string();
    until("the first load", || loads().len() == 1).await;
    audited.gateway.hand.advance(Duration::from_secs(1));

    std::fs::write(policy_folder.join("limits.toml"), "limt = 1\n\n[[limit]]\n").unwrap();
    until("the refusal", || loads().len() == 2).await;
    std::fs::write(policy_folder.join("limits.toml"), "# better").unwrap();
    let better =
        rewritten(policy(), "limits.toml", "# Only the documented limits of operations.toml.\n", "# better");
    until("the second load", || loads().len() == 3).await;

    let loads = loads();
    assert_eq!(
        loads[0],
        json!({ "time": "2026-11-24T09:46:40.000Z", "event": "policy", "result": "ok", "policy_version": first })
    );
    let refused = &loads[1];
    assert_eq!((&refused["result"], &refused["policy_version"]), (&json!("failed"), &json!(first)));
    assert_eq!(refused["time"], "2026-11-24T09:46:41.000Z");
    let problems = refused["problems"].as_array().unwrap();
    assert_eq!(refused["problem_count"], problems.len());
    assert!(
        problems
            .iter()
            .any(|problem| problem.as_str().unwrap().starts_with("limits.toml:1:1: unknown key `limt`")),
        "{refused}"
    );
    assert!(
        problems.iter().any(|problem| problem.as_str().unwrap().starts_with("limits.toml:3:1: ")),
        "{refused}"
    );
    assert_eq!(loads[2]["policy_version"], version(&better).to_string());
    assert_eq!(loads[2].get("problems"), None);
}

/// Collects until `reached` says so of an answer. Each line is as long as one can be.
async fn fill(client: &mut RawClient, mut reached: impl FnMut(&RawResponse) -> bool) -> usize {
    let token = token(&portal());
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    // Each of these characters takes six in the file.
    let body = json!({ "Comment": "\u{1}".repeat(200) }).to_string();
    let mut admitted = 0;
    within_deadline("a full audit", async {
        loop {
            let answer = client.request("POST", "/api/indicators/import", &headers, &body).await;
            admitted += usize::from(answer.status == 201);
            if reached(&answer) {
                return;
            }
        }
    })
    .await;
    admitted
}

#[tokio::test]
async fn no_call_is_forwarded_without_its_line_and_calls_pass_again_once_lines_are_taken() {
    let (clock, _) = Clock::manual(Wall::default());
    let upstream = RecordingUpstream::start(Answer::new(201, "{}"), clock);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    symlink("/dev/full", &path).unwrap();
    let gateway = Setup::new(upstream.address()).audit(&path).start();
    let mut client = gateway.connect().await;
    let mut admitted = fill(&mut client, |answer| answer.status != 201).await;
    let refused = gateway.collect(&playbooks(), WORKSTATION).await;
    // A short line may still find room where a long one does not.
    assert!([201, 503].contains(&refused.status));
    admitted += usize::from(refused.status == 201);
    assert_eq!(upstream.requests().len(), admitted);

    // The disk has room again: what was held back is written, and calls pass.
    std::fs::remove_file(&path).unwrap();
    admitted += fill(&mut client, |answer| answer.status == 201).await;
    gateway.stop();
    let lines = lines_in(&path);
    let forwarded = upstream.requests().len();
    assert_eq!(forwarded, admitted);
    assert_eq!(lines.iter().filter(|line| line["event"] == "admitted").count(), forwarded);
    assert_eq!(lines.iter().filter(|line| line["event"] == "ended").count(), forwarded);
}

#[tokio::test]
async fn in_mode_drop_calls_pass_without_their_lines_which_are_counted() {
    let (clock, _) = Clock::manual(Wall::default());
    let upstream = RecordingUpstream::start(Answer::new(201, "{}"), clock);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    symlink("/dev/full", &path).unwrap();
    let gateway = Setup::new(upstream.address()).audit(&path).audit_full(AuditFullMode::Drop).start();
    let mut client = gateway.connect().await;
    let dropped = || {
        let page = gateway.server().metrics.render(gateway.clock.wall());
        let line =
            page.lines().find_map(|line| line.strip_prefix("tollgate_audit_lines_total{result=\"dropped\"}"));
        line.unwrap().trim().parse::<usize>().unwrap()
    };
    fill(&mut client, |answer| {
        answer.assert_status(201);
        dropped() >= 10
    })
    .await;

    // Once there is room again a line sums up what was lost.
    std::fs::remove_file(&path).unwrap();
    fill(&mut client, |_| !lines_in(&path).is_empty()).await;
    let lost = dropped();
    gateway.stop();
    let lines = lines_in(&path);
    let forwarded = upstream.requests().len();
    let count = |event| lines.iter().filter(|line| line["event"] == event).count();
    assert_eq!(count("admitted") + count("ended") + lost, 2 * forwarded);
    let sums = lines.iter().filter(|line| line["event"] == "dropped");
    let summed: u64 = sums
        .map(|line| line["counts"].as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>())
        .sum();
    assert_eq!(summed as usize, lost);
}

#[tokio::test]
async fn what_was_decided_before_a_shutdown_is_in_the_file_after_it() {
    let audited = Audited::usual();
    let mut client = audited.gateway.connect().await;
    let (good, bad) = (token(&portal()), token(&Caller::application(PORTAL).permissions(["Library.Manage"])));
    for _ in 0..50 {
        client.collect(&good, WORKSTATION, COMMENT).await.assert_status(201);
        client.collect(&bad, WORKSTATION, COMMENT).await.assert_status(403);
    }
    let path = audited.path();
    audited.gateway.stop();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.ends_with('\n'));
    let lines = lines_in(&path);
    let count = |event| lines.iter().filter(|line| line["event"] == event).count();
    assert_eq!([count("admitted"), count("ended"), count("refused")], [50, 50, 50]);
}
