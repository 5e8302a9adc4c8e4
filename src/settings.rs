//! How the process runs: addresses, upstream, folders. Flags and environment, read once at start.
//!
//! [`ServeFlags`] is what was written; [`Settings`] is what it means, with nothing half-valid left.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;

use crate::proxy::TrustedHops;
use crate::telemetry::audit::{AuditFullMode, AuditTarget};

mod door;

use door::DoorFlags;
pub use door::DoorSettings;

/// The flags of `tollgate serve`; each is also an environment variable.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeFlags {
    /// Folder with the policy set (operations.toml, issuers.toml, roles.toml, device-groups.toml,
    /// applications.toml, limits.toml, devices.csv); reloaded when it changes and on SIGHUP
    #[arg(long, env = "TOLLGATE_POLICIES", value_name = "DIR")]
    policies: PathBuf,

    /// The API behind the gateway, such as `https://api.security.microsoft.com`
    #[arg(long, env = "TOLLGATE_UPSTREAM", value_name = "URL")]
    upstream: UpstreamUrl,

    /// Address that callers connect to
    #[arg(long, env = "TOLLGATE_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// Address of /metrics, /livez, /readyz and /policy; it has no authentication, so keep it off the public network
    #[arg(long, env = "TOLLGATE_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,

    /// Certificate chain (PEM) to serve TLS with; read again when it changes and on SIGHUP
    #[arg(long, env = "TOLLGATE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key (PEM) of the certificate
    #[arg(long, env = "TOLLGATE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Proxies between callers and Tollgate that each add to X-Forwarded-For the address that they saw: the limit on
    /// failed logins and the audit go by the outermost's; 0 is the connection's own address
    #[arg(long, env = "TOLLGATE_TRUSTED_HOPS", value_name = "N", default_value_t)]
    trusted_hops: TrustedHops,

    /// File for the audit trail, one JSON object a line; `-` is standard output; without it there is no trail
    #[arg(long, env = "TOLLGATE_AUDIT", value_name = "FILE|-")]
    audit: Option<AuditTarget>,

    /// What happens to a call whose audit line can't be queued: `refuse` it, or `drop` the line and count it
    #[arg(long, env = "TOLLGATE_AUDIT_FULL", value_name = "MODE", value_enum, default_value_t = AuditFull::Refuse)]
    audit_full: AuditFull,

    /// Threads that serve requests [default: one a core]
    #[arg(long, env = "TOLLGATE_THREADS", value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// How long the API may take to answer before the caller gets 504
    #[arg(long, env = "TOLLGATE_UPSTREAM_TIMEOUT", value_name = "DURATION", default_value = "60s")]
    upstream_timeout: Seconds,

    #[command(flatten)]
    door: DoorFlags,

    /// What is logged to standard error: error, warn, info, debug, or a filter such as info,tollgate=debug
    #[arg(long, env = "TOLLGATE_LOG", value_name = "FILTER", default_value = "info")]
    log: String,

    /// Serve callers without TLS on an address that is not loopback
    #[arg(long, env = "TOLLGATE_INSECURE_LISTEN", value_parser = BoolishValueParser::new())]
    insecure_listen: bool,

    /// Show metrics and policy state on an address that is not loopback
    #[arg(long, env = "TOLLGATE_INSECURE_ADMIN", value_parser = BoolishValueParser::new())]
    insecure_admin: bool,

    /// Forward tokens without TLS to an upstream that is not loopback
    #[arg(long, env = "TOLLGATE_INSECURE_UPSTREAM", value_parser = BoolishValueParser::new())]
    insecure_upstream: bool,
}

/// The words of `--audit-full`.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum AuditFull {
    /// The call is refused with 503
    Refuse,
    /// The call passes and its line is counted as dropped
    Drop,
}

/// Everything that `server` needs to know to run a gateway.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The API.
    pub upstream: UpstreamUrl,
    /// Where callers connect; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where metrics and health are.
    pub admin: SocketAddr,
    /// What callers' TLS is served with, if it is.
    pub tls: Option<TlsFiles>,
    /// How many proxies in front say where a call comes from.
    pub trusted_hops: TrustedHops,
    /// Where audit lines go; nowhere if none.
    pub audit: Option<AuditTarget>,
    /// What happens when they can't.
    pub audit_full: AuditFullMode,
    /// Threads that serve requests.
    pub threads: NonZeroUsize,
    /// How long the API may take to begin its answer.
    pub upstream_timeout: Duration,
    /// What clients may take, and how the process stops.
    pub door: DoorSettings,
}

/// The two files of a served certificate.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain, in PEM.
    pub cert: PathBuf,
    /// The key, in PEM.
    pub key: PathBuf,
}

/// Flags that contradict each other, or would send secrets over an open wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSettings {
    /// Tokens would cross a network in clear text on their way to us.
    #[error(
        "`--listen {0}` is not loopback and has no TLS: give `--tls-cert` and `--tls-key`, or `--insecure-listen` if TLS ends in front of Tollgate"
    )]
    ListenWithoutTls(SocketAddr),
    /// Metrics name operations, applications and limits, and the listener asks nobody who they are.
    #[error(
        "`--admin {0}` is not loopback and has no authentication: add `--insecure-admin` if only trusted hosts reach it"
    )]
    AdminExposed(SocketAddr),
    /// Tokens would cross a network in clear text on their way to the API.
    #[error("`--upstream {0}` is plain http and not loopback: use https, or add `--insecure-upstream`")]
    UpstreamWithoutTls(UpstreamUrl),
}

impl ServeFlags {
    /// The policy folder.
    pub fn policies(&self) -> &PathBuf {
        &self.policies
    }

    /// The log filter.
    pub fn log(&self) -> &str {
        &self.log
    }
}

impl TryFrom<ServeFlags> for Settings {
    type Error = InvalidSettings;

    fn try_from(flags: ServeFlags) -> Result<Self, InvalidSettings> {
        let tls = flags.tls_cert.zip(flags.tls_key).map(|(cert, key)| TlsFiles { cert, key });
        if tls.is_none() && !flags.listen.ip().is_loopback() && !flags.insecure_listen {
            return Err(InvalidSettings::ListenWithoutTls(flags.listen));
        }
        if !flags.admin.ip().is_loopback() && !flags.insecure_admin {
            return Err(InvalidSettings::AdminExposed(flags.admin));
        }
        if flags.upstream.scheme == Scheme::Http && !flags.upstream.is_loopback() && !flags.insecure_upstream
        {
            return Err(InvalidSettings::UpstreamWithoutTls(flags.upstream));
        }
        Ok(Self {
            upstream: flags.upstream,
            listen: flags.listen,
            admin: flags.admin,
            tls,
            trusted_hops: flags.trusted_hops,
            audit: flags.audit,
            audit_full: match flags.audit_full {
                AuditFull::Refuse => AuditFullMode::Refuse,
                AuditFull::Drop => AuditFullMode::Drop,
            },
            threads: flags.threads.unwrap_or_else(one_a_core),
            upstream_timeout: flags.upstream_timeout.0,
            door: flags.door.into(),
        })
    }
}

/// As many threads as the process may use cores.
pub fn one_a_core() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

// === UpstreamUrl ===

/// Where the API is: scheme, host and port. It has no path, since the API's own paths are forwarded as they are.
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

    fn is_loopback(&self) -> bool {
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

/// A duration on the command line, such as `60s` or `1m 30s`: more than nothing, at most an hour.
#[derive(Debug, Clone, Copy)]
struct Seconds(Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok())
            .filter(|duration| !duration.is_zero() && *duration <= Duration::from_secs(3_600))
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a duration such as `60s`, at most `1h`"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        flags: ServeFlags,
    }

    fn settings(args: &[&str]) -> Result<Settings, String> {
        let base = ["tollgate", "--policies", "p"];
        let command = Command::try_parse_from(base.iter().chain(args)).map_err(|error| error.to_string())?;
        Settings::try_from(command.flags).map_err(|error| error.to_string())
    }

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
    fn what_would_send_tokens_in_clear_text_needs_a_flag_that_says_so() {
        let https = ["--upstream", "https://api.example"];
        assert!(settings(&https).is_ok());
        for (extra, flag) in [
            (["--listen", "0.0.0.0:1"], "--insecure-listen"),
            (["--admin", "0.0.0.0:1"], "--insecure-admin"),
            (["--upstream", "http://api.example"], "--insecure-upstream"),
        ] {
            let mut args = if extra[0] == "--upstream" { vec![] } else { https.to_vec() };
            args.extend(extra);
            assert!(settings(&args).unwrap_err().contains(flag));
            args.push(flag);
            assert!(settings(&args).is_ok(), "{args:?}");
        }
        assert!(settings(&["--upstream", "http://localhost:5"]).is_ok());
    }

    #[test]
    fn the_flags_defaults_are_the_doors_own() {
        let flags = settings(&["--upstream", "https://h"]).unwrap().door;
        assert_eq!(format!("{flags:?}"), format!("{:?}", DoorSettings::default()));
        let zero = settings(&["--upstream", "https://h", "--shutdown-grace", "0s"]).unwrap().door;
        assert_eq!(zero.shutdown_grace, Duration::ZERO);
    }

    #[test]
    fn a_timeout_is_more_than_nothing_and_at_most_an_hour() {
        let with = |text| settings(&["--upstream", "https://h", &format!("--upstream-timeout={text}")]);
        assert_eq!(with("1m 30s").unwrap().upstream_timeout, Duration::from_secs(90));
        assert!(["0s", "-1s", "2h", "soon"].iter().all(|text| with(text).unwrap_err().contains(text)));
    }
}
