//! Gets a project's sources into the machine, through the host's git proxy: the job's credential for that stays on the host.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use url::Url;

use crate::core::Core;
use crate::forge::{CommitSha, RepoName};
use crate::gitlab::job::plan::Plan;
use crate::gitlab::job::settings::{Strategy, Submodules};
use crate::gitlab::job::sources;
use crate::job::checkout::GIT_PORT;
use crate::net::git_proxy::{GitLimits, GitProxy, Source};

/// The program. Runs with `sh -e`; everything that it is told is in its environment.
pub(super) const SCRIPT: &str = include_str!("get_sources.sh");

/// As whom jobs fetch.
const USER: &str = "gitlab-ci-token";

/// The proxy by which the machine fetches what the job may.
///
/// # Errors
/// The project's name is none; in words.
pub(super) fn proxy_of(core: &Arc<Core>, plan: &Plan, instance: &Url) -> Result<GitProxy, String> {
    let repo = RepoName::parse_path(&plan.project)?;
    // It trusts the certificates of every instance.
    let client = core.git.clone();
    let credential = STANDARD.encode(format!("{USER}:{}", plan.job.token.expose()));
    let authorization = SecretString::from(format!("Basic {credential}"));
    let source = Source::Instance { client, url: instance.clone(), authorization };
    Ok(GitProxy::new(source, vec![repo], GitLimits::default()))
}

/// Where the machine finds the proxy.
fn base() -> String {
    format!("http://127.0.0.1:{GIT_PORT}/")
}

/// Addresses that lead to the proxy instead.
fn aliases(plan: &Plan, instance: &Url) -> Vec<String> {
    let value = |name: &str| plan.variables.value(name);
    let ssh = plan
        .settings
        .forces_https
        .then(|| sources::Ssh::new(value("CI_SERVER_SHELL_SSH_HOST"), value("CI_SERVER_SHELL_SSH_PORT"), instance));
    sources::aliases(plan.job.git_info.repo_url.expose(), instance, ssh.flatten().as_ref())
}

/// What git has to know in a container, where nothing is configured: the way to the instance, and that the project is the job's
/// although another account fetched it.
pub(super) fn git_variables(plan: &Plan, instance: &Url) -> BTreeMap<String, String> {
    let key = format!("url.{}.insteadOf", base());
    let of_aliases = aliases(plan, instance).into_iter().map(|alias| (key.clone(), alias));
    let pairs: Vec<(String, String)> = of_aliases.chain([("safe.directory".to_owned(), "*".to_owned())]).collect();
    let mut variables = BTreeMap::from([("GIT_CONFIG_COUNT".to_owned(), pairs.len().to_string())]);
    for (number, (key, value)) in pairs.into_iter().enumerate() {
        variables.insert(format!("GIT_CONFIG_KEY_{number}"), key);
        variables.insert(format!("GIT_CONFIG_VALUE_{number}"), value);
    }
    variables
}

/// What the program is told.
///
/// # Errors
/// What GitLab says makes no sense; in words.
pub(super) fn told(plan: &Plan, instance: &Url) -> Result<BTreeMap<String, String>, String> {
    let (git, settings) = (&plan.job.git_info, &plan.settings);
    let sha = CommitSha::parse(&git.sha)?;
    let refspecs = sources::refspecs(&git.refspecs)?;
    let aliases = aliases(plan, instance);
    let strategy = if settings.strategy == Strategy::Fetch { "fetch" } else { "nothing" };
    let submodules = match settings.submodules {
        Submodules::None => "none",
        Submodules::Direct => "normal",
        Submodules::Recursive => "recursive",
    };
    let format = git.repo_object_format.as_deref().filter(|format| *format == "sha256").unwrap_or_default();
    let depth = u64::from(git.depth);
    let flag = |on: bool| if on { "yes" } else { "no" }.to_owned();
    let told = [
        ("ALIASES", aliases.join("\n")),
        ("BASE", base()),
        ("PROJECT", plan.project.clone()),
        ("DIRECTORY", plan.directory.clone()),
        ("STRATEGY", strategy.to_owned()),
        ("FORMAT", format.to_owned()),
        ("DEPTH", depth.to_string()),
        ("REFSPECS", refspecs.join("\n")),
        ("FETCH_FLAGS", settings.fetch_flags.join("\n")),
        ("SHA", sha.as_str().to_owned()),
        ("REF", git.reference.clone()),
        ("CHECKOUT", flag(settings.checks_out)),
        ("CLEAN_FLAGS", settings.clean_flags.join("\n")),
        ("LFS", flag(!settings.skips_lfs)),
        ("SUBMODULES", submodules.to_owned()),
        ("SUBMODULE_DEPTH", settings.submodule_depth.unwrap_or(depth).to_string()),
        ("SUBMODULE_FLAGS", settings.submodule_flags.join("\n")),
        ("SUBMODULE_PATHS", settings.submodule_paths.join("\n")),
    ];
    Ok(told.map(|(name, value)| (format!("GET_{name}"), value)).into())
}
