//! Brings a job's reports from its machine and reads them, once its steps have ended.
//!
//! The guest finds the files and sends them as one tar stream; the host takes only what fits the pattern that the operator
//! wrote, keeps it in memory within limits, covers what the job's log may not show either, and gives up after [`LIMIT`]. Whatever goes wrong is a note: a report changes no
//! job's end.

use std::time::Duration;

use tokio::time::timeout;

use super::steps::Places;
use crate::artifact::tar::{Decoder, Event};
use crate::config::reports::{MAX_REPOSITORY_FILE, read_repository_file, repository_path};
use crate::core::heavy;
use crate::document::Diagnostic;
use crate::image::catalog::ImageInfo;
use crate::protocol::message::{Exec, Output};
use crate::report::{self, MAX_FILES, MAX_REPORT, MAX_REPORTS, Results, Wanted};
use crate::vm::VmError;
use crate::vm::guest::Guest;
use crate::workflow::commands::Masks;

/// How long all reports of a job may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Sends the files below `$1` whose names fit `$2`, at most `$3` of them, in the order of their names.
const SCRIPT: &str = r#"
[ -d "$1" ] || exit 0
find "$1" -name .git -prune -o -type f -name "$2" -print0 2> /dev/null | LC_ALL=C sort -z | head -z -n "$3" |
  TAR_OPTIONS='--format=gnu --hard-dereference' tar -c -f - --no-recursion --null -T - 2> /dev/null
"#;

/// What all files say that the profile wants, or the repository of this workflow's file; without what `masks` cover.
pub(crate) async fn gather(
    guest: &Guest, image: &ImageInfo, places: &Places, wanted: &[Wanted], workflow_file: &str, masks: &Masks,
) -> Results {
    let mut masks = masks.clone();
    let mut results = Results::default();
    let all = async {
        let own = of_repository(guest, places, workflow_file).await.unwrap_or_else(|complaints| {
            complaints.iter().for_each(|complaint| results.note(complaint));
            Vec::new()
        });
        let mut taken = Taken { bytes: MAX_REPORTS, files: MAX_FILES };
        for wanted in wanted.iter().chain(&own) {
            match bring(guest, image, places, wanted, &mut taken).await {
                Ok(files) => heavy(|| read(wanted, &files, places, &mut masks, &mut results)),
                Err(why) => results.note(&format!("`{}` could not be brought: {why}", wanted.path.as_str())),
            }
        }
    };
    let is_late = timeout(LIMIT, all).await.is_err();
    if is_late {
        results.note(&format!("reports are missing: it took more than {} s to bring them", LIMIT.as_secs()));
    }
    results.settle();
    results
}

/// What the repository itself names, as it is in the machine; nothing where there is no such file.
async fn of_repository(guest: &Guest, places: &Places, workflow_file: &str) -> Result<Vec<Wanted>, Vec<String>> {
    let file = repository_path(workflow_file);
    let read = guest.read_file(&format!("{}/{file}", places.workspace), MAX_REPOSITORY_FILE).await;
    let bytes = match read {
        Ok(content) => content.bytes,
        Err(VmError::Refused { .. }) => Vec::new(),
        Err(error) => return Err(vec![format!("`{file}` could not be read: {error}")]),
    };
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let text = String::from_utf8(bytes).map_err(|_| vec![format!("`{file}` is not UTF-8")])?;
    let complaints = |found: Vec<Diagnostic>| found.iter().map(Diagnostic::to_string).collect();
    heavy(|| read_repository_file(&file, &text)).map_err(complaints)
}

fn read(wanted: &Wanted, files: &[File], places: &Places, masks: &mut Masks, results: &mut Results) {
    if files.is_empty() {
        results.note(&format!("no file is like `{}`", wanted.path.as_str()));
    }
    for File { name, content } in files {
        report::read(wanted.kind, &masks.cover_text(name), &masks.cover(content), &places.workspace, results);
    }
}

/// What may still come.
struct Taken {
    bytes: u64,
    files: u32,
}

/// A report as it came.
struct File {
    name: String,
    content: Vec<u8>,
}

async fn bring(
    guest: &Guest, image: &ImageInfo, places: &Places, wanted: &Wanted, taken: &mut Taken,
) -> Result<Vec<File>, String> {
    let most = MAX_FILES.to_string();
    let argv = ["sh", "-c", SCRIPT, "sh", &wanted.path.directory(), wanted.path.name(), &most];
    let command = Exec {
        argv: argv.map(str::to_owned).to_vec(),
        env: image.environment.clone(),
        directory: places.workspace.clone(),
        owner: image.user.owner(),
        stdin: false,
    };
    let vm = |error: VmError| error.to_string();
    let mut running = guest.exec(command).await.map_err(vm)?;
    let mut taker = Taker { wanted, taken, decoder: Decoder::default(), open: None, files: Vec::new() };
    loop {
        match running.next().await.map_err(vm)? {
            Output::Stdout(bytes) => taker.take(&bytes)?,
            Output::Stderr(_) => {}
            Output::Exited(_) => return Ok(taker.files),
        }
    }
}

struct Taker<'a> {
    wanted: &'a Wanted,
    taken: &'a mut Taken,
    decoder: Decoder,
    /// The file whose content comes; nothing while content is passed over.
    open: Option<File>,
    files: Vec<File>,
}

impl Taker<'_> {
    fn take(&mut self, mut input: &[u8]) -> Result<(), String> {
        while let Some(event) = self.decoder.next(&mut input).map_err(|error| error.to_string())? {
            match event {
                Event::File { path, size, .. } => self.begin(&path, size)?,
                Event::Content(bytes) => {
                    let left = self.taken.bytes.checked_sub(bytes.len() as u64);
                    self.taken.bytes = left.ok_or("the reports are too large")?;
                    if let Some(file) = &mut self.open {
                        file.content.extend_from_slice(bytes);
                    }
                }
                Event::End => self.files.extend(self.open.take()),
                Event::Directory { .. } | Event::Link { .. } | Event::Other { .. } => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self, path: &[u8], size: u64) -> Result<(), String> {
        if !self.wanted.path.takes(path) {
            return Ok(());
        }
        let name = String::from_utf8_lossy(path).trim_start_matches("./").to_owned();
        if size > MAX_REPORT {
            return Err(format!("`{name}` has more than {} MiB", MAX_REPORT >> 20));
        }
        self.taken.files = self.taken.files.checked_sub(1).ok_or("there are too many reports")?;
        self.open = Some(File { name, content: Vec::new() });
        Ok(())
    }
}
