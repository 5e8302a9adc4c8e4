//! The API behind the gateway: where it is, and what it gets to see.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header;
use pingora::http::RequestHeader;
use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::{H1UpgradePolicy, HttpPeer};

use super::circuit::{Circuit, Passage};
use crate::id::RequestId;
use crate::time::{Clock, Steady};

/// A TCP and TLS handshake to another continent takes under a second.
const CONNECT: Duration = Duration::from_secs(5);

/// Both handshakes together, retransmissions included.
const CONNECT_IN_ALL: Duration = Duration::from_secs(10);

/// Below the keep-alive of common front ends (60 s and more), so that we are the side that closes an idle connection.
const IDLE: Duration = Duration::from_secs(30);

/// How often the name is looked up again: front ends move behind DNS records that live a minute or less.
const RESOLVE: Duration = Duration::from_secs(30);

/// The header that carries our request id to the upstream.
const REQUEST_ID: &str = "X-Request-Id";

/// Where the API is. Names are looked up in the background; a look-up that fails changes nothing.
#[derive(Debug)]
pub struct Upstream {
    host: String,
    port: u16,
    authority: String,
    tls: Tls,
    timeout: Duration,
    addresses: ArcSwap<Vec<SocketAddr>>,
    /// Which of the addresses is used; moves on when it can't be connected to.
    chosen: AtomicUsize,
    circuit: Arc<Circuit>,
}

/// Which address a connection was tried at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice(usize);

/// How the upstream is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// In clear text.
    Off,
    /// Over TLS, the certificate verified against the host.
    Verified,
}

impl Upstream {
    /// Looks the host up, blocking.
    ///
    /// # Errors
    /// If the name has no address.
    pub fn resolve(
        host: &str,
        port: u16,
        authority: String,
        tls: Tls,
        timeout: Duration,
    ) -> io::Result<Self> {
        let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            authority,
            tls,
            timeout,
            addresses: ArcSwap::from_pointee(addresses),
            chosen: AtomicUsize::new(0),
            circuit: Arc::default(),
        })
    }

    /// Looks the host up again and again, until it is dropped.
    pub async fn keep_resolved(self: Arc<Self>, clock: Clock) {
        loop {
            clock.sleep(RESOLVE).await;
            match tokio::net::lookup_host((self.host.as_str(), self.port))
                .await
                .map(Iterator::collect::<Vec<_>>)
            {
                Ok(addresses) if addresses.is_empty() => {}
                Ok(addresses) => self.addresses.store(Arc::new(addresses)),
                Err(error) => {
                    tracing::warn!(host = self.host, %error, "cannot look up the upstream, using what is known")
                }
            }
        }
    }

    /// Lets a call through, unless the upstream keeps failing.
    ///
    /// # Errors
    /// How long it is still left alone.
    pub(super) fn pass(&self, now: Steady) -> Result<Passage, Duration> {
        self.circuit.pass(now)
    }

    /// The peer to connect to.
    pub(super) fn peer(&self) -> Option<(HttpPeer, Choice)> {
        let addresses = self.addresses.load();
        let choice = Choice(self.chosen.load(Ordering::Relaxed));
        let address = addresses.get(choice.0 % addresses.len().max(1))?;
        let mut peer = HttpPeer::new(*address, self.tls == Tls::Verified, self.host.clone());
        let options = &mut peer.options;
        options.connection_timeout = Some(CONNECT);
        options.total_connection_timeout = Some(CONNECT_IN_ALL);
        options.read_timeout = Some(self.timeout);
        options.write_timeout = Some(self.timeout);
        options.idle_timeout = Some(IDLE);
        // A tunnel would carry requests that nobody decides on: offers to upgrade are not passed on.
        options.http_upstream_request_policy.h1_upgrade = H1UpgradePolicy::Deny;
        // Finds out that a silent peer is gone before a request is written to it.
        options.tcp_keepalive = Some(TcpKeepalive {
            idle: Duration::from_secs(15),
            interval: Duration::from_secs(5),
            count: 3,
            #[cfg(target_os = "linux")]
            user_timeout: Duration::ZERO,
        });
        Some((peer, choice))
    }

    /// This address could not be connected to: the next connection tries another. Of many that failed at once, the first
    /// moves on; if all did, they could come back to where they began.
    pub(super) fn try_another(&self, Choice(failed): Choice) {
        let next = failed.wrapping_add(1);
        // If another has moved on already, its choice stands.
        let _ = self.chosen.compare_exchange(failed, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Makes the request what the upstream is to see. It runs after Pingora took the hop-by-hop fields out, so a
    /// client can't name ours in `Connection` to have them removed.
    ///
    /// Nor what the decision was made on: the caller's own `Authorization` goes along, since the API checks it too,
    /// and so does what `sent` says of the body.
    pub(super) fn dress(
        &self,
        request: &mut RequestHeader,
        sent: &RequestHeader,
        id: RequestId,
    ) -> pingora::Result<()> {
        for name in [header::AUTHORIZATION, header::CONTENT_TYPE, header::CONTENT_ENCODING] {
            if !request.headers.contains_key(&name) {
                for value in sent.headers.get_all(&name) {
                    request.append_header(name.clone(), value.clone())?;
                }
            }
        }
        request.insert_header(header::HOST, &self.authority)?;
        request.insert_header(REQUEST_ID, id.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_connections_that_fail_at_once_one_moves_on_to_the_next_address() {
        let upstream = Upstream::resolve("127.0.0.1", 1, String::new(), Tls::Off, CONNECT).unwrap();
        let addresses = ["127.0.0.1:1", "127.0.0.1:2"].map(|address| address.parse().unwrap());
        upstream.addresses.store(Arc::new(addresses.to_vec()));
        let choices = [(); 4].map(|()| upstream.peer().unwrap().1);
        choices.into_iter().for_each(|choice| upstream.try_another(choice));
        assert_eq!(upstream.peer().unwrap().0._address.to_string(), "127.0.0.1:2");
        let choice = upstream.peer().unwrap().1;
        upstream.try_another(choice);
        assert_eq!(upstream.peer().unwrap().0._address.to_string(), "127.0.0.1:1");
    }
}
