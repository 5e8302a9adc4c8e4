//! One process takes the place of another under load.

mod http2;
mod keys;
mod waiting;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;
use tokio::task::JoinSet;
use tollgate::sandbox::issuer::Caller;
use tollgate::source::PolicyFiles;
use tollgate::time::{ManualClock, Wall};

use super::*;
use crate::support::gateway::{
    COMMENT, EXECUTIVE, WORKSTATION, playbooks, policy_with, portal, token_of_today,
};
use crate::support::process::{Signal, eventually};
use crate::support::raw::RawClient;
use crate::support::upstream::{Answer, RecordingUpstream};
use crate::support::within_deadline;

/// Processes that follow each other.
struct Line {
    folder: TempDir,
    upstream: RecordingUpstream,
    more: Vec<String>,
    serving: Serving,
}

/// Callers that keep their connections until they are told that no answer follows. Every call of theirs is answered, and
/// passes unless the limit is full.
struct Load {
    stop: Arc<AtomicBool>,
    passed: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    callers: JoinSet<()>,
}

impl Line {
    /// The first one, under these limits, which keeps its state if it is to.
    async fn start(limits: &str, keeps: bool) -> Self {
        Self::with(&policy_with("limits.toml", limits), state(keeps)).await
    }

    /// The same under this policy, with further flags; the folder of its state is in its own.
    async fn with(policy: &PolicyFiles, flags: &[&str]) -> Self {
        Self::on(Clock::System, policy, flags).await
    }

    /// The same before an API whose answers that take their time come when it is said.
    async fn told(policy: &PolicyFiles, flags: &[&str]) -> (Self, Arc<ManualClock>) {
        let (clock, hand) = Clock::manual(Wall::default());
        (Self::on(clock, policy, flags).await, hand)
    }

    async fn on(clock: Clock, policy: &PolicyFiles, flags: &[&str]) -> Self {
        let upstream = RecordingUpstream::start(Answer::new(200, "{}"), clock);
        let folder = tempfile::tempdir().unwrap();
        let policies = folder.path().join("policies");
        std::fs::create_dir(&policies).unwrap();
        write_policy(policy, &policies);
        let part = |name: &str| folder.path().join(name).display().to_string();
        let mut more =
            vec!["--handover".to_owned(), part("handover"), "--audit".to_owned(), part("audit.jsonl")];
        more.extend(flags.iter().map(|&flag| if flag == "state" { part(flag) } else { flag.to_owned() }));
        let args: Vec<&str> = more.iter().map(String::as_str).collect();
        let serving = Serving::start(&policies, upstream.address(), &args).await;
        Self { folder, upstream, more, serving }
    }

    fn handover(&self) -> PathBuf {
        self.folder.path().join("handover")
    }

    /// The next one, which waits.
    async fn next(&self) -> Process {
        let url = format!("http://{}", self.upstream.address());
        let policies = self.folder.path().join("policies");
        let args = ["serve", "--policies", text(&policies), "--upstream", &url, "--upgrade"];
        let next = Process::start(args.into_iter().chain(self.more.iter().map(String::as_str)));
        let socket = self.handover().join("upgrade.sock");
        eventually("a process that waits", || socket.exists().then_some(())).await;
        next
    }

    /// The next one takes the place of the last, which is the answer: it ends when nobody calls it any more.
    async fn pass_on(&mut self) -> Process {
        let next = self.next().await;
        self.serving.process.signal(Signal::QUIT);
        let next = Serving::of(next).await;
        assert_eq!((next.gateway, next.admin), (self.serving.gateway, self.serving.admin));
        std::mem::replace(&mut self.serving, next).process
    }

    /// The audit when it has so many lines of this event: they are written soon after the answers.
    async fn audit(&self, event: &str, count: usize) -> String {
        let read = || std::fs::read_to_string(self.folder.path().join("audit.jsonl")).unwrap();
        eventually("lines in the audit", || (lines_of(&read(), event) >= count).then_some(())).await;
        let audit = read();
        assert_eq!(lines_of(&audit, event), count, "{audit}");
        audit
    }
}

/// How many lines of an audit tell of this event.
fn lines_of(audit: &str, event: &str) -> usize {
    let event = format!(r#""event":"{event}""#);
    audit.lines().filter(|line| line.contains(&event)).count()
}

async fn metrics(admin: SocketAddr) -> String {
    RawClient::connect(admin).await.request("GET", "/metrics", &[], b"").await.text().to_owned()
}

/// Waits until the metrics of the process that serves hold this.
async fn metrics_hold(line: &Line, wanted: &str) {
    within_deadline(wanted, async {
        while !metrics(line.serving.admin).await.contains(wanted) {
            Clock::System.sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn metric_is(line: &Line, name: &str, value: usize) {
    metrics_hold(line, &format!("\n{name} {value}\n")).await;
}

fn state(keeps: bool) -> &'static [&'static str] {
    if keeps { &["--state", "state"] } else { &[] }
}

fn authorization(caller: &Caller) -> String {
    format!("Bearer {}", token_of_today(caller))
}

impl Load {
    fn start(gateway: SocketAddr) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            passed: Arc::default(),
            refused: Arc::default(),
            callers: JoinSet::new(),
        };
        let authorization = authorization(&portal());
        for number in 0..8 {
            let (stop, passed, refused) = (load.stop.clone(), load.passed.clone(), load.refused.clone());
            let authorization = authorization.clone();
            let collect = format!("/api/machines/{WORKSTATION}/collectInvestigationPackage");
            // Some send a body, which is read before anything is decided about it.
            let (method, path, body) = match number % 2 {
                0 => ("GET", "/api/machines".to_owned(), ""),
                _ => ("POST", collect, COMMENT),
            };
            load.callers.spawn(async move {
                let json = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
                let headers = if body.is_empty() { &json[..1] } else { &json[..] };
                while !stop.load(Ordering::SeqCst) {
                    let mut client = RawClient::connect(gateway).await;
                    loop {
                        let answer = client.request(method, &path, headers, body.as_bytes()).await;
                        match answer.status {
                            429 => refused.fetch_add(1, Ordering::SeqCst),
                            200 => passed.fetch_add(1, Ordering::SeqCst),
                            _ => panic!("{answer:?}"),
                        };
                        if answer.header("Connection") == Some("close") || stop.load(Ordering::SeqCst) {
                            break;
                        }
                    }
                }
            });
        }
        load
    }

    /// Waits until so many have passed.
    async fn passed(&self, count: usize) {
        eventually("answers", || (self.passed.load(Ordering::SeqCst) >= count).then_some(())).await;
    }

    async fn stop(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(caller) = self.callers.join_next().await {
            caller.unwrap();
        }
    }
}

/// Ten processes, the last of which finds the limit full.
async fn ten_times_in_a_row(keeps: bool) {
    const STEP: usize = 60;
    let room = 11 * STEP;
    let limits = format!(
        "[[limit]]\nname = \"all\"\noperations = \"all\"\nper = []\nwindows = [\"{room} per 3600s\"]\n"
    );
    let mut line = Line::start(&limits, keeps).await;
    let load = Load::start(line.serving.gateway);
    for round in 0..10 {
        load.passed((round + 1) * STEP).await;
        let before = line.pass_on().await;
        let ended = before.ended().await;
        assert_eq!(ended.code, Some(0), "{ended:#?}");
    }
    load.passed(room).await;
    eventually("refusals", || (load.refused.load(Ordering::SeqCst) >= 20).then_some(())).await;
    let passed = load.passed.clone();
    load.stop().await;
    assert_eq!((passed.load(Ordering::SeqCst), line.upstream.requests().len()), (room, room));
    line.audit("admitted", room).await;
    let admin = line.serving.admin;
    RawClient::connect(admin).await.request("GET", "/readyz", &[], b"").await.assert_status(200);
    let left: Vec<_> =
        std::fs::read_dir(line.handover()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(left.len() <= 1, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_processes_take_over_under_load_and_no_request_fails_and_no_window_has_one_too_many() {
    ten_times_in_a_row(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_is_with_a_state_folder_which_always_has_one_owner() {
    ten_times_in_a_row(true).await;
}

#[tokio::test]
async fn what_comes_to_the_old_process_is_decided_by_the_new_one_and_counted_there_for_its_client() {
    let mut line = Line::start("", false).await;
    let mut client = RawClient::connect(line.serving.gateway).await;
    let authorization = authorization(&portal());
    let headers = [("Authorization", authorization.as_str()), ("X-Forwarded-For", "192.0.2.9")];
    client.request("GET", "/api/machines", &headers, b"").await.assert_status(200);
    let before = line.pass_on().await;
    let answer = client.request("GET", "/api/machines?page=2", &headers, b"").await;
    answer.assert_status(200);
    assert_eq!(answer.header("Connection"), Some("close"));
    assert_eq!(before.ended().await.code, Some(0));
    let forwarded = line.upstream.requests();
    assert_eq!(
        forwarded.iter().map(|it| it.path.as_str()).collect::<Vec<_>>(),
        ["/api/machines", "/api/machines?page=2"]
    );
    assert_eq!(forwarded[1].header("X-Forwarded-For"), None);
    let audit = line.audit("ended", 2).await;
    // It is counted soon after its answer, as its line is written.
    metrics_hold(&line, "\ntollgate_requests_total{").await;
    let page = metrics(line.serving.admin).await;
    let counted = page.lines().filter(|it| it.starts_with("tollgate_requests_total{") && it.ends_with(" 1"));
    assert_eq!(counted.count(), 1, "{page}");
    let of: Vec<_> = audit.lines().filter(|it| it.contains(r#""event":"ended""#)).collect();
    assert!(of.iter().all(|it| it.contains(r#""address":"127.0.0.1""#)), "{audit}");
}

#[tokio::test]
async fn an_action_that_starts_while_the_process_is_replaced_is_held_to_its_device_by_the_next_one() {
    for keeps in [false, true] {
        let (mut line, hand) = Line::told(&policy_with("limits.toml", ""), state(keeps)).await;
        let gateway = line.serving.gateway;
        let started = json!({ "id": "action-1", "machineId": EXECUTIVE });
        line.upstream.answer_next(Answer::json(201, &started).after(Duration::from_secs(1)));
        let token = token_of_today(&portal());
        let start = tokio::spawn(async move {
            RawClient::connect(gateway).await.collect(&token, EXECUTIVE, COMMENT).await.assert_status(201);
        });
        line.upstream.wait_for(1).await;
        let before = line.pass_on().await;
        hand.advance(Duration::from_secs(1));
        start.await.unwrap();
        assert_eq!(before.ended().await.code, Some(0));
        let authorization = authorization(&playbooks());
        let headers = [("Authorization", authorization.as_str())];
        let path = "/api/machineactions/action-1/getPackageUri";
        let refused = RawClient::connect(gateway).await.request("GET", path, &headers, b"").await;
        assert_eq!((refused.status, refused.header("Tollgate-Reason")), (403, Some("device_group")));
    }
}

#[tokio::test]
async fn a_call_that_is_held_is_held_on_by_the_next_process() {
    let limits = "[[limit]]\nname = \"slow\"\noperations = [\"list_devices\"]\nper = [\"tenant\"]\nwindows = [\"1 per 10s\"]\n\
                  when_full = { wait = \"40s\", queue = 9 }\n";
    let mut line = Line::start(limits, false).await;
    let gateway = line.serving.gateway;
    let authorization = authorization(&portal());
    let list = async || {
        let headers = [("Authorization", authorization.as_str())];
        RawClient::connect(gateway).await.request("GET", "/api/machines", &headers, b"").await
    };
    list().await.assert_status(200);
    let (held, before) = tokio::join!(list(), async {
        metric_is(&line, "tollgate_held_requests", 1).await;
        line.pass_on().await
    });
    held.assert_status(200);
    assert_eq!(before.ended().await.code, Some(0));
    line.audit("admitted", 2).await;
}

#[tokio::test]
async fn a_process_whose_successor_fails_ends_its_calls_and_holds_anew_those_that_it_held() {
    let limits = "[[limit]]\nname = \"slow\"\noperations = [\"list_devices\"]\nper = [\"tenant\"]\nwindows = [\"1 per 30s\"]\n\
                  when_full = { wait = \"60s\", queue = 9 }\n";
    let (line, hand) = Line::told(&policy_with("limits.toml", limits), state(true)).await;
    let gateway = line.serving.gateway;
    let list = async || {
        let authorization = authorization(&portal());
        let headers = [("Authorization", authorization.as_str())];
        RawClient::connect(gateway).await.request("GET", "/api/machines", &headers, b"").await
    };
    list().await.assert_status(200);
    let started = json!({ "id": "action-1", "machineId": EXECUTIVE });
    line.upstream.answer_next(Answer::json(201, &started).after(Duration::from_secs(1)));
    let on_its_way = tokio::spawn(async move {
        let mut client = RawClient::connect(gateway).await;
        client.collect(&token_of_today(&portal()), EXECUTIVE, COMMENT).await
    });
    line.upstream.wait_for(2).await;
    let fails = async {
        metric_is(&line, "tollgate_held_requests", 1).await;
        // The next one finds a file that it cannot read, when everything has been passed to it.
        let file = line.folder.path().join("state/actions.journal");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[0] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let next = line.next().await;
        line.serving.process.signal(Signal::QUIT);
        let ended = next.ended().await;
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert!(ended.err.iter().any(|line| line.contains("is not a journal of this version")), "{ended:#?}");
        line.serving.process.says_anywhere("no process took over").await;
        metric_is(&line, "tollgate_held_requests", 1).await;
        assert_eq!(line.upstream.requests().len(), 2, "it is not its turn yet");
        hand.advance(Duration::from_secs(1));
    };
    let (held, ()) = tokio::join!(list(), fails);
    held.assert_status(200);
    on_its_way.await.unwrap().assert_status(201);
    let audit = line.audit("ended", 3).await;
    let events = ["admitted", "refused"].map(|event| lines_of(&audit, event));
    assert_eq!((events, line.upstream.requests().len()), ([3, 0], 3), "{audit}");
    // What the call has started is known.
    let authorization = authorization(&playbooks());
    let headers = [("Authorization", authorization.as_str())];
    let path = "/api/machineactions/action-1/getPackageUri";
    let refused = RawClient::connect(gateway).await.request("GET", path, &headers, b"").await;
    assert_eq!((refused.status, refused.header("Tollgate-Reason")), (403, Some("device_group")));
}

#[tokio::test]
async fn a_process_that_keeps_no_state_is_not_followed_by_one_that_does_and_goes_on() {
    let line = Line::start("", false).await;
    let url = format!("http://{}", line.upstream.address());
    let (policies, state) = (line.folder.path().join("policies"), line.folder.path().join("state"));
    let args =
        ["serve", "--policies", text(&policies), "--upstream", &url, "--upgrade", "--state", text(&state)];
    let handover = line.handover();
    let next = Process::start(args.iter().chain(&["--handover", text(&handover)]));
    eventually("a process that waits", || handover.join("upgrade.sock").exists().then_some(())).await;
    line.serving.process.signal(Signal::QUIT);
    let ended = next.ended().await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.iter().any(|line| line.contains("the running process keeps no state")), "{ended:#?}");
    line.serving.process.says_anywhere("no process took over").await;
    let authorization = authorization(&portal());
    let headers = [("Authorization", authorization.as_str())];
    let mut client = RawClient::connect(line.serving.gateway).await;
    client.request("GET", "/api/machines", &headers, b"").await.assert_status(200);
}

#[tokio::test]
async fn a_process_that_nobody_relieves_goes_on() {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let (folder, passing) = (policy_folder(), tempfile::tempdir().unwrap());
    let handover = passing.path().join("handover");
    for (more, said) in
        [(&[][..], "it needs `--handover`"), (&["--handover", text(&handover)], "No such file")]
    {
        let serving = Serving::start(folder.path(), upstream.address(), more).await;
        serving.process.signal(Signal::QUIT);
        serving.process.says_anywhere("no process took over").await;
        serving.process.says_anywhere(said).await;
        RawClient::connect(serving.admin).await.request("GET", "/readyz", &[], b"").await.assert_status(200);
    }
    // One that cannot serve ends, and the one before it goes on.
    let serving = Serving::start(folder.path(), upstream.address(), &["--handover", text(&handover)]).await;
    let args =
        ["serve", "--policies", "/no/policies", "--cloud", "eu", "--upgrade", "--handover", text(&handover)];
    let next = Process::start(args);
    eventually("a process that waits", || handover.join("upgrade.sock").exists().then_some(())).await;
    serving.process.signal(Signal::QUIT);
    assert_eq!(next.ended().await.code, Some(2));
    serving.process.says_anywhere("no process took over").await;
    RawClient::connect(serving.admin).await.request("GET", "/readyz", &[], b"").await.assert_status(200);
}
