//! Calls as the limiter gets them, and those that wait or are on their way.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::list::Charge;
use super::rules::{Call, OPERATIONS, Rule};
use crate::id::OperationId;
use crate::limit::fixture::{application, quotas, user};
use crate::limit::key::{LimitKey, RuleId};
use crate::limit::{Admission, Charges, Lane, LimitError, Limiter, Names, QuotaSet};
use crate::principal::{Scope, Subject};
use crate::time::Clock;

/// One version of the policy, as file and as rules. It outlives the calls that wait under it.
pub(super) struct Version {
    set: QuotaSet,
    pub(super) rules: &'static [Rule],
    /// The limits and parts that the store's keys are of.
    named: HashMap<RuleId, (String, Option<String>)>,
}

pub(super) type Answer = Pin<Box<dyn Future<Output = Result<Let, LimitError>>>>;

/// A call that is let in, and the limits that say they would not have.
pub(super) struct Let {
    pub(super) admission: Admission,
    pub(super) overrun: Names,
}

/// An admission that was not forwarded yet, or is on its way.
pub(super) struct Taken {
    pub(super) admission: Admission,
    pub(super) number: u64,
    pub(super) charged: Vec<Charge>,
    /// Those of limits that bounded calls on their way when it was decided.
    pub(super) on_its_way: Vec<Charge>,
    pub(super) forwarded: bool,
}

/// A call that waits for its turn.
pub(super) struct Waiting {
    pub(super) answer: Answer,
    pub(super) number: u64,
    pub(super) call: Call,
    pub(super) version: &'static Version,
    pub(super) charged: Vec<Charge>,
    pub(super) at: u64,
}

// === impl Version ===

impl Version {
    pub(super) fn new((file, rules): (&str, &'static [Rule])) -> Self {
        let set = quotas(file);
        let mut named = HashMap::new();
        for (_, quota) in set.all() {
            let name = quota.name.as_str().to_owned();
            let parts =
                quota.parts.iter().map(|part| (part.rule, (name.clone(), Some(part.name.to_string()))));
            named.extend(parts);
            named.insert(quota.rule, (name, None));
        }
        Self { set, rules, named }
    }

    /// The limits, and the parts of them, that an admission was charged to.
    pub(super) fn charged(&self, admission: &Admission) -> Vec<(&str, Option<&str>)> {
        self.names(&admission.rules())
    }

    /// The limits, and the parts of them, that these rules are.
    pub(super) fn names(&self, rules: &[RuleId]) -> Vec<(&str, Option<&str>)> {
        let named = rules.iter().map(|rule| &self.named[rule]);
        named.map(|(limit, part)| (limit.as_str(), part.as_deref())).collect()
    }

    pub(super) fn has_parts(&self) -> bool {
        self.rules.iter().any(|rule| !rule.parts.is_empty())
    }

    /// Whether the store takes the path for calls with a single key.
    pub(super) fn is_alone(&self, call: &Call) -> bool {
        let (subject, scope, operation) = (subject(call), Scope::default(), operation(call));
        self.charges(&subject, &scope, &operation).only(&mut LimitKey::default()).is_some()
    }

    fn charges<'a>(
        &'a self,
        subject: &'a Subject,
        scope: &'a Scope,
        operation: &'a OperationId,
    ) -> Charges<'a> {
        self.set.charges(subject, operation, scope)
    }
}

pub(super) fn is_in(call: &Call, lane: &Lane) -> bool {
    let Subject { tenant, application, .. } = subject(call);
    (lane.tenant, lane.application) == (tenant, application) && lane.operation == operation(call)
}

fn subject(call: &Call) -> Subject {
    match call.user {
        Some(number) => user(call.tenant, call.application, number),
        None => application(call.tenant, call.application),
    }
}

fn operation(call: &Call) -> OperationId {
    OPERATIONS[call.operation].parse().unwrap()
}

pub(super) fn ask(limiter: Arc<Limiter>, version: &'static Version, call: Call, clock: Clock) -> Answer {
    Box::pin(async move {
        let (subject, scope, operation) = (subject(&call), Scope::default(), operation(&call));
        let charges = version.charges(&subject, &scope, &operation);
        let admission = limiter.acquire(&charges, &clock).await?;
        let overrun = admission.overrun(&charges);
        Ok(Let { admission, overrun })
    })
}

pub(super) fn poll(answer: &mut Answer) -> Option<Result<Let, LimitError>> {
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}
