//! Completions and man pages work where they are installed.

use std::process::{Command, Stdio};

use dayfly::host::process::find_program;

use crate::support::command::{run, run_with_input};
use crate::support::host;

#[test]
fn completions_are_scripts_of_their_shells() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]);
        assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""), "{shell}");
        assert!(script.stdout.contains("redeliver") && script.stdout.contains("dayfly"), "{shell}:\n{}", script.stdout);
        // `-n` of all three: read the script, run nothing of it.
        if matches!(shell, "bash" | "zsh" | "fish") && find_program(shell).is_some() {
            let mut check = Command::new(shell);
            check.arg("-n").stdout(Stdio::null());
            let checked = run_with_input(check, script.stdout.as_bytes());
            assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""), "{shell}");
        }
    }
}

#[test]
fn every_command_has_a_man_page() {
    let directory = host::short_directory();
    let pages = directory.path().join("man1");
    assert_eq!(run(&["man", "--directory", pages.to_str().unwrap()]).code, Some(0));
    for page in ["dayfly.1", "dayfly-jobs.1", "dayfly-job-show.1", "dayfly-deliveries.1", "dayfly-serve.1"] {
        assert!(pages.join(page).is_file(), "{page}");
    }
    let printed = run(&["man", "logs"]);
    assert_eq!(
        (printed.code, printed.stdout),
        (Some(0), std::fs::read_to_string(pages.join("dayfly-logs.1")).unwrap())
    );
    if find_program("man").is_none() || find_program("groff").is_none() {
        eprintln!("SKIPPED: `man` is not installed");
        return;
    }
    let shown = Command::new("man").args(["--warnings", "-E", "UTF-8", "-l"]).arg(pages.join("dayfly-logs.1")).output();
    let shown = shown.unwrap();
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success() && text.contains("SYNOPSIS") && text.contains("--follow"), "{text}");
    assert_eq!(String::from_utf8_lossy(&shown.stderr), "");
}
