//! Money as a metric. It is counted in integer nano-dollars like everywhere else; dollars, which dashboards expect, are
//! made of them only when they are shown.

use prometheus::core::Metric;
use prometheus::proto::{self, MetricType};
use prometheus::{Error, IntCounter, Opts};

use super::exposition::{Lines, Sample};

const NANOS_PER_DOLLAR: f64 = 1e9;

/// A counter of dollars that holds nano-dollars.
#[derive(Clone)]
pub(super) struct Dollars {
    nanos: IntCounter,
}

impl Dollars {
    pub(super) fn new(options: Opts) -> Result<Self, Error> {
        Ok(Self { nanos: IntCounter::with_opts(options)? })
    }

    pub(super) fn add_nanos(&self, nano_dollars: u64) {
        self.nanos.inc_by(nano_dollars);
    }

    #[expect(clippy::cast_precision_loss, reason = "only shown, never used to charge")]
    fn dollars(&self) -> f64 {
        self.nanos.get() as f64 / NANOS_PER_DOLLAR
    }
}

impl Metric for Dollars {
    fn metric(&self) -> proto::Metric {
        let mut dollars = proto::Counter::default();
        dollars.set_value(self.dollars());
        let mut metric = proto::Metric::default();
        metric.set_counter(dollars);
        metric
    }
}

impl Sample for Dollars {
    const TYPE: MetricType = MetricType::COUNTER;

    fn write(&self, lines: &mut Lines<'_>) {
        lines.value("", self.dollars());
    }
}
