//! Files as they were seen: whether they are still the same, as far as that can be told without reading them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files with their inodes and lengths.
#[derive(Debug, Clone, Default)]
pub struct Seen(Vec<One>);

#[derive(Debug, Clone)]
struct One {
    path: PathBuf,
    is: Is,
}

/// What a file is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Is {
    inode: u64,
    bytes: u64,
}

impl Seen {
    /// The files as they are now.
    ///
    /// # Errors
    /// The first that is not there.
    pub fn of(paths: impl IntoIterator<Item = PathBuf>) -> Result<Self, PathBuf> {
        let look = |path: PathBuf| match look(&path) {
            Some(is) => Ok(One { path, is }),
            None => Err(path),
        };
        paths.into_iter().map(look).collect::<Result<_, _>>().map(Self)
    }

    /// The first that is gone, was replaced, or has another length.
    pub fn lost(&self) -> Option<&Path> {
        self.find(|was, is| is != Some(was))
    }

    /// The first that has another length in its place. Who has it open sees that, and does not see that it was removed or replaced.
    pub fn changed(&self) -> Option<&Path> {
        self.find(|was, is| is.is_some_and(|is| is.inode == was.inode && is.bytes != was.bytes))
    }

    fn find(&self, is_meant: impl Fn(Is, Option<Is>) -> bool) -> Option<&Path> {
        self.0.iter().find(|one| is_meant(one.is, look(&one.path))).map(|one| one.path.as_path())
    }
}

fn look(path: &Path) -> Option<Is> {
    fs::metadata(path).ok().map(|found| Is { inode: found.ino(), bytes: found.len() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_file_open_minds_only_what_was_changed_in_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| directory.path().join(name));
        let both = || [one.clone(), other.clone()];
        assert_eq!(Seen::of(both()).unwrap_err(), one);
        both().iter().for_each(|path| fs::write(path, "content").unwrap());
        let seen = Seen::of(both()).unwrap();
        assert_eq!((seen.lost(), seen.changed()), (None, None));

        let fresh = directory.path().join("fresh");
        fs::write(&fresh, "content").unwrap();
        fs::rename(&fresh, &one).unwrap();
        assert_eq!((seen.lost(), seen.changed()), (Some(one.as_path()), None), "it was replaced by its like");
        let seen = Seen::of(both()).unwrap();
        fs::File::options().write(true).open(&other).unwrap().set_len(1).unwrap();
        assert_eq!((seen.lost(), seen.changed()), (Some(other.as_path()), Some(other.as_path())));
        fs::remove_file(&other).unwrap();
        assert_eq!((seen.lost(), seen.changed()), (Some(other.as_path()), None));
    }
}
