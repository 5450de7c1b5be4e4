//! What people see. Colours are for terminals, and for those who have not set `NO_COLOR`.

use std::io::IsTerminal;
use std::sync::Mutex;

use crate::control::Event;
use crate::forge::{CheckRun, PullRequest, Status};
use crate::local_gitlab::{Job, JobState};

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const CYAN: &str = "36";

/// Log lines of one pull request that are shown; the log page has all.
const SHOWN_LOG_LINES: usize = 12;
/// Characters of such a line.
const SHOWN_WIDTH: usize = 96;

#[derive(Debug)]
pub(crate) struct Screen {
    colours: bool,
    shown: Mutex<Shown>,
}

/// What the lines so far mean for the next one.
#[derive(Debug, Default)]
struct Shown {
    log_lines: usize,
    vm_requested: i64,
    step: Option<(u32, i64)>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colours, shown: Mutex::default() }
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn mark(&self, is_good: bool) -> String {
        if is_good { self.paint(GREEN, "✓") } else { self.paint(RED, "✗") }
    }

    /// A pull request begins.
    pub(crate) fn pull_request(&self, pull: &PullRequest) {
        *self.shown.lock().expect("showing does not panic") = Shown::default();
        let title = format!("#{} {}", pull.number, pull.title);
        println!(
            "\n{}  {}",
            self.paint(BOLD, &title),
            self.paint(DIM, &format!("{} at {}", pull.repository, &pull.sha[..12]))
        );
    }

    /// A GitLab has a job to give away.
    pub(crate) fn gitlab_job(&self, id: u64, name: &str) {
        *self.shown.lock().expect("showing does not panic") = Shown::default();
        println!("\n{}  {}", self.paint(BOLD, &format!("Job {id}: {name}")), self.paint(DIM, "waits in GitLab"));
    }

    /// What GitLab knows of its end.
    pub(crate) fn gitlab_end(&self, job: &Job) {
        let is_good = job.state == JobState::Success;
        let reason = job.failure_reason.as_deref().map(|reason| format!(", {reason}")).unwrap_or_default();
        let artifacts: Vec<&str> = job.artifacts.iter().map(|artifact| artifact.file_name.as_str()).collect();
        let kept = if artifacts.is_empty() { String::new() } else { format!(", keeps {}", artifacts.join(", ")) };
        let state = self.paint(BOLD, job.state.as_str());
        println!("{:>8}{} GitLab shows {state}{reason}{kept}", "", self.mark(is_good));
    }

    /// Something happened, so many microseconds after the webhook was sent.
    pub(crate) fn event(&self, after_us: i64, event: &Event) {
        let mut shown = self.shown.lock().expect("showing does not panic");
        let text = match (event.kind.as_str(), event.step()) {
            ("delivery_accepted", _) => "webhook verified and stored".to_owned(),
            ("vm_restored", _) => "VM restored from its snapshot".to_owned(),
            ("vm_requested", _) => {
                shown.vm_requested = after_us;
                return;
            }
            ("agent_answered", _) => {
                let took = seconds(after_us - shown.vm_requested);
                format!("agent in the VM answered, {} after the VM was asked for", took.trim_start())
            }
            ("step_started", Some((number, name))) => {
                shown.step = Some((number, after_us));
                self.paint(CYAN, &format!("step {number}: {name}"))
            }
            ("step_finished", Some((number, conclusion))) => {
                let began = shown.step.filter(|(running, _)| *running == number).map_or(after_us, |(_, began)| began);
                format!(
                    "{} {conclusion} in {}",
                    self.mark(conclusion == "success"),
                    seconds(after_us - began).trim_start()
                )
            }
            ("status_posted", _) => "status posted, while the VM is paused".to_owned(),
            ("vm_destroyed", _) => "VM destroyed, and verified to be absent".to_owned(),
            // Comparing looks at the others; people need not.
            _ => return,
        };
        println!("{}  {text}", self.paint(DIM, &seconds(after_us)));
    }

    /// A line of the job's log.
    pub(crate) fn log(&self, line: &str) {
        let mut shown = self.shown.lock().expect("showing does not panic");
        shown.log_lines += 1;
        if shown.log_lines <= SHOWN_LOG_LINES {
            let mut text: String = line.chars().take(SHOWN_WIDTH).collect();
            if text.len() < line.len() {
                text.push('…');
            }
            println!("{:>11}{}", "", self.paint(DIM, &format!("│ {text}")));
        }
    }

    /// What the forge has in the end.
    pub(crate) fn forge(&self, check: &CheckRun, status: &Status) {
        let conclusion = check.conclusion.as_deref().unwrap_or("none");
        let title = check.output["title"].as_str().unwrap_or_default();
        let is_good = conclusion == "success";
        println!(
            "{:>8}{} check run {}: {conclusion}, “{title}”",
            "",
            self.mark(is_good),
            self.paint(BOLD, &check.name)
        );
        let is_good = status.state == "success";
        let description = status.description.as_deref().unwrap_or_default();
        println!(
            "{:>8}{} status    {}: {}, “{description}”",
            "",
            self.mark(is_good),
            self.paint(BOLD, &status.context),
            status.state
        );
    }

    pub(crate) fn success(&self, text: &str) {
        println!("\n{} {text}", self.mark(true));
    }

    pub(crate) fn failure(&self, text: &str) {
        eprintln!("\n{} {text}", self.mark(false));
    }
}

fn seconds(us: i64) -> String {
    // The webhook's arrival is known in milliseconds only, so it may seem to come before its departure.
    format!("{:>7.3} s", us.max(0) as f64 / 1e6)
}
