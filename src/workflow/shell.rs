//! What stands behind `shell`: a name that everybody knows, or a command.

use super::model::Shell;
use crate::document::Complaint;
use crate::document::reader::quoted;

const HINT: &str = "shells: `bash`, `sh`, `python`, `pwsh`, or a command with `{0}` for the script's file";

/// Why there is no such shell.
#[derive(Debug)]
pub enum NoShell {
    /// There is one, but not here.
    OfWindows(Complaint),
    Wrong(Complaint),
}

impl Shell {
    /// Reads a `shell`.
    ///
    /// # Errors
    /// What names no shell of this system.
    pub fn parse(text: &str) -> Result<Self, NoShell> {
        let wrong =
            |what: &str| NoShell::Wrong(Complaint::new(format!("the shell {} {what}", quoted(text))).hint(HINT));
        match text.trim() {
            "bash" => Ok(Self::Bash),
            "sh" => Ok(Self::Sh),
            "python" => Ok(Self::Python),
            "pwsh" => Ok(Self::Pwsh),
            // Known by its name alone, too.
            "node" => Ok(Self::Custom(vec!["node".to_owned(), "{0}".to_owned()])),
            text if text.contains("${{") => {
                Err(NoShell::Wrong(Complaint::new("the shell of a step cannot be computed").hint(HINT)))
            }
            text => match (text.split_whitespace().next(), command_words(text)) {
                (Some("cmd" | "powershell"), _) => {
                    let what = format!("the shell {} is there on Windows only", quoted(text));
                    Err(NoShell::OfWindows(Complaint::new(what).hint(HINT)))
                }
                (_, Some(_)) if !text.contains("{0}") => Err(wrong("is not known")),
                (_, Some(words)) if words.first().is_some_and(|program| !program.contains("{0}")) => {
                    Ok(Self::Custom(words))
                }
                _ => Err(wrong("is no command")),
            },
        }
    }
}

/// The words of a command: white space separates them, but not between double quotes; `\"` is a quote of its own. `None` if a
/// quote is never closed.
fn command_words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), None::<String>, false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            '\\' if letters.peek() == Some(&'"') => word.get_or_insert_default().extend(letters.next()),
            space if space.is_whitespace() && !is_quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    (!is_quoted).then_some(words)
}
