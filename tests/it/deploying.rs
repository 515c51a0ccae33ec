//! What docker-compose.yml, deploy/ and prometheus/ give to the program: its environment, its configuration, and the
//! series that rules ask it for. Their syntax and all else is checked by scripts/check-deploy.sh.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use regex::Regex;
use tempfile::TempDir;
use tollgate::scripted::client::ChatBody;

use crate::support::gateway::Setup;

const SECRET: &str = "a-secret-of-librechat-0123456789";

/// The first of RFC 8032's test vectors.
const SIGNING_KEY: &str =
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Runs `make env`'s script into this folder, with nothing else around it.
fn make_env(folder: &Path, librechat: &str) -> Output {
    let mut command = Command::new("bash");
    command.arg(root().join("scripts/make-env.sh")).arg(folder.join(".env"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LIBRECHAT_ENV", librechat);
    command.output().expect("bash")
}

/// The variables of a `.env`, as Compose reads them where a value is plain or in single quotes.
fn variables(folder: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(folder.join(".env")).expect("a .env");
    let settings = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    settings.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())).collect()
}

/// The environment of a service of docker-compose.yml, with these variables in place.
fn environment(service: &str, variables: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let compose = file("docker-compose.yml");
    let inside = |indent: &'static str, key: String| move |line: &&str| *line != format!("{indent}{key}:");
    let service = compose.lines().skip_while(inside("  ", service.to_owned()));
    let lines = service.skip_while(inside("    ", "environment".to_owned())).skip(1);
    let variable = Regex::new(r"\$\{(\w+)(?::[-?]([^}]*))?\}").unwrap();
    let resolve = |value: &str| {
        let resolved = variable.replace_all(value, |found: &regex::Captures<'_>| match variables.get(&found[1]) {
            Some(value) if !value.is_empty() => value.clone(),
            _ => found.get(2).map_or("", |default| default.as_str()).to_owned(),
        });
        resolved.trim_matches('"').to_owned()
    };
    let settings = lines.take_while(|line| line.starts_with("      ")).filter_map(|line| line.trim().split_once(": "));
    settings.map(|(name, value)| (name.to_owned(), resolve(value))).collect()
}

/// What `tollgate check` says of this environment; the container's folder for data is this one.
fn check(environment: &BTreeMap<String, String>, folder: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.arg("check").env_clear().current_dir(folder);
    for (name, value) in environment {
        command.env(name, value.replace("/var/lib/tollgate", &folder.display().to_string()));
    }
    let ran = command.output().expect("the program");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "tollgate check refuses what docker-compose.yml gives it:\n{said}");
    said
}

#[test]
fn what_compose_gives_to_the_program_is_good() {
    let folder = TempDir::new().unwrap();
    let made = make_env(folder.path(), "");
    assert!(made.status.success(), "{made:?}");
    let mut variables = variables(folder.path());
    let given = environment("tollgate", &variables);
    assert!(given.contains_key("TOLLGATE_RECORDS__URL") && given["TOLLGATE_STORE__URL"].starts_with("redis://:"), "{given:?}");
    check(&given, folder.path());
    // Of what may be left empty nothing is needed.
    for name in ["TRUSTED_PROXIES", "TOLLGATE_LIMITS", "LIMITS_MODE", "JWT_REFRESH_SECRET", "DEFAULT_ORG"] {
        variables.insert(name.to_owned(), String::new());
    }
    check(&environment("tollgate", &variables), folder.path());
}

#[test]
fn make_env_makes_secrets_of_its_own_takes_librechats_and_leaves_what_is_there() {
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let librechat = first.path().join("librechat.env");
    fs::write(&librechat, format!("# JWT_SECRET=old\nJWT_SECRET=\"{SECRET}\"\r\nJWT_REFRESH_SECRET='{SECRET}$x'\n")).unwrap();
    for folder in [&first, &second] {
        let made = make_env(folder.path(), &librechat.display().to_string());
        assert!(made.status.success(), "{made:?}");
    }
    let (one, other) = (variables(first.path()), variables(second.path()));
    assert_eq!((one["JWT_SECRET"].as_str(), one["JWT_REFRESH_SECRET"].as_str()), (SECRET, "a-secret-of-librechat-0123456789$x"));
    let example = file(".env.example");
    let generated = example.lines().filter_map(|line| line.strip_suffix("=generated")).filter(|name| !name.starts_with("JWT_"));
    let mut seen = Vec::new();
    for name in generated {
        assert!(one[name].len() >= 32 && one[name].bytes().all(|byte| byte.is_ascii_hexdigit()), "{name} is {:?}", one[name]);
        assert_ne!(one[name], other[name], "{name} is the same in two places");
        seen.push(&one[name]);
    }
    assert!(seen.len() > 4, "{example}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(first.path().join(".env")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "nobody else may read it: {mode:o}");
    }
    let made = make_env(first.path(), "");
    assert!(made.status.success() && variables(first.path()) == one, "what is there is left alone: {made:?}");
    assert!(!make_env(TempDir::new().unwrap().path(), "/nowhere/.env").status.success(), "a wrong name is an error");
}

#[test]
fn the_configuration_for_kubernetes_is_good() {
    let folder = TempDir::new().unwrap();
    let here = folder.path().display().to_string();
    let map = file("deploy/kubernetes/configmap.yaml");
    let toml = map.split_once("  tollgate.toml: |\n").expect("a configuration").1;
    let toml = toml.replace("/run/secrets/tollgate", &here).replace("/var/lib/tollgate", &here);
    fs::write(folder.path().join("tollgate.toml"), toml).unwrap();
    let secrets = file("deploy/kubernetes/secret.example.yaml");
    for line in secrets.split_once("stringData:\n").expect("secrets").1.lines() {
        let (name, value) = line.trim().split_once(": ").expect("a secret");
        fs::write(folder.path().join(name), value.trim_matches('"')).unwrap();
    }
    // The example's stand-in is no key; whoever follows it makes one.
    fs::write(folder.path().join("audit-signing.pem"), SIGNING_KEY).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    let ran = command.args(["check", "--config", "tollgate.toml"]).env_clear().current_dir(folder.path()).output().expect("the program");
    assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
}

/// Names are compared with all metrics in scripts/check-deploy.py; here it is the labels that rules pick series by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_series_that_rules_pick_are_there() {
    let gateway = Setup::default().start().await;
    gateway.client("ann@acme.test").exchange(&ChatBody::new("One [[tokens=5]]")).await.expect("an answer");
    gateway.all_settled().await;
    let metrics = gateway.metrics().await;
    let series = Regex::new(r"(tollgate_\w+)\{([^}]*)\}").unwrap();
    let label = Regex::new(r#"(\w+)=(~?)"([^"]*)""#).unwrap();
    let rules = file("prometheus/rules/recording.yml") + &file("prometheus/rules/alerts.yml");
    let mut picked = 0;
    for found in series.captures_iter(&rules) {
        for matcher in label.captures_iter(&found[2]).filter(|matcher| &matcher[1] != "job" && &matcher[3] != "5..") {
            for value in matcher[3].split(if &matcher[2] == "~" { "|" } else { "\0" }) {
                let (metric, wanted) = (&found[1], format!("{}=\"{value}\"", &matcher[1]));
                let there = metrics.lines().any(|line| line.starts_with(&format!("{metric}{{")) && line.contains(&wanted));
                assert!(there, "a rule reads {metric} with {wanted}, which /metrics does not show:\n{metrics}");
                picked += 1;
            }
        }
    }
    assert!(picked > 10, "the rules pick series by labels: {picked}");
}
