//! Where the API is: a URL, or the name of one of Microsoft's clouds; and where callers find the gateway.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;

use super::{InvalidSettings, Seconds};

/// The flags of `tollgate serve` about the API behind it.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct UpstreamFlags {
    /// The API behind the gateway: Microsoft's own, of this cloud or of the commercial one in this part of the world
    #[arg(long, env = "TOLLGATE_CLOUD", value_name = "CLOUD", value_enum)]
    cloud: Option<Cloud>,

    /// The API behind the gateway: any other, such as `https://api.example`; of several, each is used while those
    /// before it cannot be connected to
    #[arg(
        long,
        env = "TOLLGATE_UPSTREAM",
        value_name = "URL",
        value_delimiter = ',',
        conflicts_with = "cloud"
    )]
    upstream: Vec<UpstreamUrl>,

    /// Authorities (PEM) that sign the API's certificate, in the place of the system's
    #[arg(long, env = "TOLLGATE_UPSTREAM_CA", value_name = "FILE")]
    upstream_ca: Option<PathBuf>,

    /// How long it may take to connect to an address of the API, before the next is tried
    #[arg(long, env = "TOLLGATE_UPSTREAM_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "5s")]
    upstream_connect_timeout: Seconds,

    /// How long the API may take to answer, and then between two pieces of its answer, before the caller gets 504
    #[arg(long, env = "TOLLGATE_UPSTREAM_TIMEOUT", value_name = "DURATION", default_value = "60s")]
    upstream_timeout: Seconds,

    /// How long the API may take to receive a piece of a request
    #[arg(long, env = "TOLLGATE_UPSTREAM_WRITE_TIMEOUT", value_name = "DURATION", default_value = "60s")]
    upstream_write_timeout: Seconds,

    /// How long a connection to the API is kept for the next call: shorter than the API keeps it
    #[arg(long, env = "TOLLGATE_UPSTREAM_IDLE_TIMEOUT", value_name = "DURATION", default_value = "30s")]
    upstream_idle_timeout: Seconds,

    /// Offer HTTP/2 to an API that is spoken to over TLS: where it takes that, up to 100 calls share a connection
    #[arg(long, env = "TOLLGATE_UPSTREAM_HTTP2", value_parser = BoolishValueParser::new())]
    upstream_http2: bool,

    /// Forward tokens without TLS to an upstream that is not loopback
    #[arg(long, env = "TOLLGATE_INSECURE_UPSTREAM", value_parser = BoolishValueParser::new())]
    insecure_upstream: bool,
}

/// The API behind the gateway.
#[derive(Debug, Clone)]
pub struct UpstreamSettings {
    /// Where it is.
    pub url: UpstreamUrl,
    /// Where else it is, if it can't be connected to there; in this order.
    pub fallbacks: Vec<UpstreamUrl>,
    /// The authorities that sign its certificates, in PEM; without it, the system's.
    pub ca: Option<PathBuf>,
    /// What it is offered over TLS.
    pub versions: Versions,
    /// For the TCP handshake, and twice that with TLS.
    pub connect: Duration,
    /// For the beginning of an answer, and between two pieces of it.
    pub answer: Duration,
    /// For a piece of a request.
    pub write: Duration,
    /// How long a connection is kept for the next call.
    pub idle: Duration,
}

/// The versions of HTTP that the upstream is offered over TLS, by ALPN (RFC 7301). In clear text it is always HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 first, and HTTP/1.1.
    Http2OrHttp1,
}

/// Microsoft's hosts of the API, each by https (*Exposed APIs list*; *Improve request performance*; *Microsoft Defender
/// for Endpoint for US Government customers*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Cloud {
    /// `api.security.microsoft.com`, which finds the tenant's part of the world by itself
    Commercial,
    /// `us.api.security.microsoft.com`
    Us,
    /// `eu.api.security.microsoft.com`
    Eu,
    /// `uk.api.security.microsoft.com`
    Uk,
    /// `au.api.security.microsoft.com`
    Au,
    /// `swa.api.security.microsoft.com`
    Swa,
    /// `api-gcc.securitycenter.microsoft.us`
    Gcc,
    /// `api-gov.securitycenter.microsoft.us`
    GccHigh,
    /// `api-gov.securitycenter.microsoft.us`
    Dod,
}

// === impl Cloud ===

impl Cloud {
    fn host(self) -> &'static str {
        match self {
            Self::Commercial => "api.security.microsoft.com",
            Self::Us => "us.api.security.microsoft.com",
            Self::Eu => "eu.api.security.microsoft.com",
            Self::Uk => "uk.api.security.microsoft.com",
            Self::Au => "au.api.security.microsoft.com",
            Self::Swa => "swa.api.security.microsoft.com",
            Self::Gcc => "api-gcc.securitycenter.microsoft.us",
            Self::GccHigh | Self::Dod => "api-gov.securitycenter.microsoft.us",
        }
    }
}

impl From<Cloud> for UpstreamUrl {
    fn from(cloud: Cloud) -> Self {
        Self { scheme: Scheme::Https, host: cloud.host().to_owned(), port: 443 }
    }
}

// === impl UpstreamSettings ===

impl UpstreamSettings {
    /// The API at one place, all else as `tollgate serve` has it where no flag says otherwise.
    pub fn at(url: UpstreamUrl) -> Self {
        Self {
            url,
            fallbacks: Vec::new(),
            ca: None,
            versions: Versions::Http1,
            // A TCP handshake to another continent takes under a second.
            connect: Duration::from_secs(5),
            // More than the API's own time limit.
            answer: Duration::from_secs(60),
            write: Duration::from_secs(60),
            // Below the keep-alive of common front ends (60 s and more), so that we close an idle connection first.
            idle: Duration::from_secs(30),
        }
    }

    /// Every place, in the order in which they are tried.
    pub fn urls(&self) -> impl Iterator<Item = &UpstreamUrl> {
        std::iter::once(&self.url).chain(&self.fallbacks)
    }
}

impl TryFrom<UpstreamFlags> for UpstreamSettings {
    type Error = InvalidSettings;

    fn try_from(flags: UpstreamFlags) -> Result<Self, InvalidSettings> {
        let mut urls = flags.cloud.map(UpstreamUrl::from).into_iter().chain(flags.upstream);
        let url = urls.next().ok_or(InvalidSettings::NoUpstream)?;
        let settings = Self {
            url,
            fallbacks: urls.collect(),
            ca: flags.upstream_ca,
            versions: if flags.upstream_http2 { Versions::Http2OrHttp1 } else { Versions::Http1 },
            connect: flags.upstream_connect_timeout.0,
            answer: flags.upstream_timeout.0,
            write: flags.upstream_write_timeout.0,
            idle: flags.upstream_idle_timeout.0,
        };
        let in_the_open = |url: &&UpstreamUrl| url.scheme == Scheme::Http && !url.is_loopback();
        let open = settings.urls().find(in_the_open).cloned();
        match open {
            Some(open) if !flags.insecure_upstream => Err(InvalidSettings::UpstreamWithoutTls(open)),
            _ => Ok(settings),
        }
    }
}

impl fmt::Display for UpstreamSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)?;
        self.fallbacks.iter().try_for_each(|url| write!(f, ", then {url}"))
    }
}

// === UpstreamUrl ===

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

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn an_upstream_is_a_host_and_its_authority_names_the_port_only_where_it_must() {
        for (text, authority) in [
            ("https://api.security.microsoft.com", "api.security.microsoft.com"),
            ("https://api.security.microsoft.com/", "api.security.microsoft.com"),
            ("http://127.0.0.1:8443", "127.0.0.1:8443"),
            ("http://[::1]:81", "[::1]:81"),
            ("http://[::1]", "[::1]"),
        ] {
            assert_eq!(text.parse::<UpstreamUrl>().unwrap().authority(), authority);
        }
        for text in [
            "",
            "api.example",
            "ftp://h",
            "https://u@h",
            "https://h/path",
            "https://h?q",
            "https://h:0",
            "https://h:x",
        ] {
            assert!(text.parse::<UpstreamUrl>().unwrap_err().to_string().contains(text), "{text}");
        }
    }

    #[test]
    fn each_cloud_has_its_own_host_by_https() {
        let urls: Vec<_> = Cloud::value_variants()
            .iter()
            .map(|cloud| {
                let name = cloud.to_possible_value().unwrap().get_name().to_owned();
                format!("{name} {}", UpstreamUrl::from(*cloud))
            })
            .collect();
        assert_eq!(
            urls,
            [
                "commercial https://api.security.microsoft.com",
                "us https://us.api.security.microsoft.com",
                "eu https://eu.api.security.microsoft.com",
                "uk https://uk.api.security.microsoft.com",
                "au https://au.api.security.microsoft.com",
                "swa https://swa.api.security.microsoft.com",
                "gcc https://api-gcc.securitycenter.microsoft.us",
                "gcc-high https://api-gov.securitycenter.microsoft.us",
                "dod https://api-gov.securitycenter.microsoft.us",
            ]
        );
    }
}
