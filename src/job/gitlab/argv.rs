//! Command lines of Docker for the containers of a job of GitLab's. Pure.
//!
//! The machine is the job's alone, so that its containers may do everything in it: they are privileged, as images that hold
//! Docker itself want it, and the job's own one is on the machine's network, where it finds what the host offers.

use std::collections::{BTreeMap, BTreeSet};

use crate::gitlab::job::containers::{Container, Service};
use crate::gitlab::job::plan::BUILDS;
use crate::job::container::argv::{NETWORK, words};
use crate::job::container::variables::{CERTIFICATES, Handover, offered};
use crate::job::toolkit::{TRUSTED, trust_variables};

/// What takes a script as its input, in the better of the image's shells.
const SHELL: &str = "if command -v bash >/dev/null 2>&1; then exec bash; fi; exec sh";

/// Where Docker in a service leaves what its clients need.
const CLIENT_CERTIFICATES: &str = "dayfly_certificates:/certs/client";

/// What the job's container has beside its image.
#[derive(Debug, Clone, Default)]
pub(super) struct Surroundings {
    /// Names of services, and where they are.
    pub(super) hosts: Vec<(String, String)>,
    pub(super) variables: BTreeMap<String, String>,
    /// Files of the machine, and where it has them.
    pub(super) files: Vec<(String, String)>,
}

/// The container that scripts run in, before it is started. It ends with the script that is its input, and is started again for the
/// next one.
pub(super) fn create_job(container: &Container, around: Surroundings) -> Handover {
    let mut argv = words(&["docker", "create", "--interactive", "--network", "host", "--workdir", BUILDS]);
    argv.extend(around.hosts.iter().map(|(name, address)| format!("--add-host={name}:{address}")));
    for (file, place) in &around.files {
        argv.extend(["--mount".to_owned(), format!("type=bind,source={file},target={place},readonly")]);
    }
    let command = words(&["sh", "-c", SHELL]);
    rest_of(container, argv, around.variables, &command)
}

/// A service's container, before it is started. Others find it by its aliases. `known` are the names of all.
pub(super) fn create_service<'n>(service: &Service, known: impl IntoIterator<Item = &'n str>) -> Handover {
    let mut argv = words(&["docker", "create", "--network", NETWORK]);
    argv.extend(service.aliases.iter().map(|alias| format!("--network-alias={alias}")));
    // None of what the host offers: what checks itself would ask the proxy for its own host.
    let mut variables = offered(&[], known);
    variables.extend(service.variables.clone());
    rest_of(&service.container, argv, variables, &service.container.command)
}

/// What both kinds have.
fn rest_of(
    container: &Container, mut argv: Vec<String>, variables: BTreeMap<String, String>, command: &[String],
) -> Handover {
    argv.extend(words(&["--privileged", "--volume", CLIENT_CERTIFICATES]));
    argv.extend(words(&["--mount", &format!("type=bind,source={BUILDS},target={BUILDS}")]));
    let said = [("--platform", &container.platform), ("--user", &container.user)];
    argv.extend(said.into_iter().filter_map(|(option, value)| Some(format!("{option}={}", value.as_ref()?))));
    let Handover { arguments, env } = Handover::new(variables);
    argv.extend(arguments);
    let (first, more) = container.entrypoint.split_first().map_or((None, &[][..]), |(first, more)| (Some(first), more));
    argv.extend(first.map(|first| format!("--entrypoint={first}")));
    argv.extend(words(&["--", &container.image]));
    argv.extend(more.iter().chain(command).cloned());
    Handover { arguments: argv, env }
}

/// Brings the image; `config` is the client's directory of credentials.
pub(super) fn pull(config: Option<&str>, container: &Container) -> Vec<String> {
    let mut argv = words(&["docker"]);
    argv.extend(config.into_iter().flat_map(|config| words(&["--config", config])));
    argv.extend(words(&["pull", "--quiet"]));
    argv.extend(container.platform.iter().map(|platform| format!("--platform={platform}")));
    argv.extend(words(&["--", &container.image]));
    argv
}

/// Runs the container with the script that is the client's input, to its end.
pub(super) fn run(id: &str) -> Vec<String> {
    words(&["docker", "start", "--attach", "--interactive", "--", id])
}

/// What the host offers to programs of the machine, for those in a container on its network: without what names files that it
/// has not. `names` are services, which are asked directly.
pub(super) fn host_variables<'n>(
    machines: &[(String, String)], names: impl Iterator<Item = &'n str>,
) -> BTreeMap<String, String> {
    let trust = trust_variables();
    let names: Vec<&str> = names.collect();
    let is_meant = |(name, value): &&(String, String)| {
        let is_trusted = trust.iter().any(|(known, _)| known == name);
        is_trusted || !value.contains('/') || value.contains("://127.0.0.1:")
    };
    let with_names = |(name, value): &(String, String)| {
        let is_list = name.eq_ignore_ascii_case("no_proxy");
        let all =
            is_list.then(|| [value.as_str()].into_iter().chain(names.iter().copied()).collect::<Vec<_>>().join(","));
        (name.clone(), all.unwrap_or_else(|| place_of(value).to_owned()))
    };
    // Docker's client names a proxy where nobody else does.
    let mut variables = offered(&[], names.iter().copied());
    variables.extend(machines.iter().filter(is_meant).map(with_names));
    variables
}

/// The machine's files of certificates that variables of the host's name, each once, and where the container has them.
pub(super) fn certificate_files(machines: &[(String, String)]) -> Vec<(String, String)> {
    let trust = trust_variables();
    let named: BTreeSet<&String> = machines.iter().filter(|one| trust.contains(one)).map(|(_, file)| file).collect();
    named.into_iter().map(|file| (file.clone(), place_of(file).to_owned())).collect()
}

/// Where the container has a file of the machine's. What it trusts itself stays its own: programs replace that file, which they
/// could not do with a mount.
fn place_of(file: &str) -> &str {
    if file == TRUSTED { CERTIFICATES } else { file }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gitlab::job::containers::Pull;

    fn container(image: &str) -> Container {
        Container { image: image.to_owned(), pull: vec![Pull::Always], ..Container::default() }
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_jobs_container_waits_for_scripts() {
        let around = Surroundings {
            hosts: pairs(&[("db", "172.18.0.2")]),
            variables: pairs(&[("A", "secret"), ("PATH", "/x")]).into_iter().collect(),
            files: certificate_files(&trust_variables()),
        };
        let own = Container {
            entrypoint: vec![String::new(), "x".to_owned()],
            user: Some("1000".to_owned()),
            ..container("node:22")
        };
        let created = create_job(&own, around);
        insta::assert_snapshot!(created.arguments.join("\n"), @"
        docker
        create
        --interactive
        --network
        host
        --workdir
        /builds
        --add-host=db:172.18.0.2
        --mount
        type=bind,source=/etc/ssl/certs/ca-certificates.crt,target=/run/dayfly/container-certificates.crt,readonly
        --mount
        type=bind,source=/usr/local/share/ca-certificates/dayfly.crt,target=/usr/local/share/ca-certificates/dayfly.crt,readonly
        --privileged
        --volume
        dayfly_certificates:/certs/client
        --mount
        type=bind,source=/builds,target=/builds
        --user=1000
        --env
        A
        --env
        PATH=/x
        --entrypoint=
        --
        node:22
        x
        sh
        -c
        if command -v bash >/dev/null 2>&1; then exec bash; fi; exec sh
        ");
        assert_eq!(created.env.get("A").map(String::as_str), Some("secret"));
        let own = Container { platform: Some("linux/arm64".to_owned()), ..own };
        assert_eq!(
            pull(Some("/c"), &own).join(" "),
            "docker --config /c pull --quiet --platform=linux/arm64 -- node:22"
        );
        assert_eq!(pull(None, &container("a")).join(" "), "docker pull --quiet -- a");
        assert_eq!(run("0a").join(" "), "docker start --attach --interactive -- 0a");
    }

    #[test]
    fn a_service_has_its_names_and_its_command() {
        let service = Service {
            container: Container { command: vec!["-c".to_owned(), "x=1".to_owned()], ..container("postgres:16") },
            aliases: vec!["postgres".to_owned(), "db".to_owned()],
            variables: pairs(&[("POSTGRES_PASSWORD", "secret"), ("no_proxy", "own")]).into_iter().collect(),
        };
        let created = create_service(&service, ["postgres", "db"]);
        let line = created.arguments.join(" ");
        assert!(
            line.starts_with("docker create --network dayfly_job --network-alias=postgres --network-alias=db "),
            "{line}"
        );
        assert!(line.ends_with(" -- postgres:16 -c x=1") && !line.contains("secret"), "{line}");
        assert_eq!(created.env.get("no_proxy").map(String::as_str), Some("own"));
        assert_eq!(created.env.get("http_proxy").map(String::as_str), Some(""));
    }

    #[test]
    fn what_the_host_offers_is_where_it_is_for_the_machine() {
        let mut machines = pairs(&[
            ("http_proxy", "http://127.0.0.1:3128"),
            ("no_proxy", "localhost,127.0.0.1"),
            ("MAVEN_ARGS", "--global-settings /run/dayfly/maven.xml"),
            ("TOKEN", "plain"),
        ]);
        let named = |machines: &[(String, String)]| {
            let variables = host_variables(machines, ["db", "web"].into_iter());
            variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            named(&machines),
            "ALL_PROXY= HTTPS_PROXY= HTTP_PROXY= NO_PROXY=localhost,127.0.0.1,::1,172.17.0.1,db,web TOKEN=plain all_proxy= \
             http_proxy=http://127.0.0.1:3128 https_proxy= no_proxy=localhost,127.0.0.1,db,web"
        );
        assert!(certificate_files(&machines).is_empty());
        machines.extend(trust_variables());
        assert!(named(&machines).contains("SSL_CERT_FILE=/run/dayfly/container-certificates.crt"));
        assert_eq!(certificate_files(&machines).len(), 2);
    }
}
