//! Labels of what jobs wait for, and of the VMs that wait for jobs.

use crate::job::sharing::Part;
use crate::metrics::family::Label;
use crate::scheduler::plan::WaitReason;
use crate::upkeep::Activity;

label_enum!(
    /// How a job's way to its VM began on a profile with a pool.
    PoolTake, "result" {
        /// A VM that waited was promised to it.
        Promised = "promised",
        /// None waited.
        Missed = "missed",
        /// The promised one did not answer; another one was restored.
        Dead = "dead",
    }
);

label_enum!(
    /// Why a VM of a pool served no job.
    PoolEnd, "reason" {
        /// The image or the cache changed.
        Outdated = "outdated",
        Aged = "aged",
        /// There were more than are wanted.
        Surplus = "surplus",
        /// The host was short of memory.
        Pressure = "pressure",
        /// A job of another profile needed its room, or something that is made for later jobs.
        Room = "room",
        /// It could not be made.
        Failed = "failed",
        /// It ended by itself.
        Died = "died",
    }
);

label_enum!(
    /// How far a VM of a pool is.
    PoolStage, "state" {
        Making = "making",
        Ready = "ready",
        /// It is being handed to its job, or destroyed.
        Leaving = "leaving",
    }
);

label!(Activity, "state" {
    Preparing = "preparing",
    Filling = "filling",
    Examining = "examining",
});

label_enum!(
    /// From where a cell of a matrix begins whose first steps could run once for all of them.
    CellStart, "result" {
        /// It runs them, for the others to start from.
        Led = "led",
        /// It starts from a machine in which they have run.
        Forked = "forked",
        /// It runs all of its steps by itself.
        Alone = "alone",
    }
);

impl CellStart {
    /// The start of a cell with this part.
    pub(crate) fn of(part: &Part) -> Self {
        match part {
            Part::Lead(_) => Self::Led,
            Part::Follow(_) => Self::Forked,
            Part::Alone => Self::Alone,
        }
    }
}

label_enum!(
    /// What the memory of VMs is.
    MemoryKind, "kind" {
        /// Pages that one VM has for itself.
        Private = "private",
        /// Pages that VMs share, counted once.
        Shared = "shared",
    }
);

label_enum!(
    /// What a job that does not move waits for.
    WaitKind, "for" {
        Needs = "needs",
        Group = "group",
        SharedSteps = "shared_steps",
        Matrix = "matrix",
        Vms = "vms",
        Memory = "memory",
        Vcpus = "vcpus",
        Disk = "disk",
        Pool = "pool",
        Behind = "behind",
    }
);

impl WaitKind {
    /// The kind of a reason.
    pub fn of(reason: &WaitReason) -> Self {
        match reason {
            WaitReason::Needs(_) => Self::Needs,
            WaitReason::Group { .. } => Self::Group,
            WaitReason::SharedSteps(_) => Self::SharedSteps,
            WaitReason::Matrix { .. } => Self::Matrix,
            WaitReason::Vms { .. } => Self::Vms,
            WaitReason::Memory { .. } => Self::Memory,
            WaitReason::Vcpus { .. } => Self::Vcpus,
            WaitReason::Disk { .. } => Self::Disk,
            WaitReason::Pool => Self::Pool,
            WaitReason::KeptFor(_) => Self::Behind,
        }
    }

    /// Whether the job could start if the host had more room.
    pub fn is_for_room(self) -> bool {
        !matches!(self, Self::Needs | Self::Group | Self::SharedSteps | Self::Matrix)
    }
}
