//! The shipped catalogue is the API's documentation: every documented call, with the documented values.
//!
//! `fixtures/defender-api.csv` is what the pages say, a row a call. The policy files are read here as text and TOML, not
//! through the program's own types. Where a page is silent, the comment of the operation says `Not on the page: …`; where
//! the shipped value is another than the page's, it has a line `<field>: <why>`; neither may stand there for nothing.

mod beyond;

use std::collections::{BTreeMap, BTreeSet};

use tollgate::sandbox::shipped;
use tollgate::source::SourceFile;
use tollgate::time::Clock;
use toml::{Table, Value};

use crate::support::gateway::{
    EXECUTIVE, PLAYBOOKS, Setup, TestGateway, UNGROUPED, WORKSTATION, bearer, playbooks, policy,
};
use crate::support::raw::RawResponse;
use crate::support::upstream::{Answer, RecordingUpstream};

const DOCUMENTED: &str = include_str!("fixtures/defender-api.csv");

/// One operation of the shipped set.
struct Shipped {
    values: Table,
    /// The comment above it.
    comment: Vec<String>,
}

/// The fields that are compared, each as a set of words or as a list joined to a text.
type Facts = BTreeMap<&'static str, String>;

fn words<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let set: BTreeSet<&str> = words.into_iter().map(str::trim).filter(|word| !word.is_empty()).collect();
    set.into_iter().collect::<Vec<_>>().join(" ; ")
}

/// A path in lower case, its query left out, its parameters without their names and quotes.
fn shape(path: &str) -> String {
    let mut shape = String::new();
    let mut inside = false;
    for c in path.split('?').next().unwrap().to_lowercase().chars() {
        inside = (inside || c == '{') && c != '}';
        if !inside && c != '\'' {
            shape.push(c);
        }
    }
    shape
}

/// What a row of the documentation says; a field that the page does not mention is absent.
fn documented(row: &BTreeMap<String, String>) -> Facts {
    let cell = |name: &str| row[name].as_str();
    let mut facts =
        Facts::from([("method", cell("method").to_owned()), ("path", shape(cell("path_template")))]);
    let role = match cell("delegated_role") {
        "View Data" => "View data".to_owned(),
        "View Data or TvmViewData" => words(["View data", "View data: Defender Vulnerability Management"]),
        other => other.to_owned(),
    };
    let rate =
        |cell: &str, unit: &str| if cell.is_empty() { String::new() } else { format!("{cell} per {unit}") };
    let limits = [rate(cell("rate_per_minute"), "minute"), rate(cell("rate_per_hour"), "hour")];
    let members = cell("body_required").split(';').map(|member| member.split('=').next().unwrap());
    for (field, value) in [
        ("application", words(cell("app_permissions").split(';'))),
        ("delegated", words(cell("delegated_permissions").split(';'))),
        ("role", role),
        ("limits", words(limits.iter().map(String::as_str))),
        ("body", words(members)),
    ] {
        if !value.is_empty() {
            facts.insert(field, value);
        }
    }
    facts
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    match value {
        None => Vec::new(),
        Some(Value::Array(items)) => items.iter().map(|item| item.as_str().unwrap()).collect(),
        Some(one) => vec![one.as_str().unwrap()],
    }
}

impl Shipped {
    fn facts(&self) -> Facts {
        let text = |field: &str| self.values[field].as_str().unwrap();
        let list = |field: &str| words(strings(self.values.get(field)));
        let body = self.values.get("body").map(|body| body.as_table().unwrap());
        let required =
            body.and_then(|body| body.get("required")).map(|required| required.as_table().unwrap());
        let devices = body.and_then(|body| body.get("devices")).map(|member| member.as_str().unwrap());
        // `scannerAgent.machineId` is part of the required `scannerAgent`.
        let devices = devices.map(|member| member.split('.').next().unwrap());
        let members = words(required.into_iter().flatten().map(|(name, _)| name.as_str()).chain(devices));
        Facts::from([
            ("method", text("method").to_owned()),
            ("path", shape(text("path"))),
            ("application", list("application")),
            ("delegated", list("delegated")),
            ("role", list("role")),
            ("limits", list("limits")),
            ("body", members),
        ])
    }

    /// The fields that the comment says the page does not mention.
    fn silent(&self) -> BTreeSet<String> {
        let comment = self.comment.join(" ");
        let Some((_, rest)) = comment.split_once("Not on the page: ") else { return BTreeSet::new() };
        rest.split('.').next().unwrap().split(", ").map(str::to_owned).collect()
    }

    /// The fields whose difference the comment explains.
    fn explained(&self) -> BTreeSet<String> {
        let fields = ["application", "delegated", "role", "limits", "body"];
        let says = |field: &&&str| self.comment.iter().any(|line| line.starts_with(&format!("{field}: ")));
        fields.iter().filter(says).map(|field| (*field).to_owned()).collect()
    }
}

/// The operations of the shipped set by name, each once.
fn operations() -> BTreeMap<String, Shipped> {
    let mut all = BTreeMap::new();
    for file in shipped::files().iter().filter(|file| file.name().starts_with("operations")) {
        let table: Table = file.text().parse().unwrap();
        let entries = table.get("operation").map(|entries| entries.as_array().unwrap().clone());
        let mut comments = comments(file.text()).into_iter();
        for entry in entries.into_iter().flatten() {
            let values = entry.as_table().unwrap().clone();
            let name = values["name"].as_str().unwrap().to_owned();
            let shipped = Shipped { values, comment: comments.next().unwrap() };
            assert!(all.insert(name.clone(), shipped).is_none(), "`{name}` is there twice");
        }
    }
    all
}

/// The comment above each `[[operation]]` of a file, in their order.
fn comments(text: &str) -> Vec<Vec<String>> {
    let (mut all, mut comment) = (Vec::new(), Vec::new());
    for line in text.lines() {
        match line.strip_prefix('#') {
            Some(words) => comment.push(words.trim().to_owned()),
            None if line == "[[operation]]" => all.push(std::mem::take(&mut comment)),
            None => comment.clear(),
        }
    }
    all
}

fn rows() -> Vec<BTreeMap<String, String>> {
    csv::Reader::from_reader(DOCUMENTED.as_bytes()).deserialize().map(Result::unwrap).collect()
}

#[test]
fn every_documented_call_is_in_the_catalogue_as_its_page_has_it_or_a_comment_says_why_not() {
    let mut shipped = operations();
    let rows = rows();
    assert_eq!(rows.len(), 113);
    let mut mistakes = Vec::new();
    for row in &rows {
        let name = row["name"].as_str();
        let Some(operation) = shipped.remove(name) else {
            mistakes.push(format!("{name}: missing"));
            continue;
        };
        let page = row["source_file"].rsplit('/').next().unwrap();
        if !operation.comment.iter().any(|line| line.contains(page)) {
            mistakes.push(format!("{name}: its comment does not name {page}"));
        }
        let (silent, explained) = (operation.silent(), operation.explained());
        let pages = documented(row);
        for (field, ours) in operation.facts() {
            let (silent, explained) = (silent.contains(field), explained.contains(field));
            match pages.get(field) {
                Some(theirs) if *theirs == ours && !silent && !explained => {}
                Some(theirs) if *theirs != ours && !silent && explained => {}
                // No page asks for a body that it does not describe.
                None if field == "body" && ours.is_empty() && !silent && !explained => {}
                // Nobody holds a permission that nobody knows.
                None if matches!(field, "application" | "delegated") && ours.is_empty() && silent => {}
                // What stands there instead restricts, so it must stand there.
                None if matches!(field, "role" | "limits") && !ours.is_empty() && silent => {}
                theirs => mistakes.push(format!(
                    "{name}: {field} is `{ours}`, on the page {theirs:?} (said to be silent: {silent}, explained: {explained})"
                )),
            }
        }
        mistakes.extend(devices(row, &operation).map(|mistake| format!("{name}: {mistake}")));
    }
    mistakes.extend(shipped.keys().map(|name| format!("{name}: not documented")));
    assert!(mistakes.is_empty(), "{mistakes:#?}");
}

#[test]
fn the_calls_that_may_change_tags_are_marked_and_no_others() {
    let marked = |operation: &Shipped| operation.values.get("changes_tags").is_some();
    let marked: Vec<_> = operations().into_iter().filter(|(_, o)| marked(o)).map(|(name, _)| name).collect();
    assert_eq!(marked, ["add_or_remove_machine_tag", "add_or_remove_tag_multiple", "update_machine"]);
}

/// Whether the operation finds its devices where the documentation has them.
fn devices(row: &BTreeMap<String, String>, operation: &Shipped) -> Option<String> {
    let documented = &row["path_template"];
    let path = operation.values["path"].as_str().unwrap();
    let expected = |prefix: &str, parameter: &str| {
        let named = documented.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('{'));
        (named != path.contains(parameter)).then(|| format!("`{path}` for `{documented}`"))
    };
    let in_body = row["note"].contains("BODY (") && !row["note"].contains("rbacGroupNames");
    let body = operation.values.get("body").and_then(|body| body.get("devices"));
    let body = (in_body != body.is_some()).then(|| format!("devices in the body: {body:?}"));
    expected("/api/machines/", "{device}").or(expected("/api/machineactions/", "{action}")).or(body)
}

/// A gateway with the shipped operations, where the playbooks may call all of them on these device groups.
fn start(device_groups: &str) -> (RecordingUpstream, TestGateway) {
    let mut files = policy();
    files.remove("operations.toml");
    for file in shipped::files().iter().filter(|file| file.name().starts_with("operations")) {
        files.insert(file.clone());
    }
    let applications = format!(
        r#"
        [[application]]
        id            = "{PLAYBOOKS}"
        name          = "playbooks"
        operations    = "all"
        device_groups = {device_groups}
        "#
    );
    files.insert(SourceFile::new("applications.toml", applications));
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let gateway = Setup::new(upstream.address()).policy(files).start();
    (upstream, gateway)
}

async fn post(gateway: &TestGateway, permission: &str, path: &str, body: &str) -> RawResponse {
    let authorization = bearer(&playbooks().permissions([permission]));
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    gateway.connect().await.request("POST", path, &headers, body.as_bytes()).await
}

#[tokio::test]
async fn a_call_whose_body_names_devices_is_held_to_every_one_of_them() {
    let (upstream, gateway) = start(r#"["Workstations"]"#);
    let tag = "/api/machines/AddOrRemoveTagForMultipleMachines";
    let tagged = |ids: &[&str]| {
        let ids: Vec<String> = ids.iter().map(|id| format!("\"{id}\"")).collect();
        format!(r#"{{"Value":"t","Action":"Add","MachineIds":[{}]}}"#, ids.join(","))
    };
    let alert = |id: &str| {
        format!(
            r#"{{"eventTime":"t","reportId":"1","severity":"Low","title":"t","description":"d","recommendedAction":"r","category":"c","machineId":"{id}"}}"#
        )
    };
    let scan = |id: &str| {
        format!(
            r#"{{"scanType":"Network","scanName":"s","isActive":true,"target":"127.0.0.1","intervalInHours":1,"targetType":"Ip","scanAuthenticationParams":{{}},"scannerAgent":{{"machineId":"{id}"}}}}"#
        )
    };
    let by_reference = "/api/alerts/CreateAlertByReference";
    let scans = "/api/DeviceAuthenticatedScanDefinitions";
    let (write, alerts) = ("Machine.ReadWrite.All", "Alert.ReadWrite.All");
    let name = "WS-1.test.example";
    for (permission, path, body, reason) in [
        (write, tag, tagged(&[WORKSTATION]), None),
        (write, tag, tagged(&[name, WORKSTATION]), None),
        (write, tag, tagged(&[WORKSTATION, EXECUTIVE]), Some("device_group")),
        (write, tag, tagged(&[UNGROUPED, WORKSTATION]), Some("device_group")),
        (write, tag, tagged(&[WORKSTATION, "nobody"]), Some("unknown_device")),
        (write, tag, tagged(&[]), Some("missing_parameter")),
        (write, tag, tagged(&[WORKSTATION]).replace("MachineIds", "machineIds"), Some("bad_body")),
        (alerts, by_reference, alert(WORKSTATION), None),
        (alerts, by_reference, alert(EXECUTIVE), Some("device_group")),
        (write, scans, scan(WORKSTATION), None),
        (write, scans, scan(EXECUTIVE), Some("device_group")),
    ] {
        let before = upstream.requests().len();
        let answer = post(&gateway, permission, path, &body).await;
        assert_eq!(answer.header("Tollgate-Reason"), reason, "{path} {body}");
        let forwarded = &upstream.requests()[before..];
        match reason {
            None => assert_eq!(forwarded[0].body, body.as_bytes(), "{path}"),
            Some(_) => assert!(forwarded.is_empty(), "{path} {body}"),
        }
    }
}

#[tokio::test]
async fn an_import_of_500_indicators_passes_although_it_is_larger_than_other_bodies() {
    let indicator = format!(
        r#"{{"indicatorValue":"{}","indicatorType":"FileSha256","title":"t","action":"Alert","description":"{}"}}"#,
        "ab".repeat(32),
        "d".repeat(800)
    );
    let body = format!(r#"{{"Indicators":[{}]}}"#, vec![indicator; 500].join(","));
    assert!(body.len() > 400 * 1024, "{}", body.len());
    let (upstream, gateway) = start(r#""all""#);
    let answer = post(&gateway, "Ti.ReadWrite.All", "/api/indicators/import", &body).await;
    assert_eq!((answer.status, answer.header("Tollgate-Reason")), (200, None));
    assert!(upstream.requests()[0].body == body.as_bytes());
}

#[tokio::test]
async fn what_a_function_in_the_path_asks_for_is_decided_like_any_other_call() {
    let (upstream, gateway) = start(r#""all""#);
    let by_ip = "/api/machines/findbyip(ip='10.0.0.1',timestamp=2026-11-24T09:00:00Z)";
    let link =
        "/api/machineactions/5382f7ea-7557-4ab7-9782-d50480024a4e/GetLiveResponseResultDownloadLink(index=0)";
    for path in [by_ip, link] {
        let answer = gateway.get(&playbooks(), path).await;
        assert_eq!((answer.status, answer.header("Tollgate-Reason")), (200, None), "{path}");
    }
    let paths: Vec<_> = upstream.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, [by_ip, link]);

    let (upstream, gateway) = start(r#"["Workstations"]"#);
    for (path, reason) in [(by_ip, "unscoped_operation"), (link, "unknown_action")] {
        assert_eq!(gateway.get(&playbooks(), path).await.header("Tollgate-Reason"), Some(reason), "{path}");
    }
    assert!(upstream.requests().is_empty());
}
