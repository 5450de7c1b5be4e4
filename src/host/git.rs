//! Git on this host, in repositories that a stranger may have written.
//!
//! A repository's configuration can name programs: hooks, filters, a file system monitor, transports, helpers. None of them
//! runs here. A repository of the user is only ever asked for names ([`Place::Users`]), by commands that start nothing;
//! everything that reads files or objects happens in a repository of our own, with our own configuration, that borrows the
//! user's objects ([`Place::Own`]). The rest of this module is a second wall: no hooks, no monitor, no transports, no lazy
//! fetches, no settings of the caller's environment.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::process::{Child, Command};

use super::command::{self, CommandError};
use super::process::{self, Lifetime};

/// How long one command of git may take. Copying a large history takes minutes.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// How long it may take to fetch something from elsewhere.
const FETCH_LIMIT: Duration = Duration::from_secs(5 * 60);

/// Settings that come before those of any file.
const SETTINGS: [(&str, &str); 13] = [
    ("user.name", "Dayfly"),
    ("user.email", "dayfly@localhost"),
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("safe.directory", "*"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("repack.writeBitmaps", "false"),
    ("http.receivepack", "false"),
    ("http.getanyfile", "false"),
    ("protocol.allow", "never"),
    ("advice.detachedHead", "false"),
];

/// Where a command works.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// Somewhere in a repository of the user, which only commands may see that read names.
    Users(&'a Path),
    /// A bare repository that this program made.
    Own(&'a Path),
    /// The same with the user's files before it, and an index that is not the user's.
    WorkTree { repository: &'a Path, files: &'a Path, index: &'a Path, settings: &'a [(String, String)] },
}

/// Fails where git is not installed.
pub fn require() -> Result<(), CommandError> {
    command::require("git")
}

/// Runs git to its end; gives its standard output.
pub async fn run(place: Place<'_>, arguments: &[&str], input: Vec<u8>) -> Result<Vec<u8>, CommandError> {
    let mut command = quiet_git();
    match place {
        Place::Users(directory) => {
            command.current_dir(directory);
            set(&mut command, &[]);
        }
        Place::Own(repository) => {
            own(&mut command, repository, &[]);
        }
        Place::WorkTree { repository, files, index, settings } => {
            own(&mut command, repository, settings);
            command.current_dir(files).env("GIT_WORK_TREE", files).env("GIT_INDEX_FILE", index);
        }
    }
    command.args(arguments);
    command::run_prepared(command, input, LIMIT, |_| {}).await
}

/// A repository that this host fetches from.
#[derive(Debug)]
pub struct Remote {
    /// An `https` or `http` address, or a directory of this host.
    pub address: String,
    /// The value of the `Authorization` header.
    pub authorization: Option<SecretString>,
}

/// The references of a repository whose names end with one of these, as lines of commit, tab and name.
pub async fn list_remote(remote: &Remote, names: &[&str]) -> Result<Vec<u8>, CommandError> {
    let mut command = fetching_git(Path::new("/nonexistent"), remote);
    command.args(["ls-remote", "--quiet", "--", &remote.address]).args(names);
    command::run_prepared(command, Vec::new(), FETCH_LIMIT, |_| {}).await
}

/// The files of a commit directly in these directories, with their sizes. Links, directories and submodules are no files.
pub async fn list_files(
    repository: &Path, commit: &str, directories: &[&str],
) -> Result<Vec<(String, u64)>, CommandError> {
    let mut arguments = vec!["ls-tree", "-z", "-l", commit, "--"];
    arguments.extend(directories);
    let listed = run(Place::Own(repository), &arguments, Vec::new()).await?;
    Ok(String::from_utf8_lossy(&listed).split('\0').filter_map(listed_file).collect())
}

/// `MODE blob ID SIZE<tab>PATH`.
fn listed_file(line: &str) -> Option<(String, u64)> {
    let (facts, path) = line.split_once('\t')?;
    let mut facts = facts.split_ascii_whitespace();
    let mode = facts.next()?;
    let size = facts.nth(2)?.parse().ok()?;
    mode.starts_with("100").then(|| (path.to_owned(), size))
}

/// The content of a file of a commit.
pub async fn read_file(repository: &Path, commit: &str, path: &str) -> Result<Vec<u8>, CommandError> {
    run(Place::Own(repository), &["cat-file", "blob", &format!("{commit}:{path}")], Vec::new()).await
}

/// Fetches one commit without its history into the bare repository in `directory`.
pub async fn fetch(directory: &Path, remote: &Remote, commit: &str) -> Result<(), CommandError> {
    let mut command = fetching_git(directory, remote);
    command.args(["fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"]);
    command.args(["--", &remote.address, commit]);
    command::run_prepared(command, Vec::new(), FETCH_LIMIT, |_| {}).await.map(drop)
}

/// Git that may go to one other place. It finds its way, proxies included, in the environment; a credential follows no redirect.
fn fetching_git(directory: &Path, remote: &Remote) -> Command {
    let mut command = quiet_git();
    let mut settings = vec![("protocol.version".to_owned(), "2".to_owned())];
    if let Some(authorization) = &remote.authorization {
        settings.push(("http.extraHeader".to_owned(), format!("Authorization: {}", authorization.expose_secret())));
        settings.push(("http.followRedirects".to_owned(), "false".to_owned()));
    }
    own(&mut command, directory, &settings);
    command.env("GIT_ALLOW_PROTOCOL", "https:http:file");
    command
}

/// Git's CGI program for the bare repository in `directory`, with these variables of CGI, its input and output piped. It ends
/// with its handle.
pub fn http_backend(directory: &Path, variables: &[(&str, &str)]) -> std::io::Result<Child> {
    let mut command = quiet_git();
    own(&mut command, directory, &[]);
    command
        .arg("http-backend")
        .env_remove("GIT_DIR")
        .env("GIT_PROJECT_ROOT", directory)
        .env("GIT_HTTP_EXPORT_ALL", "1");
    command.envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    process::start(command, Lifetime::EndsWithUs)
}

/// Git without anything that the environment says about it.
fn quiet_git() -> Command {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            command.env_remove(name);
        }
    }
    // No transport is called `none`; unlike a setting, this cannot be overridden by a repository.
    command.env("GIT_ALLOW_PROTOCOL", "none").env("GIT_NO_LAZY_FETCH", "1").env("GIT_NO_REPLACE_OBJECTS", "1");
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0").env("GIT_PAGER", "cat").env("LC_ALL", "C");
    command
}

fn own(command: &mut Command, repository: &Path, settings: &[(String, String)]) {
    command.env("GIT_DIR", repository).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.env("GIT_ATTR_NOSYSTEM", "1");
    set(command, settings);
}

/// Settings as variables: arguments stand in error messages.
fn set(command: &mut Command, more: &[(String, String)]) {
    let fixed = SETTINGS.iter().map(|(name, value)| (*name, *value));
    let more = more.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut count = 0;
    // Ours last: the last one counts.
    for (name, value) in more.chain(fixed) {
        command.env(format!("GIT_CONFIG_KEY_{count}"), name).env(format!("GIT_CONFIG_VALUE_{count}"), value);
        count += 1;
    }
    command.env("GIT_CONFIG_COUNT", count.to_string());
}
