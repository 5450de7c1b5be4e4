//! The sweep of each forge: what its webhooks did not bring is asked for.
//!
//! Webhooks get lost: while the service is down, on the way, at the forge. So right after the start, and then every
//! `sweep` of the forge, deliveries that failed are asked for again, an App's of GitHub and those of GitLab's webhooks; after
//! that the open pull requests are looked through, and on GitLab the default branches, and the event of one whose commit is
//! not known is stored as if it had come. From there everything is as always:
//! a fork is held, a workflow that does not want the event stays out.
//!
//! A sweep that is cut off or done twice does no harm: what it asks for and finds is stored first, under ids that depend on
//! nothing else, and an event that comes late after all starts nothing again (`store/swept.rs`). It never takes the last
//! fifth of a budget of calls, and one failure of the forge ends it until the next time.

mod look;
pub mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use crate::clock;
use crate::core::Core;
use crate::forge::{ForgeError, HookOwner, RepoName, backoff};
use crate::metrics::Swept;
use crate::metrics::labels::{ForgeKind, SweepEnd};
use crate::store::StoreError;

/// How long what is under way may take before it counts as lost, and how soon a sweep comes that has more to do; the interval
/// if that is shorter.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came in a sweep's way.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Forge(#[from] ForgeError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What stays from sweep to sweep. Only memory: nothing is lost with it but the order.
#[derive(Debug)]
struct Sweeper {
    core: Arc<Core>,
    /// The name of the forge that it asks.
    forge: String,
    patience: Duration,
    /// The repository that was looked at last.
    last: Option<RepoName>,
    /// Owners of webhooks that may not be asked for, and until when: milliseconds since the epoch.
    refused: HashMap<HookOwner, i64>,
    /// The last sweep left the pull requests to the deliveries that it had asked for.
    has_deferred: bool,
}

/// How one sweep goes.
#[derive(Debug, Default)]
struct Progress {
    redeliveries: u64,
    /// Pull requests that were brought.
    found: u64,
    /// Heads of default branches that were brought.
    pushes: u64,
    /// Something was not asked because its budget is low.
    is_spared: bool,
    /// There is more to do before the next regular sweep.
    has_more: bool,
    troubles: u64,
    /// The first one, for the log.
    trouble: Option<String>,
    /// The forge does not answer, or not any more: go on later.
    is_cut_off: bool,
    /// The forge named a time.
    asked_to_wait: Duration,
}

impl Progress {
    fn has_found_enough(&self) -> bool {
        self.found + self.pushes >= plan::FINDINGS_PER_SWEEP as u64
    }

    fn note(&mut self, error: &SweepError) {
        self.troubles += 1;
        self.trouble.get_or_insert_with(|| error.to_string());
        self.is_cut_off |= match error {
            SweepError::Forge(error) => error.is_retryable(),
            SweepError::Store(_) => true,
        };
        if let SweepError::Forge(ForgeError::RateLimited { wait, .. }) = error {
            self.asked_to_wait = self.asked_to_wait.max(*wait);
        }
    }
}

/// Sweeps until the service stops. A sweep that is under way then is dropped.
pub async fn run(core: Arc<Core>) {
    let stop = core.stop.clone();
    let sweep = |(forge, interval): (String, Duration)| {
        let patience = PATIENCE.min(interval);
        let sweeper = Sweeper {
            core: Arc::clone(&core),
            forge,
            patience,
            last: None,
            refused: HashMap::new(),
            has_deferred: false,
        };
        sweep_for_ever(sweeper, interval)
    };
    let swept = core.config.forge_names().filter_map(|name| Some((name.to_owned(), core.config.sweep_of(name)?)));
    let sweeps = join_all(swept.map(sweep));
    tokio::select! {
        _ = sweeps => stop.cancelled().await,
        () = stop.cancelled() => {}
    }
}

async fn sweep_for_ever(mut sweeper: Sweeper, interval: Duration) {
    // What was lost before the start need not be waited for.
    let mut patience = Duration::ZERO;
    let mut cut_off = 0;
    loop {
        let progress = sweeper.sweep(patience).await;
        patience = sweeper.patience;
        let wait = match (progress.is_cut_off, progress.has_more) {
            (false, false) => interval,
            (false, true) => patience,
            (true, _) => interval.min(backoff(cut_off, clock::jitter())).max(progress.asked_to_wait),
        };
        cut_off = if progress.is_cut_off { cut_off + 1 } else { 0 };
        tokio::time::sleep(wait).await;
    }
}

impl Sweeper {
    async fn sweep(&mut self, patience: Duration) -> Progress {
        let mut progress = Progress::default();
        self.recover_deliveries(&mut progress).await;
        // The events that were just asked for say more than what would be found in their place; but not for ever.
        self.has_deferred = progress.redeliveries > 0 && !self.has_deferred;
        if self.has_deferred {
            progress.has_more = true;
        } else if !progress.is_cut_off {
            self.recover_pull_requests(patience, &mut progress).await;
        }
        if let Err(error) = self.core.store.forget_swept(clock::now_ms()).await {
            progress.note(&error.into());
        }
        self.tell(&progress);
        progress
    }

    /// One line for each thing worth knowing, whatever the number of repositories.
    fn tell(&self, progress: &Progress) {
        let Progress { redeliveries, found, pushes, is_spared, troubles, trouble, .. } = progress;
        if redeliveries + found + pushes > 0 {
            tracing::info!(
                forge = self.forge,
                redeliveries,
                pull_requests = found,
                pushes,
                "the sweep recovered events that had not come"
            );
        }
        if *is_spared {
            tracing::warn!(
                forge = self.forge,
                "the sweep stopped short: less than a fifth of the forge's rate limit is left"
            );
        }
        if let Some(error) = trouble {
            tracing::warn!(
                forge = self.forge,
                troubles,
                error,
                "the sweep of the forge is incomplete; it will be tried again"
            );
        }
        let end = match (*troubles > 0, *is_spared) {
            (true, _) => SweepEnd::Incomplete,
            (false, true) => SweepEnd::Spared,
            (false, false) => SweepEnd::Complete,
        };
        let swept = Swept { redeliveries: *redeliveries, pull_requests: *found, pushes: *pushes };
        self.core.metrics.sweep.ended(ForgeKind::of(&self.forge), end, swept);
    }
}
