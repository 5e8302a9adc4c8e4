//! The API as a client sees it: a token, pages, and how long to wait when it says so.

use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use reqwest::{Client, Url, redirect};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Credentials;
use crate::settings::UpstreamUrl;
use crate::time::{self, Clock};

/// The API, and who asks it.
pub(super) struct Api<'c> {
    base: String,
    token_endpoint: Url,
    scope: String,
    credentials: Credentials,
    client: Client,
    clock: &'c Clock,
    token: tokio::sync::Mutex<Option<String>>,
}

/// One page of devices.
pub(super) struct Page {
    /// As it came.
    pub(super) bytes: Vec<u8>,
    pub(super) devices: u64,
    /// Path and query of the next one.
    pub(super) next: Option<String>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum PullError {
    #[error("{0}")]
    Client(String),
    #[error("no token: {0}")]
    Token(String),
    #[error("the API answered {status}: {body}")]
    Refused { status: StatusCode, body: String },
    #[error("the API asks to wait {} s, which is longer than an hour", .0.as_secs())]
    TooLong(Duration),
    #[error("{0}, for the {ATTEMPTS}th time")]
    GaveUp(String),
    #[error("the answer is no page of devices: {0}")]
    NotAPage(serde_json::Error),
    #[error("a page is larger than {} MiB", MAX_PAGE >> 20)]
    TooLarge,
}

/// How one attempt ended.
enum Attempt {
    Done(Vec<u8>),
    /// Again after this time, because of that.
    Again(Duration, String),
    /// Again with another token.
    Unauthorized(String),
}

/// A page of 10,000 devices takes the API seconds; a stalled connection must not hold a timer's job for ever.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What a page may take in memory: 10,000 devices are about 15 MB.
const MAX_PAGE: usize = 256 << 20;

/// How often a page is asked for.
const ATTEMPTS: u32 = 10;

/// The wait where the API does not say how long: its own windows are a minute.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);

/// After an answer that was cut off, or a fault of the API's.
const PAUSE: Duration = Duration::from_secs(5);

/// The longest wait: the API's longest window.
const MAX_WAIT: Duration = Duration::from_secs(3_600);

#[derive(Deserialize)]
struct PageDocument<'a> {
    #[serde(borrow)]
    value: Vec<&'a RawValue>,
    #[serde(rename = "@odata.nextLink")]
    next_link: Option<String>,
}

#[derive(Deserialize)]
struct TokenDocument {
    access_token: String,
}

// === impl Api ===

impl<'c> Api<'c> {
    /// A hundred million devices: who has more of them follows links that lead in a circle.
    pub(super) const MAX_PAGES: u64 = 10_000;

    /// `base` is scheme and authority, `resource` the API as its issuer names it.
    pub(super) fn new(
        base: String,
        token_endpoint: String,
        resource: &str,
        credentials: Credentials,
        clock: &'c Clock,
    ) -> Result<Self, PullError> {
        let on_this_machine = |url: &str| url.parse().is_ok_and(|url: UpstreamUrl| url.is_loopback());
        let client = Client::builder().redirect(redirect::Policy::none()).timeout(TIMEOUT);
        let client = if on_this_machine(&base) { client.no_proxy() } else { client };
        // A machine without certificates can still ask itself.
        let client = if base.starts_with("http://") { client.tls_certs_only([]) } else { client };
        let client = client.build().map_err(|error| PullError::Client(error.to_string()))?;
        let token_endpoint =
            token_endpoint.parse().map_err(|_| PullError::Client(format!("`{token_endpoint}` is no URL")))?;
        let scope = format!("{resource}/.default");
        Ok(Self {
            base,
            token_endpoint,
            scope,
            credentials,
            client,
            clock,
            token: tokio::sync::Mutex::new(None),
        })
    }

    /// Path and query of the first page.
    pub(super) fn first_page(&self) -> String {
        "/api/machines".to_owned()
    }

    /// Fetches a page, waiting as long as the API says.
    pub(super) async fn page(&self, path: &str) -> Result<Page, PullError> {
        let mut last = String::new();
        for attempt in 1..=ATTEMPTS {
            let (wait, why) = match self.attempt(path).await? {
                Attempt::Done(bytes) => return read(bytes),
                Attempt::Again(wait, why) => (wait, why),
                Attempt::Unauthorized(why) => {
                    // One hour old, perhaps: a second refusal is about another thing.
                    *self.token.lock().await = None;
                    if attempt > 1 && last == why {
                        return Err(PullError::Refused { status: StatusCode::UNAUTHORIZED, body: why });
                    }
                    (Duration::ZERO, why)
                }
            };
            if wait > MAX_WAIT {
                return Err(PullError::TooLong(wait));
            }
            if attempt < ATTEMPTS && !wait.is_zero() {
                eprintln!("{why}: waiting {} s", wait.as_secs());
                self.clock.sleep(wait).await;
            }
            last = why;
        }
        Err(PullError::GaveUp(last))
    }

    async fn attempt(&self, path: &str) -> Result<Attempt, PullError> {
        let token = self.token().await?;
        let url = format!("{}{path}", self.base);
        let request = self.client.get(url).header(AUTHORIZATION, format!("Bearer {token}"));
        let mut response = match request.header(ACCEPT, "application/json").send().await {
            Ok(response) => response,
            Err(error) => return Ok(Attempt::Again(PAUSE, format!("the API cannot be reached ({error})"))),
        };
        let status = response.status();
        let wait = retry_after(response.headers(), self.clock);
        let mut bytes = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if bytes.len() + chunk.len() > MAX_PAGE => return Err(PullError::TooLarge),
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return Ok(Attempt::Again(PAUSE, format!("the answer broke off ({error})"))),
            }
        }
        match status {
            StatusCode::OK => Ok(Attempt::Done(bytes)),
            StatusCode::UNAUTHORIZED => Ok(Attempt::Unauthorized(excerpt(&bytes))),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Ok(Attempt::Again(wait.unwrap_or(DEFAULT_WAIT), format!("the API answered {status}")))
            }
            _fault if status.is_server_error() => {
                Ok(Attempt::Again(wait.unwrap_or(PAUSE), format!("the API answered {status}")))
            }
            _ => Err(PullError::Refused { status, body: excerpt(&bytes) }),
        }
    }

    /// The token that there is, or a new one (RFC 6749, section 4.4).
    async fn token(&self) -> Result<String, PullError> {
        let mut held = self.token.lock().await;
        if let Some(token) = &*held {
            return Ok(token.clone());
        }
        let failed = |error: reqwest::Error| PullError::Token(error.to_string());
        let mut form = self.token_endpoint.clone();
        form.query_pairs_mut()
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.credentials.client)
            .append_pair("client_secret", &self.credentials.secret)
            .append_pair("scope", &self.scope);
        let form = form.query().unwrap_or_default().to_owned();
        let request = self.client.post(self.token_endpoint.clone()).body(form);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let body = response.bytes().await.map_err(failed)?;
        match serde_json::from_slice::<TokenDocument>(&body) {
            Ok(document) if status == StatusCode::OK => Ok(held.insert(document.access_token).clone()),
            _ => Err(PullError::Token(format!("the issuer answered {status}: {}", excerpt(&body)))),
        }
    }
}

/// How long the answer asks to wait: seconds, or until a date.
fn retry_after(headers: &HeaderMap, clock: &Clock) -> Option<Duration> {
    time::retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, clock.wall())
}

fn read(bytes: Vec<u8>) -> Result<Page, PullError> {
    let PageDocument { value, next_link } = serde_json::from_slice(&bytes).map_err(PullError::NotAPage)?;
    // Whatever host it names: the token goes to nobody else.
    let next = next_link.map(|link| {
        let rest =
            link.split_once("://").map_or(link.as_str(), |(_, rest)| rest.trim_start_matches(|c| c != '/'));
        format!("/{}", rest.trim_start_matches('/'))
    });
    Ok(Page { devices: value.len() as u64, next, bytes })
}

/// The beginning of an answer, on one line.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..400).unwrap_or(bytes)).into_owned();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
