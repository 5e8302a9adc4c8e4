use super::*;
use crate::limit::fixture::{application, charges, compile, each, limit, now, owners, quotas, user};
use crate::limit::window::Bound;

/// The problems of a file.
fn problems(text: &str) -> Vec<String> {
    compile(text).1
}

#[test]
fn an_empty_file_leaves_the_documented_limits() {
    let set = quotas("");
    assert_eq!((set.len(), set.max_keys()), (1, DEFAULT_MAX_KEYS));
    let of = charges(&set, &application(1, 1), "collect");
    let [charge] = *each(&of) else { panic!("one charge") };
    assert_eq!((charge.quota.name.as_str(), charge.quota.visibility), ("collect", Visibility::Shown));
    let rates: Vec<_> = charge.quota.bounds.each().iter().map(|bound| bound.rate.to_string()).collect();
    assert_eq!(rates, ["100 per 00:01:00", "1500 per 01:00:00"]);
    assert!(charges(&set, &application(1, 1), "read").is_empty());
}

#[test]
fn a_missing_file_is_a_problem() {
    let mut problems = Problems::default();
    QuotaSet::compile(&PolicyFiles::default(), &[], &owners(), now(), &mut problems);
    let problems = problems.into_sorted();
    assert_eq!((problems.len(), &*problems[0].file), (1, "limits.toml"));
}

#[test]
fn a_limit_says_what_it_counts_by_and_who_sees_it() {
    let text = limit("everybody", "", "\"9 per day\"")
        + &limit("by-user", "\"user\"", "\"9 per day\"")
        + &limit("told", "\"tenant\"", "\"9 per day\"")
        + "show = true\nwhen_full = \"reject\"\n"
        + &limit("secret", "\"application\"", "\"9 per day\"")
        + "show = false\n";
    let set = quotas(&format!("max_keys = 7\n{text}"));
    assert_eq!((set.len(), set.max_keys().get()), (5, 7));
    let of = |subject| {
        let charges = charges(&set, &subject, "read");
        each(&charges).iter().map(|charge| (charge.quota.name.to_string(), charge.key)).collect::<Vec<_>>()
    };
    let [someone, other] = [of(user(1, 1, 1)), of(user(2, 2, 2))];
    assert_eq!(someone.len(), 4);
    let same: Vec<_> = someone.iter().zip(&other).map(|(a, b)| (a.0.as_str(), a.1 == b.1)).collect();
    assert_eq!(same, [("everybody", true), ("by-user", false), ("told", false), ("secret", false)]);
    assert_eq!(of(application(1, 1)).len(), 3, "no user, no limit per user");
    let seen = each(&charges(&set, &user(1, 1, 1), "read"));
    let seen: Vec<_> = seen.iter().map(|charge| charge.quota.visibility == Visibility::Shown).collect();
    assert_eq!(seen, [false, true, true, false]);
}

#[test]
fn all_means_every_operation_there_is() {
    let text = limit("everywhere", "\"tenant\"", "\"9 per day\"").replace("[\"read\"]", "\"all\"");
    let set = quotas(&text);
    let keys = ["collect", "read", "list"].map(|operation| {
        each(&charges(&set, &application(1, 1), operation))
            .iter()
            .max_by_key(|charge| charge.quota.rule)
            .unwrap()
            .key
    });
    assert!(keys.iter().all(|key| *key == keys[0]), "one key for all of them");
}

#[test]
fn the_charges_of_a_call_are_in_the_order_of_their_keys() {
    let names = ["order-3", "order-1", "order-2"];
    // A name that was compiled before keeps its number, wherever it stands now.
    for names in [names, ["order-1", "order-2", "order-3"]] {
        let set = quotas(&names.map(|name| limit(name, "\"tenant\"", "\"9 per day\"")).concat());
        let of = charges(&set, &application(1, 1), "read");
        assert!(each(&of).is_sorted_by(|a, b| a.quota.rule < b.quota.rule));
        let listed: Vec<_> = each(&of).iter().map(|charge| charge.quota.name.as_str()).collect();
        assert_eq!(listed, ["order-3", "order-1", "order-2"]);
    }
}

#[test]
fn every_mistake_is_named_with_its_place() {
    let text = r#"max_keys = 0
burst = 3

[[limit]]
name = "no good"
operations = ["reed", "read", "read"]
per = ["tenant", "tenant"]
windows = ["many per minute", "0 per hour"]

[[limit]]
name = "collect"
operations = []
per = []
windows = []

[[limit]]
name = "collect"
operations = "any"
per = []
windows = ["1 per day"]

[[limit]]
name = "a"
operations = "all"
per = ["colour"]
windows = ["1 per day"]

[[limit]]
name = "b"
operations = "all"
per = []
windows = ["10 per minute", "5 per hour", "20 per 60s", "9999 per day"]
when_full = "drop"

[[limit]]
name = "c"
operations = "all"
per = []
windows = ["10 per minute", "5 per hour", "20 per 60s", "99999 per day"]

[[limit]]
name = "c"
operations = "all"
per = []
windows = ["1 per day"]
wait = "5s"

[[limit]]
name = "c"
operations = "all"
per = []
windows = ["1 per day"]
"#;
    let rate_form = "is not a rate such as `100 per minute` (1 to 1000000 per second, minute, hour, day, or `90s`, at most 24 days)";
    let expected = [
        "1:12: invalid value: integer `0`, expected a nonzero u32".to_owned(),
        "2:1: unknown key `burst`".to_owned(),
        "5:8: `no good` is not a name of a limit: 1 to 64 letters, digits, `-`, `_` and `.`, as headers and labels carry it".to_owned(),
        "6:15: unknown operation `reed`; did you mean `read`?".to_owned(),
        "6:31: `read` is named twice".to_owned(),
        "7:18: `per` names this twice".to_owned(),
        format!("8:12: `many per minute` {rate_form}"),
        format!("8:31: `0 per hour` {rate_form}"),
        "11:8: `collect` is the name of that operation's documented limit, or of a limit above".to_owned(),
        "12:14: a limit needs an operation, or `\"all\"` of them".to_owned(),
        "14:11: a limit needs a window such as `100 per minute`".to_owned(),
        "18:14: invalid value: string \"any\", expected a list of operations, or \"all\"".to_owned(),
        "25:8: unknown variant `colour`, expected one of `tenant`, `application`, `user`, `operation`, `device`, `device_group`, `address`".to_owned(),
        "33:13: invalid value: string \"drop\", expected \"reject\", or { wait = \"5s\", queue = 100 }".to_owned(),
        "39:11: `10 per 00:01:00` and `20 per 00:01:00` have the same window".to_owned(),
        "39:11: `10 per 00:01:00` can't be reached under `5 per 01:00:00`".to_owned(),
        "39:11: `20 per 00:01:00` can't be reached under `5 per 01:00:00`".to_owned(),
        "39:11: `99999 per 24:00:00` can't be reached under `10 per 00:01:00`".to_owned(),
        "39:11: `99999 per 24:00:00` can't be reached under `20 per 00:01:00`".to_owned(),
        "39:11: `99999 per 24:00:00` can't be reached under `5 per 01:00:00`".to_owned(),
        "46:1: unknown field `wait`, expected one of `name`, `operations`, `per`, `windows`, `margin`, `cost`, `when_full`, `share`, `in_flight`, `open_actions`, `open_for`, `until`, `show`, `enforce`".to_owned(),
        "49:8: `c` is the name of a limit above".to_owned(),
    ];
    let expected = expected.map(|problem| format!("limits.toml:{problem}"));
    assert_eq!(problems(text), expected);
}

#[test]
fn an_operation_under_more_than_8_limits_is_a_problem() {
    let limits =
        |count| (1..=count).map(|n| limit(&format!("n{n}"), "", "\"1 per day\"")).collect::<String>();
    assert_eq!(problems(&limits(8)), [""; 0]);
    let found = problems(&limits(9));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("limits.toml: `read` is under 9 limits, at most 8 may be: `n1`"),
        "{found:?}"
    );
}

#[test]
fn documented_limits_that_contradict_each_other_are_a_problem_of_the_file_they_stand_in() {
    let mut files = PolicyFiles::default();
    files.insert(SourceFile::new("limits.toml", ""));
    let rates = ["100 per minute", "50 per hour"].map(|rate| rate.parse().unwrap()).to_vec();
    let mut problems = Problems::default();
    let place = Place { file: "operations/machines.toml".into(), line: 7, column: 8, width: 1 };
    let limit = DocumentedLimit { place: Some(place), ..DocumentedLimit::at_no_place("read", rates) };
    QuotaSet::compile(&files, &[limit], &owners(), now(), &mut problems);
    assert_eq!(
        problems.into_sorted()[0].to_string(),
        "operations/machines.toml:7:8: limits of `read`: `100 per 00:01:00` can't be reached under `50 per 01:00:00`"
    );
}

#[test]
fn rates_that_another_just_lets_be_reached_do_not_contradict_it() {
    for windows in ["\"2 per minute\", \"120 per hour\"", "\"5 per minute\", \"5 per hour\""] {
        assert_eq!(problems(&limit("edge", "", windows)), [""; 0]);
    }
}

/// The warnings of a set with these limits beside the documented ones of `read`.
fn warnings(rates: &[&str], text: &str) -> Vec<String> {
    let mut files = PolicyFiles::default();
    files.insert(SourceFile::new("limits.toml", text));
    let mut problems = Problems::default();
    let rates = rates.iter().map(|rate| rate.parse().unwrap()).collect();
    let documented =
        [DocumentedLimit::at_no_place("read", rates), DocumentedLimit::at_no_place("write", Vec::new())];
    QuotaSet::compile(&files, &documented, &owners(), now(), &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    problems.into_warnings().iter().map(ToString::to_string).collect()
}

fn beside(operations: &str, per: &str, windows: &str) -> String {
    format!("[[limit]]\nname = \"mine\"\noperations = {operations}\nper = {per}\nwindows = {windows}\n")
}

#[test]
fn a_limit_that_others_always_reach_first_is_pointed_out() {
    let idle = [
        "limits.toml:2:8: `mine` can never bind: on each of its calls another limit is reached before it, or with it",
    ];
    for (per, windows) in [
        // The documented limit of each tenant and application, again or wider.
        (r#"["tenant", "application"]"#, r#"["100 per minute"]"#),
        (r#"["tenant", "application", "user"]"#, r#"["200 per minute"]"#),
        // 100 a minute are at most 6000 an hour and 200 in 90 s.
        (r#"["tenant", "application", "operation"]"#, r#"["6000 per hour"]"#),
        (r#"["tenant", "application"]"#, r#"["200 per 90s"]"#),
    ] {
        assert_eq!(
            warnings(&["100 per minute"], &beside(r#"["read"]"#, per, windows)),
            idle,
            "{per} {windows}"
        );
    }
}

#[test]
fn a_limit_that_can_be_the_first_to_be_reached_is_not_pointed_out() {
    for (operations, per, windows) in [
        (r#"["read"]"#, r#"["tenant", "application"]"#, r#"["99 per minute"]"#),
        (r#"["read"]"#, r#"["tenant", "application"]"#, r#"["5999 per hour"]"#),
        (r#"["read"]"#, r#"["tenant", "application"]"#, r#"["199 per 90s"]"#),
        // A tenant may have any number of applications.
        (r#"["read"]"#, r#"["tenant"]"#, r#"["1000 per minute"]"#),
        // Nothing else bounds `write`.
        (r#""all""#, r#"["tenant", "application"]"#, r#"["1000 per minute"]"#),
        (r#""all""#, r#"["tenant", "application", "operation"]"#, r#"["1000 per minute"]"#),
    ] {
        let text = beside(operations, per, windows);
        assert_eq!(warnings(&["100 per minute"], &text), [""; 0], "{text}");
    }
}

#[test]
fn a_limit_per_address_counts_failed_logins_and_nothing_else() {
    let (set, problems) = compile(
        "[[limit]]\nname = \"failed\"\nper = [\"address\"]\nwindows = [\"9 per hour\", \"5 per minute\"]\n",
    );
    assert_eq!(problems, [""; 0]);
    let logins = set.logins.as_ref().unwrap();
    assert_eq!(logins.bounds.each().iter().map(|bound| bound.rate.count.get()).collect::<Vec<_>>(), [5, 9]);
    assert_eq!((logins.max_addresses.get(), set.len()), (100_000, 2));
    // No call is charged to it.
    assert!(charges(&set, &application(1, 2), "read").is_empty());

    let (_, problems) = compile(
        r#"[[limit]]
name = "a"
operations = "all"
per = ["address", "tenant"]
windows = ["20000 per day", "3 per day"]
show = true
enforce = false

[[limit]]
name = "b"
per = ["address"]
windows = []

[[limit]]
name = "c"
per = ["tenant"]
windows = ["1 per day"]
"#,
    );
    let expected = [
        "limits.toml:2:8: a limit per `address` counts failed logins, and is enforced or not there: leave `enforce` out",
        "limits.toml:2:8: a limit per `address` counts failed logins, and nobody is shown how many are left: leave `show` out",
        "limits.toml:3:14: a limit per `address` counts failed logins, whatever the operation: leave `operations` out",
        "limits.toml:4:19: a limit per `address` counts failed logins, and a refused token names nobody: nothing else can stand beside it",
        "limits.toml:5:11: 100000 addresses with 20000 failures each would take 7644 MiB, more than 1024: lower `max_addresses` or the count",
        "limits.toml:5:11: `20000 per 24:00:00` and `3 per 24:00:00` have the same window",
        "limits.toml:10:8: there is a limit per `address` above: one limit may have several windows",
        "limits.toml:12:11: a limit needs a window such as `100 per minute`",
        "limits.toml:14:1: missing field `operations`",
    ];
    for (problem, expected) in problems.iter().zip(expected) {
        assert_eq!(problem, expected);
    }
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
}

#[test]
fn a_margin_makes_windows_longer_and_those_of_the_documented_limits_have_their_own() {
    let text = limit("slower", "", "\"1 per second\"") + "margin = \"1s 1ms\"\n";
    let set = quotas(&format!("documented_margin = \"250ms\"\n{text}"));
    let bounds = |operation| each(&charges(&set, &application(1, 1), operation))[0].quota.bounds.clone();
    let minute = "100 per minute".parse().unwrap();
    assert_eq!(bounds("collect").each()[0], Bound::new(minute, Margin::from_millis(250).unwrap()));
    let second = "1 per second".parse().unwrap();
    assert_eq!(bounds("read").each(), [Bound::new(second, Margin::from_millis(1_001).unwrap())]);

    let text = limit("a", "", "\"1 per second\"") + "margin = \"61s\"\n";
    let form = "is not a margin such as `250ms`, whole milliseconds, at most `60s`";
    assert_eq!(
        problems(&format!("documented_margin = \"-1s\"\n{text}")),
        [format!("limits.toml:1:21: `-1s` {form}"), format!("limits.toml:7:10: `61s` {form}")]
    );
}

#[test]
fn a_cost_is_one_number_for_all_calls_or_one_for_each_operation() {
    let of = |cost: &str| limit("units", "", "\"9 per day\"").replace("[\"read\"]", "\"all\"") + cost;
    let costs = |cost| {
        let set = quotas(&of(cost));
        ["read", "list"]
            .map(|operation| each(&charges(&set, &application(1, 1), operation))[0].quota.cost.get())
    };
    assert_eq!(costs(""), [1, 1]);
    assert_eq!(costs("cost = 9"), [9, 9]);
    assert_eq!(costs("cost = { list = 3 }"), [1, 3]);
    for (cost, message) in [
        ("cost = 0", "6:8: `0` is not a cost: 1 to 1000"),
        ("cost = 1001", "6:8: `1001` is not a cost: 1 to 1000"),
        ("cost = -1", "6:8: `-1` is not a cost: 1 to 1000"),
        ("cost = { read = 10 }", "6:8: a call that costs 10 never finds room in a window of 9"),
        ("cost = { raed = 2 }", "6:8: `raed` is no operation of this limit"),
        (
            "cost = \"5\"",
            "6:8: invalid type: string \"5\", expected a number, or a table of operations and numbers",
        ),
    ] {
        assert_eq!(problems(&of(cost)), [format!("limits.toml:{message}")]);
    }
}

#[test]
fn a_limit_per_device_stands_on_calls_that_name_one_device() {
    let of =
        |operations: &str| limit("each", "\"device\"", "\"9 per day\"").replace("[\"read\"]", operations);
    let set = quotas(&of("[\"read\", \"collect\"]"));
    assert!(set.counts_devices(&"read".parse().unwrap()) && !set.counts_devices(&"list".parse().unwrap()));
    let several = "`tag` may name several devices, and this limit counts by one";
    assert_eq!(problems(&of("\"all\"")), [format!("limits.toml:3:14: {several}")]);
    assert_eq!(
        problems(&of("[\"list\", \"tag\"]").replace("device", "device_group")),
        [
            "limits.toml:3:15: `list` names no device, which this limit counts by".to_owned(),
            format!("limits.toml:3:23: {several}"),
        ]
    );
}

#[test]
fn the_worst_case_is_every_key_full_under_the_largest_limit() {
    let largest = limit("large", "", "\"1000 per second\", \"10000 per hour\"");
    assert_eq!(quotas(&format!("max_keys = 10\n{largest}")).worst_case_bytes(), 10 * (165 + 40_000));
    assert_eq!(quotas("").worst_case_bytes(), 1_000_000 * (165 + 6_000));
}

mod shares;
mod terms;
