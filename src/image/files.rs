//! Files that set-up scripts get from the network, to which their VM has no way: this host fetches them, compares each with its checksum, and
//! hands them over unopened.

use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use super::recipe::RemoteFile;
use super::{ImageError, Progress, fetch};
use crate::protocol::message::{Exec, ExitStatus, Owner};
use crate::vm::VmError;
use crate::vm::guest::{Guest, Input};

/// Where they are in the VM; on a file system in memory, so that nothing of it stays.
const PLACE: &str = "/run/dayfly-files";
/// Tells the scripts that place.
const VARIABLE: &str = "DAYFLY_FILES";

/// How long it may take to hand over one.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// Bytes that are handed over at a time.
const PIECE: usize = 256 << 10;
/// Bytes of what the guest says about a failure.
const SAID: usize = 1024;

/// Fetches all of them into the new directory `to`.
pub(super) async fn fetch(files: &[RemoteFile], to: &Path, progress: &dyn Progress) -> Result<(), ImageError> {
    std::fs::create_dir(to).map_err(ImageError::io(to.display().to_string()))?;
    for file in files {
        progress.step(&format!("fetching `{}`", file.url));
        fetch::fetch(&file.url, &file.sha256, &to.join(&file.name)).await?;
    }
    Ok(())
}

/// Hands over what was fetched into `from`; gives what scripts find them by.
pub(super) async fn hand_over(
    guest: &Guest, files: &[RemoteFile], from: &Path,
) -> Result<(String, String), ImageError> {
    guest.make_directory(PLACE, Owner::ROOT).await?;
    for file in files {
        let copied = tokio::time::timeout(LIMIT, copy(guest, &from.join(&file.name), &file.name)).await;
        copied.unwrap_or(Err(ImageError::Vm(VmError::TimedOut {
            what: "a file for the set-up scripts",
            limit: LIMIT,
        })))?;
    }
    Ok((VARIABLE.to_owned(), PLACE.to_owned()))
}

async fn copy(guest: &Guest, from: &Path, name: &str) -> Result<(), ImageError> {
    let context = || ImageError::io(format!("the file `{name}` for the set-up scripts"));
    let mut file = tokio::fs::File::open(from).await.map_err(context())?;
    let running = guest
        .exec(Exec {
            argv: vec!["/bin/sh".into(), "-c".into(), "cat > \"$0\"".into(), format!("{PLACE}/{name}")],
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            directory: "/".into(),
            owner: Owner::ROOT,
            stdin: true,
        })
        .await?;
    let input = running.input();
    let (fed, ended) = tokio::join!(feed(&mut file, &input), running.ended(SAID));
    fed.map_err(context())?;
    match ended? {
        (ExitStatus::Code(0), _) => Ok(()),
        (_, said) => {
            let said = String::from_utf8_lossy(&said);
            Err(ImageError::Unusable(format!("the file `{name}` could not be stored in the VM: {}", said.trim())))
        }
    }
}

/// Gives a program all of a file. That it takes no more is told by how it ends.
async fn feed(file: &mut tokio::fs::File, input: &Input) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    let fed = loop {
        match file.read(&mut piece).await {
            Ok(0) => break Ok(()),
            Ok(length) if input.write(&piece[..length]).await.is_err() => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    input.end();
    fed
}
