//! Device groups that are tried: nobody is refused for them, and it is known who would have been.

use super::*;

/// The set of which the group of executives refuses nobody.
fn tried() -> PolicySet {
    let entra = "0000000000e2\"]";
    set_with("device-groups.toml", &GROUPS.replace(entra, &format!("{entra}\nenforce = false")))
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
