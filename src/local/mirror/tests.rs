//! A mirror of repositories that try to run something, compared with what the user had before.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use super::*;

/// A repository with a commit on `main`, another on `side`, a tag, and files that are not committed.
struct World {
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(world.files()).unwrap();
        world.git(&["init", "-q", "-b", "main"]);
        world.write("a", "first");
        world.write("gone", "first");
        world.write(".gitignore", "ignored\n");
        world.git(&["add", "-A"]);
        world.git(&["commit", "-q", "-m", "First"]);
        world.git(&["tag", "v1"]);
        world.git(&["checkout", "-q", "-b", "side"]);
        world.write("secret", "of the side");
        world.git(&["add", "-A"]);
        world.git(&["commit", "-q", "-m", "Side"]);
        world.git(&["tag", "side-tag"]);
        world.git(&["checkout", "-q", "main"]);
        world
    }

    fn files(&self) -> PathBuf {
        self.directory.path().join("files")
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.files().join(name), content).unwrap();
    }

    fn change(&self) {
        self.write("a", "changed");
        self.write("new", "untracked");
        self.write("staged", "staged");
        self.write("ignored", "ignored");
        fs::remove_file(self.files().join("gone")).unwrap();
        self.git(&["add", "staged"]);
    }

    fn git(&self, arguments: &[&str]) -> String {
        git_in(&self.files(), arguments)
    }

    async fn mirror(&self, which: &Which) -> Mirror {
        let repository = Repository::open(&self.files()).await.unwrap();
        let place = tempfile::Builder::new().tempdir_in(self.directory.path()).unwrap().keep().join("mirror.git");
        Mirror::create(&repository, which, &place).await.unwrap()
    }

    /// The bytes of every file of the repository, `.git` included.
    fn snapshot(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut open = vec![self.files()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { open.push(path) } else { found.push((path.clone(), fs::read(&path).unwrap())) }
            }
        }
        found.sort();
        found
    }
}

fn git_in(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=Test", "-c", "user.email=test@example.org"]).args(arguments);
    command.current_dir(directory).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_mirror_has_the_commit_its_history_and_its_tags_only() {
    let world = World::new();
    let side = world.git(&["rev-parse", "side"]);
    world.change();
    let before = world.snapshot();
    let mirror = world.mirror(&Which::Head).await;
    assert_eq!(world.snapshot(), before, "the repository was changed");
    assert_eq!(mirror.sha.as_str(), world.git(&["rev-parse", "HEAD"]));
    assert_eq!(mirror.differing, 4, "a, gone, new, staged");
    let refs = git_in(&mirror.directory, &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, "refs/heads/main\nrefs/tags/v1");
    let found = Command::new("git").args(["cat-file", "-e", &side]).current_dir(&mirror.directory).output().unwrap();
    assert!(!found.status.success(), "a commit of another branch is there");
    git_in(&mirror.directory, &["fsck", "--strict"]);
    assert_eq!(mirror.read("a").await.unwrap(), b"first");
}

#[tokio::test]
async fn the_work_tree_becomes_a_commit_without_touching_anything_of_the_user() {
    let world = World::new();
    world.change();
    let before = world.snapshot();
    let mirror = world.mirror(&Which::WorkTree).await;
    assert_eq!(world.snapshot(), before, "the repository was changed");
    let listed = git_in(&mirror.directory, &["ls-tree", "--name-only", mirror.sha.as_str()]);
    assert_eq!(listed, ".gitignore\na\nnew\nstaged");
    assert_eq!(mirror.read("a").await.unwrap(), b"changed");
    let parent = git_in(&mirror.directory, &["rev-parse", &format!("{}^", mirror.sha)]);
    assert_eq!(parent, world.git(&["rev-parse", "HEAD"]));
    git_in(&mirror.directory, &["fsck", "--strict"]);
    // A clean work tree is HEAD itself.
    world.git(&["add", "-A"]);
    world.git(&["commit", "-q", "-m", "All of it"]);
    let clean = world.mirror(&Which::WorkTree).await;
    assert_eq!((clean.sha.as_str(), clean.differing), (world.git(&["rev-parse", "HEAD"]).as_str(), 0));
}

#[tokio::test]
async fn nothing_that_a_repository_names_runs() {
    let world = World::new();
    let ran = world.directory.path().join("ran");
    let program = world.directory.path().join("program");
    fs::write(&program, format!("#!/bin/sh\necho \"$0 $@\" >> {}\ncat\n", ran.display())).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = program.to_str().unwrap();
    let hooks = world.files().join(".git/hooks");
    fs::create_dir_all(&hooks).unwrap();
    for hook in ["reference-transaction", "post-index-change", "fsmonitor-watchman", "pre-auto-gc", "post-checkout"] {
        fs::copy(program, hooks.join(hook)).unwrap();
    }
    // A submodule with a configuration of its own.
    git_in(&world.files(), &["init", "-q", "sub"]);
    git_in(&world.files().join("sub"), &["commit", "-q", "--allow-empty", "-m", "Sub"]);
    world.git(&["add", "sub"]);
    world.write(".gitattributes", "* filter=evil diff=evil merge=evil\n");
    world.change();
    fs::write(world.files().join("sub/file"), "new").unwrap();
    for repository in [world.files(), world.files().join("sub")] {
        for setting in [
            "core.fsmonitor",
            "core.sshCommand",
            "core.pager",
            "core.editor",
            "core.askPass",
            "core.gitProxy",
            "core.alternateRefsCommand",
            "filter.evil.clean",
            "filter.evil.smudge",
            "filter.evil.process",
            "diff.evil.textconv",
            "diff.evil.command",
            "diff.external",
            "merge.evil.driver",
            "gpg.program",
            "uploadpack.packObjectsHook",
            "remote.origin.uploadpack",
            "credential.helper",
            "alias.rev-parse",
            "alias.ls-files",
        ] {
            git_in(&repository, &["config", setting, program]);
        }
        for (setting, value) in [
            ("core.hooksPath", hooks.to_str().unwrap()),
            ("core.untrackedCache", "true"),
            ("filter.evil.required", "true"),
            ("remote.origin.url", &format!("ext::{program}")),
            ("remote.origin.promisor", "true"),
            ("protocol.ext.allow", "always"),
            ("extensions.partialClone", "origin"),
            ("commit.gpgSign", "true"),
        ] {
            git_in(&repository, &["config", setting, value]);
        }
    }
    fs::remove_file(&ran).ok();
    for which in [Which::Head, Which::WorkTree] {
        let mirror = world.mirror(&which).await;
        assert_eq!(
            mirror.read("a").await.unwrap(),
            if which == Which::Head { b"first".as_slice() } else { b"changed" }
        );
    }
    assert!(!ran.exists(), "something ran: {}", fs::read_to_string(&ran).unwrap_or_default());
    // An ordinary git, for comparison.
    Command::new("git").args(["add", "-A"]).current_dir(world.files()).output().unwrap();
    assert!(ran.exists(), "these settings are harmless");
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let world = World::new();
    let outside = Repository::open(world.directory.path()).await.unwrap_err().to_string();
    assert!(outside.contains("is not in a git repository"), "{outside}");
    let repository = Repository::open(&world.files()).await.unwrap();
    let sha = CommitSha::parse(&"a1".repeat(20)).unwrap();
    let place = world.directory.path().join("mirror.git");
    let error = Mirror::create(&repository, &Which::Commit(sha), &place).await.unwrap_err().to_string();
    assert!(error.contains("there is no commit a1a1"), "{error}");
    // A detached HEAD, in a part of the history, from a directory below.
    git_in(
        world.directory.path(),
        &["clone", "-q", "--depth=1", &format!("file://{}", world.files().display()), "part"],
    );
    let part = world.directory.path().join("part");
    git_in(&part, &["checkout", "-q", "--detach"]);
    fs::create_dir(part.join("below")).unwrap();
    let repository = Repository::open(&part.join("below")).await.unwrap();
    let mirror = Mirror::create(&repository, &Which::Head, &world.directory.path().join("part.git")).await.unwrap();
    assert_eq!((repository.branch, mirror.differing), (None, 0));
    git_in(&mirror.directory, &["fsck"]);
}

#[tokio::test]
async fn a_repository_does_not_choose_whose_files_run() {
    let world = World::new();
    let victim = world.directory.path().to_owned();
    let elsewhere = tempfile::tempdir().unwrap();
    // One around the repository, one beside it, and one within it that is somebody else's.
    let link = world.files().join("link");
    std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
    for named in [victim.as_path(), elsewhere.path(), &link] {
        world.git(&["config", "core.worktree", named.to_str().unwrap()]);
        let error = Repository::open(&world.files()).await.unwrap_err();
        assert!(matches!(error, LocalError::OtherFiles { .. }), "{named:?}: {error}");
    }
    // A place of its own is no harm, whoever wrote it down.
    world.git(&["config", "core.worktree", world.files().to_str().unwrap()]);
    assert!(Repository::open(&world.files()).await.unwrap().files.is_some());
    world.git(&["config", "--unset", "core.worktree"]);
    // As submodules and further work trees have it: a `.git` that is a file.
    let linked = victim.join("linked");
    world.git(&["worktree", "add", "-q", linked.to_str().unwrap(), "side"]);
    assert_eq!(Repository::open(&linked).await.unwrap().files, linked.canonicalize().ok());
    let separate = victim.join("separate.git");
    git_in(&world.files(), &["init", "-q", "--separate-git-dir", separate.to_str().unwrap()]);
    git_in(&separate, &["config", "core.worktree", "../files"]);
    assert_eq!(Repository::open(&world.files()).await.unwrap().files, world.files().canonicalize().ok());
    let within = world.files().join("below");
    fs::create_dir(&within).unwrap();
    assert_eq!(Repository::open(&within).await.unwrap().files, world.files().canonicalize().ok());
}

/// Each of these would have a guest read another repository of the user.
#[tokio::test]
async fn a_directory_does_not_choose_whose_commits_run() {
    use std::os::unix::fs::symlink;

    let world = World::new();
    let secret = world.files().join(".git").canonicalize().unwrap();
    world.git(&["worktree", "add", "-q", world.directory.path().join("linked").to_str().unwrap(), "side"]);
    let hostile = |name: &str| {
        let directory = world.directory.path().join(name);
        fs::create_dir(&directory).unwrap();
        directory
    };
    let with_repository = |name: &str| {
        let directory = hostile(name);
        git_in(&directory, &["init", "-q", "-b", "main"]);
        git_in(&directory, &["commit", "-q", "--allow-empty", "-m", "Hostile"]);
        directory
    };
    let refused = async |directory: &Path, words: &str| {
        let error = Repository::open(directory).await.unwrap_err();
        assert!(matches!(error, LocalError::Foreign { .. }), "{}: {error}", directory.display());
        assert!(error.to_string().contains(words), "{error}");
    };

    let by_file = hostile("by-file");
    fs::write(by_file.join(".git"), format!("gitdir: {}\n", secret.display())).unwrap();
    refused(&by_file, "says that its repository is").await;
    let loud = with_repository("\u{1b}]0;title\u{7}");
    fs::write(by_file.join(".git"), format!("gitdir: {}\n", loud.join(".git").display())).unwrap();
    refused(&by_file, r"\u{1b}]0;title\u{7}").await;
    let by_work_tree = hostile("by-work-tree");
    fs::write(by_work_tree.join(".git"), format!("gitdir: {}\n", secret.join("worktrees/linked").display())).unwrap();
    refused(&by_work_tree, "its repository").await;
    let by_link = hostile("by-link");
    symlink(&secret, by_link.join(".git")).unwrap();
    refused(&by_link, "its repository").await;
    // In the files of the repository that it names.
    let within = world.files().join("within");
    fs::create_dir(&within).unwrap();
    fs::write(within.join(".git"), "gitdir: ../.git\n").unwrap();
    refused(&within, "its repository").await;

    let shared = with_repository("by-common-directory");
    fs::write(shared.join(".git/commondir"), secret.to_str().unwrap()).unwrap();
    refused(&shared, "shares with other work trees").await;
    let made_up = hostile("made-up-work-tree");
    let private = made_up.join("own.git/worktrees/it");
    fs::create_dir_all(&private).unwrap();
    fs::write(made_up.join(".git"), "gitdir: own.git/worktrees/it\n").unwrap();
    fs::write(private.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    fs::write(private.join("commondir"), secret.to_str().unwrap()).unwrap();
    fs::write(private.join("gitdir"), made_up.join(".git").to_str().unwrap()).unwrap();
    refused(&made_up, "shares with other work trees").await;

    let borrowing = with_repository("by-alternates");
    fs::write(borrowing.join(".git/objects/info/alternates"), secret.join("objects").to_str().unwrap()).unwrap();
    refused(&borrowing, "its objects").await;
    for (name, part) in [("by-objects", "objects"), ("by-packs", "objects/pack")] {
        let linking = with_repository(name);
        let objects = linking.join(".git").join(part);
        fs::rename(&objects, linking.join("aside")).unwrap();
        let target = if part == "objects" { linking.join("aside") } else { secret.join(part) };
        symlink(target, &objects).unwrap();
        refused(&linking, "its objects").await;
    }
}

/// What git itself makes leads back, and is the user's own.
#[tokio::test]
async fn work_trees_and_submodules_are_their_own() {
    let world = World::new();
    let above = world.directory.path();
    let linked = above.join("linked");
    world.git(&["worktree", "add", "-q", linked.to_str().unwrap(), "side"]);
    let repository = Repository::open(&linked).await.unwrap();
    let mirror = Mirror::create(&repository, &Which::Head, &above.join("m1")).await.unwrap();
    assert_eq!(mirror.sha.as_str(), world.git(&["rev-parse", "side"]));
    // The repository itself, from within; and one whose `.git` is a file, with relative links in it.
    Repository::open(&world.files().join(".git")).await.unwrap();
    let outer = above.join("outer");
    git_in(above, &["init", "-q", "-b", "main", "outer"]);
    let address = world.files();
    let arguments = ["-c", "protocol.file.allow=always", "submodule", "add", "-q", address.to_str().unwrap(), "sub"];
    git_in(&outer, &arguments);
    assert!(outer.join("sub/.git").is_file());
    let repository = Repository::open(&outer.join("sub")).await.unwrap();
    let mirror = Mirror::create(&repository, &Which::Head, &above.join("m2")).await.unwrap();
    assert_eq!(mirror.sha.as_str(), world.git(&["rev-parse", "main"]));
}

#[tokio::test]
async fn a_repository_without_files_has_none_to_run() {
    let world = World::new();
    let bare = world.directory.path().join("bare.git");
    world.git(&["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    let repository = Repository::open(&bare).await.unwrap();
    let error = Mirror::create(&repository, &Which::WorkTree, &world.directory.path().join("m1")).await.unwrap_err();
    assert!(matches!(error, LocalError::NoFiles(_)), "{error}");
    let mirror = Mirror::create(&repository, &Which::Head, &world.directory.path().join("m2")).await.unwrap();
    assert_eq!(mirror.sha, repository.head);
}

#[tokio::test]
async fn an_index_that_is_no_file_is_not_waited_for_and_files_that_cannot_be_read_do_not_stop_a_run_of_head() {
    let world = World::new();
    let index = world.files().join(".git/index");
    fs::remove_file(&index).unwrap();
    nix::unistd::mkfifo(&index, nix::sys::stat::Mode::S_IRUSR).unwrap();
    world.write("a", "changed");
    let mirror = tokio::time::timeout(std::time::Duration::from_secs(60), world.mirror(&Which::Head)).await.unwrap();
    assert_eq!(mirror.differing, 1);
    // The files are gone between the question where they are and their reading.
    let mut repository = Repository::open(&world.files()).await.unwrap();
    repository.files = Some(world.directory.path().join("not-there"));
    let mirror = Mirror::create(&repository, &Which::Head, &world.directory.path().join("m")).await.unwrap();
    assert_eq!((mirror.sha, mirror.differing), (repository.head, 0));
}
