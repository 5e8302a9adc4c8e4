//! Tokens that were verified before: a client sends the same one for an hour, and its signature is most of what a call
//! costs.
//!
//! A hit is never another verdict than a verification at the same moment would be. An entry is found by the whole
//! token, compared byte for byte, and holds only while the token's times hold and its issuer's keys are the very set
//! that verified it; rules that change have a cache of their own. Refusals are not kept.

use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use super::ring::{IssuerKeys, Published};
use crate::principal::Principal;
use crate::time::{Clock, Wall};

/// Verified tokens, the ones that are asked for most when there is no room for all (S3-FIFO). Shared by all requests.
///
/// Two requests with the same new token may both verify it; the second puts the same answer in the first's place.
pub(super) struct TokenCache(Cache<Box<str>, Arc<Verified>, Bytes, RandomState>);

/// What a verification found, and what it rested on.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) principal: Arc<Principal>,
    /// `nbf`, if the token has it.
    pub(super) not_before: Option<Wall>,
    pub(super) keys: IssuerKeys,
    /// What the issuer had published, the verifying key among it.
    pub(super) published: Arc<Published>,
}

/// How much an entry takes, in bytes, never less than it does.
#[derive(Debug, Clone, Copy)]
struct Bytes;

/// 64 MiB: some 18,000 tokens of 1.5 KB, one an hour for each application and user at work.
const CAPACITY: u64 = 64 * 1024 * 1024;

/// For sizing the tables at the start; no bound.
const EXPECTED_ENTRIES: usize = 16_384;

/// An entry without its token: principal, counts, and its place in the tables.
const ENTRY: u64 = 512;

// === impl TokenCache ===

impl TokenCache {
    /// The caller of a token that was verified, if a verification now would find the same.
    pub(super) fn get(&self, token: &str, skew: Duration, clock: &Clock) -> Option<Arc<Principal>> {
        let entry = self.0.get(token)?;
        if entry.holds(skew, clock) {
            return Some(entry.principal.clone());
        }
        self.0.remove(token);
        None
    }

    pub(super) fn insert(&self, token: &str, entry: Verified) {
        self.0.insert(token.into(), Arc::new(entry));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Default for TokenCache {
    fn default() -> Self {
        // A random seed: nobody can make tokens that fall into one place.
        let (seed, lifecycle) = (RandomState::default(), DefaultLifecycle::default());
        Self(Cache::with(EXPECTED_ENTRIES, CAPACITY, Bytes, seed, lifecycle))
    }
}

impl std::fmt::Debug for TokenCache {
    /// Without its keys: a token is a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCache").field("entries", &self.0.len()).finish_non_exhaustive()
    }
}

// === impl Verified ===

impl Verified {
    /// The same comparisons as [`Claims::check`](super::claims::Claims::check) makes, and the same keys, if they may still
    /// be used.
    fn holds(&self, skew: Duration, clock: &Clock) -> bool {
        let now = clock.wall();
        let timely =
            now < self.principal.expires + skew && self.not_before.is_none_or(|time| now + skew >= time);
        timely && self.keys.usable(clock).is_some_and(|now| Arc::ptr_eq(&now, &self.published))
    }
}

// === impl Bytes ===

impl Weighter<Box<str>, Arc<Verified>> for Bytes {
    /// Whatever a principal holds was said in the token, in more bytes.
    fn weight(&self, token: &Box<str>, _entry: &Arc<Verified>) -> u64 {
        2 * token.len() as u64 + ENTRY
    }
}

#[cfg(test)]
mod tests;
