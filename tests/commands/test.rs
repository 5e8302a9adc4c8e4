//! `tollgate test`.

use std::path::Path;

use tempfile::TempDir;
use tollgate::sandbox::shipped;
use tollgate::time::Clock;

use super::{policy_folder, run};
use crate::support::gateway::{Setup, bearer, portal, write_policy};
use crate::support::process::{Ended, text};
use crate::support::upstream::{Answer, RecordingUpstream};

/// A policy folder with the small set and one file of cases: line 1 is the first of `cases`.
fn folder_with(cases: &str) -> TempDir {
    let folder = policy_folder();
    std::fs::create_dir(folder.path().join("tests")).unwrap();
    std::fs::write(folder.path().join("tests/cases.toml"), cases).unwrap();
    folder
}

/// The shipped set and its cases, with some text of one file replaced.
fn shipped_with(name: &str, from: &str, to: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("operations")).unwrap();
    write_policy(&shipped::files(), folder.path());
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/tests");
    std::fs::create_dir(folder.path().join("tests")).unwrap();
    for entry in std::fs::read_dir(cases).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join("tests").join(path.file_name().unwrap())).unwrap();
    }
    let file = folder.path().join(name);
    let said = std::fs::read_to_string(&file).unwrap();
    assert!(said.contains(from), "{name} does not say {from:?}");
    std::fs::write(file, said.replacen(from, to, 1)).unwrap();
    folder
}

const CALLERS: &str = r#"
[[caller]]
name        = "responder"
application = "portal"
user        = "00000000-0000-0000-0000-0000000000b1"
permissions = ["Machine.CollectForensics", "Machine.Read"]
groups      = ["00000000-0000-0000-0000-0000000000e1"]

[[caller]]
name        = "playbooks"
application = "playbooks"
permissions = ["Machine.CollectForensics"]
"#;

fn printed(ended: &Ended) -> String {
    ended.out.join("\n")
}

#[tokio::test]
async fn the_shipped_set_passes_its_cases_which_touch_every_operation_role_group_and_application() {
    let ended = run(&["test", concat!(env!("CARGO_MANIFEST_DIR"), "/policies")]).await;
    assert_eq!((ended.code, ended.err.len()), (Some(0), 0), "{ended:#?}");
    let passed = ended.out.last().unwrap().strip_prefix("ok: ").unwrap().strip_suffix(" passed").unwrap();
    assert!(passed.parse::<usize>().unwrap() >= 150, "{passed}");
    let touched = "touched: 113 of 113 operations, 5 of 5 roles, 4 of 4 device groups, 3 of 3 applications, ";
    assert!(printed(&ended).contains(touched), "{ended:#?}");
    // Nobody may make these three calls.
    let untouched: Vec<_> = ended.out.iter().filter(|line| line.starts_with("no case touches")).collect();
    assert_eq!(untouched.len(), 3, "{untouched:#?}");
}

#[tokio::test]
async fn a_changed_set_fails_the_cases_that_the_change_is_about() {
    for (file, from, to, case) in [
        (
            "applications.toml",
            "unlisted = \"refuse\"",
            "unlisted = \"permission\"",
            "nobody listed may do nothing",
        ),
        (
            "applications.toml",
            "[\"Servers\", \"Workstations\"]",
            "\"all\"",
            "playbooks leave executives alone",
        ),
        ("applications.toml", "\"get_machine\",", "", "playbooks read a server"),
        ("device-groups.toml", "starts with EXEC-", "starts with CEO-", "is for those who look after it"),
        (
            "device-groups.toml",
            "unknown_device = \"refuse\"",
            "unknown_device = \"ungrouped\"",
            "lacks is not there",
        ),
        (
            "device-groups.toml",
            "unknown_action = \"refuse\"",
            "unknown_action = \"forward\"",
            "has no device",
        ),
        ("roles.toml", "\"Alerts investigation\", ", "", "a responder closes an alert"),
        ("limits.toml", "30 per minute", "40 per minute", "one user has 30 collections a minute"),
        ("limits.toml", "60 per minute", "70 per minute", "after 60 different bad tokens"),
        (
            "issuers.toml",
            "\"00000000-0000-0000-0000-000000000000\"",
            "\"00000000-0000-0000-0000-0000000000ff\"",
            "of another tenant",
        ),
        ("operations/machines.toml", "/tags\"", "/tag\"", "an administrator tags a workstation"),
        (
            "operations/indicators.toml",
            "Indicators = \"list\"",
            "Indicators = \"object\"",
            "an import is a list",
        ),
        ("operations/machine-actions.toml", "2 per minute", "3 per minute", "the third package link"),
        ("operations/scores.toml", "application = []", "application = [\"Score.Read.All\"]", ""),
    ] {
        let folder = shipped_with(file, from, to);
        let ended = run(&["test", text(folder.path())]).await;
        // What nobody may call is not opened by a permission alone.
        let expected = i32::from(!case.is_empty());
        assert_eq!(ended.code, Some(expected), "{file}, {to}: {ended:#?}");
        assert!(printed(&ended).contains(case), "{file}, {to}: {ended:#?}");
    }
}

#[tokio::test]
async fn a_body_that_comes_without_a_length_is_bounded_as_in_the_gateway() {
    let import = |bytes: usize| format!("{{\"Comment\":\"{}\"}}", "x".repeat(bytes - 14));
    let case = |headers: &str, bytes: usize, expect: &str| {
        let body = import(bytes);
        format!(
            "[[case]]\nname = \"{bytes} {expect}\"\ncaller = \"import\"\ncall = \"POST /api/indicators/import\"\nbody = '{body}'\n{headers}expect = \"{expect}\"\n"
        )
    };
    let chunked = "headers = { Transfer-Encoding = \"chunked\" }\n";
    let folder = folder_with(
        &[
            "[[caller]]\nname = \"import\"\napplication = \"portal\"\npermissions = [\"Ti.ReadWrite.All\"]\n"
                .to_owned(),
            case("", 400 << 10, "admitted"),
            case("", 600 << 10, "body_too_large"),
            case(chunked, 64 << 10, "admitted"),
            case(chunked, (64 << 10) + 1, "body_too_large"),
            case(chunked, 400 << 10, "body_too_large"),
        ]
        .concat(),
    );
    let ended = run(&["test", text(folder.path())]).await;
    assert_eq!(ended.out.last().map(String::as_str), Some("ok: 5 passed"), "{ended:#?}");

    let upstream = RecordingUpstream::start(Answer::new(200, ""), Clock::System);
    let gateway = Setup::new(upstream.address()).policy_folder(folder.path()).start();
    let authorization = bearer(&portal().permissions(["Ti.ReadWrite.All"]));
    for (bytes, status) in [(64 << 10, 200), ((64 << 10) + 1, 413), (400 << 10, 413)] {
        let head = format!(
            "POST /api/indicators/import HTTP/1.1\r\nHost: gateway\r\nAuthorization: {authorization}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let mut client = gateway.connect().await;
        // It may be answered before all of it is read.
        let _ = client.try_send(format!("{head}{bytes:x}\r\n{}\r\n0\r\n\r\n", import(bytes))).await;
        assert_eq!(client.read_response().await.status, status, "{bytes}");
    }
}

#[tokio::test]
async fn an_action_that_no_call_could_name_is_a_mistake_of_its_case() {
    let folder = folder_with(&format!(
        "{CALLERS}[[case]]\nname = \"odd\"\ncaller = \"playbooks\"\ncall = \"GET /api/machines\"\nactions = {{ \" x\" = \"ws-1\" }}\nexpect = \"missing_permission\"\n"
    ));
    let ended = run(&["test", text(folder.path())]).await;
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.err.join("\n").contains("` x` is not the id of an action"), "{ended:#?}");
}

#[tokio::test]
async fn a_case_that_goes_otherwise_says_what_was_expected_and_what_was_found() {
    let folder = folder_with(&format!(
        r#"[[case]]
name   = "playbooks collect from an executive"
caller = "playbooks"
call   = "POST /api/machines/exec-1/collectInvestigationPackage"
body   = {{ Comment = "x" }}
expect = "admitted"

[[case]]
name   = "the 101st is admitted"
caller = "playbooks"
call   = "POST /api/machines/ws-1/collectInvestigationPackage"
body   = {{ Comment = "x" }}
steps  = [
    {{ repeat = 60, expect = "admitted" }},
    {{ at = "18s", repeat = 50, expect = "admitted" }},
]

[[case]]
name   = "a reader reads"
caller = "responder"
call   = "GET /api/machines"
expect = "admitted"
operation = "read_device"

[[case]]
name   = "three are left"
caller = "responder"
call   = "POST /api/machines/ws-1/collectInvestigationPackage"
body   = {{ Comment = "x" }}
expect = "admitted"
left   = {{ collect-minute = 3 }}

[[case]]
name   = "nothing is left of what there is not"
caller = "responder"
call   = "POST /api/machines/ws-1/collectInvestigationPackage"
body   = {{ Comment = "x" }}
expect = "admitted"
left   = {{ collect-day = 3 }}

[[case]]
name   = "the right one"
caller = "responder"
call   = "POST /api/machines/ws-1/collectInvestigationPackage"
body   = {{ Comment = "x" }}
expect = "admitted"
left   = {{ collect-minute = 99, collect-hour = 1499 }}
{CALLERS}"#
    ));
    let ended = run(&["test", text(folder.path())]).await;
    assert_eq!((ended.code, ended.err), (Some(1), vec!["failed: 1 passed, 5 failed".to_owned()]));
    let expected = [
        "tests/cases.toml: 1 passed, 5 failed",
        "  tests/cases.toml:2:10: playbooks collect from an executive",
        "    expected `admitted`, found `device_group`: The device `exec-1` is in the device group `Executives`, which is not open to this caller",
        "  tests/cases.toml:9:10: the 101st is admitted",
        "    step 2, 18 s after the beginning, call 41: expected `admitted`, found `over_limit`: API calls quota exceeded! maximum allowed 100 per 00:01:00",
        "  tests/cases.toml:19:10: a reader reads",
        "    expected the operation `read_device`, found `list_devices`",
        "  tests/cases.toml:26:10: three are left",
        "    expected 3 left of `collect-minute`, found 99",
        "  tests/cases.toml:34:10: nothing is left of what there is not",
        "    no limit `collect-day` applied, those that did are `collect-minute`, `collect-hour`",
        "",
        "touched: 2 of 6 operations, 1 of 2 roles, 2 of 3 device groups, 2 of 2 applications, 1 of 2 limits",
    ];
    assert_eq!(ended.out[1..=expected.len()], expected.map(str::to_owned), "{:#?}", ended.out);
    let untouched = "no case touches the operation `import_indicators` (operations.toml:40:15)";
    assert!(ended.out.contains(&untouched.to_owned()), "{:#?}", ended.out);
}

#[tokio::test]
async fn every_mistake_of_a_case_has_its_place() {
    let case = |lines: &str| format!("[[case]]\nname = \"x\"\n{lines}\n{CALLERS}");
    let call = "call = \"GET /api/machines\"";
    for (lines, expected) in [
        (call.to_owned(), "2:8: a case needs `expect`, or `steps` that have it"),
        ("expect = \"admitted\"".into(), "2:8: a case needs a `call` such as `GET /api/machines`"),
        (format!("{call}\nexpect = \"allowed\""), "4:10: `allowed` is neither `admitted` nor a reason"),
        (format!("{call}\nexpect = \"device_groups\""), "4:10: `device_groups` is neither"),
        (format!("{call}\nexpect = \"no_token\"\ncaller = \"respnder\""), "5:10: unknown caller `respnder`"),
        (
            "call = \"/api/machines\"\nexpect = \"no_token\"".into(),
            "3:8: `/api/machines` is not a call such as",
        ),
        (format!("{call}\nexpect = \"no_token\"\naddress = \"here\""), "5:11: `here` is not an IP address"),
        (format!("{call}\nexpect = \"no_token\"\nbegins = \"today\""), "5:10: `today` is not a time such as"),
        (
            format!("{call}\nexpect = \"no_token\"\ninventory_age = \"old\""),
            "5:17: `old` is not a time such as",
        ),
        (
            format!("{call}\nexpect = \"no_token\"\nif_enforced = \"x\""),
            "5:15: `x` is neither `admitted` nor",
        ),
        (format!("{call}\nexpect = \"no_token\"\nwhen = \"today\""), "5:1: unknown field `when`"),
        (
            format!("{call}\nsteps = [{{ expect = \"no_token\", at = \"soon\" }}]"),
            "4:38: `soon` is not a time such as `18s`",
        ),
        (
            format!(
                "{call}\nsteps = [{{ expect = \"no_token\", at = \"9s\" }}, {{ expect = \"no_token\", at = \"8s\" }}]"
            ),
            "4:74: a step comes before the one above it",
        ),
        (
            format!("{call}\nsteps = [{{ expect = \"no_token\", repeat = 0 }}]"),
            "4:42: a step is repeated 1 to 100000 times",
        ),
        (
            format!("{call}\nexpect = \"no_token\"\nsteps = [{{ expect = \"no_token\" }}]"),
            "2:8: what must become of a call stands in the steps, where there are any",
        ),
        (
            format!(
                "{call}\nexpect = \"no_token\"\n[[caller]]\nname = \"y\"\napplication = \"portl\"\npermissions = []"
            ),
            "7:15: `portl` is neither a name of applications.toml nor a GUID",
        ),
        (
            format!(
                "{call}\nexpect = \"no_token\"\n[[caller]]\nname = \"y\"\napplication = \"portal\"\npermissions = []\nissuer = \"v3\""
            ),
            "9:10: unknown issuer `v3`",
        ),
        (
            format!(
                "{call}\nexpect = \"no_token\"\n[[caller]]\nname = \"responder\"\napplication = \"portal\"\npermissions = []"
            ),
            "11:15: the caller `responder` is given twice",
        ),
        (format!("{call}\nexpect = \"no_token\"\n[[device]]\nid = 7"), "6:6: invalid type: integer `7`"),
        (format!("{call}\nexpect = \"no_token\"\n[[cases]]"), "5:3: unknown key `cases`"),
    ] {
        let folder = folder_with(&case(&lines));
        let ended = run(&["test", text(folder.path())]).await;
        let said = format!("tests/cases.toml:{expected}");
        assert_eq!(ended.code, Some(1), "{lines}: {ended:#?}");
        assert!(ended.err[0].starts_with(&said), "{lines}:\nwanted {said}\nfound {:#?}", ended.err);
    }
}

#[tokio::test]
async fn devices_of_the_cases_stand_in_the_place_of_the_inventory() {
    let case = |device: &str, expect: &str| {
        format!(
            "[[case]]\nname = \"{device}\"\ncaller = \"playbooks\"\ncall = \"POST /api/machines/{device}/collectInvestigationPackage\"\nbody = {{ Comment = \"x\" }}\nexpect = \"{expect}\"\n"
        )
    };
    let id = "7777777777777777777777777777777777777777";
    let device = format!(
        "[[device]]\nid = \"{id}\"\nname = \"only-here.test.example\"\nos_platform = \"Windows11\"\ntags = [\"a\", \"b\"]\n"
    );
    let folder = folder_with(&format!(
        "{}{}{}{device}{CALLERS}",
        case("only-here", "admitted"),
        case(id, "admitted"),
        case("ws-1", "unknown_device")
    ));
    let ended = run(&["test", text(folder.path())]).await;
    assert_eq!(ended.code, Some(0), "{ended:#?}");

    // The set has the same version, with or without them.
    let checked = run(&["check", text(folder.path())]).await;
    let version = checked.out[0].split(':').next().unwrap();
    assert!(ended.out[0].starts_with(version), "{} {version}", ended.out[0]);
}

#[tokio::test]
async fn a_token_lasts_an_hour_and_a_later_step_brings_a_new_one() {
    let steps = "steps = [{ expect = \"admitted\" }, { at = \"5h\", expect = \"admitted\" }]";
    let folder = folder_with(&format!(
        "[[case]]\nname = \"a\"\ncaller = \"responder\"\ncall = \"GET /api/machines\"\nbegins = \"2030-05-01T08:00:00Z\"\n{steps}\n{CALLERS}"
    ));
    let ended = run(&["test", text(folder.path())]).await;
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

#[tokio::test]
async fn a_folder_without_cases_or_with_a_wrong_set_is_not_tested() {
    let folder = policy_folder();
    let ended = run(&["test", text(folder.path())]).await;
    let said = format!("error: no cases in `{}/tests`", text(folder.path()));
    assert_eq!((ended.code, ended.err), (Some(2), vec![said]));

    let folder = folder_with("");
    std::fs::write(folder.path().join("roles.toml"), "[[rolle]]\n").unwrap();
    let ended = run(&["test", text(folder.path())]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.err[0].starts_with("roles.toml:1:3: unknown key `rolle`"), "{ended:#?}");
    let ended = run(&["test", "/no/policies"]).await;
    assert_eq!(ended.code, Some(2));
}

#[tokio::test]
async fn a_case_says_what_would_become_of_a_call_if_everything_were_enforced() {
    let folder = folder_with(&format!(
        r#"[[case]]
name   = "playbooks do not collect from an executive"
caller = "playbooks"
call   = "POST /api/machines/exec-1/collectInvestigationPackage"
body   = {{ Comment = "x" }}
expect = "admitted"
if_enforced = "device_group"

[[case]]
name   = "they do from a workstation, a hundred times a minute"
caller = "playbooks"
call   = "POST /api/machines/ws-1/collectInvestigationPackage"
body   = {{ Comment = "x" }}
steps  = [
    {{ repeat = 100, expect = "admitted", if_enforced = "admitted" }},
    {{ expect = "admitted", if_enforced = "over_limit" }},
]

[[case]]
name   = "this one is wrong"
caller = "responder"
call   = "POST /api/machines/ws-1/collectInvestigationPackage"
body   = {{ Comment = "x" }}
expect = "admitted"
if_enforced = "missing_role"

[[case]]
name   = "nobody is nobody all the same"
call   = "GET /api/machines"
expect = "no_token"
if_enforced = "no_token"
{CALLERS}"#
    ));
    std::fs::write(folder.path().join("policy.toml"), "enforce = false\n").unwrap();
    let ended = run(&["test", text(folder.path())]).await;
    assert_eq!((ended.code, ended.err), (Some(1), vec!["failed: 3 passed, 1 failed".to_owned()]));
    let found = "    expected `missing_role` if it were enforced, found `admitted`";
    assert!(ended.out.contains(&found.to_owned()), "{:#?}", ended.out);
}

#[tokio::test]
async fn a_case_says_how_old_the_inventory_is_and_its_clock_makes_it_older() {
    let folder = folder_with(&format!(
        r#"[[case]]
name   = "an inventory of 35 hours is believed for one more"
caller = "responder"
call   = "POST /api/machines/ws-1/collectInvestigationPackage"
body   = {{ Comment = "x" }}
inventory_age = "35h"
steps  = [
    {{ expect = "admitted" }},
    {{ at = "1h", expect = "admitted" }},
    {{ at = "1h 1s", expect = "stale_inventory", retry_after = 60 }},
]

[[case]]
name   = "another case has its own"
caller = "responder"
call   = "POST /api/machines/ws-1/collectInvestigationPackage"
body   = {{ Comment = "x" }}
begins = "2026-02-01T00:00:00Z"
inventory_age = "37h"
expect = "stale_inventory"

[[case]]
name   = "where nothing is said the devices of the cases are not old"
caller = "responder"
call   = "POST /api/machines/ws-1/collectInvestigationPackage"
body   = {{ Comment = "x" }}
begins = "2026-02-01T00:00:00Z"
expect = "admitted"

[[device]]
id          = "1111111111111111111111111111111111111111"
name        = "ws-1"
os_platform = "Windows11"
{CALLERS}"#
    ));
    let file = folder.path().join("device-groups.toml");
    let groups = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("max_age = \"36h\"\n{groups}")).unwrap();
    let ended = run(&["test", text(folder.path())]).await;
    assert_eq!((ended.code, ended.err.len()), (Some(0), 0), "{ended:#?}");

    std::fs::write(&file, format!("max_age = \"36h\"\nstale_inventory = \"use\"\n{groups}")).unwrap();
    let ended = run(&["test", text(folder.path())]).await;
    assert_eq!(ended.err, ["failed: 1 passed, 2 failed"], "{ended:#?}");
}

#[tokio::test]
async fn a_caller_may_be_of_any_tenant_of_an_issuer() {
    const OTHER: &str = "00000000-0000-0000-0000-00000000007f";
    let folder = folder_with(&format!(
        r#"[[case]]
name   = "ours"
caller = "playbooks"
call   = "POST /api/machines/ws-1/collectInvestigationPackage"
body   = {{ Comment = "x" }}
expect = "admitted"

[[case]]
name   = "another's"
caller = "strangers"
call   = "POST /api/machines/ws-1/collectInvestigationPackage"
body   = {{ Comment = "x" }}
expect = "application"

[[caller]]
name        = "strangers"
application = "playbooks"
tenant      = "{OTHER}"
permissions = ["Machine.CollectForensics"]
{CALLERS}"#
    ));
    for (name, from, to) in [
        ("issuers.toml", "00000000007e\"]", format!("00000000007e\", \"{OTHER}\"]")),
        (
            "applications.toml",
            "name          = \"playbooks\"",
            "name = \"playbooks\"\ntenants = [\"00000000-0000-0000-0000-00000000007e\"]".to_owned(),
        ),
    ] {
        let file = folder.path().join(name);
        let said = std::fs::read_to_string(&file).unwrap();
        assert!(said.contains(from), "{name}: {said}");
        std::fs::write(file, said.replace(from, &to)).unwrap();
    }
    let ended = run(&["test", text(folder.path())]).await;
    assert_eq!((ended.code, ended.err.len()), (Some(0), 0), "{ended:#?}");
}
