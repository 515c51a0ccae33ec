//! When a machine has too little left: thresholds that do not flutter.
//!
//! A threshold is crossed upwards by what stays above it for a while, and downwards by what stays well below it for as long.
//! Each has its own memory, so that use that goes up and down between the two still counts as above the lower one.

use std::time::Duration;

use serde::Serialize;

use super::SystemSample;

/// What can run short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Processor time.
    Cpu,
    /// Memory.
    Memory,
}

impl Part {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Cpu, Self::Memory];

    /// The word used in metrics, rows and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }

    /// How much of it is in use, in percent.
    fn percent(self, sample: &SystemSample) -> f64 {
        match self {
            Self::Cpu => sample.cpu_percent,
            Self::Memory => sample.memory_ratio() * 100.0,
        }
    }
}

/// How short a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// There is enough.
    #[default]
    Normal,
    /// Someone should look.
    Warning,
    /// Someone must look.
    Critical,
}

impl Level {
    /// The word used in rows and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The number used in metrics: 0, 1 or 2.
    pub fn number(self) -> i64 {
        self as i64
    }
}

/// Where warnings begin, in percent of all there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// What is a warning of processor time.
    pub cpu_warning_percent: u8,
    /// What is critical of processor time.
    pub cpu_critical_percent: u8,
    /// What is a warning of memory.
    pub memory_warning_percent: u8,
    /// What is critical of memory.
    pub memory_critical_percent: u8,
    /// How far use must fall below a threshold to be well again, in points of a percent.
    pub hysteresis_points: u8,
    /// How long use must stay there, in either direction.
    pub sustained: Duration,
}

impl Thresholds {
    fn of(&self, part: Part) -> [f64; 2] {
        match part {
            Part::Cpu => [self.cpu_warning_percent, self.cpu_critical_percent],
            Part::Memory => [self.memory_warning_percent, self.memory_critical_percent],
        }
        .map(f64::from)
    }
}

/// A part went from one level to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crossing {
    /// Which part.
    pub part: Part,
    /// How short it was.
    pub from: Level,
    /// How short it is.
    pub to: Level,
    /// How much of it is in use, in percent.
    pub percent: f64,
}

/// Judges one sample after the other.
#[derive(Debug)]
pub struct Pressure {
    thresholds: Thresholds,
    alarms: [[Alarm; 2]; Part::ALL.len()],
}

impl Pressure {
    /// Everything is well until it is seen not to be.
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, alarms: <[[Alarm; 2]; Part::ALL.len()]>::default() }
    }

    /// Takes in a sample. Answers what went from one level to another by it.
    pub fn judge(&mut self, sample: &SystemSample) -> Vec<Crossing> {
        let Thresholds { hysteresis_points, sustained, .. } = self.thresholds;
        let mut crossings = Vec::new();
        for (part, alarms) in Part::ALL.into_iter().zip(&mut self.alarms) {
            let (from, percent) = (level(alarms), part.percent(sample));
            for (alarm, threshold) in alarms.iter_mut().zip(self.thresholds.of(part)) {
                alarm.judge(percent, threshold, threshold - f64::from(hysteresis_points), sample.elapsed, sustained);
            }
            let to = level(alarms);
            if from != to {
                crossings.push(Crossing { part, from, to, percent });
            }
        }
        crossings
    }

    /// How short each part is.
    pub fn levels(&self) -> [(Part, Level); Part::ALL.len()] {
        let mut levels = Part::ALL.map(|part| (part, Level::Normal));
        for ((_, level_of_part), alarms) in levels.iter_mut().zip(&self.alarms) {
            *level_of_part = level(alarms);
        }
        levels
    }
}

fn level([warning, critical]: &[Alarm; 2]) -> Level {
    match (warning.is_on, critical.is_on) {
        (_, true) => Level::Critical,
        (true, false) => Level::Warning,
        (false, false) => Level::Normal,
    }
}

/// One threshold: whether use is above it, and for how long it has looked otherwise.
#[derive(Debug, Default, Clone, Copy)]
struct Alarm {
    is_on: bool,
    otherwise_for: Duration,
}

impl Alarm {
    fn judge(&mut self, percent: f64, rises_at: f64, falls_below: f64, elapsed: Duration, sustained: Duration) {
        let looks_otherwise = if self.is_on { percent < falls_below } else { percent >= rises_at };
        self.otherwise_for = if looks_otherwise { self.otherwise_for + elapsed } else { Duration::ZERO };
        if looks_otherwise && self.otherwise_for >= sustained {
            *self = Self { is_on: !self.is_on, otherwise_for: Duration::ZERO };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        cpu_warning_percent: 80,
        cpu_critical_percent: 90,
        memory_warning_percent: 80,
        memory_critical_percent: 90,
        hysteresis_points: 5,
        sustained: Duration::from_secs(3),
    };

    /// A machine whose processors are as busy as it is told, second by second.
    struct Told(Pressure);

    impl Told {
        fn well() -> Self {
            Self(Pressure::new(THRESHOLDS))
        }

        /// What is crossed in these seconds, and in which.
        fn cpu(&mut self, percents: &[f64]) -> Vec<(usize, Level)> {
            let mut crossed = Vec::new();
            for (second, percent) in (1..).zip(percents) {
                let sample = SystemSample { elapsed: Duration::from_secs(1), cpu_percent: *percent, ..SystemSample::default() };
                crossed.extend(self.0.judge(&sample).into_iter().map(|crossing| (second, crossing.to)));
            }
            crossed
        }
    }

    #[test]
    fn what_stays_above_a_threshold_crosses_it_and_a_moment_does_not() {
        let mut told = Told::well();
        assert_eq!(told.cpu(&[100.0, 100.0, 10.0, 85.0, 85.0, 10.0]), [], "moments");
        assert_eq!(told.cpu(&[80.0, 80.0, 80.0, 80.0]), [(3, Level::Warning)], "at the threshold is above it");
        assert_eq!(told.cpu(&[95.0, 95.0, 95.0, 95.0]), [(3, Level::Critical)]);
    }

    #[test]
    fn both_thresholds_crossed_at_once_are_told_as_the_higher() {
        assert_eq!(Told::well().cpu(&[99.0, 99.0, 99.0]), [(3, Level::Critical)]);
    }

    #[test]
    fn a_level_is_left_only_well_below_its_threshold() {
        let mut told = Told::well();
        told.cpu(&[99.0; 3]);
        assert_eq!(told.cpu(&[89.0, 86.0, 88.0, 85.0, 89.9]), [], "it flutters around the threshold");
        assert_eq!(told.cpu(&[84.9; 3]), [(3, Level::Warning)]);
        assert_eq!(told.cpu(&[79.0, 76.0, 75.0, 75.0, 75.0]), [], "not five points below");
        assert_eq!(told.cpu(&[74.0, 74.0, 90.0, 74.0, 74.0, 74.0]), [(6, Level::Normal)], "three seconds on end");
    }

    #[test]
    fn what_goes_up_and_down_above_the_lower_threshold_is_a_warning() {
        assert_eq!(Told::well().cpu(&[85.0, 95.0, 85.0, 95.0, 85.0, 95.0]), [(3, Level::Warning)]);
    }

    #[test]
    fn a_fall_to_nothing_is_one_crossing() {
        let mut told = Told::well();
        told.cpu(&[99.0; 3]);
        assert_eq!(told.cpu(&[1.0; 4]), [(3, Level::Normal)]);
    }

    #[test]
    fn memory_is_judged_apart() {
        let mut pressure = Pressure::new(Thresholds { sustained: Duration::ZERO, ..THRESHOLDS });
        let sample = SystemSample { memory_used_bytes: 85, memory_total_bytes: 100, ..SystemSample::default() };
        let crossing = Crossing { part: Part::Memory, from: Level::Normal, to: Level::Warning, percent: 85.0 };
        assert_eq!(pressure.judge(&sample), [crossing]);
        assert_eq!(pressure.levels(), [(Part::Cpu, Level::Normal), (Part::Memory, Level::Warning)]);
    }
}
