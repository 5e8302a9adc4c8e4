//! For how long an answer may be kept (RFC 9111, sections 4.2 and 5.2.2).

use std::time::Duration;

use http::HeaderMap;
use http::header::{AGE, CACHE_CONTROL};

/// What `Cache-Control` says, less the `Age` that the answer has already: none if it says nothing of time. An answer that
/// may not be kept, or says so in a way that can't be read, is stale at once (section 4.2.1); of two times the shorter one
/// holds.
pub(super) fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let fresh = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|directive| directive_age(directive.trim_ascii()))
        .min()?;
    let age = headers.get(AGE).and_then(|age| seconds(age.as_bytes())).unwrap_or_default();
    Some(fresh.saturating_sub(age))
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
    Some(seconds(quoted.unwrap_or(argument)).unwrap_or_default())
}

/// `delta-seconds` (section 1.2.2); none if it is no whole number.
fn seconds(digits: &[u8]) -> Option<Duration> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.is_empty())?;
    // What does not fit is far beyond any time that we keep keys.
    let number = |digits: &str| Duration::from_secs(digits.parse().unwrap_or(u64::MAX));
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| number(digits))
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

    #[test]
    fn an_answer_that_is_old_already_may_be_kept_for_less() {
        for (age, expected) in [("0", 600), ("200", 400), ("700", 0), ("soon", 600), ("-1", 600)] {
            let headers = [(CACHE_CONTROL, "max-age=600"), (AGE, age)];
            let headers = headers.map(|(name, value)| (name, value.parse().unwrap()));
            assert_eq!(max_age(&headers.into_iter().collect()), Some(Duration::from_secs(expected)), "{age}");
        }
    }
}
