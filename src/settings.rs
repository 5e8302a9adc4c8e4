//! How the process runs: addresses, upstream, folders. Flags and environment, read once at start.
//!
//! [`ServeFlags`] is what was written; [`Settings`] is what it means, with nothing half-valid left.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;

use crate::proxy::TrustedHops;
use crate::telemetry::audit::{AuditFullMode, AuditTarget};

mod door;
mod handover;
mod tls;
mod upstream;

use door::DoorFlags;
pub use door::DoorSettings;
use handover::HandoverFlags;
pub use handover::{HandoverSettings, StartMode};
use tls::TlsFlags;
pub use tls::{TlsFiles, TlsSettings};
use upstream::UpstreamFlags;
pub use upstream::{InvalidUpstream, Scheme, UpstreamSettings, UpstreamUrl, Versions};

/// The flags of `tollgate serve`; each is also an environment variable.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeFlags {
    /// Folder with the policy set (operations.toml, issuers.toml, roles.toml, device-groups.toml,
    /// applications.toml, limits.toml, devices.csv); reloaded when it changes and on SIGHUP
    #[arg(long, env = "TOLLGATE_POLICIES", value_name = "DIR")]
    policies: PathBuf,

    #[command(flatten)]
    upstream: UpstreamFlags,

    /// How callers find the gateway, such as `https://tollgate.example`: links to further pages in the API's answers are
    /// rewritten to lead there; without it they lead past the gateway
    #[arg(long, env = "TOLLGATE_PUBLIC_URL", value_name = "URL")]
    public_url: Option<UpstreamUrl>,

    /// Address that callers connect to
    #[arg(long, env = "TOLLGATE_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// Address of /metrics, /livez, /readyz and /policy; it has no authentication, so keep it off the public network
    #[arg(long, env = "TOLLGATE_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,

    #[command(flatten)]
    tls: TlsFlags,

    #[command(flatten)]
    handover: HandoverFlags,

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

    /// Folder for what must survive a restart, made if there is none: which calls were admitted, and which device each
    /// action belongs to; without it that is forgotten with the process
    #[arg(long, env = "TOLLGATE_STATE", value_name = "DIR")]
    state: Option<PathBuf>,

    /// Threads that serve requests [default: one a core]
    #[arg(long, env = "TOLLGATE_THREADS", value_name = "N")]
    threads: Option<NonZeroUsize>,

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
    pub upstream: UpstreamSettings,
    /// How callers find it, if links in answers are to lead there.
    pub public_url: Option<UpstreamUrl>,
    /// Where callers connect; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where metrics and health are.
    pub admin: SocketAddr,
    /// What callers' TLS is served with, if it is.
    pub tls: Option<TlsSettings>,
    /// How listeners pass from process to process, if they do.
    pub handover: Option<HandoverSettings>,
    /// How many proxies in front say where a call comes from.
    pub trusted_hops: TrustedHops,
    /// Where audit lines go; nowhere if none.
    pub audit: Option<AuditTarget>,
    /// What happens when they can't.
    pub audit_full: AuditFullMode,
    /// The folder for what must survive a restart; nothing does if none.
    pub state: Option<PathBuf>,
    /// Threads that serve requests.
    pub threads: NonZeroUsize,
    /// What clients may take, and how the process stops.
    pub door: DoorSettings,
}

/// Flags that contradict each other, or would send secrets over an open wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSettings {
    /// There is nothing to stand in front of.
    #[error("give `--cloud` or `--upstream`: which API is behind the gateway")]
    NoUpstream,
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
    /// It can't be told which key belongs to which certificate.
    #[error(
        "{certificates} of `--tls-cert` and {keys} of `--tls-key`: give one key for each certificate, in the same order"
    )]
    Pairs {
        /// How many chains were given.
        certificates: usize,
        /// How many keys.
        keys: usize,
    },
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
        let upstream = UpstreamSettings::try_from(flags.upstream)?;
        let tls = flags.tls.settings()?;
        if tls.is_none() && !flags.listen.ip().is_loopback() && !flags.insecure_listen {
            return Err(InvalidSettings::ListenWithoutTls(flags.listen));
        }
        if !flags.admin.ip().is_loopback() && !flags.insecure_admin {
            return Err(InvalidSettings::AdminExposed(flags.admin));
        }
        let handover: Option<HandoverSettings> = flags.handover.into();
        Ok(Self {
            upstream,
            public_url: flags.public_url,
            listen: flags.listen,
            admin: flags.admin,
            tls,
            handover,
            trusted_hops: flags.trusted_hops,
            audit: flags.audit,
            audit_full: match flags.audit_full {
                AuditFull::Refuse => AuditFullMode::Refuse,
                AuditFull::Drop => AuditFullMode::Drop,
            },
            state: flags.state,
            threads: flags.threads.unwrap_or_else(one_a_core),
            door: flags.door.into(),
        })
    }
}

/// As many threads as the process may use cores.
pub fn one_a_core() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
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
    fn the_api_is_that_of_a_cloud_or_another_and_never_both_or_none() {
        let upstream = |args: &[&str]| settings(args).map(|settings| settings.upstream.to_string());
        assert_eq!(upstream(&["--cloud", "eu"]), Ok("https://eu.api.security.microsoft.com".to_owned()));
        assert_eq!(upstream(&["--upstream", "https://api.example"]), Ok("https://api.example".to_owned()));
        assert!(upstream(&[]).unwrap_err().contains("give `--cloud` or `--upstream`"));
        let both = upstream(&["--cloud", "eu", "--upstream", "https://api.example"]);
        assert!(both.unwrap_err().contains("cannot be used with"));
        assert!(upstream(&["--cloud", "mars"]).unwrap_err().contains("[possible values: commercial, us, eu"));
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
        assert_eq!(with("1m 30s").unwrap().upstream.answer, Duration::from_secs(90));
        assert!(["0s", "-1s", "2h", "soon"].iter().all(|text| with(text).unwrap_err().contains(text)));
    }
}
