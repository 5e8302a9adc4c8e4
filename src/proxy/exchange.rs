//! What one request carries between Pingora's phases.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::BytesMut;

use crate::admit::Permit;
use crate::denial::Denial;
use crate::id::RequestId;
use crate::outcome::{Decision, Findings, Outcome, ReasonCode};
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::InFlight;
use crate::time::{Clock, Steady, Wall};

/// The CTX of one request.
#[derive(Debug)]
pub struct Exchange {
    pub(super) id: RequestId,
    pub(super) client_id: Option<Arc<str>>,
    pub(super) address: Option<IpAddr>,
    received: Wall,
    started: Steady,
    /// The policy set that this request is decided by, from its first phase to its last.
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) found: Findings,
    /// Present from the decision to the end; without it there is no upstream.
    pub(super) permit: Option<Permit>,
    decided: Option<(Decision, Steady)>,
    pub(super) reason: Option<ReasonCode>,
    forwarded: Option<Steady>,
    answered: Option<(u16, Steady)>,
    /// The API's answer to a call that starts an action, as far as it came.
    pub(super) captured: Option<BytesMut>,
    _in_flight: InFlight,
}

impl Exchange {
    pub(super) fn new(snapshot: Arc<Snapshot>, in_flight: InFlight, clock: &Clock) -> Self {
        Self {
            id: RequestId::random(),
            client_id: None,
            address: None,
            received: clock.wall(),
            started: clock.steady(),
            snapshot,
            found: Findings::default(),
            permit: None,
            decided: None,
            reason: None,
            forwarded: None,
            answered: None,
            captured: None,
            _in_flight: in_flight,
        }
    }

    /// The line let it through.
    pub(super) fn admitted(&mut self, permit: Permit, now: Steady) {
        self.permit = Some(permit);
        self.decided = Some((Decision::Admitted, now));
    }

    /// The line, or something before or after it, did not.
    pub(super) fn refused(&mut self, denial: &Denial, now: Steady) {
        // Gives the charge back.
        self.permit = None;
        self.reason = Some(denial.reason());
        if let Some(standings) = denial.standings() {
            self.found.standings = standings.clone();
        }
        self.decided = Some((Decision::Refused, self.decided.map_or(now, |(_, at)| at)));
    }

    /// It was let through, and then went wrong.
    pub(super) fn failed(&mut self, denial: &Denial) {
        self.reason = Some(denial.reason());
    }

    /// The next thing that happens is that the upstream gets its first byte.
    pub(super) fn forwarded(&mut self, now: Steady) {
        if let Some(permit) = &mut self.permit {
            permit.forwarded();
        }
        self.forwarded = Some(now);
    }

    pub(super) fn is_forwarded(&self) -> bool {
        self.forwarded.is_some()
    }

    pub(super) fn answered(&mut self, status: u16, now: Steady) {
        self.answered = Some((status, now));
    }

    /// Everything that is known by now.
    pub(super) fn outcome(&self, now: Steady) -> Outcome {
        // A request that was never decided ended before the line could: its caller went away.
        let (decision, decided_at) = self.decided.unwrap_or((Decision::Refused, now));
        Outcome {
            request_id: self.id,
            client_request_id: self.client_id.clone(),
            received: self.received,
            address: self.address,
            policy_version: self.snapshot.version.clone(),
            decision,
            reason: self.reason,
            findings: self.found.clone(),
            admission: decided_at.since(self.started),
            upstream_status: self.answered.map(|(status, _)| status),
            upstream_latency: self.answered.zip(self.forwarded).map(|((_, end), start)| end.since(start)),
            total: now.since(self.started),
        }
    }
}
