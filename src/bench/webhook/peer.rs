//! The peer: `webhook`, as Debian packages it, told to verify signatures and to do nothing else.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::json;

/// Its name, as a program and as a package.
pub(super) const PROGRAM: &str = "webhook";

/// Where its one hook is.
pub(super) const PATH: &str = "/hooks/verify";

/// Writes its configuration. The rule holds only if the signature matches and a thing is true that never is: so the
/// signature is computed over every body, and no command ever starts. The body's declared type is one that it does not
/// parse.
pub(super) fn write_hooks(directory: &Path, secret: &str) -> io::Result<PathBuf> {
    let signature = json!({"type": "payload-hmac-sha256", "secret": secret,
                           "parameter": {"source": "header", "name": "X-Hub-Signature-256"}});
    let never = json!({"type": "value", "value": "never", "parameter": {"source": "header", "name": "X-Never"}});
    let hooks = json!([{
        "id": "verify",
        "execute-command": "/bin/true",
        "trigger-rule": {"and": [{"match": signature}, {"match": never}]},
    }]);
    let path = directory.join("hooks.json");
    std::fs::write(&path, hooks.to_string())?;
    Ok(path)
}

pub(super) fn arguments(hooks: &Path, address: SocketAddr) -> Vec<String> {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    ["-hooks", &hooks.display().to_string(), "-ip", &ip, "-port", &port].map(str::to_owned).to_vec()
}
