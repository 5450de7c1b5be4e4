//! Puts into a guest what its tools need of this job: before its first step, and in every machine anew.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use super::toolkit::{self, CARGO_CONFIG, OWN_CERTIFICATES, TRUST_SCRIPT, ToolFile};
use crate::config::read_certificates;
use crate::net::registry::RegistryProxy;
use crate::protocol::message::{Exec, ExitStatus, Owner};
use crate::vm::VmError;
use crate::vm::guest::Guest;

/// How long the guest may take to trust certificates: it copies a file, on an emulated machine.
const TRUST_LIMIT: Duration = Duration::from_secs(60);

/// Where the certificates are meanwhile, in memory.
const CERTIFICATES: &str = "/run/dayfly/certificates.pem";

/// Bytes of the script's last words that are told.
const WORDS: usize = 500;

/// What a guest is given.
#[derive(Debug)]
pub(crate) struct Outfit<'a> {
    pub(crate) registries: &'a RegistryProxy,
    pub(crate) ca_bundle: Option<&'a Path>,
    /// Whether the machine may have been given something before, by a job that it is a clone of.
    pub(crate) is_of_clone: bool,
}

impl Outfit<'_> {
    /// Gives it to the guest. The inner error says in words what the guest does not have: the job may do without.
    pub(crate) async fn give(&self, guest: &Guest) -> Result<Result<(), String>, VmError> {
        let given = async {
            self.write_files(guest).await?;
            self.trust(guest).await
        };
        match given.await {
            Err(Trouble::Vm(VmError::Refused { detail, .. })) | Err(Trouble::Told(detail)) => Ok(Err(detail)),
            Err(Trouble::Vm(error)) => Err(error),
            Ok(()) => Ok(Ok(())),
        }
    }

    async fn write_files(&self, guest: &Guest) -> Result<(), Trouble> {
        let mut files = toolkit::files(self.registries.offers());
        // An earlier configuration replaced sources that are not replaced any more.
        let is_left = self.is_of_clone
            && !files.iter().any(|file| file.path == CARGO_CONFIG)
            && Self::has(guest, CARGO_CONFIG).await?;
        files.extend(is_left.then(|| ToolFile { path: CARGO_CONFIG, content: String::new() }));
        for ToolFile { path, content } in files {
            let directory = path.rsplit_once('/').map_or("/", |(directory, _)| directory);
            guest.make_directory(directory, Owner::ROOT).await?;
            guest.write_file(path, content.as_bytes(), 0o644, Owner::ROOT).await?;
        }
        Ok(())
    }

    /// Whether there is something in a file of the guest.
    async fn has(guest: &Guest, path: &str) -> Result<bool, VmError> {
        Ok(!guest.read_file(path, 1).await?.bytes.is_empty())
    }

    async fn trust(&self, guest: &Guest) -> Result<(), Trouble> {
        let certificates = match self.ca_bundle {
            Some(path) => read(path.to_owned()).await?,
            // What an earlier configuration trusted is not trusted any more.
            None if self.is_of_clone && Self::has(guest, OWN_CERTIFICATES).await? => String::new(),
            None => return Ok(()),
        };
        guest.write_file(CERTIFICATES, certificates.as_bytes(), 0o644, Owner::ROOT).await?;
        let running = guest
            .exec(Exec {
                argv: ["sh", "-e", "-c", TRUST_SCRIPT, "dayfly", CERTIFICATES].map(str::to_owned).to_vec(),
                env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
                directory: "/".to_owned(),
                owner: Owner::ROOT,
                stdin: false,
            })
            .await?;
        match timeout(TRUST_LIMIT, running.ended(WORDS)).await {
            Ok(ended) => match ended? {
                (ExitStatus::Code(0), _) => Ok(()),
                (_, words) => Err(told(&format!("the machine did not take them: {}", String::from_utf8_lossy(&words)))),
            },
            Err(_) => Err(told(&format!("the machine took longer than {} s", TRUST_LIMIT.as_secs()))),
        }
    }
}

async fn read(path: PathBuf) -> Result<String, Trouble> {
    let shown = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || read_certificates(&path)).await;
    let read = read.unwrap_or_else(|error| Err(format!("cannot be read: {error}")));
    read.map_err(|why| told(&format!("`{shown}` {why}")))
}

fn told(why: &str) -> Trouble {
    Trouble::Told(format!("the certificates of `ca_bundle` are not trusted: {}", why.trim_end()))
}

/// Why something was not given.
#[derive(Debug)]
enum Trouble {
    Vm(VmError),
    Told(String),
}

impl From<VmError> for Trouble {
    fn from(error: VmError) -> Self {
        Self::Vm(error)
    }
}
