//! Device groups as the inventory reports them.

use super::{id, machine};
use crate::id::DeviceRef;
use crate::policy::device_group::{DeviceGroups, GroupAccess, UNGROUPED};
use crate::policy::inventory::Inventory;
use crate::principal::Groups;
use crate::source::{PolicyFiles, Problem, Problems, SourceFile};

const GROUPS: &str = r#"
source = "inventory"

[[device_group]]
name = "Servers"
rank = 1

[[device_group]]
name = "Executives"
rank = 2
entra_groups = ["00000000-0000-0000-0000-0000000000e1"]
"#;

/// The groups, the inventory, mistakes and warnings.
fn read(file: &str, text: &str) -> (DeviceGroups, Inventory, [Vec<String>; 2]) {
    let mut files = PolicyFiles::default();
    files.insert(SourceFile::new(DeviceGroups::FILE, GROUPS));
    files.insert(SourceFile::new(file, text));
    let mut problems = Problems::default();
    let groups = DeviceGroups::compile(&files, &mut problems);
    let inventory = Inventory::compile(&files, &groups, None, &mut problems);
    let texts = |problems: Vec<Problem>| problems.iter().map(Problem::to_string).collect();
    let both = [texts(problems.clone().into_sorted()), texts(problems.into_warnings())];
    (groups, inventory, both)
}

fn group(groups: &DeviceGroups, inventory: &Inventory, digit: char) -> String {
    let device = inventory.find(&DeviceRef::parse(&id(digit))).next().unwrap();
    groups.get(device.group).id().to_string()
}

#[test]
fn a_device_is_in_the_group_that_the_api_reports() {
    let named = |digit: char, name: &str| machine(digit, &format!(",\"rbacGroupName\":{name}"));
    let page = [
        named('1', "\"Servers\""),
        named('2', "\"Executives\""),
        named('3', "null"),
        named('4', "\"\""),
        named('5', "\"UnassignedGroup\""),
        named('6', "\"servers\""),
        named('7', "\"servers\""),
    ];
    let (groups, inventory, [mistakes, warnings]) =
        read("devices.json", &format!("{{\"value\":[\n{}]}}", page.join(",\n")));
    assert_eq!(mistakes, [""; 0]);
    let found: Vec<_> = "1234567".chars().map(|digit| group(&groups, &inventory, digit)).collect();
    let undeclared = "Undeclared device group";
    assert_eq!(found, ["Servers", "Executives", UNGROUPED, UNGROUPED, UNGROUPED, undeclared, undeclared]);
    assert_eq!(
        warnings,
        [
            "devices.json:7:1: the device group `servers` is not in device-groups.toml, so its devices are open to nobody whom groups confine"
        ]
    );
    let text = format!("Device ID,Device Name,Group\n{},a,Servers\n{},b,\n", id('1'), id('2'));
    let (groups, inventory, problems) = read("devices.csv", &text);
    assert_eq!(problems, [[""; 0]; 2]);
    assert_eq!(
        (group(&groups, &inventory, '1'), group(&groups, &inventory, '2')),
        ("Servers".into(), UNGROUPED.into())
    );
}

#[test]
fn a_group_that_the_set_lacks_is_open_to_nobody_and_binds_everybody() {
    let page = machine('1', ",\"rbacGroupName\":\"New\"");
    let (groups, inventory, _) = read("devices.json", &format!("{{\"value\":[{page}]}}"));
    let device = inventory.find(&DeviceRef::parse(&id('1'))).next().unwrap();
    for user in [
        Groups::Listed(Vec::new()),
        Groups::Listed(vec!["00000000-0000-0000-0000-0000000000e1".parse().unwrap()]),
        Groups::Overage,
    ] {
        assert!(groups.bind(&user));
        assert_eq!(groups.get(device.group).access(&user), GroupAccess::Closed);
    }
}

#[test]
fn an_inventory_that_says_nothing_of_groups_is_refused_where_it_has_to() {
    let (_, _, [mistakes, _]) = read("devices.json", &format!("{{\"value\":[{}]}}", machine('1', "")));
    let expected = format!(
        "devices.json:1:1: no device group of `{}`, and `source` leaves it to the inventory",
        id('1')
    );
    assert_eq!(mistakes, [expected.as_str()]);
    let (_, _, [mistakes, _]) = read("devices.csv", &format!("Device ID,Device Name\n{},a\n", id('1')));
    assert_eq!(mistakes, [expected.replace("devices.json:1", "devices.csv:2")]);
}

#[test]
fn columns_that_nothing_looks_at_are_pointed_out_once() {
    let (_, _, [mistakes, warnings]) =
        read("devices.csv", "Device ID,Health Status,Device Name,Tags,Tag,Group\n");
    assert_eq!(mistakes, [""; 0]);
    assert_eq!(warnings, ["devices.csv:1:1: columns that nothing here looks at: `Health Status`, `Tag`"]);
}
