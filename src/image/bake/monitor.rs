//! What the monitor says of its version, asked again only when there is another program in its place: an upgrade of the
//! host's packages replaces it under a service that runs, and a snapshot is of one version.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::host::command;
use crate::host::process::find_program;
use crate::image::ImageError;

/// How long the monitor may take to say its version.
const VERSION_LIMIT: Duration = Duration::from_secs(30);

/// Which program a name stands for now, as far as that can be told without running it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    path: PathBuf,
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl Installed {
    /// Looks for a program; links are followed. `None` if it is not installed.
    pub fn find(program: &str) -> Option<Self> {
        let path = find_program(program)?;
        let found = fs::metadata(&path).ok()?;
        let modified = (found.mtime(), found.mtime_nsec());
        Some(Self { path, device: found.dev(), inode: found.ino(), bytes: found.len(), modified })
    }
}

/// The first line that the monitor says about its version.
///
/// # Errors
/// When it is not installed, fails, or does not answer within 30 s.
pub async fn monitor_version(program: &str) -> Result<String, ImageError> {
    static KNOWN: Mutex<Option<HashMap<String, (Installed, String)>>> = Mutex::new(None);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    // Before it is asked: what replaces it meanwhile is asked the next time.
    let installed = Installed::find(program);
    let remembered = known().as_ref().and_then(|known| known.get(program).cloned());
    if let Some((_, version)) = remembered.filter(|(asked, _)| Some(asked) == installed.as_ref()) {
        return Ok(version);
    }
    let output = command::run(program, &["--version"], VERSION_LIMIT, |_| {}).await?;
    let version = String::from_utf8_lossy(&output).lines().next().unwrap_or_default().to_owned();
    if let Some(installed) = installed {
        known().get_or_insert_default().insert(program.to_owned(), (installed, version.clone()));
    }
    Ok(version)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_program_that_was_replaced_is_asked_again() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("monitor");
        let asked = directory.path().join("asked");
        let install = |version: &str| {
            let fresh = directory.path().join("fresh");
            fs::write(&fresh, format!("#!/bin/sh\necho asked >> '{}'\necho {version}\n", asked.display())).unwrap();
            fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(&fresh, &place).unwrap();
        };
        let program = place.to_str().unwrap();
        install("version 1");
        let first = Installed::find(program);
        for _ in 0..2 {
            assert_eq!(monitor_version(program).await.unwrap(), "version 1");
        }
        assert_eq!(fs::read_to_string(&asked).unwrap(), "asked\n", "what is the same is asked once");
        install("version 2");
        assert_ne!(Installed::find(program), first);
        assert_eq!(monitor_version(program).await.unwrap(), "version 2");
        fs::remove_file(&place).unwrap();
        assert!(monitor_version(program).await.is_err(), "it is gone");
    }
}
