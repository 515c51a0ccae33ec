//! `tollgate demo`, played by the real binary.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;
use tollgate::scripted::client::{ChatBody, ChatClient};

/// The binary, with a temporary folder that shows what it leaves behind.
fn demo(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.arg("demo").current_dir(folder).env("TMPDIR", folder).env("JWT_SECRET", "not for the demo").stdin(Stdio::null());
    command
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn left_in(folder: &TempDir) -> Vec<PathBuf> {
    std::fs::read_dir(folder.path()).expect("the folder").map(|entry| entry.expect("an entry").path()).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn assert_played(output: &Output) {
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "the demo's status; it said\n{said}\n{complained}");
    assert_eq!(complained, "", "a demo has nothing to complain about");
    for words in [
        "Your daily token limit is reached: 1,000 of 1,000 tokens used.",
        "Your daily message limit is reached: 1 of 1 message used.",
        "참조 번호",
        "Your daily budget is used up: $0.004 of $0.004 used.",
        "401        {\"message\":\"Unauthorized\"}",
        "acme  Ada     gpt-4o    800     200    1000  $0.004  frames  completed",
        "auth.token_refused",
        "tollgate_cost_usd_total{model=\"gpt-4o\",org=\"acme\"} 0.016",
        "Everything was as it should be.",
    ] {
        assert!(said.contains(words), "{words:?} is missing in\n{said}");
    }
    assert!(!said.contains('\u{1b}'), "no colours where nobody watches:\n{said}");
    let long = said.lines().find(|line| line.chars().count() > 120);
    assert_eq!(long, None, "lines are short");
}

#[test]
fn once_shows_the_whole_job_and_ends_well() {
    let folder = folder();
    let output = demo(folder.path()).arg("--once").output().expect("the demo");
    assert_played(&output);
    assert_eq!(left_in(&folder), Vec::<PathBuf>::new(), "nothing is left behind");
}

#[test]
fn two_at_once_do_not_disturb_each_other() {
    let folder = folder();
    let play = || demo(folder.path()).arg("--once").output().expect("the demo");
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(play);
        (play(), other.join().expect("the other demo"))
    });
    assert_played(&one);
    assert_played(&other);
    assert_eq!(left_in(&folder), Vec::<PathBuf>::new(), "nothing is left behind");
}

/// A demo that stays up; killed where a test fails before it ends.
struct StayingUp {
    process: Child,
    said: Vec<String>,
}

impl StayingUp {
    fn start(folder: &Path) -> Self {
        let mut process = demo(folder).stdout(Stdio::piped()).spawn().expect("the demo");
        let mut said = Vec::new();
        for line in BufReader::new(process.stdout.take().expect("its output")).lines() {
            said.push(line.expect("a line"));
            if said.last().is_some_and(|line| line.contains("Ctrl-C")) {
                break;
            }
        }
        Self { process, said }
    }

    /// What follows these words on the first line that begins with them.
    fn after(&self, words: &str) -> &str {
        let found = self.said.iter().find_map(|line| line.trim_start().strip_prefix(words));
        found.unwrap_or_else(|| panic!("no line begins with {words:?}:\n{}", self.said.join("\n")))
    }
}

impl Drop for StayingUp {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_prints_can_be_used_until_it_is_interrupted() {
    let folder = folder();
    let mut demo = StayingUp::start(folder.path());
    let url = demo.after("Tollgate   ").split_whitespace().next().expect("a url").to_owned();
    let body = ChatBody::new("Hello! [[tokens=3]]").model("openAI", "gpt-4o");

    let ada = ChatClient::new(&url, demo.after("ADA="));
    let exchange = ada.exchange(&body).await.expect("an answer");
    assert_eq!(exchange.text().split_whitespace().count(), 3, "Ada is answered: {exchange:?}");

    let minji = ChatClient::new(&url, demo.after("MINJI="));
    assert!(minji.exchange(&body).await.expect("an answer").last().is_some(), "Minji has one message a day");
    let refused = minji.start(&body).await.expect("an answer");
    assert_eq!(refused.status, 429, "and not two: {}", refused.text);
    assert!(refused.text.contains("일일 메시지 한도"), "her org reads Korean: {}", refused.text);

    let interrupted = Command::new("kill").args(["-INT", &demo.process.id().to_string()]).status().expect("kill");
    assert!(interrupted.success(), "the demo is there to be interrupted");
    assert_eq!(demo.process.wait().expect("the demo").code(), Some(0), "it ends well");
    assert_eq!(left_in(&folder), Vec::<PathBuf>::new(), "nothing is left behind");
}
