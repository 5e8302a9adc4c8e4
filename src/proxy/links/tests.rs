//! Links, wherever the pieces of an answer end.

use proptest::prelude::*;

use super::*;

/// What comes out of an answer in pieces that end at these bytes.
fn rewritten(answer: &[u8], cuts: &[usize]) -> Result<Vec<u8>, UnreadableLink> {
    let mut links = LinkRewriter::new(PublicUrl::new("https://gate.example:8443"));
    let (mut out, mut from) = (Vec::new(), 0);
    for cut in cuts.iter().copied().chain([answer.len()]) {
        out.extend_from_slice(&links.push(&Bytes::copy_from_slice(&answer[from..cut]))?);
        from = cut;
    }
    links.finish().map(|()| out)
}

/// The same, and that it does not depend on where one cut is, nor on cuts everywhere.
fn everywhere(answer: &str) -> String {
    let whole = rewritten(answer.as_bytes(), &[]).unwrap();
    for cut in 0..answer.len() {
        assert_eq!(rewritten(answer.as_bytes(), &[cut]), Ok(whole.clone()), "{answer} cut at {cut}");
    }
    let all: Vec<_> = (0..answer.len()).collect();
    assert_eq!(rewritten(answer.as_bytes(), &all), Ok(whole.clone()), "{answer} byte by byte");
    String::from_utf8(whole).unwrap()
}

#[test]
fn a_link_leads_to_the_gateway_with_its_path_and_query_wherever_the_answer_is_cut() {
    let answer = r#"{"@odata.context":"https://api.example/api/$metadata#Machines","value":[{"id":"1","tags":["a\"b","\\"]}],"@odata.nextLink":"https://api.example/api/machines?$filter=a%20eq%20'x'&$skip=10000"}"#;
    assert_eq!(
        everywhere(answer),
        answer.replace("https://api.example/api/machines", "https://gate.example:8443/api/machines")
    );
}

#[test]
fn no_spelling_of_a_link_leads_past_the_gateway() {
    for link in [
        "https://api.example/a?b",
        r"https:\/\/api.example\/a?b",
        r"https:\u002f\u002fapi.example\u002fa?b",
        r"\u0068ttps://api.example/a?b",
        "HTTPS://user@api.example:1/a?b",
        "https:///api.example/a?b",
        "https:api.example/a?b",
        r"https:\\\\api.example/a?b",
        "//api.example/a?b",
        r"/\\api.example/a?b",
        " https://api.example/a?b",
        r"\t\u0000https://api.example/a?b",
        "ftp://api.example/a?b",
    ] {
        let answer = format!(r#"{{"@odata.nextLink" : "{link}"}}"#);
        let expected = r#"{"@odata.nextLink" : "https://gate.example:8443/a?b"}"#;
        assert_eq!(everywhere(&answer), expected, "{link}");
    }
    for (link, expected) in [
        ("https://api.example", "https://gate.example:8443/"),
        ("https://api.example?b", "https://gate.example:8443/?b"),
        ("/api/machines?$skip=1", "/api/machines?$skip=1"),
        ("machines?at=12:30", "machines?at=12:30"),
        ("", ""),
    ] {
        let answer = format!(r#"{{"@odata.nextLink":"{link}"}}"#);
        assert_eq!(everywhere(&answer), format!(r#"{{"@odata.nextLink":"{expected}"}}"#));
    }
}

#[test]
fn every_name_of_a_link_is_known_and_no_other_member_is_changed() {
    for name in [
        "@odata.nextLink",
        "@ODATA.NEXTLINK",
        r"\u0040odata.next\u004cink",
        "odata.nextLink",
        "@nextLink",
        "machines@odata.nextLink",
        "@odata.deltaLink",
    ] {
        let answer = format!("{{\"value\":[],\n\"{name}\" \t:\r\n\"https://api.example/a\"}}");
        assert_eq!(everywhere(&answer), answer.replace("api.example", "gate.example:8443"), "{name}");
    }
    for answer in [
        r#"{"link":"https://api.example/a"}"#,
        r#"{"nextLinks":"https://api.example/a"}"#,
        r#"{"value":["@odata.nextLink","https://api.example/a"]}"#,
        r#"{"a":"\"@odata.nextLink\":\"https://api.example/a\""}"#,
        r#"{"@odata.nextLink":null,"a":"https://api.example/a"}"#,
        r#"{"@odata.nextLink":{"a":"https://api.example/a"}}"#,
        "no JSON at all",
        "",
    ] {
        assert_eq!(everywhere(answer), answer);
    }
}

#[test]
fn a_link_that_cannot_be_read_ends_the_answer() {
    let long = format!(r#"{{"@odata.nextLink":"https://api.example/{}"}}"#, "a".repeat(MAX_LINK));
    assert_eq!(rewritten(long.as_bytes(), &[]), Err(UnreadableLink::Long));
    let cut = br#"{"@odata.nextLink":"https://api.example/a"#;
    assert_eq!(rewritten(cut, &[]), Err(UnreadableLink::CutOff));
    let escaped = br#"{"@odata.nextLink":"https:\x2f/api.example/a"}"#;
    assert_eq!(rewritten(escaped, &[]), Err(UnreadableLink::NotAString));
}

#[test]
fn a_page_without_a_link_is_passed_on_as_it_is_and_not_copied() {
    let page = Bytes::from(r#"{"value":[{"id":"1"},{"id":"2"}]}"#);
    let mut links = LinkRewriter::new(PublicUrl::new("https://gate.example"));
    assert_eq!(links.push(&page).unwrap().as_ptr(), page.as_ptr());
}

proptest! {
    #[test]
    fn an_answer_of_any_values_keeps_them_all_and_its_link_leads_to_the_gateway(
        names in proptest::collection::vec("[a-zA-Z\"\\\\ :]{0,12}", 0..6),
        values in proptest::collection::vec(".{0,20}", 6),
        path in "[a-z/?&=$%]{0,30}",
        mut cuts in proptest::collection::vec(0_usize..400, 0..8),
    ) {
        let mut object = serde_json::Map::new();
        for (name, value) in names.iter().zip(&values) {
            object.insert(name.clone(), value.clone().into());
        }
        let link = "@odata.nextLink".to_owned();
        object.insert(link.clone(), format!("https://api.example/{path}").into());
        let answer = serde_json::to_vec(&object).unwrap();
        object.insert(link, format!("https://gate.example:8443/{path}").into());
        cuts.retain(|cut| *cut <= answer.len());
        cuts.sort_unstable();
        prop_assert_eq!(rewritten(&answer, &cuts).unwrap(), serde_json::to_vec(&object).unwrap());
    }
}
