//! Money as a metric. It is counted in integer nano-dollars like everywhere else; dollars, which dashboards expect, are
//! made of them only when they are shown.

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, MetricFamily};
use prometheus::{IntCounterVec, Opts};

const NANOS_PER_DOLLAR: f64 = 1e9;

/// A counter of dollars that holds nano-dollars.
#[derive(Debug, Clone)]
pub struct DollarCounterVec {
    nanos: IntCounterVec,
}

impl DollarCounterVec {
    /// A counter with these labels.
    pub fn new(options: Opts, labels: &[&str]) -> Result<Self, prometheus::Error> {
        Ok(Self { nanos: IntCounterVec::new(options, labels)? })
    }

    /// Adds nano-dollars under these label values, in the order of the labels.
    pub fn add(&self, labels: &[&str], nano_dollars: u64) {
        self.nanos.with_label_values(labels).inc_by(nano_dollars);
    }
}

impl Collector for DollarCounterVec {
    fn desc(&self) -> Vec<&Desc> {
        self.nanos.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.nanos.collect();
        for metric in families.iter_mut().flat_map(MetricFamily::mut_metric) {
            let mut dollars = Counter::default();
            dollars.set_value(metric.get_counter().get_value() / NANOS_PER_DOLLAR);
            metric.set_counter(dollars);
        }
        families
    }
}
