//! What questions of panels are answered.

use serde_json::Value;

use super::grafana::{Chosen, Dashboard, Panel, View, list, text};
use crate::support::postgres::{NULL, Postgres};
use crate::support::prometheus::Prometheus;

/// Who asks which database.
pub struct Asker<'a> {
    pub server: &'a Postgres,
    pub database: String,
    pub role: String,
    pub password: String,
    pub prometheus: Option<&'a Prometheus>,
}

/// The lines of a table, or series.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Table { columns: Vec<String>, lines: Vec<Vec<Option<String>>> },
    Series(Vec<Series>),
}

/// Seconds and values of one thing.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub labels: Vec<(String, String)>,
    pub points: Vec<(f64, f64)>,
}

/// How much there is to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shows {
    Nothing,
    /// Numbers, and all of them are zero.
    Zeros,
    Something,
}

impl Asker<'_> {
    /// What a panel is answered, question by question.
    pub async fn ask(&self, panel: Panel<'_>, view: &View) -> Result<Vec<Answer>, String> {
        let mut answers = Vec::new();
        for target in panel.targets() {
            let answer = match text(&target["datasource"], "uid") {
                "timescaledb" => self.sql(&view.sql(text(target, "rawSql"))),
                "prometheus" => self.promql(target, view).await,
                other => Err(format!("the data source {other} is not known here")),
            };
            answers.push(answer.map_err(|error| format!("{}: {error}\n{target:#}", panel.name()))?);
        }
        Ok(answers)
    }

    pub fn sql(&self, question: &str) -> Result<Answer, String> {
        let said = self.server.answers(&self.role, &self.password, &self.database, question)?;
        let mut reader = csv::Reader::from_reader(said.as_bytes());
        let columns = reader.headers().map_err(|error| error.to_string())?.iter().map(str::to_owned).collect();
        let cell = |text: &str| (text != NULL).then(|| text.to_owned());
        let lines = reader.records().map(|line| line.expect("psql writes CSV").iter().map(cell).collect()).collect();
        Ok(Answer::Table { columns, lines })
    }

    async fn promql(&self, target: &Value, view: &View) -> Result<Answer, String> {
        let prometheus = self.prometheus.ok_or("there is no Prometheus here")?;
        let query = view.promql(text(target, "expr"));
        let seconds = |time: jiff::Timestamp| format!("{:.3}", time.as_duration().as_secs_f64());
        let (from, to, step) = (seconds(view.from), seconds(view.to), format!("{:.3}", view.interval.as_secs_f64()));
        let result = if target["instant"] == true {
            prometheus.ask("query", &[("query", &query), ("time", &to)]).await?
        } else {
            prometheus.ask("query_range", &[("query", &query), ("start", &from), ("end", &to), ("step", &step)]).await?
        };
        let series = result.as_array().into_iter().flatten().map(series).collect();
        Ok(Answer::Series(series))
    }

    /// What variables of a dashboard can be set to, and are: all of those that may have several, else what is preferred, else the
    /// first.
    pub async fn choose(&self, dashboard: &Dashboard, view: &View, preferred: &[(&str, &str)]) -> View {
        let mut view = view.clone();
        for variable in dashboard.variables() {
            let (name, question) = (text(variable, "name"), text(variable, "definition"));
            let values = if text(variable, "type") == "custom" {
                list(variable, "options").iter().map(|option| text(option, "value").to_owned()).collect()
            } else if text(&variable["datasource"], "uid") == "prometheus" {
                self.label_values(question, &view).await
            } else {
                let Answer::Table { lines, .. } = self.sql(&view.sql(question)).unwrap_or_else(|error| panic!("{name}: {error}")) else {
                    continue;
                };
                lines.iter().filter_map(|line| line.first().cloned().flatten()).collect()
            };
            let chosen = match (variable["allValue"].as_str(), variable["multi"] == true) {
                (Some(all), true) if values.is_empty() => Chosen::Custom(all.to_owned()),
                (_, true) => Chosen::Several(values),
                (_, false) => {
                    let wanted = preferred.iter().find(|(wanted, value)| *wanted == name && values.iter().any(|there| there == value));
                    Chosen::One(wanted.map(|(_, value)| (*value).to_owned()).or(values.first().cloned()).unwrap_or_default())
                }
            };
            view.chosen.insert(name.to_owned(), chosen);
        }
        view
    }

    /// `label_values(metric, label)`.
    async fn label_values(&self, question: &str, view: &View) -> Vec<String> {
        let inside = question.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (metric, label) = inside.and_then(|inside| inside.split_once(", ")).expect("label_values(metric, label)");
        let target = serde_json::json!({ "expr": metric, "instant": true });
        let Ok(Answer::Series(series)) = self.promql(&target, view).await else { return Vec::new() };
        let value = |series: &Series| series.labels.iter().find(|(name, _)| name == label).map(|(_, value)| value.clone());
        series.iter().filter_map(value).collect()
    }
}

fn series(result: &Value) -> Series {
    let labels = result["metric"].as_object().into_iter().flatten();
    let labels = labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
    let point = |pair: &Value| Some((pair[0].as_f64()?, pair[1].as_str()?.parse().ok()?));
    let points = result["values"]
        .as_array()
        .map_or_else(|| point(&result["value"]).into_iter().collect(), |pairs| pairs.iter().filter_map(point).collect());
    Series { labels, points }
}

impl Answer {
    pub fn shows(&self, kind: &str) -> Shows {
        match self {
            // Words say something, and so does a line that ends in them.
            Self::Table { columns, lines } => {
                let values = |line: &Vec<Option<String>>| {
                    line.iter().skip(usize::from(columns.len() > 1)).flatten().map(|cell| of(kind, cell)).max()
                };
                lines.iter().filter_map(values).max().unwrap_or(Shows::Nothing)
            }
            Self::Series(series) if kind == "table" && !series.is_empty() => Shows::Something,
            Self::Series(series) => {
                let finite = series.iter().flat_map(|series| &series.points).filter(|(_, value)| value.is_finite());
                finite.map(|(_, value)| if *value == 0.0 { Shows::Zeros } else { Shows::Something }).max().unwrap_or(Shows::Nothing)
            }
        }
    }
}

fn of(kind: &str, cell: &str) -> Shows {
    match cell.parse::<f64>() {
        Ok(0.0) => Shows::Zeros,
        // In a graph or a stat only numbers are to be seen.
        Err(_) if kind != "table" => Shows::Nothing,
        _ => Shows::Something,
    }
}
