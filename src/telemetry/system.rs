//! How the machine and this process do: looked at every so often, off the event loop.

pub mod machine;
pub mod pressure;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sysinfo::{
    CpuRefreshKind, Disk, DiskRefreshKind, Disks, MemoryRefreshKind, Networks, Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind,
    System,
};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use crate::records::SystemRow;

/// How often it is looked.
pub const EVERY: Duration = Duration::from_secs(1);

/// A look that takes longer waits for something that is gone, such as a file system over the network.
const TOO_LONG: Duration = Duration::from_secs(30);

/// One look. What is counted "since the look before" can be divided by [`SystemSample::elapsed`] to give it per second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SystemSample {
    /// The time since the look before.
    pub elapsed: Duration,
    /// Processor time in use since the look before, of all cores together, in percent: 0 to 100.
    pub cpu_percent: f64,
    /// The load averages of one, five and fifteen minutes.
    pub load: [f64; 3],
    /// Memory in use, in bytes: what is not available to whoever asks for more.
    pub memory_used_bytes: u64,
    /// Memory there is, in bytes; in a container with less than the machine has, its own.
    pub memory_total_bytes: u64,
    /// Swap in use, in bytes.
    pub swap_used_bytes: u64,
    /// Space in use on the disk that the folder lies on, in bytes.
    pub disk_used_bytes: u64,
    /// The size of that disk, in bytes.
    pub disk_total_bytes: u64,
    /// Read from all disks since the look before, in bytes.
    pub disk_read_bytes: u64,
    /// Written to all disks since the look before, in bytes.
    pub disk_written_bytes: u64,
    /// Received over all networks but the loopback since the look before, in bytes.
    pub network_received_bytes: u64,
    /// Sent over all networks but the loopback since the look before, in bytes.
    pub network_sent_bytes: u64,
    /// Processor time of this process since the look before, in percent of one core.
    pub process_cpu_percent: f64,
    /// Memory of this process, in bytes.
    pub process_memory_bytes: u64,
    /// Open files and sockets of this process; 0 where the system does not tell.
    pub process_open_files: u64,
    /// Threads of this process; 0 where the system does not tell.
    pub process_threads: u64,
}

impl SystemSample {
    /// Bytes since the look before as bytes a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub fn per_second(&self, bytes: u64) -> f64 {
        if self.elapsed.is_zero() { 0.0 } else { bytes as f64 / self.elapsed.as_secs_f64() }
    }

    /// Memory in use, of all there is; 1 is all of it.
    pub fn memory_ratio(&self) -> f64 {
        ratio(self.memory_used_bytes, self.memory_total_bytes)
    }

    /// Space in use on the disk that the folder lies on; 1 is all of it.
    pub fn disk_ratio(&self) -> f64 {
        ratio(self.disk_used_bytes, self.disk_total_bytes)
    }

    /// This look and the ones before it as one.
    #[must_use]
    pub fn after(self, earlier: &Self) -> Self {
        let elapsed = earlier.elapsed + self.elapsed;
        let mean = |earlier_percent: f64, percent: f64| {
            let (before, now) = (earlier.elapsed.as_secs_f64(), self.elapsed.as_secs_f64());
            if elapsed.is_zero() { percent } else { (earlier_percent * before + percent * now) / elapsed.as_secs_f64() }
        };
        Self {
            elapsed,
            cpu_percent: mean(earlier.cpu_percent, self.cpu_percent),
            process_cpu_percent: mean(earlier.process_cpu_percent, self.process_cpu_percent),
            disk_read_bytes: earlier.disk_read_bytes.saturating_add(self.disk_read_bytes),
            disk_written_bytes: earlier.disk_written_bytes.saturating_add(self.disk_written_bytes),
            network_received_bytes: earlier.network_received_bytes.saturating_add(self.network_received_bytes),
            network_sent_bytes: earlier.network_sent_bytes.saturating_add(self.network_sent_bytes),
            ..self
        }
    }

    /// The row of it.
    pub fn row(&self, id: Uuid, time: Timestamp, server: Arc<str>) -> SystemRow {
        SystemRow {
            id,
            time,
            server,
            cpu_percent: self.cpu_percent,
            load_1m: self.load[0],
            load_5m: self.load[1],
            load_15m: self.load[2],
            memory_used_bytes: self.memory_used_bytes,
            memory_total_bytes: self.memory_total_bytes,
            swap_used_bytes: self.swap_used_bytes,
            disk_used_bytes: self.disk_used_bytes,
            disk_total_bytes: self.disk_total_bytes,
            disk_read_bytes: self.disk_read_bytes,
            disk_written_bytes: self.disk_written_bytes,
            network_received_bytes: self.network_received_bytes,
            network_sent_bytes: self.network_sent_bytes,
            process_cpu_percent: self.process_cpu_percent,
            process_memory_bytes: self.process_memory_bytes,
            process_open_files: self.process_open_files,
            process_threads: self.process_threads,
        }
    }
}

/// Memory in use and in all, in bytes. A container that has a limit of its own is killed by that, however much the machine has: of
/// its memory counts what is not only a copy of files.
fn memory(system: &System) -> (u64, u64) {
    let total = system.total_memory();
    // sysinfo asserts that it has looked.
    let own = (total > 0).then(|| system.cgroup_limits()).flatten().filter(|own| own.total_memory < total);
    own.map_or((total.saturating_sub(system.available_memory()), total), |own| (own.rss, own.total_memory))
}

/// Looks at the machine. Keeps only what the next look is compared with.
#[derive(Debug)]
pub struct Sampler {
    folder: PathBuf,
    process: Option<Pid>,
    system: System,
    disks: Disks,
    networks: Networks,
    looked_at: Instant,
}

impl Sampler {
    /// Looks for the first time. The disk that is told of is the one this folder lies on, and the folder exists.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned()),
            process: sysinfo::get_current_pid().ok(),
            system: System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing().with_cpu_usage())),
            disks: Disks::new(),
            networks: Networks::new(),
            looked_at: Instant::now(),
        }
        .looked()
    }

    fn looked(mut self) -> Self {
        self.look();
        self
    }

    /// Looks again. Reads a few small files of the system, and may wait for the disks.
    pub fn look(&mut self) -> SystemSample {
        let before = std::mem::replace(&mut self.looked_at, Instant::now());
        self.system.refresh_cpu_usage();
        self.system.refresh_memory_specifics(MemoryRefreshKind::everything());
        self.disks.refresh_specifics(true, DiskRefreshKind::nothing().with_storage().with_io_usage());
        self.networks.refresh(true);
        let load = System::load_average();
        let (memory_used_bytes, memory_total_bytes) = memory(&self.system);
        let mut sample = SystemSample {
            elapsed: self.looked_at.duration_since(before),
            cpu_percent: self.system.global_cpu_usage().into(),
            load: [load.one, load.five, load.fifteen],
            memory_used_bytes,
            memory_total_bytes,
            swap_used_bytes: self.system.used_swap(),
            ..SystemSample::default()
        };
        self.look_at_disks(&mut sample);
        for (_, network) in self.networks.list().iter().filter(|(name, _)| *name != "lo" && *name != "lo0") {
            sample.network_received_bytes = sample.network_received_bytes.saturating_add(network.received());
            sample.network_sent_bytes = sample.network_sent_bytes.saturating_add(network.transmitted());
        }
        self.look_at_process(&mut sample);
        sample
    }

    fn look_at_disks(&self, sample: &mut SystemSample) {
        let ours = self.disks.list().iter().filter(|disk| self.folder.starts_with(disk.mount_point()));
        if let Some(disk) = ours.max_by_key(|disk| disk.mount_point().components().count()) {
            sample.disk_total_bytes = disk.total_space();
            sample.disk_used_bytes = disk.total_space().saturating_sub(disk.available_space());
        }
        // A disk that is mounted in several places is one disk.
        let disks: BTreeMap<_, &Disk> = self.disks.list().iter().map(|disk| (disk.name(), disk)).collect();
        for usage in disks.values().map(|disk| disk.usage()) {
            sample.disk_read_bytes = sample.disk_read_bytes.saturating_add(usage.read_bytes);
            sample.disk_written_bytes = sample.disk_written_bytes.saturating_add(usage.written_bytes);
        }
    }

    fn look_at_process(&mut self, sample: &mut SystemSample) {
        let Some(pid) = self.process else { return };
        let what = ProcessRefreshKind::nothing().with_cpu().with_memory().without_tasks();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, what);
        if let Some(process) = self.system.process(pid) {
            sample.process_cpu_percent = process.cpu_usage().into();
            sample.process_memory_bytes = process.memory();
            sample.process_open_files = process.open_files().map_or(0, |files| files as u64);
        }
        // Each would be looked at where they were asked for with the process; their number is enough.
        sample.process_threads = std::fs::read_dir("/proc/self/task").map_or(0, |threads| threads.count() as u64);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The name of this machine, where the system tells it.
pub fn host_name() -> Option<String> {
    System::host_name().filter(|name| !name.is_empty())
}

/// What rows call this machine where nobody gave it a name: its own, with the port of a Tollgate whose metrics are not where
/// they usually are, so that two on one machine are told apart.
pub fn server_name(metrics: SocketAddr) -> Option<String> {
    const USUAL_PORT: u16 = 9464;
    let host = host_name()?;
    Some(if metrics.port() == USUAL_PORT { host } else { format!("{host}:{}", metrics.port()) })
}

/// Looks for ever, on a thread where waiting disturbs nobody, and gives what was seen to `sink`. A look that does not come
/// back holds up the ones after it and nothing else.
pub async fn watch(folder: PathBuf, every: Duration, mut sink: impl FnMut(SystemSample)) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut looking = tokio::task::spawn_blocking(move || (Sampler::new(&folder), None));
    loop {
        let looked = if let Ok(looked) = tokio::time::timeout(TOO_LONG, &mut looking).await {
            looked
        } else {
            tracing::warn!(seconds = TOO_LONG.as_secs(), "looking at the machine takes long; is a file system gone?");
            looking.await
        };
        let Ok((mut sampler, sample)) = looked else {
            tracing::error!("the machine is not looked at any more");
            return;
        };
        sample.into_iter().for_each(&mut sink);
        ticks.tick().await;
        looking = tokio::task::spawn_blocking(move || {
            let sample = sampler.look();
            (sampler, Some(sample))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_tells_what_a_machine_has() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut sampler = Sampler::new(folder.path());
        let begun = Instant::now();
        let mut sum = 0_u64;
        while begun.elapsed() < Duration::from_millis(300) {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        let sample = sampler.look();
        assert!(sum > 0 && sample.elapsed >= Duration::from_millis(300), "{sample:?}");
        assert!((0.0..=100.0).contains(&sample.cpu_percent), "{sample:?}");
        assert!(sample.memory_used_bytes > 0 && sample.memory_used_bytes < sample.memory_total_bytes, "{sample:?}");
        assert!(sample.process_memory_bytes > 0 && sample.process_memory_bytes < sample.memory_total_bytes, "{sample:?}");
        assert!(sample.disk_used_bytes <= sample.disk_total_bytes, "{sample:?}");
        assert!(sample.process_cpu_percent > 0.0, "this thread was busy: {sample:?}");
        if cfg!(target_os = "linux") {
            assert!(sample.process_open_files > 0 && sample.process_threads > 0 && sample.load[0] >= 0.0, "{sample:?}");
        }
    }

    #[test]
    fn a_rate_is_what_was_counted_by_the_time_it_took() {
        let sample = SystemSample { elapsed: Duration::from_secs(5), disk_read_bytes: 10_000, ..SystemSample::default() };
        assert!((sample.per_second(sample.disk_read_bytes) - 2_000.0).abs() < f64::EPSILON);
        assert!(SystemSample::default().per_second(7).abs() < f64::EPSILON, "nothing is divided by nothing");
        let row = sample.row(Uuid::nil(), Timestamp::UNIX_EPOCH, "gate-1".into());
        assert_eq!((&*row.server, row.disk_read_bytes), ("gate-1", 10_000));
    }

    #[tokio::test]
    async fn watching_gives_one_sample_after_the_other() {
        let (seen, mut samples) = tokio::sync::mpsc::unbounded_channel();
        let watching = tokio::spawn(watch(std::env::temp_dir(), Duration::from_millis(20), move |sample| {
            let _ = seen.send(sample);
        }));
        for _ in 0..3 {
            let sample = tokio::time::timeout(Duration::from_secs(20), samples.recv()).await.expect("in time").expect("a sample");
            assert!(sample.memory_total_bytes > 0, "{sample:?}");
        }
        watching.abort();
    }

    /// What a look costs; run by hand: `cargo test --lib telemetry::system -- --ignored --nocapture`.
    #[cfg(target_os = "linux")]
    #[test]
    #[ignore = "a measurement"]
    fn what_a_look_costs() {
        const LOOKS: u32 = 1_000;
        let ticks = || -> u64 {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("a file");
            stat.rsplit_once(')')
                .expect("a name")
                .1
                .split_whitespace()
                .skip(11)
                .take(2)
                .map(|ticks| ticks.parse::<u64>().expect("ticks"))
                .sum()
        };
        let mut sampler = Sampler::new(&std::env::temp_dir());
        let before = ticks();
        for _ in 0..LOOKS {
            sampler.look();
        }
        println!("{} µs of processor time a look", (ticks() - before) * 10_000 / u64::from(LOOKS));
    }
}
