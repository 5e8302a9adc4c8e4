//! Who the token says it is: its claims, read and not verified.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::id::{ApplicationId, TenantId};
use crate::sandbox::api::reply::ServiceError;

/// What the stand-in needs of a token: whose limits to count, and whom to name in an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiCaller {
    pub(crate) tenant: TenantId,
    pub(crate) application: ApplicationId,
    /// The name of a user, the id of an application.
    pub(crate) requestor: Arc<str>,
}

#[derive(Deserialize)]
struct ClaimsDocument {
    tid: String,
    #[serde(alias = "azp")]
    appid: String,
    upn: Option<String>,
    preferred_username: Option<String>,
}

// === impl ApiCaller ===

impl ApiCaller {
    /// Reads the bearer token.
    ///
    /// # Errors
    ///
    /// 401 `Unauthorized` if there is none, or it is no JWT of a tenant and an application.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, ServiceError> {
        let unauthorized =
            || ServiceError::new(StatusCode::UNAUTHORIZED, "Unauthorized", "The token is missing or invalid");
        let claims = bearer(headers).and_then(claims).ok_or_else(unauthorized)?;
        let application: ApplicationId = claims.appid.parse().map_err(|_| unauthorized())?;
        let user = claims.upn.or(claims.preferred_username);
        Ok(Self {
            tenant: claims.tid.parse().map_err(|_| unauthorized())?,
            application,
            requestor: user.unwrap_or_else(|| application.to_string()).into(),
        })
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn claims(token: &str) -> Option<ClaimsDocument> {
    let mut parts = token.split('.');
    let (_header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}
