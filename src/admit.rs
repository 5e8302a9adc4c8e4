//! The line: every check that a call passes, in order, and the only maker of a [`Permit`].

use std::future::Future;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::actions::Actions;
use crate::denial::Denial;
use crate::id::DeviceRef;
use crate::limit::{Admission, LimitError, Limiter};
use crate::outcome::Findings;
use crate::policy::{Contents, Operation};
use crate::snapshot::Snapshot;
use crate::time::Clock;
use crate::token::BearerToken;

/// What outlives requests and snapshots: the windows, the memory of actions, and the clock.
#[derive(Debug)]
pub struct Line {
    /// The windows of every limit.
    pub limiter: Limiter,
    /// Which device each forwarded action belongs to.
    pub actions: Actions,
    /// Where the time comes from.
    pub clock: Clock,
}

/// The head of a request, as it stands on the wire.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// The request target: raw path and query.
    pub target: &'a str,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

/// A request as the line sees it: a head now, and a body if a check asks for it.
pub trait Request: Send {
    /// The head.
    fn head(&self) -> RequestHead<'_>;

    /// Reads the whole body, at most `max` bytes.
    ///
    /// # Errors
    /// [`Denial::Body`] if it is larger, [`Denial::Malformed`] if it does not arrive, [`Denial::ClientGone`] if the
    /// caller hung up.
    fn read_body(&mut self, max: usize) -> impl Future<Output = Result<Bytes, Denial>> + Send;
}

/// The proof that a call passed every check: forwarding needs one, and only [`admit`] makes it.
///
/// Dropped before [`forwarded`](Self::forwarded) was called, it gives its charge back.
#[must_use = "a permit that is dropped gives its charge back"]
#[derive(Debug)]
pub struct Permit {
    admission: Admission,
    body: Option<Bytes>,
    starts_action_on: Option<DeviceRef>,
}

/// Decides one call. What it finds out on the way stands in `found`, also for a call that it refuses.
///
/// The cheap checks come first: no token is verified for a path that does not exist, no body is read for a stranger,
/// and a call that any check refuses is charged to nothing.
///
/// # Errors
/// The first check that the call does not pass.
pub async fn admit(
    line: &Line,
    world: &Snapshot,
    request: &mut impl Request,
    found: &mut Findings,
) -> Result<Permit, Denial> {
    let Line { limiter, actions, clock } = line;
    let Snapshot { policies, verifier, quotas, .. } = world;

    let routed = policies.route(request.head().method, request.head().target)?; // no such call
    found.operation = Some(routed.operation.id().clone());
    let bearer = request.head().bearer()?; // no token, or two
    let principal = verifier.verify(bearer, clock).await?; // not who it says
    found.application = policies.application_name(&principal.subject.application).cloned();
    found.principal = Some(principal.clone());
    let grant = policies.permit(&principal, routed.operation)?; // permission, application, role
    let (body, contents) = read(routed.operation, request).await?; // not what the API takes
    found.comment = contents.comment;
    let targets = actions.resolve(routed.device.as_ref(), routed.action.as_ref()); // behind an action is a device
    found.scope = grant.reach(&targets)?; // every device, or refused
    let charges = quotas.charges(&principal.subject, routed.operation.id(), &found.scope);
    let admission = limiter.acquire(&charges, clock).await;
    found.standings = limiter.standings(&charges, clock);
    let admission = admission.map_err(LimitError::from)?; // no room
    found.overrun = admission.overrun(&charges);
    Ok(Permit { admission, body, starts_action_on: routed.starts_action_on().cloned() })
}

/// Reads the body of a call that has a contract and holds it to that; every other body is left to stream.
async fn read(
    operation: &Operation,
    request: &mut impl Request,
) -> Result<(Option<Bytes>, Contents), Denial> {
    let Some(contract) = operation.body() else { return Ok((None, Contents::default())) };
    contract.check_head(request.head().headers)?;
    let body = request.read_body(contract.max_bytes()).await?;
    let contents = contract.check(&body)?;
    Ok((Some(body), contents))
}

// === impl Permit ===

impl Permit {
    /// Makes the charge final: from here on the upstream may have seen the request.
    pub fn forwarded(&mut self) {
        self.admission.forwarded();
    }

    /// The body that was read, to be sent on byte for byte; none if it streams.
    pub fn body(&self) -> Option<&Bytes> {
        self.body.as_ref()
    }

    /// The device that a machine action in the API's answer (201) will belong to; none if the call starts none.
    pub fn starts_action_on(&self) -> Option<&DeviceRef> {
        self.starts_action_on.as_ref()
    }
}

// === impl RequestHead ===

impl<'a> RequestHead<'a> {
    fn bearer(self) -> Result<BearerToken<'a>, Denial> {
        Ok(BearerToken::find(self.headers, self.target.split_once('?').map(|(_, query)| query))?)
    }
}
