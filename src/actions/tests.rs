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
      hint: private repositories of actions are listed in `[actions] private`
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
