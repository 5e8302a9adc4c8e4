//! A client's connection below HTTP: in clear text, or within TLS.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// What bytes are read from and written to.
#[derive(Debug)]
pub enum Socket {
    /// In clear text.
    Plain(TcpStream),
    /// Within TLS, after its handshake.
    Tls(Box<TlsStream<TcpStream>>),
    /// In clear text, from the process before this one.
    Relayed(UnixStream),
}

/// What is spoken over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

impl Socket {
    /// HTTP/2 is only what a client asked for by ALPN.
    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => Protocol::Http2,
            Self::Plain(_) | Self::Tls(_) | Self::Relayed(_) => Protocol::Http1,
        }
    }

    /// Whether the client was seen to close or to break off, behind whatever has not been read.
    pub(super) fn is_closed_behind(&self) -> bool {
        let ready = match self {
            Self::Plain(stream) => stream.ready(Interest::READABLE).now_or_never(),
            Self::Tls(stream) => stream.get_ref().0.ready(Interest::READABLE).now_or_never(),
            Self::Relayed(stream) => stream.ready(Interest::READABLE).now_or_never(),
        };
        ready.is_some_and(|ready| ready.is_err() || ready.is_ok_and(Ready::is_read_closed))
    }
}

impl Socket {
    /// From now on it closes without an order: by TCP a reset, within TLS an end without a word of it (RFC 8446, section
    /// 6.1).
    pub(super) fn break_off_at_close(&self) -> io::Result<()> {
        self.tcp().map_or(Ok(()), TcpStream::set_zero_linger)
    }

    /// From now on it closes in order again.
    pub(super) fn close_in_order(&self) -> io::Result<()> {
        Ok(self.tcp().map_or(Ok(()), |stream| set_socket_linger(stream, None))?)
    }

    /// None of the process before this one: that has a client of its own, and asked by HTTP/1.1.
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Tls(stream) => Some(stream.get_ref().0),
            Self::Relayed(_) => None,
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        match self {
            Self::Plain(stream) => stream.as_raw_fd(),
            Self::Tls(stream) => stream.get_ref().0.as_raw_fd(),
            Self::Relayed(stream) => stream.as_raw_fd(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Relayed(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Relayed(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Relayed(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Relayed(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
