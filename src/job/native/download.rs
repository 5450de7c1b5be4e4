//! `actions/download-artifact`: the host reads the archives and sends files, which the guest's `tar` puts in their places.

use std::io::{self, Read};

use super::Done;
use super::guest::{Hands, Trouble};
use super::outgoing::{self, Archive};
use crate::clock;
use crate::config::rough_size;
use crate::core::heavy;
use crate::depot::unpack::{LIMITS, parts};
use crate::depot::zip::Reader;
use crate::depot::{Artifact, Tenant};
use crate::workflow::file_patterns::FilePatterns;
use crate::workflow::native::NativePlan;

/// Unpacks into the directory `$1`, which is made. What others wrote there of the same name is replaced.
const TAKE: &str = r#"
mkdir -p -- "$1" && cd -- "$1" && exec tar -xf -
"#;

/// Does the step.
pub(super) async fn run(plan: &NativePlan, tenant: &Tenant, hands: &Hands<'_>, done: &mut Done) -> Result<(), Trouble> {
    if !tenant.depot.limits().artifacts {
        return Err(Trouble::said("artifacts are switched off on this runner"));
    }
    let merges = plan.flag("merge-multiple", false).map_err(Trouble::Said)?;
    let into = directory(plan.input("path"), hands);
    let (wanted, is_single) = wanted(plan, heavy(|| tenant.artifacts())).map_err(Trouble::Said)?;
    if wanted.is_empty() {
        done.say("this run has no artifact that is asked for");
    }
    for artifact in wanted {
        let place = if is_single || merges { into.clone() } else { format!("{into}/{}", artifact.name) };
        let said = format!("artifact downloaded: {} ({}) to {place}", artifact.name, rough_size(artifact.size));
        let name = artifact.name.clone();
        let sent = send(tenant, hands, artifact, &place).await;
        sent.map_err(|error| match error {
            Trouble::Said(why) => Trouble::Said(format!("the artifact `{name}`: {why}")),
            error => error,
        })?;
        done.say(said);
    }
    done.output("download-path", &into);
    Ok(())
}

/// The artifacts that are asked for, and whether it is one that was named.
fn wanted(plan: &NativePlan, all: Vec<Artifact>) -> Result<(Vec<Artifact>, bool), String> {
    let (name, ids, pattern) = (plan.input("name"), plan.input("artifact-ids"), plan.input("pattern"));
    if !name.is_empty() && !ids.is_empty() {
        return Err("the inputs `name` and `artifact-ids` exclude each other".to_owned());
    }
    if !name.is_empty() {
        let known: Vec<String> = all.iter().map(|artifact| format!("`{}`", artifact.name)).collect();
        let found: Vec<Artifact> = all.into_iter().filter(|artifact| artifact.name == name).collect();
        if found.is_empty() {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(format!("this run has no artifact `{name}`\n  hint: it has {known}"));
        }
        return Ok((found, true));
    }
    if !ids.is_empty() {
        let ids: Vec<&str> = ids.split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
        let find = |id: &&str| {
            let found = id.parse().ok().and_then(|id: u64| all.iter().find(|artifact| artifact.id == id));
            found.cloned().ok_or_else(|| format!("this run has no artifact with the id `{id}`"))
        };
        let found: Vec<Artifact> = ids.iter().map(find).collect::<Result<_, _>>()?;
        return Ok((found, ids.len() == 1));
    }
    if pattern.is_empty() {
        return Ok((all, false));
    }
    let patterns = FilePatterns::of_list(&[pattern.to_owned()], "/")
        .map_err(|error| error.replace("`hashFiles` takes", "there are"))?;
    Ok((all.into_iter().filter(|artifact| patterns.take(&[&artifact.name])).collect(), false))
}

/// Absolute; the workspace if nothing is said.
fn directory(path: &str, hands: &Hands<'_>) -> String {
    let path = path.trim_end_matches('/');
    match path {
        "" | "." => hands.workspace.clone(),
        "~" => hands.home.clone(),
        path if path.starts_with('/') => path.to_owned(),
        path => match path.strip_prefix("~/") {
            Some(rest) => format!("{}/{rest}", hands.home),
            None => format!("{}/{}", hands.workspace, path.strip_prefix("./").unwrap_or(path)),
        },
    }
}

async fn send(tenant: &Tenant, hands: &Hands<'_>, artifact: Artifact, place: &str) -> Result<(), Trouble> {
    let of_thread = tenant.clone();
    outgoing::send(hands, TAKE, &[place], move |archive| read(&of_thread, &artifact, archive)).await
}

fn read(tenant: &Tenant, artifact: &Artifact, archive: &mut Archive) -> io::Result<()> {
    let content = tenant.depot.open_artifact(artifact).map_err(io::Error::other)?;
    let mut content = content.ok_or_else(|| io::Error::other("it was removed meanwhile"))?;
    if artifact.is_zip() {
        let mut stored = Reader::open(content.file, LIMITS).map_err(io::Error::other)?;
        for entry in stored.entries() {
            if parts(&entry.name).is_none() {
                return Err(io::Error::other("it has a path that leads out of it"));
            }
            let mut plain = stored.content(&entry).map_err(io::Error::other)?;
            append(archive, &entry.name, entry.size, &mut plain)?;
        }
    } else {
        append(archive, &artifact.file_name(), content.size, &mut content.file)?;
    }
    Ok(())
}

fn append(archive: &mut Archive, name: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(clock::now_ms().unsigned_abs() / 1000);
    archive.append_data(&mut header, name, content)
}
