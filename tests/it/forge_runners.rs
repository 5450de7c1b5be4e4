//! What the GitHub client asks about GitHub's own jobs and runners.
#![allow(clippy::unwrap_used)]

use dayfly::forge::github::{Auth, GitHub, GitHubSettings};
use dayfly::forge::{
    Forge as _, ForgeError, JobStage, NewRunner, RepoAccess, RepoName, RunnerAccess, RunnerApi as _, RunnerPlace,
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::local_forge::{APP_PRIVATE_KEY, Forge, NewWorkflowJob, Options};

const REPOSITORY: &str = "demo/hello";

fn client(forge: &Forge, auth: Auth) -> GitHub {
    let (api_url, url) = (forge.api_url().parse().unwrap(), forge.url().parse().unwrap());
    GitHub::new(GitHubSettings { api_url, url, auth }).unwrap()
}

fn both(forge: &Forge) -> [GitHub; 2] {
    let app = Auth::App { id: forge.app_id(), private_key: SecretString::from(APP_PRIVATE_KEY) };
    [client(forge, app), client(forge, Auth::Token(SecretString::from(forge.plain_token())))]
}

fn repo() -> RepoName {
    RepoName::parse(REPOSITORY).unwrap()
}

fn new_runner(name: &str) -> NewRunner {
    let labels = vec!["self-hosted".to_owned(), "gh".to_owned()];
    NewRunner { name: name.to_owned(), group: 1, labels, work_folder: "_work".to_owned() }
}

async fn forge(options: Options) -> Forge {
    let forge = Forge::start(options).await.unwrap();
    forge.create_repository(REPOSITORY).await.unwrap();
    forge
}

#[tokio::test]
async fn runners_are_registered_listed_and_removed_wherever_they_belong() {
    let forge = forge(Options::default()).await;
    let [app, token] = both(&forge);
    let access = |installation| RepoAccess { repo: repo(), installation };
    let (installed, found, plain) = (access(Some(forge.installation())), access(None), access(None));
    let repository = RunnerPlace::Repository(repo());
    let organization = RunnerPlace::Organization("demo".to_owned());
    let enterprise = RunnerPlace::Enterprise("acme".to_owned());
    let cases = [
        (&app, &installed, &repository),
        (&app, &found, &organization),
        (&token, &plain, &repository),
        (&token, &plain, &organization),
        (&token, &plain, &enterprise),
    ];
    for (github, access, place) in cases {
        let at = RunnerAccess { place: place.clone(), access: access.clone() };
        let minted = github.mint_runner(&at, &new_runner("one")).await.unwrap();
        assert!(minted.config.expose_secret().len() > 100);
        let taken = github.mint_runner(&at, &new_runner("one")).await.unwrap_err();
        assert!(matches!(taken, ForgeError::Permanent { .. }), "{taken}");
        let listed = github.runners(&at).await.unwrap();
        assert_eq!(listed.iter().map(|runner| (runner.id, runner.is_online)).collect::<Vec<_>>(), [(minted.id, false)]);
        assert_eq!(github.newest_runner(&at).await.unwrap(), Some([2, 999, 1]));
        github.remove_runner(&at, minted.id).await.unwrap();
        let gone = github.remove_runner(&at, minted.id).await.unwrap_err();
        assert!(matches!(gone, ForgeError::NotFound { .. }), "{gone}");
    }
    let at = RunnerAccess { place: enterprise, access: installed };
    let refused = app.mint_runner(&at, &new_runner("one")).await.unwrap_err();
    assert!(matches!(refused, ForgeError::Refused { .. }), "{refused}");
    assert!(app.runner_api().is_some());
}

#[tokio::test]
async fn an_app_without_the_permission_is_told_so() {
    let forge = forge(Options { lacks: &["administration"], ..Options::default() }).await;
    let [app, _] = both(&forge);
    let access = RepoAccess { repo: repo(), installation: Some(forge.installation()) };
    let at = RunnerAccess { place: RunnerPlace::Repository(repo()), access };
    let refused = app.mint_runner(&at, &new_runner("one")).await.unwrap_err();
    assert!(matches!(refused, ForgeError::Permanent { .. }), "{refused}");
}

#[tokio::test]
async fn jobs_are_told_as_they_are_now() {
    let forge = forge(Options::default()).await;
    let sha = "a1".repeat(20);
    let queue = |name, is_of_fork| {
        let labels = &["self-hosted", "gh"];
        let new =
            NewWorkflowJob { repository: REPOSITORY, name, labels, script: "", sha: &sha, is_of_fork, is_silent: true };
        forge.queue_workflow_job(&new)
    };
    let (own, theirs, done) = (queue("own", false), queue("theirs", true), queue("done", false));
    forge.steal_workflow_job(done);
    for github in both(&forge) {
        let access = RepoAccess { repo: repo(), installation: None };
        let mut waiting: Vec<u64> = github.unfinished_jobs(&access).await.unwrap().iter().map(|job| job.id).collect();
        waiting.sort_unstable();
        assert_eq!(waiting, [own, theirs]);
        let told = github.workflow_job(&access, done).await.unwrap();
        assert_eq!((told.stage, told.conclusion.as_deref()), (JobStage::Completed, Some("success")));
        assert_eq!((told.runner.as_deref(), told.labels.len()), (Some("someone-else"), 2));
        let run = github.workflow_job(&access, theirs).await.unwrap().run;
        assert!(github.is_of_fork(&access, run).await.unwrap());
        assert!(!github.is_of_fork(&access, told.run).await.unwrap());
        let none = github.workflow_job(&access, 1).await.unwrap_err();
        assert!(matches!(none, ForgeError::NotFound { .. }), "{none}");
    }
}

#[tokio::test]
async fn what_has_not_changed_costs_nothing() {
    let forge = forge(Options::default()).await;
    let sha = "a1".repeat(20);
    let new = NewWorkflowJob {
        repository: REPOSITORY,
        name: "own",
        labels: &["self-hosted"],
        script: "",
        sha: &sha,
        is_of_fork: false,
        is_silent: true,
    };
    forge.queue_workflow_job(&new);
    for github in both(&forge) {
        let access = RepoAccess { repo: repo(), installation: None };
        let ask = async || github.unfinished_jobs(&access).await.unwrap();
        let first = ask().await;
        let left = |github: &GitHub| github.budgets().iter().map(|(_, budget)| budget.remaining).min();
        let (before, unchanged) = (left(&github), forge.unchanged_answers());
        assert_eq!(ask().await, first);
        let lists = 2 + first.len() as u64;
        assert_eq!(
            (left(&github), forge.unchanged_answers()),
            (before, unchanged + lists),
            "of runs, and of each run's jobs"
        );
        forge.queue_workflow_job(&new);
        assert_eq!(ask().await.len(), first.len() + 1);
    }
}

#[test]
fn the_recipe_puts_the_runner_where_profiles_look_for_it() {
    let place = tempfile::tempdir().unwrap();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = |files: &std::path::Path| {
        let mut command = std::process::Command::new("sh");
        command.arg(root.join("runner-images/actions-runner/setup.sh")).env("DAYFLY_FILES", files);
        command.env("RUNNER_DIRECTORY", place.path().join("opt/runner")).env("RUNNER_OWNER", "");
        command.output().unwrap()
    };
    let files = place.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let lacking = run(&files);
    assert_eq!(lacking.status.code(), Some(1));
    insta::assert_snapshot!(String::from_utf8_lossy(&lacking.stderr), @"the recipe must name one archive of the runner in [[setup.files]]");
    let packed = std::process::Command::new("tar")
        .args(["-czf".as_ref(), files.join("actions-runner-linux-x64-2.999.0.tar.gz").as_os_str(), "-C".as_ref()])
        .arg(root.join("tests/it/support/actions-runner"))
        .arg(".")
        .status();
    assert!(packed.unwrap().success());
    let done = run(&files);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(place.path().join("opt/runner/run.sh").exists());
}
