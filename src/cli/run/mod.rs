//! `dayfly run`: a local repository's workflows in fresh VMs, without a forge.

mod artifacts;
mod events;
mod given;
mod list;
mod screen;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};

use self::events::Events;
use self::given::{DISPATCH, Given, GivenArgs};
use self::screen::{Screened, Screens};
use super::interrupts::Interrupts;
use super::machine::{EgressArgs, MachineArgs};
use super::printer::{Printer, To};
use super::progress::Terminal;
use super::terminal::Look;
use super::{EXIT_USAGE, EngineArgs, parse_duration};
use crate::actions::{ActionStore, Source};
use crate::app::engine_settings;
use crate::config::{Config, DEFAULT_KEPT, DepotLimits, Executor, MatrixFork, Profile, Secrets, format_duration};
use crate::core::heavy;
use crate::depot::Depot;
use crate::document::Diagnostic;
use crate::engine::{Engine, EngineSettings};
use crate::forge::Conclusion;
use crate::host::process::Lifetime;
use crate::ids::VmId;
use crate::intake::calls::{self, Gathered, Gathering};
use crate::intake::context::github_context;
use crate::intake::{MAX_FILES, complaint};
use crate::job::action::Actions;
use crate::local::LocalError;
use crate::local::choose::{self, Candidate, DIRECTORIES, Misuse};
use crate::local::event::{Facts, names};
use crate::local::job::Ended;
use crate::local::mirror::{Mirror, Which};
use crate::local::repository::Repository;
use crate::local::session::{self, Audience, Job, Profiles, Session};
use crate::net::egress::network::HostNetwork;
use crate::net::git_proxy::Directory;
use crate::net::registry::Registries;
use crate::report::pattern::Pattern;
use crate::report::{Kind, Wanted};
use crate::workflow::action::policy::ActionPolicy;
use crate::workflow::call::CallTarget;
use crate::workflow::inputs::{as_event, of_dispatch};
use crate::workflow::plan::{PlanInput, plan};
use crate::workflow::values::Values;
use crate::workflow::{MAX_FILE_BYTES, Workflow, parse};

/// The code when a job did not succeed.
const EXIT_FAILED: u8 = 1;

/// How long a job that is stopped may clean up, where no configuration says it.
const GRACE: Duration = Duration::from_secs(10);

/// The branch that pull requests go into where nobody knows better.
const USUAL_BRANCH: &str = "main";

#[derive(Debug, Args)]
#[command(after_help = "\
Runs the commit that HEAD names, not the files beside it; --dirty takes the files. Without WORKFLOW, everything in \
.dayfly/workflows (or, where that has none, .github/workflows) that the event starts.

Exit codes: 0 all jobs succeeded or were skipped, 1 a job did not, 64 there is nothing like that to run, 69 something that is \
needed is missing, 130 interrupted.

Examples:
  dayfly run                                 what a push would run
  dayfly run ci --event pull_request         one workflow
  dayfly run ci --job test --dirty           one job and what it needs, with uncommitted changes
  dayfly run deploy --input target=staging   what somebody starts by hand
  dayfly run --matrix node=22 --list         which jobs there would be")]
pub(super) struct RunArgs {
    /// A workflow's file, or its name without the ending
    workflow: Option<String>,
    /// The repository
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
    /// Only the job with this id, and those that it needs
    #[arg(long, short, value_name = "ID")]
    job: Option<String>,
    /// Run the files as they are, with uncommitted changes and without what is ignored
    #[arg(long)]
    dirty: bool,
    /// Jobs at a time [default: as many as there are processors, and memory for]
    #[arg(long, short = 'n', value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: Option<u16>,
    /// Print the jobs that would run, and run none
    #[arg(long, short, visible_alias = "dry-run")]
    list: bool,
    /// Print what happens as JSON, one object per line; with --list the jobs as an array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    given: GivenArgs,
    /// Take machines from this configuration: its profiles by their labels, its state directory and its `[vm]`
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["image", "vcpus", "memory", "disk", "timeout", "reports", "egress", "egress_allow", "egress_address", "ca_bundle"])]
    config: Option<PathBuf>,
    /// Read files of each job as a report, such as `junit=target/**/junit.xml`; KIND is junit, tap, sarif, cobertura or lcov
    #[arg(long = "report", value_name = "KIND=PATH", value_parser = parse_report)]
    reports: Vec<Wanted>,
    /// Bring the artifacts that jobs keep to directories of their names in DIR
    #[arg(long, value_name = "DIR")]
    artifact_dir: Option<PathBuf>,
    /// Take actions of other repositories from DIR/OWNER/NAME, and from nowhere else [default: from the forge]
    #[arg(long, value_name = "DIR")]
    actions: Option<PathBuf>,
    /// The longest that a job may take
    #[arg(long, default_value = "1h", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    egress: EgressArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

fn parse_report(text: &str) -> Result<Wanted, String> {
    let (kind, path) = text.split_once('=').ok_or("it must have the form KIND=PATH")?;
    let kind = Kind::parse(kind).ok_or_else(|| {
        format!("`{kind}` is none of {}", Kind::ALL.map(|kind| format!("`{}`", kind.as_str())).join(", "))
    })?;
    Ok(Wanted { kind, path: Pattern::parse(path)? })
}

/// Refuses options that say again what the configuration says. Variables of the environment may: they are for other commands too.
pub(super) fn refuse_two_engines(matches: &ArgMatches) -> Result<(), String> {
    let Some(matches) = matches.subcommand_matches("run") else { return Ok(()) };
    let is_given = |name: &&str| matches.value_source(name) == Some(ValueSource::CommandLine);
    if !is_given(&"config") {
        return Ok(());
    }
    match ["state_dir", "recipes", "backend", "qemu", "firecracker"].into_iter().find(is_given) {
        Some(name) => Err(format!("--{} cannot be used with --config, which says it", name.replace('_', "-"))),
        None => Ok(()),
    }
}

pub(super) async fn run(arguments: RunArgs) -> anyhow::Result<u8> {
    let given = match arguments.given.read() {
        Ok(given) => given,
        Err(misuse) => {
            eprintln!("error: {misuse}");
            return Ok(EXIT_USAGE);
        }
    };
    let interrupts = Interrupts::listen()?;
    let machines = match machines(&arguments)? {
        Ok(machines) => machines,
        Err(complaints) => {
            complaints.iter().for_each(|complaint| eprintln!("error: {complaint}"));
            return Ok(EXIT_USAGE);
        }
    };
    machines.engine.reap().await;
    // A home without a machine: locked, and removed by the next command if this one is killed.
    let mut place = machines.engine.home(VmId::random())?;
    let mirror = place.path().join("repository.git");
    let done = run_with(&arguments, given, &interrupts, machines, &mirror).await;
    let removed = place.remove().await.context("the copy of the repository could not be removed");
    let code = match done {
        Err(error) if is_misuse(&error) => {
            eprintln!("error: {error}");
            EXIT_USAGE
        }
        other => other?,
    };
    removed?;
    Ok(code)
}

/// Whether the arguments are what is wrong.
fn is_misuse(error: &anyhow::Error) -> bool {
    let is_elsewhere = |error: &LocalError| matches!(error, LocalError::NotARepository(_) | LocalError::NoCommit(_));
    error.is::<Misuse>() || error.downcast_ref().is_some_and(is_elsewhere)
}

/// What the jobs run on.
struct Machines {
    profiles: Profiles,
    engine: Engine,
    grace: Duration,
    registries: Registries,
    depot: Depot,
}

/// Those that the arguments ask for, or what is wrong with the configuration.
fn machines(arguments: &RunArgs) -> anyhow::Result<Result<Machines, Vec<Diagnostic>>> {
    let Some(file) = &arguments.config else {
        let MachineArgs { image, vcpus, memory, disk } = &arguments.machine;
        let profile = Profile {
            name: "local".to_owned(),
            labels: Vec::new(),
            image: image.clone(),
            vcpus: *vcpus,
            memory: memory << 20,
            disk: disk << 20,
            timeout: arguments.timeout,
            log_limit: 0,
            cache: None,
            matrix_fork: MatrixFork::Off,
            pool: None,
            prepare: None,
            egress: arguments.egress.policy(),
            executor: Executor::Native,
            reports: arguments.reports.clone(),
        };
        let profiles = Profiles::Any(Box::new(profile));
        let registries = Registries::default();
        let depot = local_depot(&arguments.engine.state_dir, DepotLimits::default());
        return Ok(Ok(Machines { profiles, engine: arguments.engine.engine()?, grace: GRACE, registries, depot }));
    };
    let config = match Config::load(file) {
        Ok((config, _)) => config,
        Err(complaints) => return Ok(Err(complaints)),
    };
    let settings = EngineSettings { lifetime: Lifetime::EndsWithUs, ..engine_settings(&config) };
    let grace = config.limits.grace;
    let registries = registries(&config)?;
    let depot = local_depot(&config.server.state_dir, config.depot);
    let profiles = Profiles::Configured(Box::new(config));
    Ok(Ok(Machines { profiles, engine: Engine::open(settings)?, grace, registries, depot }))
}

/// Apart from the service's: what a local run leaves is no job's of the forge, and none of it is run here.
fn local_depot(state_dir: &Path, limits: DepotLimits) -> Depot {
    let depot = Depot::new(state_dir.join("local-depot"), limits);
    depot.tidy(SystemTime::now());
    depot
}

/// Those of the configuration. Whoever may not read their credentials runs without them.
fn registries(config: &Config) -> anyhow::Result<Registries> {
    match Secrets::of_registries(config, |name| std::env::var(name).ok()) {
        Ok(credentials) => Ok(Registries::new(&config.registries, &credentials)?),
        Err(complaints) => {
            complaints.iter().for_each(|complaint| eprintln!("warning: {complaint}"));
            eprintln!("warning: the jobs run without package registries");
            Ok(Registries::default())
        }
    }
}

async fn run_with(
    arguments: &RunArgs, given: Given, interrupts: &Interrupts, machines: Machines, place: &Path,
) -> anyhow::Result<u8> {
    let Machines { profiles, engine, grace, registries, depot } = machines;
    let prepared = async {
        let repository = Repository::open(&arguments.repo).await?;
        let which = if arguments.dirty { Which::WorkTree } else { Which::Head };
        let mirror = Mirror::create(&repository, &which, place).await?;
        if mirror.differing > 0 && !arguments.dirty {
            let (files, run) = if mirror.differing == 1 { ("file differs", "it") } else { ("files differ", "them") };
            eprintln!("note: {} {files} from HEAD; --dirty runs {run}", mirror.differing);
        }
        let facts = facts(&repository, &mirror, &given);
        let source = Directory { mirror: mirror.directory.clone(), users: repository.git_directory().to_owned() };
        let values = given.values(profiles.values_of(&facts.repo, &facts.server_url));
        let actions = actions(arguments, &engine, &profiles, &facts)?;
        let jobs = jobs(arguments, &given, &mirror, &facts, &profiles, &values, &actions).await?;
        if arguments.list {
            return Ok((facts, source, jobs, values, actions));
        }
        let progress = Terminal::new();
        let prepared = session::prepare(&engine, &jobs, &progress).await;
        progress.done();
        prepared?;
        anyhow::Ok((facts, source, jobs, values, actions))
    };
    let Some(prepared) = interrupts.unless_first(&engine, prepared).await else { return Ok(interrupts.code()) };
    let (facts, source, jobs, values, actions) = prepared?;
    let look = Look::of_stdout();
    let printer = Printer::start()?;
    let output = Screened { printer, hurry: interrupts.token().clone() };
    if arguments.list {
        output.put(format!("{}\n", if arguments.json { list::json(&jobs)? } else { list::table(&jobs, look) })).await;
        return flush(&output, interrupts).await.map(|()| 0);
    }
    let (kept, runs) = (depot.clone(), session::runs_of(&jobs));
    let session = Session {
        actions,
        engine,
        source,
        repo: facts.repo,
        server_url: facts.server_url,
        parallel: arguments.parallel.map_or_else(session::usual_parallel, usize::from),
        profiles,
        values,
        cells: given.cells.clone(),
        grace,
        registries,
        depot,
        network: Arc::new(HostNetwork::default()),
    };
    let code = |ended: &[Ended]| if interrupts.came() { interrupts.code() } else { code(ended) };
    let ended = if arguments.json {
        let events = Events::new(output.clone());
        events.planned(&jobs);
        let ended = attend(session, jobs, &events, interrupts, &output).await;
        ended.inspect(|ended| events.finished(ended, code(ended)))
    } else {
        let screens = Screens::new(look, &jobs, output.clone());
        let ended = attend(session, jobs, &screens, interrupts, &output).await;
        if let Some(ended) = &ended {
            output.put(format!("{}\n", screen::summary(ended, look))).await;
        }
        ended
    };
    let Some(ended) = ended else { return Ok(interrupts.code()) };
    flush(&output, interrupts).await?;
    if let Some(directory) = &arguments.artifact_dir {
        // Blocking, but nothing else is left to do.
        artifacts::bring(&kept, &runs, directory)?.iter().for_each(|line| eprintln!("{line}"));
    }
    Ok(code(&ended))
}

/// Runs the jobs; nothing comes of it after a second interrupt, and their VMs end with this process.
async fn attend<A: Audience>(
    session: Session, jobs: Vec<Job>, audience: &A, interrupts: &Interrupts, output: &Screened,
) -> Option<Vec<Ended>> {
    let grace = session.grace;
    let note = async {
        interrupts.first().await;
        output.printer.print_now(To::Stderr, stopping(grace).into_bytes());
        std::future::pending().await
    };
    tokio::select! {
        ended = session::run(Arc::new(session), jobs, audience, interrupts.token()) => Some(ended),
        ended = note => ended,
        () = interrupts.second() => None,
    }
}

/// Waits until everything is printed. A reader that left is no failure.
async fn flush(output: &Screened, interrupts: &Interrupts) -> anyhow::Result<()> {
    match output.printer.flush_before(interrupts.first()).await {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Where actions come from, and which there may be. There is no credential here.
fn actions(arguments: &RunArgs, engine: &Engine, profiles: &Profiles, facts: &Facts) -> anyhow::Result<Actions> {
    let (policy, url, budget) = match profiles {
        Profiles::Configured(config) => {
            let actions = &config.actions;
            (actions.policy.clone(), actions.url.clone(), actions.max_size)
        }
        Profiles::Any(_) => (ActionPolicy::default(), None, DEFAULT_KEPT),
    };
    let source = match (&arguments.actions, url) {
        (Some(directory), _) => Source::Directory(std::path::absolute(directory)?),
        (None, Some(url)) => Source::Forge(url),
        (None, None) => Source::Forge(facts.server_url.parse().context("the address of the repository's forge")?),
    };
    Ok(Actions { store: Arc::new(ActionStore::new(engine.actions(), source, budget)), policy, private: None })
}

/// What is said at the first interrupt.
fn stopping(grace: Duration) -> String {
    let grace = format_duration(grace);
    format!("note: interrupted: the jobs have {grace} to clean up; interrupt again to end them at once\n")
}

fn code(ended: &[Ended]) -> u8 {
    let is_good = |ended: &Ended| matches!(ended.outcome.conclusion, Conclusion::Success | Conclusion::Skipped);
    if ended.iter().all(is_good) { 0 } else { EXIT_FAILED }
}

fn facts(repository: &Repository, mirror: &Mirror, given: &Given) -> Facts {
    let directory = repository.directory_name();
    let (repo, server_url) = names(repository.origin.as_deref(), &directory);
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    Facts {
        repo,
        server_url,
        sha: mirror.sha.clone(),
        branch: repository.branch.clone(),
        default_branch: repository.default_branch.clone().unwrap_or_else(|| USUAL_BRANCH.to_owned()),
        actor: user.map_or_else(|| "local".to_owned(), |user| user.name),
        given: given.payload.clone(),
    }
}

/// All jobs that shall run, of all workflows.
async fn jobs(
    arguments: &RunArgs, given: &Given, mirror: &Mirror, facts: &Facts, profiles: &Profiles, values: &Values,
    actions: &Actions,
) -> anyhow::Result<Vec<Job>> {
    let wanted = arguments.workflow.as_deref().map(|wanted| within(&arguments.repo, wanted));
    let candidates = candidates(mirror, wanted.as_deref()).await?;
    let mut choice = choose::choose(candidates, given.event.as_deref(), wanted.is_some(), facts)?;
    for note in &choice.notes {
        eprintln!("note: {note}");
    }
    let request = facts.request(&choice.event);
    let payload = facts.payload(&choice.event);
    let mut jobs = Vec::new();
    let mut misuse = None;
    for (path, workflow) in &mut choice.workflows {
        given.equip(workflow);
        let workflow = &*workflow;
        let name = workflow.display_name();
        let mut payload = payload.clone();
        if choice.event == DISPATCH {
            let github = serde_json::json!({ "event_name": DISPATCH }).into();
            let input =
                PlanInput { github, inputs: given.inputs().into(), vars: values.vars(), ..PlanInput::default() };
            let inputs = of_dispatch(workflow, &input).map_err(|complaint| choose::complaints(&[complaint]))?;
            payload["inputs"] = as_event(&inputs);
        }
        let (api, graphql) = (facts.api_url(), format!("{}/graphql", facts.api_url()));
        let github = github_context(&request, &payload, path, name, &facts.server_url, (&api, &graphql));
        let input = PlanInput {
            github: github.to_value(),
            inputs: given.inputs().into(),
            vars: values.vars(),
            is_of_fork: false,
        };
        let Gathered { root, called } = called_by(mirror, workflow, facts, actions).await?;
        let workflow = &*root;
        let planned = heavy(|| plan(workflow, &input)).map_err(|complaints| choose::complaints(&complaints))?;
        let narrowed = match &arguments.job {
            Some(id) => choose::narrow(planned, id),
            None => Ok(planned),
        };
        let planned = match narrowed.and_then(|planned| given.cells.narrow(planned)) {
            Ok(planned) => planned,
            // Another workflow may have it.
            Err(error) => {
                misuse.get_or_insert(error);
                continue;
            }
        };
        let called = called.into_iter().map(|(place, (workflow, _))| (place.to_string(), workflow)).collect();
        jobs.extend(Job::of_run(name, &github, planned, called, profiles));
    }
    match misuse.filter(|_| jobs.is_empty()) {
        Some(misuse) => Err(misuse.into()),
        None => Ok(jobs),
    }
}

/// A workflow, and those that it calls.
async fn called_by(mirror: &Mirror, root: &Workflow, facts: &Facts, actions: &Actions) -> anyhow::Result<Gathered> {
    let mut gathering = Gathering::of(&facts.repo);
    loop {
        let missing = match gathering.look(root) {
            calls::Look::Done(found) => return Ok(found.map_err(|complaints| choose::complaints(&complaints))?),
            calls::Look::Missing(missing) => missing,
        };
        for target in missing {
            match &target {
                CallTarget::Remote(wanted) => gathering.fetch(wanted, actions).await.map_err(anyhow::Error::msg)?,
                CallTarget::Local { path } => {
                    let read = called_file(mirror, path).await?;
                    gathering.add(target, read);
                }
            }
        }
    }
}

async fn called_file(mirror: &Mirror, path: &str) -> anyhow::Result<calls::Read> {
    let refuse = |message: &str| Ok(Err(vec![complaint(&format!("./{path}"), message.to_owned())]));
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    match mirror.list(directory).await?.into_iter().find(|(known, _)| known == path) {
        None => refuse("the commit has no such file"),
        Some((_, size)) if size > MAX_FILE_BYTES as u64 => refuse("the file is too large for a workflow"),
        Some(_) => Ok(calls::parsed(path, mirror.read(path).await?, mirror.sha.clone())),
    }
}

/// The workflow files of the commit that may be meant, read.
async fn candidates(mirror: &Mirror, wanted: Option<&str>) -> anyhow::Result<Vec<Candidate>> {
    let mut files = Vec::new();
    for directory in DIRECTORIES {
        let listed = mirror.list(directory).await?;
        files.extend(listed.into_iter().filter(|(path, _)| path.ends_with(".yml") || path.ends_with(".yaml")));
    }
    let paths: Vec<String> = files.iter().map(|(path, _)| path.clone()).collect();
    let mut candidates = Vec::new();
    for path in choose::meant(&paths, wanted)?.into_iter().take(MAX_FILES) {
        let size = files.iter().find(|(known, _)| *known == path).map_or(0, |(_, size)| *size);
        if size > MAX_FILE_BYTES as u64 {
            return Err(Misuse(format!("`{path}` has {size} bytes; a workflow has at most {MAX_FILE_BYTES}")).into());
        }
        let text =
            String::from_utf8(mirror.read(&path).await?).map_err(|_| Misuse(format!("`{path}` is not UTF-8")))?;
        let workflow = heavy(|| parse(&path, &text));
        candidates.push(Candidate { path, workflow });
    }
    Ok(candidates)
}

/// A path of this host as the path in the repository, if it is one; else as it was given.
fn within(repository: &Path, wanted: &str) -> String {
    let absolute = |path: &Path| std::path::absolute(path).and_then(|path| path.canonicalize()).ok();
    let relative = absolute(Path::new(wanted)).zip(absolute(repository)).and_then(|(file, repository)| {
        let top = repository.ancestors().find(|top| top.join(".git").exists())?;
        Some(file.strip_prefix(top).ok()?.to_string_lossy().into_owned())
    });
    relative.unwrap_or_else(|| wanted.trim_start_matches("./").to_owned())
}
