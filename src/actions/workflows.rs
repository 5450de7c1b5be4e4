//! The workflow files of a commit, all in one file: those that call each other are then fetched once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::forge::CommitSha;
use crate::host::command::CommandError;
use crate::host::git;
use crate::workflow::MAX_FILE_BYTES;
use crate::workflow::call::DIRECTORIES;

/// Bytes of all texts of one commit. What is beyond that is there without its text.
const MAX_TEXTS: u64 = 32 << 20;

/// By their paths, their texts; or why there is none, for people.
pub(super) type Files = BTreeMap<String, Result<String, String>>;

/// Those of a commit in a repository of our own.
pub(super) async fn collect(repository: &Path, sha: &CommitSha) -> Result<Files, CommandError> {
    let mut files = Files::new();
    let mut texts = 0u64;
    for (path, size) in git::list_files(repository, sha.as_str(), &DIRECTORIES).await? {
        texts = texts.saturating_add(size);
        let text = if size > MAX_FILE_BYTES as u64 {
            Err(format!("the file has {size} bytes; a workflow has at most {MAX_FILE_BYTES}"))
        } else if texts > MAX_TEXTS {
            Err(format!("the workflows of its repository have more than {} MiB altogether", MAX_TEXTS >> 20))
        } else {
            let bytes = git::read_file(repository, sha.as_str(), &path).await?;
            String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned())
        };
        files.insert(path, text);
    }
    Ok(files)
}

pub(super) fn write(to: &Path, files: &Files) -> io::Result<()> {
    serde_json::to_writer(io::BufWriter::new(File::create(to)?), files).map_err(io::Error::from)
}

pub(super) fn read(from: &Path) -> io::Result<Files> {
    serde_json::from_reader(io::BufReader::new(File::open(from)?)).map_err(io::Error::from)
}
