//! A limit of which parts are promised: some kept, some lent.
//!
//! Of 10 and of 30, application 1 is kept 3 and 9, and user 1 is lent 4 and 12; 3 and 9 are left.

use super::{MICROS, PLAIN, Part, Rule, Windows, per_application_and_operation};
use crate::limit::quota::{Effect, Idle};

const WHOLE: Windows = &[(10, 5 * MICROS), (30, 30 * MICROS)];
const REST: Windows = &[(3, 5 * MICROS), (9, 30 * MICROS)];

const PARTS: &[Part] = &[
    Part {
        name: "responders",
        owner: |call| call.user == Some(1),
        idle: Idle::Lent,
        windows: &[(4, 5 * MICROS), (12, 30 * MICROS)],
    },
    Part {
        name: "soar",
        owner: |call| call.application == 1,
        idle: Idle::Kept,
        windows: &[(3, 5 * MICROS), (9, 30 * MICROS)],
    },
];

pub(in super::super) const SHARED: &[Rule] = &[
    Rule {
        name: "shared",
        windows: WHOLE,
        costs: [1, 2],
        wait: Some((6 * MICROS, 6)),
        parts: PARTS,
        rest: REST,
        ..PLAIN
    },
    Rule {
        name: "app",
        per: per_application_and_operation,
        windows: &[(4, 2 * MICROS)],
        wait: Some((3 * MICROS, 4)),
        ..PLAIN
    },
];

pub(in super::super) const SHARED_FILE: &str = r#"
[[limit]]
name = "shared"
operations = ["read", "list"]
per = ["tenant"]
windows = ["10 per 5s", "30 per 30s"]
cost = { list = 2 }
share = { "responders" = { part = "40%", idle = "lent" }, "soar" = { part = "30%", idle = "kept" } }
when_full = { wait = "6s", queue = 6 }
[[limit]]
name = "app"
operations = ["read", "list"]
per = ["tenant", "application", "operation"]
windows = ["4 per 2s"]
when_full = { wait = "3s", queue = 4 }
"#;

/// The same, only tried, beside one that refuses.
pub(in super::super) const SHARED_ON_TRIAL: &[Rule] = &[
    Rule {
        name: "shared",
        windows: WHOLE,
        costs: [1, 2],
        effect: Effect::Shadow,
        parts: PARTS,
        rest: REST,
        ..PLAIN
    },
    Rule { name: "tenant", windows: &[(7, MICROS)], ..PLAIN },
];

pub(in super::super) const SHARED_ON_TRIAL_FILE: &str = r#"
[[limit]]
name = "shared"
operations = ["read", "list"]
per = ["tenant"]
windows = ["10 per 5s", "30 per 30s"]
cost = { list = 2 }
share = { "responders" = { part = "40%", idle = "lent" }, "soar" = { part = "30%", idle = "kept" } }
enforce = false
[[limit]]
name = "tenant"
operations = ["read", "list"]
per = ["tenant"]
windows = ["7 per second"]
"#;
