//! A bare repository, worked on with the real git.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Commits are a minute apart, from here on: the same history has the same ids on every machine.
const FIRST_COMMIT_TIME: u64 = 1_700_000_000;

/// A bare repository on disk.
#[derive(Debug, Clone)]
pub struct Bare {
    path: PathBuf,
}

/// One line of a directory's listing.
#[derive(Debug)]
pub struct TreeEntry {
    /// As git writes it: `100644`, `100755`, `120000` (symbolic link), `040000` (directory), `160000` (submodule).
    pub mode: String,
    pub sha: String,
    /// Of files only.
    pub size: Option<u64>,
    pub name: String,
}

/// The real git, without the settings of whoever runs this.
pub fn git() -> Command {
    let mut command = Command::new("git");
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").kill_on_drop(true);
    command
}

/// Runs `command` with `input` and returns what it wrote, whatever its size.
pub async fn run(mut command: Command, input: Vec<u8>) -> io::Result<Vec<u8>> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().expect("it was asked for");
    // At the same time as reading, or both sides could wait for each other with full pipes.
    let feed = async move { stdin.write_all(&input).await };
    let (fed, output) = tokio::join!(feed, child.wait_with_output());
    let output = output?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    match fed {
        // Who succeeds without reading everything needed no more.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(output.stdout),
    }
}

impl Bare {
    pub async fn create(path: PathBuf) -> io::Result<Self> {
        let mut init = git();
        init.args(["init", "--quiet", "--bare", "--initial-branch=main"]).arg(&path);
        run(init, Vec::new()).await?;
        Ok(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn git(&self, arguments: &[&str], input: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut command = git();
        command.arg("-C").arg(&self.path).args(arguments);
        run(command, input).await
    }

    /// The commit that a ref or an id names, if any.
    pub async fn resolve(&self, name: &str) -> io::Result<Option<String>> {
        let name = format!("{name}^{{commit}}");
        match self.git(&["rev-parse", "--verify", "--quiet", "--end-of-options", &name], Vec::new()).await {
            Ok(sha) => Ok(Some(String::from_utf8_lossy(&sha).trim().to_owned())),
            Err(error) if error.kind() == ErrorKind::Other => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Commits `files` on top of `parent` and lets `reference` point there, wherever it pointed before.
    pub async fn commit(
        &self, reference: &str, parent: Option<&str>, files: &[(&str, &str)], message: &str,
    ) -> io::Result<String> {
        let generation = match parent {
            Some(parent) => self.git(&["rev-list", "--count", parent], Vec::new()).await?,
            None => b"0".to_vec(),
        };
        let generation: u64 = String::from_utf8_lossy(&generation).trim().parse().map_err(io::Error::other)?;
        let identity = format!("Demo <demo@example.invalid> {} +0000", FIRST_COMMIT_TIME + 60 * generation);
        let mut stream = format!("commit {reference}\nauthor {identity}\ncommitter {identity}\n");
        push_data(&mut stream, message);
        if let Some(parent) = parent {
            stream.push_str(&format!("from {parent}\n"));
        }
        for (path, content) in files {
            if path.contains(['"', '\n', '\\']) {
                return Err(io::Error::new(ErrorKind::InvalidInput, format!("`{path}` is not a path for this forge")));
            }
            stream.push_str(&format!("M 100644 inline {path}\n"));
            push_data(&mut stream, content);
        }
        stream.push_str("done\n");
        self.git(&["fast-import", "--quiet", "--done", "--force"], stream.into_bytes()).await?;
        self.resolve(reference).await?.ok_or_else(|| io::Error::other("the commit that was made is not there"))
    }

    /// The entries of a directory at a commit; `None` when there is no such directory.
    pub async fn list(&self, sha: &str, directory: &str) -> io::Result<Option<Vec<TreeEntry>>> {
        let tree = format!("{sha}:{directory}");
        if self.kind(&tree).await.as_deref() != Some("tree") {
            return Ok(None);
        }
        let listing = self.git(&["ls-tree", "-z", "-l", "--end-of-options", &tree], Vec::new()).await?;
        Ok(Some(String::from_utf8_lossy(&listing).split_terminator('\0').filter_map(parse_entry).collect()))
    }

    /// A file's bytes at a commit; `None` when there is no such file.
    pub async fn read(&self, sha: &str, path: &str) -> io::Result<Option<Vec<u8>>> {
        let blob = format!("{sha}:{path}");
        if self.kind(&blob).await.as_deref() != Some("blob") {
            return Ok(None);
        }
        self.git(&["cat-file", "blob", &blob], Vec::new()).await.map(Some)
    }

    async fn kind(&self, object: &str) -> Option<String> {
        let kind = self.git(&["cat-file", "-t", object], Vec::new()).await.ok()?;
        Some(String::from_utf8_lossy(&kind).trim().to_owned())
    }
}

/// `data` of git's fast-import format.
fn push_data(stream: &mut String, data: &str) {
    stream.push_str(&format!("data {}\n{data}\n", data.len()));
}

/// `MODE TYPE SHA SIZE<TAB>NAME`, as `git ls-tree -l` prints it.
fn parse_entry(line: &str) -> Option<TreeEntry> {
    let (fields, name) = line.split_once('\t')?;
    let mut fields = fields.split_whitespace();
    let (mode, _kind, sha, size) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    Some(TreeEntry { mode: mode.to_owned(), sha: sha.to_owned(), size: size.parse().ok(), name: name.to_owned() })
}
