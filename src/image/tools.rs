//! What tools need that know no variables: written into the machine of every image before its snapshot, so that no job
//! pays for it.

use super::ImageError;
use super::recipe::{Script, User};
use super::script;
use crate::vm::guest::Guest;

/// Part of a snapshot's key.
pub(super) const SCRIPT: &str = include_str!("tools.sh");

/// Configures them for the account that runs jobs.
pub(super) async fn configure(guest: &Guest, user: &User) -> Result<(), ImageError> {
    let environment = [
        ("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("ACCOUNT_HOME".to_owned(), user.home()),
        ("ACCOUNT_OWNER".to_owned(), format!("{}:{}", user.uid, user.gid)),
    ];
    let script = Script { name: "the configuration of tools".to_owned(), text: SCRIPT.to_owned() };
    script::run(guest, &script, &environment).await
}
