//! What clients may take of the door, and how it closes: flags, environment and defaults.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use super::Seconds;
use crate::proxy::Bounds;

/// The flags of `tollgate serve` that bound clients.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct DoorFlags {
    /// Balancers, as addresses or networks, whose every connection begins with a PROXY protocol header (v1 or v2) that
    /// says where it comes from; from anyone else such a header is a malformed request
    #[arg(long, env = "TOLLGATE_PROXY_PROTOCOL", value_name = "NETWORK", value_delimiter = ',', value_parser = network)]
    proxy_protocol: Vec<IpNet>,

    /// How long a TLS handshake, and then a request's header, may take to arrive
    #[arg(long, env = "TOLLGATE_HEADER_TIMEOUT", value_name = "DURATION", default_value = "10s")]
    header_timeout: Seconds,

    /// How long a connection may be open between two requests
    #[arg(long, env = "TOLLGATE_IDLE_TIMEOUT", value_name = "DURATION", default_value = "60s")]
    idle_timeout: Seconds,

    /// How long a client may keep the gateway waiting, for its body or with taking the answer, before `--min-rate` counts
    #[arg(long, env = "TOLLGATE_CLIENT_PATIENCE", value_name = "DURATION", default_value = "60s")]
    client_patience: Seconds,

    /// Bytes a second that a client must then give of its body, and take of the answer
    #[arg(long, env = "TOLLGATE_MIN_RATE", value_name = "BYTES", default_value = "1024")]
    min_rate: NonZeroU32,

    /// How long a request may take in all, from its header to the end of its answer
    #[arg(long, env = "TOLLGATE_REQUEST_TIMEOUT", value_name = "DURATION", default_value = "15m")]
    request_timeout: Seconds,

    /// Connections of clients at once; more are closed as they come
    #[arg(long, env = "TOLLGATE_MAX_CONNECTIONS", value_name = "N", default_value = "10000")]
    max_connections: NonZeroU32,

    /// Connections at once of one IPv4 address or one /64 of IPv6
    #[arg(long, env = "TOLLGATE_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", default_value = "1000")]
    max_connections_per_address: NonZeroU32,

    /// Requests on one HTTP/1 connection, after which it is closed
    #[arg(long, env = "TOLLGATE_MAX_REQUESTS_PER_CONNECTION", value_name = "N", default_value = "10000")]
    max_requests_per_connection: NonZeroU32,

    /// Requests at once on one HTTP/2 connection
    #[arg(long, env = "TOLLGATE_MAX_STREAMS", value_name = "N", default_value = "100")]
    max_streams: NonZeroU32,

    /// Calls at once that are decided or on their way to the API; more are answered 503 before their token is looked at
    #[arg(long, env = "TOLLGATE_MAX_IN_FLIGHT", value_name = "N", default_value = "1024")]
    max_in_flight: NonZeroU32,

    /// How long readiness fails before listeners close, when told to stop: longer than a balancer takes to notice
    #[arg(long, env = "TOLLGATE_SHUTDOWN_DELAY", value_name = "DURATION", default_value = "0s")]
    shutdown_delay: Wait,

    /// How long requests in flight may then take to finish
    #[arg(long, env = "TOLLGATE_SHUTDOWN_GRACE", value_name = "DURATION", default_value = "20s")]
    shutdown_grace: Wait,
}

/// What clients may take of the door, and how it closes.
#[derive(Debug, Clone)]
pub struct DoorSettings {
    /// Whose connections begin with a PROXY protocol header.
    pub proxies: Vec<IpNet>,
    /// What one client, and all of them, may take.
    pub bounds: Bounds,
    /// How long readiness fails before listeners close.
    pub shutdown_delay: Duration,
    /// How long requests in flight may then take to finish.
    pub shutdown_grace: Duration,
}

impl Default for DoorSettings {
    /// What `tollgate serve` has where no flag says otherwise.
    fn default() -> Self {
        Self {
            proxies: Vec::new(),
            bounds: Bounds::default(),
            shutdown_delay: Duration::ZERO,
            // A call of the API takes a few seconds; orchestrators kill what takes 30 s.
            shutdown_grace: Duration::from_secs(20),
        }
    }
}

impl From<DoorFlags> for DoorSettings {
    fn from(flags: DoorFlags) -> Self {
        Self {
            proxies: flags.proxy_protocol,
            bounds: Bounds {
                header: flags.header_timeout.0,
                idle: flags.idle_timeout.0,
                patience: flags.client_patience.0,
                min_rate: flags.min_rate,
                request: flags.request_timeout.0,
                connections: flags.max_connections,
                connections_per_address: flags.max_connections_per_address,
                requests_per_connection: flags.max_requests_per_connection,
                streams: flags.max_streams,
                in_flight: flags.max_in_flight,
            },
            shutdown_delay: flags.shutdown_delay.0,
            shutdown_grace: flags.shutdown_grace.0,
        }
    }
}

/// A duration that may be nothing: `0s` to `1h`.
#[derive(Debug, Clone, Copy)]
struct Wait(Duration);

impl FromStr for Wait {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let zero = text.parse::<jiff::SignedDuration>().is_ok_and(|duration| duration.is_zero());
        if zero { Ok(Self(Duration::ZERO)) } else { text.parse::<Seconds>().map(|wait| Self(wait.0)) }
    }
}

/// `10.0.0.0/8`, or one address.
fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| format!("`{text}` is neither an address nor a network"))
}
