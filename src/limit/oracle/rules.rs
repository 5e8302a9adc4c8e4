//! The limits of the traces, as the list counts them.

use super::MICROS;
use crate::limit::quota::{Effect, Idle};

mod alone;
mod several;
mod shared;

pub(super) use alone::{ONE, ONE_FILE, TRIED, TRIED_FILE, TWO, TWO_FILE};
pub(super) use several::{LARGE, LARGE_FILE, SMALL, SMALL_FILE};
pub(super) use shared::{SHARED, SHARED_FILE, SHARED_ON_TRIAL, SHARED_ON_TRIAL_FILE};

/// A limit, as the list counts it.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) per: fn(&Call) -> [u128; 2],
    /// Applications' own calls have no user.
    pub(super) users_only: bool,
    pub(super) windows: Windows,
    /// What a call of `read` and of `list` costs; 0 where it is not counted.
    pub(super) costs: [u32; 2],
    /// For how many microseconds a call may wait, and how many may at once.
    pub(super) wait: Option<(u64, usize)>,
    pub(super) in_flight: Option<usize>,
    pub(super) effect: Effect,
    /// What is promised of it, by their names, and what that leaves. No window of the whole holds more than `windows` say.
    pub(super) parts: &'static [Part],
    pub(super) rest: Windows,
}

/// Counts, and windows with their margin in microseconds.
pub(super) type Windows = &'static [(u32, u64)];

/// A part of a limit that is promised to somebody.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) owner: fn(&Call) -> bool,
    pub(super) idle: Idle,
    pub(super) windows: Windows,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) tenant: u128,
    pub(super) application: u128,
    pub(super) user: Option<u128>,
    pub(super) operation: usize,
}

/// The limit, the part of it, and whom it counts for there.
pub(super) type Key = (&'static str, Option<&'static str>, [u128; 2]);

/// Where a limit may count a call.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) key: Key,
    pub(super) windows: Windows,
    pub(super) cost: u32,
    pub(super) whose: Whose,
}

/// Whose that place is, as the caller sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The limit has no parts.
    Everybodys,
    Own(Idle),
    Nobodys,
    /// Somebody else's, and lent while it is idle.
    Lent,
}

pub(super) const OPERATIONS: [&str; 2] = ["read", "list"];

/// What most limits have in common.
const PLAIN: Rule = Rule {
    name: "",
    per: per_tenant,
    users_only: false,
    windows: &[],
    costs: [1, 1],
    wait: None,
    in_flight: None,
    effect: Effect::Enforced,
    parts: &[],
    rest: &[],
};

fn per_tenant(call: &Call) -> [u128; 2] {
    [call.tenant, 0]
}

fn per_application_and_operation(call: &Call) -> [u128; 2] {
    [call.tenant << 64 | call.application, call.operation as u128]
}

// === impl Rule ===

impl Rule {
    pub(super) fn applies(&self, call: &Call) -> bool {
        (call.user.is_some() || !self.users_only) && self.cost(call) > 0
    }

    pub(super) fn cost(&self, call: &Call) -> u32 {
        self.costs[call.operation]
    }

    pub(super) fn is_enforced(&self) -> bool {
        self.effect == Effect::Enforced
    }

    /// Where it may count a call, in the order in which these are tried: its caller's own, what is nobody's, what is lent.
    pub(super) fn ways<'a>(&'a self, call: &'a Call) -> impl Iterator<Item = Way> + 'a {
        let (whom, cost) = ((self.per)(call), self.cost(call));
        let way = move |part, windows, whose| Way { key: (self.name, part, whom), windows, cost, whose };
        let own = self.parts.iter().filter(|part| (part.owner)(call));
        let own = own.map(move |part| way(Some(part.name), part.windows, Whose::Own(part.idle)));
        let lent = self.parts.iter().filter(|part| !(part.owner)(call) && part.idle == Idle::Lent);
        let lent = lent.map(move |part| way(Some(part.name), part.windows, Whose::Lent));
        let rest = match self.parts {
            [] => way(None, self.windows, Whose::Everybodys),
            _ => way(None, self.rest, Whose::Nobodys),
        };
        own.chain([rest]).chain(lent)
    }
}
