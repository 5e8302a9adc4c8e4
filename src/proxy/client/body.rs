//! Where a request's body ends, byte for byte: what lies behind it belongs to the next request.

use crate::denial::Malformed;
use crate::proxy::strict::Framing;

/// 8 hexadecimal digits of a chunk's size are 4 GiB; no client sends one chunk of more.
const MAX_SIZE_DIGITS: u8 = 8;

/// How far a body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes are still to come; none of a body that has ended.
    Left(u64),
    /// A chunked body. Chunk extensions and trailers, which some readers skip and others do not, are refused.
    Chunked(Chunk),
}

/// What comes next in a chunked body (RFC 9112, section 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Digits of a size, so many of them read.
    Size { size: u64, digits: u8 },
    /// The line feed that ends a size.
    SizeEnd { size: u64 },
    /// So much of the chunk itself.
    Data { left: u64 },
    /// The CR that ends a chunk, or the body.
    Return { after: After },
    /// The line feed behind it.
    Feed { after: After },
}

/// What an empty line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Chunk,
    Body,
}

// === impl Body ===

impl Body {
    /// One of which nothing has come.
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => Self::Left(length),
            Framing::Chunked => Self::Chunked(Chunk::Size { size: 0, digits: 0 }),
        }
    }

    pub(super) fn has_ended(self) -> bool {
        self == Self::Left(0)
    }

    /// How many of these bytes belong to it, its frames included.
    ///
    /// # Errors
    /// They are no chunks.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut taken = 0;
        while let Some(rest @ [byte, ..]) = bytes.get(taken..) {
            match self {
                Self::Left(0) => break,
                Self::Left(left) | Self::Chunked(Chunk::Data { left }) => {
                    let step = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= step as u64;
                    taken += step;
                }
                Self::Chunked(chunk) => {
                    *self = chunk.next(*byte).ok_or(Malformed::BodyFraming)?;
                    taken += 1;
                }
            }
            if *self == Self::Chunked(Chunk::Data { left: 0 }) {
                *self = Self::Chunked(Chunk::Return { after: After::Chunk });
            }
        }
        Ok(taken)
    }
}

// === impl Chunk ===

impl Chunk {
    /// What comes after this byte.
    fn next(self, byte: u8) -> Option<Body> {
        let chunk = match (self, byte) {
            (Self::Size { size, digits: 1.. }, b'\r') => Self::SizeEnd { size },
            (Self::Size { size, digits }, _) if digits < MAX_SIZE_DIGITS => {
                let digit = char::from(byte).to_digit(16)?;
                Self::Size { size: size * 16 + u64::from(digit), digits: digits + 1 }
            }
            (Self::SizeEnd { size: 0 }, b'\n') => Self::Return { after: After::Body },
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::Return { after }, b'\r') => Self::Feed { after },
            (Self::Feed { after: After::Chunk }, b'\n') => Self::Size { size: 0, digits: 0 },
            (Self::Feed { after: After::Body }, b'\n') => return Some(Body::Left(0)),
            _ => return None,
        };
        Some(Body::Chunked(chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a body in pieces of this size; how much of it was the body's, and whether it ended.
    fn take(framing: Framing, bytes: &[u8], piece: usize) -> Result<(usize, bool), Malformed> {
        let mut body = Body::new(framing);
        let mut taken = 0;
        for piece in bytes.chunks(piece) {
            let step = body.take(piece)?;
            taken += step;
            if step < piece.len() {
                break;
            }
        }
        Ok((taken, body.has_ended()))
    }

    #[test]
    fn a_body_ends_where_its_framing_says_in_whatever_pieces_it_comes() {
        for (framing, body) in [
            (Framing::Length(0), ""),
            (Framing::Length(5), "12345"),
            (Framing::Chunked, "0\r\n\r\n"),
            (Framing::Chunked, "5\r\n12345\r\n0\r\n\r\n"),
            (Framing::Chunked, "2\r\n\r\n\r\n00a\r\n0123456789\r\n000\r\n\r\n"),
            (Framing::Chunked, "A\r\n0123456789\r\n0\r\n\r\n"),
        ] {
            let with_more = format!("{body}GET /next");
            for piece in 1..=with_more.len() {
                let taken = take(framing, with_more.as_bytes(), piece);
                assert_eq!(taken, Ok((body.len(), true)), "{body:?} in pieces of {piece}");
            }
            if let Some(cut) = body.len().checked_sub(1) {
                assert_eq!(take(framing, &body.as_bytes()[..cut], 3), Ok((cut, false)), "{body:?}");
            }
        }
    }

    #[test]
    fn chunks_that_two_readers_could_count_differently_are_refused() {
        for body in [
            "\r\n",
            "\n",
            "5\n12345\r\n",
            "5;a=b\r\n12345\r\n",
            "5 \r\n12345\r\n",
            " 5\r\n12345\r\n",
            "+5\r\n12345\r\n",
            "-5\r\n",
            "0x5\r\n12345\r\n",
            "5\r\n12345\n",
            "5\r\n123456\r\n",
            "5\r\n12345\r\r\n",
            "000000005\r\n12345\r\n",
            "g\r\n",
            "0\r\nTrailer: x\r\n\r\n",
            "0\r\n\n",
        ] {
            for piece in [1, 64] {
                assert_eq!(
                    take(Framing::Chunked, body.as_bytes(), piece),
                    Err(Malformed::BodyFraming),
                    "{body:?}"
                );
            }
        }
    }
}
