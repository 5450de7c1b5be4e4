//! Takes what a guest sends and writes it, within a budget.

use std::io;

use super::name::{Refusal, Wanted};
use super::tar::{Decoder, Event, TarError};
use crate::config::format_size;
use crate::document::reader::quoted;
use crate::document::text::one_line;
use crate::host::beneath::{Beneath, Partial};
use crate::image::catalog::ImageInfo;
use crate::protocol::message::{Exec, Exit, ExitStatus, Output, Owner};
use crate::vm::VmError;
use crate::vm::guest::Guest;

/// Files and directories of one command's artifacts.
const MAX_ENTRIES: u32 = 100_000;

/// Notes about single entries that are kept; more are only counted.
const MAX_NOTES: usize = 10;

/// Bytes of the guest's complaints that are kept.
const MAX_STDERR: usize = 2048;

/// The code of [`SCRIPT`] when nothing matches.
const EXIT_NOTHING: i32 = 3;

/// The code of `tar` when the archive is whole, but something in it may not be: a file changed while it was read, say.
const EXIT_CHANGED: i32 = 1;

/// Characters of `tar`'s complaints in a note.
const MAX_COMPLAINT: usize = 300;

/// Sends what matches the pattern in `$1`, relative to the working directory. Without separators of words, only the pattern
/// is expanded. What else `tar` understands is set by its environment, so that a smaller one does as well.
const SCRIPT: &str = r#"
IFS=
set -- $1
[ -e "$1" ] || [ -L "$1" ] || exit 3
export TAR_OPTIONS='--format=gnu --hard-dereference'
exec tar -c -f - -- "$@"
"#;

/// What may still come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    limit: u64,
    bytes: u64,
    entries: u32,
}

impl Budget {
    /// At most `limit` bytes of content.
    pub fn new(limit: u64) -> Self {
        Self { limit, bytes: limit, entries: MAX_ENTRIES }
    }
}

/// What came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    pub files: u64,
    pub bytes: u64,
    /// What was not taken, and why; for people.
    pub notes: Vec<String>,
    /// Entries that were not taken and do not stand in `notes`.
    pub left_out: u64,
}

/// Why an artifact could not be brought back, or not whole.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    #[error("there is nothing like it")]
    Missing,
    #[error("the artifacts have more than {}\n  hint: --artifact-limit allows more", format_size(*.0))]
    TooLarge(u64),
    #[error("the artifacts have more than {MAX_ENTRIES} files and directories")]
    TooMany,
    #[error("{0}")]
    Stream(#[from] TarError),
    #[error("the guest could not send all of it: {0}")]
    Guest(String),
    #[error("{path} cannot be written here: {source}")]
    Host { path: String, source: io::Error },
    #[error(transparent)]
    Vm(#[from] VmError),
}

/// Who asks in the guest, and where.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    pub image: &'a ImageInfo,
    pub owner: Owner,
    /// Relative paths begin here.
    pub directory: &'a str,
}

/// Brings back what was wanted. What came before an error stays.
pub async fn receive(
    guest: &Guest, asker: Asker<'_>, wanted: &Wanted, into: &Beneath, budget: &mut Budget,
) -> Result<Received, ReceiveError> {
    let command = Exec {
        argv: ["sh", "-c", SCRIPT, "sh", &wanted.pattern()].map(str::to_owned).to_vec(),
        env: asker.image.environment.clone(),
        directory: wanted.directory(asker.directory).to_owned(),
        owner: asker.owner,
        stdin: false,
    };
    let mut running = guest.exec(command).await?;
    let mut taker =
        Taker { wanted, into, budget, decoder: Decoder::default(), file: None, received: Received::default() };
    let mut stderr = Vec::new();
    loop {
        match running.next().await? {
            Output::Stdout(bytes) => taker.take(&bytes)?,
            Output::Stderr(bytes) => {
                let room = MAX_STDERR.saturating_sub(stderr.len()).min(bytes.len());
                stderr.extend_from_slice(&bytes[..room]);
            }
            Output::Exited(exit) => return taker.finish(&exit, &stderr),
        }
    }
}

struct Taker<'a> {
    wanted: &'a Wanted,
    into: &'a Beneath,
    budget: &'a mut Budget,
    decoder: Decoder,
    /// The file whose content comes, and its name; nothing while content is passed over.
    file: Option<(Partial, String)>,
    received: Received,
}

impl Taker<'_> {
    fn take(&mut self, mut input: &[u8]) -> Result<(), ReceiveError> {
        while let Some(event) = self.decoder.next(&mut input)? {
            match event {
                Event::File { path, size, attributes } => {
                    self.count_entry()?;
                    if size > self.budget.bytes {
                        return Err(ReceiveError::TooLarge(self.budget.limit));
                    }
                    if let Some(parts) = self.admit(&path) {
                        let name = parts.join("/");
                        let file = self.into.file(&parts, attributes.is_executable()).map_err(host(&name))?;
                        self.file = Some((file, name));
                    }
                }
                Event::Content(bytes) => {
                    self.budget.bytes = self
                        .budget
                        .bytes
                        .checked_sub(bytes.len() as u64)
                        .ok_or(ReceiveError::TooLarge(self.budget.limit))?;
                    if let Some((file, name)) = &mut self.file {
                        file.write_all(bytes).map_err(host(name))?;
                        self.received.bytes += bytes.len() as u64;
                    }
                }
                Event::End => {
                    if let Some((file, name)) = self.file.take() {
                        file.finish().map_err(host(&name))?;
                        self.received.files += 1;
                    }
                }
                Event::Directory { path } => {
                    self.count_entry()?;
                    if let Some(parts) = self.admit(&path) {
                        self.into.directory(&parts).map_err(host(&parts.join("/")))?;
                    }
                }
                Event::Link { path, .. } => {
                    self.count_entry()?;
                    self.note(&path, "a link");
                }
                Event::Other { path, kind } => {
                    self.count_entry()?;
                    self.note(&path, kind);
                }
            }
        }
        Ok(())
    }

    fn count_entry(&mut self) -> Result<(), ReceiveError> {
        self.budget.entries = self.budget.entries.checked_sub(1).ok_or(ReceiveError::TooMany)?;
        Ok(())
    }

    fn admit<'p>(&mut self, path: &'p [u8]) -> Option<Vec<&'p str>> {
        match self.wanted.admit(path) {
            Ok(parts) => return Some(parts),
            Err(Refusal::Unasked) => self.note(path, "not what was asked for"),
            Err(Refusal::Unsafe) => self.note(path, "no name to be used here"),
        }
        None
    }

    fn note(&mut self, path: &[u8], why: &str) {
        if self.received.notes.len() < MAX_NOTES {
            self.received.notes.push(format!("{} was left out: it is {why}", quoted(&String::from_utf8_lossy(path))));
        } else {
            self.received.left_out += 1;
        }
    }

    fn finish(mut self, exit: &Exit, stderr: &[u8]) -> Result<Received, ReceiveError> {
        let said = crate::log::plain(stderr);
        match &exit.status {
            ExitStatus::Code(EXIT_NOTHING) if self.received == Received::default() => Err(ReceiveError::Missing),
            ExitStatus::Code(code @ (0 | EXIT_CHANGED)) if self.decoder.is_complete() => {
                if *code == EXIT_CHANGED {
                    let complaint = one_line(said.trim(), MAX_COMPLAINT);
                    self.received.notes.push(format!("it may not be whole; the guest's tar said: {complaint}"));
                }
                Ok(self.received)
            }
            ExitStatus::Code(0 | EXIT_CHANGED) => Err(ReceiveError::Guest("its archive was cut off".to_owned())),
            ExitStatus::Code(_) | ExitStatus::Signal(_) => Err(ReceiveError::Guest(said.trim().to_owned())),
            ExitStatus::NotStarted(why) => Err(ReceiveError::Guest(why.clone())),
        }
    }
}

fn host(path: &str) -> impl FnOnce(io::Error) -> ReceiveError + use<> {
    let path = quoted(path);
    move |source| ReceiveError::Host { path, source }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_tar_complains_about_is_told_where_the_archive_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let (wanted, into) = (Wanted::parse("dist").unwrap(), Beneath::open(directory.path()).unwrap());
        let finish = |code, stderr: &[u8]| {
            let budget = &mut Budget::new(1);
            let mut taker = Taker {
                wanted: &wanted,
                into: &into,
                budget,
                decoder: Decoder::default(),
                file: None,
                received: Received::default(),
            };
            taker.take(&[0; 1024]).unwrap();
            taker.finish(&Exit { status: ExitStatus::Code(code), oom_kills: 0, is_disk_full: false }, stderr)
        };
        let changed = finish(1, b"tar: dist/log: file changed\nas we read it\x1b[2J\n").unwrap();
        let [note] = changed.notes.as_slice() else { panic!("{:?}", changed.notes) };
        assert!(note.contains("dist/log: file changed") && note.ends_with("as we read it"), "{note:?}");
        assert_eq!(finish(0, b"tar: fine\n").unwrap().notes, Vec::<String>::new());
        assert!(matches!(finish(2, b"tar: broken\n"), Err(ReceiveError::Guest(why)) if why == "tar: broken"));
    }
}
