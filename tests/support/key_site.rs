//! An issuer's documents on a port of their own, changed by the test while they are fetched.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tollgate::sandbox::issuer::{Issuer, TokenVersion};
use tollgate::source::PolicyFiles;

use crate::support::gateway::{TENANT, policy_with};
use crate::support::within_deadline;

/// The discovery document and the keys of v1 tokens of [`TENANT`], for as long as it lives.
pub(crate) struct KeySite {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Aborts what it runs when it is dropped.
    _server: JoinSet<()>,
}

struct Shared {
    issuer: String,
    keys: watch::Sender<Keys>,
    fetches: AtomicUsize,
    /// Told of each fetch of the keys that begins.
    fetched: Notify,
}

/// What is answered to a fetch of the keys.
#[derive(Clone)]
enum Keys {
    Published(Value),
    Failing,
    Hanging,
}

// === impl KeySite ===

impl KeySite {
    /// One that publishes the key of this issuer.
    pub(crate) fn start(issuer: &Issuer) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            issuer: issuer.issuer_of(TENANT, TokenVersion::V1),
            keys: watch::Sender::new(Keys::Failing),
            fetches: AtomicUsize::new(0),
            fetched: Notify::new(),
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .with_state((address, shared.clone()));
        let mut server = JoinSet::new();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let site = Self { address, shared, _server: server };
        site.publish(&[issuer]);
        site
    }

    /// Publishes the keys of these from now on.
    pub(crate) fn publish(&self, issuers: &[&Issuer]) {
        let keys = issuers
            .iter()
            .flat_map(|issuer| issuer.key_set(TokenVersion::V1)["keys"].as_array().unwrap().clone());
        let keys = json!({ "keys": keys.collect::<Vec<_>>() });
        self.shared.keys.send_replace(Keys::Published(keys));
    }

    /// Answers 500 from now on.
    pub(crate) fn fail(&self) {
        self.shared.keys.send_replace(Keys::Failing);
    }

    /// Answers nothing from now on, until it is told otherwise.
    pub(crate) fn hang(&self) {
        self.shared.keys.send_replace(Keys::Hanging);
    }

    /// How many fetches of the keys have begun.
    pub(crate) fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    /// Waits until so many fetches of the keys have begun.
    pub(crate) async fn wait_for_fetches(&self, count: usize) {
        let fetched = async {
            loop {
                let notified = self.shared.fetched.notified();
                tokio::pin!(notified);
                notified.as_mut().enable();
                if self.fetches() >= count {
                    return;
                }
                notified.await;
            }
        };
        within_deadline("a fetch of the keys", fetched).await;
    }

    /// The policy whose only issuer is this one.
    pub(crate) fn policy(&self) -> PolicyFiles {
        let issuers = format!(
            r#"
            [[issuer]]
            name      = "site"
            issuer    = "{}"
            tenants   = ["{TENANT}"]
            audiences = ["https://api.securitycenter.microsoft.com"]
            discovery = "http://{}/.well-known/openid-configuration"
            "#,
            self.shared.issuer, self.address
        );
        policy_with("issuers.toml", &issuers)
    }
}

type Site = State<(SocketAddr, Arc<Shared>)>;

async fn discovery(State((address, shared)): Site) -> Json<Value> {
    Json(json!({"issuer": shared.issuer, "jwks_uri": format!("http://{address}/keys")}))
}

async fn keys(State((_, shared)): Site) -> Response {
    shared.fetches.fetch_add(1, Ordering::SeqCst);
    shared.fetched.notify_waiters();
    let mut keys = shared.keys.subscribe();
    let keys = keys.wait_for(|keys| !matches!(keys, Keys::Hanging)).await.unwrap().clone();
    match keys {
        // Five minutes: the shortest time between two fetches in turn.
        Keys::Published(keys) => ([("Cache-Control", "max-age=300")], Json(keys)).into_response(),
        Keys::Failing | Keys::Hanging => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
