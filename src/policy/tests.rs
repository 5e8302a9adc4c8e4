use std::path::Path;

use http::Method;

use super::*;
use crate::source::{Problem, SourceFile};

mod mistakes;
mod warnings;

/// A small set that uses every kind of entry.
pub(super) const OPERATIONS: &str = r#"
[[operation]]
name        = "collect"
method      = "POST"
path        = "/api/machines/{device}/collect"
application = ["Machine.Collect", "Machine.All"]
delegated   = ["Machine.Collect"]
role        = "Alerts investigation"
body        = { type = "application/json", required = { Comment = "string" } }
limits      = ["100 per minute", "1500 per hour"]
action      = "started"

[[operation]]
name        = "package"
method      = "GET"
path        = "/api/machineactions/{action}/package"
application = ["Machine.Collect"]
delegated   = ["Machine.Collect"]
role        = "View data"

[[operation]]
name        = "machine"
method      = "GET"
path        = "/api/machines/{device}"
application = ["Machine.Read"]
delegated   = ["Machine.Read"]

[[operation]]
name        = "machines"
method      = "GET"
path        = "/api/machines"
application = ["Machine.Read"]
delegated   = ["Machine.Read"]
role        = "View data"

[[operation]]
name        = "by_tag"
method      = "GET"
path        = "/api/machines/findbytag"
application = ["Machine.Read"]
delegated   = []
role        = "View data"
"#;

pub(super) const ROLES: &str = r#"
[[role]]
name         = "Reader"
permissions  = ["View data"]
entra_groups = ["00000000-0000-0000-0000-00000000000a"]

[[role]]
name         = "Responder"
permissions  = ["View data", "Alerts investigation"]
entra_groups = ["00000000-0000-0000-0000-00000000000b"]
users        = ["00000000-0000-0000-0000-0000000000ff"]
"#;

pub(super) const GROUPS: &str = r#"
[[device_group]]
name         = "Executives"
rank         = 1
match        = { name = ["starts with EXEC-"] }
entra_groups = ["00000000-0000-0000-0000-0000000000e1", "00000000-0000-0000-0000-0000000000e2"]

[[device_group]]
name  = "Workstations"
rank  = 2
match = { os_platform = ["equals Windows11"] }

[ungrouped]
entra_groups = ["00000000-0000-0000-0000-0000000000d0"]
"#;

pub(super) const APPLICATIONS: &str = r#"
[[application]]
id                  = "00000000-0000-0000-0000-000000000001"
name                = "everything"
operations          = "all"
device_groups       = "all"

[[application]]
id                  = "00000000-0000-0000-0000-000000000002"
name                = "workstations"
operations          = ["collect", "package", "machine", "machines", "by_tag"]
device_groups       = ["Workstations"]
unscoped_operations = ["machines"]

[[application]]
id                  = "00000000-0000-0000-0000-000000000003"
name                = "reader"
operations          = ["machine"]
device_groups       = "all"
"#;

pub(super) const DEVICES: &str = "\
Device Name,Device ID,OS Platform,Domain,AAD Device ID,Tags
exec-1.corp.example,1111111111111111111111111111111111111111,Windows11,,00000000-0000-0000-0000-0000000000a1,
ws-1.corp.example,2222222222222222222222222222222222222222,Windows11,,00000000-0000-0000-0000-0000000000a2,VIP
odd-1,3333333333333333333333333333333333333333,Linux,corp.example,,
twin.corp.example,4444444444444444444444444444444444444444,Windows11,,,
twin.corp.example,5555555555555555555555555555555555555555,Linux,,,
";

pub(super) fn files() -> PolicyFiles {
    let mut files = PolicyFiles::default();
    for (name, text) in [
        ("operations.toml", OPERATIONS),
        ("roles.toml", ROLES),
        ("device-groups.toml", GROUPS),
        ("applications.toml", APPLICATIONS),
        ("devices.csv", DEVICES),
    ] {
        files.insert(SourceFile::new(name, text));
    }
    files
}

/// The set that is shipped, as it lies in the repository.
fn shipped() -> PolicyFiles {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut files = PolicyFiles::default();
    for within in ["", "operations/"] {
        for entry in std::fs::read_dir(folder.join(within)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = format!("{within}{}", path.file_name().unwrap().to_str().unwrap());
                files.insert(SourceFile::new(&name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files
}

/// The set with one file in the place of its own.
pub(super) fn compile_with(name: &str, text: impl Into<String>) -> (PolicySet, Vec<String>) {
    let mut files = files();
    files.insert(SourceFile::new(name, text));
    compile(&files)
}

fn compile(files: &PolicyFiles) -> (PolicySet, Vec<String>) {
    let mut problems = Problems::default();
    let set = PolicySet::compile(files, &mut problems);
    (set, problems.into_sorted().iter().map(Problem::to_string).collect())
}

/// The set, which must compile.
pub(super) fn set_with(name: &str, text: impl Into<String>) -> PolicySet {
    let (set, problems) = compile_with(name, text);
    assert_eq!(problems, [""; 0]);
    set
}

#[test]
fn the_shipped_set_compiles() {
    let (set, problems) = compile(&shipped());
    assert_eq!(problems, [""; 0]);
    let expected = Counts { operations: 113, roles: 5, device_groups: 3, applications: 3, devices: 0 };
    assert_eq!(set.counts(), expected);
    let collect =
        set.route(&Method::POST, "/api/machines/pc-1/collectInvestigationPackage").unwrap().operation;
    assert_eq!(collect.id().as_str(), "collect_investigation_package");
    assert!(collect.starts_action() && collect.body().is_some());
}

#[test]
fn the_shipped_roles_file_tells_every_role_permission_and_its_names_in_unified_rbac() {
    let files = shipped();
    let text = files.get("roles.toml").unwrap().text();
    for permission in RolePermission::ALL {
        for word in permission.unified().iter().copied().chain([permission.as_str()]) {
            assert!(text.contains(&format!("\"{word}\"")), "{word}");
        }
    }
}

#[test]
fn the_small_set_compiles_and_is_counted() {
    let (set, problems) = compile(&files());
    assert_eq!(problems, [""; 0]);
    let expected = Counts { operations: 5, roles: 2, device_groups: 2, applications: 3, devices: 5 };
    assert_eq!(set.counts(), expected);
    let named = |id| {
        let tenant = crate::id::TenantId::from_u128(7);
        let subject = Subject { tenant, application: ApplicationId::from_u128(id), user: None };
        set.application_name(&subject).map(ToString::to_string)
    };
    assert_eq!((named(2), named(9)), (Some("workstations".to_owned()), None));
}

#[test]
fn what_stands_beside_a_devices_id_in_the_api_is_not_a_device() {
    let (set, _) = compile(&shipped());
    for name in
        ["SoftwareInventoryExport", "softwareinventoryexport", "findbytag?tag=x", "InfoGatheringExport"]
    {
        let routed = set.route(&Method::GET, &format!("/api/machines/{name}")).unwrap();
        assert_eq!((routed.device, routed.operation.device_scope()), (None, DeviceScope::Unscoped), "{name}");
    }
    for name in ["find(key=y,timestamp=x)", "findbyip(ip='1.2.3.4')", "find()", "$count", "%24count", "@x"] {
        assert_eq!(
            set.route(&Method::GET, &format!("/api/machines/{name}")).unwrap_err(),
            NoOperation,
            "{name}"
        );
    }
}

#[test]
fn a_path_leads_to_its_operation_and_names_the_device_or_the_action() {
    let (set, _) = compile(&files());
    let routed = set.route(&Method::POST, "/API/v1.0/Machines/WS-1/collect?x=/y").unwrap();
    assert_eq!(routed.operation.id().as_str(), "collect");
    assert_eq!((routed.device, routed.action), (Some(DeviceRef::Name("ws-1".into())), None));
    assert_eq!(routed.operation.limits().len(), 2);

    let routed = set.route(&Method::GET, "/api/machineactions/ABC/package").unwrap();
    assert_eq!((routed.device, routed.action), (None, ActionId::parse("abc")));
    let too_long = format!("/api/machineactions/{}/package", "a".repeat(65));
    assert_eq!(set.route(&Method::GET, &too_long).unwrap_err(), NoOperation);
}

#[test]
fn an_application_may_be_confined_to_ungrouped_devices_by_their_name() {
    let text = APPLICATIONS.replace("[\"Workstations\"]", "[\"Ungrouped devices (default)\"]");
    let _ = set_with("applications.toml", text);
}
