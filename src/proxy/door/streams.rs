//! HTTP/2: Pingora's own connections, their streams guarded as single requests.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use http::Method;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;

use super::enter;
use crate::denial::Malformed;
use crate::proxy::bounds::Bounds;
use crate::proxy::client::MAX_BLOCK_BYTES;
use crate::proxy::gateway::Gateway;
use crate::proxy::reply::Reply;
use crate::proxy::strict::{MAX_HEADER_BYTES, MAX_TARGET_BYTES};
use crate::proxy::upload::Upload;
use crate::proxy::writing::write;

/// Streams that a client reset before we got to them: past that it only makes work, and its connection is closed
/// ("rapid reset", CVE-2023-44487).
const MAX_RESET_STREAMS: usize = 20;

/// Streams that we had to reset for a client's mistakes ("made you reset", CVE-2025-8671): the same.
const MAX_OUR_RESETS: usize = 20;

/// What a header list may decode to: RFC 9113 counts 32 bytes more for each field than we do, and bounds its
/// CONTINUATION frames by it.
const MAX_HEADER_LIST_BYTES: usize = MAX_HEADER_BYTES + MAX_TARGET_BYTES + 100 * 32;

/// The streams of HTTP/2 connections.
pub(super) struct Streams {
    proxy: Arc<HttpProxy<Gateway>>,
    gateway: Gateway,
    bounds: Arc<Bounds>,
}

/// How HTTP/2 connections are bounded.
pub(super) fn options(bounds: &Bounds) -> H2Options {
    let mut options = H2Options::default();
    options
        .max_frame_size(u32::try_from(MAX_BLOCK_BYTES).unwrap_or(u32::MAX))
        .max_header_list_size(u32::try_from(MAX_HEADER_LIST_BYTES).unwrap_or(u32::MAX))
        .max_concurrent_streams(bounds.streams.get())
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(Some(MAX_OUR_RESETS));
    options
}

impl Streams {
    pub(super) fn new(proxy: Arc<HttpProxy<Gateway>>, gateway: Gateway, bounds: Arc<Bounds>) -> Self {
        Self { proxy, gateway, bounds }
    }

    /// Answers a tunnel's request, which has no path to find an operation by. Pingora would, without a phase and without
    /// a word of ours.
    async fn refuse_tunnel(&self, mut session: ServerSession) {
        let denial = Malformed::Target.into();
        let address = session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip());
        let id = enter(&self.gateway, address, &denial);
        if let Some(reply) = Reply::to(&denial, &[], id) {
            write(&mut session, reply, &self.gateway.line.clock).await;
        }
    }
}

#[async_trait]
impl HttpServerApp for Streams {
    /// One stream. A panic ends in a reset of it alone, and so does one that takes longer than any request may, or whose
    /// client gives its body too slowly.
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if session.req_header().method == Method::CONNECT {
            self.refuse_tunnel(session).await;
            return None;
        }
        let clock = &self.gateway.line.clock;
        let uploads = !session.is_body_empty();
        let served = AssertUnwindSafe(self.proxy.process_new_http(session, shutdown)).catch_unwind();
        let served = clock.timeout(self.bounds.request, served);
        let served = if uploads {
            let upload = Upload::new(clock.clone(), self.bounds.clone());
            tokio::select! {
                biased;
                served = upload.clone().scope(served) => served,
                () = upload.too_slow() => return None,
            }
        } else {
            served.await
        };
        if let Ok(Err(_)) = served {
            self.gateway.books.metrics.panicked();
        }
        None
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.proxy.h2_options.clone()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options.as_ref()
    }
}
