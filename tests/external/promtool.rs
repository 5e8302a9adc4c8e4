//! Prometheus' own opinion of `/metrics`.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;
use tollgate::time::Clock;

use super::wanted;
use crate::support::gateway::{
    COMMENT, EXECUTIVE, Setup, UNGROUPED, WORKSTATION, playbooks, policy, responder, write_policy,
};
use crate::support::upstream::{Answer, RecordingUpstream};

#[tokio::test]
async fn promtool_accepts_the_metrics_before_and_after_traffic() {
    if !wanted(&["promtool"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write_policy(&policy(), folder.path());
    let upstream = RecordingUpstream::start(Answer::json(201, &json!({"id": "action-1"})), Clock::System);
    let audit = tempfile::NamedTempFile::new().unwrap();
    let gateway = Setup::new(upstream.address()).policy_folder(folder.path()).audit(audit.path()).start();
    check(&gateway.admin("/metrics").await.body);

    // One of many kinds of answer, a limit that fills, a file that is wrong.
    for device in [WORKSTATION, EXECUTIVE, UNGROUPED, "unknown.test.example"] {
        gateway.collect(&playbooks(), device).await;
        gateway.collect(&responder(), device).await;
    }
    for _ in 0..3 {
        gateway.get(&playbooks(), "/api/machineactions/unknown/getPackageUri").await;
        gateway.get(&responder(), &format!("/api/machines/{WORKSTATION}")).await;
    }
    gateway.connect().await.collect("none", WORKSTATION, COMMENT).await.assert_status(401);
    gateway.get(&playbooks(), "/api//machines").await.assert_status(400);
    gateway.get(&playbooks(), "/nowhere").await.assert_status(404);
    upstream.answer_next(Answer::new(500, ""));
    gateway.collect(&playbooks(), WORKSTATION).await.assert_status(500);
    std::fs::write(folder.path().join("roles.toml"), "wrong").unwrap();
    assert!(matches!(gateway.server().policies.reload(), tollgate::reload::Reload::Refused(_)));

    let metrics = gateway.admin("/metrics").await;
    assert!(metrics.text().contains(r#"reason="device_group""#), "{}", metrics.text());
    check(&metrics.body);
}

/// Fails the test if `promtool check metrics` finds anything to say.
fn check(metrics: &[u8]) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(metrics).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}
