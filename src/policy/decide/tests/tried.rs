//! What is tried: nobody is refused for it, and it is known who would have been.

use super::*;
use crate::policy::tests::{ROLES, compile_with};

/// The set of which the group of executives refuses nobody.
fn tried() -> PolicySet {
    let entra = "0000000000e2\"]";
    set_with("device-groups.toml", GROUPS.replace(entra, &format!("{entra}\nenforce = false")))
}

fn overrun(scope: &Scope) -> Vec<&str> {
    scope.overrun.iter().map(|group| group.as_str()).collect()
}

#[test]
fn a_group_that_is_not_enforced_refuses_nobody_and_says_whom_it_would_have() {
    let (tried, enforced) = (tried(), set());
    let stranger = user(EVERYTHING, &[RESPONDERS]);
    let confined = application(WORKSTATIONS, ALL);
    for caller in [&stranger, &confined] {
        assert_eq!(decide(&enforced, caller, "collect", &[device(EXEC)]), "device_group");
        let scope = scope(&tried, caller, "collect", &[device(EXEC), device(EXEC), device(WORKSTATION)]);
        assert_eq!(overrun(&scope), ["Executives"]);
        assert_eq!(scope.devices[0].group.as_ref().unwrap().as_str(), "Executives");
    }

    // Whom it is open to, and other groups, it does not concern.
    let theirs = user(EVERYTHING, &[RESPONDERS, EXEC_TEAM]);
    assert_eq!(overrun(&scope(&tried, &theirs, "collect", &[device(EXEC)])), [""; 0]);
    assert_eq!(overrun(&scope(&tried, &stranger, "collect", &[device(WORKSTATION)])), [""; 0]);
    assert_eq!(decide(&tried, &confined, "collect", &[device(EXEC), device(ODD)]), "device_group");
    assert_eq!(decide(&tried, &confined, "collect", &[device(UNKNOWN)]), "unknown_device");
    let without = application(WORKSTATIONS, &[]);
    assert_eq!(decide(&tried, &without, "collect", &[device(EXEC)]), "missing_permission");
}

/// The set with this `policy.toml`.
fn with_policy(text: &str) -> PolicySet {
    set_with("policy.toml", text)
}

/// What comes of a call, and why it would have been refused if everything were enforced, and which roles let it pass.
fn judged(
    set: &PolicySet,
    caller: &Principal,
    operation: &str,
    targets: &[Target],
) -> (&'static str, Option<Tried>) {
    let operation = set.operations().find(|known| known.id().as_str() == operation).unwrap();
    let grant = match set.permit(caller, operation) {
        Ok(grant) => grant,
        Err(error) => return (error.reason().as_str(), None),
    };
    match grant.reach(targets, &clock()) {
        Ok(reach) => ("ok", reach.tried.map(|tried| *tried)),
        Err(error) => (error.reason().as_str(), None),
    }
}

/// Calls that an enforced set refuses, each for its reason.
fn refused() -> Vec<(Principal, &'static str, Vec<Target>)> {
    vec![
        (application(EVERYTHING, &[]), "collect", vec![device(EXEC)]),
        (application(UNLISTED, ALL), "collect", vec![device(EXEC)]),
        (application(READER, ALL), "collect", vec![device(EXEC)]),
        (user(EVERYTHING, &[READERS]), "collect", vec![device(WORKSTATION)]),
        (user_in(EVERYTHING, Groups::Overage), "collect", vec![device(WORKSTATION)]),
        (application(WORKSTATIONS, ALL), "collect", vec![device(WORKSTATION), device(EXEC)]),
        (application(WORKSTATIONS, ALL), "collect", vec![device(UNKNOWN)]),
        (application(WORKSTATIONS, ALL), "package", vec![action()]),
        (application(WORKSTATIONS, ALL), "by_tag", vec![]),
        (user(EVERYTHING, &[RESPONDERS]), "collect", vec![device(EXEC)]),
    ]
}

#[test]
fn a_set_that_is_not_enforced_refuses_nobody_and_says_why_it_would_have() {
    let (enforced, tried) = (set(), with_policy("enforce = false"));
    for (caller, operation, targets) in refused() {
        let (reason, none) = judged(&enforced, &caller, operation, &targets);
        assert!(reason != "ok" && none.is_none(), "{caller:?}");
        let (passes, found) = judged(&tried, &caller, operation, &targets);
        let found = found.unwrap();
        assert_eq!((passes, found.reason.as_str(), found.roles.len()), ("ok", reason, 0), "{caller:?}");
        assert!(!found.message.is_empty());
    }
}

#[test]
fn what_an_enforced_set_lets_pass_is_no_refusal_of_one_that_is_tried() {
    let tried = with_policy("enforce = false");
    for (caller, targets) in [
        (application(EVERYTHING, ALL), vec![device(EXEC)]),
        (application(WORKSTATIONS, ALL), vec![device(WORKSTATION)]),
        (user(EVERYTHING, &[RESPONDERS]), vec![device(WORKSTATION)]),
    ] {
        assert_eq!(judged(&tried, &caller, "collect", &targets), ("ok", None));
    }
    let reach = |targets: &[Target]| scope(&tried, &application(WORKSTATIONS, ALL), "collect", targets);
    let groups = |scope: Scope| {
        let groups =
            scope.devices.into_iter().map(|device| device.group.map(|group| group.as_str().to_owned()));
        groups.collect::<Vec<_>>()
    };
    let found = groups(reach(&[device(EXEC), device(UNKNOWN)]));
    assert_eq!(found, [Some("Executives".to_owned()), None], "its devices are known all the same");
}

#[test]
fn nothing_but_the_word_false_lets_pass_what_is_refused() {
    for text in ["", "enforce = true"] {
        let set = with_policy(text);
        assert!(!set.is_tried(), "{text}");
        for (caller, operation, targets) in refused() {
            assert_ne!(judged(&set, &caller, operation, &targets).0, "ok", "{text}: {caller:?}");
        }
    }
    for (text, mistake) in [
        ("enforce = \"false\"", "policy.toml:1:11: invalid type: string \"false\", expected a boolean"),
        ("enforce = 0", "policy.toml:1:11: invalid type: integer `0`, expected a boolean"),
        ("enforced = false", "policy.toml:1:1: unknown key `enforced`; did you mean `enforce`?"),
        ("[set]\nenforce = false", "policy.toml:1:2: unknown key `set`"),
    ] {
        let (set, problems) = compile_with("policy.toml", text);
        assert_eq!(problems, [mistake], "{text}");
        assert!(!set.is_tried(), "{text}");
    }
}

/// The set whose role of readers is not enforced.
fn tried_readers() -> PolicySet {
    set_with("roles.toml", ROLES.replacen("[\"View data\"]", "[\"View data\"]\nenforce = false", 1))
}

#[test]
fn a_role_that_is_not_enforced_lets_its_holders_pass_who_lack_a_role_permission_and_says_so() {
    let set = tried_readers();
    let reader = user(EVERYTHING, &[READERS]);
    let (passes, found) = judged(&set, &reader, "collect", &[device(WORKSTATION)]);
    let found = found.unwrap();
    assert_eq!((passes, found.reason.as_str()), ("ok", "missing_role"));
    assert_eq!(
        &*found.message,
        "Missing role permission. API required role permission: Alerts investigation."
    );
    assert_eq!(found.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>(), ["Reader"]);

    // What another role of theirs allows, nobody would have refused.
    let both = user(EVERYTHING, &[READERS, RESPONDERS]);
    assert_eq!(judged(&set, &both, "collect", &[device(WORKSTATION)]), ("ok", None));
}

#[test]
fn a_role_that_is_not_enforced_opens_nothing_else_and_nothing_to_others() {
    let set = tried_readers();
    let mut without = user(EVERYTHING, &[READERS]);
    without.kind = PrincipalKind::User {
        permissions: permissions(&["Machine.Read"]),
        groups: Groups::Listed(vec![EntraGroupId::from_u128(READERS)]),
    };
    for (caller, targets, reason) in [
        (without, vec![device(WORKSTATION)], "missing_permission"),
        (user(READER, &[READERS]), vec![device(WORKSTATION)], "application"),
        (user(EVERYTHING, &[READERS]), vec![device(EXEC)], "device_group"),
        (user(EVERYTHING, &[READERS]), vec![device(UNKNOWN)], "unknown_device"),
        (user(EVERYTHING, &[]), vec![device(WORKSTATION)], "missing_role"),
        (user(EVERYTHING, &[EXEC_TEAM]), vec![device(WORKSTATION)], "missing_role"),
        // Perhaps a reader: that is not enough.
        (user_in(EVERYTHING, Groups::Overage), vec![device(WORKSTATION)], "group_overage"),
        (application(EVERYTHING, &[]), vec![device(WORKSTATION)], "missing_permission"),
    ] {
        assert_eq!(judged(&set, &caller, "collect", &targets), (reason, None), "{caller:?}");
    }
}

#[test]
fn a_user_who_is_named_by_a_role_that_is_not_enforced_passes_whatever_groups_the_token_lacks() {
    let text = ROLES.replace("[\"View data\"]", "[\"View data\"]\nenforce = false");
    let users = "users = [\"00000000-0000-0000-0000-000000000005\"]\nentra_groups = [\"";
    let set = set_with("roles.toml", text.replacen("entra_groups = [\"", users, 1));
    let caller = user_in(EVERYTHING, Groups::Overage);
    let (passes, found) = judged(&set, &caller, "collect", &[device(WORKSTATION)]);
    assert_eq!((passes, found.unwrap().reason.as_str()), ("ok", "group_overage"));
}
