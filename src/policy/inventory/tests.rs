use super::*;
use crate::policy::device_group::UNGROUPED;
use crate::source::{Problem, SourceFile};

mod again;
mod reported;

const GROUPS: &str = r#"
[[device_group]]
name  = "By tag"
rank  = 3
match = { tag = ["equals VIP", "contains critical"] }

[[device_group]]
name  = "By name"
rank  = 1
match = { name = ["starts with EXEC-", "equals boss"], os_platform = ["starts with windows"] }

[[device_group]]
name  = "By domain"
rank  = 2
match = { domain = ["ends with .example"] }
"#;

fn groups() -> DeviceGroups {
    let mut files = PolicyFiles::default();
    files.insert(SourceFile::new(DeviceGroups::FILE, GROUPS));
    let mut problems = Problems::default();
    let groups = DeviceGroups::compile(&files, &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    groups
}

fn read(sources: &[(&str, &str)]) -> (Inventory, Vec<String>) {
    let mut files = PolicyFiles::default();
    for (name, text) in sources {
        files.insert(SourceFile::new(name, *text));
    }
    let mut problems = Problems::default();
    let inventory = Inventory::compile(&files, &groups(), None, &mut problems);
    (inventory, problems.into_sorted().iter().map(Problem::to_string).collect())
}

fn csv(text: &str) -> (Inventory, Vec<String>) {
    read(&[("devices.csv", text)])
}

fn json(text: &str) -> (Inventory, Vec<String>) {
    read(&[("devices.json", text)])
}

/// An id of forty times this digit.
fn id(digit: char) -> String {
    digit.to_string().repeat(40)
}

fn found(inventory: &Inventory, named: &str) -> Vec<(char, String)> {
    let groups = groups();
    let named = DeviceRef::parse(named);
    let devices = inventory.find(&named);
    devices
        .map(|device| {
            let digit = device.id.to_string().chars().next().unwrap();
            (digit, groups.get(device.group).id().to_string())
        })
        .collect()
}

#[test]
fn columns_are_found_by_their_header_in_any_order_and_case() {
    let text = format!(
        "\u{feff}Tags,Health,device id,Microsoft Entra Device ID,Device Name,OS Platform,Domain\n\
         \"a; VIP,b\",Active,{},00000000-0000-0000-0000-0000000000A1,PC-1.corp.test,Linux,corp.test\n",
        id('A')
    );
    let (inventory, problems) = csv(&text);
    assert_eq!(problems, [""; 0]);
    let expected = vec![('a', "By tag".to_owned())];
    for named in [&id('a'), "00000000-0000-0000-0000-0000000000a1", "pc-1.CORP.test", "pc-1"] {
        assert_eq!(found(&inventory, named), expected, "{named}");
    }
    assert_eq!(found(&inventory, "pc-2"), []);
}

#[test]
fn a_device_is_in_the_highest_ranked_group_that_matches_and_else_ungrouped() {
    let row = |digit: char, rest: &str| format!("{},{rest}\n", id(digit));
    let text = [
        "Device ID,Device Name,Domain,OS Platform,Tags\n".to_owned(),
        row('1', "exec-1,x.example,Windows11,VIP"),
        row('2', "exec-2,x.example,macOS,VIP"),
        row('3', "BOSS.x.test,,WINDOWS10,"),
        row('4', "pc-4,x.test,Windows11,not critical at all"),
        row('5', "pc-5,example,Windows11,vip2"),
        row('6', "my-exec-6,,Windows11,"),
    ];
    let (inventory, problems) = csv(&text.concat());
    assert_eq!(problems, [""; 0]);
    for (digit, group) in [
        ('1', "By name"),
        ('2', "By domain"),
        ('3', "By name"),
        ('4', "By tag"),
        ('5', UNGROUPED),
        ('6', UNGROUPED),
    ] {
        assert_eq!(found(&inventory, &id(digit)), [(digit, group.to_owned())], "{digit}");
    }
}

#[test]
fn a_short_name_with_a_domain_is_found_by_both_together() {
    let (inventory, _) = csv(&format!("Device ID,Device Name,Domain\n{},pc,corp.example\n", id('1')));
    assert_eq!(found(&inventory, "PC.corp.example").len(), 1);
    assert_eq!(found(&inventory, "pc").len(), 1);
}

#[test]
fn a_name_or_entra_id_that_fits_several_devices_finds_them_all() {
    let entra = "00000000-0000-0000-0000-0000000000a1";
    let text = format!(
        "Device ID,Device Name,AAD Device ID\n{},pc.a,{entra}\n{},PC.b,{entra}\n{},pc.a,\n",
        id('1'),
        id('2'),
        id('3')
    );
    let (inventory, problems) = csv(&text);
    assert_eq!(problems, [""; 0]);
    let digits =
        |named: &str| found(&inventory, named).into_iter().map(|(digit, _)| digit).collect::<String>();
    assert_eq!(
        (digits("pc.a"), digits("pc.b"), digits("pc"), digits(entra)),
        ("13".into(), "2".into(), "123".into(), "12".into())
    );
}

#[test]
fn a_name_that_looks_like_another_devices_id_finds_both() {
    let text = format!("Device ID,Device Name\n{},pc\n{},{}\n", id('1'), id('2'), id('1'));
    let (inventory, problems) = csv(&text);
    assert_eq!(problems, [""; 0]);
    assert_eq!(found(&inventory, &id('1')).len(), 2);
}

#[test]
fn a_device_without_a_name_is_found_by_its_id_alone() {
    let (inventory, problems) = csv(&format!("Device ID,Device Name\n{},\n", id('1')));
    assert_eq!(problems, [""; 0]);
    assert_eq!(
        (found(&inventory, &id('1')).len(), inventory.find(&DeviceRef::Name("".into())).count()),
        (1, 0)
    );
}

#[test]
fn an_export_with_a_header_alone_lists_no_device() {
    let (inventory, problems) = csv("Device ID,Device Name\n");
    assert_eq!((inventory.len(), problems.len()), (0, 0));
}

#[test]
fn every_mistake_of_a_csv_has_its_line() {
    let one = id('1');
    for (text, expected) in [
        (String::new(), "devices.csv:1:1: no column `Device ID` in the header"),
        ("Device ID,Name\n".into(), "devices.csv:1:1: no column `Device Name` in the header"),
        (
            "Device ID,Device Name,AAD Device ID,Azure AD Device ID\n".into(),
            "devices.csv:1:1: a second column `Azure AD Device ID` of the same meaning",
        ),
        (
            format!("Device ID,Device Name\n{one},a\nxyz,b\n"),
            "devices.csv:3:1: `xyz` is not a device id of 40",
        ),
        (format!("Device ID,Device Name\n\n\n{one}\n"), "devices.csv:4:1: 1 fields where the header has 2"),
        (
            format!("Device ID,Device Name\r\n\r\n{one},a\r\nx,b\r\n"),
            "devices.csv:4:1: `x` is not a device id",
        ),
        (format!("Device ID,Device Name\n{one},a,b\n"), "devices.csv:2:1: 3 fields where the header has 2"),
        (
            format!("Device ID,Tags,Device Name\n{one},\"a\nb\",c\n{one},,c\n"),
            "devices.csv:4:1: the device `1111111111111111111111111111111111111111` is listed twice",
        ),
        // A quote that nothing closes.
        (
            format!("Device ID,Device Name\n{one},\"a\n{},b\n", id('2')),
            "devices.csv:2:1: the name of `1111111111111111111111111111111111111111` has a control character",
        ),
        (format!("Device ID,Device Name,AAD Device ID\n{one},a,7\n"), "devices.csv:2:1: `7` is not a GUID"),
    ] {
        let (_, problems) = csv(&text);
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{expected}\n{problems:#?}");
    }
}

#[test]
fn a_file_of_nothing_but_mistakes_is_left_after_a_hundred() {
    let rows = "x,y\n".repeat(1_000);
    let (_, problems) = csv(&format!("Device ID,Device Name\n{rows}"));
    assert_eq!(problems.len(), 101);
    assert!(problems[100].contains("too many mistakes"), "{}", problems[100]);
}

#[test]
fn a_name_that_dns_cannot_have_is_refused() {
    let (_, problems) = csv(&format!("Device ID,Device Name\n{},{}\n", id('1'), "a".repeat(256)));
    assert_eq!(problems, [format!("devices.csv:2:1: the name of `{}` is longer than 255 bytes", id('1'))]);
}

fn machine(digit: char, members: &str) -> String {
    format!("{{\"id\":\"{}\",\"riskScore\":\"High\"{members}}}", id(digit))
}

#[test]
fn pages_are_read_alone_in_a_list_and_one_after_another() {
    let page = |digit: char| format!("{{\"@odata.context\":\"x\",\"value\":[{}]}}", machine(digit, ""));
    for text in [
        format!("{{\"value\":[{},\n{}]}}", machine('1', ""), machine('2', "")),
        format!("[{},\n{}]", page('1'), page('2')),
        format!("{}{}", page('1'), page('2')),
        format!("\u{feff}{}\n[{}]\n", page('1'), page('2')),
    ] {
        let (inventory, problems) = json(&text);
        assert_eq!((inventory.len(), problems), (2, Vec::new()), "{text}");
    }
}

#[test]
fn a_machine_of_the_api_brings_its_name_domain_platform_tags_and_entra_id() {
    let members = r#","computerDnsName":"EXEC-7.corp.example","osPlatform":"Windows10","machineTags":["VIP"],
        "aadDeviceId":"00000000-0000-0000-0000-0000000000a7","rbacGroupId":140"#;
    let (inventory, problems) = json(&format!(
        "{{\"value\":[{},{}]}}",
        machine('7', members),
        machine(
            '8',
            r#","computerDnsName":null,"osPlatform":"Linux","machineTags":["vip"],"aadDeviceId":null"#
        )
    ));
    assert_eq!(problems, [""; 0]);
    for named in ["exec-7", "exec-7.corp.example", "00000000-0000-0000-0000-0000000000a7"] {
        assert_eq!(found(&inventory, named), [('7', "By name".to_owned())], "{named}");
    }
    assert_eq!(found(&inventory, &id('8')), [('8', "By tag".to_owned())]);
    let (inventory, _) =
        json(&format!("{{\"value\":[{}]}}", machine('9', r#","computerDnsName":"a.b.example""#)));
    assert_eq!(found(&inventory, "a"), [('9', "By domain".to_owned())]);
}

#[test]
fn every_mistake_of_a_json_inventory_has_its_line() {
    for (text, expected) in [
        (String::new(), None),
        ("{\"value\":[]}\n\n{\"value\":[}".into(), Some("devices.json:3:1: expected value")),
        ("\n{\"machines\":[]}".into(), Some("devices.json:2:1: missing field `value`")),
        ("\n7".into(), Some("devices.json:2:1: invalid type: integer `7`")),
        ("[\n{\"value\":[]},\n7]".into(), Some("devices.json:3:1: invalid type: integer `7`")),
        ("{\"value\":[\n{},\n{\"id\":\n7}]}".into(), Some("devices.json:4:1: invalid type: integer `7`")),
        ("{\"value\":[\n{}]}".into(), Some("devices.json:2:1: missing field `id`")),
        ("{\"value\":[\n\n{\"id\":\"7\"}]}".into(), Some("devices.json:3:1: `7` is not a device id")),
        (
            format!("{{\"value\":[{},\n{}]}}", machine('1', ""), machine('1', "")),
            Some("devices.json:2:1: the device `1111111111111111111111111111111111111111` is listed twice"),
        ),
        (
            format!("{{\"value\":[{}]}}", machine('1', ",\"aadDeviceId\":\"x\"")),
            Some("devices.json:1:1: `x` is not a GUID"),
        ),
    ] {
        let (_, problems) = json(&text);
        match expected {
            Some(expected) => {
                assert!(problems.iter().any(|p| p.starts_with(expected)), "{expected}\n{problems:#?}");
                assert!(problems.iter().all(|problem| !problem.contains("column")), "{problems:#?}");
            }
            None => assert_eq!(problems, [""; 0]),
        }
    }
}

#[test]
fn both_files_together_are_one_inventory_in_which_no_device_is_twice() {
    let table = format!("Device ID,Device Name\n{},a\n", id('1'));
    let pages = |digit: char| format!("{{\"value\":[\n{}]}}", machine(digit, ""));
    let (inventory, problems) = read(&[("devices.csv", &table), ("devices.json", &pages('2'))]);
    assert_eq!((inventory.len(), problems), (2, Vec::new()));
    let (inventory, problems) =
        read(&[("devices/b.json", &pages('2')), ("devices/a.csv", &table), ("devices/c.json", &pages('3'))]);
    assert_eq!((inventory.len(), problems), (3, Vec::new()));
    let (_, problems) = read(&[("devices.csv", &table), ("devices.json", &pages('1'))]);
    assert!(problems[0].starts_with("devices.json:2:1: the device `1111"), "{problems:?}");
}

#[test]
fn a_set_without_an_inventory_is_refused() {
    let (_, problems) = read(&[]);
    assert!(problems[0].starts_with("devices.csv: the policy set has neither this file"), "{problems:?}");
}
