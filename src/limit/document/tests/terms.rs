//! What a limit says beside its windows: waits, ends, calls on their way and actions under way.

use std::time::Duration;

use super::*;
use crate::limit::quota::{Idle, WhenFull};
use crate::principal::Scope;

/// A limit of 100 a minute and 7 an hour per tenant, or these windows, with these lines.
fn shared(windows: &str, lines: &str) -> String {
    limit("shared", "\"tenant\"", windows) + lines + "\n"
}

#[test]
fn a_full_limit_refuses_or_holds_as_it_says() {
    let when_full = |lines: &str| {
        let set = quotas(&shared("\"9 per day\"", lines));
        each(&charges(&set, &application(1, 1), "read"))[0].quota.when_full
    };
    assert_eq!((when_full(""), when_full("when_full = \"reject\"")), (WhenFull::Reject, WhenFull::Reject));
    let queue = NonZeroU32::new(100).unwrap();
    let wait = Duration::from_secs(5);
    assert_eq!(when_full("when_full = { wait = \"5s\", queue = 100 }"), WhenFull::Wait { wait, queue });

    for (lines, message) in [
        (
            "\"drop\"",
            "6:13: invalid value: string \"drop\", expected \"reject\", or { wait = \"5s\", queue = 100 }",
        ),
        (
            "{ wait = \"61s\", queue = 1 }",
            "6:22: `61s` is not a wait such as `5s`, whole milliseconds, at most `60s`",
        ),
        (
            "{ wait = \"0s\", queue = 1 }",
            "6:22: `0s` is not a wait such as `5s`, whole milliseconds, at most `60s`",
        ),
        ("{ wait = \"5s\", queue = 0 }", "6:36: `0` is not the length of a queue: 1 to 10000"),
        ("{ wait = \"5s\", queue = 10001 }", "6:36: `10001` is not the length of a queue: 1 to 10000"),
        ("{ wait = \"5s\" }", "6:13: missing field `queue`"),
    ] {
        assert_eq!(
            problems(&shared("\"9 per day\"", &format!("when_full = {lines}"))),
            [format!("limits.toml:{message}")]
        );
    }
}

#[test]
fn a_documented_limit_has_the_terms_that_its_entry_or_the_head_of_the_file_gives_it() {
    let wait = "{ wait = \"5s\", queue = 100 }";
    let of = |text: &str| {
        let set = quotas(text);
        let of = charges(&set, &user(1, 2, 1), "collect");
        let quota = each(&of)[0].quota;
        let parts: Vec<_> = quota.parts.iter().map(|part| part.bounds.each()[1].rate.to_string()).collect();
        (quota.when_full != WhenFull::Reject, parts)
    };
    assert_eq!(of(""), (false, vec![]));
    assert_eq!(of(&format!("documented_when_full = {wait}\n")), (true, vec![]));
    let share = "share = { responders = { part = \"30%\", idle = \"kept\" } }\n";
    let entry = format!("[[documented]]\noperation = \"collect\"\n{share}");
    assert_eq!(of(&entry), (false, vec!["450 per 01:00:00".to_owned()]));
    let head = format!("documented_when_full = {wait}\n");
    for (text, waits) in [
        (format!("{head}{entry}"), true),
        (format!("{head}{entry}when_full = \"reject\"\n"), false),
        (format!("{entry}when_full = {wait}\n"), true),
    ] {
        assert_eq!(of(&text).0, waits, "{text}");
    }

    let text = "[[documented]]\noperation = \"read\"\n[[documented]]\noperation = \"collect\"\n[[documented]]\noperation = \"collect\"\nshare = { soar = { part = \"1%\", idle = \"kept\" } }\n";
    assert_eq!(
        problems(text),
        [
            "limits.toml:2:13: `read` is no operation with documented limits",
            "limits.toml:6:13: the documented limit of `collect` has its terms above",
            "limits.toml:7:11: this limit counts each application apart, so that `soar` has one of its own already: nobody shares it",
        ]
    );
}

#[test]
fn calls_on_their_way_are_bounded_with_windows_or_without() {
    let on_its_way = |lines: &str| {
        let text = limit("way", "\"tenant\"", "\"9 per day\"").replace("windows = [\"9 per day\"]\n", lines);
        let (set, problems) = compile(&text);
        let of = charges(&set, &application(1, 1), "read");
        let found = each(&of)
            .first()
            .map(|charge| (charge.quota.in_flight.map(NonZeroU32::get), charge.quota.bounds.each().len()));
        (found, problems)
    };
    assert_eq!(on_its_way("in_flight = 25\n"), (Some((Some(25), 0)), vec![]));
    assert_eq!(on_its_way("in_flight = 25\nwindows = [\"9 per day\"]\n"), (Some((Some(25), 1)), vec![]));
    for (lines, message) in [
        ("in_flight = 0", "5:13: invalid value: integer `0`, expected a nonzero u32"),
        ("in_flight = 2\nmargin = \"1s\"", "6:10: `margin` is of windows, and this limit has none"),
        ("in_flight = 2\ncost = 1", "6:8: `cost` is of windows, and this limit has none"),
        (
            "in_flight = 2\nwhen_full = { wait = \"1s\", queue = 1 }",
            "5:13: nobody can tell how long to wait for calls on their way: only windows open at a known moment",
        ),
        ("show = true", "1:1: missing field `windows`"),
        (
            "in_flight = 2\nwindows = [\"9 per day\"]\nshare = { soar = { part = \"30%\", idle = \"kept\" } }",
            "7:9: a share is a part of windows, not of calls on their way; write two limits, one with `in_flight` and one with the share",
        ),
    ] {
        assert_eq!(on_its_way(&format!("{lines}\n")).1, [format!("limits.toml:{message}")]);
    }
}

#[test]
fn what_has_an_end_lapses_at_it_and_a_part_goes_back_to_everybody() {
    let text = limit("short", "\"tenant\"", "\"9 per day\"")
        + "until = \"2026-01-01T01:00:00+01:00\"\n"
        + &shared(
            "\"10 per day\"",
            r#"share = { soar = { part = "30%", idle = "kept", until = "2026-01-01T00:00:01Z" } }"#,
        );
    let set = quotas(&text);
    let subject = application(1, 1);
    let at = |seconds: i64| {
        let caller = crate::limit::Caller {
            subject: &subject,
            groups: &[],
            at: Wall::from_unix_seconds(1_767_225_600 + seconds),
        };
        let (operation, scope) = ("read".parse().unwrap(), Scope::default());
        let of = set.charges(caller, &operation, &scope);
        let each = each(&of).into_iter().map(|charge| {
            let parts = charge.quota.parts.iter().map(|part| (part.owner.is(caller), part.idle));
            (charge.quota.name.to_string(), parts.collect::<Vec<_>>())
        });
        each.collect::<std::collections::BTreeMap<_, _>>().into_iter().rev().collect::<Vec<_>>()
    };
    let shared = |owned, idle| ("shared".to_owned(), vec![(owned, idle)]);
    assert_eq!(at(-1), [("short".to_owned(), vec![]), shared(true, Idle::Kept)]);
    assert_eq!(at(0), [shared(true, Idle::Kept)]);
    assert_eq!(at(1), [shared(false, Idle::Lent)]);
    assert_eq!(at(1_000_000), at(1));
}

#[test]
fn what_has_an_end_is_warned_of_before_and_after_it() {
    let warnings = |text: &str| {
        let mut files = PolicyFiles::default();
        files.insert(SourceFile::new("limits.toml", text));
        let mut problems = Problems::default();
        QuotaSet::compile(&files, &crate::limit::fixture::documented(), &owners(), now(), &mut problems);
        let (problems, warnings) = problems.into_parts();
        problems.iter().chain(&warnings).map(ToString::to_string).collect::<Vec<_>>()
    };
    let short = |time: &str| limit("short", "\"tenant\"", "\"9 per day\"") + &format!("until = \"{time}\"\n");
    assert_eq!(
        warnings(&short("2026-01-01T00:00:00.001Z")),
        ["limits.toml:6:9: `short` is in force until 2026-01-01T00:00:00.001Z"]
    );
    assert_eq!(
        warnings(&short("2026-01-01T00:00:00Z")),
        [
            "limits.toml:6:9: `short` lapsed at 2026-01-01T00:00:00.000Z and does nothing any more: take it out, or give it another time"
        ]
    );
    assert_eq!(
        warnings(&short("tomorrow")),
        ["limits.toml:6:9: `tomorrow` is not a time such as `2026-03-01T18:00:00Z`"]
    );
    let part = shared(
        "\"10 per day\"",
        r#"share = { soar = { part = "30%", idle = "kept", until = "2026-01-01T00:00:01Z" } }"#,
    );
    assert_eq!(
        warnings(&part),
        ["limits.toml:6:57: the part of `soar` in `shared` is in force until 2026-01-01T00:00:01.000Z"]
    );
}

#[test]
fn a_limit_is_described_with_its_parts_and_all_else_that_it_says() {
    let share = r#"share = { soar = { part = "30%", idle = "kept", until = "2027-01-01T00:00:00Z" }, responders = { part = "50%", idle = "lent" } }"#;
    let set =
        quotas(&shared("\"10 per day\"", &format!("{share}\nwhen_full = {{ wait = \"5s\", queue = 3 }}\n")));
    assert_eq!(
        set.describe(&"shared".into()),
        [
            "is for `read`",
            "lets 10 per 24:00:00 through",
            "does not show callers how it stands",
            "holds up to 3 calls of each key for up to 5s where it has no room",
            "promises `responders` 5 per 24:00:00 and lends what is idle of it",
            "promises `soar` 3 per 24:00:00 and keeps it",
            "promises `soar` that until 2027-01-01T00:00:00.000Z",
            "counts by tenant",
        ]
    );
    let set =
        quotas(&(limit("way", "", "\"9 per day\"") + "in_flight = 25\nuntil = \"2027-01-01T00:00:00Z\"\n"));
    assert_eq!(
        set.describe(&"way".into())[2..],
        [
            "lets 25 be on their way at once",
            "does not show callers how it stands",
            "lapses at 2027-01-01T00:00:00.000Z"
        ]
    );
}

#[test]
fn a_limit_per_address_has_no_other_terms() {
    let text = "[[limit]]\nname = \"a\"\nper = [\"address\"]\nwindows = [\"3 per day\"]\nwhen_full = { wait = \"1s\", queue = 1 }\nin_flight = 3\nopen_actions = 3\nuntil = \"2027-01-01T00:00:00Z\"\nshare = {}\nmargin = \"1s\"\ncost = 2\nopen_for = \"1d\"\n";
    let found = problems(text);
    let each = [
        (5, 13, "when_full"),
        (6, 13, "in_flight"),
        (7, 16, "open_actions"),
        (8, 9, "until"),
        (9, 9, "share"),
        (10, 10, "margin"),
        (11, 8, "cost"),
        (12, 12, "open_for"),
    ];
    let expected = each.map(|(line, column, field)| {
        format!(
            "limits.toml:{line}:{column}: a limit per `address` counts failed logins: leave `{field}` out"
        )
    });
    assert_eq!(found, expected);
}

#[test]
fn actions_under_way_are_bounded_on_calls_that_start_some() {
    let open = |lines: &str| {
        let text = limit("open", "\"tenant\"", "\"9 per day\"")
            .replace("windows = [\"9 per day\"]\n", lines)
            .replace("[\"read\"]", "[\"collect\"]");
        let (set, problems) = compile(&text);
        let of = charges(&set, &application(1, 1), "collect");
        let found = of.open().map(|(quota, _)| (quota.most.get(), quota.open_for.as_secs())).next();
        (found, of.len(), problems)
    };
    assert_eq!(open("open_actions = 25\n"), (Some((25, 259_200)), 1, vec![]), "beside the documented limit");
    assert_eq!(open("open_actions = 2\nopen_for = \"1d 1h\"\n"), (Some((2, 90_000)), 1, vec![]));
    assert_eq!(open("open_actions = 2\nwindows = [\"9 per day\"]\n"), (Some((2, 259_200)), 2, vec![]));
    assert_eq!(open("open_actions = 2\nin_flight = 9\n"), (Some((2, 259_200)), 2, vec![]));
    for (lines, message) in [
        ("open_actions = 10001", "5:16: no more than 10000 actions are counted"),
        ("open_actions = 2\nopen_for = \"59s\"", "6:12: `59s` is not a time such as `3d`, 1m to 30d"),
        ("open_actions = 2\nopen_for = \"31d\"", "6:12: `31d` is not a time such as `3d`, 1m to 30d"),
        ("windows = [\"9 per day\"]\nopen_for = \"1d\"", "6:12: `open_for` without `open_actions`"),
        (
            "open_actions = 2\nwindows = [\"9 per day\"]\nshare = { soar = { part = \"30%\", idle = \"kept\" } }",
            "7:9: a share is a part of windows, not of actions under way; write two limits, one with `open_actions` and one with the share",
        ),
        (
            "open_actions = 2\nwhen_full = { wait = \"1s\", queue = 1 }",
            "5:16: nobody can tell how long to wait for actions under way: only windows open at a known moment",
        ),
    ] {
        assert_eq!(open(&format!("{lines}\n")).2, [format!("limits.toml:{message}")]);
    }
    let text = limit("open", "", "\"9 per day\"") + "open_actions = 2\n";
    assert_eq!(problems(&text), ["limits.toml:3:14: `read` starts no action, which this limit counts"]);
    let set = quotas(&text.replace("read", "collect"));
    assert_eq!(
        set.describe(&"open".into()),
        [
            "is for `collect`",
            "lets 9 per 24:00:00 through",
            "does not show callers how it stands",
            "is for `collect`",
            "lets 2 actions be under way at once, each for 72h at most"
        ]
    );
}
