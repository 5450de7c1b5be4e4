//! Artifacts of local runs, brought to where a person asked for them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::depot::Depot;
use crate::document::reader::quoted;
use crate::ids::RunId;

/// Directories of one name that are tried: several workflows may have artifacts of the same name.
const MAX_TRIES: u32 = 1000;

/// Unpacks each artifact of the runs into a directory of its name below `into`, which is made if it is not there; what is there
/// stays as it is. Gives a line about each, for people.
///
/// # Errors
/// The file system, or an archive that does not read.
pub(super) fn bring(depot: &Depot, runs: &[RunId], into: &Path) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for artifact in runs.iter().flat_map(|run| depot.artifacts(run)) {
        let what = || format!("the artifact {} could not be brought to `{}`", quoted(&artifact.name), into.display());
        let place = make_directory(into, &artifact.name).with_context(what)?;
        let files = depot.unpack_artifact(&artifact, &place).with_context(what)?;
        let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
        lines.push(format!("artifact {}: {files} in `{}`", quoted(&artifact.name), place.display()));
    }
    Ok(lines)
}

/// A new directory of that name, or with a number behind it.
fn make_directory(into: &Path, name: &str) -> std::io::Result<PathBuf> {
    fs::create_dir_all(into)?;
    for number in 1..=MAX_TRIES {
        let place = into.join(if number == 1 { name.to_owned() } else { format!("{name}-{number}") });
        match fs::create_dir(&place) {
            Ok(()) => return Ok(place),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn directories_take_names_that_are_free() {
        let directory = tempfile::tempdir().unwrap();
        let into = directory.path().join("new");
        let names = [1, 2, 3].map(|_| make_directory(&into, "dist").unwrap());
        assert_eq!(names, ["dist", "dist-2", "dist-3"].map(|name| into.join(name)));
    }
}
