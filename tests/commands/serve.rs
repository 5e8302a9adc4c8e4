//! `tollgate serve` from its start to its end.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use serde_json::json;
use tollgate::snapshot::version;
use tollgate::time::{Clock, Wall};

use super::{Serving, own_address, policy_folder};
use crate::support::gateway::{COMMENT, WORKSTATION, playbooks, policy, token_of_today};
use crate::support::process::{Signal, eventually, text};
use crate::support::raw::RawClient;
use crate::support::upstream::{Answer, RecordingUpstream};
use crate::support::within_deadline;

fn api() -> RecordingUpstream {
    RecordingUpstream::start(Answer::json(201, &json!({"id": "action-1"})), Clock::System)
}

async fn admin(serving: &Serving, path: &str) -> crate::support::raw::RawResponse {
    RawClient::connect(serving.admin).await.request("GET", path, &[], b"").await
}

#[tokio::test]
async fn serve_says_where_it_listens_what_it_loaded_and_how_much_of_it_and_then_serves() {
    let (folder, upstream) = (policy_folder(), api());
    let serving = Serving::start(folder.path(), upstream.address(), &[]).await;

    let token = token_of_today(&playbooks());
    let answer = RawClient::connect(serving.gateway).await.collect(&token, WORKSTATION, COMMENT).await;

    answer.assert_status(201);
    upstream.wait_for(1).await;
    admin(&serving, "/readyz").await.assert_status(200);
    let (version, folder) = (version(&policy()), folder.path().display());
    assert_eq!(
        serving.process.said(),
        [
            format!(
                "policy   {version} from {folder}: 6 operations, 2 roles, 2 device groups, 2 applications, 3 devices, 2 limits, 2 issuers"
            ),
            format!("upstream http://{}", upstream.address()),
            "state    in memory: limits begin anew after the end, and which device an action belongs to is forgotten (--state DIR)"
                .into(),
            "links    as the API writes them: a client that follows one goes past the gateway (--public-url URL)"
                .into(),
            format!("gateway  http://{}", serving.gateway),
            format!("admin    http://{} (/metrics /livez /readyz /policy /limits)", serving.admin),
        ]
    );
}

#[tokio::test]
async fn a_log_that_no_terminal_reads_has_no_colours() {
    let (folder, upstream) = (policy_folder(), api());
    let serving = Serving::start(folder.path(), upstream.address(), &[]).await;
    serving.process.signal(Signal::TERM);
    let ended = serving.process.ended().await;
    let line = ended.err.last().unwrap();
    assert!(line.ends_with("INFO shutting down") && !line.contains('\u{1b}'), "{line:?}");
}

#[tokio::test]
async fn a_signal_to_stop_lets_a_request_in_flight_finish_and_then_ends_with_exit_code_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let (clock, hand) = Clock::manual(Wall::from_unix_seconds(0));
        let slow = Answer::json(201, &json!({"id": "action-1"})).after(Duration::from_secs(60));
        let (folder, upstream) = (policy_folder(), RecordingUpstream::start(slow, clock));
        // Where no other test listens, also when this one does no more.
        let serving = Serving::start_at(own_address(0), folder.path(), upstream.address(), &[]).await;
        let idle = RawClient::connect(serving.gateway).await;
        let mut client = RawClient::connect(serving.gateway).await;
        let authorization = format!("Bearer {}", token_of_today(&playbooks()));
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let path = format!("/api/machines/{WORKSTATION}/collectInvestigationPackage");
        client.send_request("POST", &path, &headers, COMMENT).await;
        upstream.wait_for(1).await;

        serving.process.signal(signal);
        serving.process.says_anywhere("shutting down").await;
        let readiness = admin(&serving, "/readyz").await;
        readiness.assert_status(503);
        assert!(readiness.text().contains("shutting down"), "{}", readiness.text());
        hand.advance(Duration::from_secs(60));

        client.read_response().await.assert_status(201);
        let (gateway, admin) = (serving.gateway, serving.admin);
        let ended = serving.process.ended().await;
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert!(nobody_listens(gateway) && nobody_listens(admin));
        drop(idle);
    }
}

#[tokio::test]
async fn a_second_signal_to_stop_waits_for_nobody_and_the_trail_says_what_became_of_the_call() {
    let silent = Answer::new(200, "").ending(crate::support::upstream::Ending::Never);
    let (folder, upstream) = (policy_folder(), RecordingUpstream::start(silent, Clock::System));
    let serving =
        Serving::start(folder.path(), upstream.address(), &["--shutdown-grace", "1h", "--audit", "-"]).await;
    let mut client = RawClient::connect(serving.gateway).await;
    let authorization = format!("Bearer {}", token_of_today(&playbooks()));
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    let path = format!("/api/machines/{WORKSTATION}/collectInvestigationPackage");
    client.send_request("POST", &path, &headers, COMMENT).await;
    upstream.wait_for(1).await;

    serving.process.signal(Signal::TERM);
    serving.process.says_anywhere("shutting down").await;
    serving.process.signal(Signal::TERM);

    let ended = serving.process.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let events: Vec<serde_json::Value> = ended
        .out
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].clone())
        .collect();
    assert_eq!(events, ["policy", "admitted", "ended"]);
}

fn nobody_listens(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err()
}

#[tokio::test]
async fn a_signal_that_comes_as_soon_as_serve_says_where_it_listens_is_obeyed() {
    let folder = policy_folder();
    for _ in 0..5 {
        let serving = Serving::start(folder.path(), ([127, 0, 0, 1], 1).into(), &[]).await;
        serving.process.signal(Signal::HUP);
        serving.process.signal(Signal::TERM);
        assert_eq!(serving.process.ended().await.code, Some(0));
    }
}

#[tokio::test]
async fn sighup_reads_the_policy_again_also_where_nothing_tells_that_it_changed() {
    let (folder, upstream) = (policy_folder(), api());
    let serving = Serving::start(folder.path(), upstream.address(), &[]).await;
    // Another word of the same length in the same file, of the same time: no watcher and no poll can tell.
    let file = folder.path().join("applications.toml");
    let (before, said) = (std::fs::metadata(&file).unwrap(), std::fs::read_to_string(&file).unwrap());
    std::fs::write(&file, said.replace("playbooks", "playbook5")).unwrap();
    std::fs::File::open(&file).unwrap().set_modified(before.modified().unwrap()).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().ino(), before.ino());

    serving.process.signal(Signal::HUP);

    serving.process.says_anywhere("policy loaded").await;
    let token = token_of_today(&playbooks());
    RawClient::connect(serving.gateway).await.collect(&token, WORKSTATION, COMMENT).await.assert_status(201);
    // A call is counted once it is over, which may be after its caller has the answer.
    let counted = async {
        while !admin(&serving, "/metrics").await.text().contains(r#"application="playbook5""#) {
            Clock::System.sleep(Duration::from_millis(10)).await;
        }
    };
    within_deadline("a call counted under the new name", counted).await;
}

#[tokio::test]
async fn the_log_tells_a_hundred_of_a_new_sets_warnings_and_how_many_more_there_are() {
    let (folder, upstream) = (policy_folder(), api());
    let serving = Serving::start(folder.path(), upstream.address(), &[]).await;
    let file = folder.path().join("device-groups.toml");
    let mut groups = std::fs::read_to_string(&file).unwrap();
    for number in 0..150 {
        let rank = number + 1_000;
        groups += &format!(
            "[[device_group]]\nname = \"empty-{number}\"\nrank = {rank}\nmatch = {{ name = [\"equals nobody\"] }}\n"
        );
    }
    std::fs::write(&file, groups).unwrap();

    serving.process.signal(Signal::HUP);

    serving.process.says_anywhere("more warnings: `tollgate check` says them all").await;
    let said = serving.process.said();
    let after = said.iter().skip_while(|line| !line.contains("policy loaded"));
    let warnings: Vec<_> = after.filter(|line| line.contains(" WARN ")).collect();
    let (last, told) = warnings.split_last().unwrap();
    assert_eq!(told.len(), 100, "{warnings:#?}");
    let more: usize =
        last.split(": `tollgate").next().unwrap().split(' ').rev().nth(2).unwrap().parse().unwrap();
    assert!((50..60).contains(&more), "{last}");
}

#[tokio::test]
async fn sighup_opens_the_audit_file_anew_without_waiting_for_a_line() {
    let (folder, upstream) = (policy_folder(), api());
    let logs = tempfile::tempdir().unwrap();
    let (audit, rotated) = (logs.path().join("audit.jsonl"), logs.path().join("audit.1"));
    let serving = Serving::start(folder.path(), upstream.address(), &["--audit", text(&audit)]).await;
    // Else the load before would be written into the new file.
    let lines = |file| std::fs::read_to_string(file).unwrap_or_default().lines().count();
    eventually("the load", || (lines(&audit) == 1).then_some(())).await;
    std::fs::rename(&audit, &rotated).unwrap();

    serving.process.signal(Signal::HUP);

    eventually("a new audit file", || audit.exists().then_some(())).await;
    assert_eq!(std::fs::metadata(&audit).unwrap().mode() & 0o777, 0o600);
    let token = token_of_today(&playbooks());
    RawClient::connect(serving.gateway).await.collect(&token, WORKSTATION, COMMENT).await.assert_status(201);
    serving.process.signal(Signal::TERM);
    assert_eq!(serving.process.ended().await.code, Some(0));
    // The load before; the admission and its end after.
    assert_eq!((lines(&rotated), lines(&audit)), (1, 2));
}

#[tokio::test]
async fn an_audit_named_by_a_dash_goes_to_standard_output_and_nothing_else_does() {
    let (folder, upstream) = (policy_folder(), api());
    let serving = Serving::start(folder.path(), upstream.address(), &["--audit", "-"]).await;
    let token = token_of_today(&playbooks());
    RawClient::connect(serving.gateway).await.collect(&token, WORKSTATION, COMMENT).await.assert_status(201);
    serving.process.signal(Signal::TERM);
    let ended = serving.process.ended().await;
    let lines: Vec<serde_json::Value> =
        ended.out.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(!ended.out.concat().contains(&token));
}

#[tokio::test]
async fn the_timeout_for_the_api_is_the_one_that_was_set() {
    let silent = Answer::new(200, "").ending(crate::support::upstream::Ending::Never);
    let (folder, upstream) = (policy_folder(), RecordingUpstream::start(silent, Clock::System));
    let timeout = ["--upstream-timeout", "200ms"];
    let serving = Serving::start(folder.path(), upstream.address(), &timeout).await;
    let token = token_of_today(&playbooks());
    RawClient::connect(serving.gateway).await.collect(&token, WORKSTATION, COMMENT).await.assert_status(504);
}

#[tokio::test]
async fn as_many_threads_serve_as_were_asked_for() {
    let folder = policy_folder();
    let nobody: SocketAddr = ([127, 0, 0, 1], 1).into();
    for (count, threads) in [("1", 1), ("5", 5)] {
        let serving = Serving::start(folder.path(), nobody, &["--threads", count]).await;
        let serve = || (serving.process.threads("gateway") == threads).then_some(());
        eventually("the threads that serve", serve).await;
    }
}
