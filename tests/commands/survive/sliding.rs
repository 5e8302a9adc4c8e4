//! A limit of a few seconds, over whose windows the gateway is killed: judged by when the audit says that calls were
//! admitted.

use serde_json::Value;
use tollgate::time::Wall;

use super::*;

/// All calls together have room for so many in [`WINDOW`].
const MOST: usize = 60;

const WINDOW: Duration = Duration::from_secs(3);

/// What the audit's times are rounded by, and how far the calendar's clock may stray from the steady one meanwhile.
const INEXACT: Duration = Duration::from_millis(5);

/// Between two moments, counted from any other one.
type Span = (Duration, Duration);

/// The most that surely lie in a window of this length: their spans begin and end within it.
fn most_within(spans: &[Span], window: Duration) -> usize {
    let begins = spans.iter().map(|(begin, _)| *begin);
    let within = |begin| spans.iter().filter(|span| span.0 >= begin && span.1 < begin + window).count();
    begins.map(within).max().unwrap_or_default()
}

/// Between which moments the calls were admitted that the audit knows of: a line says when its call was about to be
/// forwarded, and how long that took from its arrival. One that was being written at a kill may be cut off.
fn admissions(audit: &str) -> Vec<Span> {
    let lines = audit.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let admitted = lines.filter(|line| line["event"] == "admitted");
    let span = |line: Value| {
        let time: Wall = line["time"].as_str().unwrap().parse().unwrap();
        let time = time.since(Wall::from_unix_seconds(0));
        let took = Duration::from_micros(line["admission_us"].as_u64().unwrap());
        (time - took - INEXACT, time + INEXACT)
    };
    admitted.map(span).collect()
}

/// Kills the gateway again and again while its limit fills, and starts it anew; returns the most calls in a window by the
/// audit, and how many more than the limit it may have let through.
async fn kill_within_windows(durable: &str) -> (usize, usize) {
    let upstream = RecordingUpstream::start(Answer::new(200, "taken"), Clock::System);
    let rate = format!("{MOST} per {}s", WINDOW.as_secs());
    let (policies, state) = (policies_of(durable, &rate), tempfile::tempdir().unwrap());
    let audit = state.path().join("audit.jsonl");
    let more = ["--state", text(state.path()), "--audit", text(&audit)];
    let mut serving = Serving::start(policies.path(), upstream.address(), &more).await;
    let gateway = Arc::new(Mutex::new(serving.gateway));
    let load = Load::start(&gateway);
    let mut may_be_forgotten = 0;
    for round in 0..4 {
        // With half of a window's calls through, and those of the window before not long ago.
        load.until(200, (2 * round + 3) * MOST / 2).await;
        let then = Clock::System.steady();
        serving.process.signal(Signal::KILL);
        serving.process.ended().await;
        may_be_forgotten += load.just_before(then);
        serving = Serving::start(policies.path(), upstream.address(), &more).await;
        *gateway.lock() = serving.gateway;
    }
    load.until(200, 6 * MOST).await;
    load.stop().await;
    let admitted = admissions(&std::fs::read_to_string(&audit).unwrap());
    assert!(admitted.len() >= 5 * MOST, "nothing expired: {}", admitted.len());
    let by_audit = most_within(&admitted, WINDOW);
    let arrivals = upstream.arrivals().into_iter().map(|at| at.since(Steady::from_millis(0)));
    let at_upstream = most_within(&arrivals.map(|at| (at, at)).collect::<Vec<_>>(), WINDOW);
    eprintln!(
        "durable = {durable}: of {rate}, at most {by_audit} by the audit, and {at_upstream} at the upstream; \
         {may_be_forgotten} may be forgotten"
    );
    (by_audit, may_be_forgotten)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_window_over_a_kill_holds_more_than_the_limit_and_the_calls_of_the_last_second() {
    let (most, may_be_forgotten) = kill_within_windows("false").await;
    assert!(most <= MOST + may_be_forgotten, "{most} > {MOST} + {may_be_forgotten}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_window_over_a_kill_holds_one_more_than_the_limit_if_its_policy_says_durable() {
    let (most, _) = kill_within_windows("true").await;
    assert!(most <= MOST, "{most}");
}

#[test]
fn the_fullest_window_is_found_wherever_it_lies() {
    let at = |millis: &[(u64, u64)]| -> Vec<Span> {
        let millis =
            millis.iter().map(|(from, to)| (Duration::from_millis(*from), Duration::from_millis(*to)));
        millis.collect()
    };
    for (millis, most) in [
        (&[][..], 0),
        (&[(5, 5)], 1),
        // One that is as old as the window is long is outside.
        (&[(0, 0), (100, 100), (100, 100), (199, 199)], 3),
        (&[(300, 300), (0, 0), (50, 50), (299, 299), (310, 310), (320, 320)], 4),
        // What may be outside is not counted, before or behind.
        (&[(0, 40), (20, 30), (90, 119), (90, 120)], 2),
        (&[(10, 50), (20, 50), (50, 109)], 3),
        (&[(10, 50), (20, 50), (50, 110), (50, 119)], 3),
    ] {
        assert_eq!(most_within(&at(millis), Duration::from_millis(100)), most, "{millis:?}");
    }
}
