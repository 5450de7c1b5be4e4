//! A list of commands → the program of a stage.
//!
//! All commands of a stage run in one shell, one after the other, each shown before it runs; the first that fails ends the
//! stage with its code. Their input is empty.

use super::sections::notice;

/// What is written behind the first line of a command of several.
const COLLAPSED: &str = "# collapsed multi-line command";

/// Where a stage runs.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The directory that it begins in.
    pub directory: &'a str,
    /// The file of further variables, as `NAME=VALUE` lines, that earlier stages have written.
    pub variables: &'a str,
    /// Whether the shell shows all that it does.
    pub is_traced: bool,
}

/// The program, for bash or a smaller shell.
pub fn program(commands: &[String], place: Place<'_>) -> String {
    let Place { directory, variables, is_traced } = place;
    let variables = quoted(variables);
    // A stage may have removed it.
    let mut body =
        format!("if [ -f {variables} ]; then while read -r line; do export \"$line\"; done < {variables}; fi\n");
    body.push_str(&format!("cd {}\n", quoted(directory)));
    for command in commands {
        let command = command.trim();
        body.push_str(&format!("printf '%s\\n' {}\n{command}\n", quoted(&shown(command))));
    }
    let trace = if is_traced { "set -o xtrace\n" } else { "" };
    // In a shell of its own, so that its end, whatever way it ends, is the stage's.
    format!(
        "trap 'exit 1' TERM\n{trace}case \"$(set -o)\" in *pipefail*) set -o pipefail ;; esac\nset -o errexit\nset +o noclobber\n\
         (trap 'exit 1' TERM; eval {}) </dev/null\nexit 0\n",
        quoted(&body)
    )
}

/// A command as the log shows it.
fn shown(command: &str) -> String {
    match command.split_once('\n') {
        _ if command.is_empty() => String::new(),
        None => notice(&format!("$ {command}")),
        Some((first, _)) => notice(&format!("$ {} {COLLAPSED}", first.trim_end_matches('\r'))),
    }
}

/// A word of a shell's, whatever is in it.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;
