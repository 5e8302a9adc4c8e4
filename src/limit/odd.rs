//! Limits that are legal and can never bind, since others are reached before them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::id::{LimitName, OperationId};
use crate::limit::document::FILE;
use crate::limit::quota::{Dimension, Quota};
use crate::outcome::Rate;
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
    quota.rates.iter().all(|rate| {
        let mut most = beside.iter().map(|others| most(quota, *rate, others));
        let most = most.try_fold(0_u64, |sum, most| Some(sum.saturating_add(most?)));
        most.is_some_and(|most| most <= u64::from(rate.count.get()))
    })
}

/// The most calls of one operation that the limits beside `quota` let through in a window of `rate`; none if nothing
/// bounds them.
fn most(quota: &Quota, rate: Rate, others: &[Arc<Quota>]) -> Option<u64> {
    let others = others.iter().filter(|other| other.name != quota.name && other.per.is_coarser(quota.per));
    let rates = others.flat_map(|other| &other.rates);
    // A window of 90 s lies in two of 60 s one after the other, and no more of it.
    let times = |other: &Rate| rate.window.seconds().div_ceil(other.window.seconds());
    rates.map(|other| u64::from(other.count.get()) * u64::from(times(other))).min()
}
