//! What operators are told of the policy: by the log, the metrics and the audit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::id::LimitName;
use crate::limit::{End, KeptBefore};
use crate::reload::{PolicyStore, Reload};
use crate::telemetry::audit::{Audit, PolicyEvent};
use crate::telemetry::metrics::{LoadedPolicy, Metrics, ReloadResult};
use crate::time::Clock;

/// A second: the grain at which somebody reads that a limit has lapsed. Calls know the moment itself.
const ENDS: Duration = Duration::from_secs(1);

/// Warnings of a set that the log tells: of 10,000 device groups most may be empty for a while, and as many lines with
/// each edit would take a core from requests.
const WARNINGS: usize = 100;

/// Tells what came of a reload, and what lapsed.
#[derive(Debug, Clone)]
pub(super) struct Announcer {
    pub(super) policies: Arc<PolicyStore>,
    pub(super) metrics: Metrics,
    pub(super) audit: Option<Audit>,
    pub(super) clock: Clock,
}

impl Announcer {
    /// Tells of the first set of the process, which has the times that another one kept.
    pub(super) fn begin(&self, kept: &KeptBefore) {
        self.in_force(&self.policies.load().quotas.lacking_since(kept));
    }

    fn in_force(&self, lacking: &BTreeMap<LimitName, Duration>) {
        self.measure();
        let snapshot = self.policies.load();
        let version = &snapshot.version;
        self.record(&PolicyEvent::Loaded { version, lacking });
        if !lacking.is_empty() {
            tracing::warn!(%version, "{}", grown(lacking));
        }
        if snapshot.policies.is_tried() {
            tracing::warn!(version = %snapshot.version, "nothing of the policy is enforced: what it would refuse is noted, and passes");
        }
        let now = self.clock.wall();
        for End { what, until } in snapshot.quotas.ends().filter(|end| now < end.until) {
            self.record(&PolicyEvent::Until { version: &snapshot.version, what: &what, until });
        }
    }

    /// Tells of each limit and part at the moment at which it lapses, for ever. Nothing else happens then.
    pub(super) async fn keep_telling_of_ends(self) {
        let mut told = self.clock.wall();
        loop {
            self.clock.sleep(ENDS).await;
            let (now, snapshot) = (self.clock.wall(), self.policies.load());
            let over = snapshot.quotas.ends().filter(|end| told < end.until && end.until <= now);
            for End { what, until } in over {
                tracing::warn!(version = %snapshot.version, %until, "{what} has lapsed");
                self.record(&PolicyEvent::Lapsed { version: &snapshot.version, what: &what, until });
            }
            told = now;
        }
    }

    fn measure(&self) {
        let snapshot = self.policies.load();
        let counts = snapshot.counts();
        self.metrics.policy_loaded(&LoadedPolicy {
            version: &snapshot.version,
            at: snapshot.loaded,
            inventory_at: self.policies.inventory_date(),
            devices: counts.devices,
        });
    }

    pub(super) fn announce(&self, reload: &Reload) {
        match reload {
            Reload::Unchanged => {
                tracing::debug!("the policy files say what they said");
                // The inventory may have been fetched anew.
                self.measure();
            }
            Reload::Loaded(snapshot) => {
                tracing::info!(version = %snapshot.version, "policy loaded: {}", snapshot.counts());
                snapshot.warnings.iter().take(WARNINGS).for_each(|warning| tracing::warn!("{warning}"));
                if let Some(more @ 1..) = snapshot.warnings.len().checked_sub(WARNINGS) {
                    tracing::warn!(version = %snapshot.version, "{more} more warnings: `tollgate check` says them all");
                }
                self.metrics.reload(ReloadResult::Loaded);
                self.in_force(&snapshot.lacking);
            }
            Reload::Refused(problems) => {
                let version = self.policies.load().version.clone();
                tracing::error!(kept = %version, "policy refused, the last good one stays in force");
                problems.iter().for_each(|problem| tracing::error!("{problem}"));
                self.metrics.reload(ReloadResult::Failed);
                self.record(&PolicyEvent::Failed { version: &version, problems });
            }
        }
    }

    fn record(&self, event: &PolicyEvent<'_>) {
        if let Some(audit) = &self.audit {
            audit.policy(event);
        }
    }
}

/// What the windows of limits that grew lack, and for how long.
fn grown(lacking: &BTreeMap<LimitName, Duration>) -> String {
    let each = lacking.iter().map(|(limit, heals)| {
        let heals = jiff::SignedDuration::try_from(*heals).unwrap_or_default();
        format!("`{limit}` for {heals:#}")
    });
    let each: Vec<_> = each.collect();
    format!(
        "limits that grew lack times that they had no use for before, which count as not admitted: {}",
        each.join(", ")
    )
}
