//! What is refused before policy is asked: requests that two readers could understand in two ways.
//!
//! Pingora already refuses conflicting framing; these are the cases that it lets through. Nothing is repaired: what
//! is not plain is refused, and its connection closed.

use std::io::BufRead;

use http::{HeaderMap, Method, header};
use pingora::http::RequestHeader;

use crate::denial::{Denial, Malformed};

/// 32 KiB of header: an Entra token with 200 groups is about 12 KiB, and proxies in front add little.
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// 100 fields: clients send 10 to 20.
const MAX_HEADER_FIELDS: usize = 100;

/// 8 KiB of request target: the longest documented `$filter` is far below it.
const MAX_TARGET_BYTES: usize = 8 * 1024;

/// Headers by which some servers take another method or path than the request line's.
const OVERRIDES: [&str; 5] =
    ["x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url"];

/// Holds a request head to what has one meaning, and hands out its raw target.
///
/// # Errors
/// [`Denial::Malformed`] or [`Denial::HeaderTooLarge`].
pub(super) fn check(request: &RequestHeader) -> Result<&str, Denial> {
    let target = request.raw_path();
    size(target, &request.headers)?;
    let target = std::str::from_utf8(target).map_err(|_| Malformed::Target)?;
    path(target)?;
    host(request)?;
    framing(&request.headers)?;
    if OVERRIDES.iter().any(|name| request.headers.contains_key(*name)) {
        return Err(Malformed::Override.into());
    }
    Ok(target)
}

/// The same for a request that comes over no connection, as whoever rehearses a policy has it.
///
/// # Errors
/// [`Denial::Malformed`], also for a target that no request line could carry, or [`Denial::HeaderTooLarge`].
pub fn check_head(method: &Method, target: &str, headers: &HeaderMap) -> Result<(), Denial> {
    let mut request = RequestHeader::build(method.clone(), target.as_bytes(), Some(headers.len() + 1))
        .map_err(|_| Malformed::Target)?;
    for (name, value) in headers {
        request.append_header(name.clone(), value.clone()).map_err(|_| Malformed::Lines)?;
    }
    check(&request).map(|_| ())
}

fn size(target: &[u8], headers: &HeaderMap) -> Result<(), Denial> {
    // A field costs its name, its value, and `: ` and the line's end.
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let limit = if target.len() > MAX_TARGET_BYTES {
        "8 KiB of request target"
    } else if headers.len() > MAX_HEADER_FIELDS {
        "100 fields"
    } else if bytes > MAX_HEADER_BYTES {
        "32 KiB"
    } else {
        return Ok(());
    };
    Err(Denial::HeaderTooLarge { limit })
}

fn path(target: &str) -> Result<(), Malformed> {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let mut segments = path.split('/');
    if segments.next() != Some("") {
        return Err(Malformed::Target);
    }
    if target.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
        return Err(Malformed::Target);
    }
    if path.contains('\\')
        || escapes(path).any(|octet| matches!(octet, None | Some(b'/' | b'\\' | b'.' | b'%' | 0)))
    {
        return Err(Malformed::Path);
    }
    let mut segments = segments.peekable();
    while let Some(segment) = segments.next() {
        // Only the root itself may end in an empty segment here; the route table refuses other trailing slashes.
        if matches!(segment, "." | "..") || (segment.is_empty() && segments.peek().is_some()) {
            return Err(Malformed::Path);
        }
    }
    Ok(())
}

/// The octets that are written as `%xx`; `None` for a `%` that two digits do not follow.
fn escapes(path: &str) -> impl Iterator<Item = Option<u8>> {
    path.split('%').skip(1).map(|rest| {
        let digits = rest.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        u8::from_str_radix(digits, 16).ok()
    })
}

/// Where the body ends must be said once and plainly: whoever reads `5, 5` or `gzip, chunked` otherwise than the
/// upstream does, takes the end of one body for the beginning of a request.
fn framing(headers: &HeaderMap) -> Result<(), Malformed> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let plain = match (lengths.next(), codings.next()) {
        (None, None) => true,
        (Some(length), None) => !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit),
        (None, Some(coding)) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    if plain && lengths.next().is_none() && codings.next().is_none() {
        Ok(())
    } else {
        Err(Malformed::BodyFraming)
    }
}

/// Holds the bytes of an HTTP/1 header to what the parser forgives: it takes a lone LF for the end of a line, and where
/// there are chunks it takes a length away before [`check`] could see both.
///
/// # Errors
/// [`Denial::Malformed`].
pub(super) fn check_bytes(header: &[u8]) -> Result<(), Denial> {
    let (mut lengths, mut codings) = (false, false);
    let mut rest = header;
    // Reads from memory, so it can't fail; and it finds the line feeds many bytes at a time.
    while let Ok(length @ 1..) = rest.skip_until(b'\n') {
        let end = header.len() - rest.len();
        let line = header.get(end - length..end).unwrap_or_default();
        if !line.ends_with(b"\r\n") {
            return Err(Malformed::Lines.into());
        }
        lengths |= names(line, b"content-length:");
        codings |= names(line, b"transfer-encoding:");
    }
    if lengths && codings { Err(Malformed::BodyFraming.into()) } else { Ok(()) }
}

fn names(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

fn host(request: &RequestHeader) -> Result<(), Malformed> {
    let hosts = request.headers.get_all(header::HOST).iter().count();
    let authority = request.uri.authority().is_some();
    // HTTP/2 names the host in `:authority`, and may repeat it; HTTP/1 must have the header, and no second one.
    match (request.version, hosts) {
        (http::Version::HTTP_2, 0) if authority => Ok(()),
        (_, 1) => Ok(()),
        _ => Err(Malformed::Host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &[u8]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", target, None).unwrap();
        request.insert_header("Host", "gateway").unwrap();
        request
    }

    #[test]
    fn a_path_that_could_be_read_as_another_is_refused() {
        for target in [
            "//api",
            "/api//machines",
            "/api/./x",
            "/api/../x",
            "/a/..",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a%00",
            "/%2e%2e/x",
            "/a\\b",
            "/a%25",
            "/a%zz",
            "/a%4",
        ] {
            assert_eq!(check(&request(target.as_bytes())), Err(Malformed::Path.into()), "{target}");
        }
        for target in [
            "/",
            "/api/machines/PC-1.contoso.com",
            "/api/machines/a%20b",
            "/api/machines/",
            "/api/machines?$filter=a//b%2f",
        ] {
            assert_eq!(check(&request(target.as_bytes())), Ok(target));
        }
    }

    #[test]
    fn a_target_that_is_not_a_path_is_refused() {
        for target in ["*", "http://gateway/api", "/ä"] {
            assert_eq!(check(&request(target.as_bytes())), Err(Malformed::Target.into()), "{target}");
        }
    }

    #[test]
    fn a_request_has_one_host_and_no_second_opinion_on_its_method() {
        let mut two = request(b"/api");
        two.append_header("Host", "other").unwrap();
        assert_eq!(check(&two), Err(Malformed::Host.into()));
        let mut none = request(b"/api");
        none.remove_header("Host");
        assert_eq!(check(&none), Err(Malformed::Host.into()));
        for name in OVERRIDES {
            let mut request = request(b"/api");
            request.insert_header(name, "DELETE").unwrap();
            assert_eq!(check(&request), Err(Malformed::Override.into()), "{name}");
        }
    }

    #[test]
    fn the_end_of_a_body_is_said_once_and_plainly() {
        for (name, values, plain) in [
            ("Content-Length", &["5"][..], true),
            ("Content-Length", &["5, 5"], false),
            ("Content-Length", &["5", "5"], false),
            ("Content-Length", &["+5"], false),
            ("Content-Length", &[""], false),
            ("Transfer-Encoding", &["Chunked"], true),
            ("Transfer-Encoding", &["gzip, chunked"], false),
            ("Transfer-Encoding", &["chunked", "chunked"], false),
            ("Transfer-Encoding", &["identity"], false),
        ] {
            let mut request = request(b"/api");
            for value in values {
                request.append_header(name, *value).unwrap();
            }
            let expected = if plain { Ok("/api") } else { Err(Malformed::BodyFraming.into()) };
            assert_eq!(check(&request), expected, "{name}: {values:?}");
        }
    }

    #[test]
    fn a_length_beside_chunks_or_a_lone_line_feed_is_found_in_the_bytes() {
        for (header, expected) in [
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n", Ok(())),
            ("GET / HTTP/1.1\r\nX: Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", Ok(())),
            (
                "GET / HTTP/1.1\r\ncontent-length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                Err(Malformed::BodyFraming.into()),
            ),
            ("GET / HTTP/1.1\nX: y\r\n\r\n", Err(Malformed::Lines.into())),
            ("GET / HTTP/1.1\r\nX: y\n\r\n", Err(Malformed::Lines.into())),
            ("GET / HTTP/1.1\r\nX: y\r\n\n", Err(Malformed::Lines.into())),
        ] {
            assert_eq!(check_bytes(header.as_bytes()), expected, "{header}");
        }
    }

    #[test]
    fn a_header_past_its_bounds_is_too_large() {
        let mut many = request(b"/api");
        for index in 0..MAX_HEADER_FIELDS {
            many.insert_header(format!("x-{index}"), "1").unwrap();
        }
        assert_eq!(check(&many), Err(Denial::HeaderTooLarge { limit: "100 fields" }));
        let mut large = request(b"/api");
        large.insert_header("x", "a".repeat(MAX_HEADER_BYTES)).unwrap();
        assert_eq!(check(&large), Err(Denial::HeaderTooLarge { limit: "32 KiB" }));
        let long = request(format!("/{}", "a".repeat(MAX_TARGET_BYTES)).as_bytes());
        assert_eq!(check(&long), Err(Denial::HeaderTooLarge { limit: "8 KiB of request target" }));
    }
}
