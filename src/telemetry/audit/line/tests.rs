use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::id::{ApplicationId, EntraGroupId, RequestId, TenantId, UserId};
use crate::outcome::{Decision, Findings, ReasonCode, Standing, Tried};
use crate::principal::{Groups, Principal, PrincipalKind, Scope, Subject};
use crate::source::{Problems, SourceFile};

/// 2026-01-01T12:00:00Z
const NOON: Wall = Wall::from_unix_seconds(1_767_268_800);

fn read(line: &impl Serialize) -> Value {
    parse(&encode(line).unwrap())
}

fn read_request(event: Event, outcome: &Outcome) -> Value {
    parse(&request(event, outcome))
}

fn parse(bytes: &[u8]) -> Value {
    assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count(), 1, "a line is one line");
    serde_json::from_slice(bytes).unwrap()
}

/// An admitted call of which nothing else is known.
fn outcome(number: u128) -> Outcome {
    Outcome {
        request_id: RequestId::from_u128(number),
        client_request_id: None,
        received: NOON,
        address: None,
        policy_version: "v1".into(),
        decision: Decision::Admitted,
        reason: None,
        findings: Findings::default(),
        admission: Duration::from_micros(40),
        upstream_status: None,
        upstream_latency: None,
        total: Duration::from_micros(55),
    }
}

/// An outcome of which everything is known.
fn known() -> Outcome {
    let subject = Subject {
        tenant: TenantId::from_u128(1),
        application: ApplicationId::from_u128(2),
        user: Some(UserId::from_u128(3)),
    };
    let kind = PrincipalKind::User {
        permissions: vec!["Machine.CollectForensics".into()],
        groups: Groups::Listed(vec![EntraGroupId::from_u128(5)]),
    };
    let principal = Principal { subject, kind, token_id: Some("uti-1".into()), expires: NOON };
    let id = "fb9ab6be3965095a09c057be7c90f0a2fb9ab6be".parse().ok();
    let device =
        ScopedDevice { named: DeviceRef::parse("pc-1.contoso.com"), id, group: Some("Workstations".into()) };
    let standing = Standing {
        limit: "collect".into(),
        rate: "100 per minute".parse().unwrap(),
        remaining: 42,
        grows_in: Duration::ZERO,
        shown: false,
    };
    Outcome {
        client_request_id: Some("ticket 7".into()),
        address: Some(Ipv4Addr::LOCALHOST.into()),
        findings: Findings {
            operation: Some("collect_investigation_package".parse().unwrap()),
            principal: Some(Arc::new(principal)),
            application: Some("soar-playbooks".into()),
            groups: [EntraGroupId::from_u128(5)].into_iter().collect(),
            scope: Scope {
                devices: [device].into_iter().collect(),
                overrun: ["Servers".into()].into_iter().collect(),
            },
            tried: Some(Box::new(Tried::new(
                ReasonCode::MissingRole,
                "Missing role",
                ["Tier 1".into()].into_iter().collect(),
            ))),
            comment: Some("first\nsecond \"quoted\"\u{0}".into()),
            standings: [standing].into_iter().collect(),
            held: Some(Duration::from_micros(1_500)),
            overrun: ["collect-per-device".into()].into_iter().collect(),
        },
        upstream_status: Some(201),
        upstream_latency: Some(Duration::from_micros(12_345)),
        total: Duration::from_millis(1_250),
        ..outcome(9)
    }
}

#[test]
fn a_line_has_every_fact_and_before_the_end_none_of_the_end() {
    let known = known();
    let before = json!({
        "time": "2026-01-01T12:00:00.000Z",
        "event": "admitted",
        "request_id": RequestId::from_u128(9).to_string(),
        "client_request_id": "ticket 7",
        "decision": "admitted",
        "operation": "collect_investigation_package",
        "devices": [{
            "device": "pc-1.contoso.com",
            "id": "fb9ab6be3965095a09c057be7c90f0a2fb9ab6be",
            "group": "Workstations",
        }],
        "tenant": TenantId::from_u128(1).to_string(),
        "application": ApplicationId::from_u128(2).to_string(),
        "application_name": "soar-playbooks",
        "user": UserId::from_u128(3).to_string(),
        "permissions": ["Machine.CollectForensics"],
        "groups": [EntraGroupId::from_u128(5).to_string()],
        "uti": "uti-1",
        "address": "127.0.0.1",
        "policy_version": "v1",
        "admission_us": 40,
        "held_ms": 1.5,
        "limits_left": [{ "limit": "collect", "window": "minute", "remaining": 42 }],
        "would_refuse": "missing_role",
        "would_say": "Missing role",
        "roles_overrun": ["Tier 1"],
        "limits_overrun": ["collect-per-device"],
        "device_groups_overrun": ["Servers"],
        "comment": "first\nsecond \"quoted\"\u{0}",
    });
    assert_eq!(read_request(Event::Admitted, &known), before);

    let mut after = before;
    after.as_object_mut().unwrap().retain(|name, _| name != "permissions" && name != "groups");
    after["time"] = json!("2026-01-01T12:00:01.250Z");
    after["event"] = json!("ended");
    after["upstream_status"] = json!(201);
    after["upstream_ms"] = json!(12.345);
    after["total_ms"] = json!(1250.0);
    assert_eq!(read_request(Event::Ended, &known), after);
}

#[test]
fn what_is_not_known_is_absent() {
    let refused = Outcome { decision: Decision::Refused, reason: Some(ReasonCode::NoToken), ..outcome(1) };
    let line = json!({
        "time": "2026-01-01T12:00:00.000Z",
        "event": "refused",
        "request_id": RequestId::from_u128(1).to_string(),
        "decision": "refused",
        "reason": "no_token",
        "policy_version": "v1",
        "admission_us": 40,
        "total_ms": 0.055,
    });
    assert_eq!(read_request(Event::Refused, &refused), line);
}

#[test]
fn a_comment_and_a_name_are_cut_between_characters() {
    let mut outcome = outcome(1);
    outcome.findings.comment = Some("ä\n".repeat(150).into());
    let named = DeviceRef::parse(&"é".repeat(300));
    outcome.findings.scope.devices.push(ScopedDevice { named, id: None, group: None });
    let line = read_request(Event::Admitted, &outcome);
    assert_eq!(line["comment"], json!("ä\n".repeat(100)));
    assert_eq!(line["devices"], json!([{ "device": "é".repeat(256) }]));
}

#[test]
fn a_reload_is_a_line_with_its_first_hundred_mistakes() {
    let time = "2026-01-01T12:00:00.000Z";
    assert_eq!(
        read(&PolicyLine::new(NOON, &PolicyEvent::Loaded { version: "v1", lacking: &Default::default() })),
        json!({ "time": time, "event": "policy", "result": "ok", "policy_version": "v1" })
    );
    let lacking = [("collect".into(), Duration::from_secs(3_600))].into_iter().collect();
    assert_eq!(
        read(&PolicyLine::new(NOON, &PolicyEvent::Loaded { version: "v2", lacking: &lacking }))["lacking_s"],
        json!({ "collect": 3600.0 })
    );
    let mut problems = Problems::default();
    let source = SourceFile::new("roles.toml", "");
    for line in 1..=101 {
        problems.line(&source, line, "no role `x`");
    }
    let problems = problems.into_sorted();
    let line = read(&PolicyLine::new(NOON, &PolicyEvent::Failed { version: "v1", problems: &problems[..1] }));
    assert_eq!(
        line,
        json!({
            "time": time, "event": "policy", "result": "failed", "policy_version": "v1",
            "problem_count": 1, "problems": ["roles.toml:1:1: no role `x`"],
        })
    );
    let line = read(&PolicyLine::new(NOON, &PolicyEvent::Failed { version: "v1", problems: &problems }));
    assert_eq!(line["problem_count"], json!(101));
    assert_eq!(line["problems"].as_array().unwrap().len(), 100);
}

#[test]
fn what_has_an_end_is_a_line_when_it_comes_into_force_and_one_when_it_lapses() {
    let (version, what, until) = ("v1", "the limit `freeze`", NOON);
    let line = |result| {
        json!({
            "time": "2026-01-01T12:00:00.000Z", "event": "policy", "result": result, "policy_version": "v1",
            "what": "the limit `freeze`", "until": "2026-01-01T12:00:00.000Z",
        })
    };
    let until_line = PolicyLine::new(NOON, &PolicyEvent::Until { version, what, until });
    assert_eq!(read(&until_line), line("until"));
    assert_eq!(read(&PolicyLine::new(NOON, &PolicyEvent::Lapsed { version, what, until })), line("lapsed"));
}

#[test]
fn groups_that_the_token_could_not_carry_are_said_to_be_missing() {
    let mut known = known();
    let mut principal = known.findings.principal.as_deref().unwrap().clone();
    principal.kind = PrincipalKind::User { permissions: vec!["A".into()], groups: Groups::Overage };
    known.findings.principal = Some(Arc::new(principal));
    known.findings.groups.clear();
    let line = read_request(Event::Refused, &known);
    assert_eq!((&line["group_overage"], line.get("groups")), (&json!(true), None));
}
