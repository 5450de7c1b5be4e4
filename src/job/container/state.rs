//! What Docker says of a container. Pure: it says so in the guest, so that nothing of it is believed but bounded texts.

use core::net::IpAddr;
use std::collections::BTreeMap;

use serde::Deserialize;

use crate::workflow::expression::Object;

/// As `docker container inspect` has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::job) struct Inspected {
    state: State,
    config: Config,
    network_settings: NetworkSettings,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    status: String,
    exit_code: i64,
    health: Option<Health>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Health {
    status: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    env: Option<Vec<String>>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    ports: Option<BTreeMap<String, Option<Vec<Binding>>>>,
    networks: Option<BTreeMap<String, Network>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Network {
    #[serde(rename = "IPAddress")]
    address: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Binding {
    host_port: String,
}

/// How far a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::job) enum Readiness {
    Ready,
    /// Its check has not said anything yet.
    Starting,
    /// It has ended, and nobody said that it would have to be healthy.
    Ended(i64),
    /// It will not become healthy; why, in words.
    Failed(String),
}

impl Inspected {
    pub(in crate::job) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text.trim()).ok()
    }

    pub(in crate::job) fn readiness(&self) -> Readiness {
        let State { status, exit_code, health } = &self.state;
        let has_ended = matches!(status.as_str(), "exited" | "dead");
        let health = health.as_ref().map(|health| health.status.as_str()).filter(|health| *health != "none");
        match health {
            Some(_) if has_ended => Readiness::Failed(format!("it ended with exit code {exit_code}")),
            Some("healthy") => Readiness::Ready,
            Some("unhealthy") => Readiness::Failed("it is not healthy".to_owned()),
            Some(_) => Readiness::Starting,
            None if has_ended => Readiness::Ended(*exit_code),
            None => Readiness::Ready,
        }
    }

    /// Whether anything checks its health.
    pub(super) fn is_checked(&self) -> bool {
        self.state.health.is_some()
    }

    /// Its `PATH`.
    pub(super) fn path(&self) -> Option<String> {
        let mut env = self.config.env.iter().flatten();
        env.find_map(|variable| variable.strip_prefix("PATH=")).map(str::to_owned)
    }

    /// Where it is on its network; nothing if it has ended.
    pub(in crate::job) fn address(&self) -> Option<IpAddr> {
        let networks = self.network_settings.networks.iter().flatten();
        networks.filter_map(|(_, network)| network.address.parse().ok()).next()
    }

    /// The TCP ports that its image says it listens on, in order.
    pub(in crate::job) fn exposed(&self) -> Vec<u16> {
        let ports = self.config.exposed_ports.iter().flatten();
        let mut ports: Vec<u16> = ports.filter_map(|(port, _)| port.strip_suffix("/tcp")?.parse().ok()).collect();
        ports.sort_unstable();
        ports
    }

    /// Ports of the machine by the container's own, as the `job` context has them.
    pub(super) fn ports(&self) -> Object {
        let mut ports = Object::default();
        for (port, bindings) in self.network_settings.ports.iter().flatten() {
            let number = port.split_once('/').map_or(port.as_str(), |(number, _)| number);
            if let Some(binding) = bindings.iter().flatten().next() {
                ports.insert(number, binding.host_port.as_str());
            }
        }
        ports
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_the_healths_or_the_containers() {
        for (state, expected) in [
            (r#"{"Status": "running"}"#, Readiness::Ready),
            (r#"{"Status": "running", "Health": null}"#, Readiness::Ready),
            (r#"{"Status": "running", "Health": {"Status": "none"}}"#, Readiness::Ready),
            (r#"{"Status": "running", "Health": {"Status": "starting"}}"#, Readiness::Starting),
            (r#"{"Status": "running", "Health": {"Status": "healthy"}}"#, Readiness::Ready),
            (
                r#"{"Status": "running", "Health": {"Status": "unhealthy"}}"#,
                Readiness::Failed("it is not healthy".into()),
            ),
            (r#"{"Status": "exited", "ExitCode": 3}"#, Readiness::Ended(3)),
            (
                r#"{"Status": "exited", "ExitCode": 3, "Health": {"Status": "starting"}}"#,
                Readiness::Failed("it ended with exit code 3".into()),
            ),
        ] {
            let inspected = Inspected::read(&format!(r#"{{"State": {state}, "Other": [1]}}"#)).unwrap();
            assert_eq!(inspected.readiness(), expected, "{state}");
        }
        assert!(Inspected::read("no json").is_none());
    }

    #[test]
    fn ports_are_those_that_are_published() {
        let text = r#"{"NetworkSettings": {"Ports": {"5432/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32768"}, {"HostPort": "1"}],
                      "53/udp": [{"HostPort": "5353"}], "80/tcp": null}}, "Config": {"Env": ["A=PATH=x", "PATH=/a:/b"]}}"#;
        let inspected = Inspected::read(text).unwrap();
        let ports = inspected.ports();
        let ports: Vec<String> =
            ports.iter().map(|(port, of_machine)| format!("{port}={}", of_machine.to_text())).collect();
        assert_eq!(ports, ["53=5353", "5432=32768"]);
        assert_eq!(inspected.path().as_deref(), Some("/a:/b"));
    }

    #[test]
    fn a_service_is_found_by_its_address_and_its_ports() {
        let text = r#"{"Config": {"ExposedPorts": {"8080/tcp": {}, "53/udp": {}, "443/tcp": {}, "x/tcp": {}}},
                      "NetworkSettings": {"Networks": {"n": {"IPAddress": "172.18.0.2"}}}}"#;
        let inspected = Inspected::read(text).unwrap();
        assert_eq!((inspected.address(), inspected.exposed()), ("172.18.0.2".parse().ok(), vec![443, 8080]));
        let ended = r#"{"NetworkSettings": {"Networks": {"n": {"IPAddress": ""}}}}"#;
        let ended = Inspected::read(ended).unwrap();
        assert_eq!((ended.address(), ended.exposed()), (None, vec![]));
    }
}
