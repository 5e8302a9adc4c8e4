//! The line: every check that a call passes, in order, and the only maker of a [`Permit`].

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::actions::Actions;
use crate::denial::Denial;
use crate::id::DeviceRef;
use crate::limit::{Admission, Caller, FailedLogins, LimitError, Limiter};
use crate::outcome::Findings;
use crate::policy::{Contents, Operation};
use crate::principal::{Principal, Scope, Target};
use crate::snapshot::Snapshot;
use crate::time::Clock;
use crate::token::BearerToken;

/// What outlives requests and snapshots: the windows, failed logins, the memory of actions, and the clock.
#[derive(Debug)]
pub struct Line {
    /// The windows of every limit.
    pub limiter: Limiter,
    /// The failed logins of every address.
    pub logins: FailedLogins,
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
    /// Where it comes from, if that is known.
    pub address: Option<IpAddr>,
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
    let Line { limiter, actions, clock, .. } = line;
    let Snapshot { policies, quotas, .. } = world;

    let routed = policies.route(request.head().method, request.head().target)?; // no such call
    found.operation = Some(routed.operation.id().clone());
    let principal = authenticate(line, world, request.head()).await?; // no token, or not who it says
    found.application = policies.application_name(&principal.subject.application).cloned();
    found.principal = Some(principal.clone());
    found.groups = policies.named_groups(&principal);
    let mut targets = actions.resolve(&routed.device, routed.action.as_ref()); // behind an action is a device
    found.scope = Scope::named(&targets); // who is refused, is refused these
    let grant = policies.permit(&principal, routed.operation)?; // permission, application, role
    let (body, contents) = read(routed.operation, request).await?; // not what the API takes
    found.comment = contents.comment;
    if !contents.devices.is_empty() {
        targets.extend(contents.devices.into_iter().map(Target::Device));
        found.scope = Scope::named(&targets);
    }
    found.scope = grant.reach(&targets, clock)?; // every device, or refused
    if quotas.counts_devices(routed.operation.id()) {
        policies.look_up(&mut found.scope);
    }
    let caller = Caller { subject: &principal.subject, groups: &found.groups, at: clock.wall() };
    let charges = quotas.charges(caller, routed.operation.id(), &found.scope);
    let admission = limiter.acquire(&charges, clock).await;
    found.standings = limiter.standings(&charges, clock);
    let admission = admission.map_err(LimitError::from)?; // no room
    found.overrun = admission.overrun(&charges);
    Ok(Permit { admission, body, starts_action_on: routed.starts_action_on().cloned() })
}

/// Finds out who calls. A token that was judged before is answered at once; any other is looked at only while its
/// address has failed logins left, so that a script that repeats one wrong token shuts out nobody.
async fn authenticate(
    line: &Line,
    world: &Snapshot,
    head: RequestHead<'_>,
) -> Result<Arc<Principal>, Denial> {
    let Line { logins, clock, .. } = line;
    let bearer = head.bearer()?; // no token, or two
    if let Some(verdict) = world.verifier.known(bearer, clock) {
        return Ok(verdict?);
    }
    let attempt = world.quotas.attempt(head.address);
    logins.check(&attempt, clock)?; // too many of them were refused
    let verdict = world.verifier.verify(bearer, clock).await;
    if verdict.as_ref().is_err_and(|error| error.is_failed_login()) {
        logins.charge(&attempt, clock);
    }
    Ok(verdict?)
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

    /// The device that a machine action in the API's successful answer will belong to; none if the call starts none.
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
