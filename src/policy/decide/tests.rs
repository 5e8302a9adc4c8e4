use super::*;
use crate::id::{ActionId, ApplicationId, EntraGroupId, Permission, TenantId, UserId};
use crate::policy::tests::{APPLICATIONS, GROUPS, set_with};
use crate::principal::Subject;
use crate::time::Wall;

mod inventory_age;
mod roles;
mod tenants;
mod tried;

const EVERYTHING: u128 = 1;
const WORKSTATIONS: u128 = 2;
const READER: u128 = 3;
const UNLISTED: u128 = 9;

const READERS: u128 = 0xa;
const RESPONDERS: u128 = 0xb;
const EXEC_TEAM: u128 = 0xe2;
const UNGROUPED_TEAM: u128 = 0xd0;

const EXEC: &str = "1111111111111111111111111111111111111111";
const WORKSTATION: &str = "2222222222222222222222222222222222222222";
const ODD: &str = "3333333333333333333333333333333333333333";
const UNKNOWN: &str = "9999999999999999999999999999999999999999";

const ALL: &[&str] = &["Machine.Collect", "Machine.Read"];

fn principal(application: u128, user: Option<u128>, kind: PrincipalKind) -> Principal {
    let subject = Subject {
        tenant: TenantId::from_u128(7),
        application: ApplicationId::from_u128(application),
        user: user.map(UserId::from_u128),
    };
    Principal { subject, kind, token_id: None, expires: Wall::default() }
}

fn permissions(words: &[&str]) -> Vec<Permission> {
    words.iter().map(|word| Permission::from(*word)).collect()
}

fn application(id: u128, held: &[&str]) -> Principal {
    principal(id, None, PrincipalKind::Application { permissions: permissions(held) })
}

fn user_in(application: u128, groups: Groups) -> Principal {
    principal(application, Some(5), PrincipalKind::User { permissions: permissions(ALL), groups })
}

fn user(application: u128, groups: &[u128]) -> Principal {
    user_in(application, Groups::Listed(groups.iter().copied().map(EntraGroupId::from_u128).collect()))
}

fn set() -> PolicySet {
    set_with("applications.toml", APPLICATIONS)
}

/// 1970: nothing has grown old yet.
fn clock() -> Clock {
    Clock::manual(Wall::default()).0
}

fn device(named: &str) -> Target {
    Target::Device(DeviceRef::parse(named))
}

fn action() -> Target {
    Target::UnknownAction(ActionId::parse("a-1").unwrap())
}

/// The word that the line would end with: of the permit, of the reach, or "ok".
fn decide(set: &PolicySet, caller: &Principal, operation: &str, targets: &[Target]) -> &'static str {
    let operation = set.operations().find(|known| known.id().as_str() == operation).unwrap();
    match set.permit(caller, operation) {
        Err(error) => error.reason().as_str(),
        Ok(grant) => grant.reach(targets, &clock()).map_or_else(|error| error.reason().as_str(), |_| "ok"),
    }
}

fn refusal(set: &PolicySet, caller: &Principal, operation: &str) -> String {
    let operation = set.operations().find(|known| known.id().as_str() == operation).unwrap();
    set.permit(caller, operation).unwrap_err().to_string()
}

fn scope(set: &PolicySet, caller: &Principal, operation: &str, targets: &[Target]) -> Scope {
    let operation = set.operations().find(|known| known.id().as_str() == operation).unwrap();
    set.permit(caller, operation).unwrap().reach(targets, &clock()).unwrap().scope
}

#[test]
fn one_of_the_permissions_is_enough_and_none_is_missing_permission() {
    let set = set();
    for held in [&["Machine.Collect"][..], &["Machine.All"], &["X", "Machine.All"]] {
        assert_eq!(decide(&set, &application(EVERYTHING, held), "collect", &[device(EXEC)]), "ok");
    }
    for held in [&[][..], &["Machine.Read"], &["machine.collect"], &["Machine.Collect.All"]] {
        let decision = decide(&set, &application(EVERYTHING, held), "collect", &[device(EXEC)]);
        assert_eq!(decision, "missing_permission", "{held:?}");
    }
}

#[test]
fn a_missing_permission_is_told_in_the_services_words() {
    let set = set();
    assert_eq!(
        refusal(&set, &application(EVERYTHING, &["X"]), "collect"),
        "Missing application roles. API required roles: Machine.Collect,Machine.All, application roles: X."
    );
    let kind = PrincipalKind::User { permissions: Vec::new(), groups: Groups::Listed(Vec::new()) };
    assert_eq!(
        refusal(&set, &principal(EVERYTHING, Some(5), kind), "collect"),
        "Missing scopes. API required scopes: Machine.Collect, token scopes: none."
    );
}

#[test]
fn each_kind_of_token_needs_the_permission_of_its_kind() {
    let set = set();
    let kind = PrincipalKind::User {
        permissions: permissions(&["Machine.All"]),
        groups: Groups::Listed(vec![EntraGroupId::from_u128(RESPONDERS)]),
    };
    let user = principal(EVERYTHING, Some(5), kind);
    assert_eq!(decide(&set, &user, "collect", &[device(WORKSTATION)]), "missing_permission");
}

#[test]
fn an_operation_that_nobody_of_a_kind_may_call_is_closed_to_them() {
    let set = set();
    assert_eq!(decide(&set, &user(EVERYTHING, &[RESPONDERS]), "by_tag", &[]), "missing_permission");
    assert!(
        refusal(&set, &user(EVERYTHING, &[RESPONDERS]), "by_tag")
            .contains("API required scopes: none would do,")
    );
    assert_eq!(decide(&set, &application(EVERYTHING, ALL), "by_tag", &[]), "ok");
}

#[test]
fn an_application_needs_an_entry_that_names_the_operation() {
    let set = set();
    assert_eq!(decide(&set, &application(UNLISTED, ALL), "machine", &[device(WORKSTATION)]), "application");
    assert_eq!(decide(&set, &application(READER, ALL), "machine", &[device(EXEC)]), "ok");
    assert_eq!(decide(&set, &application(READER, ALL), "collect", &[device(EXEC)]), "application");
    assert!(refusal(&set, &application(READER, ALL), "collect").contains("`reader` the operation `collect`"));
}

#[test]
fn a_policy_may_leave_unlisted_applications_to_their_permissions() {
    let set = set_with("applications.toml", format!("unlisted = \"permission\"\n{APPLICATIONS}"));
    assert_eq!(decide(&set, &application(UNLISTED, ALL), "collect", &[device(EXEC)]), "ok");
    assert_eq!(decide(&set, &application(UNLISTED, &[]), "collect", &[device(EXEC)]), "missing_permission");
    assert_eq!(decide(&set, &application(READER, ALL), "collect", &[device(EXEC)]), "application");
}

#[test]
fn the_permission_is_asked_before_the_entry_and_the_entry_before_the_role() {
    let set = set();
    assert_eq!(decide(&set, &application(UNLISTED, &[]), "collect", &[]), "missing_permission");
    assert_eq!(decide(&set, &user(READER, &[]), "collect", &[]), "application");
    assert_eq!(decide(&set, &user(EVERYTHING, &[]), "collect", &[device(UNKNOWN)]), "missing_role");
}

#[test]
fn a_user_needs_a_role_that_holds_the_role_permission() {
    let set = set();
    let workstation = &[device(WORKSTATION)];
    assert_eq!(decide(&set, &user(UNLISTED, &[RESPONDERS]), "collect", workstation), "ok");
    assert_eq!(decide(&set, &user(UNLISTED, &[READERS]), "collect", workstation), "missing_role");
    assert_eq!(decide(&set, &user(UNLISTED, &[]), "collect", workstation), "missing_role");
    assert_eq!(
        refusal(&set, &user(UNLISTED, &[READERS]), "collect"),
        "Missing role permission. API required role permission: Alerts investigation."
    );
}

#[test]
fn a_role_may_be_held_by_object_id() {
    let set = set();
    let mut caller = user(UNLISTED, &[]);
    caller.subject.user = Some(UserId::from_u128(0xff));
    assert_eq!(decide(&set, &caller, "collect", &[device(WORKSTATION)]), "ok");
}

#[test]
fn a_user_acts_on_devices_of_groups_that_are_open_or_theirs() {
    let set = set();
    for (groups, named, expected) in [
        (&[RESPONDERS][..], WORKSTATION, "ok"),
        (&[RESPONDERS], EXEC, "device_group"),
        (&[RESPONDERS, EXEC_TEAM], EXEC, "ok"),
        (&[RESPONDERS, EXEC_TEAM], ODD, "device_group"),
        (&[RESPONDERS, UNGROUPED_TEAM], ODD, "ok"),
        (&[RESPONDERS], "ws-1.corp.example", "ok"),
        (&[RESPONDERS], "EXEC-1", "device_group"),
        (&[RESPONDERS], "00000000-0000-0000-0000-0000000000a1", "device_group"),
        (&[RESPONDERS], "odd-1.corp.example", "device_group"),
    ] {
        let decision = decide(&set, &user(UNLISTED, groups), "collect", &[device(named)]);
        assert_eq!(decision, expected, "{groups:?} {named}");
    }
}

#[test]
fn an_application_acts_on_devices_of_the_groups_of_its_entry() {
    let set = set();
    for (id, named, expected) in [
        (WORKSTATIONS, WORKSTATION, "ok"),
        (WORKSTATIONS, EXEC, "device_group"),
        (WORKSTATIONS, ODD, "device_group"),
        (EVERYTHING, EXEC, "ok"),
        (EVERYTHING, UNKNOWN, "ok"),
    ] {
        assert_eq!(
            decide(&set, &application(id, ALL), "collect", &[device(named)]),
            expected,
            "{id} {named}"
        );
    }
}

#[test]
fn a_users_call_is_held_to_the_entry_of_the_application_it_came_through() {
    let set = set();
    let everywhere = [RESPONDERS, EXEC_TEAM, UNGROUPED_TEAM];
    assert_eq!(decide(&set, &user(UNLISTED, &everywhere), "collect", &[device(EXEC)]), "ok");
    assert_eq!(decide(&set, &user(WORKSTATIONS, &everywhere), "collect", &[device(EXEC)]), "device_group");
    assert_eq!(decide(&set, &user(WORKSTATIONS, &everywhere), "collect", &[device(WORKSTATION)]), "ok");
    assert_eq!(decide(&set, &user(READER, &everywhere), "collect", &[device(WORKSTATION)]), "application");
    // And the entry opens nothing that the user's own groups do not.
    assert_eq!(decide(&set, &user(EVERYTHING, &[RESPONDERS]), "collect", &[device(EXEC)]), "device_group");
}

#[test]
fn a_name_that_fits_several_devices_must_be_open_on_every_one() {
    let set = set();
    let twin = &[device("twin.corp.example")];
    assert_eq!(decide(&set, &application(WORKSTATIONS, ALL), "collect", twin), "device_group");
    assert_eq!(decide(&set, &user(UNLISTED, &[RESPONDERS]), "collect", twin), "device_group");
    let caller = user(UNLISTED, &[RESPONDERS, UNGROUPED_TEAM]);
    let scope = scope(&set, &caller, "collect", twin);
    assert_eq!(scope.devices.len(), 2);
    assert!(scope.devices.iter().all(|device| device.id.is_some() && device.group.is_some()));
}

#[test]
fn of_several_devices_every_one_must_be_open() {
    let set = set();
    let both = [device(WORKSTATION), device(EXEC)];
    assert_eq!(decide(&set, &application(WORKSTATIONS, ALL), "collect", &both), "device_group");
}

#[test]
fn where_no_device_group_binds_nothing_is_looked_up() {
    let set = set();
    let everywhere = user(UNLISTED, &[RESPONDERS, EXEC_TEAM, UNGROUPED_TEAM]);
    for caller in [application(EVERYTHING, ALL), everywhere] {
        let found = scope(&set, &caller, "collect", &[device(EXEC), device("nobody"), action()]);
        let [by_id, by_name] = &found.devices[..] else { panic!("{found:?}") };
        assert_eq!((by_id.id.map(|id| id.to_string()).as_deref(), &by_id.group), (Some(EXEC), &None));
        assert_eq!((by_name.id, &by_name.group), (None, &None));
    }
}

#[test]
fn where_a_group_binds_the_scope_says_which_device_and_group_it_was() {
    let set = set();
    let found = scope(&set, &application(WORKSTATIONS, ALL), "collect", &[device("WS-1")]);
    let expected = ScopedDevice {
        named: DeviceRef::Name("ws-1".into()),
        id: WORKSTATION.parse().ok(),
        group: Some("Workstations".into()),
    };
    assert_eq!(found.devices[..], [expected]);
}

#[test]
fn all_groups_open_means_that_no_user_is_bound() {
    let open = GROUPS.lines().filter(|line| !line.starts_with("entra_groups")).collect::<Vec<_>>().join("\n");
    let set = set_with("device-groups.toml", open);
    assert_eq!(decide(&set, &user(UNLISTED, &[RESPONDERS]), "collect", &[device(UNKNOWN)]), "ok");
    let caller = user_in(UNLISTED, Groups::Overage);
    assert_eq!(decide(&set, &caller, "collect", &[device(EXEC)]), "group_overage");
}

#[test]
fn an_unknown_device_is_refused_or_counts_as_ungrouped() {
    let (refusing, counting) =
        (set(), set_with("device-groups.toml", format!("unknown_device = \"ungrouped\"\n{GROUPS}")));
    let target = &[device(UNKNOWN)];
    for (caller, if_ungrouped) in [
        (application(WORKSTATIONS, ALL), "device_group"),
        (user(UNLISTED, &[RESPONDERS]), "device_group"),
        (user(UNLISTED, &[RESPONDERS, UNGROUPED_TEAM]), "ok"),
    ] {
        assert_eq!(decide(&refusing, &caller, "collect", target), "unknown_device");
        assert_eq!(decide(&counting, &caller, "collect", target), if_ungrouped);
    }
    let caller = user(UNLISTED, &[RESPONDERS, UNGROUPED_TEAM]);
    let odd = &[device("0x0c1f2e-0000-0000-0000-000000000001")];
    assert_eq!(decide(&counting, &caller, "collect", odd), "unknown_device", "the API may know it by that");
    let found = scope(&counting, &caller, "collect", target);
    assert_eq!(found.devices[0].group.as_ref().unwrap().as_str(), "Ungrouped devices (default)");
}

#[test]
fn only_a_caller_with_the_permission_learns_that_a_device_is_unknown() {
    let set = set();
    assert_eq!(
        decide(&set, &application(WORKSTATIONS, &[]), "collect", &[device(UNKNOWN)]),
        "missing_permission"
    );
}

#[test]
fn an_unknown_action_is_refused_or_forwarded_where_a_group_binds() {
    let (refusing, forwarding) =
        (set(), set_with("device-groups.toml", format!("unknown_action = \"forward\"\n{GROUPS}")));
    for caller in [application(WORKSTATIONS, ALL), user(UNLISTED, &[RESPONDERS])] {
        assert_eq!(decide(&refusing, &caller, "package", &[action()]), "unknown_action");
        assert_eq!(decide(&forwarding, &caller, "package", &[action()]), "ok");
        // The device behind a known one is checked like any other.
        assert_eq!(decide(&forwarding, &caller, "package", &[device(EXEC)]), "device_group");
    }
    assert_eq!(decide(&refusing, &application(EVERYTHING, ALL), "package", &[action()]), "ok");
}

#[test]
fn an_unscoped_operation_is_closed_to_the_confined_unless_their_entry_lists_it() {
    let set = set();
    for (caller, operation, expected) in [
        (application(WORKSTATIONS, ALL), "machines", "ok"),
        (application(WORKSTATIONS, ALL), "by_tag", "unscoped_operation"),
        (application(EVERYTHING, ALL), "by_tag", "ok"),
        (user(UNLISTED, &[RESPONDERS]), "machines", "ok"),
        (user(WORKSTATIONS, &[RESPONDERS]), "machines", "ok"),
    ] {
        assert_eq!(decide(&set, &caller, operation, &[]), expected, "{operation}");
    }
    let without = APPLICATIONS.replace("unscoped_operations = [\"machines\"]", "");
    let set = set_with("applications.toml", without);
    assert_eq!(decide(&set, &user(WORKSTATIONS, &[RESPONDERS]), "machines", &[]), "unscoped_operation");
    assert_eq!(decide(&set, &user(EVERYTHING, &[RESPONDERS]), "machines", &[]), "ok");
}

#[test]
fn a_call_that_should_name_a_device_and_does_not_is_closed_to_whoever_is_bound() {
    let set = set();
    assert_eq!(decide(&set, &application(WORKSTATIONS, ALL), "collect", &[]), "unscoped_operation");
    assert_eq!(decide(&set, &user(UNLISTED, &[RESPONDERS]), "collect", &[]), "unscoped_operation");
    assert_eq!(decide(&set, &application(EVERYTHING, ALL), "collect", &[]), "ok");
}

#[test]
fn group_overage_is_a_reason_of_its_own_where_an_answer_depends_on_the_groups() {
    let set = set();
    let mut caller = user_in(UNLISTED, Groups::Overage);
    assert_eq!(decide(&set, &caller, "collect", &[device(WORKSTATION)]), "group_overage");
    // The role is held by object id; then only a device of a group that is not open to all depends on them.
    caller.subject.user = Some(UserId::from_u128(0xff));
    assert_eq!(decide(&set, &caller, "collect", &[device(WORKSTATION)]), "ok");
    assert_eq!(decide(&set, &caller, "collect", &[device(EXEC)]), "group_overage");
    assert_eq!(decide(&set, &caller, "collect", &[device(UNKNOWN)]), "unknown_device");
    // The entry refuses the device whatever the groups are.
    caller.subject.application = ApplicationId::from_u128(WORKSTATIONS);
    assert_eq!(decide(&set, &caller, "collect", &[device(EXEC)]), "device_group");
}

#[test]
fn a_role_that_no_group_holds_is_missing_also_for_a_user_with_overage() {
    let roles = r#"
[[role]]
name         = "Reader"
permissions  = ["View data"]
entra_groups = ["00000000-0000-0000-0000-00000000000a"]

[[role]]
name        = "Responder"
permissions = ["Alerts investigation"]
users       = ["00000000-0000-0000-0000-0000000000ff"]
"#;
    let set = set_with("roles.toml", roles);
    let caller = user_in(UNLISTED, Groups::Overage);
    assert_eq!(decide(&set, &caller, "collect", &[device(WORKSTATION)]), "missing_role");
    assert_eq!(decide(&set, &caller, "package", &[device(WORKSTATION)]), "group_overage");
}
