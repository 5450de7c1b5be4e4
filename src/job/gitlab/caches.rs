//! Caches of a job: directories that later jobs of the project find again, in the host's own store.

use super::Runner;
use super::files;
use crate::config::rough_size;
use crate::core::heavy;
use crate::depot::scope::Scopes;
use crate::gitlab::job::artifacts::{Choice, is_due};
use crate::gitlab::job::cache::{Key, Policy, fallbacks};
use crate::gitlab::wire::{Cache, When};
use crate::job::native::cache::{PACK, Tar, WHOLE, unpack};
use crate::job::native::guest::Trouble;
use crate::vm::guest::Input;

impl Runner<'_, '_> {
    /// Whether the job has a cache at all.
    pub(super) fn caches(&self) -> Vec<Cache> {
        let all = self.plan.job.cache.iter().flatten();
        all.filter(|cache| cache.untracked || !cache.paths.is_empty()).cloned().collect()
    }

    /// Those that are due at the end of the job.
    pub(super) fn due_caches(&self, succeeded: bool) -> Vec<Cache> {
        let is_due = |when: When| match when {
            When::OnSuccess => succeeded,
            When::OnFailure => is_due("on_failure", succeeded),
            When::Always => true,
        };
        self.caches().into_iter().filter(|cache| is_due(cache.when)).collect()
    }

    /// Brings a cache, if there is one. What goes wrong with it is only told; the error is a policy that is none.
    pub(super) async fn restore(&mut self, cache: &Cache) -> Result<(), Trouble> {
        let Some((key, policy)) = self.begin(cache).await? else { return Ok(()) };
        if !policy.pulls {
            self.trace.say(&format!("Not downloading cache {} due to policy", key.shown())).await;
            return Ok(());
        }
        let of_variable = self.plan.settings.fallback_key.clone();
        let (more, complaints) = fallbacks(&cache.fallback_keys, of_variable.as_deref(), &self.variables);
        for complaint in complaints {
            self.trace.warn(&complaint).await;
        }
        for key in std::iter::once(key).chain(more) {
            self.trace.say(&format!("Checking cache for {}...", key.shown())).await;
            match self.restore_from(&key).await {
                Ok(Some(size)) => {
                    self.trace.say(&format!("Successfully extracted cache ({})", rough_size(size))).await;
                    return Ok(());
                }
                Ok(None) => self.trace.say("No cache is there yet").await,
                Err(Trouble::Said(why)) => self.trace.warn(&format!("Failed to extract cache: {why}")).await,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives the size of what was restored, in bytes.
    async fn restore_from(&self, key: &Key) -> Result<Option<u64>, Trouble> {
        let Some(scopes) = self.scopes(key) else {
            return Err(Trouble::said("it is kept for protected refs, and this job's is none"));
        };
        let method = Tar::of(&self.hands).await?.method();
        let depot = &self.core().depot;
        let keys = [format!("{}-", key.stored())];
        let found = heavy(|| depot.find_cache(&self.tenant(), &scopes, &keys, method)).map_err(Trouble::said)?;
        let Some(found) = found else { return Ok(None) };
        unpack(&found, method, ".", &self.hands).await?;
        Ok(Some(found.entry.size))
    }

    /// Keeps a cache for later jobs. What goes wrong with it is only told; the error is a policy that is none.
    pub(super) async fn archive(&mut self, cache: &Cache) -> Result<(), Trouble> {
        let Some((key, policy)) = self.begin(cache).await? else { return Ok(()) };
        if !policy.pushes {
            self.trace.say(&format!("Not uploading cache {} due to policy", key.shown())).await;
            return Ok(());
        }
        self.trace.say(&format!("Creating cache {}...", key.shown())).await;
        match self.archive_as(&key, cache).await {
            Ok(Some(size)) => self.trace.say(&format!("Created cache ({})", rough_size(size))).await,
            Ok(None) => self.trace.warn("No files to cache").await,
            Err(Trouble::Said(why)) => self.trace.warn(&format!("Failed to create cache: {why}")).await,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn archive_as(&mut self, key: &Key, cache: &Cache) -> Result<Option<u64>, Trouble> {
        let Some(scopes) = self.scopes(key) else {
            return Err(Trouble::said("it would be kept for protected refs, and this job's is none"));
        };
        let (choice, complaints) =
            Choice::new(&cache.paths, &[], cache.untracked, &self.variables, &self.plan.directory);
        let found = files::find(&self.hands, &choice).await?;
        for line in complaints.iter().chain(&found.missed) {
            self.trace.warn(line).await;
        }
        if found.kept.is_empty() {
            return Ok(None);
        }
        let method = Tar::of(&self.hands).await?.method();
        let depot = self.core().depot.clone();
        let upload = heavy(|| depot.begin(depot.limits().cache_size)).map_err(Trouble::said)?;
        let mut block = upload.block(WHOLE).map_err(Trouble::said)?;
        let list = files::list(&files::outermost(&found.kept));
        let feed = async |input: Input| {
            input.write(&list).await?;
            input.end();
            Ok(())
        };
        let sink = |bytes: &[u8]| block.write(bytes).map_err(Trouble::said);
        let (code, complaints) = self.hands.run(PACK, &[method], feed, sink).await?;
        if code != 0 {
            return Err(Trouble::Said(format!("`tar` ended with {code}: {complaints}")));
        }
        let uploaded = heavy(|| upload.commit(&[WHOLE.to_owned()])).map_err(Trouble::said)?;
        let key = format!("{}-", key.stored());
        let stored = heavy(|| depot.replace_cache(&self.tenant(), &scopes, &key, method, uploaded));
        Ok(Some(stored.map_err(Trouble::said)?.size))
    }

    /// The cache's key and policy; nothing if it cannot be used, which is told.
    async fn begin(&mut self, cache: &Cache) -> Result<Option<(Key, Policy)>, Trouble> {
        if !self.core().depot.limits().cache {
            self.trace.warn("caches are switched off on this runner").await;
            return Ok(None);
        }
        let job = &self.plan.job;
        let key = match cache.key.as_str() {
            "" => Ok(Key::of_job(&job.job_info.name, &job.git_info.reference)),
            key => Key::new(key, &self.variables),
        };
        let policy = Policy::parse(&self.variables.expand(&cache.policy)).map_err(Trouble::Said)?;
        match key {
            Ok(key) => Ok(Some((key, policy))),
            Err(why) => {
                self.trace.warn(&why).await;
                Ok(None)
            }
        }
    }

    /// Where a key is looked up and written; nothing where this job may not.
    fn scopes(&self, key: &Key) -> Option<Scopes> {
        let circle = key.circle(self.plan.is_protected())?;
        Some(Scopes { read: vec![circle.name().to_owned()], write: Some(circle.name().to_owned()) })
    }

    /// To whom caches belong: no repository of another forge has such a name.
    fn tenant(&self) -> String {
        format!("{}: {}", self.instance.name, self.plan.project)
    }
}
