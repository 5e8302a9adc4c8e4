//! The API behind the gateway: where it is, and what it gets to see.

mod probe;
mod targets;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, header};
use pingora::http::RequestHeader;
use pingora::protocols::{ALPN, TcpKeepalive};
use pingora::upstreams::peer::{H1UpgradePolicy, HttpPeer};
use smallvec::SmallVec;

use self::probe::Prober;
pub(super) use self::targets::Target;
use self::targets::Targets;
use super::circuit::{Circuit, Passage};
use crate::id::RequestId;
use crate::time::{Clock, Steady};

/// How often names are looked up again: front ends move behind DNS records that live a minute or less.
const RESOLVE: Duration = Duration::from_secs(30);

/// How long after the last tries have ended the addresses are tried again, where there is a choice: a handshake that
/// nobody waits for.
const PROBE: Duration = Duration::from_secs(5);

/// How many calls share one HTTP/2 connection: what servers commonly allow (RFC 9113, section 6.5.2, recommends no
/// fewer), and few enough that one connection that is lost does not take all.
const MAX_STREAMS: usize = 100;

/// The header that carries our request id to the upstream, and a client's own to us.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What says, or claims, where a call came from. The API has no use for it, and from strangers it is anything.
const FORWARDED: &str = "forwarded";
const FORWARDED_PREFIX: &str = "x-forwarded-";
const REAL_ADDRESS: &str = "x-real-ip";

/// The API: its places in the order in which they are tried. Names are looked up in the background; a look-up that fails
/// changes nothing.
#[derive(Debug)]
pub struct Upstream {
    places: Vec<Place>,
    timeouts: Timeouts,
    targets: Targets,
    prober: Arc<Prober>,
    circuit: Arc<Circuit>,
}

/// One place where the API is.
#[derive(Debug, Clone)]
pub struct Place {
    /// A name, or an address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The `Host` that it expects.
    pub authority: HeaderValue,
    /// How it is spoken to.
    pub tls: Tls,
}

/// How long the upstream may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the TCP handshake, and twice that with TLS.
    pub connect: Duration,
    /// For the beginning of an answer, and between two pieces of it.
    pub read: Duration,
    /// For a piece of a request.
    pub write: Duration,
    /// How long a connection is kept for the next call.
    pub idle: Duration,
}

/// How the upstream is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// In clear text, by HTTP/1.1.
    Off,
    /// Over TLS, the certificate verified against the host, by HTTP/1.1.
    Verified,
    /// The same, by HTTP/2 if the upstream takes it.
    VerifiedHttp2,
}

/// A name that has no address.
#[derive(Debug)]
pub struct Unresolved {
    /// The name.
    pub host: String,
    /// What the system said.
    pub error: io::Error,
}

impl Upstream {
    /// Looks the hosts up, blocking. Authorities other than the system's are in a file (PEM).
    ///
    /// # Errors
    /// The first name that has no address.
    pub fn resolve(places: Vec<Place>, timeouts: Timeouts, ca: Option<&Path>) -> Result<Self, Unresolved> {
        let over_tls = places.iter().any(|place| place.tls != Tls::Off);
        let prober = if over_tls { Prober::over_tls(ca) } else { Prober::default() };
        let (targets, circuit) = (Targets::default(), Arc::default());
        let upstream = Self { places, timeouts, targets, prober: Arc::new(prober), circuit };
        let mut targets = Vec::new();
        for place in &upstream.places {
            let unresolved = |error| Unresolved { host: place.host.clone(), error };
            let addresses = (place.host.as_str(), place.port).to_socket_addrs().map_err(unresolved)?;
            let before = targets.len();
            targets.extend(addresses.map(|address| place.target(address, timeouts)));
            if targets.len() == before {
                return Err(unresolved(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
            }
        }
        upstream.targets.replace(targets);
        Ok(upstream)
    }

    /// Looks the hosts up again and again, until it is dropped.
    pub async fn keep_resolved(self: Arc<Self>, clock: Clock) {
        loop {
            clock.sleep(RESOLVE).await;
            let mut answers = Vec::new();
            for place in &self.places {
                let answer = tokio::net::lookup_host((place.host.as_str(), place.port)).await;
                answers.push(answer.map(Iterator::collect));
            }
            self.take(answers);
        }
    }

    /// Takes the addresses that the places have now, one answer for each. Unless each has one, all stays as it is: half
    /// of an answer would forget addresses that are still good.
    fn take(&self, answers: Vec<io::Result<Vec<SocketAddr>>>) {
        let mut targets = Vec::new();
        for (place, answer) in self.places.iter().zip(answers) {
            match answer {
                Ok(addresses) if !addresses.is_empty() => {
                    targets.extend(addresses.into_iter().map(|address| place.target(address, self.timeouts)));
                }
                Ok(_) => return tracing::warn!(host = place.host, "the upstream has no address any more"),
                Err(error) => {
                    return tracing::warn!(host = place.host, %error, "cannot look up the upstream");
                }
            }
        }
        self.targets.replace(targets);
    }

    /// Finds out again and again which addresses can be connected to, until it is dropped.
    pub async fn keep_probed(self: Arc<Self>, clock: Clock) {
        loop {
            clock.sleep(PROBE).await;
            self.targets.probe(&self.prober, self.timeouts.connect, &clock).await;
        }
    }

    /// Lets a call through, unless the upstream keeps failing.
    ///
    /// # Errors
    /// How long it is still left alone.
    pub(super) fn pass(&self, now: Steady) -> Result<Passage, Duration> {
        self.circuit.pass(now)
    }

    /// Where to connect to.
    pub(super) fn choose(&self) -> Option<Arc<Target>> {
        self.targets.choose()
    }
}

// === impl Target ===

impl Target {
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
        put_back(request, sent)?;
        let claims = request.headers.keys().filter(|name| claims_origin(name)).cloned();
        let claims: SmallVec<[_; 4]> = claims.collect();
        for name in claims {
            request.remove_header(&name);
        }
        request.insert_header(header::HOST, self.authority.clone())?;
        request.insert_header(REQUEST_ID, id.text(&mut [0; 36]))
    }
}

/// Puts back what a decision is made on, should a client have had it taken out.
pub(super) fn put_back(request: &mut RequestHeader, sent: &RequestHeader) -> pingora::Result<()> {
    for name in [header::AUTHORIZATION, header::CONTENT_TYPE, header::CONTENT_ENCODING] {
        if !request.headers.contains_key(&name) {
            for value in sent.headers.get_all(&name) {
                request.append_header(name.clone(), value.clone())?;
            }
        }
    }
    Ok(())
}

/// Whether the upstream says of a call that it did not begin with it (RFC 9113, section 8.7). HTTP/1.1 has no way to say
/// so: a connection that closes without an answer may have carried the call out.
pub(super) fn is_untaken(error: &pingora::Error) -> bool {
    error.root_cause().downcast_ref::<h2::Error>().is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (refused || error.is_go_away())
    })
}

fn claims_origin(name: &HeaderName) -> bool {
    let name = name.as_str();
    name == FORWARDED || name == REAL_ADDRESS || name.starts_with(FORWARDED_PREFIX)
}

// === impl Place ===

impl Place {
    fn target(&self, address: SocketAddr, timeouts: Timeouts) -> Target {
        let mut peer = HttpPeer::new(address, self.tls != Tls::Off, self.host.clone());
        let options = &mut peer.options;
        match self.tls {
            Tls::Off | Tls::Verified => {}
            Tls::VerifiedHttp2 => {
                options.alpn = ALPN::H2H1;
                options.max_h2_streams = MAX_STREAMS;
            }
        }
        options.connection_timeout = Some(timeouts.connect);
        options.total_connection_timeout = Some(timeouts.connect * 2);
        options.read_timeout = Some(timeouts.read);
        options.write_timeout = Some(timeouts.write);
        options.idle_timeout = Some(timeouts.idle);
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
        Target::new(address, peer, self.authority.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;

    fn upstream(hosts: &[&str]) -> Upstream {
        let place = |host: &&str| Place {
            host: (*host).to_owned(),
            port: 443,
            authority: HeaderValue::from_static("api.example"),
            tls: Tls::Off,
        };
        let second = Duration::from_secs(1);
        let timeouts = Timeouts { connect: second, read: second, write: second, idle: second };
        Upstream::resolve(hosts.iter().map(place).collect(), timeouts, None).unwrap()
    }

    fn answer(addresses: &[&str]) -> io::Result<Vec<SocketAddr>> {
        Ok(addresses.iter().map(|address| format!("{address}:443").parse().unwrap()).collect())
    }

    #[test]
    fn a_name_that_moves_is_followed_and_half_an_answer_changes_nothing() {
        let upstream = upstream(&["127.0.0.1", "127.0.0.2"]);
        let used = || upstream.choose().unwrap().address.ip().to_string();
        assert_eq!(used(), "127.0.0.1");
        upstream.take(vec![answer(&["192.0.2.1", "192.0.2.2"]), answer(&["192.0.2.3"])]);
        assert_eq!(used(), "192.0.2.1");
        upstream.choose().unwrap().pass_over();
        for wrong in [Ok(Vec::new()), Err(io::Error::other("no answer"))] {
            upstream.take(vec![answer(&["192.0.2.4"]), wrong]);
            assert_eq!(used(), "192.0.2.2");
        }
        // What is still there is passed over as it was.
        upstream.take(vec![answer(&["192.0.2.1"]), answer(&["192.0.2.3"])]);
        assert_eq!(used(), "192.0.2.3");
    }

    #[tokio::test]
    async fn names_are_looked_up_again_every_half_minute() {
        let (clock, hand) = Clock::manual(Wall::default());
        let upstream = Arc::new(upstream(&["127.0.0.1"]));
        upstream.take(vec![answer(&["192.0.2.1"])]);
        let before = upstream.choose().unwrap();
        let resolved = tokio::spawn(upstream.clone().keep_resolved(clock));
        while upstream.choose().unwrap().address == before.address {
            hand.advance(RESOLVE);
            tokio::task::yield_now().await;
        }
        assert_eq!(upstream.choose().unwrap().address.ip().to_string(), "127.0.0.1");
        resolved.abort();
    }
}
