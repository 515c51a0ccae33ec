//! The program as an operator meets it: the built binary, its words and its exit status.

mod auditing;
mod doctor;
mod explaining;
mod live;
mod rebuilding;
mod starting;
mod statements;
mod upstreams;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const SECRET: &str = "a-secret-of-librechat-0123456789";

/// A folder with a configuration, and the program run in it with nothing else around it.
struct Place {
    folder: TempDir,
}

/// What the program said, and how it ended.
#[derive(Debug)]
struct Ran {
    status: Option<i32>,
    out: String,
    err: String,
}

impl Place {
    /// A place with this configuration; listeners take free ports and rows go to `tollgate.db`, unless it says otherwise.
    fn new(config: &str) -> Self {
        let mut text = config.to_owned();
        for (section, line) in [
            ("[public]", "listen = '127.0.0.1:0'"),
            ("[admin]", "listen = '127.0.0.1:0'"),
            ("[metrics]", "listen = '127.0.0.1:0'"),
            ("[records]", "url = 'sqlite:tollgate.db'"),
        ] {
            if !config.contains(section) {
                // Writing to a string does not fail.
                let _ = writeln!(text, "\n{section}\n{line}");
            }
        }
        let place = Self { folder: TempDir::new().unwrap() };
        place.write("tollgate.toml", &text);
        place
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command on the configuration, with LibreChat's secret in the environment.
    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[("JWT_SECRET", SECRET)])
    }

    fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
        Ran::of(self.command(arguments, environment).output().expect("the program starts"))
    }

    fn command(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(arguments).args(["--config", "tollgate.toml"]).current_dir(self.folder.path());
        command.env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
        command
    }
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the program speaks UTF-8");
        Self { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// It ended like this, said each of these somewhere, and nothing that is meant for its makers.
    #[track_caller]
    fn expect(&self, status: i32, words: &[&str]) -> &Self {
        let said = format!("{}{}", self.out, self.err);
        assert_eq!(self.status, Some(status), "the exit status, after:\n{said}");
        for word in words {
            assert!(said.contains(word), "nothing was said about {word:?}:\n{said}");
        }
        for slip in ["panicked", "RUST_BACKTRACE", "not available"] {
            assert!(!said.contains(slip), "{slip:?} is no word for operators:\n{said}");
        }
        self
    }
}

/// Runs a command whose standard output is this, and nothing else around it.
fn run_into(place: &Place, arguments: &[&str], out: impl Into<Stdio>) -> Ran {
    let mut command = place.command(arguments, &[("JWT_SECRET", SECRET)]);
    Ran::of(command.stdout(out).stderr(Stdio::piped()).spawn().and_then(std::process::Child::wait_with_output).expect("the program starts"))
}

#[test]
fn a_reader_that_leaves_is_no_failure_and_a_full_disk_is_one() {
    let commands: [&[&str]; 5] = [
        &["check"],
        &["check", "--live"],
        &["migrate"],
        &["limits", "explain", "--org", "acme", "--member", "0123456789abcdef01234567"],
        &["limits", "explain", "--org", "acme", "--member", "0123456789abcdef01234567", "--json"],
    ];
    for command in commands {
        let place = Place::new("[librechat]\nupstreams = ['http://127.0.0.1:1']\n[[orgs]]\nid = 'acme'");
        let heard = place.run(command);
        let place = Place::new("[librechat]\nupstreams = ['http://127.0.0.1:1']\n[[orgs]]\nid = 'acme'");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let unheard = run_into(&place, command, writer);
        unheard.expect(heard.status.expect("an exit status"), &[]);
        assert_eq!(unheard.err, heard.err, "{command:?} has nothing to add where nobody reads");

        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a full disk");
        run_into(&place, command, full).expect(1, &["standard output cannot be written"]);
    }
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a full disk");
    let place = Place::new("[public]\nlisten = 'nowhere'");
    let status = place.command(&["check"], &[]).stderr(full).status().expect("the program starts");
    assert_eq!(status.code(), Some(64), "a standard error that is full changes nothing");
}

#[test]
fn variables_that_are_not_utf_8_are_said() {
    use std::os::unix::ffi::OsStrExt as _;
    let foreign = std::ffi::OsStr::from_bytes(b"caf\xe9-0123456789-0123456789");
    for name in ["JWT_SECRET", "TOLLGATE_STORE__PREFIX"] {
        let place = Place::new("");
        let mut command = place.command(&["check"], &[("JWT_SECRET", SECRET)]);
        let ran = Ran::of(command.env(name, foreign).env("OTHER", foreign).output().expect("the program starts"));
        ran.expect(64, &[&format!("the environment variable {name} is not UTF-8")]);
        assert!(!ran.err.contains("missing") && !ran.err.contains("OTHER"), "{}", ran.err);
    }
}
