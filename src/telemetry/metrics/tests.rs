use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::id::{LimitName, RequestId};
use crate::outcome::Findings;

const NOON: Wall = Wall::from_unix_seconds(1_767_268_800);

fn outcome(decision: Decision, reason: Option<ReasonCode>, findings: Findings) -> Outcome {
    Outcome {
        request_id: RequestId::from_u128(1),
        client_request_id: None,
        received: NOON,
        address: None,
        policy_version: "v1".into(),
        decision,
        reason,
        findings,
        admission: Duration::from_micros(40),
        upstream_status: None,
        upstream_latency: None,
        total: Duration::from_micros(50),
    }
}

/// The value of the series that the text shows under exactly this name and these labels.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.render(NOON);
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
        .map(|value| value.parse().unwrap())
}

/// The names of the metrics in the text, from its `# TYPE` lines.
fn names(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

#[test]
fn a_request_is_counted_under_its_names_or_under_none_and_other() {
    let metrics = Metrics::new();
    let known = Findings {
        operation: Some("collect".parse().unwrap()),
        application: Some("soar".into()),
        ..Findings::default()
    };
    let mut admitted = outcome(Decision::Admitted, None, known);
    admitted.upstream_latency = Some(Duration::from_millis(3));
    metrics.request(&admitted);
    metrics.request(&admitted);
    metrics.request(&outcome(Decision::Refused, Some(ReasonCode::NoToken), Findings::default()));

    let requests = |labels: &str| value(&metrics, &format!("tollgate_requests_total{{{labels}}}"));
    assert_eq!(
        requests(r#"application="soar",operation="collect",outcome="admitted",reason="none""#),
        Some(2.0)
    );
    assert_eq!(
        requests(r#"application="other",operation="none",outcome="refused",reason="no_token""#),
        Some(1.0)
    );
    let admission = r#"tollgate_admission_duration_seconds_bucket{outcome="admitted",le="0.00005"}"#;
    assert_eq!(value(&metrics, admission), Some(2.0));
    assert_eq!(value(&metrics, "tollgate_upstream_duration_seconds_count"), Some(2.0));
    assert_eq!(value(&metrics, r#"tollgate_upstream_duration_seconds_bucket{le="0.0025"}"#), Some(0.0));
}

#[test]
fn the_series_of_requests_are_bounded_and_what_is_past_the_bound_is_still_counted() {
    let metrics = Metrics::new();
    for number in 0..Metrics::MAX_REQUEST_SERIES + 3 {
        let operation = Some(number.to_string().parse().unwrap());
        metrics.request(&outcome(Decision::Admitted, None, Findings { operation, ..Findings::default() }));
    }
    let text = metrics.render(NOON);
    let series = text.lines().filter(|line| line.starts_with("tollgate_requests_total{")).count();
    assert_eq!(series, Metrics::MAX_REQUEST_SERIES + 1);
    let other =
        r#"tollgate_requests_total{application="other",operation="other",outcome="admitted",reason="none"}"#;
    assert_eq!(value(&metrics, other), Some(3.0));
}

#[test]
fn a_request_is_in_flight_for_as_long_as_its_guard_lives() {
    let metrics = Metrics::new();
    let guards = (metrics.in_flight(), metrics.in_flight());
    assert_eq!(value(&metrics, "tollgate_requests_in_flight"), Some(2.0));
    drop(guards);
    assert_eq!(value(&metrics, "tollgate_requests_in_flight"), Some(0.0));
}

#[test]
fn only_the_policy_in_force_is_shown_and_its_age_is_that_of_the_scrape() {
    let metrics = Metrics::new();
    assert!(!metrics.render(NOON).contains("_age_seconds"), "nothing has an age before it is loaded");

    let first = LoadedPolicy { version: "v1", at: NOON, inventory_at: Some(NOON), devices: 7 };
    metrics.policy_loaded(&first);
    let second =
        LoadedPolicy { version: "v2", at: NOON + Duration::from_secs(60), inventory_at: None, devices: 9 };
    metrics.policy_loaded(&second);

    let text = metrics.render(NOON + Duration::from_secs(90));
    assert!(text.contains("tollgate_policy_info{version=\"v2\"} 1\n"), "{text}");
    assert!(!text.contains("v1"), "{text}");
    assert!(text.contains("\ntollgate_policy_age_seconds 30\n"), "{text}");
    assert!(text.contains("\ntollgate_inventory_devices 9\n"), "{text}");
    assert!(!text.contains("tollgate_inventory_age_seconds"), "{text}");
}

fn keys(issuer: &str, keys: usize) -> IssuerNumbers<'_> {
    IssuerNumbers { issuer, keys, age: Some(Duration::from_secs(60)), succeeded: 1, failed: 0 }
}

#[test]
fn an_issuer_that_left_the_policy_is_shown_no_more() {
    let metrics = Metrics::new();
    metrics.issuers([keys("a", 2), keys("b", 0)]);
    metrics.issuers([keys("b", 3)]);
    assert_eq!(value(&metrics, r#"tollgate_issuer_keys{issuer="a"}"#), None);
    assert_eq!(value(&metrics, r#"tollgate_issuer_fetches_total{issuer="a",result="ok"}"#), None);
    assert_eq!(value(&metrics, r#"tollgate_issuer_keys{issuer="b"}"#), Some(3.0));
    assert_eq!(value(&metrics, r#"tollgate_issuer_fetches_total{issuer="b",result="ok"}"#), Some(1.0));
}

#[test]
fn an_issuer_of_several_documents_is_shown_by_its_worst() {
    let metrics = Metrics::new();
    let away = IssuerNumbers { age: Some(Duration::from_secs(90)), failed: 2, ..keys("a", 0) };
    let never = IssuerNumbers { age: None, succeeded: 0, failed: 3, ..keys("a", 0) };
    metrics.issuers([keys("a", 2), away, never, keys("a", 4)]);
    assert_eq!(value(&metrics, r#"tollgate_issuer_keys{issuer="a"}"#), Some(0.0));
    assert_eq!(value(&metrics, r#"tollgate_issuer_keys_age_seconds{issuer="a"}"#), Some(90.0));
    assert_eq!(value(&metrics, r#"tollgate_issuer_fetches_total{issuer="a",result="ok"}"#), Some(3.0));
    assert_eq!(value(&metrics, r#"tollgate_issuer_fetches_total{issuer="a",result="failed"}"#), Some(5.0));
}

#[test]
fn every_event_has_a_counter_of_its_own() {
    let metrics = Metrics::new();
    metrics.token(Ok(()));
    metrics.token(Err(ReasonCode::Expired));
    metrics.reload(ReloadResult::Failed);
    metrics.malformed("dot_segment");
    metrics.limiter_keys(12);
    metrics.open_actions([(LimitName::from("gone"), 1)]);
    metrics.open_actions([(LimitName::from("sessions"), 25)]);
    metrics.failed_login_addresses(3);
    for hits in [5, 9, 9] {
        // Totals, of which a scrape adds what is new.
        metrics.token_cache(&TokenCachePart { name: "refused", entries: 2, bytes: 700, hits, misses: 1 });
    }
    assert_eq!(value(&metrics, r#"tollgate_open_actions{limit="gone"}"#), None);
    for (series, expected) in [
        (r#"tollgate_open_actions{limit="sessions"}"#, 25.0),
        (r#"tollgate_tokens_verified_total{result="ok"}"#, 1.0),
        (r#"tollgate_tokens_verified_total{result="expired"}"#, 1.0),
        (r#"tollgate_policy_reloads_total{result="ok"}"#, 0.0),
        (r#"tollgate_policy_reloads_total{result="failed"}"#, 1.0),
        (r#"tollgate_malformed_requests_total{kind="dot_segment"}"#, 1.0),
        ("tollgate_limiter_keys", 12.0),
        ("tollgate_failed_login_addresses", 3.0),
        (r#"tollgate_token_cache_lookups_total{part="refused",result="hit"}"#, 9.0),
        (r#"tollgate_token_cache_lookups_total{part="refused",result="miss"}"#, 1.0),
        (r#"tollgate_token_cache_entries{part="refused"}"#, 2.0),
        (r#"tollgate_token_cache_bytes{part="refused"}"#, 700.0),
        (r#"tollgate_audit_lines_total{result="dropped"}"#, 0.0),
    ] {
        assert_eq!(value(&metrics, series), Some(expected), "{series}");
    }
}

#[test]
fn what_a_scrape_shows_is_what_the_table_lists() {
    let metrics = Metrics::new();
    let overrun = [LimitName::from("on-trial")].into_iter().collect();
    let scope =
        crate::principal::Scope { overrun: ["on-trial".into()].into_iter().collect(), ..Default::default() };
    metrics.request(&Outcome {
        upstream_latency: Some(Duration::ZERO),
        ..outcome(
            Decision::Admitted,
            None,
            Findings { overrun, scope, held: Some(Duration::ZERO), ..Findings::default() },
        )
    });
    metrics.token(Ok(()));
    metrics.malformed("dot_segment");
    metrics.upstream_limited(&"read".parse().unwrap(), "said");
    metrics.issuers([keys("a", 1)]);
    metrics.token_cache(&TokenCachePart { name: "good", entries: 1, bytes: 2_048, hits: 3, misses: 4 });
    metrics.open_actions([(LimitName::from("sessions"), 1)]);
    metrics.state(&StateNumbers { name: "actions", written: 1, dropped: 0, failures: 0, lost_bytes: 0 });
    metrics.policy_loaded(&LoadedPolicy { version: "v1", at: NOON, inventory_at: Some(NOON), devices: 0 });

    let text = metrics.render(NOON);
    let table = Metrics::readme_table();
    let rows = table.lines().skip(2).map(|row| row.split('`').nth(1).unwrap());
    assert_eq!(names(&text), rows.collect::<BTreeSet<_>>());
    for info in ALL {
        let kind = format!("# TYPE {} {}\n", info.name, info.kind.as_str());
        assert!(text.contains(&kind), "{kind}");
    }
    for (name, kind) in PROCESS {
        assert!(text.contains(&format!("# TYPE {name} {}\n", kind.as_str())), "{name}");
    }
}

#[test]
fn names_follow_the_rules_of_prometheus() {
    for info in ALL {
        assert!(info.name.starts_with("tollgate_"), "{}", info.name);
        assert_eq!(info.kind == MetricKind::Counter, info.name.ends_with("_total"), "{}", info.name);
        assert_eq!(info.kind == MetricKind::Histogram, !info.buckets.is_empty(), "{}", info.name);
        assert!(info.kind != MetricKind::Histogram || info.name.ends_with("_seconds"), "{}", info.name);
        assert!(info.help.ends_with('.') && !info.help.contains('|'), "{}", info.name);
        assert!(info.labels.iter().all(|label| !["user", "device"].contains(label)), "{}", info.name);
    }
}
