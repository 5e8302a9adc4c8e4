//! Limits that are legal and can never bind, since others are reached before them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::id::{LimitName, OperationId};
use crate::limit::document::FILE;
use crate::limit::key::Dimension;
use crate::limit::quota::{Effect, Quota};
use crate::limit::window::{Bound, Cost};
use crate::source::{Place, PolicyFiles, Problems};

type Quotas = BTreeMap<OperationId, Vec<Arc<Quota>>>;

/// A limit, and for each operation that it is for everything that operation is under.
type Limit<'q> = (&'q Quota, Vec<&'q [Arc<Quota>]>);

/// Warns of each limit of `limits.toml` that never has the last word. A documented limit is what the service does,
/// whether it is reached or not.
pub(super) fn warn(
    quotas: &Quotas,
    places: &HashMap<LimitName, Place>,
    files: &PolicyFiles,
    problems: &mut Problems,
) {
    let mut limits: BTreeMap<&LimitName, Limit<'_>> = BTreeMap::new();
    for beside in quotas.values() {
        for quota in beside {
            limits.entry(&quota.name).or_insert((quota, Vec::new())).1.push(beside);
        }
    }
    for (name, (quota, beside)) in limits {
        let idle = if quota.per.has(Dimension::Operation) {
            beside.iter().all(|beside| is_idle(quota, std::slice::from_ref(beside)))
        } else {
            is_idle(quota, &beside)
        };
        let place = places.get(name).filter(|place| &*place.file == FILE);
        if let (true, Some(place)) = (idle, place) {
            let message = format_args!(
                "`{name}` can never bind: on each of its calls another limit is reached before it, or with it"
            );
            problems.warn_place(files, place, message);
        }
    }
}

/// Whether the limits beside it, operation by operation, together let no more through than it does.
fn is_idle(quota: &Quota, beside: &[&[Arc<Quota>]]) -> bool {
    // One that is only tried says what it would refuse, which may be anything; and calls on their way, or the parts of a
    // limit, are bounded by nothing else.
    let counts_only = quota.in_flight.is_none() && quota.parts.is_empty();
    quota.effect == Effect::Enforced
        && counts_only
        && quota.bounds.each().iter().all(|bound| {
            let mut most = beside.iter().map(|others| most(quota, *bound, others));
            let most = most.try_fold(0_u64, |sum, most| Some(sum.saturating_add(most?)));
            most.is_some_and(|most| most <= u64::from(bound.rate.count.get()))
        })
}

/// As how many `quota` counts the most calls of one operation that the limits beside it let through in a window of
/// `bound`; none if nothing bounds them.
fn most(quota: &Quota, bound: Bound, beside: &[Arc<Quota>]) -> Option<u64> {
    let (ours, others): (Vec<_>, Vec<_>) = beside.iter().partition(|other| other.name == quota.name);
    let cost = ours.first().map_or(Cost::ONE, |ours| ours.cost);
    let enforced = others.into_iter().filter(|other| {
        other.effect == Effect::Enforced && other.until.is_none() && other.per.is_coarser(quota.per)
    });
    // A window of 90 s lies in two of 60 s one after the other, and no more of it.
    let calls = |other: &Quota, rate: &Bound| {
        let times = bound.millis().div_ceil(rate.millis());
        u64::from(rate.rate.count.get() / other.cost.get()) * u64::from(times)
    };
    let bounds = enforced.flat_map(|other| other.whole.each().iter().map(move |rate| calls(other, rate)));
    bounds.min().map(|calls| calls * u64::from(cost.get()))
}
