//! The parts of a limit.

use super::*;
use crate::id::{ApplicationId, EntraGroupId, TenantId};
use crate::limit::Caller;
use crate::limit::owners::Owners;
use crate::limit::window::Bounds;
use crate::principal::{Scope, Tenants};

/// A limit of 100 a minute and 7 an hour per tenant, or these windows, with these lines.
fn shared(windows: &str, lines: &str) -> String {
    limit("shared", "\"tenant\"", windows) + lines + "\n"
}

/// Each part of the only limit on `read`, as `owner: counts`, and the counts of the rest.
fn parts(set: &QuotaSet) -> (Vec<String>, Vec<u32>) {
    let of = charges(set, &user(1, 1, 1), "read");
    let quota = each(&of)[0].quota;
    let counts =
        |bounds: &Bounds| bounds.each().iter().map(|bound| bound.rate.count.get()).collect::<Vec<_>>();
    let parts =
        quota.parts.iter().map(|part| format!("{}: {:?} {:?}", part.name, counts(&part.bounds), part.idle));
    (parts.collect(), counts(&quota.bounds))
}

/// A limit of these windows with this share is refused or warned of so.
fn said(windows: &str, share: &str) -> Vec<String> {
    let mut files = PolicyFiles::default();
    files.insert(SourceFile::new("limits.toml", shared(windows, &format!("share = {{ {share} }}"))));
    let mut problems = Problems::default();
    QuotaSet::compile(&files, &crate::limit::fixture::documented(), &owners(), now(), &mut problems);
    let (problems, warnings) = problems.into_parts();
    problems.iter().chain(&warnings).map(ToString::to_string).collect()
}

#[test]
fn parts_are_taken_of_each_window_rounded_down_and_a_kept_one_is_at_least_one_call() {
    let share =
        r#"share = { responders = { part = "30%", idle = "kept" }, soar = { part = "50%", idle = "lent" } }"#;
    let set = quotas(&shared(r#""100 per minute", "1501 per hour""#, share));
    let each = ["responders: [30, 450] Kept", "soar: [50, 750] Lent"];
    assert_eq!(parts(&set), (each.map(String::from).to_vec(), vec![20, 301]));

    let set =
        quotas(&shared(r#""2 per minute""#, r#"share = { responders = { part = "1%", idle = "kept" } }"#));
    assert_eq!(parts(&set), (vec!["responders: [1] Kept".to_owned()], vec![1]));
}

#[test]
fn parts_of_all_of_a_limit_leave_nothing_for_others() {
    let share =
        r#"share = { responders = { part = "50%", idle = "kept" }, soar = { part = "50%", idle = "lent" } }"#;
    // The odd call is nobody's: a call is counted in all windows, and of the minute nothing is left.
    let set = quotas(&shared(r#""100 per minute", "1501 per hour""#, share));
    assert_eq!(parts(&set).1, [0; 0]);
}

#[test]
fn a_lent_part_of_less_than_one_call_is_nothing_and_pointed_out() {
    let share = r#"soar = { part = "10%", idle = "lent" }"#;
    assert_eq!(
        said(r#""9 per minute", "100 per hour""#, share),
        ["limits.toml:6:27: 10% of `9 per 00:01:00` is less than one call: nothing is promised to `soar`"]
    );
    let set = compile(&shared(r#""9 per minute", "100 per hour""#, &format!("share = {{ {share} }}"))).0;
    assert_eq!(parts(&set), (vec![], vec![9, 100]));
}

#[test]
fn a_share_that_cannot_be_meant_is_a_problem_at_its_place() {
    for (windows, share, message) in [
        (
            r#""9 per day""#,
            r#"soar = { part = "60%", idle = "kept" }, responders = { part = "41%", idle = "lent" }"#,
            "6:9: the parts come to 101% together, of 100%",
        ),
        (
            r#""9 per day""#,
            r#"soar = { part = "0%", idle = "kept" }"#,
            "6:27: `0%` is not a part such as `30%`: 1 to 100",
        ),
        (
            r#""9 per day""#,
            r#"soar = { part = "30", idle = "kept" }"#,
            "6:27: `30` is not a part such as `30%`: 1 to 100",
        ),
        (
            r#""9 per day""#,
            r#"soar = { part = "+3%", idle = "kept" }"#,
            "6:27: `+3%` is not a part such as `30%`: 1 to 100",
        ),
        (
            r#""9 per day""#,
            r#"soar = { part = "3%", idle = "given" }"#,
            "6:40: unknown variant `given`, expected `kept` or `lent`",
        ),
        (
            r#""9 per day""#,
            r#"saor = { part = "3%", idle = "kept" }"#,
            "6:11: `saor` is no application of applications.toml, and no role or user id of roles.toml; did you mean `soar`?",
        ),
        (
            r#""9 per day""#,
            r#"both = { part = "3%", idle = "kept" }"#,
            "6:11: `both` is the name of an application and of a role: a part is promised to one of them",
        ),
        (
            r#""1 per day""#,
            r#"soar = { part = "3%", idle = "kept" }, responders = { part = "3%", idle = "kept" }"#,
            "6:9: each kept part is at least one call, and `1 per 24:00:00` has fewer than parts",
        ),
        (
            r#""1 per day""#,
            r#"soar = { part = "3%", idle = "kept" }"#,
            "6:9: the parts, rounded, take all of `1 per 24:00:00`: nobody else has any",
        ),
    ] {
        assert_eq!(said(windows, share)[0], format!("limits.toml:{message}"));
    }
}

#[test]
fn a_part_for_whom_the_limit_counts_apart_is_a_problem() {
    let of = |per: &str, owner: &str| {
        let share = format!("share = {{ {owner} = {{ part = \"30%\", idle = \"kept\" }} }}\n");
        problems(&(limit("own", per, "\"9 per day\"") + &share))
    };
    let apart = |whom: &str, owner: &str| {
        [format!(
            "limits.toml:6:11: this limit counts each {whom} apart, so that `{owner}` has one of its own already: nobody shares it"
        )]
    };
    assert_eq!(of(r#""application""#, "soar"), apart("application", "soar"));
    assert_eq!(of(r#""tenant", "user""#, "responders"), apart("user", "responders"));
    assert_eq!(of(r#""application""#, "responders"), [""; 0]);
    assert_eq!(of(r#""user""#, "soar"), [""; 0]);
}

#[test]
fn a_call_that_costs_more_than_a_part_has_is_a_problem() {
    let share = r#"share = { soar = { part = "30%", idle = "kept" } }"#;
    let of = |cost: u32| problems(&shared("\"10 per day\"", &format!("cost = {cost}\n{share}")));
    assert_eq!(of(3), [""; 0]);
    assert_eq!(of(4), ["limits.toml:7:27: a call that costs 4 never finds room in a part of 3"]);
    let share = r#"share = { soar = { part = "80%", idle = "kept" } }"#;
    assert_eq!(
        problems(&shared("\"10 per day\"", &format!("cost = 3\n{share}"))),
        ["limits.toml:7:9: a call that costs 3 never finds room in what is left for others, 2"]
    );
}

#[test]
fn a_part_is_its_owners_alone() {
    let lines = r#"share = { responders = { part = "30%", idle = "kept" }, soar = { part = "30%", idle = "kept" }, 00000000-0000-0000-0000-000000000001 = { part = "10%", idle = "kept" } }"#;
    let set = quotas(&shared("\"10 per day\"", lines));
    let owned = |subject: &crate::principal::Subject, groups: &[u128]| {
        let (operation, scope) = ("read".parse().unwrap(), Scope::default());
        let groups: Vec<_> = groups.iter().map(|group| crate::id::EntraGroupId::from_u128(*group)).collect();
        let caller = Caller { subject, groups: &groups, at: now() };
        let of = set.charges(caller, &operation, &scope);
        let quota = each(&of)[0].quota;
        let owned = quota.parts.iter().filter(|part| part.owner.is(caller));
        owned.map(|part| part.name.chars().take(4).collect::<String>()).collect::<Vec<_>>()
    };
    assert_eq!(owned(&application(1, 1), &[]), ["soar"]);
    assert_eq!(owned(&application(1, 7), &[1]), ["resp"], "whose groups are known is in them");
    assert_eq!(owned(&user(1, 7, 7), &[2, 1]), ["resp"]);
    assert_eq!(owned(&user(1, 1, 1), &[]), ["0000", "resp", "soar"]);
    assert_eq!(owned(&user(1, 7, 7), &[2]), [""; 0]);
}

#[test]
fn the_parts_of_a_call_count_as_keys() {
    let share =
        r#"share = { soar = { part = "30%", idle = "kept" }, responders = { part = "30%", idle = "lent" } }"#;
    let others: String = (0..6).map(|n| limit(&format!("other-{n}"), "", "\"1 per day\"")).collect();
    let found = problems(&(others + &shared("\"10 per day\"", share)));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("limits.toml: `read` is under 9 limits and parts, at most 8 may be: "),
        "{found:?}"
    );
    assert!(found[0].contains("`shared` with 2 parts"), "{found:?}");
}

#[test]
fn a_part_keeps_its_log_when_its_size_or_the_others_change() {
    let of = |share: &str| {
        let set = quotas(&shared("\"10 per day\"", &format!("share = {{ {share} }}")));
        let of = charges(&set, &application(1, 9), "read");
        let quota = each(&of)[0].quota;
        (quota.rule, quota.parts.iter().map(|part| part.rule).collect::<Vec<_>>())
    };
    let (rest, alone) = of(r#"soar = { part = "30%", idle = "kept" }"#);
    let (same, two) =
        of(r#"soar = { part = "50%", idle = "lent" }, responders = { part = "10%", idle = "kept" }"#);
    assert_eq!((rest, alone[0]), (same, two[1]));
    assert!(rest != two[0] && rest != two[1] && two[0] != two[1]);
}

#[test]
fn a_part_of_somebody_in_one_tenant_is_nobodys_in_another() {
    let only = Tenants::Only([TenantId::from_u128(1)].into());
    let mut owners = Owners::default();
    owners.application(&"soar".into(), &only, ApplicationId::from_u128(1));
    owners.role(&"responders".into(), &only, [EntraGroupId::from_u128(1)], []);
    let share =
        r#"share = { responders = { part = "30%", idle = "kept" }, soar = { part = "50%", idle = "kept" } }"#;
    let mut files = PolicyFiles::default();
    files.insert(SourceFile::new("limits.toml", shared(r#""10 per minute""#, share)));
    let mut problems = Problems::default();
    let set = QuotaSet::compile(&files, &crate::limit::fixture::documented(), &owners, now(), &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    let theirs = |tenant: u128, application: u128| -> Vec<String> {
        let subject = user(tenant, application, 9);
        let groups = [EntraGroupId::from_u128(1)];
        let (operation, scope) = ("read".parse().unwrap(), Scope::default());
        let caller = Caller { subject: &subject, groups: &groups, at: now() };
        let of = set.charges(caller, &operation, &scope);
        let quota = each(&of)[0].quota;
        let owned = quota.parts.iter().filter(|part| part.owner.is(caller));
        owned.map(|part| part.name.to_string()).collect()
    };
    assert_eq!(theirs(1, 1), ["responders", "soar"]);
    assert_eq!(theirs(1, 2), ["responders"]);
    assert_eq!(theirs(2, 1), [""; 0]);
}
