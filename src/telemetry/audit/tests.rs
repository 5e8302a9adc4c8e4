use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::id::RequestId;
use crate::outcome::Findings;
use crate::time::Wall;

/// 2026-01-01T12:00:00Z
const NOON: Wall = Wall::from_unix_seconds(1_767_268_800);

/// An audit to a file in a folder of its own.
struct TestAudit {
    folder: TempDir,
    metrics: Metrics,
    audit: Audit,
}

impl TestAudit {
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
        let test = Self::with(capacity, mode, |path| symlink("/dev/full", path).unwrap());
        test.audit.admitted(&admitted(0)).unwrap();
        test.audit.flush();
        assert!(test.count("tollgate_audit_write_errors_total") >= 1);
        test
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

/// The members `event` of lines, in their order.
fn events(lines: &[Value]) -> Vec<String> {
    lines.iter().map(|line| line["event"].as_str().unwrap().to_owned()).collect()
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

#[test]
fn an_admitted_call_has_a_line_before_it_is_forwarded_and_one_when_it_ends() {
    let test = TestAudit::new();
    test.audit.admitted(&admitted(1)).unwrap();
    assert_eq!(events(&test.lines()), ["admitted"]);
    test.audit.finished(&admitted(1));
    assert_eq!(events(&test.lines()), ["admitted", "ended"]);
    assert_eq!((test.written(), test.dropped()), (2, 0));
}

#[test]
fn a_refused_call_has_one_line_and_a_reload_another() {
    let test = TestAudit::new();
    test.audit.finished(&refused(1, ReasonCode::NoToken));
    test.audit.policy(&PolicyEvent::Loaded { version: "v2", lacking: &Default::default() });
    let mut events = events(&test.lines());
    events.sort();
    assert_eq!(events, ["policy", "refused"]);
}

#[test]
fn a_call_whose_line_finds_no_room_is_not_admitted_and_is_written_nowhere() {
    let test = TestAudit::full(2_000, AuditFullMode::Refuse);
    let admitted_until_full = (1..100).take_while(|&number| test.audit.admitted(&admitted(number)).is_ok());
    let kept = admitted_until_full.count() as u128;
    assert!((8..=14).contains(&kept), "{kept} lines");
    assert_eq!(test.audit.admitted(&admitted(200)), Err(AuditFull));
    // The end of a call that was forwarded still finds test.
    test.audit.finished(&admitted(0));

    test.free();
    let lines = test.lines();
    let mut expected: Vec<_> = (0..=kept).map(request_id).collect();
    expected.push(request_id(0));
    let of_requests: Vec<_> = lines.iter().filter(|line| line["event"] != "dropped").cloned().collect();
    assert_eq!(request_ids(&of_requests), expected);
    assert_eq!(of_requests.last().unwrap()["event"], "ended");
    assert_eq!(sums(&lines), [("admitted".to_owned(), 2)].into());
    assert_eq!(test.audit.admitted(&admitted(300)), Ok(()));
}

#[test]
fn in_mode_drop_a_call_is_admitted_without_its_line_and_the_line_is_counted() {
    let test = TestAudit::full(1_000, AuditFullMode::Drop);
    for number in 1..100 {
        test.audit.admitted(&admitted(number)).unwrap();
    }
    let dropped = test.dropped();
    assert!((90..=98).contains(&dropped), "{dropped} dropped");
    test.free();
    let lines = test.lines();
    assert_eq!(sums(&lines), [("admitted".to_owned(), dropped)].into());
    assert_eq!(lines.len() as u64 - 1 + dropped, 100);
}

#[test]
fn refused_calls_never_take_the_room_of_admitted_ones_and_are_summed_by_reason() {
    let test = TestAudit::full(4_000, AuditFullMode::Refuse);
    for number in 0..300 {
        let reason = if number % 3 == 0 { ReasonCode::Expired } else { ReasonCode::NoToken };
        test.audit.finished(&refused(number, reason));
    }
    test.audit.admitted(&admitted(1_000)).unwrap();
    let dropped = test.dropped();
    assert!(dropped > 200, "{dropped} dropped");

    test.free();
    let lines = test.lines();
    let refused = lines.iter().filter(|line| line["event"] == "refused");
    assert_eq!(refused.count() as u64 + dropped, 300);
    assert!(request_ids(&lines).contains(&request_id(1_000)));
    let sums = sums(&lines);
    assert_eq!(sums["expired"] + sums["no_token"], dropped);
    assert_eq!(sums.len(), 2);
}

#[test]
fn a_renamed_file_is_left_alone_and_a_new_one_begun_that_only_its_owner_reads() {
    let test = TestAudit::new();
    test.audit.admitted(&admitted(1)).unwrap();
    test.audit.flush();
    let old = test.folder.path().join("audit.1");
    std::fs::rename(test.path(), &old).unwrap();
    test.audit.admitted(&admitted(2)).unwrap();
    assert_eq!(request_ids(&test.lines()), [request_id(2)]);
    assert_eq!(request_ids(&lines(&old)), [request_id(1)]);
    assert_eq!(std::fs::metadata(test.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn reopening_makes_a_removed_file_anew_before_there_is_a_line() {
    let test = TestAudit::new();
    std::fs::remove_file(test.path()).unwrap();
    test.audit.reopen();
    // It ends the writer once it has done what was asked of it.
    test.audit.close();
    assert!(test.path().exists());
}

#[test]
fn a_line_that_a_crash_cut_off_stays_alone_on_its_line() {
    let test = TestAudit::with(Queue::CAPACITY, AuditFullMode::Refuse, |path| {
        std::fs::write(path, "{\"whole\":1}\n{\"cut").unwrap();
    });
    test.audit.admitted(&admitted(1)).unwrap();
    test.audit.flush();
    let text = std::fs::read_to_string(test.path()).unwrap();
    assert_eq!(text.lines().nth(1), Some("{\"cut"));
    assert!(text.lines().nth(2).unwrap().contains("\"event\":\"admitted\""));
}

#[test]
fn closing_writes_what_is_queued_and_takes_nothing_more() {
    let test = TestAudit::new();
    for number in 0..50 {
        test.audit.admitted(&admitted(number)).unwrap();
    }
    test.audit.close();
    assert_eq!(lines(&test.path()).len(), 50);
    assert_eq!(test.audit.admitted(&admitted(51)), Err(AuditFull));
}

#[test]
fn closing_on_a_full_disk_ends_and_counts_what_is_lost() {
    let test = TestAudit::full(100_000, AuditFullMode::Refuse);
    for number in 1..10 {
        test.audit.admitted(&admitted(number)).unwrap();
    }
    test.audit.close();
    assert_eq!((test.written(), test.dropped()), (0, 10));
}

#[test]
fn lines_from_many_threads_are_all_there_and_whole() {
    let test = TestAudit::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let audit = test.audit.clone();
            scope.spawn(move || {
                for number in 0..500 {
                    audit.admitted(&admitted(thread * 1_000 + number)).unwrap();
                    audit.finished(&admitted(thread * 1_000 + number));
                }
            });
        }
    });
    let lines = test.lines();
    assert_eq!(lines.len(), 4_000);
    for (position, line) in lines.iter().enumerate().filter(|(_, line)| line["event"] == "ended") {
        let begun = lines[..position]
            .iter()
            .any(|before| before["event"] == "admitted" && before["request_id"] == line["request_id"]);
        assert!(begun, "the end of {} stands before its beginning", line["request_id"]);
    }
    assert_eq!((test.written(), test.dropped()), (4_000, 0));
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
