//! What an org's own admins are given: a data source by which they see their org, and dashboards that this is enough for.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tollgate::scripted::User;

use super::asked::{Asker, Shows};
use super::at_rest::{self, Rest};
use super::grafana::{Panel, dashboards};
use super::traffic::{EVE, Place};
use super::until_they_show;

/// Provisions an organization of Grafana, and answers whether that went well and what was said.
fn provision(place: &Place, folder: &Path, more: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(["grafana", "provision", "--dir"]).arg(folder).args(more);
    let output =
        command.args(["--config", "tollgate.toml"]).current_dir(place.tollgate.folder()).env_clear().output().expect("the program");
    (output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The value of a key of the YAML.
fn value(yaml: &str, key: &str) -> String {
    let line = yaml.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {key} in\n{yaml}")).trim_matches('\'').to_owned()
}

/// The server asks this role for its password, as others do.
fn ask_for_the_password_of(place: &Place, role: &str) {
    let file = place.server.sql(&place.database, "SHOW hba_file").expect("a setting");
    let lines = fs::read_to_string(&file).expect("who may sign in");
    fs::write(&file, format!("host all {role} 127.0.0.1/32 scram-sha-256\n{lines}")).expect("who may sign in");
    place.server.sql(&place.database, "SELECT pg_reload_conf()").expect("a function");
}

pub async fn admins_of_an_org_see_theirs_and_nothing_else(place: &Place) {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let role = format!("seen_{}", place.database.rsplit('_').next().unwrap_or_default());
    let asked = ["--org", "acme", "--grafana-org", "7", "--role", &role];
    let (went_well, said) = provision(place, folder, &asked);
    assert!(went_well && said.contains("datasources/org-acme.yml"), "{said}");
    let password_file = folder.join("secrets/org-acme.password");
    let (yaml, provider) = (read(folder, "datasources/org-acme.yml"), read(folder, "dashboards/org-acme.yml"));
    let password = read(folder, "secrets/org-acme.password").trim().to_owned();
    assert_eq!(fs::metadata(&password_file).expect("a file").permissions().mode() & 0o777, 0o600, "the password is its owner's alone");
    assert!(password.len() == 32 && !yaml.contains(&password) && !said.contains(&password), "it stands there and nowhere else");
    assert_eq!(value(&yaml, "password"), "$__file{/etc/grafana/provisioning/secrets/org-acme.password}");
    assert_eq!((value(&yaml, "uid"), value(&yaml, "orgId"), value(&provider, "orgId")), ("timescaledb".into(), "7".into(), "7".into()));
    assert_eq!(value(&provider, "path"), "/var/lib/grafana/dashboards/orgs");
    assert_eq!((value(&yaml, "user"), value(&yaml, "url")), (role.clone(), format!("127.0.0.1:{}", place.server.port())));
    assert!(place.database.ends_with(&value(&yaml, "database")), "{yaml}");
    ask_for_the_password_of(place, &role);
    only_acme_is_seen(place, &role, &password).await;
    // Again.
    let (went_well, said) = provision(place, folder, &asked);
    assert!(went_well, "{said}");
    let again = (read(folder, "datasources/org-acme.yml"), read(folder, "secrets/org-acme.password").trim().to_owned());
    assert_eq!(again, (yaml, password.clone()), "doing it twice changes nothing");
    // Another password.
    let (went_well, said) = provision(place, folder, &[&asked[..], &["--new-password"]].concat());
    let renewed = read(folder, "secrets/org-acme.password").trim().to_owned();
    assert!(went_well && renewed != password, "{said}");
    let select = |password: &str| place.server.answers(&role, password, &place.database, "SELECT 1");
    assert!(select(&password).is_err() && select(&renewed).is_ok(), "the old one is good for nothing");
    // What must not be.
    let (went_well, said) = provision(place, folder, &["--org", "blue", "--grafana-org", "7", "--role", "seen_by_blue"]);
    assert!(!went_well && said.contains("org-acme.yml"), "two orgs in one organization of Grafana: {said}");
    let (went_well, said) = provision(place, folder, &["--org", "acme", "--grafana-org", "1", "--role", &role]);
    assert!(!went_well, "the operators' own organization: {said}");
    fs::remove_file(&password_file).expect("a file");
    let (went_well, said) = provision(place, folder, &asked);
    assert!(!went_well && said.contains("--new-password"), "nobody knows its password: {said}");
}

/// By the data source that was written, every panel for admins of an org is answered, and not a word of the answers is blue's.
async fn only_acme_is_seen(place: &Place, role: &str, password: &str) {
    let (server, database) = (&place.server, place.database.clone());
    let asker = Asker { server, database, role: role.to_owned(), password: password.to_owned(), prometheus: None };
    let must = |panel: Panel<'_>| Some(if at_rest::of(panel) == Rest::Zero { Shows::Zeros } else { Shows::Something });
    let answers = until_they_show(&asker, &dashboards("orgs"), must, async || {}).await;
    let (eve, name) = (User::new(EVE), "Blue");
    for (panel, answer) in answers {
        for secret in ["blue", name, &eve.id, &eve.name, EVE] {
            // Words with this in them are few: none of acme's has it.
            assert!(!format!("{answer:?}").contains(&format!("\"{secret}\"")), "{panel} shows {secret} to acme: {answer:?}");
        }
    }
    let everything = "SELECT COUNT(*) FILTER (WHERE org_id <> 'acme') AS others, COUNT(*) AS all FROM usage_daily";
    let said = place.server.answers(role, password, &place.database, everything).expect("an answer");
    assert!(said.lines().nth(1).is_some_and(|line| line.starts_with("0,") && line != "0,0"), "{said}");
    let others = place.server.sql(&place.database, "SELECT COUNT(*) FROM usage_daily WHERE org_id = 'blue'").expect("a count");
    assert_ne!(others, "0", "there is something of blue's to be hidden");
}
