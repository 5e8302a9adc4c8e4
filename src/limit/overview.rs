//! What an operator sees of the limits: the fullest keys.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::id::LimitName;
use crate::limit::key::{Rule, RuleId, Whose};
use crate::limit::quota::{Quota, QuotaSet};
use crate::limit::window::{Bounds, Cost, SlidingWindowLog};
use crate::outcome::Rate;
use crate::time::Steady;

/// The most keys that are shown at once: an answer of some 300 KB.
pub const MAX_TOP: usize = 1_000;

/// A key that holds admissions, and how full its windows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullKey {
    /// The limit.
    pub limit: LimitName,
    /// Whose part of it, by its owner in the file; none for the limit itself, or the rest of it.
    pub part: Option<Arc<str>>,
    /// Whom it counts for there.
    pub whose: Whose,
    /// Each window, the shortest first.
    pub windows: SmallVec<[FullWindow; 2]>,
    /// When no window counts any of its calls, if nobody calls.
    pub empty_in: Duration,
}

/// How full one window of a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FullWindow {
    /// Its length, and how many it holds.
    pub rate: Rate,
    /// How many it counts now.
    pub used: u32,
    /// When the next place is free, if nobody calls; zero if none is taken.
    pub frees_in: Duration,
}

/// The fullest keys of those that it was shown so far.
pub(super) struct Fullest<'a> {
    /// The bounds of each rule of the set.
    rules: HashMap<RuleId, (&'a Quota, &'a Bounds)>,
    top: usize,
    now: Steady,
    /// At most twice as many as are wanted.
    best: Vec<Candidate>,
}

struct Candidate {
    /// How full the fullest window is, in millionths; and of equally full keys, the one that is so for longer.
    rank: (u64, Duration),
    key: SmallVec<[u8; 40]>,
    rule: RuleId,
    windows: SmallVec<[FullWindow; 2]>,
    empty_in: Duration,
}

// === impl Fullest ===

impl<'a> Fullest<'a> {
    pub(super) fn new(quotas: &'a QuotaSet, top: usize, now: Steady) -> Self {
        let mut rules = HashMap::new();
        for (_, quota) in quotas.all() {
            rules.insert(quota.rule, (quota, &quota.bounds));
            rules.extend(quota.parts.iter().map(|part| (part.rule, (quota, &part.bounds))));
        }
        Self { rules, top: top.min(MAX_TOP), now, best: Vec::new() }
    }

    /// A key of a limit that the set does not have is passed over.
    pub(super) fn look(&mut self, key: &[u8], log: &SlidingWindowLog) {
        let Some(rule) = RuleId::of(key) else { return };
        let Some((_, bounds)) = self.rules.get(&rule) else { return };
        let windows: SmallVec<[FullWindow; 2]> = bounds
            .each()
            .iter()
            .map(|bound| {
                let usage = log.usage(*bound, Cost::ONE, self.now);
                let used = bound.rate.count.get() - usage.remaining;
                FullWindow { rate: bound.rate, used, frees_in: usage.grows_in }
            })
            .collect();
        let share =
            |window: &FullWindow| u64::from(window.used) * 1_000_000 / u64::from(window.rate.count.get());
        let Some(fullest) = windows.iter().map(share).max().filter(|share| *share > 0) else { return };
        let frees_in = windows.iter().map(|window| window.frees_in).max().unwrap_or_default();
        let empty_in = log.expires().since(self.now);
        self.best.push(Candidate { rank: (fullest, frees_in), key: key.into(), rule, windows, empty_in });
        if self.best.len() > self.top.saturating_mul(2) {
            self.cut();
        }
    }

    pub(super) fn finish(mut self) -> Vec<FullKey> {
        self.cut();
        let known = Rule::of(&self.best.iter().map(|candidate| candidate.rule).collect());
        let rules = &self.rules;
        let named = self.best.into_iter().filter_map(|candidate| {
            let Candidate { key, rule, windows, empty_in, .. } = candidate;
            let (quota, _) = rules.get(&rule)?;
            let rule = known.get(&rule)?;
            let (limit, whose, part) = (quota.name.clone(), Whose::of(&key, rule), rule.part.clone());
            Some(FullKey { limit, part, whose, windows, empty_in })
        });
        named.collect()
    }

    fn cut(&mut self) {
        self.best.sort_by(|one, other| (Reverse(one.rank), &one.key).cmp(&(Reverse(other.rank), &other.key)));
        self.best.truncate(self.top);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ApplicationId, UserId};
    use crate::limit::Limiter;
    use crate::limit::fixture::{application, clock, limit, quotas, user};
    use crate::principal::{Scope, Subject};

    fn call(limiter: &Limiter, set: &QuotaSet, subject: &Subject, clock: &crate::time::Clock) {
        let (read, scope) = ("read".parse().unwrap(), Scope::default());
        let charges = set.charges(subject, &read, &scope);
        let acquire = std::pin::pin!(limiter.acquire(&charges, clock));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(Ok(mut admission)) = acquire.poll(&mut context) else { panic!("refused") };
        admission.forwarded();
    }

    #[test]
    fn the_fullest_keys_come_first_with_whom_they_count_for_and_when_they_free() {
        let text = limit("apps", "\"tenant\", \"application\"", "\"10 per minute\", \"40 per hour\"")
            + &limit("users", "\"user\", \"operation\"", "\"4 per minute\"");
        let (set, (clock, hand), limiter) = (quotas(&text), clock(), Limiter::new());
        (0..3).for_each(|_| call(&limiter, &set, &user(1, 2, 3), &clock));
        (0..5).for_each(|_| call(&limiter, &set, &application(1, 4), &clock));
        hand.advance(Duration::from_secs(20));
        call(&limiter, &set, &application(1, 4), &clock);
        let all = limiter.fullest(&set, 10, &clock);
        let shown: Vec<_> = all.iter().map(|key| (key.limit.as_str(), key.windows[0].used)).collect();
        assert_eq!(shown, [("users", 3), ("apps", 6), ("apps", 3)]);
        assert_eq!(all[0].whose.user, Some(UserId::from_u128(3)));
        assert_eq!(
            (all[0].whose.operation.as_ref().map(|it| it.as_str()), &all[0].whose.tenant),
            (Some("read"), &None)
        );
        assert_eq!(all[1].whose.application, Some(ApplicationId::from_u128(4)));
        assert_eq!(all[1].windows[0].frees_in, Duration::from_secs(40));
        assert_eq!(all[1].windows[1].used, 6);
        assert_eq!(all[1].empty_in, Duration::from_secs(3_600));
        for top in 0..4 {
            assert_eq!(limiter.fullest(&set, top, &clock), all[..top.min(3)]);
        }
        // What no window counts is not shown, nor what the set does not limit.
        hand.advance(Duration::from_secs(60));
        assert_eq!(limiter.fullest(&set, 10, &clock).len(), 2);
        assert!(limiter.fullest(&quotas(""), 10, &clock).is_empty());
    }
}
