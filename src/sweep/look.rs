//! One sweep's questions to the forge, and what is stored of the answers.

use std::sync::Arc;
use std::time::Duration;

use super::plan::{self, Look};
use super::{Progress, SweepError, Sweeper};
use crate::clock;
use crate::config::{Credential, GitHub};
use crate::forge::{
    APP_BUDGET, DEFAULT_BRANCH, FailedDelivery, Forge, ForgeError, HookApi, HookOwner, HookRef, PullRequestNow,
    RepoAccess, TOKEN_BUDGET, github,
};
use crate::store::{Accepted, DeliveryKey, HeadMemory, NewDelivery, PullHead};

/// After how long webhooks are asked for again that the credential may not read, or that the forge does not have.
const REFUSED_FOR: Duration = Duration::from_hours(6);

impl Sweeper {
    /// Asks for the deliveries again that the forge could not bring.
    pub(super) async fn recover_deliveries(&mut self, progress: &mut Progress) {
        let wanted = match self.wanted_deliveries(progress).await {
            Ok(wanted) => wanted,
            Err(error) => return progress.note(&error),
        };
        for delivery in wanted {
            let budget = if delivery.hook.is_some() { TOKEN_BUDGET } else { APP_BUDGET };
            if progress.is_cut_off || !self.may_ask(budget, progress) {
                break;
            }
            match self.ask_again(&delivery).await {
                Ok(()) => progress.redeliveries += 1,
                Err(error) => progress.note(&error),
            }
        }
    }

    fn may_ask(&self, budget: &str, progress: &mut Progress) -> bool {
        let may = self.forge().is_ok_and(|forge| plan::may_ask(&forge.budgets(), budget));
        progress.is_spared |= !may;
        may
    }

    fn forge(&self) -> Result<&Arc<dyn Forge>, ForgeError> {
        self.core.forges.of(&self.forge)
    }

    async fn wanted_deliveries(&mut self, progress: &mut Progress) -> Result<Vec<FailedDelivery>, SweepError> {
        let now = clock::now_ms();
        // What is forgotten here must not look as if it had never come.
        let reach = plan::HORIZON.min(self.core.config.limits.delivery_retention);
        let since = now.saturating_sub(millis(reach));
        let mut failed = match self.may_ask(APP_BUDGET, progress) {
            true => self.forge()?.failed_deliveries(since).await?,
            false => Vec::new(),
        };
        failed.extend(self.failed_of_hooks(since, now, progress).await?);
        let guids: Vec<String> = failed.iter().map(|delivery| delivery.guid.clone()).collect();
        let known = self.core.store.delivery_memories(&self.forge, &guids).await?;
        Ok(plan::redeliveries(failed, &known, now, self.patience))
    }

    /// What the webhooks of projects and groups that lead here could not bring.
    async fn failed_of_hooks(
        &mut self, since: i64, now: i64, progress: &mut Progress,
    ) -> Result<Vec<FailedDelivery>, SweepError> {
        let core = Arc::clone(&self.core);
        let forge = core.forges.of(&self.forge)?;
        let Some(api) = forge.hook_api() else { return Ok(Vec::new()) };
        let repositories = plan::portion(self.repositories(progress).await?, self.last.as_ref());
        let mut found = Vec::new();
        self.refused.retain(|_, until| now < *until);
        for owner in plan::hook_owners(&repositories) {
            if self.refused.contains_key(&owner) || !self.may_ask(TOKEN_BUDGET, progress) {
                continue;
            }
            match self.failed_of(api, &owner, since).await {
                Ok(failed) => found.extend(failed),
                // Most tokens may not, and only some editions have webhooks of groups.
                Err(ForgeError::NotFound { .. } | ForgeError::Refused { .. }) => {
                    self.refused.insert(owner, now.saturating_add(millis(REFUSED_FOR)));
                }
                Err(error) => progress.note(&error.into()),
            }
            if progress.is_cut_off {
                break;
            }
        }
        // What has no time may be older than what is remembered here.
        let remembers_all = core.config.limits.delivery_retention >= plan::KEPT_BY_GITLAB;
        found.retain(|delivery: &FailedDelivery| remembers_all || delivery.delivered_at.is_some());
        Ok(found)
    }

    async fn failed_of(
        &self, api: &dyn HookApi, owner: &HookOwner, since: i64,
    ) -> Result<Vec<FailedDelivery>, ForgeError> {
        let hooks = api.hooks(owner).await?;
        let config = &self.core.config;
        let paths = plan::hook_paths(&self.forge, self.core.gitlab_webhooks.len() == 1);
        let mut found = Vec::new();
        for id in plan::our_hooks(&hooks, &config.server.public_url, &paths) {
            found.extend(api.failed_of(&HookRef { owner: owner.clone(), id }, since).await?);
        }
        Ok(found)
    }

    async fn ask_again(&self, delivery: &FailedDelivery) -> Result<(), SweepError> {
        let FailedDelivery { id, guid, delivered_at, hook, .. } = delivery;
        // One whose time is not known must end nothing that is newer, so it counts as the oldest.
        let tried_at = delivered_at.unwrap_or(0);
        self.core.store.count_redelivery(&self.forge, guid, tried_at, clock::now_ms()).await?;
        let forge = self.forge()?;
        let asked = match (hook, forge.hook_api()) {
            (Some(hook), Some(api)) => api.resend(hook, *id).await,
            _ => forge.redeliver(*id).await,
        };
        match asked {
            // The forge has forgotten it.
            Ok(()) | Err(ForgeError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Brings the events of open pull requests whose commit has no run.
    pub(super) async fn recover_pull_requests(&mut self, patience: Duration, progress: &mut Progress) {
        let repositories = match self.repositories(progress).await {
            Ok(repositories) => repositories,
            Err(error) => return progress.note(&error),
        };
        for access in plan::portion(repositories, self.last.as_ref()) {
            if !self.may_ask(&access.budget_name(), progress) {
                continue;
            }
            let looked = match self.look_at(&access, patience, progress).await {
                Ok(()) => self.look_at_branch(&access, patience, progress).await,
                Err(error) => Err(error),
            };
            self.last = Some(access.repo);
            if let Err(error) = looked {
                progress.note(&error);
            }
            if progress.is_cut_off || progress.has_found_enough() {
                break;
            }
        }
    }

    /// Those whose events count, and which can be asked about.
    async fn repositories(&self, progress: &mut Progress) -> Result<Vec<RepoAccess>, SweepError> {
        let config = &self.core.config;
        let is_app = |github: &GitHub| matches!(github.credential, Credential::App { .. });
        let all = if self.forge == github::NAME && config.github.as_ref().is_some_and(is_app) {
            match self.may_ask(APP_BUDGET, progress) {
                true => self.forge()?.repositories().await?,
                false => Vec::new(),
            }
        } else {
            let used = self.core.store.used_repositories(&self.forge, plan::REPOSITORIES_PER_SWEEP as u32).await?;
            plan::repositories_of_token(config.entries_of(&self.forge), used)
        };
        Ok(all.into_iter().filter(|access| config.repository(&self.forge, &access.repo).is_some()).collect())
    }

    async fn look_at(
        &self, access: &RepoAccess, patience: Duration, progress: &mut Progress,
    ) -> Result<(), SweepError> {
        // What is found is as old as the question: an event that arrives while the forge answers is newer.
        let now = clock::now_ms();
        let pulls = self.forge()?.open_pull_requests(access).await?;
        let pulls: Vec<PullRequestNow> = pulls.into_iter().filter(|pull| pull.is_open).collect();
        let heads: Vec<PullHead> = pulls.iter().map(head).collect();
        let memories = self.core.store.head_memories(&self.forge, &heads, now).await?;
        let mut settled = Vec::new();
        for ((pull, head), memory) in pulls.into_iter().zip(heads).zip(memories) {
            match plan::look(pull.changed_at, memory, now, patience) {
                Look::Leave => {}
                Look::Settle => settled.push(head),
                Look::Wait => progress.has_more = true,
                Look::Bring if progress.has_found_enough() => progress.has_more = true,
                Look::Bring => {
                    let PullRequestNow { event, changed_at, .. } = pull;
                    progress.found += u64::from(self.bring("pull_request", event, head, changed_at, now).await?);
                }
            }
        }
        if !settled.is_empty() {
            self.core.store.settle_heads(&self.forge, settled, now).await?;
        }
        Ok(())
    }

    /// Brings the push to the default branch whose event was lost, where the forge repeats none by itself.
    async fn look_at_branch(
        &self, access: &RepoAccess, patience: Duration, progress: &mut Progress,
    ) -> Result<(), SweepError> {
        let now = clock::now_ms();
        let forge = self.forge()?;
        let Some(found) = forge.default_head(access).await? else { return Ok(()) };
        let head = PullHead { repo: found.repo.clone(), number: DEFAULT_BRANCH, sha: found.sha.clone() };
        let memories = self.core.store.head_memories(&self.forge, std::slice::from_ref(&head), now).await?;
        let Some(HeadMemory::Unknown) = memories.first() else { return Ok(()) };
        if !self.core.store.knows_default_branch(&self.forge, &head.repo).await? {
            // Whatever was pushed before the repository was known here, nobody lost.
            return Ok(self.core.store.settle_heads(&self.forge, vec![head], now).await?);
        }
        let push = forge.push_of(access, &found).await?;
        match plan::look(push.changed_at, HeadMemory::Unknown, now, patience) {
            Look::Leave => {}
            Look::Settle => self.core.store.settle_heads(&self.forge, vec![head], now).await?,
            Look::Wait => progress.has_more = true,
            Look::Bring if progress.has_found_enough() => progress.has_more = true,
            Look::Bring => {
                let as_of = push.changed_at.or(Some(now));
                progress.pushes += u64::from(self.bring("push", push.event, head, as_of, now).await?);
            }
        }
        Ok(())
    }

    /// Stores the event as if it had come at `now`. Says whether there is something to process.
    async fn bring(
        &self, event: &str, payload: Vec<u8>, head: PullHead, as_of: Option<i64>, now: i64,
    ) -> Result<bool, SweepError> {
        let delivery = NewDelivery {
            key: DeliveryKey { forge: self.forge.clone(), id: plan::delivery_id(&head) },
            event: event.to_owned(),
            received_at: now,
            payload,
        };
        tracing::info!(
            delivery = %delivery.key, event, repo = %head.repo, number = head.number, sha = %head.sha, "a lost event was found"
        );
        let accepted = self.core.store.accept_found(delivery, head, as_of, now).await?;
        self.core.wake.deliveries.notify_one();
        Ok(accepted != Accepted::Duplicate)
    }
}

fn head(pull: &PullRequestNow) -> PullHead {
    PullHead { repo: pull.repo.clone(), number: pull.number, sha: pull.head_sha.clone() }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
