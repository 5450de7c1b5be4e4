//! Directories of the machine, and where a container has them. Pure.

use std::collections::BTreeMap;

/// The home of whoever runs in a container.
pub(in crate::job) const HOME: &str = "/github/home";

/// Where a job's container has all that is below the account's `work`.
const WORK: &str = "/__w";

/// Where it has the machine's own programs, for actions that need Node.js.
pub(super) const MACHINE: &str = "/__e";

/// Directories of the machine that programs are in.
pub(super) const PROGRAMS: [&str; 2] = ["/usr", "/opt"];

/// The mounts of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::job) struct Mounts {
    /// By these paths are translated; what is in another one comes first.
    places: Vec<(String, &'static str)>,
    /// The directory of all work under its own path, too: what is computed on the host names it so.
    same: Option<String>,
    has_programs: bool,
    /// Single files, and where the container has them; it cannot change them.
    files: Vec<(&'static str, &'static str)>,
}

impl Mounts {
    /// Those of an action's container, as GitHub's runner has them.
    pub(in crate::job) fn of_action(workspace: &str, temp: &str) -> Self {
        let places = vec![
            (workspace.to_owned(), "/github/workspace"),
            (format!("{temp}/_github_home"), HOME),
            (format!("{temp}/_github_workflow"), "/github/workflow"),
            (format!("{temp}/_runner_file_commands"), "/github/file_commands"),
            // After those that are in it.
            (temp.to_owned(), "/github/runner_temp"),
        ];
        Self { places, same: None, has_programs: false, files: Vec::new() }
    }

    /// Those of the container that a job's steps run in. `work` has the workspace, actions and temporary files.
    pub(super) fn of_job(work: &str, temp: &str, tool_cache: &str) -> Self {
        let places = vec![
            (format!("{temp}/_github_home"), HOME),
            (format!("{temp}/_github_workflow"), "/github/workflow"),
            (work.to_owned(), WORK),
            (tool_cache.to_owned(), "/__t"),
        ];
        Self { places, same: Some(work.to_owned()), has_programs: true, files: Vec::new() }
    }

    /// Likewise, with these files.
    pub(in crate::job) fn with_files(self, files: Vec<(&'static str, &'static str)>) -> Self {
        Self { files, ..self }
    }

    /// The directories that must be there.
    pub(in crate::job) fn directories(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|(directory, _)| directory.as_str())
    }

    /// Directories of the machine, and where the container has them.
    pub(super) fn places(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.places.iter().map(|(directory, place)| (directory.as_str(), *place))
    }

    /// The same path in the container, if it is below one of the directories.
    pub(in crate::job) fn translate(&self, path: &str) -> Option<String> {
        self.places.iter().find_map(|(directory, place)| {
            let rest = path.strip_prefix(directory.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{place}{rest}"))
        })
    }

    /// As [`Mounts::translate`], or the path as it is.
    pub(super) fn inside(&self, path: &str) -> String {
        self.translate(path).unwrap_or_else(|| path.to_owned())
    }

    /// The variables of a step as a container's programs have to see them. `PATH` and `HOME` are the container's. Where the
    /// container lacks the machine's own paths, whatever value names one is translated.
    pub(in crate::job) fn environment(&self, env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let is_runners = |name: &str| name.starts_with("GITHUB_") || name.starts_with("RUNNER_");
        let own = env.iter().filter(|(name, _)| !matches!(name.as_str(), "PATH" | "HOME") && !name.contains('='));
        own.map(|(name, value)| {
            let is_translated = self.same.is_none() || is_runners(name);
            let translated = is_translated.then(|| self.translate(value)).flatten();
            (name.clone(), translated.unwrap_or_else(|| value.clone()))
        })
        .collect()
    }

    /// The arguments by which Docker makes them, with its socket.
    pub(in crate::job) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--volume".to_owned(), "/run/docker.sock:/var/run/docker.sock".to_owned()];
        // Not `--volume`: a colon in a name would change its meaning.
        let mut bind = |source: &str, target: &str, more: &str| {
            let target = field("target", target);
            arguments.extend(["--mount".to_owned(), format!("type=bind,{},{target}{more}", field("source", source))]);
        };
        for (directory, place) in &self.places {
            bind(directory, place, "");
        }
        if let Some(directory) = &self.same {
            bind(directory, directory, "");
        }
        for (file, place) in &self.files {
            bind(file, place, ",readonly");
        }
        for directory in PROGRAMS.into_iter().filter(|_| self.has_programs) {
            bind(directory, &format!("{MACHINE}{directory}"), ",readonly");
        }
        arguments
    }
}

/// A field of comma-separated values, quoted as those are.
fn field(name: &str, value: &str) -> String {
    let field = format!("{name}={value}");
    if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_container_has_what_githubs_runner_gives_it() {
        let mounts = Mounts::of_job("/home/x/jobs", "/home/x/jobs/_temp", "/opt/hostedtoolcache");
        for (path, inside) in [
            ("/home/x/jobs/site/site", Some("/__w/site/site")),
            ("/home/x/jobs/_temp/_github_workflow/event.json", Some("/github/workflow/event.json")),
            ("/home/x/jobs/_temp/_github_home", Some(HOME)),
            ("/home/x/jobs/_temp", Some("/__w/_temp")),
            ("/home/x/jobs/_actions/a/b/v1", Some("/__w/_actions/a/b/v1")),
            ("/opt/hostedtoolcache", Some("/__t")),
            ("/home/x/jobs-2", None),
            ("/usr/src", None),
        ] {
            assert_eq!(mounts.translate(path).as_deref(), inside, "{path}");
        }
        insta::assert_snapshot!(mounts.arguments().join("\n"), @"
        --volume
        /run/docker.sock:/var/run/docker.sock
        --mount
        type=bind,source=/home/x/jobs/_temp/_github_home,target=/github/home
        --mount
        type=bind,source=/home/x/jobs/_temp/_github_workflow,target=/github/workflow
        --mount
        type=bind,source=/home/x/jobs,target=/__w
        --mount
        type=bind,source=/opt/hostedtoolcache,target=/__t
        --mount
        type=bind,source=/home/x/jobs,target=/home/x/jobs
        --mount
        type=bind,source=/usr,target=/__e/usr,readonly
        --mount
        type=bind,source=/opt,target=/__e/opt,readonly
        ");
        let more = mounts.clone().with_files(vec![("/run/a", "/b")]).arguments();
        assert!(more.contains(&"type=bind,source=/run/a,target=/b,readonly".to_owned()), "{more:?}");
    }

    #[test]
    fn an_actions_container_knows_no_path_of_the_machine() {
        let env = [
            ("INPUT_PATH", "/home/x/jobs/a/a/dist"),
            ("GITHUB_WORKSPACE", "/home/x/jobs/a/a"),
            ("LIST", "a:/home/x/jobs/a/a/b"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let of_action = Mounts::of_action("/home/x/jobs/a/a", "/home/x/jobs/_temp").environment(&env);
        let seen: Vec<&str> = of_action.values().map(String::as_str).collect();
        // Only what begins with such a path, as GitHub's runner has it.
        assert_eq!(seen, ["/github/workspace", "/github/workspace/dist", "a:/home/x/jobs/a/a/b"]);
        let of_job = Mounts::of_job("/home/x/jobs", "/home/x/jobs/_temp", "/t").environment(&env);
        let seen: Vec<&str> = of_job.values().map(String::as_str).collect();
        assert_eq!(seen, ["/__w/a/a", "/home/x/jobs/a/a/dist", "a:/home/x/jobs/a/a/b"]);
    }

    #[test]
    fn names_stay_values() {
        assert_eq!(field("source", "/a,b\"c"), "\"source=/a,b\"\"c\"");
    }
}
