//! Files turn at the zone's own midnight, no line is lost without being counted, and nothing waits for a disk.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::clock::ManualClock;

const SOON: Duration = Duration::from_secs(20);

fn instant(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

struct Place {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Place {
    fn at(now: &str) -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), clock: ManualClock::at(instant(now)) }
    }

    fn start(&self, zone: &str, keep: usize) -> LogFiles {
        let zone = TimeZone::get(zone).expect("a zone");
        let settings = Settings { folder: self.folder.path().to_owned(), zone, keep };
        LogFiles::start(settings, self.clock.clone()).expect("files")
    }

    /// Hands over a line at each of these times.
    fn write(&self, files: &LogFiles, times: &[&str]) {
        for time in times {
            self.clock.set(instant(time));
            files.line(time.as_bytes().to_vec());
        }
    }

    /// Names and lines of all files, the oldest first.
    fn files(&self) -> Vec<(String, Vec<String>)> {
        let entries = std::fs::read_dir(self.folder.path()).expect("a folder").map(|entry| entry.expect("an entry"));
        let mut files: Vec<_> = entries
            .map(|entry| {
                let text = std::fs::read_to_string(entry.path()).expect("a readable file");
                (entry.file_name().into_string().expect("a name"), text.lines().map(str::to_owned).collect())
            })
            .collect();
        files.sort();
        files
    }
}

fn file(day: &str, lines: &[&str]) -> (String, Vec<String>) {
    (format!("tollgate-{day}.jsonl"), lines.iter().map(|line| (*line).to_owned()).collect())
}

#[test]
fn a_file_is_a_day_of_its_zone_and_the_group_may_read_it() {
    let place = Place::at("2026-11-28T14:59:59Z");
    let files = place.start("Asia/Seoul", 30);
    place.write(&files, &["2026-11-28T14:59:59.9Z", "2026-11-28T15:00:00Z", "2026-11-28T14:59:59.99Z", "2026-11-29T14:59:59Z"]);
    assert!(files.close(SOON));
    let expected = [
        file("2026-11-28", &["2026-11-28T14:59:59.9Z"]),
        file("2026-11-29", &["2026-11-28T15:00:00Z", "2026-11-28T14:59:59.99Z", "2026-11-29T14:59:59Z"]),
    ];
    assert_eq!(place.files(), expected, "a line that is a moment late for midnight stays in order");
    assert_eq!(files.written(), Written { written: 4, dropped: 0, failed: 0 });
    let mode = std::fs::metadata(place.folder.path().join("tollgate-2026-11-28.jsonl")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777 & !0o640, 0, "nobody else may read it: {mode:o}");
}

#[test]
fn days_of_23_and_25_hours() {
    // In Berlin clocks go forward on 2026-03-29 and back on 2026-10-25.
    let place = Place::at("2026-03-28T22:59:59Z");
    let files = place.start("Europe/Berlin", 30);
    let spring = ["2026-03-28T22:59:59Z", "2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z", "2026-03-29T22:00:00Z"];
    let autumn = ["2026-10-24T21:59:59Z", "2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z", "2026-10-25T23:00:00Z"];
    place.write(&files, &spring);
    place.write(&files, &autumn);
    assert!(files.close(SOON));
    let expected = [
        file("2026-03-28", &spring[..1]),
        file("2026-03-29", &spring[1..3]),
        file("2026-03-30", &spring[3..]),
        file("2026-10-24", &autumn[..1]),
        file("2026-10-25", &autumn[1..3]),
        file("2026-10-26", &autumn[3..]),
    ];
    assert_eq!(place.files(), expected);
}

#[test]
fn the_oldest_files_are_removed_and_strangers_are_left_alone() {
    let place = Place::at("2026-11-01T12:00:00Z");
    for stranger in ["tollgate-2026-10-01.jsonl.gz", "tollgate.jsonl", "tollgate-2026-13-01.jsonl", "notes"] {
        std::fs::write(place.folder.path().join(stranger), "kept").expect("writable");
    }
    std::fs::write(place.folder.path().join("tollgate-2026-10-01.jsonl"), "old\n").expect("writable");
    let files = place.start("UTC", 3);
    let days: Vec<String> = (1..=6).map(|day| format!("2026-11-0{day}T12:00:00Z")).collect();
    place.write(&files, &days.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(files.close(SOON));
    let ours: Vec<String> = place.files().into_iter().map(|(name, _)| name).filter(|name| is_ours(name)).collect();
    assert_eq!(ours, ["tollgate-2026-11-04.jsonl", "tollgate-2026-11-05.jsonl", "tollgate-2026-11-06.jsonl"]);
    assert_eq!(place.files().len(), 3 + 4);
}

#[test]
fn a_clock_that_was_set_back_goes_back_to_its_day() {
    let place = Place::at("2026-11-28T12:00:00Z");
    let files = place.start("UTC", 30);
    place.write(&files, &["2026-11-29T00:10:00Z", "2026-11-28T12:00:00Z"]);
    assert!(files.close(SOON));
    assert_eq!(place.files(), [file("2026-11-28", &["2026-11-28T12:00:00Z"]), file("2026-11-29", &["2026-11-29T00:10:00Z"])]);
}

#[test]
fn what_was_cut_off_is_ended_and_a_restart_goes_on() {
    let place = Place::at("2026-11-28T12:00:00Z");
    std::fs::write(place.folder.path().join("tollgate-2026-11-28.jsonl"), "one\ntw").expect("writable");
    let files = place.start("UTC", 30);
    files.line(b"three\n".to_vec());
    assert!(files.close(SOON));
    files.line(b"late".to_vec());
    assert_eq!(files.written(), Written { written: 1, dropped: 1, failed: 0 }, "after the end lines are dropped");
    assert_eq!(place.files(), [file("2026-11-28", &["one", "tw", "three"])]);
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let place = Place::at("2026-11-28T12:00:00Z");
    std::os::unix::fs::symlink("/dev/full", place.folder.path().join("tollgate-2026-11-28.jsonl")).expect("a link");
    let files = place.start("UTC", 30);
    (0..100).for_each(|_| files.line(b"lost".to_vec()));
    place.clock.set(instant("2026-11-29T00:00:00Z"));
    let deadline = Instant::now() + SOON;
    while files.written().failed < 100 {
        assert!(Instant::now() < deadline, "{:?}", files.written());
        std::thread::sleep(Duration::from_millis(5));
    }
    // The next file is tried after a pause.
    while files.written().written == 0 {
        assert!(Instant::now() < deadline, "{:?}", files.written());
        files.line(b"kept".to_vec());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(files.close(SOON));
    assert!(std::fs::read_to_string(place.folder.path().join("tollgate-2026-11-29.jsonl")).expect("a file").starts_with("kept\n"));
}

#[test]
fn what_does_not_fit_is_dropped_and_counted() {
    let place = Place::at("2026-11-28T12:00:00Z");
    let files = place.start("UTC", 30);
    let line = vec![b'x'; 1024 * 1024];
    (0..200).for_each(|_| files.line(line.clone()));
    assert!(files.close(SOON));
    let Written { written, dropped, failed } = files.written();
    assert_eq!((written + dropped, failed), (200, 0));
    assert!(written >= 15, "{written} lines of 1 MB fit into 16 MB");
    assert_eq!(place.files()[0].1.len() as u64, written, "every line is in the file or counted");
}

#[test]
fn a_folder_that_cannot_be_written_shows_at_the_start() {
    let place = Place::at("2026-11-28T12:00:00Z");
    let settings = Settings { folder: place.folder.path().join("absent"), zone: TimeZone::UTC, keep: 1 };
    assert!(LogFiles::start(settings, place.clock.clone()).is_err());
}
