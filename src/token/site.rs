//! An issuer on the loopback for the tests of this room, whose answers a test writes.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::forge::*;
use super::{BearerToken, IssuerState, TokenError, Verifier};
use crate::source::PolicyFiles;
use crate::time::{Clock, ManualClock, Wall};

/// What a path answers.
#[derive(Clone)]
pub(super) enum Answer {
    Ok(String),
    /// With this `Cache-Control`.
    Kept(String, &'static str),
    Status(u16),
    Redirect(String),
    Never,
}

pub(super) type Answers = Arc<Mutex<HashMap<String, Answer>>>;

/// An issuer on the loopback, whose answers a test writes.
pub(super) struct Site {
    pub(super) base: String,
    pub(super) answers: Answers,
    /// The paths that were asked for.
    pub(super) hits: UnboundedReceiver<String>,
}

pub(super) const CONFIGURATION: &str = "/.well-known/openid-configuration";

impl Site {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (site, router) = Self::new("http", address);
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        site
    }

    /// One with a certificate, and the authority that signed it in PEM.
    pub(super) fn start_tls() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (site, router) = Self::new("https", listener.local_addr().unwrap());

        let mut authority = rcgen::CertificateParams::new([]).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = authority.self_signed(&key).unwrap().pem();
        let authority = rcgen::Issuer::new(authority, key);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &authority).unwrap();

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.into()], key.into())
            .unwrap();
        let config = axum_server::tls_rustls::RustlsConfig::from_config(Arc::new(config));
        let server = axum_server::from_tcp_rustls(listener, config).unwrap();
        tokio::spawn(server.serve(router.into_make_service()));
        (site, pem)
    }

    fn new(scheme: &str, address: SocketAddr) -> (Self, Router) {
        let (sender, hits) = unbounded_channel();
        let answers = Answers::default();
        let router = Router::new().fallback(answer).with_state((answers.clone(), sender));
        let site = Self { base: format!("{scheme}://{address}"), answers, hits };
        site.publish(&[SIGNER.jwk("one")]);
        (site, router)
    }

    pub(super) fn set(&self, path: &str, answer: Answer) {
        self.answers.lock().insert(path.to_owned(), answer);
    }

    pub(super) fn publish(&self, keys: &[Value]) {
        self.describe(&format!("{}/", self.base), &format!("{}/keys", self.base));
        self.set("/keys", Answer::Ok(json!({ "keys": keys }).to_string()));
    }

    pub(super) fn describe(&self, issuer: &str, keys: &str) {
        let document = json!({"issuer": issuer, "jwks_uri": keys, "x": [1]}).to_string();
        self.set(CONFIGURATION, Answer::Ok(document));
    }

    /// A policy whose only issuer is this one.
    pub(super) fn files(&self) -> PolicyFiles {
        files(
            &format!(
                "[[issuer]]\nname = \"site\"\nissuer = \"{0}/\"\ntenants = [\"{TENANT}\"]\n\
                 audiences = [\"{AUDIENCE}\"]\ndiscovery = \"{0}{CONFIGURATION}\"\n",
                self.base
            ),
            &[],
        )
    }

    /// An application's token by the key that is published at the start.
    pub(super) fn token(&self) -> String {
        self.token_by(&SIGNER, "one")
    }

    /// One by a key of this name.
    pub(super) fn token_by(&self, signer: &Signer, kid: &str) -> String {
        let header = with(header(), "kid", json!(kid));
        let claims = with(application(), "iss", json!(format!("{}/", self.base)));
        signer.sign_text(&header.to_string(), &claims.to_string())
    }

    pub(super) fn count_hits(&mut self) -> usize {
        std::iter::from_fn(|| self.hits.try_recv().ok()).count()
    }
}

async fn answer(
    State((answers, hits)): State<(Answers, UnboundedSender<String>)>,
    request: axum::extract::Request,
) -> Response {
    let path = request.uri().path().to_owned();
    let answer = answers.lock().get(&path).cloned().unwrap_or(Answer::Status(404));
    let _ = hits.send(path);
    let response = Response::builder();
    match answer {
        Answer::Kept(body, header) => {
            response.header("cache-control", header).body(Body::from(body)).unwrap()
        }
        Answer::Ok(body) => response.body(Body::from(body)).unwrap(),
        Answer::Status(status) => response.status(status).body(Body::empty()).unwrap(),
        Answer::Redirect(to) => response.status(302).header("location", to).body(Body::empty()).unwrap(),
        Answer::Never => std::future::pending().await,
    }
}

pub(super) fn clock() -> (Clock, Arc<ManualClock>) {
    Clock::manual(Wall::from_unix_seconds(NOW))
}

/// How the keys of the only issuer stand.
pub(super) fn state(verifier: &Verifier, clock: &Clock) -> IssuerState {
    verifier.issuers(clock).next().unwrap()
}

/// Why the token is refused, if it is.
pub(super) async fn verify_now(verifier: &Verifier, token: &str, clock: &Clock) -> Option<TokenError> {
    let value = http::HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    let headers = http::HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
    verifier.verify(BearerToken::find(&headers, None).unwrap(), clock).await.err()
}
