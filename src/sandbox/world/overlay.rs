//! The files that the sandbox lays over the shipped policy set: who is trusted, and who may what to which device.

use crate::sandbox::issuer::{Issuer, TokenVersion};
use crate::sandbox::world::devices::{DOMAIN, SandboxDevice};
use crate::sandbox::world::people::{
    EXECUTIVE_SUPPORT, INCIDENT_RESPONDERS, PLAYBOOKS, PORTAL, SERVER_OPERATIONS, TENANT, TIER_1_ANALYSTS,
};
use crate::source::SourceFile;

/// `issuers.toml`, `roles.toml`, `device-groups.toml`, `applications.toml` and `devices.csv` of the sandbox.
///
/// `discovery` is where the gateway fetches the issuer's documents, a URL without a path or a slash at its end; the
/// names of the issuer come from `issuer` itself.
pub fn overlay(issuer: &Issuer, discovery: &str) -> Vec<SourceFile> {
    vec![
        SourceFile::new("issuers.toml", issuers(issuer, discovery)),
        SourceFile::new("roles.toml", roles()),
        SourceFile::new("device-groups.toml", device_groups()),
        SourceFile::new("applications.toml", applications()),
        SourceFile::new("devices.csv", devices()),
    ]
}

fn issuers(issuer: &Issuer, discovery: &str) -> String {
    let (v1, v2) = (issuer.issuer_template(TokenVersion::V1), issuer.issuer_template(TokenVersion::V2));
    format!(
        r#"[[issuer]]
name      = "sandbox-v1"
issuer    = "{v1}"
tenants   = ["{TENANT}"]
audiences = ["https://api.securitycenter.microsoft.com", "https://api.securitycenter.windows.com", "fc780465-2017-40d4-a0c5-307022471b92"]
discovery = "{discovery}/{{tid}}/.well-known/openid-configuration"

[[issuer]]
name      = "sandbox-v2"
issuer    = "{v2}"
tenants   = ["{TENANT}"]
audiences = ["fc780465-2017-40d4-a0c5-307022471b92"]
discovery = "{discovery}/{{tid}}/v2.0/.well-known/openid-configuration"
"#
    )
}

fn roles() -> String {
    format!(
        r#"[[role]]
name         = "Incident responder"
permissions  = ["View data", "Alerts investigation"]
entra_groups = ["{INCIDENT_RESPONDERS}"]

[[role]]
name         = "Tier 1 analyst"
permissions  = ["View data"]
entra_groups = ["{TIER_1_ANALYSTS}"]
"#
    )
}

fn device_groups() -> String {
    format!(
        r#"unknown_device = "refuse"
unknown_action = "refuse"

[[device_group]]
name         = "Executives"
rank         = 1
match        = {{ name = ["starts with EXEC-"] }}
entra_groups = ["{EXECUTIVE_SUPPORT}"]

[[device_group]]
name         = "Servers"
rank         = 2
match        = {{ os_platform = ["starts with WindowsServer"] }}
entra_groups = ["{SERVER_OPERATIONS}"]

[[device_group]]
name  = "Workstations"
rank  = 3
match = {{ os_platform = ["equals Windows10", "equals Windows11"] }}

[ungrouped]
entra_groups = []
"#
    )
}

fn applications() -> String {
    format!(
        r#"unlisted = "refuse"

[[application]]
id            = "{PLAYBOOKS}"
name          = "soar-playbooks"
operations    = ["collect_investigation_package", "get_package_uri", "get_machine_action"]
device_groups = ["Workstations", "Servers"]

[[application]]
id            = "{PORTAL}"
name          = "security-portal"
operations    = "all"
device_groups = "all"
"#
    )
}

fn devices() -> String {
    let rows = SandboxDevice::ALL.iter().map(|device| {
        let SandboxDevice { id, os_platform, tags, .. } = device;
        let (name, entra, tags) = (device.dns_name(), device.entra_id(), tags.join(";"));
        format!("{id},{name},{DOMAIN},{os_platform},{tags},{entra}\n")
    });
    "Device ID,Device Name,Domain,OS Platform,Tags,Microsoft Entra Device ID\n".to_owned()
        + &rows.collect::<String>()
}
