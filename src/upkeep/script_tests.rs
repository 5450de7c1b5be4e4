//! The scripts that leave a clone for others and take it up again, with git itself and without a machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::snapshot::SETTLE;
use crate::job::checkout::SCRIPT;

/// A repository and the work of two machines.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        fs::create_dir(bench.path("origin")).unwrap();
        bench.git("origin", &["init", "-q", "-b", "main"]);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, directory: &str, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.path(directory));
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn git(&self, directory: &str, arguments: &[&str]) -> String {
        let identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"];
        self.run(directory, "git", &[&identity, arguments].concat()).trim().to_owned()
    }

    /// Makes the origin's files exactly these, and commits that.
    fn commit(&self, files: &[(&str, &str)]) -> String {
        self.git("origin", &["rm", "-rqf", "--ignore-unmatch", "."]);
        for (name, content) in files {
            let path = self.path("origin").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        self.git("origin", &["add", "-Af"]);
        self.git("origin", &["commit", "-q", "--allow-empty", "-m", "A commit"]);
        self.git("origin", &["rev-parse", "HEAD"])
    }

    fn checkout(&self, directory: &str, commit: &str, depth: &str, prepared: &str) {
        let (place, origin) = (self.path(directory), self.path("origin"));
        let [place, origin] = [&place, &origin].map(|path| path.to_str().unwrap());
        let arguments = [
            place,
            origin,
            commit,
            depth,
            "no",
            "yes",
            "no",
            "https://git.example.org/",
            prepared,
            "no",
            "",
            "",
            "all",
        ];
        self.run(".", "sh", &[&["-e", "-c", SCRIPT, "sh"][..], &arguments].concat());
    }

    /// What a script might do, and what happens after it.
    fn prepare(&self, commit: &str, script: &str) {
        self.checkout("prepared", commit, "1", "no");
        self.run("prepared", "sh", &["-e", "-c", script]);
        let (place, origin, temporary) = (self.path("prepared"), self.path("origin"), self.path("temporary"));
        let [place, origin, temporary] = [&place, &origin, &temporary].map(|path| path.to_str().unwrap());
        self.run(".", "sh", &["-e", "-c", SETTLE, "sh", place, origin, commit, temporary]);
    }

    /// Files with their contents, without git's own.
    fn tree(&self, directory: &str) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        collect(&self.path(directory), "", &mut found);
        found
    }
}

fn collect(directory: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.path() {
            _ if name == ".git" => {}
            path if path.is_dir() => collect(&path, &format!("{name}/"), found),
            path => drop(found.insert(name, fs::read_to_string(path).unwrap())),
        }
    }
}

/// Everything that could show later in a clone, if it were left.
const TRACES: &str = "mkdir -p deps kept; echo installed > deps/a; echo changed >> tracked; echo x > stray; mkdir -p sub/nested
git init -q sub/nested; git config core.hooksPath hooks; git config filter.x.smudge false; echo tracked > .git/info/exclude
git update-index --assume-unchanged tracked; git rm -q --cached dropped; git tag mine; echo 'exit 1' > .git/hooks/post-checkout
chmod +x .git/hooks/post-checkout; git stash list; touch .git/index.lock";

const FIRST: [(&str, &str); 5] = [
    (".gitignore", "deps/\nbuild\n"),
    ("tracked", "one\n"),
    ("dropped", "one\n"),
    ("turned", "a file\n"),
    ("dist/made", "tracked once\n"),
];

#[test]
fn a_prepared_clone_becomes_any_commit_exactly() {
    let seconds: [&[(&str, &str)]; 6] = [
        &FIRST,
        &[(".gitignore", "deps/\n"), ("tracked", "two\n")],
        // Ignores what was tracked before, and tracks what was ignored.
        &[(".gitignore", "dist/\nbuild\nother\n"), ("deps/a", "tracked now\n"), ("tracked", "one\n")],
        &[(".gitignore", "deps/\n"), ("turned/inside", "a directory\n"), ("build/x", "was a file\n")],
        // Does not ignore it any more.
        &[("tracked", "one\n")],
        &[(".gitignore", "*\n!tracked\n"), ("tracked", "one\n"), ("dist/other", "forced\n")],
    ];
    for (number, second) in seconds.into_iter().enumerate() {
        let bench = Bench::new();
        let first = bench.commit(&FIRST);
        let second = bench.commit(second);
        bench.prepare(&first, &format!("{TRACES}; echo made > build"));
        bench.checkout("prepared", &second, "1", "yes");
        bench.checkout("fresh", &second, "1", "no");
        let (mut prepared, fresh) = (bench.tree("prepared"), bench.tree("fresh"));
        let ignored = bench.git("prepared", &["ls-files", "--others", "--ignored", "--exclude-standard"]);
        prepared.retain(|name, _| !ignored.lines().any(|line| line == name));
        assert_eq!(prepared, fresh, "{number}");
        assert_eq!(bench.git("prepared", &["status", "--porcelain"]), "", "{number}");
        for of_git in [&["config", "--local", "--list"][..], &["log", "--format=%H"], &["tag"], &["rev-parse", "HEAD"]]
        {
            assert_eq!(bench.git("prepared", of_git), bench.git("fresh", of_git), "{number}: {of_git:?}");
        }
    }
}

#[test]
fn what_git_ignores_stays_and_all_of_the_history_can_be_had() {
    let bench = Bench::new();
    let first = bench.commit(&FIRST);
    let second = bench.commit(&[(".gitignore", "deps/\nbuild\n"), ("tracked", "two\n")]);
    bench.prepare(&first, TRACES);
    bench.checkout("prepared", &second, "0", "yes");
    let tree = bench.tree("prepared");
    assert_eq!(tree.get("deps/a").map(String::as_str), Some("installed\n"));
    assert!(!tree.contains_key("stray") && !tree.contains_key("dist/made"), "{tree:?}");
    assert_eq!(bench.git("prepared", &["rev-list", "--count", "HEAD"]), "2");
    // A second checkout of the same job is like any other.
    bench.checkout("prepared", &second, "0", "no");
    assert!(!bench.tree("prepared").contains_key("deps/a"));
}
