//! Where the API is, and where callers find the gateway.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Where the API is, or where callers find the gateway: scheme, host and port. It has no path, since the API's own paths are forwarded as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUrl {
    scheme: Scheme,
    host: String,
    port: u16,
}

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In clear text.
    Http,
    /// Over TLS, with the certificate verified against the host.
    Https,
}

/// Text that is not such a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a URL of a host such as `https://api.security.microsoft.com`, without path or user")]
pub struct InvalidUpstream(String);

impl UpstreamUrl {
    /// A plain-http upstream at an address, as the sandbox and the tests have.
    pub fn http(address: SocketAddr) -> Self {
        Self { scheme: Scheme::Http, host: address.ip().to_string(), port: address.port() }
    }

    /// Its scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Its host: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The `Host` header (and `:authority`) that the upstream expects: the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.scheme, self.port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Whether it is on this machine, so that nobody listens on the way.
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }
}

impl FromStr for UpstreamUrl {
    type Err = InvalidUpstream;

    fn from_str(text: &str) -> Result<Self, InvalidUpstream> {
        let parse = || {
            let uri: http::Uri = text.parse().ok()?;
            let scheme = match uri.scheme_str()? {
                "http" => Scheme::Http,
                "https" => Scheme::Https,
                _ => return None,
            };
            let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
            let host = authority.host().trim_start_matches('[').trim_end_matches(']');
            let bare = uri.path_and_query().is_none_or(|path| path.as_str() == "/");
            let default = match scheme {
                Scheme::Http => 80,
                Scheme::Https => 443,
            };
            let port = match authority
                .as_str()
                .rsplit_once(']')
                .map_or(authority.as_str(), |(_, rest)| rest)
                .rsplit_once(':')
            {
                None => default,
                Some((_, port)) => port.parse().ok().filter(|port| *port != 0)?,
            };
            (bare && !host.is_empty()).then(|| Self { scheme, host: host.to_owned(), port })
        };
        parse().ok_or_else(|| InvalidUpstream(text.to_owned()))
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}", self.authority())
    }
}
