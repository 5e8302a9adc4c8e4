use std::collections::BTreeMap;

use super::*;

fn contract() -> BodyContract {
    let required = BTreeMap::from([("Comment".to_owned(), MemberWord::String)]);
    BodyContract::new(MediaTypeWord::Json, required, None, None)
}

fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

#[track_caller]
fn bad(body: &[u8], expected: &str) {
    let error = contract().check(body).unwrap_err();
    assert_eq!(error.reason(), ReasonCode::BadBody, "{error}");
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn a_body_of_json_in_utf_8_is_taken_in_every_spelling_of_its_type() {
    for content_type in [
        "application/json",
        "Application/JSON",
        "application/json;charset=utf-8",
        "application/json; charset=UTF-8",
        "application/json ; Charset=\"Utf-8\"",
        "application/json;",
        "application/json; ; charset=utf-8",
    ] {
        let headers = headers(&[(CONTENT_TYPE, content_type)]);
        assert_eq!(contract().check_head(&headers), Ok(()), "{content_type}");
    }
}

#[test]
fn another_type_or_charset_is_the_wrong_type() {
    for content_type in [
        "",
        "text/plain",
        "application/jsonp",
        "application/problem+json",
        "application/json, text/plain",
        "application/json; charset=utf-16",
        "application/json; charset=iso-8859-1",
        "application/json; charset",
        "application/json; charset=",
        "application/json; charset=\"utf-8",
        "application/json; charset=utf-8; charset=utf-16",
        "application/json; charset=utf-8; charset=utf-8",
        "application/json; odata=\"; charset=utf-8\"",
        "application/json; charset=utf-7; x=y",
        "application/json; charset=\u{fc}tf-8",
    ] {
        let headers = headers(&[(CONTENT_TYPE, content_type)]);
        let error = contract().check_head(&headers).unwrap_err();
        assert_eq!(error.reason(), ReasonCode::WrongType, "{content_type}");
    }
    assert!(contract().check_head(&HeaderMap::new()).is_err());
    let twice = headers(&[(CONTENT_TYPE, "application/json"), (CONTENT_TYPE, "application/json")]);
    assert!(contract().check_head(&twice).is_err());
}

#[test]
fn a_coded_body_is_the_wrong_type() {
    let json = (CONTENT_TYPE, "application/json");
    let coded = |codings: &[&'static str]| {
        let mut lines = vec![json.clone()];
        lines.extend(codings.iter().map(|coding| (CONTENT_ENCODING, *coding)));
        contract().check_head(&headers(&lines))
    };
    assert_eq!(coded(&["identity"]), Ok(()));
    assert_eq!(coded(&["Identity"]), Ok(()));
    for codings in
        [&["gzip"][..], &["identity, gzip"], &["identity", "gzip"], &["identity", "identity"], &[""]]
    {
        let error = coded(codings).unwrap_err();
        assert_eq!(error.to_string(), "Content-Encoding must be absent, or `identity`", "{codings:?}");
    }
}

#[test]
fn the_comment_is_taken_from_the_body() {
    let contents =
        contract().check(br#" {"Comment": "caf\u00e9 \ud83d\ude00", "n": [1, {"a": null}]} "#).unwrap();
    assert_eq!(contents.comment.as_deref(), Some("café 😀"));
    assert!(contract().check("{\"\\u0043omment\":\"ü\"}".as_bytes()).is_ok());
}

#[test]
fn a_body_that_is_not_one_json_object_is_bad() {
    for body in [
        "",
        " ",
        "null",
        "[]",
        "\"Comment\"",
        "1",
        "{",
        "{}{}",
        "{} x",
        "{\"Comment\":\"a\"},",
        "{\"Comment\":}",
        "{'Comment':'a'}",
        "{\"Comment\":\"a\",}",
        "{\"Comment\":NaN}",
        "{\"Comment\":\"\\ud800\"}",
        "{\"Comment\":\"a\nb\"}",
        "{\"Comment\":\"a\"}\0",
        "/**/{\"Comment\":\"a\"}",
        "{\"Comment\":1e999}",
    ] {
        bad(body.as_bytes(), "Invalid request body: ");
    }
}

#[test]
fn a_byte_order_mark_or_other_bytes_than_utf_8_are_bad() {
    bad(b"\xef\xbb\xbf{\"Comment\":\"a\"}", "byte-order mark");
    bad(b"\xff\xfe{\0}\0", "not UTF-8");
    bad(b"{\"Comment\":\"\xff\"}", "not UTF-8");
    bad(b"{\"Comment\":\"\xed\xa0\x80\"}", "not UTF-8");
    bad("{\"Comment\":\"a\",\u{feff}\"b\":1}".as_bytes(), "key must be a string");
}

#[test]
fn a_member_that_is_there_twice_at_any_depth_is_bad() {
    for body in [
        r#"{"Comment":"a","Comment":"a"}"#,
        r#"{"Comment":"a","\u0043omment":"b"}"#,
        r#"{"Comment":"a","x":1,"x":2}"#,
        r#"{"Comment":"a","x":{"y":1,"y":2}}"#,
        r#"{"Comment":"a","x":[[{"y":{"z":[],"z":{}}}]]}"#,
        r#"{"x":{"a":1,"a":1},"Comment":"a"}"#,
    ] {
        bad(body.as_bytes(), "is there twice");
    }
    assert!(contract().check(br#"{"Comment":"a","x":{"Comment":1},"y":[{"x":1},{"x":2}]}"#).is_ok());
}

#[test]
fn a_member_that_is_a_required_one_but_for_case_is_bad() {
    bad(br#"{"comment":"a"}"#, "the member `comment` differs from `Comment` only in case");
    bad(br#"{"Comment":"a","COMMENT":"b"}"#, "only in case");
    bad(br#"{"Comment":"a","\u0063omment":"b"}"#, "only in case");
    assert!(contract().check(br#"{"Comment":"a","Comments":"b","x":{"comment":"c"}}"#).is_ok());
}

#[test]
fn case_is_folded_both_ways() {
    // The Kelvin sign is `k` in lower case, the long s is `S` in upper case.
    assert!(differs_only_in_case("\u{212a}ey", "Key"));
    assert!(differs_only_in_case("\u{17f}tatus", "Status"));
    assert!(!differs_only_in_case("Key", "Key"));
}

#[test]
fn a_required_member_that_is_absent_null_or_blank_is_missing() {
    for body in
        [r#"{}"#, r#"{"Comment":null}"#, r#"{"Comment":""}"#, r#"{"Comment":" \t\n\u00a0"}"#, r#"{"x":"y"}"#]
    {
        let error = contract().check(body.as_bytes()).unwrap_err();
        assert_eq!(error, BodyError::MissingParameter { name: "Comment".into() }, "{body}");
        assert_eq!(error.reason(), ReasonCode::MissingParameter);
    }
}

#[test]
fn a_required_member_of_another_type_is_bad() {
    for body in
        [r#"{"Comment":1}"#, r#"{"Comment":true}"#, r#"{"Comment":["a"]}"#, r#"{"Comment":{"a":"b"}}"#]
    {
        bad(body.as_bytes(), "the member `Comment` must be a string");
    }
}

#[test]
fn a_body_is_nested_128_deep_at_most() {
    let nested =
        |depth: usize| format!("{{\"Comment\":\"a\",\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(contract().check(nested(126).as_bytes()).is_ok());
    bad(nested(127).as_bytes(), "recursion limit");
    bad(nested(30_000).as_bytes(), "recursion limit");
}

#[test]
fn a_body_of_the_largest_size_is_taken_and_one_byte_more_is_not() {
    let body = |size: usize| {
        let frame = r#"{"Comment":""}"#.len();
        format!(r#"{{"Comment":"{}"}}"#, "x".repeat(size - frame))
    };
    assert_eq!(contract().max_bytes(), 65_536);
    for size in [65_535, 65_536] {
        assert!(contract().check(body(size).as_bytes()).is_ok(), "{size}");
    }
    let error = contract().check(body(65_537).as_bytes()).unwrap_err();
    assert_eq!((error.reason(), error), (ReasonCode::BodyTooLarge, BodyError::TooLarge { max: 65_536 }));
}

#[test]
fn a_size_is_whole_kib_or_mib_up_to_one_mib() {
    for (text, bytes) in [("1 KiB", 1_024), ("64 KiB", 65_536), ("1024 KiB", 1_048_576), ("1 MiB", 1_048_576)]
    {
        assert_eq!(text.parse(), Ok(MaxBody(bytes)), "{text}");
    }
    assert!("18446744073709551615 MiB".parse::<MaxBody>().is_err());
}

/// A contract whose devices stand in this member.
fn devices_in(member: &str) -> BodyContract {
    let required = BTreeMap::from([("Value".to_owned(), MemberWord::String)]);
    BodyContract::new(MediaTypeWord::Json, required, Some(member.parse().unwrap()), None)
}

fn named(devices: &[&str]) -> Result<Vec<DeviceRef>, BodyError> {
    Ok(devices.iter().map(|device| DeviceRef::parse(device)).collect())
}

fn found(contract: &BodyContract, body: &str) -> Result<Vec<DeviceRef>, BodyError> {
    contract.check(body.as_bytes()).map(|contents| contents.devices)
}

#[test]
fn every_device_that_a_body_names_is_found_where_the_contract_says() {
    let list = devices_in("MachineIds");
    assert_eq!(found(&list, r#"{"Value":"v","MachineIds":["A","\u0062"]}"#), named(&["a", "b"]));
    assert_eq!(found(&list, r#"{"MachineIds":"a","Value":"v"}"#), named(&["a"]));
    let nested = devices_in("scannerAgent.machineId");
    let body =
        r#"{"Value":"v","machineId":"x","scannerAgent":{"id":"y","machineId":"a","more":{"machineId":"z"}}}"#;
    assert_eq!(found(&nested, body), named(&["a"]));
}

#[test]
fn a_body_that_names_no_device_where_it_must_is_refused() {
    for (member, body) in [
        ("MachineIds", r#"{"Value":"v"}"#),
        ("MachineIds", r#"{"Value":"v","MachineIds":null}"#),
        ("MachineIds", r#"{"Value":"v","MachineIds":[]}"#),
        ("MachineIds", r#"{"Value":"v","MachineIds":["a"," "]}"#),
        ("a.b", r#"{"Value":"v","a":"b"}"#),
        ("a.b", r#"{"Value":"v","a":{}}"#),
        ("a.b", r#"{"Value":"v","b":"x","a":[{"b":"x"}]}"#),
    ] {
        let error = found(&devices_in(member), body).unwrap_err();
        assert_eq!(error, BodyError::MissingParameter { name: member.into() }, "{body}");
    }
}

#[test]
fn a_body_names_as_many_devices_as_the_api_takes_and_no_more() {
    let list = devices_in("MachineIds");
    let naming =
        |count: usize| format!(r#"{{"Value":"v","MachineIds":["a"{}]}}"#, r#","a""#.repeat(count - 1));
    assert_eq!(found(&list, &naming(500)).map(|devices| devices.len()), Ok(500));
    let error = found(&list, &naming(501)).unwrap_err();
    assert_eq!(error, BodyError::BadBody(BadBody::Devices { name: "MachineIds".into() }));
}

#[test]
fn devices_that_two_readers_could_find_in_different_places_are_refused() {
    for (member, body) in [
        ("MachineIds", r#"{"Value":"v","MachineIds":["a"],"machineIds":["b"]}"#),
        ("MachineIds", r#"{"Value":"v","MachineIds":["a"],"MachineIds":["b"]}"#),
        ("MachineIds", r#"{"Value":"v","MachineIds":["a",["b"]]}"#),
        ("MachineIds", r#"{"Value":"v","MachineIds":["a",{"id":"b"}]}"#),
        ("MachineIds", r#"{"Value":"v","MachineIds":["a",null]}"#),
        ("MachineIds", r#"{"Value":"v","MachineIds":["a",7]}"#),
        ("MachineIds", r#"{"Value":"v","MachineIds":true}"#),
        ("MachineIds", r#"{"Value":"v","MachineIds":{"0":"a"}}"#),
        ("a.b", r#"{"Value":"v","a":{"b":"x","B":"y"}}"#),
        ("a.b", r#"{"Value":"v","a":{"b":"x"},"A":{"b":"y"}}"#),
    ] {
        let error = found(&devices_in(member), body).unwrap_err();
        assert_eq!(error.reason(), ReasonCode::BadBody, "{body}: {error}");
    }
}

#[test]
fn a_required_member_must_be_of_its_kind() {
    let kinds = [
        (MemberWord::String, r#""x""#),
        (MemberWord::Number, "1.5"),
        (MemberWord::Boolean, "false"),
        (MemberWord::List, "[]"),
        (MemberWord::Object, "{}"),
    ];
    for (place, (kind, _)) in kinds.into_iter().enumerate() {
        let required = BTreeMap::from([("x".to_owned(), kind)]);
        let contract = BodyContract::new(MediaTypeWord::Json, required, None, None);
        for (other, (_, value)) in kinds.into_iter().enumerate() {
            let checked = contract.check(format!(r#"{{"x":{value}}}"#).as_bytes());
            match checked {
                Ok(_) => assert_eq!(place, other, "{kind:?} {value}"),
                Err(error) => {
                    assert_ne!(place, other, "{kind:?} {value}");
                    assert_eq!(error.reason(), ReasonCode::BadBody, "{error}");
                }
            }
        }
    }
}
