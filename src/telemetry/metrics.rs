//! Every metric that Tollgate has: name, help and labels, in one table from which the metrics themselves are made.
//!
//! Labels are bounded. `operation` is a name from `operations.toml` or `none`, `application` a name from
//! `applications.toml` or `other`, `limit` a limit that is not enforced or counts actions, `reason` a word of [`ReasonCode`] or `none`, `issuer` one of `issuers.toml`; a
//! user, a device or a client's text is never a label.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, OnceLock};

use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    TextEncoder,
};

use crate::outcome::{Decision, Outcome, ReasonCode};
use crate::time::Wall;

mod buckets;
mod door;
mod facts;
mod family;
mod issuers;
mod limits;

use buckets::{ADMISSION_SECONDS, HELD_SECONDS, UPSTREAM_SECONDS};
pub use door::{InFlight, OpenConnection, RefusedConnection};
pub use facts::{AuditResult, LoadedPolicy, ReloadResult, StateNumbers, TokenCachePart};
pub use family::{MetricInfo, MetricKind};
pub use issuers::IssuerNumbers;

/// All metrics of a process. Cheap to clone; every clone counts into the same numbers.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

struct Inner {
    registry: Registry,
    families: Families,
    /// The series of `tollgate_requests_total` by the hash of their four label values. Two label sets of one hash
    /// would be counted as one: with 10,000 series of 64-bit hashes, one chance in 3 * 10^11.
    requests: RwLock<HashMap<u64, IntCounter, RandomState>>,
    hasher: RandomState,
    /// The series that every request counts into, found once.
    admission: [OnceLock<Histogram>; 2],
    token_ok: OnceLock<IntCounter>,
    /// The policy in force. Held while gauges that belong together change and while a scrape is made, so that no
    /// scrape shows two versions or none.
    loaded: Mutex<Option<(Wall, Option<Wall>)>>,
}

/// Declares the metrics: [`ALL`] and the struct that holds them are made from the same lines.
macro_rules! metrics {
    ($($field:ident: $type:ty = $name:literal [$($label:literal),*] $(in $buckets:ident)?, $help:literal;)*) => {
        /// Every metric of Tollgate's own, in the order of the README's table.
        pub const ALL: &[MetricInfo] = &[$(
            MetricInfo::of::<$type>($name, $help, &[$($label),*], metrics!(@buckets $($buckets)?)),
        )*];

        struct Families {
            $($field: $type,)*
        }

        impl Families {
            fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
                Ok(Self {$(
                    $field: MetricInfo::of::<$type>($name, $help, &[$($label),*], metrics!(@buckets $($buckets)?))
                        .register(registry)?,
                )*})
            }
        }
    };
    (@buckets) => { &[] };
    (@buckets $buckets:ident) => { $buckets };
}

metrics! {
    requests: IntCounterVec = "tollgate_requests_total" ["operation", "outcome", "reason", "application"],
        "Requests decided, by the operation they matched (`none`), whether they were `admitted` or `refused`, the reason (`none`) and the application (`other`).";
    malformed: IntCounterVec = "tollgate_malformed_requests_total" ["kind"],
        "Requests refused before any policy was asked because they could be read in two ways or not at all.";
    in_flight: IntGauge = "tollgate_requests_in_flight" [],
        "Requests whose header has arrived and whose answer is not complete.";
    connections: IntGauge = "tollgate_connections" [],
        "Connections of clients that are open.";
    refused_connections: IntCounterVec = "tollgate_connections_refused_total" ["reason"],
        "Connections closed as soon as they were accepted: too many in all (`total`) or of one address (`address`), or of a balancer without a PROXY header (`proxy`).";
    panics: IntCounter = "tollgate_panics_total" [],
        "Requests that ended in a fault of Tollgate's own code; each is to be reported.";
    admission: HistogramVec = "tollgate_admission_duration_seconds" ["outcome"] in ADMISSION_SECONDS,
        "From the arrival of a request's header to the decision.";
    upstream: Histogram = "tollgate_upstream_duration_seconds" [] in UPSTREAM_SECONDS,
        "From forwarding a request to the header of the API's answer.";
    tokens: IntCounterVec = "tollgate_tokens_verified_total" ["result"],
        "Tokens verified: `ok`, or the reason why not.";
    cache_lookups: IntCounterVec = "tollgate_token_cache_lookups_total" ["part", "result"],
        "Tokens looked for among those that were judged before, in the part of the `good` or of the `refused`: `hit` or `miss`.";
    cache_entries: IntGaugeVec = "tollgate_token_cache_entries" ["part"],
        "Tokens that are remembered.";
    cache_bytes: IntGaugeVec = "tollgate_token_cache_bytes" ["part"],
        "What they count for in memory.";
    failed_logins: IntGauge = "tollgate_failed_login_addresses" [],
        "Addresses whose failed logins are counted each by itself.";
    issuer_keys: IntGaugeVec = "tollgate_issuer_keys" ["issuer"],
        "Signing keys held for an issuer (for the document with the fewest, if it has several); without one, tokens are answered with 503.";
    issuer_age: GaugeVec = "tollgate_issuer_keys_age_seconds" ["issuer"],
        "Since the keys of an issuer were fetched (the oldest, if it has several documents); past `keep_keys` they are not used.";
    issuer_fetches: IntCounterVec = "tollgate_issuer_fetches_total" ["issuer", "result"],
        "Fetches of an issuer's keys: `ok`, or `failed` with the last good keys kept.";
    policy_info: IntGaugeVec = "tollgate_policy_info" ["version"],
        "Always 1; the label is the version of the policy in force.";
    policy_age: GaugeVec = "tollgate_policy_age_seconds" [],
        "Since the policy in force was loaded.";
    reloads: IntCounterVec = "tollgate_policy_reloads_total" ["result"],
        "Reloads of the policy: `ok`, or `failed` with the last good one left in force.";
    inventory_age: GaugeVec = "tollgate_inventory_age_seconds" [],
        "Since the device inventory was made.";
    devices: IntGauge = "tollgate_inventory_devices" [],
        "Devices in the inventory.";
    limiter_keys: IntGauge = "tollgate_limiter_keys" [],
        "Keys that the limiter holds: one for each caller, or whatever a limit counts by, seen within its window.";
    open_actions: IntGaugeVec = "tollgate_open_actions" ["limit"],
        "Actions under way, as a limit with `open_actions` counts them, and calls that may start one.";
    held: IntGauge = "tollgate_held_requests" [],
        "Calls that wait for their turn in a limit with `when_full = { wait = … }`.";
    held_seconds: HistogramVec = "tollgate_held_seconds" ["outcome"] in HELD_SECONDS,
        "How long calls were held, by whether they were `admitted` then or `refused`, those whose caller went away included.";
    shadow_refusals: IntCounterVec = "tollgate_shadow_refusals_total" ["reason", "application"],
        "Calls that passed and that the policy set, a role, a device group or a limit with `enforce = false` would have refused, by the reason.";
    limit_shadow_refusals: IntCounterVec = "tollgate_limit_shadow_refusals_total" ["limit"],
        "Calls that passed and that a limit with `enforce = false` would have refused.";
    group_shadow_refusals: IntCounterVec = "tollgate_device_group_shadow_refusals_total" ["application"],
        "Calls that passed and that a device group with `enforce = false` would have refused.";
    upstream_limited: IntCounterVec = "tollgate_upstream_limited_total" ["operation", "retry_after"],
        "Answers 429 of the API itself, which close the operation to the application: for how long it `said`, for an hour since it said longer (`capped`), or for a minute since it said nothing (`unsaid`).";
    upstream_closed: IntGauge = "tollgate_upstream_closed" [],
        "Operations that the API's 429 has closed, each to one application, or that are being opened again.";
    audit_lines: IntCounterVec = "tollgate_audit_lines_total" ["result"],
        "Audit lines: `written` to the file, or `dropped`.";
    audit_errors: IntCounter = "tollgate_audit_write_errors_total" [],
        "Attempts to write or reopen the audit file that failed and are repeated.";
    state_records: IntCounterVec = "tollgate_state_records_total" ["state", "result"],
        "Records for the files in the state folder: `written`, or `dropped` since their queue was full.";
    state_errors: IntCounterVec = "tollgate_state_write_errors_total" ["state"],
        "Attempts to write to the state folder that failed and are repeated.";
    state_lost: IntGaugeVec = "tollgate_state_lost_bytes" ["state"],
        "Bytes at the end of a file in the state folder that were cut off or damaged at the start, and given up.";
}

/// The metrics of the process that the Prometheus library makes; their names are the ecosystem's.
const PROCESS: &[(&str, MetricKind)] = &[
    ("process_cpu_seconds_total", MetricKind::Counter),
    ("process_open_fds", MetricKind::Gauge),
    ("process_max_fds", MetricKind::Gauge),
    ("process_virtual_memory_bytes", MetricKind::Gauge),
    ("process_resident_memory_bytes", MetricKind::Gauge),
    ("process_start_time_seconds", MetricKind::Gauge),
    ("process_threads", MetricKind::Gauge),
];

// === impl Metrics ===

impl Metrics {
    /// The `Content-Type` of what [`render`](Self::render) returns.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// The most series of `tollgate_requests_total`: about 2 MB of text at each scrape. Names that left the policy
    /// keep their series, since a counter that vanishes reads as one that was reset; past this bound a new
    /// combination is counted with `other` as its operation and application.
    const MAX_REQUEST_SERIES: usize = 10_000;

    /// All metrics at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        #[expect(
            clippy::expect_used,
            reason = "by INVARIANT: the table is constant, and a test registers it"
        )]
        let families = Families::register(&registry).expect("every name and label in the table is valid");
        #[expect(clippy::expect_used, reason = "by INVARIANT: no name in the table begins with `process_`")]
        registry.register(Box::new(ProcessCollector::for_self())).expect("the process is registered once");

        // A series that may stay at zero for months is shown from the start, so that its first event is a change.
        for result in [ReloadResult::Loaded, ReloadResult::Failed] {
            families.reloads.with_label_values(&[result.as_str()]);
        }
        for result in [AuditResult::Written, AuditResult::Dropped] {
            families.audit_lines.with_label_values(&[result.as_str()]);
        }
        for decision in [Decision::Admitted, Decision::Refused] {
            families.held_seconds.with_label_values(&[decision.as_str()]);
        }
        for reason in [RefusedConnection::Total, RefusedConnection::Address, RefusedConnection::Proxy] {
            families.refused_connections.with_label_values(&[reason.as_str()]);
        }
        Self(Arc::new(Inner {
            registry,
            families,
            requests: RwLock::default(),
            hasher: RandomState::default(),
            admission: Default::default(),
            token_ok: OnceLock::new(),
            loaded: Mutex::new(None),
        }))
    }

    /// Counts a request at its end.
    pub fn request(&self, outcome: &Outcome) {
        let Inner { families, admission: [admitted, refused], .. } = &*self.0;
        let (series, word) = match outcome.decision {
            Decision::Admitted => (admitted, Decision::Admitted.as_str()),
            Decision::Refused => (refused, Decision::Refused.as_str()),
        };
        let series = series.get_or_init(|| families.admission.with_label_values(&[word]));
        series.observe(outcome.admission.as_secs_f64());
        if let Some(held) = outcome.findings.held {
            families.held_seconds.with_label_values(&[word]).observe(held.as_secs_f64());
        }
        if let Some(latency) = outcome.upstream_latency {
            families.upstream.observe(latency.as_secs_f64());
        }
        if outcome.decision == Decision::Admitted {
            for limit in &outcome.findings.overrun {
                families.limit_shadow_refusals.with_label_values(&[limit.as_str()]).inc();
            }
        }
        let operation = outcome.findings.operation.as_ref().map_or("none", |name| name.as_str());
        let application = outcome.findings.application.as_ref().map_or("other", |name| name.as_str());
        if let (Decision::Admitted, Some(reason)) = (outcome.decision, outcome.findings.would_refuse()) {
            families.shadow_refusals.with_label_values(&[reason.as_str(), application]).inc();
            if !outcome.findings.scope.overrun.is_empty() {
                families.group_shadow_refusals.with_label_values(&[application]).inc();
            }
        }
        self.count_request(operation, outcome.decision, outcome.reason, application);
    }

    fn count_request(
        &self,
        operation: &str,
        decision: Decision,
        reason: Option<ReasonCode>,
        application: &str,
    ) {
        let Inner { families, requests, hasher, .. } = &*self.0;
        let (decision, reason) = (decision.as_str(), reason.map_or("none", ReasonCode::as_str));
        let key = hasher.hash_one((operation, decision, reason, application));
        if let Some(counter) = requests.read().get(&key) {
            return counter.inc();
        }
        let mut requests = requests.write();
        if requests.len() < Self::MAX_REQUEST_SERIES {
            let labels = [operation, decision, reason, application];
            requests.entry(key).or_insert_with(|| families.requests.with_label_values(&labels)).inc();
        } else {
            families.requests.with_label_values(&["other", decision, reason, "other"]).inc();
        }
    }

    /// Counts a token: verified, or refused for this reason.
    pub fn token(&self, result: Result<(), ReasonCode>) {
        let tokens = &self.0.families.tokens;
        match result {
            Ok(()) => self.0.token_ok.get_or_init(|| tokens.with_label_values(&["ok"])).inc(),
            Err(reason) => tokens.with_label_values(&[reason.as_str()]).inc(),
        }
    }

    /// Shows how a part of the tokens that were judged before stands.
    pub fn token_cache(&self, part: &TokenCachePart) {
        let _scrape = self.0.loaded.lock();
        let Families { cache_lookups, cache_entries, cache_bytes, .. } = &self.0.families;
        for (result, total) in [("hit", part.hits), ("miss", part.misses)] {
            bring_to(&cache_lookups.with_label_values(&[part.name, result]), total);
        }
        cache_entries.with_label_values(&[part.name]).set(as_gauge(part.entries));
        cache_bytes.with_label_values(&[part.name]).set(i64::try_from(part.bytes).unwrap_or(i64::MAX));
    }

    /// Shows how many addresses have failed logins.
    pub fn failed_login_addresses(&self, addresses: usize) {
        self.0.families.failed_logins.set(as_gauge(addresses));
    }

    /// Shows how a file of the state folder stands.
    pub fn state(&self, state: &StateNumbers) {
        let _scrape = self.0.loaded.lock();
        let Families { state_records, state_errors, state_lost, .. } = &self.0.families;
        for (result, total) in [("written", state.written), ("dropped", state.dropped)] {
            bring_to(&state_records.with_label_values(&[state.name, result]), total);
        }
        bring_to(&state_errors.with_label_values(&[state.name]), state.failures);
        state_lost.with_label_values(&[state.name]).set(i64::try_from(state.lost_bytes).unwrap_or(i64::MAX));
    }

    /// Counts a reload, successful or not. The load at the start is none.
    pub fn reload(&self, result: ReloadResult) {
        self.0.families.reloads.with_label_values(&[result.as_str()]).inc();
    }

    /// Shows the policy that came into force, in the place of the one before.
    pub fn policy_loaded(&self, policy: &LoadedPolicy<'_>) {
        let mut loaded = self.0.loaded.lock();
        let families = &self.0.families;
        families.policy_info.reset();
        families.policy_info.with_label_values(&[policy.version]).set(1);
        families.devices.set(as_gauge(policy.devices));
        *loaded = Some((policy.at, policy.inventory_at));
    }

    /// Counts audit lines.
    pub(crate) fn audit_lines(&self, result: AuditResult, lines: u64) {
        self.0.families.audit_lines.with_label_values(&[result.as_str()]).inc_by(lines);
    }

    /// Counts a failed attempt to write the audit file.
    pub(crate) fn audit_error(&self) {
        self.0.families.audit_errors.inc();
    }

    /// Everything in the text format 0.0.4. The ages are as of `now`.
    pub fn render(&self, now: Wall) -> String {
        let loaded = self.0.loaded.lock();
        let Families { policy_age, inventory_age, .. } = &self.0.families;
        let (policy_at, inventory_at) =
            loaded.map_or((None, None), |(policy, inventory)| (Some(policy), inventory));
        show_age(policy_age, policy_at, now);
        show_age(inventory_age, inventory_at, now);
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.0.registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics could not be written whole");
        }
        text
    }

    /// The README's table of metrics, in Markdown.
    pub fn readme_table() -> String {
        let own = ALL.iter().map(|info| {
            let labels: Vec<_> = info.labels.iter().map(|label| format!("`{label}`")).collect();
            format!("| `{}` | {} | {} | {} |\n", info.name, info.kind.as_str(), labels.join(", "), info.help)
        });
        let process = ProcessCollector::for_self();
        let process = process
            .desc()
            .into_iter()
            .zip(PROCESS)
            .map(|(desc, (name, kind))| format!("| `{name}` | {} | | {} |\n", kind.as_str(), desc.help));
        let head = "| metric | kind | labels | meaning |\n|---|---|---|---|\n".to_owned();
        std::iter::once(head).chain(own).chain(process).collect()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows a total that is counted elsewhere: what is new since the last scrape is added.
fn bring_to(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// Sets a gauge of seconds, or hides it where there is nothing that has an age.
fn show_age(gauge: &GaugeVec, since: Option<Wall>, now: Wall) {
    match since {
        Some(since) => gauge.with_label_values::<&str>(&[]).set(now.since(since).as_secs_f64()),
        None => gauge.reset(),
    }
}

/// A count as a gauge takes it.
fn as_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
