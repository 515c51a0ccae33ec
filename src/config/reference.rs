//! The reference of all settings for people who read pages: made from [`super::DEFAULTS`], which documents every key.

use std::fmt::Write as _;

/// What stands before the settings.
const INTRODUCTION: &str = "# Settings

Made from `config/tollgate.toml`, the built-in layer that documents every key, by `make reference`; a test holds the two together.
A file of your own needs only the keys that differ. Settings lie over each other: the defaults, your file, LibreChat's own `JWT_SECRET` and
`JWT_REFRESH_SECRET`, and variables `TOLLGATE_SECTION__KEY` (`TOLLGATE_PUBLIC__LISTEN`). Every secret can stand in a file of its own: the
same key with `_file` behind it. `tollgate check --config FILE` says whether a file is good.
";

/// One line of the defaults.
#[derive(Clone, Copy)]
enum Line<'a> {
    /// `# ---- Title ----`.
    Title(&'a str),
    /// `[section]`, or `# [[list]]`.
    Section(&'a str),
    /// `key = value`, or `# key = value` where there is no default, with what stands behind it.
    Key { name: &'a str, value: &'a str, is_default: bool, remark: &'a str },
    /// A line of prose.
    Prose(&'a str),
    /// Nothing.
    Empty,
}

/// All settings as a Markdown page.
pub fn markdown(defaults: &str) -> String {
    let mut page = Page { text: INTRODUCTION.to_owned(), ..Page::default() };
    let titled = defaults.lines().skip_while(|line| !matches!(read(line), Line::Title(_)));
    for line in titled {
        page.take(read(line));
    }
    page.leave_section();
    page.text
}

/// What is written, and what waits for the line that it belongs to.
#[derive(Default)]
struct Page {
    text: String,
    prose: Vec<String>,
    /// Whether a table is open.
    in_table: bool,
}

impl Page {
    fn take(&mut self, line: Line<'_>) {
        match line {
            Line::Title(title) => {
                self.leave_section();
                let _ = write!(self.text, "\n\n## {title}\n");
            }
            Line::Section(section) => {
                self.leave_section();
                let _ = write!(self.text, "\n### `{section}`\n");
            }
            Line::Key { name, value, is_default, remark } => self.key(name, value, is_default, remark),
            Line::Prose(prose) => self.prose.push(prose.to_owned()),
            Line::Empty if !self.in_table => self.write_prose(),
            Line::Empty => {}
        }
    }

    fn key(&mut self, name: &str, value: &str, is_default: bool, remark: &str) {
        if !self.in_table {
            self.text.push_str("\n| Key | Default | |\n|---|---|---|\n");
            self.in_table = true;
        }
        let default = if is_default { code(value) } else { format!("none; {}", code(value)) };
        let mut meaning = std::mem::take(&mut self.prose);
        meaning.extend((!remark.is_empty()).then(|| remark.to_owned()));
        let _ = writeln!(self.text, "| `{name}` | {default} | {} |", cell(&meaning.join(" ")));
    }

    /// Prose that belongs to no key.
    fn write_prose(&mut self) {
        let paragraphs = std::mem::take(&mut self.prose).join("\n");
        for paragraph in paragraphs.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
            let _ = write!(self.text, "\n{}\n", escaped(paragraph.trim()));
        }
    }

    fn leave_section(&mut self) {
        self.in_table = false;
        self.write_prose();
    }
}

fn read(line: &str) -> Line<'_> {
    if line.is_empty() {
        return Line::Empty;
    }
    if let Some(title) = line.strip_prefix("# ---- ") {
        return Line::Title(title.trim_end_matches('-').trim());
    }
    let commented = line.strip_prefix('#').map(|rest| rest.strip_prefix(' ').unwrap_or(rest));
    let text = commented.unwrap_or(line);
    if text.starts_with('[') && text.ends_with(']') {
        return Line::Section(text);
    }
    match text.split_once(" = ") {
        Some((name, value)) if is_key(name) => {
            let (value, remark) = value_and_remark(value);
            Line::Key { name, value, is_default: commented.is_none(), remark }
        }
        _ => Line::Prose(text.strip_prefix("# ").unwrap_or(text)),
    }
}

fn is_key(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// A value, and the remark behind it: what follows a `#` outside of quotes.
fn value_and_remark(text: &str) -> (&str, &str) {
    let mut quote = None;
    for (place, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'#') => return (text.get(..place).unwrap_or(text).trim(), text.get(place + 1..).unwrap_or_default().trim()),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    (text.trim(), "")
}

fn code(value: &str) -> String {
    format!("`{}`", value.replace('|', "\\|"))
}

/// Text within a table, where a bar would end the cell.
fn cell(text: &str) -> String {
    escaped(text).replace('|', "\\|")
}

/// What Markdown would take for something else.
fn escaped(text: &str) -> String {
    text.replace('*', "\\*").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_in_tables_under_their_sections() {
        let page = markdown(
            "# not this\n\n# ---- One ------\n# About one.\n\n[a]\n# What b is,\n# in two | lines.\nb = \"x # y\"\n# c = 1  # Optional.\n\n# [[d]]\n# e = 2\n#\n# Then this.\n",
        );
        let expected = "\n\n## One\n\nAbout one.\n\n### `[a]`\n\n| Key | Default | |\n|---|---|---|\n\
            | `b` | `\"x # y\"` | What b is, in two \\| lines. |\n| `c` | none; `1` | Optional. |\n\
            \n### `[[d]]`\n\n| Key | Default | |\n|---|---|---|\n| `e` | none; `2` |  |\n\nThen this.\n";
        assert_eq!(page.strip_prefix(INTRODUCTION), Some(expected));
    }
}
