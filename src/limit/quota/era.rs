//! The limits of an operation as time takes some of them away.

use std::sync::Arc;

use crate::limit::quota::{Idle, Owner, Part, Quota};
use crate::time::Wall;

/// The limits of an operation, from one moment at which some lapse to the next.
///
/// They are made beforehand, so that a call only has to know the time: nothing has to happen at the moment itself.
#[derive(Debug, Clone)]
pub(super) struct Eras {
    /// INVARIANT: in the order of their ends.
    passing: Box<[Era]>,
    /// What is left when all have passed.
    last: Arc<[Arc<Quota>]>,
}

#[derive(Debug, Clone)]
struct Era {
    /// The first moment at which it is over.
    until: Wall,
    quotas: Arc<[Arc<Quota>]>,
}

// === impl Eras ===

impl Eras {
    pub(super) fn new(quotas: Vec<Arc<Quota>>) -> Self {
        let mut ends: Vec<Wall> = quotas.iter().flat_map(|quota| quota.ends()).collect();
        ends.sort_unstable();
        ends.dedup();
        let passing = ends.into_iter().map(|until| {
            let lasts = |end: Option<Wall>| end.is_none_or(|end| end >= until);
            Era { until, quotas: left(&quotas, lasts) }
        });
        Self { passing: passing.collect(), last: left(&quotas, |end| end.is_none()) }
    }

    /// Those in force at this time.
    pub(super) fn at(&self, now: Wall) -> &[Arc<Quota>] {
        let era = self.passing.iter().find(|era| now < era.until);
        era.map_or(&*self.last, |era| &*era.quotas)
    }

    /// All of them, before any lapses.
    pub(super) fn all(&self) -> &[Arc<Quota>] {
        self.passing.first().map_or(&*self.last, |era| &*era.quotas)
    }
}

/// What is left of the limits of an operation when only what `lasts` is in force.
fn left(quotas: &[Arc<Quota>], lasts: impl Fn(Option<Wall>) -> bool) -> Arc<[Arc<Quota>]> {
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
