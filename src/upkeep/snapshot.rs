//! Makes a prepared snapshot: what a job of the default branch leaves, tidied up, frozen, and put on the shelf.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::produce::Making;
use super::shelf::Description;
use super::{End, Trouble};
use crate::clock;
use crate::engine::Prepared;
use crate::image::Logged;
use crate::job::driver::shape_of;
use crate::job::steps::Places;
use crate::job::{checkout, script};
use crate::lifecycle::Step;
use crate::vm::machine::Machine;

/// Leaves the machine as a checkout expects it.
pub(super) const SETTLE: &str = include_str!("settle.sh");

/// Ends everything of the user but itself: what runs on would run in each machine that starts here.
const END_PROGRAMS: &str = "kill -9 -1 || true";

impl Making<'_> {
    /// Makes it. The VM is absent afterwards, unless this is dropped before.
    pub(super) async fn make_snapshot(&mut self, cancel: &CancellationToken) -> Result<End, Trouble> {
        let began = Instant::now();
        let (core, wish, profile) = (self.core, self.wish, self.profile);
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
        let building = core.kept.shelf.begin(&wish.hash).map_err(|error| Trouble::Failed(error.to_string()))?;
        core.engine.freeze_to_keep(machine, &image, &building).await?;
        core.lifecycle.reached(Step::PreparationFrozen).await;
        let description = Description {
            forge: wish.key.forge.clone(),
            repo: wish.key.repo.clone(),
            profile: profile.name.clone(),
            hash: wish.hash.clone(),
            sha: wish.sha.clone(),
            image: profile.image.clone(),
            made_at: clock::now_ms(),
            bytes: 0,
        };
        let shelf = Arc::clone(&core.kept.shelf);
        let published = tokio::task::spawn_blocking(move || shelf.publish(description)).await;
        published.map_err(|error| Trouble::Failed(format!("publishing was interrupted: {error}")))??;
        core.lifecycle.reached(Step::PreparationPublished).await;
        core.metrics.upkeep.made(began.elapsed());
        Ok(End::Done("it was made".to_owned()))
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
