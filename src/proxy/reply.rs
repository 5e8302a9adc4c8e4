//! A denial as an HTTP answer: the one table of status, code and headers. No status code stands anywhere else.
//!
//! The shape is the API's own (Microsoft Learn, *Common REST API error codes*), because that is what its clients
//! parse: `{"error":{"code":"…","message":"…","target":"<request id>"}}`, compact. `Tollgate-Reason` marks the answer
//! as ours.

use std::borrow::Cow;
use std::fmt::Write;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, StatusCode, header};
use pingora::http::ResponseHeader;

use crate::denial::Denial;
use crate::id::RequestId;
use crate::outcome::{ReasonCode, Standing};
use crate::telemetry::json::{push_plain, push_string};
use crate::time::Wall;

/// The header that tells our answers from the API's.
pub const REASON: &str = "Tollgate-Reason";

/// draft-ietf-httpapi-ratelimit-headers-10, section 3: what the limits are.
const RATE_LIMIT_POLICY: &str = "RateLimit-Policy";

/// The same, section 4: how they stand.
const RATE_LIMIT: &str = "RateLimit";

/// The headers of an answer that nobody but us may set.
pub static OURS: [HeaderName; 3] = [
    HeaderName::from_static("tollgate-reason"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("ratelimit"),
];

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The status.
    pub status: StatusCode,
    /// The member `code`, in the API's words.
    pub code: &'static str,
    /// What `WWW-Authenticate` says (RFC 6750, section 3).
    pub challenge: Challenge,
    /// Whether the connection can be used again.
    pub connection: Connection,
}

/// What `WWW-Authenticate` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// The header is absent.
    None,
    /// `Bearer`, without an error: there was no token to be wrong.
    Bare,
    /// `Bearer error="…"`.
    Error(&'static str),
}

/// What becomes of the connection after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// It stays open for the next request.
    Kept,
    /// It is closed, because where the request ends is not certain, or part of it may not have been read yet.
    Closed,
}

/// An answer of our own, ready to be written.
#[derive(Debug)]
pub struct Reply {
    /// Status and header fields.
    pub header: ResponseHeader,
    /// The error, as JSON.
    pub body: Bytes,
    /// What becomes of the connection.
    pub connection: Connection,
}

/// The table: what each reason answers. `None` for a caller that is no longer there.
pub const fn row(reason: ReasonCode) -> Option<Row> {
    use Challenge::{Bare, Error, None as Silent};
    use Connection::{Closed, Kept};
    use ReasonCode as R;

    let (status, code, challenge, connection) = match reason {
        R::MalformedRequest => (StatusCode::BAD_REQUEST, "BadRequest", Silent, Closed),
        R::HeaderTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "BadRequest", Silent, Closed),
        R::TwoTokens | R::BadAuthorization | R::TokenInQuery => {
            (StatusCode::BAD_REQUEST, "BadRequest", Error("invalid_request"), Kept)
        }
        R::NoOperation => (StatusCode::NOT_FOUND, "NotFound", Silent, Kept),
        R::NoToken => (StatusCode::UNAUTHORIZED, "Unauthorized", Bare, Kept),
        R::BadToken | R::Expired | R::NotYetValid | R::WrongAudience | R::WrongIssuer => {
            (StatusCode::UNAUTHORIZED, "Unauthorized", Error("invalid_token"), Kept)
        }
        R::MissingPermission => (StatusCode::FORBIDDEN, "Forbidden", Error("insufficient_scope"), Kept),
        R::MissingRole
        | R::GroupOverage
        | R::Application
        | R::DeviceGroup
        | R::UnscopedOperation
        | R::UnknownAction => (StatusCode::FORBIDDEN, "Forbidden", Silent, Kept),
        R::UnknownDevice => (StatusCode::NOT_FOUND, "ResourceNotFound", Silent, Kept),
        R::WrongType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "InvalidRequestBody", Silent, Kept),
        R::BadBody => (StatusCode::BAD_REQUEST, "InvalidRequestBody", Silent, Kept),
        R::MissingParameter => (StatusCode::BAD_REQUEST, "MissingRequiredParameter", Silent, Kept),
        R::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "RequestBodyTooLarge", Silent, Kept),
        R::OverLimit | R::InFlight | R::OpenActions | R::UpstreamLimited | R::FailedLogins => {
            (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", Silent, Kept)
        }
        R::StaleInventory
        | R::KeysUnavailable
        | R::KeysFull
        | R::ShuttingDown
        | R::Overload
        | R::CircuitOpen
        | R::AuditUnavailable
        | R::StoreUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", Silent, Kept),
        R::UpstreamUnavailable | R::UpstreamUnreadable => {
            (StatusCode::BAD_GATEWAY, "BadGateway", Silent, Closed)
        }
        R::UpstreamTimeout => (StatusCode::GATEWAY_TIMEOUT, "GatewayTimeout", Silent, Closed),
        R::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", Silent, Kept),
        R::ClientGone => return None,
    };
    Some(Row { status, code, challenge, connection })
}

impl Reply {
    /// The answer to a denial; `None` if nobody is there to read it. How the limits stand is said where they refused.
    pub fn to(denial: &Denial, standings: &[Standing], id: RequestId) -> Option<Self> {
        let reason = denial.reason();
        let row = row(reason)?;
        let body = body(row.code, &sentence(denial.to_string()), id);
        let header = header(denial, standings, row, body.len()).ok()?;
        Some(Self { header, body, connection: row.connection })
    }

    /// As it goes over an HTTP/1 connection that is closed after it.
    pub(super) fn into_last_bytes(self, now: Wall) -> Bytes {
        let mut bytes = BytesMut::with_capacity(1_024);
        let status = self.header.status;
        let reason = status.canonical_reason().unwrap_or_default();
        bytes.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).as_bytes());
        let date = jiff::Timestamp::from_second(now.unix_seconds())
            .and_then(|now| jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now));
        if let Ok(date) = date {
            bytes.extend_from_slice(format!("Date: {date}\r\n").as_bytes());
        }
        self.header.header_to_h1_wire(&mut bytes);
        bytes.extend_from_slice(b"Connection: close\r\n\r\n");
        bytes.extend_from_slice(&self.body);
        bytes.freeze()
    }
}

/// The API's error shape, compact.
fn body(code: &str, message: &str, id: RequestId) -> Bytes {
    let mut bytes = Vec::with_capacity(message.len() + 128);
    bytes.extend_from_slice(b"{\"error\":{\"code\":");
    push_plain(&mut bytes, code);
    bytes.extend_from_slice(b",\"message\":");
    push_string(&mut bytes, message);
    bytes.extend_from_slice(b",\"target\":");
    push_plain(&mut bytes, id.text(&mut [0; 36]));
    bytes.extend_from_slice(b"}}");
    bytes.into()
}

/// With a capital first letter, as the API's own messages have. Ours begin with a letter of ASCII or a mark.
fn sentence(mut message: String) -> String {
    if let Some(first) = message.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    message
}

fn header(
    denial: &Denial,
    standings: &[Standing],
    row: Row,
    length: usize,
) -> pingora::Result<ResponseHeader> {
    let mut header = ResponseHeader::build_no_case(row.status, Some(10))?;
    header.insert_header(header::CONTENT_TYPE, "application/json")?;
    header.insert_header(header::CONTENT_LENGTH, length)?;
    // RFC 6585, section 4: a 429 must not be stored; nor does any other refusal hold for the next caller.
    header.insert_header(header::CACHE_CONTROL, "no-store")?;
    header.insert_header(REASON, denial.reason().as_str())?;
    match row.challenge {
        Challenge::None => {}
        Challenge::Bare => header.insert_header(header::WWW_AUTHENTICATE, "Bearer")?,
        Challenge::Error(error) => {
            let mut challenge = format!("Bearer error=\"{error}\"");
            if !denial.needed().is_empty() {
                let needed: Vec<_> = denial.needed().iter().map(|permission| permission.as_str()).collect();
                let _ = write!(challenge, ", scope=\"{}\"", needed.join(" "));
            }
            header.insert_header(header::WWW_AUTHENTICATE, challenge)?;
        }
    }
    if let Some(seconds) = denial.retry_after() {
        header.insert_header(header::RETRY_AFTER, seconds)?;
    }
    if let Denial::Limit(_) = denial {
        rate_limits(&mut header, standings)?;
    }
    Ok(header)
}

/// Says how the limits that the caller may see stand: one item a limit and window, `"<limit>-<window>"`.
pub fn rate_limits(header: &mut ResponseHeader, standings: &[Standing]) -> pingora::Result<()> {
    // A minute and an hour of one limit, with some room.
    let mut policy = String::with_capacity(128);
    let mut state = String::with_capacity(128);
    for standing in standings.iter().filter(|standing| standing.shown) {
        if !policy.is_empty() {
            policy.push_str(", ");
            state.push_str(", ");
        }
        let Standing { rate, remaining, grows_in, .. } = standing;
        // Rounded up, but for the millisecond or two by which times are rounded inside: never longer than the window.
        let seconds = grows_in.as_secs() + u64::from(grows_in.subsec_nanos() > 0);
        let seconds = seconds.min(rate.window.seconds().into());
        item(&mut policy, standing, "q", rate.count.get(), "w", rate.window.seconds().into());
        item(&mut state, standing, "r", *remaining, "t", seconds);
    }
    if policy.is_empty() {
        return Ok(());
    }
    header.insert_header(RATE_LIMIT_POLICY, policy)?;
    header.insert_header(RATE_LIMIT, state)
}

/// One item: `"<limit>-<window>"` and two numbers. It goes out with every answer, and a formatter takes ten times as long.
fn item(list: &mut String, standing: &Standing, first: &str, count: u32, second: &str, seconds: u64) {
    let Standing { limit, rate, .. } = standing;
    let mut digits = itoa::Buffer::new();
    let window = rate.window.word().map_or_else(|| Cow::Owned(rate.window.to_string()), Cow::Borrowed);
    let (window, limit) = (&*window, limit.as_str());
    for text in ["\"", limit, "-", window, "\";", first, "=", digits.format(count), ";", second, "="] {
        list.push_str(text);
    }
    list.push_str(digits.format(seconds));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_401_is_only_ever_about_the_token_and_a_challenge_goes_with_it() {
        for reason in ReasonCode::ALL {
            let Some(row) = row(*reason) else {
                assert_eq!(*reason, ReasonCode::ClientGone);
                continue;
            };
            let about_the_token = matches!(
                reason,
                ReasonCode::NoToken
                    | ReasonCode::BadToken
                    | ReasonCode::Expired
                    | ReasonCode::NotYetValid
                    | ReasonCode::WrongAudience
                    | ReasonCode::WrongIssuer
            );
            assert_eq!(row.status == StatusCode::UNAUTHORIZED, about_the_token, "{reason}");
            assert!(row.status != StatusCode::UNAUTHORIZED || row.challenge != Challenge::None, "{reason}");
        }
    }

    #[test]
    fn an_error_has_the_apis_shape_and_no_more() {
        let id = RequestId::from_u128(7);
        let reply = Reply::to(&Denial::Internal, &[], id).unwrap();
        assert_eq!(
            reply.body,
            r#"{"error":{"code":"InternalServerError","message":"Internal error","target":"00000000-0000-0000-0000-000000000007"}}"#
        );
    }
}
