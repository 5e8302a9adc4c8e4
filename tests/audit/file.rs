//! The file of the trail: whose it is, what it says of the policy, and what becomes of lines that it does not take.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate::sandbox::issuer::Caller;
use tollgate::snapshot::version;
use tollgate::telemetry::audit::AuditFullMode;
use tollgate::time::{Clock, Wall};

use super::{Audited, events, lines_in};
use crate::support::gateway::{
    COMMENT, EXECUTIVE, PORTAL, Setup, WORKSTATION, playbooks, policy, portal, rewritten, token, write_policy,
};
use crate::support::raw::{RawClient, RawResponse};
use crate::support::upstream::{Answer, RecordingUpstream};
use crate::support::{at_once, tried, until, within_deadline};

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
    tried(async || loads_are_lines().await).await;
}

/// None if a file was not written at once, so that it may have been read while it was empty.
async fn loads_are_lines() -> Option<()> {
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

    let limits = |text| at_once(|| std::fs::write(policy_folder.join("limits.toml"), text).unwrap());
    limits("limt = 1\n\n[[limit]]\n")?;
    until("the refusal", || loads().len() == 2).await;
    limits("# better")?;
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
    Some(())
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

#[tokio::test]
async fn what_a_full_disk_held_up_is_written_at_a_shutdown_if_there_is_room_by_then() {
    let (clock, _) = Clock::manual(Wall::default());
    let upstream = RecordingUpstream::start(Answer::new(201, "{}"), clock);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    symlink("/dev/full", &path).unwrap();
    let gateway = Setup::new(upstream.address()).audit(&path).start();
    let mut client = gateway.connect().await;
    let token = token(&portal());
    for _ in 0..50 {
        client.collect(&token, WORKSTATION, COMMENT).await.assert_status(201);
    }
    let failed = "tollgate_audit_write_errors_total 0";
    until("a failed attempt", || !gateway.server().metrics.render(gateway.clock.wall()).contains(failed))
        .await;
    std::fs::remove_file(&path).unwrap();
    gateway.stop();
    // That of the load, with which the first attempt failed, and two of each call.
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 101);
}
