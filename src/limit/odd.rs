//! Limits that are legal and can never bind, since others are reached before them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::id::{LimitName, OperationId};
use crate::limit::document::FILE;
use crate::limit::key::Dimension;
use crate::limit::quota::{Effect, Quota};
use crate::limit::window::Bound;
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
    quota.bounds.each().iter().all(|bound| {
        let mut most = beside.iter().map(|others| most(quota, *bound, others));
        let most = most.try_fold(0_u64, |sum, most| Some(sum.saturating_add(most?)));
        most.is_some_and(|most| most <= u64::from(bound.rate.count.get()))
    })
}

/// The most that the calls of one operation cost `quota` which the limits beside it let through in a window of `bound`;
/// none if nothing bounds them.
fn most(quota: &Quota, bound: Bound, others: &[Arc<Quota>]) -> Option<u64> {
    let cost = others.iter().find(|own| own.name == quota.name).map_or(quota.cost, |own| own.cost);
    let others = others.iter().filter(|other| {
        other.name != quota.name && other.effect == Effect::Enforced && other.per.is_coarser(quota.per)
    });
    let calls = others.flat_map(|other| {
        // A window of 90 s lies in two of 60 s one after the other, and no more of it.
        let times = |beside: &Bound| u64::from(bound.millis().div_ceil(beside.millis()));
        let calls = |beside: &Bound| u64::from(beside.rate.count.get() / other.cost.get());
        other.bounds.each().iter().map(move |beside| calls(beside) * times(beside))
    });
    calls.min().map(|calls| calls * u64::from(cost.get()))
}
