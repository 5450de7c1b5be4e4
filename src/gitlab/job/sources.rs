//! What is fetched for a job, and from where.
//!
//! GitLab's address of a repository has the job's token in it. It is taken apart here: the machine gets the path alone, and the
//! host asks the instance that the operator configured, whatever host the address names.

use url::Url;

/// Refs of one fetch, and bytes of one.
const MAX_REFSPECS: usize = 100;
const MAX_REFSPEC: usize = 1024;

/// The path of a project on its instance, such as `group/part/project`.
///
/// # Errors
/// The address is none of a repository of that instance.
pub fn project_of(repo_url: &str, instance: &Url) -> Result<String, String> {
    let wrong = || "GitLab named no repository of its own to fetch from".to_owned();
    let url = Url::parse(repo_url).map_err(|_| wrong())?;
    let base = instance.path().trim_end_matches('/');
    let path = url.path().strip_prefix(base).and_then(|path| path.strip_prefix('/')).ok_or_else(wrong)?;
    let path = path.strip_suffix(".git").unwrap_or(path);
    if path.is_empty() { Err(wrong()) } else { Ok(path.to_owned()) }
}

/// Where an instance is for SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    pub host: String,
    /// Where it is not the usual one.
    pub port: Option<u16>,
}

impl Ssh {
    /// As the job's variables `CI_SERVER_SHELL_SSH_HOST` and `…_PORT` say it; they may say nothing.
    pub fn new(host: &str, port: &str, instance: &Url) -> Option<Self> {
        let host = if host.is_empty() { instance.host_str()? } else { host };
        Some(Self { host: host.to_owned(), port: port.parse().ok().filter(|port| *port != 22) })
    }

    /// The addresses of repositories begin so.
    fn prefixes(&self) -> Vec<String> {
        let Self { host, port } = self;
        match port {
            Some(port) => vec![format!("ssh://git@{host}:{port}/")],
            None => vec![format!("git@{host}:"), format!("ssh://git@{host}/")],
        }
    }
}

/// Addresses of the instance that stand for the host's way to it: its own, and with the credential by which jobs' scripts name it.
pub fn aliases(repo_url: &str, instance: &Url, ssh: Option<&Ssh>) -> Vec<String> {
    let base = format!("{}/", instance.as_str().trim_end_matches('/'));
    let mut aliases = vec![base];
    let mut with_token = instance.clone();
    let has_token = Url::parse(repo_url).is_ok_and(|url| {
        let user = with_token.set_username(url.username());
        user.and_then(|()| with_token.set_password(url.password())).is_ok() && !url.username().is_empty()
    });
    if has_token {
        aliases.push(format!("{}/", with_token.as_str().trim_end_matches('/')));
    }
    aliases.extend(ssh.into_iter().flat_map(Ssh::prefixes));
    aliases
}

/// The refs to fetch, as `git fetch` takes them.
///
/// # Errors
/// One of them is none.
pub fn refspecs(given: &[String]) -> Result<Vec<String>, String> {
    if given.len() > MAX_REFSPECS {
        return Err(format!("GitLab names {} refs to fetch, which is more than {MAX_REFSPECS}", given.len()));
    }
    let is_one = |text: &str| {
        let plain = text.strip_prefix('+').unwrap_or(text);
        let is_letter = |letter: char| !letter.is_whitespace() && !letter.is_control();
        !plain.is_empty() && !plain.starts_with('-') && text.len() <= MAX_REFSPEC && plain.chars().all(is_letter)
    };
    match given.iter().find(|text| !is_one(text)) {
        Some(text) => Err(format!("`{}` is no ref to fetch", crate::document::text::one_line(text, 100))),
        None => Ok(given.to_vec()),
    }
}

/// The directory of a project, below that of all; `path` is `GIT_CLONE_PATH`, if it is set.
///
/// # Errors
/// The path leads out of the directory of all.
pub fn directory(builds: &str, project: &str, path: Option<&str>, is_empty_one: bool) -> Result<String, String> {
    let Some(path) = path else {
        let name = if is_empty_one { "-empty" } else { "" };
        return Ok(format!("{builds}/{project}{name}"));
    };
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let clean = format!("/{}", parts.join("/"));
    let is_below = clean.strip_prefix(builds).is_some_and(|rest| rest.starts_with('/'));
    if !path.starts_with('/') || parts.contains(&"..") || !is_below {
        let shown = crate::document::text::one_line(path, 200);
        return Err(format!("GIT_CLONE_PATH `{shown}` has to be below `{builds}`, which is CI_BUILDS_DIR"));
    }
    Ok(clean)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_taken_apart() {
        let plain = Url::parse("https://gitlab.example.com").unwrap();
        let below = Url::parse("https://example.com/gitlab/").unwrap();
        for (address, instance, project) in [
            ("https://gitlab-ci-token:tok@gitlab.example.com/a/b/c.git", &plain, Some("a/b/c")),
            ("https://gitlab-ci-token:tok@elsewhere.example/a/b", &plain, Some("a/b")),
            ("https://x@example.com/gitlab/a/b.git", &below, Some("a/b")),
            ("https://x@example.com/a/b.git", &below, None),
            ("https://gitlab.example.com/", &plain, None),
            ("git@gitlab.example.com:a/b.git", &plain, None),
        ] {
            assert_eq!(project_of(address, instance).ok().as_deref(), project, "{address}");
        }
        let address = "https://gitlab-ci-token:t%2Fk@x/a/b.git";
        let usual = Ssh::new("", "22", &below);
        insta::assert_snapshot!(aliases(address, &below, usual.as_ref()).join("\n"), @"
        https://example.com/gitlab/
        https://gitlab-ci-token:t%2Fk@example.com/gitlab/
        git@example.com:
        ssh://git@example.com/
        ");
        assert_eq!(aliases("https://x/a/b", &plain, None), ["https://gitlab.example.com/"]);
        let own = Ssh::new("ssh.example.com", "2222", &plain);
        let of_own = aliases("https://x/a/b", &plain, own.as_ref());
        assert_eq!(of_own, ["https://gitlab.example.com/", "ssh://git@ssh.example.com:2222/"]);
    }

    #[test]
    fn refs_are_no_options() {
        let fine = ["+refs/heads/main:refs/remotes/origin/main", "+refs/tags/é:refs/tags/é", "refs/pipelines/1"]
            .map(str::to_owned);
        assert_eq!(refspecs(&fine).unwrap(), fine);
        for wrong in ["", "+", "--upload-pack=x", "+-x", "a b", "a\nb"] {
            assert!(refspecs(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn projects_are_below_one_directory() {
        let of = |path| directory("/builds", "g/p", path, false);
        assert_eq!(of(None).unwrap(), "/builds/g/p");
        assert_eq!(directory("/builds", "g/p", None, true).unwrap(), "/builds/g/p-empty");
        assert_eq!(of(Some("/builds/x/./y/")).unwrap(), "/builds/x/y");
        for wrong in ["/builds", "/builds2/x", "/builds/../etc", "builds/x", "/etc"] {
            assert!(of(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
