//! Artifacts of a job to GitLab, and those of earlier jobs into the machine. Archives are made and read by the host.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::Path;

use flate2::GzBuilder;
use secrecy::SecretString;

use super::Runner;
use super::files::{self, SEND, name_inside};
use crate::clock;
use crate::config::rough_size;
use crate::core::heavy;
use crate::depot::unpack::{LIMITS, parts};
use crate::depot::zip::{Reader, Writer};
use crate::gitlab::client::{ArtifactParams, Fetched};
use crate::gitlab::job::artifacts::{Choice, Form, file_name, is_due};
use crate::gitlab::wire::{Artifact, Dependency, When};
use crate::job::native::guest::Trouble;
use crate::job::native::incoming::{self, Incoming, Next};
use crate::job::native::outgoing::{self, Archive};

/// Unpacks into the directory `$1`.
const TAKE: &str = r#"mkdir -p -- "$1" && cd -- "$1" && exec tar -xf -"#;

/// The longest target of a link, as the kernel's `PATH_MAX`.
const MAX_TARGET: u64 = 4096;

impl Runner<'_, '_> {
    /// Those of the job's artifacts that are due.
    pub(super) fn due_artifacts(&self, succeeded: bool) -> Vec<Artifact> {
        let all = self.plan.job.artifacts.iter().flatten();
        let is_due = |artifact: &&Artifact| is_due(word(artifact.when), succeeded);
        all.filter(|artifact| is_due(artifact) && (artifact.untracked || !artifact.paths.is_empty())).cloned().collect()
    }

    /// Sends one artifact to GitLab. The error says why the job fails for it.
    pub(super) async fn upload(&mut self, artifact: &Artifact) -> Result<(), Trouble> {
        let form = Form::parse(&artifact.format).map_err(Trouble::Said)?;
        let kind = if artifact.kind.is_empty() { "archive" } else { &artifact.kind };
        let (choice, complaints) =
            Choice::new(&artifact.paths, &artifact.exclude, artifact.untracked, &self.variables, &self.plan.directory);
        self.trace.say("Uploading artifacts...").await;
        for complaint in complaints {
            self.trace.warn(&complaint).await;
        }
        let found = files::find(&self.hands, &choice).await?;
        for line in found.said {
            self.trace.say(&line).await;
        }
        for line in found.missed {
            self.trace.warn(&line).await;
        }
        if found.kept.is_empty() {
            self.trace.error("No files to upload").await;
            return Ok(());
        }
        let name = file_name(&artifact.name, form, &self.variables);
        let desk = heavy(|| self.core().depot.desk()).map_err(Trouble::said)?;
        let place = desk.path().join("artifact");
        let (limit, level) = (self.core().depot.limits().artifact_size, self.plan.settings.compression);
        let (list, into) = (files::list(&found.kept), place.clone());
        let pack = move |incoming: &mut Incoming| pack(incoming, &into, form, level, limit);
        let packed = incoming::receive(&self.hands, SEND, &[], list, pack).await?;
        if packed.left_out > 0 {
            let text = format!(
                "{} files are left out: they are no regular files, or their names are of no use",
                packed.left_out
            );
            self.trace.warn(&text).await;
        }
        let params = ArtifactParams {
            name: name.clone(),
            format: form.word(),
            kind: kind.to_owned(),
            expire_in: artifact.expire_in.clone().filter(|time| !time.is_empty()),
            access: artifact.access.clone(),
        };
        let client = self.client()?;
        let token = SecretString::from(self.plan.job.token.expose());
        client.upload_artifact(self.plan.job.id, &token, &params, &place).await.map_err(Trouble::said)?;
        let text = format!("Uploaded {name} ({}) as `{kind}`", rough_size(packed.size));
        self.trace.say(&text).await;
        Ok(())
    }

    /// The earlier jobs whose artifacts this one gets.
    pub(super) fn dependencies(&self) -> Vec<Dependency> {
        let has_files = |one: &&Dependency| one.artifacts_file.as_ref().is_some_and(|file| !file.filename.is_empty());
        self.plan.job.dependencies.iter().flatten().filter(has_files).cloned().collect()
    }

    /// Brings the artifacts of an earlier job. The error says why the job fails for it.
    pub(super) async fn download(&mut self, dependency: &Dependency) -> Result<(), Trouble> {
        let id = dependency.id;
        self.trace.say(&format!("Downloading artifacts for {} ({id})...", dependency.name)).await;
        let desk = heavy(|| self.core().depot.desk()).map_err(Trouble::said)?;
        let place = desk.path().join("artifact");
        let limit = self.core().depot.limits().artifact_size;
        let token = SecretString::from(dependency.token.expose());
        let client = self.client()?;
        match client.download_artifact(id, &token, &place, limit).await.map_err(Trouble::said)? {
            Fetched::Zip => {}
            Fetched::Absent => return Err(Trouble::Said(format!("the artifacts of job {id} are gone, or expired"))),
        }
        let archive = heavy(|| File::open(&place)).map_err(Trouble::said)?;
        let directory = self.plan.directory.clone();
        outgoing::send(&self.hands, TAKE, &[&directory], move |out| unpack(archive, out)).await
    }
}

fn word(when: When) -> &'static str {
    match when {
        When::OnSuccess => "on_success",
        When::OnFailure => "on_failure",
        When::Always => "always",
    }
}

/// What became of a machine's files.
struct Packed {
    /// Bytes.
    size: u64,
    left_out: u64,
}

/// A file that may have so many bytes.
struct Bounded {
    file: File,
    limit: u64,
    size: u64,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size.saturating_add(bytes.len() as u64) > self.limit {
            return Err(io::Error::other("it is larger than this runner allows (`depot.artifact_size`)"));
        }
        let written = self.file.write(bytes)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn pack(incoming: &mut Incoming, into: &Path, form: Form, level: u32, limit: u64) -> io::Result<Packed> {
    let mut out = Bounded { file: File::create_new(into)?, limit, size: 0 };
    let left_out = match form {
        Form::Zip => pack_zip(incoming, &mut out, level)?,
        Form::Gzip => pack_each(incoming, &mut out)?,
        Form::Raw => pack_one(incoming, &mut out)?,
    };
    Ok(Packed { size: out.size, left_out })
}

/// Packs everything into an archive; gives how much was left out.
fn pack_zip(incoming: &mut Incoming, out: &mut Bounded, level: u32) -> io::Result<u64> {
    let mut archive = Writer::new(out, level);
    let (mut left_out, mut entries, mut bytes) = (0, 0, 0_u64);
    loop {
        let next = incoming.next()?;
        entries += 1;
        if entries > LIMITS.files * 3 {
            return Err(io::Error::other("it has too many files"));
        }
        match next {
            Next::File { path, size, attributes } => {
                bytes = bytes.saturating_add(size);
                if bytes > LIMITS.bytes {
                    return Err(io::Error::other("it has too many bytes"));
                }
                let Some(name) = name_inside(&path) else {
                    left_out += 1;
                    continue;
                };
                let fill = |out: &mut dyn Write| incoming.copy(out);
                archive.file_of(&name, size, (attributes.mode, attributes.modified), fill)?;
            }
            Next::Directory { path } => match name_inside(&path) {
                Some(name) => archive.directory(&name)?,
                None => left_out += 1,
            },
            Next::Link { path, target } => match name_inside(&path) {
                Some(name) => archive.link(&name, &target)?,
                None => left_out += 1,
            },
            Next::Other => left_out += 1,
            Next::Content { .. } | Next::End => {}
            Next::Finished => break,
        }
    }
    archive.finish()?;
    Ok(left_out)
}

/// Compresses each file by itself, one behind the other; gives how much was left out.
fn pack_each(incoming: &mut Incoming, out: &mut Bounded) -> io::Result<u64> {
    let mut left_out = 0;
    loop {
        match incoming.next()? {
            Next::File { path, .. } => {
                let name = name_inside(&path).unwrap_or_default();
                let last = name.rsplit('/').next().unwrap_or_default();
                let name: String = last.chars().filter(|letter| letter.is_ascii_graphic()).collect();
                let mut one = GzBuilder::new().filename(name).write(&mut *out, flate2::Compression::default());
                incoming.copy(&mut one)?;
                one.finish()?;
            }
            Next::Link { .. } | Next::Other => left_out += 1,
            Next::Directory { .. } | Next::Content { .. } | Next::End => {}
            Next::Finished => return Ok(left_out),
        }
    }
}

/// Passes the one file on.
fn pack_one(incoming: &mut Incoming, out: &mut Bounded) -> io::Result<u64> {
    let mut files = 0;
    loop {
        match incoming.next()? {
            Next::File { .. } => {
                files += 1;
                if files > 1 {
                    return Err(io::Error::other("an artifact of the form `raw` has one file, and more match"));
                }
                incoming.copy(out)?;
            }
            Next::Directory { .. } | Next::Link { .. } | Next::Other | Next::Content { .. } | Next::End => {}
            Next::Finished if files == 0 => return Err(io::Error::other("no file matches")),
            Next::Finished => return Ok(0),
        }
    }
}

/// Reads an archive that GitLab sent, which some job wrote: every name is checked before anything is passed on.
fn unpack(archive: File, out: &mut Archive) -> io::Result<()> {
    let mut archive = Reader::open(archive, LIMITS).map_err(io::Error::other)?;
    let (entries, directories) = (archive.entries(), archive.directories().to_vec());
    let now = clock::now_ms().unsigned_abs() / 1000;
    let names = entries.iter().map(|entry| &entry.name).chain(&directories);
    if let Some(name) = names.into_iter().find(|name| parts(name).is_none()) {
        let name = crate::document::text::one_line(name, 200);
        return Err(io::Error::other(format!("the archive has the path `{name}`, which leads out of it")));
    }
    for name in directories {
        let mut header = header(0o755, 0, now);
        header.set_entry_type(tar::EntryType::Directory);
        out.append_data(&mut header, format!("{name}/"), io::empty())?;
    }
    for entry in entries {
        if entry.is_link() {
            let mut target = Vec::new();
            let content = archive.content(&entry).map_err(io::Error::other)?;
            content.take(MAX_TARGET).read_to_end(&mut target)?;
            let mut header = header(0o777, 0, now);
            header.set_entry_type(tar::EntryType::Symlink);
            let target = String::from_utf8(target).map_err(|_| io::Error::other("a link leads to no text"))?;
            out.append_link(&mut header, &entry.name, &target)?;
            continue;
        }
        let (mode, modified) = (entry.mode().unwrap_or(0o644), entry.modified().unwrap_or(now));
        let mut header = header(mode, entry.size, modified);
        let mut content = archive.content(&entry).map_err(io::Error::other)?;
        out.append_data(&mut header, &entry.name, &mut content)?;
    }
    Ok(())
}

/// `modified` is in seconds since the epoch.
fn header(mode: u32, size: u64, modified: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(modified);
    header
}
