//! What the door counts: connections, and requests that it let in or turned away.

use prometheus::IntGauge;

use super::Metrics;

/// One request being served: counted in `tollgate_requests_in_flight` for as long as it lives.
#[derive(Debug)]
#[must_use = "the request counts as in flight only while this lives"]
pub struct InFlight(IntGauge);

/// One connection of a client: counted in `tollgate_connections` for as long as it lives.
#[derive(Debug)]
#[must_use = "the connection counts as open only while this lives"]
pub struct OpenConnection(IntGauge);

/// Why a connection was closed as soon as it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedConnection {
    /// There are as many as there may be.
    Total,
    /// There are as many of its address as there may be.
    Address,
    /// A balancer did not say where it comes from.
    Proxy,
}

// === impl RefusedConnection ===

impl RefusedConnection {
    /// Its word among the labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Address => "address",
            Self::Proxy => "proxy",
        }
    }
}

// === impl Metrics ===

impl Metrics {
    /// Counts a request as in flight until the guard is dropped.
    pub fn in_flight(&self) -> InFlight {
        let gauge = self.0.families.in_flight.clone();
        gauge.inc();
        InFlight(gauge)
    }

    /// How many requests are in flight now.
    pub fn requests_in_flight(&self) -> i64 {
        self.0.families.in_flight.get()
    }

    /// Counts a connection as open until the guard is dropped.
    pub fn connection(&self) -> OpenConnection {
        let gauge = self.0.families.connections.clone();
        gauge.inc();
        OpenConnection(gauge)
    }

    /// How many connections are open now.
    pub fn connections(&self) -> i64 {
        self.0.families.connections.get()
    }

    /// Counts a connection that was closed as soon as it was accepted.
    pub fn refused_connection(&self, reason: RefusedConnection) {
        self.0.families.refused_connections.with_label_values(&[reason.as_str()]).inc();
    }

    /// Counts a request that was refused before policy. `kind` is a word of the caller's source, never of a request.
    pub fn malformed(&self, kind: &'static str) {
        self.0.families.malformed.with_label_values(&[kind]).inc();
    }

    /// Counts a request that ended in a panic.
    pub fn panicked(&self) {
        self.0.families.panics.inc();
    }
}

// === impl InFlight ===

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

// === impl OpenConnection ===

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
