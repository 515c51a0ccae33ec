//! What can be said of dashboards without asking anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use regex::Regex;
use serde_json::Value;

use super::at_rest;
use super::grafana::{Dashboard, Panel, dashboards, list, text};

const FOLDERS: [&str; 2] = ["operators", "orgs"];

/// What Grafana takes, of units; a word that it does not know is shown behind the number.
const UNITS: &[&str] = &[
    "none",
    "short",
    "string",
    "percent",
    "percentunit",
    "currencyUSD",
    "ms",
    "s",
    "bytes",
    "Bps",
    "reqps",
    "ops",
    "rps",
    "dateTimeAsIso",
    "dateTimeFromNow",
];

/// Of others: Prometheus itself, and the exporter that asks the public address.
const FOREIGN: &[&str] = &["up", "ALERTS", "probe_ssl_earliest_cert_expiry"];

fn root(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every text in it, wherever it stands.
fn texts(json: &Value, seen: &mut impl FnMut(&str)) {
    match json {
        Value::String(text) => seen(text),
        Value::Array(values) => values.iter().for_each(|value| texts(value, seen)),
        Value::Object(values) => values.values().for_each(|value| texts(value, seen)),
        _ => {}
    }
}

#[test]
fn every_dashboard_is_one_that_grafana_takes() {
    let colours = Regex::new(r"^#[0-9a-fA-F]{3,8}$|^rgba?\(").unwrap();
    for folder in FOLDERS {
        let all = dashboards(folder);
        let uids: BTreeSet<&str> = all.iter().map(Dashboard::uid).collect();
        assert_eq!(uids.len(), all.len(), "{folder}: uids are unique");
        for dashboard in &all {
            let (json, file) = (&dashboard.json, &dashboard.file);
            assert_eq!(
                format!("tollgate-{}", file.trim_end_matches(".json")),
                dashboard.uid(),
                "{folder}/{file}: an uid that is not its name"
            );
            assert!(
                json["schemaVersion"].as_u64() >= Some(39) && !text(json, "title").is_empty() && !text(json, "description").is_empty(),
                "{file}"
            );
            assert_eq!(list(json, "tags"), ["tollgate"], "{file}: the tag that the dashboards are linked by");
            assert_eq!(list(&json["links"][0], "tags"), ["tollgate"], "{file}: the way to the others");
            assert_eq!(text(json, "timezone"), "browser", "{file}");
            let ids: BTreeSet<u64> = list(json, "panels").iter().filter_map(|panel| panel["id"].as_u64()).collect();
            assert_eq!(ids.len(), list(json, "panels").len(), "{file}: every panel has an id of its own");
            no_two_panels_lie_on_each_other(dashboard);
            links_lead_somewhere(dashboard, &all);
            texts(json, &mut |text| assert!(!colours.is_match(text), "{file}: {text} is for one theme; name a colour"));
            dashboard.panels().into_iter().for_each(a_panel_says_what_it_is);
        }
    }
}

fn a_panel_says_what_it_is(panel: Panel<'_>) {
    let (json, name) = (panel.json, panel.name());
    assert!(!panel.title().is_empty() && text(json, "description").len() > 5, "{name}: no title or description");
    assert!(!panel.targets().is_empty(), "{name}: no question");
    let letters: BTreeSet<&str> = panel.targets().iter().map(|target| text(target, "refId")).collect();
    assert_eq!(letters.len(), panel.targets().len(), "{name}: questions share a letter");
    for target in panel.targets() {
        let (uid, question) = (text(&target["datasource"], "uid"), format!("{}{}", text(target, "rawSql"), text(target, "expr")));
        assert!(matches!(uid, "prometheus" | "timescaledb"), "{name}: {uid} is provisioned nowhere");
        assert_eq!(uid == "timescaledb", target["rawSql"].is_string(), "{name}: a question for another");
        assert!(question.len() > 5, "{name}: an empty question");
    }
    let defaults = &json["fieldConfig"]["defaults"];
    assert!(defaults["noValue"].is_string(), "{name}: nothing is said where there is nothing");
    let steps = list(&defaults["thresholds"], "steps");
    assert!(steps.first().is_some_and(|step| step["value"].is_null()), "{name}: thresholds begin with what holds from the beginning");
    let mut units = vec![text(defaults, "unit")];
    for property in list(&json["fieldConfig"], "overrides").iter().flat_map(|of| list(of, "properties")) {
        units.extend((property["id"] == "unit").then(|| text(property, "value")));
    }
    for unit in units {
        assert!(UNITS.contains(&unit), "{name}: the unit {unit:?}");
    }
}

fn no_two_panels_lie_on_each_other(dashboard: &Dashboard) {
    let mut taken: BTreeMap<(u64, u64), &str> = BTreeMap::new();
    for panel in list(&dashboard.json, "panels") {
        let of = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        assert!(of("x") + of("w") <= 24, "{} is off the grid", text(panel, "title"));
        for (x, y) in (of("y")..of("y") + of("h")).flat_map(|y| (of("x")..of("x") + of("w")).map(move |x| (x, y))) {
            let other = taken.insert((x, y), text(panel, "title"));
            assert_eq!(other, None, "{}: {} lies on it", dashboard.file, text(panel, "title"));
        }
    }
}

/// Links name dashboards that are there, set variables that those have, and take the time along.
fn links_lead_somewhere(dashboard: &Dashboard, all: &[Dashboard]) {
    let link = Regex::new(r"^/d/([\w-]+)/[\w-]+\?").unwrap();
    let set = Regex::new(r"var-(\w+)=").unwrap();
    texts(&dashboard.json, &mut |link_or_not| {
        let Some(found) = link.captures(link_or_not) else { return };
        let target = all.iter().find(|other| other.uid() == &found[1]);
        let target = target.unwrap_or_else(|| panic!("{}: {link_or_not} leads nowhere", dashboard.file));
        for variable in set.captures_iter(link_or_not) {
            let is_there = target.variables().iter().any(|known| text(known, "name") == &variable[1]);
            assert!(is_there, "{}: {link_or_not} sets what {} does not have", dashboard.file, target.file);
        }
        assert!(link_or_not.contains("${__url_time_range}"), "{}: {link_or_not} forgets the time", dashboard.file);
    });
}

/// Admins of an org read the database alone, and are led to nothing that they do not have.
#[test]
fn dashboards_of_orgs_ask_nothing_of_everyone() {
    let of_orgs = dashboards("orgs");
    assert!(of_orgs.len() >= 6, "org, member, cost, tools, limits, audit, patterns");
    for dashboard in &of_orgs {
        texts(&dashboard.json, &mut |text| assert_ne!(text, "prometheus", "{}: its numbers are everyone's", dashboard.file));
    }
}

/// Every metric is one that the program shows, or a rule records.
#[test]
fn every_metric_is_there() {
    let snapshot = root("src/telemetry/metrics/snapshots/tollgate__telemetry__metrics__tests__names.snap");
    let shown: BTreeSet<&str> =
        Regex::new(r"(?m)^([a-z]\w*)").unwrap().captures_iter(&snapshot).map(|found| found.get(1).unwrap().as_str()).collect();
    let rules = root("prometheus/rules/recording.yml");
    let recorded: BTreeSet<&str> =
        Regex::new(r"record: (\S+)").unwrap().captures_iter(&rules).map(|found| found.get(1).unwrap().as_str()).collect();
    let quoted = Regex::new(r#""[^"]*""#).unwrap();
    let bare = Regex::new(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|group_left|without)\s*\([^)]*\)").unwrap();
    let name = Regex::new(r"[a-zA-Z_:][\w:]*").unwrap();
    for panel in dashboards("operators").iter().flat_map(Dashboard::panels) {
        for expr in panel.targets().iter().map(|target| text(target, "expr")) {
            let expr = quoted.replace_all(expr, "").into_owned();
            let expr = bare.replace_all(&expr, "");
            let names =
                name.find_iter(&expr).filter(|found| !expr[found.end()..].starts_with('(') && !expr[found.end()..].starts_with(" ("));
            for metric in names.map(|found| found.as_str()).filter(|name| name.contains(['_', ':']) || FOREIGN.contains(name)) {
                let there = shown.contains(metric) || recorded.contains(metric) || FOREIGN.contains(&metric);
                assert!(there || metric == "group_left", "{}: nothing shows {metric}", panel.name());
            }
        }
    }
}

/// What stands in the table of the test is there, and once.
#[test]
fn what_is_said_of_panels_at_rest_is_said_of_panels_that_are_there() {
    let all = dashboards("operators");
    let there: BTreeSet<(&str, &str)> =
        all.iter().flat_map(|dashboard| dashboard.panels().into_iter().map(|panel| (dashboard.uid(), panel.title()))).collect();
    let mut named = BTreeSet::new();
    for panel in at_rest::named() {
        assert!(there.contains(&panel) && named.insert(panel), "{panel:?} is not there, or stands twice");
    }
}
