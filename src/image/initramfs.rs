//! The first file system of a guest: the agent as `/init`, and drivers. A `cpio` archive in the "newc" form that the kernel
//! unpacks; the same input gives the same bytes.

/// A file of the archive.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// Without a leading slash; parents must come first.
    pub path: &'a str,
    pub content: &'a [u8],
}

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;

/// The archive of these directories and files.
pub fn archive(directories: &[&str], files: &[File<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut inode = 1;
    let mut entry = |path: &str, mode: u32, content: &[u8]| {
        header(&mut out, inode, mode, content.len(), path);
        inode += 1;
        out.extend_from_slice(content);
        pad(&mut out);
    };
    for directory in directories {
        entry(directory, DIRECTORY, &[]);
    }
    for file in files {
        entry(file.path, EXECUTABLE, file.content);
    }
    entry("TRAILER!!!", 0, &[]);
    out
}

fn header(out: &mut Vec<u8>, inode: u32, mode: u32, size: usize, path: &str) {
    // magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    let fields = [inode, mode, 0, 0, 1, 0, size as u32, 0, 0, 0, 0, path.len() as u32 + 1, 0];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn cpio_reads_what_we_write() {
        let bytes = archive(
            &["dev", "modules"],
            &[File { path: "init", content: b"odd" }, File { path: "modules/a", content: b"12345678" }],
        );
        let Ok(mut cpio) =
            Command::new("cpio").args(["-t", "--quiet"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
        else {
            eprintln!("SKIPPED: cpio is not installed");
            return;
        };
        cpio.stdin.take().unwrap().write_all(&bytes).unwrap();
        let listed = cpio.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(listed.stdout).unwrap(), "dev\nmodules\ninit\nmodules/a\n");
    }
}
