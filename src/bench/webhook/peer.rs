//! The peer: `webhook`, as Debian packages it, told to verify signatures and to do nothing else.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::json;

/// Its name, as a program and as a package.
pub(super) const PROGRAM: &str = "webhook";

/// Its hook for deliveries as GitHub sends them: the body is declared to be JSON, and is parsed.
pub(super) const PATH: &str = "/hooks/verify";

/// Its hook that takes the body for something that it does not parse.
pub(super) const UNPARSED_PATH: &str = "/hooks/verify-unparsed";

/// Writes its configuration. The rule holds only if the signature matches and a thing is true that never is: so the
/// signature is computed over every body, and no command ever starts.
pub(super) fn write_hooks(directory: &Path, secret: &str) -> io::Result<PathBuf> {
    let signature = json!({"type": "payload-hmac-sha256", "secret": secret,
                           "parameter": {"source": "header", "name": "X-Hub-Signature-256"}});
    let never = json!({"type": "value", "value": "never", "parameter": {"source": "header", "name": "X-Never"}});
    let rule = json!({"and": [{"match": signature}, {"match": never}]});
    let hooks = json!([
        {"id": "verify", "execute-command": "/bin/true", "trigger-rule": rule},
        {"id": "verify-unparsed", "execute-command": "/bin/true", "trigger-rule": rule,
         "incoming-payload-content-type": "application/octet-stream"},
    ]);
    let path = directory.join("hooks.json");
    std::fs::write(&path, hooks.to_string())?;
    Ok(path)
}

pub(super) fn arguments(hooks: &Path, address: SocketAddr) -> Vec<String> {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    ["-hooks", &hooks.display().to_string(), "-ip", &ip, "-port", &port].map(str::to_owned).to_vec()
}
