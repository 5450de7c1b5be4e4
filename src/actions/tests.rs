#![allow(clippy::unwrap_used)]

use std::process::Command;

use super::*;
use crate::workflow::action::ActionRef;

fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(arguments).current_dir(directory);
    let done = command.env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

fn action(text: &str) -> RemoteAction {
    ActionRef::parse(text).unwrap().remote().unwrap().clone()
}

/// A directory with the repository `acme/tool`: a branch, an annotated tag of its first commit, and files.
fn repositories() -> (tempfile::TempDir, String, String) {
    let place = tempfile::tempdir().unwrap();
    let tool = place.path().join("acme/tool");
    std::fs::create_dir_all(&tool).unwrap();
    git(&tool, &["init", "-q", "-b", "main"]);
    std::fs::write(tool.join("action.yml"), "one").unwrap();
    git(&tool, &["add", "."]);
    git(&tool, &["commit", "-qm", "one"]);
    git(&tool, &["tag", "-am", "v1", "v1"]);
    let first = git(&tool, &["rev-parse", "HEAD"]);
    std::fs::write(tool.join("action.yml"), "two").unwrap();
    git(&tool, &["commit", "-qam", "two"]);
    let second = git(&tool, &["rev-parse", "HEAD"]);
    (place, first, second)
}

#[tokio::test]
async fn versions_are_resolved_and_commits_are_fetched_once() {
    let (place, first, second) = repositories();
    let directory = tempfile::tempdir().unwrap();
    let store = ActionStore::new(directory.path().join("actions"), Source::Directory(place.path().into()), 1 << 30);
    let obtain = async |text: &str| store.obtain(&action(text), None).await.map_err(|error| error.to_string());
    std::fs::create_dir_all(directory.path().join("actions")).unwrap();
    let tagged = obtain("acme/tool@v1").await.unwrap();
    assert_eq!(tagged.sha.as_str(), first, "a tag's commit, not the tag");
    let listed = Command::new("tar").arg("-xOf").arg(&tagged.file).arg("action.yml").output().unwrap();
    assert_eq!(listed.stdout, b"one");
    assert_eq!(obtain("acme/tool@main").await.unwrap().sha.as_str(), second);
    assert_eq!(obtain(&format!("acme/tool/sub@{first}")).await.unwrap(), tagged);

    insta::assert_snapshot!(obtain("acme/tool@v9").await.unwrap_err(), @"
    the action `acme/tool@v9` cannot be fetched: there is no tag or branch `v9` in `acme/tool`
      hint: a commit is written with all of its 40 digits
    ");
    insta::assert_snapshot!(obtain("acme/none@v1").await.unwrap_err(), @"
    the action `acme/none@v1` cannot be fetched: its repository is not there, or not readable without a credential
      hint: private repositories of actions and workflows are listed in `[actions] private`
    ");
    let unknown = "0123456789012345678901234567890123456789";
    let absent = obtain(&format!("acme/tool@{unknown}")).await.unwrap_err();
    assert!(absent.contains("has no commit"), "{absent}");

    // What is there needs no repository any more, unless a name has to be resolved.
    std::fs::remove_dir_all(place.path().join("acme")).unwrap();
    assert_eq!(obtain(&format!("acme/tool@{first}")).await.unwrap(), tagged);
    assert!(obtain("acme/tool@v1").await.is_err());
    let left: Vec<_> =
        std::fs::read_dir(directory.path().join("actions")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["public"], "nothing is left of a fetch");
}

/// The workflows of one commit are fetched together, whatever its attributes leave out of archives.
#[tokio::test]
async fn workflows_of_a_commit_are_read_together() {
    let place = tempfile::tempdir().unwrap();
    let tool = place.path().join("acme/tool");
    std::fs::create_dir_all(tool.join(".github/workflows/sub")).unwrap();
    std::fs::create_dir_all(tool.join(".dayfly/workflows")).unwrap();
    let write = |path: &str, bytes: &[u8]| std::fs::write(tool.join(path), bytes).unwrap();
    write(".gitattributes", b".github export-ignore\n");
    write(".github/workflows/a.yml", "on: workflow_call # \u{e9}\r\n".as_bytes());
    write(".github/workflows/latin.yml", b"# \xe9");
    write(".github/workflows/large.yml", &[b' '; crate::workflow::MAX_FILE_BYTES + 1]);
    write(".github/workflows/sub/b.yml", b"");
    write(".dayfly/workflows/c.yml", b"");
    std::os::unix::fs::symlink("a.yml", tool.join(".github/workflows/link.yml")).unwrap();
    git(&tool, &["init", "-q", "-b", "main"]);
    git(&tool, &["add", "."]);
    git(&tool, &["commit", "-qm", "one"]);
    git(&tool, &["tag", "v1"]);
    git(&tool, &["branch", "v1"]);
    let first = git(&tool, &["rev-parse", "HEAD"]);
    write(".github/workflows/a.yml", b"on: push\n");
    git(&tool, &["commit", "-qam", "two"]);
    git(&tool, &["branch", "-qf", "v1"]);

    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("actions")).unwrap();
    let store = ActionStore::new(directory.path().join("actions"), Source::Directory(place.path().into()), 1 << 30);
    let read = async |path: &str, version: &str| {
        let wanted = action(&format!("acme/tool/{path}@{version}"));
        store.workflow(&wanted, None, None).await.map_err(|error| error.to_string())
    };
    let a = ".github/workflows/a.yml";
    let tagged = read(a, "v1").await.unwrap();
    assert_eq!(
        tagged,
        WorkflowFile { sha: CommitSha::parse(&first).unwrap(), text: Ok("on: workflow_call # é\r\n".into()) }
    );
    assert_eq!(read(a, &first.to_uppercase()).await.unwrap(), tagged);
    assert_eq!(read(a, "refs/tags/v1").await.unwrap(), tagged);
    assert_eq!(read(a, "refs/heads/v1").await.unwrap().text, Ok("on: push\n".to_owned()));
    let at = store.workflow(&action(&format!("acme/tool/{a}@main")), Some(&tagged.sha), None).await.unwrap();
    assert_eq!(at, tagged, "a version that was resolved stays what it was");
    assert_eq!(read(".dayfly/workflows/c.yml", "v1").await.unwrap().text, Ok(String::new()));
    let why = async |name: &str| read(&format!(".github/workflows/{name}.yml"), "v1").await.unwrap().text.unwrap_err();
    insta::assert_snapshot!(why("latin").await, @"the file is not UTF-8");
    insta::assert_snapshot!(why("large").await, @"the file has 512001 bytes; a workflow has at most 512000");
    for absent in ["link", "none", "sub/b"] {
        assert!(why(absent).await.ends_with("of acme/tool has no such file"), "{absent}");
    }
    let missing = read(a, "v2").await.unwrap_err();
    assert!(missing.starts_with("the workflow `acme/tool/.github/workflows/a.yml@v2` cannot be fetched"), "{missing}");
}

#[test]
fn whether_nobody_answered_is_told_from_refusals() {
    for (said, expected) in [
        ("fatal: unable to access 'https://x/': Could not resolve host: x", true),
        ("fatal: unable to access 'https://x/': Failed to connect to x port 443", true),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 502", true),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 429", true),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 403", false),
        ("remote: Not Found\nfatal: repository 'https://x/' not found", false),
        ("fatal: could not read Username for 'https://x': terminal prompts disabled", false),
        ("fatal: remote error: upload-pack: not our ref 0123", false),
        ("", false),
    ] {
        assert_eq!(is_unreachable(said), expected, "{said}");
    }
}
