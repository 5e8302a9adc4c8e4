//! Pingora's phases, each a few lines: the line decides in `request_filter`, and every request ends in `logging`.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use http::header;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::bounds::Bounds;
use super::client::Link;
use super::deciding::Way;
use super::exchange::{Books, Exchange};
use super::forwarded::{self, TrustedHops};
use super::http10;
use super::incoming::unread;
use super::links::PublicUrl;
use super::load::Load;
use super::pages;
use super::reply::{self, Connection, Reply};
use super::succession::Succession;
use super::upstream::{self, Upstream, put_back};
use super::writing::{self, write};
use crate::admit::{Line, Permit};
use crate::denial::Denial;
use crate::limit::LimitError;
use crate::reload::PolicyStore;

/// The gateway, as Pingora runs it.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// What outlives requests.
    pub line: Arc<Line>,
    /// The policy in force.
    pub policies: Arc<PolicyStore>,
    /// How many proxies between the callers and us say where a call comes from.
    pub trusted_hops: TrustedHops,
    /// The API.
    pub upstream: Arc<Upstream>,
    /// How clients find it, if that is known: the API's links to further pages then lead here.
    pub public: Option<PublicUrl>,
    /// Where each request is entered at its end.
    pub books: Arc<Books>,
    /// What one client may take.
    pub bounds: Bounds,
    /// How many calls there are that this process decides.
    pub load: Arc<Load>,
    /// How many wait to know which process decides, or are relayed to it.
    pub elsewhere: Arc<Load>,
    /// Set when the process is about to stop: every answer closes its connection.
    pub stopping: Arc<AtomicBool>,
    /// Whether this process decides, or the one after it.
    pub succession: Arc<Succession>,
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed: Pingora keeps it by value in one future within another, and moves it along.
    type CTX = Box<Exchange>;

    fn new_ctx(&self) -> Box<Exchange> {
        Box::new(self.exchange())
    }

    fn on_connection_reuse(
        &self,
        _session: &mut Session,
        exchange: &mut Box<Exchange>,
        link: Box<dyn Any + Send + Sync>,
    ) {
        if let Some(link) = link.downcast_ref::<Arc<Link>>() {
            link.reached(exchange.id());
            exchange.link = Some(link.clone());
        }
    }

    /// None: what passes is passed on as it is, neither compressed nor unpacked.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, exchange: &mut Box<Exchange>) -> Result<()> {
        let peer = session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip());
        exchange.outcome.address = forwarded::address(&session.req_header().headers, peer, self.trusted_hops);
        let downstream = session.as_downstream_mut();
        downstream.set_total_drain_timeout(Some(writing::DRAIN_TIME));
        // A client that closes its half after the request still reads the answer (RFC 9112, section 9.6).
        downstream.set_abort_on_close(false);
        // Of HTTP/1 the connection itself knows how slow it may be. Of an HTTP/2 stream this bounds how long a client
        // gives no room for more of its answer.
        downstream.set_read_timeout(None);
        if downstream.is_http2() {
            downstream.set_write_timeout(Some(self.bounds.patience));
        }
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, exchange: &mut Box<Exchange>) -> Result<bool> {
        // A fault in a check is a refusal like any other; in a later phase it is the door's to answer.
        let way = AssertUnwindSafe(self.decide(session, exchange)).catch_unwind().await;
        let way = way.unwrap_or_else(|_| {
            self.books.metrics.panicked();
            Err(Denial::Internal)
        });
        let now = self.line.clock.steady();
        match way {
            Ok(Way::On(relay)) => {
                exchange.relayed(relay);
                return Ok(false);
            }
            Ok(Way::Out(permit)) => {
                exchange.admitted(permit, now);
                if self.books.audit.as_ref().is_none_or(|audit| audit.admitted(&exchange.outcome).is_ok()) {
                    return Ok(false);
                }
                self.refuse(session, exchange, &Denial::AuditUnavailable).await;
            }
            Err(denial) => self.refuse(session, exchange, &denial).await,
        }
        Ok(true)
    }

    /// No permit, no peer.
    async fn upstream_peer(
        &self,
        session: &mut Session,
        exchange: &mut Box<Exchange>,
    ) -> Result<Box<HttpPeer>> {
        if let Some(relay) = &exchange.relay {
            let client = session.client_addr().and_then(|address| address.as_inet()).copied();
            return Ok(Box::new(relay.to.peer(client, self.bounds.request, &self.line.clock)));
        }
        let Some(target) = exchange.permit.as_ref().and_then(|_| self.upstream.choose()) else {
            return Error::e_explain(ErrorType::InternalError, "no permit, or no address");
        };
        let mut peer = Box::new(target.peer().clone());
        http10::ask(session.req_header(), &mut peer);
        exchange.target = Some(target);
        Ok(peer)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Box<Exchange>,
    ) -> Result<()> {
        if let Some(relay) = &exchange.relay {
            if relay.body.is_some() {
                request.remove_header(&header::EXPECT);
            }
            exchange.begin_upload(session.req_header());
            return put_back(request, session.req_header());
        }
        let (Some(permit), Some(target)) = (&exchange.permit, &exchange.target) else {
            return Error::e_explain(ErrorType::InternalError, "no permit");
        };
        target.dress(request, session.req_header(), exchange.id())?;
        if permit.body().is_some() {
            // The body is here already; nobody needs to be asked for it.
            request.remove_header(&header::EXPECT);
        }
        self.ask_for_actions(request, exchange)?;
        if self.public.is_some() {
            pages::ask(request)?;
        }
        exchange.forwarded(self.line.clock.steady());
        exchange.begin_upload(session.req_header());
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        exchange: &mut Box<Exchange>,
    ) -> Result<()> {
        let relayed = exchange.relay.as_ref().and_then(|relay| relay.body.as_ref());
        let checked = exchange.permit.as_ref().and_then(Permit::body).or(relayed);
        match checked.filter(|checked| !checked.is_empty()) {
            // What was checked is what is sent, once, whatever Pingora kept of it. It may replay all of it before the end:
            // of an HTTP/2 body the end comes behind its trailers.
            Some(checked) if end_of_stream => *body = Some(checked.clone()),
            Some(_) => *body = Some(Bytes::new()),
            // An empty last frame from HTTP/2 would become a second end of a chunked body (Pingora #935).
            None if end_of_stream && body.as_ref().is_some_and(Bytes::is_empty) => *body = None,
            None => {}
        }
        if let Some(upload) = &exchange.upload {
            *body = match body.take() {
                last if end_of_stream => upload.end(last),
                piece => piece.map(|piece| upload.piece(piece)),
            };
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Box<Exchange>,
    ) -> Result<()> {
        if exchange.relay.is_some() {
            self.close_if_stopping(session);
            return Ok(());
        }
        // Only we say what is ours.
        for name in &reply::OURS {
            response.remove_header(name);
        }
        if response.status.is_informational() {
            return Ok(());
        }
        self.close_if_stopping(session);
        if let Some(passage) = exchange.passage.take() {
            passage.answered();
        }
        exchange.answered(response.status.as_u16(), self.line.clock.steady());
        self.heed(response, exchange);
        exchange.expect_actions(response.status);
        if let Some(public) = &self.public {
            exchange.links = pages::reader(public, session.req_header(), response)?;
        }
        reply::rate_limits(response, &exchange.outcome.findings.standings)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Box<Exchange>,
    ) -> Result<()> {
        http10::answer(session, response, exchange.link.as_deref());
        Ok(())
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        exchange: &mut Box<Exchange>,
    ) -> Result<Option<Duration>> {
        if let Some(piece) = &body {
            self.read_actions(piece, exchange);
        }
        if let Some(links) = &mut exchange.links {
            let turned = body.as_ref().map(|piece| links.push(piece)).transpose();
            // An empty piece would end a chunked body.
            *body = turned.map_err(pages::unlinkable)?.filter(|piece| !piece.is_empty());
            if end_of_stream {
                links.finish().map_err(pages::unlinkable)?;
            }
        }
        if end_of_stream {
            self.remember_action(exchange);
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        exchange: &mut Box<Exchange>,
        mut error: Box<Error>,
    ) -> Box<Error> {
        // Nothing was sent, so the next address may be tried (max_retries bounds how often).
        if let Some(target) = exchange.target.take() {
            target.pass_over();
        }
        error.set_retry(true);
        error
    }

    /// What was sent may have been done, by whatever method: only a call that the upstream says it did not take is sent
    /// again.
    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        _exchange: &mut Box<Exchange>,
        _reused: bool,
    ) -> Box<Error> {
        let again = upstream::is_untaken(&error) && !session.as_ref().retry_buffer_truncated();
        let mut error = error.more_context(format!("peer: {peer}"));
        error.set_retry(again);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Box<Exchange>,
    ) -> FailToProxy {
        let denial = match error.esource() {
            // The process that decides is gone.
            ErrorSource::Upstream if exchange.relay.is_some() => {
                exchange.orphaned();
                LimitError::Ended.into()
            }
            _ => failure(error, exchange),
        };
        tracing::warn!(request = %exchange.id(), reason = %denial.reason(), %error, "a call failed");
        exchange.failed(&denial);
        if matches!(denial, Denial::UpstreamUnavailable | Denial::UpstreamTimeout)
            && let Some(passage) = exchange.passage.take()
        {
            passage.failed(self.line.clock.steady());
        }
        let mut error_code = 0;
        if session.response_written().is_none()
            && let Some(reply) = Reply::to(&denial, &exchange.outcome.findings.standings, exchange.id())
        {
            error_code = reply.header.status.as_u16();
            session.as_downstream_mut().set_keepalive(None);
            write(session.as_downstream_mut(), reply, &self.line.clock).await;
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    /// `fail_to_proxy` has said it already.
    fn suppress_error_log(&self, _session: &Session, _exchange: &Box<Exchange>, _error: &Error) -> bool {
        true
    }

    async fn logging(&self, _session: &mut Session, error: Option<&Error>, exchange: &mut Box<Exchange>) {
        if let Some(error) = error
            && exchange.outcome.reason.is_none()
        {
            exchange.failed(&failure(error, exchange));
        }
        if let (None, Some(link)) = (error, &exchange.link) {
            link.came_to_its_end();
        }
        exchange.ended();
    }
}

impl Gateway {
    /// A request that has just arrived.
    pub(super) fn exchange(&self) -> Exchange {
        Exchange::new(self.policies.load(), self.books.clone(), self.line.clock.clone())
    }

    async fn refuse(&self, session: &mut Session, exchange: &mut Exchange, denial: &Denial) {
        exchange.refused(denial, self.line.clock.steady());
        let Some(reply) = Reply::to(denial, &exchange.outcome.findings.standings, exchange.id()) else {
            session.as_downstream_mut().set_keepalive(None);
            return;
        };
        match reply.connection {
            Connection::Closed => session.as_downstream_mut().set_keepalive(None),
            Connection::Kept => writing::drain(session).await,
        }
        self.close_if_stopping(session);
        write(session.as_downstream_mut(), reply, &self.line.clock).await;
    }

    /// Tells a client to send its next request to another.
    fn close_if_stopping(&self, session: &mut Session) {
        if self.stopping.load(Ordering::Acquire) {
            session.as_downstream_mut().set_keepalive(None);
        }
    }
}

/// What a failure of Pingora's means to the caller.
fn failure(error: &Error, exchange: &Exchange) -> Denial {
    match error.esource() {
        ErrorSource::Upstream => match error.etype() {
            etype if *etype == pages::UNREADABLE => Denial::UpstreamUnreadable,
            ErrorType::ReadTimedout | ErrorType::WriteTimedout if exchange.is_forwarded() => {
                Denial::UpstreamTimeout
            }
            _ => Denial::UpstreamUnavailable,
        },
        ErrorSource::Downstream => unread(error),
        ErrorSource::Internal | ErrorSource::Unset => Denial::Internal,
    }
}
