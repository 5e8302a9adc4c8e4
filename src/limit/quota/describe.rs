//! Limits in words.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::id::LimitName;
use crate::journal::Durability;
use crate::limit::key::Dimension;
use crate::limit::open::OpenQuota;
use crate::limit::quota::{Effect, Idle, Quota, QuotaSet, Visibility, WhenFull};
use crate::limit::saved::KeptBefore;
use crate::time::Wall;

/// Something that is in force until a moment only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// What it is, in words.
    pub what: String,
    /// The moment.
    pub until: Wall,
}

impl QuotaSet {
    /// What a limit counts apart, in the words of `per`; nothing for one that counts all calls together.
    pub fn counts_by(&self, limit: &LimitName) -> impl Iterator<Item = &'static str> {
        let per = self.all().find(|(_, quota)| quota.name == *limit).map(|(_, quota)| quota.per);
        let open = || self.all_actions().find(|(_, quota)| quota.name == *limit).map(|(_, quota)| quota.per);
        let per = per.or_else(open).unwrap_or_default();
        Dimension::ALL.into_iter().filter(move |dimension| per.has(*dimension)).map(Dimension::as_str)
    }

    /// The limits on actions under way, those that have lapsed included; one of several operations several times.
    pub fn action_limits(&self) -> impl Iterator<Item = &LimitName> {
        self.all_actions().map(|(_, quota)| &quota.name)
    }

    /// Every limit and part that is not for ever, and until when it is in force, also if that is past.
    pub fn ends(&self) -> impl Iterator<Item = End> {
        let mut ends = BTreeSet::new();
        for (_, quota) in self.all() {
            let name = &quota.name;
            ends.extend(quota.until.map(|until| (until, format!("the limit `{name}`"))));
            ends.extend(quota.parts.iter().filter_map(|part| {
                Some((part.until?, format!("the part of `{}` in the limit `{name}`", part.name)))
            }));
        }
        for (_, quota) in self.all_actions() {
            ends.extend(quota.until.map(|until| (until, format!("the limit `{}`", quota.name))));
        }
        ends.into_iter().map(|(until, what)| End { what, until })
    }

    /// What a limit comes to, as sentences that can be compared with those of another set.
    pub fn describe(&self, limit: &LimitName) -> Vec<String> {
        let mut facts = Vec::new();
        for (operation, quota) in self.all().filter(|(_, quota)| quota.name == *limit) {
            facts.push(match quota.cost.get() {
                1 => format!("is for `{operation}`"),
                cost => format!("is for `{operation}`, each call of which counts {cost}"),
            });
            facts.extend(quota.describe());
        }
        for (operation, quota) in self.all_actions().filter(|(_, quota)| quota.name == *limit) {
            facts.push(format!("is for `{operation}`"));
            facts.extend(quota.describe());
        }
        let counts: Vec<_> = self.counts_by(limit).collect();
        if !counts.is_empty() {
            facts.push(format!("counts by {}", counts.join(", ")));
        }
        if let Some(logins) = self.logins.as_ref().filter(|logins| logins.name == *limit) {
            let each = logins.bounds.each().iter();
            facts.extend(each.map(|bound| format!("lets {} fail from an address", bound.rate)));
            facts.push(format!("counts up to {} addresses each by itself", logins.max_addresses));
        }
        facts
    }

    /// The same of all limits together.
    pub fn describe_all(&self) -> Vec<String> {
        let durable = match self.durable {
            None => "a call does not wait until its admission is written",
            Some(Durability::Process) => "a call waits until its admission is written",
            Some(Durability::Power) => "a call waits until its admission is on the disk",
        };
        vec![
            format!(
                "the limiter holds at most {} keys, and refuses a call that needs one more",
                self.max_keys
            ),
            format!("at most {} calls are held at a time, of all limits together", self.max_held),
            durable.to_owned(),
        ]
    }

    /// The limits whose windows lack something when this set follows `before`, by name, each with how long that takes to
    /// heal. Times that a smaller limit had no use for are gone, and count as not admitted until the longest window has
    /// passed.
    pub fn lacking(&self, before: &Self) -> BTreeMap<LimitName, Duration> {
        fn by_name(set: &QuotaSet) -> HashMap<&LimitName, &Quota> {
            set.all().map(|(_, quota)| (&quota.name, quota)).collect()
        }
        let (before, after) = (by_name(before), by_name(self));
        let grown = after.into_iter().filter_map(|(name, after)| {
            let before = before.get(name).filter(|before| before.per == after.per)?;
            Some((name.clone(), Duration::from_millis(after.grown_since(before)?.into())))
        });
        grown.collect()
    }

    /// The same when this set is the first of a process, which has the times that another one kept.
    pub fn lacking_since(&self, kept: &KeptBefore) -> BTreeMap<LimitName, Duration> {
        let mut lacking = BTreeMap::new();
        for (_, quota) in self.all() {
            let of_parts = quota.parts.iter().map(|part| (part.rule, &part.bounds));
            let grown = of_parts.chain([(quota.rule, &quota.bounds)]).filter(|(rule, bounds)| {
                kept.of(*rule).is_some_and(|kept| {
                    bounds.largest() > kept.largest || bounds.longest_millis() > kept.longest
                })
            });
            let heals = grown.map(|(_, bounds)| bounds.longest_millis()).max().unwrap_or(0);
            if heals > 0 {
                lacking.insert(quota.name.clone(), Duration::from_millis(heals.into()));
            }
        }
        lacking
    }
}

impl Quota {
    /// The longest window, in milliseconds, of what counts more calls or for longer than before; none if nothing does.
    fn grown_since(&self, before: &Self) -> Option<u32> {
        let parts = |quota: &Self, name: &str| {
            let part = quota.parts.iter().find(|part| *part.name == *name)?;
            Some(part.bounds.clone())
        };
        let of_parts = self.parts.iter().map(|part| (parts(before, &part.name), &part.bounds));
        let all = of_parts.chain([(Some(before.bounds.clone()), &self.bounds)]);
        let grown = all.filter(|(before, after)| {
            let kept = before.as_ref().filter(|before| !before.each().is_empty());
            kept.is_none_or(|kept| {
                after.largest() > kept.largest() || after.longest_millis() > kept.longest_millis()
            })
        });
        grown.map(|(_, after)| after.longest_millis()).filter(|millis| *millis > 0).max()
    }

    /// What it does, whatever the operation.
    fn describe(&self) -> Vec<String> {
        let bounds = self.whole.each().iter();
        let mut facts: Vec<_> = bounds
            .map(|bound| match u64::from(bound.millis()) - bound.rate.window.millis() {
                0 => format!("lets {} through", bound.rate),
                margin => format!("lets {} through, and waits {margin} ms longer", bound.rate),
            })
            .collect();
        facts.extend(self.in_flight.map(|most| format!("lets {most} be on their way at once")));
        facts.extend((self.effect == Effect::Shadow).then(|| "is on trial".to_owned()));
        facts.push(match self.visibility {
            Visibility::Shown => "shows callers how it stands".to_owned(),
            Visibility::Hidden => "does not show callers how it stands".to_owned(),
        });
        if let WhenFull::Wait { wait, queue } = self.when_full {
            let wait = jiff::SignedDuration::try_from(wait).unwrap_or_default();
            facts.push(format!(
                "holds up to {queue} calls of each key for up to {wait:#} where it has no room"
            ));
        }
        for part in &self.parts {
            let name = &part.name;
            let idle = match part.idle {
                Idle::Kept => "and keeps it",
                Idle::Lent => "and lends what is idle of it",
            };
            facts.extend(
                part.bounds.each().iter().map(|bound| format!("promises `{name}` {} {idle}", bound.rate)),
            );
            facts.extend(part.until.map(|until| format!("promises `{name}` that until {until}")));
        }
        facts.extend(self.until.map(|until| format!("lapses at {until}")));
        facts
    }
}

impl OpenQuota {
    /// What it does, whatever the operation.
    fn describe(&self) -> Vec<String> {
        let Self { most, open_for, effect, until, .. } = self;
        let open_for = jiff::SignedDuration::try_from(*open_for).unwrap_or_default();
        let mut facts =
            vec![format!("lets {most} actions be under way at once, each for {open_for:#} at most")];
        facts.extend((*effect == Effect::Shadow).then(|| "is on trial".to_owned()));
        facts.extend(until.map(|until| format!("lapses at {until}")));
        facts
    }
}
