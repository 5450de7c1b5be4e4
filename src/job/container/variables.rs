//! Variables of containers. Pure.
//!
//! They go by name: Docker's client has their values in its environment, and no command line shows one. What the client would
//! obey itself is the exception, which has no secrets in it.

use std::collections::BTreeMap;

use crate::job::toolkit::{MAVEN_SETTINGS, OWN_CERTIFICATES, TRUSTED};

/// The machine as containers see it: the address of Docker's own bridge.
const MACHINE: &str = "172.17.0.1";

const LOOPBACK: &str = "127.0.0.1";

/// All certificates that a container trusts where the operator has some of their own. The machine has the file there, too.
pub(in crate::job) const CERTIFICATES: &str = "/run/dayfly/container-certificates.crt";

/// What programs write before an address of the machine, in addresses and in files of their own, and what comes behind it.
const AROUND: [(&str, &str); 3] = [("http://", ":"), ("<host>", "<"), ("Host=", "\n")];

/// What containers reach without the proxy.
const DIRECT: &str = "localhost,127.0.0.1,::1,172.17.0.1";

const PROXIES: [&str; 6] = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// Variables that would change what Docker's client does.
const OF_CLIENT: [&str; 15] = [
    "DOCKER_API_VERSION",
    "DOCKER_CERT_PATH",
    "DOCKER_CONFIG",
    "DOCKER_CONTENT_TRUST",
    "DOCKER_CONTENT_TRUST_SERVER",
    "DOCKER_CONTEXT",
    "DOCKER_DEFAULT_PLATFORM",
    "DOCKER_HOST",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "GODEBUG",
    "HOME",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "PATH",
];

/// Variables on their way into a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::job) struct Handover {
    /// The client's arguments.
    pub(in crate::job) arguments: Vec<String>,
    /// The client's environment.
    pub(in crate::job) env: BTreeMap<String, String>,
}

impl Handover {
    pub(in crate::job) fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut handover = Self::default();
        for (name, value) in variables {
            handover.arguments.push("--env".to_owned());
            if OF_CLIENT.contains(&name.as_str()) {
                handover.arguments.push(format!("{name}={value}"));
            } else {
                handover.arguments.push(name.clone());
                handover.env.insert(name, value);
            }
        }
        handover
    }
}

/// The variables by which programs of the machine find what the host offers, as those in containers have to see them. `names`
/// are other containers, which are asked directly.
///
/// Files that variables name are the machine's, so those are left out but for what containers are lent. Proxies that are not there
/// are said to be none: Docker's client would name one otherwise.
pub(in crate::job) fn offered<'n>(
    machines: &[(String, String)], names: impl IntoIterator<Item = &'n str>,
) -> BTreeMap<String, String> {
    let names_file = |value: &str| value.contains('/') && !value.contains(&format!("http://{LOOPBACK}:"));
    let mut variables: BTreeMap<String, String> = PROXIES.map(|name| (name.to_owned(), String::new())).into();
    for (name, value) in machines {
        let seen = match value.as_str() {
            TRUSTED => CERTIFICATES.to_owned(),
            lent if lent == OWN_CERTIFICATES || lent.ends_with(MAVEN_SETTINGS) => lent.to_owned(),
            file if names_file(file) => continue,
            value => at_the_bridge(value),
        };
        variables.insert(name.clone(), seen);
    }
    let direct: Vec<&str> = std::iter::once(DIRECT).chain(names).collect();
    variables.extend(NO_PROXY.map(|name| (name.to_owned(), direct.join(","))));
    variables
}

/// A text of the machine's in which the machine is where containers find it.
pub(super) fn at_the_bridge(text: &str) -> String {
    let text = AROUND.iter().fold(text.to_owned(), |text, (before, behind)| {
        text.replace(&format!("{before}{LOOPBACK}{behind}"), &format!("{before}{MACHINE}{behind}"))
    });
    // What programs for Java ask directly.
    text.replace("localhost|127.*", &format!("localhost|127.*|{MACHINE}"))
}

/// Whether the operator has certificates for programs of the machine.
pub(super) fn trusts(machines: &[(String, String)]) -> bool {
    machines.iter().any(|(_, value)| value == OWN_CERTIFICATES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn values_go_by_name_and_the_clients_own_do_not_reach_it() {
        let handover = Handover::new(pairs(&[("A", "secret"), ("DOCKER_HOST", "tcp://x"), ("PATH", "/bin")]));
        assert_eq!(handover.arguments.join(" "), "--env A --env DOCKER_HOST=tcp://x --env PATH=/bin");
        assert_eq!(handover.env, pairs(&[("A", "secret")]).into_iter().collect());
    }

    #[test]
    fn what_the_host_offers_is_at_the_bridge() {
        let machines = pairs(&[
            ("http_proxy", "http://127.0.0.1:3128"),
            ("no_proxy", "localhost"),
            ("ACTIONS_RESULTS_URL", "http://127.0.0.1:3130/"),
            ("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:3129/a/ http://127.0.0.1:3129/b/"),
            ("ACTIONS_RUNTIME_TOKEN", "token"),
            ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"),
            ("NODE_EXTRA_CA_CERTS", "/usr/local/share/ca-certificates/dayfly.crt"),
            ("MAVEN_ARGS", "--global-settings /run/dayfly/maven.xml"),
            ("OTHER", "/etc/other"),
        ]);
        let lines: Vec<String> =
            offered(&machines, ["db", "cache"]).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        ACTIONS_RESULTS_URL=http://172.17.0.1:3130/
        ACTIONS_RUNTIME_TOKEN=token
        ALL_PROXY=
        HTTPS_PROXY=
        HTTP_PROXY=
        MAVEN_ARGS=--global-settings /run/dayfly/maven.xml
        NODE_EXTRA_CA_CERTS=/usr/local/share/ca-certificates/dayfly.crt
        NO_PROXY=localhost,127.0.0.1,::1,172.17.0.1,db,cache
        PIP_EXTRA_INDEX_URL=http://172.17.0.1:3129/a/ http://172.17.0.1:3129/b/
        SSL_CERT_FILE=/run/dayfly/container-certificates.crt
        all_proxy=
        http_proxy=http://172.17.0.1:3128
        https_proxy=
        no_proxy=localhost,127.0.0.1,::1,172.17.0.1,db,cache
        ");
        assert!(trusts(&machines) && !trusts(&machines[..5]));
    }

    #[test]
    fn files_of_tools_name_the_bridge() {
        for (text, seen) in [
            ("registry = \"sparse+http://127.0.0.1:3129/a/\"", "registry = \"sparse+http://172.17.0.1:3129/a/\""),
            (
                "<host>127.0.0.1</host><nonProxyHosts>localhost|127.*</nonProxyHosts>",
                "<host>172.17.0.1</host><nonProxyHosts>localhost|127.*|172.17.0.1</nonProxyHosts>",
            ),
            ("a.proxyHost=127.0.0.1\na.nonProxyHosts=127.*", "a.proxyHost=172.17.0.1\na.nonProxyHosts=127.*"),
            ("1127.0.0.1 http://127.0.0.11/", "1127.0.0.1 http://127.0.0.11/"),
        ] {
            assert_eq!(at_the_bridge(text), seen);
        }
    }
}
