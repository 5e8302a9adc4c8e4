//! What an operator sees on the admin listener: probes, the policy in force, and metrics that move as calls do.

mod limits;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tollgate::sandbox::issuer::Caller;
use tollgate::snapshot::version;
use tollgate::source::{PolicyFiles, SourceFile};
use tollgate::telemetry::metrics;
use tollgate::time::Clock;

use crate::support::gateway::{
    COMMENT, EXECUTIVE, PLAYBOOKS, Setup, TestGateway, WORKSTATION, bearer, issuer, playbooks, policy,
    portal, rewritten, token, without_idle_keys, write_policy,
};
use crate::support::key_site::KeySite;
use crate::support::raw::RawClient;
use crate::support::upstream::{Answer, RecordingUpstream};
use crate::support::{until, within_deadline};

/// Every series of `/metrics` by its name and labels.
type Series = BTreeMap<String, f64>;

fn upstream() -> RecordingUpstream {
    RecordingUpstream::start(Answer::json(201, &json!({ "id": "action-1" })), Clock::System)
}

async fn scrape(gateway: &TestGateway) -> Series {
    let page = gateway.admin("/metrics").await;
    page.assert_status(200);
    let series = page.text().lines().filter(|line| !line.starts_with('#'));
    series
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
        })
        .collect()
}

/// The series once every request that was answered has been counted, which is after its answer.
async fn settled(gateway: &TestGateway) -> Series {
    until("the end of the requests", || gateway.server().metrics.requests_in_flight() == 0).await;
    scrape(gateway).await
}

/// How a series differs between two scrapes; one that is not there yet is at zero.
fn grown(before: &Series, after: &Series, name: &str) -> f64 {
    after.get(name).unwrap_or_else(|| panic!("no {name} in {after:#?}")) - before.get(name).unwrap_or(&0.0)
}

/// Waits for what the clock holds up, moving it on a second at a time.
async fn advancing<F: Future>(gateway: &TestGateway, work: F) -> F::Output {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            output = &mut work => return output,
            () = Clock::System.sleep(Duration::from_millis(5)) => gateway.hand.advance(Duration::from_secs(1)),
        }
    }
}

/// The set with issuers whose keys come by discovery from here; `more` entries follow.
fn discovered(address: &str, more: &str) -> PolicyFiles {
    let mut files = policy();
    let issuers = format!(
        r#"
        [[issuer]]
        name      = "entra"
        issuer    = "https://issuer.example/{{tid}}/"
        tenants   = ["00000000-0000-0000-0000-00000000007e"]
        audiences = ["https://api.securitycenter.microsoft.com"]
        discovery = "http://{address}/{{tid}}/.well-known/openid-configuration"
        {more}
        "#
    );
    files.insert(SourceFile::new("issuers.toml", issuers));
    without_idle_keys(files)
}

/// An issuer with a key in a file, which needs nobody.
const WITH_A_FILE: &str = r#"
        [[issuer]]
        name      = "other"
        issuer    = "https://issuer.example/{tid}/v2.0"
        tenants   = ["00000000-0000-0000-0000-00000000007e"]
        audiences = ["fc780465-2017-40d4-a0c5-307022471b92"]
        keys      = "keys-v2.json"
"#;

// === probes ===

#[tokio::test]
async fn a_gateway_is_ready_once_an_issuer_has_keys_and_names_those_that_have_none() {
    // Nobody answers there yet, but nobody else will be given the port either.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let upstream = upstream();
    let gateway = Setup::new(upstream.address()).policy(discovered(&address, "")).start();
    let ready = gateway.admin("/readyz").await;
    ready.assert_status(503);
    assert_eq!(ready.header("Content-Type"), Some("application/json"));
    let page = ready.json();
    assert_eq!(page["ready"], false);
    assert!(page["because"].to_string().contains("issuer `entra` has no keys"), "{page}");
    assert_eq!((&page["issuers"][0]["name"], &page["issuers"][0]["keys"]), (&json!("entra"), &json!(0)));
    // It lives, and says of each call that the keys are missing, not that the token is wrong.
    assert_eq!(gateway.admin("/livez").await.status, 200);
    let answer = advancing(&gateway, gateway.collect(&playbooks(), WORKSTATION)).await;
    assert_eq!((answer.status, answer.header("Tollgate-Reason")), (503, Some("keys_unavailable")));

    // The issuer comes: the fetch that waits in the listener's queue is answered, or the next one.
    let router = issuer().router(format!("http://{address}"));
    listener.set_nonblocking(true).unwrap();
    let mut server = tokio::task::JoinSet::new();
    server.spawn(
        async move { axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await },
    );
    let ready = async { while gateway.admin("/readyz").await.status != 200 {} };
    within_deadline("readiness", advancing(&gateway, ready)).await;
    let page = gateway.admin("/readyz").await.json();
    assert_eq!(
        (&page["ready"], &page["because"], &page["issuers"][0]["keys"]),
        (&json!(true), &json!([]), &json!(1))
    );
    assert_eq!(page["policy_version"], gateway.server().policies.load().version.to_string());
    gateway.collect(&playbooks(), WORKSTATION).await.assert_status(201);
}

#[tokio::test]
async fn one_usable_issuer_is_enough_and_the_one_without_keys_is_named_with_its_error() {
    let nobody = crate::support::upstream::nobody().to_string();
    let upstream = upstream();
    let gateway = Setup::new(upstream.address()).policy(discovered(&nobody, WITH_A_FILE)).start();
    let failed = || {
        gateway.server().policies.load().verifier.issuers(&gateway.clock).any(|issuer| issuer.error.is_some())
    };
    until("the failed fetch", failed).await;
    let ready = gateway.admin("/readyz").await;
    ready.assert_status(200);
    let page = ready.json();
    assert_eq!(page["because"], json!(["issuer `entra` has no keys"]));
    let issuers = page["issuers"].as_array().unwrap();
    let entra = issuers.iter().find(|issuer| issuer["name"] == "entra").unwrap();
    assert_eq!(entra["keys"], 0);
    assert!(entra["last_error"].as_str().is_some_and(|error| !error.is_empty()), "{page}");
    let other = issuers.iter().find(|issuer| issuer["name"] == "other").unwrap();
    assert_eq!((&other["keys"], other.get("last_error")), (&json!(1), None));

    let series = scrape(&gateway).await;
    assert_eq!(series[r#"tollgate_issuer_keys{issuer="entra"}"#], 0.0);
    assert_eq!(series[r#"tollgate_issuer_keys{issuer="other"}"#], 1.0);
}

#[tokio::test]
async fn readiness_fails_first_when_it_is_told_to_stop_and_what_is_in_flight_is_finished() {
    let (clock, hand) = Clock::manual(tollgate::time::Wall::default());
    let slow = Answer::json(201, &json!({ "id": "action-1" })).after(Duration::from_secs(1));
    let upstream = RecordingUpstream::start(slow, clock);
    let gateway = Setup::new(upstream.address()).start();
    let admin = gateway.server().admin;
    let mut client = gateway.connect().await;
    let authorization = bearer(&playbooks());
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    let path = format!("/api/machines/{WORKSTATION}/collectInvestigationPackage");
    client.send_request("POST", &path, &headers, COMMENT).await;
    upstream.wait_for(1).await;

    let stopped = tokio::task::spawn_blocking(move || gateway.stop());
    let page = within_deadline("a failing probe", async {
        loop {
            let page = RawClient::connect(admin).await.request("GET", "/readyz", &[], b"").await;
            if page.status == 503 {
                return page.json();
            }
        }
    })
    .await;
    assert_eq!((&page["ready"], &page["because"][0]), (&json!(false), &json!("shutting down")));
    let alive = RawClient::connect(admin).await.request("GET", "/livez", &[], b"").await;
    alive.assert_status(200);
    assert!(!stopped.is_finished());
    hand.advance(Duration::from_secs(1));
    client.read_response().await.assert_status(201);
    within_deadline("the end", stopped).await.unwrap();
}

// === the policy ===

#[tokio::test]
async fn the_policy_page_says_what_is_in_force_since_when_and_how_much_of_it() {
    let folder = tempfile::tempdir().unwrap();
    write_policy(&policy(), folder.path());
    let upstream = upstream();
    let gateway = Setup::new(upstream.address()).policy_folder(folder.path()).start();
    gateway.hand.advance(Duration::from_millis(90_999));
    let answer = gateway.admin("/policy").await;
    answer.assert_status(200);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    let mut page = answer.json();
    // When the test wrote the file.
    let modified = page.as_object_mut().unwrap().remove("inventory_modified").unwrap();
    assert!(modified.as_str().unwrap().ends_with('Z'), "{modified}");
    assert_eq!(
        page,
        json!({
            "version": version(&policy()).to_string(),
            "loaded": "2026-11-24T09:46:40.000Z",
            "age_seconds": 90,
            "enforced": true,
            "counts": {
                "operations": 6, "roles": 2, "device_groups": 2, "applications": 2, "devices": 3, "limits": 2,
                "issuers": 2,
            },
        })
    );

    let fewer = rewritten(policy(), "operations.toml", r#"["2 per minute", "120 per hour"]"#, "[]");
    write_policy(&fewer, folder.path());
    until("the new policy", || gateway.server().policies.load().version == version(&fewer)).await;
    let page = gateway.admin("/policy").await.json();
    assert_eq!(page["version"], version(&fewer).to_string());
    assert_eq!((&page["loaded"], &page["age_seconds"]), (&json!("2026-11-24T09:48:10.999Z"), &json!(0)));
    assert_eq!(page["counts"]["limits"], 1);
}

// === the listeners ===

#[tokio::test]
async fn the_admin_pages_are_on_their_own_listener_and_the_calls_are_not() {
    let upstream = upstream();
    let gateway = TestGateway::start(upstream.address());
    let authorization = bearer(&portal());
    let headers = [("Authorization", authorization.as_str())];
    for page in ["/metrics", "/livez", "/readyz", "/policy", "/limits"] {
        assert_eq!(gateway.admin(page).await.status, 200, "{page}");
        let public = gateway.connect().await.request("GET", page, &headers, b"").await;
        assert_eq!((public.status, public.header("Tollgate-Reason")), (404, Some("no_operation")), "{page}");
        // Pages are looked at and nothing else.
        let post =
            RawClient::connect(gateway.server().admin).await.request("POST", page, &headers, b"").await;
        assert_eq!(post.status, 405, "{page}");
    }
    for path in ["/", "/metrics/", "/limits/", "/api/machines", "//metrics"] {
        let mut client = RawClient::connect(gateway.server().admin).await;
        assert_eq!(client.request("GET", path, &headers, b"").await.status, 404, "{path}");
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn the_pages_have_the_types_that_probes_and_scrapers_expect() {
    let upstream = upstream();
    let gateway = TestGateway::start(upstream.address());
    for (page, kind) in [
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/livez", "text/plain; charset=utf-8"),
        ("/readyz", "application/json"),
        ("/policy", "application/json"),
        ("/limits", "application/json"),
    ] {
        assert_eq!(gateway.admin(page).await.header("Content-Type"), Some(kind), "{page}");
    }
}

// === metrics ===

#[tokio::test]
async fn every_metric_of_the_table_is_shown_after_some_traffic_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let trial = "[[limit]]\nname = \"trial\"\noperations = \"all\"\nper = []\nwindows = [\"1 per day\"]\nenforce = false\n[[limit]]\nname = \"open\"\noperations = [\"collect\"]\nper = []\nopen_actions = 5";
    let site = KeySite::start(issuer());
    let mut files = site.policy();
    files.insert(SourceFile::new("limits.toml", trial));
    let files = rewritten(files, "device-groups.toml", "rank         = 1", "rank = 1\nenforce = false");
    write_policy(&files, folder.path());
    let upstream = upstream();
    let setup = Setup::new(upstream.address()).policy_folder(folder.path());
    let setup = setup.audit(folder.path().join("audit.jsonl")).state(folder.path().join("state"));
    let gateway = setup.start();
    for _ in 0..2 {
        gateway.collect(&playbooks(), WORKSTATION).await.assert_status(201);
    }
    gateway.collect(&playbooks(), EXECUTIVE).await.assert_status(201);
    gateway.connect().await.request("GET", "//", &[], b"").await.assert_status(400);
    upstream.answer_next(Answer::new(429, ""));
    gateway.collect(&playbooks(), WORKSTATION).await.assert_status(429);
    let page = gateway.admin("/metrics").await;
    let shown: Vec<&str> = page.text().lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let of_ours: Vec<&&str> = shown.iter().filter(|line| line.starts_with("tollgate_")).collect();
    for info in metrics::ALL {
        let line = format!("{} {}", info.name, info.kind.as_str());
        assert!(of_ours.contains(&&line.as_str()), "no {line} in {shown:?}");
    }
    assert_eq!(of_ours.len(), metrics::ALL.len());
    for process in ["process_resident_memory_bytes gauge", "process_cpu_seconds_total counter"] {
        assert!(shown.contains(&process), "no {process} in {shown:?}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_operation_outcome_reason_and_application() {
    let upstream = upstream();
    let gateway = TestGateway::start(upstream.address());
    let stranger =
        Caller::application(tollgate::id::ApplicationId::from_u128(0xa9)).permissions(["Machine.Read.All"]);
    let before = scrape(&gateway).await;
    for _ in 0..3 {
        gateway.collect(&playbooks(), WORKSTATION).await.assert_status(201);
    }
    gateway.collect(&playbooks(), EXECUTIVE).await.assert_status(403);
    gateway.get(&portal(), "/api/machines").await.assert_status(201);
    gateway.get(&stranger, "/api/machines").await.assert_status(403);
    gateway.get(&playbooks().claim("exp", 1_000_000), "/api/machines").await.assert_status(401);
    gateway.get(&portal(), "/api/elsewhere").await.assert_status(404);
    gateway.connect().await.request("GET", "//", &[], b"").await.assert_status(400);
    gateway.connect().await.request("GET", "/%2f", &[], b"").await.assert_status(400);

    let after = settled(&gateway).await;
    for (labels, count) in [
        (r#"application="playbooks",operation="collect",outcome="admitted",reason="none""#, 3.0),
        (r#"application="playbooks",operation="collect",outcome="refused",reason="device_group""#, 1.0),
        (r#"application="portal",operation="list_devices",outcome="admitted",reason="none""#, 1.0),
        (r#"application="other",operation="list_devices",outcome="refused",reason="application""#, 1.0),
        (r#"application="other",operation="list_devices",outcome="refused",reason="expired""#, 1.0),
        (r#"application="other",operation="none",outcome="refused",reason="no_operation""#, 1.0),
        (r#"application="other",operation="none",outcome="refused",reason="malformed_request""#, 2.0),
    ] {
        assert_eq!(
            grown(&before, &after, &format!("tollgate_requests_total{{{labels}}}")),
            count,
            "{labels}"
        );
    }
    let all = |series: &Series| -> f64 {
        series
            .iter()
            .filter(|(name, _)| name.starts_with("tollgate_requests_total"))
            .map(|(_, count)| count)
            .sum()
    };
    assert_eq!(all(&after) - all(&before), 10.0);
    for (name, count) in [
        (r#"tollgate_malformed_requests_total{kind="path"}"#, 2.0),
        (r#"tollgate_admission_duration_seconds_count{outcome="admitted"}"#, 4.0),
        (r#"tollgate_admission_duration_seconds_count{outcome="refused"}"#, 6.0),
        ("tollgate_upstream_duration_seconds_count", 4.0),
        // No token is looked at where there is no operation.
        (r#"tollgate_tokens_verified_total{result="ok"}"#, 6.0),
        (r#"tollgate_tokens_verified_total{result="expired"}"#, 1.0),
        ("tollgate_requests_in_flight", 0.0),
        // One key for `collect` by `playbooks`; lists have no limit.
        ("tollgate_limiter_keys", 1.0),
    ] {
        assert_eq!(grown(&before, &after, name), count, "{name}");
    }
}

#[tokio::test]
async fn how_long_things_took_is_told_by_the_gateways_clock() {
    let (clock, hand) = Clock::manual(tollgate::time::Wall::default());
    let slow = Answer::json(201, &json!({ "id": "action-1" })).after(Duration::from_secs(1));
    let upstream = RecordingUpstream::start(slow, clock);
    let gateway = Setup::new(upstream.address()).start();
    let mut client = gateway.connect().await;
    let authorization = bearer(&playbooks());
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Content-Type", "application/json"),
        ("Content-Length", "24"),
        ("Expect", "100-continue"),
    ];
    let path = format!("/api/machines/{WORKSTATION}/collectInvestigationPackage");
    client.send_request("POST", &path, &headers, b"").await;
    client.expect_interim(100).await;
    gateway.hand.advance(Duration::from_millis(20));
    client.send(COMMENT).await;
    upstream.wait_for(1).await;
    assert_eq!(scrape(&gateway).await["tollgate_requests_in_flight"], 1.0);
    gateway.hand.advance(Duration::from_millis(700));
    hand.advance(Duration::from_secs(1));
    client.read_response().await.assert_status(201);

    let series = settled(&gateway).await;
    let admission = |end: &str| series[&format!("tollgate_admission_duration_seconds_{end}")];
    assert_eq!(admission(r#"sum{outcome="admitted"}"#), 0.02);
    assert_eq!(admission(r#"bucket{outcome="admitted",le="0.01"}"#), 0.0);
    assert_eq!(admission(r#"bucket{outcome="admitted",le="0.025"}"#), 1.0);
    assert_eq!(series["tollgate_upstream_duration_seconds_sum"], 0.7);
    assert_eq!(series[r#"tollgate_upstream_duration_seconds_bucket{le="0.5"}"#], 0.0);
    assert_eq!(series[r#"tollgate_upstream_duration_seconds_bucket{le="1"}"#], 1.0);
}

#[tokio::test]
async fn the_metrics_show_the_policy_its_reloads_and_its_age_and_the_devices_of_the_inventory() {
    let folder = tempfile::tempdir().unwrap();
    write_policy(&policy(), folder.path());
    let upstream = upstream();
    let gateway = Setup::new(upstream.address()).policy_folder(folder.path()).start();
    let info = |files: &PolicyFiles| format!("tollgate_policy_info{{version=\"{}\"}}", version(files));
    gateway.hand.advance(Duration::from_secs(40));
    let series = scrape(&gateway).await;
    assert_eq!(series[&info(&policy())], 1.0);
    assert_eq!(series["tollgate_policy_age_seconds"], 40.0);
    assert_eq!(series["tollgate_inventory_devices"], 3.0);
    assert_eq!(series[r#"tollgate_policy_reloads_total{result="ok"}"#], 0.0);
    assert_eq!(series[r#"tollgate_policy_reloads_total{result="failed"}"#], 0.0);
    // The inventory has the date of its file.
    let written = std::fs::metadata(folder.path().join("devices.csv")).unwrap().modified().unwrap();
    let written = written.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let now = gateway.clock.wall().unix_seconds() as f64;
    assert!((series["tollgate_inventory_age_seconds"] - (now - written).max(0.0)).abs() < 1.0);

    let more = rewritten(
        policy(),
        "devices.csv",
        "Microsoft Entra Device ID\n",
        "Microsoft Entra Device ID\n9999999999999999999999999999999999999999,new,,Linux,,\n",
    );
    write_policy(&more, folder.path());
    let loaded = within_deadline("the count of the reload", async {
        loop {
            let series = scrape(&gateway).await;
            if series[r#"tollgate_policy_reloads_total{result="ok"}"#] > 0.0
                && series.contains_key(&info(&more))
            {
                return series;
            }
        }
    })
    .await;
    assert_eq!((loaded.get(&info(&policy())), loaded["tollgate_policy_age_seconds"]), (None, 0.0));
    assert_eq!(loaded["tollgate_inventory_devices"], 4.0);

    std::fs::write(folder.path().join("limits.toml"), "nonsense").unwrap();
    let failed = within_deadline("the count of the failure", async {
        loop {
            let series = scrape(&gateway).await;
            if series[r#"tollgate_policy_reloads_total{result="failed"}"#] > 0.0 {
                return series;
            }
        }
    })
    .await;
    assert_eq!((failed[&info(&more)], failed["tollgate_inventory_devices"]), (1.0, 4.0));
}

#[tokio::test]
async fn keys_of_callers_leave_the_limiter_when_no_window_counts_them_any_more() {
    let upstream = upstream();
    let gateway = TestGateway::start(upstream.address());
    gateway.collect(&playbooks(), WORKSTATION).await.assert_status(201);
    gateway.collect(&portal(), WORKSTATION).await.assert_status(201);
    assert_eq!(scrape(&gateway).await["tollgate_limiter_keys"], 2.0);
    gateway.hand.advance(Duration::from_secs(3_590));
    assert_eq!(scrape(&gateway).await["tollgate_limiter_keys"], 2.0);
    within_deadline("the sweep", async {
        while scrape(&gateway).await["tollgate_limiter_keys"] > 0.0 {
            gateway.hand.advance(Duration::from_secs(1));
        }
    })
    .await;
    assert!(gateway.clock.wall().unix_seconds() >= 1_795_513_600 + 3_600);
}

#[tokio::test]
async fn audit_lines_are_counted_as_written_and_attempts_that_failed_as_errors() {
    let upstream = upstream();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let gateway = Setup::new(upstream.address()).audit(&path).start();
    gateway.collect(&playbooks(), WORKSTATION).await.assert_status(201);
    gateway.collect(&playbooks(), EXECUTIVE).await.assert_status(403);
    let written = r#"tollgate_audit_lines_total{result="written"}"#;
    // That of the load, two and one.
    within_deadline("four lines", async { while scrape(&gateway).await[written] < 4.0 {} }).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 4);

    let broken = Setup::new(upstream.address()).audit("/dev/full").start();
    within_deadline("an error", async {
        while scrape(&broken).await["tollgate_audit_write_errors_total"] < 1.0 {}
    })
    .await;
    let series = scrape(&broken).await;
    assert_eq!((series[written], series[r#"tollgate_audit_lines_total{result="dropped"}"#]), (0.0, 0.0));
}

#[tokio::test]
async fn no_user_no_device_and_no_word_of_a_caller_stands_on_an_admin_page() {
    let upstream = upstream();
    let gateway = TestGateway::start(upstream.address());
    let user = Caller::user(tollgate::id::UserId::from_u128(0x00c0_ffee), "secret@test.example", PLAYBOOKS)
        .permissions(["Secret.Permission"]);
    let token = token(&user);
    let secret_path = "/api/machines/secret-device/collectInvestigationPackage";
    let authorization = format!("Bearer {token}");
    let headers = [
        ("Authorization", authorization.as_str()),
        ("X-Request-Id", "secret-id"),
        ("Content-Type", "application/json"),
    ];
    gateway.connect().await.request("POST", secret_path, &headers, COMMENT).await.assert_status(403);
    gateway.collect(&playbooks(), "secret-device").await.assert_status(404);
    gateway.connect().await.request("GET", "/secret/path", &headers, b"").await.assert_status(404);
    for page in ["/metrics", "/readyz", "/policy"] {
        let text = gateway.admin(page).await.text().to_lowercase();
        for word in ["secret", "c0ffee", "eyj", &PLAYBOOKS.to_string()] {
            assert!(!text.contains(word), "{word} on {page}");
        }
    }
}

#[tokio::test]
async fn strangers_who_hold_connections_open_leave_a_scrape_working() {
    let upstream = upstream();
    let gateway = TestGateway::start(upstream.address());
    let mut first = RawClient::connect(gateway.server().admin).await;
    let mut strangers = Vec::new();
    for begun in ["", "GET /met", "GET /metrics HTTP/1.1\r\nX: "].iter().cycle().take(200) {
        let mut stranger = RawClient::connect(gateway.server().admin).await;
        // One that came before may have been closed already.
        let _ = stranger.try_send(begun).await;
        strangers.push(stranger);
    }
    scrape(&gateway).await;
    gateway.admin("/readyz").await.assert_status(200);
    // At once, and not when the time of its header is over.
    let closed = Clock::System.timeout(Duration::from_secs(5), first.expect_close()).await;
    assert!(closed.is_ok(), "the one that came first is still there");
}
