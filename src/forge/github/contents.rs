//! Reads directories and files of a repository at a commit.

use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::client::{COMMIT_ID, Call, JSON, RAW};
use super::{GitHub, parse, unexpected};
use crate::forge::{CommitSha, DirectoryEntry, ForgeError, RepoAccess};

/// Largest accepted listing, in bytes. GitHub lists at most 1,000 entries, with about 1.5 KB of addresses each.
const MAX_LISTING: usize = 4 * 1024 * 1024;
/// Largest accepted description of a repository, in bytes.
const MAX_REPOSITORY: usize = 256 * 1024;
/// Files above this size come without content in JSON, and have to be asked for raw.
const MAX_INLINE_FILE: usize = 1024 * 1024;
/// Room for what stands beside the content in a file's JSON, in bytes.
const FILE_ENVELOPE: usize = 64 * 1024;

/// Largest accepted answer to the question for a commit's id, in bytes.
const MAX_COMMIT_ID: usize = 1024;

#[derive(Deserialize)]
struct EntryAnswer {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    sha: String,
}

#[derive(Deserialize)]
struct FileAnswer {
    #[serde(rename = "type")]
    kind: String,
    size: usize,
    #[serde(default)]
    encoding: String,
    #[serde(default)]
    content: String,
}

pub(super) async fn has_commit(github: &GitHub, access: &RepoAccess, sha: &CommitSha) -> Result<bool, ForgeError> {
    let what = format!("looking for commit {} of {}", sha.short(), access.repo);
    let url = github.client.url(["repos", access.repo.owner(), access.repo.name(), "commits", sha.as_str()]);
    let call = Call { what, method: Method::GET, url, accept: COMMIT_ID, body: None, limit: MAX_COMMIT_ID };
    match github.ask(access, &call).await {
        Ok(_) => Ok(true),
        // 404 for what may not be read, 422 for a commit that is not there, 409 for an empty repository.
        Err(ForgeError::NotFound { .. } | ForgeError::Permanent { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) async fn resolve(github: &GitHub, access: &RepoAccess, reference: &str) -> Result<CommitSha, ForgeError> {
    let what = format!("looking for `{reference}` of {}", access.repo);
    let url = github.client.url(["repos", access.repo.owner(), access.repo.name(), "commits", reference]);
    let call =
        Call { what: what.clone(), method: Method::GET, url, accept: COMMIT_ID, body: None, limit: MAX_COMMIT_ID };
    let answer = github.ask(access, &call).await?;
    let sha = String::from_utf8_lossy(&answer);
    CommitSha::parse(sha.trim()).map_err(|error| permanent(&what, &error))
}

pub(super) async fn repository(github: &GitHub, access: &RepoAccess) -> Result<serde_json::Value, ForgeError> {
    let what = format!("reading about {}", access.repo);
    let url = github.client.url(["repos", access.repo.owner(), access.repo.name()]);
    let call = Call { what: what.clone(), method: Method::GET, url, accept: JSON, body: None, limit: MAX_REPOSITORY };
    parse(&what, &github.ask(access, &call).await?)
}

pub(super) async fn list_directory(
    github: &GitHub, access: &RepoAccess, directory: &str, sha: &CommitSha,
) -> Result<Vec<DirectoryEntry>, ForgeError> {
    let what = format!("listing `{directory}` of {} at {}", access.repo, sha.short());
    let call = call(github, &what, access, directory, sha, JSON, MAX_LISTING)?;
    let answer: serde_json::Value = parse(&what, &github.ask(access, &call).await?)?;
    if !answer.is_array() {
        return Err(permanent(&what, "it is not a directory"));
    }
    let entries: Vec<EntryAnswer> = serde_json::from_value(answer).map_err(|error| unexpected(&what, &error))?;
    let entry = |entry: EntryAnswer| DirectoryEntry { is_file: entry.kind == "file", name: entry.name, id: entry.sha };
    Ok(entries.into_iter().map(entry).collect())
}

pub(super) async fn read_file(
    github: &GitHub, access: &RepoAccess, path: &str, sha: &CommitSha, limit: usize,
) -> Result<Vec<u8>, ForgeError> {
    let what = format!("reading `{path}` of {} at {}", access.repo, sha.short());
    let too_large = || permanent(&what, &format!("the file is larger than {limit} bytes"));

    // Base64 and its line ends take less than 1.5 times the bytes.
    let envelope = FILE_ENVELOPE + MAX_INLINE_FILE + MAX_INLINE_FILE / 2;
    let as_json = call(github, &what, access, path, sha, JSON, envelope)?;
    let answer: serde_json::Value = parse(&what, &github.ask(access, &as_json).await?)?;
    if answer.is_array() {
        return Err(permanent(&what, "it is a directory"));
    }
    let file: FileAnswer = serde_json::from_value(answer).map_err(|error| unexpected(&what, &error))?;
    if file.kind != "file" {
        return Err(permanent(&what, &format!("it is not a file but a {}", file.kind.escape_debug())));
    }
    if file.size > limit {
        return Err(too_large());
    }
    let bytes = match file.encoding.as_str() {
        "base64" => {
            let digits: Vec<u8> = file.content.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
            STANDARD.decode(digits).map_err(|_| permanent(&what, "its content is not valid base64"))?
        }
        _ => github.ask(access, &call(github, &what, access, path, sha, RAW, limit)?).await?,
    };
    if bytes.len() > limit {
        return Err(too_large());
    }
    if bytes.len() != file.size {
        let detail = format!("{} bytes came instead of {}", bytes.len(), file.size);
        return Err(ForgeError::Transient { what, detail });
    }
    Ok(bytes)
}

fn call(
    github: &GitHub, what: &str, access: &RepoAccess, path: &str, sha: &CommitSha, accept: &'static str, limit: usize,
) -> Result<Call, ForgeError> {
    let segments: Vec<&str> = path.split('/').filter(|_| !path.is_empty()).collect();
    if segments.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
        return Err(permanent(what, "the path has empty parts, `.` or `..`"));
    }
    let head = ["repos", access.repo.owner(), access.repo.name(), "contents"];
    let mut url = github.client.url(head.into_iter().chain(segments));
    url.query_pairs_mut().append_pair("ref", sha.as_str());
    Ok(Call { what: what.to_owned(), method: Method::GET, url, accept, body: None, limit })
}

fn permanent(what: &str, detail: &str) -> ForgeError {
    ForgeError::Permanent { what: what.to_owned(), detail: detail.to_owned() }
}
