//! What answers say of waiting and of the next page.

use super::*;
use crate::time::Wall;

#[test]
fn an_answer_says_how_long_to_wait_in_seconds_or_until_a_date() {
    let (clock, _) = Clock::manual(Wall::from_unix_seconds(784_111_777));
    for (text, seconds) in [
        ("30", Some(30)),
        (" 0 ", Some(0)),
        ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
        ("Sun, 06 Nov 1994 08:49:27 GMT", Some(0)),
        ("soon", None),
        ("-1", None),
    ] {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
        assert_eq!(retry_after(&headers, &clock), seconds.map(Duration::from_secs), "{text}");
    }
    assert_eq!(retry_after(&HeaderMap::new(), &clock), None);
}

#[test]
fn the_next_page_is_asked_of_the_same_api_whatever_host_the_link_names() {
    for (link, next) in [
        ("https://elsewhere.example/api/machines?$skip=1", "/api/machines?$skip=1"),
        ("/api/machines?$skip=1", "/api/machines?$skip=1"),
        ("https://elsewhere.example", "/"),
        ("//elsewhere.example/a", "/elsewhere.example/a"),
    ] {
        let page = format!(r#"{{"value":[{{"id":"1"}}],"@odata.nextLink":"{link}"}}"#);
        let page = read(page.into_bytes()).ok().unwrap();
        assert_eq!((page.devices, page.next.as_deref()), (1, Some(next)), "{link}");
    }
    assert!(read(b"{}".to_vec()).is_err());
}
