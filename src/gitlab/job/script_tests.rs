//! Programs of stages, run by the shells of this host.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::process::Command;

use super::*;

/// What a program prints, without colours, and its code.
fn run(shell: &str, commands: &[&str]) -> (String, i32) {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("pro'ject");
    std::fs::create_dir(&directory).unwrap();
    let mut variables = tempfile::NamedTempFile::new().unwrap();
    variables.write_all(b"LATER=from before\n").unwrap();
    let place = Place {
        directory: directory.to_str().unwrap(),
        variables: variables.path().to_str().unwrap(),
        is_traced: false,
    };
    let commands: Vec<String> = commands.iter().map(|&command| command.to_owned()).collect();
    let ended = Command::new(shell).arg("-c").arg(program(&commands, place)).output().unwrap();
    let shown = String::from_utf8(ended.stdout).unwrap().replace("\x1b[32;1m", "").replace("\x1b[0;m", "");
    (shown, ended.status.code().unwrap())
}

#[test]
fn commands_share_a_shell_and_the_first_failure_ends_them() {
    for shell in ["bash", "sh"] {
        assert_eq!(run(shell, &["A=1", "echo $A"]), ("$ A=1\n$ echo $A\n1\n".to_owned(), 0));
        assert_eq!(run(shell, &["(exit 7)", "echo no"]), ("$ (exit 7)\n".to_owned(), 7), "{shell}");
        assert_eq!(run(shell, &["exit 42"]).1, 42);
        assert_eq!(run(shell, &["false || true", "if false; then :; fi"]).1, 0);
        assert_eq!(run(shell, &["nosuchprogram 2>/dev/null"]).1, 127);
        assert_eq!(
            run(shell, &["echo $LATER", "basename \"$PWD\""]).0,
            "$ echo $LATER\nfrom before\n$ basename \"$PWD\"\npro'ject\n"
        );
        assert_eq!(run(shell, &["cat", "read x || echo empty"]).0, "$ cat\n$ read x || echo empty\nempty\n");
        assert_eq!(
            run(shell, &["cat <<'E'\n it's \\n $A\nE\n"]).0,
            "$ cat <<'E' # collapsed multi-line command\n it's \\n $A\n"
        );
        assert_eq!(
            run(shell, &["printf '%s' \"a\\nb\"", "", "  echo x  "]).0,
            "$ printf '%s' \"a\\nb\"\na\\nb\n$ echo x\nx\n"
        );
    }
    assert_eq!(run("bash", &["false | true", "echo no"]).1, 1, "pipefail");
    assert_ne!(run("bash", &["echo a; (", "echo b"]).1, 0, "what is no command");
}

#[test]
fn anything_can_be_a_word() {
    assert_eq!(quoted("it's"), r"'it'\''s'");
    let (out, code) = run("sh", &["x='a\"b$(echo no)`echo no`\\'", "printf '%s\\n' \"$x\" | sed 's/a/b/'"]);
    assert_eq!((out.lines().last().unwrap(), code), ("b\"b$(echo no)`echo no`\\", 0));
}
