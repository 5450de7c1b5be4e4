//! What the tests of the whole program share: the program as a child process, a forge for it, and a look for what it left.
#![allow(clippy::unwrap_used)]

pub(crate) mod command;
pub(crate) mod host;
pub(crate) mod http;
pub(crate) mod lab;
pub(crate) mod leaks;
mod metrics;
pub(crate) mod npm;
pub(crate) mod oracle;
pub(crate) mod repository;
mod scene;
mod service;
mod settings;
mod store;
pub(crate) mod tls;

use std::time::Duration;

pub(crate) use self::metrics::scrape;
pub(crate) use self::scene::{Ended, Event, Job, REPOSITORY, Scene, WORKFLOW, gate, job_of, waiting};
pub(crate) use self::service::Service;
pub(crate) use self::settings::{FORGE_PORT, Settings, WEBHOOK_SECRET};
pub(crate) use self::store::{forget_end, make_schedules_due, processed, stored_deliveries, stored_vms, wishes};

/// The longest that anything is waited for. Only a failure takes it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The longest that images may take: the first test of a fresh checkout builds one, from an archive that may be far away.
const IMAGE_DEADLINE: Duration = Duration::from_secs(540);

/// Images whose tests run; building them all would take longer than all other tests together.
const TEST_IMAGES: &str = "DAYFLY_TEST_IMAGES";

/// Whether tests that need this image run; says so if not.
pub(crate) fn has_test_image(image: &str) -> bool {
    let is_named = std::env::var(TEST_IMAGES).is_ok_and(|images| images.split(',').any(|named| named == image));
    if !is_named {
        eprintln!("SKIPPED: {TEST_IMAGES} does not name `{image}`");
    }
    is_named
}

/// Between two looks at something.
const LOOK: Duration = Duration::from_millis(25);

/// Looks until there is something; fails after [`DEADLINE`] with what was waited for.
pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(DEADLINE, what, look).await
}

/// The same for what machines make before anybody needs it, which gives way to everything else: as long as images may take.
pub(crate) async fn in_time<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(IMAGE_DEADLINE, what, look).await
}

async fn within<T>(deadline: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = tokio::time::timeout(deadline, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("waited {} s for {what}", deadline.as_secs()))
}
