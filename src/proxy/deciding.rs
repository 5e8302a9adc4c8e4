//! What becomes of a request before anything is sent: the line decides, here or in the process after this one.

use std::sync::Arc;

use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::client::{Link, Sender};
use super::exchange::Exchange;
use super::gateway::Gateway;
use super::incoming::Incoming;
use super::load::{Burden, Load};
use super::strict;
use super::succession::{Relay, Successor};
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
        let world = exchange.snapshot.clone();
        let (address, link) = (exchange.outcome.address, exchange.link.as_deref());
        let mut request = Incoming::new(session, address, link, &self.line.clock, &self.bounds);
        // Read before it is asked who decides, so that no change between the two is missed.
        let mut began = self.succession.began();
        if !self.succession.is_here() {
            // Whoever waits has a stream or a connection, and a file in each process once it is relayed.
            exchange.burden = Some(self.burden(&self.elsewhere, || 0, link)?);
            if let Some(to) = self.succession.settled().await {
                return relayed(request, to).await;
            }
        }
        // Before the token is looked at: it is the dearest check.
        exchange.burden = Some(self.burden(&self.load, || self.line.limiter.held(), link)?);
        let decision = loop {
            let decision = admit(&self.line, &world, &mut request, &mut exchange.outcome.findings).await;
            // Nobody is admitted here while the windows pass to another process, and nothing is written.
            let is_passing = || self.succession.began() > began;
            match decision {
                Err(Denial::Limit(LimitError::Ended | LimitError::Unwritten { .. })) if is_passing() => {}
                decision => break decision,
            }
            // It was let in before, and is not refused for its number now. There are no more of these than were decided
            // here or held.
            exchange.burden = None;
            began = self.succession.began();
            if let Some(to) = self.succession.settled().await {
                return relayed(request, to).await;
            }
            // It goes on here, and had a place before.
            exchange.burden = Some(self.load.add_one_more());
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

    /// Counts a call among these.
    fn burden(
        &self,
        load: &Arc<Load>,
        held: impl FnOnce() -> usize,
        link: Option<&Link>,
    ) -> Result<Burden, Denial> {
        match link.map(Link::sender) {
            // Those that waited for this process come all at once; the one before has bounded them, and each client sends
            // its next one itself.
            Some(Sender::Predecessor) => Ok(load.add_one_more()),
            Some(Sender::Client) | None => load.add(self.bounds.in_flight.get() as usize, held),
        }
    }
}

/// A call that is another process's to decide, whole so far.
async fn relayed(mut request: Incoming<'_>, to: Arc<Successor>) -> Result<Way, Denial> {
    request.end_of_nothing().await?;
    Ok(Way::On(Relay { to, body: request.into_body() }))
}

fn client_id(request: &RequestHeader) -> Option<Arc<str>> {
    let id = request.headers.get(REQUEST_ID)?.to_str().ok()?;
    Some(id.chars().take(CLIENT_ID_CHARACTERS).collect::<String>().into())
}
