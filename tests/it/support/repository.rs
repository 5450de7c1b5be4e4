//! A repository on this host, as a person has one.

use std::path::Path;
use std::process::Command;

/// A repository with a work tree; goes with its directory.
#[derive(Debug)]
pub(crate) struct Repository(tempfile::TempDir);

impl Repository {
    /// With one commit of these files on `main`.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let repository = Self::empty();
        repository.commit(files);
        repository
    }

    fn empty() -> Self {
        let repository = Self(tempfile::tempdir().unwrap());
        repository.git(&["init", "-q", "-b", "main"]);
        repository.git(&["remote", "add", "origin", "git@git.example.org:acme/site.git"]);
        repository
    }

    /// With one commit of the files in a directory, on `main`.
    pub(crate) fn of(directory: &Path) -> Self {
        let repository = Self::empty();
        let copied = Command::new("cp").arg("-r").arg(directory.join(".")).arg(repository.path()).status().unwrap();
        assert!(copied.success(), "{directory:?} could not be copied");
        repository.commit(&[]);
        repository
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes files without committing them.
    pub(crate) fn write(&self, files: &[(&str, &str)]) {
        for (name, content) in files {
            let path = self.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }

    /// Commits files; gives the commit's id.
    pub(crate) fn commit(&self, files: &[(&str, &str)]) -> String {
        self.write(files);
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "A commit"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Adds a submodule, which the next commit has.
    pub(crate) fn add_submodule(&self, path: &str, url: &str, commit: &str) {
        let section = format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n");
        self.write(&[(".gitmodules", &section)]);
        // Without the empty directory it would be gone again.
        std::fs::create_dir_all(self.path().join(path)).unwrap();
        self.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]);
    }

    /// Gives the last commit a name.
    pub(crate) fn tag(&self, name: &str) {
        self.git(&["tag", name]);
    }

    /// Copies it without its work tree to `directory`, which does not exist.
    pub(crate) fn copy_bare(&self, directory: &Path) {
        self.git(&["clone", "-q", "--bare", ".", directory.to_str().unwrap()]);
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=Test", "-c", "user.email=test@example.org"]).args(arguments);
        command.current_dir(self.path()).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        let output = command.output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}
