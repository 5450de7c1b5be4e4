//! Where the VM of a job starts: at what was prepared for its commit's files, or at the image.
//!
//! Whatever is in the way of the former, the job starts from the image, and its log says why.

use std::sync::Arc;

use super::contents::Unknown;
use super::key::{Base, hash};
use super::shelf::Snapshot;
use crate::clock;
use crate::config::Profile;
use crate::core::Core;
use crate::engine::Prepared;
use crate::metrics::labels::PreparedStart;
use crate::store::{Job, Run, UpkeepKey, UpkeepKind};
use crate::workflow::plan::JobSpec;

/// Where a VM starts.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) prepared: Arc<Prepared>,
    /// The snapshot, which stays while this is held; none for the image itself.
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    /// For the job's log.
    pub(crate) note: Option<String>,
}

impl Origin {
    /// At the image.
    pub(crate) fn image(prepared: &Arc<Prepared>, note: Option<String>) -> Self {
        Self { prepared: Arc::clone(prepared), snapshot: None, note }
    }

    /// For people, and the job's timeline.
    pub(crate) fn words(&self) -> String {
        match &self.snapshot {
            Some(snapshot) => {
                let description = &snapshot.description;
                format!("prepared {} at {}", &description.hash[..12], description.sha.short())
            }
            None => format!("image {} {}", self.prepared.info.name, self.prepared.info.digest),
        }
    }
}

/// Where the VM of a job starts whose profile's image is `image`.
pub(crate) async fn origin(core: &Core, job: &Job, run: &Run, profile: &Profile, image: &Arc<Prepared>) -> Origin {
    let key = UpkeepKey {
        forge: run.forge.clone(),
        repo: run.access.repo.clone(),
        kind: UpkeepKind::Prepare,
        profile: profile.name.clone(),
    };
    // A job that does not begin with a checkout expects to begin with nothing.
    let spec = serde_json::from_value::<JobSpec>(job.spec.clone());
    if core.config.prepared.max_size == 0 || !spec.is_ok_and(|spec| spec.begins_with_checkout()) {
        return Origin::image(image, None);
    }
    if run.origin.is_of_fork() && core.config.keeps_registries_from_forks(&key.forge, &key.repo, profile) {
        let note = "What is prepared here may hold packages that jobs of forks do not get: this machine starts from the image.";
        return Origin::image(image, Some(note.to_owned()));
    }
    let (start, origin) = match find(core, &key, run, image).await {
        Ok(None) => return Origin::image(image, None),
        Ok(Some(Found { hash, usable: Some((snapshot, prepared)) })) => {
            let note = format!(
                "This machine was prepared at commit {}; the checkout moves it to this one. (`dayfly prepared show {}`)",
                snapshot.description.sha.short(),
                &hash[..12]
            );
            let why_not_kvm = image.why_not_kvm.clone();
            let prepared = Arc::new(Prepared { why_not_kvm, ..Prepared::clone(&prepared) });
            (PreparedStart::Hit, Origin { prepared, snapshot: Some(snapshot), note: Some(note) })
        }
        Ok(Some(Found { usable: None, .. })) => {
            let note = "Nothing is prepared for the key files of this commit: this machine starts from the image.";
            (PreparedStart::Miss, Origin::image(image, Some(note.to_owned())))
        }
        Err(error) => {
            tracing::warn!(job = %job.id, %error, "what is prepared for a job could not be looked for");
            let note = "note: what is prepared could not be looked for, so this machine starts from the image.";
            (PreparedStart::Miss, Origin::image(image, Some(note.to_owned())))
        }
    };
    core.metrics.upkeep.started(start);
    let hash = origin.snapshot.as_ref().map(|snapshot| snapshot.description.hash.as_str());
    if let Err(error) = core.store.count_prepared(&key, hash, clock::now_ms()).await {
        tracing::warn!(job = %job.id, %error, "a start could not be counted");
    }
    origin
}

/// What there is for a commit.
struct Found {
    hash: String,
    usable: Option<(Arc<Snapshot>, Arc<Prepared>)>,
}

/// `None` where nothing is ever prepared.
async fn find(core: &Core, key: &UpkeepKey, run: &Run, image: &Prepared) -> anyhow::Result<Option<Found>> {
    let Some(recipe) = core.store.upkeep(key).await?.and_then(|upkeep| upkeep.recipe) else { return Ok(None) };
    let contents =
        match core.kept.contents.contents(&**core.forges.of(&run.forge)?, &run.access, &run.sha, &recipe).await {
            Ok(contents) => contents,
            Err(Unknown::NoKey(_)) => return Ok(Some(Found { hash: String::new(), usable: None })),
            Err(error) => return Err(error.into()),
        };
    let UpkeepKey { forge, repo, kind, profile } = key;
    let base = Base { kind: *kind, forge, repo, profile, bake: &image.bake.key };
    let Ok(hash) = hash(&base, &recipe, &contents) else {
        return Ok(Some(Found { hash: String::new(), usable: None }));
    };
    let was_there = core.kept.shelf.take(&hash).is_some();
    let usable = core.kept.usable(core, &hash).await;
    if was_there && usable.is_none() {
        // It was broken, and is gone: the default branch makes it again.
        core.store.look_again(key, clock::now_ms()).await?;
        core.wake.upkeep.notify_one();
    }
    Ok(Some(Found { hash, usable }))
}
