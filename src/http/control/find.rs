//! From what a person typed to the one thing that it means.

use axum::http::StatusCode;

use super::failure::Failure;
use crate::document::reader::quoted;
use crate::forge::CommitSha;
use crate::ids::JobId;
use crate::store::{Job, Run, Store};

/// What every job's id begins with.
const JOB: &str = "job-";

/// Letters of an id, after its prefix, and of a commit that are enough to ask with.
const MIN_ID: usize = 4;
const MIN_SHA: usize = 7;

/// Candidates that an ambiguous name is answered with.
const MAX_CANDIDATES: u32 = 5;

/// The job whose id is or begins with `text`, with or without its prefix.
pub(super) async fn job(store: &Store, text: &str) -> Result<JobId, Failure> {
    let unknown = || {
        let error = format!("there is no job {}", quoted(text));
        Failure::new(StatusCode::NOT_FOUND, error).hint("`dayfly jobs` lists the latest ones")
    };
    let letters = text.strip_prefix(JOB).unwrap_or(text);
    if !letters.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(unknown());
    }
    if letters.len() < MIN_ID {
        let error = format!("{} is too short for a job's id", quoted(text));
        return Err(Failure::bad_request(error).hint(format!("at least {MIN_ID} letters behind `{JOB}`")));
    }
    let found = store.jobs_beginning(&format!("{JOB}{letters}"), MAX_CANDIDATES + 1).await?;
    one_of(found, text).ok_or_else(unknown)?
}

/// The commit with runs that is or begins with `text`; `None` for a full or shortened id of which there is no run.
pub(super) async fn commit(store: &Store, text: &str) -> Result<Option<CommitSha>, Failure> {
    if text.len() < MIN_SHA || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let error = format!("{} is not a commit id, or too short for one", quoted(text));
        return Err(Failure::bad_request(error).hint(format!("at least {MIN_SHA} of its digits")));
    }
    one_of(store.commits_beginning(&text.to_ascii_lowercase(), MAX_CANDIDATES + 1).await?, text).transpose()
}

/// The only one, or a refusal that names the candidates; `None` if there is none. Full ids have one length, so none begins another.
fn one_of<T: std::fmt::Display>(mut found: Vec<T>, text: &str) -> Option<Result<T, Failure>> {
    if found.len() > 1 {
        let mut names: Vec<String> =
            found.iter().take(MAX_CANDIDATES as usize).map(|candidate| format!("`{candidate}`")).collect();
        if found.len() > names.len() {
            names.push("others".to_owned());
        }
        let error = format!("{} is ambiguous: {}", quoted(text), names.join(", "));
        return Some(Err(Failure::new(StatusCode::CONFLICT, error).hint("give more of it")));
    }
    found.pop().map(Ok)
}

/// A job that was found, with its run.
pub(super) async fn job_and_run(store: &Store, id: &JobId) -> Result<(Job, Run), Failure> {
    if let Some(job) = store.job(id).await?
        && let Some(run) = store.run(&job.run).await?
    {
        return Ok((job, run));
    }
    Err(Failure::new(StatusCode::NOT_FOUND, format!("job `{id}` was just forgotten")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ambiguous_is_answered_with_the_candidates() {
        assert_eq!(one_of::<&str>(vec![], "x"), None);
        assert_eq!(one_of(vec!["job-12"], "job-1"), Some(Ok("job-12")));
        let some = one_of(vec!["job-12", "job-13"], "job-1").unwrap().unwrap_err();
        let many = one_of((0..9).map(|n| format!("job-1{n}")).collect(), "job-1").unwrap().unwrap_err();
        insta::assert_snapshot!(format!("{some:?}\n{many:?}"), @r#"
        Failure { status: 409, error: "`job-1` is ambiguous: `job-12`, `job-13`", hint: Some("give more of it") }
        Failure { status: 409, error: "`job-1` is ambiguous: `job-10`, `job-11`, `job-12`, `job-13`, `job-14`, others", hint: Some("give more of it") }
        "#);
    }
}
