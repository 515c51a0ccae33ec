//! What the documents tell an operator to type and to write down.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tollgate::config::{Config, Secret};

const SECRET: &str = "16f8c0ef4a5d391b26034086c628469d";

/// As LibreChat's `.env.example` has them: no shell could read these lines.
const AROUND: [&str; 4] = [
    "BAN_DURATION=1000 * 60 * 60 * 2",
    "REFRESH_TOKEN_EXPIRY=(1000 * 60 * 60 * 24) * 7",
    "JWT_REFRESH_SECRET=eaa5191f2914e30b9387fd84e254e4ba6fc51b4654968a9b0803b456a54b8418",
    "# JWT_SECRET=commented-out",
];

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("a document")
}

/// The one line of a document that holds these words.
#[track_caller]
fn line_with(document: &str, words: &str) -> String {
    let mut lines = document.lines().filter(|line| line.contains(words));
    let line = lines.next().unwrap_or_else(|| panic!("no line holds {words:?}"));
    assert_eq!(lines.next(), None, "more than one line holds {words:?}");
    line.trim().to_owned()
}

/// The indented block that begins with this line.
#[track_caller]
fn block(document: &str, first: &str) -> String {
    let mut lines = document.lines().skip_while(|line| line.trim() != first);
    let head = lines.next().unwrap_or_else(|| panic!("no block begins with {first:?}"));
    let space = head.len() - head.trim_start().len();
    let rest = lines.take_while(|line| line.is_empty() || line.len() - line.trim_start().len() >= space);
    std::iter::once(head).chain(rest).map(|line| line.get(space..).unwrap_or_default().to_owned() + "\n").collect()
}

#[test]
fn the_secret_is_taken_out_of_librechats_env_as_the_documents_say() {
    let folder = TempDir::new().unwrap();
    let env = folder.path().join(".env");
    let export = line_with(&document("README.md"), "export JWT_SECRET=");
    let copy = line_with(&document("docs/drop-in.md"), "sudo install -m 640");
    let copy = copy.rsplit_once(" | ").expect("a pipe").0.to_owned();
    let export = export + "; printf %s \"$JWT_SECRET\"";
    for written in ["S", "\"S\"", "'S'", "S\r", "\"S\"\r"] {
        let mut text = String::new();
        for line in &AROUND[..2] {
            writeln!(text, "{line}").unwrap();
        }
        writeln!(text, "JWT_SECRET={}", written.replace('S', SECRET)).unwrap();
        for line in &AROUND[2..] {
            writeln!(text, "{line}").unwrap();
        }
        fs::write(&env, text).unwrap();
        for (shell, line) in [("bash", &export), ("sh", &export), ("bash", &copy), ("sh", &copy)] {
            let line = line.replace("/path/to/librechat/.env", &env.display().to_string());
            let ran = Command::new(shell).arg("-euc").arg(&line).output().expect("a shell");
            let said = String::from_utf8_lossy(&ran.stdout).into_owned();
            assert_eq!(said.trim_end_matches('\n'), SECRET, "{shell} runs {line} on {written:?}: {ran:?}");
        }
    }
}

/// `make reference` writes it.
#[test]
fn the_reference_of_settings_is_what_the_defaults_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let made = tollgate::config::reference::markdown(tollgate::config::DEFAULTS);
    if std::env::var_os("TOLLGATE_WRITE_REFERENCE").is_some() {
        fs::write(&file, &made).expect("it can be written");
    }
    assert!(fs::read_to_string(&file).is_ok_and(|kept| kept == made), "docs/configuration.md is old: make reference writes it anew");
}

#[test]
fn the_configurations_that_the_documents_show_are_good() {
    for (name, first) in [("README.md", "[public]"), ("docs/drop-in.md", "# /etc/tollgate/tollgate.toml")] {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("jwt_secret"), SECRET).unwrap();
        let here = folder.path().display().to_string();
        let text = block(&document(name), first).replace("/etc/tollgate", &here).replace("/var/lib/tollgate", &here);
        // The variable lies over the file, so that it is only given where the block names none.
        let environment = if text.contains("jwt_secret_file") { None } else { Some(("JWT_SECRET".to_owned(), SECRET.to_owned())) };
        let config = Config::from_text(&text, name, environment.into_iter());
        let config = config.unwrap_or_else(|errors| panic!("{name} shows a configuration that is wrong:\n{errors}\n{text}"));
        assert_eq!(config.librechat.jwt_secret, Secret::new(SECRET), "{name}");
        let warnings: Vec<_> = config.warnings.iter().filter(|warning| !warning.contains("shadow")).collect();
        assert!(warnings.is_empty(), "{name} shows a configuration with warnings: {warnings:?}");
        assert!(!config.limits.is_empty() && !config.orgs.is_empty(), "{name} shows orgs and limits");
    }
}

#[test]
fn the_ways_to_an_org_that_the_documents_show_are_good() {
    let environment = [("JWT_SECRET".to_owned(), SECRET.to_owned())];
    let config = Config::from_text(&block(&document("docs/identity.md"), "[public]"), "docs/identity.md", environment.into_iter());
    let config = config.unwrap_or_else(|errors| panic!("docs/identity.md shows a configuration that is wrong:\n{errors}"));
    assert!(config.orgs[0].access.framing.is_open() && config.orgs[0].access.tenant.is_some(), "it shows them: {:?}", config.orgs);
}

#[test]
fn the_unit_is_one_that_systemd_reads() {
    let unit = document("deploy/systemd/tollgate.service");
    for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let section = line.starts_with('[') && line.ends_with(']');
        let setting = line.split_once('=').is_some_and(|(key, value)| key.chars().all(char::is_alphabetic) && !value.contains('#'));
        assert!(section || setting, "systemd would not read {line:?}: it knows no comment behind a value");
    }
    for needed in ["After=network-online.target", "[Install]", "WantedBy=multi-user.target", "TimeoutStopSec=90"] {
        assert!(unit.lines().any(|line| line == needed), "{needed} is missing in\n{unit}");
    }
}
