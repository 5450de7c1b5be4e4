//! Room for what a program prints, of a fixed size and in memory.
//!
//! A guest can make its monitor complain as often as it likes. In a file that would take the host's disk; through a pipe
//! somebody would have to read for as long as the monitor lives. Here the first bytes are kept, and writing more fails for
//! the program, which goes on.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Bytes that are kept.
const SIZE: usize = 64 * 1024;

/// What one program printed.
#[derive(Debug)]
pub struct Output(File);

impl Output {
    /// Empty room.
    pub fn new() -> io::Result<Self> {
        let file = File::from(memfd_create(c"output", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
        file.set_len(SIZE as u64)?;
        let seals = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(Self(file))
    }

    /// The program's end of it.
    pub fn writer(&self) -> io::Result<File> {
        self.0.try_clone()
    }

    /// What was printed so far, without what did not fit.
    pub fn text(&self) -> io::Result<String> {
        let mut bytes = vec![0; SIZE];
        self.0.read_exact_at(&mut bytes, 0)?;
        let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_program_that_prints_without_end_goes_on_and_takes_no_more_room() {
        let output = Output::new().unwrap();
        assert_eq!(output.text().unwrap(), "");
        let script = "echo begin; head -c 1000000 /dev/zero | tr '\\0' x; echo lost >&2; exit 7";
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(output.writer().unwrap()).stderr(output.writer().unwrap());
        assert_eq!(command.status().unwrap().code(), Some(7));
        let text = output.text().unwrap();
        assert!(text.starts_with("begin\nxxx") && text.len() == SIZE, "{} bytes", text.len());
    }
}
