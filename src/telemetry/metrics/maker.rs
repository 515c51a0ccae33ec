//! Where metrics are made.

use prometheus::core::Collector;
use prometheus::{
    Error, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::telemetry::cost::DollarCounterVec;

/// Makes metrics with our prefix and registers them.
pub(super) struct Maker {
    pub(super) registry: Registry,
}

impl Maker {
    fn register<M: Collector + Clone + 'static>(&self, metric: M) -> Result<M, Error> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.register(IntCounter::with_opts(options(name, help))?)
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.register(IntCounterVec::new(options(name, help), labels)?)
    }

    pub(super) fn dollars(&self, name: &str, help: &str, labels: &[&str]) -> Result<DollarCounterVec, Error> {
        self.register(DollarCounterVec::new(options(name, help), labels)?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.register(IntGauge::with_opts(options(name, help))?)
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        self.register(IntGaugeVec::new(options(name, help), labels)?)
    }

    pub(super) fn ratio(&self, name: &str, help: &str) -> Result<Gauge, Error> {
        self.register(Gauge::with_opts(options(name, help))?)
    }

    pub(super) fn ratios(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, Error> {
        self.register(GaugeVec::new(options(name, help), labels)?)
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
        self.register(Histogram::with_opts(HistogramOpts::from(options(name, help)).buckets(buckets.to_vec()))?)
    }

    pub(super) fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Result<HistogramVec, Error> {
        self.register(HistogramVec::new(HistogramOpts::from(options(name, help)).buckets(buckets.to_vec()), labels)?)
    }

    /// Memory, CPU time, file descriptors and threads of this process, under the names every dashboard knows. The
    /// collector exists on Linux only.
    #[cfg(target_os = "linux")]
    pub(super) fn process(&self) -> Result<(), Error> {
        self.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn process(&self) -> Result<(), Error> {
        Ok(())
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("tollgate")
}
