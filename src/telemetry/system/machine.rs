//! The machine as this process has seen it lately.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::SystemSample;
use super::pressure::{Crossing, Level, Part, Pressure, Thresholds};
use crate::records::{AuditRow, Category, Severity};

/// So many samples are remembered, one a second: five minutes.
const REMEMBERED: usize = 300;

/// So many samples are one row.
const SAMPLES_A_ROW: u8 = 5;

/// What is known of the machine, and what is still to become a row.
#[derive(Debug)]
pub struct Machine {
    /// What rows call it.
    pub server: Arc<str>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    pressure: Pressure,
    samples: VecDeque<(Timestamp, SystemSample)>,
    /// The samples since the last row as one, and how many they are.
    unwritten: Option<(u8, SystemSample)>,
}

/// What follows from one sample.
#[derive(Debug, Default)]
pub struct Followed {
    /// What went from one level to another.
    pub crossings: Vec<Crossing>,
    /// The samples of the last seconds as one, once they are enough for a row.
    pub row: Option<SystemSample>,
}

impl Machine {
    /// A machine that nobody has looked at.
    pub fn new(server: Arc<str>, thresholds: Thresholds) -> Self {
        let seen = Seen { pressure: Pressure::new(thresholds), samples: VecDeque::with_capacity(REMEMBERED), unwritten: None };
        Self { server, seen: Mutex::new(seen) }
    }

    /// Takes in a sample.
    pub fn take(&self, now: Timestamp, sample: SystemSample) -> Followed {
        let mut seen = self.seen.lock();
        let crossings = seen.pressure.judge(&sample);
        let (count, sum) = match seen.unwritten.take() {
            Some((count, earlier)) => (count + 1, sample.clone().after(&earlier)),
            None => (1, sample.clone()),
        };
        if seen.samples.len() == REMEMBERED {
            seen.samples.pop_front();
        }
        seen.samples.push_back((now, sample));
        let row = if count < SAMPLES_A_ROW {
            seen.unwritten = Some((count, sum));
            None
        } else {
            Some(sum)
        };
        Followed { crossings, row }
    }

    /// How short each part is.
    pub fn levels(&self) -> [(Part, Level); Part::ALL.len()] {
        self.seen.lock().pressure.levels()
    }

    /// The last five minutes, the oldest first, as JSON.
    pub fn told(&self) -> Value {
        let seen = self.seen.lock();
        let samples: Vec<Value> = seen.samples.iter().map(|(time, sample)| told(*time, sample)).collect();
        json!({ "server": self.server, "levels": levels(seen.pressure.levels()), "samples": samples })
    }

    /// Writes a crossing to the log, and gives the audit row of it.
    pub fn tell(&self, now: Timestamp, crossing: Crossing) -> AuditRow {
        let Crossing { part, from, to, percent } = crossing;
        let (resource, from, level) = (part.as_str(), from.as_str(), to.as_str());
        let percent = percent.round();
        let severity = match to {
            Level::Normal => {
                tracing::info!(system.resource = resource, system.level = level, system.percent = percent, "the machine is well again");
                Severity::Info
            }
            Level::Warning => {
                tracing::warn!(system.resource = resource, system.level = level, system.percent = percent, "the machine is short");
                Severity::Warning
            }
            Level::Critical => {
                tracing::error!(system.resource = resource, system.level = level, system.percent = percent, "the machine is very short");
                Severity::Error
            }
        };
        AuditRow {
            actor_name: Some("tollgate".into()),
            resource_type: Some("server"),
            resource_id: Some(self.server.to_string()),
            detail: Some(json!({ "resource": resource, "from": from, "to": level, "percent": percent })),
            ..AuditRow::plain(now, Category::System, severity, "system.level_changed")
        }
    }
}

/// Levels as an object: `{"cpu": "normal", "memory": "warning"}`.
pub fn levels(levels: [(Part, Level); Part::ALL.len()]) -> Value {
    levels.into_iter().map(|(part, level)| (part.as_str().to_owned(), Value::from(level.as_str()))).collect()
}

fn told(time: Timestamp, sample: &SystemSample) -> Value {
    json!({
        "time": time,
        "cpu_percent": sample.cpu_percent,
        "load": sample.load,
        "memory_used_bytes": sample.memory_used_bytes,
        "memory_total_bytes": sample.memory_total_bytes,
        "swap_used_bytes": sample.swap_used_bytes,
        "disk_used_bytes": sample.disk_used_bytes,
        "disk_total_bytes": sample.disk_total_bytes,
        "disk_read_bytes_per_second": sample.per_second(sample.disk_read_bytes),
        "disk_written_bytes_per_second": sample.per_second(sample.disk_written_bytes),
        "network_received_bytes_per_second": sample.per_second(sample.network_received_bytes),
        "network_sent_bytes_per_second": sample.per_second(sample.network_sent_bytes),
        "process_cpu_percent": sample.process_cpu_percent,
        "process_memory_bytes": sample.process_memory_bytes,
        "process_open_files": sample.process_open_files,
        "process_threads": sample.process_threads,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        cpu_warning_percent: 80,
        cpu_critical_percent: 90,
        memory_warning_percent: 80,
        memory_critical_percent: 90,
        hysteresis_points: 5,
        sustained: Duration::ZERO,
    };

    fn second(cpu_percent: f64, disk_read_bytes: u64, process_threads: u64) -> SystemSample {
        SystemSample { elapsed: Duration::from_secs(1), cpu_percent, disk_read_bytes, process_threads, ..SystemSample::default() }
    }

    #[test]
    fn five_looks_are_one_row_with_means_sums_and_the_last_of_the_rest() {
        let machine = Machine::new("gate-1".into(), THRESHOLDS);
        let mut rows = (1..=10_u8)
            .filter_map(|number| machine.take(Timestamp::UNIX_EPOCH, second(f64::from(number), u64::from(number), u64::from(number))).row);
        let (first, second) = (rows.next().unwrap(), rows.next().unwrap());
        assert_eq!((first.elapsed, first.disk_read_bytes, first.process_threads), (Duration::from_secs(5), 15, 5));
        assert!((first.cpu_percent - 3.0).abs() < 1e-9, "{first:?}");
        assert_eq!((second.disk_read_bytes, second.process_threads), (40, 10));
        assert!(rows.next().is_none());
    }

    #[test]
    fn five_minutes_are_remembered() {
        let machine = Machine::new("gate-1".into(), THRESHOLDS);
        for number in 0..400 {
            machine.take(Timestamp::UNIX_EPOCH, second(0.0, number, 0));
        }
        let told = machine.told();
        let samples = told["samples"].as_array().unwrap();
        let read = |sample: &Value| sample["disk_read_bytes_per_second"].as_f64();
        assert_eq!((samples.len(), read(&samples[0]), read(&samples[299])), (300, Some(100.0), Some(399.0)));
        assert_eq!((&told["server"], &told["levels"]["cpu"]), (&"gate-1".into(), &"normal".into()));
    }

    #[test]
    fn a_crossing_is_told_with_how_much_it_matters() {
        let machine = Machine::new("gate-1".into(), THRESHOLDS);
        let severities: Vec<_> = [85.0, 95.0, 10.0]
            .into_iter()
            .flat_map(|percent| machine.take(Timestamp::UNIX_EPOCH, second(percent, 0, 0)).crossings)
            .map(|crossing| {
                let row = machine.tell(Timestamp::UNIX_EPOCH, crossing);
                (row.severity, row.detail.unwrap().to_string())
            })
            .collect();
        let detail = |from, to, percent| format!(r#"{{"from":"{from}","percent":{percent}.0,"resource":"cpu","to":"{to}"}}"#);
        let expected = [
            (Severity::Warning, detail("normal", "warning", 85)),
            (Severity::Error, detail("warning", "critical", 95)),
            (Severity::Info, detail("critical", "normal", 10)),
        ];
        assert_eq!(severities, expected);
    }
}
