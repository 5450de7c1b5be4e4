//! A job's log as this program prints it: plain text into a pipe; in a terminal grouped by steps, and coloured.
//!
//! What a guest wrote reaches a terminal without any control sequence but colours: no titles, no clipboard, no cursor. The
//! log's records hold whole sequences, so each one can be looked at by itself.

use super::terminal::{RESET, Style, wants_colours};
use crate::log::{Entry, Stream, coloured, plain};

/// Before the lines of a step.
const INDENT: &str = "  ";

/// Prints the entries of one log, in their order.
#[derive(Debug)]
pub(super) struct LogView {
    is_terminal: bool,
    has_colours: bool,
    /// Something was printed, and it ended its line.
    is_at_line_start: bool,
    is_empty: bool,
    /// Whether a step has begun.
    is_in_step: bool,
}

impl LogView {
    /// For standard output that is a terminal, or is not.
    pub(super) fn new(is_terminal: bool) -> Self {
        Self::with_colours(is_terminal, is_terminal && wants_colours())
    }

    fn with_colours(is_terminal: bool, has_colours: bool) -> Self {
        Self { is_terminal, has_colours, is_at_line_start: true, is_empty: true, is_in_step: false }
    }

    /// What to print for the next entry.
    pub(super) fn record(&mut self, entry: &Entry) -> String {
        if !self.is_terminal {
            return entry.to_text();
        }
        let mut out = String::new();
        match entry {
            Entry::Piece { stream: Stream::Heading, text, .. } => self.heading(text, &mut out),
            Entry::Piece { stream: Stream::Service, text, .. } => self.service(text, &mut out),
            Entry::Piece { stream: Stream::Stdout | Stream::Stderr, text, .. } => {
                let text = if self.has_colours { coloured(text.as_bytes()) } else { plain(text.as_bytes()) };
                self.lines(&text, None, &mut out);
            }
            Entry::Cut { .. } => {
                self.end_line(&mut out);
                self.lines(entry.to_text().trim_start(), Some(Style::DIM), &mut out);
            }
        }
        self.is_empty &= out.is_empty();
        out
    }

    /// What to print before the entries of another attempt, whose log is a new one.
    pub(super) fn attempt(&mut self, number: u32) -> String {
        let note = format!("[dayfly: attempt {number} begins here]\n");
        if !self.is_terminal {
            return format!("\n{note}");
        }
        let mut out = self.end();
        self.is_in_step = false;
        self.lines(&format!("\n{note}"), Some(Style::DIM), &mut out);
        out
    }

    /// What to print after the last entry: whatever the guest left open ends here.
    pub(super) fn end(&mut self) -> String {
        let mut out = String::new();
        if self.is_terminal {
            self.end_line(&mut out);
        }
        if self.has_colours {
            out.push_str(RESET);
        }
        out
    }

    fn heading(&mut self, name: &str, out: &mut String) {
        self.end_line(out);
        self.is_in_step = false;
        if !self.is_empty {
            out.push('\n');
        }
        let name = format!("▸ {}\n", plain(name.trim_start().as_bytes()));
        self.lines(&name, Some(Style::BOLD), out);
        self.is_in_step = true;
    }

    fn service(&mut self, text: &str, out: &mut String) {
        self.end_line(out);
        for line in plain(text.trim_start_matches('\n').as_bytes()).split_inclusive('\n') {
            let style = match line.split_once(':') {
                Some(("error", _)) => Style::RED,
                Some(("warning", _)) => Style::YELLOW,
                _ => Style::DIM,
            };
            self.lines(line, Some(style), out);
        }
    }

    fn end_line(&mut self, out: &mut String) {
        if !self.is_at_line_start {
            out.push('\n');
            self.is_at_line_start = true;
        }
    }

    /// Adds text line by line, indented within a step; without a style the guest's own colours last.
    fn lines(&mut self, text: &str, style: Option<Style>, out: &mut String) {
        for line in text.split_inclusive('\n') {
            let (content, is_whole) = line.strip_suffix('\n').map_or((line, false), |content| (content, true));
            if self.is_at_line_start && self.is_in_step && !content.is_empty() {
                out.push_str(INDENT);
            }
            match style.filter(|_| self.has_colours && !content.is_empty()) {
                Some(style) => out.push_str(&style.paint(content)),
                None => out.push_str(content),
            }
            if is_whole {
                out.push('\n');
            }
            self.is_at_line_start = is_whole;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(step: u16, stream: Stream, text: &str) -> Entry {
        Entry::Piece { step, stream, at_ms: 0, text: text.to_owned() }
    }

    fn log() -> Vec<Entry> {
        use Stream::{Heading, Service, Stderr, Stdout};
        vec![
            piece(0, Service, "note: this machine is emulated\n"),
            piece(1, Heading, "Run make\x1b]0;owned\x07"),
            piece(1, Stdout, "compiling\n\x1b[31mred"),
            piece(1, Stderr, "\n\x1b[2J\x1b]52;c;Y2xpcA==\x07warning: slow\n\ntesting ... "),
            Entry::Cut { bytes: 12 },
            piece(1, Service, "error: the step ended with exit code 1\n"),
            piece(2, Heading, "\nClean up"),
            piece(2, Stdout, "done"),
        ]
    }

    fn shown(mut view: LogView) -> String {
        let mut text: String = log().iter().map(|entry| view.record(entry)).collect();
        text.push_str(&view.end());
        text.replace('\x1b', "␛")
    }

    #[test]
    fn a_terminal_shows_steps_and_colours_and_nothing_else_of_the_guest() {
        insta::assert_snapshot!(shown(LogView::with_colours(true, true)), @"
        ␛[0m␛[2mnote: this machine is emulated␛[0m

        ␛[0m␛[1m▸ Run make␛[0m
          compiling
          ␛[31mred
          warning: slow

          testing ... 
          ␛[0m␛[2m[dayfly: 12 bytes were cut here to keep the log within its limit]␛[0m
          ␛[0m␛[31merror: the step ended with exit code 1␛[0m

        ␛[0m␛[1m▸ Clean up␛[0m
          done
        ␛[0m
        ");
        insta::assert_snapshot!(shown(LogView::with_colours(true, false)), @"
        note: this machine is emulated

        ▸ Run make
          compiling
          red
          warning: slow

          testing ... 
          [dayfly: 12 bytes were cut here to keep the log within its limit]
          error: the step ended with exit code 1

        ▸ Clean up
          done
        ");
    }

    #[test]
    fn a_pipe_gets_the_text_as_it_is() {
        let expected: String = log().iter().map(Entry::to_text).collect();
        assert_eq!(shown(LogView::new(false)), expected.replace('\x1b', "␛"));
    }
}
