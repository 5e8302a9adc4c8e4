//! Failed logins: how often an address may bring a token that proves nobody, and whom that concerns.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate::id::TenantId;
use tollgate::time::Clock;

use crate::support::gateway::{
    COMMENT, EXECUTIVE, Setup, TestGateway, WORKSTATION, playbooks, policy_with, portal, token,
};
use crate::support::raw::RawResponse;
use crate::support::until;
use crate::support::upstream::{Answer, RecordingUpstream};

const THREE_A_MINUTE: &str = r#"
    [[limit]]
    name    = "failed-logins"
    per     = ["address"]
    windows = ["3 per minute"]
"#;

const MINUTE: Duration = Duration::from_secs(60);

fn upstream() -> RecordingUpstream {
    RecordingUpstream::start(Answer::json(201, &json!({ "id": "1" })), Clock::System)
}

fn three_a_minute(upstream: &RecordingUpstream) -> Setup {
    Setup::new(upstream.address()).policy(policy_with("limits.toml", THREE_A_MINUTE))
}

/// A token that nobody has seen before.
fn new_token() -> String {
    token(&playbooks().claim("uti", uuid()))
}

fn uuid() -> String {
    tollgate::id::RequestId::random().to_string()
}

async fn collect(gateway: &TestGateway, token: &str) -> RawResponse {
    gateway.connect().await.collect(token, WORKSTATION, COMMENT).await
}

/// Sends `token`, and says that it came through `proxies`.
async fn collect_through(gateway: &TestGateway, token: &str, forwarded_for: &str) -> RawResponse {
    let path = format!("/api/machines/{WORKSTATION}/collectInvestigationPackage");
    let authorization = format!("Bearer {token}");
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Content-Type", "application/json"),
        ("X-Forwarded-For", forwarded_for),
    ];
    gateway.connect().await.request("POST", &path, &headers, COMMENT.as_bytes()).await
}

/// Fails with as many different tokens: one that is repeated fails once.
async fn fail_three_times(gateway: &TestGateway) {
    for number in 0..3 {
        collect(gateway, &format!("a.b.{number}")).await.assert_status(401);
    }
}

#[tokio::test]
async fn an_address_that_failed_too_often_is_turned_away_until_the_window_has_slid() {
    let upstream = upstream();
    let gateway = three_a_minute(&upstream).start();
    for number in 0..3 {
        collect(&gateway, &format!("a.b.{number}")).await.assert_status(401);
        gateway.hand.advance(Duration::from_secs(1));
    }
    for token in [new_token(), "a.b.c".to_owned()] {
        let answer = collect(&gateway, &token).await;
        answer.assert_status(429);
        assert_eq!(answer.header("Tollgate-Reason"), Some("failed_logins"));
        assert_eq!(answer.header("Retry-After"), Some("57"));
        let message = "Too many refused tokens from this address: at most 3 per 00:01:00";
        assert_eq!(answer.json()["error"]["message"], message);
    }
    assert_eq!(upstream.requests().len(), 0);
    gateway.hand.advance(Duration::from_secs(57));
    collect(&gateway, &new_token()).await.assert_status(201);
}

#[tokio::test]
async fn a_token_that_passed_before_passes_while_its_address_is_turned_away() {
    let upstream = upstream();
    let gateway = three_a_minute(&upstream).start();
    let known = new_token();
    collect(&gateway, &known).await.assert_status(201);
    fail_three_times(&gateway).await;
    for _ in 0..20 {
        collect(&gateway, &known).await.assert_status(201);
        collect(&gateway, &new_token()).await.assert_status(429);
    }
    // It is known by all of its letters.
    collect(&gateway, &known[..known.len() - 1]).await.assert_status(429);
}

#[tokio::test]
async fn every_refused_token_is_a_failed_login_and_what_asks_for_no_login_is_none() {
    let upstream = upstream();
    let refused = [
        ("malformed", "a.b.c".to_owned()),
        ("expired", token(&playbooks().claim("exp", 1_795_510_000))),
        ("not yet valid", token(&playbooks().claim("nbf", 1_795_517_200))),
        ("for another audience", token(&playbooks().for_audience("https://graph.microsoft.com"))),
        ("of another issuer", token(&playbooks().in_tenant(TenantId::from_u128(0xbad)))),
    ];
    for (what, token) in refused {
        let gateway = three_a_minute(&upstream).start();
        collect(&gateway, "a.b.1").await.assert_status(401);
        collect(&gateway, "a.b.2").await.assert_status(401);
        collect(&gateway, &token).await.assert_status(401);
        assert_eq!(collect(&gateway, &new_token()).await.status, 429, "{what}");
    }

    let gateway = three_a_minute(&upstream).start();
    for _ in 0..5 {
        let path = format!("/api/machines/{WORKSTATION}");
        let mut client = gateway.connect().await;
        client.request("GET", &path, &[], b"").await.assert_status(401);
        client.request("GET", &path, &[("Authorization", "Bearer")], b"").await.assert_status(400);
        client
            .request("GET", "/api/nothing", &[("Authorization", "Bearer a.b.c")], b"")
            .await
            .assert_status(404);
        gateway.collect(&playbooks(), EXECUTIVE).await.assert_status(403);
        gateway.collect(&portal(), &"4".repeat(40)).await.assert_status(201);
    }
    collect(&gateway, &new_token()).await.assert_status(201);
}

#[tokio::test]
async fn a_script_that_repeats_one_wrong_token_shuts_out_nobody() {
    let upstream = upstream();
    let gateway = three_a_minute(&upstream).start();
    let wrong = token(&playbooks().claim("exp", 1_795_510_000));
    for _ in 0..50 {
        collect(&gateway, &wrong).await.assert_status(401);
    }
    // Not even who logs in just now, and whom nobody knows yet.
    collect(&gateway, &new_token()).await.assert_status(201);
    // It goes on with its 401 while its address is shut out for other reasons: that costs no signature.
    collect(&gateway, "a.b.1").await.assert_status(401);
    collect(&gateway, "a.b.2").await.assert_status(401);
    collect(&gateway, "a.b.3").await.assert_status(429);
    collect(&gateway, &wrong).await.assert_status(401);
}

#[tokio::test]
async fn keys_that_cannot_be_had_are_no_failure_of_the_caller() {
    let upstream = upstream();
    let discovered = r#"
        [[issuer]]
        name      = "v1"
        issuer    = "https://issuer.example/{tid}/"
        tenants   = ["00000000-0000-0000-0000-00000000007e"]
        audiences = ["https://api.securitycenter.microsoft.com"]
        discovery = "http://127.0.0.1:1/"
    "#;
    let mut files = policy_with("issuers.toml", discovered);
    files.insert(tollgate::source::SourceFile::new("limits.toml", THREE_A_MINUTE));
    let gateway = Setup::new(upstream.address()).policy(files).start();
    for _ in 0..5 {
        collect(&gateway, &new_token()).await.assert_status(503);
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_caller_has_its_own_failures_whatever_it_writes_itself() {
    let upstream = upstream();
    let folder = tempfile::tempdir().unwrap();
    let trail = folder.path().join("audit.jsonl");
    let gateway = three_a_minute(&upstream).trusted_hops("1").audit(&trail).start();
    for number in 0..3 {
        // What the caller writes stands before what the proxy adds.
        let forwarded_for = format!("203.0.113.{number}, 198.51.100.7");
        collect_through(&gateway, &format!("a.b.{number}"), &forwarded_for).await.assert_status(401);
    }
    collect_through(&gateway, &new_token(), "203.0.113.9, 198.51.100.7").await.assert_status(429);
    collect_through(&gateway, &new_token(), "198.51.100.7, 198.51.100.8").await.assert_status(201);
    // The peer's own address has failed never; it is what counts where the header does not tell.
    collect_through(&gateway, &new_token(), "unknown").await.assert_status(201);
    gateway.stop();

    let lines = std::fs::read_to_string(trail).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut addresses: Vec<_> = lines
        .filter(|line| line["event"] == "refused" || line["event"] == "admitted")
        .map(|line| line["address"].as_str().unwrap().to_owned())
        .collect();
    // The lines of refused calls have a queue of their own.
    addresses.sort();
    let caller = "198.51.100.7";
    assert_eq!(addresses, ["127.0.0.1", caller, caller, caller, caller, "198.51.100.8"]);
}

#[tokio::test]
async fn without_a_trusted_proxy_nobody_can_write_where_it_comes_from() {
    let upstream = upstream();
    let gateway = three_a_minute(&upstream).start();
    for number in 0..3 {
        let forwarded_for = format!("203.0.113.{number}");
        collect_through(&gateway, &format!("a.b.{number}"), &forwarded_for).await.assert_status(401);
    }
    collect_through(&gateway, &new_token(), "203.0.113.9").await.assert_status(429);
}

#[tokio::test]
async fn the_metrics_show_what_is_remembered_and_who_failed_and_both_go_with_time() {
    let upstream = upstream();
    let gateway = three_a_minute(&upstream).start();
    let known = new_token();
    for _ in 0..3 {
        collect(&gateway, &known).await.assert_status(201);
    }
    for _ in 0..2 {
        collect(&gateway, "a.b.c").await.assert_status(401);
    }
    let shown = |text: &str, line: &str| assert!(text.lines().any(|other| other == line), "{line} in {text}");
    for _ in 0..2 {
        let metrics = gateway.admin("/metrics").await;
        for line in [
            r#"tollgate_token_cache_lookups_total{part="good",result="hit"} 2"#,
            r#"tollgate_token_cache_lookups_total{part="good",result="miss"} 3"#,
            r#"tollgate_token_cache_lookups_total{part="refused",result="hit"} 1"#,
            r#"tollgate_token_cache_lookups_total{part="refused",result="miss"} 2"#,
            r#"tollgate_token_cache_entries{part="good"} 1"#,
            r#"tollgate_token_cache_entries{part="refused"} 1"#,
            "tollgate_failed_login_addresses 1",
        ] {
            shown(metrics.text(), line);
        }
        let bytes = metrics.text().lines().find_map(|line| {
            line.strip_prefix(r#"tollgate_token_cache_bytes{part="good"} "#)?.parse::<usize>().ok()
        });
        assert!(bytes.is_some_and(|bytes| bytes > known.len()), "{}", metrics.text());
    }
    // An hour and the skew later the token has expired; the failure is out of its window after a minute.
    gateway.hand.advance(61 * MINUTE);
    until("nothing remembered", || {
        let remembered = gateway.server().policies.load().verifier.remembered();
        remembered.entries == 0 && gateway.server().line.logins.addresses() == 0
    })
    .await;
}
