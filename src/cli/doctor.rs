//! `dayfly doctor`: the findings as a person or a program reads them.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;

use super::{backends, say, usual_config};
use crate::doctor::{self, Finding, Options, Report, Status, Subject};
use crate::engine::Backend;
use crate::vm::firecracker::Programs;

/// Something keeps jobs from running.
const EXIT_PROBLEM: u8 = 1;

/// Headings, by the area of findings.
const HEADINGS: [(&str, &str); 16] = [
    ("host", "Host"),
    ("cgroups", "Host"),
    ("memory", "Memory"),
    ("capacity", "Limits"),
    ("clock", "Clock"),
    ("qemu", "QEMU"),
    ("kvm", "KVM"),
    ("firecracker", "Firecracker"),
    ("confinement", "Confinement"),
    ("state", "State"),
    ("disk", "State"),
    ("images", "Images"),
    ("profiles", "Snapshots"),
    ("config", "Configuration"),
    ("service", "Service"),
    ("forge", "Forge"),
];

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// The configuration whose host, images and forge are examined [default: /etc/dayfly/dayfly.toml, if it is there]
    #[arg(long, short)]
    config: Option<PathBuf>,
    /// Print JSON: findings with stable ids, and a verdict
    #[arg(long)]
    json: bool,
    /// Examine this directory for images and VMs instead of the configuration's
    #[arg(long, env = "DAYFLY_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// Examine this QEMU instead of the configuration's
    #[arg(long, env = "DAYFLY_QEMU")]
    qemu: Option<String>,
    /// Examine this Firecracker instead of the configuration's; its jailer is looked for beside it
    #[arg(long, env = "DAYFLY_FIRECRACKER")]
    firecracker: Option<PathBuf>,
    /// Examine for this backend instead of the configuration's
    #[arg(long, env = "DAYFLY_BACKEND", value_parser = backends())]
    backend: Option<Backend>,
    /// Directory with more image recipes, where there is no configuration; may be given several times
    #[arg(long, env = "DAYFLY_RECIPES", value_delimiter = ':')]
    recipes: Vec<PathBuf>,
}

pub(super) async fn run(arguments: DoctorArgs) -> anyhow::Result<u8> {
    let options = Options {
        config: arguments.config.or_else(usual_config),
        state_dir: arguments.state_dir,
        qemu: arguments.qemu,
        firecracker: arguments.firecracker.as_deref().map(Programs::beside),
        backend: arguments.backend,
        recipes: arguments.recipes,
    };
    let subject = tokio::task::spawn_blocking(move || Subject::new(options)).await?;
    let report = doctor::examine(subject).await;
    if arguments.json {
        say(serde_json::to_string_pretty(&report)?)?;
    } else {
        let is_colourful = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        say(shown(&report, if is_colourful { Style::Colours } else { Style::Words }))?;
    }
    Ok(if report.verdict == Status::Problem { EXIT_PROBLEM } else { 0 })
}

/// How a status is shown.
#[derive(Debug, Clone, Copy)]
enum Style {
    /// Signs in colours, for a terminal.
    Colours,
    /// Plain words, for files and pipes.
    Words,
}

impl Style {
    fn mark(self, status: Status) -> &'static str {
        match (self, status) {
            (Self::Colours, Status::Ok) => "\u{1b}[32m✓\u{1b}[0m",
            (Self::Colours, Status::Warning) => "\u{1b}[33m!\u{1b}[0m",
            (Self::Colours, Status::Problem) => "\u{1b}[31m✗\u{1b}[0m",
            (Self::Colours, Status::Skipped) => "\u{1b}[2m–\u{1b}[0m",
            (Self::Words, Status::Ok) => "ok      ",
            (Self::Words, Status::Warning) => "warning ",
            (Self::Words, Status::Problem) => "problem ",
            (Self::Words, Status::Skipped) => "skipped ",
        }
    }

    /// Blanks below a mark and the space after it.
    fn indent(self) -> &'static str {
        match self {
            Self::Colours => "    ",
            Self::Words => "           ",
        }
    }

    fn heading(self, text: &str) -> String {
        match self {
            Self::Colours => format!("\u{1b}[1m{text}\u{1b}[0m"),
            Self::Words => text.to_owned(),
        }
    }
}

/// The whole report, with its verdict as the last line.
fn shown(report: &Report, style: Style) -> String {
    let mut text = String::new();
    let mut headings: Vec<&str> = report.findings.iter().map(heading).collect();
    let mut seen = std::collections::HashSet::new();
    headings.retain(|heading| seen.insert(*heading));
    for heading in headings {
        writeln!(text, "{}", style.heading(heading)).expect(INFALLIBLE);
        for finding in report.findings.iter().filter(|finding| self::heading(finding) == heading) {
            show(&mut text, finding, style);
        }
        text.push('\n');
    }
    text + &verdict(report)
}

const INFALLIBLE: &str = "writing to a string does not fail";

fn heading(finding: &Finding) -> &'static str {
    let known = HEADINGS.iter().find(|(area, _)| *area == finding.area());
    known.map_or("Other", |(_, heading)| heading)
}

fn show(text: &mut String, finding: &Finding, style: Style) {
    writeln!(text, "  {} {}", style.mark(finding.status), finding.title).expect(INFALLIBLE);
    for line in finding.detail.iter().flat_map(|detail| detail.lines()) {
        writeln!(text, "{}{line}", style.indent()).expect(INFALLIBLE);
    }
    if let Some(hint) = &finding.hint {
        writeln!(text, "{}hint: {hint}", style.indent()).expect(INFALLIBLE);
    }
}

fn verdict(report: &Report) -> String {
    let counted = |status, one: &str, many: &str| match report.count(status) {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    };
    let (problems, warnings) =
        (counted(Status::Problem, "problem", "problems"), counted(Status::Warning, "warning", "warnings"));
    match report.verdict {
        Status::Problem if report.count(Status::Warning) == 0 => format!("Jobs cannot run here: {problems}"),
        Status::Problem => format!("Jobs cannot run here: {problems}, {warnings}"),
        Status::Warning => format!("Jobs can run here, with {warnings}"),
        Status::Ok | Status::Skipped => "Jobs can run here".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new(vec![
            Finding::ok("host.kernel", "Linux 6.1"),
            Finding::warning("kvm.boots", "a stock kernel does not boot").detail("it hangs\nfor ever").hint("wait"),
            Finding::skipped("images.base", "not looked at"),
            Finding::problem("host.user", "nobody"),
        ])
    }

    #[test]
    fn words_for_files_and_signs_for_terminals() {
        insta::assert_snapshot!(shown(&report(), Style::Words), @"
        Host
          ok       Linux 6.1
          problem  nobody

        KVM
          warning  a stock kernel does not boot
                   it hangs
                   for ever
                   hint: wait

        Images
          skipped  not looked at

        Jobs cannot run here: 1 problem, 1 warning
        ");
        let colourful = shown(&report(), Style::Colours);
        assert!(colourful.contains("  \u{1b}[31m✗\u{1b}[0m nobody\n"), "{colourful:?}");
    }

    #[test]
    fn the_last_line_says_whether_jobs_can_run() {
        let of = |findings: Vec<Finding>| verdict(&Report::new(findings));
        assert_eq!(of(Vec::new()), "Jobs can run here");
        assert_eq!(of(vec![Finding::warning("a.b", "")]), "Jobs can run here, with 1 warning");
        assert_eq!(of(vec![Finding::problem("a.b", "")]), "Jobs cannot run here: 1 problem");
    }
}
