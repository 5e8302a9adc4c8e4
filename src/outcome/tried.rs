//! What is tried and not enforced: a call that it would refuse passes, and somebody is told.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::id::RoleName;
use crate::outcome::{Findings, ReasonCode};

/// A refusal that is not enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The reason that the caller would have been told.
    pub reason: ReasonCode,
    /// The message that the caller would have been told.
    pub message: Arc<str>,
    /// The roles with `enforce = false` by which the call passes; none if no part of the policy set is enforced.
    pub roles: SmallVec<[RoleName; 1]>,
}

// === impl Tried ===

impl Tried {
    /// A refusal that passes by these roles, or, if there are none, since the policy set is not enforced.
    pub fn new(reason: ReasonCode, message: impl fmt::Display, roles: SmallVec<[RoleName; 1]>) -> Self {
        Self { reason, message: message.to_string().into(), roles }
    }
}

// === impl Findings ===

impl Findings {
    /// Why the call would have been refused if everything were enforced; none if it would not, and for one that was.
    /// `over_limit` stands for whatever bound of a limit.
    pub fn would_refuse(&self) -> Option<ReasonCode> {
        let tried = self.tried.as_ref().map(|tried| tried.reason);
        let group = (!self.scope.overrun.is_empty()).then_some(ReasonCode::DeviceGroup);
        let limit = (!self.overrun.is_empty()).then_some(ReasonCode::OverLimit);
        tried.or(group).or(limit)
    }
}
