//! A set for several tenants: what is listed for one holds in no other.

use super::*;
use crate::policy::tests::{ROLES, compile_with};

/// The tenant of every caller here that says nothing else.
const OURS: &str = "00000000-0000-0000-0000-000000000007";
const THEIRS: u128 = 8;

/// The same caller, of the other tenant.
fn of_theirs(mut caller: Principal) -> Principal {
    caller.subject.tenant = TenantId::from_u128(THEIRS);
    caller
}

fn name<'s>(set: &'s PolicySet, caller: &Principal) -> Option<&'s str> {
    set.application_name(&caller.subject).map(|name| name.as_str())
}

#[test]
fn an_application_that_is_listed_for_one_tenant_is_not_listed_in_another() {
    let text = APPLICATIONS.replacen("\"all\"\n", &format!("\"all\"\ntenants = [\"{OURS}\"]\n"), 1);
    let set = set_with("applications.toml", text);
    let caller = application(EVERYTHING, ALL);
    assert_eq!(decide(&set, &caller, "collect", &[device(EXEC)]), "ok");
    assert_eq!(decide(&set, &of_theirs(caller.clone()), "collect", &[device(EXEC)]), "application");
    assert_eq!((name(&set, &caller), name(&set, &of_theirs(caller.clone()))), (Some("everything"), None));
    // What is listed for no tenant in particular holds in each.
    let workstations = of_theirs(application(WORKSTATIONS, ALL));
    assert_eq!(decide(&set, &workstations, "collect", &[device(WORKSTATION)]), "ok");
    assert_eq!(set.counts().applications, 3);
}

#[test]
fn an_application_may_have_an_entry_for_each_of_several_tenants() {
    let entry = |name: &str, tenant: &str, groups: &str| {
        format!(
            "[[application]]\nid = \"00000000-0000-0000-0000-000000000001\"\nname = \"{name}\"\n{tenant}operations = \"all\"\ndevice_groups = {groups}\n"
        )
    };
    let only = |tenant: &str| format!("tenants = [\"{tenant}\"]\n");
    let theirs = TenantId::from_u128(THEIRS).to_string();
    let ours = entry("ours", &only(OURS), "\"all\"");
    let set =
        set_with("applications.toml", ours.clone() + &entry("theirs", &only(&theirs), "[\"Workstations\"]"));
    let caller = application(EVERYTHING, ALL);
    let other = of_theirs(caller.clone());
    assert_eq!(decide(&set, &caller, "collect", &[device(EXEC)]), "ok");
    assert_eq!(decide(&set, &other, "collect", &[device(EXEC)]), "device_group");
    assert_eq!((name(&set, &caller), name(&set, &other)), (Some("ours"), Some("theirs")));
    // Users of that tenant who come through it are held to the entry of their own.
    let user =
        |caller: Principal| Principal { kind: user(EVERYTHING, &[RESPONDERS, EXEC_TEAM]).kind, ..caller };
    assert_eq!(decide(&set, &user(caller), "collect", &[device(EXEC)]), "ok");
    assert_eq!(decide(&set, &user(other), "collect", &[device(EXEC)]), "device_group");

    for twice in [only(OURS), String::new(), format!("tenants = [\"{theirs}\", \"{OURS}\"]\n")] {
        let (_, problems) =
            compile_with("applications.toml", ours.clone() + &entry("again", &twice, "\"all\""));
        let said = "applications.toml:8:6: the application id `00000000-0000-0000-0000-000000000001` is given twice for one tenant, in line 2 for the first time";
        assert_eq!(problems, [said], "{twice}");
    }
}

#[test]
fn a_role_that_is_listed_for_one_tenant_is_held_in_no_other() {
    let text = ROLES.replacen("[\"View data\"]", &format!("[\"View data\"]\ntenants = [\"{OURS}\"]"), 1);
    let set = set_with("roles.toml", text);
    let reader = user(UNLISTED, &[READERS]);
    let responder = user(UNLISTED, &[RESPONDERS]);
    for operation in ["machines", "machine"] {
        assert_eq!(decide(&set, &reader, operation, &[]).replace("unscoped_operation", "ok"), "ok");
        assert_eq!(decide(&set, &of_theirs(reader.clone()), operation, &[]), "missing_role");
        let theirs = of_theirs(responder.clone());
        assert_eq!(decide(&set, &theirs, operation, &[]).replace("unscoped_operation", "ok"), "ok");
    }
    // Groups that the token leaves out could matter in the one, and in the other those of responders alone.
    let unknown = user_in(UNLISTED, Groups::Overage);
    assert_eq!(decide(&set, &unknown, "machines", &[]), "group_overage");
    let roles = |text: &str| {
        let only = format!("permissions = [\"View data\"]\ntenants = [\"{OURS}\"]");
        format!("[[role]]\nname = \"Reader\"\n{only}\n{text}")
    };
    let one = set_with("roles.toml", roles("entra_groups = [\"00000000-0000-0000-0000-00000000000a\"]"));
    assert_eq!(decide(&one, &unknown, "machines", &[]), "group_overage");
    assert_eq!(decide(&one, &of_theirs(unknown), "machines", &[]), "missing_role");
    let named = set_with("roles.toml", roles("users = [\"00000000-0000-0000-0000-000000000005\"]"));
    let nobody = user(UNLISTED, &[]);
    assert_eq!(decide(&named, &nobody, "machines", &[]), "ok");
    assert_eq!(decide(&named, &of_theirs(nobody), "machines", &[]), "missing_role");
    assert_eq!(one.entra_groups().count(), set.entra_groups().count() - 1);
}

#[test]
fn a_role_that_is_tried_in_one_tenant_lets_nobody_pass_in_another() {
    let tried = format!("[\"View data\"]\nenforce = false\ntenants = [\"{OURS}\"]");
    let set = set_with("roles.toml", ROLES.replacen("[\"View data\"]", &tried, 1));
    let reader = user(UNLISTED, &[READERS]);
    assert_eq!(decide(&set, &reader, "collect", &[device(WORKSTATION)]), "ok");
    assert_eq!(decide(&set, &of_theirs(reader), "collect", &[device(WORKSTATION)]), "missing_role");
}

#[test]
fn tenants_are_ids_and_at_least_one() {
    for (list, mistake) in [
        ("[]", "an empty list of tenants: leave `tenants` out if it is for every one"),
        ("[\"contoso\"]", "`contoso` is not a GUID"),
    ] {
        let text = ROLES.replacen("[\"View data\"]", &format!("[\"View data\"]\ntenants = {list}"), 1);
        let (_, problems) = compile_with("roles.toml", text);
        assert!(problems.len() == 1 && problems[0].contains(mistake), "{problems:?}");
        let text = APPLICATIONS.replacen("\"all\"\n", &format!("\"all\"\ntenants = {list}\n"), 1);
        let (_, problems) = compile_with("applications.toml", text);
        assert!(problems.len() == 1 && problems[0].contains(mistake), "{problems:?}");
    }
}
