//! System rows: how the machine and this process do, every so often.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::clean;

/// One look at a server. Written once; writing it again changes nothing (its key is `id, time`). As JSON it is the object of
/// its columns.
///
/// Numbers are as they are at `time`, except for those "since the row before", which are differences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemRow {
    /// Its id.
    pub id: Uuid,
    /// When it was looked.
    pub time: Timestamp,
    /// The server's name, one per replica.
    pub server: Arc<str>,
    /// Processor time in use since the row before, of all cores together, in percent: 0 to 100.
    pub cpu_percent: f64,
    /// The load average of one minute.
    pub load_1m: f64,
    /// The load average of five minutes.
    pub load_5m: f64,
    /// The load average of fifteen minutes.
    pub load_15m: f64,
    /// Memory in use, in bytes.
    pub memory_used_bytes: u64,
    /// Memory there is, in bytes.
    pub memory_total_bytes: u64,
    /// Swap in use, in bytes.
    pub swap_used_bytes: u64,
    /// Space in use on the disk that the records' journal lies on, in bytes.
    pub disk_used_bytes: u64,
    /// The size of that disk, in bytes.
    pub disk_total_bytes: u64,
    /// Read from all disks since the row before, in bytes.
    pub disk_read_bytes: u64,
    /// Written to all disks since the row before, in bytes.
    pub disk_written_bytes: u64,
    /// Received over the network since the row before, in bytes.
    pub network_received_bytes: u64,
    /// Sent over the network since the row before, in bytes.
    pub network_sent_bytes: u64,
    /// Processor time of this process since the row before, in percent of one core.
    pub process_cpu_percent: f64,
    /// Memory of this process, in bytes.
    pub process_memory_bytes: u64,
    /// Open files and sockets of this process.
    pub process_open_files: u64,
    /// Threads of this process.
    pub process_threads: u64,
}

impl SystemRow {
    /// The row fit to be stored: its text bounded and without NUL, and 0 for what is no number.
    #[must_use]
    pub fn cleaned(mut self) -> Self {
        clean::system(&mut self);
        self
    }
}
