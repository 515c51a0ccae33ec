//! Gauges of how the place does: what no request moves, and what is looked at every so often.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus::{Error, Gauge, IntGauge};

use super::Metrics;
use super::maker::{Gauges, Maker, Ratios};
use crate::limits::{Resource, Window};
use crate::telemetry::system::SystemSample;
use crate::telemetry::system::pressure::{Level, Part};

/// How full one cap of an org is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CapUse<'a> {
    /// The org's id.
    pub org: &'a str,
    /// What the cap counts.
    pub resource: Resource,
    /// In which window.
    pub window: Window,
    /// Use over the cap: 1 is all of it.
    pub ratio: f64,
}

/// The series of one cap: the org's label, the resource, the window.
type CapLabels = (String, &'static str, &'static str);

#[derive(Debug)]
pub(super) struct PlaceGauges {
    limit_used: Ratios,
    /// The caps that are shown.
    shown_caps: Mutex<BTreeSet<CapLabels>>,
    generation_oldest: IntGauge,
    upstream_up: Gauges,
    observing: Gauges,
    series: IntGauge,
    /// Without labels, and a vector all the same: where nothing is encrypted here, nothing is shown.
    certificate_expires: Gauges,
    system_cpu: Gauge,
    system_memory: Gauge,
    system_disk: Gauge,
    system_load: [Gauge; 3],
    system_level: Gauges,
}

impl PlaceGauges {
    pub(super) fn new(maker: &mut Maker) -> Result<Self, Error> {
        let load = |maker: &mut Maker, minutes: u8| {
            maker.ratio(&format!("system_load{minutes}"), &format!("Load average of the machine over {minutes} min."))
        };
        Ok(Self {
            limit_used: maker.ratios(
                "limit_used_ratio",
                "What an org has used of its own caps in their current day or month; 1 is all of it.",
                &["org", "resource", "window"],
            )?,
            shown_caps: Mutex::default(),
            generation_oldest: maker.gauge("generation_oldest_seconds", "How long ago the oldest open generation was admitted.")?,
            upstream_up: maker.gauges("upstream_up", "Whether a LibreChat answered when it was last asked.", &["upstream"])?,
            series: maker.gauge("metrics_series", "Series that were shown the last time; docs/performance.md has the bound.")?,
            observing: maker.gauges(
                "observing",
                "Whether limits are observed and refuse nobody: 1 where it is everybody's, and of how many orgs by themselves.",
                &["scope"],
            )?,
            certificate_expires: maker.gauges(
                "tls_certificate_expiry_timestamp_seconds",
                "When the certificate of the public listener expires; only where Tollgate itself ends TLS.",
                &[],
            )?,
            system_cpu: maker.ratio("system_cpu_ratio", "Processor time in use on the machine, of all cores together; 1 is all of it.")?,
            system_memory: maker.ratio("system_memory_ratio", "Memory in use on the machine; 1 is all of it.")?,
            system_disk: maker.ratio("system_disk_ratio", "Space in use on the disk that the journal lies on; 1 is all of it.")?,
            system_load: [load(maker, 1)?, load(maker, 5)?, load(maker, 15)?],
            system_level: maker.gauges(
                "system_level",
                "How short the machine is of something, by the thresholds of [system]: 0 normal, 1 warning, 2 critical.",
                &["resource"],
            )?,
        })
    }

    pub(super) fn shown(&self, series: usize) {
        self.series.set(i64::try_from(series).unwrap_or(i64::MAX));
    }
}

impl Metrics {
    /// How full the caps of all orgs are. What is not among them is shown no more. Orgs that share a label share the
    /// fullest of their caps.
    pub fn caps_used(&self, caps: &[CapUse<'_>]) {
        let gauges = &self.place;
        let mut fullest = BTreeMap::<CapLabels, f64>::new();
        for CapUse { org, resource, window, ratio } in caps {
            let label = (self.orgs.label(org).to_owned(), resource.as_str(), window.as_str());
            let most = fullest.entry(label).or_default();
            *most = most.max(*ratio);
        }
        let mut shown = gauges.shown_caps.lock();
        for (org, resource, window) in shown.iter().filter(|cap| !fullest.contains_key(*cap)) {
            gauges.limit_used.remove_label_values(&[org.as_str(), *resource, *window]);
        }
        for ((org, resource, window), ratio) in &fullest {
            gauges.limit_used.with_label_values(&[org.as_str(), *resource, *window]).set(*ratio);
        }
        *shown = fullest.into_keys().collect();
    }

    /// How long ago the oldest open generation was admitted; zero where none is open.
    pub fn generation_oldest(&self, age: Duration) {
        self.place.generation_oldest.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    }

    /// Whether a LibreChat answers. Its name is one that the configuration gives.
    pub fn upstream_up(&self, name: &str, up: bool) {
        self.place.upstream_up.with_label_values(&[name]).set(i64::from(up));
    }

    /// Whether the limits of everybody are observed, and those of how many orgs by themselves.
    pub fn observing(&self, everyone: bool, orgs: usize) {
        self.place.observing.with_label_values(&["everyone"]).set(i64::from(everyone));
        self.place.observing.with_label_values(&["org"]).set(i64::try_from(orgs).unwrap_or(i64::MAX));
    }

    /// When the certificate of the public listener expires.
    pub fn certificate_expires(&self, at: Timestamp) {
        self.place.certificate_expires.with_label_values(&[]).set(at.as_second());
    }

    /// How the machine does.
    pub fn system(&self, sample: &SystemSample) {
        let gauges = &self.place;
        gauges.system_cpu.set(sample.cpu_percent / 100.0);
        gauges.system_memory.set(sample.memory_ratio());
        gauges.system_disk.set(sample.disk_ratio());
        for (gauge, load) in gauges.system_load.iter().zip(sample.load) {
            gauge.set(load);
        }
    }

    /// How short the machine is of what.
    pub fn system_levels(&self, levels: impl IntoIterator<Item = (Part, Level)>) {
        for (part, level) in levels {
            self.place.system_level.with_label_values(&[part.as_str()]).set(level.number());
        }
    }
}
