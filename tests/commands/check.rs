//! `tollgate check`.

mod mistakes;

use serde_json::{Value, json};
use tollgate::snapshot::version;

use mistakes::{APPLICATIONS, DEVICE_GROUPS, DEVICES, ISSUERS, KEYS, LIMITS, OPERATIONS, ROLES};

use super::{policy_folder, run};
use crate::support::gateway::policy;
use crate::support::process::text;

#[tokio::test]
async fn every_kind_of_mistake_is_printed_with_its_file_line_and_column() {
    for (file, mistakes) in [OPERATIONS, ISSUERS, KEYS, ROLES, DEVICE_GROUPS, APPLICATIONS, LIMITS, DEVICES] {
        for (what, from, to, printed) in mistakes {
            let folder = policy_folder();
            let path = folder.path().join(file);
            let right = std::fs::read_to_string(&path).unwrap();
            let wrong = if from.is_empty() { right.clone() + to } else { right.replacen(from, to, 1) };
            std::fs::write(&path, &wrong).unwrap();

            let ended = run(&["check", text(folder.path())]).await;

            assert_eq!((ended.code, ended.out.len()), (Some(1), 0), "{file}, {what}: {ended:#?}");
            let said = format!("{file}{printed}");
            assert!(ended.err.iter().any(|line| line.starts_with(&said)), "{what}: {said}, got {ended:#?}");
        }
    }
}

#[tokio::test]
async fn every_mistake_of_every_file_is_printed_at_once_in_the_order_of_files_and_lines() {
    let folder = policy_folder();
    for (file, mistakes) in [(ROLES.0, &ROLES.1[..4]), (DEVICES.0, &DEVICES.1[2..])] {
        let path = folder.path().join(file);
        let wrong =
            mistakes.iter().fold(std::fs::read_to_string(&path).unwrap(), |text, (_, from, to, _)| {
                text.replacen(from, to, 1)
            });
        std::fs::write(path, wrong).unwrap();
    }
    std::fs::remove_file(folder.path().join("limits.toml")).unwrap();

    let ended = run(&["check", text(folder.path())]).await;

    let (sum, lines) = ended.err.split_last().unwrap();
    assert_eq!(sum, "7 mistakes in 3 files");
    // Below the line of each stand its own line of the file, which begins with a number, and a hint.
    let beginnings = lines.iter().filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic()));
    let said: Vec<_> = beginnings.map(|line| line.split(": ").next().unwrap()).collect();
    let devices = ["devices.csv:2:1", "devices.csv:4:1"];
    let roles = ["roles.toml:3:17", "roles.toml:4:17", "roles.toml:5:17", "roles.toml:8:16"];
    let expected = [&devices[..], &["limits.toml"], &roles].concat();
    assert_eq!((ended.code, said), (Some(1), expected), "{ended:#?}");
}

#[tokio::test]
async fn a_file_that_is_not_text_is_printed_with_the_place_where_it_stops_to_be() {
    let folder = policy_folder();
    std::fs::write(folder.path().join("roles.toml"), b"# All roles\n# \xc3\xa4\xff\n").unwrap();
    let ended = run(&["check", text(folder.path())]).await;
    assert_eq!((ended.code, ended.err[0].as_str()), (Some(1), "roles.toml:2:4: not UTF-8 text from here on"));
}

#[tokio::test]
async fn a_right_set_is_summed_up_with_the_memory_that_it_may_take_and_exit_code_0() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/policies");
    let ended = run(&["check", shipped]).await;
    let (Some(0), [line, memory, survives], []) = (ended.code, ended.out.as_slice(), ended.err.as_slice())
    else {
        panic!("{ended:#?}")
    };
    assert!(
        line.starts_with("policy ") && line.contains(" operations, ") && line.ends_with(" 2 issuers"),
        "{line}"
    );
    // A million keys of 165 bytes and 1,500 times of 4.
    assert_eq!(memory, "limiter: at most 1000000 keys, 5880 MiB if all of them are full");
    assert!(survives.contains("early if that was set forward meanwhile"), "{survives}");

    let folder = policy_folder();
    let ended = run(&["check", text(folder.path())]).await;
    let held = "6 operations, 2 roles, 2 device groups, 2 applications, 3 devices, 2 limits, 2 issuers";
    assert_eq!(
        (ended.code, ended.out),
        (Some(0), vec![format!("policy {}: {held}", version(&policy())), memory.clone(), survives.clone()])
    );
}

#[tokio::test]
async fn a_folder_that_cannot_be_read_is_one_line_with_exit_code_2() {
    for folder in ["/no/policies", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")] {
        let ended = run(&["check", folder]).await;
        let (Some(2), [], [line]) = (ended.code, ended.out.as_slice(), ended.err.as_slice()) else {
            panic!("{ended:#?}")
        };
        assert!(line.starts_with(&format!("error: cannot read `{folder}`: ")), "{line}");
    }
}

#[tokio::test]
async fn a_mistake_is_shown_in_its_line_with_a_caret_and_a_hint() {
    let folder = policy_folder();
    let path = folder.path().join("roles.toml");
    let text_of =
        std::fs::read_to_string(&path).unwrap().replace("Alerts investigation", "Alert investigation");
    std::fs::write(path, text_of).unwrap();

    let ended = run(&["check", text(folder.path())]).await;

    let expected = [
        "roles.toml:3:30: unknown role permission `Alert investigation`",
        "  |",
        "3 | permissions  = [\"View data\", \"Alert investigation\"]",
        "  |                              ^^^^^^^^^^^^^^^^^^^^^",
        "  = did you mean `Alerts investigation`?",
        "",
        "1 mistake in 1 file",
    ];
    assert_eq!((ended.code, ended.out.len(), ended.err), (Some(1), 0, expected.map(str::to_owned).to_vec()));
}

#[tokio::test]
async fn a_file_that_nobody_reads_is_a_mistake() {
    let folder = policy_folder();
    std::fs::write(folder.path().join("limit.toml"), "").unwrap();
    let ended = run(&["check", text(folder.path())]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.err[0].starts_with("limit.toml: no part of the policy reads this file"), "{ended:#?}");
    assert_eq!(ended.err[1], " = did you mean `limits.toml`?");
}

#[tokio::test]
async fn programs_get_one_object_whatever_is_found() {
    let folder = policy_folder();
    let ended = run(&["check", text(folder.path()), "--format", "json"]).await;
    let report: Value = serde_json::from_str(&ended.out.concat()).unwrap();
    assert_eq!(ended.code, Some(0));
    assert_eq!(report["policy"]["version"], *version(&policy()));
    assert_eq!(report["policy"]["holds"]["operations"], 6);
    assert_eq!((&report["mistakes"], &report["warnings"]), (&json!([]), &json!([])));

    let path = folder.path().join("applications.toml");
    let applications = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("unlisted = \"permission\"\n{applications}")).unwrap();
    let ended = run(&["check", text(folder.path()), "--format", "json"]).await;
    let report: Value = serde_json::from_str(&ended.out.concat()).unwrap();
    assert_eq!(ended.code, Some(0));
    assert_eq!(report["warnings"][0]["file"], "applications.toml");

    std::fs::write(&path, applications.replace("list_devices", "list_device")).unwrap();
    let ended = run(&["check", text(folder.path()), "--format", "json"]).await;
    let report: Value = serde_json::from_str(&ended.out.concat()).unwrap();
    assert_eq!((ended.code, &report["policy"], &report["warnings"]), (Some(1), &Value::Null, &json!([])));
    assert_eq!(
        report["mistakes"],
        json!([{
            "file": "applications.toml", "line": 4, "column": 59, "width": 13,
            "text": "operations    = [\"collect\", \"package_uri\", \"upload_file\", \"list_device\"]",
            "message": "unknown operation `list_device`", "hint": "did you mean `list_devices`?",
        }])
    );
}

/// A limit and its shares that name an operation, an application and a role of the small set.
const NAMING: &str = r#"
[[documented]]
operation = "collect"
share     = { "Responder" = { part = "30%", idle = "kept" } }

[[limit]]
name       = "collect-per-tenant"
operations = ["collect", "package_uri"]
per        = ["tenant"]
windows    = ["300 per minute"]
cost       = { collect = 5 }
share      = { "playbooks" = { part = "30%", idle = "lent" } }
"#;

#[tokio::test]
async fn a_mistake_of_what_others_name_is_told_once_and_they_are_not_blamed() {
    for (file, from, to, printed) in [
        ("operations.toml", "\"Alerts investigation\"", "\"Alert investigation\"", "unknown role permission"),
        ("operations.toml", "\"100 per minute\", ", "\"100 a minute\", ", "is not a rate"),
        ("operations.toml", "name        = \"collect\"\n", "", "missing field `name`"),
        ("operations.toml", "method      = \"POST\"", "method = \"PUSH\"", "unknown variant `PUSH`"),
        ("operations.toml", "[[operation]]", "[[operatoin]]", "unknown key `operatoin`"),
        ("operations.toml", "name        = \"collect\"", "name = \"collect", "invalid basic string"),
        ("device-groups.toml", "rank  = 2", "rank  = 0", "invalid value: integer `0`"),
        ("device-groups.toml", "match = {", "match = ", ""),
        (
            "roles.toml",
            "name         = \"Responder\"",
            "name = \"Responder\"\nuser = []",
            "unknown field `user`",
        ),
        (
            "applications.toml",
            "name          = \"playbooks\"",
            "name = \"playbooks\"\nid2 = 1",
            "unknown field `id2`",
        ),
    ] {
        let folder = policy_folder();
        std::fs::write(folder.path().join("limits.toml"), NAMING).unwrap();
        let right = run(&["check", text(folder.path())]).await;
        assert_eq!(right.code, Some(0), "{right:#?}");
        let path = folder.path().join(file);
        let said = std::fs::read_to_string(&path).unwrap();
        assert!(said.contains(from), "{file} does not say {from:?}");
        std::fs::write(&path, said.replacen(from, to, 1)).unwrap();

        let ended = run(&["check", text(folder.path())]).await;

        let blamed: Vec<_> = ended.err.iter().filter(|line| line.contains(".toml:")).collect();
        assert!(blamed.iter().all(|line| line.starts_with(file)), "{file}, {to}: {ended:#?}");
        assert!(blamed.iter().any(|line| line.contains(printed)), "{file}, {to}: {ended:#?}");
    }
}

#[tokio::test]
async fn what_is_named_and_nowhere_to_be_found_is_told_beside_a_mistake_of_something_else() {
    let folder = policy_folder();
    for (file, from, to) in [
        ("operations.toml", "\"Alerts investigation\"", "\"Alert investigation\""),
        ("applications.toml", "\"package_uri\"", "\"package_url\""),
        ("applications.toml", "[\"Workstations\"]", "[\"Workstation\"]"),
    ] {
        let path = folder.path().join(file);
        let said = std::fs::read_to_string(&path).unwrap();
        assert!(said.contains(from), "{file} does not say {from:?}");
        std::fs::write(&path, said.replacen(from, to, 1)).unwrap();
    }
    let ended = run(&["check", text(folder.path())]).await;
    let told: Vec<_> = ended.err.iter().filter(|line| line.contains(".toml:")).collect();
    let expected =
        ["unknown operation `package_url`", "unknown device group `Workstation`", "unknown role permission"];
    assert_eq!(told.len(), expected.len(), "{ended:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.contains(expected), "{ended:#?}");
    }
}

#[tokio::test]
async fn a_tenant_that_no_issuer_speaks_for_is_pointed_out() {
    let folder = policy_folder();
    let only =
        "tenants = [\"00000000-0000-0000-0000-00000000007e\", \"00000000-0000-0000-0000-0000000000ff\"]";
    for (file, from) in
        [("roles.toml", "name         = \"Reader\""), ("applications.toml", "name          = \"playbooks\"")]
    {
        let path = folder.path().join(file);
        let said = std::fs::read_to_string(&path).unwrap();
        assert!(said.contains(from), "{file} does not say {from:?}");
        std::fs::write(&path, said.replacen(from, &format!("{from}\n{only}"), 1)).unwrap();
    }
    let ended = run(&["check", text(folder.path())]).await;
    let told: Vec<_> = ended.out.iter().filter(|line| line.contains("for the tenant")).collect();
    let expected = ["applications.toml:3:17: the entry of `playbooks`", "roles.toml:8:16: the role `Reader`"]
        .map(|what| {
            format!(
                "warning: {what} is for the tenant 00000000-0000-0000-0000-0000000000ff, whose tokens no issuer of issuers.toml may sign"
            )
        });
    assert_eq!((ended.code, told), (Some(0), expected.iter().collect()), "{ended:#?}");
}
