//! Calls of Docker's client in the guest.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::argv;
use super::state::Inspected;
use super::variables::Handover;
use crate::job::steps::{Steps, Witness};
use crate::protocol::message::{Exec, ExitStatus, Output, Owner};
use crate::vm::VmError;
use crate::vm::guest::Guest;

/// Bytes of an answer that count: what Docker knows of one container is a few kilobytes.
const ANSWER: usize = 1 << 20;

/// Bytes of complaints that are kept, and of what services wrote last.
const COMPLAINTS: usize = 64 << 10;

/// What a call came to.
#[derive(Debug)]
pub(in crate::job) struct Answer {
    pub(in crate::job) is_good: bool,
    pub(in crate::job) output: String,
    pub(in crate::job) complaints: String,
}

impl Answer {
    /// What it complained, as one line that says most: the last one.
    pub(in crate::job) fn complaint(&self) -> &str {
        let mut lines = self.complaints.lines().rev().map(str::trim);
        lines.find(|line| !line.is_empty()).unwrap_or("Docker does not say why")
    }
}

/// An end that is the job's own doing; why, in words.
pub(in crate::job) fn refused(detail: impl Into<String>) -> VmError {
    VmError::Refused { what: "start the job's containers", detail: detail.into() }
}

/// Docker's client in a guest.
pub(in crate::job) struct Docker<'a> {
    pub(in crate::job) guest: &'a Guest,
    /// What the client has whatever it is called for.
    pub(in crate::job) env: BTreeMap<String, String>,
    pub(in crate::job) owner: Owner,
    /// Ends every call.
    pub(in crate::job) cancel: &'a CancellationToken,
}

impl Docker<'_> {
    /// Calls it to its end, or to the job's cancellation.
    pub(in crate::job) async fn call(&self, argv: Vec<String>) -> Result<Answer, VmError> {
        self.call_with(Handover { arguments: argv, env: BTreeMap::new() }, None).await
    }

    /// Likewise, with variables and perhaps an input.
    pub(in crate::job) async fn call_with(&self, call: Handover, input: Option<&str>) -> Result<Answer, VmError> {
        let mut env = self.env.clone();
        env.extend(call.env);
        let exec = Exec {
            argv: call.arguments,
            env: env.into_iter().collect(),
            directory: "/".to_owned(),
            owner: self.owner,
            stdin: input.is_some(),
        };
        let mut running = self.guest.exec(exec).await?;
        if let Some(input) = input {
            let writer = running.input();
            writer.write(input.as_bytes()).await?;
            writer.end();
        }
        let (mut output, mut complaints) = (Vec::new(), Vec::new());
        loop {
            let next = tokio::select! {
                next = running.next() => next?,
                () = self.cancel.cancelled() => return Err(refused("the job was ended before its containers were there")),
            };
            match next {
                Output::Stdout(bytes) => keep(&mut output, &bytes, ANSWER),
                Output::Stderr(bytes) => keep(&mut complaints, &bytes, COMPLAINTS),
                Output::Exited(exit) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    if let ExitStatus::NotStarted(why) = &exit.status {
                        complaints.extend_from_slice(why.as_bytes());
                    }
                    let is_good = exit.status == ExitStatus::Code(0);
                    return Ok(Answer { is_good, output: text(&output), complaints: text(&complaints) });
                }
            }
        }
    }

    /// Likewise; an error, which begins with `failing`, if it fails.
    pub(in crate::job) async fn must(&self, argv: Vec<String>, failing: &str) -> Result<String, VmError> {
        let answer = self.call(argv).await?;
        if answer.is_good { Ok(answer.output) } else { Err(refused(format!("{failing}: {}", answer.complaint()))) }
    }

    /// Whether the image has Docker.
    pub(in crate::job) async fn is_there(&self) -> Result<bool, VmError> {
        Ok(self.call(["sh", "-c", "command -v docker"].map(str::to_owned).to_vec()).await?.is_good)
    }

    /// What it knows of a container.
    pub(in crate::job) async fn inspect(&self, id: &str) -> Result<Inspected, VmError> {
        let text = self.must(argv::inspect(id), "Docker does not know a container that it has started").await?;
        Inspected::read(&text).ok_or_else(|| refused("what Docker says of a container does not read"))
    }

    /// Creates a container, which is not started; gives its id.
    pub(in crate::job) async fn create(&self, what: &str, creation: Handover) -> Result<String, VmError> {
        let created = self.call_with(creation, None).await?;
        let id = created.output.lines().last().unwrap_or_default().trim().to_owned();
        if !created.is_good || id.is_empty() || !id.chars().all(|letter| letter.is_ascii_hexdigit()) {
            return Err(refused(format!("the container of the {what} could not be made: {}", created.complaint())));
        }
        Ok(id)
    }
}

impl<W: Witness> Steps<'_, W> {
    fn client(&self) -> Docker<'_> {
        Docker { guest: self.guest, env: self.image_environment(), owner: self.owner(), cancel: &self.cancel }
    }

    /// Calls Docker's client to its end, or to the job's cancellation.
    pub(super) async fn docker(&mut self, argv: Vec<String>) -> Result<Answer, VmError> {
        self.client().call(argv).await
    }

    /// Likewise, with variables and perhaps an input.
    pub(super) async fn docker_with(&mut self, call: Handover, input: Option<&str>) -> Result<Answer, VmError> {
        self.client().call_with(call, input).await
    }

    /// Likewise; an error, which begins with `failing`, if it fails.
    pub(super) async fn docker_must(&mut self, argv: Vec<String>, failing: &str) -> Result<String, VmError> {
        self.client().must(argv, failing).await
    }

    pub(super) async fn inspect(&mut self, id: &str) -> Result<Inspected, VmError> {
        self.client().inspect(id).await
    }

    /// Creates and starts a container; gives its id.
    pub(super) async fn start_one(&mut self, what: &str, creation: Handover) -> Result<String, VmError> {
        let id = self.client().create(what, creation).await?;
        self.docker_must(argv::start(&id), &format!("the container of the {what} could not be started")).await?;
        Ok(id)
    }

    /// Whether the image has Docker.
    pub(in crate::job) async fn has_docker(&mut self) -> Result<bool, VmError> {
        self.client().is_there().await
    }
}

/// Keeps the last bytes.
fn keep(kept: &mut Vec<u8>, bytes: &[u8], limit: usize) {
    kept.extend_from_slice(bytes);
    kept.drain(..kept.len().saturating_sub(limit));
}
