//! HTTP/2 header blocks, put together before anyone decodes them.
//!
//! The library decodes each piece of a block as it comes. Of a piece that ends within a field it forgets what was wrong
//! with the fields before (h2 0.4.20): it passes over a second `:path`, or a field that belongs to a connection, and
//! serves what is left. So it gets every block in one frame. All else is handed on as it comes, lawful or not.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::ReadBuf;

use super::pace::Alarm;
use crate::denial::Malformed;
use crate::time::Clock;

/// The connection preface (RFC 9113, section 3.4): before it there is no frame.
const PREFACE_BYTES: usize = 24;

/// Length, kind, flags and stream (RFC 9113, section 4.1).
const HEAD_BYTES: usize = 9;

/// 64 KiB of a block, and of any frame: twice the header that passes, since a code can be longer than what it stands for.
pub(in crate::proxy) const MAX_BLOCK_BYTES: usize = 64 * 1024;

/// Pieces of a block: as many as its bytes need, and some.
const MAX_PIECES: usize = 32;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

/// What comes of an HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Read and not handed on: a part of a frame that has to be whole.
    input: BytesMut,
    /// To be handed on.
    output: BytesMut,
    preface: usize,
    /// Bytes of a frame that are handed on as they come.
    passing: usize,
    block: Option<Block>,
    /// For what has to be whole, from the first wait for the rest of it.
    alarm: Alarm,
}

/// A block that has begun.
#[derive(Debug)]
struct Block {
    head: Head,
    payload: BytesMut,
    pieces: usize,
}

/// A frame's head.
#[derive(Debug, Clone, Copy)]
struct Head {
    /// Of the payload, in bytes.
    length: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

// === impl Blocks ===

impl Default for Blocks {
    fn default() -> Self {
        let (input, output) = (BytesMut::new(), BytesMut::new());
        Self { input, output, preface: PREFACE_BYTES, passing: 0, block: None, alarm: Alarm::default() }
    }
}

impl Blocks {
    /// Whether the first frame is still to come.
    pub(super) fn is_before_frames(&self) -> bool {
        self.preface > 0
    }

    /// Ready once the rest of a block, or of a frame's head, has been waited for so long, in whatever pieces it comes:
    /// nobody behind here knows that it has begun.
    pub(super) fn poll_overdue(&mut self, cx: &mut Context<'_>, clock: &Clock, limit: Duration) -> Poll<()> {
        if self.block.is_none() && self.input.is_empty() {
            self.alarm.clear();
            return Poll::Pending;
        }
        self.alarm.poll(cx, clock, || limit)
    }

    /// Hands on as much as there is, and room for; how many bytes.
    pub(super) fn hand_on(&mut self, buf: &mut ReadBuf<'_>) -> usize {
        let count = buf.remaining().min(self.output.len());
        buf.put_slice(&self.output.split_to(count));
        if self.output.is_empty() {
            // An idle connection needs none.
            self.output = BytesMut::new();
        }
        count
    }

    /// Takes what was read from the socket.
    ///
    /// # Errors
    /// A block larger than any that passes, or of more pieces.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.input.extend_from_slice(bytes);
        loop {
            self.pass();
            let Some(head) = Head::read(&self.input) else { return Ok(()) };
            let held = match &self.block {
                None => head.begins_block() && head.length <= MAX_BLOCK_BYTES,
                Some(block) => head.kind == CONTINUATION && head.stream == block.head.stream,
            };
            if !held {
                if let Some(block) = self.block.take() {
                    // Nothing may stand between its pieces: whoever decodes it says so.
                    block.write(&mut self.output);
                }
                self.passing = HEAD_BYTES + head.length;
                self.alarm.clear();
                continue;
            }
            if head.length > MAX_BLOCK_BYTES {
                return Err(too_large());
            }
            if self.input.len() < HEAD_BYTES + head.length {
                return Ok(());
            }
            self.input.advance(HEAD_BYTES);
            let payload = self.input.split_to(head.length);
            self.add(head, payload)?;
        }
    }

    /// Hands on what needs no look.
    fn pass(&mut self) {
        for left in [&mut self.preface, &mut self.passing] {
            let count = self.input.len().min(*left);
            *left -= count;
            self.output.extend_from_slice(&self.input.split_to(count));
        }
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    fn add(&mut self, head: Head, payload: BytesMut) -> io::Result<()> {
        let block = match self.block.take() {
            None => Block::begin(head, payload),
            Some(mut block) => {
                block.payload.extend_from_slice(&payload);
                block.head.flags |= head.flags & END_HEADERS;
                block.pieces += 1;
                block
            }
        };
        if block.payload.len() > MAX_BLOCK_BYTES || block.pieces > MAX_PIECES {
            return Err(too_large());
        }
        if block.head.flags & END_HEADERS == 0 {
            self.block = Some(block);
        } else {
            block.write(&mut self.output);
            self.alarm.clear();
        }
        Ok(())
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Malformed::Library)
}

// === impl Block ===

impl Block {
    fn begin(mut head: Head, mut payload: BytesMut) -> Self {
        // Padding would stand in the middle. More of it than there is, whoever decodes it refuses.
        let padding = payload.first().map(|&padding| usize::from(padding));
        if let Some(padding) = padding.filter(|padding| head.flags & PADDED != 0 && *padding < payload.len())
        {
            payload.advance(1);
            payload.truncate(payload.len() - padding);
            head.flags &= !PADDED;
        }
        Self { head, payload, pieces: 1 }
    }

    fn write(&self, output: &mut BytesMut) {
        let [_, length @ ..] = u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        output.extend_from_slice(&length);
        output.put_u8(self.head.kind);
        output.put_u8(self.head.flags);
        output.extend_from_slice(&self.head.stream);
        output.extend_from_slice(&self.payload);
    }
}

// === impl Head ===

impl Head {
    fn read(input: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = *input.first_chunk::<HEAD_BYTES>()?;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
        // The first bit means nothing.
        let stream = (u32::from_be_bytes(stream) & (u32::MAX >> 1)).to_be_bytes();
        Some(Self { length, kind, flags, stream })
    }

    fn begins_block(self) -> bool {
        self.kind == HEADERS && self.flags & END_HEADERS == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&[0], &length[..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    }

    /// Takes bytes in pieces of this size.
    fn push(bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut blocks = Blocks { preface: 4, ..Blocks::default() };
        let mut output = Vec::new();
        for piece in bytes.chunks(piece) {
            blocks.push(piece)?;
            let mut room = [0; 7];
            loop {
                let mut room = ReadBuf::new(&mut room);
                if blocks.hand_on(&mut room) == 0 {
                    break;
                }
                output.extend_from_slice(room.filled());
            }
        }
        Ok(output)
    }

    #[test]
    fn a_block_in_pieces_becomes_one_frame_and_all_else_stays_as_it_is_however_it_comes() {
        let whole = |flags, block: &[u8]| frame(HEADERS, flags | END_HEADERS, 1, block);
        let piece = |flags, payload: &[u8]| frame(CONTINUATION, flags, 1, payload);
        let data = frame(0, 0, 1, b"abc");
        let same = |frames: Vec<Vec<u8>>| (frames.clone(), frames);
        for (sent, expected) in [
            same(vec![whole(1, b"block"), data.clone(), whole(1, b"")]),
            (
                vec![frame(HEADERS, 1, 1, b"bl"), piece(0, b""), piece(END_HEADERS, b"ock")],
                vec![whole(1, b"block")],
            ),
            (
                vec![frame(HEADERS, 0x28, 1, b"\x02priob\0\0"), piece(END_HEADERS, b"ock"), data.clone()],
                vec![whole(0x20, b"priobock"), data.clone()],
            ),
            // What is not lawful stays so.
            same(vec![frame(HEADERS, 8, 1, b"\x09bl"), data.clone()]),
            same(vec![frame(HEADERS, 0, 1, b"bl"), frame(CONTINUATION, END_HEADERS, 3, b"ock")]),
            same(vec![piece(END_HEADERS, b"ock"), data.clone()]),
        ] {
            let (sent, expected) = (sent.concat(), expected.concat());
            let with_preface = |bytes: &[u8]| [b"PRI ", bytes].concat();
            for piece in 1..sent.len() + 5 {
                let output = push(&with_preface(&sent), piece).unwrap();
                assert_eq!(output, with_preface(&expected), "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_block_that_does_not_end_is_not_kept() {
        let begun = [b"PRI ".to_vec(), frame(HEADERS, 0, 1, b"bl")].concat();
        let large = frame(CONTINUATION, 0, 1, &[0; 60_000]);
        assert!(push(&[&begun[..], &large].concat(), 1_000).is_ok());
        assert!(push(&[&begun[..], &large, &large].concat(), 1_000).is_err());
        assert!(push(&[begun, frame(CONTINUATION, 0, 1, b"").repeat(32)].concat(), 1_000).is_err());
    }
}
