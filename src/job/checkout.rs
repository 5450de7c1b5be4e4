//! `actions/checkout`, natively: the clone runs in the VM and fetches the pinned commit through the host's git proxy, which
//! adds the credential. No token enters the VM.

use std::sync::Arc;

use crate::core::Core;
use crate::forge::{RepoAccess, RepoName};
use crate::net::git_proxy::{GitLimits, GitProxy};
use crate::protocol::message::{AgentRequest, Service, decode};
use crate::vm::channel::Connections;
use crate::workflow::model::Submodules;
use crate::workflow::run::CheckoutPlan;

/// The guest's loopback port of the git proxy.
pub const GIT_PORT: u16 = 9418;

/// Connections of one VM that are served at a time; more wait, and a few beyond that are refused. Git opens one for each
/// submodule that it fetches at the same time.
const MAX_CONNECTIONS: usize = 32;

/// Serves the guest's git connections for as long as the VM lives.
pub(super) fn serve_git(
    core: &Arc<Core>, access: RepoAccess, submodules: Vec<RepoName>, mut connections: Connections,
) -> (GitProxy, tokio::task::JoinHandle<()>) {
    let proxy = GitProxy::new(core.git.clone(), Arc::clone(&core.forge), access, submodules, GitLimits::default());
    let serving = proxy.clone();
    let task = tokio::spawn(async move {
        // Dropped with this task, and their upstream calls with them.
        let mut open = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                connection = connections.recv(), if open.len() < MAX_CONNECTIONS => match connection {
                    Some((stream, request)) => {
                        if let Ok(AgentRequest::Connected { service: Service::Git }) = decode(&request) {
                            let proxy = serving.clone();
                            open.spawn(async move { proxy.serve_connection(stream.into_io()).await });
                        }
                    }
                    None => return,
                },
                Some(_) = open.join_next(), if !open.is_empty() => {}
            }
        }
    });
    (proxy, task)
}

/// The script that does it. Runs with `sh -e`; all values come as arguments, so none is ever read as code.
pub(super) const SCRIPT: &str = include_str!("checkout.sh");

/// The script's arguments: directory, address, commit, depth, tags, clean, submodules, forge.
pub(super) fn arguments(plan: &CheckoutPlan, access: &RepoAccess, sha: &str, forge_url: &str) -> Vec<String> {
    let submodules = match plan.submodules {
        Submodules::None => "no",
        Submodules::Direct => "yes",
        Submodules::Recursive => "recursive",
    };
    let flag = |on: bool| if on { "yes" } else { "no" }.to_owned();
    vec![
        plan.directory.clone(),
        format!("http://127.0.0.1:{GIT_PORT}/{}", access.repo),
        sha.to_owned(),
        plan.fetch_depth.to_string(),
        flag(plan.fetch_tags),
        flag(plan.clean),
        submodules.to_owned(),
        format!("{}/", forge_url.trim_end_matches('/')),
    ]
}
