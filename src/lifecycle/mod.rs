//! Where in a job's life the service is, told to whoever wants to disturb it there.
//!
//! The ten rules of ARCHITECTURE.md speak of crashes at any moment. So that tests can produce each of them, the code says
//! `lifecycle.reached(Step::…)` at every numbered step ([`STEPS`]); that does nothing unless the service was started with a
//! [`Fault`]. It is part of the program, not of a test build: what is tested is what runs.

mod fault;
mod image_steps;
mod steps;

pub use fault::{BadFault, Disturbance, Fault, Place, VARIABLE};
pub use image_steps::{IMAGE_STEPS, ImageStep};
pub use steps::{STEPS, Step, StepInfo};

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, raise};

/// The file in the state directory that exists while a step is held.
pub const HELD_FILE: &str = "held";

/// Between two looks whether the file is gone.
const HELD_LOOK: Duration = Duration::from_millis(20);

/// Is told of every step; clones are of the same service. The default one does nothing.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle(Option<Arc<Armed>>);

#[derive(Debug)]
struct Armed {
    fault: Fault,
    held: PathBuf,
    /// A fault happens the first time that its step is reached.
    is_spent: AtomicBool,
}

impl Lifecycle {
    /// One in which `fault` happens. A held step makes a file in `state_dir` and waits until somebody removes it.
    pub fn disturbed_by(fault: Fault, state_dir: &Path) -> Self {
        let held = state_dir.join(HELD_FILE);
        Self(Some(Arc::new(Armed { fault, held, is_spent: AtomicBool::new(false) })))
    }

    /// The service is at this step.
    pub async fn reached(&self, step: impl Into<Place>) {
        match self.due(step.into()) {
            None => {}
            Some((Disturbance::Hold, armed)) => armed.hold().await,
            // A fault that fails is refused for steps that only say that they were reached.
            Some((Disturbance::Kill | Disturbance::Fail, _)) => end_at_once(),
        }
    }

    /// The service is at this step, which may fail.
    pub async fn passes(&self, step: Step) -> io::Result<()> {
        match self.due(step.into()) {
            None => Ok(()),
            Some((Disturbance::Kill, _)) => end_at_once(),
            Some((Disturbance::Fail, _)) => {
                Err(io::Error::other(format!("a test has the step `{}` fail", step.info().name)))
            }
            Some((Disturbance::Hold, armed)) => {
                armed.hold().await;
                Ok(())
            }
        }
    }

    fn due(&self, step: Place) -> Option<(Disturbance, &Armed)> {
        let armed = self.0.as_deref().filter(|armed| armed.fault.step == step)?;
        (!armed.is_spent.swap(true, Ordering::SeqCst)).then_some((armed.fault.disturbance, armed))
    }
}

impl Armed {
    async fn hold(&self) {
        if let Err(error) = std::fs::write(&self.held, self.fault.step.name()) {
            tracing::error!(%error, "the step cannot be held");
        }
        while self.held.exists() {
            tokio::time::sleep(HELD_LOOK).await;
        }
    }
}

/// What a test wants to go wrong: [`VARIABLE`], if it is set.
pub fn from_environment() -> Result<Option<Fault>, BadFault> {
    std::env::var(VARIABLE).ok().filter(|text| !text.is_empty()).map(|text| text.parse()).transpose()
}

/// As a power failure or the kernel would: nothing is flushed, nobody is told.
fn end_at_once() -> ! {
    // It cannot fail, nor return: the signal cannot be blocked.
    raise(Signal::SIGKILL).ok();
    std::process::abort()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_happens_at_other_steps_nor_twice_nor_without_a_fault() {
        let directory = tempfile::tempdir().unwrap();
        let lifecycle = Lifecycle::disturbed_by("fail@home-made".parse().unwrap(), directory.path());
        lifecycle.passes(Step::DiskCopied).await.unwrap();
        let error = lifecycle.passes(Step::HomeMade).await.unwrap_err();
        assert_eq!(error.to_string(), "a test has the step `home-made` fail");
        lifecycle.passes(Step::HomeMade).await.unwrap();
        Lifecycle::default().passes(Step::HomeMade).await.unwrap();
    }

    #[tokio::test]
    async fn a_held_step_goes_on_when_its_file_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let lifecycle = Lifecycle::disturbed_by("hold@vm-paused".parse().unwrap(), directory.path());
        let held = directory.path().join(HELD_FILE);
        let release = async {
            while !held.exists() {
                tokio::task::yield_now().await;
            }
            assert_eq!(std::fs::read_to_string(&held).unwrap(), "vm-paused");
            std::fs::remove_file(&held).unwrap();
        };
        tokio::join!(lifecycle.reached(Step::VmPaused), release);
        lifecycle.reached(Step::VmPaused).await;
    }
}
