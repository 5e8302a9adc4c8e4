use std::time::Duration;

use super::*;
use crate::policy::tests::files;
use crate::source::{Problems, SourceFile};

const HOUR: Duration = Duration::from_secs(3_600);

/// The set with these lines before its device groups, its inventory written at the beginning of time.
fn set_with_age(lines: &str) -> PolicySet {
    let mut files = files();
    let devices = files.get("devices.csv").unwrap().clone();
    files.insert(devices.with_modified(Some(Wall::default())));
    files.insert(SourceFile::new("device-groups.toml", format!("{lines}\n{GROUPS}")));
    let mut problems = Problems::default();
    let set = PolicySet::compile(&files, &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    set
}

fn after(set: &PolicySet, caller: &Principal, age: Duration, named: &str) -> &'static str {
    let (clock, _) = Clock::manual(Wall::default() + age);
    let grant = set.permit(caller, set.operations.get("machine").unwrap()).unwrap();
    grant.reach(&[device(named)], &clock).map_or_else(|error| error.reason().as_str(), |_| "ok")
}

#[test]
fn an_inventory_that_is_too_old_decides_nothing_for_whoever_groups_confine() {
    let set = set_with_age("max_age = \"36h\"");
    let confined = application(WORKSTATIONS, ALL);
    assert_eq!(after(&set, &confined, 36 * HOUR, WORKSTATION), "ok");
    let late = 36 * HOUR + Duration::from_millis(1);
    for named in [WORKSTATION, EXEC, UNKNOWN] {
        assert_eq!(after(&set, &confined, late, named), "stale_inventory", "{named}");
    }
    // Whom no group confines, nobody looks up.
    assert_eq!(after(&set, &application(EVERYTHING, ALL), late, EXEC), "ok");
    let grant = set.permit(&confined, set.operations.get("machine").unwrap()).unwrap();
    let (clock, _) = Clock::manual(Wall::default() + late);
    let error = grant.reach(&[device(WORKSTATION)], &clock).unwrap_err();
    assert!(error.to_string().contains("older than 36h"), "{error}");
}

#[test]
fn an_inventory_that_is_too_old_is_used_where_the_policy_says_so_and_never_too_old_without_an_age() {
    for lines in ["max_age = \"36h\"\nstale_inventory = \"use\"", ""] {
        let set = set_with_age(lines);
        let confined = application(WORKSTATIONS, ALL);
        assert_eq!(after(&set, &confined, 1_000 * HOUR, WORKSTATION), "ok", "{lines}");
        assert_eq!(after(&set, &confined, 1_000 * HOUR, EXEC), "device_group", "{lines}");
    }
}
