use std::io::Write;
use std::os::unix::process::ExitStatusExt;

use super::*;
use crate::host::output::Output;
use crate::host::process::Lifetime;

/// A user that no service of this host gives to a VM.
const NOBODYS: u32 = 2_000_000_123;

/// Whether this test's user may confine anything; says so where it may not.
fn can_confine(root: &Path) -> bool {
    match try_out(&jail(root, &[])) {
        Ok(()) => true,
        Err(error) if !nix::unistd::geteuid().is_root() => {
            eprintln!("SKIPPED: only root can confine programs ({error})");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

fn jail<'a>(root: &'a Path, shown: &'a [Shown]) -> Jail<'a> {
    Jail { uid: NOBODYS, root, shown, group: None, file_size: 1 << 20, tasks: 8, ends_with_us: true }
}

/// What a shell in a jail prints when it runs `script`.
async fn said(script: &str, offers: &[Offer]) -> Option<String> {
    let root = tempfile::tempdir().unwrap();
    if !can_confine(root.path()) {
        return None;
    }
    let parts = parts_of("sh").await.unwrap();
    let output = Output::new().unwrap();
    let started = spawn(
        &Spawn {
            program: parts.program.to_str().unwrap(),
            arguments: &["-c".to_owned(), script.to_owned()],
            directory: root.path(),
            inherited: &[],
            output: output.writer().unwrap(),
            lifetime: Lifetime::EndsWithUs,
        },
        &jail(root.path(), &parts.shown),
    );
    let (mut child, opener) = started.unwrap();
    let (served, status) = tokio::join!(opener.serve(offers), child.wait());
    served.unwrap();
    assert_eq!(status.unwrap().signal(), None);
    Some(output.text().unwrap())
}

#[tokio::test]
async fn a_program_finds_itself_and_nothing_else() {
    let Some(heard) = said("echo $$ /*; echo /etc/* /dev/*; cd /proc || echo no processes; ulimit -c", &[]).await
    else {
        return;
    };
    let lines: Vec<&str> = heard.lines().collect();
    assert!(lines[0].starts_with("1 /dev /etc /lib"), "{heard}");
    assert!(!lines[0].contains("/proc") && !lines[0].contains("/root") && !lines[0].contains("/tmp"), "{heard}");
    assert_eq!(lines[1], "/etc/ld.so.cache /dev/null /dev/urandom");
    assert!(heard.contains("no processes") && heard.ends_with("\n0\n"), "{heard}");
}

#[tokio::test]
async fn what_is_offered_is_given_as_it_is_and_nothing_else_opens_for_writing() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"secret of all\n").unwrap();
    let offers = [Offer { name: "/memory", file: file.reopen().unwrap() }];
    let read_only = [Offer { name: "/memory", file: File::open(file.path()).unwrap() }];
    let script = "read line <>/memory; echo got $line; (echo changed >>/memory) 2>/dev/null || echo refused; \
                  (: >/dev/null) 2>&1; (: <>/etc/ld.so.cache) 2>&1";
    let Some(heard) = said(script, &read_only).await else { return };
    assert!(heard.contains("got secret of all") && heard.contains("refused"), "{heard}");
    assert!(heard.contains("cannot create /dev/null") && heard.contains("cannot create /etc/ld.so.cache"), "{heard}");
    assert_eq!(std::fs::read(file.path()).unwrap(), b"secret of all\n");
    said("echo changed >/memory", &offers).await.unwrap();
    assert_eq!(std::fs::read(file.path()).unwrap(), b"changed\nf all\n", "one that may be written can be");
}

#[tokio::test]
async fn a_step_that_fails_is_named() {
    let root = tempfile::tempdir().unwrap();
    if !can_confine(root.path()) {
        return;
    }
    let missing = root.path().join("missing");
    let error = try_out(&jail(&missing, &[])).unwrap_err().to_string();
    assert!(error.starts_with("confining it failed at mounting its root at "), "{error}");
    assert!(error.contains("No such file"), "{error}");
}
