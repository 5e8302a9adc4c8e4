use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::id::{ApplicationId, DeviceRef, RequestId, TenantId, UserId};
use crate::outcome::{Findings, Standing};
use crate::principal::{Groups, Principal, PrincipalKind, Scope, ScopedDevice, Subject};
use crate::source::{Problems, SourceFile};
use crate::time::Wall;

/// 2026-01-01T12:00:00Z
const NOON: Wall = Wall::from_unix_seconds(1_767_268_800);

/// An audit to a file in a folder of its own.
struct Room {
    folder: TempDir,
    metrics: Metrics,
    audit: Audit,
}

impl Room {
    fn new() -> Self {
        Self::with(Queue::CAPACITY, AuditFullMode::Refuse, |_| ())
    }

    fn with(capacity: usize, mode: AuditFullMode, prepare: impl Fn(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        prepare(&path);
        let (metrics, (clock, _)) = (Metrics::new(), Clock::manual(NOON));
        let queue = Queue::new(capacity);
        let audit = Audit::start_with(queue, AuditTarget::File(path), mode, metrics.clone(), clock).unwrap();
        Self { folder, metrics, audit }
    }

    /// One whose file takes nothing, as on a full disk; the writer is stuck with the line of request 0 already.
    fn full(capacity: usize, mode: AuditFullMode) -> Self {
        let room = Self::with(capacity, mode, |path| symlink("/dev/full", path).unwrap());
        room.audit.admitted(&admitted(0)).unwrap();
        room.audit.flush();
        assert!(room.count("tollgate_audit_write_errors_total") >= 1);
        room
    }

    /// Gives the disk room again: by another file, since `/dev/full` stays full.
    fn free(&self) {
        std::fs::remove_file(self.path()).unwrap();
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    /// Everything queued so far, as it stands in the file.
    fn lines(&self) -> Vec<Value> {
        self.audit.flush();
        lines(&self.path())
    }

    fn count(&self, series: &str) -> u64 {
        let text = self.metrics.render(NOON);
        let line = text.lines().find_map(|line| line.strip_prefix(series)).unwrap();
        line.trim().parse().unwrap()
    }

    fn written(&self) -> u64 {
        self.count(r#"tollgate_audit_lines_total{result="written"}"#)
    }

    fn dropped(&self) -> u64 {
        self.count(r#"tollgate_audit_lines_total{result="dropped"}"#)
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn outcome(number: u128, decision: Decision, reason: Option<ReasonCode>) -> Outcome {
    Outcome {
        request_id: RequestId::from_u128(number),
        client_request_id: None,
        received: NOON,
        address: None,
        policy_version: "v1".into(),
        decision,
        reason,
        findings: Findings::default(),
        admission: Duration::from_micros(40),
        upstream_status: None,
        upstream_latency: None,
        total: Duration::from_micros(55),
    }
}

fn admitted(number: u128) -> Outcome {
    outcome(number, Decision::Admitted, None)
}

fn refused(number: u128, reason: ReasonCode) -> Outcome {
    outcome(number, Decision::Refused, Some(reason))
}

fn request_id(number: u128) -> Value {
    RequestId::from_u128(number).to_string().into()
}

/// The members `request_id` of lines, in their order.
fn request_ids(lines: &[Value]) -> Vec<Value> {
    lines.iter().map(|line| line["request_id"].clone()).collect()
}

/// The counts of all `dropped` lines added up.
fn sums(lines: &[Value]) -> std::collections::BTreeMap<String, u64> {
    let mut sums = std::collections::BTreeMap::new();
    for line in lines.iter().filter(|line| line["event"] == "dropped") {
        for (word, count) in line["counts"].as_object().unwrap() {
            *sums.entry(word.clone()).or_default() += count.as_u64().unwrap();
        }
    }
    sums
}

/// An outcome of which everything is known.
fn known() -> Outcome {
    let subject = Subject {
        tenant: TenantId::from_u128(1),
        application: ApplicationId::from_u128(2),
        user: Some(UserId::from_u128(3)),
    };
    let kind = PrincipalKind::User { permissions: Vec::new(), groups: Groups::Overage };
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
        address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        findings: Findings {
            operation: Some("collect_investigation_package".into()),
            principal: Some(Arc::new(principal)),
            application: Some("soar-playbooks".into()),
            scope: Scope { devices: [device].into_iter().collect() },
            comment: Some("first\nsecond \"quoted\"\u{0}".into()),
            standings: [standing].into_iter().collect(),
        },
        upstream_status: Some(201),
        upstream_latency: Some(Duration::from_micros(12_345)),
        total: Duration::from_millis(1_250),
        ..admitted(9)
    }
}

#[test]
fn an_admitted_call_has_a_line_before_it_is_forwarded_and_one_when_it_ends() {
    let room = Room::new();
    room.audit.admitted(&known()).unwrap();
    let before = json!({
        "time": "2026-01-01T12:00:00.000Z",
        "event": "admitted",
        "request_id": request_id(9),
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
        "uti": "uti-1",
        "address": "127.0.0.1",
        "policy_version": "v1",
        "admission_us": 40,
        "limits_left": [{ "limit": "collect", "window": "minute", "remaining": 42 }],
        "comment": "first\nsecond \"quoted\"\u{0}",
    });
    assert_eq!(room.lines(), [before.clone()]);

    room.audit.finished(&known());
    let mut after = before.clone();
    after["time"] = json!("2026-01-01T12:00:01.250Z");
    after["event"] = json!("ended");
    after["upstream_status"] = json!(201);
    after["upstream_ms"] = json!(12.345);
    after["total_ms"] = json!(1250.0);
    assert_eq!(room.lines(), [before, after]);
    assert_eq!((room.written(), room.dropped()), (2, 0));
}

#[test]
fn a_refused_call_has_one_line_and_what_is_not_known_is_absent() {
    let room = Room::new();
    room.audit.finished(&refused(1, ReasonCode::NoToken));
    let line = json!({
        "time": "2026-01-01T12:00:00.000Z",
        "event": "refused",
        "request_id": request_id(1),
        "decision": "refused",
        "reason": "no_token",
        "policy_version": "v1",
        "admission_us": 40,
        "total_ms": 0.055,
    });
    assert_eq!(room.lines(), [line]);
}

#[test]
fn a_comment_is_cut_between_characters_and_a_line_is_one_line() {
    let room = Room::new();
    let mut outcome = admitted(1);
    outcome.findings.comment = Some("ä\n".repeat(150).into());
    room.audit.admitted(&outcome).unwrap();
    assert_eq!(room.lines()[0]["comment"], json!("ä\n".repeat(100)));
}

#[test]
fn a_reload_is_a_line_with_its_mistakes() {
    let room = Room::new();
    room.audit.policy(&PolicyEvent::Loaded { version: "v1" });
    let mut problems = Problems::default();
    let source = SourceFile::new("roles.toml", "\n\n");
    for _ in 0..101 {
        problems.line(&source, 3, "no role `x`");
    }
    // Sorted, 101 equal mistakes are one.
    let one = problems.into_sorted();
    let many: Vec<_> = (0..101).map(|_| one[0].clone()).collect();
    room.audit.policy(&PolicyEvent::Failed { version: "v1", problems: &one });
    room.audit.policy(&PolicyEvent::Failed { version: "v1", problems: &many });

    let lines = room.lines();
    let time = "2026-01-01T12:00:00.000Z";
    assert_eq!(lines[0], json!({ "time": time, "event": "policy", "result": "ok", "policy_version": "v1" }));
    assert_eq!(
        lines[1],
        json!({
            "time": time, "event": "policy", "result": "failed", "policy_version": "v1",
            "problem_count": 1, "problems": ["roles.toml:3:1: no role `x`"],
        })
    );
    assert_eq!(
        (&lines[2]["problem_count"], lines[2]["problems"].as_array().unwrap().len()),
        (&json!(101), 100)
    );
}

#[test]
fn a_call_whose_line_finds_no_room_is_not_admitted_and_is_written_nowhere() {
    let room = Room::full(2_000, AuditFullMode::Refuse);
    let admitted_until_full = (1..100).take_while(|&number| room.audit.admitted(&admitted(number)).is_ok());
    let kept = admitted_until_full.count() as u128;
    assert!((8..=14).contains(&kept), "{kept} lines");
    assert_eq!(room.audit.admitted(&admitted(200)), Err(AuditFull));
    // The end of a call that was forwarded still finds room.
    room.audit.finished(&admitted(0));

    room.free();
    let lines = room.lines();
    let mut expected: Vec<_> = (0..=kept).map(request_id).collect();
    expected.push(request_id(0));
    let of_requests: Vec<_> = lines.iter().filter(|line| line["event"] != "dropped").cloned().collect();
    assert_eq!(request_ids(&of_requests), expected);
    assert_eq!(of_requests.last().unwrap()["event"], "ended");
    assert_eq!(sums(&lines), [("admitted".to_owned(), 2)].into());
    assert_eq!(room.audit.admitted(&admitted(300)), Ok(()));
}

#[test]
fn in_mode_drop_a_call_is_admitted_without_its_line_and_the_line_is_counted() {
    let room = Room::full(1_000, AuditFullMode::Drop);
    for number in 1..100 {
        room.audit.admitted(&admitted(number)).unwrap();
    }
    let dropped = room.dropped();
    assert!((90..=98).contains(&dropped), "{dropped} dropped");
    room.free();
    let lines = room.lines();
    assert_eq!(sums(&lines), [("admitted".to_owned(), dropped)].into());
    assert_eq!(lines.len() as u64 - 1 + dropped, 100);
}

#[test]
fn refused_calls_never_take_the_room_of_admitted_ones_and_are_summed_by_reason() {
    let room = Room::full(4_000, AuditFullMode::Refuse);
    for number in 0..300 {
        let reason = if number % 3 == 0 { ReasonCode::Expired } else { ReasonCode::NoToken };
        room.audit.finished(&refused(number, reason));
    }
    room.audit.admitted(&admitted(1_000)).unwrap();
    let dropped = room.dropped();
    assert!(dropped > 200, "{dropped} dropped");

    room.free();
    let lines = room.lines();
    let refused = lines.iter().filter(|line| line["event"] == "refused");
    assert_eq!(refused.count() as u64 + dropped, 300);
    assert!(request_ids(&lines).contains(&request_id(1_000)));
    let sums = sums(&lines);
    assert_eq!(sums["expired"] + sums["no_token"], dropped);
    assert_eq!(sums.len(), 2);
}

#[test]
fn a_renamed_file_is_left_alone_and_a_new_one_begun_that_only_its_owner_reads() {
    let room = Room::new();
    room.audit.admitted(&admitted(1)).unwrap();
    room.audit.flush();
    let old = room.folder.path().join("audit.1");
    std::fs::rename(room.path(), &old).unwrap();
    room.audit.admitted(&admitted(2)).unwrap();
    assert_eq!(request_ids(&room.lines()), [request_id(2)]);
    assert_eq!(request_ids(&lines(&old)), [request_id(1)]);
    assert_eq!(std::fs::metadata(room.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn reopening_makes_a_removed_file_anew_before_there_is_a_line() {
    let room = Room::new();
    std::fs::remove_file(room.path()).unwrap();
    room.audit.reopen();
    // It ends the writer once it has done what was asked of it.
    room.audit.close();
    assert!(room.path().exists());
}

#[test]
fn a_line_that_a_crash_cut_off_stays_alone_on_its_line() {
    let room = Room::with(Queue::CAPACITY, AuditFullMode::Refuse, |path| {
        std::fs::write(path, "{\"whole\":1}\n{\"cut").unwrap();
    });
    room.audit.admitted(&admitted(1)).unwrap();
    room.audit.flush();
    let text = std::fs::read_to_string(room.path()).unwrap();
    assert_eq!(text.lines().nth(1), Some("{\"cut"));
    assert!(text.lines().nth(2).unwrap().contains("\"event\":\"admitted\""));
}

#[test]
fn closing_writes_what_is_queued_and_takes_nothing_more() {
    let room = Room::new();
    for number in 0..50 {
        room.audit.admitted(&admitted(number)).unwrap();
    }
    room.audit.close();
    assert_eq!(lines(&room.path()).len(), 50);
    assert_eq!(room.audit.admitted(&admitted(51)), Err(AuditFull));
}

#[test]
fn closing_on_a_full_disk_ends_and_counts_what_is_lost() {
    let room = Room::full(100_000, AuditFullMode::Refuse);
    for number in 1..10 {
        room.audit.admitted(&admitted(number)).unwrap();
    }
    room.audit.close();
    assert_eq!((room.written(), room.dropped()), (0, 10));
}

#[test]
fn lines_from_many_threads_are_all_there_and_whole() {
    let room = Room::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let audit = room.audit.clone();
            scope.spawn(move || {
                for number in 0..500 {
                    audit.admitted(&admitted(thread * 1_000 + number)).unwrap();
                    audit.finished(&admitted(thread * 1_000 + number));
                }
            });
        }
    });
    let lines = room.lines();
    assert_eq!(lines.len(), 4_000);
    for (position, line) in lines.iter().enumerate().filter(|(_, line)| line["event"] == "ended") {
        let begun = lines[..position]
            .iter()
            .any(|before| before["event"] == "admitted" && before["request_id"] == line["request_id"]);
        assert!(begun, "the end of {} stands before its beginning", line["request_id"]);
    }
    assert_eq!((room.written(), room.dropped()), (4_000, 0));
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let target = AuditTarget::File(folder.path().join("missing").join("audit.jsonl"));
    let result = Audit::start(target, AuditFullMode::Refuse, Metrics::new(), Clock::System);
    let message = result.err().unwrap().to_string();
    assert!(message.contains("missing/audit.jsonl` cannot be opened: No such file"), "{message}");
}

#[test]
fn a_dash_is_standard_output() {
    assert_eq!("-".parse(), Ok(AuditTarget::Stdout));
    assert_eq!("./-".parse(), Ok(AuditTarget::File("./-".into())));
}
