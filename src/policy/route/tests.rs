use proptest::prelude::*;

use super::*;

fn table<'p>(paths: &[&'p str]) -> RouteTable<&'p str> {
    let mut table = RouteTable::new();
    for path in paths {
        table.insert(&Method::GET, &path.parse().unwrap(), *path).unwrap();
    }
    table
}

const PATHS: &[&str] = &[
    "/api/machines",
    "/api/machines/{device}",
    "/api/machines/{device}/alerts",
    "/api/machines/findbytag",
    "/api/machines/{device}/software/{name}",
    "/api/alerts/{alert}",
    "/api/machines/findbyip(ip='{ip}',timestamp={time})",
    "/api/machineactions/{action}/Link(index={index})",
];

#[track_caller]
fn leads(target: &str, expected: Option<(&str, &[&str])>) {
    let table = table(PATHS);
    let found = table.find(&Method::GET, target);
    let found =
        found.as_ref().map(|(path, captures)| (*path, captures.iter().map(|c| &**c).collect::<Vec<_>>()));
    assert_eq!(found, expected.map(|(path, captures)| (path, captures.to_vec())), "{target}");
}

#[test]
fn literals_match_without_regard_to_case_and_parameters_keep_theirs() {
    leads("/API/Machines/PC-1/ALERTS", Some(("/api/machines/{device}/alerts", &["PC-1"])));
}

#[test]
fn version_1_0_is_the_same_as_none_and_no_other_version_is() {
    leads("/api/v1.0/machines", Some(("/api/machines", &[])));
    leads("/Api/V1.0/machines/x", Some(("/api/machines/{device}", &["x"])));
    for other in ["/api/v1/machines", "/api/v2.0/machines", "/api/v1.0/v1.0/machines", "/api/v1%2e0/machines"]
    {
        leads(other, None);
    }
}

#[test]
fn the_path_ends_at_the_query_which_never_decides() {
    leads("/api/machines?$filter=a/b", Some(("/api/machines", &[])));
    leads("/api/machines/x?/alerts", Some(("/api/machines/{device}", &["x"])));
    leads("/api/machines/x?a?b", Some(("/api/machines/{device}", &["x"])));
    leads("?/api/machines", None);
}

#[test]
fn a_literal_is_taken_before_a_parameter_and_taking_it_is_final() {
    leads("/api/machines/FindByTag", Some(("/api/machines/findbytag", &[])));
    leads("/api/machines/findbytag/alerts", None);
    leads("/api/machines/findbytagx/alerts", Some(("/api/machines/{device}/alerts", &["findbytagx"])));
}

#[test]
fn an_encoded_literal_is_neither_the_literal_nor_a_parameter() {
    leads("/api/machines/%66indbytag", None);
    leads("/api/machines/findbyta%47", None);
    leads("/%61pi/machines", None);
    leads("/api/machines/x/%61lerts", None);
}

#[test]
fn a_parameter_is_decoded_once() {
    leads("/api/machines/pc%2D1", Some(("/api/machines/{device}", &["pc-1"])));
    leads("/api/machines/%C3%A4.example", Some(("/api/machines/{device}", &["ä.example"])));
    leads("/api/machines/a+b", Some(("/api/machines/{device}", &["a+b"])));
    leads("/api/machines/x/software/a%20b", Some(("/api/machines/{device}/software/{name}", &["x", "a b"])));
}

#[test]
fn a_parameter_that_could_mean_two_things_matches_nothing() {
    for value in [
        "a%2Fb",
        "a%2fb",
        "a\\b",
        "a%5Cb",
        "a%25b",
        "a%2525b",
        "a%3Bb",
        "a;b",
        "a%3Fb",
        "a%23b",
        "a#b",
        "%00",
        "a%0Ab",
        "a%7Fb",
        "%C2%85",
        "%",
        "%2",
        "%zz",
        "%FF",
        "%C3",
        "%ED%A0%80",
        "%C0%AF",
        ".",
        "..",
        "%2e",
        "%2E%2e",
        "",
    ] {
        leads(&format!("/api/machines/{value}"), None);
        leads(&format!("/api/machines/{value}/alerts"), None);
    }
}

#[test]
fn empty_segments_and_trailing_slashes_match_nothing() {
    for target in [
        "",
        "/",
        "//",
        "api/machines",
        "//api/machines",
        "/api//machines",
        "/api/machines/",
        "/api/machines//",
        "/api/machines/x/",
        "/api/machines//alerts",
        "/./api/machines",
        "/api/./machines",
        "/api/x/../machines",
        "http://host/api/machines",
        "*",
        "/api",
        "/api/v1.0",
        "/api/v1.0/",
    ] {
        leads(target, None);
    }
}

#[test]
fn another_method_is_no_operation() {
    let table = table(PATHS);
    assert!(table.find(&Method::POST, "/api/machines").is_none());
    assert!(table.find(&Method::HEAD, "/api/machines").is_none());
}

#[test]
fn two_paths_of_one_shape_are_refused_and_two_methods_are_not() {
    for (first, second) in [
        ("/api/machines/{device}", "/API/machines/{other}"),
        ("/api/machines", "/api/v1.0/Machines"),
        ("/api/{x}/a/{y}", "/api/{device}/A/{action}"),
    ] {
        let mut table = table(&[first]);
        assert_eq!(table.insert(&Method::GET, &second.parse().unwrap(), second), Err(first));
        assert_eq!(table.insert(&Method::PUT, &second.parse().unwrap(), second), Ok(()));
        assert!(table.find(&Method::PUT, &second.replace(['{', '}'], "")).is_some());
    }
}

/// A naive reading of the promise: of the paths that are still possible, those with this literal, or else those with
/// a parameter here.
fn model<'p>(paths: &[&'p str], target: &str) -> Vec<&'p str> {
    let split = |path: &'p str| path.split('/').skip(1).collect::<Vec<_>>();
    let target: Vec<&str> = target.split('/').skip(1).collect();
    let mut left: Vec<&str> = paths.to_vec();
    for (place, segment) in target.iter().enumerate() {
        let literal =
            |path: &&&'p str| split(path).get(place).is_some_and(|s| s.eq_ignore_ascii_case(segment));
        let parameter = |path: &&&'p str| split(path).get(place).is_some_and(|s| s.starts_with('{'));
        let with_literal: Vec<&str> = left.iter().filter(literal).copied().collect();
        left = match with_literal.is_empty() {
            true => left.iter().filter(parameter).copied().collect(),
            false => with_literal,
        };
    }
    left.retain(|path| split(path).len() == target.len());
    left
}

fn path() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "{x}", "{device}", "{y}"]);
    prop::collection::vec(segment, 1..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

proptest! {
    #[test]
    fn whatever_the_paths_at_most_one_operation_answers_a_request(
        paths in prop::collection::vec(path(), 1..12),
        target in prop::collection::vec(prop::sample::select(vec!["a", "A", "b", "c"]), 1..4),
    ) {
        let mut table = RouteTable::new();
        let mut kept = Vec::new();
        for path in &paths {
            // A path with two devices is refused before it comes here.
            let Ok(template) = path.parse() else { continue };
            if table.insert(&Method::GET, &template, path.as_str()).is_ok() {
                kept.push(path.as_str());
            }
        }
        let target = format!("/{}", target.join("/"));
        let expected = model(&kept, &target);
        prop_assert!(expected.len() <= 1, "{expected:?}");
        prop_assert_eq!(table.find(&Method::GET, &target).map(|(path, _)| path), expected.first().copied());
    }

    #[test]
    fn no_target_whatever_makes_routing_panic(target in "(/|[a-z%{}.;\\\\]|\\PC){0,40}") {
        let _ = table(PATHS).find(&Method::GET, &target);
    }
}

const BY_IP: &str = "/api/machines/findbyip(ip='{ip}',timestamp={time})";

#[test]
fn a_function_is_found_by_its_name_and_arguments_and_its_values_lose_their_quotes() {
    for target in [
        "/api/machines/findbyip(ip='10.0.0.1',timestamp=2026-01-01T00:00:00Z)",
        "/api/v1.0/Machines/FindByIp(IP='10.0.0.1',Timestamp=2026-01-01T00:00:00Z)?x=y",
        "/api/machines/findbyip(ip='10%2e0.0.1',timestamp='2026-01-01T00%3A00:00Z')",
    ] {
        leads(target, Some((BY_IP, &["10.0.0.1", "2026-01-01T00:00:00Z"])));
    }
    let link = "/api/machineactions/{action}/Link(index={index})";
    leads("/api/machineactions/a/link(index=0)", Some((link, &["a", "0"])));
    leads("/api/machineactions/a/link(index='0')", Some((link, &["a", "0"])));
}

#[test]
fn a_function_with_other_arguments_than_its_own_is_neither_it_nor_a_parameter() {
    for arguments in [
        "",
        "ip='10.0.0.1'",
        "timestamp=x,ip='10.0.0.1'",
        "ip='10.0.0.1',timestamp=x,key=y",
        "ip='10.0.0.1',timestamp=x,",
        "ip=10.0.0.1,timestamp=x",
        "ip='10.0.0.1,timestamp=x",
        "ip='',timestamp=x",
        "ip='a'b',timestamp=x",
        "ip='a%27b',timestamp=x",
        "ip='a%2Cb',timestamp=x",
        "ip='a',timestamp=x%29",
        "ip='a',timestamp=@t",
        "ip='a%2Fb',timestamp=x",
        "ip='a', timestamp=x",
        "ip%3D'a',timestamp=x",
    ] {
        leads(&format!("/api/machines/findbyip({arguments})"), None);
    }
    leads("/api/machines/findbyip%28ip='a',timestamp=x)", None);
    leads("/api/machines/findbyip(ip='a',timestamp=x%29", None);
    leads("/api/machines/findbyip(ip='a',timestamp=x)/alerts", None);
}

#[test]
fn two_functions_of_one_name_cannot_stand_side_by_side() {
    let mut table = table(&[BY_IP]);
    for other in
        ["/api/machines/FindByIp(ip={ip},timestamp={time})", "/api/machines/findbyip(ip='{ip}')/alerts"]
    {
        assert_eq!(table.insert(&Method::GET, &other.parse().unwrap(), "other"), Err(BY_IP), "{other}");
    }
    let below = "/api/machines/FINDBYIP(IP='{address}',timestamp={t})/alerts";
    assert_eq!(table.insert(&Method::GET, &below.parse().unwrap(), "below"), Ok(()));
    let other = "/api/machines/find(timestamp={time},key={ip})";
    assert_eq!(table.insert(&Method::GET, &other.parse().unwrap(), "other"), Ok(()));
}
