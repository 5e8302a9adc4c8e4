//! An inventory whose files say what they said: shared, not read again, and judged by the groups of the day.

use std::sync::Arc;

use super::{id, machine};
use crate::id::DeviceRef;
use crate::policy::device_group::DeviceGroups;
use crate::policy::inventory::Inventory;
use crate::source::{PolicyFiles, Problem, Problems, SourceFile};

const BY_NAME: &str = r#"
[[device_group]]
name  = "Servers"
rank  = 1
match = { name = ["starts with srv"] }
"#;

const REPORTED: &str = r#"
source = "inventory"

[[device_group]]
name = "Servers"
rank = 1
"#;

fn groups(text: &str) -> DeviceGroups {
    let mut files = PolicyFiles::default();
    files.insert(SourceFile::new(DeviceGroups::FILE, text));
    let mut problems = Problems::default();
    let groups = DeviceGroups::compile(&files, &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    groups
}

fn page(members: &str) -> SourceFile {
    let text = machine('1', &format!(",\"computerDnsName\":\"srv-1\"{members}"));
    SourceFile::new("devices.json", format!("{{\"value\":[\n{text}]}}"))
}

/// The set of this file, of which only the stamp is at hand.
fn unread(file: &SourceFile) -> PolicyFiles {
    let mut files = PolicyFiles::default();
    files.insert_unread(file.name(), file.stamp());
    files
}

fn set(file: SourceFile) -> PolicyFiles {
    let mut files = PolicyFiles::default();
    files.insert(file);
    files
}

/// The inventory, mistakes and warnings.
fn compile(
    files: &PolicyFiles,
    groups: &DeviceGroups,
    previous: Option<(&Inventory, &DeviceGroups)>,
) -> (Inventory, [Vec<String>; 2]) {
    let mut problems = Problems::default();
    let inventory = Inventory::compile(files, groups, previous, &mut problems);
    let texts = |problems: Vec<Problem>| problems.iter().map(Problem::to_string).collect();
    (inventory, [texts(problems.clone().into_sorted()), texts(problems.into_warnings())])
}

fn group(inventory: &Inventory, groups: &DeviceGroups) -> String {
    let device = inventory.find(&DeviceRef::parse(&id('1'))).next().unwrap();
    groups.get(device.group).id().to_string()
}

const NOTHING: [Vec<String>; 2] = [Vec::new(), Vec::new()];

#[test]
fn rules_that_change_move_devices_without_the_files_being_read() {
    let (file, before) = (page(""), groups(BY_NAME));
    let (first, said) = compile(&set(file.clone()), &before, None);
    assert_eq!((group(&first, &before), said), ("Servers".into(), NOTHING));
    let after = groups(&BY_NAME.replace("Servers", "Others").replace("srv", "ws"));
    let (second, said) = compile(&unread(&file), &after, Some((&first, &before)));
    assert_eq!((group(&second, &after), said), ("Ungrouped devices (default)".into(), NOTHING));
    assert!(Arc::ptr_eq(&first.listing, &second.listing));
    assert!(!Arc::ptr_eq(&first.groups, &second.groups));
    let (third, _) = compile(&unread(&file), &after, Some((&second, &after)));
    assert!(Arc::ptr_eq(&second.groups, &third.groups));
}

#[test]
fn a_file_that_says_something_else_is_read_whatever_was_read_before() {
    let groups = groups(BY_NAME);
    let (first, _) = compile(&set(page("")), &groups, None);
    let other = SourceFile::new("devices.json", format!("{{\"value\":[{}]}}", machine('2', "")));
    let (second, said) = compile(&set(other), &groups, Some((&first, &groups)));
    assert_eq!((second.len(), said), (1, NOTHING));
    assert!(second.find(&DeviceRef::parse(&id('1'))).next().is_none());
    let moved = SourceFile::new("devices/1.json", page("").text());
    let (third, _) = compile(&set(moved), &groups, Some((&first, &groups)));
    assert!(!Arc::ptr_eq(&first.listing, &third.listing));
}

#[test]
fn what_nobody_has_read_is_never_taken_for_an_empty_file() {
    let groups = groups(BY_NAME);
    let (_, [mistakes, _]) = compile(&unread(&page("")), &groups, None);
    assert_eq!(mistakes, ["devices.json: the file is not at hand, only what was read of it before"]);
}

#[test]
fn what_was_said_of_an_inventory_is_said_again_and_held_to_the_groups_as_they_are() {
    let (file, rules, reported) = (page(",\"rbacGroupName\":\"Laptops\""), groups(BY_NAME), groups(REPORTED));
    let (first, said) = compile(&set(file.clone()), &rules, None);
    assert_eq!(said, NOTHING);
    let (second, [mistakes, warnings]) = compile(&unread(&file), &reported, Some((&first, &rules)));
    assert_eq!(mistakes, [""; 0]);
    assert!(
        warnings[0].starts_with("devices.json:2:1: the device group `Laptops` is not in device-groups.toml")
    );
    assert_eq!(warnings.len(), 1);
    let (_, again) = compile(&unread(&file), &reported, Some((&second, &reported)));
    assert_eq!(again, [mistakes, warnings]);

    let file = page("");
    let (first, _) = compile(&set(file.clone()), &rules, None);
    let (_, [mistakes, _]) = compile(&unread(&file), &reported, Some((&first, &rules)));
    let expected = format!(
        "devices.json:2:1: no device group of `{}`, and `source` leaves it to the inventory",
        id('1')
    );
    assert_eq!(mistakes, [expected]);
}
