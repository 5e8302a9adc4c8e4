//! What one request carries between Pingora's phases.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use crate::admit::Permit;
use crate::denial::Denial;
use crate::id::RequestId;
use crate::outcome::{Decision, Findings, Outcome};
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::InFlight;
use crate::time::{Clock, Steady};

/// The CTX of one request.
#[derive(Debug)]
pub struct Exchange {
    /// What is known so far, for the gallery.
    pub(super) outcome: Outcome,
    /// The policy set that this request is decided by, from its first phase to its last.
    pub(super) snapshot: Arc<Snapshot>,
    /// Present from the decision to the end; without it there is no upstream.
    pub(super) permit: Option<Permit>,
    /// The API's answer to a call that starts an action, as far as it came.
    pub(super) captured: Option<BytesMut>,
    started: Steady,
    forwarded: Option<Steady>,
    _in_flight: InFlight,
}

impl Exchange {
    /// A request that has just arrived. Until the line has let it through it counts as refused: if it ends before, its
    /// caller went away.
    pub(super) fn new(snapshot: Arc<Snapshot>, in_flight: InFlight, clock: &Clock) -> Self {
        let outcome = Outcome {
            request_id: RequestId::random(),
            client_request_id: None,
            received: clock.wall(),
            address: None,
            policy_version: snapshot.version.clone(),
            decision: Decision::Refused,
            reason: None,
            findings: Findings::default(),
            admission: Duration::ZERO,
            upstream_status: None,
            upstream_latency: None,
            total: Duration::ZERO,
        };
        let started = clock.steady();
        Self {
            outcome,
            snapshot,
            permit: None,
            captured: None,
            started,
            forwarded: None,
            _in_flight: in_flight,
        }
    }

    pub(super) fn id(&self) -> RequestId {
        self.outcome.request_id
    }

    /// The line let it through.
    pub(super) fn admitted(&mut self, permit: Permit, now: Steady) {
        self.permit = Some(permit);
        self.outcome.decision = Decision::Admitted;
        self.outcome.admission = now.since(self.started);
    }

    /// The line, or something before or after it, did not.
    pub(super) fn refused(&mut self, denial: &Denial, now: Steady) {
        // Gives the charge back.
        self.permit = None;
        self.outcome.decision = Decision::Refused;
        self.outcome.reason = Some(denial.reason());
        self.outcome.admission = now.since(self.started);
    }

    /// It was let through, and then went wrong.
    pub(super) fn failed(&mut self, denial: &Denial) {
        if self.forwarded.is_none() {
            // No byte left: nothing is charged.
            self.permit = None;
        }
        self.outcome.reason = Some(denial.reason());
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

    /// The header of the API's answer is here.
    pub(super) fn answered(&mut self, status: u16, now: Steady) {
        self.outcome.upstream_status = Some(status);
        self.outcome.upstream_latency = self.forwarded.map(|start| now.since(start));
    }

    /// It is over.
    pub(super) fn ended(&mut self, now: Steady) -> &Outcome {
        self.outcome.total = now.since(self.started);
        &self.outcome
    }
}
