//! Which processes have files open. A file that was removed stays until the last of them ends, so this protects nobody's work;
//! it tells what removing would bring.

use std::fs;
use std::path::{Path, PathBuf};

/// Files at or below `directory` that processes have open, each with the process. Of other users' processes only root sees
/// something.
pub fn open_below(directory: &Path) -> Vec<(u32, PathBuf)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = processes.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
    numbered
        .flat_map(|(pid, process)| {
            // A process may end while it is looked at.
            let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
            descriptors.filter_map(move |descriptor| Some((pid, fs::read_link(descriptor.path()).ok()?)))
        })
        .filter(|(_, file)| file.starts_with(directory))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_is_seen_until_it_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = fs::File::create(&path).unwrap();
        assert_eq!(open_below(directory.path()), [(std::process::id(), path)]);
        drop(file);
        assert_eq!(open_below(directory.path()), []);
    }
}
