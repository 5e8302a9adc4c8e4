//! The world of the benchmarks of the whole line: 64 applications, 10,000 devices, two windows that never fill.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use tollgate::id::{ApplicationId, TenantId};
use tollgate::sandbox::issuer::{Caller, Issuer, TokenVersion};
use tollgate::source::{PolicyFiles, SourceFile};
use tollgate::time::Clock;

/// As many callers as there are connections.
pub(crate) const APPLICATIONS: u128 = 64;

/// A tenant of some size.
pub(crate) const DEVICES: u32 = 10_000;

const TENANT: TenantId = TenantId::from_u128(0x7e);

/// A policy set and a token of each application.
pub(crate) struct World {
    pub(crate) files: PolicyFiles,
    pub(crate) tokens: Vec<String>,
}

impl World {
    /// Made anew each time, since tokens live for an hour. The key is new too; nothing measured depends on it.
    pub(crate) fn new(clock: &Clock) -> Self {
        let issuer = Issuer::new("https://issuer.example", TENANT, Vec::new(), clock.clone()).unwrap();
        Self {
            files: files(&issuer),
            tokens: (0..APPLICATIONS).map(|number| token(&issuer, number)).collect(),
        }
    }

    /// Writes the policy set into a folder.
    pub(crate) fn write(&self, folder: &Path) {
        for file in self.files.iter() {
            std::fs::write(folder.join(&**file.name()), file.text()).unwrap();
        }
    }
}

/// The device that the call of a number is about: a walk that meets all of them.
pub(crate) fn device(call: u64) -> String {
    format!("{:040x}", call.wrapping_mul(7_919) % u64::from(DEVICES))
}

fn application(number: u128) -> ApplicationId {
    ApplicationId::from_u128(0xa000 + number)
}

fn token(issuer: &Issuer, number: u128) -> String {
    let caller = Caller::application(application(number))
        .permissions(["Machine.CollectForensics", "Machine.Read.All", "Machine.Isolate", "Alert.Read.All"])
        // Claims that Entra adds and nobody here reads: they bring the token to its size, about 1.3 KB.
        .claim("app_displayname", format!("playbooks-{number}"))
        .claim("aio", "E2ZgYFBXmRJ1yOhMSpZ9uT5jy9gEALAxkcnCBgA=")
        .claim("rh", "0.AXkAErE5-NfZJ02b9pRUJAPyHGV0ePwXINRAoMUwcCJHG5J5AAA.")
        .claim("tenant_region_scope", "EU")
        .claim("xms_rd", "0.42LlYBJi9BIS4WAXEvj");
    issuer.token(&caller)
}

fn files(issuer: &Arc<Issuer>) -> PolicyFiles {
    let mut applications = String::new();
    for number in 0..APPLICATIONS {
        let id = application(number);
        writeln!(applications, "[[application]]\nid = \"{id}\"\nname = \"playbooks-{number}\"").unwrap();
        writeln!(applications, "operations = \"all\"\ndevice_groups = [\"Workstations\", \"Servers\"]")
            .unwrap();
    }
    let mut devices = String::from("Device ID,Device Name,Domain,OS Platform,Tags\n");
    for number in 0..DEVICES {
        let platform = if number % 5 == 0 { "WindowsServer2022" } else { "Windows11" };
        writeln!(devices, "{number:040x},ws-{number}.bench.example,bench.example,{platform},").unwrap();
    }
    let mut files = PolicyFiles::default();
    for (name, text) in [
        ("operations.toml", OPERATIONS),
        ("issuers.toml", ISSUERS),
        ("keys.json", &issuer.key_set(TokenVersion::V1).to_string()),
        ("roles.toml", ""),
        ("device-groups.toml", DEVICE_GROUPS),
        ("applications.toml", &applications),
        ("limits.toml", ""),
        ("devices.csv", &devices),
    ] {
        files.insert(SourceFile::new(name, text));
    }
    files
}

const OPERATIONS: &str = r#"
[[operation]]
name        = "collect"
method      = "POST"
path        = "/api/machines/{device}/collectInvestigationPackage"
application = ["Machine.CollectForensics"]
delegated   = ["Machine.CollectForensics"]
role        = "Alerts investigation"
body        = { type = "application/json", required = { Comment = "string" } }
limits      = ["500000 per minute", "1000000 per hour"]

# No token of the benchmark has its permission.
[[operation]]
name        = "live_response"
method      = "POST"
path        = "/api/machines/{device}/runliveresponse"
application = ["Machine.LiveResponse"]
delegated   = ["Machine.LiveResponse"]
role        = "Live response basic"
body        = { type = "application/json", required = { Comment = "string" } }
limits      = ["500000 per minute", "1000000 per hour"]

# Full after the first call.
[[operation]]
name        = "offboard"
method      = "POST"
path        = "/api/machines/{device}/offboard"
application = ["Machine.Isolate"]
delegated   = ["Machine.Isolate"]
role        = "Alerts investigation"
body        = { type = "application/json", required = { Comment = "string" } }
limits      = ["1 per minute", "1 per hour"]
"#;

const ISSUERS: &str = r#"
[[issuer]]
name      = "bench"
issuer    = "https://issuer.example/{tid}/"
tenants   = ["00000000-0000-0000-0000-00000000007e"]
audiences = ["https://api.securitycenter.microsoft.com"]
keys      = "keys.json"
"#;

const DEVICE_GROUPS: &str = r#"
[[device_group]]
name  = "Executives"
rank  = 1
match = { name = ["starts with EXEC-"] }

[[device_group]]
name  = "Servers"
rank  = 2
match = { os_platform = ["starts with WindowsServer"] }

[[device_group]]
name  = "Workstations"
rank  = 3
match = { os_platform = ["equals Windows11"] }
"#;
