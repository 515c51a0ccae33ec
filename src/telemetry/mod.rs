//! How the gateway is watched: its own log and its metrics. Who did what stands in `records`, not here.

pub mod labels;
pub mod log;
pub mod log_files;
pub mod metrics;
pub mod system;
pub mod traces;

pub use metrics::{Metrics, MetricsSettings, Outcome};
