//! The limits of an operation as time takes some of them away.

use std::sync::Arc;

use crate::limit::open::OpenQuota;
use crate::limit::quota::{Idle, Limited, Owner, Part, Quota};
use crate::time::Wall;

/// The limits of an operation, from one moment at which some lapse to the next.
///
/// They are made beforehand, so that a call only has to know the time: nothing has to happen at the moment itself.
#[derive(Debug, Clone)]
pub(super) struct Eras {
    /// INVARIANT: in the order of their ends.
    passing: Box<[(Wall, Era)]>,
    /// What is left when all have passed.
    last: Era,
}

/// What is in force at one time.
#[derive(Debug, Clone)]
struct Era {
    quotas: Box<[Arc<Quota>]>,
    actions: Box<[Arc<OpenQuota>]>,
}

// === impl Eras ===

impl Eras {
    pub(super) fn new(limited: Limited) -> Self {
        let Limited { quotas, actions } = limited;
        let ends = quotas.iter().flat_map(|quota| quota.ends());
        let mut ends: Vec<Wall> = ends.chain(actions.iter().filter_map(|quota| quota.until)).collect();
        ends.sort_unstable();
        ends.dedup();
        let era = |lasts: &dyn Fn(Option<Wall>) -> bool| Era {
            quotas: left(&quotas, lasts),
            actions: actions.iter().filter(|quota| lasts(quota.until)).cloned().collect(),
        };
        let passing = ends.into_iter().map(|until| (until, era(&|end| end.is_none_or(|end| end >= until))));
        Self { passing: passing.collect(), last: era(&|end| end.is_none()) }
    }

    /// Those in force at this time.
    pub(super) fn at(&self, now: Wall) -> (&[Arc<Quota>], &[Arc<OpenQuota>]) {
        let passing = self.passing.iter().find(|(until, _)| now < *until);
        let era = passing.map_or(&self.last, |(_, era)| era);
        (&era.quotas, &era.actions)
    }

    /// All of them, before any lapses.
    pub(super) fn all(&self) -> &[Arc<Quota>] {
        &self.first().quotas
    }

    /// The same of limits on actions under way.
    pub(super) fn all_actions(&self) -> &[Arc<OpenQuota>] {
        &self.first().actions
    }

    fn first(&self) -> &Era {
        self.passing.first().map_or(&self.last, |(_, era)| era)
    }
}

/// What is left of the limits of an operation when only what `lasts` is in force.
fn left(quotas: &[Arc<Quota>], lasts: &dyn Fn(Option<Wall>) -> bool) -> Box<[Arc<Quota>]> {
    let lasting = quotas.iter().filter(|quota| lasts(quota.until));
    let left = lasting.map(|quota| match quota.parts.iter().all(|part| lasts(part.until)) {
        true => quota.clone(),
        false => Arc::new(Quota {
            parts: quota
                .parts
                .iter()
                .map(|part| if lasts(part.until) { part.clone() } else { part.lapsed() })
                .collect(),
            ..Quota::clone(quota)
        }),
    });
    left.collect()
}

// === impl Quota ===

impl Quota {
    /// When it lapses, or a part of it.
    fn ends(&self) -> impl Iterator<Item = Wall> {
        self.until.into_iter().chain(self.parts.iter().filter_map(|part| part.until))
    }
}

// === impl Part ===

impl Part {
    /// The part as it goes back to the rest: everybody's, for as long as nobody wants it back, and nobody is left who
    /// could. It keeps its own log, so that the limit stays exact over that moment.
    fn lapsed(&self) -> Self {
        Self { owner: Owner::nobody(), idle: Idle::Lent, ..self.clone() }
    }
}
