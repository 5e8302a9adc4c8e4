//! A single limit that refuses, as most calls have: it is decided on a path of its own, and says without its lock that it
//! is full. Its key is the one that the others count tenants by, so that what it says meets their windows, their costs and
//! what they have promised.

use super::{MICROS, PLAIN, Rule};
use crate::limit::quota::Effect;

/// One window.
pub(in super::super) const ONE: &[Rule] =
    &[Rule { name: "tenant", windows: &[(5, MICROS)], costs: [1, 2], ..PLAIN }];

pub(in super::super) const ONE_FILE: &str = r#"
[[limit]]
name = "tenant"
operations = ["read", "list"]
per = ["tenant"]
windows = ["5 per second"]
cost = { list = 2 }
"#;

/// Two.
pub(in super::super) const TWO: &[Rule] = &[Rule {
    name: "tenant",
    windows: &[(6, 2 * MICROS), (15, 20 * MICROS)],
    costs: [1, 3],
    in_flight: Some(12),
    ..PLAIN
}];

pub(in super::super) const TWO_FILE: &str = r#"
[[limit]]
name = "tenant"
operations = ["read", "list"]
per = ["tenant"]
windows = ["6 per 2s", "15 per 20s"]
cost = { list = 3 }
in_flight = 12
"#;

/// One that is only tried: alone for `list`, and for `read` beside one that refuses, or lets wait.
pub(in super::super) const TRIED: &[Rule] = &[
    Rule { name: "tenant", windows: &[(5, MICROS)], costs: [1, 0], wait: Some((5 * MICROS, 8)), ..PLAIN },
    Rule {
        name: "tried",
        per: |call| [call.application, 0],
        windows: &[(4, 3 * MICROS), (9, 20 * MICROS)],
        costs: [1, 2],
        in_flight: Some(3),
        effect: Effect::Shadow,
        ..PLAIN
    },
];

pub(in super::super) const TRIED_FILE: &str = r#"
[[limit]]
name = "tenant"
operations = ["read"]
per = ["tenant"]
windows = ["5 per second"]
when_full = { wait = "5s", queue = 8 }
[[limit]]
name = "tried"
operations = ["read", "list"]
per = ["application"]
windows = ["4 per 3s", "9 per 20s"]
cost = { list = 2 }
in_flight = 3
enforce = false
"#;
