//! How a line of the table of metrics becomes a metric of the Prometheus library.

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// One metric as the README's table lists it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricInfo {
    /// The name, beginning with `tollgate_`.
    pub name: &'static str,
    /// What it may do between two scrapes.
    pub kind: MetricKind,
    /// One sentence.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// The upper bounds of a histogram's buckets, in seconds; empty for the others.
    pub buckets: &'static [f64],
}

/// The kinds of metric that Prometheus knows and Tollgate has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows, from zero at the start of the process.
    Counter,
    /// It grows and shrinks.
    Gauge,
    /// Observations counted by size, each bucket with those below it.
    Histogram,
}

/// A type of the Prometheus library that a line of the table can be made into.
pub(super) trait Family: Collector + Clone + Sized + 'static {
    const KIND: MetricKind;

    fn create(info: &MetricInfo) -> Result<Self, prometheus::Error>;
}

// === impl MetricInfo ===

impl MetricInfo {
    pub(super) const fn of<F: Family>(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        buckets: &'static [f64],
    ) -> Self {
        Self { name, kind: F::KIND, help, labels, buckets }
    }

    /// Makes the metric and registers it.
    pub(super) fn register<F: Family>(&self, registry: &Registry) -> Result<F, prometheus::Error> {
        let family = F::create(self)?;
        registry.register(Box::new(family.clone()))?;
        Ok(family)
    }

    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }

    fn histogram_opts(&self) -> HistogramOpts {
        HistogramOpts::new(self.name, self.help).buckets(self.buckets.to_vec())
    }
}

// === impl MetricKind ===

impl MetricKind {
    /// The word, as the text format writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

// === impl Family ===

macro_rules! family {
    ($type:ty, $kind:ident, $create:expr) => {
        impl Family for $type {
            const KIND: MetricKind = MetricKind::$kind;

            fn create(info: &MetricInfo) -> Result<Self, prometheus::Error> {
                let create: fn(&MetricInfo) -> Result<Self, prometheus::Error> = $create;
                create(info)
            }
        }
    };
}

family!(IntCounter, Counter, |info| Self::with_opts(info.opts()));
family!(IntCounterVec, Counter, |info| Self::new(info.opts(), info.labels));
family!(IntGauge, Gauge, |info| Self::with_opts(info.opts()));
family!(IntGaugeVec, Gauge, |info| Self::new(info.opts(), info.labels));
family!(GaugeVec, Gauge, |info| Self::new(info.opts(), info.labels));
family!(Histogram, Histogram, |info| Self::with_opts(info.histogram_opts()));
family!(HistogramVec, Histogram, |info| Self::new(info.histogram_opts(), info.labels));
