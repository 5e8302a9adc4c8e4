//! Whether an address of the API can be connected to, as far as a call needs it: over TLS to the end of the handshake.
//!
//! A place that takes connections and never finishes a handshake would otherwise be taken for one that is back, again and
//! again, and each time the calls that come would wait for it as long as connecting may take.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use pingora::Result;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::upstreams::peer::Peer;
use pingora::{Error, ErrorType};
use tokio::net::TcpStream;

use super::targets::Target;
use crate::time::Clock;

/// What tries addresses.
#[derive(Default)]
pub(super) struct Prober {
    /// What connects as Pingora does for calls; none where nothing is spoken to over TLS.
    tls: Option<TransportConnector>,
}

impl fmt::Debug for Prober {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prober").finish_non_exhaustive()
    }
}

impl Prober {
    /// One that trusts the authorities of this file (PEM), or the system's, as calls do.
    pub(super) fn over_tls(ca: Option<&Path>) -> Self {
        // Nothing is kept for reuse: a probe is to find out whether a new connection can be made.
        let options = ConnectorOptions {
            ca_file: ca.map(|path| path.display().to_string()),
            ..ConnectorOptions::new(0)
        };
        Self { tls: Some(TransportConnector::new(Some(options))) }
    }

    /// Connects, and closes again.
    ///
    /// # Errors
    /// If a call could not connect either: refused, not in time, or without a certificate that is trusted.
    pub(super) async fn connect(&self, target: &Target, limit: Duration, clock: &Clock) -> Result<()> {
        let peer = target.peer();
        match &self.tls {
            // By the peer's own limits, and Pingora's clock.
            Some(tls) if peer.tls() => tls.new_stream(peer).await.map(drop),
            _ => match clock.timeout(limit, TcpStream::connect(target.address)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Error::e_because(ErrorType::ConnectError, "trying an address", error),
                Err(_) => Error::e_explain(ErrorType::ConnectTimedout, "trying an address"),
            },
        }
    }
}
