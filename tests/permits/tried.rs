//! Device groups, roles and whole sets that are tried.

use std::path::Path;

use serde_json::{Value, json};
use tollgate::time::Clock;

use crate::support::gateway::{
    EXECUTIVE, READERS, Setup, WORKSTATION, playbooks, policy, policy_with, responder, rewritten, token,
};
use crate::support::until;
use crate::support::upstream::{Answer, RecordingUpstream};

/// The lines of an event.
fn lines(audit: &Path, event: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(audit).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    lines.filter(|line: &Value| line["event"] == event).collect()
}

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
    let lines = || lines(&audit, "ended");
    until("two calls in the audit", || lines().len() == 2).await;
    let overrun: Vec<_> = lines().iter().map(|line| line["device_groups_overrun"].clone()).collect();
    assert_eq!(overrun, [Value::Null, json!(["Executives"])]);
    let metrics = gateway.admin("/metrics").await;
    let line = "tollgate_device_group_shadow_refusals_total{application=\"playbooks\"} 1\n";
    assert!(metrics.text().contains(line), "{}", metrics.text());
}

#[tokio::test]
async fn a_set_that_is_not_enforced_forwards_what_it_would_refuse_and_says_why_but_believes_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let upstream = RecordingUpstream::start(Answer::new(201, "{}"), Clock::System);
    let gateway = Setup::new(upstream.address())
        .policy(policy_with("policy.toml", "enforce = false"))
        .audit(&audit)
        .start();
    let without = playbooks().permissions(["Alert.Read.All"]);
    for (caller, device) in [
        (&without, WORKSTATION),
        (&playbooks(), EXECUTIVE),
        (&playbooks(), "odd-1.test.example"),
        (&playbooks(), WORKSTATION),
        (&responder().groups([READERS]), WORKSTATION),
    ] {
        let answer = gateway.collect(caller, device).await;
        answer.assert_status(201);
        assert_eq!((answer.header("Tollgate-Reason"), answer.header("RateLimit")), (None, None));
    }
    assert_eq!(upstream.requests().len(), 5);

    // What is no call, shows no good token, or could be read in two ways is refused as ever.
    let expired = playbooks().claim("exp", 1_000);
    gateway.collect(&expired, WORKSTATION).await.assert_status(401);
    gateway.get(&playbooks(), "/api/unheard-of").await.assert_status(404);
    let answer = gateway.connect().await.collect(&token(&playbooks()), WORKSTATION, "{").await;
    answer.assert_status(400);
    assert_eq!(upstream.requests().len(), 5);

    until("five calls in the audit", || lines(&audit, "ended").len() == 5).await;
    let admitted = lines(&audit, "admitted");
    let found: Vec<_> = admitted.iter().map(|line| line["would_refuse"].as_str()).collect();
    assert_eq!(
        found,
        [Some("missing_permission"), Some("device_group"), Some("device_group"), None, Some("missing_role")]
    );
    assert_eq!(
        admitted[1]["would_say"],
        format!(
            "The device `{EXECUTIVE}` is in the device group `Executives`, which is not open to this caller"
        )
    );
    assert_eq!(admitted[1]["devices"][0]["group"], "Executives");
    // A call is counted once it is over, which may be after its caller has the answer.
    until("the end of the calls", || gateway.server().metrics.requests_in_flight() == 0).await;
    let metrics = gateway.admin("/metrics").await;
    let line = "tollgate_shadow_refusals_total{application=\"playbooks\",reason=\"device_group\"} 2\n";
    assert!(metrics.text().contains(line), "{}", metrics.text());
    assert_eq!(gateway.admin("/policy").await.json()["enforced"], false);
}

#[tokio::test]
async fn the_limits_of_a_set_that_is_not_enforced_count_what_it_would_have_let_through() {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let limits = r#"
        [[limit]]
        name       = "two"
        operations = ["collect"]
        per        = ["application"]
        windows    = ["2 per minute"]
        show       = true
    "#;
    let upstream = RecordingUpstream::start(Answer::new(201, "{}"), Clock::System);
    let mut policy = policy_with("policy.toml", "enforce = false");
    policy.insert(tollgate::source::SourceFile::new("limits.toml", limits));
    let gateway = Setup::new(upstream.address()).policy(policy).audit(&audit).start();
    for device in [EXECUTIVE, EXECUTIVE, WORKSTATION, WORKSTATION, WORKSTATION] {
        let answer = gateway.collect(&playbooks(), device).await;
        answer.assert_status(201);
        assert_eq!(answer.header("RateLimit"), None, "nobody is held to it");
    }
    until("five calls in the audit", || lines(&audit, "ended").len() == 5).await;
    let found: Vec<_> =
        lines(&audit, "ended").iter().map(|line| line["would_refuse"].as_str().map(str::to_owned)).collect();
    // Whom the device group refuses, no limit would have counted.
    let [group, limit] = ["device_group", "over_limit"].map(|word| Some(word.to_owned()));
    assert_eq!(found, [group.clone(), group, None, None, limit]);
}

#[tokio::test]
async fn a_role_that_is_not_enforced_is_named_by_the_calls_that_pass_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let upstream = RecordingUpstream::start(Answer::new(201, "{}"), Clock::System);
    let tried = rewritten(policy(), "roles.toml", "[\"View data\"]", "[\"View data\"]\nenforce = false");
    let gateway = Setup::new(upstream.address()).policy(tried).audit(&audit).start();
    let reader = responder().groups([READERS]);
    gateway.collect(&reader, WORKSTATION).await.assert_status(201);
    // It opens no device group, and nothing to whoever does not hold it.
    let answer = gateway.collect(&reader, EXECUTIVE).await;
    assert_eq!(answer.header("Tollgate-Reason"), Some("device_group"));
    let answer = gateway.collect(&responder().groups([]), WORKSTATION).await;
    assert_eq!(answer.header("Tollgate-Reason"), Some("missing_role"));
    until("a call in the audit", || lines(&audit, "ended").len() == 1).await;
    let line = &lines(&audit, "admitted")[0];
    assert_eq!((&line["would_refuse"], &line["roles_overrun"]), (&json!("missing_role"), &json!(["Reader"])));
}
