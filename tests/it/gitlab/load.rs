//! Many jobs while everything goes wrong at random, the service included.

use std::time::Duration;

use super::hall::{Hall, Plan, runner_with};
use crate::local_gitlab::{GitLab, JobState, Options};
use crate::support::in_time;

/// How many jobs; a few without it.
const COUNT: &str = "DAYFLY_GITLAB_JOBS";
const FEW: u64 = 30;

/// Requests of a thousand that go wrong.
const PERMILLE: u64 = 150;

fn plan(number: u64) -> Plan {
    let line = format!("job {number}: \x1b[3{}m{}\x1b[0m\r\n", number % 8, "é".repeat((number % 50) as usize));
    Plan {
        pieces: vec![line, format!("a line that is no whole one {number} ")],
        // Some traces have several patches.
        repeat: if number % 50 == 7 { 20_000 } else { 1 + (number as usize * 13) % 60 },
        pause: if number % 50 == 7 { 0 } else { number % 15 },
        exit_code: if number % 5 == 3 { (number % 200) as i64 } else { 0 },
        is_lost: number % 11 == 5,
        is_endless: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_trace_is_exact_and_every_job_ends_once() {
    let count = std::env::var(COUNT).map_or(FEW, |count| count.parse().unwrap());
    let options = Options {
        two_phase: true,
        accepts_first: 1,
        // What is given out as the service ends comes back.
        ack_timeout: Duration::from_secs(15),
        ..Options::default()
    };
    let gitlab = GitLab::start(options).await.unwrap();
    let runners =
        vec![runner_with(&gitlab.add_runner(), "one", None), runner_with(&gitlab.add_runner(), "two", Some(10))];
    let mut hall = Hall::open_for(gitlab, runners, 24).await;
    hall.gitlab.go_wrong_at_random(count, PERMILLE);
    let ids: Vec<u64> = (0..count).map(|number| hall.gitlab.add_job(plan(number).job())).collect();
    let ended = |hall: &Hall| hall.gitlab.jobs().iter().filter(|job| job.state.is_final()).count() as u64;
    for restart in 1..3 {
        in_time("a third of the jobs", async || (ended(&hall) >= restart * count / 3).then_some(())).await;
        hall.restart().await;
    }
    in_time("all jobs", async || (ended(&hall) == count).then_some(())).await;
    hall.gitlab.clear_faults();
    let mut broken_off = 0;
    for (number, id) in ids.iter().enumerate() {
        let (job, plan, written) = (hall.gitlab.job(*id), plan(number as u64), hall.written(*id));
        assert_eq!(job.finals, 1, "job {id} has one final state");
        let remark = job.trace.windows(15).rposition(|window| window == b"\x1b[31;1mERROR: J");
        match remark {
            None => {
                assert!(job.trace == written, "job {id}: {} bytes in place of {}", job.trace.len(), written.len());
                let expected = if plan.exit_code == 0 { JobState::Success } else { JobState::Failed };
                assert_eq!((job.state, job.exit_code.unwrap_or(0)), (expected, plan.exit_code), "job {id}");
            }
            Some(at) => {
                let is_broken_off = job.text().contains("the service restarted");
                broken_off += u32::from(is_broken_off);
                // What a machine was about to write when it was broken off may not be in the log.
                let is_log = |log: &[u8]| if is_broken_off { written.starts_with(log) } else { written == log };
                let log = &job.trace[..at];
                let is_right = is_log(log) || log.strip_suffix(b"\n").is_some_and(is_log);
                assert!(is_right, "job {id}: {} bytes in place of {}", log.len(), written.len());
                assert_eq!(job.failure_reason.as_deref(), Some("runner_system_failure"), "job {id}");
            }
        }
    }
    println!("{count} jobs, {broken_off} of them broken off by restarts, {} requests", hall.gitlab.all_requests());
    hall.finish().await;
}
