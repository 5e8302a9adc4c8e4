//! HTTP/1.1 framing as both ends of a test need it: strict, and keeping every byte.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection whose bytes are taken piece by piece. Every reading returns none if the stream ends before the piece
/// is whole.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    /// Read and not yet taken.
    buffer: Vec<u8>,
    /// Taken since the last [`Wire::taken`].
    taken: Vec<u8>,
}

/// A header's name, in the case it came in, and its value.
pub(super) type Header = (String, String);

// === impl Wire ===

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new(), taken: Vec::new() }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Closes the sending half.
    pub(super) async fn finish_sending(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The same of a connection that the other side may have closed.
    pub(super) async fn try_finish_sending(&mut self) {
        // What is closed already needs no closing.
        let _ = self.stream.shutdown().await;
    }

    /// The bytes that were taken since the last call.
    pub(super) fn taken(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.taken)
    }

    /// Read, and part of nothing whole.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer
    }

    /// A head's first line and its headers.
    pub(super) async fn take_head(&mut self) -> Option<(String, Vec<Header>)> {
        let head = self.take_through(b"\r\n\r\n").await?;
        // A value may hold bytes of any encoding (RFC 9110, section 5.5).
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let header = |line: &str| match line.split_once(':') {
            Some((name, value)) if !name.is_empty() && !name.contains([' ', '\t', '\n', '\r']) => {
                (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
            }
            _ => panic!("expected `name: value`, got {line:?} in {head:?}"),
        };
        Some((first, lines.map(header).collect()))
    }

    /// A body of this length.
    pub(super) async fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill().await?;
        }
        let taken: Vec<u8> = self.buffer.drain(..length).collect();
        self.taken.extend_from_slice(&taken);
        Some(taken)
    }

    /// A chunked body, without its frames; it may have no trailers.
    pub(super) async fn take_chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.take_through(b"\r\n").await?;
            let size = std::str::from_utf8(&line).ok().and_then(|line| line.strip_suffix("\r\n"));
            let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
            let size = size.unwrap_or_else(|| panic!("expected a chunk's size, got {}", show(&line)));
            body.extend(self.take(size).await?);
            let end = self.take(2).await?;
            assert!(end == b"\r\n", "expected a chunk's end, got {}", show(&end));
            if size == 0 {
                return Some(body);
            }
        }
    }

    /// Everything until the other side closes.
    pub(super) async fn take_to_end(&mut self) -> Vec<u8> {
        while self.fill().await.is_some() {}
        self.take(self.buffer.len()).await.unwrap_or_default()
    }

    async fn take_through(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return self.take(at + end.len()).await;
            }
            self.fill().await?;
        }
    }

    /// Waits for more. A reset is an end too: it is what a close with unread bytes looks like from here.
    async fn fill(&mut self) -> Option<()> {
        self.stream.read_buf(&mut self.buffer).await.ok().filter(|&read| read > 0).map(|_| ())
    }
}

/// All values of a header, its name in any case.
pub(super) fn all<'a>(headers: &'a [Header], name: &str) -> Vec<&'a str> {
    let named = headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_str()).collect()
}

/// The one value of a header, its name in any case; none if it is absent.
pub(super) fn one<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
    let values = all(headers, name);
    assert!(values.len() <= 1, "expected one `{name}`, got {values:?} in {headers:?}");
    values.first().copied()
}

/// Bytes as a test's message shows them.
pub(super) fn show(bytes: &[u8]) -> String {
    format!("`{}`", bytes.escape_ascii())
}
