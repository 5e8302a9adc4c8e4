use super::*;
use crate::policy::RolePermission;
use crate::policy::tests::OPERATIONS;
use crate::source::{Problems, SourceFile};

#[test]
fn an_operation_without_a_role_permission_needs_any_role() {
    let set = set();
    assert_eq!(decide(&set, &user(UNLISTED, &[READERS]), "machine", &[device(WORKSTATION)]), "ok");
    assert_eq!(decide(&set, &user(UNLISTED, &[]), "machine", &[device(WORKSTATION)]), "missing_role");
}

#[test]
fn an_operation_of_several_role_permissions_needs_one_of_them() {
    let any =
        |list: &str| OPERATIONS.replace("role        = \"Alerts investigation\"", &format!("role = {list}"));
    for (list, groups, expected) in [
        (r#"["Alerts investigation", "Live response basic"]"#, &[RESPONDERS][..], "ok"),
        (r#"["Live response basic", "Alerts investigation"]"#, &[RESPONDERS], "ok"),
        (r#"["Live response basic", "Alerts investigation"]"#, &[READERS], "missing_role"),
        (r#"["Live response basic"]"#, &[RESPONDERS], "missing_role"),
    ] {
        let set = set_with("operations.toml", any(list));
        let decision = decide(&set, &user(UNLISTED, groups), "collect", &[device(WORKSTATION)]);
        assert_eq!(decision, expected, "{list} {groups:?}");
    }
    let set = set_with("operations.toml", any(r#"["Live response basic", "Alerts investigation"]"#));
    let overage = user_in(UNLISTED, Groups::Overage);
    assert_eq!(decide(&set, &overage, "collect", &[device(WORKSTATION)]), "group_overage");
    let reader = user(UNLISTED, &[READERS]);
    let error = set.permit(&reader, set.operations.get("collect").unwrap()).unwrap_err();
    assert!(
        error.to_string().contains("role permission: Live response basic or Alerts investigation."),
        "{error}"
    );
}

#[test]
fn a_role_may_be_written_in_the_words_of_unified_rbac_all_of_them() {
    let any = |permission: RolePermission| {
        OPERATIONS.replace("role        = \"Alerts investigation\"", &format!("role = \"{permission}\""))
    };
    let role = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        let group = EntraGroupId::from_u128(RESPONDERS);
        format!("[[role]]\nname = \"x\"\npermissions = [{}]\nentra_groups = [\"{group}\"]\n", words.join(","))
    };
    for permission in RolePermission::ALL {
        let mut files = crate::policy::tests::files();
        let mut decision = |words: &[&str]| {
            files.insert(SourceFile::new("operations.toml", any(*permission)));
            files.insert(SourceFile::new("roles.toml", role(words)));
            let mut problems = Problems::default();
            let set = PolicySet::compile(&files, &mut problems);
            assert!(problems.is_empty(), "{problems:?}");
            decide(&set, &user(UNLISTED, &[RESPONDERS]), "collect", &[device(WORKSTATION)])
        };
        assert_eq!(decision(permission.unified()), "ok", "{permission}");
        assert_eq!(decision(&permission.unified()[1..]), "missing_role", "{permission}");
    }
}
