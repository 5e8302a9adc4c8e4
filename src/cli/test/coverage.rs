//! What of a policy set the cases touch, and what none does.

use std::collections::BTreeSet;
use std::fmt;

use crate::cli::rehearsal::Played;
use crate::denial::Denial;
use crate::limit::LimitError;
use crate::policy::ReachError;
use crate::snapshot::Snapshot;
use crate::source::Place;

/// What has been touched so far, by kind and name.
#[derive(Debug)]
pub(super) struct Coverage {
    kinds: Vec<Kind>,
}

/// The things of one kind.
#[derive(Debug)]
struct Kind {
    one: &'static str,
    many: &'static str,
    /// Every one that there is, in the order of the files, and where it stands.
    all: Vec<(String, Option<Place>)>,
    touched: BTreeSet<String>,
}

// === impl Coverage ===

impl Coverage {
    /// Nothing of this set is touched yet.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let Snapshot { policies, quotas, .. } = snapshot;
        let operations = policies.operations();
        let operations = operations.map(|call| (call.id().to_string(), Some(call.places().name.clone())));
        let roles = policies.roles().map(|role| (role.name().to_string(), Some(role.place().clone())));
        let groups = policies.device_groups().map(|(id, place)| (id.to_string(), place.cloned()));
        let entries = policies.applications();
        let applications = entries.map(|(_, name, place)| (name.to_string(), Some(place.clone())));
        let limits = quotas.places().map(|(name, place)| (name.to_string(), Some(place.clone())));
        let kind = |one, many, all: Vec<_>| Kind { one, many, all, touched: BTreeSet::new() };
        let mut kinds = vec![
            kind("operation", "operations", operations.collect()),
            kind("role", "roles", roles.collect()),
            kind("device group", "device groups", groups.collect()),
            kind("application", "applications", applications.collect()),
            kind("limit", "limits", limits.collect()),
        ];
        kinds.iter_mut().for_each(|kind| kind.all.sort_by(|(_, a), (_, b)| a.cmp(b)));
        Self { kinds }
    }

    /// Notes what a call touched: its operation, the roles that its caller holds and that it could need, the groups of
    /// its devices, the entry of its application, and the limits that it had room in, or had not.
    pub(super) fn note(&mut self, played: &Played, snapshot: &Snapshot) {
        let Played { findings, verdict, .. } = played;
        let policies = &snapshot.policies;
        let operation = policies.operations().find(|call| Some(call.id()) == findings.operation.as_ref());
        let holds = |role: &&crate::policy::Role| {
            let held = findings.principal.as_ref().is_some_and(|principal| role.is_held_by(principal));
            held && operation.is_some_and(|operation| role.covers(operation))
        };
        let refused_group = match verdict {
            Err(Denial::Reach(ReachError::DeviceGroup { group, .. })) => Some(group),
            Ok(()) | Err(_) => None,
        };
        let scoped = findings.scope.devices.iter().filter_map(|device| device.group.as_ref());
        let groups = scoped.chain(refused_group).map(ToString::to_string).collect();
        let full = match verdict {
            Err(Denial::Limit(LimitError::OverLimit(over))) => Some(over.limit.to_string()),
            Err(Denial::Limit(
                LimitError::InFlight { limit, .. } | LimitError::OpenActions { limit, .. },
            )) => Some(limit.to_string()),
            Err(Denial::Logins(_)) => snapshot.quotas.login_limit().map(ToString::to_string),
            Ok(()) | Err(_) => None,
        };
        let limits = findings.standings.iter().map(|standing| standing.limit.to_string()).chain(full);
        let touched: [Vec<String>; 5] = [
            operation.map(|operation| operation.id().to_string()).into_iter().collect(),
            policies.roles().filter(holds).map(|role| role.name().to_string()).collect(),
            groups,
            findings.application.iter().map(ToString::to_string).collect(),
            limits.collect(),
        ];
        for (kind, touched) in self.kinds.iter_mut().zip(touched) {
            kind.touched.extend(touched);
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("touched:")?;
        for (index, Kind { many, all, touched, .. }) in self.kinds.iter().enumerate() {
            let count = all.iter().filter(|(name, _)| touched.contains(name)).count();
            write!(f, "{} {count} of {} {many}", if index == 0 { "" } else { "," }, all.len())?;
        }
        for Kind { one, all, touched, .. } in &self.kinds {
            for (name, place) in all.iter().filter(|(name, _)| !touched.contains(name)) {
                write!(f, "\nno case touches the {one} `{name}`")?;
                place.iter().try_for_each(|place| write!(f, " ({place})"))?;
            }
        }
        Ok(())
    }
}
