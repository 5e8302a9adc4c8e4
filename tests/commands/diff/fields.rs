//! Nothing that may stand in a policy file changes unseen: of each field, a set in which it alone is another.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::diff;
use crate::commands::{policy_folder, run};
use crate::support::tls::LocalCertificate;

/// What is replaced in which file.
type Edit = (&'static str, &'static str, &'static str);

/// A field as its schema has it, what makes it another, and what the diff says of it.
type Mutation = (&'static str, &'static [Edit], &'static str);

/// What decides nothing.
const DECIDE_NOTHING: &[(&str, &str)] = &[
    ("tests/*.toml", "cases, and not the policy"),
    ("operations.toml: operation.body.type", "there is one word for it"),
];

/// A small set in which every field says something.
fn full() -> TempDir {
    let folder = policy_folder();
    let write = |name: &str, said: &str| std::fs::write(folder.path().join(name), said).unwrap();
    write("policy.toml", "enforce = true\n");
    write("operations.toml", OPERATIONS);
    write("roles.toml", ROLES);
    write("device-groups.toml", DEVICE_GROUPS);
    write("applications.toml", APPLICATIONS);
    write("limits.toml", LIMITS);
    write("issuers.toml", ISSUERS);
    write("devices.csv", DEVICES);
    folder
}

/// A set like `old` but for these edits.
fn edited(old: &Path, edits: &[Edit]) -> TempDir {
    let new = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(old).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), new.path().join(file.file_name())).unwrap();
    }
    for (file, from, to) in edits {
        let path = new.path().join(file);
        let said = std::fs::read_to_string(&path).unwrap();
        assert_eq!(said.matches(from).count(), 1, "{file} says {from:?} so often");
        std::fs::write(path, said.replace(from, to)).unwrap();
    }
    new
}

/// Every field within a schema that has no fields itself, by its way from the head of the file.
fn fields(schema: &Value, root: &Value, way: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let named = schema["$ref"].as_str().map(|name| root.pointer(name.trim_start_matches('#')).unwrap());
    let lists = ["anyOf", "oneOf", "allOf"].iter().filter_map(|word| schema[word].as_array()).flatten();
    let of_each = [&schema["items"], &schema["additionalProperties"]];
    let of_each = of_each.into_iter().filter(|schema| schema.is_object());
    for schema in named.into_iter().chain(lists).chain(of_each) {
        found.extend(fields(schema, root, way));
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let way = if way.ends_with(' ') { format!("{way}{name}") } else { format!("{way}.{name}") };
        let within = fields(schema, root, &way);
        found.extend(if within.is_empty() { BTreeSet::from([way]) } else { within });
    }
    found
}

#[tokio::test]
async fn every_field_of_every_file_is_changed_in_a_set_of_the_table_or_decides_nothing() {
    let printed = run(&["schema"]).await.out.concat();
    let schemas: Value = serde_json::from_str(&printed).unwrap();
    let mut found = BTreeSet::new();
    for (file, schema) in schemas.as_object().unwrap() {
        found.extend(fields(schema, schema, &format!("{file}: ")));
    }
    assert!(found.len() > 90, "{found:#?}");
    let decides = |field: &&String| !DECIDE_NOTHING.iter().any(|(nothing, _)| field.starts_with(nothing));
    let deciding: BTreeSet<_> = found.iter().filter(decides).map(String::as_str).collect();
    let mutated: BTreeSet<_> = MUTATIONS.iter().map(|(field, ..)| *field).collect();
    let missing: Vec<_> = deciding.difference(&mutated).collect();
    assert!(missing.is_empty(), "nothing changes these: {missing:#?}");
    // What stands in no schema: the inventory and the key files.
    let beside: Vec<_> = mutated.difference(&deciding).collect();
    assert!(beside.iter().all(|field| field.starts_with("devices.csv: ")), "{beside:#?}");
}

#[tokio::test]
async fn a_change_of_any_field_is_told_and_names_what_changed() {
    let authority = [LocalCertificate::make(), LocalCertificate::make()];
    let old = full();
    for (name, authority) in ["ca.pem", "other-ca.pem"].iter().zip(&authority) {
        std::fs::copy(authority.ca_file(), old.path().join(name)).unwrap();
    }
    let ended = diff(old.path(), old.path(), &[]).await;
    assert_eq!((ended.code, &*ended.out), (Some(0), &["nothing changes".to_owned()][..]), "{ended:#?}");
    let mut unseen = Vec::new();
    for (field, edits, said) in MUTATIONS {
        let new = edited(old.path(), edits);
        let ended = diff(old.path(), new.path(), &[]).await;
        let told = ended.out.iter().any(|line| line.contains(said));
        if ended.code != Some(1) || !told {
            unseen.push(format!("{field}: {edits:?} does not say {said:?}: {ended:#?}"));
        }
    }
    assert!(unseen.is_empty(), "{}", unseen.join("\n"));
}

#[tokio::test]
async fn a_key_that_an_issuer_signs_by_from_now_on_is_told_wherever_it_stands() {
    let old = policy_folder();
    let said = std::fs::read_to_string(old.path().join("keys-v1.json")).unwrap();
    let keys: Value = serde_json::from_str(&said).unwrap();
    let (mut same, mut other) = (keys.clone(), keys.clone());
    same["keys"][0]["x5t"] = "whatever".into();
    other["keys"][0]["kid"] = "another".into();
    for (keys, expected) in [(same, 0), (other, 1)] {
        let new = edited(old.path(), &[]);
        std::fs::write(new.path().join("keys-v1.json"), serde_json::to_string_pretty(&keys).unwrap())
            .unwrap();
        let ended = diff(old.path(), new.path(), &[]).await;
        let signs = |line: &&String| {
            line.starts_with("  + signs by RS256 with the key `another`, whose thumbprint is ")
        };
        assert_eq!(ended.out.iter().filter(signs).count(), expected, "{ended:#?}");
        assert_eq!(ended.code, Some(expected as i32), "{ended:#?}");
    }
}

/// Every group by its name: that is not all of them, since some devices and calls are in none.
const EVERY_GROUP: &str = r#"["Executives", "Servers", "Workstations", "Ungrouped devices (default)"]"#;

const MUTATIONS: &[Mutation] = &[
    (
        "policy.toml: enforce",
        &[("policy.toml", "true", "false")],
        "+ what the policy refuses is noted, and passes",
    ),
    // === operations.toml ===
    ("operations.toml: operation.name", &[("operations.toml", "\"tag\"", "\"label\"")], "operation `label`"),
    (
        "operations.toml: operation.method",
        &[("operations.toml", "PUT", "PATCH")],
        "+ is PATCH /api/machines/tags",
    ),
    (
        "operations.toml: operation.path",
        &[("operations.toml", "machines/tags", "tags")],
        "+ is PUT /api/tags",
    ),
    (
        "operations.toml: operation.application",
        &[("operations.toml", "[\"Machine.Read.All\"]", "[\"Machine.Read.All\", \"Alert.Read.All\"]")],
        "+ asks for permission of an application `Machine.Read.All`, `Alert.Read.All`",
    ),
    (
        "operations.toml: operation.delegated",
        &[("operations.toml", "[\"Machine.Read\"]", "[]")],
        "+ no permission of a user will do",
    ),
    (
        "operations.toml: operation.role",
        &[("operations.toml", "role        = \"Alerts investigation\"\n", "")],
        "+ asks a user for any role",
    ),
    (
        "operations.toml: operation.body.required",
        &[("operations.toml", "Comment = \"string\"", "Comment = \"number\"")],
        "+ needs the member `Comment`, a number",
    ),
    // A body that names no device is held to no group.
    (
        "operations.toml: operation.body.devices",
        &[("operations.toml", ", devices = \"MachineIds\"", "")],
        "- acts on the devices that the member `MachineIds` names",
    ),
    (
        "operations.toml: operation.max_body",
        &[("operations.toml", "64 KiB", "65 KiB")],
        "+ takes a body of JSON of at most 66560 bytes",
    ),
    (
        "operations.toml: operation.limits",
        &[("operations.toml", "50 per minute", "51 per minute")],
        "+ lets 51 per 00:01:00 through",
    ),
    (
        "operations.toml: operation.action",
        &[
            ("operations.toml", "action      = \"started\"", "action      = \"shown\""),
            ("limits.toml", ACTIONS, ""),
        ],
        "+ shows how actions stand",
    ),
    (
        "operations.toml: operation.changes_tags",
        &[("operations.toml", "changes_tags = false", "changes_tags = true")],
        "+ may change the tags of devices",
    ),
    // === roles.toml ===
    (
        "roles.toml: role.name",
        &[("roles.toml", "Responder", "Analyst")],
        "+ holds the role `Analyst` in the tenants",
    ),
    (
        "roles.toml: role.permissions",
        &[("roles.toml", "[\"Alerts investigation\"]", "[\"View data\"]")],
        "- may call `collect`",
    ),
    (
        "roles.toml: role.entra_groups",
        &[("roles.toml", "0e1\"", "0e9\"")],
        "Entra group 00000000-0000-0000-0000-0000000000e9",
    ),
    (
        "roles.toml: role.users",
        &[("roles.toml", "0b9\"", "0b8\"")],
        "user 00000000-0000-0000-0000-0000000000b8",
    ),
    (
        "roles.toml: role.tenants",
        &[("roles.toml", "07e\"", "07f\"")],
        "+ holds the role `Responder` in the tenants",
    ),
    (
        "roles.toml: role.enforce",
        &[("roles.toml", "enforce      = true", "enforce      = false")],
        "+ is refused nothing for a lack of roles",
    ),
    // === device-groups.toml ===
    (
        "device-groups.toml: source",
        &[
            ("device-groups.toml", "\"rules\"", "\"inventory\""),
            ("device-groups.toml", EXECUTIVES, ""),
            ("device-groups.toml", SERVERS, ""),
            ("device-groups.toml", WORKSTATIONS, ""),
        ],
        "+ the inventory says which group a device is in",
    ),
    (
        "device-groups.toml: unknown_device",
        &[("device-groups.toml", "unknown_device  = \"refuse\"", "unknown_device  = \"ungrouped\"")],
        "+ a device that the inventory lacks is an ungrouped one",
    ),
    (
        "device-groups.toml: unknown_action",
        &[("device-groups.toml", "unknown_action  = \"refuse\"", "unknown_action  = \"forward\"")],
        "+ an action of an unknown device passes",
    ),
    (
        "device-groups.toml: max_age",
        &[("device-groups.toml", "36h", "37h")],
        "+ an inventory older than 37h is refused",
    ),
    (
        "device-groups.toml: stale_inventory",
        &[("device-groups.toml", "stale_inventory = \"refuse\"", "stale_inventory = \"use\"")],
        "+ an inventory older than 36h is used",
    ),
    (
        "device-groups.toml: ungrouped.entra_groups",
        &[("device-groups.toml", "0e4\"", "0e9\"")],
        "+ opens the device group `Ungrouped devices (default)`",
    ),
    (
        "device-groups.toml: ungrouped.enforce",
        &[("device-groups.toml", "enforce = true # of the ungrouped", "enforce = false")],
        "+ refuses nobody: it is not enforced",
    ),
    (
        "device-groups.toml: device_group.name",
        &[
            ("device-groups.toml", "\"Servers\"", "\"Hosts\""),
            ("applications.toml", "\"Servers\"", "\"Hosts\""),
        ],
        "device group `Hosts`",
    ),
    (
        "device-groups.toml: device_group.rank",
        &[("device-groups.toml", "rank         = 3", "rank         = 1")],
        "~ `Servers` is right above `Executives` now",
    ),
    (
        "device-groups.toml: device_group.match.name",
        &[("device-groups.toml", "starts with EXEC-", "contains EXEC-")],
        "+ holds devices whose name contains `exec-`",
    ),
    (
        "device-groups.toml: device_group.match.domain",
        &[("device-groups.toml", "domain = [\"equals test.example\"], ", "")],
        "- holds devices whose domain equals `test.example`",
    ),
    (
        "device-groups.toml: device_group.match.tag",
        &[("device-groups.toml", "equals VIP", "equals VIPS")],
        "+ holds devices whose tag equals `vips`",
    ),
    (
        "device-groups.toml: device_group.match.os_platform",
        &[("device-groups.toml", "equals WindowsServer2022", "starts with WindowsServer")],
        "+ holds devices whose OS platform starts with `windowsserver`",
    ),
    (
        "device-groups.toml: device_group.entra_groups",
        &[("device-groups.toml", "entra_groups = [\"00000000-0000-0000-0000-0000000000e3\"]", "")],
        "+ is open to every user with a role",
    ),
    (
        "device-groups.toml: device_group.enforce",
        &[("device-groups.toml", "enforce      = true", "enforce      = false")],
        "+ refuses nobody: it is not enforced",
    ),
    // === applications.toml ===
    (
        "applications.toml: unlisted",
        &[("applications.toml", "\"refuse\"", "\"permission\"")],
        "+ the permissions of applications without an entry decide",
    ),
    (
        "applications.toml: application.id",
        &[("applications.toml", "0a1\"", "0a9\"")],
        "application `playbooks` (00000000-0000-0000-0000-0000000000a9)",
    ),
    (
        "applications.toml: application.name",
        &[("applications.toml", "\"nobody\"", "\"somebody\"")],
        "application `somebody` (00000000-0000-0000-0000-0000000000a3)",
    ),
    (
        "applications.toml: application.operations",
        &[("applications.toml", "[\"collect\", \"list\"]", "\"all\"")],
        "+ may be used to call `tag`",
    ),
    (
        "applications.toml: application.device_groups",
        &[("applications.toml", "[\"Workstations\"]", "[\"Workstations\", \"Executives\"]")],
        "+ may act on the device group `Executives`",
    ),
    (
        "applications.toml: application.device_groups",
        &[("applications.toml", EVERY_GROUP, "\"all\"")],
        "+ is held to no device group",
    ),
    (
        "applications.toml: application.unscoped_operations",
        &[("applications.toml", "unscoped_operations = [\"list\"]", "")],
        "- may call `list` although it names no device",
    ),
    (
        "applications.toml: application.tenants",
        &[("applications.toml", "tenants             = [\"00000000-0000-0000-0000-00000000007e\"]", "")],
        "- has this entry in the tenants 00000000-0000-0000-0000-00000000007e alone",
    ),
    // An entry that allows nothing still takes away what there was without it.
    (
        "applications.toml: application.id",
        &[("applications.toml", NOBODY, "")],
        "- has an entry, and its users' calls are held to it too",
    ),
    // === limits.toml ===
    (
        "limits.toml: max_keys",
        &[("limits.toml", "= 1000 ", "= 1001 ")],
        "+ the limiter holds at most 1001 keys",
    ),
    (
        "limits.toml: max_held",
        &[("limits.toml", "= 100 ", "= 101 ")],
        "+ at most 101 calls are held at a time",
    ),
    ("limits.toml: max_addresses", &[("limits.toml", "= 2000 ", "= 2001 ")], "+ counts up to 2001 addresses"),
    (
        "limits.toml: durable",
        &[("limits.toml", "durable = true", "durable = \"fsync\"")],
        "+ a call waits until its admission is on the disk",
    ),
    ("limits.toml: documented_margin", &[("limits.toml", "250ms", "260ms")], "and waits 260 ms longer"),
    (
        "limits.toml: documented_when_full.wait",
        &[("limits.toml", "wait = \"5s\"", "wait = \"8s\"")],
        "+ holds up to 10 calls of each key for up to 8s",
    ),
    (
        "limits.toml: documented_when_full.queue",
        &[("limits.toml", "queue = 10 ", "queue = 20 ")],
        "+ holds up to 20 calls of each key for up to 5s",
    ),
    (
        "limits.toml: documented.operation",
        &[("limits.toml", "operation = \"collect\"", "operation = \"tag\"")],
        "+ holds up to 11 calls of each key for up to 6s",
    ),
    (
        "limits.toml: documented.when_full.wait",
        &[("limits.toml", "wait = \"6s\"", "wait = \"8s\"")],
        "+ holds up to 11 calls of each key for up to 8s",
    ),
    (
        "limits.toml: documented.when_full.queue",
        &[("limits.toml", "queue = 11 ", "queue = 21 ")],
        "+ holds up to 21 calls of each key for up to 6s",
    ),
    (
        "limits.toml: documented.share.part",
        &[("limits.toml", "30%", "40%")],
        "+ promises `Lead` 40 per 00:01:00 and keeps it",
    ),
    (
        "limits.toml: documented.share.idle",
        &[("limits.toml", "\"kept\"", "\"lent\"")],
        "+ promises `Lead` 30 per 00:01:00 and lends what is idle of it",
    ),
    (
        "limits.toml: documented.share.until",
        &[("limits.toml", ", until = \"2127-03-01T18:00:00Z\"", "")],
        "- promises `Lead` that until 2127-03-01T18:00:00",
    ),
    ("limits.toml: limit.name", &[("limits.toml", "all-collections", "every-one")], "limit `every-one`"),
    ("limits.toml: limit.operations", &[("limits.toml", "[\"list\"]", "[\"tag\"]")], "+ is for `tag`"),
    (
        "limits.toml: limit.per",
        &[("limits.toml", "[\"tenant\", \"user\"]", "[\"tenant\"]")],
        "+ counts by tenant",
    ),
    (
        "limits.toml: limit.windows",
        &[("limits.toml", "300 per hour", "301 per hour")],
        "+ lets 301 per 01:00:00 through",
    ),
    (
        "limits.toml: limit.windows",
        &[("limits.toml", "60 per minute", "61 per minute")],
        "+ lets 61 per 00:01:00 fail from an address",
    ),
    ("limits.toml: limit.margin", &[("limits.toml", "251ms", "252ms")], "through, and waits 252 ms longer"),
    (
        "limits.toml: limit.cost",
        &[("limits.toml", "cost       = 2", "cost       = 3")],
        "each call of which counts 3",
    ),
    (
        "limits.toml: limit.when_full.wait",
        &[("limits.toml", "wait = \"7s\"", "wait = \"8s\"")],
        "+ holds up to 12 calls of each key for up to 8s",
    ),
    (
        "limits.toml: limit.when_full.queue",
        &[("limits.toml", "queue = 12 ", "queue = 22 ")],
        "+ holds up to 22 calls of each key for up to 7s",
    ),
    (
        "limits.toml: limit.share.part",
        &[("limits.toml", "50%", "60%")],
        "+ promises `portal` 180 per 01:00:00 and lends what is idle of it",
    ),
    (
        "limits.toml: limit.share.idle",
        &[("limits.toml", "idle = \"lent\"", "idle = \"kept\"")],
        "+ promises `portal` 150 per 01:00:00 and keeps it",
    ),
    (
        "limits.toml: limit.share.until",
        &[("limits.toml", "2127-03-02T18:00:00Z", "2127-03-03T18:00:00Z")],
        "+ promises `portal` that until 2127-03-03T18:00:00",
    ),
    (
        "limits.toml: limit.in_flight",
        &[("limits.toml", "in_flight  = 5", "in_flight  = 6")],
        "+ lets 6 be on their way at once",
    ),
    (
        "limits.toml: limit.open_actions",
        &[("limits.toml", "open_actions = 25", "open_actions = 26")],
        "+ lets 26 actions be under way at once",
    ),
    (
        "limits.toml: limit.open_for",
        &[("limits.toml", "\"3d\"", "\"2d\"")],
        "+ lets 25 actions be under way at once, each for 48h at most",
    ),
    (
        "limits.toml: limit.until",
        &[("limits.toml", "until      = \"2127-04-01T18:00:00Z\"", "")],
        "- lapses at 2127-04-01T18:00:00",
    ),
    (
        "limits.toml: limit.show",
        &[("limits.toml", "show       = true", "show       = false")],
        "+ does not show callers how it stands",
    ),
    (
        "limits.toml: limit.enforce",
        &[("limits.toml", "enforce    = true", "enforce    = false")],
        "+ is on trial",
    ),
    // === issuers.toml ===
    (
        "issuers.toml: clock_skew",
        &[("issuers.toml", "60s", "61s")],
        "+ the clocks of issuers may differ from this one's by 1m 1s",
    ),
    (
        "issuers.toml: keep_keys",
        &[("issuers.toml", "24h", "26h")],
        "+ may be away for 26h before its last keys are given up",
    ),
    ("issuers.toml: cache_entries", &[("issuers.toml", "= 1000\n", "= 1001\n")], "+ at most 1001 tokens"),
    ("issuers.toml: cache_size", &[("issuers.toml", "16 MiB", "17 MiB")], "17 MiB of them are remembered"),
    (
        "issuers.toml: cache_for",
        &[("issuers.toml", "cache_for     = \"10m\"", "")],
        "+ a token is remembered for as long as it is valid",
    ),
    ("issuers.toml: issuer.name", &[("issuers.toml", "\"own\"", "\"mine\"")], "issuer `mine`"),
    (
        "issuers.toml: issuer.cloud",
        &[("issuers.toml", "\"commercial\"", "\"gcc-high\"")],
        "issuer `gcc-high`",
    ),
    (
        "issuers.toml: issuer.issuer",
        &[("issuers.toml", "https://issuer.example/{tid}/\"", "https://other.example/{tid}/\"")],
        "+ speaks for the tenant 00000000-0000-0000-0000-00000000007e as https://other.example/",
    ),
    (
        "issuers.toml: issuer.tenants",
        &[("issuers.toml", "000080\"]", "000081\"]")],
        "+ speaks for the tenant 00000000-0000-0000-0000-000000000081",
    ),
    (
        "issuers.toml: issuer.audiences",
        &[("issuers.toml", "https://own.example", "https://our.example")],
        "+ may name the audience https://our.example",
    ),
    ("issuers.toml: issuer.keys", &[("issuers.toml", OWN_KEYS, OTHER_KEYS)], "+ signs by RS256 with the key"),
    (
        "issuers.toml: issuer.discovery",
        &[("issuers.toml", "far.example/.well-known", "away.example/.well-known")],
        "+ publishes its keys by https://away.example/.well-known/openid-configuration",
    ),
    (
        "issuers.toml: issuer.ca",
        &[("issuers.toml", FAR_CA, OTHER_CA)],
        "+ is believed by the certificate of SHA-256",
    ),
    ("issuers.toml: issuer.algorithms", &[("issuers.toml", ", \"RS384\"", "")], "- may sign by RS384"),
    (
        "issuers.toml: issuer.typ",
        &[("issuers.toml", "typ        = \"at+jwt\"", "")],
        "- must say that a token is of the type `at+jwt`",
    ),
    (
        "issuers.toml: issuer.claims.appid",
        &[("issuers.toml", "client_id", "cid")],
        "+ says `appid` in the claim `cid`",
    ),
    (
        "issuers.toml: issuer.claims.tid",
        &[("issuers.toml", "tid = \"tid\"", "tid = \"tenant\"")],
        "+ says `tid` in the claim `tenant`",
    ),
    (
        "issuers.toml: issuer.claims.oid",
        &[("issuers.toml", "\"sub\"", "\"user\"")],
        "+ says `oid` in the claim `user`",
    ),
    (
        "issuers.toml: issuer.claims.idtyp",
        &[("issuers.toml", "idtyp = \"kind\", ", "")],
        "- says `idtyp` in the claim `kind`",
    ),
    (
        "issuers.toml: issuer.claims.roles",
        &[("issuers.toml", "\"app_roles\"", "\"may\"")],
        "+ says `roles` in the claim `may`",
    ),
    (
        "issuers.toml: issuer.claims.scp",
        &[("issuers.toml", "\"scope\"", "\"scopes\"")],
        "+ says `scp` in the claim `scopes`",
    ),
    (
        "issuers.toml: issuer.claims.groups",
        &[("issuers.toml", "\"member_of\"", "\"teams\"")],
        "+ says `groups` in the claim `teams`",
    ),
    (
        "issuers.toml: issuer.claims.uti",
        &[("issuers.toml", ", uti = \"jti\"", "")],
        "- says `uti` in the claim `jti`",
    ),
    (
        "issuers.toml: issuer.keep_keys",
        &[("issuers.toml", "25h", "27h")],
        "+ may be away for 27h before its last keys are given up",
    ),
    // === devices.csv ===
    (
        "devices.csv: Device Name",
        &[
            ("devices.csv", "exec-1.test.example", "boss.test.example"),
            ("devices.csv", "ws-1.test.example", "exec-1.test.example"),
        ],
        "~ 1111111111111111111111111111111111111111 in `Workstations` is called `exec-1.test.example`, and was called `ws-1.test.example`",
    ),
    (
        "devices.csv: Domain",
        &[("devices.csv", "short,test.example", "short,other.example")],
        "~ 4444444444444444444444444444444444444444 in `Servers` is called `short.other.example`, and was called `short.test.example`",
    ),
    (
        "devices.csv: Microsoft Entra Device ID",
        &[("devices.csv", "00000000-0000-0000-0000-0000000000d1", "00000000-0000-0000-0000-0000000000d2")],
        "~ 1111111111111111111111111111111111111111 in `Workstations` has the Entra id 00000000-0000-0000-0000-0000000000d2, and had 00000000-0000-0000-0000-0000000000d1",
    ),
    (
        "devices.csv: Tags",
        &[("devices.csv", "VIP", "RIP")],
        "~ 2222222222222222222222222222222222222222 is in `Workstations`, and was in `Executives`",
    ),
    (
        "devices.csv: OS Platform",
        &[("devices.csv", "WindowsServer2022", "Linux")],
        "~ 4444444444444444444444444444444444444444 is in `Ungrouped devices (default)`, and was in `Servers`",
    ),
    (
        "devices.csv: Device ID",
        &[(
            "devices.csv",
            "4444444444444444444444444444444444444444",
            "5555555555555555555555555555555555555555",
        )],
        "+ 5555555555555555555555555555555555555555 in `Servers`, called `short.test.example`",
    ),
];

const OPERATIONS: &str = r#"
[[operation]]
name        = "collect"
method      = "POST"
path        = "/api/machines/{device}/collect"
application = ["Machine.CollectForensics"]
delegated   = ["Machine.CollectForensics"]
role        = "Alerts investigation"
body        = { type = "application/json", required = { Comment = "string" } }
max_body    = "64 KiB"
limits      = ["100 per minute"]
action      = "started"

[[operation]]
name        = "tag"
method      = "PUT"
path        = "/api/machines/tags"
application = ["Machine.ReadWrite.All"]
delegated   = []
body        = { type = "application/json", required = { MachineIds = "list" }, devices = "MachineIds" }
limits      = ["50 per minute"]
changes_tags = false

[[operation]]
name        = "list"
method      = "GET"
path        = "/api/machines"
application = ["Machine.Read.All"]
delegated   = ["Machine.Read"]
"#;

const ROLES: &str = r#"
[[role]]
name         = "Responder"
permissions  = ["Alerts investigation"]
entra_groups = ["00000000-0000-0000-0000-0000000000e1"]
users        = ["00000000-0000-0000-0000-0000000000b9"]
tenants      = ["00000000-0000-0000-0000-00000000007e"]
enforce      = true

[[role]]
name         = "Lead"
permissions  = ["View data"]
entra_groups = ["00000000-0000-0000-0000-0000000000e5"]
"#;

const EXECUTIVES: &str = r#"match        = { name = ["starts with EXEC-"], domain = ["equals test.example"], tag = ["equals VIP"] }"#;

const WORKSTATIONS: &str = r#"match        = { os_platform = ["equals Windows11"] }"#;

const SERVERS: &str = r#"match        = { os_platform = ["equals WindowsServer2022"] }"#;

const DEVICE_GROUPS: &str = r#"
source          = "rules"
unknown_device  = "refuse"
unknown_action  = "refuse"
max_age         = "36h"
stale_inventory = "refuse"

[ungrouped]
entra_groups = ["00000000-0000-0000-0000-0000000000e4"]
enforce = true # of the ungrouped

[[device_group]]
name         = "Executives"
rank         = 2
match        = { name = ["starts with EXEC-"], domain = ["equals test.example"], tag = ["equals VIP"] }
entra_groups = ["00000000-0000-0000-0000-0000000000e3"]
enforce      = true

[[device_group]]
name         = "Servers"
rank         = 3
match        = { os_platform = ["equals WindowsServer2022"] }

[[device_group]]
name         = "Workstations"
rank         = 4
match        = { os_platform = ["equals Windows11"] }
"#;

/// An application that may nothing at all.
const NOBODY: &str = r#"
[[application]]
id                  = "00000000-0000-0000-0000-0000000000a3"
name                = "nobody"
operations          = []
device_groups       = []
"#;

const APPLICATIONS: &str = r#"
unlisted = "refuse"

[[application]]
id                  = "00000000-0000-0000-0000-0000000000a1"
name                = "playbooks"
operations          = ["collect", "list"]
device_groups       = ["Workstations"]
unscoped_operations = ["list"]
tenants             = ["00000000-0000-0000-0000-00000000007e"]

[[application]]
id                  = "00000000-0000-0000-0000-0000000000a2"
name                = "portal"
operations          = "all"
device_groups       = ["Executives", "Servers", "Workstations", "Ungrouped devices (default)"]

[[application]]
id                  = "00000000-0000-0000-0000-0000000000a3"
name                = "nobody"
operations          = []
device_groups       = []
"#;

/// The limit on actions, which no set has whose calls start none.
const ACTIONS: &str = r#"
[[limit]]
name       = "actions"
operations = ["collect"]
per        = ["tenant"]
open_actions = 25
open_for   = "3d"
"#;

const LIMITS: &str = r#"
max_keys             = 1000 # keys
max_held             = 100 # calls
max_addresses        = 2000 # addresses
durable = true
documented_margin    = "250ms"
documented_when_full = { wait = "5s", queue = 10 }

[[documented]]
operation = "collect"
when_full = { wait = "6s", queue = 11 }
share     = { "Lead" = { part = "30%", idle = "kept", until = "2127-03-01T18:00:00Z" } }

[[limit]]
name       = "all-collections"
operations = ["collect"]
per        = ["tenant"]
windows    = ["300 per hour"]
margin     = "251ms"
cost       = 2
when_full  = { wait = "7s", queue = 12 }
share      = { "portal" = { part = "50%", idle = "lent", until = "2127-03-02T18:00:00Z" } }
until      = "2127-04-01T18:00:00Z"
show       = true
enforce    = true

[[limit]]
name       = "on-their-way"
operations = ["list"]
per        = ["tenant", "user"]
in_flight  = 5

[[limit]]
name       = "actions"
operations = ["collect"]
per        = ["tenant"]
open_actions = 25
open_for   = "3d"

[[limit]]
name       = "failed-logins"
per        = ["address"]
windows    = ["60 per minute"]
"#;

const OWN_KEYS: &str = "\"keys-v1.json\" # own";
const OTHER_KEYS: &str = "\"keys-v2.json\"";
const FAR_CA: &str = "\"ca.pem\" # far";
const OTHER_CA: &str = "\"other-ca.pem\"";

/// Files that an entry names no more are still read for another.
const ISSUERS: &str = r#"
clock_skew    = "60s"
keep_keys     = "24h"
cache_entries = 1000
cache_size    = "16 MiB"
cache_for     = "10m"

[[issuer]]
name       = "own"
issuer     = "https://issuer.example/{tid}/"
tenants    = ["00000000-0000-0000-0000-00000000007e"]
audiences  = ["https://own.example"]
keys       = "keys-v1.json" # own
algorithms = ["RS256", "RS384"]
typ        = "at+jwt"
claims     = { appid = "client_id", tid = "tid", oid = "sub", idtyp = "kind", roles = "app_roles", scp = "scope", groups = "member_of", uti = "jti" }

[[issuer]]
name       = "far"
issuer     = "https://far.example/"
tenants    = ["00000000-0000-0000-0000-00000000007f"]
audiences  = ["https://api.example"]
discovery  = "https://far.example/.well-known/openid-configuration"
ca         = "ca.pem" # far
keep_keys  = "25h"

[[issuer]]
cloud      = "commercial"
tenants    = ["00000000-0000-0000-0000-000000000080"]

[[issuer]]
name       = "near"
issuer     = "https://near.example/"
tenants    = ["00000000-0000-0000-0000-00000000007f"]
audiences  = ["https://api.example"]
discovery  = "https://near.example/.well-known/openid-configuration"
ca         = "ca.pem"

[[issuer]]
name       = "other"
issuer     = "https://other-ca.example/"
tenants    = ["00000000-0000-0000-0000-00000000007f"]
audiences  = ["https://api.example"]
discovery  = "https://other-ca.example/.well-known/openid-configuration"
ca         = "other-ca.pem"

[[issuer]]
name       = "v1"
issuer     = "https://keys.example/1"
tenants    = ["00000000-0000-0000-0000-00000000007e"]
audiences  = ["https://api.example"]
keys       = "keys-v1.json"

[[issuer]]
name       = "v2"
issuer     = "https://keys.example/2"
tenants    = ["00000000-0000-0000-0000-00000000007e"]
audiences  = ["https://api.example"]
keys       = "keys-v2.json"
"#;

const DEVICES: &str = "\
Device ID,Device Name,Domain,OS Platform,Tags,Microsoft Entra Device ID,Device Group
1111111111111111111111111111111111111111,ws-1.test.example,test.example,Windows11,,00000000-0000-0000-0000-0000000000d1,Workstations
2222222222222222222222222222222222222222,exec-1.test.example,test.example,Windows11,VIP,,Executives
3333333333333333333333333333333333333333,odd-1.test.example,test.example,Linux,,,
4444444444444444444444444444444444444444,short,test.example,WindowsServer2022,,,Servers
";
