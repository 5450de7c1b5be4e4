//! The numbered steps in which an image is built and baked, as data. Nothing of it is in the store: what a restart finds is on
//! the disk, and `docs/images.md` shows these rows to operators. Pure.

use super::steps::StepInfo;

/// Defines the enum and the table from one list.
macro_rules! steps {
    ($($step:ident $name:literal: $reached:literal, $restart:literal;)*) => {
        /// A step of building or baking; numbered from 1 in this order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ImageStep { $(#[doc = $reached] $step,)* }

        /// Every step, in the order of its number.
        pub const IMAGE_STEPS: &[StepInfo<ImageStep>] = &[$(StepInfo {
            step: ImageStep::$step,
            name: $name,
            may_fail: false,
            reached: $reached,
            restart: $restart,
        },)*];
    };
}

steps! {
    BuildBegun "build-begun":
        "There is an empty directory for what is built",
        "removes it, builds again";
    RootMade "root-made":
        "The root file system is there, as files of the host",
        "removes it, builds again";
    KernelUnpacked "kernel-unpacked":
        "Kernel and modules are there",
        "removes all of it, builds again";
    RootPacked "root-packed":
        "The root file system is one read-only file",
        "removes all of it, builds again";
    SetUp "set-up":
        "The set-up scripts ran in a VM, which is gone; what they wrote is the image's layer",
        "removes all of it, builds again";
    ImageDescribed "image-described":
        "The image is whole, under a name that nobody looks for",
        "removes it, builds again";
    ImagePublished "image-published":
        "The image has its name; new VMs still use the one before",
        "builds again, finds that it is the same, and uses it";
    ImageCurrent "image-current":
        "New VMs use the image",
        "nothing";
    BakeBegun "bake-begun":
        "There is an empty directory for the snapshot",
        "removes it, bakes again";
    DisksMade "disks-made":
        "Initramfs, scratch disk and memory file are there; no VM runs",
        "removes them, bakes again";
    BakeBooted "bake-booted":
        "A VM runs on them, and its agent answers",
        "the VM has ended with the service; removes what it had, bakes again";
    Rehearsed "rehearsed":
        "The VM has done what every job does first, and run the bake scripts",
        "the VM has ended with the service; removes what it had, bakes again";
    StateSaved "state-saved":
        "Memory, disk and devices are saved; the VM is gone",
        "removes them, bakes again";
    BakeDescribed "bake-described":
        "The snapshot is whole, with its checksums, under a name that nobody looks for",
        "removes it, bakes again";
    BakePublished "bake-published":
        "VMs can be restored from the snapshot",
        "nothing";
}

impl ImageStep {
    /// Its row.
    pub fn info(self) -> &'static StepInfo<Self> {
        &IMAGE_STEPS[self as usize]
    }

    /// From 1.
    pub fn number(self) -> usize {
        self as usize + 1
    }

    /// The step with this name. Numbers are those of a job's steps.
    pub fn find(name: &str) -> Option<Self> {
        IMAGE_STEPS.iter().find(|info| info.name == name).map(|info| info.step)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::steps::Step;
    use super::*;

    #[test]
    fn a_step_is_found_by_its_name_which_no_other_has() {
        for info in IMAGE_STEPS {
            assert_eq!(ImageStep::find(info.name), Some(info.step));
            assert_eq!(info.step.info(), info);
            assert_eq!(Step::find(info.name), None, "{}", info.name);
        }
        assert_eq!(ImageStep::find("1"), None);
    }

    #[test]
    fn the_document_shows_this_table() {
        let document = include_str!("../../docs/images.md");
        let shown: Vec<&str> = document.lines().filter(|line| line.starts_with('|')).collect();
        for StepInfo { step, name, reached, restart, .. } in IMAGE_STEPS {
            let row = format!("| {} | `{name}` | {reached} | {restart} |", step.number());
            assert!(shown.contains(&row.as_str()), "docs/images.md lacks the row\n{row}");
        }
    }
}
