//! Comma-separated values (RFC 4180) that no spreadsheet takes for formulas.

/// A text as a cell shows it. Spreadsheets compute what begins with `=`, `+`, `-`, `@`, a tab or a carriage return, and
/// names of members, models and conversations are what others say they are: an apostrophe in front keeps it text.
pub(super) fn text(text: &str) -> String {
    let is_formula =
        text.trim_start_matches(' ').starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']);
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

/// A line of cells, quoted where they need be.
pub(super) fn line<Cell: AsRef<str>>(cells: impl IntoIterator<Item = Cell>) -> String {
    let mut line = String::new();
    for (index, cell) in cells.into_iter().enumerate() {
        if index > 0 {
            line.push(',');
        }
        let cell = cell.as_ref();
        if cell.contains([',', '"', '\n', '\r']) {
            line.push('"');
            line.push_str(&cell.replace('"', "\"\""));
            line.push('"');
        } else {
            line.push_str(cell);
        }
    }
    line.push_str("\r\n");
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_be_computed_is_text() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1"] {
            assert_eq!(text(formula), format!("'{formula}"));
        }
        for harmless in ["", "a=b", "6b008f411deed07a2f49c1c8", "gpt-4o", "2026-11-20"] {
            assert_eq!(text(harmless), harmless);
        }
        assert_eq!(line(["a", "b,c", "d\"e", "f\ng"]), "a,\"b,c\",\"d\"\"e\",\"f\ng\"\r\n");
    }

    /// Cells of a file, as a reader of RFC 4180 takes them.
    fn read(text: &str) -> Vec<String> {
        let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
        let mut letters = text.strip_suffix("\r\n").expect("a whole line").chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '"' if quoted && letters.peek() == Some(&'"') => cell.extend(letters.next()),
                '"' => quoted = !quoted,
                ',' if !quoted => cells.push(std::mem::take(&mut cell)),
                letter => cell.push(letter),
            }
        }
        cells.push(cell);
        cells
    }

    proptest! {
        #[test]
        fn any_cells_are_read_back(cells in prop::collection::vec("[a,\"\r\n= 가]{0,8}", 1..6)) {
            prop_assert_eq!(read(&line(&cells)), cells);
        }
    }
}
