//! How much a caller may still do: exact sliding windows, several charged at once or not at all.
//!
//! A [`QuotaSet`] is the rules, compiled from `limits.toml` and the documented limits of the operations; it is a part of
//! a snapshot and never changes. A [`Limiter`] is what was admitted; there is one for the process and it outlives every
//! reload. A call's [`Charges`] come from the first and are paid at the second:
//!
//! ```text
//! QuotaSet::charges(subject, operation) ─▶ Charges ─▶ Limiter::acquire ─▶ Admission, dropped or forwarded
//!                                                                      └▶ LimitError
//! ```
//!
//! [`FailedLogins`] is the one limit that counts refusals, by address:
//!
//! ```text
//! QuotaSet::attempt(address) ─▶ Attempt ─▶ FailedLogins::check, and FailedLogins::charge if the token was refused
//! ```
//!
//! - `window`: the algorithm for one key, with its proof.
//! - `logins`: failed logins, by address.
//! - `decision`: the same for all keys of a call: admitted, and where; held, and until when; or refused.
//! - `quota`: the rules and their parts; `owners`: whose parts may be; `document`: the file.
//! - `charges` and `key`: which rules a call is counted by, and for whom.
//! - `closures`: what the API itself has turned away; `closure`: how that opens again.
//! - `overview`: the fullest keys, for operators.
//! - `store`: what any store must promise; `sharded`: the store in memory; `held`: the calls that wait.
//! - `open`: the actions that are under way.

mod charges;
mod closure;
mod closures;
mod decision;
mod document;
#[cfg(test)]
mod fixture;
mod held;
mod key;
mod logins;
mod odd;
mod open;
#[cfg(test)]
mod oracle;
mod overview;
mod owners;
mod quota;
mod saved;
mod scribe;
mod sharded;
mod store;
mod sync;
mod window;

pub use charges::{Caller, Charges, Lane};
pub use closures::ClosedLane;
pub use document::DEFAULT_MAX_KEYS;
pub(crate) use document::schema;
pub use key::{LimitKey, Whose};
pub use logins::{Attempt, FailedLogins, TooManyFailures};
pub use open::{OpenActions, OpenQuota};
pub use overview::{FullKey, FullWindow, MAX_TOP};
pub use owners::Owners;
pub use quota::{DocumentedLimit, End, MAX_CHARGES, NamedDevices, Quota, QuotaSet, Starts};
pub use saved::KeptBefore;
pub use store::{
    Admission, Hold, LimitError, Limiter, LimiterBefore, Names, OverLimit, Refusal, RetryAfter, Swept,
};
pub use window::{Bound, Bounds, Cost, InvalidMargin, Margin, SlidingWindowLog, Stamp, Usage};
