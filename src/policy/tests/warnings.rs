//! What is legal but worth a second look.

use super::*;

/// The warnings of the small set with these files in the place of its own.
fn warnings(changed: &[(&str, String)]) -> Vec<String> {
    let mut files = files();
    changed.iter().for_each(|(name, text)| files.insert(SourceFile::new(name, text.as_str())));
    let mut problems = Problems::default();
    let _ = PolicySet::compile(&files, &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    problems.into_warnings().iter().map(Problem::to_string).collect()
}

#[test]
fn a_device_group_that_is_not_enforced_is_pointed_out() {
    let text = GROUPS
        .replace("rank  = 2", "rank = 2\nenforce = false")
        .replace("[ungrouped]", "[ungrouped]\nenforce = false");
    let found = warnings(&[("device-groups.toml", text)]);
    let of = |group: &str| {
        format!(
            "the group `{group}` is not enforced: whom it would refuse is noted, and may act on its devices"
        )
    };
    let said: Vec<_> = found.iter().filter(|warning| warning.contains("not enforced")).collect();
    assert_eq!(said.len(), 2, "{found:?}");
    assert_eq!(said[0], &format!("device-groups.toml:9:9: {}", of("Workstations")));
    assert!(
        said[1].starts_with("device-groups.toml:14:1: ")
            && said[1].ends_with(&of("Ungrouped devices (default)")),
        "{said:?}"
    );
}

#[test]
fn a_set_and_a_role_that_are_not_enforced_are_pointed_out() {
    let text = ROLES.replacen("[\"View data\"]", "[\"View data\"]\nenforce = false", 1);
    let found = warnings(&[("roles.toml", text), ("policy.toml", "\nenforce = false".to_owned())]);
    let said: Vec<_> =
        found.iter().filter(|warning| warning.contains("not") && !warning.contains("unscoped")).collect();
    assert_eq!(
        said,
        [
            "policy.toml:2:11: nothing of this policy is enforced: whoever shows a good token may make every call of the catalogue, on every device and at any rate, and what would be refused is noted",
            "roles.toml:3:16: the role `Reader` is not enforced: whatever role permission its holders lack is noted, and they may make the call",
        ]
    );
}

#[test]
fn whoever_lacks_no_role_permission_since_a_role_is_not_enforced_could_move_a_device_too() {
    let roles = ROLES.replacen("[\"View data\"]", "[\"View data\"]\nenforce = false", 1);
    let found = warnings(&[tagging(), by_tag(), ("roles.toml", roles)]);
    let beginning = "roles.toml:3:16: holders of `Reader` are confined by device groups, some groups match by tag, and they may change tags by `collect`, `machine`: ";
    assert!(found.iter().any(|warning| warning.starts_with(beginning)), "{found:#?}");
}

/// The operations, of which `machine` and `collect` change tags.
fn tagging() -> (&'static str, String) {
    let text = OPERATIONS.replace(
        "path        = \"/api/machines/{device}\"",
        "path = \"/api/machines/{device}\"\nchanges_tags = true",
    );
    (
        "operations.toml",
        text.replace("action      = \"started\"", "action = \"started\"\nchanges_tags = true"),
    )
}

/// The device groups, one of them by tag.
fn by_tag() -> (&'static str, String) {
    ("device-groups.toml", GROUPS.replace("os_platform = [\"equals Windows11\"]", "tag = [\"equals VIP\"]"))
}

const UNSCOPED: &str = "applications.toml:13:24: `workstations` is confined to device groups but may call `machines`, which can tell of or act on any device";

#[test]
fn every_grant_of_a_call_that_names_no_device_is_pointed_out() {
    assert_eq!(warnings(&[]), [UNSCOPED]);
    let open = APPLICATIONS.replace("[\"Workstations\"]", "\"all\"");
    assert_eq!(warnings(&[("applications.toml", open)]), [""; 0]);
}

#[test]
fn whoever_could_move_a_device_out_of_the_groups_that_confine_them_is_pointed_out() {
    let found = warnings(&[tagging(), by_tag()]);
    let beginnings = [
        "applications.toml:10:23: `workstations` is confined to device groups, some groups match by tag, and it may change tags by `collect`, `machine`: ",
        UNSCOPED,
        // `machine` asks for no role permission, so every role will do.
        "roles.toml:3:16: holders of `Reader` are confined by device groups, some groups match by tag, and they may change tags by `machine`: ",
        "roles.toml:8:16: holders of `Responder` are confined by device groups, some groups match by tag, and they may change tags by `collect`, `machine`: ",
    ];
    assert_eq!(found.len(), beginnings.len(), "{found:#?}");
    for (found, beginning) in found.iter().zip(beginnings) {
        assert!(found.starts_with(beginning), "\n found {found}\nwanted {beginning}");
    }
}

#[test]
fn nobody_is_pointed_out_where_tags_move_nothing_or_nobody_is_confined() {
    assert_eq!(warnings(&[tagging()]), [UNSCOPED]);
    assert_eq!(warnings(&[by_tag()]), [UNSCOPED]);
    // Whoever is in all the groups that open a device group is confined by none.
    let groups = by_tag().1.replace(
        "[\"00000000-0000-0000-0000-0000000000e1\", \"00000000-0000-0000-0000-0000000000e2\"]",
        "[]",
    );
    let open = groups.replace("[\"00000000-0000-0000-0000-0000000000d0\"]", "[]");
    let found = warnings(&[tagging(), ("device-groups.toml", open)]);
    assert!(found.iter().all(|warning| warning.starts_with("applications.toml")), "{found:#?}");
    let theirs = groups.replace("0000000000d0", "00000000000a");
    let found = warnings(&[tagging(), ("device-groups.toml", theirs)]);
    assert!(!found.iter().any(|warning| warning.contains("`Reader`")), "{found:#?}");
    assert!(found.iter().any(|warning| warning.contains("`Responder`")), "{found:#?}");
}

#[test]
fn a_name_of_unified_rbac_that_stands_for_nothing_alone_is_pointed_out() {
    let roles = |permissions: &str| {
        let role = format!("[[role]]\nname = \"x\"\npermissions = [{permissions}]\n");
        let mut found = warnings(&[("applications.toml", String::new()), ("roles.toml", role)]);
        found.retain(|warning| warning.contains("grants nothing"));
        found
    };
    assert_eq!(
        roles(r#""Alerts (manage)", "Detection tuning (manage)""#),
        [
            "roles.toml:3:35: `Detection tuning (manage)` grants nothing by itself: `Core security settings (manage)`, `Detection tuning (manage)` together are `Manage security settings`"
        ]
    );
    assert_eq!(roles(r#""Core security settings (manage)", "Detection tuning (manage)""#), [""; 0]);
    assert_eq!(roles(r#""Manage security settings", "Detection tuning (manage)""#), [""; 0]);
}

#[test]
fn an_operation_that_no_role_and_no_entry_lets_anybody_call_is_pointed_out() {
    let nobody = |changed: &[(&str, String)]| {
        let mut found = warnings(changed);
        found.retain(|warning| warning.contains("nobody can call"));
        found
    };
    let no_entries = ("applications.toml", String::new());
    // Users have roles for all but `by_tag`, which no user may call.
    assert_eq!(
        nobody(std::slice::from_ref(&no_entries)),
        [
            "operations.toml:37:15: nobody can call `by_tag`: no role that somebody holds has the role permission, and no entry of applications.toml allows it"
        ]
    );
    let no_holders = ("roles.toml", "[[role]]\nname = \"x\"\npermissions = [\"View data\"]\n".to_owned());
    let found = nobody(&[no_entries, no_holders.clone()]);
    let all = "operations.toml:3:15: nobody can call `collect`, `package`, `machine`, `machines`, `by_tag`: ";
    assert!(found.len() == 1 && found[0].starts_with(all), "{found:?}");
    // The entry of `everything` is enough, and so is leaving applications to their permissions.
    assert_eq!(nobody(std::slice::from_ref(&no_holders)), [""; 0]);
    let unlisted = ("applications.toml", "unlisted = \"permission\"".to_owned());
    assert_eq!(nobody(&[unlisted, no_holders]), [""; 0]);
    // What asks for no permission at all says by itself that nobody may call it.
    let closed = OPERATIONS.replace("[\"Machine.Read\"]\ndelegated   = []", "[]\ndelegated   = []");
    assert_ne!(closed, OPERATIONS);
    assert_eq!(nobody(&[("applications.toml", String::new()), ("operations.toml", closed)]), [""; 0]);
}

#[test]
fn a_role_that_nobody_holds_is_pointed_out() {
    let vacant = "[[role]]\nname = \"Empty\"\npermissions = [\"View data\"]\n";
    let found = warnings(&[("roles.toml", format!("{ROLES}\n{vacant}"))]);
    assert_eq!(
        found[1],
        "roles.toml:14:8: nobody holds the role `Empty`: it has no `entra_groups` and no `users`"
    );
    assert_eq!(found.len(), 2, "{found:#?}");
}

#[test]
fn a_device_group_without_a_device_is_pointed_out_unless_the_inventory_is_empty() {
    let groups = ("device-groups.toml", GROUPS.replace("EXEC-", "CEO-"));
    let found = warnings(std::slice::from_ref(&groups));
    assert_eq!(
        found[1],
        "device-groups.toml:3:16: no device of the inventory is in the group `Executives`: nothing matches it, or only what a group of a higher rank takes"
    );
    assert_eq!(found.len(), 2, "{found:#?}");
    let empty = ("devices.csv", DEVICES.lines().next().unwrap().to_owned());
    assert_eq!(warnings(&[groups, empty]), [UNSCOPED]);
}

#[test]
fn an_application_that_is_listed_and_allowed_nothing_is_pointed_out() {
    let entry = |lines: &str| {
        let id = "00000000-0000-0000-0000-000000000009";
        let entry = format!("[[application]]\nid = \"{id}\"\nname = \"idle\"\n{lines}\n");
        let mut found = warnings(&[("applications.toml", format!("{APPLICATIONS}{entry}"))]);
        found.retain(|warning| warning != UNSCOPED);
        found
    };
    let idle = ["applications.toml:22:8: `idle` is listed and not allowed anything"];
    assert_eq!(entry("operations = []\ndevice_groups = \"all\""), idle);
    assert_eq!(entry("operations = [\"machine\"]\ndevice_groups = []"), idle);
    // Confined to device groups, it may make no call that names no device.
    assert_eq!(entry("operations = [\"machines\"]\ndevice_groups = [\"Executives\"]"), idle);
    assert_eq!(entry("operations = [\"machine\"]\ndevice_groups = [\"Executives\"]"), [""; 0]);
}

#[test]
fn leaving_unlisted_applications_to_their_permissions_is_pointed_out() {
    let found = warnings(&[("applications.toml", format!("unlisted = \"permission\"{APPLICATIONS}"))]);
    assert_eq!(
        found[0],
        "applications.toml:1:12: every application without an entry may make whatever calls its permissions name, on every device"
    );
    assert_eq!(
        warnings(&[("applications.toml", format!("unlisted = \"refuse\"{APPLICATIONS}"))]),
        [UNSCOPED]
    );
}
