//! The files that a VM has in common with all others of its template, and whether they are still what they were.
//!
//! Nothing of Dayfly changes them while somebody may start from them; people and broken disks do. A monitor that misses one of
//! them, or whose memory is cut off under it, ends without a word that would help anybody. So it is looked before and after.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::VmError;
use super::machine::Template;

/// The files of a template as they were when it was taken up.
#[derive(Debug, Clone)]
pub struct Basis(Vec<Part>);

#[derive(Debug, Clone)]
struct Part {
    path: PathBuf,
    inode: u64,
    bytes: u64,
}

impl Basis {
    /// As they are now.
    ///
    /// # Errors
    /// [`VmError::TemplateLost`] with the first that is not there.
    pub fn of(template: &Template) -> Result<Self, VmError> {
        let Template { root, layer, memory, state, scratch, cache_placeholder, .. } = template;
        let all = [root, memory, state, scratch, cache_placeholder].into_iter().chain(layer);
        let part = |path: &PathBuf| {
            let found = fs::metadata(path).map_err(|_| VmError::TemplateLost { file: path.clone() })?;
            Ok(Part { path: path.clone(), inode: found.ino(), bytes: found.len() })
        };
        all.map(part).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a VM could still start from it.
    ///
    /// # Errors
    /// [`VmError::TemplateLost`] with the first that is not what it was.
    pub fn require(&self) -> Result<(), VmError> {
        match self.find(|part, found| found != Some((part.inode, part.bytes))) {
            Some(file) => Err(VmError::TemplateLost { file: file.to_owned() }),
            None => Ok(()),
        }
    }

    /// The first that was cut off or grew. To be without a name or to be replaced harms no VM that has it open.
    pub fn changed(&self) -> Option<&Path> {
        self.find(|part, found| found.is_some_and(|(inode, bytes)| inode == part.inode && bytes != part.bytes))
    }

    fn find(&self, is_meant: impl Fn(&Part, Option<(u64, u64)>) -> bool) -> Option<&Path> {
        let found = |part: &Part| fs::metadata(&part.path).ok().map(|found| (found.ino(), found.len()));
        self.0.iter().find(|part| is_meant(part, found(part))).map(|part| part.path.as_path())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::vm::spec::{Accelerator, Boot, Shape};

    fn template(directory: &Path) -> Template {
        let file = |name: &str| directory.join(name);
        for name in ["root", "memory", "state", "scratch", "placeholder"] {
            fs::write(file(name), name).unwrap();
        }
        let boot = Boot { kernel: file("kernel"), initramfs: file("initramfs"), command_line: String::new() };
        Template {
            program: "monitor".into(),
            accelerator: Accelerator::Tcg,
            shape: Shape { vcpus: 1, memory_mib: 1, disk_mib: 1 },
            boot,
            root: file("root"),
            layer: None,
            memory: file("memory"),
            state: file("state"),
            scratch: file("scratch"),
            cache_placeholder: file("placeholder"),
            mounted: None,
        }
    }

    #[test]
    fn what_runs_minds_only_what_was_changed_in_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let template = template(directory.path());
        let file_of = |error: VmError| match error {
            VmError::TemplateLost { file } => file,
            other => panic!("{other}"),
        };
        let found = |basis: &Basis| (basis.require().err().map(file_of), basis.changed().map(Path::to_owned));
        // A kernel is only for those that boot.
        let basis = Basis::of(&template).unwrap();
        assert_eq!(found(&basis), (None, None));
        let replaced = directory.path().join("other");
        fs::write(&replaced, "another content").unwrap();
        fs::rename(&replaced, &template.root).unwrap();
        assert_eq!(found(&basis), (Some(template.root.clone()), None));

        let basis = Basis::of(&template).unwrap();
        fs::File::options().write(true).open(&template.memory).unwrap().set_len(1).unwrap();
        let memory = Some(template.memory.clone());
        assert_eq!(found(&basis), (memory.clone(), memory.clone()));
        fs::remove_file(&template.memory).unwrap();
        assert_eq!(found(&basis), (memory.clone(), None));
        assert_eq!(Some(file_of(Basis::of(&template).unwrap_err())), memory);
    }
}
