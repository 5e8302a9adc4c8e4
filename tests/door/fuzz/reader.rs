//! Which requests stand in a client's bytes, by the letter of RFC 9112 and no more.

use super::Seen;

/// The requests from the beginning on, up to the first that is not plain or not whole.
pub(super) fn requests(bytes: &[u8]) -> Vec<Seen> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while let Some((request, behind)) = request(rest) {
        found.push(request);
        rest = behind;
    }
    found
}

fn request(bytes: &[u8]) -> Option<(Seen, &[u8])> {
    let (head, rest) = split(bytes, b"\r\n\r\n")?;
    let head = String::from_utf8(head.iter().map(|byte| byte & 0x7f).collect()).ok()?;
    if head.replace("\r\n", "").contains(['\r', '\n']) {
        return None;
    }
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || !target.starts_with('/') || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return None;
    }
    let (mut lengths, mut codings) = (Vec::new(), Vec::new());
    for line in lines {
        let (name, value) = line.split_once(':')?;
        match name.to_lowercase().as_str() {
            "content-length" => lengths.push(value.trim_matches([' ', '\t'])),
            "transfer-encoding" => codings.push(value.trim_matches([' ', '\t']).to_lowercase()),
            // A space here would make another name of it for some.
            name if name.contains([' ', '\t']) => return None,
            _ => {}
        }
    }
    let codings: Vec<_> = codings.iter().map(String::as_str).collect();
    let (body, rest) = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => (Vec::new(), rest),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let (body, rest) = rest.split_at_checked(length.parse().ok()?)?;
            (body.to_vec(), rest)
        }
        ([], ["chunked"]) => chunks(rest)?,
        _ => return None,
    };
    Some((Seen { method: method.to_owned(), target: target.to_owned(), body }, rest))
}

fn chunks(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let (size, behind) = split(rest, b"\r\n")?;
        if size.is_empty() || !size.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        let (chunk, behind) = behind.split_at_checked(size)?;
        body.extend_from_slice(chunk);
        rest = behind.strip_prefix(b"\r\n")?;
        if size == 0 {
            return Some((body, rest));
        }
    }
}

fn split<'a>(bytes: &'a [u8], end: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(end.len()).position(|window| window == end)?;
    Some((&bytes[..at], &bytes[at + end.len()..]))
}
