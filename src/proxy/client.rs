//! A client's connection as Pingora is given it: one request at a time, and no byte beyond it.
//!
//! The door has read and checked a request's head; Pingora then reads the head and the body from here, and never what
//! comes behind. So it cannot take a byte for another request's, and a client that sends its next request early is
//! served that one next. A client that gives or takes too slowly is an error of the connection.

mod blocks;
mod body;
mod link;
mod pace;
mod socket;
mod stream;

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use pingora::protocols::SocketDigest;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use self::blocks::Blocks;
pub(super) use self::blocks::MAX_BLOCK_BYTES;
use self::body::Body;
pub(super) use self::link::{Link, Sender};
use self::pace::Pace;
use self::socket::Protocol;
pub use self::socket::Socket;
use super::bounds::Bounds;
use super::strict::Framing;
use crate::denial::Malformed;
use crate::time::Clock;

/// Read at once, and kept of what a client sends before its turn: most requests are one read.
const READ_BYTES: usize = 8 * 1024;

/// A header and a short body go out as one packet: what is smaller than a segment waits for more, or for a flush.
const WRITE_BYTES: usize = 1_460;

/// A client's connection.
#[derive(Debug)]
pub(super) struct ClientStream {
    /// Gone once the connection went back to its door.
    socket: Option<Socket>,
    protocol: Protocol,
    /// Read from the socket, and not handed on.
    input: BytesMut,
    /// How much of it is the head of the request that Pingora reads.
    head: usize,
    body: Body,
    /// What the socket said last.
    end: End,
    close: Close,
    /// To be written.
    output: BytesMut,
    /// Bytes of the answer that were written or wait to be.
    answered: usize,
    reading: Pace,
    writing: Pace,
    /// What comes over HTTP/2.
    blocks: Blocks,
    clock: Clock,
    bounds: Arc<Bounds>,
    digest: Arc<SocketDigest>,
    link: Arc<Link>,
}

/// Whether more may come from a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// The client sends nothing more; it may still read.
    Half,
    /// The connection is broken.
    Broken,
}

/// What the client sees if the socket closes now, for whatever reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Close {
    InOrder,
    /// That it did not get all there is.
    BrokenOff,
}

/// A client that takes its answer too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client does not take its answer")]
pub(super) struct SlowReader;

// === impl ClientStream ===

impl ClientStream {
    pub(super) fn new(socket: Socket, digest: SocketDigest, clock: Clock, bounds: Arc<Bounds>) -> Self {
        let (protocol, link) = (socket.protocol(), Link::of(&socket));
        Self {
            protocol,
            socket: Some(socket),
            input: BytesMut::new(),
            head: 0,
            body: Body::Left(0),
            end: End::Open,
            close: Close::InOrder,
            output: BytesMut::new(),
            answered: 0,
            reading: Pace::new(&bounds),
            writing: Pace::new(&bounds),
            blocks: Blocks::default(),
            clock,
            bounds,
            digest: Arc::new(digest),
            link: Arc::new(link),
        }
    }

    pub(super) fn is_http2(&self) -> bool {
        self.protocol == Protocol::Http2
    }

    /// What was read and belongs to no request yet.
    pub(super) fn input(&self) -> &[u8] {
        &self.input
    }

    /// Whether it did not break off.
    fn is_whole(&self) -> bool {
        self.end != End::Broken
    }

    /// Whether an answer to the present request was begun.
    pub(super) fn has_answered(&self) -> bool {
        self.answered > 0
    }

    /// Lets buffers go that an idle connection does not need.
    pub(super) fn idle(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        self.output = BytesMut::new();
    }

    /// Reads more; `None` if there is no more.
    pub(super) async fn fill(&mut self) -> Option<()> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await.ok()?;
        (self.end == End::Open).then_some(())
    }

    /// Makes the first bytes of the input, a head of this length and a body, all that Pingora gets to read.
    pub(super) fn begin(&mut self, head: usize, framing: Framing) -> Arc<Link> {
        self.head = head;
        self.body = Body::new(framing);
        self.answered = 0;
        self.reading = Pace::new(&self.bounds);
        self.writing = Pace::new(&self.bounds);
        self.link.clone()
    }

    /// Whether the present request was read to its end, so that the next can follow.
    pub(super) fn is_between_requests(&self) -> bool {
        self.head == 0 && self.body.has_ended() && self.end != End::Broken
    }

    /// Says that nothing follows, and reads what still comes, so that a close with unread bytes does not take the
    /// answer from a client that has not read it yet.
    pub(super) async fn linger(&mut self, most: usize) {
        if self.shutdown_output().await.is_err() {
            return;
        }
        let mut read = self.input.len();
        while read < most && self.fill().await.is_some() {
            read += self.input.len();
            self.input.clear();
        }
    }

    /// Ends the output in order: all of it was written.
    async fn shutdown_output(&mut self) -> io::Result<()> {
        self.flush().await?;
        if self.close == Close::BrokenOff {
            self.socket()?.close_in_order()?;
            self.close = Close::InOrder;
        }
        AsyncWriteExt::shutdown(self).await
    }

    fn socket(&mut self) -> io::Result<Pin<&mut Socket>> {
        self.socket.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Reads once from the socket into the input.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.end != End::Open {
            return Poll::Ready(Ok(()));
        }
        // On the stack: an idle connection has no buffer.
        let mut bytes = [const { MaybeUninit::<u8>::uninit() }; READ_BYTES];
        let mut bytes = ReadBuf::uninit(&mut bytes);
        match ready!(self.socket()?.poll_read(cx, &mut bytes)) {
            Ok(()) if bytes.filled().is_empty() => self.end = End::Half,
            Ok(()) => self.input.extend_from_slice(bytes.filled()),
            Err(error) => {
                self.end = End::Broken;
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Hands on what of the input belongs to the request; how much that is.
    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
        let room = buf.remaining().min(self.input.len());
        let bytes = self.input.get(..room).unwrap_or_default();
        let count = if self.head > 0 {
            let count = room.min(self.head);
            self.head -= count;
            count
        } else {
            self.body
                .take(bytes)
                .map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))?
        };
        buf.put_slice(bytes.get(..count).unwrap_or_default());
        self.input.advance(count);
        Ok(count)
    }

    fn poll_request(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.hand_on(buf)? > 0 || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let ended = self.head == 0 && self.body.has_ended();
            match self.end {
                End::Open if ended && self.input.len() >= READ_BYTES => return Poll::Pending,
                End::Open => {}
                // Whoever has sent the next request already is not gone.
                End::Half if ended && !self.input.is_empty() => return Poll::Pending,
                End::Half | End::Broken => return Poll::Ready(Ok(())),
            }
            let before = self.input.len();
            match self.poll_fill(cx) {
                Poll::Ready(read) => read?,
                // Behind its request a client owes us nothing.
                Poll::Pending if ended => return Poll::Pending,
                Poll::Pending => {
                    ready!(self.reading.poll_too_slow(cx, &self.clock));
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, Malformed::BodyTimeout)));
                }
            }
            self.reading.moved(self.input.len() - before, &self.clock, &self.bounds);
        }
    }

    /// Ready once the client has closed, if only its sending half, or broken off. What it sends is kept, up to a bound;
    /// behind that it is only looked for a close now, and to be asked again.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.end == End::Open && self.input.len() < READ_BYTES {
            ready!(self.poll_fill(cx))?;
        }
        let closed = self.end != End::Open || self.socket.as_ref().is_none_or(Socket::is_closed_behind);
        if closed { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// HTTP/2: everything is handed on, but header blocks whole; Pingora closes idle connections itself, once the preface
    /// has come.
    fn poll_frames(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.blocks.hand_on(buf) == 0 && buf.remaining() > 0 {
            let mut bytes = [const { MaybeUninit::<u8>::uninit() }; READ_BYTES];
            let mut bytes = ReadBuf::uninit(&mut bytes);
            match self.socket()?.poll_read(cx, &mut bytes) {
                Poll::Pending if self.blocks.is_before_frames() => {
                    ready!(self.reading.poll_too_slow(cx, &self.clock));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                Poll::Pending => {
                    ready!(self.blocks.poll_overdue(cx, &self.clock, self.bounds.header));
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        Malformed::HeaderTimeout,
                    )));
                }
                Poll::Ready(Ok(())) if !bytes.filled().is_empty() => self.blocks.push(bytes.filled())?,
                Poll::Ready(end) => return Poll::Ready(end),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.close == Close::InOrder && self.link.is_open_ended() {
            // From its first byte on: whoever drops the connection later may not be able to say so any more.
            self.socket()?.break_off_at_close()?;
            self.close = Close::BrokenOff;
        }
        match self.socket()?.poll_write(cx, bytes) {
            Poll::Ready(Ok(sent)) => {
                self.writing.moved(sent, &self.clock, &self.bounds);
                Poll::Ready(Ok(sent))
            }
            Poll::Ready(Err(error)) => {
                self.end = End::Broken;
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                ready!(self.writing.poll_too_slow(cx, &self.clock));
                self.end = End::Broken;
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, SlowReader)))
            }
        }
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let output = std::mem::take(&mut self.output);
            let sent = self.poll_send(cx, &output);
            self.output = output;
            match ready!(sent)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.output.advance(sent),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.protocol {
            Protocol::Http1 if this.link.is_watched() => this.poll_gone(cx),
            Protocol::Http1 => this.poll_request(cx, buf),
            Protocol::Http2 => this.poll_frames(cx, buf),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.output.len() + buf.len() > WRITE_BYTES {
            ready!(this.poll_output(cx))?;
        }
        let taken = if this.output.len() + buf.len() <= WRITE_BYTES {
            this.output.extend_from_slice(buf);
            buf.len()
        } else {
            ready!(this.poll_send(cx, buf))?
        };
        this.answered += taken;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_output(cx))?;
        this.socket()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_output(cx))?;
        this.socket()?.poll_shutdown(cx)
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        let Some(socket) = self.socket.take() else { return };
        if self.protocol == Protocol::Http2 || Arc::strong_count(&self.link) == 1 {
            return;
        }
        let saved = Self {
            socket: Some(socket),
            protocol: self.protocol,
            input: std::mem::take(&mut self.input),
            head: self.head,
            body: self.body,
            end: self.end,
            close: self.close,
            output: std::mem::take(&mut self.output),
            answered: self.answered,
            reading: Pace::new(&self.bounds),
            writing: Pace::new(&self.bounds),
            blocks: Blocks::default(),
            clock: self.clock.clone(),
            bounds: self.bounds.clone(),
            digest: self.digest.clone(),
            link: Arc::default(),
        };
        self.link.save(saved);
    }
}
