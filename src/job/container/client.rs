//! Calls of Docker's client in the guest.

use std::collections::BTreeMap;

use super::variables::Handover;
use crate::job::steps::{Steps, Witness};
use crate::protocol::message::{Exec, ExitStatus, Output};
use crate::vm::VmError;

/// Bytes of an answer that count: what Docker knows of one container is a few kilobytes.
const ANSWER: usize = 1 << 20;

/// Bytes of complaints that are kept, and of what services wrote last.
const COMPLAINTS: usize = 64 << 10;

/// What a call came to.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) is_good: bool,
    pub(super) output: String,
    pub(super) complaints: String,
}

impl Answer {
    /// What it complained, as one line that says most: the last one.
    pub(super) fn complaint(&self) -> &str {
        let mut lines = self.complaints.lines().rev().map(str::trim);
        lines.find(|line| !line.is_empty()).unwrap_or("Docker does not say why")
    }
}

/// An end that is the job's own doing; why, in words.
pub(super) fn refused(detail: impl Into<String>) -> VmError {
    VmError::Refused { what: "start the job's containers", detail: detail.into() }
}

impl<W: Witness> Steps<'_, W> {
    /// Calls it to its end, or to the job's cancellation.
    pub(super) async fn docker(&mut self, argv: Vec<String>) -> Result<Answer, VmError> {
        self.docker_with(Handover { arguments: argv, env: BTreeMap::new() }, None).await
    }

    /// Likewise, with variables and perhaps an input.
    pub(super) async fn docker_with(&mut self, call: Handover, input: Option<&str>) -> Result<Answer, VmError> {
        let mut env = self.image_environment();
        env.extend(call.env);
        let exec = Exec {
            argv: call.arguments,
            env: env.into_iter().collect(),
            directory: "/".to_owned(),
            owner: self.owner(),
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

    /// Whether the image has Docker.
    pub(in crate::job) async fn has_docker(&mut self) -> Result<bool, VmError> {
        Ok(self.docker(["sh", "-c", "command -v docker"].map(str::to_owned).to_vec()).await?.is_good)
    }
}

/// Keeps the last bytes.
fn keep(kept: &mut Vec<u8>, bytes: &[u8], limit: usize) {
    kept.extend_from_slice(bytes);
    kept.drain(..kept.len().saturating_sub(limit));
}
