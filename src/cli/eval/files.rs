//! `hashFiles` over a directory of this host, for `dayfly eval`.
//!
//! The digest is the one that GitHub's runner gives: files in the order of their names, directory by directory; the SHA-256 of
//! all their SHA-256.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::workflow::expression::FileHashes;
use crate::workflow::file_patterns::FilePatterns;

/// Files and directories that one call looks at.
const MAX_ENTRIES: usize = 1_000_000;

/// Bytes that are read at a time.
const BUFFER: usize = 64 * 1024;

/// Directories inside of each other.
const MAX_DEPTH: usize = 200;

#[derive(Debug)]
pub(super) struct Directory<'a> {
    path: &'a Path,
}

impl<'a> Directory<'a> {
    pub(super) fn new(path: &'a Path) -> Self {
        Self { path }
    }
}

impl FileHashes for Directory<'_> {
    fn hash_files(&self, patterns: &[String]) -> Result<String, String> {
        let root = fs::canonicalize(self.path).map_err(|error| format!("`{}`: {error}", self.path.display()))?;
        let patterns = FilePatterns::new(patterns, &root.to_string_lossy())?;
        let mut walk = Walk { patterns, seen: 0, digest: Sha256::new(), found: false };
        walk.directory(&root, &mut Vec::new())?;
        Ok(if walk.found { hex::encode(walk.digest.finalize()) } else { String::new() })
    }
}

struct Walk {
    patterns: FilePatterns,
    seen: usize,
    digest: Sha256,
    found: bool,
}

impl Walk {
    /// `names` lead from the root to this directory.
    fn directory(&mut self, path: &Path, names: &mut Vec<String>) -> Result<(), String> {
        let at = |error: io::Error| format!("`{}`: {error}", path.display());
        if names.len() > MAX_DEPTH {
            return Err(format!("`{}` is nested deeper than {MAX_DEPTH} directories", path.display()));
        }
        let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(at)?;
        let mut entries: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
        entries.sort();
        self.seen += entries.len();
        if self.seen > MAX_ENTRIES {
            return Err(format!("`hashFiles` looks at no more than {MAX_ENTRIES} files"));
        }
        for entry in entries {
            names.push(entry.file_name().unwrap_or_default().to_string_lossy().into_owned());
            self.entry(&entry, names)?;
            names.pop();
        }
        Ok(())
    }

    /// Links to directories are followed only if that is asked for, links to files always.
    fn entry(&mut self, path: &Path, names: &mut Vec<String>) -> Result<(), String> {
        let at = |error: io::Error| format!("`{}`: {error}", path.display());
        let is_link = fs::symlink_metadata(path).map_err(at)?.is_symlink();
        let is_directory = fs::metadata(path).is_ok_and(|metadata| metadata.is_dir());
        match (is_directory, is_link) {
            (false, _) => self.file(path, names),
            (true, false) => self.directory(path, names),
            (true, true) if self.patterns.follows_links && !leads_up(path) => self.directory(path, names),
            (true, true) => Ok(()),
        }
    }

    fn file(&mut self, path: &Path, names: &[String]) -> Result<(), String> {
        let at = |error: io::Error| format!("`{}`: {error}", path.display());
        let is_meant = self.patterns.take(&names.iter().map(String::as_str).collect::<Vec<_>>());
        if is_meant && fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
            self.digest.update(digest(path).map_err(at)?);
            self.found = true;
        }
        Ok(())
    }
}

/// Whether a link leads to a directory that it is in itself, so that following it would have no end.
fn leads_up(link: &Path) -> bool {
    let here = link.parent().and_then(|parent| fs::canonicalize(parent).ok());
    here.zip(fs::canonicalize(link).ok()).is_none_or(|(here, to)| here.starts_with(to))
}

fn digest(path: &Path) -> io::Result<impl AsRef<[u8]>> {
    let mut file = File::open(path)?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; BUFFER]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest.finalize()),
            length => digest.update(&buffer[..length]),
        }
    }
}
