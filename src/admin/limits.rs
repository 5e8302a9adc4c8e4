//! `/limits`: the fullest keys, who waits, and what the API itself has closed.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::Admin;
use crate::id::ApplicationId;
use crate::limit::{ClosedLane, FullKey, FullWindow, Lane, MAX_TOP};
use crate::policy::PolicySet;

/// The body of `/limits`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Limits {
    /// The version of the set whose limits they are.
    pub policy_version: String,
    /// How many keys the limiter holds.
    pub keys: usize,
    /// How many it may hold.
    pub max_keys: u32,
    /// The fullest of them, the fullest first.
    pub fullest: Vec<Key>,
    /// How many calls are held until their turn.
    pub held: usize,
    /// What the API's own 429 has closed, longest first, as many as keys are shown.
    pub closed: Vec<Closed>,
}

/// An operation that the API has closed to an application.
#[derive(Debug, Serialize, Deserialize)]
pub struct Closed {
    /// The operation.
    pub operation: String,
    /// The tenant's id.
    pub tenant: String,
    /// The application by its name in `applications.toml`, or else by its id.
    pub application: String,
    /// For how long no call of it goes, in milliseconds; 0 while it is being opened again.
    pub opens_in_ms: u64,
    /// How many calls wait until another one has ended.
    pub waiting: usize,
}

/// A key, by whom it counts for: what its limit does not count by is absent.
#[derive(Debug, Serialize, Deserialize)]
pub struct Key {
    /// The limit's name.
    pub limit: String,
    /// Whose part of the limit it is, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// The tenant's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The application by its name in `applications.toml`, or else by its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// The user's object id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The device's id, or `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The device group, or `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_group: Option<String>,
    /// Each window, the shortest first.
    pub windows: Vec<Window>,
    /// When no window counts any of its calls, if nobody calls, in milliseconds.
    pub empty_in_ms: u64,
}

/// How full one window is.
#[derive(Debug, Serialize, Deserialize)]
pub struct Window {
    /// Its length, as `limits.toml` spells it: `minute`, `90s`.
    pub window: String,
    /// How many calls it counts.
    pub used: u32,
    /// How many it holds.
    pub of: u32,
    /// When the next place is free, if nobody calls, in milliseconds.
    pub frees_in_ms: u64,
}

/// How many keys are shown if the query does not say.
const TOP: usize = 20;

/// Answers `/limits?top=N`.
pub(super) async fn limits(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    let top = match top(query.as_deref().unwrap_or_default()) {
        Ok(top) => top,
        Err(sentence) => return (StatusCode::BAD_REQUEST, sentence).into_response(),
    };
    // It looks at every key, and other pages are not to wait for that.
    let looked = tokio::task::spawn_blocking(move || admin.limits(top)).await;
    match looked {
        Ok(limits) => Json(limits).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The number that the query asks for.
fn top(query: &str) -> Result<usize, String> {
    let asked = match query {
        "" => Some(TOP),
        query => query.strip_prefix("top=").and_then(|number| number.parse().ok()),
    };
    asked
        .filter(|top| (1..=MAX_TOP).contains(top))
        .ok_or_else(|| format!("the query must be `top=` and a number from 1 to {MAX_TOP}\n"))
}

impl Admin {
    fn limits(&self, top: usize) -> Limits {
        let snapshot = self.policies.load();
        let limiter = &self.line.limiter;
        let closed = limiter.closed(&self.line.clock).into_iter().take(top);
        let fullest = limiter.fullest(&snapshot.quotas, top, &self.line.clock);
        Limits {
            policy_version: snapshot.version.to_string(),
            keys: limiter.keys(),
            max_keys: snapshot.quotas.max_keys().get(),
            fullest: fullest.into_iter().map(|key| Key::new(key, &snapshot.policies)).collect(),
            held: limiter.held(),
            closed: closed.map(|closed| Closed::new(closed, &snapshot.policies)).collect(),
        }
    }
}

// === impl Key ===

impl Key {
    fn new(key: FullKey, policies: &PolicySet) -> Self {
        let FullKey { limit, part, whose, windows, empty_in } = key;
        let named = |text: String| if text.is_empty() { "unknown".to_owned() } else { text };
        let application = whose.application.map(|id| name_of(&id, policies));
        Self {
            limit: limit.to_string(),
            part: part.map(|part| part.to_string()),
            tenant: whose.tenant.map(|id| id.to_string()),
            application,
            user: whose.user.map(|id| id.to_string()),
            operation: whose.operation.map(|id| id.to_string()),
            device: whose.device.map(named),
            device_group: whose.device_group.map(named),
            windows: windows.into_iter().map(Window::from).collect(),
            empty_in_ms: millis(empty_in),
        }
    }
}

impl Closed {
    fn new(closed: ClosedLane, policies: &PolicySet) -> Self {
        let ClosedLane { lane: Lane { operation, tenant, application }, opens_in, waiting } = closed;
        Self {
            operation: operation.to_string(),
            tenant: tenant.to_string(),
            application: name_of(&application, policies),
            opens_in_ms: millis(opens_in),
            waiting,
        }
    }
}

fn name_of(application: &ApplicationId, policies: &PolicySet) -> String {
    let mut names = policies.application_names(application);
    match (names.next(), names.next()) {
        (Some(name), None) => name.to_string(),
        // None, or one in each of several tenants.
        (None | Some(_), _) => application.to_string(),
    }
}

impl From<FullWindow> for Window {
    fn from(FullWindow { rate, used, frees_in }: FullWindow) -> Self {
        let (window, of) = (rate.window.to_string(), rate.count.get());
        Self { window, used, of, frees_in_ms: millis(frees_in) }
    }
}

/// Rounded up: a place is free then.
fn millis(long: std::time::Duration) -> u64 {
    u64::try_from(long.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
