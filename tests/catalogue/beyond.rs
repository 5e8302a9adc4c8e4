//! What the pages say in words, beyond the columns: which answers are machine actions, what the members of a body are,
//! and how large it may be.

use std::collections::{BTreeMap, BTreeSet};

use super::{Shipped, operations, rows};

/// The members that are no strings, by the examples on the pages. Lists are not among them: their names are plural.
const OTHER_KINDS: [(&str, &str); 4] = [
    ("isActive", "boolean"),
    ("intervalInHours", "number"),
    ("scannerAgent", "object"),
    ("scanAuthenticationParams", "object"),
];

/// Bytes of one element of a list of which the pages say how many a call takes, with quotes and a comma: a device's 40
/// digits, an indicator's number, and an indicator with a description of 800 letters and the members beside it.
const ELEMENTS: [(&str, usize); 3] = [("MachineIds", 43), ("IndicatorIds", 23), ("Indicators", 1_200)];

fn kibibytes(operation: &Shipped) -> usize {
    match operation.values.get("max_body").map(|size| size.as_str().unwrap().split_once(' ').unwrap()) {
        None => 64,
        Some((count, "KiB")) => count.parse().unwrap(),
        Some((count, "MiB")) => count.parse::<usize>().unwrap() * 1024,
        Some(other) => panic!("{other:?}"),
    }
}

/// What a successful answer to a documented call says of machine actions.
///
/// The permissions to start one are those of which any lets a caller cancel one (*Cancel machine action*). The pages
/// of the calls under `/api/machineactions` answer with a machine action or a list of them, but those that answer with a
/// link.
fn documented(row: &BTreeMap<String, String>, starting: &BTreeSet<&str>) -> Option<&'static str> {
    let path = row["path_template"].as_str();
    let starts = row["app_permissions"].split(';').any(|permission| starting.contains(permission));
    if path.starts_with("/api/machines/{id}/") && row["method"] == "POST" && starts {
        return Some("started");
    }
    let last = path.strip_prefix("/api/machineactions")?.rsplit('/').next().unwrap();
    let link = last.starts_with("getPackageUri") || last.starts_with("GetLiveResponseResultDownloadLink");
    (!link).then_some("shown")
}

#[test]
fn every_call_whose_answer_is_a_machine_action_says_so_and_no_other() {
    let (rows, shipped) = (rows(), operations());
    let cancel = rows.iter().find(|row| row["name"] == "cancel_machine_action").unwrap();
    let starting: BTreeSet<_> = cancel["app_permissions"].split(';').collect();
    let mut found = BTreeMap::new();
    for row in &rows {
        let name = row["name"].as_str();
        let ours = shipped[name].values.get("action").map(|action| action.as_str().unwrap());
        assert_eq!(ours, documented(row, &starting), "{name}");
        *found.entry(ours).or_insert(0) += 1;
    }
    assert_eq!(found, BTreeMap::from([(None, 101), (Some("started"), 9), (Some("shown"), 3)]));
    let answers: Vec<_> = rows.iter().filter(|row| row["note"].contains("returns machineAction")).collect();
    assert!(answers.iter().all(|row| shipped[&row["name"]].values.contains_key("action")));
    for (name, expected) in [
        ("isolate_machine", Some("started")),
        ("offboard_machine", Some("started")),
        ("run_live_response", Some("started")),
        ("get_machine_action", Some("shown")),
        ("get_package_uri", None),
        ("start_investigation", None),
    ] {
        let ours = shipped[name].values.get("action").map(|action| action.as_str().unwrap());
        assert_eq!(ours, expected, "{name}");
    }
}

#[test]
fn every_member_of_a_body_is_of_the_kind_that_its_page_shows() {
    let (rows, shipped) = (rows(), operations());
    let mut kinds = BTreeSet::new();
    for (name, operation) in &shipped {
        let required = operation.values.get("body").and_then(|body| body.get("required"));
        let row = rows.iter().find(|row| row["name"] == *name).unwrap();
        for (member, kind) in required.into_iter().flat_map(|required| required.as_table().unwrap()) {
            let kind = kind.as_str().unwrap();
            let other = OTHER_KINDS.iter().find(|(other, _)| other == member).map(|(_, kind)| *kind);
            let list = member.ends_with("Ids") || member == "Indicators";
            let expected = other.unwrap_or(if list { "list" } else { "string" });
            assert_eq!(kind, expected, "{name}: {member}");
            // What is one of some words is a word.
            let words = row["body_required"].split(';').any(|text| text.starts_with(&format!("{member}=")));
            assert!(!words || kind == "string", "{name}: {member}");
            kinds.insert((member.clone(), kind.to_owned()));
        }
    }
    for (member, kind) in OTHER_KINDS {
        assert!(kinds.contains(&(member.to_owned(), kind.to_owned())), "no call has {member}");
    }
}

#[test]
fn a_body_may_be_as_large_as_the_most_that_its_page_lets_a_call_name_and_no_larger_without_need() {
    let (rows, shipped) = (rows(), operations());
    let mut with_many = BTreeSet::new();
    for row in rows.iter().filter(|row| row["other_limits"].contains("per call")) {
        let (name, limits) = (row["name"].as_str(), row["other_limits"].as_str());
        let many: usize = limits.split(' ').next().unwrap().parse().unwrap();
        let (member, bytes) = ELEMENTS
            .iter()
            .find(|(member, _)| row["body_required"].split(';').any(|required| required == *member))
            .unwrap_or_else(|| panic!("{name}: of what {many}?"));
        let needed = (many * bytes).div_ceil(1024);
        assert!(kibibytes(&shipped[name]) >= needed, "{name}: {many} of {member} are {needed} KiB");
        if needed > 64 {
            with_many.insert(name);
        }
    }
    let larger: BTreeSet<_> = shipped
        .iter()
        .filter(|(_, operation)| operation.values.contains_key("max_body"))
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(larger, with_many);
}
