//! `actions/setup-node` and `actions/setup-python` without the action: where the image has the version that is asked for, nothing
//! has to be fetched.

use super::tool_cache::{Named, Wanted};
use super::{Steps, Witness};
use crate::protocol::message::ExitStatus;
use crate::vm::VmError;
use crate::workflow::action::inputs::Given;
use crate::workflow::action::version::{Range, Version};
use crate::workflow::action::{ActionRef, RemoteAction};
use crate::workflow::run::{JobRun, StepEnd, StepPlan, StepResult, UsesPlan};

/// Bytes of the list of what there is.
const LISTED: usize = 16 << 10;

/// Bytes of a file that names a version.
const VERSION_FILE: u32 = 4096;

/// Inputs of both actions that are heeded.
const HEEDED: [&str; 3] = ["cache", "cache-dependency-path", "update-environment"];

/// Inputs that change nothing here: what they save or choose is not needed where the tool is there already.
const IGNORED: [&str; 5] = ["check-latest", "token", "architecture", "package-manager-cache", "allow-prereleases"];

/// A tool that images may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Node,
    Python,
}

/// The inputs of a step that sets a tool up.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    tool: Tool,
    given: &'a Given,
}

impl<'a> Asked<'a> {
    /// An input without the spaces around it; empty if it was not given.
    fn value(self, name: &str) -> &'a str {
        let given = self.given.iter().rev().find(|(known, _)| known.eq_ignore_ascii_case(name));
        given.map_or("", |(_, value)| value.trim())
    }

    /// An input that says more than what is done here.
    fn of_the_action_itself(self) -> Option<&'a str> {
        let own = [self.tool.input(), self.tool.file_input()];
        let is_known =
            |name: &str| own.iter().chain(&HEEDED).chain(&IGNORED).any(|known| name.eq_ignore_ascii_case(known));
        let mut given = self.given.iter().filter(|(_, value)| !value.trim().is_empty());
        given.find(|(name, _)| !is_known(name)).map(|(name, _)| name.as_str())
    }
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

    /// What everybody expects beside it.
    const fn companion(self) -> &'static str {
        match self {
            Self::Node => "npm",
            Self::Python => "pip",
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

    /// A file that is looked at where the step names neither a version nor a file.
    const fn usual_file(self) -> Option<&'static str> {
        match self {
            Self::Node => None,
            Self::Python => Some(".python-version"),
        }
    }

    /// Prints `VERSION DIRECTORY` for each one that is there with what belongs to it, that of `PATH` last.
    const fn list(self) -> &'static str {
        match self {
            Self::Node => {
                "for bin in /opt/hostedtoolcache/node/*/x64/bin /opt/node*/bin \"$(dirname \"$(command -v node || echo /none/x)\")\"; do\n\
                 if test -x \"$bin/node\" && test -e \"$bin/npm\"; then echo \"$(\"$bin/node\" --version) $bin\"; fi; done"
            }
            Self::Python => {
                "for bin in /opt/hostedtoolcache/Python/*/x64/bin \"$(dirname \"$(command -v python3 || echo /none/x)\")\"; do\n\
                 if test -x \"$bin/python3\" && test -x \"$bin/python\" && test -x \"$bin/pip\"; then echo \"$(\"$bin/python3\" -c 'import platform; print(platform.python_version())') $bin\"; fi; done"
            }
        }
    }
}

impl<W: Witness> Steps<'_, W> {
    /// Sets the tool up as the image has it; `None` if that is not what the step asks for, and why not, in words.
    pub(super) async fn set_up_tool(
        &mut self, tool: Tool, uses: &UsesPlan, plan: &StepPlan, run: &mut JobRun,
    ) -> Result<Result<StepResult, String>, VmError> {
        let asked = Asked { tool, given: &uses.with };
        if let Some(name) = asked.of_the_action_itself() {
            return Ok(Err(format!("its input `{name}` takes the action itself")));
        }
        let version = match (asked.value(tool.input()), asked.value(tool.file_input()), tool.usual_file()) {
            ("", "", None) => String::new(),
            ("", "", Some(usual)) => self.version_of(usual).await?.unwrap_or_default(),
            ("", file, _) => self.version_of(file).await?.unwrap_or_else(|| "(nothing)".to_owned()),
            (version, _, _) => version.to_owned(),
        };
        let installed = self.installed(tool).await?;
        let range = Range::parse(&version);
        let fitting = installed.iter().filter(|one| range.as_ref().is_some_and(|range| range.contains(one.version)));
        let Some(found) = fitting.max_by_key(|one| one.version) else {
            return Ok(Err(lacking(tool, &version, &installed, self.image_of_steps())));
        };
        let number = self.number_of(plan);
        let text = format!("{} {} is in the image `{}`", tool.name(), found.version, self.image_of_steps());
        self.witness.say(number, &text).await;
        let mut result = result(tool, found);
        if asked.value("update-environment").eq_ignore_ascii_case("false") {
            (result.env, result.path) = (Vec::new(), Vec::new());
        }
        let name = asked.value("cache");
        let manager = match Named::read(tool, name) {
            Named::Nothing => return Ok(Ok(result)),
            Named::Kept(manager) => manager,
            Named::PassedOver => {
                let text = format!("note: `cache: {name}` is passed over: only the action itself can do that");
                self.witness.say(number, &text).await;
                return Ok(Ok(result));
            }
            Named::Unknown => {
                let why = format!("`cache` is `{name}`, which is no package manager of {}", tool.name());
                return Ok(Ok(StepResult::new(StepEnd::Failed(why))));
            }
        };
        let files = asked.value("cache-dependency-path");
        let wanted = Wanted { manager, uses: uses.reference.to_string(), files, version: found.version };
        let kept = self.keep_fetched(&wanted, plan, run).await?;
        Ok(Ok(match kept {
            Ok(outputs) => StepResult { output: [result.output, outputs].concat(), ..result },
            Err(ended) => *ended,
        }))
    }

    async fn installed(&mut self, tool: Tool) -> Result<Vec<Installed>, VmError> {
        let argv = ["sh", "-c", tool.list()].map(str::to_owned).to_vec();
        let (status, listed) = self.ask_where_steps_run(argv, LISTED).await?;
        let listed =
            if status == ExitStatus::Code(0) { String::from_utf8_lossy(&listed).into_owned() } else { String::new() };
        Ok(listed.lines().filter_map(read_installed).collect())
    }

    /// The version that a file of the workspace names, if it names one.
    async fn version_of(&mut self, file: &str) -> Result<Option<String>, VmError> {
        let path = format!("{}/{}", self.places.workspace, file.trim_start_matches("./"));
        let content = self.guest.read_file(&path, VERSION_FILE).await?;
        let text = String::from_utf8_lossy(&content.bytes).into_owned();
        // A file of a tool of its own, such as `package.json`, is for the action itself to read.
        let version = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(version.map(str::to_owned))
    }
}

fn read_installed(line: &str) -> Option<Installed> {
    let (version, directory) = line.trim().split_once(' ')?;
    let directory = directory.starts_with('/').then(|| directory.to_owned())?;
    Some(Installed { version: Version::parse(version)?, directory })
}

fn lacking(tool: Tool, asked: &str, installed: &[Installed], image: &str) -> String {
    let has: Vec<String> = installed.iter().map(|one| one.version.to_string()).collect();
    let has = if has.is_empty() {
        format!("no {} with {}", tool.name(), tool.companion())
    } else {
        format!("{} {}", tool.name(), has.join(", "))
    };
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
        insta::assert_snapshot!(lacking(Tool::Node, "20", &[], "base"), @"the image `base` has no Node.js with npm, and `20` is asked for");
    }
}
