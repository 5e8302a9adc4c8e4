//! What a limit may say beside its windows, end to end.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate::time::Clock;

use crate::support::gateway::{Setup, WORKSTATION, playbooks, policy_with};
use crate::support::until;
use crate::support::upstream::{Answer, RecordingUpstream};

#[tokio::test]
async fn a_limit_that_is_not_enforced_refuses_nobody_and_says_whom_it_would_have() {
    let limits = r#"
        [[limit]]
        name       = "trial"
        operations = ["collect"]
        per        = ["application"]
        windows    = ["2 per minute"]
        enforce    = false
    "#;
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let upstream = RecordingUpstream::start(Answer::new(201, "{}"), Clock::System);
    let setup = Setup::new(upstream.address()).policy(policy_with("limits.toml", limits)).audit(&audit);
    let gateway = setup.start();
    for seconds in [0, 30, 20, 10, 20] {
        gateway.hand.advance(Duration::from_secs(seconds));
        let answer = gateway.collect(&playbooks(), WORKSTATION).await;
        answer.assert_status(201);
        let shown = answer.header("RateLimit").unwrap();
        assert!(shown.contains("collect-minute") && !shown.contains("trial"), "it binds nobody: {shown}");
    }
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&audit).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        lines.filter(|line: &Value| line["event"] == "ended").collect()
    };
    until("five calls in the audit", || lines().len() == 5).await;
    let overrun: Vec<_> = lines().iter().map(|line| line["limits_overrun"].clone()).collect();
    // At 0, 30, 50, 60 and 80 s: as a limit that is enforced, it counts only what it would have let through.
    assert_eq!(overrun, [Value::Null, Value::Null, json!(["trial"]), Value::Null, json!(["trial"])]);
    let metrics = gateway.admin("/metrics").await;
    let line = "tollgate_limit_shadow_refusals_total{limit=\"trial\"} 2\n";
    assert!(metrics.text().contains(line), "{}", metrics.text());
}
