//! The issuer's endpoints.

use std::sync::Arc;

use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::id::{ApplicationId, TenantId};
use crate::sandbox::issuer::caller::{AUDIENCE_V1, AUDIENCE_V2};
use crate::sandbox::issuer::{Caller, Issuer, TokenVersion};
use crate::time::Wall;

/// An application that may ask for tokens, and the secret that it proves itself by.
#[derive(Clone)]
pub struct Registration {
    /// What its tokens say.
    pub caller: Caller,
    /// Its client secret.
    pub secret: String,
}

/// The issuer as it is reached at one address.
#[derive(Debug, Clone)]
struct Endpoint {
    issuer: Arc<Issuer>,
    address: Arc<str>,
}

/// The form of a token request. Client libraries add members of their own, which Entra overlooks.
#[derive(Deserialize)]
struct TokenRequest {
    grant_type: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    scope: Option<String>,
}

/// A refusal in the words of RFC 6749, section 5.2, with the number that Entra has for it.
#[derive(Debug)]
struct TokenError {
    code: ErrorCode,
    number: u32,
    description: String,
}

#[derive(Debug, Clone, Copy)]
enum ErrorCode {
    InvalidRequest,
    InvalidClient,
    UnauthorizedClient,
    InvalidScope,
    UnsupportedGrantType,
}

/// The other names of Defender's API, which its clients still ask for.
const RESOURCES: [&str; 3] = [AUDIENCE_V1, "https://api.securitycenter.windows.com", AUDIENCE_V2];

pub(crate) fn router(issuer: Arc<Issuer>, address: String) -> Router {
    Router::new()
        .route("/{tenant}/.well-known/openid-configuration", get(discovery_v1))
        .route("/{tenant}/v2.0/.well-known/openid-configuration", get(discovery_v2))
        .route("/{tenant}/discovery/keys", get(keys_v1))
        .route("/{tenant}/discovery/v2.0/keys", get(keys_v2))
        .route("/{tenant}/oauth2/v2.0/token", post(token))
        .with_state(Endpoint { issuer, address: address.into() })
}

async fn discovery_v1(State(endpoint): State<Endpoint>, Path(tenant): Path<String>) -> Response {
    endpoint.discovery(&tenant, TokenVersion::V1)
}

async fn discovery_v2(State(endpoint): State<Endpoint>, Path(tenant): Path<String>) -> Response {
    endpoint.discovery(&tenant, TokenVersion::V2)
}

async fn keys_v1(State(endpoint): State<Endpoint>, Path(tenant): Path<String>) -> Response {
    endpoint.keys(&tenant, TokenVersion::V1)
}

async fn keys_v2(State(endpoint): State<Endpoint>, Path(tenant): Path<String>) -> Response {
    endpoint.keys(&tenant, TokenVersion::V2)
}

async fn token(
    State(endpoint): State<Endpoint>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    form: Result<Form<TokenRequest>, FormRejection>,
) -> Response {
    let now = endpoint.issuer.clock.wall();
    let issued = endpoint.tenant(&tenant).and_then(|_| {
        let Form(request) = form.map_err(|rejection| {
            TokenError::new(ErrorCode::InvalidRequest, 900_144, rejection.body_text())
        })?;
        endpoint.grant(request, &headers)
    });
    match issued {
        Ok(caller) => {
            let lifetime = Caller::LIFETIME.as_secs();
            let body = json!({
                "token_type": "Bearer",
                "expires_in": lifetime,
                "ext_expires_in": lifetime,
                "access_token": endpoint.issuer.token(&caller),
            });
            ([(CACHE_CONTROL, "no-store, no-cache")], Json(body)).into_response()
        }
        Err(error) => error.into_response(now),
    }
}

// === impl Registration ===

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration").field("caller", &self.caller).finish_non_exhaustive()
    }
}

// === impl Endpoint ===

impl Endpoint {
    fn tenant(&self, named: &str) -> Result<TenantId, TokenError> {
        named.parse().ok().filter(|tenant| *tenant == self.issuer.tenant).ok_or_else(|| {
            let description = format!("Tenant '{named}' not found.");
            TokenError::new(ErrorCode::InvalidRequest, 90_002, description)
        })
    }

    fn discovery(&self, named: &str, version: TokenVersion) -> Response {
        let tenant = match self.tenant(named) {
            Ok(tenant) => tenant,
            Err(error) => return error.into_response(self.issuer.clock.wall()),
        };
        let at = format!("{}/{tenant}", self.address);
        let keys = match version {
            TokenVersion::V1 => format!("{at}/discovery/keys"),
            TokenVersion::V2 => format!("{at}/discovery/v2.0/keys"),
        };
        Json(json!({
            "issuer": self.issuer.issuer_of(tenant, version),
            "token_endpoint": format!("{at}/oauth2/v2.0/token"),
            // Client libraries want it named; there is nobody here to sign in.
            "authorization_endpoint": format!("{at}/oauth2/v2.0/authorize"),
            "jwks_uri": keys,
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": ["token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }))
        .into_response()
    }

    fn keys(&self, named: &str, version: TokenVersion) -> Response {
        match self.tenant(named) {
            Ok(_) => Json(self.issuer.key_set(version)).into_response(),
            Err(error) => error.into_response(self.issuer.clock.wall()),
        }
    }

    /// Whose token the request gets, and for which resource.
    fn grant(&self, request: TokenRequest, headers: &HeaderMap) -> Result<Caller, TokenError> {
        let missing = |name: &str| {
            let description = format!("The request body must contain the following parameter: '{name}'.");
            TokenError::new(ErrorCode::InvalidRequest, 900_144, description)
        };
        match request.grant_type.as_deref() {
            Some("client_credentials") => {}
            Some(other) => {
                let description = format!("The app requested an unsupported grant type '{other}'.");
                return Err(TokenError::new(ErrorCode::UnsupportedGrantType, 70_003, description));
            }
            None => return Err(missing("grant_type")),
        }
        let (id, secret) = match (basic(headers)?, request.client_id, request.client_secret) {
            (Some(_), _, Some(_)) => {
                let twice = "The client's credentials are given twice.";
                return Err(TokenError::new(ErrorCode::InvalidRequest, 900_023, twice.into()));
            }
            (Some(credentials), _, None) => credentials,
            (None, Some(id), Some(secret)) => (id, secret),
            (None, None, _) => return Err(missing("client_id")),
            (None, Some(_), None) => {
                let description = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
                return Err(TokenError::new(ErrorCode::InvalidClient, 7_000_218, description.into()));
            }
        };
        let registration = self.registration(&id)?;
        if registration.secret != secret {
            let description = "Invalid client secret provided.";
            return Err(TokenError::new(ErrorCode::InvalidClient, 7_000_215, description.into()));
        }
        let scope = request.scope.ok_or_else(|| missing("scope"))?;
        Ok(registration.caller.clone().for_audience(resource(&scope)?).valid_for(Caller::LIFETIME))
    }

    fn registration(&self, id: &str) -> Result<&Registration, TokenError> {
        let application = id.parse::<ApplicationId>().ok();
        self.issuer
            .registrations
            .iter()
            .find(|registration| Some(registration.caller.application_id()) == application)
            .ok_or_else(|| {
                let description =
                    format!("Application with identifier '{id}' was not found in the directory.");
                TokenError::new(ErrorCode::UnauthorizedClient, 700_016, description)
            })
    }
}

/// The credentials of an `Authorization: Basic` header, each form-encoded as RFC 6749, section 2.3.1 has it.
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, TokenError> {
    let Some(header) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let read = || {
        let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
        let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (id, secret) = decoded.split_once(':')?;
        let decode = |text: &str| {
            let text = text.replace('+', " ");
            Some(percent_decode_str(&text).decode_utf8().ok()?.into_owned())
        };
        scheme.eq_ignore_ascii_case("basic").then_some((decode(id)?, decode(secret)?))
    };
    read().map(Some).ok_or_else(|| {
        let description = "The Authorization header is not Basic with an id and a secret.";
        TokenError::new(ErrorCode::InvalidClient, 7_000_216, description.into())
    })
}

/// The resource of a scope `<resource>/.default`, the only form that client credentials take.
fn resource(scope: &str) -> Result<&'static str, TokenError> {
    scope
        .strip_suffix("/.default")
        .and_then(|asked| {
            // A resource that ends in a slash gives two of them, and Entra takes either.
            let asked = asked.strip_suffix('/').unwrap_or(asked);
            RESOURCES.into_iter().find(|resource| *resource == asked)
        })
        .ok_or_else(|| {
            let description = format!("The provided value for scope {scope} is not valid.");
            TokenError::new(ErrorCode::InvalidScope, 1_002_012, description)
        })
}

// === impl TokenError ===

impl TokenError {
    fn new(code: ErrorCode, number: u32, description: String) -> Self {
        Self { code, number, description }
    }

    fn into_response(self, now: Wall) -> Response {
        let (trace, correlation) = (Uuid::new_v4(), Uuid::new_v4());
        let number = self.number;
        let description = format!(
            "AADSTS{number}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {now}",
            self.description
        );
        let body = json!({
            "error": self.code.as_str(),
            "error_description": description,
            "error_codes": [number],
            "timestamp": now,
            "trace_id": trace,
            "correlation_id": correlation,
        });
        let mut response = (self.code.status(), [(CACHE_CONTROL, "no-store")], Json(body)).into_response();
        if self.code.status() == StatusCode::UNAUTHORIZED {
            let challenge = http::HeaderValue::from_static("Basic realm=\"sandbox\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

// === impl ErrorCode ===

impl ErrorCode {
    const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::InvalidScope => "invalid_scope",
            Self::UnsupportedGrantType => "unsupported_grant_type",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::InvalidClient => StatusCode::UNAUTHORIZED,
            Self::InvalidRequest
            | Self::UnauthorizedClient
            | Self::InvalidScope
            | Self::UnsupportedGrantType => StatusCode::BAD_REQUEST,
        }
    }
}
