//! Dashboards as Grafana reads them, and their questions as Grafana asks them: with variables and macros in place. What is not
//! done here as Grafana does it is not let through.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use regex::{Captures, Regex};
use serde_json::Value;

/// A dashboard of `grafana/dashboards`.
pub struct Dashboard {
    pub file: String,
    pub json: Value,
}

/// One of its panels.
#[derive(Clone, Copy)]
pub struct Panel<'a> {
    pub dashboard: &'a Dashboard,
    pub json: &'a Value,
}

/// The dashboards of `operators` or `orgs`, by name.
pub fn dashboards(folder: &str) -> Vec<Dashboard> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana/dashboards").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(&folder).expect("dashboards").map(|file| file.expect("a file").path()).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| Dashboard {
        file: path.file_name().expect("a name").to_string_lossy().into_owned(),
        json: serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON"),
    };
    files.iter().map(read).collect()
}

/// What stands at this key, as text; nothing where there is none.
pub fn text<'a>(json: &'a Value, key: &str) -> &'a str {
    json[key].as_str().unwrap_or_default()
}

/// What stands at this key, as a list.
pub fn list<'a>(json: &'a Value, key: &str) -> &'a [Value] {
    json[key].as_array().map_or(&[], Vec::as_slice)
}

impl Dashboard {
    /// Its panels, rows left out.
    pub fn panels(&self) -> Vec<Panel<'_>> {
        let panels = list(&self.json, "panels").iter().filter(|panel| text(panel, "type") != "row");
        panels.map(|json| Panel { dashboard: self, json }).collect()
    }

    pub fn uid(&self) -> &str {
        text(&self.json, "uid")
    }

    pub fn variables(&self) -> &[Value] {
        list(&self.json["templating"], "list")
    }
}

impl<'a> Panel<'a> {
    pub fn kind(self) -> &'a str {
        text(self.json, "type")
    }

    pub fn title(self) -> &'a str {
        text(self.json, "title")
    }

    pub fn targets(self) -> &'a [Value] {
        list(self.json, "targets")
    }

    /// `uid / title`, as a test tells of it.
    pub fn name(self) -> String {
        format!("{} / {}", self.dashboard.uid(), self.title())
    }
}

/// What a variable is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// The value of a variable that has one.
    One(String),
    /// The values of a variable that may have several.
    Several(Vec<String>),
    /// All, of a variable that says itself what stands for all; it is taken as it is, whatever the format.
    Custom(String),
}

/// The time that is looked at, and what is chosen.
#[derive(Debug, Clone)]
pub struct View {
    pub from: Timestamp,
    pub to: Timestamp,
    /// The time between two points of a graph.
    pub interval: Duration,
    /// How often Prometheus asks.
    pub scrape: Duration,
    pub chosen: BTreeMap<String, Chosen>,
    /// What the data source's switch says, by which macros differ.
    pub timescale: bool,
}

impl View {
    /// A question to Prometheus.
    pub fn promql(&self, question: &str) -> String {
        let asked = self.with_variables(question);
        assert!(!asked.contains('$'), "a variable or macro that is not known here: {asked}");
        asked
    }

    /// A question to PostgreSQL: variables first, as the browser does, then macros, as the server does.
    pub fn sql(&self, question: &str) -> String {
        let asked = self.with_variables(question);
        let macros = Regex::new(r"\$(__\w+)\(([^)]*)\)").unwrap();
        let asked = macros.replace_all(&asked, |found: &Captures<'_>| self.sql_macro(&found[1], &found[2])).into_owned();
        assert!(!asked.contains('$'), "a variable or macro that is not known here: {asked}");
        asked
    }

    fn with_variables(&self, question: &str) -> String {
        // What is followed by a bracket is a macro of the data source, and not the browser's.
        let variables = Regex::new(r"\$\{(\w+)(?::(\w+))?\}|\$(\w+)(\()?").unwrap();
        let replaced = variables.replace_all(question, |found: &Captures<'_>| {
            if found.get(4).is_some() {
                return found[0].to_owned();
            }
            let name = found.get(1).or(found.get(3)).map_or("", |name| name.as_str());
            self.global(name).unwrap_or_else(|| self.variable(name, found.get(2).map(|format| format.as_str())))
        });
        replaced.into_owned()
    }

    fn global(&self, name: &str) -> Option<String> {
        let range = self.to.duration_since(self.from).unsigned_abs();
        match name {
            "__interval" => Some(format!("{}ms", self.interval.as_millis())),
            "__range" => Some(format!("{}s", range.as_secs())),
            // Four scrapes, or the interval and one more.
            "__rate_interval" => Some(format!("{}ms", (self.interval + self.scrape).max(4 * self.scrape).as_millis())),
            _ => None,
        }
    }

    fn variable(&self, name: &str, format: Option<&str>) -> String {
        let values = match (self.chosen.get(name), format) {
            (Some(Chosen::Custom(all)), _) => return all.clone(),
            (Some(Chosen::One(value)), None) => return value.replace('\\', r"\\").replace('\'', r"\\'"),
            (Some(Chosen::One(value)), _) => std::slice::from_ref(value),
            (Some(Chosen::Several(values)), _) => values,
            (None, _) => panic!("nothing is known of a variable {name}"),
        };
        match format {
            Some("sqlstring") => values.iter().map(|value| format!("'{}'", value.replace('\'', "''"))).collect::<Vec<_>>().join(","),
            // As the data source of Prometheus escapes them, for a pattern in a string.
            None => {
                let special = Regex::new(r"[$^*{}\[\]'+?.()|]").unwrap();
                let escape = |value: &String| special.replace_all(&value.replace('\\', r"\\\\"), r"\\$0").into_owned();
                let escaped: Vec<_> = values.iter().map(escape).collect();
                if let [one] = escaped.as_slice() { one.clone() } else { format!("({})", escaped.join("|")) }
            }
            other => panic!("the format {other:?} of {name} is not known here"),
        }
    }

    /// As `pkg/tsdb/grafana-postgresql-datasource/macros.go` documents them.
    fn sql_macro(&self, name: &str, arguments: &str) -> String {
        let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
        let quoted = |time: Timestamp| format!("'{time}'");
        match (name, arguments.as_slice()) {
            ("__timeFilter", [column]) => format!("{column} BETWEEN {} AND {}", quoted(self.from), quoted(self.to)),
            ("__timeFrom", _) => quoted(self.from),
            ("__timeTo", _) => quoted(self.to),
            ("__timeGroupAlias", [column, interval]) => {
                let seconds = seconds(interval);
                if self.timescale {
                    format!("time_bucket('{seconds:.3}s',{column}) AS \"time\"")
                } else {
                    format!("floor(extract(epoch from {column})/{seconds})*{seconds} AS \"time\"")
                }
            }
            _ => panic!("the macro {name}({arguments:?}) is not known here"),
        }
    }
}

fn seconds(interval: &str) -> f64 {
    let milliseconds: f64 = interval.trim_end_matches("ms").parse().expect("an interval in milliseconds");
    milliseconds / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(chosen: &[(&str, Chosen)]) -> View {
        let chosen = chosen.iter().map(|(name, chosen)| ((*name).to_owned(), chosen.clone())).collect();
        let (from, to) = ("2026-11-20T12:00:00Z".parse().unwrap(), "2026-11-20T12:02:00Z".parse().unwrap());
        let (interval, scrape) = (Duration::from_secs(2), Duration::from_millis(250));
        View { from, to, interval, scrape, chosen, timescale: true }
    }

    #[test]
    fn questions_are_asked_as_grafana_asks_them() {
        let several = |values: &[&str]| Chosen::Several(values.iter().map(|value| (*value).to_owned()).collect());
        let one = |value: &str| Chosen::One(value.to_owned());
        let (org, any) = (several(&["acme", "o'neil"]), Chosen::Custom(".*".to_owned()));
        let chosen = view(&[("org", org), ("one", one("o'a.b")), ("at", several(&["10.0.0.1:9464"])), ("any", any)]);
        assert_eq!(chosen.sql("WHERE org_id IN (${org:sqlstring})"), "WHERE org_id IN ('acme','o''neil')");
        assert_eq!(chosen.sql("= ${one:sqlstring}"), "= 'o''a.b'");
        assert_eq!(chosen.sql("$__timeFilter(used.time)"), "used.time BETWEEN '2026-11-20T12:00:00Z' AND '2026-11-20T12:02:00Z'");
        assert_eq!(chosen.sql("SELECT $__timeGroupAlias(time, $__interval), 1"), "SELECT time_bucket('2.000s',time) AS \"time\", 1");
        let plain = View { timescale: false, ..chosen.clone() };
        assert_eq!(plain.sql("$__timeGroupAlias(time, $__interval)"), "floor(extract(epoch from time)/2)*2 AS \"time\"");
        assert_eq!(chosen.promql(r#"x{i=~"$at|$any", o="$one"}"#), r#"x{i=~"10\\.0\\.0\\.1:9464|.*", o="o\\'a.b"}"#);
        assert_eq!(chosen.promql("rate(x[$__rate_interval])"), "rate(x[2250ms])");
        assert_eq!(chosen.promql("increase(x[$__range])"), "increase(x[120s])");
    }
}
