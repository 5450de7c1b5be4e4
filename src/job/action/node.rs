//! Which Node.js of the image runs an action.

use crate::protocol::message::{Exec, ExitStatus};
use crate::vm::VmError;

use super::{Steps, Witness};

/// Prints the program that runs what asks for version `$1` or, if there is none, what there is. The version that was asked for
/// comes before newer ones.
const FIND: &str = r#"
want=$1 newer= seen=
for node in /opt/node"$want"/bin/node /opt/hostedtoolcache/node/"$want".*/x64/bin/node "$(command -v node || :)" \
    "$(command -v nodejs || :)" /opt/node[0-9]*/bin/node /opt/hostedtoolcache/node/*/x64/bin/node; do
  [ -x "$node" ] || continue
  version=$("$node" --version 2>/dev/null) || continue
  major=${version#v} major=${major%%.*}
  case $major in ''|*[!0-9]*) continue ;; esac
  if [ "$major" = "$want" ]; then echo "$node"; exit; fi
  if [ "$major" -gt "$want" ] && [ -z "$newer" ]; then newer=$node; fi
  case " $seen " in *" $version "*) ;; *) seen="${seen:+$seen }$version" ;; esac
done
if [ -n "$newer" ]; then echo "$newer"; exit; fi
echo "$seen"
exit 1
"#;

/// Bytes of the answer that count.
const ANSWER: usize = 1024;

impl<W: Witness> Steps<'_, W> {
    /// The program that runs an action which asks for this version, as the image has it: steps may have changed `PATH`.
    pub(in crate::job) async fn find_node(&mut self, version: u32) -> Result<String, VmError> {
        if let Some(known) = self.nodes.get(&version) {
            return Ok(known.clone());
        }
        let argv = ["sh", "-c", FIND, "dayfly", &version.to_string()].map(str::to_owned).to_vec();
        let env = self.image_environment().into_iter().collect();
        let owner = self.owner();
        let running = self.guest.exec(Exec { argv, env, directory: "/".to_owned(), owner, stdin: false }).await?;
        let (status, answer) = running.ended(ANSWER).await?;
        let answer = String::from_utf8_lossy(&answer).trim().to_owned();
        if status == ExitStatus::Code(0) && answer.starts_with('/') {
            self.nodes.insert(version, answer.clone());
            return Ok(answer);
        }
        let image = &self.image.name;
        let has = if answer.is_empty() { "none".to_owned() } else { answer.replace(' ', ", ") };
        let detail = format!(
            "the action needs Node.js {version} or newer, and the image `{image}` has {has}; use an image with it, such as `node`"
        );
        Err(VmError::Refused { what: "find Node.js", detail })
    }
}
