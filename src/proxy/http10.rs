//! Clients of HTTP/1.0, as older proxies speak it: they know neither chunks nor answers before the answer.

use http::{Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::ALPN;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;

use super::client::Link;

/// Has the upstream asked by HTTP/1.1: of an answer over HTTP/2, Pingora makes chunks behind our last look at it.
pub(super) fn ask(request: &RequestHeader, peer: &mut HttpPeer) {
    if request.version == Version::HTTP_10 {
        peer.options.alpn = ALPN::H1;
    }
}

/// Nothing is chunked (RFC 9112, section 6.1): where an answer's length is not known, the end of the connection is its
/// end. Nor does anything come before it (RFC 9110, section 15.2).
pub(super) fn answer(session: &mut Session, response: &mut ResponseHeader, link: Option<&Link>) {
    if session.req_header().version != Version::HTTP_10 {
        return;
    }
    let downstream = session.as_downstream_mut();
    if response.status.is_informational() {
        downstream.set_ignore_info_resp(true);
    } else if response.remove_header(&header::TRANSFER_ENCODING).is_some() {
        downstream.set_keepalive(None);
        if let Some(link) = link {
            link.ends_with_connection();
        }
    }
}
