//! The door: each connection from its first byte to its last.
//!
//! An HTTP/1 head is read and checked here, and what is refused is answered here; Pingora gets a request that is plain,
//! and nothing behind it. It serves HTTP/2 by itself, within bounds that are set here. A phase that panics costs its
//! request and no other.

mod head;
mod streams;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::SocketDigest;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use self::head::HeadEnd;
use self::streams::Streams;
use super::bounds::Bounds;
use super::client::{ClientStream, Socket};
use super::gateway::Gateway;
use super::reply::Reply;
use super::strict::{self, Framing};
use crate::denial::{Denial, Malformed};
use crate::id::RequestId;
use crate::time::Clock;

/// What a client whose connection is closed may still have on its way, in bytes: more than that is an upload, and a
/// reset is an answer to it.
const LINGER_BYTES: usize = 256 * 1024;

/// How long it is read for the client to read the answer: two round trips around the earth.
const LINGER: Duration = Duration::from_secs(2);

/// Where connections are served.
#[derive(Clone)]
pub struct Door {
    proxy: Arc<HttpProxy<Gateway>>,
    streams: Arc<Streams>,
    gateway: Gateway,
    bounds: Arc<Bounds>,
    /// Turns to true when no further request is to be taken.
    closing: watch::Receiver<bool>,
    /// Turns to true when HTTP/2 clients are to go to another, which costs them no request.
    leaving: Arc<watch::Sender<bool>>,
    is_leaving: watch::Receiver<bool>,
}

/// Why no further request of a connection is served.
enum Last {
    /// There is none: the client closed, or said nothing for too long.
    None,
    /// It is refused.
    Refused(Denial),
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

impl From<Denial> for Last {
    fn from(denial: Denial) -> Self {
        Self::Refused(denial)
    }
}

impl Door {
    /// A door to a gateway. `closing` turns to true when it is to take no further request.
    pub fn new(
        gateway: Gateway,
        conf: &Arc<ServerConf>,
        bounds: Bounds,
        closing: watch::Receiver<bool>,
    ) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(bounds.idle);
        let mut proxy = http_proxy(conf, gateway.clone());
        proxy.server_options = Some(options);
        proxy.h2_options = Some(streams::options(&bounds));
        let proxy = Arc::new(proxy);
        let bounds = Arc::new(bounds);
        let streams = Arc::new(Streams::new(proxy.clone(), gateway.clone(), bounds.clone()));
        let (leaving, is_leaving) = watch::channel(false);
        Self { proxy, streams, gateway, bounds, closing, leaving: Arc::new(leaving), is_leaving }
    }

    /// Tells the clients of HTTP/2 connections to send their next request to another (GOAWAY).
    pub fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// The bounds of its connections.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    fn clock(&self) -> &Clock {
        &self.gateway.line.clock
    }

    /// Serves a connection until it ends.
    pub async fn serve(&self, socket: Socket, address: SocketAddr) {
        let digest = SocketDigest::from_raw_fd(socket.as_raw_fd());
        // Known already; it would be asked of the system again.
        let _ = digest.peer_addr.set(Some(PeerAddr::Inet(address)));
        let client = ClientStream::new(socket, digest, self.clock().clone(), self.bounds.clone());
        let served = async {
            if client.is_http2() {
                self.streams.process_new(Box::new(client), &self.is_leaving).await;
            } else {
                self.http1(client, address).await;
            }
        };
        if AssertUnwindSafe(served).catch_unwind().await.is_err() {
            self.gateway.books.metrics.panicked();
        }
    }

    async fn http1(&self, mut client: ClientStream, address: SocketAddr) {
        let mut left = self.bounds.requests_per_connection.get();
        // Whoever connects has something to say.
        let mut wait = self.bounds.header;
        loop {
            let next = self.next(&mut client, wait).await;
            let (head, framing) = match next {
                Ok(next) => next,
                Err(Last::None) => return client.linger(0).await,
                Err(Last::Refused(denial)) => return self.turn_away(client, address, &denial).await,
            };
            left -= 1;
            match self.one(client, address, (head, framing), left).await {
                Some(back) => client = back,
                None => return,
            }
            wait = self.bounds.idle;
        }
    }

    /// Reads the next head: how long it is, and how its body ends.
    async fn next(&self, client: &mut ClientStream, wait: Duration) -> Result<(usize, Framing), Last> {
        if client.input().is_empty() {
            client.idle();
            let mut closing = self.closing.clone();
            let begun = tokio::select! {
                // What has come before we close is served.
                biased;
                begun = self.clock().timeout(wait, client.fill()) => begun.ok().flatten(),
                _ = closing.wait_for(|closing| *closing) => None,
            };
            begun.ok_or(Last::None)?;
        }
        let mut end = HeadEnd::default();
        // Most heads are one read, and need no timer.
        let length = match end.find(client.input())? {
            Some(length) => length,
            None => self.rest_of_head(client, end).await?,
        };
        let framing = strict::check_bytes(client.input().get(..length).unwrap_or_default())?;
        Ok((length, framing))
    }

    /// Waits for the end of a head that has begun.
    async fn rest_of_head(&self, client: &mut ClientStream, mut end: HeadEnd) -> Result<usize, Last> {
        let read = async {
            loop {
                client.fill().await.ok_or(Last::None)?;
                if let Some(length) = end.find(client.input())? {
                    return Ok(length);
                }
            }
        };
        let read = self.clock().timeout(self.bounds.header, read).await;
        read.unwrap_or_else(|_| Err(Denial::from(Malformed::HeaderTimeout).into()))
    }

    /// Has one request served; the connection, if it can be used again.
    async fn one(
        &self,
        mut client: ClientStream,
        address: SocketAddr,
        (head, framing): (usize, Framing),
        left: u32,
    ) -> Option<ClientStream> {
        let link = client.begin(head, framing);
        let mut session = ServerSession::new_http1(Box::new(client));
        // The door waits for the next request, and counts them.
        session.set_keepalive(Some(0));
        session.set_keepalive_reuses_remaining(Some(left));
        session.set_connection_user_context(Some(Box::new(link.clone())));
        let served = AssertUnwindSafe(self.proxy.process_new_http(session, &self.closing)).catch_unwind();
        let served = self.clock().timeout(self.bounds.request, served).await;
        let request = link.request();
        match served {
            Ok(Ok(Some(reused))) => return back(reused),
            Ok(Ok(None)) if request.is_none() => self.refused_by_library(address),
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(_)) => {
                self.gateway.books.metrics.panicked();
                if let Some(client) = link.dropped().filter(|client| !client.has_answered()) {
                    self.answer(client, &Denial::Internal, request.unwrap_or_else(RequestId::random)).await;
                }
                return None;
            }
        }
        if let Some(client) = link.dropped().filter(ClientStream::has_answered) {
            self.linger(client).await;
        }
        None
    }

    /// Answers a request that is refused before anything else is known of it.
    async fn turn_away(&self, client: ClientStream, address: SocketAddr, denial: &Denial) {
        let id = enter(&self.gateway, Some(address.ip()), denial);
        self.answer(client, denial, id).await;
    }

    /// Counts what the HTTP library refused and answered by itself.
    fn refused_by_library(&self, address: SocketAddr) {
        enter(&self.gateway, Some(address.ip()), &Malformed::Library.into());
    }

    async fn answer(&self, mut client: ClientStream, denial: &Denial, id: RequestId) {
        let Some(reply) = Reply::to(denial, &[], id) else { return };
        let bytes: Bytes = reply.into_last_bytes(self.clock().wall());
        if client.write_all(&bytes).await.is_ok() {
            self.linger(client).await;
        }
    }

    async fn linger(&self, mut client: ClientStream) {
        let mut closing = self.closing.clone();
        tokio::select! {
            biased;
            _ = self.clock().timeout(LINGER, client.linger(LINGER_BYTES)) => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
    }
}

/// Enters a request that the gateway's phases never saw in the books.
fn enter(gateway: &Gateway, address: Option<IpAddr>, denial: &Denial) -> RequestId {
    let mut exchange = gateway.exchange();
    exchange.outcome.address = address;
    exchange.refused(denial, gateway.line.clock.steady());
    tracing::debug!(request = %exchange.id(), ?address, reason = %denial.reason(), "{denial}");
    exchange.id()
}

/// The connection that Pingora hands back for its next request.
fn back(reused: ReusedHttpStream) -> Option<ClientStream> {
    let (stream, _) = reused.consume();
    let client = stream.into_any().downcast::<ClientStream>().ok()?;
    client.is_between_requests().then_some(*client)
}
