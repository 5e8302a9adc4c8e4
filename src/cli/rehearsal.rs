//! A policy set in rehearsal: calls that come over no connection, at times that somebody chooses, decided by the same
//! [`admit`] as the gateway's, behind the same checks of the door.
//!
//! A caller is claims. They are signed here, by a key of the rehearsal's own that every issuer of the set then publishes
//! in the place of its keys, so that nothing is decided otherwise than it would be: issuer, audience, times, kind.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::Failure;
use crate::actions::Actions;
use crate::admit::{Line, Permit, Request, RequestHead, admit};
use crate::denial::Denial;
use crate::id::ActionId;
use crate::limit::{FailedLogins, Limiter};
use crate::outcome::Findings;
use crate::policy::{Answer, BodyError};
use crate::principal::Target;
use crate::proxy::{check_head, check_length};
use crate::sandbox::issuer::Signer;
use crate::snapshot::Snapshot;
use crate::time::{Clock, ManualClock, Wall};
use crate::token::{RehearsalIssuer, refresh_now};

/// A policy set and the key that its issuers publish.
#[derive(Debug)]
pub(super) struct Rehearsal {
    snapshot: Snapshot,
    signer: Signer,
    issuers: Vec<RehearsalIssuer>,
    runtime: Runtime,
    /// How many tokens were given a number. Verdicts on tokens are remembered across stages, so each must be its own.
    tokens: Cell<u64>,
}

/// The windows, the actions and the time of one rehearsal, empty at its beginning.
pub(super) struct Stage<'r> {
    rehearsal: &'r Rehearsal,
    line: Line,
    hand: Arc<ManualClock>,
}

/// A call without its token.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) address: Option<IpAddr>,
}

/// What became of a call.
#[derive(Debug)]
pub(super) struct Played {
    /// What was found out on the way.
    pub(super) findings: Findings,
    /// Admitted, or why not.
    pub(super) verdict: Result<(), Denial>,
    /// How long it was held before that, to 10 ms.
    pub(super) held: Duration,
    /// The action that it has started, if it may start one.
    pub(super) started: Option<ActionId>,
}

/// How far the time moves while a call waits for room: no wait of a policy is counted finer.
pub(super) const WAITING: Duration = Duration::from_millis(10);

// === impl Rehearsal ===

impl Rehearsal {
    /// Takes a set whose issuers' keys are fetched now, for tokens that they signed. An issuer that cannot be reached has
    /// none, as in a gateway that cannot reach it.
    pub(super) fn with_keys_of_issuers(snapshot: Snapshot) -> Result<Self, Failure> {
        let signer = Signer::generate().map_err(Failure::unable)?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Failure::unable)?;
        runtime.block_on(refresh_now(&snapshot.verifier, &Clock::System));
        Ok(Self { snapshot, signer, issuers: Vec::new(), runtime, tokens: Cell::new(0) })
    }

    /// Takes a set that nobody else has, and gives its issuers the rehearsal's key.
    pub(super) fn new(mut snapshot: Snapshot) -> Result<Self, Failure> {
        let signer = Signer::generate().map_err(Failure::unable)?;
        let mut key = signer.jwk("");
        // It is every issuer's key.
        if let Some(members) = key.as_object_mut() {
            members.remove("issuer");
        }
        let verifier = Arc::into_inner(std::mem::take(&mut snapshot.verifier)).unwrap_or_default();
        let keys = json!({ "keys": [key] }).to_string();
        let (verifier, issuers) = verifier.rehearsing(&keys).map_err(Failure::unable)?;
        snapshot.verifier = Arc::new(verifier);
        let runtime = Builder::new_current_thread().build().map_err(Failure::unable)?;
        Ok(Self { snapshot, signer, issuers, runtime, tokens: Cell::new(0) })
    }

    /// The set.
    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Takes the inventory to have been written then, whatever the disk says.
    pub(super) fn date_inventory(&mut self, written: Option<Wall>) {
        self.snapshot.policies.date_inventory(written);
    }

    /// The issuers that a token can be of, in the order of `issuers.toml`.
    pub(super) fn issuers(&self) -> &[RehearsalIssuer] {
        &self.issuers
    }

    /// A number that no token has yet, for its `uti`.
    pub(super) fn next_token(&self) -> u64 {
        self.tokens.replace(self.tokens.get() + 1)
    }

    /// A token with these claims.
    pub(super) fn sign(&self, claims: &Value) -> String {
        self.signer.sign(claims)
    }

    /// An empty stage, at this time.
    pub(super) fn stage(&self, beginning: Wall) -> Stage<'_> {
        let (clock, hand) = Clock::manual(beginning);
        let actions = Actions::new(Actions::DEFAULT_CAPACITY);
        let line = Line { limiter: Limiter::new(), logins: FailedLogins::new(), actions, clock };
        Stage { rehearsal: self, line, hand }
    }
}

// === impl Stage ===

impl Stage<'_> {
    /// Which actions belong to which device.
    pub(super) fn actions(&self) -> &Actions {
        &self.line.actions
    }

    /// The action that a call names, if nobody knows its device.
    pub(super) fn unknown_action(&self, call: &Call) -> Option<ActionId> {
        let routed = self.rehearsal.snapshot.policies.route(&call.method, &call.target).ok()?;
        let behind = self.line.actions.resolve(None, routed.action.as_ref()).pop()?;
        match behind {
            Target::UnknownAction(action) => Some(action),
            Target::Device(_) => None,
        }
    }

    /// What time it is.
    pub(super) fn now(&self) -> Wall {
        self.line.clock.wall()
    }

    /// Lets time pass.
    pub(super) fn advance(&self, duration: Duration) {
        self.hand.advance(duration);
    }

    /// Decides a call, and counts it if it is admitted, as if it had been forwarded and, if it may, had started an
    /// action.
    pub(super) fn play(&self, call: &Call, token: Option<&str>) -> Played {
        let mut call = call.clone();
        let bearer = token.map(|token| HeaderValue::try_from(format!("Bearer {token}")));
        if let Some(Ok(bearer)) = bearer {
            call.headers.insert(AUTHORIZATION, bearer);
        }
        call.headers.entry(HOST).or_insert(HeaderValue::from_static("gateway"));
        let mut findings = Findings::default();
        if let Err(denial) = check_head(&call.method, &call.target, &call.headers) {
            return Played { findings, verdict: Err(denial), held: Duration::ZERO, started: None };
        }
        let came = self.line.clock.steady();
        let deciding = self.decide(&mut call, &mut findings);
        let decided = self.rehearsal.runtime.block_on(deciding);
        let held = self.line.clock.steady().since(came);
        match decided {
            Ok(started) => Played { findings, verdict: Ok(()), held, started },
            Err(denial) => Played { findings, verdict: Err(denial), held, started: None },
        }
    }

    /// An action that a call has started is over.
    pub(super) fn end(&self, action: &ActionId) {
        self.line.limiter.open_actions().ended(action);
    }

    async fn decide(&self, call: &mut Call, findings: &mut Findings) -> Result<Option<ActionId>, Denial> {
        let deciding = admit(&self.line, &self.rehearsal.snapshot, call, findings);
        tokio::pin!(deciding);
        loop {
            tokio::select! {
                biased;
                permit = &mut deciding => return permit.map(|permit| self.forward(permit)),
                // It waits, and the only clock there is stands still.
                () = tokio::task::yield_now() => self.hand.advance(WAITING),
            }
        }
    }

    /// The API answers an admitted call at once: one that may start an action has started one, which does not end by
    /// itself.
    fn forward(&self, mut permit: Permit) -> Option<ActionId> {
        permit.forwarded();
        let Answer::Started(_) = permit.answer() else { return None };
        let id = ActionId::parse(&uuid::Uuid::new_v4().to_string())?;
        permit.opened(&id, &self.line.clock);
        Some(id)
    }
}

// === impl Call ===

impl Request for Call {
    fn head(&self) -> RequestHead<'_> {
        let Self { method, target, headers, address, .. } = self;
        RequestHead { method, target, headers, address: *address }
    }

    async fn read_body(&mut self, max: usize) -> Result<Bytes, Denial> {
        // One that comes in pieces has no length before it has come.
        let pieces = self.headers.contains_key(TRANSFER_ENCODING);
        let declared = self.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let declared = if pieces { None } else { declared.or(Some(self.body.len())) };
        let max = check_length(declared, max)?;
        if self.body.len() > max { Err(BodyError::TooLarge { max }.into()) } else { Ok(self.body.clone()) }
    }
}
