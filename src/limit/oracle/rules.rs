//! The limits of the traces, as file and as the list counts them.

use super::MICROS;

/// A limit, as the list counts it.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) per: fn(&Call) -> [u128; 2],
    /// Applications' own calls have no user.
    pub(super) users_only: bool,
    /// Counts, and windows with their margin in microseconds.
    pub(super) windows: &'static [(u32, u64)],
    /// What a call of `read` and of `list` costs.
    pub(super) costs: [u32; 2],
    /// For how many microseconds a call may wait, and how many may at once.
    pub(super) wait: Option<(u64, usize)>,
    pub(super) in_flight: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) tenant: u128,
    pub(super) application: u128,
    pub(super) user: Option<u128>,
    pub(super) operation: usize,
}

impl Rule {
    pub(super) fn applies(&self, call: &Call) -> bool {
        call.user.is_some() || !self.users_only
    }

    /// The limit, and whom it counts for there.
    pub(super) fn key(&self, call: &Call) -> Key {
        (self.name, (self.per)(call))
    }
}

pub(super) type Key = (&'static str, [u128; 2]);

pub(super) const OPERATIONS: [&str; 2] = ["read", "list"];

pub(super) const LARGE: &[Rule] = &[
    Rule {
        name: "tenant",
        per: |call| [call.tenant, 0],
        users_only: false,
        windows: &[(9, MICROS), (40, 20 * MICROS)],
        costs: [1, 4],
        wait: Some((5 * MICROS, 8)),
        in_flight: None,
    },
    Rule {
        name: "app",
        per: |call| [call.tenant << 64 | call.application, call.operation as u128],
        users_only: false,
        windows: &[(5, 2 * MICROS + 250_000), (12, 10 * MICROS + 250_000), (30, 60 * MICROS + 250_000)],
        costs: [1, 1],
        wait: Some((5 * MICROS, 8)),
        in_flight: None,
    },
    Rule {
        name: "user",
        per: |call| [call.user.unwrap_or(0), 0],
        users_only: true,
        windows: &[(7, 3 * MICROS)],
        costs: [2, 2],
        wait: Some((2 * MICROS, 3)),
        in_flight: Some(5),
    },
];

pub(super) const LARGE_FILE: &str = r#"
[[limit]]
name = "tenant"
operations = ["read", "list"]
per = ["tenant"]
windows = ["9 per second", "40 per 20s"]
cost = { list = 4 }
when_full = { wait = "5s", queue = 8 }
[[limit]]
name = "app"
operations = ["read", "list"]
per = ["tenant", "application", "operation"]
windows = ["5 per 2s", "12 per 10s", "30 per minute"]
margin = "250ms"
when_full = { wait = "5s", queue = 8 }
[[limit]]
name = "user"
operations = ["read", "list"]
per = ["user"]
windows = ["7 per 3s"]
cost = 2
when_full = { wait = "2s", queue = 3 }
in_flight = 5
"#;

pub(super) const SMALL: &[Rule] = &[
    Rule {
        name: "tenant",
        per: |call| [call.tenant, 0],
        users_only: false,
        windows: &[(4, MICROS)],
        costs: [1, 1],
        wait: Some((20 * MICROS, 2)),
        in_flight: Some(9),
    },
    Rule {
        name: "app",
        per: |call| [call.tenant << 64 | call.application, call.operation as u128],
        users_only: false,
        windows: &[(3, 5 * MICROS)],
        costs: [3, 1],
        wait: None,
        in_flight: None,
    },
];

pub(super) const SMALL_FILE: &str = r#"
[[limit]]
name = "tenant"
operations = ["read", "list"]
per = ["tenant"]
windows = ["4 per second"]
when_full = { wait = "20s", queue = 2 }
in_flight = 9
[[limit]]
name = "app"
operations = ["read", "list"]
per = ["tenant", "application", "operation"]
windows = ["3 per 5s"]
cost = { read = 3 }
"#;
