//! A bar that shows how far a long piece of work is, on a terminal alone.

use std::io::{self, IsTerminal as _, Write as _};

/// Letters of the bar.
const WIDTH: u64 = 30;

/// What is being done, and how much of it is left.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    done: u64,
    total: u64,
    /// Hundredths that were shown last; `None` before the first.
    shown: Option<u64>,
    visible: bool,
}

impl Progress {
    /// Shows on standard error, if that is a terminal and `wanted`.
    pub(super) fn new(wanted: bool) -> Self {
        let visible = wanted && io::stderr().is_terminal();
        Self { what: "", done: 0, total: 0, shown: None, visible }
    }

    /// Begins a piece of work.
    pub(super) fn begin(&mut self, what: &'static str, total: u64) {
        (self.what, self.done, self.total, self.shown) = (what, 0, total, None);
        self.advance(0);
    }

    /// So much more is done.
    pub(super) fn advance(&mut self, by: u64) {
        self.done = self.done.saturating_add(by).min(self.total);
        let hundredths = (self.done * 100).checked_div(self.total).unwrap_or(100);
        if !self.visible || self.shown == Some(hundredths) {
            return;
        }
        self.shown = Some(hundredths);
        // A closed standard error is no reason to fail.
        let _ = write!(io::stderr(), "\r{}", bar(self.what, hundredths));
    }

    /// Leaves a clean line.
    pub(super) fn end(&mut self) {
        if self.visible && self.shown.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn bar(what: &str, hundredths: u64) -> String {
    let full = usize::try_from(hundredths * WIDTH / 100).unwrap_or(0);
    let empty = usize::try_from(WIDTH).unwrap_or(0).saturating_sub(full);
    format!("{what:<24} [{}{}] {hundredths:>3} %\x1b[K", "#".repeat(full), " ".repeat(empty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows_with_the_work() {
        assert!(bar("reading", 0).contains(&format!("[{}]", " ".repeat(30))));
        assert!(bar("reading", 50).contains(&format!(
            "[{}{}]  50 %",
            "#".repeat(15),
            " ".repeat(15)
        )));
        assert!(bar("reading", 100).contains(&format!("[{}] 100 %", "#".repeat(30))));
        let mut hidden = Progress::new(false);
        hidden.begin("nothing", 0);
        hidden.advance(5);
        hidden.end();
        assert_eq!(hidden.shown, None);
    }
}
