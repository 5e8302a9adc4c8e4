//! A limit of a few seconds, over whose windows the gateway is killed: judged by when the audit says that calls were
//! admitted.

use serde_json::Value;
use tollgate::time::Wall;

use super::*;

/// All calls together have room for so many in [`WINDOW`].
const MOST: usize = 60;

const WINDOW: Duration = Duration::from_secs(3);

/// By how much a line may say that a call was admitted later than it was: it says when the call was about to be forwarded,
/// on a machine that other tests share. So windows are looked at that are shorter by as much.
const LATE: Duration = Duration::from_millis(500);

/// The most that any window of this length holds.
fn most_within<T: Copy + Ord>(
    mut times: Vec<T>,
    window: Duration,
    since: impl Fn(T, T) -> Duration,
) -> usize {
    times.sort_unstable();
    let (mut first, mut most) = (0, 0);
    for (last, time) in times.iter().enumerate() {
        while since(*time, times[first]) >= window {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

/// When the calls were admitted that the audit knows of. A line that was being written at a kill may be cut off.
fn admissions(audit: &str) -> Vec<Wall> {
    let lines = audit.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let admitted = lines.filter(|line| line["event"] == "admitted");
    admitted.map(|line| line["time"].as_str().unwrap().parse().unwrap()).collect()
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
        serving.process.signal(Signal::KILL);
        let then = Clock::System.steady();
        serving.process.ended().await;
        may_be_forgotten += load.just_before(then);
        serving = Serving::start(policies.path(), upstream.address(), &more).await;
        *gateway.lock() = serving.gateway;
    }
    load.until(200, 6 * MOST).await;
    load.stop().await;
    let admitted = admissions(&std::fs::read_to_string(&audit).unwrap());
    assert!(admitted.len() >= 5 * MOST, "nothing expired: {}", admitted.len());
    let by_audit = most_within(admitted, WINDOW - LATE, Wall::since);
    let at_upstream = most_within(upstream.arrivals(), WINDOW, Steady::since);
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
    let at = |millis: &[u64]| millis.iter().map(|at| Steady::from_millis(*at)).collect::<Vec<_>>();
    for (millis, most) in [
        (&[][..], 0),
        (&[5], 1),
        // One that is as old as the window is long is outside.
        (&[0, 100, 100, 199], 3),
        (&[300, 0, 50, 299, 310, 320], 4),
    ] {
        assert_eq!(most_within(at(millis), Duration::from_millis(100), Steady::since), most, "{millis:?}");
    }
}
