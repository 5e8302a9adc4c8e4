//! Another process takes this one's place: from one instant on it decides, and what still comes here is relayed to it.
//!
//! Clients keep their connections to this process until an answer tells them to go, so that calls come here for some time
//! after the windows have passed on. Each is sent to the other process as it came, over a socket in a folder that nobody
//! else may enter, with a PROXY header that says where its client is. What the other one answers is passed on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::upstreams::peer::{H1UpgradePolicy, HttpPeer};
use pingora::{Error, ErrorType, OrErr};
use ppp::v2::{Builder, Command, Protocol, Version};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::time::Clock;

/// Who decides.
#[derive(Debug)]
pub struct Succession {
    stage: watch::Sender<Stage>,
    /// How often it was about to be another process: most calls need to know no more than that it never was.
    began: AtomicUsize,
}

#[derive(Debug, Clone)]
enum Stage {
    /// This process.
    Here,
    /// That is not known yet: calls wait.
    Passing,
    There(Arc<Successor>),
}

/// The process that has taken this one's place.
#[derive(Debug)]
pub(super) struct Successor {
    socket: PathBuf,
    /// Of the calls that were relayed: each has a connection of its own, since that says whose call it is.
    number: AtomicU64,
}

/// A call that is another process's to decide.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) to: Arc<Successor>,
    /// The body, if it was read before that was known.
    pub(super) body: Option<Bytes>,
}

/// Connects one call.
#[derive(Debug)]
struct Connector {
    socket: PathBuf,
    header: Vec<u8>,
    clock: Clock,
}

/// How often it is tried again to connect to a process that has as many connections to accept as the system holds.
const AGAIN: Duration = Duration::from_millis(10);

/// How long that may go on.
const CONNECT: Duration = Duration::from_secs(10);

/// What stands for a client without an address. Every connection has one.
const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

// === impl Succession ===

impl Default for Succession {
    fn default() -> Self {
        Self { stage: watch::Sender::new(Stage::Here), began: AtomicUsize::new(0) }
    }
}

impl Succession {
    /// It is about to be another process: calls wait until that is settled.
    pub fn begin(&self) {
        self.stage.send_replace(Stage::Passing);
        self.began.fetch_add(1, Ordering::Release);
    }

    /// It is this process after all.
    pub fn stay(&self) {
        self.stage.send_replace(Stage::Here);
    }

    /// It is the process that listens on this socket.
    pub fn pass_to(&self, socket: &Path) {
        let successor = Successor { socket: socket.to_owned(), number: AtomicU64::new(0) };
        self.stage.send_replace(Stage::There(Arc::new(successor)));
    }

    /// How often it was about to be another process.
    pub(super) fn began(&self) -> usize {
        self.began.load(Ordering::Acquire)
    }

    /// Whether it is this process, and nobody needs to wait to know that.
    pub(super) fn is_here(&self) -> bool {
        self.began() == 0 || matches!(*self.stage.borrow(), Stage::Here)
    }

    /// Who decides, if it is not this process; waits until that is known.
    pub(super) async fn settled(&self) -> Option<Arc<Successor>> {
        let mut stage = self.stage.subscribe();
        let settled = stage.wait_for(|stage| !matches!(stage, Stage::Passing)).await;
        match settled.as_deref() {
            Ok(Stage::There(successor)) => Some(successor.clone()),
            Ok(Stage::Here | Stage::Passing) | Err(_) => None,
        }
    }
}

// === impl Successor ===

impl Successor {
    /// Where to connect to for one call of this client, if it is known whose it is. An answer may take as long as a
    /// request may.
    pub(super) fn peer(&self, client: Option<SocketAddr>, limit: Duration, clock: &Clock) -> HttpPeer {
        let client = client.unwrap_or(UNKNOWN);
        let header =
            Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, (client, client));
        // Two addresses of one family always have a header.
        let header = header.build().unwrap_or_default();
        // The address is not connected to.
        let mut peer = HttpPeer::new(client, false, String::new());
        let options = &mut peer.options;
        options.custom_l4 =
            Some(Arc::new(Connector { socket: self.socket.clone(), header, clock: clock.clone() }));
        options.read_timeout = Some(limit);
        options.write_timeout = Some(limit);
        options.http_upstream_request_policy.h1_upgrade = H1UpgradePolicy::Deny;
        // Nobody else's call may come over this connection.
        options.idle_timeout = Some(Duration::ZERO);
        peer.group_key = self.number.fetch_add(1, Ordering::Relaxed);
        peer
    }
}

// === impl Connector ===

#[async_trait]
impl L4Connect for Connector {
    async fn connect(&self, _address: &PeerAddr) -> pingora::Result<Stream> {
        let connected = async {
            let mut stream = loop {
                match UnixStream::connect(&self.socket).await {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.clock.sleep(AGAIN).await,
                    connected => break connected?,
                }
            };
            stream.write_all(&self.header).await?;
            Ok::<_, io::Error>(stream)
        };
        let connected = self.clock.timeout(CONNECT, connected).await;
        let connected =
            connected.map_err(|_| Error::explain(ErrorType::ConnectTimedout, "the next process"))?;
        connected.or_err(ErrorType::ConnectError, "the next process").map(Stream::from)
    }
}
