//! Asking about many things, one after the other, such that none of them hides the others.

use crate::config::Credential;
use crate::core::Core;
use crate::forge::{ForgeError, RepoAccess, github};
use crate::runners::RunnersError;
use crate::sweep::plan::{REPOSITORIES_PER_SWEEP, may_ask, repositories_of_token};

/// Failures in a row after which the forge counts as away.
const MOST_IN_A_ROW: u32 = 3;

/// One pass over what there is to ask about.
pub(super) struct Pass<'a> {
    core: &'a Core,
    in_a_row: u32,
    count: u64,
    first: Option<String>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(core: &'a Core) -> Self {
        Self { core, in_a_row: 0, count: 0, first: None }
    }

    /// Whether jobs can do without the calls.
    pub(super) fn may_ask(&self, access: &RepoAccess) -> bool {
        let budgets = self.core.forges.github().map_or_else(Vec::new, |forge| forge.budgets());
        may_ask(&budgets, &access.budget_name())
    }

    /// The answer about one thing; `None` if it has none.
    ///
    /// # Errors
    /// The next one will have none either: the forge is away, or has been asked too much.
    pub(super) fn take<T>(&mut self, answer: Result<T, ForgeError>) -> Result<Option<T>, ForgeError> {
        let error = match answer {
            Ok(answer) => {
                self.in_a_row = 0;
                return Ok(Some(answer));
            }
            Err(error) => error,
        };
        self.in_a_row = if error.is_retryable() { self.in_a_row + 1 } else { 0 };
        if matches!(error, ForgeError::RateLimited { .. }) || self.in_a_row >= MOST_IN_A_ROW {
            return Err(error);
        }
        self.count += 1;
        self.first.get_or_insert_with(|| error.to_string());
        Ok(None)
    }

    /// What cannot be asked, told once for all.
    pub(super) fn tell(self, what: &str) {
        if let Some(error) = self.first {
            tracing::warn!(count = self.count, error, "GitHub does not tell of {what}");
        }
    }
}

/// The repositories whose events count and which can be asked about.
pub(super) async fn repositories(core: &Core) -> Result<Vec<RepoAccess>, RunnersError> {
    let (Some(settings), Some(forge)) = (&core.config.github, core.forges.github()) else { return Ok(Vec::new()) };
    let all = match settings.credential {
        Credential::App { .. } => forge.repositories().await?,
        Credential::Token(_) => {
            let used = core.store.used_repositories(github::NAME, REPOSITORIES_PER_SWEEP as u32).await?;
            repositories_of_token(&settings.repositories, used)
        }
    };
    Ok(all.into_iter().filter(|access| core.config.repository(github::NAME, &access.repo).is_some()).collect())
}
