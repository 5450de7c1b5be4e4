//! What this host can do, and why not more: the checks of `dayfly doctor`.
//!
//! Each area has a file of its own that keeps two things apart: *observing*, which asks the host and gives facts as data, and
//! *judging*, a pure function from those facts to [`Finding`]s, which a table can test.
//!
//! Invariants: every check has a time limit, and one that hangs is reported and not waited for; nothing lasting is changed on
//! the host; the running service is not needed; the network is used for the forges only, and only with a configuration that
//! names them; ids of findings stay the same from version to version.

mod capacity;
mod cgroups;
mod clock;
mod configuration;
mod confinement;
mod disk;
mod egress;
mod finding;
mod firecracker;
mod forge;
mod forge_runners;
mod gitlab;
mod gitlab_hooks;
mod gitlab_runners;
mod host;
mod images;
mod kvm;
mod memory;
mod monitor;
mod service;
mod subject;
mod trial;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};

pub use finding::{Finding, Report, Status};
pub use subject::{Options, Subject};

use crate::config::format_duration;

/// For checks that look at files and ask the kernel.
const QUICK: Duration = Duration::from_secs(5);
/// For checks that start programs or speak over a network.
const LONG: Duration = Duration::from_secs(25);

/// How a check works.
enum Work {
    /// On a thread of its own: a file system may hang.
    Blocking(fn(&Subject) -> Vec<Finding>),
    Async(fn(Arc<Subject>) -> BoxFuture<'static, Vec<Finding>>),
}

struct Check {
    area: &'static str,
    limit: Duration,
    work: Work,
}

/// All checks, in the order in which their findings are shown.
fn checks() -> Vec<Check> {
    let quick = |area, work| Check { area, limit: QUICK, work: Work::Blocking(work) };
    let long = |area, work| Check { area, limit: LONG, work: Work::Async(work) };
    vec![
        quick("host", host::examine),
        quick("cgroups", cgroups::examine),
        quick("memory", memory::examine),
        quick("capacity", capacity::examine),
        quick("clock", clock::examine),
        long("qemu", |subject| monitor::examine(subject).boxed()),
        long("kvm", |subject| kvm::examine(subject).boxed()),
        long("firecracker", |subject| firecracker::examine(subject).boxed()),
        long("confinement", |subject| confinement::examine(subject).boxed()),
        quick("egress", egress::examine),
        quick("disk", disk::examine),
        long("images", |subject| images::examine(subject).boxed()),
        quick("config", configuration::examine),
        long("service", |subject| service::examine(subject).boxed()),
        long("forge", |subject| forge::examine(subject).boxed()),
        long("gitlab", |subject| gitlab::examine(subject).boxed()),
        long("gitlab", |subject| gitlab_runners::examine(subject).boxed()),
    ]
}

/// Makes all checks, at the same time. Takes as long as the slowest one, and never longer than its limit.
pub async fn examine(subject: Subject) -> Report {
    let subject = Arc::new(subject);
    let all = join_all(checks().into_iter().map(|check| run(check, Arc::clone(&subject)))).await;
    Report::new(all.into_iter().flatten().collect())
}

async fn run(check: Check, subject: Arc<Subject>) -> Vec<Finding> {
    let Check { area, limit, work } = check;
    let id = format!("{area}.check");
    let task = match work {
        Work::Blocking(work) => tokio::task::spawn_blocking(move || work(&subject)),
        Work::Async(work) => tokio::spawn(work(subject)),
    };
    let abort = task.abort_handle();
    match tokio::time::timeout(limit, task).await {
        Ok(Ok(findings)) => findings,
        Ok(Err(error)) => vec![Finding::warning(id, "this check failed itself").detail(error.to_string())],
        Err(_) => {
            abort.abort();
            let limit = format_duration(limit);
            vec![
                Finding::warning(id, format!("this check did not end within {limit}"))
                    .hint("something that it asks hangs: a file system, a program, a network"),
            ]
        }
    }
}

/// A number of things, with its word in the right form.
fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Names as a person reads them: each in backticks, with commas.
fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_check_that_hangs_or_fails_is_reported_and_not_waited_for() {
        let subject = Arc::new(Subject::new(Options::default()));
        let hanging = Check {
            area: "hung",
            limit: Duration::from_millis(20),
            work: Work::Async(|_| std::future::pending().boxed()),
        };
        let failing = Check { area: "fails", limit: LONG, work: Work::Blocking(|_| panic!("on purpose")) };
        let found = run(hanging, Arc::clone(&subject)).await;
        assert_eq!((found[0].id.as_str(), found[0].status), ("hung.check", Status::Warning));
        assert_eq!(found[0].title, "this check did not end within 20ms");
        let found = run(failing, subject).await;
        assert_eq!((found[0].id.as_str(), found[0].status), ("fails.check", Status::Warning));
    }
}
