//! `tollgate diff`.

mod fields;
mod replay;

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use tollgate::snapshot::version;

use super::{policy_folder, run};
use crate::support::gateway::policy;
use crate::support::process::{Ended, text};

/// The small set with these edits.
fn edited(edits: &[(&str, &str, &str)]) -> TempDir {
    let folder = policy_folder();
    for (file, from, to) in edits {
        let path = folder.path().join(file);
        let said = std::fs::read_to_string(&path).unwrap();
        assert!(said.contains(from), "{file} does not say {from:?}");
        std::fs::write(path, said.replace(from, to)).unwrap();
    }
    folder
}

async fn diff(old: &Path, new: &Path, more: &[&str]) -> Ended {
    run(&[&["diff", text(old), text(new)], more].concat()).await
}

#[tokio::test]
async fn sets_that_decide_alike_do_not_differ_whatever_their_text() {
    let (old, new) = (policy_folder(), edited(&[("roles.toml", "[[role]]", "# A role.\n[[role]]")]));
    let ended = diff(old.path(), new.path(), &[]).await;
    assert_eq!((ended.code, ended.out), (Some(0), vec!["nothing changes".to_owned()]));
}

/// The groups of these names, each open to one Entra group.
fn ranked(names: &[&str]) -> TempDir {
    let folder = policy_folder();
    let path = folder.path().join("device-groups.toml");
    let mut said = std::fs::read_to_string(&path).unwrap();
    for (name, rank) in names.iter().zip(100..) {
        said += &format!(
            "[[device_group]]\nname = \"{name}\"\nrank = {rank}\nmatch = {{ name = [\"equals {name}\"] }}\n"
        );
        said += "entra_groups = [\"00000000-0000-0000-0000-0000000000e3\"]\n";
    }
    std::fs::write(path, said).unwrap();
    folder
}

#[tokio::test]
async fn a_group_that_moves_is_told_and_one_that_comes_or_goes_moves_no_other() {
    let old = ranked(&["a", "b", "c", "d"]);
    for (new, moves) in [
        (&["x", "a", "c", "d"][..], &[][..]),
        (&["b", "c", "d", "a"], &["  ~ `a` is right above `Ungrouped devices (default)` now"]),
        (&["d", "a", "b", "c"], &["  ~ `d` is right above `a` now"]),
        (&["d", "x", "b", "a", "c"], &["  ~ `d` is right above `b` now", "  ~ `b` is right above `a` now"]),
    ] {
        let ended = diff(old.path(), ranked(new).path(), &[]).await;
        let said: Vec<_> = ended.out.iter().filter(|line| line.contains("right above")).collect();
        assert_eq!(said, moves, "{new:?}");
        assert_eq!(ended.out.contains(&"ranks of device groups".to_owned()), !moves.is_empty());
    }
}

#[tokio::test]
async fn each_change_is_told_of_whom_it_is_about() {
    for (file, from, to, expected) in [
        (
            "roles.toml",
            "[\"View data\", \"Alerts investigation\"]",
            "[\"View data\"]",
            &[
                "Entra group 00000000-0000-0000-0000-0000000000e1",
                "  - may call `collect`",
                "  - may call `package_uri`",
                "user 00000000-0000-0000-0000-0000000000b9",
                "  - may call `collect`",
                "  - may call `package_uri`",
            ][..],
        ),
        (
            "applications.toml",
            "[\"Workstations\"]",
            "[\"Workstations\", \"Executives\"]",
            &[
                "application `playbooks` (00000000-0000-0000-0000-0000000000a1)",
                "  + may act on the device group `Executives`",
            ],
        ),
        (
            "applications.toml",
            "\"package_uri\", ",
            "",
            &[
                "application `playbooks` (00000000-0000-0000-0000-0000000000a1)",
                "  - may be used to call `package_uri`",
            ],
        ),
        (
            "device-groups.toml",
            "0000000000e3",
            "0000000000e4",
            &[
                "Entra group 00000000-0000-0000-0000-0000000000e3",
                "  - opens the device group `Executives`",
                "Entra group 00000000-0000-0000-0000-0000000000e4",
                "  + opens the device group `Executives`",
            ],
        ),
        (
            "device-groups.toml",
            "starts with EXEC-",
            "starts with CEO-",
            &[
                "device group `Executives`",
                "  - holds devices whose name starts with `exec-`",
                "  + holds devices whose name starts with `ceo-`",
                "devices",
                "  ~ 2222222222222222222222222222222222222222 is in `Workstations`, and was in `Executives`",
            ],
        ),
        (
            "operations.toml",
            "100 per minute",
            "90 per minute",
            &["limit `collect`", "  - lets 100 per 00:01:00 through", "  + lets 90 per 00:01:00 through"],
        ),
        (
            "operations.toml",
            "1500 per hour",
            "1600 per hour",
            &[
                "limit `collect`",
                "  - lets 1500 per 01:00:00 through",
                "  + lets 1600 per 01:00:00 through",
                "  ~ lacks times that it had no use for before, which count as not admitted: that heals within 1h",
            ],
        ),
        (
            "operations.toml",
            "[\"Machine.Read.All\", \"Machine.ReadWrite.All\"]",
            "[\"Machine.Read.All\"]",
            &[
                "operation `read_device`",
                "  - asks for permission of an application `Machine.Read.All`, `Machine.ReadWrite.All`",
                "  + asks for permission of an application `Machine.Read.All`",
            ],
        ),
        (
            "issuers.toml",
            "fc780465-2017-40d4-a0c5-307022471b92",
            "https://api.example",
            &[
                "issuer `v2`",
                "  - may name the audience fc780465-2017-40d4-a0c5-307022471b92",
                "  + may name the audience https://api.example",
            ],
        ),
        (
            "devices.csv",
            "3333333333333333333333333333333333333333,odd-1.test.example,test.example,Linux,,\n",
            "",
            &[
                "devices",
                "  - 3333333333333333333333333333333333333333 in `Ungrouped devices (default)`, called `odd-1.test.example`",
            ],
        ),
    ] {
        let (old, new) = (policy_folder(), edited(&[(file, from, to)]));
        let ended = diff(old.path(), new.path(), &[]).await;
        assert_eq!(ended.out, expected, "{file}, {to}: {ended:#?}");
        let count = expected.iter().filter(|line| line.starts_with("  ")).count();
        let sum = if count == 1 { "1 difference".to_owned() } else { format!("{count} differences") };
        assert_eq!((ended.code, ended.err), (Some(1), vec![sum]), "{file}, {to}");
    }
    let (old, new) = (policy_folder(), policy_folder());
    let path = new.path().join("applications.toml");
    let said = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("unlisted = \"permission\"\n{said}")).unwrap();
    let ended = diff(old.path(), new.path(), &[]).await;
    let expected = [
        "everybody",
        "  - applications without an entry are refused",
        "  + the permissions of applications without an entry decide",
    ];
    assert_eq!(ended.out, expected);
}

/// A line of the audit, of a collection at this second.
fn line(second: u32, reason: Option<&str>, device: &str, user: Option<&str>) -> String {
    let mut line = json!({
        "time": format!("2026-11-24T10:00:{second:02}.000Z"),
        "event": if reason.is_some() { "refused" } else { "admitted" },
        "operation": "collect",
        "devices": [{ "device": device }],
        "tenant": "00000000-0000-0000-0000-00000000007e",
        "application": "00000000-0000-0000-0000-0000000000a1",
        "application_name": "playbooks",
        "permissions": ["Machine.CollectForensics"],
        "policy_version": version(&policy()).to_string(),
    });
    if let Some(reason) = reason {
        line["reason"] = json!(reason);
    }
    if let Some(user) = user {
        line["user"] = json!(user);
        line["application"] = json!("00000000-0000-0000-0000-0000000000a2");
        line["groups"] = json!(["00000000-0000-0000-0000-0000000000e1"]);
    }
    format!("{line}\n")
}

#[tokio::test]
async fn the_decisions_of_an_audit_that_would_differ_are_listed_and_no_others() {
    let files = tempfile::tempdir().unwrap();
    let audit = files.path().join("audit.jsonl");
    let analyst = "00000000-0000-0000-0000-0000000000b1";
    let lines = [
        line(0, None, "ws-1", None),
        line(1, None, "ws-1", None),
        line(2, None, "ws-1", None),
        line(3, Some("device_group"), "exec-1", None),
        line(4, Some("unknown_device"), "ws-9", None),
        line(5, None, "ws-1", Some(analyst)),
        line(6, Some("device_group"), "exec-1", Some(analyst)),
        json!({ "time": "2026-11-24T10:00:07Z", "event": "ended", "operation": "collect" }).to_string()
            + "\n",
        line(8, Some("missing_parameter"), "ws-1", None),
        json!({ "time": "2026-11-24T10:00:09Z", "event": "refused", "reason": "no_token" }).to_string()
            + "\n",
    ];
    std::fs::write(&audit, lines.concat()).unwrap();

    let old = policy_folder();
    let ended = diff(old.path(), policy_folder().path(), &["--audit", text(&audit)]).await;
    let summary = [
        "",
        "7 decisions were made again, 0 differ",
        "left out 1: no decision: the end of a call, or no call at all",
        "left out 2: not decided by the policy: refused for the request, its token or its body",
        "nothing changes",
    ];
    assert_eq!((ended.code, ended.out), (Some(0), summary.map(str::to_owned).to_vec()));

    // Two a minute now, executives for playbooks too and for a group that the lines do not know.
    let new = edited(&[
        ("operations.toml", "\"100 per minute\", \"1500 per hour\"", "\"2 per minute\""),
        ("applications.toml", "[\"Workstations\"]", "[\"Workstations\", \"Executives\"]"),
        ("device-groups.toml", "0000000000e3", "0000000000e4"),
    ]);
    let ended = diff(old.path(), new.path(), &["--audit", text(&audit)]).await;
    let told: Vec<_> = ended.out.iter().filter(|line| line.starts_with("2026-")).collect();
    let user = format!("user {analyst} through playbooks");
    assert_eq!(
        told,
        [
            "2026-11-24T10:00:02.000Z application playbooks calls `collect` on ws-1: was `admitted`, would be `over_limit`",
            "2026-11-24T10:00:03.000Z application playbooks calls `collect` on exec-1: was `device_group`, would be `over_limit`",
            &format!(
                "2026-11-24T10:00:06.000Z {user} calls `collect` on exec-1: was `device_group`, would be `device_group`, or `admitted` for a user in the groups that only the new set names"
            ),
        ]
    );
    assert!(ended.out.contains(&"7 decisions were made again, 3 differ".to_owned()), "{:#?}", ended.out);
}

#[tokio::test]
async fn a_set_with_mistakes_or_a_file_that_is_no_audit_is_not_compared() {
    let (old, new) = (policy_folder(), edited(&[("roles.toml", "View data", "View date")]));
    let ended = diff(old.path(), new.path(), &[]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.err[0].starts_with("roles.toml:3:17: unknown role permission `View date`"), "{ended:#?}");

    let audit = text(&old.path().join("limits.toml")).to_owned();
    let ended = diff(old.path(), old.path(), &["--audit", &audit]).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.err[0].starts_with(&format!("error: `{audit}`, line 1: ")), "{ended:#?}");
    let ended = diff(old.path(), Path::new("/no/policies"), &[]).await;
    assert_eq!(ended.code, Some(2));
}

#[tokio::test]
async fn what_enforcing_a_set_that_is_tried_would_refuse_is_listed_call_by_call() {
    let (tried, enforced) = (policy_folder(), policy_folder());
    std::fs::write(tried.path().join("policy.toml"), "enforce = false").unwrap();
    let line = |device: &str| {
        json!({
            "time": "2026-11-24T10:00:00.000Z",
            "event": "admitted",
            "decision": "admitted",
            "operation": "collect",
            "devices": [{ "device": device }],
            "tenant": "00000000-0000-0000-0000-00000000007e",
            "application": "00000000-0000-0000-0000-0000000000a1",
            "application_name": "playbooks",
            "permissions": ["Machine.CollectForensics"],
        })
        .to_string()
    };
    let audit = tried.path().join(".audit.jsonl");
    std::fs::write(&audit, [line("exec-1"), line("ws-1"), line("odd-1")].join("\n")).unwrap();
    let ended = diff(tried.path(), enforced.path(), &["--audit", text(&audit)]).await;
    let expected = [
        "everybody",
        "  + what the policy refuses is refused",
        "  - what the policy refuses is noted, and passes: nothing of it is enforced",
    ];
    for said in expected {
        assert!(ended.out.contains(&said.to_owned()), "{said}: {ended:#?}");
    }
    assert!(!ended.out.iter().any(|line| line.contains("on trial")), "{ended:#?}");
    let calls: Vec<_> = ended.out.iter().filter(|line| line.contains(" calls ")).collect();
    let would = |device: &str| {
        format!(
            "2026-11-24T10:00:00.000Z application playbooks calls `collect` on {device}: was `admitted` with `device_group` not enforced, would be `device_group`"
        )
    };
    assert_eq!(calls, [&would("exec-1"), &would("odd-1")]);
    // To go back is to be told the same.
    let ended = diff(enforced.path(), tried.path(), &["--audit", text(&audit)]).await;
    assert_eq!(ended.out.iter().filter(|line| line.contains(" calls ")).count(), 2, "{ended:#?}");
    let ended = diff(tried.path(), tried.path(), &["--audit", text(&audit)]).await;
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

#[tokio::test]
async fn a_tenant_to_which_an_entry_or_a_role_is_confined_is_told() {
    let only = "tenants = [\"00000000-0000-0000-0000-00000000007e\"]";
    let new = edited(&[
        ("roles.toml", "[\"View data\"]", &format!("[\"View data\"]\n{only}")),
        ("applications.toml", "name          = \"playbooks\"", &format!("name = \"playbooks\"\n{only}")),
    ]);
    let ended = diff(policy_folder().path(), new.path(), &[]).await;
    for said in [
        "application `playbooks` (00000000-0000-0000-0000-0000000000a1)",
        "  + has this entry in the tenants 00000000-0000-0000-0000-00000000007e alone",
        "Entra group 00000000-0000-0000-0000-0000000000e2",
        "  - holds the role `Reader`",
        "  + holds the role `Reader` in the tenants 00000000-0000-0000-0000-00000000007e",
    ] {
        assert!(ended.out.contains(&said.to_owned()), "{said}: {ended:#?}");
    }
}

#[tokio::test]
async fn of_many_devices_of_which_the_same_changes_some_are_named_and_the_others_counted() {
    let (old, new) = (policy_folder(), policy_folder());
    let path = new.path().join("devices.csv");
    let mut said = std::fs::read_to_string(&path).unwrap();
    for number in 0..50 {
        said += &format!("{:040x},new-{number},test.example,Windows11,,\n", 0xf000 + number);
    }
    std::fs::write(path, said).unwrap();
    for (old, new, sign, what) in [
        (&old, &new, "+", "are new in the inventory"),
        (&new, &old, "-", "are not in the inventory any more"),
    ] {
        let ended = diff(old.path(), new.path(), &[]).await;
        assert_eq!((&*ended.out[0], ended.out.len()), ("devices", 22), "{ended:#?}");
        let first = format!("  {sign} {:040x} in `Workstations`, called `new-0.test.example`", 0xf000);
        assert_eq!((&ended.out[1], &ended.out[21]), (&first, &format!("  {sign} 30 more {what}")));
        assert_eq!(ended.err, ["21 differences"]);
    }
}
