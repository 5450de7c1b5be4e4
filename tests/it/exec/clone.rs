//! `dayfly exec --repo`: a command on one commit, and the files that it made.

use std::fs;

use super::State;
use crate::local_forge::{Forge, Options};
use crate::support::leaks;
use crate::support::repository::Repository;

/// The guest's tar is the guest's: this one sends a file under names of its choice, and a link and a file behind it.
const HOSTILE_TAR: &str = r#"#!/bin/sh
send() { /usr/bin/tar -c -f - -P --transform "s,.*,$1,S" dist/x | head -c 1024; }
for name in ../outside .git/hooks/post-checkout Makefile /etc/outside dist2 dist/../../outside; do send "$name"; done
ln -s /tmp dist/way
/usr/bin/tar -c -f - dist/way | head -c 512
send dist/way/x
head -c 1024 /dev/zero
"#;

#[test]
fn a_command_runs_on_the_pinned_commit_and_its_files_come_back() {
    let Some(state) = State::new() else { return };
    let repository = Repository::new(&[("name", "first\n"), (".gitignore", "x\n")]);
    let pinned = repository.commit(&[("name", "pinned\n")]);
    repository.commit(&[("name", "later\n")]);
    let host = tempfile::tempdir().unwrap();
    fs::create_dir(host.path().join("dist")).unwrap();
    fs::write(host.path().join("dist/report"), "of the run before").unwrap();
    let script = "cat name; git rev-parse HEAD; git log --oneline | wc -l; mkdir -p dist/deep empty/dir
        echo report > dist/report; echo '#!/bin/sh' > dist/deep/run; chmod +x dist/deep/run; ln -s /etc/passwd dist/link
        echo log > /tmp/a.log; echo other > /tmp/b.txt; exit 7";
    let (repo, to) = (repository.path().to_str().unwrap(), host.path().to_str().unwrap());
    let artifacts = ["--artifact", "dist", "--artifact", "empty", "--artifact", "/tmp/*.log", "--artifact", "absent"];
    let mut arguments = vec!["--repo", repo, "--sha", &pinned, "--timeout", "5m", "--artifact-dir", to];
    arguments.extend(artifacts);
    arguments.extend(["--", "sh", "-c", script]);
    let done = state.run(&arguments);
    // The command's own code comes first; what is missing is but a warning then.
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (Some(7), format!("pinned\n{pinned}\n1\n").as_str()),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("warning: artifact `absent`: there is nothing like it"), "{}", done.stderr);
    assert!(done.stderr.contains("`dist/link` was left out: it is a link"), "{}", done.stderr);
    let read = |name: &str| fs::read_to_string(host.path().join(name)).unwrap();
    assert_eq!((read("dist/report"), read("tmp/a.log")), ("report\n".to_owned(), "log\n".to_owned()));
    assert!(
        std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(host.path().join("dist/deep/run")).unwrap().permissions()
        ) & 0o100
            != 0
    );
    assert!(host.path().join("empty/dir").is_dir());
    assert!(!host.path().join("tmp/b.txt").exists() && !host.path().join("dist/link").exists());
    leaks::assert_none(state.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_guest_picks_no_place_on_the_host() {
    let Some(state) = State::new() else { return };
    let forge = Forge::start(Options::default()).await.unwrap();
    forge.create_repository("demo/hello").await.unwrap();
    let sha = forge
        .commit("demo/hello", "main", &[("README.md", "# Hello\n"), ("hostile-tar", HOSTILE_TAR)], "Begin")
        .await
        .unwrap();
    let host = tempfile::tempdir().unwrap();
    let to = host.path().join("a/b");
    fs::write(host.path().join("token"), format!("{}\n", forge.plain_token())).unwrap();
    let (url, token) = (format!("{}/demo/hello", forge.url().trim_end_matches('/')), host.path().join("token"));
    let script = "test -z \"$DAYFLY_GIT_TOKEN\"; cat README.md; mkdir -p dist ~/.local/bin; echo content > dist/x
        cp hostile-tar ~/.local/bin/tar; chmod +x ~/.local/bin/tar";
    let arguments = [
        "--repo",
        &url,
        "--sha",
        &sha,
        "--token-file",
        token.to_str().unwrap(),
        "--artifact",
        "dist",
        "--artifact-dir",
        to.to_str().unwrap(),
        "--",
        "sh",
        "-ec",
        script,
    ];
    let done = tokio::task::block_in_place(|| state.run(&arguments));
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "# Hello\n"), "{}", done.stderr);
    assert_eq!(done.stderr.matches("was left out").count(), 7, "{}", done.stderr);
    let mut found = Vec::new();
    for (directory, name) in [("", "token"), ("a", "b"), ("a/b", "dist"), ("a/b/dist", "way"), ("a/b/dist/way", "x")] {
        let listed: Vec<_> =
            fs::read_dir(host.path().join(directory)).unwrap().map(|e| e.unwrap().file_name()).collect();
        found.push((listed.iter().any(|found| found == name), listed.len()));
    }
    assert_eq!(found, [(true, 2), (true, 1), (true, 1), (true, 1), (true, 1)], "{}", done.stderr);

    let refused = tokio::task::block_in_place(|| state.run(&["--repo", &url, "--sha", &sha, "--", "true"]));
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(69), ""), "{}", refused.stderr);
    assert!(refused.stderr.contains("could not be checked out"), "{}", refused.stderr);
    leaks::assert_none(state.path());
}
