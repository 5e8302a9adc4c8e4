//! A Pingora session as the line sees it: a head, and a body on demand.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Version, header};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};

use super::bounds::Bounds;
use super::client::Link;
use super::credit::Credit;
use crate::admit::{Request, RequestHead};
use crate::denial::{Denial, Malformed};
use crate::policy::BodyError;
use crate::time::Clock;

/// Pingora's retry buffer (`BODY_BUF_LIMIT`). A body that was read before forwarding is sent on only if the buffer
/// holds its last bytes whole, so no more than this may be read after buffering begins.
const RETRY_BUFFER: usize = 64 * 1024;

/// For the whole body: the slowest client that should be served sends a megabyte in it at 140 kbit/s.
const BODY_DEADLINE: Duration = Duration::from_secs(60);

/// How often a client that has sent more than is kept is looked at: what it closes behind unread bytes tells nobody.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The request of a session.
pub(super) struct Incoming<'s> {
    session: &'s mut Session,
    address: Option<IpAddr>,
    /// Its connection; none over HTTP/2.
    link: Option<&'s Link>,
    clock: &'s Clock,
    /// Once it was read.
    body: Option<Bytes>,
    bounds: &'s Bounds,
}

impl<'s> Incoming<'s> {
    /// A request whose head [`strict::check`](super::strict::check) has seen.
    pub(super) fn new(
        session: &'s mut Session,
        address: Option<IpAddr>,
        link: Option<&'s Link>,
        clock: &'s Clock,
        bounds: &'s Bounds,
    ) -> Self {
        Self { session, address, link, clock, bounds, body: None }
    }

    /// The body, if it was read.
    pub(super) fn into_body(self) -> Option<Bytes> {
        self.body
    }

    fn declared(&self) -> Option<usize> {
        length(self.session.req_header())
    }

    /// Waits for the end of an HTTP/2 stream whose head says that it has no body: Pingora takes it for ended, and passes
    /// on what may not be true.
    ///
    /// # Errors
    /// There is a body, or no end.
    pub(super) async fn end_of_nothing(&mut self) -> Result<(), Denial> {
        if self.link.is_none() && self.declared() == Some(0) {
            let mut credit = Credit::new(self.bounds);
            while let Some(piece) = self.read_piece(&mut credit).await? {
                if !piece.is_empty() {
                    return Err(Malformed::BodyFraming.into());
                }
            }
        }
        Ok(())
    }

    fn expects_continue(&self) -> bool {
        let head = self.session.req_header();
        // An HTTP/1.0 client that says so does not wait for it (RFC 9110, section 10.1.1).
        let expect = head.headers.get(header::EXPECT).filter(|_| head.version != Version::HTTP_10);
        expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    }

    async fn collect(&mut self, max: usize, declared: Option<usize>) -> Result<Bytes, Denial> {
        if self.expects_continue() {
            let downstream = self.session.as_downstream_mut();
            let keepalive = downstream.get_keepalive();
            downstream.write_continue_response().await.map_err(|_| Denial::ClientGone)?;
            // Pingora takes it for an answer before the body's end, after which it would close the connection.
            downstream.set_keepalive(keepalive);
        }
        let mut body = BytesMut::with_capacity(declared.unwrap_or(0));
        let mut credit = Credit::new(self.bounds);
        loop {
            // Late, so that a body larger than the buffer does not overrun it; what is sent on is our own copy.
            if declared.is_none_or(|declared| declared - body.len() <= RETRY_BUFFER) {
                self.session.as_downstream_mut().enable_retry_buffering();
            }
            match self.read_piece(&mut credit).await? {
                Some(piece) if body.len() + piece.len() > max => {
                    return Err(BodyError::TooLarge { max }.into());
                }
                Some(piece) => body.extend_from_slice(&piece),
                None => break,
            }
        }
        // INVARIANT: what the upstream will get is what was checked. If Pingora could not replay it, nothing goes.
        if !body.is_empty() && self.session.as_downstream_mut().get_retry_buffer().is_none() {
            return Err(Denial::Internal);
        }
        Ok(body.freeze())
    }

    /// The next piece of the body; none at its end.
    async fn read_piece(&mut self, credit: &mut Credit) -> Result<Option<Bytes>, Denial> {
        let read = self.session.as_downstream_mut().read_request_body();
        let read = if self.link.is_some() {
            // Of HTTP/1 the connection itself knows how slow it may be.
            read.await
        } else {
            credit.wait(self.clock);
            let read = self.clock.timeout(credit.left(self.clock), read).await;
            read.map_err(|_| Malformed::BodyTimeout)?
        };
        let piece = read.map_err(|error| unread(&error))?;
        credit.moved(piece.as_ref().map_or(0, Bytes::len), self.clock, self.bounds);
        Ok(piece)
    }
}

impl Request for Incoming<'_> {
    fn head(&self) -> RequestHead<'_> {
        let header = self.session.req_header();
        RequestHead {
            method: &header.method,
            // It is text: the strict check came first.
            target: std::str::from_utf8(header.raw_path()).unwrap_or_default(),
            headers: &header.headers,
            address: self.address,
        }
    }

    async fn read_body(&mut self, max: usize) -> Result<Bytes, Denial> {
        if let Some(body) = &self.body {
            return Ok(body.clone());
        }
        let declared = self.declared();
        let max = check_length(declared, max)?;
        let clock = self.clock;
        match clock.timeout(BODY_DEADLINE, self.collect(max, declared)).await {
            Ok(body) => Ok(self.body.insert(body?).clone()),
            Err(_) => Err(Malformed::BodyTimeout.into()),
        }
    }

    async fn gone(&mut self) {
        match (self.session.as_downstream_mut(), self.link) {
            (ServerSession::H1(session), Some(link)) => {
                let _watched = link.watch();
                while self.clock.timeout(LOOK_AGAIN, session.idle()).await.is_err() {}
            }
            (ServerSession::H2(session), _) => {
                // Whether it was reset or its connection broke off: nobody reads the answer.
                let _ = session.idle().await;
            }
            _ => std::future::pending().await,
        }
    }
}

/// How much is read at most of a body that is declared to have this length, and of which an operation takes `max` bytes.
/// Without a length there is no telling when the last 64 KiB begin, so no more are read.
///
/// # Errors
/// [`Denial::Body`] if it is declared larger.
pub fn check_length(declared: Option<usize>, max: usize) -> Result<usize, Denial> {
    let max = if declared.is_none() { max.min(RETRY_BUFFER) } else { max };
    if declared.is_some_and(|declared| declared > max) {
        return Err(BodyError::TooLarge { max }.into());
    }
    Ok(max)
}

/// How long a request says that its body is, in bytes.
pub(super) fn length(request: &RequestHeader) -> Option<usize> {
    request.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What it means that a body can't be read.
pub(super) fn unread(error: &Error) -> Denial {
    // What the client's stream found out, it says itself.
    let said = error.root_cause().downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    if let Some(malformed) = said.and_then(|said| said.downcast_ref::<Malformed>()) {
        return (*malformed).into();
    }
    match error.etype() {
        ErrorType::ReadTimedout => Malformed::BodyTimeout.into(),
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError => Denial::ClientGone,
        _ => Malformed::BodyFraming.into(),
    }
}
