//! `tollgate explain`.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate::sandbox::issuer::Caller;
use tollgate::time::Clock;

use super::{policy_folder, run};
use crate::support::gateway::{
    COMMENT, EXECUTIVE, PLAYBOOKS, PORTAL, READERS, RESPONDERS, Setup, UNGROUPED, WORKSTATION, playbooks,
    portal, responder, token_of_today,
};
use crate::support::process::{Ended, text};
use crate::support::until;
use crate::support::upstream::{Answer, RecordingUpstream};

/// A policy folder, and files beside it.
struct Desk {
    policies: TempDir,
    files: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { policies: policy_folder(), files: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.files.path().join(name);
        std::fs::write(&path, content).unwrap();
        text(&path).to_owned()
    }

    async fn explain(&self, args: &[&str]) -> Ended {
        run(&[&["explain", "--policies", text(self.policies.path())], args].concat()).await
    }

    /// Explains a call by the claims of its caller.
    async fn by_claims(&self, claims: &Value, call: [&str; 2], body: &str) -> Ended {
        let (claims, body) = (self.file("claims.json", &claims.to_string()), self.file("body", body));
        self.explain(&["--claims", &claims, call[0], call[1], "--body", &body]).await
    }
}

fn verdict(ended: &Ended) -> &str {
    match ended.code {
        Some(0) => ended.out.last().unwrap(),
        _ => ended.err.last().unwrap().strip_prefix("refused: ").unwrap_or_else(|| panic!("{ended:#?}")),
    }
}

fn reader() -> Value {
    json!({
        "appid": PLAYBOOKS.to_string(),
        "roles": ["Machine.CollectForensics"],
    })
}

#[tokio::test]
async fn each_step_says_what_it_found_and_which_line_of_the_policy_said_so() {
    let desk = Desk::new();
    let ended =
        desk.by_claims(&reader(), ["POST", "/api/machines/ws-1/collectInvestigationPackage"], COMMENT).await;
    assert_eq!((ended.code, ended.err.len()), (Some(0), 0), "{ended:#?}");
    let expected = [
        "door          POST /api/machines/ws-1/collectInvestigationPackage",
        "route         is the operation `collect`, POST /api/machines/{device}/collectInvestigationPackage (operations.toml:2:15)",
        "authenticate  the application 00000000-0000-0000-0000-0000000000a1 (`playbooks`), of the tenant 00000000-0000-0000-0000-00000000007e",
        "permit        an application needs one of `Machine.CollectForensics`, and has `Machine.CollectForensics` (operations.toml:5:15)",
        "              the entry of `playbooks` allows the operation (applications.toml:4:17)",
        "read          the body has 24 bytes, at most 65536 are taken (operations.toml:2:15)",
        "reach         `ws-1`, device 1111111111111111111111111111111111111111, is in the group `Workstations` (device-groups.toml:8:9)",
        "              the entry of `playbooks` allows the group `Workstations` (applications.toml:5:17)",
        "acquire       `collect`, 100 per 00:01:00, by tenant, application, operation: 99 left (operations.toml:9:16)",
        "              `collect`, 1500 per 01:00:00, by tenant, application, operation: 1499 left (operations.toml:9:16)",
        "",
        "admitted",
    ];
    let mut steps = ended.out[2..].to_vec();
    assert!(steps[3].starts_with("              until "), "{steps:#?}");
    steps.remove(3);
    assert_eq!(steps, expected.map(str::to_owned));
}

#[tokio::test]
async fn a_refusal_says_what_would_have_done() {
    let desk = Desk::new();
    let user = json!({
        "appid": "00000000-0000-0000-0000-0000000000a2", "oid": "00000000-0000-0000-0000-0000000000b5",
        "scp": "Machine.CollectForensics",
    });
    let ended =
        desk.by_claims(&user, ["POST", "/api/machines/ws-1/collectInvestigationPackage"], COMMENT).await;
    assert_eq!((ended.code, verdict(&ended)), (Some(1), "missing_role"));
    let out = ended.out.join("\n");
    for part in [
        "in no Entra group that the policy names\n",
        "the user needs a role with one of `Alerts investigation` (operations.toml:7:15)\n",
        "and holds none of those\n",
        "`Responder` would do (roles.toml:2:16)\n",
        "refused, `missing_role`: Missing role permission. API required role permission: Alerts investigation.",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(!out.contains("reach") && !out.contains("acquire"), "{out}");
}

#[tokio::test]
async fn what_the_claims_leave_out_is_filled_in_and_what_they_say_is_not() {
    let desk = Desk::new();
    let call = ["GET", "/api/machines"];
    let with = |name: &str, value: Value| {
        let mut claims = reader();
        claims["roles"] = json!(["Machine.Read.All"]);
        claims["appid"] = json!("00000000-0000-0000-0000-0000000000a2");
        claims[name] = value;
        claims
    };
    for (claims, expected) in [
        (with("uti", json!("x")), "admitted"),
        (with("aud", json!("https://graph.microsoft.com")), "wrong_audience"),
        (with("tid", json!("00000000-0000-0000-0000-0000000000ff")), "wrong_issuer"),
        (with("iss", json!("https://elsewhere.example/")), "wrong_issuer"),
        (with("exp", json!(1_000_000)), "expired"),
        (with("nbf", json!(9_999_999_999_i64)), "not_yet_valid"),
        (with("scp", json!("")), "bad_token"),
    ] {
        let ended = desk.by_claims(&claims, call, "").await;
        assert_eq!(verdict(&ended), expected, "{claims}: {ended:#?}");
    }
}

#[tokio::test]
async fn a_token_of_a_cloud_for_governments_is_of_its_login_host() {
    let (tenant, client) = ("00000000-0000-0000-0000-00000000007e", "00000000-0000-0000-0000-0000000000dd");
    for (cloud, own, other) in
        [("commercial", "com", "us"), ("gcc", "com", "us"), ("gcc-high", "us", "com"), ("dod", "us", "com")]
    {
        let desk = Desk::new();
        let issuers = format!(
            "[[issuer]]\ncloud = \"{cloud}\"\ntenants = [\"{tenant}\"]\naudiences = [\"{client}\"]\n"
        );
        std::fs::write(desk.policies.path().join("issuers.toml"), issuers).unwrap();
        for keys in ["keys-v1.json", "keys-v2.json"] {
            std::fs::remove_file(desk.policies.path().join(keys)).unwrap();
        }
        let of = |iss: &str, ver: &str| {
            let caller = if ver == "2.0" { "azp" } else { "appid" };
            json!({
                "iss": iss, "ver": ver, "aud": client, "tid": tenant, caller: PORTAL.to_string(),
                "roles": ["Machine.Read.All"],
            })
        };
        let v2 = |domain: &str| format!("https://login.microsoftonline.{domain}/{tenant}/v2.0");
        for (claims, expected) in [
            (of(&v2(own), "2.0"), "admitted"),
            (of(&v2(other), "2.0"), "wrong_issuer"),
            (of(&v2(own), "1.0"), "wrong_issuer"),
            (of(&format!("https://sts.windows.net/{tenant}/"), "1.0"), "admitted"),
        ] {
            let ended = desk.by_claims(&claims, ["GET", "/api/machines"], "").await;
            assert_eq!(verdict(&ended), expected, "{cloud}, {claims}: {ended:#?}");
        }
    }
}

#[tokio::test]
async fn what_is_not_known_is_said_with_the_line_that_says_what_becomes_of_it() {
    let desk = Desk::new();
    let file = desk.policies.path().join("device-groups.toml");
    let groups = std::fs::read_to_string(&file).unwrap();
    let mut package = reader();
    package["roles"] = json!(["Machine.Read.All"]);
    let uri = ["GET", "/api/machineactions/5382f7ea75574ab79782d50480024a4e/getPackageUri"];
    let action = "nobody knows the device of the action `5382f7ea-7557-4ab7-9782-d50480024a4e`, and a call that names such a one";
    let collect = ["POST", "/api/machines/ws-9/collectInvestigationPackage"];
    let known = ["POST", "/api/machines/ws-1/collectInvestigationPackage"];
    let devices =
        std::fs::File::options().write(true).open(desk.policies.path().join("devices.csv")).unwrap();
    devices.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).unwrap();
    let lacks = "the inventory lacks `ws-9`";
    let aged = "the inventory was written at 2001-09-09T01:46:40.000Z, is older than 1h and";
    for (modes, call, expected, said) in [
        ("", uri, "unknown_action", format!("{action} is refused")),
        (
            "unknown_action = \"refuse\"",
            uri,
            "unknown_action",
            format!("{action} is refused (device-groups.toml:1:18)"),
        ),
        (
            "\nunknown_action = \"forward\"",
            uri,
            "admitted",
            format!("{action} passes, whatever its device (device-groups.toml:2:18)"),
        ),
        (
            "unknown_device = \"refuse\"",
            collect,
            "unknown_device",
            format!("{lacks}, and a call that names such a device is refused (device-groups.toml:1:18)"),
        ),
        (
            "unknown_device = \"ungrouped\"",
            collect,
            "device_group",
            format!("{lacks}: it counts as ungrouped (device-groups.toml:1:18)"),
        ),
        (
            "max_age = \"1h\"",
            known,
            "stale_inventory",
            format!("{aged} is not believed (device-groups.toml:1:11)"),
        ),
        (
            "max_age = \"1h\"\nstale_inventory = \"refuse\"",
            known,
            "stale_inventory",
            format!("{aged} is not believed (device-groups.toml:2:19)"),
        ),
        (
            "max_age = \"1h\"\nstale_inventory = \"use\"",
            known,
            "admitted",
            format!("{aged} is asked all the same (device-groups.toml:2:19)"),
        ),
    ] {
        std::fs::write(&file, format!("{modes}\n{groups}")).unwrap();
        let claims = if call == uri { package.clone() } else { reader() };
        let ended = desk.by_claims(&claims, call, COMMENT).await;
        assert_eq!(verdict(&ended), expected, "{modes}: {ended:#?}");
        assert!(ended.out.iter().any(|line| line.ends_with(&said)), "{modes}, {said}: {ended:#?}");
        let looked = ended.out.iter().any(|line| line.contains("is in the group"));
        let looks = call != uri && ["admitted", "device_group"].contains(&expected);
        assert_eq!(looked, looks, "{modes}: {ended:#?}");
    }
}

/// Calls of every kind: who, what, with which body.
fn calls() -> Vec<(&'static str, Caller, &'static str, String, &'static str)> {
    let collect = |device: &str| format!("/api/machines/{device}/collectInvestigationPackage");
    let nobody = Caller::application(tollgate::id::ApplicationId::from_u128(0x99));
    let list = "/api/machines".to_owned();
    vec![
        ("admitted", playbooks(), "POST", collect(WORKSTATION), COMMENT),
        ("by name", playbooks(), "POST", collect("WS-1.test.example"), COMMENT),
        ("another group", playbooks(), "POST", collect(EXECUTIVE), COMMENT),
        ("ungrouped", playbooks(), "POST", collect(UNGROUPED), COMMENT),
        ("no such device", playbooks(), "POST", collect("ws-9"), COMMENT),
        ("no comment", playbooks(), "POST", collect(WORKSTATION), "{}"),
        ("no JSON", playbooks(), "POST", collect(WORKSTATION), "x"),
        ("a user", responder(), "POST", collect(WORKSTATION), COMMENT),
        ("a user elsewhere", responder(), "POST", collect(EXECUTIVE), COMMENT),
        ("a user without a role", responder().groups([]), "POST", collect(WORKSTATION), COMMENT),
        ("too many groups", responder().group_overage(), "POST", collect(WORKSTATION), COMMENT),
        ("no permission", responder().permissions(["Machine.Read"]), "POST", collect(WORKSTATION), COMMENT),
        ("a list, confined", playbooks(), "GET", list.clone(), ""),
        ("a list", portal(), "GET", list.clone(), ""),
        ("not listed", nobody.permissions(["Machine.Read.All"]), "GET", list.clone(), ""),
        ("an unknown action", responder(), "GET", "/api/machineactions/x/getPackageUri".into(), ""),
        ("no such call", portal(), "GET", "/api/secrets".into(), ""),
        ("no such method", portal(), "DELETE", list.clone(), ""),
        ("a path in two ways", portal(), "GET", "/api//machines".into(), ""),
        ("another API", portal().for_audience("https://graph.microsoft.com"), "GET", list.clone(), ""),
        ("another tenant", portal().in_tenant(tollgate::id::TenantId::from_u128(9)), "GET", list, ""),
        ("others", responder().groups([RESPONDERS]), "GET", "/api/machines/ws-1".into(), ""),
    ]
}

#[tokio::test]
async fn the_verdict_is_that_of_the_running_gateway_by_token_and_by_audit_line() {
    let desk = Desk::new();
    let upstream = RecordingUpstream::start(Answer::json(200, &json!({})), Clock::System);
    let audit = desk.files.path().join("audit.jsonl");
    let setup = Setup::new(upstream.address()).policy_folder(desk.policies.path()).audit(&audit);
    let gateway = setup.start();
    gateway.hand.step_wall(Clock::System.wall());

    let mut verdicts = Vec::new();
    for (what, caller, method, path, body) in calls() {
        let token = token_of_today(&caller);
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let answer = gateway.connect().await.request(method, &path, &headers, body.as_bytes()).await;
        let decided = answer.header("Tollgate-Reason").unwrap_or("admitted").to_owned();

        let (token, body) = (desk.file("token", &token), desk.file("body", body));
        let explained = desk.explain(&["--token", &token, method, &path, "--body", &body]).await;

        assert_eq!(verdict(&explained), decided, "{what}: {explained:#?}");
        verdicts.push(decided);
    }
    verdicts.sort_unstable();
    verdicts.dedup();
    assert!(verdicts.len() >= 13, "{verdicts:?}");

    let decisions = || {
        let lines = std::fs::read_to_string(&audit).unwrap_or_default();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["event"] == "admitted" || line["event"] == "refused").collect::<Vec<_>>()
    };
    until("the lines of all calls", || decisions().len() == calls().len()).await;
    let mut again = 0;
    for line in decisions() {
        let recorded = line["reason"].as_str().unwrap_or("admitted").to_owned();
        let explained = desk.explain(&["--audit", &line.to_string()]).await;
        let by_policy =
            line.get("tenant").is_some() && !["missing_parameter", "bad_body"].contains(&&*recorded);
        if by_policy {
            assert_eq!(verdict(&explained), recorded, "{line}: {explained:#?}");
            again += 1;
        } else {
            assert_eq!(explained.code, Some(2), "{line}: {explained:#?}");
            assert!(explained.err[0].contains("not decided by the policy"), "{explained:#?}");
        }
    }
    assert!(again >= 15, "{again}");
}

#[tokio::test]
async fn what_cannot_be_read_is_said_in_a_line() {
    let desk = Desk::new();
    let bad = desk.file("bad", "no JSON");
    for (args, said) in [
        (&["--claims", "/no/claims", "GET", "/api/machines"][..], "error: cannot read `/no/claims`: "),
        (&["--claims", &bad, "GET", "/api/machines"], "error: the claims are no JSON object: "),
        (&["--audit", "no line"], "error: not a line of the audit: "),
        (
            &["--audit", r#"{"time":"2026-01-01T00:00:00Z","event":"ended"}"#],
            "error: the call cannot be decided again: the line is no decision",
        ),
    ] {
        let ended = desk.explain(args).await;
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert!(ended.err[0].starts_with(said), "{ended:#?}");
    }
    let ended = run(&["explain", "--policies", text(Path::new("/no/policies")), "GET", "/"]).await;
    assert_eq!(ended.code, Some(2));
}

#[tokio::test]
async fn a_call_that_passes_since_nothing_is_enforced_says_what_would_have_refused_it() {
    let desk = Desk::new();
    let collect = format!("/api/machines/{EXECUTIVE}/collectInvestigationPackage");
    let explained = desk.by_claims(&reader(), ["POST", &collect], COMMENT).await;
    assert_eq!(verdict(&explained), "device_group");
    std::fs::write(desk.policies.path().join("policy.toml"), "enforce = false").unwrap();
    let explained = desk.by_claims(&reader(), ["POST", &collect], COMMENT).await;
    assert_eq!(verdict(&explained), "admitted");
    let said = format!(
        "not enforced, `device_group`: The device `{EXECUTIVE}` is in the device group `Executives`, which is not open to this caller"
    );
    assert!(explained.out.contains(&said), "{explained:#?}");
    let outside = explained.out.iter().any(|line| line.contains("does not allow the group `Executives`"));
    assert!(outside, "{explained:#?}");
}

#[tokio::test]
async fn a_call_that_passes_for_a_role_that_is_not_enforced_says_for_which() {
    let desk = Desk::new();
    let file = desk.policies.path().join("roles.toml");
    let roles = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, roles.replace("[\"View data\"]", "[\"View data\"]\nenforce = false")).unwrap();
    let claims = json!({
        "appid": PORTAL.to_string(),
        "oid": "00000000-0000-0000-0000-0000000000b1",
        "scp": "Machine.CollectForensics",
        "groups": [READERS.to_string()],
    });
    let collect = format!("/api/machines/{WORKSTATION}/collectInvestigationPackage");
    let explained = desk.by_claims(&claims, ["POST", &collect], COMMENT).await;
    assert_eq!(verdict(&explained), "admitted");
    for said in [
        "and passes, since `Reader` is held and not enforced (roles.toml:8:16)",
        "not enforced, `missing_role`: Missing role permission. API required role permission: Alerts investigation.",
    ] {
        assert!(explained.out.iter().any(|line| line.ends_with(said)), "{said}: {explained:#?}");
    }
}
