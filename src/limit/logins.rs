//! The one limit that counts refusals: how often an address may send a token that proves nobody.
//!
//! It is asked before a token is looked at that was not verified before, and charged when that token is refused. An
//! address that has used up its failures is told when it may try again, and nothing of what it sends is looked at
//! until then. Being told so is not a failure.
//!
//! Addresses have a map of their own, so that no flood of strangers takes the keys of callers. When it is full,
//! addresses that are not in it are counted together.
//!
//! # What can go wrong between threads, and the worst case in numbers
//!
//! - *More failures than may be.* The check and the charge are two steps: tokens whose verification began before the
//!   last charge are verified to their end. That is one for each thread, and those that wait for their issuer's keys.
//!   A charge reserved beforehand would be exact, and would refuse good tokens that come at once for the bad among them.
//!   Failures above the limit take the place of the oldest, so the address is shut out until a whole window has passed
//!   since the N-th last.
//! - *One address more than may be.* An address is counted before it is put into the map.
//! - *Deadlock.* No method holds two locks, but for the lock of the map's shard, under which the clock is read.

use std::net::IpAddr;
use std::num::NonZeroU32;

use dashmap::{DashMap, Entry};
use foldhash::fast::RandomState;

use crate::id::LimitName;
use crate::limit::store::RetryAfter;
use crate::limit::sync::{AtomicUsize, Mutex, Ordering};
use crate::limit::window::{Bounds, Cost, Full, SlidingWindowLog};
use crate::outcome::Rate;
use crate::time::Clock;

/// The failed logins of every address: one for the process, as the [`Limiter`](crate::limit::Limiter) is.
#[derive(Debug)]
pub struct FailedLogins {
    by_origin: DashMap<Origin, SlidingWindowLog, RandomState>,
    /// How many origins are in the map or about to be.
    origins: AtomicUsize,
    /// Those of everybody for whom the map has no room, and of whoever has no address.
    others: Mutex<SlidingWindowLog>,
}

/// The limit, as the policy has it.
#[derive(Debug, Clone)]
pub(super) struct LoginQuota {
    pub(super) name: LimitName,
    pub(super) bounds: Bounds,
    /// How many addresses are counted each by itself.
    pub(super) max_addresses: NonZeroU32,
}

/// A login that is being tried: where from, and the limit that holds for it, if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    quota: Option<&'a LoginQuota>,
    origin: Option<Origin>,
}

/// Who counts as one caller before it has said who it is: an IPv4 address, or an IPv6 network of 64 bits, as a line or
/// a host gets one whole (RFC 6177) and may use any address of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Origin([u8; 16]);

/// An address has sent too many tokens that were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many refused tokens from this address: at most {rate}")]
pub struct TooManyFailures {
    /// The one of the limit's rates that is full for the longest.
    pub rate: Rate,
    /// When the next token is looked at, if none is refused before.
    pub retry_after: RetryAfter,
}

/// What an address takes in the map, in bytes, without the times of its failures.
pub(super) const ADDRESS_BYTES: u64 = 160;

/// What the time of one failure takes, in bytes.
pub(super) const FAILURE_BYTES: u64 = 4;

/// Shards of the map: as many as of the limiter's.
const SHARDS: usize = 256;

// === impl FailedLogins ===

impl FailedLogins {
    /// Nobody has failed yet.
    pub fn new() -> Self {
        let by_origin = DashMap::with_hasher_and_shard_amount(RandomState::default(), SHARDS);
        Self { by_origin, origins: AtomicUsize::new(0), others: Mutex::default() }
    }

    /// Whether the attempt may go on. O(1), and it writes nothing.
    ///
    /// # Errors
    /// The address has used up its failures, or shares those of others and these are used up.
    pub fn check(&self, attempt: &Attempt<'_>, clock: &Clock) -> Result<(), TooManyFailures> {
        let Some(quota) = attempt.quota else { return Ok(()) };
        if let Some(log) = attempt.origin.and_then(|origin| self.by_origin.get(&origin)) {
            return quota.check(&log, clock);
        }
        let full = self.origins.load(Ordering::Relaxed) >= quota.max_addresses.get() as usize;
        if full || attempt.origin.is_none() { quota.check(&self.others.lock(), clock) } else { Ok(()) }
    }

    /// Writes down that the attempt failed.
    pub fn charge(&self, attempt: &Attempt<'_>, clock: &Clock) {
        let Some(quota) = attempt.quota else { return };
        if let Some(origin) = attempt.origin {
            match self.by_origin.entry(origin) {
                Entry::Occupied(mut log) => return quota.charge(log.get_mut(), clock),
                Entry::Vacant(place) => {
                    let max = quota.max_addresses.get() as usize;
                    let one_more = |origins| (origins < max).then_some(origins + 1);
                    if self.origins.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok() {
                        let mut log = SlidingWindowLog::default();
                        quota.charge(&mut log, clock);
                        place.insert(log);
                        return;
                    }
                }
            }
        }
        quota.charge(&mut self.others.lock(), clock);
    }

    /// Forgets the addresses whose failures no window counts any more. To be called once a second; no lock is held for
    /// more than the 256th part of them.
    pub fn sweep(&self, clock: &Clock) {
        if self.origins.load(Ordering::Relaxed) == 0 {
            return;
        }
        // Read before the locks: a reading too old can only keep an address for another round.
        let now = clock.steady();
        self.by_origin.retain(|_, log| {
            let live = log.expires() > now;
            if !live {
                self.origins.fetch_sub(1, Ordering::Relaxed);
            }
            live
        });
    }

    /// How many addresses are counted each by itself.
    pub fn addresses(&self) -> usize {
        self.origins.load(Ordering::Relaxed)
    }
}

impl Default for FailedLogins {
    fn default() -> Self {
        Self::new()
    }
}

// === impl LoginQuota ===

impl LoginQuota {
    fn check(&self, log: &SlidingWindowLog, clock: &Clock) -> Result<(), TooManyFailures> {
        let now = clock.steady();
        match log.full(&self.bounds, Cost::ONE, now) {
            None => Ok(()),
            Some(Full { rate, opens }) => {
                Err(TooManyFailures { rate, retry_after: RetryAfter::until(opens, now) })
            }
        }
    }

    fn charge(&self, log: &mut SlidingWindowLog, clock: &Clock) {
        log.admit(&self.bounds, Cost::ONE, clock.steady());
    }
}

// === impl Attempt ===

impl<'a> Attempt<'a> {
    pub(super) fn new(quota: Option<&'a LoginQuota>, address: Option<IpAddr>) -> Self {
        Self { quota, origin: address.map(Origin::from) }
    }
}

// === impl Origin ===

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        // An IPv4 address in IPv6 form (`::ffff:192.0.2.1`) is one of the IPv4 addresses, not of their one network.
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => Self((u128::from(address) >> 64 << 64).to_be_bytes()),
        }
    }
}

#[cfg(test)]
mod tests;
