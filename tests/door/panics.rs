//! A fault of our own in the middle of a request, at every place where one can be: whatever is done reads the clock, and
//! here the clock fails at one reading after another.

use tollgate::sandbox::issuer::Caller;

use super::tls::{frames, secure_with};
use super::*;
use crate::support::frames::{DATA, END_HEADERS, END_STREAM, Event, FrameClient, HEADERS, fields, frame};
use crate::support::gateway::{BEGINNING, policy_with, token};
use crate::support::within_deadline;

/// More readings than a request makes.
const READINGS: u32 = 60;

#[tokio::test]
async fn a_panic_costs_its_own_request_an_answer_and_nobody_else_anything() {
    let (upstream, gateway) = start(Bounds::default());
    let (mut answered, mut refused, mut closed) = (0, 0, 0);
    let mut first_that_passed = None;
    for reading in 1..=READINGS {
        let mut client = gateway.connect().await;
        until("the connection's first wait", || gateway.server().metrics.connections() == 1).await;
        gateway.hand.fail_at(reading);
        let path = format!("/api/machines/{WORKSTATION}/collectInvestigationPackage");
        let (authorization, body) = (bearer(&playbooks()), "{\"Comment\":\"c\"}");
        client
            .send(format!(
                "POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: {authorization}\r\nConnection: close\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ))
            .await;
        let answer = String::from_utf8(client.read_to_end().await).unwrap();
        drop(client);
        gateway.hand.fail_at(0);
        match answer.get(..12) {
            Some("HTTP/1.1 200") => {
                answered += 1;
                first_that_passed.get_or_insert(reading);
            }
            Some("HTTP/1.1 500") => {
                assert!(answer.to_lowercase().contains("\r\ntollgate-reason: internal\r\n"), "{answer}");
                refused += 1;
            }
            None => closed += 1,
            Some(_) => panic!("at reading {reading}: {answer}"),
        }
        settled(&gateway).await;
        within_deadline("the end of the connection", async {
            while gateway.server().metrics.connections() > 0 {
                Clock::System.sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    // But for the door's own waits, before and after it has read a header, there is somebody to answer.
    assert!(refused >= 5 && closed <= 2, "{answered} answered, {refused} refused, {closed} closed");
    assert!(first_that_passed.is_some_and(|first| first < READINGS), "{first_that_passed:?}");
    let page = gateway.admin("/metrics").await;
    let panics = page.text().lines().find_map(|line| line.strip_prefix("tollgate_panics_total ")).unwrap();
    assert!(panics.parse::<usize>().unwrap() >= refused + closed, "{panics}");

    // What went to the upstream is charged, and nothing else.
    let answer = gateway.collect(&playbooks(), WORKSTATION).await;
    answer.assert_status(200);
    let seen = u32::try_from(upstream.requests().len()).unwrap();
    assert_eq!(answer.remaining(), 100 - seen);
}

/// One call on its way, and one action that may be under way.
const ONE: &str = r#"
    [[limit]]
    name       = "calls"
    operations = ["collect"]
    per        = ["tenant"]
    in_flight  = 1

    [[limit]]
    name         = "actions"
    operations   = ["collect"]
    per          = ["tenant"]
    open_actions = 1
"#;

/// How long an action counts that may be under way, and that nobody can name.
const UNKNOWN_FOR: Duration = Duration::from_secs(10 * 60);

/// Asks a device's forensic package for, on this stream; what becomes of it.
async fn collect(client: &mut FrameClient, stream: u32, caller: &Caller) -> Event {
    let authorization = format!("Bearer {}", token(caller));
    let path = format!("/api/machines/{WORKSTATION}/collectInvestigationPackage");
    let block = fields(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "gateway"),
        (":path", &path),
        ("authorization", &authorization),
        ("content-type", "application/json"),
    ]);
    let body = frame(DATA, END_STREAM, stream, b"{\"Comment\":\"c\"}");
    client.send([frame(HEADERS, END_HEADERS, stream, &block), body].concat()).await;
    client.outcome(stream).await
}

#[tokio::test]
async fn over_http_2_a_panic_costs_its_own_stream_an_answer_or_a_reset_and_leaves_no_place_taken() {
    let (_upstream, gateway, files) = secure_with(|setup| setup.policy(policy_with("limits.toml", ONE)));
    // Days pass in this test.
    let caller = playbooks().claim("exp", BEGINNING.unix_seconds() + 7 * 24 * 3_600);
    let (mut refused, mut reset, mut closed) = (0, 0, 0);
    let mut first_that_passed = None;
    for reading in 1..=READINGS {
        let mut client = frames(&gateway, &files).await;
        assert_eq!(client.event().await, Event::Settled);
        gateway.hand.fail_at(reading);
        let event = collect(&mut client, 1, &caller).await;
        gateway.hand.fail_at(0);
        settled(&gateway).await;
        // A call that the API saw and that nobody knows the end of keeps its place for so long, and no longer.
        gateway.hand.advance(UNKNOWN_FOR);
        match event {
            Event::Answer { status: 200, .. } => drop(first_that_passed.get_or_insert(reading)),
            Event::Answer { status: 500, .. } => refused += 1,
            Event::Reset { .. } => reset += 1,
            Event::Closed | Event::GoAway { .. } => closed += 1,
            event => panic!("at reading {reading}: {event:?}"),
        }
        if let Event::Closed | Event::GoAway { .. } = event {
            client = frames(&gateway, &files).await;
        }
        // The others on its connection are served, and it has left its places.
        let next = collect(&mut client, 3, &caller).await;
        assert_eq!(next, Event::Answer { stream: 3, status: 200 }, "after reading {reading}: {event:?}");
        drop(client);
        settled(&gateway).await;
    }
    assert!(refused >= 5 && reset >= 1 && closed <= 2, "{refused} refused, {reset} reset, {closed} closed");
    assert!(first_that_passed.is_some_and(|first| first < READINGS), "{first_that_passed:?}");
}
