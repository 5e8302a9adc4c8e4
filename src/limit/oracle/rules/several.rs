//! Several limits on each call.

use super::{MICROS, PLAIN, Rule, per_application_and_operation};

pub(in super::super) const LARGE: &[Rule] = &[
    Rule {
        name: "tenant",
        windows: &[(9, MICROS), (40, 20 * MICROS)],
        costs: [1, 4],
        wait: Some((5 * MICROS, 8)),
        ..PLAIN
    },
    Rule {
        name: "app",
        per: per_application_and_operation,
        windows: &[(5, 2 * MICROS + 250_000), (12, 10 * MICROS + 250_000), (30, 60 * MICROS + 250_000)],
        wait: Some((5 * MICROS, 8)),
        ..PLAIN
    },
    Rule {
        name: "user",
        per: |call| [call.user.unwrap_or(0), 0],
        users_only: true,
        windows: &[(7, 3 * MICROS)],
        costs: [2, 2],
        wait: Some((2 * MICROS, 3)),
        in_flight: Some(5),
        ..PLAIN
    },
];

pub(in super::super) const LARGE_FILE: &str = r#"
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

pub(in super::super) const SMALL: &[Rule] = &[
    Rule {
        name: "tenant",
        windows: &[(4, MICROS)],
        wait: Some((20 * MICROS, 2)),
        in_flight: Some(9),
        ..PLAIN
    },
    Rule {
        name: "app",
        per: per_application_and_operation,
        windows: &[(3, 5 * MICROS)],
        costs: [3, 1],
        ..PLAIN
    },
];

pub(in super::super) const SMALL_FILE: &str = r#"
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
