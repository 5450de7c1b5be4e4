//! What standard output is, and the few styles that this program prints in.
//!
//! Colours go to terminals only, and not where `NO_COLOR` asks for none; a terminal gets no control character that was not
//! made here, because names and messages come from repositories and guests.

use std::io::IsTerminal;

/// Ends every style.
pub(super) const RESET: &str = "\x1b[0m";

/// The parameters of an SGR sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style(&'static str);

impl Style {
    pub(super) const BOLD: Self = Self("1");
    pub(super) const DIM: Self = Self("2");
    pub(super) const RED: Self = Self("31");
    pub(super) const GREEN: Self = Self("32");
    pub(super) const YELLOW: Self = Self("33");
    pub(super) const BLUE: Self = Self("34");

    /// `text` in this style, whatever style was on before.
    pub(super) fn paint(self, text: &str) -> String {
        format!("{RESET}\x1b[{}m{text}{RESET}", self.0)
    }
}

/// What standard output can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) is_terminal: bool,
    pub(super) has_colours: bool,
    /// Columns of the terminal, if it is one that tells.
    pub(super) width: Option<usize>,
}

impl Look {
    pub(super) fn of_stdout() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let size = if is_terminal { console::Term::stdout().size_checked() } else { None };
        Self {
            is_terminal,
            has_colours: is_terminal && wants_colours(),
            width: size.map(|(_, columns)| usize::from(columns)).filter(|columns| *columns > 0),
        }
    }

    /// `text` in a style, where there are styles.
    pub(super) fn paint(self, style: Style, text: &str) -> String {
        if self.has_colours { style.paint(text) } else { text.to_owned() }
    }
}

/// Whether the environment allows colours: `NO_COLOR` that is set and not empty forbids them.
pub(super) fn wants_colours() -> bool {
    let is_set = |name: &str, value: fn(&str) -> bool| std::env::var(name).is_ok_and(|text| value(&text));
    !is_set("NO_COLOR", |text| !text.is_empty()) && !is_set("TERM", |text| text == "dumb")
}

/// `text` on one line, without control characters.
pub(super) fn one_line(text: &str) -> String {
    crate::log::plain(text.as_bytes()).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_speak_to_the_terminal() {
        assert_eq!(one_line("build\x1b]0;owned\x07 \u{9b}2J\r\n  all\x1b[31m"), "build \u{fffd}2J all");
    }
}
