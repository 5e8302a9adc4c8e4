//! An HTTP/2 client that writes the frames it is told to, lawful or not, and shows those that come back.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::within_deadline;

/// The preface of a client (RFC 9113, section 3.4), without the settings that follow it.
pub(crate) const MAGIC: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Kinds of frames (RFC 9113, section 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

// Their flags.
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;

/// How much a server's HPACK table may hold (RFC 9113, section 6.5.2).
const HEADER_TABLE_SIZE: u16 = 1;

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// One connection.
pub(crate) struct FrameClient {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

/// What a server said of a stream, or of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A final status on a stream.
    Answer {
        stream: u32,
        status: u16,
    },
    /// `RST_STREAM`.
    Reset {
        stream: u32,
        code: u32,
    },
    /// `GOAWAY`.
    GoAway {
        code: u32,
    },
    /// A `PING` that answers ours.
    Pong,
    /// Our settings were taken.
    Settled,
    Closed,
}

/// A frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Settings, as pairs of an identifier and a value.
pub(crate) fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let pairs = pairs.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    frame(SETTINGS, 0, 0, &pairs.collect::<Vec<_>>())
}

/// Literal fields that no table remembers (RFC 7541, section 6.2.2), byte for byte.
pub(crate) fn fields<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            string(&mut block, text);
        }
    }
    block
}

/// A string literal without Huffman's code (RFC 7541, sections 5.1 and 5.2).
fn string(block: &mut Vec<u8>, text: &[u8]) {
    match text.len().checked_sub(127) {
        None => block.push(u8::try_from(text.len()).unwrap()),
        Some(mut rest) => {
            block.push(127);
            while rest >= 128 {
                block.push(128 | u8::try_from(rest % 128).unwrap());
                rest /= 128;
            }
            block.push(u8::try_from(rest).unwrap());
        }
    }
    block.extend_from_slice(text);
}

// === impl FrameClient ===

impl FrameClient {
    /// A client on a connection that has agreed on HTTP/2; nothing is said yet.
    pub(crate) fn new(stream: TlsStream<TcpStream>) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Sends bytes on a connection that the other side may have closed.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        let _ = within_deadline("sending", sent).await;
    }

    /// The preface, with a table of nothing, so that statuses come as they are, and a window that lasts.
    pub(crate) async fn begin(&mut self) {
        let window = frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
        self.send([MAGIC, &settings(&[(HEADER_TABLE_SIZE, 0)]), &window].concat()).await;
    }

    /// Asks for a [`Event::Pong`], which comes behind what was sent before was read.
    pub(crate) async fn ping(&mut self) {
        self.send(frame(PING, 0, 0, b"tollgate")).await;
    }

    /// The next frame; none once the other side has closed, in whichever way.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, length)) = Frame::read(&self.buffer) {
                self.buffer.drain(..length);
                return Some(frame);
            }
            let read = self.stream.read_buf(&mut self.buffer);
            if !within_deadline("a frame", read).await.is_ok_and(|read| read > 0) {
                return None;
            }
        }
    }

    /// The next thing that was said; bodies, windows and the server's own settings are passed over.
    pub(crate) async fn event(&mut self) -> Event {
        loop {
            let Some(frame) = self.next().await else { return Event::Closed };
            if let Some(event) = frame.event() {
                return event;
            }
        }
    }

    /// What becomes of a stream: an answer, a reset, or the end of the connection.
    pub(crate) async fn outcome(&mut self, stream: u32) -> Event {
        loop {
            let event = self.event().await;
            match event {
                Event::Answer { stream: of, .. } | Event::Reset { stream: of, .. } if of != stream => {}
                Event::Pong | Event::Settled => {}
                _ => return event,
            }
        }
    }
}

// === impl Frame ===

impl Frame {
    /// The first of these bytes, and its length on the wire, if it is whole.
    fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let (head, rest) = bytes.split_first_chunk::<9>()?;
        let [a, b, c, kind, flags, stream @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap();
        let payload = rest.get(..length)?.to_vec();
        Some((Self { kind, flags, stream: u32::from_be_bytes(stream), payload }, 9 + length))
    }

    fn event(&self) -> Option<Event> {
        let word = |at: usize| u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap());
        match self.kind {
            HEADERS => match self.status() {
                100..200 => None,
                status => Some(Event::Answer { stream: self.stream, status }),
            },
            RST_STREAM => Some(Event::Reset { stream: self.stream, code: word(0) }),
            GOAWAY => Some(Event::GoAway { code: word(4) }),
            PING if self.flags & ACK != 0 => Some(Event::Pong),
            SETTINGS if self.flags & ACK != 0 => Some(Event::Settled),
            _ => None,
        }
    }

    /// The status: a field of HPACK's static table (RFC 7541, appendix A), or one of its names with three digits.
    fn status(&self) -> u16 {
        // Sizes of the table stand first.
        let field: Vec<u8> = self.payload.iter().copied().skip_while(|byte| byte & 0xe0 == 0x20).collect();
        match field[..] {
            [index @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(index - 0x88)],
            [0x08 | 0x18 | 0x48, 3, a, b, c, ..] => std::str::from_utf8(&[a, b, c]).unwrap().parse().unwrap(),
            [0x08 | 0x18 | 0x48, length, ref text @ ..] if length & 0x80 != 0 => {
                digits(&text[..usize::from(length & 0x7f)])
            }
            _ => panic!("no status in {}", self.payload.escape_ascii()),
        }
    }
}

/// Three digits in Huffman's code (RFC 7541, appendix B): of 0, 1 and 2 in 5 bits, of the others in 6.
fn digits(text: &[u8]) -> u16 {
    let bits = text.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let mut left = 8 * text.len();
    (0..3).fold(0, |number, _| {
        let next = |length: usize| u16::try_from(bits >> (left - length) & ((1 << length) - 1)).unwrap();
        let (digit, length) = match next(5) {
            digit @ 0..=2 => (digit, 5),
            _ => (next(6) - 0b01_1001 + 3, 6),
        };
        left -= length;
        number * 10 + digit
    })
}
