//! What comes while it is not known which process decides.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::*;
use crate::support::raw::RawResponse;

/// A process that waits for the running one's place, and says no more than it is told to.
struct Heir {
    folder: PathBuf,
    stream: UnixStream,
}

impl Heir {
    /// The running process has sent it what it sends first.
    async fn wait(line: &Line) -> Self {
        let folder = line.handover();
        let socket = folder.join("upgrade.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        line.serving.process.signal(Signal::QUIT);
        let (stream, _) = within_deadline("the running process", listener.accept()).await.unwrap();
        std::fs::remove_file(socket).unwrap();
        let mut heir = Self { folder, stream };
        // Its version and kind; the handles are let go of.
        heir.hear(2).await;
        heir
    }

    async fn hear(&mut self, length: usize) -> Vec<u8> {
        let mut said = vec![0; length];
        within_deadline("a word", self.stream.read_exact(&mut said)).await.unwrap();
        said
    }

    /// It could serve: from now on calls wait.
    async fn ready(&mut self) {
        let process = std::process::id().to_le_bytes();
        self.stream.write_all(&[&b"r"[..], &process].concat()).await.unwrap();
        assert_eq!(self.hear(1).await, b"g");
    }

    /// It decides, and answers every call that is relayed to it with 200.
    async fn decide(&mut self) -> JoinSet<()> {
        let relay = self.folder.join(format!("relay-{}.sock", std::process::id()));
        let relay = UnixListener::bind(relay).unwrap();
        self.stream.write_all(b"s").await.unwrap();
        assert_eq!(self.hear(1).await, b"y");
        let mut server = JoinSet::new();
        server.spawn(async move {
            loop {
                let (mut stream, _) = relay.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    stream.read_buf(&mut request).await.unwrap();
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nheirs";
                stream.write_all(answer).await.unwrap();
            }
        });
        server
    }

    /// Waits until the running process has nothing more to say.
    async fn end(mut self) {
        let mut rest = Vec::new();
        let read = self.stream.read_to_end(&mut rest);
        within_deadline("the end of the hand-over", read).await.unwrap();
    }
}

/// A list of devices, asked for on a connection of its own.
async fn list(gateway: SocketAddr) -> RawClient {
    let mut client = RawClient::connect(gateway).await;
    let authorization = authorization(&portal());
    client.send_request("GET", "/api/machines", &[("Authorization", &authorization)], b"").await;
    client
}

/// A process that may have so many calls in flight. It has one thread: a call whose arrival is seen has its place before
/// the next one is looked at.
async fn of_few(policy: &PolicyFiles, most: usize) -> Line {
    Line::with(policy, &["--max-in-flight", &most.to_string(), "--threads", "1", GRACE]).await
}

/// A process that was relieved lets its clients have their connections for as long as this, which no test waits for.
const GRACE: &str = "--shutdown-grace=5m";

/// The second call within half a minute is held, and the third.
const HELD: &str = "[[limit]]\nname = \"slow\"\noperations = [\"list_devices\"]\nper = [\"tenant\"]\n\
                    windows = [\"1 per 30s\"]\nwhen_full = { wait = \"60s\", queue = 9 }\n";

#[track_caller]
fn assert_overload(answer: &RawResponse) {
    assert_eq!((answer.status, answer.header("Tollgate-Reason")), (503, Some("overload")), "{answer:?}");
}

#[track_caller]
fn assert_decided_by_heir(answer: &RawResponse) {
    assert_eq!((answer.status, answer.text()), (200, "heirs"), "{answer:?}");
}

#[tokio::test]
async fn as_many_calls_wait_for_the_next_process_as_may_be_in_flight_and_more_are_refused() {
    const MOST: usize = 3;
    let line = of_few(&policy(), MOST).await;
    let mut heir = Heir::wait(&line).await;
    heir.ready().await;
    let mut waiting = Vec::new();
    for _ in 0..MOST {
        waiting.push(list(line.serving.gateway).await);
    }
    metric_is(&line, "tollgate_requests_in_flight", MOST).await;
    let mut refused = Vec::new();
    for _ in 0..20 {
        let mut call = list(line.serving.gateway).await;
        assert_overload(&call.read_response().await);
        refused.push(call);
    }
    let authorization = authorization(&portal());
    let _server = heir.decide().await;
    for mut call in waiting {
        assert_decided_by_heir(&call.read_response().await);
        // It has given its place back.
        call.expect_close().await;
    }
    // One after the other: of these too no more may be on their way than may be in flight.
    for mut call in refused {
        call.send_request("GET", "/api/machines", &[("Authorization", &authorization)], b"").await;
        assert_decided_by_heir(&call.read_response().await);
        call.expect_close().await;
    }
    assert!(line.upstream.requests().is_empty());
}

#[tokio::test]
async fn a_held_call_is_relayed_however_many_wait_with_it() {
    let policy = policy_with("limits.toml", HELD);
    let line = of_few(&policy, 1).await;
    list(line.serving.gateway).await.read_response().await.assert_status(200);
    let mut calls = Vec::new();
    for count in 1..=2 {
        calls.push(list(line.serving.gateway).await);
        metric_is(&line, "tollgate_held_requests", count).await;
    }
    let mut heir = Heir::wait(&line).await;
    heir.ready().await;
    metric_is(&line, "tollgate_held_requests", 0).await;
    calls.push(list(line.serving.gateway).await);
    metric_is(&line, "tollgate_requests_in_flight", calls.len()).await;
    assert_overload(&list(line.serving.gateway).await.read_response().await);
    let _server = heir.decide().await;
    for mut call in calls {
        assert_decided_by_heir(&call.read_response().await);
    }
}

#[tokio::test]
async fn what_the_process_before_relays_is_refused_there_beyond_that_and_here_not_at_all() {
    let (mut line, hand) = Line::told(&policy(), &["--max-in-flight", "2", GRACE]).await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut call = list(line.serving.gateway).await;
        call.read_response().await.assert_status(200);
        kept.push(call);
    }
    let before = line.pass_on().await;
    line.upstream.answer_always(Answer::new(200, "{}").after(Duration::from_secs(1)));
    // As many as may be in flight in the new process.
    let mut calls = Vec::new();
    for _ in 0..2 {
        calls.push(list(line.serving.gateway).await);
    }
    line.upstream.wait_for(5).await;
    let authorization = authorization(&portal());
    let mut beyond = kept.pop().unwrap();
    for (sent, mut call) in kept.into_iter().enumerate() {
        call.send_request("GET", "/api/machines", &[("Authorization", &authorization)], b"").await;
        calls.push(call);
        line.upstream.wait_for(6 + sent).await;
    }
    assert_overload(&list(line.serving.gateway).await.read_response().await);
    assert_overload(&beyond.request("GET", "/api/machines", &[("Authorization", &authorization)], b"").await);
    hand.advance(Duration::from_secs(1));
    for mut call in calls {
        call.read_response().await.assert_status(200);
    }
    assert_eq!(before.ended().await.code, Some(0));
}

#[tokio::test]
async fn a_held_call_survives_a_hand_over_that_fails_and_a_stop_ends_it() {
    let line = Line::with(&policy_with("limits.toml", HELD), &["--shutdown-grace", "5s"]).await;
    list(line.serving.gateway).await.read_response().await.assert_status(200);
    let mut held = list(line.serving.gateway).await;
    metric_is(&line, "tollgate_held_requests", 1).await;
    let mut heir = Heir::wait(&line).await;
    heir.ready().await;
    metric_is(&line, "tollgate_held_requests", 0).await;
    drop(heir);
    line.serving.process.says_anywhere("no process took over").await;
    metric_is(&line, "tollgate_held_requests", 1).await;
    line.serving.process.signal(Signal::TERM);
    let answer = held.read_response().await;
    assert_eq!((answer.status, answer.header("Tollgate-Reason")), (503, Some("shutting_down")));
    assert_eq!(line.serving.process.ended().await.code, Some(0));
}

#[tokio::test]
async fn a_process_that_waits_for_the_next_one_still_obeys_and_a_stop_calls_the_hand_over_off() {
    let line = Line::with(&policy(), &["--shutdown-delay", "60s"]).await;
    let heir = Heir::wait(&line).await;
    let audit = line.folder.path().join("audit.jsonl");
    std::fs::rename(&audit, line.folder.path().join("audit.old")).unwrap();
    line.serving.process.signal(Signal::HUP);
    eventually("the audit's file", || audit.exists().then_some(())).await;
    line.serving.process.signal(Signal::TERM);
    heir.end().await;
    let ready =
        async || RawClient::connect(line.serving.admin).await.request("GET", "/readyz", &[], b"").await;
    ready().await.assert_status(503);
    list(line.serving.gateway).await.read_response().await.assert_status(200);
    // It does not wait for the delay when it is told twice.
    line.serving.process.signal(Signal::TERM);
    assert_eq!(line.serving.process.ended().await.code, Some(0));
}

#[tokio::test]
async fn calls_that_wait_when_a_stop_calls_the_hand_over_off_are_decided_where_they_are() {
    let line = Line::with(&policy(), &[]).await;
    let mut heir = Heir::wait(&line).await;
    heir.ready().await;
    let mut call = list(line.serving.gateway).await;
    metric_is(&line, "tollgate_requests_in_flight", 1).await;
    line.serving.process.signal(Signal::TERM);
    heir.end().await;
    call.read_response().await.assert_status(200);
    assert_eq!(line.serving.process.ended().await.code, Some(0));
}
