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
        warnings(&[("applications.toml", String::new()), ("roles.toml", role)])
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
