//! Command lines of Docker for the containers of actions. Pure.
//!
//! No value stands in them that a workflow could have secret: variables go by name, and Docker's client has their values in its
//! environment. What a workflow writes stands where only a value can stand, so that it is never an option.

use crate::job::container::argv::NETWORK;
use crate::job::container::mounts::{HOME, Mounts};

/// One container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Container<'a> {
    pub(super) image: &'a str,
    pub(super) entrypoint: Option<&'a str>,
    pub(super) arguments: &'a [String],
    pub(super) mounts: &'a Mounts,
    /// Whether the job has a network for its containers, of which it is one then.
    pub(super) joins_network: bool,
}

impl Container<'_> {
    /// Makes it, runs it to its end and removes it. `variables` are the client's arguments for those that it gets.
    pub(super) fn run(&self, variables: &[String]) -> Vec<String> {
        let mut argv = words(&["docker", "run", "--rm", "--workdir", "/github/workspace"]);
        if self.joins_network {
            argv.extend(words(&["--network", NETWORK]));
        }
        argv.extend(words(&["--env", &format!("HOME={HOME}")]));
        argv.extend(variables.iter().cloned());
        argv.extend(self.mounts.arguments());
        if let Some(entrypoint) = self.entrypoint {
            argv.push(format!("--entrypoint={entrypoint}"));
        }
        argv.extend(words(&["--", self.image]));
        argv.extend(self.arguments.iter().cloned());
        argv
    }
}

/// Makes the image `tag` of a Dockerfile, with the directory that it is in for its files.
pub(super) fn build(tag: &str, dockerfile: &str) -> Vec<String> {
    let directory = dockerfile.rsplit_once('/').map_or(".", |(directory, _)| directory);
    words(&["docker", "build", "--quiet", "--tag", tag, "--file", dockerfile, "--", directory])
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::job::container::variables::Handover;

    #[test]
    fn a_container_gets_what_githubs_runner_gives_it() {
        let mounts = Mounts::of_action("/home/ci/jobs/site/site", "/home/ci/jobs/_temp");
        let env: BTreeMap<String, String> = [
            ("GITHUB_ENV", "/home/ci/jobs/_temp/_runner_file_commands/env_1"),
            ("GITHUB_WORKSPACE", "/home/ci/jobs/site/site"),
            ("INPUT_TOKEN", "secret"),
            ("INPUT_PATH", "/home/ci/jobs/site/site/x"),
            ("PATH", "/bin"),
            ("RUNNER_TEMP", "/home/ci/jobs/_temp"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let env = mounts.environment(&env);
        let arguments = ["--flag".to_owned(), "two words".to_owned()];
        let container = Container {
            image: "i:1",
            entrypoint: Some("/x"),
            arguments: &arguments,
            mounts: &mounts,
            joins_network: true,
        };
        let variables = Handover::new(env.clone()).arguments;
        insta::assert_snapshot!(container.run(&variables).join("\n"), @"
        docker
        run
        --rm
        --workdir
        /github/workspace
        --network
        dayfly_job
        --env
        HOME=/github/home
        --env
        GITHUB_ENV
        --env
        GITHUB_WORKSPACE
        --env
        INPUT_PATH
        --env
        INPUT_TOKEN
        --env
        RUNNER_TEMP
        --volume
        /run/docker.sock:/var/run/docker.sock
        --mount
        type=bind,source=/home/ci/jobs/site/site,target=/github/workspace
        --mount
        type=bind,source=/home/ci/jobs/_temp/_github_home,target=/github/home
        --mount
        type=bind,source=/home/ci/jobs/_temp/_github_workflow,target=/github/workflow
        --mount
        type=bind,source=/home/ci/jobs/_temp/_runner_file_commands,target=/github/file_commands
        --mount
        type=bind,source=/home/ci/jobs/_temp,target=/github/runner_temp
        --entrypoint=/x
        --
        i:1
        --flag
        two words
        ");
        let values: Vec<&str> = env.values().map(String::as_str).collect();
        assert_eq!(
            values,
            [
                "/github/file_commands/env_1",
                "/github/workspace",
                "/github/workspace/x",
                "secret",
                "/github/runner_temp"
            ]
        );
    }

    #[test]
    fn an_image_is_made_of_the_directory_of_its_dockerfile() {
        let built = |file: &str| build("t", file).join(" ");
        assert_eq!(built("/a/Dockerfile"), "docker build --quiet --tag t --file /a/Dockerfile -- /a");
        assert_eq!(built("/a/sub/Dockerfile"), "docker build --quiet --tag t --file /a/sub/Dockerfile -- /a/sub");
    }
}
