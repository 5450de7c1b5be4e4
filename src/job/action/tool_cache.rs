//! `cache` of `actions/setup-node` and `actions/setup-python`: what a package manager has fetched is kept from job to job, where
//! `actions/cache` keeps things.

use std::collections::BTreeMap;

use super::setup::Tool;
use super::{Steps, Witness};
use crate::job::hashing;
use crate::vm::VmError;
use crate::workflow::action::version::Version;
use crate::workflow::native::{NativeKind, NativePlan};
use crate::workflow::run::{JobRun, StepAction, StepEnd, StepPlan, StepResult};

/// What a step wants to be kept.
#[derive(Debug, Clone)]
pub(super) struct Wanted<'a> {
    pub(super) manager: Manager,
    /// The action as it was written, for the name of what comes after all steps.
    pub(super) uses: String,
    /// Patterns of files, one on each line; empty: the manager's usual ones.
    pub(super) files: &'a str,
    pub(super) version: Version,
}

/// A package manager whose fetched files can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    Npm,
    Pip,
}

/// What `cache` may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Nothing,
    Kept(Manager),
    /// The action knows it, and only the action does.
    PassedOver,
    Unknown,
}

impl Named {
    pub(super) fn read(tool: Tool, name: &str) -> Self {
        match (tool, name) {
            (_, "") => Self::Nothing,
            (Tool::Node, "npm") => Self::Kept(Manager::Npm),
            (Tool::Python, "pip") => Self::Kept(Manager::Pip),
            (Tool::Node, "yarn" | "pnpm") | (Tool::Python, "pipenv" | "poetry") => Self::PassedOver,
            _ => Self::Unknown,
        }
    }
}

impl Manager {
    /// Files that say what is installed; of these patterns the first one that matches counts.
    const fn usual_files(self) -> &'static [&'static str] {
        match self {
            Self::Npm => &["package-lock.json", "npm-shrinkwrap.json", "yarn.lock"],
            Self::Pip => &["**/requirements.txt", "**/pyproject.toml"],
        }
    }

    /// Where it has what it fetched, with these variables.
    fn directory(self, env: &BTreeMap<String, String>) -> String {
        let named = |name: &str| env.get(name).filter(|value| !value.is_empty()).cloned();
        match self {
            Self::Npm => {
                named("npm_config_cache").or_else(|| named("NPM_CONFIG_CACHE")).unwrap_or_else(|| "~/.npm".to_owned())
            }
            Self::Pip => named("PIP_CACHE_DIR")
                .or_else(|| named("XDG_CACHE_HOME").map(|directory| format!("{directory}/pip")))
                .unwrap_or_else(|| "~/.cache/pip".to_owned()),
        }
    }

    /// The key, and the beginning of others that will do. Packages that pip builds belong to the image that they were built in.
    fn keys(self, image: &str, version: Version, digest: &str) -> (String, String) {
        match self {
            Self::Npm => (format!("node-cache-Linux-x64-npm-{digest}"), String::new()),
            Self::Pip => {
                let line = format!("setup-python-Linux-x64-{}-python-{version}-pip", image.replace(',', "-"));
                (format!("{line}-{digest}"), line)
            }
        }
    }
}

impl<W: Witness> Steps<'_, W> {
    /// Brings what was kept, and has it kept again after all steps. Gives the outputs that say so, or how the step ended.
    pub(super) async fn keep_fetched(
        &mut self, wanted: &Wanted<'_>, plan: &StepPlan, run: &mut JobRun,
    ) -> Result<Result<Vec<u8>, Box<StepResult>>, VmError> {
        let failed = |why: String| Ok(Err(Box::new(StepResult::new(StepEnd::Failed(why)))));
        let digest = match self.digest(wanted, run).await? {
            Ok(digest) => digest,
            Err(why) => return failed(why),
        };
        let (key, others) = wanted.manager.keys(self.image_of_steps(), wanted.version, &digest);
        let inputs = [("key", key), ("restore-keys", others), ("path", wanted.manager.directory(&plan.env))];
        let native = NativePlan {
            uses: wanted.uses.clone(),
            kind: NativeKind::Cache,
            inputs: inputs.map(|(name, value)| (name.to_owned(), value)).into(),
            is_post: false,
        };
        let plan = StepPlan { action: StepAction::Native(native), ..plan.clone() };
        let result = self.run_step(&plan, run).await?;
        match result.end {
            StepEnd::Exited(_) => Ok(Ok(result.output)),
            // What was not kept is fetched again.
            StepEnd::Failed(why) => {
                self.witness.say(self.number_of(&plan), &format!("warning: nothing is kept: {why}")).await;
                Ok(Ok(Vec::new()))
            }
            _ => Ok(Err(Box::new(result))),
        }
    }

    /// The digest of the files that say what is installed; the inner error says in words why there is none.
    async fn digest(&mut self, wanted: &Wanted<'_>, run: &JobRun) -> Result<Result<String, String>, VmError> {
        let usual = wanted.manager.usual_files();
        let files: Vec<&str> = if wanted.files.is_empty() { usual.to_vec() } else { vec![wanted.files] };
        let (root, temp) = (run.workspace(), self.places.temp.as_str());
        for pattern in &files {
            let patterns = [(*pattern).to_owned()];
            match hashing::hash_files(self.guest, self.owner(), root, temp, &patterns).await? {
                Ok(digest) if digest.is_empty() => {}
                digest => return Ok(digest),
            }
        }
        let files: Vec<&str> = files.iter().flat_map(|pattern| pattern.lines()).map(str::trim).collect();
        Ok(Err(format!(
            "`cache` needs a file that says what is installed, and `{}` matches none in the workspace\n  hint: `actions/checkout` \
             comes first; `cache-dependency-path` names other files",
            files.join("`, `")
        )))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_has_package_managers_of_its_own() {
        for (tool, name, named) in [
            (Tool::Node, "", Named::Nothing),
            (Tool::Node, "npm", Named::Kept(Manager::Npm)),
            (Tool::Node, "pnpm", Named::PassedOver),
            (Tool::Node, "pip", Named::Unknown),
            (Tool::Python, "pip", Named::Kept(Manager::Pip)),
            (Tool::Python, "poetry", Named::PassedOver),
            (Tool::Python, "true", Named::Unknown),
        ] {
            assert_eq!(Named::read(tool, name), named, "{name}");
        }
    }

    #[test]
    fn fetched_files_are_where_variables_say() {
        let env = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        for (manager, variables, directory) in [
            (Manager::Npm, &[][..], "~/.npm"),
            (Manager::Npm, &[("NPM_CONFIG_CACHE", "/n")], "/n"),
            (Manager::Pip, &[("PIP_CACHE_DIR", "")], "~/.cache/pip"),
            (Manager::Pip, &[("XDG_CACHE_HOME", "/x")], "/x/pip"),
            (Manager::Pip, &[("PIP_CACHE_DIR", "/p"), ("XDG_CACHE_HOME", "/x")], "/p"),
        ] {
            assert_eq!(manager.directory(&env(variables)), directory);
        }
    }

    #[test]
    fn what_pip_built_stays_with_its_image_and_version() {
        let version = Version::parse("3.13.5").unwrap();
        let (key, others) = Manager::Pip.keys("python", version, "abc");
        assert_eq!(key, "setup-python-Linux-x64-python-python-3.13.5-pip-abc");
        assert_eq!(others, "setup-python-Linux-x64-python-python-3.13.5-pip");
        assert_eq!(Manager::Npm.keys("node", version, "abc"), ("node-cache-Linux-x64-npm-abc".into(), String::new()));
    }
}
