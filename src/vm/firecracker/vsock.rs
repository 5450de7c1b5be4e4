//! A guest's vsock, as Firecracker offers it on the host: a socket on which a call names the port that it is for, and is answered
//! once somebody in the guest has taken it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::files;
use super::jail::Root;
use crate::vm::VmError;

/// The longest answer: `OK`, a blank, a port, a line's end.
const MAX_ANSWER: usize = 32;

/// The way to a guest's ports.
#[derive(Debug)]
pub struct Vsock(Root);

impl Vsock {
    pub(super) fn in_jail(root: Root) -> Self {
        Self(root)
    }

    /// Calls `port` of the guest.
    ///
    /// # Errors
    /// [`VmError::Lost`] when nobody listens there, [`VmError::TimedOut`] when the guest does not answer within `limit`: both may
    /// be different a moment later.
    pub async fn connect(&self, port: u32, limit: Duration) -> Result<UnixStream, VmError> {
        let call = async {
            let mut socket = self.0.connect(files::VSOCK).await.map_err(|error| lost(&error))?;
            socket.write_all(format!("CONNECT {port}\n").as_bytes()).await.map_err(|error| lost(&error))?;
            let answer = read_line(&mut socket).await.map_err(|error| lost(&error))?;
            if is_taken(&answer) {
                Ok(socket)
            } else {
                Err(VmError::Lost(format!(
                    "the call to port {port} was answered with {:?}",
                    answer.escape_ascii().to_string()
                )))
            }
        };
        timeout(limit, call).await.unwrap_or(Err(VmError::TimedOut { what: "an answer on the guest's vsock", limit }))
    }
}

fn lost(error: &std::io::Error) -> VmError {
    VmError::Lost(format!("the guest cannot be called on its vsock ({error})"))
}

/// Reads up to the line's end and not a byte further: what follows is the conversation.
async fn read_line(socket: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while line.len() < MAX_ANSWER {
        match socket.read_u8().await? {
            b'\n' => break,
            byte => line.push(byte),
        }
    }
    Ok(line)
}

/// Whether an answer says that somebody took the call.
fn is_taken(answer: &[u8]) -> bool {
    let number = answer.strip_prefix(b"OK ").unwrap_or_default();
    !number.is_empty() && number.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_numbered_ok_is_an_ok() {
        assert!(is_taken(b"OK 1073741824"));
        for other in [&b""[..], b"OK", b"OK ", b"OK x", b"ok 1", b"OK 1 2", b"HTTP/1.1 400"] {
            assert!(!is_taken(other), "{other:?}");
        }
    }
}
