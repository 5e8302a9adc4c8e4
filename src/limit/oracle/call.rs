//! Calls as the limiter gets them, and those that wait or are on their way.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::rules::{Call, Key, OPERATIONS, Rule};
use crate::id::OperationId;
use crate::limit::fixture::{application, user};
use crate::limit::{Admission, Lane, LimitError, Limiter, QuotaSet};
use crate::principal::{Scope, Subject};
use crate::time::Clock;

/// One version of the policy, as file and as rules. It outlives the calls that wait under it.
pub(super) type Version = &'static (QuotaSet, &'static [Rule]);

pub(super) type Answer = Pin<Box<dyn Future<Output = Result<Admission, LimitError>>>>;

/// An admission that was not forwarded yet, or is on its way.
pub(super) struct Taken {
    pub(super) admission: Admission,
    pub(super) number: u64,
    pub(super) keys: Vec<Key>,
    /// Those of limits that bounded calls on their way when it was decided.
    pub(super) on_its_way: Vec<Key>,
    pub(super) forwarded: bool,
}

/// A call that waits for its turn.
pub(super) struct Waiting {
    pub(super) answer: Answer,
    pub(super) number: u64,
    pub(super) call: Call,
    pub(super) version: Version,
    pub(super) keys: Vec<Key>,
    pub(super) at: u64,
}

pub(super) fn is_in(call: &Call, lane: &Lane) -> bool {
    let Subject { tenant, application, .. } = subject(call);
    (lane.tenant, lane.application) == (tenant, application)
        && lane.operation.as_str() == OPERATIONS[call.operation]
}

fn subject(call: &Call) -> Subject {
    match call.user {
        Some(number) => user(call.tenant, call.application, number),
        None => application(call.tenant, call.application),
    }
}

pub(super) fn ask(limiter: &'static Limiter, version: Version, call: Call, clock: Clock) -> Answer {
    Box::pin(async move {
        let (subject, scope) = (subject(&call), Scope::default());
        let operation = OPERATIONS[call.operation].parse::<OperationId>().unwrap();
        let charges = version.0.charges(&subject, &operation, &scope);
        limiter.acquire(&charges, &clock).await.map_err(LimitError::from)
    })
}

pub(super) fn poll(answer: &mut Answer) -> Option<Result<Admission, LimitError>> {
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}
