//! What one request carries between Pingora's phases.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pingora::http::RequestHeader;

use super::circuit::Passage;
use super::client::Link;
use super::incoming;
use super::links::LinkRewriter;
use super::load::Burden;
use super::statuses::StatusReader;
use super::succession::Relay;
use super::upload::Upload;
use super::upstream::Target;
use crate::admit::Permit;
use crate::denial::{Denial, Malformed};
use crate::id::RequestId;
use crate::limit::Lane;
use crate::outcome::{Decision, Findings, Outcome};
use crate::principal::Subject;
use crate::snapshot::Snapshot;
use crate::telemetry::audit::Audit;
use crate::telemetry::metrics::{InFlight, Metrics};
use crate::time::{Clock, Steady};

/// Where every request is entered at its end.
#[derive(Debug)]
pub struct Books {
    /// What Prometheus sees.
    pub metrics: Metrics,
    /// The trail of decisions, if one is kept.
    pub audit: Option<Audit>,
}

/// The CTX of one request. It is entered in the books when it ends, however it ends.
#[derive(Debug)]
pub struct Exchange {
    /// What is known so far, for the gallery.
    pub(super) outcome: Outcome,
    /// Present while it counts among those that there may be at once.
    pub(super) burden: Option<Burden>,
    /// The policy set that this request is decided by, from its first phase to its last.
    pub(super) snapshot: Arc<Snapshot>,
    /// Present from the decision to the end; without it there is no upstream.
    pub(super) permit: Option<Permit>,
    /// Present from the decision until it is known whether the upstream answers.
    pub(super) passage: Option<Passage>,
    /// Present if it is another process's to decide.
    pub(super) relay: Option<Relay>,
    /// Which of the upstream's addresses is tried.
    pub(super) target: Option<Arc<Target>>,
    /// The API's answer to a call that starts an action, as far as it came.
    pub(super) captured: Option<BytesMut>,
    /// What reads the API's answer to a call that shows actions, if any is counted.
    pub(super) statuses: Option<StatusReader>,
    /// What reads the links of the API's answer, if it may have some.
    pub(super) links: Option<LinkRewriter>,
    /// The connection that it came on; none over HTTP/2.
    pub(super) link: Option<Arc<Link>>,
    /// Its body over HTTP/2, if it has one.
    pub(super) upload: Option<Arc<Upload>>,
    /// What is wrong with its bytes.
    malformed: Option<Malformed>,
    started: Steady,
    forwarded: Option<Steady>,
    clock: Clock,
    books: Arc<Books>,
    entry: Entry,
    _in_flight: InFlight,
}

/// Whether a request is in the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Due,
    Made,
}

impl Exchange {
    /// A request that has just arrived. Until the line has let it through it counts as refused: if it ends before, its
    /// caller went away.
    pub(super) fn new(snapshot: Arc<Snapshot>, books: Arc<Books>, clock: Clock) -> Self {
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
            burden: None,
            snapshot,
            permit: None,
            passage: None,
            relay: None,
            target: None,
            captured: None,
            statuses: None,
            links: None,
            link: None,
            upload: Upload::current(),
            malformed: None,
            started,
            forwarded: None,
            clock,
            _in_flight: books.metrics.in_flight(),
            books,
            entry: Entry::Due,
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

    /// It is another process's to decide, and to enter in the books.
    pub(super) fn relayed(&mut self, relay: Relay) {
        self.relay = Some(relay);
        self.entry = Entry::Made;
    }

    /// The process that was to decide is gone, and may never have heard of it.
    pub(super) fn orphaned(&mut self) {
        self.relay = None;
        self.entry = Entry::Due;
    }

    /// The line, or something before or after it, did not.
    pub(super) fn refused(&mut self, denial: &Denial, now: Steady) {
        // Gives the charge back, and its place to the next.
        (self.permit, self.burden) = (None, None);
        self.outcome.decision = Decision::Refused;
        self.because(denial);
        self.outcome.admission = now.since(self.started);
    }

    /// It was let through, and then went wrong.
    pub(super) fn failed(&mut self, denial: &Denial) {
        if self.forwarded.is_none() {
            // No byte left: nothing is charged.
            self.permit = None;
        }
        self.burden = None;
        self.because(denial);
    }

    fn because(&mut self, denial: &Denial) {
        self.outcome.reason = Some(denial.reason());
        if let Denial::Malformed(malformed) = denial {
            self.malformed = Some(*malformed);
        }
    }

    /// The next thing that happens is that the upstream gets its first byte.
    pub(super) fn forwarded(&mut self, now: Steady) {
        if let Some(permit) = &mut self.permit {
            permit.forwarded();
        }
        self.forwarded = Some(now);
    }

    /// Its body streams from here on.
    pub(super) fn begin_upload(&self, request: &RequestHeader) {
        if let Some(upload) = &self.upload {
            upload.begin(incoming::length(request));
        }
    }

    pub(super) fn is_forwarded(&self) -> bool {
        self.forwarded.is_some()
    }

    /// Which calls the API tells this one apart from no further; none before it is known whose it is.
    pub(super) fn lane(&self) -> Option<Lane> {
        let Findings { operation, principal, .. } = &self.outcome.findings;
        let Subject { tenant, application, .. } = principal.as_ref()?.subject;
        Some(Lane { operation: operation.clone()?, tenant, application })
    }

    /// The header of the API's answer is here.
    pub(super) fn answered(&mut self, status: u16, now: Steady) {
        self.outcome.upstream_status = Some(status);
        self.outcome.upstream_latency = self.forwarded.map(|start| now.since(start));
    }

    /// It is over.
    pub(super) fn ended(&mut self) {
        if std::mem::replace(&mut self.entry, Entry::Made) == Entry::Made {
            return;
        }
        self.outcome.total = self.clock.steady().since(self.started);
        let Books { metrics, audit } = &*self.books;
        metrics.request(&self.outcome);
        if let Some(malformed) = self.malformed {
            metrics.malformed(malformed.as_str());
        }
        if let Some(audit) = audit {
            audit.finished(&self.outcome);
        }
    }
}

impl Drop for Exchange {
    /// One that did not come to its end otherwise: a panic, or it took longer than any request may, or its client gave
    /// its body too slowly.
    fn drop(&mut self) {
        if self.entry == Entry::Due && self.outcome.reason.is_none() {
            let slow = self.upload.as_ref().is_some_and(|upload| upload.was_too_slow());
            self.failed(&match self.forwarded {
                _ if std::thread::panicking() => Denial::Internal,
                _ if slow => Malformed::BodyTimeout.into(),
                Some(_) => Denial::UpstreamTimeout,
                None => Denial::ClientGone,
            });
        }
        self.ended();
    }
}
