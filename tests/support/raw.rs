//! An HTTP/1.1 client that writes the bytes it is told to and shows those that come back, as they come.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::support::wire::{Header, Wire, all, one, show};
use crate::support::within_deadline;

/// One connection.
#[derive(Debug)]
pub(crate) struct RawClient(Wire);

/// A response as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawResponse {
    pub(crate) status: u16,
    /// The reason phrase.
    pub(crate) phrase: String,
    /// In their order, names in the case they came in.
    pub(crate) headers: Vec<Header>,
    pub(crate) body: Vec<u8>,
    /// The interim (1xx) responses before it.
    pub(crate) interim: Vec<RawResponse>,
}

/// What a response's length depends on beside its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// HEAD: there is no body, whatever the headers say.
    Head,
    /// Any other method.
    Other,
}

// === impl RawClient ===

impl RawClient {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(Wire::new(within_deadline("connecting", TcpStream::connect(address)).await.unwrap()))
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends to a peer that may have closed already.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        within_deadline("sending", self.0.send(bytes.as_ref())).await
    }

    /// Sends a request with `Host: gateway` and, if there is a body, its `Content-Length`, each unless given.
    pub(crate) async fn send_request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) {
        let body = body.as_ref();
        let given = |name: &str| headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        let mut request = format!("{method} {path} HTTP/1.1\r\n");
        if !given("host") {
            request += "Host: gateway\r\n";
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() && !given("content-length") && !given("transfer-encoding") {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut request = (request + "\r\n").into_bytes();
        request.extend_from_slice(body);
        self.send(request).await;
    }

    /// Sends a request and reads its response.
    pub(crate) async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> RawResponse {
        self.send_request(method, path, headers, body).await;
        self.read_response_to(if method == "HEAD" { Asked::Head } else { Asked::Other }).await
    }

    /// Reads the response to anything but a HEAD.
    pub(crate) async fn read_response(&mut self) -> RawResponse {
        self.read_response_to(Asked::Other).await
    }

    /// Reads one response, with the interim ones before it.
    pub(crate) async fn read_response_to(&mut self, asked: Asked) -> RawResponse {
        let response = within_deadline("a response", RawResponse::read(&mut self.0, asked)).await;
        // Its bytes are in the response; a connection of many calls must not keep them all.
        self.0.taken();
        response.unwrap_or_else(|| panic!("closed within a response, after {}", show(self.0.rest())))
    }

    /// Reads an interim response, and nothing after it.
    pub(crate) async fn expect_interim(&mut self, status: u16) {
        let head = within_deadline("an interim response", self.0.take_head()).await;
        let (first, _) = head.unwrap_or_else(|| panic!("closed before {status}"));
        assert_eq!(status_line(&first).0, status, "{first}");
    }

    /// Waits for the peer to close, and fails the test on a byte before that.
    pub(crate) async fn expect_close(&mut self) {
        let bytes = self.read_to_end().await;
        assert!(bytes.is_empty(), "expected the end of the stream, got {}", show(&bytes));
    }

    /// Everything that the peer sends until it closes.
    pub(crate) async fn read_to_end(&mut self) -> Vec<u8> {
        within_deadline("the peer's closing", self.0.take_to_end()).await
    }

    /// Closes the sending half of a connection that the peer may have closed.
    pub(crate) async fn try_finish_sending(&mut self) {
        self.0.try_finish_sending().await;
    }

    /// Closes the sending half only.
    pub(crate) async fn finish_sending(&mut self) {
        self.0.finish_sending().await;
    }
}

// === impl RawResponse ===

impl RawResponse {
    /// The one value of a header, in any case; none if it is absent.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        one(&self.headers, name)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_else(|_| panic!("expected UTF-8, got {}", show(&self.body)))
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.text())
            .unwrap_or_else(|error| panic!("expected JSON, got {} ({error})", show(&self.body)))
    }

    /// Fails the test, showing the whole response, unless it has this status.
    #[track_caller]
    pub(crate) fn assert_status(&self, status: u16) {
        assert_eq!(self.status, status, "in {self:?}, body {}", show(&self.body));
    }

    /// `r` of the first limit in `RateLimit`: how many more calls it would admit now.
    #[track_caller]
    pub(crate) fn remaining(&self) -> u32 {
        let limits = self.header("RateLimit").unwrap_or_else(|| panic!("no `RateLimit` in {self:?}"));
        let (_, rest) = limits.split_once(";r=").unwrap();
        rest.split_once(';').unwrap().0.parse().unwrap()
    }

    async fn read(wire: &mut Wire, asked: Asked) -> Option<Self> {
        let mut interim = Vec::new();
        loop {
            let (first, headers) = wire.take_head().await?;
            let (status, phrase) = status_line(&first);
            let mut response = Self { status, phrase, headers, body: Vec::new(), interim: Vec::new() };
            if (100..200).contains(&status) {
                interim.push(response);
                continue;
            }
            response.body = response.read_body(wire, asked).await?;
            response.interim = interim;
            return Some(response);
        }
    }

    async fn read_body(&self, wire: &mut Wire, asked: Asked) -> Option<Vec<u8>> {
        let lengths = all(&self.headers, "content-length");
        let codings = all(&self.headers, "transfer-encoding");
        match (asked, self.status, lengths.as_slice(), codings.as_slice()) {
            (Asked::Head, ..) | (_, 204 | 304, ..) => Some(Vec::new()),
            (_, _, [length], []) => wire.take(length.parse().expect(length)).await,
            (_, _, [], ["chunked"]) => wire.take_chunks().await,
            (_, _, [], []) => Some(wire.take_to_end().await),
            _ => panic!("expected one length, got {lengths:?} and {codings:?} in {self:?}"),
        }
    }
}

/// The status and the reason phrase, which may be empty.
fn status_line(line: &str) -> (u16, String) {
    let parse = || {
        let (status, phrase) = line.strip_prefix("HTTP/1.1 ")?.split_once(' ')?;
        let status = status.parse().ok().filter(|code| status.len() == 3 && *code >= 100)?;
        Some((status, phrase.to_owned()))
    };
    parse().unwrap_or_else(|| panic!("expected `HTTP/1.1 status phrase`, got {line:?}"))
}
