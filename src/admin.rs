//! What an operator sees: `/metrics`, `/livez`, `/readyz`, `/policy` and `/limits`, on a listener of their own.
//!
//! It asks nobody who they are, so it is bound to loopback unless the operator says otherwise. It shows names from
//! policy files, counts and times, and of the fullest limits the ids of those that they count for; never a token.

mod limits;
mod listener;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

pub use limits::{Closed, Key, Limits, Window};

use crate::admit::Line;
use crate::journal::JournalNumbers;
use crate::reload::PolicyStore;
use crate::snapshot::Counts;
use crate::telemetry::metrics::{IssuerNumbers, Metrics, StateNumbers, TokenCachePart};
use crate::time::Wall;
use crate::token::{self, CacheState};

/// What the admin listener looks at.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The policy in force.
    pub policies: Arc<PolicyStore>,
    /// The windows and the clock.
    pub line: Arc<Line>,
    /// What Prometheus sees.
    pub metrics: Metrics,
    /// Set when the process is about to stop: readiness fails first.
    pub stopping: Arc<AtomicBool>,
}

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    /// Why not, in words; empty if ready.
    because: Vec<String>,
    policy_version: String,
    issuers: Vec<IssuerState>,
}

#[derive(Debug, Serialize)]
struct IssuerState {
    name: String,
    source: String,
    keys: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    fetched: Option<Wall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

impl From<token::IssuerState> for IssuerState {
    fn from(state: token::IssuerState) -> Self {
        Self {
            name: state.name.to_string(),
            source: state.source.to_string(),
            keys: state.keys,
            fetched: state.fetched,
            last_error: state.error.map(|error| error.to_string()),
        }
    }
}

/// The body of `/policy`.
#[derive(Debug, Serialize)]
struct Policy {
    version: String,
    loaded: Wall,
    age_seconds: u64,
    /// False if nothing of the set is enforced.
    enforced: bool,
    counts: Counts,
    #[serde(skip_serializing_if = "Option::is_none")]
    inventory_modified: Option<Wall>,
    /// The set on disk that was refused, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<RefusedSet>,
}

#[derive(Debug, Serialize)]
struct RefusedSet {
    at: Wall,
    problems: Vec<String>,
}

impl Admin {
    /// The pages.
    pub fn router(self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/policy", get(policy))
            .route("/limits", get(limits::limits))
            .with_state(self)
    }

    fn token_cache(&self) {
        let verifier = &self.policies.load().verifier;
        for (name, state) in [("good", verifier.remembered()), ("refused", verifier.remembered_refused())] {
            let CacheState { entries, bytes, hits, misses } = state;
            self.metrics.token_cache(&TokenCachePart { name, entries, bytes, hits, misses });
        }
    }

    /// Those of every limit in force, and of whatever was in force when they began.
    fn open_actions(&self) {
        let snapshot = self.policies.load();
        let mut counts = self.line.limiter.open_actions().count(&self.line.clock);
        for limit in snapshot.quotas.action_limits() {
            counts.entry(limit.clone()).or_default();
        }
        self.metrics.open_actions(counts);
    }

    fn state(&self) {
        let limiter = &self.line.limiter;
        let journals = [self.line.actions.journal(), limiter.journal(), limiter.open_actions().journal()];
        for (name, JournalNumbers { written, dropped, failures, lost_bytes }) in
            journals.into_iter().flatten()
        {
            self.metrics.state(&StateNumbers { name, written, dropped, failures, lost_bytes });
        }
    }

    fn issuers(&self) -> Vec<token::IssuerState> {
        self.policies.load().verifier.issuers(&self.line.clock).collect()
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let issuers = admin.issuers();
    admin.metrics.issuers(issuers.iter().map(|issuer| IssuerNumbers {
        issuer: &issuer.name,
        keys: issuer.keys,
        age: issuer.age,
        succeeded: issuer.fetches.succeeded,
        failed: issuer.fetches.failed,
    }));
    admin.token_cache();
    admin.state();
    admin.metrics.failed_login_addresses(admin.line.logins.addresses());
    admin.open_actions();
    admin.metrics.limiter_keys(admin.line.limiter.keys());
    admin.metrics.held_requests(admin.line.limiter.held());
    admin.metrics.upstream_closed(admin.line.limiter.closed(&admin.line.clock).len());
    let text = admin.metrics.render(admin.line.clock.wall());
    ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text)
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let issuers = admin.issuers();
    let mut because = Vec::new();
    if admin.stopping.load(Ordering::Acquire) {
        because.push("shutting down".to_owned());
    }
    if issuers.iter().all(|issuer| issuer.keys == 0) {
        because.push("no issuer has a key, so no token can be verified".to_owned());
    }
    let ready = because.is_empty();
    let without = issuers.iter().filter(|issuer| issuer.keys == 0);
    because.extend(without.map(|issuer| format!("issuer `{}` has no keys", issuer.name)));
    // One of several documents, which stand behind each other and are told apart below.
    because.dedup();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let policy_version = admin.policies.load().version.to_string();
    let issuers = issuers.into_iter().map(IssuerState::from).collect();
    (status, Json(Readiness { ready, because, policy_version, issuers })).into_response()
}

async fn policy(State(admin): State<Admin>) -> impl IntoResponse {
    let snapshot = admin.policies.load();
    Json(Policy {
        version: snapshot.version.to_string(),
        loaded: snapshot.loaded,
        age_seconds: admin.line.clock.wall().since(snapshot.loaded).as_secs(),
        enforced: !snapshot.policies.is_tried(),
        counts: snapshot.counts(),
        inventory_modified: admin.policies.inventory_date(),
        refused: admin.policies.refused().map(|refused| RefusedSet {
            at: refused.at,
            problems: refused.problems.iter().map(ToString::to_string).collect(),
        }),
    })
}
