//! What the demo plays with: a forge with one repository, secrets, and the configuration that names them.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use dayfly::config::{Config, Profile};
use dayfly::host::lease::{LEASE_FILE, Lease};

use crate::forge::{APP_PRIVATE_KEY, Forge, Options, Webhook};
use crate::local_gitlab::GitLab;

pub(crate) const REPOSITORY: &str = "demo/hello";
/// The name of the job's status and check run.
pub(crate) const CONTEXT: &str = "dayfly/ci/test";

/// Everything that the demo makes; `config/demo.toml` names it too.
const DIRECTORY: &str = ".demo";
const CONFIGURATION: &str = include_str!("../../config/demo.toml");
/// What stands in [`CONFIGURATION`] for the addresses that are found when the demo starts.
const DAYFLY_ADDRESS: &str = "127.0.0.1:4780";
const FORGE_ADDRESS: &str = "127.0.0.1:4781";

/// What is added to it where a GitLab plays.
const GITLAB: &str = include_str!("gitlab.toml");
const GITLAB_ADDRESS: &str = "http://127.0.0.1:4782";

/// What an earlier demo leaves to the next: images, which take long to make, and VMs, which only the service may remove.
const KEPT_STATE: [&str; 5] = ["accelerator.json", "caches", "images", "vms", LEASE_FILE];

const WORKFLOW: &str = include_str!("repository/.dayfly/workflows/ci.yml");
const GREET: &str = include_str!("repository/greet.sh");
const TEST: &str = include_str!("repository/test.sh");

pub(crate) struct Scene {
    pub(crate) forge: Forge,
    pub(crate) config: Config,
    pub(crate) config_file: PathBuf,
    /// Where the service's own log goes.
    pub(crate) service_log: PathBuf,
}

impl Scene {
    /// A forge that listens, a repository with a workflow, and a configuration for a service with an empty database.
    /// It is a runner of `gitlab`, if there is one.
    pub(crate) async fn set(gitlab: Option<&GitLab>) -> anyhow::Result<Self> {
        let directory = std::path::absolute(DIRECTORY)?;
        let forge = Forge::start(Options::default()).await.context("starting the forge")?;
        forge.create_repository(REPOSITORY).await?;
        let files = [(".dayfly/workflows/ci.yml", WORKFLOW), ("greet.sh", GREET), ("test.sh", TEST)];
        forge.commit(REPOSITORY, "main", &files, "Greet the world").await?;

        let secret = webhook_secret();
        private_file(&directory.join("secrets/webhook-secret"), &secret)?;
        private_file(&directory.join("secrets/app.pem"), APP_PRIVATE_KEY)?;
        let listen = free_address()?;
        let forge_address = forge.url().replace("http://", "");
        let text = CONFIGURATION.replace(DAYFLY_ADDRESS, &listen).replace(FORGE_ADDRESS, &forge_address);
        // The copy is in the directory that the original names.
        let mut text = text.replace(&format!("../{DIRECTORY}/"), "");
        if let Some(gitlab) = gitlab {
            private_file(&directory.join("secrets/gitlab-runner"), &gitlab.add_runner())?;
            text.push_str(&GITLAB.replace(GITLAB_ADDRESS, &gitlab.url()));
        }
        let config_file = directory.join("dayfly.toml");
        fs::write(&config_file, text)?;
        let config = load(&config_file)?;
        empty_state(&config.server.state_dir)?;
        forge.set_webhook(Webhook { url: format!("http://{listen}/webhooks/github"), secret });
        Ok(Self { forge, config, config_file, service_log: directory.join("dayfly.log") })
    }

    /// The one kind of machine that there is.
    pub(crate) fn profile(&self) -> &Profile {
        &self.config.profiles[0]
    }

    /// The public address of the service, with `path` behind it.
    pub(crate) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.config.server.public_url)
    }

    /// Where the VMs have their directories.
    pub(crate) fn vms(&self) -> PathBuf {
        self.config.server.state_dir.join("vms")
    }
}

fn load(file: &Path) -> anyhow::Result<Config> {
    let (config, _warnings) = Config::load(file).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow!("the demo's configuration is wrong:\n{}", errors.join("\n"))
    })?;
    Ok(config)
}

fn webhook_secret() -> String {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).expect("the operating system has a random source");
    hex::encode(bytes)
}

/// A port that nobody has. Somebody else may take it before the service does; the service then says so.
fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Writes a file that only its owner may read.
fn private_file(path: &Path, content: &str) -> anyhow::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())?;
    Ok(())
}

/// Removes what an earlier demo's service remembered: its forge is gone.
fn empty_state(directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory)?;
    let Some(_lease) = Lease::try_take(directory)? else {
        bail!("another demo runs in `{}`\n  hint: wait for its end", directory.display());
    };
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if KEPT_STATE.iter().any(|kept| entry.file_name() == *kept) {
            continue;
        }
        let path = entry.path();
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).context(format!("removing `{}`", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}
