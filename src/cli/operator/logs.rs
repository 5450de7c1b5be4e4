//! `dayfly logs`.

use std::io::{ErrorKind, Write};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use futures::TryStreamExt;
use serde::Deserialize;

use super::{EXIT_CODES, ServiceArgs, read};
use crate::cli::client::{Client, ClientError, Query};
use crate::cli::log_view::LogView;
use crate::cli::terminal::{Look, Style, one_line};
use crate::cli::{EXIT_REFUSED, EXIT_UNAVAILABLE};
use crate::forge::Conclusion;
use crate::log::Entry;
use crate::why::Answer;

/// Longest line of the service's stream, in bytes: a chunk of a log with every byte escaped stays below.
const MAX_LINE: usize = 8 * 1024 * 1024;

const EXAMPLES: &str = "\
In a terminal, lines are grouped by steps and may have colours, but no other control sequence of the job. In a pipe, the text is
the one behind `Plain text` on the log page.

Examples:
  dayfly logs job-3f8k0d | less
  dayfly logs -f job-3f8k0d                    until the job has ended
  dayfly logs -f --exit-status 3f8k && deploy  waits; 1 unless the job succeeded or was skipped
  dayfly logs --tail 20 --attempt 1 3f8k";

#[derive(Debug, Args)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct LogsArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// The job's id; any beginning of at least 4 letters that no other job has will do
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    job: String,
    /// Go on until the job has ended, over all its attempts
    #[arg(long, short)]
    follow: bool,
    /// End with 1 unless the job succeeded or was skipped; with --follow it waits for that, without it has to have ended
    #[arg(long)]
    exit_status: bool,
    /// The log of this attempt instead of the latest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Only so many of the lines that there are
    #[arg(long, short = 'n', value_name = "LINES")]
    tail: Option<usize>,
    /// Print the API's JSON: one object per line
    #[arg(long)]
    json: bool,
}

/// One object of the service's stream.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    State { conclusion: Option<Conclusion>, text: String },
    Attempt { attempt: u32 },
    Log { entries: Vec<Entry> },
    End {},
}

pub(super) async fn run(arguments: LogsArgs) -> anyhow::Result<u8> {
    let look = Look::of_stdout();
    let query = Query::of(&["jobs", &arguments.job, "log"])
        .with("format", "json")
        .with("follow", arguments.follow)
        .with("colours", look.has_colours && !arguments.json)
        .with_any("attempt", arguments.attempt)
        .with_any("tail", arguments.tail);
    let client = arguments.service.client()?;
    let chunks = client.stream(query).await?;
    let mut printer = Printer::new(look, arguments.json);
    let mut lines = Lines::default();
    let mut chunks = std::pin::pin!(chunks);
    while let Some(chunk) = chunks.try_next().await? {
        for line in lines.push(&chunk)? {
            if !printer.print(&line)? {
                return Ok(0);
            }
        }
    }
    printer.end()?;
    if arguments.follow && !printer.ended {
        eprintln!(
            "error: the service stopped telling before the job ended\n  hint: it may have been stopped; ask again"
        );
        return Ok(EXIT_UNAVAILABLE);
    }
    if printer.is_empty && arguments.tail != Some(0) {
        explain_silence(&client, &arguments).await?;
    }
    if !arguments.exit_status {
        return Ok(0);
    }
    let conclusion = match arguments.follow {
        true => printer.last,
        false => conclusion_of(&client, &arguments.job).await?,
    };
    if conclusion.is_none() {
        eprintln!("error: the job has not ended, so that there is no exit status\n  hint: -f waits for its end");
    }
    let is_good = matches!(conclusion, Some(Conclusion::Success | Conclusion::Skipped));
    Ok(if is_good { 0 } else { EXIT_REFUSED })
}

/// Says on standard error why there is no log.
async fn explain_silence(client: &Client, arguments: &LogsArgs) -> Result<(), ClientError> {
    if let Some(attempt) = arguments.attempt {
        eprintln!("note: attempt {attempt} wrote no log");
        return Ok(());
    }
    let answer: Answer = read(client.get(Query::of(&["jobs", &arguments.job, "why"])).await?)?;
    eprintln!("note: the job has no log: {}", one_line(&answer.headline));
    if let Some(hint) = &answer.hint {
        eprintln!("  hint: {}", one_line(hint));
    }
    Ok(())
}

/// How the job ended, if it has.
async fn conclusion_of(client: &Client, job: &str) -> Result<Option<Conclusion>, ClientError> {
    #[derive(Deserialize)]
    struct Ended {
        conclusion: Option<Conclusion>,
    }
    let Ended { conclusion } = read(client.get(Query::of(&["jobs", job])).await?)?;
    Ok(conclusion)
}

/// Puts lines together from what arrives in pieces.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, piece: &[u8]) -> Result<Vec<String>, ClientError> {
        self.0.extend_from_slice(piece);
        let Some(end) = self.0.iter().rposition(|byte| *byte == b'\n') else {
            return match self.0.len() {
                0..=MAX_LINE => Ok(Vec::new()),
                _ => Err(ClientError::Unreadable("a line of it does not end".to_owned())),
            };
        };
        let rest = self.0.split_off(end + 1);
        let whole = std::mem::replace(&mut self.0, rest);
        let text = String::from_utf8(whole).map_err(|error| ClientError::Unreadable(error.to_string()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// What was told so far, on its way to standard output.
#[derive(Debug)]
struct Printer {
    look: Look,
    view: LogView,
    is_raw: bool,
    /// Nothing of a log was told.
    is_empty: bool,
    last: Option<Conclusion>,
    ended: bool,
}

impl Printer {
    fn new(look: Look, is_raw: bool) -> Self {
        Self { look, view: LogView::new(look.is_terminal), is_raw, is_empty: true, last: None, ended: false }
    }

    /// Prints what one line tells; gives whether anybody still reads.
    fn print(&mut self, line: &str) -> anyhow::Result<bool> {
        let told: Line = serde_json::from_str(line).map_err(|error| ClientError::Unreadable(error.to_string()))?;
        let text = match told {
            Line::State { conclusion, text } => {
                self.last = conclusion;
                if self.look.is_terminal && !self.is_raw {
                    eprintln!("{}", self.look.paint(Style::DIM, &text));
                }
                String::new()
            }
            Line::Attempt { attempt } => self.view.attempt(attempt),
            Line::Log { entries } => {
                self.is_empty &= entries.is_empty();
                entries.iter().map(|entry| self.view.record(entry)).collect()
            }
            Line::End {} => {
                self.ended = true;
                String::new()
            }
        };
        write(if self.is_raw { format!("{line}\n") } else { text })
    }

    fn end(&mut self) -> anyhow::Result<bool> {
        write(if self.is_raw { String::new() } else { self.view.end() })
    }
}

/// Writes at once: somebody follows. Gives whether anybody still reads.
fn write(text: String) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_from_any_pieces() {
        let whole = "{\"end\":{}}\n{\"log\":{\"entries\":[{\"cut\":{\"bytes\":3}}]}}\nrest é";
        for size in 1..whole.len() {
            let mut lines = Lines::default();
            let found: Vec<String> =
                whole.as_bytes().chunks(size).flat_map(|piece| lines.push(piece).unwrap()).collect();
            assert_eq!(found.len(), 2, "{size}");
            assert!(matches!(serde_json::from_str(&found[0]).unwrap(), Line::End {}));
            let Line::Log { entries } = serde_json::from_str(&found[1]).unwrap() else { panic!("{found:?}") };
            assert_eq!(entries, [Entry::Cut { bytes: 3 }]);
        }
        let mut endless = Lines::default();
        endless.push(&vec![b'x'; MAX_LINE]).unwrap();
        endless.push(b"x").unwrap_err();
    }
}
