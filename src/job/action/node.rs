//! Which Node.js of the image runs an action.

use super::{Steps, Witness};
use crate::job::container::Inside;
use crate::protocol::message::ExitStatus;
use crate::vm::VmError;

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

/// Prints the loader of the machine's programs and where the program `$1` really is, if a container can have both.
const LOADED: &str = r#"
program=$(readlink -f "$1")
case $program in /usr/*|/opt/*) ;; *) exit 1 ;; esac
for loader in /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 /usr/lib64/ld-linux-x86-64.so.2; do
  if [ -e "$loader" ]; then echo "$loader $program"; exit; fi
done
exit 1
"#;

impl<W: Witness> Steps<'_, W> {
    /// The command line of what runs an action which asks for this version, where steps run: they may have changed `PATH`. A
    /// container's own Node.js comes before that of the machine.
    pub(in crate::job) async fn find_node(&mut self, version: u32) -> Result<Vec<String>, VmError> {
        if let Some(known) = self.nodes.get(&version) {
            return Ok(known.clone());
        }
        let argv = ["sh", "-c", FIND, "dayfly", &version.to_string()].map(str::to_owned).to_vec();
        let (status, answer) = self.ask_where_steps_run(argv.clone(), ANSWER).await?;
        let mut found = program_of(&status, &answer).map(|program| vec![program]);
        if found.is_none() && self.containers.job.is_some() {
            found = self.node_of_machine(argv).await?;
        }
        if let Some(found) = found {
            self.nodes.insert(version, found.clone());
            return Ok(found);
        }
        let answer = String::from_utf8_lossy(&answer).trim().to_owned();
        let image = self.image_of_steps();
        let has = match status {
            ExitStatus::Code(1) if !answer.is_empty() => answer.replace(' ', ", "),
            _ => "none".to_owned(),
        };
        let detail = format!(
            "the action needs Node.js {version} or newer, and the image `{image}` has {has}; use an image with it, such as `node`"
        );
        Err(VmError::Refused { what: "find Node.js", detail })
    }

    /// That of the machine, for a container.
    async fn node_of_machine(&mut self, find: Vec<String>) -> Result<Option<Vec<String>>, VmError> {
        let (status, answer) = self.ask_machine(find, ANSWER).await?;
        let Some(program) = program_of(&status, &answer) else { return Ok(None) };
        let argv = ["sh", "-c", LOADED, "dayfly", &program].map(str::to_owned).to_vec();
        let (status, answer) = self.ask_machine(argv, ANSWER).await?;
        let answer = String::from_utf8_lossy(&answer).trim().to_owned();
        let pair = answer.split_once(' ').filter(|_| status == ExitStatus::Code(0));
        if pair.is_some() {
            self.lend_node().await?;
        }
        Ok(pair.map(|(loader, program)| Inside::of_machine(loader, program)))
    }
}

/// The program that was found.
fn program_of(status: &ExitStatus, answer: &[u8]) -> Option<String> {
    let answer = String::from_utf8_lossy(answer).trim().to_owned();
    (*status == ExitStatus::Code(0) && answer.starts_with('/')).then_some(answer)
}
