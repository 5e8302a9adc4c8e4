//! One process takes the place of another under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinSet;

use super::*;
use crate::support::gateway::{portal, token_of_today};
use crate::support::process::{Signal, eventually};
use crate::support::raw::RawClient;
use crate::support::upstream::{Answer, RecordingUpstream};

/// Callers that keep their connections until they are told that no answer follows.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    callers: JoinSet<()>,
}

impl Load {
    fn start(gateway: SocketAddr) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let authorization = format!("Bearer {}", token_of_today(&portal()));
        let mut callers = JoinSet::new();
        for _ in 0..8 {
            let (stop, answered, authorization) = (stop.clone(), answered.clone(), authorization.clone());
            callers.spawn(async move {
                let headers = [("Authorization", authorization.as_str())];
                while !stop.load(Ordering::SeqCst) {
                    let mut client = RawClient::connect(gateway).await;
                    loop {
                        let answer = client.request("GET", "/api/machines", &headers, b"").await;
                        answer.assert_status(200);
                        answered.fetch_add(1, Ordering::SeqCst);
                        if answer.header("Connection") == Some("close") || stop.load(Ordering::SeqCst) {
                            break;
                        }
                    }
                }
            });
        }
        Self { stop, answered, callers }
    }

    /// Waits for so many answers more.
    async fn more(&self, count: usize) {
        let until = self.answered.load(Ordering::SeqCst) + count;
        eventually("answers", || (self.answered.load(Ordering::SeqCst) >= until).then_some(())).await;
    }

    async fn stop(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(caller) = self.callers.join_next().await {
            caller.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_processes_one_after_the_other_take_over_under_load_and_no_request_fails() {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let (folder, passing) = (policy_folder(), tempfile::tempdir().unwrap());
    let handover = passing.path().join("handover");
    let mut serving =
        Serving::start(folder.path(), upstream.address(), &["--handover", text(&handover)]).await;
    let (gateway, admin) = (serving.gateway, serving.admin);
    let load = Load::start(gateway);
    load.more(50).await;

    for _ in 0..10 {
        let url = format!("http://{}", upstream.address());
        let args = ["serve", "--policies", text(folder.path()), "--upstream", &url, "--upgrade"];
        let next = Process::start(args.iter().chain(&["--handover", text(&handover)]));
        eventually("a process that waits", || handover.join("upgrade.sock").exists().then_some(())).await;
        serving.process.signal(Signal::QUIT);
        let next = Serving::of(next).await;
        assert_eq!((next.gateway, next.admin), (gateway, admin));
        let ended = std::mem::replace(&mut serving, next).process.ended().await;
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        load.more(50).await;
    }
    load.stop().await;
    RawClient::connect(admin).await.request("GET", "/readyz", &[], b"").await.assert_status(200);
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
