//! Limits end to end: exact at every moment, told exactly, and counted for whom they say.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tollgate::id::{TenantId, UserId};
use tollgate::sandbox::issuer::Caller;
use tollgate::source::PolicyFiles;
use tollgate::time::{Clock, Wall};

use crate::support::gateway::{
    COMMENT, PORTAL, RESPONDERS, Setup, TestGateway, WORKSTATION, playbooks, policy, policy_with, portal,
    rewritten, token,
};
use crate::support::raw::{RawClient, RawResponse};
use crate::support::upstream::{Answer, RecordingUpstream};

const MINUTE: Duration = Duration::from_secs(60);

/// The set of the tests with other documented limits for `collect`.
fn collect_limits(limits: &str) -> PolicyFiles {
    rewritten(policy(), "operations.toml", r#"["100 per minute", "1500 per hour"]"#, limits)
}

fn started(policy: PolicyFiles) -> (RecordingUpstream, TestGateway) {
    let upstream = RecordingUpstream::start(Answer::new(201, "{}"), Clock::System);
    let gateway = Setup::new(upstream.address()).policy(policy).start();
    (upstream, gateway)
}

async fn collect(client: &mut RawClient, caller: &Caller) -> RawResponse {
    client.collect(&token(caller), WORKSTATION, COMMENT).await
}

/// How many of these answers let the call through; the others must be refusals by a limit.
fn admitted<'a>(answers: impl IntoIterator<Item = &'a RawResponse>) -> usize {
    let admitted = answers.into_iter().filter(|answer| match answer.status {
        201 => true,
        429 => false,
        other => panic!("{other}: {answer:?}"),
    });
    admitted.count()
}

/// `RateLimit` or `RateLimit-Policy`: a list of strings with integer parameters (RFC 9651, sections 3.1 and 3.3), as
/// draft-ietf-httpapi-ratelimit-headers-10 has them. It takes nothing that a strict parser would not.
fn rate_limit(answer: &RawResponse, header: &str) -> Vec<(String, BTreeMap<String, u64>)> {
    let value = answer.header(header).unwrap_or_else(|| panic!("no {header} in {answer:?}"));
    let items = value.split(", ").map(|item| {
        let mut parts = item.split(';');
        let name = parts.next().and_then(|name| name.strip_prefix('"')?.strip_suffix('"'));
        let name = name.unwrap_or_else(|| panic!("no string in {value:?}"));
        assert!(
            name.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b"\"\\".contains(&byte)),
            "{value:?}"
        );
        let parameters = parts.map(|parameter| {
            let (key, number) = parameter.split_once('=').unwrap_or_else(|| panic!("{value:?}"));
            assert!(key.bytes().all(|byte| byte.is_ascii_lowercase()), "{value:?}");
            assert!(number.bytes().all(|byte| byte.is_ascii_digit()) && number.len() <= 15, "{value:?}");
            (key.to_owned(), number.parse().unwrap())
        });
        (name.to_owned(), parameters.collect())
    });
    items.collect()
}

/// The `r` of one item of `RateLimit`.
fn remaining(answer: &RawResponse, name: &str) -> u64 {
    let items = rate_limit(answer, "RateLimit");
    let item = items.iter().find(|(item, _)| item == name);
    item.unwrap_or_else(|| panic!("no {name} in {items:?}")).1["r"]
}

#[tokio::test]
async fn a_call_is_charged_when_it_is_admitted_and_not_when_its_head_came() {
    let (upstream, gateway) = started(collect_limits(r#"["10 per minute"]"#));
    // Every admission by the time that it happened at, in milliseconds.
    let mut times: Vec<u128> = Vec::new();
    let start = gateway.clock.steady();
    let bearer = format!("Bearer {}", token(&playbooks()));
    let path = format!("/api/machines/{WORKSTATION}/collectInvestigationPackage");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("Content-Length", "24"),
        ("Expect", "100-continue"),
    ];
    assert_eq!(COMMENT.len(), 24);
    // How long bodies are withheld: each as long as the gateway waits at most, and two that are shorter.
    for withheld in [59_900, 59_900, 30_000, 100, 59_900] {
        let mut clients = Vec::new();
        for _ in 0..100 {
            let mut client = gateway.connect().await;
            client.send_request("POST", &path, &headers, "").await;
            clients.push(client);
        }
        for client in &mut clients {
            // The gateway has checked the head and asks for the body.
            client.expect_interim(100).await;
        }
        gateway.hand.advance(Duration::from_millis(withheld));
        let mut answers = Vec::new();
        for client in &mut clients {
            client.send(COMMENT).await;
        }
        for client in &mut clients {
            answers.push(client.read_response().await);
        }
        let now = gateway.clock.steady().since(start).as_millis();
        times.extend(std::iter::repeat_n(now, admitted(&answers)));
        // The boundary of a window that began with the heads.
        gateway.hand.advance(Duration::from_millis(200));
        let late = gateway.collect(&playbooks(), WORKSTATION).await;
        times.extend(std::iter::repeat_n(now + 200, admitted([&late])));
    }
    upstream.wait_for(times.len()).await;
    for end in &times {
        let window = times.iter().filter(|time| **time <= *end && **time + 60_000 > *end).count();
        assert!(window <= 10, "{window} in the minute before {end} ms: {times:?}");
    }
    // And no fewer than there is room for: full at 59.9 s, at 120 s, and at 210.7 s, when two rounds had found no room.
    assert_eq!(times.len(), 30, "{times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_under_two_limits_admit_exactly_as_many_as_there_is_room_for() {
    let tenant = r#"
        [[limit]]
        name       = "collect-per-tenant"
        operations = ["collect"]
        per        = ["tenant"]
        windows    = ["70 per minute"]
    "#;
    let mut files = collect_limits(r#"["50 per minute"]"#);
    files.insert(tollgate::source::SourceFile::new("limits.toml", tenant));
    let upstream = RecordingUpstream::start(Answer::new(201, "{}"), Clock::System);
    let gateway = Setup::new(upstream.address()).policy(files).threads(2).start();
    for round in 1..=3 {
        let mut clients = JoinSet::new();
        for number in 0..20 {
            let mut client = gateway.connect().await;
            let token = token(&if number % 2 == 0 { playbooks() } else { portal() });
            clients.spawn(async move {
                let mut answers = Vec::new();
                for _ in 0..20 {
                    answers.push(client.collect(&token, WORKSTATION, COMMENT).await);
                }
                (number % 2, admitted(&answers))
            });
        }
        let mut by_application = [0, 0];
        for (application, admitted) in clients.join_all().await {
            by_application[application] += admitted;
        }
        assert_eq!(by_application.iter().sum::<usize>(), 70, "{by_application:?}");
        assert!(by_application.iter().all(|admitted| *admitted <= 50), "{by_application:?}");
        upstream.wait_for(70 * round).await;
        gateway.hand.advance(MINUTE);
    }
}

#[tokio::test]
async fn retry_after_is_the_first_moment_at_which_the_caller_is_admitted() {
    // When the window was filled, and when after that the caller asks: the stamp is rounded up to a millisecond.
    for (sub_millisecond, asked_after, told) in [
        (Duration::ZERO, Duration::ZERO, "60"),
        (Duration::ZERO, Duration::from_millis(1), "60"),
        (Duration::ZERO, Duration::from_millis(10_000), "50"),
        (Duration::ZERO, Duration::from_millis(10_001), "50"),
        (Duration::ZERO, Duration::from_millis(9_999), "51"),
        (Duration::from_nanos(1), Duration::ZERO, "61"),
        (Duration::from_micros(999), Duration::from_millis(59_000), "2"),
    ] {
        let (_upstream, gateway) = started(collect_limits(r#"["1 per minute"]"#));
        let mut client = gateway.connect().await;
        gateway.hand.advance(sub_millisecond);
        collect(&mut client, &playbooks()).await.assert_status(201);
        gateway.hand.advance(asked_after);
        let refused = collect(&mut client, &playbooks()).await;
        refused.assert_status(429);
        assert_eq!(refused.header("Retry-After"), Some(told), "{sub_millisecond:?} {asked_after:?}");

        // The last millisecond before the exact moment, the moment, and the second that was told.
        let stamp = if sub_millisecond.is_zero() { Duration::ZERO } else { Duration::from_millis(1) };
        let left = (stamp - sub_millisecond.min(stamp)) + MINUTE - asked_after;
        assert!(left <= Duration::from_secs(told.parse().unwrap()));
        gateway.hand.advance(left - Duration::from_millis(1));
        let early = collect(&mut client, &playbooks()).await;
        early.assert_status(429);
        assert_eq!(early.header("Retry-After"), Some("1"));
        gateway.hand.advance(Duration::from_millis(1));
        collect(&mut client, &playbooks()).await.assert_status(201);
    }
}

#[tokio::test]
async fn refused_calls_are_never_counted() {
    let (upstream, gateway) = started(collect_limits(r#"["3 per minute"]"#));
    let mut client = gateway.connect().await;
    for round in 1..=3 {
        let mut answers = Vec::new();
        for _ in 0..20 {
            answers.push(collect(&mut client, &playbooks()).await);
        }
        // Refused for another reason: before any limit was asked.
        let poor = Caller::application(playbooks().application_id()).permissions(["Library.Manage"]);
        collect(&mut client, &poor).await.assert_status(403);
        gateway.hand.advance(Duration::from_secs(59));
        for _ in 0..20 {
            answers.push(collect(&mut client, &playbooks()).await);
        }
        assert_eq!(admitted(&answers), 3);
        upstream.wait_for(3 * round).await;
        gateway.hand.advance(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_call_that_one_limit_refuses_is_charged_to_no_other() {
    let limits = r#"
        [[limit]]
        name       = "burst"
        operations = ["collect"]
        per        = ["tenant"]
        windows    = ["3 per 10s"]
        show       = true

        [[limit]]
        name       = "day"
        operations = ["package_uri"]
        per        = ["tenant"]
        windows    = ["50 per day"]
        show       = true
    "#;
    let (_upstream, gateway) = started(policy_with("limits.toml", limits));
    let mut client = gateway.connect().await;
    for left in [99, 98, 97] {
        assert_eq!(remaining(&collect(&mut client, &portal()).await, "collect-minute"), left);
    }
    for _ in 0..5 {
        let refused = collect(&mut client, &portal()).await;
        refused.assert_status(429);
        assert_eq!((remaining(&refused, "burst-10s"), remaining(&refused, "collect-minute")), (0, 97));
    }
    gateway.hand.advance(Duration::from_secs(10));
    let next = collect(&mut client, &portal()).await;
    assert_eq!((remaining(&next, "burst-10s"), remaining(&next, "collect-minute")), (2, 96));
    assert_eq!(remaining(&next, "collect-hour"), 1_496);

    // The other way round: the limit of the application is full, that of the tenant is not.
    let uri = "/api/machineactions/1/getPackageUri";
    for left in [49, 48] {
        assert_eq!(remaining(&gateway.get(&portal(), uri).await, "day-day"), left);
    }
    for _ in 0..5 {
        let refused = gateway.get(&portal(), uri).await;
        refused.assert_status(429);
        assert_eq!((remaining(&refused, "package_uri-minute"), remaining(&refused, "day-day")), (0, 48));
    }
}

#[tokio::test]
async fn each_limit_that_applied_and_may_be_seen_is_one_item_of_the_two_headers() {
    let limits = r#"
        [[limit]]
        name       = "tenant"
        operations = "all"
        per        = ["tenant"]
        windows    = ["2 per 90s"]

        [[limit]]
        name       = "mine"
        operations = ["collect"]
        per        = ["tenant", "application"]
        windows    = ["4 per second", "5 per 5s"]
    "#;
    let (_upstream, gateway) = started(policy_with("limits.toml", limits));
    let item = |name: &str, parameters: &[(&str, u64)]| {
        (name.to_owned(), parameters.iter().map(|(key, number)| ((*key).to_owned(), *number)).collect())
    };
    let sorted = |answer: &RawResponse, header: &str| {
        let mut items = rate_limit(answer, header);
        items.sort();
        items
    };
    let mut client = gateway.connect().await;
    let first = collect(&mut client, &playbooks()).await;
    gateway.hand.advance(Duration::from_millis(500));
    let second = collect(&mut client, &playbooks()).await;
    let third = collect(&mut client, &playbooks()).await;
    let fourth = gateway.get(&portal(), "/api/machines").await;

    let policy: Vec<(String, BTreeMap<String, u64>)> = vec![
        item("collect-hour", &[("q", 1_500), ("w", 3_600)]),
        item("collect-minute", &[("q", 100), ("w", 60)]),
        item("mine-5s", &[("q", 5), ("w", 5)]),
        item("mine-second", &[("q", 4), ("w", 1)]),
    ];
    for answer in [&first, &second, &third] {
        assert_eq!(sorted(answer, "RateLimit-Policy"), policy);
        let names = |header: &str| -> Vec<String> {
            rate_limit(answer, header).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names("RateLimit"), names("RateLimit-Policy"));
    }
    let state = |left: [u64; 4], grows: [u64; 4]| -> Vec<(String, BTreeMap<String, u64>)> {
        let names = ["collect-hour", "collect-minute", "mine-5s", "mine-second"];
        let items = names.iter().zip(left.iter().zip(grows));
        items.map(|(name, (left, grows))| item(name, &[("r", *left), ("t", grows)])).collect()
    };
    assert_eq!(sorted(&first, "RateLimit"), state([1_499, 99, 4, 3], [3_600, 60, 5, 1]));
    // Half a second later the first is half a second nearer to its end, told in whole seconds rounded up.
    assert_eq!(sorted(&second, "RateLimit"), state([1_498, 98, 3, 2], [3_600, 60, 5, 1]));
    // The limit that nobody may see refuses all the same, and says when; those that may be seen are not charged.
    third.assert_status(429);
    assert_eq!(third.header("Retry-After"), Some("90"));
    assert_eq!(sorted(&third, "RateLimit"), state([1_498, 98, 3, 2], [3_600, 60, 5, 1]));
    // Where nothing that applied may be seen, neither header is there.
    fourth.assert_status(429);
    assert_eq!((fourth.header("RateLimit"), fourth.header("RateLimit-Policy")), (None, None));
}

#[tokio::test]
async fn stepping_the_calendar_moves_no_window() {
    let (_upstream, gateway) = started(collect_limits(r#"["2 per minute"]"#));
    // Its token is valid on every day that the calendar shows here.
    let caller = playbooks().valid_for(Duration::from_secs(30 * 86_400)).claim("nbf", Value::Null);
    let mut client = gateway.connect().await;
    let now = gateway.clock.wall();
    let day = Duration::from_secs(86_400);
    collect(&mut client, &caller).await.assert_status(201);
    gateway.hand.advance(Duration::from_secs(20));
    collect(&mut client, &caller).await.assert_status(201);
    for wall in [now + day, Wall::from_unix_seconds(now.unix_seconds() - 86_400), now] {
        gateway.hand.step_wall(wall);
        let refused = collect(&mut client, &caller).await;
        refused.assert_status(429);
        assert_eq!(refused.header("Retry-After"), Some("40"));
    }
    gateway.hand.step_wall(Wall::from_unix_seconds(now.unix_seconds() - 86_400));
    gateway.hand.advance(Duration::from_secs(40));
    assert_eq!(remaining(&collect(&mut client, &caller).await, "collect-minute"), 0);
    collect(&mut client, &caller).await.assert_status(429);
}

#[tokio::test]
async fn documented_limits_count_per_tenant_and_application() {
    let other_tenant = TenantId::from_u128(0x7f);
    let files = collect_limits(r#"["2 per minute"]"#);
    let tenant = r#""00000000-0000-0000-0000-00000000007e""#;
    let both = format!("{tenant}, \"{other_tenant}\"");
    let (_upstream, gateway) = started(rewritten(files, "issuers.toml", tenant, &both));
    let user = |number| {
        Caller::user(UserId::from_u128(number), "someone@test.example", PORTAL)
            .permissions(["Machine.CollectForensics"])
            .groups([RESPONDERS])
    };
    for (who, caller, status) in [
        ("a user", user(1), 201),
        ("the same user", user(1), 201),
        ("the same user again", user(1), 429),
        ("another user of the same application", user(2), 429),
        ("the application itself", portal(), 429),
        ("another application", playbooks(), 201),
        ("the same application in another tenant", portal().in_tenant(other_tenant), 201),
        ("a user of it in another tenant", user(1).in_tenant(other_tenant), 201),
        ("and that is all there", user(2).in_tenant(other_tenant), 429),
        ("while here another application goes on", playbooks(), 201),
    ] {
        assert_eq!(gateway.collect(&caller, WORKSTATION).await.status, status, "{who}");
    }
}
