//! Answers of our own, on the connection of a refused call.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, header};
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;

use super::reply::Reply;
use crate::time::Clock;

/// A refused body up to this size is read and thrown away, so that the connection survives the refusal; reading
/// more would cost more than a new connection.
const DRAIN_BYTES: usize = 64 * 1024;

/// How long that reading may take.
pub(super) const DRAIN_TIME: Duration = Duration::from_millis(200);

/// How long a client over HTTP/2 may have no room for an answer of ours, which is smaller than any window that a client
/// begins with: two round trips around the earth. After that its stream is reset.
const WRITE_TIME: Duration = Duration::from_secs(2);

/// Reads what is left of a small body, so that the next request on the connection can be found.
pub(super) async fn drain(session: &mut Session) {
    let headers = &session.req_header().headers;
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    // A client that waits for `100 Continue` sends nothing to drain.
    let waits = headers.contains_key(header::EXPECT);
    // Over HTTP/2 what is not read is reset after the answer, which some clients (curl 7.88) then never show.
    let reset = session.as_downstream().is_http2();
    if !waits && (reset || declared.is_none_or(|length| length <= DRAIN_BYTES)) {
        // If it fails, Pingora closes the connection after the answer.
        let _ = session.as_downstream_mut().drain_request_body().await;
    }
}

/// Writes an answer of ours. Never `respond_error`: that closes the connection.
pub(super) async fn write(downstream: &mut ServerSession, reply: Reply, clock: &Clock) {
    let silent = downstream.req_header().method == Method::HEAD;
    let body = if silent { Bytes::new() } else { reply.body };
    // A caller that is gone by now is none of our errors.
    if downstream.write_response_header(Box::new(reply.header)).await.is_err() {
        return;
    }
    if !downstream.is_http2() {
        // Of HTTP/1 the connection itself knows how slow it may be.
        let _ = downstream.write_response_body(body, true).await;
    } else if clock.timeout(WRITE_TIME, downstream.write_response_body(body, true)).await.is_err() {
        downstream.shutdown_with_reason(h2::Reason::CANCEL);
    }
}
