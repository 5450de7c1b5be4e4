//! `actions/upload-artifact`: the guest's `tar` sends the files, and the host makes the archive.

use std::io::{self, Write};

use super::Done;
use super::guest::{Hands, Trouble, names};
use super::incoming::{self, Incoming, Next};
use super::paths::Search;
use crate::config::rough_size;
use crate::core::heavy;
use crate::depot::artifacts::{ZIP, check_name, check_path, retention_of_days};
use crate::depot::unpack::LIMITS;
use crate::depot::zip::Writer;
use crate::depot::{Artifact, Tenant, Uploaded};
use crate::workflow::native::NativePlan;

/// The only piece of what is stored.
const WHOLE: &str = "whole";

/// Sends the files whose names come, from the root on. Links are followed: what they lead to was asked for.
const SEND: &str = r#"
cd / || exit 2
if tar --version 2>/dev/null | grep -q 'GNU tar'; then
  exec tar --format=gnu --hard-dereference --no-recursion -chf - --null -T -
fi
if tar --help 2>&1 | grep -q -e '-T'; then
  tr '\0' '\n' | tar -chf - -T -
  exit
fi
names=$(mktemp) && cat > "$names"
if [ "$(wc -c < "$names")" -gt 100000 ]; then
  echo 'these are too many files for this tar: GNU tar takes more' >&2
  exit 2
fi
xargs -0 -n 1000000 -s 130000 tar -chf - -- < "$names"
"#;

/// What the action was asked for.
struct Wish {
    name: String,
    level: u32,
    days: u64,
    overwrite: bool,
    is_archive: bool,
}

/// Does the step.
pub(super) async fn run(plan: &NativePlan, tenant: &Tenant, hands: &Hands<'_>, done: &mut Done) -> Result<(), Trouble> {
    if !tenant.depot.limits().artifacts {
        return Err(Trouble::said("artifacts are switched off on this runner"));
    }
    let mut wish = wish(plan).map_err(Trouble::Said)?;
    let patterns = plan.lines("path");
    let search = Search::new(&patterns, &hands.workspace, &hands.home).map_err(Trouble::Said)?;
    let takes_hidden = plan.flag("include-hidden-files", false).map_err(Trouble::Said)?;
    let roots: Vec<&str> = search.roots().iter().map(String::as_str).collect();
    let mut files = hands.list(true, &[], &roots).await?;
    files.retain(|file| search.takes(file) && (takes_hidden || !search.is_hidden(file)));
    files.sort();
    files.dedup();
    if files.is_empty() {
        return nothing(plan, &patterns, done);
    }
    let base = search.base(&files);
    let inside = |file: &str| file.strip_prefix(&base).unwrap_or(file).trim_start_matches('/').to_owned();
    files.iter().try_for_each(|file| check_path(&inside(file))).map_err(Trouble::said)?;
    if !wish.is_archive {
        let [file] = files.as_slice() else {
            return Err(Trouble::Said(format!("`archive: false` takes a single file, and {} match", files.len())));
        };
        wish.name = file.rsplit('/').next().unwrap_or_default().to_owned();
    }
    let (count, new) = (files.len(), new_artifact(tenant, &wish));
    heavy(|| tenant.depot.check_new_artifact(&new)).map_err(Trouble::said)?;
    let uploaded = receive(tenant, hands, &files, base.clone(), &wish).await?;
    let stored = heavy(|| tenant.depot.store_artifact(&new, uploaded)).map_err(Trouble::said)?;
    tell(&stored, count, tenant, done);
    Ok(())
}

fn wish(plan: &NativePlan) -> Result<Wish, String> {
    let number = |name: &str, default: u64| match plan.input(name) {
        "" => Ok(default),
        text => text.parse::<u64>().map_err(|_| format!("the input `{name}` is `{text}`, which is no whole number")),
    };
    let level = number("compression-level", 6)?;
    if level > 9 {
        return Err(format!("the input `compression-level` is `{level}`, which is more than 9"));
    }
    let name = Some(plan.input("name")).filter(|name| !name.is_empty()).unwrap_or("artifact").to_owned();
    check_name(&name).map_err(|error| error.to_string())?;
    if !matches!(plan.input("if-no-files-found"), "" | "warn" | "error" | "ignore") {
        return Err("the input `if-no-files-found` is none of `warn`, `error` and `ignore`".to_owned());
    }
    Ok(Wish {
        name,
        level: u32::try_from(level).unwrap_or(6),
        days: number("retention-days", 0)?,
        overwrite: plan.flag("overwrite", false)?,
        is_archive: plan.flag("archive", true)?,
    })
}

fn new_artifact<'a>(tenant: &'a Tenant, wish: &'a Wish) -> crate::depot::artifacts::NewArtifact<'a> {
    let mime = if wish.is_archive { ZIP } else { "application/octet-stream" };
    let mut new = tenant.new_artifact(&wish.name, mime);
    (new.retention, new.overwrite) = (retention_of_days(wish.days), wish.overwrite);
    new
}

fn nothing(plan: &NativePlan, patterns: &[String], done: &mut Done) -> Result<(), Trouble> {
    let text = format!("no files were found for {}, so there is no artifact", patterns.join(", "));
    match plan.input("if-no-files-found") {
        "error" => return Err(Trouble::Said(text)),
        "ignore" => done.say(text),
        _ => done.say(format!("warning: {text}")),
    }
    Ok(())
}

fn tell(stored: &Artifact, files: usize, tenant: &Tenant, done: &mut Done) {
    done.output("artifact-id", &stored.id.to_string());
    done.output("artifact-digest", &stored.sha256);
    let page = tenant.page.as_deref().unwrap_or_default();
    if !page.is_empty() {
        let address: String = url::form_urlencoded::byte_serialize(stored.name.as_bytes()).collect();
        done.output("artifact-url", &format!("{page}/artifacts/{}", address.replace('+', "%20")));
    }
    let what = if files == 1 { "1 file" } else { &format!("{files} files") };
    done.say(format!("artifact stored: {} ({what}, {})", stored.name, rough_size(stored.size)));
}

/// Takes the files out of the guest; gives what is to be stored.
async fn receive(
    tenant: &Tenant, hands: &Hands<'_>, files: &[String], base: String, wish: &Wish,
) -> Result<Uploaded, Trouble> {
    let (of_thread, level, is_archive) = (tenant.clone(), wish.level, wish.is_archive);
    let list = names(files.iter().map(|file| file.trim_start_matches('/')));
    let pack = move |incoming: &mut Incoming| pack(&of_thread, incoming, &base, level, is_archive);
    incoming::receive(hands, SEND, &[], list, pack).await
}

/// Writes into the depot.
struct Sink<'a>(crate::depot::Block<'a>);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map(|()| bytes.len()).map_err(io::Error::other)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pack(tenant: &Tenant, incoming: &mut Incoming, base: &str, level: u32, is_archive: bool) -> io::Result<Uploaded> {
    let upload = tenant.begin_artifact().map_err(io::Error::other)?;
    let mut sink = Sink(upload.block(WHOLE).map_err(io::Error::other)?);
    if is_archive {
        let mut archive = Writer::new(sink, level);
        let (mut files, mut bytes) = (0, 0_u64);
        loop {
            match incoming.next()? {
                Next::File { path, size, .. } => {
                    files += 1;
                    bytes = bytes.saturating_add(size);
                    if files > LIMITS.files || bytes > LIMITS.bytes {
                        return Err(io::Error::other("it has too many files, or too many bytes"));
                    }
                    archive.file::<io::Error>(&name_inside(&path, base)?, size, |out| incoming.copy(out))?;
                }
                Next::Finished => break,
                Next::Content { .. } | Next::End | Next::Directory { .. } | Next::Link { .. } | Next::Other => {}
            }
        }
        archive.finish()?;
    } else {
        loop {
            match incoming.next()? {
                Next::File { .. } => incoming.copy(&mut sink)?,
                Next::Finished => break,
                Next::Content { .. } | Next::End | Next::Directory { .. } | Next::Link { .. } | Next::Other => {}
            }
        }
    }
    upload.commit(&[WHOLE.to_owned()]).map_err(io::Error::other)
}

/// What a file of the guest is called in the artifact; the guest may have sent another one than was asked for.
fn name_inside(path: &[u8], base: &str) -> io::Result<String> {
    let path = std::str::from_utf8(path).map_err(|_| io::Error::other("a path is not UTF-8"))?;
    let path = format!("/{}", path.trim_start_matches('/'));
    let inside =
        path.strip_prefix(base).filter(|inside| inside.starts_with('/')).map(|inside| inside.trim_start_matches('/'));
    let inside = inside.filter(|inside| crate::depot::unpack::parts(inside).is_some());
    inside.map(str::to_owned).ok_or_else(|| io::Error::other("the machine sent a file that was not asked for"))
}
