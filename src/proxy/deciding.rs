//! What becomes of a request before anything is sent: the line decides, here or in the process after this one.

use std::sync::Arc;

use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::exchange::Exchange;
use super::gateway::Gateway;
use super::incoming::Incoming;
use super::strict;
use super::succession::Relay;
use super::upstream::REQUEST_ID;
use crate::admit::{Permit, admit};
use crate::denial::Denial;
use crate::limit::LimitError;

/// A client's own request id is kept up to this many characters: a GUID has 36.
const CLIENT_ID_CHARACTERS: usize = 128;

/// What becomes of a call that passes.
pub(super) enum Way {
    /// It goes to the API.
    Out(Permit),
    /// It goes to the process that decides.
    On(Relay),
}

impl Gateway {
    pub(super) async fn decide(&self, session: &mut Session, exchange: &mut Exchange) -> Result<Way, Denial> {
        exchange.outcome.client_request_id = client_id(session.req_header());
        // The door has checked the bytes of HTTP/1, before anyone parsed them.
        if session.as_downstream().is_http2() {
            strict::check(session.req_header())?;
        }
        // Before the token is looked at: it is the dearest check.
        self.check_load()?;
        let world = exchange.snapshot.clone();
        let (address, link) = (exchange.outcome.address, exchange.link.as_deref());
        let mut request = Incoming::new(session, address, link, &self.line.clock, &self.bounds);
        let began = self.succession.began();
        let decision = loop {
            if let Some(to) = self.succession.settled().await {
                request.end_of_nothing().await?;
                return Ok(Way::On(Relay { to, body: request.into_body() }));
            }
            let decision = admit(&self.line, &world, &mut request, &mut exchange.outcome.findings).await;
            // Nobody is admitted here while the windows pass to another process, and nothing is written.
            let is_passing = || self.succession.began() > began;
            match decision {
                Err(Denial::Limit(LimitError::Ended | LimitError::Unwritten { .. })) if is_passing() => {}
                decision => break decision,
            }
        };
        match (&exchange.outcome.findings.principal, &decision) {
            (Some(_), _) => self.books.metrics.token(Ok(())),
            (None, Err(Denial::Token(error))) => self.books.metrics.token(Err(error.reason())),
            (None, _) => {}
        }
        let permit = decision?;
        request.end_of_nothing().await?;
        // Last, so that a probe is a call that would pass; a call that does not pass gives its charge back.
        let passage = self.upstream.pass(self.line.clock.steady());
        exchange.passage = Some(passage.map_err(|retry_after| Denial::CircuitOpen { retry_after })?);
        Ok(Way::Out(permit))
    }

    /// Held calls have a bound of their own: they take memory, and neither time nor a place at the upstream.
    fn check_load(&self) -> Result<(), Denial> {
        let most = i64::from(self.bounds.in_flight.get());
        let in_flight = self.books.metrics.requests_in_flight();
        let held = || i64::try_from(self.line.limiter.held()).unwrap_or(i64::MAX);
        if in_flight > most && in_flight - held() > most { Err(Denial::Overload) } else { Ok(()) }
    }
}

fn client_id(request: &RequestHeader) -> Option<Arc<str>> {
    let id = request.headers.get(REQUEST_ID)?.to_str().ok()?;
    Some(id.chars().take(CLIENT_ID_CHARACTERS).collect::<String>().into())
}
