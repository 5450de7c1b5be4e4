//! The files that a VM has in common with all others of its template, and whether they are still what they were.
//!
//! Nothing of Dayfly changes them while somebody may start from them; people and broken disks do. A monitor that misses one of
//! them, or whose memory is cut off under it, ends without a word that would help anybody. One that misses its memory file even
//! makes an empty one in its place. So it is looked before and after.

use std::path::Path;

use super::VmError;
use super::machine::Template;
use crate::host::process::find_program;
use crate::host::seen::Seen;

/// The files of a template, and the monitor, as they were when it was taken up.
#[derive(Debug, Clone)]
pub struct Basis(Seen);

impl Basis {
    /// As they are now.
    ///
    /// # Errors
    /// [`VmError::TemplateLost`] with the first that is not there.
    pub fn of(template: &Template) -> Result<Self, VmError> {
        // Kernel and initramfs are only for those that boot.
        let Template { root, layer, memory, state, scratch, cache_placeholder, vmm, .. } = template;
        let all = [root, memory, state, scratch, cache_placeholder].into_iter().chain(layer).cloned();
        // Another monitor does not read what this one wrote.
        Seen::of(all.chain(find_program(vmm.program()))).map(Self).map_err(|file| VmError::TemplateLost { file })
    }

    /// Whether a VM could still start from it.
    ///
    /// # Errors
    /// [`VmError::TemplateLost`] with the first that is not what it was.
    pub fn require(&self) -> Result<(), VmError> {
        match self.0.lost() {
            Some(file) => Err(VmError::TemplateLost { file: file.to_owned() }),
            None => Ok(()),
        }
    }

    /// The first that was cut off, or grew, under those who run from it.
    pub fn changed(&self) -> Option<&Path> {
        self.0.changed()
    }
}
