use super::*;
use crate::source::{Problem, SourceFile};

/// The set that is shipped, as it lies in the repository.
fn shipped() -> PolicyFiles {
    let mut files = PolicyFiles::default();
    for (name, text) in [
        ("operations.toml", include_str!("../../policies/operations.toml")),
        ("roles.toml", include_str!("../../policies/roles.toml")),
        ("device-groups.toml", include_str!("../../policies/device-groups.toml")),
        ("applications.toml", include_str!("../../policies/applications.toml")),
        ("devices.csv", include_str!("../../policies/devices.csv")),
    ] {
        files.insert(SourceFile::new(name, text));
    }
    files
}

fn compile(files: &PolicyFiles) -> (PolicySet, Vec<String>) {
    let mut problems = Problems::default();
    let set = PolicySet::compile(files, &mut problems);
    (set, problems.into_sorted().iter().map(Problem::to_string).collect())
}

#[test]
fn the_shipped_set_compiles() {
    let (set, problems) = compile(&shipped());
    assert_eq!(problems, [""; 0]);
    let expected = Counts { operations: 6, roles: 2, device_groups: 3, applications: 0, devices: 0 };
    assert_eq!(set.counts(), expected);
}
