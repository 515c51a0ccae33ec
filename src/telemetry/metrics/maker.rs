//! Where metrics are made.

use std::sync::Arc;

use prometheus::{Error, Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Opts};

use super::cost::Dollars;
use super::exposition::{Exposition, Family, Sample};

pub(super) type Counters = Arc<Family<IntCounter>>;
pub(super) type DollarCounters = Arc<Family<Dollars>>;
pub(super) type Gauges = Arc<Family<IntGauge>>;
pub(super) type Ratios = Arc<Family<Gauge>>;
pub(super) type Histograms = Arc<Family<Histogram>>;

/// Makes metrics with our prefix, and has them shown.
#[derive(Default)]
pub(super) struct Maker {
    pub(super) exposition: Exposition,
}

impl Maker {
    fn family<M: Sample>(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        make: impl Fn(Opts) -> Result<M, Error> + Send + Sync + 'static,
    ) -> Result<Arc<Family<M>>, Error> {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        let family = Arc::new(Family::new(Opts::new(name, help).namespace("tollgate").variable_labels(labels), make)?);
        self.exposition.add(Arc::clone(&family))?;
        Ok(family)
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) -> Result<IntCounter, Error> {
        Ok(self.counters(name, help, &[])?.with_label_values(&[]))
    }

    pub(super) fn counters(&mut self, name: &str, help: &str, labels: &[&str]) -> Result<Counters, Error> {
        self.family(name, help, labels, IntCounter::with_opts)
    }

    pub(super) fn dollars(&mut self, name: &str, help: &str, labels: &[&str]) -> Result<DollarCounters, Error> {
        self.family(name, help, labels, Dollars::new)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Result<IntGauge, Error> {
        Ok(self.gauges(name, help, &[])?.with_label_values(&[]))
    }

    pub(super) fn gauges(&mut self, name: &str, help: &str, labels: &[&str]) -> Result<Gauges, Error> {
        self.family(name, help, labels, IntGauge::with_opts)
    }

    pub(super) fn ratio(&mut self, name: &str, help: &str) -> Result<Gauge, Error> {
        Ok(self.ratios(name, help, &[])?.with_label_values(&[]))
    }

    pub(super) fn ratios(&mut self, name: &str, help: &str, labels: &[&str]) -> Result<Ratios, Error> {
        self.family(name, help, labels, Gauge::with_opts)
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, buckets: &'static [f64]) -> Result<Histogram, Error> {
        Ok(self.histograms(name, help, &[], buckets)?.with_label_values(&[]))
    }

    pub(super) fn histograms(&mut self, name: &str, help: &str, labels: &[&str], buckets: &'static [f64]) -> Result<Histograms, Error> {
        self.family(name, help, labels, |options| Histogram::with_opts(HistogramOpts::from(options).buckets(buckets.to_vec())))
    }

    /// Memory, CPU time, file descriptors and threads of this process, under the names every dashboard knows. The
    /// collector exists on Linux only.
    #[cfg(target_os = "linux")]
    pub(super) fn process(&mut self) -> Result<(), Error> {
        self.exposition.collected.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn process(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
