//! The gallery: it watches and never decides.
//!
//! [`metrics`] counts and [`audit`] writes down; both are told an [`Outcome`](crate::outcome::Outcome) and know no
//! floor but the first. The one answer that the gallery ever gives is [`AuditFull`](audit::AuditFull): a call whose
//! audit line cannot be kept must not be forwarded, and whoever asked decides what that means for the caller.

pub mod audit;
pub(crate) mod json;
pub mod metrics;
