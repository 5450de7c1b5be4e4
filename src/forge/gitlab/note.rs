//! The note on a merge request that says why its commit does not run, and how it would.
//!
//! A status has no room for that, and nobody looks there. There is one note for each commit that is held, and it is changed when
//! there is something else to say. It is written by the token's account, which may well be one that may approve: so the command in
//! it stands in a block of code, where it is none.

use axum::http::Method;
use serde::Deserialize;
use serde_json::json;

use super::GitLab;
use super::client::Call;
use super::presentation;
use crate::forge::{Earlier, ExternalIds, ForgeError, Report};

/// Largest accepted answer, in bytes: notes repeat what was written, and others may be long.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Notes among which one is looked for that may have been written: the newest.
const LISTED: &str = "50";

#[derive(Deserialize)]
struct Note {
    id: u64,
    #[serde(default)]
    body: String,
}

/// Makes the note say what the report does, if it is to have one.
pub(super) async fn keep(
    gitlab: &GitLab, report: &Report, ids: &mut ExternalIds, earlier: Earlier,
) -> Result<(), ForgeError> {
    let Some(number) = report.place.pull_request.map(|number| number.to_string()) else { return Ok(()) };
    let Some(text) = presentation::note(report, ids.note.is_some()) else { return Ok(()) };
    if ids.last_note.as_ref() == Some(&text) && earlier == Earlier::None {
        return Ok(());
    }
    if ids.note.is_none() && earlier == Earlier::Uncertain {
        ids.note = find(gitlab, report, &number, &text).await?;
    }
    let place = gitlab.client.of_project(&report.access.repo, ["merge_requests", number.as_str(), "notes"]);
    let what = format!("writing a note on the merge request {number} of {}", report.access.repo);
    let body = Some(json!({ "body": text }));
    let note: Note = match ids.note {
        Some(id) => {
            let id = id.to_string();
            let url = gitlab.client.of_project(&report.access.repo, ["merge_requests", number.as_str(), "notes", &id]);
            let changed = gitlab.client.ask(&Call { what, method: Method::PUT, url, body, limit: MAX_ANSWER }).await;
            match changed {
                // Somebody deleted it, and so wants none.
                Err(ForgeError::NotFound { .. }) => {
                    ids.last_note = Some(text);
                    return Ok(());
                }
                changed => changed?,
            }
        }
        None => gitlab.client.ask(&Call { what, method: Method::POST, url: place, body, limit: MAX_ANSWER }).await?,
    };
    (ids.note, ids.last_note) = (Some(note.id), Some(text));
    Ok(())
}

/// The note that an earlier attempt may have written.
async fn find(gitlab: &GitLab, report: &Report, number: &str, text: &str) -> Result<Option<u64>, ForgeError> {
    let mut url = gitlab.client.of_project(&report.access.repo, ["merge_requests", number, "notes"]);
    url.query_pairs_mut().append_pair("sort", "desc").append_pair("per_page", LISTED);
    let what = format!("looking for the note on the merge request {number} of {}", report.access.repo);
    let notes: Vec<Note> = gitlab.client.ask(&Call::get(what, url, MAX_ANSWER)).await?;
    Ok(notes.into_iter().find(|note| note.body == text).map(|note| note.id))
}
