//! What a limit may say beside its windows, end to end.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate::time::Clock;

use crate::support::gateway::{EXECUTIVE, Setup, TestGateway, WORKSTATION, playbooks, policy_with, portal};
use crate::support::until;
use crate::support::upstream::{Answer, RecordingUpstream};

/// A gateway under `limits.toml` of this text, in front of an upstream that starts every action.
fn started(limits: &str) -> (RecordingUpstream, TestGateway) {
    let upstream = RecordingUpstream::start(Answer::new(201, "{}"), Clock::System);
    let gateway = Setup::new(upstream.address()).policy(policy_with("limits.toml", limits)).start();
    (upstream, gateway)
}

#[tokio::test]
async fn a_margin_lengthens_the_windows_and_not_what_is_said_of_them() {
    let limits = r#"
        documented_margin = "250ms"
        [[limit]]
        name       = "mine"
        operations = ["collect"]
        per        = ["application"]
        windows    = ["1 per 10s"]
        margin     = "1500ms"
    "#;
    let (_upstream, gateway) = started(limits);
    let first = gateway.collect(&playbooks(), WORKSTATION).await;
    first.assert_status(201);
    assert!(first.header("RateLimit-Policy").unwrap().contains("\"mine-10s\";q=1;w=10"), "{first:?}");
    gateway.hand.advance(Duration::from_millis(11_499));
    let refused = gateway.collect(&playbooks(), WORKSTATION).await;
    refused.assert_status(429);
    assert_eq!(refused.header("Retry-After"), Some("1"));
    gateway.hand.advance(Duration::from_millis(1));
    gateway.collect(&playbooks(), WORKSTATION).await.assert_status(201);

    // The documented minute is 60.25 s long: at 60.2 s it still counts the first of these two calls.
    let (_upstream, gateway) = started("documented_margin = \"250ms\"");
    for (millis, remaining) in [(0, 99), (60_200, 98), (50, 98)] {
        gateway.hand.advance(Duration::from_millis(millis));
        assert_eq!(
            gateway.collect(&playbooks(), WORKSTATION).await.remaining(),
            remaining,
            "after {millis} ms"
        );
    }
}

#[tokio::test]
async fn a_call_may_cost_more_than_another_under_the_same_limit() {
    let limits = r#"
        [[limit]]
        name       = "units"
        operations = ["collect", "list_devices"]
        per        = ["application"]
        windows    = ["7 per minute"]
        cost       = { collect = 3 }
    "#;
    let (_upstream, gateway) = started(limits);
    for _ in 0..2 {
        gateway.collect(&playbooks(), WORKSTATION).await.assert_status(201);
    }
    let refused = gateway.collect(&playbooks(), WORKSTATION).await;
    refused.assert_status(429);
    assert!(refused.text().contains("maximum allowed 7 per 00:01:00"), "{refused:?}");
    // The refused call took nothing: there is room for one that costs one, and no more.
    gateway.get(&portal(), "/api/machines").await.assert_status(201);
    gateway.collect(&playbooks(), WORKSTATION).await.assert_status(429);
}

#[tokio::test]
async fn a_device_is_one_device_under_all_its_names_also_for_callers_that_no_group_binds() {
    let limits = r#"
        [[limit]]
        name       = "each"
        operations = ["collect"]
        per        = ["device"]
        windows    = ["2 per minute"]
        [[limit]]
        name       = "team"
        operations = ["collect"]
        per        = ["tenant", "device_group"]
        windows    = ["3 per minute"]
    "#;
    let (_upstream, gateway) = started(limits);
    let entra = "00000000-0000-0000-0000-0000000000d1";
    for (caller, device, status, why) in [
        (portal(), "ws-1.test.example", 201, "by its name, by a caller that nobody binds"),
        (playbooks(), WORKSTATION, 201, "by its id, by one that a group binds"),
        (portal(), entra, 429, "by its id in Entra"),
        (portal(), WORKSTATION, 429, "by its id"),
        (portal(), EXECUTIVE, 201, "another device of another group"),
        (portal(), "4444444444444444444444444444444444444444", 201, "one that the inventory lacks"),
        (portal(), "5555555555555555555555555555555555555555", 201, "another of these"),
        (portal(), "new-1.test.example", 201, "and one by name alone"),
        (portal(), "new-2.test.example", 429, "devices and groups that nobody knows are one"),
    ] {
        assert_eq!(gateway.collect(&caller, device).await.status, status, "{why}");
    }
}

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
