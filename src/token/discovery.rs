//! Where an issuer publishes its keys, found from its discovery document
//! (*OpenID Connect Discovery 1.0*, section 4; Entra, *OpenID Connect on the Microsoft identity platform*).

mod freshness;

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use reqwest::{Certificate, Client, Url, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;

use super::cloud::{ImplausibleIssuer, LoginHost};
use super::keys::{InvalidKeys, KeySet};
use super::template::Template;
use crate::id::TenantId;

/// The address of a discovery document, and what the document must say to be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Discovery {
    pub(super) url: Url,
    pub(super) issuer: ExpectedIssuer,
    /// Certificates in PEM that are trusted beside the system's.
    pub(super) ca: Option<String>,
}

/// What `issuer` in a discovery document must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ExpectedIssuer {
    /// What the policy says, once both are filled in, for each of the tenants.
    Written { template: Template, tenants: Vec<TenantId> },
    /// What Entra says at this login host for the tenant.
    OfCloud { login: LoginHost, tenant: TenantId },
}

/// What an issuer published.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) keys: KeySet,
    /// The issuer's name, where only its own document tells it.
    pub(super) issuer: Option<Arc<str>>,
    /// What its document calls it.
    pub(super) named: Arc<str>,
    /// For how long the issuer says that the keys may be kept; none if it does not say.
    pub(super) max_age: Option<Duration>,
}

/// An address that we don't fetch from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidUrl {
    #[error("it is not a URL")]
    Malformed,
    #[error("it is neither https nor http to a loopback address")]
    NotSecure,
    #[error("it holds a user name, a password or a fragment")]
    Excess,
}

/// A file that gives no certificate to trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidCa {
    #[error("it holds no certificate in PEM (`-----BEGIN CERTIFICATE-----`)")]
    NotPem,
    #[error("it holds a certificate that can't be read")]
    NotCertificate,
}

/// A fetch that gave no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no HTTPS client: {}", chain(.0))]
    Client(reqwest::Error),
    #[error("{}", chain(.0))]
    Request(reqwest::Error),
    #[error("`{0}` answers {1}")]
    Status(Url, http::StatusCode),
    #[error("the answer of `{0}` is larger than {MAX_BODY_BYTES} bytes")]
    TooLarge(Url),
    #[error("the answer of `{0}` is not a discovery document: {1}")]
    NotDiscovery(Url, serde_json::Error),
    #[error("the discovery document is of issuer `{0}`, not of `{1}`")]
    OtherIssuer(String, String),
    #[error("the discovery document's issuer `{0}` is refused: {1}")]
    Implausible(String, ImplausibleIssuer),
    #[error("the discovery document's `jwks_uri` is refused: {0}")]
    KeysUrl(InvalidUrl),
    #[error("the answer of `{0}` is refused: {1}")]
    Keys(Url, InvalidKeys),
    #[error("no answer in {} s", super::ring::FETCH_TIMEOUT.as_secs())]
    TimedOut,
}

/// The members that we read; the document has some thirty.
#[derive(Deserialize)]
struct DiscoveryDocument {
    issuer: String,
    jwks_uri: String,
}

/// The largest answer that is read: Entra's common key set is about 20 KiB, 1000 keys would be 700.
const MAX_BODY_BYTES: usize = 1_024 * 1_024;

// === impl Discovery ===

impl Discovery {
    /// Fetches the document and then the keys that it points to. Takes as long as the other side likes.
    pub(super) async fn fetch(&self) -> Result<Publication, FetchError> {
        let (body, _) = self.get(&self.url).await?;
        let document: DiscoveryDocument = serde_json::from_slice(&body)
            .map_err(|error| FetchError::NotDiscovery(self.url.clone(), error))?;
        let issuer = self.issuer.check(&document.issuer)?;
        let url = parse_url(&document.jwks_uri).map_err(FetchError::KeysUrl)?;
        let (body, max_age) = self.get(&url).await?;
        let keys = KeySet::parse(&body).map_err(|error| FetchError::Keys(url, error))?;
        Ok(Publication { keys, issuer, named: document.issuer.into(), max_age })
    }

    /// The body of the answer, and for how long it may be kept.
    async fn get(&self, url: &Url) -> Result<(Vec<u8>, Option<Duration>), FetchError> {
        let client = client(url, self.ca.as_deref()).map_err(FetchError::Client)?;
        let mut response = client.get(url.clone()).send().await.map_err(FetchError::Request)?;
        if response.status() != http::StatusCode::OK {
            return Err(FetchError::Status(url.clone(), response.status()));
        }
        let max_age = freshness::max_age(response.headers());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(FetchError::Request)? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(FetchError::TooLarge(url.clone()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((body, max_age))
    }

    /// The SHA-256 of each certificate that is trusted beside the system's, in hexadecimal digits.
    pub(super) fn ca_thumbprints(&self) -> Vec<String> {
        let pem = self.ca.as_deref().unwrap_or_default();
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
        let digests = certificates.map(|certificate| digest(&SHA256, &certificate));
        digests.map(|digest| digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()).collect()
    }
}

// === impl ExpectedIssuer ===

impl ExpectedIssuer {
    /// The document must be the issuer's own, for every tenant that its keys will speak for. Returns the issuer's name
    /// where only the document tells it.
    pub(super) fn check(&self, found: &str) -> Result<Option<Arc<str>>, FetchError> {
        match self {
            Self::Written { template, tenants } => {
                let theirs = Template::new(found);
                if tenants.iter().all(|tenant| theirs.of(*tenant) == template.of(*tenant)) {
                    Ok(None)
                } else {
                    Err(FetchError::OtherIssuer(excerpt(found), template.as_str().to_owned()))
                }
            }
            Self::OfCloud { login, tenant } => login
                .check_issuer(found, *tenant)
                .map(|()| Some(found.into()))
                .map_err(|error| FetchError::Implausible(excerpt(found), error)),
        }
    }
}

/// Reads a URL that we may fetch from: https, or http that never leaves this machine.
pub(super) fn parse_url(text: &str) -> Result<Url, InvalidUrl> {
    let url = Url::parse(text).map_err(|_| InvalidUrl::Malformed)?;
    let host = url.host_str().ok_or(InvalidUrl::Malformed)?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(host) => {}
        _ => return Err(InvalidUrl::NotSecure),
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(InvalidUrl::Excess);
    }
    Ok(url)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A client for `url` that follows no redirect and trusts the certificates of `ca` beside the system's. It goes
/// through the proxy that the environment names, but not to this machine, which no proxy finds. A new one for each
/// fetch: it reads the system's certificates anew, and none is kept for an hour.
fn client(url: &Url, ca: Option<&str>) -> Result<Client, reqwest::Error> {
    let extra = ca.map(|pem| Certificate::from_pem_bundle(pem.as_bytes())).transpose()?.unwrap_or_default();
    let client = Client::builder().redirect(redirect::Policy::none());
    let client = if url.host_str().is_some_and(is_loopback) { client.no_proxy() } else { client };
    if url.scheme() == "http" {
        // A machine without certificates can still ask itself.
        return client.tls_certs_only(extra).build();
    }
    client.tls_certs_merge(extra).build()
}

/// Checks that `pem` holds certificates that can be trusted, and nothing broken.
pub(super) fn check_ca(pem: &str) -> Result<(), InvalidCa> {
    let mut store = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| InvalidCa::NotPem)?;
        store.add(certificate).map_err(|_| InvalidCa::NotCertificate)?;
    }
    if store.is_empty() { Err(InvalidCa::NotPem) } else { Ok(()) }
}

/// An error with its causes, in one line: the outermost of reqwest's says only that something failed.
fn chain(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |&error| error.source())
        .map(|error| error.to_string())
        .collect::<Vec<_>>()
        .join(": ")
}

/// At most the first 200 characters of what an issuer wrote.
fn excerpt(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}
