//! `actions/setup-node` and `actions/setup-python` without the action: where the image has the version that is asked for, nothing
//! has to be fetched.

use super::{Steps, Witness};
use crate::protocol::message::ExitStatus;
use crate::vm::VmError;
use crate::workflow::action::inputs::Given;
use crate::workflow::action::version::{Range, Version};
use crate::workflow::action::{ActionRef, RemoteAction};
use crate::workflow::run::{StepEnd, StepPlan, StepResult};

/// Bytes of the list of what there is.
const LISTED: usize = 16 << 10;

/// Bytes of a file that names a version.
const VERSION_FILE: u32 = 4096;

/// A tool that images may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Node,
    Python,
}

/// A version of a tool in the image, and the directory that goes into `PATH` for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Installed {
    version: Version,
    directory: String,
}

impl Tool {
    /// The tool that an action sets up, if it is one of these actions.
    pub(super) fn of(reference: &ActionRef) -> Option<Self> {
        let name = reference.remote().map(RemoteAction::name)?.to_ascii_lowercase();
        match name.as_str() {
            "actions/setup-node" => Some(Self::Node),
            "actions/setup-python" => Some(Self::Python),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Node => "Node.js",
            Self::Python => "Python",
        }
    }

    const fn input(self) -> &'static str {
        match self {
            Self::Node => "node-version",
            Self::Python => "python-version",
        }
    }

    const fn file_input(self) -> &'static str {
        match self {
            Self::Node => "node-version-file",
            Self::Python => "python-version-file",
        }
    }

    /// Inputs that change nothing here: what they save or choose is not needed where the tool is there already.
    fn ignores(self, name: &str) -> bool {
        const IGNORED: [&str; 8] = [
            "cache",
            "cache-dependency-path",
            "check-latest",
            "token",
            "architecture",
            "package-manager-cache",
            "update-environment",
            "allow-prereleases",
        ];
        IGNORED.iter().any(|ignored| name.eq_ignore_ascii_case(ignored))
    }

    /// Prints `VERSION DIRECTORY` for each one that is there, that of `PATH` last.
    const fn list(self) -> &'static str {
        match self {
            Self::Node => {
                "for bin in /opt/hostedtoolcache/node/*/x64/bin /opt/node*/bin \"$(dirname \"$(command -v node || echo /none/x)\")\"; do\n\
                 if test -x \"$bin/node\"; then echo \"$(\"$bin/node\" --version) $bin\"; fi; done"
            }
            Self::Python => {
                "for bin in /opt/hostedtoolcache/Python/*/x64/bin \"$(dirname \"$(command -v python3 || echo /none/x)\")\"; do\n\
                 if test -x \"$bin/python3\"; then echo \"$(\"$bin/python3\" -c 'import platform; print(platform.python_version())') $bin\"; fi; done"
            }
        }
    }
}

impl<W: Witness> Steps<'_, W> {
    /// Sets the tool up as the image has it; `None` if that is not what the step asks for, and why not, in words.
    pub(super) async fn set_up_tool(
        &mut self, tool: Tool, given: &Given, plan: &StepPlan,
    ) -> Result<Result<StepResult, String>, VmError> {
        let value = |name: &str| {
            given.iter().rev().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        let is_known =
            |name: &str| [tool.input(), tool.file_input()].iter().any(|known| name.eq_ignore_ascii_case(known));
        let other =
            given.iter().find(|(name, value)| !is_known(name) && !tool.ignores(name) && !value.trim().is_empty());
        if let Some((name, _)) = other {
            return Ok(Err(format!("its input `{name}` takes the action itself")));
        }
        let asked = match (value(tool.input()), value(tool.file_input())) {
            (Some(version), _) if !version.is_empty() => version.to_owned(),
            (_, Some(file)) if !file.is_empty() => self.version_of(file).await?,
            _ => String::new(),
        };
        let installed = self.installed(tool).await?;
        let Some(range) = Range::parse(&asked) else {
            return Ok(Err(lacking(tool, &asked, &installed, self.image_of_steps())));
        };
        let found = installed.iter().filter(|one| range.contains(one.version)).max_by_key(|one| one.version);
        let Some(found) = found else { return Ok(Err(lacking(tool, &asked, &installed, self.image_of_steps()))) };
        let number = self.number_of(plan);
        let text = format!("{} {} is in the image `{}`", tool.name(), found.version, self.image_of_steps());
        self.witness.say(number, &text).await;
        if value("cache").is_some_and(|cache| !cache.is_empty()) {
            self.witness
                .say(number, "note: `cache` is passed over: what is installed already is set up without the action")
                .await;
        }
        Ok(Ok(result(tool, found)))
    }

    async fn installed(&mut self, tool: Tool) -> Result<Vec<Installed>, VmError> {
        let argv = ["sh", "-c", tool.list()].map(str::to_owned).to_vec();
        let (status, listed) = self.ask_where_steps_run(argv, LISTED).await?;
        let listed =
            if status == ExitStatus::Code(0) { String::from_utf8_lossy(&listed).into_owned() } else { String::new() };
        Ok(listed.lines().filter_map(read_installed).collect())
    }

    /// The version that a file of the workspace names.
    async fn version_of(&mut self, file: &str) -> Result<String, VmError> {
        let path = format!("{}/{}", self.places.workspace, file.trim_start_matches("./"));
        let content = self.guest.read_file(&path, VERSION_FILE).await?;
        let text = String::from_utf8_lossy(&content.bytes).into_owned();
        // A file of a tool of its own, such as `package.json`, is for the action itself to read.
        let version = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(version.unwrap_or("(nothing)").to_owned())
    }
}

fn read_installed(line: &str) -> Option<Installed> {
    let (version, directory) = line.trim().split_once(' ')?;
    let directory = directory.starts_with('/').then(|| directory.to_owned())?;
    Some(Installed { version: Version::parse(version)?, directory })
}

fn lacking(tool: Tool, asked: &str, installed: &[Installed], image: &str) -> String {
    let has: Vec<String> = installed.iter().map(|one| one.version.to_string()).collect();
    let has =
        if has.is_empty() { format!("no {}", tool.name()) } else { format!("{} {}", tool.name(), has.join(", ")) };
    format!("the image `{image}` has {has}, and `{asked}` is asked for")
}

/// What the action would have left: its outputs, and the tool first in `PATH`.
fn result(tool: Tool, found: &Installed) -> StepResult {
    let Installed { version, directory } = found;
    let mut result = StepResult::new(StepEnd::Exited(0));
    // The directory of `PATH` itself would come before what steps put there.
    if !matches!(directory.as_str(), "/usr/bin" | "/bin") {
        result.path = format!("{directory}\n").into_bytes();
    }
    match tool {
        Tool::Node => result.output = format!("node-version=v{version}\ncache-hit=false\n").into_bytes(),
        Tool::Python => {
            result.output =
                format!("python-version={version}\npython-path={directory}/python3\ncache-hit=false\n").into_bytes();
            let root = directory.strip_suffix("/bin").unwrap_or(directory);
            result.env =
                format!("pythonLocation={root}\nPython_ROOT_DIR={root}\nPython3_ROOT_DIR={root}\n").into_bytes();
        }
    }
    result
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_strangers_are_read_line_by_line() {
        let read = |line| read_installed(line).map(|one| (one.version.to_string(), one.directory));
        assert_eq!(read("v20.19.2 /usr/bin"), Some(("20.19.2".into(), "/usr/bin".into())));
        for line in ["", "v20 /usr/bin", "20.1.2", "20.1.2 usr/bin", "error: 1.2.3 /x"] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn only_these_actions_are_known() {
        let of = |text: &str| Tool::of(&ActionRef::parse(text).unwrap());
        assert_eq!(of("actions/setup-node@v4"), Some(Tool::Node));
        assert_eq!(of("Actions/Setup-Python@v5"), Some(Tool::Python));
        assert_eq!(
            (of("acme/setup-node@v4"), of("actions/setup-node/sub@v4"), of("./actions/setup-node")),
            (None, None, None)
        );
    }

    #[test]
    fn what_is_missing_is_named_with_what_there_is() {
        let installed = [read_installed("3.13.5 /usr/bin").unwrap()];
        insta::assert_snapshot!(lacking(Tool::Python, "3.9", &installed, "python"), @"the image `python` has Python 3.13.5, and `3.9` is asked for");
        insta::assert_snapshot!(lacking(Tool::Node, "20", &[], "base"), @"the image `base` has no Node.js, and `20` is asked for");
    }
}
