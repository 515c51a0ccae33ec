//! What is written is what the library's own encoder writes.

use prometheus::core::Collector;
use prometheus::{Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const LABELS: [&str; 3] = ["org", "model", "kind"];

fn options() -> Opts {
    Opts::new("things_total", "Things, \"quoted\", on\ntwo lines \\ and more.")
}

fn family<M: Sample>(make: impl Fn(Opts) -> Result<M, Error> + Send + Sync + 'static) -> Family<M> {
    Family::new(options().variable_labels(LABELS.map(str::to_owned).to_vec()), make).unwrap()
}

/// Lines in any order: those of a family stand together, and the library's order is by value.
fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    lines.sort();
    lines
}

#[track_caller]
fn assert_same<M: Sample>(ours: &Family<M>, theirs: &impl Collector) {
    let mut text = String::new();
    ours.write(&mut text);
    let families: Vec<_> = theirs.collect().into_iter().filter(|family| !family.get_metric().is_empty()).collect();
    let expected = TextEncoder::new().encode_to_string(&families).unwrap();
    assert_eq!(sorted(&text), sorted(&expected));
}

/// What may stand in a label: anything, and more often what must be escaped.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a\\\\\"\n{},=# é\u{2028}\u{0}\r]{0,12}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_what_the_library_writes(
        seen in vec(([hostile(), hostile(), hostile()], 0..1_u64 << 53, any::<f64>()), 0..8),
        observed in vec(-1.0..1e12_f64, 0..8),
    ) {
        let counters = (family(IntCounter::with_opts), IntCounterVec::new(options(), &LABELS).unwrap());
        let gauges = (family(Gauge::with_opts), GaugeVec::new(options(), &LABELS).unwrap());
        let buckets = || HistogramOpts::from(options()).buckets(vec![0.000_05, 0.25, 1.0, 1800.0]);
        let histograms = (
            family(move |plain| Histogram::with_opts(HistogramOpts { common_opts: plain, ..buckets() })),
            HistogramVec::new(buckets(), &LABELS).unwrap(),
        );
        for (labels, count, value) in &seen {
            let labels = labels.each_ref().map(String::as_str);
            counters.0.with_label_values(&labels).inc_by(count / 8);
            counters.1.with_label_values(&labels).inc_by(count / 8);
            gauges.0.with_label_values(&labels).set(*value);
            gauges.1.with_label_values(&labels).set(*value);
            for value in &observed {
                histograms.0.with_label_values(&labels).observe(*value);
                histograms.1.with_label_values(&labels).observe(*value);
            }
        }
        assert_same(&counters.0, &counters.1);
        assert_same(&gauges.0, &gauges.1);
        assert_same(&histograms.0, &histograms.1);
    }
}

#[test]
fn a_family_without_labels_is_written_as_the_library_writes_it() {
    let ours = Family::new(options(), IntCounter::with_opts).unwrap();
    let theirs = IntCounterVec::new(options(), &[]).unwrap();
    assert_same(&ours, &theirs);
    ours.with_label_values(&[]).inc_by(7);
    theirs.with_label_values::<&str>(&[]).inc_by(7);
    assert_same(&ours, &theirs);

    let options = || HistogramOpts::from(options()).buckets(vec![0.5, 1.0]);
    let (ours, theirs) =
        (Family::new(options().common_opts, move |_| Histogram::with_opts(options())).unwrap(), Histogram::with_opts(options()).unwrap());
    ours.with_label_values(&[]).observe(0.7);
    theirs.observe(0.7);
    assert_same(&ours, &theirs);
}

#[test]
fn what_is_removed_is_shown_no_more_and_begins_anew() {
    let ours = family(IntCounter::with_opts);
    let labels = ["a\"b", "m", "k"];
    ours.with_label_values(&labels).inc_by(3);
    ours.with_label_values(&["other", "m", "k"]).inc();
    ours.remove_label_values(&labels);
    let text = || {
        let mut text = String::new();
        ours.write(&mut text);
        text
    };
    assert!(!text().contains("a\\\"b"), "{}", text());
    ours.with_label_values(&labels).inc();
    assert!(text().contains("things_total{kind=\"k\",model=\"m\",org=\"a\\\"b\"} 1\n"), "{}", text());
}

#[test]
fn two_families_of_one_name_are_an_error() {
    let mut exposition = Exposition::default();
    let family = || Arc::new(family(IntCounter::with_opts));
    assert!(exposition.add(family()).is_ok());
    assert!(exposition.add(family()).is_err());
}
