//! Commands in comments.
//!
//! A command is a line of its own. What is quoted or shown as code, fenced or indented, is somebody else's words, or an example,
//! and is not obeyed.

use crate::forge::CommitSha;

/// How a command begins.
const PREFIX: &str = "/dayfly run";

/// Spaces with which an indented block of code begins.
const CODE_INDENT: usize = 4;

/// Characters of what was written instead of a commit that an answer repeats.
const MAX_SHOWN: usize = 80;

/// What a comment asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// To run this commit.
    Run(CommitSha),
    /// To run something that is no full commit id; harmless to show, perhaps empty.
    RunUnclear(String),
}

/// The first command of a comment.
pub fn command_in(body: &str) -> Option<Command> {
    let mut fence: Option<Fence> = None;
    for line in body.lines().filter(|line| !is_indented(line)).map(str::trim) {
        match (&fence, Fence::at(line)) {
            (Some(open), Some(close)) if close.closes(open) => fence = None,
            (Some(_), _) => {}
            (None, Some(open)) => fence = Some(open),
            (None, None) => {
                if let Some(command) = command(line) {
                    return Some(command);
                }
            }
        }
    }
    None
}

/// Whether a line is code by its indentation: a tab or four columns of spaces. It does not end a fenced block either.
fn is_indented(line: &str) -> bool {
    let text = line.trim_start_matches(' ');
    line.len() - text.len() >= CODE_INDENT || text.starts_with('\t')
}

fn command(line: &str) -> Option<Command> {
    let rest = line.strip_prefix(PREFIX)?;
    if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
        return None;
    }
    let asked = rest.trim();
    Some(match CommitSha::parse(&asked.to_ascii_lowercase()) {
        Ok(sha) => Command::Run(sha),
        Err(_) => Command::RunUnclear(shown(asked)),
    })
}

/// Without what could end or leave the code span in which it is shown.
fn shown(asked: &str) -> String {
    asked.chars().filter(|c| !c.is_control() && *c != '`').take(MAX_SHOWN).collect()
}

/// The start or the end of a block of code.
struct Fence {
    letter: char,
    length: usize,
    is_bare: bool,
}

impl Fence {
    fn at(line: &str) -> Option<Self> {
        let letter = line.chars().next().filter(|letter| matches!(letter, '`' | '~'))?;
        let length = line.chars().take_while(|c| *c == letter).count();
        (length >= 3).then(|| Self { letter, length, is_bare: line.chars().count() == length })
    }

    fn closes(&self, open: &Self) -> bool {
        self.is_bare && self.letter == open.letter && self.length >= open.length
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_of_its_own_is_a_command() {
        let (sha, long) = ("0a".repeat(20), "0b".repeat(32));
        let run = |sha: &str| Some(Command::Run(CommitSha::parse(sha).unwrap()));
        let unclear = |text: &str| Some(Command::RunUnclear(text.to_owned()));
        for (body, expected) in [
            (format!("/dayfly run {sha}"), run(&sha)),
            (format!("Looks good.\r\n  /dayfly run {sha}  \r\nThank you"), run(&sha)),
            (format!("/dayfly   run {sha}"), None),
            (format!("/dayfly run\t{long}"), run(&long)),
            (format!("/dayfly run {}", sha.to_uppercase()), run(&sha)),
            (format!("> /dayfly run {sha}"), None),
            (format!("```\n/dayfly run {sha}\n```"), None),
            (format!("~~~sh\n```\n/dayfly run {sha}\n~~~"), None),
            (format!("````\n```\n/dayfly run {sha}\n````\n/dayfly run {long}"), run(&long)),
            (format!("    /dayfly run {sha}"), None),
            (format!("\t/dayfly run {sha}"), None),
            (format!("  \t/dayfly run {sha}"), None),
            (format!("   /dayfly run {sha}"), run(&sha)),
            (format!("```\n    ```\n/dayfly run {sha}\n```"), None),
            (format!("    ```\n/dayfly run {sha}"), run(&sha)),
            (format!("`/dayfly run {sha}`"), None),
            (format!("please /dayfly run {sha}"), None),
            (format!("/dayfly run {sha} now"), unclear(&format!("{sha} now"))),
            (format!("/dayfly run {}", &sha[..12]), unclear(&sha[..12])),
            ("/dayfly run".to_owned(), unclear("")),
            ("/dayfly run main`<b>".to_owned(), unclear("main<b>")),
            (format!("/dayfly run {}", "0".repeat(40)), unclear(&"0".repeat(40))),
            (format!("/dayfly runs {sha}"), None),
            (format!("/dayfly run {}", "x".repeat(1000)), unclear(&"x".repeat(MAX_SHOWN))),
            (String::new(), None),
        ] {
            assert_eq!(command_in(&body), expected, "{body}");
        }
    }
}
