//! How the limits of a call stand.

use std::time::Duration;

use smallvec::SmallVec;

use super::super::sync::Arc;
use super::{Cells, KeyMap};
use crate::limit::charges::{Charges, Claim, Places, Way};
use crate::limit::quota::Quota;
use crate::limit::window::{Bound, SlidingWindowLog, Usage};
use crate::outcome::Rate;
use crate::time::{Clock, Steady};

/// A window of a limit with parts: all of these together that a call may be counted in.
struct Sum<'a> {
    place: u8,
    quota: &'a Quota,
    rate: Rate,
    usage: Usage,
}

impl<M: KeyMap> Cells<M> {
    /// How every window of the limits that have counted somebody stands. Of a limit with parts it is what the call's own
    /// parts, the rest and what is lent come to together.
    pub(in crate::limit) fn usages(
        &self,
        charges: &Charges<'_>,
        clock: &Clock,
        mut each: impl FnMut(&Quota, Rate, Usage),
    ) {
        let (mut sums, mut known) = (SmallVec::<[Sum<'_>; 4]>::new(), Places::default());
        let Ok(()) = charges.try_each(|key, claim| {
            let Claim { quota, place, way } = claim;
            let cell = self.map.find(key, Arc::clone);
            let mut log = cell.as_ref().map(|cell| cell.log.lock());
            let mut log = log.as_mut().and_then(|log| log.as_mut());
            let now = clock.steady();
            if let Some(log) = &mut log {
                known = known.with(place);
                log.settle(now);
            }
            for bound in claim.bounds().each() {
                let usage = usage(log.as_deref(), claim, *bound, now);
                match sums.iter_mut().find(|sum| sum.is(place, bound.rate)) {
                    _ if way == Way::Whole => {
                        if log.is_some() {
                            each(quota, bound.rate, usage);
                        }
                    }
                    Some(sum) => sum.add(bound.rate, usage),
                    None => sums.push(Sum { place, quota, rate: bound.rate, usage }),
                }
            }
            Ok::<(), std::convert::Infallible>(())
        });
        let counted = sums.into_iter().filter(|sum| known.has(sum.place));
        counted.for_each(|Sum { quota, rate, usage, .. }| each(quota, rate, usage));
    }
}

/// How a bound of one key stands, which may have counted nobody yet.
fn usage(log: Option<&SlidingWindowLog>, claim: Claim<'_>, bound: Bound, now: Steady) -> Usage {
    let cost = claim.quota.cost;
    let Some(log) = log else {
        return Usage { remaining: bound.rate.count.get() / cost.get(), grows_in: Duration::ZERO };
    };
    let wanted = Steady::from_millis(log.wanted());
    match claim.way {
        Way::Lent(_) if wanted > now => Usage { remaining: 0, grows_in: wanted.since(now) },
        Way::Lent(_) | Way::Whole | Way::Own(_) | Way::Rest => log.usage(bound, cost, now),
    }
}

// === impl Sum ===

impl Sum<'_> {
    fn is(&self, place: u8, rate: Rate) -> bool {
        self.place == place && self.rate.window == rate.window
    }

    fn add(&mut self, rate: Rate, usage: Usage) {
        self.rate.count = self.rate.count.saturating_add(rate.count.get());
        self.usage.remaining = self.usage.remaining.saturating_add(usage.remaining);
        // Zero says that it does not grow.
        let both = [self.usage.grows_in, usage.grows_in].into_iter().filter(|wait| !wait.is_zero());
        self.usage.grows_in = both.min().unwrap_or_default();
    }
}
