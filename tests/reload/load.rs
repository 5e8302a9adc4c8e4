//! Policies that change while calls flow: no failed answer, and none of two versions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tollgate::id::{ApplicationId, UserId};
use tollgate::sandbox::issuer::Caller;
use tollgate::snapshot::version;
use tollgate::source::PolicyFiles;
use tollgate::time::Clock;

use super::{FAILED, Folder, LOADED, Way, counted, in_force, metric, upstream};
use crate::support::gateway::{
    COMMENT, PORTAL, READERS, Setup, WORKSTATION, playbooks, policy, rewritten, token,
};
use crate::support::raw::RawResponse;
use crate::support::{at_once, tried, until};

/// An application that one version lets collect, and the other does not.
const SWITCH: ApplicationId = ApplicationId::from_u128(0xa3);

/// How often a policy changes under load.
const CHANGES: usize = 24;

/// A set in which every fact says of which version it is: names of application, device group and limit, whether an
/// application may collect, and whether a role suffices.
pub(super) fn marked(letter: &str) -> PolicyFiles {
    let (switch, reader) = match letter {
        "a" => (r#"["collect"]"#, r#"["View data", "Alerts investigation"]"#),
        _ => (r#"["package_uri"]"#, r#"["View data"]"#),
    };
    let files = rewritten(
        policy(),
        "operations.toml",
        r#"["100 per minute", "1500 per hour"]"#,
        r#"["500000 per hour"]"#,
    );
    let files = rewritten(files, "device-groups.toml", "Workstations", &format!("Workstations-{letter}"));
    let files = rewritten(files, "applications.toml", "Workstations", &format!("Workstations-{letter}"));
    let files = rewritten(files, "applications.toml", "\"playbooks\"", &format!("\"playbooks-{letter}\""));
    let last = "device_groups       = \"all\"\n";
    let entry = format!(
        "{last}\n[[application]]\nid = \"{SWITCH}\"\nname = \"switch-{letter}\"\noperations = {switch}\ndevice_groups = \"all\"\n"
    );
    let files = rewritten(files, "applications.toml", last, &entry);
    let role = "\"Reader\"\npermissions  = [\"View data\"]";
    let files = rewritten(files, "roles.toml", role, &format!("\"Reader\"\npermissions  = {reader}"));
    let limit = format!(
        "[[limit]]\nname = \"extra-{letter}\"\noperations = [\"collect\"]\nper = [\"application\"]\nwindows = [\"400000 per hour\"]\n"
    );
    rewritten(files, "limits.toml", "# Only the documented limits of operations.toml.", &limit)
}

/// What becomes of a call in a version, by its letter: it passes, or the reason why not.
type VerdictIn = fn(&str) -> &'static str;

/// Who calls under load, and what becomes of each call in a version.
fn callers() -> [(Caller, VerdictIn); 3] {
    let reader = Caller::user(UserId::from_u128(0xb3), "reader@test.example", PORTAL)
        .permissions(["Machine.CollectForensics"])
        .groups([READERS]);
    [
        (playbooks(), |_| "passes"),
        (Caller::application(SWITCH).permissions(["Machine.CollectForensics"]), |letter| match letter {
            "a" => "passes",
            _ => "application",
        }),
        (reader, |letter| if letter == "a" { "passes" } else { "missing_role" }),
    ]
}

/// The version that an answer shows, where it shows one.
fn letter_of(answer: &RawResponse) -> Option<&'static str> {
    let shown = answer.header("RateLimit-Policy")?;
    let named = |letter| shown.contains(&format!("\"extra-{letter}-hour\""));
    match (named("a"), named("b")) {
        (true, false) => Some("a"),
        (false, true) => Some("b"),
        both => panic!("{both:?} in {shown}"),
    }
}

async fn changes_under_load(way: Way, folder: impl Fn(&PolicyFiles) -> Folder) {
    tried(async || try_changes_under_load(way, folder(&marked("a"))).await).await;
}

/// None if a set was not written at once, so that half of it may have been read.
async fn try_changes_under_load(way: Way, folder: Folder) -> Option<()> {
    let versions = ["a", "b"].map(marked);
    let audit = folder.parent.path().join("audit.jsonl");
    let upstream = upstream();
    let setup = Setup::new(upstream.address()).policy_folder(&folder.path).audit(&audit).threads(2);
    let gateway = setup.start();

    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    for _ in 0..4 {
        let (stop, answered) = (stop.clone(), answered.clone());
        let mut client = gateway.connect().await;
        let callers = callers().map(|(caller, verdict)| (token(&caller), verdict));
        connections.spawn(async move {
            let mut playbooks_admitted = 0;
            while !stop.load(Ordering::Relaxed) {
                for (place, (token, verdict)) in callers.iter().enumerate() {
                    let answer = client.collect(token, WORKSTATION, COMMENT).await;
                    let reason = answer.header("Tollgate-Reason").unwrap_or("passes");
                    match letter_of(&answer) {
                        Some(letter) => assert_eq!(reason, verdict(letter), "{answer:?}"),
                        None => assert_eq!(reason, verdict("b"), "{answer:?}"),
                    }
                    assert_eq!(answer.status, if reason == "passes" { 201 } else { 403 });
                    playbooks_admitted += usize::from(place == 0);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Clock::System.sleep(Duration::from_millis(5)).await;
            }
            playbooks_admitted
        });
    }
    for change in 1..=CHANGES {
        let files = &versions[change % 2];
        at_once(|| folder.write(way, files))?;
        in_force(&gateway, files).await;
        // Each of the callers has been answered by it.
        let before = answered.load(Ordering::Relaxed);
        until("answers", || answered.load(Ordering::Relaxed) >= before + 24).await;
    }
    stop.store(true, Ordering::Relaxed);
    let admitted: usize = connections.join_all().await.iter().sum();

    counted(&gateway, LOADED, CHANGES as u64).await;
    assert_eq!(metric(&gateway, FAILED).await, 0);
    // Every call since the start counts, whatever version it was admitted by.
    let last = gateway.collect(&playbooks(), WORKSTATION).await;
    let left = format!("\"collect-hour\";r={};", 500_000 - admitted - 1);
    assert!(last.header("RateLimit").unwrap().contains(&left), "{left} in {last:?}");
    gateway.stop();

    let letters: BTreeMap<_, _> =
        versions.iter().map(|files| version(files).to_string()).zip(["a", "b"]).collect();
    audit_shows_no_mixture(&std::fs::read_to_string(audit).unwrap(), &letters);
    Some(())
}

/// Every fact of a line is of the version that the line names, and both lines of a call name the same.
fn audit_shows_no_mixture(audit: &str, letters: &BTreeMap<String, &str>) {
    let mut by_request: BTreeMap<String, String> = BTreeMap::new();
    let (mut calls, mut loads) = (0, 0);
    for line in audit.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let named = line["policy_version"].as_str().unwrap();
        let letter = letters[named];
        if line["event"] == "policy" {
            loads += 1;
            continue;
        }
        calls += 1;
        let id = line["request_id"].as_str().unwrap().to_owned();
        assert_eq!(by_request.entry(id).or_insert_with(|| named.to_owned()), named, "{line}");
        let words = [&line["application_name"], &line["devices"], &line["limits_left"]].map(Value::to_string);
        let other = if letter == "a" { "-b\"" } else { "-a\"" };
        assert!(!words.concat().contains(other), "{letter}: {line}");
        if line["event"] == "admitted" {
            assert!(words[2].contains(&format!("extra-{letter}")), "{line}");
        } else if line["event"] == "refused" {
            assert_eq!(letter, "b", "{line}");
        }
    }
    assert_eq!(loads, CHANGES + 1);
    assert!(calls > CHANGES * 24, "{calls}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_written_in_place_change_the_policy_under_load_without_a_failed_or_mixed_answer() {
    changes_under_load(Way::InPlace, Folder::new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_renamed_over_others_change_the_policy_under_load_without_a_failed_or_mixed_answer() {
    changes_under_load(Way::RenameOver, Folder::new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_swapped_as_kubernetes_does_changes_the_policy_under_load_without_a_failed_or_mixed_answer() {
    changes_under_load(Way::LinkSwap, Folder::of_links).await;
}
