//! Requests that were tampered with, over raw sockets: whatever a client sends, the API sees nothing but requests that the
//! gateway decided on, with the method, path and body that stand in the client's bytes.
//!
//! Each case is a connection that carries one request or several, with up to four tricks played on its bytes. A reader of
//! the test's own, as strict as can be, says which requests stand in them; what the API saw must be among those. The seed
//! is fixed: a case that fails is found again by its number. `TOLLGATE_FUZZ` says how many cases are tried.

mod downgrade;
mod reader;
mod tricks;

use std::collections::{HashSet, VecDeque};

use super::*;
use crate::support::dice::Dice;
use crate::support::raw::RawClient;
use crate::support::within_deadline;

use reader::requests;

/// A few seconds in a debug build.
const CASES: u64 = 6_000;

/// Cases of one gateway, whose audit is then read.
const CASES_OF_A_GATEWAY: u64 = 1_500;

/// A request as both sides must see it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    method: String,
    target: String,
    body: Vec<u8>,
}

/// What came of some cases.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    /// Requests that stood in the bytes.
    sent: usize,
    /// Those that the API saw.
    passed: usize,
    /// Answers, or what stands for one, that refused a request as malformed.
    refused: usize,
}

fn cases() -> u64 {
    std::env::var("TOLLGATE_FUZZ").map_or(CASES, |cases| cases.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_client_sends_the_api_sees_what_was_decided_and_nothing_else() {
    run(cases(), some).await;
}

/// Tries cases in fours of gateways; `some` tries those of one.
async fn run<F>(cases: u64, some: fn(u64, u64) -> F)
where
    F: Future<Output = Tally> + Send + 'static,
{
    let mut total = Tally::default();
    let mut first = 0;
    while first < cases {
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let last = cases.min(first + CASES_OF_A_GATEWAY);
            workers.spawn(some(first, last));
            first = last;
        }
        for tally in workers.join_all().await {
            total.sent += tally.sent;
            total.passed += tally.passed;
            total.refused += tally.refused;
        }
    }
    println!("{cases} cases: {total:?}");
    // It is no proof if nothing passes, or if nothing is refused.
    let cases = usize::try_from(cases).unwrap();
    assert!(
        total.passed * 4 >= cases && total.passed <= total.sent && total.refused * 4 >= cases,
        "{total:?}"
    );
}

async fn some(first: u64, last: u64) -> Tally {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let gateway = Setup::new(upstream.address()).audit(&audit).start();
    let authorization = bearer(&portal());
    let mut tally = Tally::default();
    let mut ids = HashSet::new();
    // What the API may see yet: it may still be reading what the case before has sent.
    let mut expected = VecDeque::from([Vec::new(), Vec::new()]);
    for case in first..last {
        let bytes = tricks::case(case, &authorization);
        let allowed = requests(&bytes);
        tally.sent += allowed.len();
        expected.push_back(allowed);
        expected.pop_front();
        let answers = exchange(&gateway, case, &bytes).await;
        for answer in answers.split("HTTP/1.1 ").skip(1) {
            // The API's stand-in breaks off on whatever it cannot read.
            assert!(!answer.starts_with('5'), "case {case}: {answer}\n{}", bytes.escape_ascii());
            tally.refused += usize::from(answer.to_lowercase().contains("reason: malformed_request"));
        }
        for request in upstream.take_requests() {
            ids.insert(request.header("X-Request-Id").unwrap().to_owned());
            let seen = Seen { method: request.method, target: request.path, body: request.body };
            let found = expected.iter_mut().find_map(|allowed| {
                let at = allowed.iter().position(|other| *other == seen)?;
                Some(allowed.remove(at))
            });
            assert!(found.is_some(), "case {case}: the API saw {seen:?} in {}", bytes.escape_ascii());
            tally.passed += 1;
        }
    }
    gateway.stop();
    assert_decided(&audit, &ids);
    tally
}

/// Sends a case in pieces, closes its half, and reads what is answered.
async fn exchange(gateway: &TestGateway, case: u64, bytes: &[u8]) -> String {
    let mut client = RawClient::connect(gateway.address()).await;
    let mut dice = Dice::new(case ^ 0xa5a5);
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = if dice.one_in(3) { 1 + dice.below(rest.len()) } else { rest.len() };
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        // It may have been refused already.
        if client.try_send(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
        rest = behind;
    }
    client.try_finish_sending().await;
    let answers = within_deadline("the end of a case", client.read_to_end()).await;
    String::from_utf8_lossy(&answers).into_owned()
}

/// Every request that the API saw has its line in the audit, written before it was forwarded.
fn assert_decided(audit: &std::path::Path, ids: &HashSet<String>) {
    let text = std::fs::read_to_string(audit).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let admitted: HashSet<String> = lines
        .filter(|line| line["event"] == "admitted")
        .map(|line| line["request_id"].as_str().unwrap().to_owned())
        .collect();
    assert!(ids.is_subset(&admitted), "{:?}", ids.difference(&admitted).collect::<Vec<_>>());
}
