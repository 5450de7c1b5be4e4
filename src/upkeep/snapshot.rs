//! Makes a prepared snapshot: what a job of the default branch leaves, tidied up, frozen, and put on the shelf.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::produce::{Making, unless};
use super::shelf::Description;
use super::{End, Trouble};
use crate::clock;
use crate::core::Core;
use crate::engine::Prepared;
use crate::image::Logged;
use crate::job::driver::shape_of;
use crate::job::steps::Places;
use crate::job::{checkout, script};
use crate::lifecycle::Step;
use crate::store::Upkeep;
use crate::vm::machine::Machine;

/// Leaves the machine as a checkout expects it.
pub(super) const SETTLE: &str = include_str!("settle.sh");

/// Ends everything of the user but itself: what runs on would run in each machine that starts here.
const END_PROGRAMS: &str = "kill -9 -1 || true";

impl Making<'_> {
    /// Makes it. The VM is absent afterwards, unless this was interrupted.
    pub(super) async fn make_snapshot(
        &mut self, cancel: &CancellationToken, interrupted: impl Future<Output = ()>,
    ) -> Result<End, Trouble> {
        let began = Instant::now();
        let (core, wish, profile) = (self.core, self.wish, self.profile);
        then_to_its_end(interrupted, self.run_machine(cancel), async |(machine, image): (Machine, Arc<Prepared>)| {
            keep(core, wish, &profile.image, machine, &image).await
        })
        .await?;
        core.metrics.upkeep.made(began.elapsed());
        Ok(End::Done("it was made".to_owned()))
    }

    /// A machine as jobs shall find it, and the image that it started from.
    async fn run_machine(&mut self, cancel: &CancellationToken) -> Result<(Machine, Arc<Prepared>), Trouble> {
        let (core, profile) = (self.core, self.profile);
        let image = core.engine.prepare(&profile.image, shape_of(profile), &Logged).await?;
        let home = core.engine.home(self.vm.clone())?;
        let mut machine = core.engine.restore_freezable(home, &image, None).await?;
        let worked = async {
            self.work(&mut machine, &image, cancel).await?;
            self.settle(&machine, &image).await
        };
        if let Err(trouble) = worked.await {
            machine.destroy().await?;
            return Err(trouble);
        }
        core.lifecycle.reached(Step::PreparationRan).await;
        Ok((machine, image))
    }

    /// Takes away what the job left for nobody: its programs, the files of its steps, and what its clone knows.
    async fn settle(&mut self, machine: &Machine, image: &Prepared) -> Result<(), Trouble> {
        let repo = &self.wish.key.repo;
        let places = Places::new(&image.info.user.home(), repo.name());
        let arguments = [&places.workspace, &checkout::address(repo), self.wish.sha.as_str(), &places.temp];
        for (text, arguments) in [(END_PROGRAMS, &[][..]), (SETTLE, &arguments[..])] {
            script::run(machine.guest(), image.info.user.owner(), text, arguments, &mut self.log)
                .await?
                .map_err(|why| Trouble::Failed(format!("the machine could not be tidied up: {why}")))?;
        }
        Ok(())
    }
}

/// Does the first part unless it is `interrupted`, then the last one to its end, whatever happens: threads that nobody can stop
/// write and publish then, and whoever tidied up meanwhile would tear what they make. That part takes seconds.
async fn then_to_its_end<T, R>(
    interrupted: impl Future<Output = ()>, first: impl Future<Output = Result<T, Trouble>>,
    last: impl AsyncFnOnce(T) -> Result<R, Trouble>,
) -> Result<R, Trouble> {
    last(unless(interrupted, first).await?).await
}

/// Freezes the machine, and puts it on the shelf.
async fn keep(core: &Core, wish: &Upkeep, image_name: &str, machine: Machine, image: &Prepared) -> Result<(), Trouble> {
    let building = core.kept.shelf.begin(&wish.hash).map_err(|error| Trouble::Failed(error.to_string()))?;
    core.engine.freeze_to_keep(machine, image, &building).await?;
    core.lifecycle.reached(Step::PreparationFrozen).await;
    let description = Description {
        forge: wish.key.forge.clone(),
        repo: wish.key.repo.clone(),
        profile: wish.key.profile.clone(),
        hash: wish.hash.clone(),
        sha: wish.sha.clone(),
        image: image_name.to_owned(),
        made_at: clock::now_ms(),
        bytes: 0,
    };
    let shelf = Arc::clone(&core.kept.shelf);
    let published = tokio::task::spawn_blocking(move || shelf.publish(description)).await;
    published.map_err(|error| Trouble::Failed(format!("publishing was interrupted: {error}")))??;
    core.lifecycle.reached(Step::PreparationPublished).await;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The interruption comes during the first part, or during the last.
    #[tokio::test]
    async fn what_is_being_published_is_not_interrupted() {
        for is_early in [true, false] {
            let cancel = CancellationToken::new();
            let mut has_ended = false;
            let first = async {
                if is_early {
                    cancel.cancel();
                    std::future::pending::<()>().await;
                }
                Ok(())
            };
            let last = async |()| {
                cancel.cancel();
                // Whoever waited for the interruption would have been woken here.
                tokio::task::yield_now().await;
                has_ended = true;
                Ok(())
            };
            let ended = then_to_its_end(cancel.cancelled(), first, last).await;
            assert_eq!((matches!(ended, Err(Trouble::Interrupted)), has_ended), (is_early, !is_early));
        }
    }
}
