//! Lines for people: short enough for a terminal, bold only on one.

use std::io::{IsTerminal, Stdout, Write};

/// The longest line, in columns, where it can be broken at all.
const COLUMNS: usize = 100;

/// Where the demo is shown.
#[derive(Debug)]
pub struct Screen {
    out: Stdout,
}

impl Screen {
    /// Standard output.
    pub fn of_stdout() -> Self {
        Self { out: std::io::stdout() }
    }

    /// One line as it is.
    pub fn line(&self, text: &str) {
        // A reader who left does not end the demo.
        let _ = writeln!(self.out.lock(), "{text}");
    }

    /// A heading, with an empty line above it.
    pub fn heading(&self, text: &str) {
        let (on, off) = if self.out.is_terminal() { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
        self.line(&format!("\n{on}{text}{off}"));
    }

    /// Text that is broken between words; `lead` stands before its first line, and as much space before the others.
    pub fn paragraph(&self, lead: &str, text: &str) {
        let space = " ".repeat(columns(lead));
        for (index, line) in wrapped(text, COLUMNS - columns(lead)).iter().enumerate() {
            self.line(&format!("{}{line}", if index == 0 { lead } else { &space }));
        }
    }

    /// Rows below their headings. Columns that hold numbers are aligned to the right.
    pub fn table<const N: usize>(&self, headings: [&str; N], rows: &[[String; N]]) {
        for line in aligned(headings, rows) {
            self.line(&line);
        }
    }
}

fn aligned<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let all = std::iter::once(headings.map(str::to_owned)).chain(rows.iter().cloned()).collect::<Vec<_>>();
    let widths: [usize; N] = std::array::from_fn(|column| all.iter().map(|row| columns(&row[column])).max().unwrap_or_default());
    let numeric: [bool; N] =
        std::array::from_fn(|column| rows.iter().all(|row| row[column].starts_with(|c: char| c == '$' || c.is_ascii_digit())));
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths.iter().zip(numeric)).map(|(cell, (width, numeric))| {
            let space = " ".repeat(width - columns(cell));
            if numeric { format!("{space}{cell}") } else { format!("{cell}{space}") }
        });
        format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

/// `text` in lines of at most `most` columns; a longer word has a line of its own.
fn wrapped(text: &str, most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && columns(&line) + 1 + columns(word) > most {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// How wide a text is on a terminal: East Asian letters take two columns.
fn columns(text: &str) -> usize {
    text.chars()
        .map(|letter| {
            if matches!(letter, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{ff00}'..='\u{ff60}') {
                2
            } else {
                1
            }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words_and_korean_is_wide() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("하나 둘 셋", 7), ["하나 둘", "셋"], "a Korean letter takes two columns");
        assert_eq!(wrapped("unbreakable", 3), ["unbreakable"]);
        assert_eq!(wrapped("", 3), [""]);
    }

    #[test]
    fn numbers_stand_on_the_right_of_their_column() {
        let rows = [["가".to_owned(), "5".to_owned()], ["long".to_owned(), "1,000".to_owned()]];
        assert_eq!(aligned(["who", "tokens"], &rows), ["  who   tokens", "  가         5", "  long   1,000"]);
    }
}
