//! Metrics as the text that Prometheus reads.
//!
//! The library defines metrics, finds them by their labels and counts. Its own way to the text copies each label of each series
//! at every scrape, sorts the copies and escapes them again, which took most of the time of a scrape. Here a series has its
//! labels written out once, when it is made, and a scrape adds nothing but the numbers. What is written is the same, and a
//! property test holds it to the library's encoder.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::{self, Debug, Display, Write as _};
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus::core::{Atomic, Desc, Describer as _, GenericCounter, GenericGauge, Metric, MetricVec, MetricVecBuilder};
use prometheus::proto::MetricType;
use prometheus::{Error, Histogram, Opts, Registry, TextEncoder};

/// All that is shown, by name.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    /// What the library collects by itself when it is asked.
    pub(super) collected: Registry,
    families: BTreeMap<String, Arc<dyn Written>>,
}

impl Exposition {
    /// Fails where there is a family of this name already.
    pub(super) fn add<M: Sample>(&mut self, family: Arc<Family<M>>) -> Result<(), Error> {
        match self.families.entry(family.desc.fq_name.clone()) {
            Entry::Occupied(_) => Err(Error::AlreadyReg),
            Entry::Vacant(place) => {
                place.insert(family);
                Ok(())
            }
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.collected.gather(), &mut text) {
            tracing::error!(error = %error, "what is collected cannot be shown");
        }
        for family in self.families.values() {
            family.write(&mut text);
        }
        text
    }
}

/// Series by their labels, as text and in the order of the text. A scrape takes this as it is and writes without a lock, so that
/// nobody who counts has to wait for it; a series that comes meanwhile begins a copy.
type Shown<M> = Arc<RwLock<Arc<BTreeMap<Arc<str>, M>>>>;

/// The series of one name.
pub(super) struct Family<M: Sample> {
    desc: Desc,
    series: MetricVec<Keeper<M>>,
    shown: Shown<M>,
}

impl<M: Sample> Family<M> {
    /// Of these options, with their variable labels; `make` is asked for each series, without them.
    pub(super) fn new(options: Opts, make: impl Fn(Opts) -> Result<M, Error> + Send + Sync + 'static) -> Result<Self, Error> {
        let shown = Shown::default();
        let keeper = Keeper { make: Arc::new(make), shown: Arc::clone(&shown) };
        Ok(Self { desc: options.describe()?, series: MetricVec::create(M::TYPE, keeper, options)?, shown })
    }

    /// The series with these values, in the order of the label names.
    pub(super) fn with_label_values(&self, values: &[&str]) -> M {
        self.series.with_label_values(values)
    }

    /// The series with these values is shown no more.
    pub(super) fn remove_label_values(&self, values: &[&str]) {
        Arc::make_mut(&mut self.shown.write()).remove(&*labels(&self.desc.variable_labels, values));
        // Now, and not before: whoever asks for it after this makes it anew, and shows it.
        let _ = self.series.remove_label_values(values);
    }
}

impl<M: Sample> Debug for Family<M> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Family").field("name", &self.desc.fq_name).finish_non_exhaustive()
    }
}

/// Makes the series of a family, and keeps each with its labels.
struct Keeper<M> {
    make: Arc<dyn Fn(Opts) -> Result<M, Error> + Send + Sync>,
    shown: Shown<M>,
}

impl<M> Clone for Keeper<M> {
    fn clone(&self) -> Self {
        Self { make: Arc::clone(&self.make), shown: Arc::clone(&self.shown) }
    }
}

impl<M: Sample> MetricVecBuilder for Keeper<M> {
    type M = M;
    type P = Opts;

    fn build<V: AsRef<str>>(&self, options: &Opts, values: &[V]) -> Result<M, Error> {
        let metric = (self.make)(options.clone().variable_labels(Vec::new()))?;
        Arc::make_mut(&mut self.shown.write()).insert(labels(&options.variable_labels, values), metric.clone());
        Ok(metric)
    }
}

/// Labels as they stand between the braces, by name.
fn labels<V: AsRef<str>>(names: &[String], values: &[V]) -> Arc<str> {
    let escaped = |value: &V| value.as_ref().replace('\\', r"\\").replace('\n', r"\n").replace('"', r#"\""#);
    let mut pairs: Vec<String> = names.iter().zip(values).map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    pairs.sort_unstable();
    pairs.join(",").into()
}

/// What [`Exposition`] has of a family.
trait Written: Debug + Send + Sync {
    fn write(&self, text: &mut String);
}

impl<M: Sample> Written for Family<M> {
    /// Its head and its series; nothing where there are none.
    fn write(&self, text: &mut String) {
        let shown = Arc::clone(&self.shown.read());
        if shown.is_empty() {
            return;
        }
        let name = &self.desc.fq_name;
        let help = self.desc.help.replace('\\', r"\\").replace('\n', r"\n");
        let of_type = format!("{:?}", M::TYPE).to_lowercase();
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {of_type}");
        for (labels, metric) in &*shown {
            metric.write(&mut Lines { text, name, labels });
        }
    }
}

/// A metric that writes its own lines.
pub(super) trait Sample: Metric + 'static {
    const TYPE: MetricType;

    fn write(&self, lines: &mut Lines<'_>);
}

impl<P: Atomic<T: Display> + 'static> Sample for GenericCounter<P> {
    const TYPE: MetricType = MetricType::COUNTER;

    fn write(&self, lines: &mut Lines<'_>) {
        lines.value("", self.get());
    }
}

impl<P: Atomic<T: Display> + 'static> Sample for GenericGauge<P> {
    const TYPE: MetricType = MetricType::GAUGE;

    fn write(&self, lines: &mut Lines<'_>) {
        lines.value("", self.get());
    }
}

impl Sample for Histogram {
    const TYPE: MetricType = MetricType::HISTOGRAM;

    fn write(&self, lines: &mut Lines<'_>) {
        let metric = self.metric();
        let seen = metric.get_histogram();
        for bucket in seen.get_bucket() {
            lines.bucket(bucket.upper_bound(), bucket.cumulative_count());
        }
        lines.bucket("+Inf", seen.get_sample_count());
        lines.value("_sum", seen.get_sample_sum());
        lines.value("_count", seen.get_sample_count());
    }
}

/// Where the lines of one series go.
pub(super) struct Lines<'a> {
    text: &'a mut String,
    name: &'a str,
    labels: &'a str,
}

impl Lines<'_> {
    /// A line of this series, under its name with this ending.
    pub(super) fn value(&mut self, ending: &str, value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(ending);
        if !self.labels.is_empty() {
            self.text.push('{');
            self.text.push_str(self.labels);
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn bucket(&mut self, bound: impl Display, count: u64) {
        let comma = if self.labels.is_empty() { "" } else { "," };
        let _ = writeln!(self.text, "{}_bucket{{{}{comma}le=\"{bound}\"}} {count}", self.name, self.labels);
    }
}

#[cfg(test)]
mod tests;
