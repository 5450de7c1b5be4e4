//! One sweep's questions to the forge, and what is stored of the answers.

use std::sync::Arc;
use std::time::Duration;

use super::plan::{self, Look};
use super::{Progress, SweepError, Sweeper};
use crate::clock;
use crate::config::{Credential, GitHub};
use crate::forge::{APP_BUDGET, FailedDelivery, Forge, ForgeError, PullRequestNow, RepoAccess, github};
use crate::store::{Accepted, DeliveryKey, NewDelivery, PullHead};

impl Sweeper {
    /// Asks for the deliveries again that the forge could not bring.
    pub(super) async fn recover_deliveries(&self, progress: &mut Progress) {
        if !self.may_ask(APP_BUDGET, progress) {
            return;
        }
        let wanted = match self.wanted_deliveries().await {
            Ok(wanted) => wanted,
            Err(error) => return progress.note(&error),
        };
        for delivery in wanted {
            if !self.may_ask(APP_BUDGET, progress) {
                break;
            }
            match self.ask_again(&delivery).await {
                Ok(()) => progress.redeliveries += 1,
                Err(error) => progress.note(&error),
            }
            if progress.is_cut_off {
                break;
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

    async fn wanted_deliveries(&self) -> Result<Vec<FailedDelivery>, SweepError> {
        let now = clock::now_ms();
        // What is forgotten here must not look as if it had never come.
        let reach = plan::HORIZON.min(self.core.config.limits.delivery_retention);
        let since = now.saturating_sub(i64::try_from(reach.as_millis()).unwrap_or(i64::MAX));
        let failed = self.forge()?.failed_deliveries(since).await?;
        let guids: Vec<String> = failed.iter().map(|delivery| delivery.guid.clone()).collect();
        let known = self.core.store.delivery_memories(&self.forge, &guids).await?;
        Ok(plan::redeliveries(failed, &known, now, self.patience))
    }

    async fn ask_again(&self, delivery: &FailedDelivery) -> Result<(), SweepError> {
        let FailedDelivery { guid, delivered_at, .. } = delivery;
        self.core.store.count_redelivery(&self.forge, guid, *delivered_at, clock::now_ms()).await?;
        match self.forge()?.redeliver(delivery.id).await {
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
            let looked = self.look_at(&access, patience, progress).await;
            self.last = Some(access.repo);
            if let Err(error) = looked {
                progress.note(&error);
            }
            if progress.is_cut_off || progress.found >= plan::FINDINGS_PER_SWEEP as u64 {
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
        let heads: Vec<PullHead> = pulls.iter().map(head).collect();
        let memories = self.core.store.head_memories(&self.forge, &heads, now).await?;
        let mut settled = Vec::new();
        for ((pull, head), memory) in pulls.into_iter().zip(heads).zip(memories) {
            match plan::look(&pull, memory, now, patience) {
                Look::Leave => {}
                Look::Settle => settled.push(head),
                Look::Wait => progress.has_more = true,
                Look::Bring if progress.found >= plan::FINDINGS_PER_SWEEP as u64 => progress.has_more = true,
                Look::Bring => progress.found += u64::from(self.bring(pull, head, now).await?),
            }
        }
        if !settled.is_empty() {
            self.core.store.settle_heads(&self.forge, settled, now).await?;
        }
        Ok(())
    }

    /// Stores the event as if it had come at `now`. Says whether there is something to process.
    async fn bring(&self, pull: PullRequestNow, head: PullHead, now: i64) -> Result<bool, SweepError> {
        let delivery = NewDelivery {
            key: DeliveryKey { forge: self.forge.clone(), id: plan::delivery_id(&head) },
            event: "pull_request".to_owned(),
            received_at: now,
            payload: pull.event,
        };
        tracing::info!(delivery = %delivery.key, repo = %head.repo, number = head.number, sha = %head.sha, "a lost event was found");
        let accepted = self.core.store.accept_found(delivery, head, pull.changed_at, now).await?;
        self.core.wake.deliveries.notify_one();
        Ok(accepted != Accepted::Duplicate)
    }
}

fn head(pull: &PullRequestNow) -> PullHead {
    PullHead { repo: pull.repo.clone(), number: pull.number, sha: pull.head_sha.clone() }
}
