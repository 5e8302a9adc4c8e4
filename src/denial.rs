//! Why a call does not pass: what each room says, gathered into one type that the door knows how to answer.

use std::time::Duration;

use crate::id::Permission;
use crate::limit::{LimitError, TooManyFailures};
use crate::outcome::ReasonCode;
use crate::policy::{BodyError, NoOperation, PermitError, ReachError};
use crate::token::{BearerError, TokenError};

/// A call that is not let through, or was and then failed at the upstream. Its `Display` is the message for the caller.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Denial {
    /// The request could be read in two ways, or did not arrive whole.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The request's header is more than we read.
    #[error("the request header is larger than {limit}")]
    HeaderTooLarge {
        /// The bound that it passed, with its unit.
        limit: &'static str,
    },
    /// The API has no such call, as far as the policy knows.
    #[error(transparent)]
    NoOperation(#[from] NoOperation),
    /// There is not exactly one bearer token.
    #[error(transparent)]
    Bearer(#[from] BearerError),
    /// The token does not show who calls.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Too many tokens from the caller's address proved nobody: this one is not looked at.
    #[error(transparent)]
    Logins(#[from] TooManyFailures),
    /// The caller may not make this call.
    #[error(transparent)]
    Permit(#[from] PermitError),
    /// The body is not what the call takes.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The caller may not make it on this device.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// There is no room left.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// There are as many requests in flight as may be.
    #[error("too many requests are in flight")]
    Overload,
    /// The upstream failed so often of late that it is left alone for a while.
    #[error("the API has not been answering and is being left alone")]
    CircuitOpen {
        /// From now until it is asked again.
        retry_after: Duration,
    },
    /// The audit line that must come first can't be written.
    #[error("the audit trail cannot be written")]
    AuditUnavailable,
    /// The upstream can't be reached, or broke off.
    #[error("the API cannot be reached")]
    UpstreamUnavailable,
    /// The upstream's answer may lead past us, and cannot be read.
    #[error("the API's answer is encoded, so that this gateway cannot turn its links to itself")]
    UpstreamUnreadable,
    /// The upstream did not answer in time; it may have done what was asked.
    #[error("the API did not answer in time: the action may have been started")]
    UpstreamTimeout,
    /// Nobody is left to answer.
    #[error("the caller hung up")]
    ClientGone,
    /// A fault of our own.
    #[error("internal error")]
    Internal,
}

/// What is wrong with a request before any policy is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// The first line is not a method, a target and a version.
    #[error("the request line must be a method, a path and `HTTP/1.1`, with one space between them")]
    RequestLine,
    /// The request target is not a path.
    #[error("the request target must be a path that begins with `/`")]
    Target,
    /// The path has a part that could be read as another path.
    #[error(
        "the path must not hold empty or dot segments, backslashes, or `%2f`, `%5c`, `%00`, `%2e` in any form"
    )]
    Path,
    /// Not exactly one `Host`.
    #[error("the request must have exactly one Host header")]
    Host,
    /// A line that ends in less than CR and LF.
    #[error("each line of the header must end in CR and LF")]
    Lines,
    /// A line of the header that is not a name, a colon and text.
    #[error("each line of the header must be a name, a colon and text without control characters")]
    Field,
    /// The header stopped before its end.
    #[error("the header did not arrive in time")]
    HeaderTimeout,
    /// What the HTTP library refuses, and no rule of ours.
    #[error("the request is not HTTP")]
    Library,
    /// A header that names another method or path than the request line.
    #[error("headers that replace the method or the path are not accepted")]
    Override,
    /// The body stopped before its end.
    #[error("the body did not arrive in time")]
    BodyTimeout,
    /// The body is not framed as its header says.
    #[error("the body is not framed as its header says")]
    BodyFraming,
}

impl Malformed {
    /// The word for the label `kind`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestLine => "request_line",
            Self::Target => "target",
            Self::Path => "path",
            Self::Host => "host",
            Self::Lines => "lines",
            Self::Field => "field",
            Self::HeaderTimeout => "header_timeout",
            Self::Library => "library",
            Self::Override => "override",
            Self::BodyTimeout => "body_timeout",
            Self::BodyFraming => "body_framing",
        }
    }
}

/// How long a caller should stay away when too many requests are in flight: most calls take less.
const OVERLOAD_RETRY: Duration = Duration::from_secs(1);

/// How long a caller should stay away when the audit trail is full: the writer empties its queue well within it,
/// or is broken for longer than anyone can tell.
const AUDIT_RETRY: Duration = Duration::from_secs(1);

/// How long a caller should stay away when the inventory is too old: whoever brings a new one is a timer or a person,
/// and either takes minutes.
const INVENTORY_RETRY: Duration = Duration::from_secs(60);

/// How long a caller should stay away from a process that stops: the next one serves after a second or two, or another
/// serves already.
const SHUTDOWN_RETRY: Duration = Duration::from_secs(2);

/// How long a caller should stay away from an upstream that can't be reached: long enough not to hammer it, short
/// enough for a playbook to wait.
const UPSTREAM_RETRY: Duration = Duration::from_secs(5);

impl Denial {
    /// The reason, as the header, the audit and the metrics spell it.
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::Malformed(_) => ReasonCode::MalformedRequest,
            Self::HeaderTooLarge { .. } => ReasonCode::HeaderTooLarge,
            Self::NoOperation(_) => ReasonCode::NoOperation,
            Self::Bearer(error) => error.reason(),
            Self::Token(error) => error.reason(),
            Self::Logins(_) => ReasonCode::FailedLogins,
            Self::Permit(error) => error.reason(),
            Self::Body(error) => error.reason(),
            Self::Reach(error) => error.reason(),
            Self::Limit(error) => match error {
                LimitError::OverLimit(_) => ReasonCode::OverLimit,
                LimitError::InFlight { .. } => ReasonCode::InFlight,
                LimitError::OpenActions { .. } => ReasonCode::OpenActions,
                LimitError::Closed { .. } => ReasonCode::UpstreamLimited,
                LimitError::Ended => ReasonCode::ShuttingDown,
                LimitError::KeysFull { .. } => ReasonCode::KeysFull,
                LimitError::Unwritten { .. } => ReasonCode::StoreUnavailable,
            },
            Self::Overload => ReasonCode::Overload,
            Self::CircuitOpen { .. } => ReasonCode::CircuitOpen,
            Self::AuditUnavailable => ReasonCode::AuditUnavailable,
            Self::UpstreamUnavailable => ReasonCode::UpstreamUnavailable,
            Self::UpstreamUnreadable => ReasonCode::UpstreamUnreadable,
            Self::UpstreamTimeout => ReasonCode::UpstreamTimeout,
            Self::ClientGone => ReasonCode::ClientGone,
            Self::Internal => ReasonCode::Internal,
        }
    }

    /// When the caller may try again, in whole seconds rounded up, where the answer says so.
    pub fn retry_after(&self) -> Option<u64> {
        let seconds = |wait: Duration| wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        match self {
            Self::Limit(LimitError::OverLimit(over)) => Some(over.retry_after.as_secs_rounded_up()),
            Self::Limit(
                LimitError::InFlight { retry_after, .. }
                | LimitError::OpenActions { retry_after, .. }
                | LimitError::Closed { retry_after }
                | LimitError::KeysFull { retry_after }
                | LimitError::Unwritten { retry_after },
            ) => Some(retry_after.as_secs_rounded_up()),
            Self::Limit(LimitError::Ended) => Some(seconds(SHUTDOWN_RETRY)),
            Self::Logins(over) => Some(over.retry_after.as_secs_rounded_up()),
            Self::Token(TokenError::KeysUnavailable { retry_after }) => Some(seconds(*retry_after).max(1)),
            Self::Reach(ReachError::StaleInventory { .. }) => Some(seconds(INVENTORY_RETRY)),
            Self::Overload => Some(seconds(OVERLOAD_RETRY)),
            Self::CircuitOpen { retry_after } => Some(seconds(*retry_after).max(1)),
            Self::AuditUnavailable => Some(seconds(AUDIT_RETRY)),
            Self::UpstreamUnavailable | Self::UpstreamUnreadable => Some(seconds(UPSTREAM_RETRY)),
            _ => None,
        }
    }

    /// The permissions any one of which would have done, for `scope` in `WWW-Authenticate` (RFC 6750, section 3).
    pub fn needed(&self) -> &[Permission] {
        match self {
            Self::Permit(PermitError::MissingPermission { needed, .. }) => needed,
            _ => &[],
        }
    }
}
