//! What a local run prints: one job's log as it is, several with the job's name before each line, and the results.

use std::io::Write;

use super::super::log_view::LogView;
use super::super::table::{Cell, Table};
use super::super::terminal::{Look, RESET, Style, one_line};
use crate::clock;
use crate::config::format_duration;
use crate::forge::Conclusion;
use crate::job::steps::Witness;
use crate::local::job::Ended;
use crate::local::session::Job;
use crate::log::{Entry, Stream, coloured, plain, safe_length};

/// Tell jobs apart.
const PREFIX_STYLES: [Style; 3] = [Style::BLUE, Style::GREEN, Style::YELLOW];

/// The longest line that waits for its end, in bytes.
const MAX_LINE: usize = 64 << 10;

/// The screens of all jobs of a run.
#[derive(Debug)]
pub(super) struct Screens {
    look: Look,
    /// Empty where there is but one job.
    names: Vec<String>,
}

impl Screens {
    pub(super) fn new(look: Look, jobs: &[Job]) -> Self {
        let names = if jobs.len() > 1 { jobs.iter().map(Job::full_name).collect() } else { Vec::new() };
        Self { look, names }
    }

    pub(super) fn of(&self, job: &Job) -> Screen {
        let name = job.full_name();
        let prefix = self.names.iter().position(|known| *known == name).map(|at| {
            let style = PREFIX_STYLES[at % PREFIX_STYLES.len()];
            format!("{} ", self.look.paint(style, &format!("[{}]", one_line(&name))))
        });
        Screen {
            look: self.look,
            prefix,
            view: LogView::new(self.look.is_terminal),
            source: (0, Stream::Service),
            held: Vec::new(),
            is_line_open: false,
            line: String::new(),
        }
    }
}

/// Prints one job's log. What is left of a line is printed when this is dropped.
#[derive(Debug)]
pub(super) struct Screen {
    look: Look,
    prefix: Option<String>,
    view: LogView,
    /// Where the last bytes came from.
    source: (u16, Stream),
    /// Bytes that need those after them to be shown.
    held: Vec<u8>,
    /// Whether the guest's last line has no end yet.
    is_line_open: bool,
    /// With a prefix: what waits for the line's end.
    line: String,
}

impl Witness for Screen {
    async fn write(&mut self, step: u16, stream: Stream, bytes: &[u8]) {
        if self.source != (step, stream) {
            self.release();
            self.source = (step, stream);
        }
        self.held.extend_from_slice(bytes);
        let is_guests = matches!(stream, Stream::Stdout | Stream::Stderr);
        let rest = self.held.split_off(if is_guests { safe_length(&self.held) } else { self.held.len() });
        let whole = std::mem::replace(&mut self.held, rest);
        self.show(&whole);
    }
}

impl Screen {
    /// Shows what was held back; nothing comes that could complete it.
    fn release(&mut self) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            self.show(&held);
        }
    }

    fn show(&mut self, bytes: &[u8]) {
        let (step, stream) = self.source;
        let is_guests = matches!(stream, Stream::Stdout | Stream::Stderr);
        let mut text = if self.look.has_colours && is_guests { coloured(bytes) } else { plain(bytes) };
        if self.is_line_open && !is_guests {
            text.insert(0, '\n');
        }
        self.is_line_open = is_guests && !text.ends_with('\n');
        let shown = self.view.record(&Entry::Piece { step, stream, at_ms: clock::now_ms(), text });
        self.print(&shown);
    }

    fn print(&mut self, text: &str) {
        let Some(prefix) = &self.prefix else { return put(text) };
        self.line.push_str(text);
        let end = match self.line.rfind('\n') {
            Some(at) => at + 1,
            None if self.line.len() > MAX_LINE => self.line.len(),
            None => return,
        };
        let rest = self.line.split_off(end);
        let lines = std::mem::replace(&mut self.line, rest);
        let reset = if self.look.has_colours { RESET } else { "" };
        put(&lines
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| format!("{prefix}{line}{reset}\n"))
            .collect::<String>());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.release();
        let end = self.view.end();
        let end = if self.is_line_open && !end.starts_with('\n') { format!("\n{end}") } else { end };
        self.print(&end);
        if self.prefix.is_some() && !self.line.is_empty() {
            self.print("\n");
        }
    }
}

/// A reader that left has what it wanted; the jobs go on.
fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// How each job ended.
pub(super) fn summary(ended: &[Ended], look: Look) -> String {
    let mut table = Table::new(["JOB", "RESULT", "TIME", ""], &[0, 3]);
    for Ended { name, outcome, took, .. } in ended {
        let (word, style) = match outcome.conclusion {
            Conclusion::Success => ("success", Style::GREEN),
            Conclusion::Failure => ("failure", Style::RED),
            Conclusion::Error => ("error", Style::RED),
            Conclusion::TimedOut => ("timed out", Style::RED),
            Conclusion::Cancelled => ("cancelled", Style::YELLOW),
            Conclusion::Skipped => ("skipped", Style::DIM),
        };
        let why = if outcome.conclusion == Conclusion::Success { "" } else { outcome.detail.as_str() };
        let took = std::time::Duration::from_millis(took.as_millis() as u64 / 100 * 100);
        table.row([name.into(), Cell::styled(word, style), format_duration(took).into(), why.into()]);
    }
    format!("\n{}", table.render(look))
}
