//! What is refused before policy is asked: requests that two readers could understand in two ways.
//!
//! An HTTP/1 head is held to the grammar (RFC 9112) as it stands on the wire, before Pingora parses it: Pingora forgives
//! much, escapes what it cannot read, and answers by itself what it refuses. Of HTTP/2, where there are no bytes to look
//! at, the parsed head is checked. Nothing is repaired: what is not plain is refused, and its connection closed.

use http::{HeaderMap, Method};
use memchr::{memchr, memchr_iter, memchr2};
use pingora::http::RequestHeader;

use crate::denial::{Denial, Malformed};

/// 32 KiB of header: an Entra token with 200 groups is about 12 KiB, and proxies in front add little.
pub(super) const MAX_HEADER_BYTES: usize = 32 * 1024;

/// 100 fields: clients send 10 to 20.
const MAX_HEADER_FIELDS: usize = 100;

/// 8 KiB of request target: the longest documented `$filter` is far below it.
pub(super) const MAX_TARGET_BYTES: usize = 8 * 1024;

/// 24 bytes of method: the longest registered one has 17 (RFC 9110, section 16.1.1).
const MAX_METHOD_BYTES: usize = 24;

/// Headers by which some servers take another method or path than the request line's.
const OVERRIDES: [&str; 5] =
    ["x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url"];

/// How a request says where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After this many bytes; a request that says nothing has none.
    Length(u64),
    /// After the last chunk.
    Chunked,
}

/// The version of HTTP, as far as the rules differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
    /// HTTP/2; whether it named its host in `:authority`.
    Http2 {
        authority: Authority,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Authority {
    Named,
    Absent,
}

/// What the fields of a head said so far.
#[derive(Default)]
struct Fields<'a> {
    count: usize,
    bytes: usize,
    host: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
}

/// Holds an HTTP/1 head, from its first byte to its empty line, to the grammar, and says where its body ends.
///
/// # Errors
/// [`Denial::Malformed`] or [`Denial::HeaderTooLarge`].
pub(super) fn check_bytes(head: &[u8]) -> Result<Framing, Denial> {
    let mut ends = memchr_iter(b'\n', head);
    let mut line = |start: usize| {
        let end = ends.next()?;
        let line = head.get(start..end)?.strip_suffix(b"\r");
        Some((line.ok_or(Malformed::Lines), end + 1))
    };
    let (first, mut start) = line(0).ok_or(Malformed::Lines)?;
    let version = request_line(first?)?;
    let mut fields = Fields::default();
    while let Some((line, next)) = line(start) {
        start = next;
        match line? {
            [] if start == head.len() => return fields.framing(version),
            [] => break,
            line => {
                let (name, value) = field(line)?;
                fields.add(name, value)?;
            }
        }
    }
    Err(Malformed::Lines.into())
}

/// The same for a request that comes over no connection, as whoever rehearses a policy has it.
///
/// # Errors
/// [`Denial::Malformed`], also for a target that no request line could carry, or [`Denial::HeaderTooLarge`].
pub fn check_head(method: &Method, target: &str, headers: &HeaderMap) -> Result<(), Denial> {
    if target.contains(['\r', '\n']) {
        return Err(Malformed::Target.into());
    }
    let mut head = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    for (name, value) in headers {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    check_bytes(&head).map(|_| ())
}

/// Holds the head of an HTTP/2 request to the same rules.
///
/// # Errors
/// [`Denial::Malformed`] or [`Denial::HeaderTooLarge`].
pub(super) fn check(request: &RequestHeader) -> Result<(), Denial> {
    target(request.raw_path())?;
    let authority = if request.uri.authority().is_some() { Authority::Named } else { Authority::Absent };
    check_fields(&request.headers, Version::Http2 { authority })
}

fn check_fields(headers: &HeaderMap, version: Version) -> Result<(), Denial> {
    let mut fields = Fields::default();
    for (name, value) in headers {
        let value = value.as_bytes();
        // Passed on by HTTP/1.1, it would be another value (RFC 9113, section 8.2.1).
        if value.trim_ascii().len() < value.len() {
            return Err(Malformed::Field.into());
        }
        fields.add(name.as_str().as_bytes(), value)?;
    }
    fields.framing(version).map(|_| ())
}

/// `method SP request-target SP HTTP-version`, each of them once (RFC 9112, section 3).
fn request_line(line: &[u8]) -> Result<Version, Denial> {
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let (Some(method), Some(path), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Err(Malformed::RequestLine.into());
    };
    // A tunnel is no call of the API; its target is a host, and what follows would be nobody's request.
    let method_known = !method.is_empty() && method.len() <= MAX_METHOD_BYTES && method != b"CONNECT";
    if !method_known || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Malformed::RequestLine.into());
    }
    target(path)?;
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        _ => Err(Malformed::RequestLine.into()),
    }
}

/// A field's name and value. A name is a token, so a space before the colon, and a line that continues the one before
/// it, are none; a value has no control character but the tab (RFC 9110, section 5.5).
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (name, value) =
        memchr(b':', line).and_then(|at| line.split_at_checked(at)).ok_or(Malformed::Field)?;
    let value = value.get(1..).unwrap_or_default();
    // Without a branch, so that many bytes are compared at a time: a token has two thousand.
    let control =
        value.iter().fold(false, |found, &byte| found | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f));
    if control || name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(Malformed::Field);
    }
    Ok((name, value.trim_ascii()))
}

/// `tchar` of RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or_default()
}

/// Which bytes are one: looked up, since every name of a head is read letter by letter.
#[expect(clippy::indexing_slicing, reason = "a byte is below 256, and this runs while it is compiled")]
const TOKEN: [bool; 256] = {
    let mut token = [false; 256];
    let marks = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&'*+-.^_`|~";
    let mut left = marks.as_slice();
    while let [mark, rest @ ..] = left {
        token[*mark as usize] = true;
        left = rest;
    }
    token
};

/// A target that is a path, with or without a query, and can be read in one way.
fn target(target: &[u8]) -> Result<(), Denial> {
    if target.len() > MAX_TARGET_BYTES {
        return Err(Denial::HeaderTooLarge { limit: "8 KiB of request target" });
    }
    // A fragment is never sent (RFC 9112, section 3.2): whoever cuts it off sees another target. Without a branch, as
    // below.
    if !target.iter().fold(true, |plain, byte| plain & byte.is_ascii_graphic() & (*byte != b'#')) {
        return Err(Malformed::Target.into());
    }
    let end = memchr(b'?', target).unwrap_or(target.len());
    Ok(path(target.get(..end).unwrap_or_default())?)
}

fn path(path: &[u8]) -> Result<(), Malformed> {
    // `*` and absolute forms have no segment at all.
    let segments = path.strip_prefix(b"/").ok_or(Malformed::Target)?;
    if memchr2(b'\\', b'%', segments).is_some() && !is_escaped_plainly(segments) {
        return Err(Malformed::Path);
    }
    let mut start = 0;
    for end in memchr_iter(b'/', segments) {
        // Only the root itself may end in an empty segment here; the route table refuses other trailing slashes.
        if matches!(segments.get(start..end), Some(b"" | b"." | b"..") | None) {
            return Err(Malformed::Path);
        }
        start = end + 1;
    }
    if matches!(segments.get(start..), Some(b"." | b"..")) { Err(Malformed::Path) } else { Ok(()) }
}

/// Whether it has no backslash, and each `%` has two digits that write none of what ends or climbs a segment.
fn is_escaped_plainly(path: &[u8]) -> bool {
    let plain = |octet| !matches!(octet, None | Some(b'/' | b'\\' | b'.' | b'%' | 0));
    memchr(b'\\', path).is_none() && escapes(path).all(plain)
}

/// The octets that are written as `%xx`; `None` for a `%` that two digits do not follow.
fn escapes(path: &[u8]) -> impl Iterator<Item = Option<u8>> {
    path.split(|byte| *byte == b'%').skip(1).map(|rest| {
        let digit = |at: usize| char::from(*rest.get(at)?).to_digit(16);
        u8::try_from(digit(0)? * 16 + digit(1)?).ok()
    })
}

/// The letters, digits and marks of a name, an address or a port. Others would be read in two ways: `@` ends a user,
/// `/` begins a path.
fn is_host(host: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_~:[]".contains(byte);
    !host.is_empty() && host.iter().all(plain)
}

// === impl Fields ===

impl<'a> Fields<'a> {
    fn add(&mut self, name: &'a [u8], value: &'a [u8]) -> Result<(), Denial> {
        self.count += 1;
        // A field costs its name, its value, and `: ` and the line's end.
        self.bytes += name.len() + value.len() + 4;
        if self.count > MAX_HEADER_FIELDS {
            return Err(Denial::HeaderTooLarge { limit: "100 fields" });
        }
        if self.bytes > MAX_HEADER_BYTES {
            return Err(Denial::HeaderTooLarge { limit: "32 KiB" });
        }
        let once = |slot: &mut Option<&'a [u8]>, second| match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(second),
        };
        if name.eq_ignore_ascii_case(b"host") {
            once(&mut self.host, Malformed::Host)?;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            once(&mut self.length, Malformed::BodyFraming)?;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            once(&mut self.coding, Malformed::BodyFraming)?;
        } else if OVERRIDES.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes())) {
            return Err(Malformed::Override.into());
        }
        Ok(())
    }

    /// Where the body ends must be said once and plainly: whoever reads `5, 5` or `gzip, chunked` otherwise than the
    /// upstream does, takes the end of one body for the beginning of a request.
    fn framing(&self, version: Version) -> Result<Framing, Denial> {
        match (version, self.host) {
            // HTTP/2 names the host in `:authority`, and may repeat it; HTTP/1 must have the header.
            (Version::Http2 { authority: Authority::Named }, None) => {}
            (_, Some(host)) if is_host(host) => {}
            _ => return Err(Malformed::Host.into()),
        }
        match (self.length, self.coding) {
            (None, None) => Ok(Framing::Length(0)),
            (Some(length), None) => Ok(Framing::Length(number(length)?)),
            (None, Some(coding)) if version == Version::Http11 && coding.eq_ignore_ascii_case(b"chunked") => {
                Ok(Framing::Chunked)
            }
            _ => Err(Malformed::BodyFraming.into()),
        }
    }
}

/// Digits alone, up to 18 of them: a number that every reader can hold.
fn number(text: &[u8]) -> Result<u64, Malformed> {
    let digits = std::str::from_utf8(text)
        .ok()
        .filter(|text| (1..=18).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or(Malformed::BodyFraming)
}

#[cfg(test)]
mod tests;
