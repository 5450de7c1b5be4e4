//! `hashFiles` in the guest: the files of the workspace are listed there, chosen here, and hashed there.
//!
//! The digest is the one that `dayfly eval --directory` gives: files in the order of their names, directory by directory, and
//! the SHA-256 of all their SHA-256. Nothing of the guest is believed more than any of its files would be.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::document::text::one_line;
use crate::protocol::message::{Exec, ExitStatus, Output, Owner};
use crate::vm::VmError;
use crate::vm::guest::Guest;
use crate::workflow::file_patterns::FilePatterns;

/// How long one call may take.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Bytes of the list of a workspace's files, and of what is said of those that are hashed.
const MAX_LIST: usize = 256 * 1024 * 1024;

/// Bytes of the programs' complaints that are told.
const MAX_COMPLAINT: usize = 500;

/// Where the programs are.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Files that one call looks at.
const MAX_ENTRIES: usize = 1_000_000;

/// Lists files, also those that links lead to; each name ends with a NUL.
const LIST: &str = r#"cd "$1"
find . -type f -print0
find . -type l -print0 | xargs -0 sh -c 'for file do [ ! -f "$file" ] || printf "%s\0" "$file"; done' sh"#;

/// The same, with what links to directories lead to; of links in a circle `find` complains, and goes on.
const LIST_LINKED: &str = r#"cd "$1"
find -L . -type f -print0 2>/dev/null || :"#;

/// Hashes the files that a list names.
const HASH: &str = r#"cd "$1"
xargs -0 sha256sum -- < "$2""#;

/// The digest of the files below `root` that match, empty if none does; the inner error says why there is none.
pub(super) async fn hash_files(
    guest: &Guest, owner: Owner, root: &str, temp: &str, patterns: &[String],
) -> Result<Result<String, String>, VmError> {
    let patterns = match FilePatterns::new(patterns, root) {
        Ok(patterns) => patterns,
        Err(why) => return Ok(Err(why)),
    };
    let list = if patterns.follows_links { LIST_LINKED } else { LIST };
    let listed = match output(guest, owner, list, &[root]).await? {
        Ok(listed) => listed,
        Err(why) => return Ok(Err(format!("the files of the workspace cannot be listed: {why}"))),
    };
    let chosen = match chosen(&listed, &patterns) {
        Ok(chosen) => chosen,
        Err(why) => return Ok(Err(why)),
    };
    if chosen.is_empty() {
        return Ok(Ok(String::new()));
    }
    let names: Vec<u8> = chosen.iter().flat_map(|path| [*path, b"\0"].concat()).collect();
    let list = format!("{temp}/_hash_files");
    match guest.write_file(&list, &names, 0o600, owner).await {
        Ok(()) => {}
        Err(VmError::Refused { detail, .. }) => return Ok(Err(detail)),
        Err(error) => return Err(error),
    }
    let sums = output(guest, owner, HASH, &[root, &list]).await?;
    Ok(sums.and_then(|sums| digest(&sums, chosen.len())).map_err(|why| format!("the files cannot be hashed: {why}")))
}

/// What a script of ours printed; the inner error says why it failed.
async fn output(
    guest: &Guest, owner: Owner, script: &str, arguments: &[&str],
) -> Result<Result<Vec<u8>, String>, VmError> {
    let mut argv: Vec<String> = ["sh", "-e", "-c", script, "dayfly"].map(str::to_owned).to_vec();
    argv.extend(arguments.iter().map(|&argument| argument.to_owned()));
    let env = vec![("PATH".to_owned(), PATH.to_owned()), ("LC_ALL".to_owned(), "C".to_owned())];
    let exec = Exec { argv, env, directory: "/".to_owned(), owner, stdin: false };
    let mut running = match guest.exec(exec).await {
        Ok(running) => running,
        Err(VmError::Refused { detail, .. }) => return Ok(Err(detail)),
        Err(error) => return Err(error),
    };
    let (mut printed, mut complaint) = (Vec::new(), Vec::new());
    let attended = async {
        loop {
            match running.next().await? {
                Output::Stdout(bytes) if printed.len() + bytes.len() > MAX_LIST => {
                    return Ok(Err("there are too many files".to_owned()));
                }
                Output::Stdout(bytes) => printed.extend_from_slice(&bytes),
                Output::Stderr(bytes) => {
                    let room = MAX_COMPLAINT - complaint.len();
                    complaint.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
                Output::Exited(exit) => return Ok::<_, VmError>(Ok(exit.status)),
            }
        }
    };
    Ok(match timeout(LIMIT, attended).await {
        Err(_) => Err(format!("it took longer than {} s", LIMIT.as_secs())),
        Ok(ended) => match ended? {
            Ok(ExitStatus::Code(0)) => Ok(printed),
            Ok(_) => Err(one_line(&String::from_utf8_lossy(&complaint), MAX_COMPLAINT)),
            Err(why) => Err(why),
        },
    })
}

/// The files of a list that match, in the order in which they are hashed.
fn chosen<'l>(listed: &'l [u8], patterns: &FilePatterns) -> Result<Vec<&'l [u8]>, String> {
    let mut chosen = Vec::new();
    for (count, path) in listed.split(|byte| *byte == 0).filter(|path| !path.is_empty()).enumerate() {
        if count == MAX_ENTRIES {
            return Err(format!("`hashFiles` looks at no more than {MAX_ENTRIES} files"));
        }
        let path = path.strip_prefix(b"./").unwrap_or(path);
        let text = String::from_utf8_lossy(path);
        if patterns.take(&text.split('/').collect::<Vec<_>>()) {
            chosen.push(path);
        }
    }
    chosen.sort_by(|one, other| one.split(is_slash).cmp(other.split(is_slash)));
    chosen.dedup();
    Ok(chosen)
}

fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

/// The digest of the digests in the output of `sha256sum`, one a line.
fn digest(sums: &[u8], count: usize) -> Result<String, String> {
    let mut digest = Sha256::new();
    let mut found = 0;
    for line in sums.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        // A name with a line end in it is escaped, and its line marked.
        let line = line.strip_prefix(b"\\").unwrap_or(line);
        let one =
            line.get(..64).and_then(|digits| hex::decode(digits).ok()).ok_or("`sha256sum` said something else")?;
        digest.update(one);
        found += 1;
    }
    if found != count {
        return Err(format!("`sha256sum` told of {found} files instead of {count}"));
    }
    Ok(hex::encode(digest.finalize()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn files_are_chosen_and_ordered_as_a_walk_would() {
        let patterns = FilePatterns::new(&["**/*.lock".to_owned()], "/w").unwrap();
        let listed = b"./b.lock\0./a-b/x.lock\0./a/z.lock\0./a/y\nz.lock\0./a.lock\0./x.rs\0./a/z.lock\0";
        let chosen = chosen(listed, &patterns).unwrap();
        let expected: [&[u8]; 5] = [b"a/y\nz.lock", b"a/z.lock", b"a-b/x.lock", b"a.lock", b"b.lock"];
        assert_eq!(chosen, expected);
    }

    #[test]
    fn only_what_sha256sum_says_is_taken() {
        let sum = hex::encode(Sha256::digest("x"));
        let expected = hex::encode(Sha256::digest([Sha256::digest("x"), Sha256::digest("x")].concat()));
        assert_eq!(digest(format!("{sum}  a\n\\{sum}  a\\nb\n").as_bytes(), 2), Ok(expected));
        assert!(digest(format!("{sum}  a\n").as_bytes(), 2).is_err());
        assert!(digest(b"sha256sum: a: not there\n", 1).is_err());
    }
}
