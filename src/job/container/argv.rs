//! Command lines of Docker for the containers of a job. Pure.
//!
//! What a workflow writes stands where only a value can stand, except for the `options` that it gives to Docker itself, which
//! are words of their own and never a shell's.

use std::collections::BTreeMap;

use super::mounts::Mounts;
use super::variables::Handover;
use crate::workflow::container::ContainerSpec;

/// The network of a job's containers.
pub(in crate::job) const NETWORK: &str = "dayfly_job";

/// The name of the container that steps run in, as others of the network know it.
pub(super) const JOB_ALIAS: &str = "job";

pub(in crate::job) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

pub(in crate::job) fn network() -> Vec<String> {
    words(&["docker", "network", "create", NETWORK])
}

/// Succeeds if the machine has the image.
pub(in crate::job) fn has_image(image: &str) -> Vec<String> {
    words(&["docker", "image", "inspect", "--format", "{{.Id}}", "--", image])
}

/// Tells a registry who asks; the password is the client's input. What it then knows is in the directory `config`.
pub(super) fn login(config: &str, username: &str, image: &str) -> Vec<String> {
    let user = format!("--username={username}");
    let mut argv = words(&["docker", "--config", config, "login", &user, "--password-stdin"]);
    if let Some(registry) = registry(image) {
        argv.extend(words(&["--", registry]));
    }
    argv
}

pub(in crate::job) fn pull(config: Option<&str>, image: &str) -> Vec<String> {
    let mut argv = words(&["docker"]);
    if let Some(config) = config {
        argv.extend(words(&["--config", config]));
    }
    argv.extend(words(&["pull", "--quiet", "--", image]));
    argv
}

/// The registry that an image names: its first part, if that is a host's name. Without one it is Docker's own.
fn registry(image: &str) -> Option<&str> {
    let (first, _) = image.split_once('/')?;
    (first == "localhost" || first.contains(['.', ':'])).then_some(first)
}

/// The container that steps run in, before it is started. It waits until the machine is destroyed.
pub(super) fn create_job(
    spec: &ContainerSpec, mounts: &Mounts, workspace: &str, offered: BTreeMap<String, String>,
) -> Handover {
    let always = [("HOME", super::mounts::HOME), ("GITHUB_ACTIONS", "true"), ("CI", "true")];
    let mut variables = offered;
    variables.extend(always.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let mut argv = words(&["docker", "create", "--network", NETWORK, "--network-alias", JOB_ALIAS]);
    argv.extend(words(&["--workdir", &mounts.inside(workspace)]));
    let env = rest_of(spec, variables, &mut argv);
    argv.extend(mounts.arguments());
    argv.extend(words(&["--entrypoint", "tail", "--", &spec.image, "-f", "/dev/null"]));
    Handover { arguments: argv, env }
}

/// A service's container, before it is started. Others find it by its name.
pub(super) fn create_service(name: &str, spec: &ContainerSpec, offered: BTreeMap<String, String>) -> Handover {
    let mut argv = words(&["docker", "create", "--network", NETWORK, "--network-alias", name]);
    let env = rest_of(spec, offered, &mut argv);
    if let Some(entrypoint) = &spec.entrypoint {
        argv.push(format!("--entrypoint={entrypoint}"));
    }
    argv.extend(words(&["--", &spec.image]));
    argv.extend(spec.command.iter().cloned());
    Handover { arguments: argv, env }
}

/// What both kinds have; gives the client's environment. The workflow's own variables come last.
fn rest_of(
    spec: &ContainerSpec, mut variables: BTreeMap<String, String>, argv: &mut Vec<String>,
) -> BTreeMap<String, String> {
    variables.extend(spec.env.iter().cloned());
    let Handover { arguments, env } = Handover::new(variables);
    argv.extend(arguments);
    argv.extend(spec.ports.iter().map(|port| format!("--publish={port}")));
    argv.extend(spec.volumes.iter().map(|volume| format!("--volume={volume}")));
    argv.extend(spec.options.iter().cloned());
    env
}

pub(in crate::job) fn start(id: &str) -> Vec<String> {
    words(&["docker", "start", "--", id])
}

pub(in crate::job) fn inspect(id: &str) -> Vec<String> {
    words(&["docker", "container", "inspect", "--format", "{{json .}}", "--", id])
}

/// What a container wrote last.
pub(in crate::job) fn logs(id: &str, lines: u32) -> Vec<String> {
    words(&["docker", "logs", "--tail", &lines.to_string(), "--", id])
}

/// Tells the numbers of the user and the group that programs in a container are of.
pub(super) fn exec_id(id: &str) -> Vec<String> {
    words(&["docker", "exec", id, "sh", "-c", "id -u; id -g"])
}

/// A program in a container, without its own command line.
pub(super) fn exec(id: &str, directory: &str, variables: &[String], has_input: bool) -> Vec<String> {
    let mut argv = words(&["docker", "exec"]);
    if has_input {
        argv.extend(words(&["--interactive"]));
    }
    argv.extend(words(&["--workdir", directory]));
    argv.extend(variables.iter().cloned());
    argv.push(id.to_owned());
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ContainerSpec {
        ContainerSpec {
            image: "postgres:16".into(),
            env: vec![("POSTGRES_PASSWORD".into(), "secret".into()), ("HOME".into(), "/root".into())],
            ports: vec!["5432".into(), "127.0.0.1:80:80/tcp".into()],
            volumes: vec!["/a b:/c:ro".into()],
            options: vec!["--health-cmd".into(), "pg_isready -q".into()],
            ..ContainerSpec::default()
        }
    }

    #[test]
    fn a_service_is_created_without_its_values() {
        let service = ContainerSpec { entrypoint: Some("/run".into()), command: vec!["-c".into()], ..spec() };
        let offered = BTreeMap::from([("no_proxy".to_owned(), "db".to_owned())]);
        let created = create_service("db", &service, offered);
        insta::assert_snapshot!(created.arguments.join("\n"), @"
        docker
        create
        --network
        dayfly_job
        --network-alias
        db
        --env
        HOME=/root
        --env
        POSTGRES_PASSWORD
        --env
        no_proxy
        --publish=5432
        --publish=127.0.0.1:80:80/tcp
        --volume=/a b:/c:ro
        --health-cmd
        pg_isready -q
        --entrypoint=/run
        --
        postgres:16
        -c
        ");
        assert_eq!(created.env.get("POSTGRES_PASSWORD").map(String::as_str), Some("secret"));
    }

    #[test]
    fn the_jobs_container_waits_for_steps() {
        let mounts = Mounts::of_action("/home/x/jobs/site/site", "/home/x/jobs/_temp");
        let spec = ContainerSpec { image: "alpine".into(), ..ContainerSpec::default() };
        let created = create_job(&spec, &mounts, "/home/x/jobs/site/site", BTreeMap::new()).arguments;
        let argv: Vec<&str> = created.iter().map(String::as_str).collect();
        let start = "docker create --network dayfly_job --network-alias job --workdir /github/workspace --env CI --env GITHUB_ACTIONS --env HOME=/github/home";
        assert!(argv.join(" ").starts_with(start), "{argv:?}");
        assert!(argv.ends_with(&["--entrypoint", "tail", "--", "alpine", "-f", "/dev/null"]), "{argv:?}");
    }

    #[test]
    fn registries_are_told_by_the_images_name() {
        for (image, found) in [
            ("alpine", None),
            ("library/alpine:3", None),
            ("ghcr.io/o/r@sha256:a", Some("ghcr.io")),
            ("localhost/x", Some("localhost")),
            ("host:5000/x", Some("host:5000")),
        ] {
            assert_eq!(registry(image), found, "{image}");
        }
        assert_eq!(
            login("/c", "-u x", "ghcr.io/a").join(" "),
            "docker --config /c login --username=-u x --password-stdin -- ghcr.io"
        );
        assert_eq!(pull(Some("/c"), "a").join(" "), "docker --config /c pull --quiet -- a");
        assert_eq!(
            exec("id", "/__w", &["--env".into(), "A".into()], true).join(" "),
            "docker exec --interactive --workdir /__w --env A id"
        );
    }
}
