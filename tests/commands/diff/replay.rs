//! What a replay can tell, and that nothing is hidden of what it cannot.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate::reload::PolicySource;
use tollgate::snapshot::version;

use super::{diff, edited};
use crate::commands::{policy_folder, run};
use crate::support::process::{Ended, text};

/// The small set with more in two of its files.
fn with(limits: &str, devices: &str) -> TempDir {
    let folder = policy_folder();
    for (file, more) in [("limits.toml", limits), ("devices.csv", devices)] {
        let path = folder.path().join(file);
        let said = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, said + more).unwrap();
    }
    folder
}

/// A line of a call of `playbooks` under this set, which it decided so.
fn decided(set: &Path, second: u32, operation: &str, devices: &[&str], reason: Option<&str>) -> Value {
    let files = PolicySource::Folder(set.to_owned()).files().unwrap();
    let devices: Vec<_> = devices.iter().map(|device| json!({ "device": device })).collect();
    let mut line = json!({
        "time": format!("2026-11-24T10:00:{second:02}.000Z"),
        "event": if reason.is_some() { "refused" } else { "admitted" },
        "operation": operation,
        "devices": devices,
        "tenant": "00000000-0000-0000-0000-00000000007e",
        "application": "00000000-0000-0000-0000-0000000000a1",
        "application_name": "playbooks",
        "permissions": ["Machine.CollectForensics", "Machine.ReadWrite.All"],
        "policy_version": version(&files).to_string(),
    });
    if let Some(reason) = reason {
        line["reason"] = json!(reason);
    }
    line
}

async fn replayed(old: &Path, new: &Path, lines: &[Value]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
    std::fs::write(&audit, lines.join("\n")).unwrap();
    diff(old, new, &["--audit", text(&audit)]).await
}

/// What is said of calls.
fn calls(ended: &Ended) -> Vec<&str> {
    ended.out.iter().filter(|line| line.contains(" calls `")).map(|line| &line[25..]).collect()
}

#[tokio::test]
async fn a_device_whose_name_is_encoded_in_a_path_is_called_as_it_was() {
    let device = "4444444444444444444444444444444444444444,büro-1,test.example,Windows11,,\n";
    let old = with("", device);
    let line = decided(old.path(), 0, "collect", &["büro-1"], None);
    let ended = replayed(old.path(), old.path(), std::slice::from_ref(&line)).await;
    assert_eq!((ended.code, calls(&ended).len()), (Some(0), 0), "{ended:#?}");

    let new = with("", device);
    let path = new.path().join("applications.toml");
    let said = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, said.replace("[\"Workstations\"]", "[\"Executives\"]")).unwrap();
    let ended = replayed(old.path(), new.path(), std::slice::from_ref(&line)).await;
    let expected = "application playbooks calls `collect` on büro-1: was `admitted`, would be `device_group`";
    assert_eq!(calls(&ended), [expected], "{ended:#?}");

    let explained = run(&["explain", "--policies", text(old.path()), "--audit", &line.to_string()]).await;
    assert_eq!(
        (explained.code, explained.out.last().map(String::as_str)),
        (Some(0), Some("admitted")),
        "{explained:#?}"
    );
}

#[tokio::test]
async fn an_action_has_ended_where_the_audit_shows_that_one_must_have() {
    let limit = |most: u32| {
        format!(
            "[[limit]]\nname = \"actions\"\noperations = [\"collect\"]\nper = [\"tenant\"]\nopen_actions = {most}\n"
        )
    };
    let old = with(&limit(2), "");
    let mut lines: Vec<_> =
        (0..30).map(|second| decided(old.path(), second, "collect", &["ws-1"], None)).collect();
    lines.push(decided(old.path(), 30, "collect", &["ws-1"], Some("open_actions")));
    let ended = replayed(old.path(), old.path(), &lines).await;
    assert_eq!((ended.code, calls(&ended).len()), (Some(0), 0), "{ended:#?}");
    assert!(ended.out.contains(&"31 decisions were made again, 0 differ".to_owned()), "{ended:#?}");

    // One at a time: where two were under way, the second is refused.
    let ended = replayed(old.path(), with(&limit(1), "").path(), &lines[..2]).await;
    let expected = "application playbooks calls `collect` on ws-1: was `admitted`, would be `open_actions`";
    assert_eq!(calls(&ended), [expected], "{ended:#?}");
}

#[tokio::test]
async fn names_that_fit_several_devices_are_named_once_in_a_body() {
    let tag = r#"
[[operation]]
name        = "tag"
method      = "PUT"
path        = "/api/machines/tags"
application = ["Machine.ReadWrite.All"]
delegated   = []
body        = { type = "application/json", required = {}, devices = "MachineIds" }
"#;
    let set = || {
        let mut devices = String::new();
        for number in 0..600 {
            devices += &format!("{:040x},twin-{},test.example,Windows11,,\n", 0xf000 + number, number % 300);
        }
        let folder = with("", &devices);
        let (operations, applications) =
            (folder.path().join("operations.toml"), folder.path().join("applications.toml"));
        let said = std::fs::read_to_string(&operations).unwrap();
        std::fs::write(operations, said + tag).unwrap();
        let said = std::fs::read_to_string(&applications).unwrap();
        std::fs::write(applications, said.replace("[\"collect\", ", "[\"collect\", \"tag\", ")).unwrap();
        folder
    };
    let old = set();
    let names: Vec<_> = (0..600).map(|number| format!("twin-{}", number / 2)).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let line = decided(old.path(), 0, "tag", &names, None);
    let ended = replayed(old.path(), set().path(), &[line]).await;
    assert_eq!((ended.code, calls(&ended).len()), (Some(0), 0), "{ended:#?}");
}

#[tokio::test]
async fn what_a_replay_decides_otherwise_than_the_audit_has_it_is_listed_also_where_both_sets_agree() {
    let set = policy_folder();
    let reasons = ["over_limit", "in_flight", "open_actions", "stale_inventory", "keys_full"];
    let lines: Vec<_> = reasons
        .into_iter()
        .zip(0..)
        .map(|(reason, second)| decided(set.path(), second, "collect", &["ws-1"], Some(reason)))
        .chain([decided(set.path(), 9, "collect", &["exec-1"], None)])
        .collect();
    let ended = replayed(set.path(), policy_folder().path(), &lines).await;
    let listed = |device: &str, was: &str, is: &str| {
        format!(
            "application playbooks calls `collect` on {device}: cannot be replayed faithfully: was `{was}`, and `{is}` in the replay"
        )
    };
    let mut expected: Vec<_> = reasons.map(|reason| listed("ws-1", reason, "admitted")).to_vec();
    expected.push(listed("exec-1", "admitted", "device_group"));
    assert_eq!(calls(&ended), expected, "{ended:#?}");
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.err, ["6 decisions cannot be replayed faithfully"]);
    let counted = "not decided in the replay by the old set as they were: 6".to_owned();
    assert!(ended.out.contains(&counted), "{ended:#?}");

    // Another version may have decided otherwise: that is no fault of the replay.
    let other = edited(&[("operations.toml", "100 per minute", "99 per minute")]);
    let ended = replayed(other.path(), other.path(), &lines).await;
    assert_eq!((ended.code, calls(&ended).len()), (Some(0), 0), "{ended:#?}");
    let counted = "made under another version than that of the old set: 6".to_owned();
    assert!(ended.out.contains(&counted), "{ended:#?}");
}
