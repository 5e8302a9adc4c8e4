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
//! - `quota`: rules, keys and parts; `owners`: whose parts may be; `document`: the file.
//! - `store`: what any store must promise; `sharded`: the store in memory.

mod document;
#[cfg(test)]
mod fixture;
mod key;
mod logins;
mod odd;
#[cfg(test)]
mod oracle;
mod owners;
mod quota;
mod sharded;
mod store;
mod sync;
mod window;

pub use document::DEFAULT_MAX_KEYS;
pub(crate) use document::schema;
pub use key::LimitKey;
pub use logins::{Attempt, FailedLogins, TooManyFailures};
pub use owners::Owners;
pub use quota::{Caller, Charges, DocumentedLimit, MAX_CHARGES, NamedDevices, Quota, QuotaSet};
pub use store::{Admission, LimitError, Limiter, Names, OverLimit, Refusal, RetryAfter, Swept};
pub use window::{Bound, Bounds, Cost, InvalidMargin, Margin, SlidingWindowLog, Stamp, Usage};
