//! How a step's script is run: the command of each shell, as GitHub's runner has it.

use crate::workflow::model::Shell;

/// What stands around a script of PowerShell: the first error ends it, and it ends as its last program did.
const POWERSHELL: (&str, &str) = (
    "$ErrorActionPreference = 'stop'\n",
    "\nif ((Test-Path -LiteralPath variable:\\LASTEXITCODE)) { exit $LASTEXITCODE }\n",
);

/// A command, the file that it gets, and what stands around the script in it.
pub(super) struct Invocation {
    /// `{0}` stands for the file.
    pub(super) argv: Vec<String>,
    pub(super) extension: &'static str,
    pub(super) before: &'static str,
    pub(super) after: &'static str,
}

/// The command of a shell; without one, `bash` without `pipefail`, or `sh` in a container, which need not have another.
pub(super) fn invocation(shell: Option<&Shell>, is_in_container: bool) -> Invocation {
    let plain = |argv: &[&str], extension| {
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        Invocation { argv, extension, before: "", after: "" }
    };
    match shell {
        None if is_in_container => plain(&["sh", "-e", "{0}"], ".sh"),
        None => plain(&["bash", "-e", "{0}"], ".sh"),
        Some(Shell::Bash) => plain(&["bash", "--noprofile", "--norc", "-eo", "pipefail", "{0}"], ".sh"),
        Some(Shell::Sh) => plain(&["sh", "-e", "{0}"], ".sh"),
        Some(Shell::Python) => plain(&["python3", "{0}"], ".py"),
        Some(Shell::Pwsh) => {
            let (before, after) = POWERSHELL;
            Invocation { before, after, ..plain(&["pwsh", "-command", ". '{0}'"], ".ps1") }
        }
        Some(Shell::Custom(argv)) => {
            let extension = match argv.first().map(String::as_str) {
                Some("bash" | "sh") => ".sh",
                Some("python") => ".py",
                Some("pwsh") => ".ps1",
                _ => "",
            };
            let (before, after) = if extension == ".ps1" { POWERSHELL } else { ("", "") };
            Invocation { argv: argv.clone(), extension, before, after }
        }
    }
}

/// The script as it was written.
pub(super) fn without_wrapping<'t>(text: &'t str, extension: &str) -> &'t str {
    if extension == ".ps1" { text.strip_prefix(POWERSHELL.0).unwrap_or(text) } else { text }
}
