//! `actions/checkout`, natively: the clone runs in the VM and fetches the pinned commit through the host's git proxy, which
//! adds the credential. No token enters the VM.

use crate::forge::RepoName;
use crate::workflow::model::Submodules;
use crate::workflow::run::{CheckoutPlan, Wanted};

/// The guest's loopback port of the git proxy.
pub const GIT_PORT: u16 = 9418;

/// What a checkout fetches from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) repo: &'a RepoName,
    /// The forge's address: submodules are written with it.
    pub(crate) forge_url: &'a str,
}

/// What the first checkout of a machine finds in the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workspace {
    Empty,
    /// A clone at another commit, with what was installed beside its files.
    Prepared,
}

/// Where a guest fetches a repository from.
pub(crate) fn address(repo: &RepoName) -> String {
    format!("http://127.0.0.1:{GIT_PORT}/{repo}")
}

/// The script that does it. Runs with `sh -e`; all values come as arguments, so none is ever read as code.
pub(crate) const SCRIPT: &str = include_str!("checkout.sh");

/// The script's arguments: directory, address, commit (empty: see the reference), depth, tags, clean, submodules, forge, prepared,
/// LFS, reference, filter, how files are chosen, and the patterns by which they are.
pub(crate) fn arguments(plan: &CheckoutPlan, origin: Origin<'_>, sha: &str, found: Workspace) -> Vec<String> {
    let submodules = match plan.submodules {
        Submodules::None => "no",
        Submodules::Direct => "yes",
        Submodules::Recursive => "recursive",
    };
    let flag = |on: bool| if on { "yes" } else { "no" }.to_owned();
    let (commit, reference) = match &plan.wanted {
        Wanted::Pinned => (sha, ""),
        Wanted::Named(reference) => ("", reference.as_str()),
    };
    let mut arguments = vec![
        plan.directory.clone(),
        address(plan.repository.as_ref().unwrap_or(origin.repo)),
        commit.to_owned(),
        plan.fetch_depth.to_string(),
        flag(plan.fetch_tags),
        flag(plan.clean),
        submodules.to_owned(),
        format!("{}/", origin.forge_url.trim_end_matches('/')),
        flag(found == Workspace::Prepared),
        flag(plan.lfs),
        reference.to_owned(),
        plan.filter.clone().unwrap_or_default(),
    ];
    match &plan.sparse {
        None => arguments.push("all".to_owned()),
        Some(sparse) => {
            arguments.push(if sparse.cone { "--cone" } else { "--no-cone" }.to_owned());
            arguments.extend(sparse.patterns.iter().cloned());
        }
    }
    arguments
}
