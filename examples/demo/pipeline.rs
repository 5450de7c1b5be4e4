//! The play with a GitLab: a job that passes and leaves an artifact, one that fails.

use std::time::Duration;

use dayfly::log::plain;
use serde_json::{Value, json};

use crate::local_gitlab::{GitLab, Job, JobState};
use crate::play::no_vm_is_left;
use crate::scene::Scene;
use crate::screen::Screen;
use crate::verdict::Verdict;

/// For one job, on a machine of any speed.
const JOB_LIMIT: Duration = Duration::from_secs(5 * 60);
/// For the last of a VM to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(30);

/// A job, and what should come of it.
struct Scenario {
    name: &'static str,
    script: &'static [&'static str],
    state: JobState,
    exit_code: Option<i64>,
    /// Lines that the trace has.
    says: &'static [&'static str],
    artifacts: usize,
}

const SCENARIOS: [Scenario; 2] = [
    Scenario {
        name: "build",
        script: &["echo \"Job $CI_JOB_ID on $(uname -s)\"", "echo \"Good day!\" > greeting.txt", "wc -c greeting.txt"],
        state: JobState::Success,
        exit_code: None,
        says: &["on Linux", "10 greeting.txt", "Job succeeded"],
        artifacts: 1,
    },
    Scenario {
        name: "test",
        script: &["echo \"about to fail\"", "(exit 3)"],
        state: JobState::Failed,
        exit_code: Some(3),
        says: &["about to fail"],
        artifacts: 0,
    },
];

impl Scenario {
    /// As GitLab gives it away.
    fn description(&self) -> Value {
        json!({
            "job_info": {"name": self.name},
            "more_variables": [{"key": "GIT_STRATEGY", "value": "none", "public": true}],
            "steps": [{"name": "script", "script": self.script, "timeout": 3600, "when": "on_success", "allow_failure": false}],
            "artifacts": [{"name": "greeting", "paths": ["greeting.txt"], "when": "on_success", "artifact_type": "archive",
                "artifact_format": "zip", "untracked": false, "expire_in": "1 day"}],
        })
    }
}

/// Plays everything and compares as it goes.
pub(crate) async fn all(gitlab: &GitLab, scene: &Scene, screen: &Screen, verdict: &mut Verdict) -> anyhow::Result<()> {
    for scenario in &SCENARIOS {
        let id = gitlab.add_job(scenario.description());
        screen.gitlab_job(id, scenario.name);
        let job = follow(gitlab, id, screen).await?;
        screen.gitlab_end(&job);
        compare(&job, scenario, verdict);
        gone(scene).await?;
        no_vm_is_left(scene, verdict)?;
    }
    let violations = gitlab.violations();
    verdict.expect(violations.is_empty(), || format!("GitLab complains: {}", violations.join("; ")));
    Ok(())
}

/// Shows the trace as GitLab gets it, until the job has ended there.
async fn follow(gitlab: &GitLab, id: u64, screen: &Screen) -> anyhow::Result<Job> {
    let mut shown = 0;
    loop {
        let has_news = |job: &Job| job.state.is_final() || plain(&job.trace).lines().count() > shown;
        let job = gitlab.wait_for_job(id, has_news, JOB_LIMIT).await.map_err(anyhow::Error::msg)?;
        let text = plain(&job.trace);
        let whole = if job.state.is_final() { text.lines().count() } else { text.matches('\n').count() };
        text.lines().take(whole).skip(shown).for_each(|line| screen.log(line));
        shown = shown.max(text.lines().count());
        if job.state.is_final() {
            return Ok(job);
        }
    }
}

fn compare(job: &Job, scenario: &Scenario, verdict: &mut Verdict) {
    let Scenario { name, state, exit_code, says, artifacts, .. } = scenario;
    verdict.expect(job.state == *state, || format!("`{name}` is {:?}, but should be {state:?}", job.state));
    verdict.expect(job.exit_code.filter(|code| *code != 0) == *exit_code, || {
        format!("`{name}` ended with the code {:?}, but should with {exit_code:?}", job.exit_code)
    });
    verdict.expect(job.finals == 1, || format!("`{name}` has {} final states", job.finals));
    verdict.expect(job.artifacts.len() == *artifacts, || {
        format!("`{name}` left {} artifacts, but should {artifacts}", job.artifacts.len())
    });
    let text = plain(&job.trace);
    for line in *says {
        verdict.expect(text.contains(line), || format!("the trace of `{name}` has no `{line}`:\n{text}"));
    }
}

/// Waits until no VM has a directory any more: GitLab knows the end of a job before that.
async fn gone(scene: &Scene) -> anyhow::Result<()> {
    let begun = tokio::time::Instant::now();
    while std::fs::read_dir(scene.vms())?.count() > 0 && begun.elapsed() < GONE_LIMIT {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
