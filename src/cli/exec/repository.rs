//! The commit on which `dayfly exec --repo` runs its command: cloned in the VM, through the host's git proxy.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use crate::forge::{CommitSha, GitUpstream, RepoName};
use crate::host::process::GIT_TOKEN_VARIABLE;
use crate::image::catalog::ImageInfo;
use crate::job::checkout::{self, Origin, Workspace};
use crate::job::steps::Places;
use crate::local::event::names;
use crate::local::mirror::{Mirror, Which};
use crate::local::repository::Repository;
use crate::net::git_proxy::{Directory, GitClient, GitLimits, GitProxy, Source};
use crate::protocol::message::{Exec, Owner};
use crate::workflow::model::Submodules;
use crate::workflow::run::{CheckoutPlan, Wanted};

/// Largest file that holds a token, in bytes.
const MAX_TOKEN_FILE: u64 = 16 << 10;

/// The repository's copy in the VM's directory.
const MIRROR: &str = "repository.git";

#[derive(Debug, Args)]
pub(super) struct RepositoryArgs {
    /// Clone this repository in the VM and run the command in it: an https address, or a path of this host
    #[arg(long, value_name = "URL", value_parser = parse_address, requires = "sha")]
    repo: Option<Address>,
    /// The commit: a full id
    #[arg(long, value_name = "SHA", value_parser = parse_sha, requires = "repo")]
    sha: Option<CommitSha>,
    /// Commits of history to fetch; 0 is all of it
    #[arg(long, value_name = "COMMITS", default_value_t = 1, requires = "repo")]
    fetch_depth: u32,
    /// Read the token for the repository from this file; else it is in DAYFLY_GIT_TOKEN, if there is one
    #[arg(long, value_name = "FILE", requires = "repo")]
    token_file: Option<PathBuf>,
    /// The user to which the token belongs, where the server wants to know
    #[arg(long, value_name = "NAME", default_value = "x-access-token", requires = "repo")]
    token_user: String,
}

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Remote(Url),
    Local(PathBuf),
}

/// What is to be cloned.
#[derive(Debug)]
pub(super) struct Clone {
    source: Source,
    name: RepoName,
    server_url: String,
    sha: CommitSha,
    fetch_depth: u32,
}

fn parse_sha(text: &str) -> Result<CommitSha, String> {
    CommitSha::parse(text).map_err(|_| "not a full commit id (40 or 64 small hexadecimal digits)".to_owned())
}

fn parse_address(text: &str) -> Result<Address, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        let is_scp = text.split_once(':').is_some_and(|(host, _)| !host.contains('/') && host.contains('@'));
        return if is_scp {
            Err("only https addresses and paths; not ssh".to_owned())
        } else {
            Ok(Address::Local(text.into()))
        };
    };
    match scheme {
        "file" => Ok(Address::Local(rest.into())),
        "http" | "https" => remote(text).map(Address::Remote),
        _ => Err(format!("only https addresses and paths; not `{scheme}`")),
    }
}

fn remote(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| error.to_string())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("a credential does not stand in an address: use --token-file or {GIT_TOKEN_VARIABLE}"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a repository's address has no `?` and no `#`".to_owned());
    }
    let is_loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if url.scheme() == "http" && !is_loopback {
        return Err("http is for this host only: use https".to_owned());
    }
    let path = url.path().trim_end_matches('/').trim_end_matches(".git").to_owned();
    url.set_path(&path);
    Ok(url)
}

impl RepositoryArgs {
    /// What to clone, if anything. `home` is the VM's directory: a copy of a local repository goes with it.
    pub(super) async fn clone(&self, home: &Path) -> anyhow::Result<Option<Clone>> {
        let (Some(address), Some(sha)) = (&self.repo, &self.sha) else { return Ok(None) };
        let (source, origin, directory) = match address {
            Address::Remote(url) => {
                let upstream = GitUpstream { url: url.clone(), authorization: self.authorization()? };
                let source = Source::Address { client: GitClient::new()?, upstream };
                (source, Some(url.to_string()), String::new())
            }
            Address::Local(path) => {
                let repository = Repository::open(path).await?;
                let mirror = Mirror::create(&repository, &Which::Commit(sha.clone()), &home.join(MIRROR)).await?;
                let directory = repository.directory_name();
                let users = repository.git_directory().to_owned();
                (Source::Directory(Directory { mirror: mirror.directory, users }), repository.origin, directory)
            }
        };
        let (name, server_url) = names(origin.as_deref(), &directory);
        Ok(Some(Clone { source, name, server_url, sha: sha.clone(), fetch_depth: self.fetch_depth }))
    }

    /// Says what is wrong with the files of this host that were named.
    pub(super) fn check(&self) -> Result<(), String> {
        let told = |option: &str, path: &Path, error: &dyn std::fmt::Display| {
            format!("{option} `{}`: {error}", path.display())
        };
        if let Some(file) = &self.token_file {
            read_token(file).map_err(|error| told("--token-file", file, &error))?;
        }
        match &self.repo {
            Some(Address::Local(path)) => path.metadata().map(drop).map_err(|error| told("--repo", path, &error)),
            Some(Address::Remote(_)) | None => Ok(()),
        }
    }

    /// The value of the header by which a token is shown to the server.
    fn authorization(&self) -> anyhow::Result<Option<SecretString>> {
        let token = match &self.token_file {
            Some(file) => Some(read_token(file).with_context(|| format!("--token-file `{}`", file.display()))?),
            None => std::env::var(GIT_TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()).map(SecretString::from),
        };
        Ok(token.map(|token| {
            let pair = SecretString::from(format!("{}:{}", self.token_user, token.expose_secret()));
            format!("Basic {}", STANDARD.encode(pair.expose_secret())).into()
        }))
    }
}

fn read_token(file: &Path) -> anyhow::Result<SecretString> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(file)?.take(MAX_TOKEN_FILE).read_to_string(&mut text)?;
    let token = SecretString::from(text.trim_end().to_owned());
    if token.expose_secret().is_empty() {
        bail!("the file is empty");
    }
    Ok(token)
}

impl Clone {
    /// Where the clone goes: where a job's would.
    pub(super) fn directory(&self, home: &str) -> String {
        Places::new(home, self.name.name()).workspace
    }

    /// What the guest fetches through.
    pub(super) fn proxy(&self) -> GitProxy {
        GitProxy::new(self.source.clone(), vec![self.name.clone()], GitLimits::default())
    }

    /// The command that clones. Its output is for people.
    pub(super) fn command(&self, image: &ImageInfo, owner: Owner, home: &str) -> Exec {
        let plan = CheckoutPlan {
            repository: None,
            wanted: Wanted::Pinned,
            filter: None,
            sparse: None,
            directory: self.directory(home),
            fetch_depth: self.fetch_depth,
            fetch_tags: false,
            clean: false,
            submodules: Submodules::None,
            lfs: false,
        };
        let origin = Origin { repo: &self.name, forge_url: &self.server_url };
        let mut argv = ["sh", "-ec", checkout::SCRIPT, "sh"].map(str::to_owned).to_vec();
        argv.extend(checkout::arguments(&plan, origin, self.sha.as_str(), Workspace::Empty));
        let mut env = image.environment.clone();
        env.push(("HOME".to_owned(), home.to_owned()));
        Exec { argv, env, directory: home.to_owned(), owner, stdin: false }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_https_or_of_this_host_and_hold_no_credential() {
        let shown = [
            "https://git.example.org/acme/site.git",
            "http://127.0.0.1:3000/acme/site/",
            "../site",
            "file:///srv/site.git",
            "http://git.example.org/acme/site",
            "https://user:secret@git.example.org/acme/site",
            "git@git.example.org:acme/site",
            "ssh://git.example.org/acme/site",
            "https://git.example.org/acme/site?x",
        ]
        .map(|text| match parse_address(text) {
            Ok(Address::Remote(url)) => format!("at {url}"),
            Ok(Address::Local(path)) => format!("in {}", path.display()),
            Err(error) => format!("refused: {error}"),
        });
        insta::assert_snapshot!(shown.join("\n"), @"
        at https://git.example.org/acme/site
        at http://127.0.0.1:3000/acme/site
        in ../site
        in /srv/site.git
        refused: http is for this host only: use https
        refused: a credential does not stand in an address: use --token-file or DAYFLY_GIT_TOKEN
        refused: only https addresses and paths; not ssh
        refused: only https addresses and paths; not `ssh`
        refused: a repository's address has no `?` and no `#`
        ");
    }
}
