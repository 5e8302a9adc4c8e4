//! Device groups that are tried.

use serde_json::{Value, json};
use tollgate::time::Clock;

use crate::support::gateway::{EXECUTIVE, Setup, WORKSTATION, playbooks, policy, rewritten};
use crate::support::until;
use crate::support::upstream::{Answer, RecordingUpstream};

#[tokio::test]
async fn a_device_group_that_is_not_enforced_refuses_nobody_and_says_whom_it_would_have() {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let upstream = RecordingUpstream::start(Answer::new(201, "{}"), Clock::System);
    let tried = rewritten(policy(), "device-groups.toml", "rank         = 1", "rank = 1\nenforce = false");
    let gateway = Setup::new(upstream.address()).policy(tried).audit(&audit).start();
    for device in [WORKSTATION, EXECUTIVE] {
        gateway.collect(&playbooks(), device).await.assert_status(201);
    }
    let answer = gateway.collect(&playbooks(), "odd-1.test.example").await;
    assert_eq!(answer.header("Tollgate-Reason"), Some("device_group"));
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&audit).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        lines.filter(|line: &Value| line["event"] == "ended").collect()
    };
    until("two calls in the audit", || lines().len() == 2).await;
    let overrun: Vec<_> = lines().iter().map(|line| line["device_groups_overrun"].clone()).collect();
    assert_eq!(overrun, [Value::Null, json!(["Executives"])]);
    let metrics = gateway.admin("/metrics").await;
    let line = "tollgate_device_group_shadow_refusals_total{application=\"playbooks\"} 1\n";
    assert!(metrics.text().contains(line), "{}", metrics.text());
}
