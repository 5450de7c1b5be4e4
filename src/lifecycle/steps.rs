//! The numbered steps of a job's life, as data: what is stored once a step is reached, and what a restart does there.
//!
//! A step is a place where the service may die. Between two of them nothing happens that a restart would see. Tests visit
//! every row, so that a new step is tested by being written down; `docs/starts-and-stops.md` shows the rows to operators.
//! Pure.

/// One row of [`STEPS`], or of another table of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepInfo<S = Step> {
    pub step: S,
    /// By which operators and tests call it.
    pub name: &'static str,
    /// Whether the service goes on when this step fails, so that tests can have it fail.
    pub may_fail: bool,
    /// What has happened by then, and what of it the store says.
    pub reached: &'static str,
    /// What the next start of the service does about it.
    pub restart: &'static str,
}

/// The word in the table for [`StepInfo::may_fail`].
macro_rules! may_fail {
    (may_fail) => {
        true
    };
    (goes_on) => {
        false
    };
}

/// Defines the enum and the table from one list.
macro_rules! steps {
    ($($step:ident $name:literal $fails:ident: $reached:literal, $restart:literal;)*) => {
        /// A step of a job's life; numbered from 1 in this order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Step { $(#[doc = $reached] $step,)* }

        /// Every step, in the order of its number.
        pub const STEPS: &[StepInfo] = &[$(StepInfo {
            step: Step::$step,
            name: $name,
            may_fail: may_fail!($fails),
            reached: $reached,
            restart: $restart,
        },)*];
    };
}

steps! {
    DeliveryVerified "delivery-verified" goes_on:
        "The signature is right; nothing is stored, nobody is answered",
        "nothing: the forge shows a failed delivery, which is delivered again";
    DeliveryStored "delivery-stored" goes_on:
        "The delivery is stored as `received`; the forge has no answer",
        "processes it; a second delivery of the same id changes nothing";
    DeliveryTaken "delivery-taken" goes_on:
        "The delivery is answered and looked at",
        "processes it";
    RunsPlanned "runs-planned" goes_on:
        "The workflows were read and planned; none of that is stored",
        "reads and plans again, at the same commit";
    RunsCreated "runs-created" goes_on:
        "Runs, jobs (`waiting`) and reports are stored together; the delivery is `processed`",
        "goes on with the jobs";
    FirstReportTaken "first-report-taken" goes_on:
        "The forge shows the job; what it called the check run is not stored",
        "asks the forge for a check run of this job before it makes one";
    JobQueued "job-queued" goes_on:
        "The job is `queued`",
        "starts it when there is room";
    LeaseStored "lease-stored" goes_on:
        "The job is `leased`, its VM is `creating`; nothing of the VM exists",
        "notes that the VM is gone, queues the job for its next attempt";
    HomeMade "home-made" may_fail:
        "The VM has a directory, locked by the service",
        "removes the directory, queues the job for its next attempt";
    DiskCopied "disk-copied" may_fail:
        "The VM has its scratch disk",
        "removes the directory, queues the job for its next attempt";
    ConfinementMade "confinement-made" may_fail:
        "The VM has a user id, a cgroup and a place for its root, as far as the host has them; nothing of it runs",
        "removes them and the directory, queues the job for its next attempt";
    MonitorStarted "monitor-started" may_fail:
        "QEMU runs, confined, and does not answer yet",
        "ends QEMU, removes the directory, queues the job for its next attempt";
    MonitorAnswered "monitor-answered" may_fail:
        "QEMU answers",
        "ends QEMU, removes what the VM had, queues the job for its next attempt";
    StateLoaded "state-loaded" may_fail:
        "The snapshot is loaded; the guest stands still",
        "ends QEMU, removes what the VM had, queues the job for its next attempt";
    AgentAnswered "agent-answered" may_fail:
        "The guest runs and answers",
        "ends QEMU, removes what the VM had, queues the job for its next attempt";
    GuestIdentified "guest-identified" may_fail:
        "The guest has its own identity, entropy and clock",
        "ends QEMU, removes what the VM had, queues the job for its next attempt";
    VmRunningStored "vm-running-stored" goes_on:
        "The VM is `running`, the job still `leased`",
        "ends QEMU, removes what the VM had, queues the job for its next attempt";
    JobStartedStored "job-started-stored" goes_on:
        "The job is `running`",
        "ends QEMU, removes what the VM had, queues the job for its next attempt";
    LogCreated "log-created" goes_on:
        "The attempt has a log",
        "the same; the log of this attempt stays as it is";
    StepBegun "step-begun" goes_on:
        "A step of the workflow is about to start",
        "the same: the next attempt begins with the first step";
    StepSpoke "step-spoke" goes_on:
        "A step of the workflow runs and has written something",
        "the same: the next attempt begins with the first step";
    StepsEnded "steps-ended" goes_on:
        "All steps of the workflow have ended; how is not stored",
        "the same: the next attempt begins with the first step";
    VmPaused "vm-paused" goes_on:
        "The guest stands still for ever",
        "the same: the next attempt begins with the first step";
    LogFinished "log-finished" goes_on:
        "The log is complete and on the disk",
        "the same: the next attempt begins with the first step";
    OutcomeStored "outcome-stored" goes_on:
        "The job is `finished`; its outcome and its last report are stored together",
        "sends the report, destroys the VM; the job does not run again";
    LastReportNoted "last-report-noted" goes_on:
        "The store says that the last report may be on its way",
        "sends it, to the same place, with the same value";
    LastReportTaken "last-report-taken" goes_on:
        "The forge shows the outcome; the store does not know",
        "sends it again, to the same place, with the same value";
    LastReportSent "last-report-sent" goes_on:
        "The store knows that the forge shows the outcome",
        "destroys the VM";
    VmStoppingStored "vm-stopping-stored" goes_on:
        "The VM is `stopping`",
        "destroys the VM; the last report is sent if it was not";
    MonitorEnded "monitor-ended" goes_on:
        "No process of the VM is left",
        "removes the cgroup and the directory";
    CgroupRemoved "cgroup-removed" goes_on:
        "The VM has no cgroup any more",
        "removes the directory";
    HomeUnnamed "home-unnamed" goes_on:
        "The VM's directory is marked as garbage",
        "removes the directory";
    HomeRemoved "home-removed" goes_on:
        "Nothing of the VM is left; the store says `stopping`",
        "verifies that, and notes that the VM is gone";
    VmGoneStored "vm-gone-stored" goes_on:
        "The VM is `gone`, its capacity is free",
        "nothing";
    JobRequeued "job-requeued" goes_on:
        "After a loss: the job is `queued` for its next attempt, the forge still shows the one before",
        "starts it when there is room; then the forge shows that";
    PreparationBegun "preparation-begun" goes_on:
        "The store says that something is being prepared; nothing of its VM exists",
        "prepares it again";
    PreparationRan "preparation-ran" goes_on:
        "The script of a preparation has succeeded in its VM",
        "destroys the VM, prepares it again";
    PreparationFrozen "preparation-frozen" goes_on:
        "The VM is frozen; its files have no name yet",
        "removes them, prepares it again";
    PreparationPublished "preparation-published" goes_on:
        "The prepared snapshot is in its place; the store does not know",
        "finds it there, and notes that it is done";
    FreezeHeld "freeze-held" may_fail:
        "The first steps of a matrix are done; the VM of the cell that ran them stands still for ever",
        "ends QEMU, removes what the VM had, queues the job for its next attempt, in which each cell runs all of its steps";
    FreezeSaved "freeze-saved" may_fail:
        "The state of that VM is saved",
        "the same; removes what was saved";
    FreezeKept "freeze-kept" may_fail:
        "QEMU has ended; memory and disk are where the cells of the matrix will start from",
        "the same";
    CacheDescribed "cache-described" goes_on:
        "A volume of a named cache is filled, examined and on the disk; it has no name yet",
        "removes it, fills another";
    CachePublished "cache-published" goes_on:
        "The volume is the newest generation of its cache; the store does not know",
        "finds it there, and notes that it is done";
    UnfoldPlanned "unfold-planned" goes_on:
        "It is known which jobs take the place of one that waits: cells of its matrix, or jobs of the workflow that it calls; none of that is stored",
        "computes them again";
    UnfoldStored "unfold-stored" goes_on:
        "Those jobs and their reports are stored together",
        "goes on with the jobs";
}

impl Step {
    /// Its row.
    pub fn info(self) -> &'static StepInfo {
        &STEPS[self as usize]
    }

    /// From 1.
    pub fn number(self) -> usize {
        self as usize + 1
    }

    /// Whether it is in the life of a job, rather than in that of something that is prepared for jobs.
    pub fn is_of_a_job(self) -> bool {
        self <= Self::JobRequeued
    }

    /// Whether it is in the life of a generation of a cache.
    pub fn is_of_a_cache(self) -> bool {
        matches!(self, Self::CacheDescribed | Self::CachePublished)
    }

    /// Whether it is in the life of a job whose place others take.
    pub fn is_of_an_unfolding(self) -> bool {
        matches!(self, Self::UnfoldPlanned | Self::UnfoldStored)
    }

    /// The step with this name or number.
    pub fn find(word: &str) -> Option<Self> {
        let is_meant = |info: &&StepInfo| info.name == word || info.step.number().to_string() == word;
        STEPS.iter().find(is_meant).map(|info| info.step)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_found_by_its_number_and_by_its_name_which_no_other_has() {
        for info in STEPS {
            assert_eq!(Step::find(info.name), Some(info.step));
            assert_eq!(Step::find(&info.step.number().to_string()), Some(info.step));
            assert_eq!(info.step.info(), info);
        }
        for other in ["0", "01", "", "delivery", "99"] {
            assert_eq!(Step::find(other), None, "{other}");
        }
    }

    #[test]
    fn the_document_shows_this_table() {
        let document = include_str!("../../docs/starts-and-stops.md");
        let shown: Vec<&str> = document.lines().filter(|line| line.starts_with('|')).collect();
        for StepInfo { step, name, reached, restart, .. } in STEPS {
            let row = format!("| {} | `{name}` | {reached} | {restart} |", step.number());
            assert!(shown.contains(&row.as_str()), "docs/starts-and-stops.md lacks the row\n{row}");
        }
    }
}
