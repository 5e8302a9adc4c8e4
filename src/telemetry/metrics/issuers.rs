//! How the keys of issuers stand: pulled together from all their documents when a scrape asks.

use std::collections::HashMap;
use std::time::Duration;

use super::{Families, Metrics, as_gauge};

/// How the keys of an issuer stand. An issuer with several discovery documents has one of these for each.
#[derive(Debug, Clone, Copy)]
pub struct IssuerNumbers<'a> {
    /// Its name in `issuers.toml`.
    pub issuer: &'a str,
    /// Keys that are held and may be used.
    pub keys: usize,
    /// Since they were fetched; none if they were not.
    pub age: Option<Duration>,
    /// Fetches that brought keys.
    pub succeeded: u64,
    /// Fetches that did not.
    pub failed: u64,
}

// === impl Metrics ===

impl Metrics {
    /// Shows how the keys of each issuer stand; an issuer that is not listed here is shown no more.
    pub fn issuers<'a>(&self, issuers: impl IntoIterator<Item = IssuerNumbers<'a>>) {
        let _scrape = self.0.loaded.lock();
        let Families { issuer_keys, issuer_age, issuer_fetches, .. } = &self.0.families;
        issuer_keys.reset();
        issuer_age.reset();
        issuer_fetches.reset();
        let mut fewest = HashMap::new();
        let mut oldest = HashMap::new();
        for IssuerNumbers { issuer, keys, age, succeeded, failed } in issuers {
            fewest.entry(issuer).and_modify(|fewest: &mut usize| *fewest = keys.min(*fewest)).or_insert(keys);
            if let Some(age) = age {
                oldest
                    .entry(issuer)
                    .and_modify(|oldest: &mut Duration| *oldest = age.max(*oldest))
                    .or_insert(age);
            }
            issuer_fetches.with_label_values(&[issuer, "ok"]).inc_by(succeeded);
            issuer_fetches.with_label_values(&[issuer, "failed"]).inc_by(failed);
        }
        for (issuer, keys) in fewest {
            issuer_keys.with_label_values(&[issuer]).set(as_gauge(keys));
        }
        for (issuer, age) in oldest {
            issuer_age.with_label_values(&[issuer]).set(age.as_secs_f64());
        }
    }
}
