//! Tokens that were judged before: a client sends the same one for an hour, and its signature is most of what a call
//! costs; a script that nobody looks after sends the same wrong one for days.
//!
//! A hit is never another verdict than a verification at the same moment would be. An entry is found by the whole
//! token, compared byte for byte, and holds for as long as its [`Grounds`] do: the rules and the key set that it was
//! judged by are the very ones in force and may still be used, and the token stands where it stood between `nbf` and `exp`.
//!
//! Refusals are kept if they are lasting, and apart: however many different wrong tokens come, they push out each
//! other and none that is good.
//!
//! # What can go wrong between threads
//!
//! - *One token judged twice.* Two requests that bring a new token at once both verify it; the second's entry takes
//!   the first's place. It costs at most one verification a thread and token.
//! - *An entry of rules or keys that were just replaced.* It is put in, and found wrong by whoever finds it.
//! - *A wait.* A lookup takes one of 64 locks for reading; a new entry takes it for writing, and the sweep does once a
//!   minute, for as long as a 64th of the entries takes to look at: 2,048 by default.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::quality::RandomState;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use super::claims::{Lifetime, Phase};
use super::error::TokenError;
use super::jws::MAX_TOKEN_BYTES;
use super::ring::{Basis, IssuerKeys};
use super::route::{Route, Routes};
use crate::principal::{Groups, Principal, PrincipalKind};
use crate::time::{Clock, Steady};

mod rules;

pub(super) use rules::CacheRules;

/// Verdicts on tokens. Shared by all requests, and by the verifiers of several loads of a policy.
#[derive(Debug)]
pub(super) struct TokenCache {
    rules: CacheRules,
    pub(super) good: Part,
    pub(super) refused: Part,
}

/// Verdicts of one kind, the ones that are asked for most when there is no room for all (S3-FIFO).
pub(super) struct Part {
    entries: Cache<Box<str>, Arc<Entry>, Weights, RandomState>,
    lookups: Arc<Lookups>,
}

/// How often a verdict was looked for.
#[derive(Debug, Default)]
struct Lookups {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// A verdict and what it rests on.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) verdict: Result<Arc<Principal>, TokenError>,
    pub(super) grounds: Grounds,
}

/// What a verdict rests on: while all of this stays, a verification would come to the same.
#[derive(Debug)]
pub(super) struct Grounds {
    pub(super) rules: Rules,
    /// Whose keys were asked, and what of them it rests on; none if the verdict was given before any.
    pub(super) keys: Option<(IssuerKeys, Basis)>,
    /// The token's times, and where between them it stood; none if they were not looked at.
    pub(super) times: Option<(Lifetime, Phase)>,
    /// When it was given.
    pub(super) since: Steady,
}

/// The rules that a verdict rests on, by identity: an `Arc` that an entry holds is nobody else's address.
#[derive(Debug)]
pub(super) enum Rules {
    /// Those of one issuer.
    Of(Route),
    /// All of them, as for a token whose issuer is none of them.
    All(Arc<Routes>),
}

/// How much a part holds and how it was asked, for whoever looks after the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheState {
    /// Verdicts that are held.
    pub entries: usize,
    /// What they count for, never less than the bytes that they take.
    pub bytes: u64,
    /// Lookups that found a verdict which holds, since the process started.
    pub hits: u64,
    /// All other lookups.
    pub misses: u64,
}

/// How much an entry counts for, in bytes: what it takes, and never less than its share of all bytes, so that one
/// bound holds entries and bytes.
#[derive(Debug, Clone, Copy)]
struct Weights {
    least: u64,
}

/// 16 MiB for refusals, some 8,000: the scripts that repeat themselves in one tenant, ten times over.
const REFUSED_SIZE: u64 = 16 * 1024 * 1024;

/// What an entry of a token of Entra's size counts for, to size the tables by; no bound.
const USUAL: u64 = 2 * 1024;

/// More locks than threads will want at once; its share of the bytes belongs to each. Of a cache for fewer than 2,048
/// tokens there are fewer.
const SHARDS: usize = 64;

/// An entry without token and principal: the two allocations' heads, grounds, and its place in the tables, which are
/// at most three quarters empty (4 * 45 bytes).
const ENTRY: u64 = 384;

/// What the allocator adds to an allocation, rounded up.
const ALLOCATION: u64 = 32;

// === impl TokenCache ===

impl TokenCache {
    /// An empty one, or `previous` itself if that follows the same rules. Its lookups are counted on.
    pub(super) fn following(rules: CacheRules, previous: Option<&Arc<Self>>) -> Arc<Self> {
        match previous {
            Some(previous) if previous.rules == rules => previous.clone(),
            Some(previous) => {
                Arc::new(Self::new(rules, previous.good.lookups.clone(), previous.refused.lookups.clone()))
            }
            None => Arc::new(Self::new(rules, Arc::default(), Arc::default())),
        }
    }

    /// How much is remembered, and for how long.
    pub(super) fn facts(&self) -> [String; 2] {
        self.rules.facts()
    }

    fn new(rules: CacheRules, good: Arc<Lookups>, refused: Arc<Lookups>) -> Self {
        let (size, least) = (rules.size.get(), rules.size.get() / rules.entries.get());
        Self { rules, good: Part::new(size, least, good), refused: Part::new(REFUSED_SIZE, 0, refused) }
    }

    /// How long a verdict is kept at most, whatever it rests on.
    pub(super) fn keeps_for(&self) -> Option<Duration> {
        self.rules.keeps_for
    }

    /// The verdict on this very token, if it still holds.
    pub(super) fn get(&self, token: &str, holds: impl Fn(&Entry) -> bool) -> Option<Arc<Entry>> {
        self.good.get(token, &holds).or_else(|| self.refused.get(token, &holds))
    }

    /// Keeps a verdict, if it is one that lasts.
    pub(super) fn keep(&self, token: &str, entry: Entry) {
        match entry.verdict {
            Ok(_) => self.good.insert(token, entry),
            Err(error) if error.is_lasting() => self.refused.insert(token, entry),
            Err(_) => {}
        }
    }

    /// Throws away what does not hold any more.
    pub(super) fn retain(&self, holds: impl Fn(&Entry) -> bool) {
        self.good.entries.retain(|_, entry| holds(entry));
        self.refused.entries.retain(|_, entry| holds(entry));
    }
}

impl Default for TokenCache {
    fn default() -> Self {
        Self::new(CacheRules::default(), Arc::default(), Arc::default())
    }
}

// === impl Part ===

impl Part {
    fn new(size: u64, least: u64, lookups: Arc<Lookups>) -> Self {
        let entries = usize::try_from(size / least.max(USUAL)).unwrap_or(usize::MAX);
        let options = OptionsBuilder::new()
            .shards(SHARDS)
            .estimated_items_capacity(entries)
            .weight_capacity(size)
            .build();
        #[expect(
            clippy::expect_used,
            reason = "by INVARIANT: both sizes are given, which is all that it asks"
        )]
        let options = options.expect("a cache of a known size");
        // A random seed: nobody can make tokens that fall into one place.
        let seed = RandomState::default();
        let entries = Cache::with_options(options, Weights { least }, seed, DefaultLifecycle::default());
        Self { entries, lookups }
    }

    /// The verdict on this very token, if it still holds; one that does not is thrown away.
    pub(super) fn get(&self, token: &str, holds: impl FnOnce(&Entry) -> bool) -> Option<Arc<Entry>> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let found = self.entries.get(token).filter(|entry| {
            let holds = holds(entry);
            if !holds {
                // Another request may have put a newer one in its place.
                self.entries.remove_if(token, |other| Arc::ptr_eq(entry, other));
            }
            holds
        });
        let count = if found.is_some() { &self.lookups.hits } else { &self.lookups.misses };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    fn insert(&self, token: &str, entry: Entry) {
        self.entries.insert(token.into(), Arc::new(entry));
    }

    pub(super) fn state(&self) -> CacheState {
        CacheState {
            entries: self.entries.len(),
            bytes: self.entries.weight(),
            hits: self.lookups.hits.load(Ordering::Relaxed),
            misses: self.lookups.misses.load(Ordering::Relaxed),
        }
    }
}

impl std::fmt::Debug for Part {
    /// Without its keys: a token is a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

// === impl Grounds ===

impl Grounds {
    /// Whether a verification by these rules and at this moment would rest on the same.
    pub(super) fn hold(
        &self,
        routes: &Arc<Routes>,
        skew: Duration,
        keeps_for: Option<Duration>,
        clock: &Clock,
    ) -> bool {
        let same_rules = match &self.rules {
            Rules::Of(route) => routes.lead_by(route),
            Rules::All(all) => Arc::ptr_eq(all, routes),
        };
        same_rules
            && self.keys.as_ref().is_none_or(|(keys, basis)| keys.bear(basis, clock))
            && self.times.is_none_or(|(lifetime, phase)| lifetime.phase(clock.wall(), skew) == phase)
            && keeps_for.is_none_or(|most| clock.steady() < self.since + most)
    }
}

// === impl Weights ===

impl Weighter<Box<str>, Arc<Entry>> for Weights {
    fn weight(&self, token: &Box<str>, entry: &Arc<Entry>) -> u64 {
        let principal = entry.verdict.as_ref().map_or(0, |principal| bytes(principal));
        (token.len() as u64 + ALLOCATION + ENTRY + principal).max(self.least)
    }
}

/// What a principal takes, with everything that it owns.
fn bytes(principal: &Principal) -> u64 {
    let text = |length: usize| length as u64 + ALLOCATION;
    let permission = size_of::<crate::id::Permission>() as u64;
    let permissions: u64 =
        principal.permissions().iter().map(|name| permission + text(name.as_str().len())).sum();
    let groups = match &principal.kind {
        PrincipalKind::User { groups: Groups::Listed(groups), .. } => size_of_val(&**groups),
        PrincipalKind::User { groups: Groups::Overage, .. } | PrincipalKind::Application { .. } => 0,
    };
    let token_id = principal.token_id.as_ref().map_or(0, |id| text(id.len()));
    size_of::<Principal>() as u64 + 3 * ALLOCATION + permissions + groups as u64 + token_id
}

#[cfg(test)]
mod tests;
