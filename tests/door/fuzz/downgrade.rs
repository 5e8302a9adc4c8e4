//! Tampered requests over HTTP/2, which the API gets by HTTP/1.1: what is one field here may be several lines there, and
//! one request two.
//!
//! Each case is a stream: fields without a table, byte for byte, and a body. Beside method, path and body, each field that
//! the API sees must be one that was sent, or one of the gateway's own.

mod fields;

use std::collections::{HashSet, VecDeque};

use super::super::tls::{frames, secure_with};
use super::*;
use crate::support::dice::Dice;
use crate::support::frames::{Event, FrameClient};
use crate::support::upstream::RecordedRequest;

use fields::StreamCase;

/// Of the cases over HTTP/1: its syntax has more that can be played on.
const ONE_IN: u64 = 5;

/// What the gateway adds, or says in its own words.
const OURS: [&str; 5] = ["host", "x-request-id", "content-length", "transfer-encoding", "connection"];

/// A request as it was sent.
struct Allowed {
    seen: Seen,
    fields: HashSet<(String, String)>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_client_sends_over_http_2_the_api_sees_what_was_decided_and_nothing_else() {
    run(cases() / ONE_IN, some).await;
}

async fn some(first: u64, last: u64) -> Tally {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let (upstream, gateway, files) = secure_with(|setup| setup.audit(&audit));
    let authorization = bearer(&portal());
    let mut tally = Tally::default();
    let mut ids = HashSet::new();
    // What the API may see yet: it may still be reading what the case before has sent.
    let mut expected = VecDeque::from([None, None]);
    let mut client = frames(&gateway, &files).await;
    let mut stream = 1;
    for number in first..last {
        let case = StreamCase::new(number, &authorization);
        let allowed = case.request().map(|seen| Allowed { seen, fields: case.texts() });
        tally.sent += usize::from(allowed.is_some());
        expected.push_back(allowed);
        expected.pop_front();
        client.send(case.frames(stream, &mut Dice::new(number ^ 0xa5a5))).await;
        match outcome(&mut client, &case, stream).await {
            Some(Event::Answer { status, .. }) => {
                // The API's stand-in breaks off on whatever it cannot read.
                assert!(status < 500, "case {number}: {status} of {case}");
                tally.refused += usize::from(status == 400);
            }
            Some(Event::GoAway { .. } | Event::Closed) => {
                tally.refused += 1;
                client = frames(&gateway, &files).await;
                stream = 1;
            }
            Some(_) => tally.refused += 1,
            None => {}
        }
        stream += 2;
        for request in upstream.take_requests() {
            ids.insert(request.header("X-Request-Id").unwrap().to_owned());
            let found =
                expected.iter_mut().find(|allowed| allowed.as_ref().is_some_and(|it| it.is(&request)));
            let found = found.and_then(Option::take);
            assert!(found.is_some(), "case {number}: the API saw {} of {case}", request.raw.escape_ascii());
            tally.passed += 1;
        }
    }
    gateway.stop();
    assert_decided(&audit, &ids);
    tally
}

/// What becomes of a case; nothing of one whose body never ends, but that its connection may.
async fn outcome(client: &mut FrameClient, case: &StreamCase, stream: u32) -> Option<Event> {
    if case.ends() {
        return Some(client.outcome(stream).await);
    }
    client.ping().await;
    loop {
        match client.event().await {
            Event::Pong => return None,
            event @ (Event::GoAway { .. } | Event::Closed) => return Some(event),
            _ => {}
        }
    }
}

// === impl Allowed ===

impl Allowed {
    fn is(&self, request: &RecordedRequest) -> bool {
        let RecordedRequest { method, path, headers, body, .. } = request;
        let Seen { method: sent, target, body: sent_body } = &self.seen;
        let known = |(name, value): &(String, String)| {
            let name = name.to_lowercase();
            OURS.contains(&&*name) || self.fields.contains(&(name, value.clone()))
        };
        (method, path, body) == (sent, target, sent_body) && headers.iter().all(known)
    }
}
