//! Windows over the end of the process, however it comes: `tollgate serve --state` under load.

mod sliding;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tollgate::time::{Clock, Steady};

use super::{Process, Serving};
use crate::support::gateway::{policy_with, portal, token_of_today, write_policy};
use crate::support::process::{Signal, eventually, text};
use crate::support::raw::RawClient;
use crate::support::upstream::{Answer, RecordingUpstream};
use crate::support::within_deadline;

/// The limit: more than the load makes in a test.
const ROOM: usize = 600;

/// What a start forgets at most of the calls before `kill -9`.
const FORGOTTEN: Duration = Duration::from_secs(1);

/// A policy folder under whose limit all calls together have room for [`ROOM`] in ten minutes.
fn policies(durable: &str) -> TempDir {
    policies_of(durable, &format!("{ROOM} per 600s"))
}

fn policies_of(durable: &str, rate: &str) -> TempDir {
    let limits = format!(
        "durable = {durable}\n[[limit]]\nname = \"all\"\noperations = [\"list_devices\"]\nper = []\nwindows = [\"{rate}\"]\n"
    );
    let folder = tempfile::tempdir().unwrap();
    write_policy(&policy_with("limits.toml", &limits), folder.path());
    folder
}

/// How many call at once.
const CALLERS: usize = 4;

/// Callers that come back, whatever becomes of the gateway, and when they were answered what.
struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<(Steady, u16)>>>,
    callers: JoinSet<()>,
}

impl Load {
    fn start(gateway: &Arc<Mutex<SocketAddr>>) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let answers = Arc::<Mutex<Vec<_>>>::default();
        let mut callers = JoinSet::new();
        let request = format!(
            "GET /api/machines HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
            token_of_today(&portal())
        );
        for _ in 0..CALLERS {
            let (stop, answers) = (stop.clone(), answers.clone());
            let (request, gateway) = (request.clone(), gateway.clone());
            callers.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let address = *gateway.lock();
                    if let Some(status) = ask(address, &request).await {
                        answers.lock().push((Clock::System.steady(), status));
                    }
                    Clock::System.sleep(Duration::from_millis(10)).await;
                }
            });
        }
        Self { stop, answers, callers }
    }

    fn count(&self, status: u16) -> usize {
        self.answers.lock().iter().filter(|(_, its)| *its == status).count()
    }

    /// Waits until so many answers of this status are there.
    async fn until(&self, status: u16, count: usize) {
        eventually("answers", || (self.count(status) >= count).then_some(())).await;
    }

    /// How many may have been admitted in the second before the process was killed, which it was after this moment: those
    /// that were answered 200 since a second before, and the last of each caller, whose answer may never have come.
    fn just_before(&self, then: Steady) -> usize {
        let answers = self.answers.lock();
        let just = |at: &Steady| then.since(*at) <= FORGOTTEN;
        answers.iter().filter(|(at, status)| *status == 200 && just(at)).count() + CALLERS
    }

    async fn stop(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(caller) = self.callers.join_next().await {
            caller.unwrap();
        }
    }
}

/// The status of an answer; none if there was none, since the gateway was gone.
async fn ask(gateway: SocketAddr, request: &str) -> Option<u16> {
    let answer = async {
        let mut stream = TcpStream::connect(gateway).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map(|_| answer)
    };
    let answer = Clock::System.timeout(Duration::from_secs(5), answer).await.ok()?.ok()?;
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

/// Starts the gateway again and again under load, each time after it was ended so, until its limit is full; returns how
/// many calls more than that reached the upstream, and how many it may forget.
async fn restart_under_load(durable: &str, signals: &[Signal]) -> (usize, usize) {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let (policies, state) = (policies(durable), tempfile::tempdir().unwrap());
    let audit = state.path().join("audit.jsonl");
    let more = ["--state", text(state.path()), "--audit", text(&audit)];
    let mut serving = Serving::start(policies.path(), upstream.address(), &more).await;
    let gateway = Arc::new(Mutex::new(serving.gateway));
    let load = Load::start(&gateway);
    let mut may_be_forgotten = 0;
    for (round, signal) in signals.iter().enumerate() {
        load.until(200, (round + 1) * ROOM / (signals.len() + 2)).await;
        let then = Clock::System.steady();
        serving.process.signal(*signal);
        serving.process.ended().await;
        if *signal == Signal::KILL {
            may_be_forgotten += load.just_before(then);
        }
        serving = Serving::start(policies.path(), upstream.address(), &more).await;
        *gateway.lock() = serving.gateway;
    }
    load.until(429, 5).await;
    load.stop().await;
    let forwarded = upstream.requests().len();
    let lines = std::fs::read_to_string(&audit).unwrap();
    let admitted = lines.lines().filter(|line| line.contains(r#""event":"admitted""#)).count();
    eprintln!(
        "durable = {durable}: of {ROOM}, {forwarded} reached the upstream, {admitted} admissions are in the audit"
    );
    assert!(admitted <= forwarded, "{admitted} admitted, {forwarded} forwarded");
    (forwarded.saturating_sub(ROOM), may_be_forgotten)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_stopped_and_started_again_under_load_forgets_no_call() {
    let (excess, _) = restart_under_load("false", &[Signal::TERM; 4]).await;
    assert_eq!(excess, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_again_and_again_forgets_at_most_the_calls_of_its_last_second() {
    let (excess, may_be_forgotten) = restart_under_load("false", &[Signal::KILL; 4]).await;
    eprintln!("{excess} of {may_be_forgotten} that may be");
    assert!(excess <= may_be_forgotten, "{excess} > {may_be_forgotten}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_again_and_again_forgets_nothing_if_its_policy_says_durable() {
    for durable in ["true", "\"fsync\""] {
        let (excess, _) = restart_under_load(durable, &[Signal::KILL; 4]).await;
        assert_eq!(excess, 0, "durable = {durable}");
    }
}

#[tokio::test]
async fn a_state_that_cannot_be_written_refuses_calls_under_a_durable_policy_and_charges_them_to_nothing() {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let (policies, state) = (policies("true"), tempfile::tempdir().unwrap());
    // Files may not grow beyond what a start writes: the shell sets it, and the gateway takes its place.
    let serve = format!(
        "trap '' XFSZ; ulimit -f 1; exec {} serve --policies {} --upstream http://{} --listen 127.0.0.1:0 --admin 127.0.0.1:0 --state {}",
        env!("CARGO_BIN_EXE_tollgate"),
        text(policies.path()),
        upstream.address(),
        text(state.path()),
    );
    let serving = Serving::of(Process::shell(&serve)).await;
    let authorization = format!("Bearer {}", token_of_today(&portal()));
    let headers = [("Authorization", authorization.as_str())];
    let mut client = RawClient::connect(serving.gateway).await;
    let mut passed = 0;
    let refused = loop {
        let answer = client.request("GET", "/api/machines", &headers, b"").await;
        if answer.status != 200 {
            break answer;
        }
        passed += 1;
        assert!(passed < 100, "a file of 1 KB took it all");
    };
    refused.assert_status(503);
    assert_eq!(refused.header("Tollgate-Reason"), Some("store_unavailable"));
    assert_eq!(refused.header("Retry-After"), Some("1"));
    assert_eq!(upstream.requests().len(), passed);
    let metrics = async || {
        let page = RawClient::connect(serving.admin).await.request("GET", "/metrics", &[], b"").await;
        page.text().to_owned()
    };
    // A call is counted once it is over, which may be after its caller has the answer.
    let counted = async {
        while !metrics().await.contains(r#"reason="store_unavailable""#) {
            Clock::System.sleep(Duration::from_millis(10)).await;
        }
    };
    within_deadline("a refused call that is counted", counted).await;
    let page = metrics().await;
    let failures = page.lines().find(|line| {
        line.starts_with(r#"tollgate_state_write_errors_total{state="windows"}"#) && !line.ends_with(" 0")
    });
    assert!(failures.is_some(), "{page}");
}
