//! What a local run prints: one job's log as it is, several with the job's name before each line, and the results.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_util::sync::CancellationToken;

use super::super::log_view::LogView;
use super::super::printer::{Printer, To, last_wait};
use super::super::table::{Cell, Table};
use super::super::terminal::{Look, RESET, Style, one_line};
use crate::clock;
use crate::config::format_duration;
use crate::forge::Conclusion;
use crate::job::steps::Witness;
use crate::local::job::Ended;
use crate::local::session::{Audience, Job};
use crate::log::{Entry, Stream, coloured, plain, safe_length};

/// Tell jobs apart.
const PREFIX_STYLES: [Style; 3] = [Style::BLUE, Style::GREEN, Style::YELLOW];

/// What separates the remedy from the message in an outcome's detail.
const HINT: &str = "\n  hint: ";

/// The longest line that waits for its end, in bytes.
const MAX_LINE: usize = 64 << 10;

/// The screens of all jobs of a run.
#[derive(Debug)]
pub(super) struct Screens {
    look: Look,
    /// Whether there is but one job, and will not be more.
    is_alone: bool,
    /// Jobs that have started.
    started: AtomicUsize,
    output: Screened,
}

/// Where screens are shown.
#[derive(Debug, Clone)]
pub(super) struct Screened {
    pub(super) printer: Printer,
    /// Once this is cancelled, nothing waits long for a reader any more.
    pub(super) hurry: CancellationToken,
}

impl Screened {
    /// A reader that left has what it wanted; the jobs go on.
    pub(super) async fn put(&self, text: String) {
        tokio::select! {
            biased;
            _ = self.printer.print(To::Stdout, text.into_bytes()) => {}
            () = last_wait(self.hurry.cancelled()) => {}
        }
    }

    /// The same without waiting, for few words.
    pub(super) fn print_now(&self, text: String) {
        self.printer.print_now(To::Stdout, text.into_bytes());
    }
}

impl Screens {
    pub(super) fn new(look: Look, jobs: &[Job], output: Screened) -> Self {
        let is_alone = matches!(jobs, [job] if !job.planned.spec.unfolds());
        Self { look, is_alone, started: AtomicUsize::new(0), output }
    }
}

impl Audience for Screens {
    type Witness = Shown;

    fn job_started(&self, job: &Job) -> Shown {
        let style = PREFIX_STYLES[self.started.fetch_add(1, Ordering::Relaxed) % PREFIX_STYLES.len()];
        let name = format!("[{}]", one_line(&job.full_name()));
        let prefix = (!self.is_alone).then(|| format!("{} ", self.look.paint(style, &name)));
        Shown { screen: Screen::new(self.look, prefix), output: self.output.clone() }
    }
}

/// Prints one job's log. What is left of a line is printed when this is dropped.
#[derive(Debug)]
pub(super) struct Shown {
    screen: Screen,
    output: Screened,
}

impl Witness for Shown {
    async fn write(&mut self, step: u16, stream: Stream, bytes: &[u8]) {
        let text = self.screen.take(step, stream, bytes);
        match stream {
            Stream::Stdout | Stream::Stderr => self.output.put(text).await,
            // Few, and said where nothing may wait: such as that the job's time is over.
            Stream::Service | Stream::Heading => self.output.print_now(text),
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.output.print_now(self.screen.end());
    }
}

/// Makes one job's log what is printed of it.
#[derive(Debug)]
struct Screen {
    look: Look,
    prefix: Option<String>,
    view: LogView,
    /// Where the last bytes came from.
    source: (u16, Stream),
    /// Bytes that need those after them to be shown.
    held: Vec<u8>,
    /// Where the line came from that has no end yet.
    open_line: Option<(u16, Stream)>,
    /// With a prefix: what waits for the line's end.
    line: String,
}

impl Screen {
    fn new(look: Look, prefix: Option<String>) -> Self {
        Self {
            look,
            prefix,
            view: LogView::new(look.is_terminal),
            source: (0, Stream::Service),
            held: Vec::new(),
            open_line: None,
            line: String::new(),
        }
    }

    /// What to print now that these bytes came.
    fn take(&mut self, step: u16, stream: Stream, bytes: &[u8]) -> String {
        let mut out = String::new();
        if self.source != (step, stream) {
            out.push_str(&self.release());
            self.source = (step, stream);
        }
        self.held.extend_from_slice(bytes);
        let length = if self.is_guests() { safe_length(&self.held) } else { self.held.len() };
        let rest = self.held.split_off(length);
        let whole = std::mem::replace(&mut self.held, rest);
        out.push_str(&self.show(&whole));
        out
    }

    /// What is left to print when nothing comes any more.
    fn end(&mut self) -> String {
        let mut out = self.release();
        let end = self.view.end();
        let is_open = self.open_line.is_some() && !end.starts_with('\n');
        out.push_str(&self.prefixed(if is_open { "\n" } else { "" }));
        out.push_str(&self.prefixed(&end));
        out.push_str(&self.prefixed(if self.line.is_empty() { "" } else { "\n" }));
        out
    }

    fn is_guests(&self) -> bool {
        matches!(self.source.1, Stream::Stdout | Stream::Stderr)
    }

    /// What was held back: nothing comes that could complete it.
    fn release(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        self.show(&held)
    }

    fn show(&mut self, bytes: &[u8]) -> String {
        let (step, stream) = self.source;
        if bytes.is_empty() {
            return String::new();
        }
        let mut text = if self.look.has_colours && self.is_guests() { coloured(bytes) } else { plain(bytes) };
        if self.open_line.is_some_and(|open| open != self.source) {
            text.insert(0, '\n');
        }
        self.open_line = Some(self.source).filter(|_| self.is_guests() && !text.ends_with('\n'));
        let shown = self.view.record(&Entry::Piece { step, stream, at_ms: clock::now_ms(), text });
        self.prefixed(&shown)
    }

    /// Whole lines with the job's name before them, where there are several jobs.
    fn prefixed(&mut self, text: &str) -> String {
        let Some(prefix) = &self.prefix else { return text.to_owned() };
        self.line.push_str(text);
        let end = match self.line.rfind('\n') {
            Some(at) => at + 1,
            None if self.line.len() > MAX_LINE => self.line.len(),
            None => return String::new(),
        };
        let rest = self.line.split_off(end);
        let lines = std::mem::replace(&mut self.line, rest);
        let reset = if self.look.has_colours { RESET } else { "" };
        let shown = lines.lines().filter(|line| !line.is_empty());
        shown.map(|line| format!("{prefix}{line}{reset}\n")).collect()
    }
}

/// How each job ended, and below that what to do about it.
pub(super) fn summary(ended: &[Ended], look: Look) -> String {
    let mut table = Table::new(["JOB", "RESULT", "TIME", ""], &[0, 3]);
    let mut hints: Vec<String> = Vec::new();
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
        let (why, hint) = why.split_once(HINT).map_or((why, None), |(why, hint)| (why, Some(one_line(hint))));
        hints.extend(hint.filter(|hint| !hints.contains(hint)));
        let took = std::time::Duration::from_millis(took.as_millis() as u64 / 100 * 100);
        table.row([name.into(), Cell::styled(word, style), format_duration(took).into(), why.into()]);
    }
    hints.iter().fold(format!("\n{}", table.render(look)), |text, hint| format!("{text}{HINT}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: Look = Look { is_terminal: false, has_colours: false, width: None };

    fn shown(prefix: Option<&str>) -> String {
        let mut screen = Screen::new(PIPE, prefix.map(str::to_owned));
        let mut text = String::new();
        for (step, stream, bytes) in [
            (0, Stream::Service, &b"note: slow\n"[..]),
            (1, Stream::Heading, b"Build"),
            (1, Stream::Stdout, b"one\n\ntw"),
            (1, Stream::Stdout, b"o \x1b[3"),
            (1, Stream::Stdout, b"1mred\x1b]0;title\x07 \xe2\x82"),
            (1, Stream::Stderr, b"err"),
            (1, Stream::Service, b"error: it failed\n"),
            (2, Stream::Heading, b"Test"),
            (2, Stream::Stdout, b"no end"),
        ] {
            text.push_str(&screen.take(step, stream, bytes));
        }
        text.push_str(&screen.end());
        text
    }

    #[test]
    fn hints_stand_below_the_table_once() {
        let ended = |name: &str, conclusion, detail: &str| Ended {
            name: name.to_owned(),
            outcome: crate::store::Outcome { conclusion, reason: None, detail: detail.to_owned() },
            took: std::time::Duration::from_millis(1234),
            seen_by_needs: crate::workflow::gate::NeedResult {
                result: crate::workflow::contexts::Outcome::Success,
                outputs: Default::default(),
            },
            results: Default::default(),
        };
        let no_profile = "no profile has `gpu`\n  hint: the labels here are `linux`";
        let all = [
            ended("ci/a", Conclusion::Success, "2 steps succeeded"),
            ended("ci/b", Conclusion::Error, no_profile),
            ended("ci/c", Conclusion::Error, no_profile),
        ];
        insta::assert_snapshot!(summary(&all, PIPE), @"
        JOB   RESULT   TIME
        ci/a  success  1s 200ms
        ci/b  error    1s 200ms  no profile has `gpu`
        ci/c  error    1s 200ms  no profile has `gpu`
          hint: the labels here are `linux`
        ");
    }

    #[test]
    fn lines_are_whole_and_harmless_with_a_name_before_them_or_not() {
        insta::assert_snapshot!(shown(None), @"
        note: slow
        ==> Build
        one

        two red �
        err
        error: it failed
        ==> Test
        no end
        ");
        insta::assert_snapshot!(shown(Some("[ci/a] ")), @"
        [ci/a] note: slow
        [ci/a] ==> Build
        [ci/a] one
        [ci/a] two red �
        [ci/a] err
        [ci/a] error: it failed
        [ci/a] ==> Test
        [ci/a] no end
        ");
    }
}
