//! Where a request's head ends, as it comes in pieces.

use memchr::memchr;

use crate::denial::{Denial, Malformed};
use crate::proxy::strict::{MAX_HEADER_BYTES, MAX_TARGET_BYTES};

/// A method, a version, and what separates them from the target.
const REQUEST_LINE_BYTES: usize = MAX_TARGET_BYTES + 64;

/// How far a head was looked through.
#[derive(Debug, Default)]
pub(super) struct HeadEnd {
    /// Up to here no line ends that is not known.
    seen: usize,
    /// Where the last line begins.
    line: usize,
}

impl HeadEnd {
    /// The length of the head, once its empty line is there; `input` is what was looked through before, and more.
    ///
    /// # Errors
    /// A line that ends in less than CR and LF, at once: its sender may wait for an answer where we would wait for more.
    /// A head that is larger than any that passes.
    pub(super) fn find(&mut self, input: &[u8]) -> Result<Option<usize>, Denial> {
        while let Some(at) = input.get(self.seen..).and_then(|rest| memchr(b'\n', rest)) {
            let end = self.seen + at;
            match input.get(self.line..end) {
                // Some skip an empty line before a request, others take it for the request.
                Some(b"\r") if self.line == 0 => return Err(Malformed::RequestLine.into()),
                Some(b"\r") => return Ok(Some(end + 1)),
                Some([.., b'\r']) => {}
                _ => return Err(Malformed::Lines.into()),
            }
            self.seen = end + 1;
            self.line = end + 1;
        }
        self.seen = input.len();
        if self.line == 0 && self.seen > REQUEST_LINE_BYTES {
            return Err(Denial::HeaderTooLarge { limit: "8 KiB of request target" });
        }
        if self.seen > MAX_HEADER_BYTES + REQUEST_LINE_BYTES {
            return Err(Denial::HeaderTooLarge { limit: "32 KiB" });
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_its_empty_line_in_whatever_pieces_it_comes() {
        let head = "GET / HTTP/1.1\r\nHost: gateway\r\n\r\n";
        let input = format!("{head}GET /next");
        for piece in 1..input.len() {
            let mut end = HeadEnd::default();
            let found = (piece..)
                .step_by(piece)
                .find_map(|length| end.find(&input.as_bytes()[..length.min(input.len())]).unwrap());
            assert_eq!(found, Some(head.len()), "in pieces of {piece}");
        }
    }

    #[test]
    fn a_head_that_cannot_pass_is_refused_before_it_ends() {
        let find = |input: &[u8]| HeadEnd::default().find(input);
        assert_eq!(find(b"GET / HTTP/1.1\n"), Err(Malformed::Lines.into()));
        assert_eq!(find(b"GET / HTTP/1.1\r\nX: y\n"), Err(Malformed::Lines.into()));
        assert_eq!(find(b"\r\n"), Err(Malformed::RequestLine.into()));
        assert_eq!(find(&[b'a'; REQUEST_LINE_BYTES]), Ok(None));
        let target = Denial::HeaderTooLarge { limit: "8 KiB of request target" };
        assert_eq!(find(&[b'a'; REQUEST_LINE_BYTES + 1]), Err(target));
        let large =
            [b"GET / HTTP/1.1\r\n".as_slice(), &[b'a'; MAX_HEADER_BYTES + REQUEST_LINE_BYTES]].concat();
        assert_eq!(find(&large), Err(Denial::HeaderTooLarge { limit: "32 KiB" }));
    }
}
