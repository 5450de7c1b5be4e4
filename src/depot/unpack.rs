//! Files out of an artifact, into a directory of this host.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::zip::{Limits, Reader, ZipError};
use super::{Artifact, Depot};
use crate::host::beneath::Beneath;

/// What is unpacked of one archive.
pub const LIMITS: Limits = Limits { files: 200_000, bytes: 64 << 30 };

const BUFFER: usize = 64 << 10;

/// Why an artifact is not unpacked, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("it was removed")]
    Gone,
    #[error("{0}")]
    Archive(#[from] ZipError),
    #[error("the archive has the path `{0}`, which leads out of it")]
    Path(String),
    #[error("{path} cannot be written: {source}")]
    Write { path: String, source: io::Error },
}

/// The parts of a file's path in an archive; `None` if it leads anywhere but below.
pub fn parts(name: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = name.split('/').collect();
    let is_plain = |part: &&str| !part.is_empty() && *part != "." && *part != ".." && !part.contains(['\0', '\\']);
    parts.iter().all(is_plain).then_some(parts)
}

/// Writes the files of an archive below `into`, in the place of what is there; gives how many. No link is followed.
///
/// # Errors
/// The archive is none, or has a path that leads out of it, which is found out before anything is written; the file system.
pub fn unpack(archive: File, into: &Path) -> Result<u64, UnpackError> {
    let mut archive = Reader::open(archive, LIMITS)?;
    let entries = archive.entries();
    for entry in &entries {
        parts(&entry.name).ok_or_else(|| UnpackError::Path(shown(&entry.name)))?;
    }
    let failed = |path: &str| {
        let path = shown(path);
        move |source| UnpackError::Write { path, source }
    };
    let into = Beneath::open(into).map_err(failed("the directory"))?;
    let mut buffer = vec![0; BUFFER];
    for entry in &entries {
        let mut file = into.file(&parts(&entry.name).unwrap_or_default(), false).map_err(failed(&entry.name))?;
        let mut content = archive.content(entry)?;
        loop {
            match content.read(&mut buffer).map_err(ZipError::from)? {
                0 => break,
                read => file.write_all(&buffer[..read]).map_err(failed(&entry.name))?,
            }
        }
        file.finish().map_err(failed(&entry.name))?;
    }
    Ok(entries.len() as u64)
}

impl Depot {
    /// Writes the files of an artifact below `into`, a directory; one that is no archive becomes one file. Gives how many.
    ///
    /// # Errors
    /// As [`unpack`], and one that was removed meanwhile.
    pub fn unpack_artifact(&self, artifact: &Artifact, into: &Path) -> Result<u64, UnpackError> {
        let read = |source: io::Error| UnpackError::Archive(source.into());
        let content = self.open_artifact(artifact).map_err(|error| read(io::Error::other(error)))?;
        let mut content = content.ok_or(UnpackError::Gone)?.file;
        if artifact.is_zip() {
            return unpack(content, into);
        }
        let name = artifact.file_name();
        let write = |source| UnpackError::Write { path: shown(&name), source };
        let mut file = Beneath::open(into).and_then(|into| into.file(&[&name], false)).map_err(write)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match content.read(&mut buffer).map_err(read)? {
                0 => break,
                bytes => file.write_all(&buffer[..bytes]).map_err(write)?,
            }
        }
        file.finish().map_err(write)?;
        Ok(1)
    }
}

fn shown(path: &str) -> String {
    crate::document::text::one_line(path, 200)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {

    use super::*;
    use crate::depot::zip::Writer;

    fn archive(names: &[&str]) -> File {
        let mut writer = Writer::new(tempfile::tempfile().unwrap(), 6);
        for name in names {
            writer.file::<io::Error>(name, 2, |out| out.write_all(b"hi")).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn files_are_written_below_and_nowhere_else() {
        let place = tempfile::tempdir().unwrap();
        let into = place.path().join("into");
        std::fs::create_dir(&into).unwrap();
        std::os::unix::fs::symlink(place.path(), into.join("link")).unwrap();
        assert_eq!(unpack(archive(&["a", "b/c"]), &into).unwrap(), 2);
        assert_eq!(std::fs::read(into.join("b/c")).unwrap(), b"hi");
        for name in ["../out", "/out", "b/../../out", "b//c", "", "a\\..\\b"] {
            assert!(matches!(unpack(archive(&["fine", name]), &into), Err(UnpackError::Path(_))), "{name}");
        }
        assert!(!into.join("fine").exists());
        assert!(unpack(archive(&["link/out"]), &into).is_err());
        assert!(!place.path().join("out").exists());
    }
}
