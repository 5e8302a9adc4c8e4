//! What `tollgate serve --state` remembers over its own end.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tollgate::time::Clock;

use super::{Serving, policy_folder, run};
use crate::support::gateway::{
    COMMENT, EXECUTIVE, WORKSTATION, playbooks, policy_with, portal, token_of_today, write_policy,
};
use crate::support::process::{Signal, eventually, text};
use crate::support::raw::{RawClient, RawResponse};
use crate::support::upstream::{Answer, RecordingUpstream};
use crate::support::within_deadline;

/// Starts an action on a device, by the application that may on all.
async fn start(serving: &Serving, upstream: &RecordingUpstream, action: &str, device: &str) {
    upstream.answer_next(Answer::json(201, &json!({ "id": action, "machineId": device })));
    let mut client = RawClient::connect(serving.gateway).await;
    client.collect(&token_of_today(&portal()), device, COMMENT).await.assert_status(201);
}

/// Asks for an action's package, by the application that is confined to workstations.
async fn package(serving: &Serving, action: &str) -> RawResponse {
    let authorization = format!("Bearer {}", token_of_today(&playbooks()));
    let path = format!("/api/machineactions/{action}/getPackageUri");
    let headers = [("Authorization", authorization.as_str())];
    RawClient::connect(serving.gateway).await.request("GET", &path, &headers, b"").await
}

async fn metrics(admin: SocketAddr) -> String {
    RawClient::connect(admin).await.request("GET", "/metrics", &[], b"").await.text().to_owned()
}

async fn serve(policies: &Path, upstream: &RecordingUpstream, state: &Path) -> Serving {
    Serving::start(policies, upstream.address(), &["--state", text(state)]).await
}

#[tokio::test]
async fn an_action_is_still_held_to_its_device_after_the_gateway_was_killed_and_started_anew() {
    let upstream = RecordingUpstream::start(Answer::new(200, "{}"), Clock::System);
    let (folder, state) = (policy_folder(), tempfile::tempdir().unwrap());
    let serving = serve(folder.path(), &upstream, state.path()).await;
    start(&serving, &upstream, "action-1", WORKSTATION).await;
    start(&serving, &upstream, "action-2", EXECUTIVE).await;
    let written = r#"tollgate_state_records_total{result="written",state="actions"} 2"#;
    within_deadline("two actions that are written", async {
        while !metrics(serving.admin).await.contains(written) {
            Clock::System.sleep(Duration::from_millis(10)).await;
        }
    })
    .await;

    serving.process.signal(Signal::KILL);
    assert_eq!(serving.process.ended().await.code, None);

    let serving = serve(folder.path(), &upstream, state.path()).await;
    // How many keys of limits were written by then is nobody's promise here.
    let state_line = format!("state    {}: 2 actions, ", state.path().display());
    let said = serving.process.said();
    assert!(said.iter().any(|line| line.starts_with(&state_line)), "{said:?}");
    package(&serving, "action-1").await.assert_status(200);
    let refused = package(&serving, "action-2").await;
    assert_eq!((refused.status, refused.header("Tollgate-Reason")), (403, Some("device_group")));
    let refused = package(&serving, "action-3").await;
    assert_eq!(refused.header("Tollgate-Reason"), Some("unknown_action"));
}

#[tokio::test]
async fn an_action_whose_answer_came_just_before_the_signal_to_stop_is_remembered() {
    let upstream = RecordingUpstream::start(Answer::new(200, "{}"), Clock::System);
    let (folder, state) = (policy_folder(), tempfile::tempdir().unwrap());
    let serving = serve(folder.path(), &upstream, state.path()).await;
    start(&serving, &upstream, "action-1", WORKSTATION).await;
    serving.process.signal(Signal::TERM);
    assert_eq!(serving.process.ended().await.code, Some(0));

    let serving = serve(folder.path(), &upstream, state.path()).await;
    package(&serving, "action-1").await.assert_status(200);
}

#[tokio::test]
async fn a_damaged_end_of_the_state_is_given_up_loudly_and_the_rest_is_kept() {
    let upstream = RecordingUpstream::start(Answer::new(200, "{}"), Clock::System);
    let (folder, state) = (policy_folder(), tempfile::tempdir().unwrap());
    let serving = serve(folder.path(), &upstream, state.path()).await;
    start(&serving, &upstream, "action-1", WORKSTATION).await;
    start(&serving, &upstream, "action-2", WORKSTATION).await;
    serving.process.signal(Signal::TERM);
    assert_eq!(serving.process.ended().await.code, Some(0));
    let file = state.path().join("actions.journal");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &bytes).unwrap();

    let serving = serve(folder.path(), &upstream, state.path()).await;
    serving.process.says_anywhere("cut off or damaged").await;
    package(&serving, "action-1").await.assert_status(200);
    assert_eq!(package(&serving, "action-2").await.header("Tollgate-Reason"), Some("unknown_action"));
    let lost = metrics(serving.admin).await;
    let lost = lost.lines().find(|line| line.starts_with("tollgate_state_lost_bytes{")).unwrap();
    assert!(!lost.ends_with(" 0"), "{lost}");
}

#[tokio::test]
async fn a_state_folder_that_another_gateway_has_is_a_failed_start() {
    let upstream = RecordingUpstream::start(Answer::new(200, ""), Clock::System);
    let (folder, state) = (policy_folder(), tempfile::tempdir().unwrap());
    let serving = serve(folder.path(), &upstream, state.path()).await;
    let (policies, api) = (text(folder.path()), format!("http://{}", upstream.address()));
    let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state", text(state.path())];
    let args = [["serve", "--policies", policies, "--upstream", &api].as_slice(), &ports].concat();
    let ended = run(&args).await;
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    let expected =
        format!("error: the state folder `{}` is in use by another process", state.path().display());
    assert_eq!(ended.err, [expected]);
    serving.process.signal(Signal::TERM);
    serving.process.ended().await;
    eventually("a start", || tollgate::journal::StateFolder::open(state.path()).ok()).await;
}

#[tokio::test]
async fn a_limit_that_grew_while_the_gateway_was_stopped_is_named_at_its_start() {
    let upstream = RecordingUpstream::start(Answer::new(200, "{}"), Clock::System);
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let audit = state.path().join("audit.jsonl");
    for (windows, lacking) in [("5 per minute", json!(null)), ("9 per 120s", json!({ "grows": 120.0 }))] {
        let limits = format!(
            "[[limit]]\nname = \"grows\"\noperations = [\"list_devices\"]\nper = []\nwindows = [\"{windows}\"]\n"
        );
        write_policy(&policy_with("limits.toml", &limits), folder.path());
        let more = ["--state", text(state.path()), "--audit", text(&audit)];
        let serving = Serving::start(folder.path(), upstream.address(), &more).await;
        let authorization = format!("Bearer {}", token_of_today(&portal()));
        let headers = [("Authorization", authorization.as_str())];
        let mut client = RawClient::connect(serving.gateway).await;
        client.request("GET", "/api/machines", &headers, b"").await.assert_status(200);
        serving.process.signal(Signal::TERM);
        let ended = serving.process.ended().await;
        let warned = ended.err.iter().any(|line| line.contains("limits that grew lack times"));
        assert_eq!((ended.code, warned), (Some(0), !lacking.is_null()), "{:#?}", ended.err);
        let lines = std::fs::read_to_string(&audit).unwrap();
        let mut lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let loaded = lines.rfind(|line| line["event"] == "policy").unwrap();
        assert_eq!(loaded["lacking_s"], lacking, "{windows}");
    }
}
