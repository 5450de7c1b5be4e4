//! The `github` context of a run.

use serde_json::Value as Json;

use crate::policy::Request;
use crate::workflow::contexts::GithubContext;

/// The context, but for what is known only per job and VM: job id, run number, paths in the VM.
pub(crate) fn github_context(
    request: &Request, payload: &Json, workflow_path: &str, workflow_name: &str, server_url: &str,
    (api_url, graphql_url): (&str, &str),
) -> GithubContext {
    let subject = &request.subject;
    let repository = request.access.repo.to_string();
    let id_at = |path: &str| payload.pointer(path).and_then(Json::as_u64).map_or_else(String::new, |id| id.to_string());
    GithubContext {
        event_name: request.trigger.event.clone(),
        event: serde_json::from_value(payload.clone()).unwrap_or_default(),
        sha: request.sha.to_string(),
        git_ref: subject.git_ref.clone(),
        ref_name: subject.ref_name.clone(),
        ref_type: subject.ref_type.clone(),
        head_ref: subject.head_ref.clone(),
        base_ref: subject.base_ref.clone(),
        repository_id: request.repository_id.to_string(),
        repository_owner: request.access.repo.owner().to_owned(),
        repository_owner_id: id_at("/repository/owner/id"),
        actor: subject.actor.clone(),
        actor_id: id_at("/sender/id"),
        triggering_actor: subject.actor.clone(),
        workflow: workflow_name.to_owned(),
        workflow_ref: format!("{repository}/{workflow_path}@{}", subject.git_ref),
        workflow_sha: request.sha.to_string(),
        server_url: server_url.to_owned(),
        api_url: api_url.to_owned(),
        graphql_url: graphql_url.to_owned(),
        retention_days: "90".to_owned(),
        repository,
        ..GithubContext::default()
    }
}
