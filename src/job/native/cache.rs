//! `actions/cache`, its `restore` and its `save`. What is stored has the form and the version that the action itself gives it, so
//! that either finds what the other saved.

use std::io::Read as _;

use sha2::{Digest as _, Sha256};

use super::Done;
use super::guest::{Hands, Trouble, names};
use super::paths::{Search, outermost, relative};
use crate::config::rough_size;
use crate::core::heavy;
use crate::depot::{DepotError, Found, Tenant};
use crate::vm::guest::Input;
use crate::workflow::native::{NativeKind, NativePlan};

/// Bytes that are read at a time.
const BUFFER: usize = 256 << 10;

/// The only piece of what is saved.
pub(in crate::job) const WHOLE: &str = "whole";

/// What the action's own versions end with.
const SALT: &str = "1.0";

const METHOD: &str = r#"
if ! tar --version 2>/dev/null | grep -q 'GNU tar'; then echo small
elif command -v zstd >/dev/null 2>&1; then echo zstd
else echo gzip
fi
"#;

/// Packs the names of its input, relative to the workspace or to the directory `$2`, by the method `$1`. A smaller `tar` takes names by
/// lines, and the smallest as arguments, as many as those may be.
pub(in crate::job) const PACK: &str = r#"
cd "${2:-.}" || exit
if tar --version 2>/dev/null | grep -q 'GNU tar'; then
  if [ "$1" = zstd ]; then exec tar --posix -P --use-compress-program 'zstd -T0 -q' -cf - --null -T -; fi
  exec tar --posix -P -czf - --null -T -
fi
if tar --help 2>&1 | grep -q -e '-T'; then
  tr '\0' '\n' | tar -czf - -T -
  exit
fi
names=$(mktemp) && cat > "$names"
if [ "$(wc -c < "$names")" -gt 100000 ]; then
  echo 'these are too many files for this tar: GNU tar takes more' >&2
  exit 2
fi
xargs -0 -n 1000000 -s 130000 tar -czf - -- < "$names"
"#;

const UNPACK: &str = r#"
cd "$2" || exit
if [ "$1" = zstd ]; then exec tar -P --use-compress-program 'zstd -d -q' -xf -; fi
if tar --version 2>/dev/null | grep -q 'GNU tar'; then exec tar -P -xzf -; fi
exec tar -xzf -
"#;

/// What the guest packs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::job) enum Tar {
    /// GNU tar, with zstd beside it.
    Zstd,
    /// GNU tar.
    Gzip,
    /// One such as BusyBox has, which makes every name relative.
    Small,
}

impl Tar {
    /// The guest's, or that of the job's container.
    pub(in crate::job) async fn of(hands: &Hands<'_>) -> Result<Self, Trouble> {
        let mut said = Vec::new();
        let sink = |bytes: &[u8]| {
            said.extend_from_slice(&bytes[..bytes.len().min(16)]);
            Ok(())
        };
        hands.run(METHOD, &[], super::guest::no_input, sink).await?;
        Ok(match said.trim_ascii() {
            b"zstd" => Self::Zstd,
            b"gzip" => Self::Gzip,
            _ => Self::Small,
        })
    }

    /// How it packs.
    pub(in crate::job) const fn method(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip | Self::Small => "gzip",
        }
    }

    /// What an entry's names are relative to, as long as they are not absolute.
    const fn root(self) -> &'static str {
        match self {
            Self::Zstd | Self::Gzip => ".",
            Self::Small => "/",
        }
    }

    /// The name of a file in an entry.
    fn name<'p>(self, path: &'p str, workspace: &str) -> &'p str {
        match self {
            Self::Zstd | Self::Gzip => relative(path, workspace),
            Self::Small => path.trim_start_matches('/'),
        }
    }
}

/// Does the step.
pub(super) async fn run(plan: &NativePlan, tenant: &Tenant, hands: &Hands<'_>, done: &mut Done) -> Result<(), Trouble> {
    if !tenant.depot.limits().cache {
        done.say("caches are switched off on this runner");
        return Ok(());
    }
    let (key, paths) = (plan.input("key"), plan.lines("path"));
    for (name, is_missing) in [("key", key.is_empty()), ("path", paths.is_empty())] {
        if is_missing {
            return Err(Trouble::Said(format!("the input `{name}` is empty")));
        }
    }
    let tar = Tar::of(hands).await?;
    let version = version(&paths, tar);
    match (plan.kind, plan.is_post) {
        (NativeKind::Cache, true) | (NativeKind::CacheSave, _) => {
            // What could not be saved is made again: no reason to fail.
            match save(key, &paths, &version, tar, tenant, hands).await {
                Ok(said) => done.say(said),
                Err(Trouble::Said(why)) => done.say(format!("warning: not saved: {why}")),
                Err(error) => return Err(error),
            }
            Ok(())
        }
        _ => restore(plan, key, &version, tar, tenant, hands, done).await,
    }
}

async fn restore(
    plan: &NativePlan, key: &str, version: &str, tar: Tar, tenant: &Tenant, hands: &Hands<'_>, done: &mut Done,
) -> Result<(), Trouble> {
    let keys: Vec<String> = std::iter::once(key.to_owned()).chain(plan.lines("restore-keys")).collect();
    let only_looks = plan.flag("lookup-only", false).map_err(Trouble::Said)?;
    let must_hit = plan.flag("fail-on-cache-miss", false).map_err(Trouble::Said)?;
    done.output("cache-primary-key", key);
    let found = heavy(|| tenant.find_cache(&keys, version)).map_err(Trouble::said)?;
    let is_restored = match &found {
        Some(found) if !only_looks => match unpack(found, tar.method(), tar.root(), hands).await {
            Err(Trouble::Said(why)) => {
                done.say(format!("warning: `{}` could not be restored: {why}", found.entry.key));
                false
            }
            unpacked => unpacked.map(|()| true)?,
        },
        Some(_) => true,
        None => false,
    };
    let Some(entry) = found.filter(|_| is_restored).map(|found| found.entry) else {
        if must_hit {
            let keys = keys.join("`, `");
            return Err(Trouble::Said(format!("there is no cache for `{keys}`, and `fail-on-cache-miss` is set")));
        }
        done.say(format!("no cache for {}", keys.join(", ")));
        done.save_later(plan);
        return Ok(());
    };
    let is_exact = entry.key.to_lowercase() == key.to_lowercase();
    done.output("cache-hit", if is_exact { "true" } else { "false" });
    done.output("cache-matched-key", &entry.key);
    let (verb, size) = (if only_looks { "found" } else { "restored" }, rough_size(entry.size));
    done.say(format!("cache {verb}: {} ({size}, of {})", entry.key, entry.scope));
    if !is_exact {
        done.save_later(plan);
    }
    Ok(())
}

/// Unpacks what an entry holds, where its names are relative to `root`.
pub(in crate::job) async fn unpack(found: &Found, method: &str, root: &str, hands: &Hands<'_>) -> Result<(), Trouble> {
    let content = heavy(|| found.open()).map_err(Trouble::said)?;
    let mut content = content.ok_or_else(|| Trouble::said("it was removed meanwhile"))?;
    let feed = async |input: Input| {
        let mut buffer = vec![0; BUFFER];
        loop {
            match heavy(|| content.file.read(&mut buffer)).map_err(|_| Trouble::said("the host could not read it"))? {
                0 => break,
                read => input.write(&buffer[..read]).await?,
            }
        }
        input.end();
        Ok(())
    };
    let (code, complaints) = hands.run(UNPACK, &[method, root], feed, |_| Ok(())).await?;
    if code == 0 { Ok(()) } else { Err(Trouble::Said(format!("`tar` ended with {code}: {complaints}"))) }
}

/// Gives what is said of it.
async fn save(
    key: &str, paths: &[String], version: &str, tar: Tar, tenant: &Tenant, hands: &Hands<'_>,
) -> Result<String, Trouble> {
    let search = Search::new(paths, &hands.workspace, &hands.home).map_err(Trouble::Said)?;
    let (whole, searched): (Vec<&str>, Vec<&str>) =
        search.roots().iter().map(String::as_str).partition(|root| search.takes(root));
    let listed = hands.list(false, &whole, &searched).await?;
    let taken = outermost(&search, listed.iter().map(String::as_str));
    if taken.is_empty() {
        return Err(Trouble::said("nothing in the machine matches `path`"));
    }
    let reservation = match heavy(|| tenant.reserve_cache(key, version)) {
        Err(DepotError::Exists(_)) => return Ok(format!("cache kept: {key} exists already")),
        reserved => reserved.map_err(Trouble::said)?,
    };
    let upload = heavy(|| tenant.begin_cache()).map_err(Trouble::said)?;
    let mut block = upload.block(WHOLE).map_err(Trouble::said)?;
    let list = names(taken.iter().map(|path| tar.name(path, &hands.workspace)));
    let feed = async |input: Input| {
        input.write(&list).await?;
        input.end();
        Ok(())
    };
    let sink = |bytes: &[u8]| block.write(bytes).map_err(Trouble::said);
    let (code, complaints) = hands.run(PACK, &[tar.method(), tar.root()], feed, sink).await?;
    if code != 0 {
        return Err(Trouble::Said(format!("`tar` ended with {code}: {complaints}")));
    }
    let uploaded = heavy(|| upload.commit(&[WHOLE.to_owned()])).map_err(Trouble::said)?;
    match heavy(|| tenant.store_cache(key, version, &reservation, uploaded)) {
        Err(DepotError::Exists(_)) => Ok(format!("cache kept: {key} exists already")),
        Ok(entry) => Ok(format!("cache saved: {} ({}, of {})", entry.key, rough_size(entry.size), entry.scope)),
        Err(error) => Err(Trouble::said(error)),
    }
}

/// The action's own: what the entry holds, and how it is packed. The action does not work with a small `tar`.
fn version(paths: &[String], tar: Tar) -> String {
    let method = match tar {
        Tar::Zstd => "zstd-without-long",
        Tar::Gzip => "gzip",
        Tar::Small => "gzip-from-root",
    };
    let parts: Vec<&str> = paths.iter().map(String::as_str).chain([method, SALT]).collect();
    hex::encode(Sha256::digest(parts.join("|")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_action() {
        let paths = ["~/.npm".to_owned(), "node_modules".to_owned()];
        let of = |text: &str| hex::encode(Sha256::digest(text));
        assert_eq!(version(&paths, Tar::Zstd), of("~/.npm|node_modules|zstd-without-long|1.0"));
        assert_eq!(version(&paths, Tar::Gzip), of("~/.npm|node_modules|gzip|1.0"));
        assert_ne!(version(&paths, Tar::Small), version(&paths, Tar::Gzip));
    }

    #[test]
    fn a_small_tar_finds_every_place_from_the_root() {
        for (tar, inside, outside) in
            [(Tar::Gzip, "dist/a", "/github/home/x"), (Tar::Small, "__w/site/site/dist/a", "github/home/x")]
        {
            let name = |path| tar.name(path, "/__w/site/site");
            assert_eq!((name("/__w/site/site/dist/a"), name("/github/home/x")), (inside, outside));
        }
    }
}
