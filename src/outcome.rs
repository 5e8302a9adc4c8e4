//! What became of a request: the words that the answer, the metrics and the audit share.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::id::{ApplicationName, EntraGroupId, LimitName, OperationId, RequestId};
use crate::principal::{Principal, Scope};
use crate::time::Wall;

mod tried;

pub use tried::Tried;

/// Declares [`ReasonCode`] with the stable word of each, so that the list is written once.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        /// Why a request was not answered by the API alone: one fixed vocabulary for the header
        /// `Tollgate-Reason`, the audit and the label `reason`. A word is never reused for another meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ReasonCode {
            $($(#[$doc])* $variant,)*
        }

        impl ReasonCode {
            /// Every reason there is, in the order of the README's table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word, in snake case.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

reasons! {
    /// The request could be read in two ways, or not at all.
    MalformedRequest = "malformed_request",
    /// More than one credential.
    TwoTokens = "two_tokens",
    /// An `Authorization` header that is not `Bearer` and one token.
    BadAuthorization = "bad_authorization",
    /// A token in the query, where logs would keep it.
    TokenInQuery = "token_in_query",
    /// More header than we read.
    HeaderTooLarge = "header_too_large",
    /// No operation has this path and method.
    NoOperation = "no_operation",
    /// No bearer token.
    NoToken = "no_token",
    /// A token that is not well formed, or whose signature is not its issuer's.
    BadToken = "bad_token",
    /// `exp` has passed.
    Expired = "expired",
    /// `nbf` has not come.
    NotYetValid = "not_yet_valid",
    /// `aud` is not ours.
    WrongAudience = "wrong_audience",
    /// `iss` is nobody we trust, or disagrees with `tid`.
    WrongIssuer = "wrong_issuer",
    /// The token lacks the permission.
    MissingPermission = "missing_permission",
    /// No role of the user holds the role permission.
    MissingRole = "missing_role",
    /// The user is in too many groups for the token to name them.
    GroupOverage = "group_overage",
    /// `applications.toml` does not give the application this operation.
    Application = "application",
    /// The device's group is not the caller's.
    DeviceGroup = "device_group",
    /// The operation's devices can't be known, and the caller is confined to device groups.
    UnscopedOperation = "unscoped_operation",
    /// Nobody knows the device behind this action.
    UnknownAction = "unknown_action",
    /// The inventory lacks the device.
    UnknownDevice = "unknown_device",
    /// The inventory is too old to say which group the device is in.
    StaleInventory = "stale_inventory",
    /// The body is not of the type that the operation takes.
    WrongType = "wrong_type",
    /// The body is not what its type says.
    BadBody = "bad_body",
    /// The body lacks a member.
    MissingParameter = "missing_parameter",
    /// The body is larger than the operation takes.
    BodyTooLarge = "body_too_large",
    /// No room in a limit.
    OverLimit = "over_limit",
    /// As many calls of a limit are on their way as may be at once.
    InFlight = "in_flight",
    /// As many actions are under way as a limit lets be at once.
    OpenActions = "open_actions",
    /// The API itself has turned such calls away, for a time that has not passed.
    UpstreamLimited = "upstream_limited",
    /// Too many tokens from this address were refused.
    FailedLogins = "failed_logins",
    /// The keys that would verify the token can't be had.
    KeysUnavailable = "keys_unavailable",
    /// The limiter holds as many keys as it may, all of them live.
    KeysFull = "keys_full",
    /// The process stops before the call's turn comes.
    ShuttingDown = "shutting_down",
    /// As many requests are in flight as may be.
    Overload = "overload",
    /// The upstream failed so often of late that it is not asked.
    CircuitOpen = "circuit_open",
    /// The audit can't take the line that must be written first.
    AuditUnavailable = "audit_unavailable",
    /// The store of the limits can't be used, or can't be written as the policy wants it.
    StoreUnavailable = "store_unavailable",
    /// The upstream can't be reached, or broke off.
    UpstreamUnavailable = "upstream_unavailable",
    /// The upstream's answer is encoded, so that its links can't be read.
    UpstreamUnreadable = "upstream_unreadable",
    /// The upstream did not answer in time.
    UpstreamTimeout = "upstream_timeout",
    /// The caller hung up before there was an answer.
    ClientGone = "client_gone",
    /// A fault of our own.
    Internal = "internal",
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for ReasonCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The length of a window, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window(NonZeroU32);

impl Window {
    /// 24 days: admission times are kept as 32 bits of milliseconds (49.7 days), and a time must stay
    /// unambiguous for two windows.
    pub const MAX_SECONDS: u32 = 24 * 86_400;

    /// A window of this many seconds; `None` if it is none or more than [`MAX_SECONDS`](Self::MAX_SECONDS).
    pub const fn from_seconds(seconds: u32) -> Option<Self> {
        match NonZeroU32::new(seconds) {
            Some(seconds) if seconds.get() <= Self::MAX_SECONDS => Some(Self(seconds)),
            _ => None,
        }
    }

    /// Its length in seconds.
    pub const fn seconds(self) -> u32 {
        self.0.get()
    }

    /// The word for its length, if there is one.
    pub const fn word(self) -> Option<&'static str> {
        match self.seconds() {
            1 => Some("second"),
            60 => Some("minute"),
            3_600 => Some("hour"),
            86_400 => Some("day"),
            _ => None,
        }
    }

    /// Its length.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0.get() as u64)
    }

    /// Its length in milliseconds.
    pub const fn millis(self) -> u64 {
        self.0.get() as u64 * 1_000
    }
}

/// `second`, `minute`, `hour`, `day`, or the number of seconds (`90s`): the end of a `RateLimit` item's name.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.word() {
            Some(word) => f.write_str(word),
            None => write!(f, "{}s", self.seconds()),
        }
    }
}

/// At most so many in any window of such a length: `100 per minute`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many may be admitted.
    pub count: NonZeroU32,
    /// In any window of this length.
    pub window: Window,
}

/// Text that is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a rate such as `100 per minute` (1 to 1000000 per second, minute, hour, day, or `90s`, at most 24 days)"
)]
pub struct InvalidRate(String);

impl Rate {
    /// A limit of more would need more than 4 MB of times for one key.
    pub const MAX_COUNT: u32 = 1_000_000;
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let parse = || {
            let (count, window) = text.split_once(" per ")?;
            let seconds = match window.trim() {
                "second" => 1,
                "minute" => 60,
                "hour" => 3_600,
                "day" => 86_400,
                other => other.strip_suffix('s')?.parse().ok()?,
            };
            let count =
                count.trim().parse().ok().filter(|count: &NonZeroU32| count.get() <= Self::MAX_COUNT)?;
            Some(Self { count, window: Window::from_seconds(seconds)? })
        };
        parse().ok_or_else(|| InvalidRate(text.chars().take(80).collect()))
    }
}

/// The service's own words for a rate: `100 per 00:01:00`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.window.seconds();
        write!(f, "{} per {:02}:{:02}:{:02}", self.count, seconds / 3_600, seconds / 60 % 60, seconds % 60)
    }
}

/// How one window of one limit stands after a call: what `RateLimit` and the audit say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The limit.
    pub limit: LimitName,
    /// The window, and how many it holds.
    pub rate: Rate,
    /// How many more would be admitted now.
    pub remaining: u32,
    /// When `remaining` next grows, if nobody calls; zero if it is at its most.
    pub grows_in: Duration,
    /// Whether the caller may see it (`show`).
    pub shown: bool,
}

/// The standings of a call, minute and hour of one limit in the common case.
pub type Standings = SmallVec<[Standing; 2]>;

/// Whether a request was let through to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It passed every check.
    Admitted,
    /// A check refused it, and nothing was forwarded.
    Refused,
}

impl Decision {
    /// The word, in snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused => "refused",
        }
    }
}

/// What was found out about a request on its way through the checks, up to where it got. Only verified facts:
/// a name that a refused token claims is not here.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// The call of the API.
    pub operation: Option<OperationId>,
    /// The caller.
    pub principal: Option<Arc<Principal>>,
    /// The caller's application by its name in `applications.toml`, if it has one.
    pub application: Option<ApplicationName>,
    /// Those of the user's Entra groups that the policy names: whatever it decides, no other could matter.
    pub groups: SmallVec<[EntraGroupId; 4]>,
    /// The devices it acts on.
    pub scope: Scope,
    /// The first check that the call did not pass and that is not enforced; device groups and limits say so themselves.
    pub tried: Option<Box<Tried>>,
    /// The member `Comment` of its body.
    pub comment: Option<Arc<str>>,
    /// How the limits stood just after it was admitted, or refused for them.
    pub standings: Standings,
    /// How long it waited for its turn in the limits, or until it was refused or its caller went; none if it did not.
    pub held: Option<Duration>,
    /// The limits that would have refused it, if they were enforced.
    pub overrun: SmallVec<[LimitName; 1]>,
}

/// Everything that the gallery sees of one request.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The id that Tollgate gave it.
    pub request_id: RequestId,
    /// The client's own `X-Request-Id`, unverified, cut to 128 characters.
    pub client_request_id: Option<Arc<str>>,
    /// When its header had arrived.
    pub received: Wall,
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// The version of the policy that it was decided by.
    pub policy_version: Arc<str>,
    /// Admitted or refused.
    pub decision: Decision,
    /// Why it was refused, or how an admitted one failed; none for an answer of the API.
    pub reason: Option<ReasonCode>,
    /// What was found out.
    pub findings: Findings,
    /// From the header's arrival to the decision.
    pub admission: Duration,
    /// The status that the API answered with.
    pub upstream_status: Option<u16>,
    /// From forwarding to the API's response header.
    pub upstream_latency: Option<Duration>,
    /// From the header's arrival to the end.
    pub total: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_and_printed_in_the_services_words() {
        for (text, printed, window) in [
            ("100 per minute", "100 per 00:01:00", "minute"),
            ("1500 per hour", "1500 per 01:00:00", "hour"),
            ("2 per 90s", "2 per 00:01:30", "90s"),
            ("1 per day", "1 per 24:00:00", "day"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.to_string().as_str(), rate.window.to_string().as_str()), (printed, window));
        }
    }

    #[test]
    fn what_is_not_a_rate_is_an_error_that_quotes_it() {
        for text in [
            "",
            "100",
            "0 per minute",
            "-1 per minute",
            "100 per fortnight",
            "5 per 0s",
            "1 per 9999999s",
            "1000001 per hour",
        ] {
            assert!(text.parse::<Rate>().unwrap_err().to_string().contains(text), "{text}");
        }
    }
}
