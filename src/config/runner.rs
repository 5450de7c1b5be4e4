//! `executor` and `runner` of a profile: whether its machines run Dayfly's own workflows, or serve GitHub's jobs with GitHub's
//! own runner.

use std::collections::BTreeSet;
use std::time::Duration;

use super::units::duration_between;
use super::{Credential, GitHub, GitLab, Profile, RepositorySettings, select};
use crate::document::reader::quoted;
use crate::document::{Complaint, Item, Table};
use crate::forge::RunnerPlace;

/// What every job for runners of one's own asks for.
const SELF_HOSTED: &str = "self-hosted";

/// Labels that GitHub's runner has on such a machine without being told.
const BUILT_IN: [&str; 3] = [SELF_HOSTED, "Linux", "X64"];

/// What the labels of GitHub's own machines begin with, such as `ubuntu-latest`.
const HOSTED: [&str; 3] = ["ubuntu", "windows", "macos"];

/// Labels that GitHub takes for one runner, those included that it has without being told.
const MAX_LABELS: usize = 100;

/// Bytes of an enterprise's name in addresses.
const MAX_SLUG: usize = 100;

/// Bytes of a path in the guest.
const MAX_PATH: usize = 200;

/// Runners of one profile at a time.
const MOST_RUNNERS: u32 = 10_000;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const KEYS: &[&str] =
    &["path", "scope", "enterprise", "group", "work_folder", "max", "registration_timeout", "idle_timeout"];

/// Whose jobs the machines of a profile run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Executor {
    /// Those that Dayfly plans, and those of GitLab runners.
    #[default]
    Native,
    /// Those of GitHub's own workflows, with GitHub's runner.
    ActionsRunner(ActionsRunner),
}

/// `runner` of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionsRunner {
    /// The directory in the guest that has `run.sh`; without a slash at its end.
    pub path: String,
    pub scope: RunnerScope,
    /// The number of the group that its runners join; 1 is the one that everybody has.
    pub group: u64,
    /// Where the runner works: below its own directory, unless it is an absolute path.
    pub work_folder: String,
    /// Runners at a time; `None`: as many as there is room for.
    pub max: Option<u32>,
    /// How long a machine may take from its start until GitHub knows its runner.
    pub registration_timeout: Duration,
    /// How long a runner waits for a job that nobody wants any more.
    pub idle_timeout: Duration,
}

/// Where runners are registered, and so whose jobs they may get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunnerScope {
    /// Each with the repository whose job was waiting.
    Repository,
    /// With the organization of that repository.
    Organization,
    /// With this enterprise.
    Enterprise(String),
}

impl Executor {
    /// Whether its jobs are those that Dayfly plans.
    pub fn is_native(&self) -> bool {
        matches!(self, Self::Native)
    }

    /// The settings of GitHub's runner, if it is that.
    pub fn actions_runner(&self) -> Option<&ActionsRunner> {
        match self {
            Self::Native => None,
            Self::ActionsRunner(runner) => Some(runner),
        }
    }
}

impl ActionsRunner {
    /// Where a runner for a job of that repository is registered; `None` if the repository is in no organization, where one
    /// is needed.
    pub fn place(&self, repo: &crate::forge::RepoName, organization: Option<&str>) -> Option<RunnerPlace> {
        match &self.scope {
            RunnerScope::Repository => Some(RunnerPlace::Repository(repo.clone())),
            RunnerScope::Organization => organization.map(|name| RunnerPlace::Organization(name.to_owned())),
            RunnerScope::Enterprise(slug) => Some(RunnerPlace::Enterprise(slug.clone())),
        }
    }
}

impl Profile {
    /// The labels of its runners at GitHub.
    pub fn runner_labels(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let all = BUILT_IN.iter().map(|label| (*label).to_owned()).chain(self.labels.iter().cloned());
        all.filter(|label| seen.insert(label.to_lowercase())).collect()
    }
}

impl super::Config {
    /// Whether any profile has GitHub's runner.
    pub fn has_actions_runners(&self) -> bool {
        self.profiles.iter().any(|profile| !profile.executor.is_native())
    }

    /// The profile whose runners get a job with these labels: they have all of them, and GitHub has no machines of its own for
    /// it. Of several the narrowest one, then the first of the file, as for Dayfly's own jobs.
    pub fn select_runner_profile(&self, settings: &RepositorySettings<'_>, labels: &[String]) -> Option<&Profile> {
        let asks_for_own = labels.iter().any(|label| label.eq_ignore_ascii_case(SELF_HOSTED));
        if !asks_for_own && labels.iter().all(|label| is_hosted(label)) {
            return None;
        }
        let wanted = select::label_set(labels);
        let offers = |profile: &&Profile| select::label_set(&profile.runner_labels()).is_superset(&wanted);
        let usable = self.profiles.iter().filter(|profile| !profile.executor.is_native() && settings.allows(profile));
        usable.filter(offers).min_by_key(|profile| profile.runner_labels().len())
    }
}

/// Whether GitHub has machines of its own for a label.
fn is_hosted(label: &str) -> bool {
    let label = label.to_ascii_lowercase();
    HOSTED.iter().any(|system| label.strip_prefix(system).is_some_and(|rest| rest.starts_with('-')))
}

/// `executor`, and `runner` with it; `None` after a complaint.
pub(super) fn executor(profile: &Table<'_>) -> Option<Executor> {
    let is_runner = match profile.get("executor") {
        Some(item) => item.one_of(&[("native", false), ("actions-runner", true)])?,
        None => false,
    };
    let runner = profile.get("runner");
    if !is_runner {
        let Some(item) = runner else { return Some(Executor::Native) };
        let complaint = Complaint::new("is for profiles with GitHub's own runner");
        item.refuse(complaint.hint("add `executor = \"actions-runner\"`, or remove it"));
        return None;
    }
    for key in ["prepare", "matrix_fork", "reports"] {
        if let Some(item) = profile.get(key) {
            let complaint = Complaint::new("is for workflows that Dayfly runs, and GitHub's runner runs its own");
            item.refuse(complaint.hint("remove it, or `executor = \"actions-runner\"`"));
        }
    }
    refuse_too_many_labels(profile);
    let Some(item) = runner else {
        let complaint = Complaint::new("`runner` does not say where GitHub's runner is");
        profile.item().refuse(complaint.hint("like `runner = { path = \"/opt/actions-runner\" }`"));
        return None;
    };
    read(&item).map(Executor::ActionsRunner)
}

/// What only the whole file can tell: who may register runners, and who takes other jobs than these.
pub(super) fn refuse_what_cannot_work(
    root: &Table<'_>, profiles: &[Profile], github: Option<&GitHub>, gitlab: &[GitLab],
) {
    let fields = root.get("profile").and_then(|item| item.fields()).unwrap_or_default();
    let is_app = github.is_some_and(|github| matches!(github.credential, Credential::App { .. }));
    for profile in profiles {
        let Some(runner) = profile.executor.actions_runner() else { continue };
        let Some(field) = fields.iter().find(|field| field.key == profile.name) else { continue };
        if github.is_none() {
            let complaint = Complaint::new("GitHub's runner needs a GitHub");
            field.refuse_key(complaint.hint("add `[github]`, or leave `executor` out"));
        }
        if is_app && matches!(runner.scope, RunnerScope::Enterprise(_)) {
            let complaint = Complaint::new("a GitHub App cannot register runners of an enterprise");
            field.refuse_key(complaint.hint("use `token` in `[github]`, or `scope = \"organization\"`"));
        }
        if gitlab.iter().flat_map(|instance| &instance.runners).any(|runner| runner.profile == profile.name) {
            let complaint = Complaint::new("jobs of GitLab cannot run where GitHub's runner does");
            field.refuse_key(complaint.hint("give the `[[gitlab.runner]]` another profile"));
        }
    }
}

fn refuse_too_many_labels(profile: &Table<'_>) {
    let Some(item) = profile.get("labels") else { return };
    let most = MAX_LABELS - BUILT_IN.len();
    if item.list().is_some_and(|labels| labels.len() > most) {
        item.refuse(format!("more than {most} labels, which is all that GitHub takes for a runner"));
    }
}

fn read(item: &Item<'_>) -> Option<ActionsRunner> {
    let table = item.table(KEYS)?;
    let path = table.required_hint("path", "like `path = \"/opt/actions-runner\"`").and_then(|item| guest_path(&item));
    let scope = scope(&table);
    Some(ActionsRunner {
        group: table.read_or("group", 1, |item| item.integer_in(1..=u64::MAX)),
        work_folder: table.read_or("work_folder", "_work".into(), work_folder),
        max: table.read("max", |item| item.integer_in(1..=MOST_RUNNERS)),
        registration_timeout: table
            .read_or("registration_timeout", 2 * MINUTE, |item| duration_between(item, 10 * SECOND, HOUR)),
        idle_timeout: table.read_or("idle_timeout", 5 * MINUTE, |item| duration_between(item, SECOND, DAY)),
        path: path?,
        scope: scope?,
    })
}

fn scope(runner: &Table<'_>) -> Option<RunnerScope> {
    #[derive(Clone, Copy, PartialEq)]
    enum Word {
        Repository,
        Organization,
        Enterprise,
    }
    let words =
        [("repository", Word::Repository), ("organization", Word::Organization), ("enterprise", Word::Enterprise)];
    let word = match runner.get("scope") {
        Some(item) => item.one_of(&words)?,
        None => Word::Repository,
    };
    let slug = runner.get("enterprise");
    match (word, slug) {
        (Word::Repository, None) => Some(RunnerScope::Repository),
        (Word::Organization, None) => Some(RunnerScope::Organization),
        (Word::Enterprise, Some(item)) => item.parse(slug_of).map(RunnerScope::Enterprise),
        (Word::Enterprise, None) => {
            let complaint = Complaint::new("`enterprise` does not say which one");
            runner.item().refuse(complaint.hint("its name in GitHub's addresses, like `enterprise = \"acme\"`"));
            None
        }
        (Word::Repository | Word::Organization, Some(item)) => {
            let complaint = Complaint::new("is for runners of an enterprise");
            item.refuse(complaint.hint("add `scope = \"enterprise\"`, or remove it"));
            None
        }
    }
}

fn slug_of(text: &str) -> Result<String, Complaint> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !text.is_empty() && text.len() <= MAX_SLUG && text.bytes().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(format!("{} is not an enterprise's name in addresses", quoted(text)))
        .hint("letters, digits, `-` and `_`, as behind `/enterprises/`"))
}

/// An absolute path in the guest, in its one spelling.
fn guest_path(item: &Item<'_>) -> Option<String> {
    let text = item.non_empty_string()?;
    let trimmed = text.trim_end_matches('/');
    let is_plain = trimmed.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_plain_part));
    if is_plain && trimmed.len() <= MAX_PATH {
        return Some(trimmed.to_owned());
    }
    let complaint = Complaint::new(format!("{} is not an absolute path in the guest", quoted(text)));
    item.refuse(complaint.hint("like `/opt/actions-runner`, the directory that has `run.sh`"));
    None
}

fn work_folder(item: &Item<'_>) -> Option<String> {
    let text = item.non_empty_string()?;
    let trimmed = text.trim_end_matches('/');
    if trimmed.len() <= MAX_PATH && trimmed.strip_prefix('/').unwrap_or(trimmed).split('/').all(is_plain_part) {
        return Some(trimmed.to_owned());
    }
    item.refuse(format!("{} is not a directory in the guest", quoted(text)));
    None
}

fn is_plain_part(part: &str) -> bool {
    !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::config::Config;
    use crate::forge::RepoName;

    fn parse(profiles: &str) -> Result<Config, String> {
        let text = format!(
            "[server]\npublic_url = 'https://ci.example.org'\n\
             [github]\nwebhook_secret = {{ env = 'S' }}\ntoken = {{ env = 'T' }}\n{profiles}"
        );
        Config::parse("x.toml", &text)
            .map(|(config, _)| config)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    const RUNNER: &str = "executor = 'actions-runner'\nrunner = { path = '/opt/actions-runner/' }\n";

    #[test]
    fn labels_lead_to_runners_as_at_github() {
        let config = parse(&format!(
            "[profile.native]\nlabels = ['gpu']\n[profile.wide]\nlabels = ['gpu', 'Big']\n{RUNNER}\
             [profile.plain]\nlabels = ['ubuntu-latest', 'gpu']\n{RUNNER}"
        ))
        .unwrap();
        let settings = config.repository("github", &RepoName::parse("demo/hello").unwrap()).unwrap();
        let select = |labels: &[&str]| {
            let labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
            config.select_runner_profile(&settings, &labels).map(|profile| profile.name.clone())
        };
        let found = [
            select(&["self-hosted"]),
            select(&["Self-Hosted", "linux", "x64", "GPU", "big"]),
            select(&["self-hosted", "ubuntu-latest"]),
            select(&["ubuntu-latest"]),
            select(&["self-hosted", "windows"]),
            select(&[]),
            select(&["gpu"]),
            select(&["BIG", "linux"]),
            select(&["ubuntu-latest", "gpu"]),
            select(&["big", "tiny"]),
            select(&["Ubuntu-24.04"]),
        ];
        let words: Vec<&str> = found.iter().map(|name| name.as_deref().unwrap_or("-")).collect();
        assert_eq!(words, ["wide", "wide", "plain", "-", "-", "-", "wide", "wide", "plain", "-", "-"]);
        let native = config.select_profile(&["gpu".to_owned()]).unwrap();
        assert_eq!(native.name, "native", "runners take no jobs of Dayfly's own");
        let wide = config.profile("wide").unwrap();
        assert_eq!(wide.runner_labels(), ["self-hosted", "Linux", "X64", "gpu", "Big"]);
        assert_eq!(wide.executor.actions_runner().unwrap().path, "/opt/actions-runner");
    }

    #[test]
    fn every_mistake_is_told() {
        let mistakes = parse(
            "[profile.a]\nlabels = ['a']\nexecutor = 'actions-runner'\nmatrix_fork = 'auto'\n\
             [profile.b]\nlabels = ['b']\nrunner = { path = '/x' }\n\
             [profile.c]\nlabels = ['c']\nexecutor = 'actions-runner'\nrunner = { path = 'opt', scope = 'enterprise' }\n\
             [profile.d]\nlabels = ['d']\nexecutor = 'actions-runner'\nrunner = { path = '/x', enterprise = 'a/b', idle_timeout = '0s' }\n",
        )
        .unwrap_err();
        let expected = [
            "profile.a.matrix_fork: is for workflows that Dayfly runs, and GitHub's runner runs its own",
            "profile.a: `runner` does not say where GitHub's runner is",
            "profile.b.runner: is for profiles with GitHub's own runner",
            "profile.c.runner.path: `opt` is not an absolute path in the guest",
            "profile.c.runner: `enterprise` does not say which one",
            "profile.d.runner.enterprise: is for runners of an enterprise",
            "profile.d.runner.idle_timeout: ",
        ];
        for words in expected {
            assert!(mistakes.contains(words), "{words} is not in\n{mistakes}");
        }
        assert_eq!(mistakes.matches("x.toml:").count(), expected.len(), "{mistakes}");
    }
}
