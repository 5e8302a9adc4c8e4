//! How much of everything one client, and all of them together, may take of the door.

use std::num::NonZeroU32;
use std::time::Duration;

/// A header is a packet or two: three retransmissions of either take 7 s.
const DEFAULT_HEADER: Duration = Duration::from_secs(10);

/// Longer than a playbook's pause between two calls, short enough that abandoned connections do not pile up.
const DEFAULT_IDLE: Duration = Duration::from_secs(60);

/// A client that parses one page before it reads on, or a line that is down for a moment; what nginx allows, too.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(60);

/// 1 KiB a second: a modem of 1990.
const DEFAULT_MIN_RATE: u32 = 1_024;

/// A file of the live response library over a slow line; every answer of the API comes much sooner.
const DEFAULT_REQUEST: Duration = Duration::from_secs(15 * 60);

/// Each holds a file, and an idle one no buffer.
const DEFAULT_CONNECTIONS: u32 = 10_000;

/// A tenth of all: one address may be a balancer or a translator with many clients behind it.
const DEFAULT_CONNECTIONS_PER_ADDRESS: u32 = 1_000;

/// Now and then a new connection lets a balancer choose again; a handshake in 10,000 requests costs nothing.
const DEFAULT_REQUESTS_PER_CONNECTION: u32 = 10_000;

/// What RFC 9113, section 6.5.2, recommends as the least.
const DEFAULT_STREAMS: u32 = 100;

/// As many as the pool of connections to the upstream keeps for reuse.
const DEFAULT_IN_FLIGHT: u32 = 1_024;

/// The bounds that an operator may set. Those of a single request's header are in `strict`.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// For the TLS handshake, and for a request's header from its first byte to its last.
    pub header: Duration,
    /// How long a connection may be open between two requests.
    pub idle: Duration,
    /// How long a client may keep us waiting, for its body or with taking the answer, before its rate counts.
    pub patience: Duration,
    /// Bytes a second that a client must give of its body and take of the answer, after that.
    pub min_rate: NonZeroU32,
    /// How long a request may take in all, from its header to the last byte of its answer.
    pub request: Duration,
    /// Connections at once.
    pub connections: NonZeroU32,
    /// Connections at once of one address.
    pub connections_per_address: NonZeroU32,
    /// Requests on one connection, after which it is closed.
    pub requests_per_connection: NonZeroU32,
    /// Requests at once on one HTTP/2 connection.
    pub streams: NonZeroU32,
    /// Calls at once that are decided or on their way to the upstream.
    pub in_flight: NonZeroU32,
}

impl Default for Bounds {
    /// What `tollgate serve` has where no flag says otherwise.
    fn default() -> Self {
        let count = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        Self {
            header: DEFAULT_HEADER,
            idle: DEFAULT_IDLE,
            patience: DEFAULT_PATIENCE,
            min_rate: count(DEFAULT_MIN_RATE),
            request: DEFAULT_REQUEST,
            connections: count(DEFAULT_CONNECTIONS),
            connections_per_address: count(DEFAULT_CONNECTIONS_PER_ADDRESS),
            requests_per_connection: count(DEFAULT_REQUESTS_PER_CONNECTION),
            streams: count(DEFAULT_STREAMS),
            in_flight: count(DEFAULT_IN_FLIGHT),
        }
    }
}
