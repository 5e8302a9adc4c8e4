//! For how long an answer may be kept (RFC 9111, section 5.2.2).

use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;

/// What `Cache-Control` says: none if it says nothing of time. An answer that may not be kept, or says so in a way
/// that can't be read, is stale at once (section 4.2.1); of two times the shorter one holds.
pub(super) fn max_age(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get_all(CACHE_CONTROL)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|directive| directive_age(directive.trim_ascii()))
        .min()
}

/// The time that one directive gives.
fn directive_age(directive: &[u8]) -> Option<Duration> {
    let mut parts = directive.splitn(2, |byte| *byte == b'=');
    let (name, argument) = (parts.next()?.trim_ascii(), parts.next());
    if name.eq_ignore_ascii_case(b"no-store") || name.eq_ignore_ascii_case(b"no-cache") {
        return Some(Duration::ZERO);
    }
    if !name.eq_ignore_ascii_case(b"max-age") {
        return None;
    }
    let argument = argument.unwrap_or_default().trim_ascii();
    let quoted = argument.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let digits = std::str::from_utf8(quoted.unwrap_or(argument)).unwrap_or_default();
    if digits.is_empty() || digits.bytes().any(|byte| !byte.is_ascii_digit()) {
        return Some(Duration::ZERO);
    }
    // What does not fit is far beyond any time that we keep keys.
    Some(Duration::from_secs(digits.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_control_says_how_long_an_answer_may_be_kept() {
        for (values, expected) in [
            (&[][..], None),
            (&["private"], None),
            (&["max-age=86400, private"], Some(86_400)),
            (&["Public,MAX-AGE=\"60\""], Some(60)),
            (&["s-maxage=5, max-age = 7"], Some(7)),
            (&["max-age=10", "max-age=5"], Some(5)),
            (&["max-age=10, no-cache"], Some(0)),
            (&["no-store"], Some(0)),
            (&["max-age"], Some(0)),
            (&["max-age="], Some(0)),
            (&["max-age=-1"], Some(0)),
            (&["max-age=1h"], Some(0)),
            (&["max-age=99999999999999999999999"], Some(u64::MAX)),
        ] {
            let headers = values.iter().map(|value| (CACHE_CONTROL, value.parse().unwrap()));
            let expected = expected.map(Duration::from_secs);
            assert_eq!(max_age(&headers.collect()), expected, "{values:?}");
        }
    }
}
