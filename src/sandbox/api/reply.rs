//! What the service answers with: OData envelopes, and errors of its one shape.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::id::RequestId;

/// The service's own address in its answers, whatever host was asked; it never names the host that a proxy asked.
const CONTEXT: &str = "https://api.securitycenter.microsoft.com/api/$metadata#";

/// An answer that is not the one asked for: `{"error":{"code":…,"message":…,"target":<new GUID>}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// Sent as `Retry-After`, in whole seconds, rounded up.
    pub(crate) retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    error: ErrorMember<'a>,
}

#[derive(Serialize)]
struct ErrorMember<'a> {
    code: &'a str,
    message: &'a str,
    target: String,
}

#[derive(Serialize)]
struct EntityDocument<'a, T> {
    #[serde(rename = "@odata.context")]
    context: String,
    #[serde(flatten)]
    entity: &'a T,
}

#[derive(Serialize)]
struct ValueDocument<'a, T: ?Sized> {
    #[serde(rename = "@odata.context")]
    context: String,
    value: &'a T,
    #[serde(rename = "@odata.nextLink", skip_serializing_if = "Option::is_none")]
    next_link: Option<String>,
}

// === impl ServiceError ===

impl ServiceError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn resource_not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceNotFound", message)
    }
}

impl IntoResponse for ServiceError {
    fn into_response(self) -> Response {
        let target = RequestId::random().to_string();
        let error = ErrorMember { code: self.code, message: &self.message, target };
        let mut response = json(self.status, &ErrorDocument { error });
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// 201 with a machine action.
pub(crate) fn created<T: Serialize>(action: &T) -> Response {
    let context = format!("{CONTEXT}MachineActions/$entity");
    json(StatusCode::CREATED, &EntityDocument { context, entity: action })
}

/// 200 with one entity of a set.
pub(crate) fn entity<T: Serialize>(set: &str, entity: &T) -> Response {
    json(StatusCode::OK, &EntityDocument { context: format!("{CONTEXT}{set}/$entity"), entity })
}

/// 200 with entities of a set, and where the others are.
pub(crate) fn list<T: Serialize>(set: &str, entities: &[T], next_link: Option<String>) -> Response {
    json(StatusCode::OK, &ValueDocument { context: format!("{CONTEXT}{set}"), value: entities, next_link })
}

/// 200 with a single string.
pub(crate) fn value(text: &str) -> Response {
    let context = format!("{CONTEXT}Edm.String");
    json(StatusCode::OK, &ValueDocument { context, value: text, next_link: None })
}

fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => {
            (status, [(CONTENT_TYPE, "application/json; odata.metadata=minimal")], body).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
