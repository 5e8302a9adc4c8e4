//! The limits of an operation as time takes some of them away.

use std::sync::Arc;

use crate::limit::open::OpenQuota;
use crate::limit::quota::{Effect, Idle, Limited, Owner, Part, Quota, Visibility};
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
    /// All of them as the file says, where those above are tried since the policy set is.
    written: Option<Box<Era>>,
}

/// What is in force at one time.
#[derive(Debug, Clone)]
struct Era {
    all: Limits,
    /// Those that are enforced: the only ones that count a call which something refuses that is not.
    enforced: Limits,
}

#[derive(Debug, Clone)]
struct Limits {
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
        let era = |lasts: &dyn Fn(Option<Wall>) -> bool| {
            let actions = actions.iter().filter(|quota| lasts(quota.until)).cloned().collect();
            Era::new(Limits { quotas: left(&quotas, lasts), actions })
        };
        let passing = ends.into_iter().map(|until| (until, era(&|end| end.is_none_or(|end| end >= until))));
        Self { passing: passing.collect(), last: era(&|end| end.is_none()), written: None }
    }

    /// The same, none of them enforced.
    pub(super) fn tried(&self) -> Self {
        let passing = self.passing.iter().map(|(until, era)| (*until, era.tried()));
        let written = Some(Box::new(self.first().clone()));
        Self { passing: passing.collect(), last: self.last.tried(), written }
    }

    /// Those in force at this time.
    pub(super) fn at(&self, now: Wall) -> (&[Arc<Quota>], &[Arc<OpenQuota>]) {
        self.era(now).all.lists()
    }

    /// Those of them that are enforced.
    pub(super) fn enforced_at(&self, now: Wall) -> (&[Arc<Quota>], &[Arc<OpenQuota>]) {
        self.era(now).enforced.lists()
    }

    fn era(&self, now: Wall) -> &Era {
        let passing = self.passing.iter().find(|(until, _)| now < *until);
        passing.map_or(&self.last, |(_, era)| era)
    }

    /// All of them, before any lapses.
    pub(super) fn all(&self) -> &[Arc<Quota>] {
        &self.first().all.quotas
    }

    /// The same of limits on actions under way.
    pub(super) fn all_actions(&self) -> &[Arc<OpenQuota>] {
        &self.first().all.actions
    }

    fn first(&self) -> &Era {
        let first = self.passing.first().map_or(&self.last, |(_, era)| era);
        self.written.as_deref().unwrap_or(first)
    }
}

// === impl Era ===

impl Era {
    fn new(all: Limits) -> Self {
        let quotas = all.quotas.iter().filter(|quota| quota.effect == Effect::Enforced).cloned();
        let actions = all.actions.iter().filter(|quota| quota.effect == Effect::Enforced).cloned();
        let enforced = Limits { quotas: quotas.collect(), actions: actions.collect() };
        Self { all, enforced }
    }

    /// The same, none of them enforced, and so none of them shown.
    fn tried(&self) -> Self {
        let quota = |quota: &Arc<Quota>| {
            let quota = Quota::clone(quota);
            Arc::new(Quota { effect: Effect::Shadow, visibility: Visibility::Hidden, ..quota })
        };
        let action = |quota: &Arc<OpenQuota>| {
            Arc::new(OpenQuota { effect: Effect::Shadow, ..OpenQuota::clone(quota) })
        };
        let Limits { quotas, actions } = &self.all;
        let (quotas, actions) = (quotas.iter().map(quota), actions.iter().map(action));
        Self::new(Limits { quotas: quotas.collect(), actions: actions.collect() })
    }
}

// === impl Limits ===

impl Limits {
    fn lists(&self) -> (&[Arc<Quota>], &[Arc<OpenQuota>]) {
        (&self.quotas, &self.actions)
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
