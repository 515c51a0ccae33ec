//! A dashboard as SVG, much as Grafana would lay it out in its light theme. No more than documentation needs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::dashboards::asked::{Answer, Series};
use crate::dashboards::grafana::{Dashboard, Panel, list, text};

/// One of the grid's 24 columns, and one of its lines, in pixels.
const COLUMN: f64 = 56.0;
const LINE: f64 = 32.0;
const COLOURS: [&str; 10] = ["#56a64b", "#f2cc0c", "#3274d9", "#ff780a", "#e02f44", "#5794f2", "#b877d9", "#705da0", "#37872d", "#fade2a"];

type Asked<'a> = (Panel<'a>, Vec<Answer>);

/// What is drawn into, and where.
struct Canvas {
    svg: String,
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// The whole dashboard.
pub fn page(dashboard: &Dashboard, panels: &[Asked<'_>]) -> String {
    let bottom = list(&dashboard.json, "panels").iter().map(|panel| at(panel, "y") + at(panel, "h")).fold(0.0, f64::max);
    let (width, height) = (24.0 * COLUMN, bottom * LINE + 40.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"Inter,Helvetica,Arial,sans-serif\" font-size=\"11\" fill=\"#24292e\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#f4f5f5\"/>\n<text x=\"12\" y=\"26\" font-size=\"18\">{}</text>\n",
        escaped(text(&dashboard.json, "title"))
    );
    for row in list(&dashboard.json, "panels").iter().filter(|panel| text(panel, "type") == "row") {
        let y = at(row, "y") * LINE + 60.0;
        let _ = writeln!(svg, "<text x=\"12\" y=\"{y:.0}\" font-size=\"13\" font-weight=\"600\">{}</text>", escaped(text(row, "title")));
    }
    for (panel, answers) in panels {
        let (x, y) = (at(panel.json, "x") * COLUMN + 4.0, at(panel.json, "y") * LINE + 44.0);
        let (width, height) = (at(panel.json, "w") * COLUMN - 8.0, at(panel.json, "h") * LINE - 8.0);
        let _ = write!(
            svg,
            "<svg x=\"{x:.0}\" y=\"{y:.0}\" width=\"{width:.0}\" height=\"{height:.0}\">\
             <rect width=\"100%\" height=\"100%\" rx=\"2\" fill=\"#fff\" stroke=\"#e0e2e4\"/><text x=\"8\" y=\"18\" font-weight=\"600\">{}</text>",
            escaped(panel.title())
        );
        let mut canvas = Canvas { svg, x: 8.0, y: 28.0, width: width - 16.0, height: height - 36.0 };
        canvas.draw(*panel, answers);
        svg = canvas.svg + "</svg>\n";
    }
    svg + "</svg>\n"
}

fn at(panel: &serde_json::Value, key: &str) -> f64 {
    panel["gridPos"][key].as_f64().unwrap_or_default()
}

impl Canvas {
    fn draw(&mut self, panel: Panel<'_>, answers: &[Answer]) {
        let unit = text(&panel.json["fieldConfig"]["defaults"], "unit");
        let coloured = list(&panel.json["fieldConfig"]["defaults"]["custom"], "cellOptions").is_empty()
            && panel.json["fieldConfig"]["defaults"]["custom"]["cellOptions"]["type"] == "color-background";
        match panel.kind() {
            "stat" => self.stat(panel, answers, unit),
            "timeseries" => self.lines(&over_time(panel, answers), unit),
            "barchart" => self.days(answers, unit),
            "bargauge" => self.bars(panel, answers, unit),
            "table" if coloured => self.heat(answers),
            _ => self.table(panel, answers),
        }
    }

    fn put(&mut self, x: f64, y: f64, style: &str, text: &str) {
        let _ = write!(self.svg, "<text x=\"{x:.0}\" y=\"{y:.0}\" {style}>{}</text>", escaped(text));
    }

    fn nothing(&mut self, panel: Panel<'_>) {
        let says = text(&panel.json["fieldConfig"]["defaults"], "noValue").to_owned();
        self.put(self.x + self.width / 2.0, self.y + self.height / 2.0, "text-anchor=\"middle\" fill=\"#8e9297\"", &says);
    }

    fn stat(&mut self, panel: Panel<'_>, answers: &[Answer], unit: &str) {
        let value = answers.first().and_then(|answer| match answer {
            Answer::Table { lines, .. } => lines.first()?.first()?.as_ref()?.parse::<f64>().ok(),
            Answer::Series(series) => series.first()?.points.last().map(|point| point.1),
        });
        let Some(value) = value else { return self.nothing(panel) };
        let mapped =
            panel.json["fieldConfig"]["defaults"]["mappings"][0]["options"][&format!("{value:.0}")]["text"].as_str().map(str::to_owned);
        let style = format!("font-size=\"26\" fill=\"{}\"", colour_of(&panel.json["fieldConfig"]["defaults"], value));
        self.put(self.x + 4.0, self.y + self.height / 2.0 + 12.0, &style, &mapped.unwrap_or_else(|| shown(value, unit)));
    }

    fn axis(&mut self, most: f64, unit: &str) -> (f64, f64, f64) {
        let (left, bottom) = (self.x + 46.0, self.y + self.height - 34.0);
        for quarter in 0..=4 {
            let (value, y) = (most * f64::from(quarter) / 4.0, bottom - (bottom - self.y) * f64::from(quarter) / 4.0);
            let _ = write!(self.svg, "<path d=\"M{left:.0} {y:.0}H{:.0}\" stroke=\"#e8e9ea\"/>", self.x + self.width);
            self.put(left - 5.0, y + 4.0, "text-anchor=\"end\" font-size=\"9\" fill=\"#6e7379\"", &shown(value, unit));
        }
        (left, bottom, self.x + self.width - left)
    }

    fn legend(&mut self, names: &[String]) {
        let (mut x, y) = (self.x, self.y + self.height);
        for (index, name) in names.iter().enumerate() {
            let short: String = name.chars().take(28).collect();
            #[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
            let width = short.chars().count() as f64 * 6.0 + 22.0;
            if x + width > self.x + self.width {
                break;
            }
            let _ = write!(self.svg, "<rect x=\"{x:.0}\" y=\"{:.0}\" width=\"10\" height=\"3\" fill=\"{}\"/>", y - 4.0, colour(index));
            self.put(x + 14.0, y, "font-size=\"10\"", &short);
            x += width;
        }
    }

    fn lines(&mut self, series: &[(String, Vec<(f64, f64)>)], unit: &str) {
        let points = || series.iter().flat_map(|(_, points)| points).filter(|(_, value)| value.is_finite());
        let most = points().map(|point| point.1).fold(0.0, f64::max);
        let (from, to) = points().fold((f64::INFINITY, 0.0_f64), |(from, to), point| (from.min(point.0), to.max(point.0)));
        let most = if most > 0.0 { most * 1.1 } else { 1.0 };
        let (left, bottom, width) = self.axis(most, unit);
        for (index, (_, points)) in series.iter().enumerate() {
            let mut path = String::new();
            for (time, value) in points.iter().filter(|(_, value)| value.is_finite()) {
                let (x, y) = (left + width * (time - from) / (to - from).max(1.0), bottom - (bottom - self.y) * value / most);
                let _ = write!(path, "{}{x:.0} {y:.0}", if path.is_empty() { 'M' } else { 'L' });
            }
            let _ = write!(self.svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{}\"/>", colour(index));
        }
        for (time, anchor) in [(from, "start"), (to, "end")].into_iter().filter(|(time, _)| time.is_finite() && *time > 0.0) {
            let x = if anchor == "start" { left } else { left + width };
            self.put(x, bottom + 13.0, &format!("font-size=\"9\" fill=\"#6e7379\" text-anchor=\"{anchor}\""), &clock(time));
        }
        self.legend(&series.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    }

    /// Bars by day, one on the other where there are several series.
    fn days(&mut self, answers: &[Answer], unit: &str) {
        let Some(Answer::Table { columns, lines }) = answers.first() else { return };
        let mut days = BTreeMap::<&str, Vec<(usize, f64)>>::new();
        let mut names = Vec::<String>::new();
        for line in lines {
            let name = if columns.len() > 2 { line[1].clone().unwrap_or_default() } else { String::new() };
            let index = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            let value = line.last().cloned().flatten().and_then(|value| value.parse().ok()).unwrap_or_default();
            days.entry(line[0].as_deref().unwrap_or_default()).or_default().push((index, value));
        }
        let most = days.values().map(|parts| parts.iter().map(|part| part.1).sum::<f64>()).fold(0.0, f64::max);
        let most = if most > 0.0 { most * 1.05 } else { 1.0 };
        let (left, bottom, width) = self.axis(most, unit);
        #[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
        let (count, labelled) = (days.len().max(1) as f64, days.len().div_ceil(4).max(1));
        for (number, (day, parts)) in days.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
            let x = left + width * (number as f64 + 0.1) / count;
            let mut y = bottom;
            for (index, value) in parts {
                let height = (bottom - self.y) * value / most;
                y -= height;
                let wide = width / count * 0.8;
                let _ = write!(
                    self.svg,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{height:.1}\" fill=\"{}\"/>",
                    colour(*index)
                );
            }
            if number % labelled == 0 {
                self.put(x, bottom + 13.0, "font-size=\"9\" fill=\"#6e7379\"", day);
            }
        }
        if columns.len() > 2 {
            self.legend(&names);
        }
    }

    fn bars(&mut self, panel: Panel<'_>, answers: &[Answer], unit: &str) {
        let values: Vec<(String, f64)> = match answers.first() {
            Some(Answer::Table { lines, .. }) => {
                lines.iter().filter_map(|line| Some((line[0].clone()?, line.last()?.as_ref()?.parse().ok()?))).collect()
            }
            Some(Answer::Series(_)) => {
                over_time(panel, answers).into_iter().filter_map(|(name, points)| Some((name, points.last()?.1))).collect()
            }
            None => Vec::new(),
        };
        if values.is_empty() {
            return self.nothing(panel);
        }
        let limit = panel.json["fieldConfig"]["defaults"]["max"].as_f64();
        let most = limit.unwrap_or_else(|| values.iter().map(|value| value.1).fold(0.0, f64::max)).max(f64::MIN_POSITIVE);
        let room = self.width - 190.0;
        for (number, (name, value)) in values.iter().enumerate().take(14) {
            #[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
            let y = self.y + 4.0 + number as f64 * 18.0;
            if y > self.y + self.height {
                break;
            }
            self.put(self.x, y + 10.0, "font-size=\"10\"", &name.chars().take(22).collect::<String>());
            let (wide, colour) = (room * (value / most).clamp(0.0, 1.0), colour_of(&panel.json["fieldConfig"]["defaults"], *value));
            let _ = write!(self.svg, "<rect x=\"{:.0}\" y=\"{y:.0}\" width=\"{room:.0}\" height=\"12\" fill=\"#eef0f1\"/>", self.x + 130.0);
            let colour = if colour == "#24292e" { COLOURS[2] } else { colour };
            let _ =
                write!(self.svg, "<rect x=\"{:.0}\" y=\"{y:.0}\" width=\"{wide:.0}\" height=\"12\" fill=\"{colour}\"/>", self.x + 130.0);
            self.put(self.x + self.width, y + 10.0, "font-size=\"10\" text-anchor=\"end\"", &shown(*value, unit));
        }
    }

    fn heat(&mut self, answers: &[Answer]) {
        let Some(Answer::Table { columns, lines }) = answers.first() else { return };
        let number = |cell: &Option<String>| cell.as_ref().and_then(|cell| cell.parse::<f64>().ok());
        let most = lines.iter().flat_map(|line| line.iter().skip(1)).filter_map(number).fold(1.0, f64::max);
        #[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
        let (wide, high) = ((self.width - 90.0) / (columns.len() - 1) as f64, self.height / (lines.len() + 1) as f64);
        #[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
        for (index, column) in columns.iter().enumerate().skip(1) {
            self.put(
                self.x + 90.0 + wide * (index as f64 - 0.5),
                self.y + 12.0,
                "font-size=\"10\" text-anchor=\"middle\" fill=\"#6e7379\"",
                column,
            );
        }
        for (row, line) in lines.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
            let y = self.y + high * (row as f64 + 1.0);
            self.put(self.x, y + high / 2.0 + 4.0, "", line[0].as_deref().unwrap_or_default());
            for (index, value) in line.iter().enumerate().skip(1).filter_map(|(index, cell)| Some((index, number(cell)?))) {
                #[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
                let x = self.x + 90.0 + wide * (index as f64 - 1.0);
                let share = value / most;
                let _ = write!(
                    self.svg,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#5a4fcf\" fill-opacity=\"{:.2}\"/>",
                    wide - 1.0,
                    high - 1.0,
                    0.06 + 0.9 * share
                );
                let style = format!("font-size=\"9\" text-anchor=\"middle\" fill=\"{}\"", if share > 0.55 { "#fff" } else { "#24292e" });
                self.put(x + wide / 2.0, y + high / 2.0 + 4.0, &style, &shown(value, "short"));
            }
        }
    }

    fn table(&mut self, panel: Panel<'_>, answers: &[Answer]) {
        let (columns, lines) = match answers.first() {
            Some(Answer::Table { columns, lines }) => (columns.clone(), lines.clone()),
            Some(Answer::Series(series)) => of_labels(series),
            None => return,
        };
        if lines.is_empty() {
            return self.nothing(panel);
        }
        let property = |column: &str, id: &str| {
            let of = list(&panel.json["fieldConfig"], "overrides").iter().filter(|of| of["matcher"]["options"] == column);
            of.flat_map(|of| list(of, "properties")).find(|property| property["id"] == id).map(|property| property["value"].clone())
        };
        let seen: Vec<usize> = (0..columns.len()).filter(|index| property(&columns[*index], "custom.hidden").is_none()).collect();
        let cell = |line: &Vec<Option<String>>, index: usize| {
            let unit = property(&columns[index], "unit").and_then(|unit| unit.as_str().map(str::to_owned)).unwrap_or_default();
            let value = line[index].clone().unwrap_or_default();
            value.parse::<f64>().ok().filter(|_| !matches!(unit.as_str(), "" | "string")).map_or(value, |number| shown(number, &unit))
        };
        let width_of = |index: usize| {
            lines
                .iter()
                .map(|line| cell(line, index).chars().count())
                .chain([columns[index].chars().count()])
                .max()
                .unwrap_or(1)
                .clamp(4, 40)
        };
        let all: usize = seen.iter().map(|index| width_of(*index) + 2).sum();
        let mut x = self.x;
        for index in seen {
            #[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
            let width = self.width * (width_of(index) + 2) as f64 / all as f64;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of letters")]
            let fits = (width / 6.0) as usize;
            self.put(x, self.y + 12.0, "font-weight=\"600\" fill=\"#3274d9\"", &columns[index].chars().take(fits).collect::<String>());
            for (number, line) in lines.iter().enumerate() {
                #[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
                let y = self.y + 32.0 + number as f64 * 18.0;
                if y > self.y + self.height {
                    break;
                }
                let is_link = property(&columns[index], "links").is_some();
                self.put(
                    x,
                    y,
                    if is_link { "text-decoration=\"underline\"" } else { "" },
                    &cell(line, index).chars().take(fits).collect::<String>(),
                );
            }
            x += width;
        }
    }
}

/// Series of both kinds, by name.
fn over_time(panel: Panel<'_>, answers: &[Answer]) -> Vec<(String, Vec<(f64, f64)>)> {
    let mut all = BTreeMap::<String, Vec<(f64, f64)>>::new();
    for (answer, target) in answers.iter().zip(panel.targets()) {
        match answer {
            Answer::Series(series) => {
                all.extend(series.iter().map(|series| (legend(series, text(target, "legendFormat")), series.points.clone())));
            }
            Answer::Table { columns, lines } => {
                for line in lines {
                    let time = line[0].as_deref().map(seconds).unwrap_or_default();
                    for (index, column) in columns.iter().enumerate().skip(2) {
                        let metric = line[1].clone().unwrap_or_default();
                        let name = if columns.len() > 3 { format!("{metric} {column}") } else { metric };
                        let value = line[index].as_deref().and_then(|value| value.parse().ok());
                        all.entry(name).or_default().extend(value.map(|value| (time, value)));
                    }
                }
            }
        }
    }
    all.into_iter().filter(|(_, points)| !points.is_empty()).collect()
}

fn legend(series: &Series, format: &str) -> String {
    if format == "__auto" {
        return series.labels.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>().join(" ");
    }
    series.labels.iter().fold(format.to_owned(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
}

fn of_labels(series: &[Series]) -> (Vec<String>, Vec<Vec<Option<String>>>) {
    let mut columns: Vec<String> = series.iter().flat_map(|series| series.labels.iter().map(|(name, _)| name.clone())).collect();
    columns.sort();
    columns.dedup();
    columns.push("Value".to_owned());
    let value = |series: &Series, column: &String| series.labels.iter().find(|(name, _)| name == column).map(|(_, value)| value.clone());
    let line = |series: &Series| {
        let number = series.points.last().map(|point| point.1.to_string());
        columns.iter().map(|column| if column == "Value" { number.clone() } else { value(series, column) }).collect()
    };
    let lines = series.iter().map(line).collect();
    (columns, lines)
}

/// PostgreSQL's text of an instant, or seconds.
fn seconds(text: &str) -> f64 {
    let instant = text.replacen(' ', "T", 1);
    text.parse().ok().or_else(|| instant.parse::<jiff::Timestamp>().ok().map(|at| at.as_duration().as_secs_f64())).unwrap_or_default()
}

fn clock(seconds: f64) -> String {
    let instant = jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs_f64(seconds);
    instant.to_zoned(jiff::tz::TimeZone::UTC).strftime("%m-%d %H:%M:%S").to_string()
}

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

fn colour_of(defaults: &serde_json::Value, value: f64) -> &'static str {
    let mut steps = list(&defaults["thresholds"], "steps").iter();
    match steps.rfind(|step| step["value"].as_f64().is_none_or(|from| value >= from)).map(|step| text(step, "color")) {
        Some("green") => "#37872d",
        Some("yellow") => "#b58a00",
        Some("red") => "#c4162a",
        _ => "#24292e",
    }
}

/// A number as people read it, in this unit.
fn shown(value: f64, unit: &str) -> String {
    match unit {
        "currencyUSD" if value.abs() < 0.1 && value != 0.0 => format!("${value:.4}"),
        "currencyUSD" if value.abs() < 1000.0 => format!("${value:.2}"),
        "currencyUSD" => format!("${}", scaled(value)),
        "percentunit" => format!("{:.1} %", value * 100.0),
        "percent" => format!("{value:.1} %"),
        "ms" if value >= 1000.0 => format!("{:.1} s", value / 1000.0),
        "ms" => format!("{value:.0} ms"),
        "s" if value.abs() < 0.001 && value != 0.0 => format!("{:.0} µs", value * 1e6),
        "s" if value.abs() < 1.0 && value != 0.0 => format!("{:.1} ms", value * 1000.0),
        "s" if value.abs() > 172_800.0 => format!("{:.0} d", value / 86_400.0),
        "s" => format!("{value:.1} s"),
        "bytes" | "Bps" => {
            let (number, prefix) = if value >= 1e9 {
                (value / 1_073_741_824.0, "Gi")
            } else if value >= 1e6 {
                (value / 1_048_576.0, "Mi")
            } else {
                (value / 1024.0, "Ki")
            };
            format!("{number:.1} {prefix}B{}", if unit == "Bps" { "/s" } else { "" })
        }
        "dateTimeFromNow" if value > 1e11 => clock(value / 1000.0),
        _ => scaled(value),
    }
}

fn scaled(value: f64) -> String {
    match value.abs() {
        size if size >= 1e9 => format!("{:.2} Bil", value / 1e9),
        size if size >= 1e6 => format!("{:.2} Mil", value / 1e6),
        size if size >= 1e4 => format!("{:.1} K", value / 1e3),
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        size if size < 1.0 => format!("{value:.3}"),
        _ => format!("{value:.1}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
