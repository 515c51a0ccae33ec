//! Files of lines, one for each calendar day of a time zone: `tollgate-2026-11-28.jsonl`.
//!
//! Lines are handed over without waiting and written by a thread of their own. What does not fit is dropped and counted, and
//! so is what cannot be written: a full disk stops nobody. No crate that turns files daily does so at the midnight of any
//! zone, with days of 23 and 25 hours, by a clock that is handed in; the files themselves are the system's own.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;

use crate::clock::SharedClock;
use crate::limits::{Period, Window};

/// How many lines may wait.
const ROOM_LINES: usize = 20_000;

/// How many bytes may wait.
const ROOM_BYTES: usize = 16 * 1024 * 1024;

/// How long lines are gathered before they are written, so that not each of them wakes the thread.
const GATHER: Duration = Duration::from_millis(20);

/// How much is written at once.
const WRITE_BYTES: usize = 256 * 1024;

/// The pause before a file that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often trouble that goes on is logged.
const TROUBLE_LOGGED_EVERY: Duration = Duration::from_mins(1);

/// How far a clock must be set back before lines go to the file of an earlier day.
const SET_BACK: SignedDuration = SignedDuration::from_mins(1);

/// Read and written by the owner, read by the group.
const MODE: u32 = 0o640;

/// Where files are and how many.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder, which exists. It belongs to one Tollgate.
    pub folder: PathBuf,
    /// Whose midnight it goes by.
    pub zone: TimeZone,
    /// How many files are kept; older ones are removed.
    pub keep: usize,
}

/// What became of lines since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Lines in the files.
    pub written: u64,
    /// Lines dropped because too many waited, or after the end.
    pub dropped: u64,
    /// Lines that could not be written.
    pub failed: u64,
}

/// Takes lines from anywhere. Cheap to clone; all clones feed the same files.
#[derive(Debug, Clone)]
pub struct LogFiles(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: SharedClock,
    lines: SyncSender<Line>,
    ledger: Arc<Ledger>,
    done: Mutex<Receiver<()>>,
}

#[derive(Debug, Default)]
struct Ledger {
    waiting_bytes: AtomicUsize,
    closing: AtomicBool,
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// A line and when it was handed over, which decides whose day it is. An empty one only wakes the thread.
#[derive(Debug)]
struct Line {
    at: Timestamp,
    bytes: Vec<u8>,
}

impl LogFiles {
    /// Opens today's file, so that a folder that cannot be written shows at once, and starts the thread.
    pub fn start(settings: Settings, clock: SharedClock) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(ROOM_LINES);
        let (finished, done) = sync_channel(1);
        let ledger = Arc::new(Ledger::default());
        let mut writer = Writer { day: None, retry_at: None, trouble_logged: None, ledger: ledger.clone(), settings };
        writer.open(clock.now())?;
        std::thread::Builder::new().name("log-files".to_owned()).spawn(move || {
            writer.run(&waiting);
            drop(finished);
        })?;
        Ok(Self(Arc::new(Shared { clock, lines, ledger, done: Mutex::new(done) })))
    }

    /// Hands a line over, with or without its line break. Never waits.
    pub fn line(&self, mut bytes: Vec<u8>) {
        let Shared { clock, lines, ledger, .. } = &*self.0;
        if bytes.last() != Some(&b'\n') {
            bytes.push(b'\n');
        }
        let size = bytes.len();
        let fits = ledger.waiting_bytes.fetch_add(size, Relaxed).saturating_add(size) <= ROOM_BYTES && !ledger.closing.load(Relaxed);
        if !fits || lines.try_send(Line { at: clock.now(), bytes }).is_err() {
            ledger.waiting_bytes.fetch_sub(size, Relaxed);
            ledger.dropped.fetch_add(1, Relaxed);
        }
    }

    /// What became of lines since the start.
    pub fn written(&self) -> Written {
        let Ledger { written, dropped, failed, .. } = &*self.0.ledger;
        Written { written: written.load(Relaxed), dropped: dropped.load(Relaxed), failed: failed.load(Relaxed) }
    }

    /// Writes what waits and ends. Blocks, for at most as long as this; answers whether everything was written by then. Later
    /// lines are dropped.
    pub fn close(&self, within: Duration) -> bool {
        let Shared { clock, lines, ledger, done, .. } = &*self.0;
        ledger.closing.store(true, Relaxed);
        // A queue that is full wakes the thread by itself.
        let _ = lines.try_send(Line { at: clock.now(), bytes: Vec::new() });
        // Nothing is ever sent: it ends when the thread does.
        done.lock().recv_timeout(within) == Err(RecvTimeoutError::Disconnected)
    }
}

/// The process's own log takes a line at a time.
impl<'writer> MakeWriter<'writer> for LogFiles {
    type Writer = LineWriter;

    fn make_writer(&'writer self) -> LineWriter {
        LineWriter(self.clone())
    }
}

/// Hands over what is written to it as a line.
#[derive(Debug)]
pub struct LineWriter(LogFiles);

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.line(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread that writes.
#[derive(Debug)]
struct Writer {
    settings: Settings,
    ledger: Arc<Ledger>,
    day: Option<Day>,
    retry_at: Option<Instant>,
    trouble_logged: Option<Instant>,
}

/// The file of a day.
#[derive(Debug)]
struct Day {
    file: File,
    begins: Timestamp,
    ends: Timestamp,
}

impl Day {
    /// Whether a line of this time goes here. Lines are a little late for midnight now and then: one goes back to the day
    /// before only where the clock was really set back.
    fn takes(&self, at: Timestamp) -> bool {
        at < self.ends && at.duration_since(self.begins) >= -SET_BACK
    }
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Line>) {
        // What is written together, and the time of its first line.
        let mut batch: Option<(Timestamp, Vec<u8>)> = None;
        while let Ok(first) = waiting.recv() {
            if !self.ledger.closing.load(Relaxed) {
                std::thread::sleep(GATHER);
            }
            for line in std::iter::once(first).chain(waiting.try_iter()) {
                self.ledger.waiting_bytes.fetch_sub(line.bytes.len(), Relaxed);
                match &mut batch {
                    Some((at, bytes)) if bytes.len() < WRITE_BYTES && self.same_day(*at, line.at) => bytes.extend_from_slice(&line.bytes),
                    _ => {
                        if let Some((at, bytes)) = batch.replace((line.at, line.bytes)) {
                            self.write(at, &bytes);
                        }
                    }
                }
            }
            if let Some((at, bytes)) = batch.take() {
                self.write(at, &bytes);
            }
            if self.ledger.closing.load(Relaxed) {
                return;
            }
        }
    }

    fn same_day(&self, one: Timestamp, other: Timestamp) -> bool {
        let period = |at| Period::at(Window::Day, at, &self.settings.zone);
        let both = |day: &Day| day.takes(one) && day.takes(other);
        one == other || self.day.as_ref().is_some_and(both) || period(one) == period(other)
    }

    fn write(&mut self, at: Timestamp, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let (written, result) = self.try_to_write(at, bytes);
        let lines = |bytes: &[u8]| memchr::memchr_iter(b'\n', bytes).count() as u64;
        self.ledger.written.fetch_add(lines(&bytes[..written]), Relaxed);
        self.ledger.failed.fetch_add(lines(&bytes[written..]), Relaxed);
        match result {
            Ok(()) => {
                if self.trouble_logged.take().is_some() {
                    tracing::info!(log.folder = %self.settings.folder.display(), "log files are written again");
                }
            }
            Err(error) => self.complain(&error),
        }
    }

    /// How much of it was written, and why not all was.
    fn try_to_write(&mut self, at: Timestamp, bytes: &[u8]) -> (usize, io::Result<()>) {
        if self.retry_at.is_some_and(|retry_at| Instant::now() < retry_at) {
            return (0, Err(io::Error::other("the file is not tried again yet")));
        }
        if !self.day.as_ref().is_some_and(|day| day.takes(at))
            && let Err(error) = self.open(at)
        {
            self.retry_at = Some(Instant::now() + RETRY);
            return (0, Err(error));
        }
        let Some(day) = &mut self.day else { return (0, Err(io::Error::other("no file is open"))) };
        let (written, result) = write_out(&mut day.file, bytes);
        self.retry_at = result.is_err().then(|| Instant::now() + RETRY);
        if result.is_err() {
            self.day = None;
        }
        (written, result)
    }

    /// Opens the file of the day that `at` falls in, and removes the oldest ones.
    fn open(&mut self, at: Timestamp) -> io::Result<()> {
        self.day = None;
        let period = Period::at(Window::Day, at, &self.settings.zone);
        let path = self.settings.folder.join(format!("tollgate-{}.jsonl", period.key()));
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)?;
        end_line(&mut file)?;
        let begins = period.first_day.to_zoned(self.settings.zone.clone()).and_then(|day| day.start_of_day());
        self.day = Some(Day { file, begins: begins.map_or(at, |begins| begins.timestamp()), ends: period.ends });
        if let Err(error) = remove_oldest(&self.settings.folder, self.settings.keep) {
            self.complain(&error);
        }
        Ok(())
    }

    fn complain(&mut self, error: &io::Error) {
        let now = Instant::now();
        if self.trouble_logged.is_some_and(|logged| now < logged + TROUBLE_LOGGED_EVERY) {
            return;
        }
        self.trouble_logged = Some(now);
        let failed = self.ledger.failed.load(Relaxed);
        tracing::error!(log.folder = %self.settings.folder.display(), log.lines_lost = failed, error = %error, "log files cannot be written");
    }
}

fn write_out(file: &mut File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// Ends a line that was cut off in the middle, so that the next one can be read.
fn end_line(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

/// Removes the oldest files of ours, and nothing else.
fn remove_oldest(folder: &Path, keep: usize) -> io::Result<()> {
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.extend(entry?.file_name().into_string().ok().filter(|name| is_ours(name)));
    }
    names.sort_unstable();
    let surplus = names.len().saturating_sub(keep.max(1));
    names[..surplus].iter().try_for_each(|name| match std::fs::remove_file(folder.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    })
}

/// Whether a file is called `tollgate-2026-11-28.jsonl`.
fn is_ours(name: &str) -> bool {
    let day = name.strip_prefix("tollgate-").and_then(|name| name.strip_suffix(".jsonl"));
    day.is_some_and(|day| day.len() == "2026-11-28".len() && day.parse::<jiff::civil::Date>().is_ok())
}

#[cfg(test)]
mod tests;
