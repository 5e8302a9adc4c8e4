//! What a call is charged to: whom each of its limits counts it for, and in which part.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::id::{ApplicationId, EntraGroupId, LimitName, OperationId, TenantId};
use crate::journal::Durability;
use crate::limit::key::{LimitKey, RuleId};
use crate::limit::open::{OpenKey, OpenQuota};
use crate::limit::quota::{Effect, Idle, Part, Quota, WhenFull};
use crate::limit::store::Names;
use crate::limit::window::Bounds;
use crate::principal::{Scope, Subject};
use crate::time::{Steady, Wall};

/// Who calls, and when, as limits see it.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The ids.
    pub subject: &'a Subject,
    /// Those of the user's groups that the policy names.
    pub groups: &'a [EntraGroupId],
    /// The calendar's time, by which limits and parts lapse.
    pub at: Wall,
}

/// Everything that a call is charged to: the limits of its operation, and what they count by.
#[derive(Debug, Clone, Copy)]
pub struct Charges<'a> {
    /// INVARIANT: in the order of their rules, no rule twice.
    pub(super) quotas: &'a [Arc<Quota>],
    pub(super) actions: &'a [Arc<OpenQuota>],
    pub(super) caller: Caller<'a>,
    pub(super) scope: &'a Scope,
    pub(super) operation: &'a OperationId,
    /// The earliest moment at which the call may be admitted.
    pub(super) from: Steady,
    /// The last moment that it waits for, whatever its limits let it; none if they alone say it.
    pub(super) by: Option<Steady>,
    pub(super) max_keys: NonZeroU32,
    pub(super) max_held: NonZeroU32,
    /// What an admission must survive before the call is forwarded; nothing is waited for if none.
    pub(super) durable: Option<Durability>,
}

/// One way in which a call may be counted by one of its limits, which has a key of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) quota: &'a Arc<Quota>,
    /// Which of the call's limits it is.
    pub(super) place: u8,
    pub(super) way: Way,
}

/// Where in a limit a call may be counted, in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// The limit has no parts.
    Whole,
    /// The part of this index, which is the caller's.
    Own(u16),
    /// What is nobody's part.
    Rest,
    /// The part of this index, which is somebody else's and lent while it is idle.
    Lent(u16),
}

/// Calls that the API itself tells apart from others: it limits each operation per tenant and application.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lane {
    /// The operation.
    pub operation: OperationId,
    /// The tenant.
    pub tenant: TenantId,
    /// The application that calls.
    pub application: ApplicationId,
}

/// Limits of a call, by their places among all of them: a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Places(u8);

// === impl Caller ===

/// A caller of whose groups nothing is known, before anything has lapsed.
impl<'a> From<&'a Subject> for Caller<'a> {
    fn from(subject: &'a Subject) -> Self {
        Self { subject, groups: &[], at: Wall::default() }
    }
}

// === impl Charges ===

impl<'a> Charges<'a> {
    /// The same, of a call that may not be admitted before this moment, whatever room there is. It is held until then
    /// if every limit of it lets it wait for so long, or refused as [`Closed`](crate::limit::Refusal::Closed).
    pub fn not_before(self, from: Steady) -> Self {
        Self { from, ..self }
    }

    /// The same, of a call that is not held for longer than until this moment.
    pub(super) fn by(self, by: Option<Steady>) -> Self {
        Self { by, ..self }
    }

    /// How long the call may be held for a reason that is not one of its limits: the shortest time that they let it
    /// wait; none if one of them does not.
    pub(super) fn patience(&self) -> Option<Duration> {
        let enforced = self.quotas().filter(|quota| quota.effect == Effect::Enforced);
        let waits = enforced.map(|quota| match quota.when_full {
            WhenFull::Reject => None,
            WhenFull::Wait { wait, .. } => Some(wait),
        });
        waits.reduce(|one, other| Some(one?.min(other?))).flatten()
    }

    /// How many calls may be held for such a reason: as few as any limit that lets it wait does.
    pub(super) fn queue(&self) -> usize {
        let enforced = self.quotas().filter(|quota| quota.effect == Effect::Enforced);
        let queues = enforced.filter_map(|quota| match quota.when_full {
            WhenFull::Reject => None,
            WhenFull::Wait { queue, .. } => Some(queue.get() as usize),
        });
        queues.min().unwrap_or(0)
    }

    /// By how many limits the call is counted.
    pub fn len(&self) -> usize {
        self.quotas().count()
    }

    /// Whether nothing limits the call.
    pub fn is_empty(&self) -> bool {
        self.quotas().next().is_none()
    }

    /// Which calls this one is of, as the API itself tells them apart.
    pub(super) fn lane(&self) -> Lane {
        let Subject { tenant, application, .. } = *self.caller.subject;
        Lane { operation: self.operation.clone(), tenant, application }
    }

    /// Its limits, in the order of their places.
    pub(super) fn quotas(&self) -> impl Iterator<Item = &'a Arc<Quota>> {
        let subject = self.caller.subject;
        self.quotas.iter().filter(|quota| quota.counts(subject))
    }

    /// Every way in which the call may be counted, with its key: no key twice, at most [`MAX_CHARGES`](crate::limit::MAX_CHARGES), and those of
    /// limits without parts in the order of their rules.
    pub(super) fn try_each<E>(
        &self,
        mut each: impl FnMut(&LimitKey, Claim<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        for (quota, place) in self.quotas().zip(0..) {
            let mut claim = |rule, way| {
                let mut key = LimitKey::default();
                key.set(rule, quota.per, self.caller.subject, self.scope);
                each(&key, Claim { quota, place, way })
            };
            if quota.parts.is_empty() {
                claim(quota.rule, Way::Whole)?;
                continue;
            }
            if quota.fits(&quota.bounds) {
                claim(quota.rule, Way::Rest)?;
            }
            for (part, index) in quota.parts.iter().zip(0..).filter(|(part, _)| quota.fits(&part.bounds)) {
                match part.idle {
                    _ if part.owner.is(self.caller) => claim(part.rule, Way::Own(index))?,
                    Idle::Lent => claim(part.rule, Way::Lent(index))?,
                    Idle::Kept => {}
                }
            }
        }
        Ok(())
    }

    /// Whether its windows alone say whether it is admitted.
    pub(super) fn is_simple(&self) -> bool {
        self.actions.is_empty()
    }

    /// Its limits on actions under way, and what it is counted under there.
    pub(super) fn open(&self) -> impl Iterator<Item = (&'a OpenQuota, OpenKey)> {
        let (subject, scope) = (self.caller.subject, self.scope);
        self.actions.iter().filter_map(move |quota| {
            let OpenQuota { name, per, operation, .. } = &**quota;
            Some((&**quota, OpenKey::of(name, *per, operation.as_ref(), subject, scope)?))
        })
    }

    /// Which of the call's limits count it in parts, or count the actions that it may start, and how, as sentences.
    pub fn explain(&self) -> Vec<(LimitName, String)> {
        let mut said = Vec::new();
        for quota in self.quotas().filter(|quota| !quota.parts.is_empty()) {
            let part = |part: &Part| {
                let rates: Vec<_> = part.bounds.each().iter().map(|bound| bound.rate.to_string()).collect();
                format!("`{}` ({})", part.name, rates.join(", "))
            };
            let (own, others): (Vec<_>, Vec<_>) =
                quota.parts.iter().partition(|part| part.owner.is(self.caller));
            let mut ways: Vec<_> = own.into_iter().map(part).collect();
            ways.extend(quota.fits(&quota.bounds).then(|| "what is nobody's part".to_owned()));
            let lent = others.into_iter().filter(|part| part.idle == Idle::Lent);
            ways.extend(lent.map(|lent| format!("{} while it is idle", part(lent))));
            let found = match ways.is_empty() {
                true => format!("`{}`: all of it is others' parts", quota.name),
                false => format!("`{}`: counted in {}", quota.name, ways.join(", or else in ")),
            };
            said.push((quota.name.clone(), found));
        }
        let open = self.open().map(|(quota, key)| {
            let found =
                format!("`{}`: at most {} actions under way, as `{}`", quota.name, quota.most, key.as_str());
            (quota.name.clone(), found)
        });
        said.extend(open);
        said
    }

    /// Its limits that have no way for it at all, with their places.
    pub(super) fn shut_out(&self) -> impl Iterator<Item = (&'a Arc<Quota>, u8)> {
        let caller = self.caller;
        self.quotas().zip(0..).filter(move |(quota, _)| !quota.parts.is_empty() && !quota.takes(caller))
    }

    /// The only limit, if there is one, its key written into `key`: where it lies from then on, since moving it would
    /// take as long as making it. None for a call that there is more to say of.
    pub(super) fn only(&self, key: &mut LimitKey) -> Option<&'a Arc<Quota>> {
        let [quota] = self.quotas else { return None };
        let alone =
            quota.counts(self.caller.subject) && quota.parts.is_empty() && self.from == Steady::default();
        alone.then(|| {
            key.set(quota.rule, quota.per, self.caller.subject, self.scope);
            quota
        })
    }

    /// The limits of these places.
    pub(super) fn names(&self, places: Places) -> Names {
        if places == Places::default() {
            return Names::new();
        }
        let named = self.quotas().zip(0..).filter(|(_, place)| places.has(*place));
        named.map(|(quota, _)| quota.name.clone()).collect()
    }
}

// === impl Claim ===

impl Claim<'_> {
    pub(super) fn rule(self) -> RuleId {
        self.part().map_or(self.quota.rule, |part| part.rule)
    }

    pub(super) fn bounds(&self) -> &Bounds {
        self.part().map_or(&self.quota.bounds, |part| &part.bounds)
    }

    /// The part that it is counted in; none for a limit without parts, and for the rest.
    pub(super) fn part(&self) -> Option<&Part> {
        match self.way {
            Way::Whole | Way::Rest => None,
            Way::Own(index) | Way::Lent(index) => self.quota.parts.get(usize::from(index)),
        }
    }
}

// === impl Places ===

impl Places {
    /// These and one more, of the first [`MAX_CHARGES`](crate::limit::MAX_CHARGES).
    pub(super) const fn with(self, place: u8) -> Self {
        Self(self.0 | 1 << place)
    }

    pub(super) const fn has(self, place: u8) -> bool {
        self.0 & 1 << place != 0
    }

    /// These and those.
    pub(super) const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}
