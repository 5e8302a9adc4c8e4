//! The line: every check that a call passes, in order, and the only maker of a [`Permit`].

use std::future::Future;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::actions::Actions;
use crate::denial::Denial;
use crate::id::ActionId;
use crate::limit::{Admission, Caller, FailedLogins, LimitError, Limiter};
use crate::outcome::Findings;
use crate::policy::{Answer, Contents, Operation, Reach};
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

    /// Waits until the caller has hung up; for ever where that cannot be known. What it sends meanwhile is neither lost nor
    /// read without bound. Dropped, it leaves the request as it was.
    fn gone(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// The proof that a call passed every check: forwarding needs one, and only [`admit`] makes it.
///
/// Dropped before [`forwarded`](Self::forwarded) was called, it gives its charge back.
#[must_use = "a permit that is dropped gives its charge back"]
#[derive(Debug)]
pub struct Permit {
    admission: Admission,
    body: Option<Bytes>,
    answer: Answer,
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
    found.application = policies.application_name(&principal.subject).cloned();
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
    let Reach { scope, tried } = grant.reach(&targets, clock)?; // every device, or refused
    (found.scope, found.tried) = (scope, tried);
    if quotas.counts_devices(routed.operation.id()) {
        policies.look_up(&mut found.scope);
    }
    let caller = Caller { subject: &principal.subject, groups: &found.groups, at: clock.wall() };
    let charges = match found.would_refuse() {
        None => quotas.charges(caller, routed.operation.id(), &found.scope),
        Some(_) => quotas.charges_of_tried(caller, routed.operation.id(), &found.scope),
    };
    let turn = pin!(limiter.acquire(&charges, clock));
    let admission = hold(turn, request, clock, &mut found.held).await?; // gone while it was held
    found.standings = limiter.standings(&charges, clock);
    let admission = admission.map_err(LimitError::from)?; // no room
    if found.held.is_some() {
        world.verifier.check_expiry(&principal, clock)?; // the token has expired meanwhile
    }
    let admission = limiter.written(admission, &charges).await.map_err(LimitError::from)?; // it would be forgotten
    found.overrun = admission.overrun(&charges);
    Ok(Permit { admission, body, answer: routed.answer() })
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

/// Waits for the turn of a call, but no longer than its caller does. If it is not there at once, `held` is how long that
/// took.
async fn hold<T>(
    turn: Pin<&mut impl Future<Output = T>>,
    request: &mut impl Request,
    clock: &Clock,
    held: &mut Option<Duration>,
) -> Result<T, Denial> {
    let mut since = None;
    let outcome = tokio::select! {
        // Whoever has its turn at once is not watched.
        biased;
        turn = turn => Ok(turn),
        () = async {
            since = Some(clock.steady());
            request.gone().await;
        } => Err(Denial::ClientGone),
    };
    *held = since.map(|since| clock.steady().since(since));
    outcome
}

// === impl Permit ===

impl Permit {
    /// Makes the charge final: from here on the upstream may have seen the request.
    pub fn forwarded(&mut self) {
        self.admission.forwarded();
    }

    /// The API answered, and not that the call was one too many.
    pub fn succeeded(&mut self) {
        self.admission.succeeded();
    }

    /// The body that was read, to be sent on byte for byte; none if it streams.
    pub fn body(&self) -> Option<&Bytes> {
        self.body.as_ref()
    }

    /// What the API's successful answer says of machine actions.
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// The API has answered that the call has no action under way.
    pub fn settled(&mut self) {
        self.admission.settled();
    }

    /// The API has answered that the call has started this action.
    pub fn opened(&mut self, action: &ActionId, clock: &Clock) {
        self.admission.opened(action, clock);
    }
}

// === impl RequestHead ===

impl<'a> RequestHead<'a> {
    fn bearer(self) -> Result<BearerToken<'a>, Denial> {
        Ok(BearerToken::find(self.headers, self.target.split_once('?').map(|(_, query)| query))?)
    }
}
