//! `tollgate test` and `tollgate explain` decide as the running gateway does: calls by chance, on variations of the set
//! that ships, each made to a gateway, and what that said expected of the commands.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tollgate::id::{ActionId, ApplicationId, DeviceRef, EntraGroupId, UserId};
use tollgate::sandbox::issuer::Caller;
use tollgate::sandbox::shipped;
use tollgate::source::{PolicyFiles, SourceFile};
use tollgate::time::{Clock, Wall};
use toml::Table;

use super::run;
use crate::support::dice::Dice;
use crate::support::gateway::{Setup, TestGateway, policy, rewritten, token_of_today, write_policy};
use crate::support::process::text;
use crate::support::raw::RawResponse;
use crate::support::upstream::{Answer, RecordingUpstream};

/// Variations of the set, and calls on each.
const SETS: u64 = 6;
const CALLS: usize = 250;

/// Of these calls, some are explained too: a process for each.
const EXPLAINED: usize = 8;

const DEVICES: &str = "Device ID,Device Name,Domain,OS Platform,Tags,AAD Device ID\n\
    1111111111111111111111111111111111111111,ws-01.contoso.example,,Windows11,,00000000-0000-0000-0004-000000000001\n\
    2222222222222222222222222222222222222222,srv-01.contoso.example,,WindowsServer2022,,00000000-0000-0000-0004-000000000002\n\
    3333333333333333333333333333333333333333,exec-01.contoso.example,,Windows11,,00000000-0000-0000-0004-000000000003\n\
    4444444444444444444444444444444444444444,kiosk-01.contoso.example,,Linux,,\n\
    5555555555555555555555555555555555555555,twin.contoso.example,,Windows11,,\n\
    6666666666666666666666666666666666666666,twin.contoso.example,,WindowsServer2019,,\n";

const NAMED: [&str; 16] = [
    "1111111111111111111111111111111111111111",
    "2222222222222222222222222222222222222222",
    "3333333333333333333333333333333333333333",
    "4444444444444444444444444444444444444444",
    "WS-01.contoso.example",
    "ws-01",
    "srv-01.contoso.example.",
    "exec-01",
    "twin.contoso.example",
    "00000000-0000-0000-0004-000000000001",
    "{00000000-0000-0000-0004-000000000003}",
    "00000000000000000004000000000002",
    " 3333333333333333333333333333333333333333",
    "nobody.contoso.example",
    "9999999999999999999999999999999999999999",
    "(x)",
];

/// Started before, on a workstation and on an executive's device.
const STARTED: [(&str, &str); 2] = [
    ("5382f7ea-7557-4ab7-9782-d50480024a4e", "1111111111111111111111111111111111111111"),
    ("6382f7ea-7557-4ab7-9782-d50480024a4e", "exec-01.contoso.example"),
];

const ACTIONS: [&str; 8] = [
    "5382f7ea-7557-4ab7-9782-d50480024a4e",
    "6382f7ea-7557-4ab7-9782-d50480024a4e",
    "6382F7EA75574AB79782D50480024A4E",
    "{6382f7ea-7557-4ab7-9782-d50480024a4e}",
    "7382f7ea-7557-4ab7-9782-d50480024a4e",
    "fb9ab6be3965095a09c057be7c90f0a2fb9ab6be",
    " x",
    "x",
];

const GROUPS: [u128; 8] = [
    0x0000_0000_0000_0000_0001_0000_0000_0001,
    0x0000_0000_0000_0000_0001_0000_0000_0002,
    0x0000_0000_0000_0000_0001_0000_0000_0003,
    0x0000_0000_0000_0000_0001_0000_0000_0004,
    0x0000_0000_0000_0000_0001_0000_0000_0005,
    0x0000_0000_0000_0000_0002_0000_0000_0001,
    0x0000_0000_0000_0000_0002_0000_0000_0002,
    0xff,
];

/// The three that ship, one that is confined and may call everything, one that is listed nowhere.
const APPLICATIONS: [u128; 5] = [
    0x0000_0000_0000_0000_0003_0000_0000_0001,
    0x0000_0000_0000_0000_0003_0000_0000_0002,
    0x0000_0000_0000_0000_0003_0000_0000_0003,
    0x0000_0000_0000_0000_0003_0000_0000_00c0,
    0x0000_0000_0000_0000_0003_0000_0000_00ff,
];

/// A set and how old its inventory is.
struct Variation {
    files: PolicyFiles,
    age: Duration,
    cloud: Option<&'static str>,
}

/// Whose token a call brings.
struct Who {
    application: ApplicationId,
    user: Option<UserId>,
    permissions: Vec<String>,
    groups: Vec<EntraGroupId>,
    overage: bool,
    claims: Map<String, Value>,
}

struct Call {
    /// None without a token.
    who: Option<Who>,
    method: String,
    target: String,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    /// Seconds after the one before it.
    pause: u64,
}

// === impl Variation ===

impl Variation {
    fn of(seed: u64) -> Self {
        let mut files = shipped::files();
        for name in ["issuers.toml", "keys-v1.json", "keys-v2.json"] {
            files.insert(policy().get(name).unwrap().clone());
        }
        files.insert(SourceFile::new("devices.csv", DEVICES));
        let mut modes = String::new();
        // Of every mode each word, and the inventory too old for both.
        let stale = [None, Some("refuse"), Some("use")][(seed % 3) as usize];
        if let Some(stale) = stale {
            writeln!(modes, "max_age = \"36h\"\nstale_inventory = \"{stale}\"").unwrap();
        }
        for (name, other, refusing) in
            [("unknown_device", "ungrouped", [0, 2, 5]), ("unknown_action", "forward", [0, 3, 4])]
        {
            let word = if refusing.contains(&seed) { "refuse" } else { other };
            let (from, to) = (format!("\n{name} = \"refuse\""), format!("\n{name} = \"{word}\""));
            files = rewritten(files, "device-groups.toml", &from, &to);
        }
        files = rewritten(
            files,
            "device-groups.toml",
            "\nunknown_device =",
            &format!("\n{modes}unknown_device ="),
        );
        let unlisted = ["refuse", "permission"][(seed % 2) as usize];
        files = rewritten(
            files,
            "applications.toml",
            "\nunlisted = \"refuse\"",
            &format!("\nunlisted = \"{unlisted}\""),
        );
        let confined = "\n[[application]]\nid = \"00000000-0000-0000-0003-0000000000c0\"\nname = \"confined\"\noperations = \"all\"\ndevice_groups = [\"Workstations\"]\nunscoped_operations = [\"list_machines\", \"list_alerts\"]\n";
        let text = files.get("applications.toml").unwrap().text().to_owned() + confined;
        files.insert(SourceFile::new("applications.toml", text));
        // On trial: nothing, everything, a role, a group.
        match seed % 4 {
            1 => files.insert(SourceFile::new("policy.toml", "enforce = false\n")),
            2 => {
                let name = "name         = \"Tier 1 analyst\"";
                files = rewritten(files, "roles.toml", name, &format!("{name}\nenforce = false"));
            }
            3 => {
                let name = "name         = \"Executives\"";
                files = rewritten(files, "device-groups.toml", name, &format!("{name}\nenforce = false"));
            }
            _ => {}
        }
        let age = Duration::from_secs(3_600 * if stale.is_some() && seed != 5 { 48 } else { 24 });
        Self {
            files,
            age,
            cloud: [None, Some("commercial"), Some("gcc-high"), Some("dod")][(seed % 4) as usize],
        }
    }

    fn write(&self, folder: &Path, now: Wall) {
        std::fs::create_dir(folder.join("operations")).unwrap();
        write_policy(&self.files, folder);
        let devices = std::fs::File::options().write(true).open(folder.join("devices.csv")).unwrap();
        let written = UNIX_EPOCH + Duration::from_secs(now.unix_seconds() as u64) - self.age;
        devices.set_modified(written).unwrap();
    }

    /// The same set for another issuer, if it has one: no gateway can ask that for its keys here.
    fn for_its_cloud(&self, folder: &Path) {
        let Some(cloud) = self.cloud else { return };
        for keys in ["keys-v1.json", "keys-v2.json"] {
            std::fs::remove_file(folder.join(keys)).unwrap();
        }
        let issuers = format!(
            "[[issuer]]\ncloud = \"{cloud}\"\ntenants = [\"00000000-0000-0000-0000-00000000007e\"]\n"
        );
        std::fs::write(folder.join("issuers.toml"), issuers).unwrap();
    }
}

/// The operations that ship.
fn operations() -> Vec<Table> {
    let mut all = Vec::new();
    for file in shipped::files().iter().filter(|file| file.name().starts_with("operations/")) {
        let table: Table = file.text().parse().unwrap();
        let entries = table.get("operation").and_then(toml::Value::as_array);
        all.extend(entries.into_iter().flatten().map(|entry| entry.as_table().unwrap().clone()));
    }
    all
}

// === impl Who ===

impl Who {
    fn by_chance(operation: &Table, dice: &mut Dice) -> Self {
        let words = |name: &str| -> Vec<String> {
            operation[name].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
        };
        let user = dice.one_in(2).then(|| UserId::from_u128(0xb0 + dice.below(3) as u128));
        let mut permissions = words(if user.is_some() { "delegated" } else { "application" });
        if dice.one_in(12) {
            permissions = vec!["Machine.Read.All".to_owned()];
        }
        let claims = match dice.below(60) {
            0 => json!({ "aud": "https://graph.microsoft.com" }),
            1 => json!({ "exp": 1_000_000 }),
            2 => json!({ "tid": "00000000-0000-0000-0000-0000000000ff" }),
            _ => json!({}),
        };
        Self {
            application: ApplicationId::from_u128(match user {
                // People mostly come through an application that has no entry.
                Some(_) if !dice.one_in(4) => APPLICATIONS[4],
                None if !dice.one_in(3) => APPLICATIONS[3],
                _ => *dice.of(&APPLICATIONS),
            }),
            user,
            permissions,
            groups: dice.some(&GROUPS, 2).into_iter().map(EntraGroupId::from_u128).collect(),
            overage: dice.one_in(12),
            claims: claims.as_object().unwrap().clone(),
        }
    }

    fn token(&self, number: usize) -> String {
        let caller = match self.user {
            Some(user) => Caller::user(user, "someone@test.example", self.application),
            None => Caller::application(self.application),
        };
        let caller = caller.permissions(self.permissions.iter().map(String::as_str));
        let caller = if self.overage { caller.group_overage() } else { caller.groups(self.groups.clone()) };
        let claims = self.claims.iter();
        // Each token its own, as in a rehearsal: verdicts are remembered.
        let caller = caller.claim("uti", format!("token-{number}"));
        let caller = claims.fold(caller, |caller, (name, value)| caller.claim(name, value.clone()));
        if self.claims.contains_key("exp") {
            crate::support::gateway::token(&caller)
        } else {
            token_of_today(&caller)
        }
    }

    /// As `explain` takes it.
    fn claims(&self) -> Value {
        let mut claims = Map::from_iter([("appid".to_owned(), json!(self.application.to_string()))]);
        match self.user {
            Some(user) => {
                claims.insert("oid".to_owned(), json!(user.to_string()));
                claims.insert("scp".to_owned(), json!(self.permissions.join(" ")));
            }
            None => {
                claims.insert("roles".to_owned(), json!(self.permissions));
            }
        }
        if self.overage {
            claims.insert("_claim_names".to_owned(), json!({ "groups": "src1" }));
        } else if !self.groups.is_empty() {
            claims.insert(
                "groups".to_owned(),
                self.groups.iter().map(|group| json!(group.to_string())).collect(),
            );
        }
        claims.extend(self.claims.clone());
        Value::Object(claims)
    }

    /// As a case names it.
    fn write(&self, name: &str, cases: &mut String) {
        let quoted = |texts: Vec<String>| toml::Value::from(texts).to_string();
        writeln!(cases, "[[caller]]\nname = \"{name}\"\napplication = \"{}\"", self.application).unwrap();
        if let Some(user) = self.user {
            writeln!(cases, "user = \"{user}\"").unwrap();
        }
        writeln!(cases, "permissions = {}", quoted(self.permissions.clone())).unwrap();
        if self.overage {
            writeln!(cases, "group_overage = true").unwrap();
        } else {
            writeln!(cases, "groups = {}", quoted(self.groups.iter().map(ToString::to_string).collect()))
                .unwrap();
        }
        for (name, value) in &self.claims {
            writeln!(cases, "claims.{name} = {value}").unwrap();
        }
    }
}

// === impl Call ===

impl Call {
    fn by_chance(operations: &[Table], dice: &mut Dice) -> Self {
        // Some more often, so that windows fill.
        let often =
            ["collect_investigation_package", "get_package_uri", "get_package_uri", "run_live_response"];
        let mut operation = dice.of(operations);
        if dice.one_in(3) {
            let name = *dice.of(&often);
            operation = operations.iter().find(|operation| operation["name"].as_str() == Some(name)).unwrap();
        }
        let body =
            if operation.contains_key("body") { body(&operation["body"], dice) } else { String::new() };
        let mut headers = Vec::new();
        match dice.below(16) {
            0 if !body.is_empty() => headers.push(("Content-Type", "text/plain")),
            1 if !body.is_empty() => headers.push(("Content-Type", "application/json; charset=utf-8")),
            2 if !body.is_empty() => headers.push(("Transfer-Encoding", "chunked")),
            3 if dice.one_in(3) => headers.push(("X-HTTP-Method-Override", "GET")),
            4 => headers.push(("X-Odd", "1")),
            _ => {}
        }
        let method = operation["method"].as_str().unwrap();
        Self {
            who: (!dice.one_in(25)).then(|| Who::by_chance(operation, dice)),
            method: if dice.one_in(25) { "GET" } else { method }.to_owned(),
            target: target(operation["path"].as_str().unwrap(), dice),
            headers,
            body,
            pause: *dice.of(&[0, 0, 0, 0, 1]),
        }
    }

    /// What the gateway says.
    async fn make(&self, number: usize, gateway: &TestGateway) -> RawResponse {
        let mut request = format!("{} {} HTTP/1.1\r\nHost: gateway\r\n", self.method, self.target);
        if let Some(who) = &self.who {
            write!(request, "Authorization: Bearer {}\r\n", who.token(number)).unwrap();
        }
        let given = |name: &str| self.headers.iter().any(|(given, _)| *given == name);
        for (name, value) in &self.headers {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        if !self.body.is_empty() && !given("Content-Type") {
            request += "Content-Type: application/json\r\n";
        }
        request += &if given("Transfer-Encoding") {
            format!("\r\n{:x}\r\n{}\r\n0\r\n\r\n", self.body.len(), self.body)
        } else if self.body.is_empty() {
            "\r\n".to_owned()
        } else {
            format!("Content-Length: {}\r\n\r\n{}", self.body.len(), self.body)
        };
        let mut client = gateway.connect().await;
        // It may be answered before all of it is read.
        let _ = client.try_send(request).await;
        client.read_response().await
    }

    /// A step of a case that expects what the gateway said.
    fn write(&self, at: u64, caller: &str, answer: &RawResponse, cases: &mut String) {
        writeln!(cases, "[[case.steps]]\nat = \"{at}s\"\naddress = \"127.0.0.1\"").unwrap();
        if self.who.is_some() {
            writeln!(cases, "caller = \"{caller}\"").unwrap();
        }
        writeln!(cases, "call = {}", toml::Value::from(format!("{} {}", self.method, self.target))).unwrap();
        if !self.body.is_empty() {
            writeln!(cases, "body = {}", toml::Value::from(self.body.clone())).unwrap();
        }
        for (name, value) in &self.headers {
            writeln!(cases, "headers.{name} = \"{value}\"").unwrap();
        }
        let verdict = answer.header("Tollgate-Reason").unwrap_or("admitted");
        writeln!(cases, "expect = \"{verdict}\"").unwrap();
        if let Some(seconds) = answer.header("Retry-After") {
            writeln!(cases, "retry_after = {seconds}").unwrap();
        }
        for item in answer.header("RateLimit").into_iter().flat_map(|items| items.split(", ")) {
            let (name, rest) = item.split_once(";r=").unwrap();
            writeln!(cases, "left.{name} = {}", rest.split(';').next().unwrap()).unwrap();
        }
    }
}

/// A path with values in the place of its parameters, spelt as the API takes it, or not.
fn target(path: &str, dice: &mut Dice) -> String {
    let mut parts = path.split('{');
    let mut target = parts.next().unwrap().to_owned();
    for part in parts {
        let (parameter, rest) = part.split_once('}').unwrap();
        let value = match parameter {
            "device" => *dice.of(&NAMED),
            "action" => *dice.of(&ACTIONS),
            _other => *dice.of(&["x1", "10.0.0.1", "2026-11-24", "0"]),
        };
        target += &value.replace('{', "%7B").replace('}', "%7D").replace(' ', "%20");
        target += rest;
    }
    match dice.below(40) {
        0 => target.to_uppercase(),
        1 => target.replacen("/api/", "/api/v1.0/", 1),
        2 => target.replacen("/api/", "/api//", 1),
        3 => target.replacen("/api/", "/api/%2e/", 1),
        4 => target + "/",
        5 => target + "?$top=5&x='y'",
        6 => target.replacen("/api/", "/apis/", 1),
        _ => target,
    }
}

/// A body with what it must have, or not.
fn body(contract: &toml::Value, dice: &mut Dice) -> String {
    let mut members = Map::new();
    for (name, kind) in contract.get("required").and_then(toml::Value::as_table).into_iter().flatten() {
        let value = match kind.as_str().unwrap() {
            "string" => json!("text"),
            "number" => json!(5),
            "boolean" => json!(true),
            "list" => json!(["1"]),
            _object => json!({ "x": 1 }),
        };
        members.insert(name.clone(), value);
    }
    if let Some(devices) = contract.get("devices").and_then(toml::Value::as_str) {
        let named = json!(*dice.of(&NAMED));
        match devices.split_once('.') {
            Some((outer, inner)) => members.insert(outer.to_owned(), json!({ inner: named })),
            None if devices.ends_with("Ids") => {
                members.insert(devices.to_owned(), json!([named, *dice.of(&NAMED)]))
            }
            None => members.insert(devices.to_owned(), named),
        };
    }
    let first = members.keys().next().cloned();
    match (dice.below(20), first) {
        (0, Some(first)) => {
            members.remove(&first);
        }
        (1, Some(first)) => {
            let value = members.remove(&first).unwrap();
            members.insert(first.to_uppercase(), value);
        }
        (2, Some(first)) => {
            members.insert(first, json!({ "other": [] }));
        }
        (3, Some(first)) => {
            members.insert(first, json!(""));
        }
        (4, _) => {
            members.insert("more".to_owned(), json!("x".repeat(70 << 10)));
        }
        (5, Some(first)) => return format!("{{\"{first}\":\"a\",\"{first}\":\"b\"}}"),
        (6, _) => return "{".to_owned(),
        _ => {}
    }
    Value::Object(members).to_string()
}

#[tokio::test]
async fn what_the_commands_decide_is_what_the_gateway_decides() {
    let operations = operations();
    let mut verdicts = std::collections::BTreeMap::new();
    for seed in 0..SETS {
        let variation = Variation::of(seed);
        let now = Wall::from_unix_seconds(Clock::System.wall().unix_seconds());
        let folder = tempfile::tempdir().unwrap();
        variation.write(folder.path(), now);
        let upstream = RecordingUpstream::start(Answer::new(200, ""), Clock::System);
        let gateway = Setup::new(upstream.address()).policy_folder(folder.path()).start();
        gateway.hand.step_wall(now);
        for (action, device) in STARTED {
            let actions = &gateway.server().line.actions;
            actions.record(ActionId::parse(action).unwrap(), DeviceRef::parse(device));
        }
        let (mut dice, mut at) = (Dice::new(1_000 + seed), 0);
        let mut callers = String::new();
        let mut cases = format!(
            "[[case]]\nname = \"calls by chance, {seed}\"\nbegins = \"{now}\"\ninventory_age = \"{}s\"\n",
            variation.age.as_secs()
        );
        for (action, device) in STARTED {
            writeln!(cases, "actions.{action} = \"{device}\"").unwrap();
        }
        let mut made = Vec::new();
        for number in 0..CALLS {
            let call = Call::by_chance(&operations, &mut dice);
            at += call.pause;
            gateway.hand.advance(Duration::from_secs(call.pause));
            let id = format!("8382f7ea-7557-4ab7-9782-{number:012x}");
            upstream.answer_next(Answer::json(201, &json!({ "id": id })));
            let answer = call.make(number, &gateway).await;
            let caller = format!("caller {number}");
            if let Some(who) = &call.who {
                who.write(&caller, &mut callers);
            }
            call.write(at, &caller, &answer, &mut cases);
            let verdict = answer.header("Tollgate-Reason").unwrap_or("admitted").to_owned();
            *verdicts.entry(verdict.clone()).or_insert(0) += 1;
            made.push((call, verdict));
        }
        drop(gateway);
        std::fs::create_dir(folder.path().join("tests")).unwrap();
        std::fs::write(folder.path().join("tests/cases.toml"), callers + &cases).unwrap();
        variation.for_its_cloud(folder.path());
        let ended = run(&["test", text(folder.path())]).await;
        assert_eq!(ended.code, Some(0), "set {seed}, {:?}: {ended:#?}", variation.cloud);
        explained(&made, folder.path(), seed).await;
    }
    // Enough of everything, so that the comparison compares.
    let rare: Vec<_> = ["admitted", "over_limit", "unknown_action", "stale_inventory"]
        .into_iter()
        .chain(["device_group", "missing_role", "missing_permission", "application", "unscoped_operation"])
        .chain(["group_overage", "bad_body", "missing_parameter", "wrong_type", "body_too_large"])
        .chain(["no_operation", "malformed_request", "wrong_audience", "expired", "wrong_issuer"])
        .filter(|verdict| verdicts.get(*verdict).is_none_or(|count| *count < 2))
        .collect();
    assert!(rare.is_empty(), "{rare:?} of {verdicts:#?}");
}

/// Explains some of the calls that no window and no memory of actions decided.
async fn explained(made: &[(Call, String)], policies: &Path, seed: u64) {
    let beside = tempfile::tempdir().unwrap();
    let (claims, body) = (beside.path().join("claims"), beside.path().join("body"));
    let alone = made.iter().filter(|(call, verdict)| {
        let started = STARTED
            .iter()
            .any(|(id, _)| call.target.to_lowercase().replace('-', "").contains(&id.replace('-', "")));
        call.who.is_some() && call.headers.is_empty() && verdict != "over_limit" && !started
    });
    let mut seen = std::collections::BTreeSet::new();
    let each = alone.filter(|(_, verdict)| seen.insert(verdict.clone()));
    for (call, verdict) in each.take(EXPLAINED) {
        std::fs::write(&claims, call.who.as_ref().unwrap().claims().to_string()).unwrap();
        std::fs::write(&body, &call.body).unwrap();
        let mut args = vec!["explain", "--policies", text(policies), "--claims", text(&claims)];
        args.extend([call.method.as_str(), &call.target]);
        if !call.body.is_empty() {
            args.extend(["--body", text(&body)]);
        }
        let ended = run(&args).await;
        let found = match ended.code {
            Some(0) => "admitted",
            _ => ended.err.last().unwrap().strip_prefix("refused: ").unwrap(),
        };
        assert_eq!(found, verdict, "set {seed}: {} {} {ended:#?}", call.method, call.target);
    }
}
