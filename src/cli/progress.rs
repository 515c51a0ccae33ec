//! How far a command is, for whoever waits at a terminal. Elsewhere nothing is drawn.

use std::fmt::Write;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

const TEMPLATE: &str = "[{bar:30}] {percent} %, {human_pos} of {human_len} rows, {rate}";

/// A bar on standard error.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Of so many rows. There may be more in the end: rows may be written meanwhile.
    pub(super) fn of(total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(bar.with_style(style.with_key("rate", rate).progress_chars("#> ")))
    }

    /// One that only counts.
    pub(super) fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    pub(super) fn add(&self, rows: usize) {
        self.0.inc(rows as u64);
    }

    /// Takes the bar away, in favour of what is said in the end, and answers how many rows there were.
    pub(super) fn end(&self) -> u64 {
        let rows = self.0.position();
        self.0.finish_and_clear();
        rows
    }
}

fn rate(state: &ProgressState, text: &mut dyn Write) {
    // What draws does not fail.
    let _ = write!(text, "{:.0} rows/s", state.per_sec());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_drawn_as_it_is_written() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
        let hidden = Progress::hidden();
        hidden.add(3);
        assert_eq!(hidden.end(), 3, "rows are counted where nothing is drawn");
    }
}
