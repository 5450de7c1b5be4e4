//! How the tools of a job learn of the registries and certificates that the host has for it. Pure.
//!
//! Where variables suffice, there is no file: they hold for every image, and a workflow can set others. What has no variable
//! is written into the machine before its first step, in every machine anew, so that what was prepared with other registries
//! does not keep them.

use url::Url;

use crate::config::{Registry, RegistryKind};
use crate::net::registry::address;

/// Where Cargo looks last, from whatever directory it is started in.
pub(crate) const CARGO_CONFIG: &str = "/.cargo/config.toml";

/// Maven's settings, in memory; the image has some there that name the proxy.
pub(crate) const MAVEN_SETTINGS: &str = "/run/dayfly/maven.xml";

/// All certificates that the machine trusts, in most distributions; [`TRUST_SCRIPT`] makes it in the others.
pub(crate) const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The operator's certificates alone, for those who add them to certificates of their own.
pub(crate) const OWN_CERTIFICATES: &str = "/usr/local/share/ca-certificates/dayfly.crt";

/// Makes a machine trust the certificates in the file that is its argument, and no others that it was given before.
pub(crate) const TRUST_SCRIPT: &str = include_str!("trust.sh");

/// Programs that have certificates of their own, unless one of these names others.
const OF_TRUSTED: [&str; 6] =
    ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CARGO_HTTP_CAINFO"];

/// A file of the machine that everybody may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolFile {
    pub(crate) path: &'static str,
    pub(crate) content: String,
}

/// Variables by which programs find the registries, and those that make more of them heed the proxy's.
pub(crate) fn variables<'r>(registries: impl Iterator<Item = &'r Registry> + Clone) -> Vec<(String, String)> {
    let mut variables = vec![
        ("MAVEN_ARGS".to_owned(), format!("--global-settings {MAVEN_SETTINGS}")),
        // Node 24 and newer; older ones do not know it, but npm does without.
        ("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned()),
    ];
    for registry in registries.clone() {
        variables.push((format!("DAYFLY_REGISTRY_{}", screaming(&registry.name)), address(&registry.name)));
    }
    variables.extend(npm(registries.clone()));
    variables.extend(python(registries));
    variables
}

/// Variables by which programs trust what the machine trusts.
pub(crate) fn trust_variables() -> Vec<(String, String)> {
    let trusted = OF_TRUSTED.map(|name| (name.to_owned(), TRUSTED.to_owned()));
    trusted.into_iter().chain([("NODE_EXTRA_CA_CERTS".to_owned(), OWN_CERTIFICATES.to_owned())]).collect()
}

/// Files for programs that know no variables.
pub(crate) fn files<'r>(registries: impl Iterator<Item = &'r Registry> + Clone) -> Vec<ToolFile> {
    let cargo = cargo(registries.clone()).map(|content| ToolFile { path: CARGO_CONFIG, content });
    let maven = maven(registries).map(|content| ToolFile { path: MAVEN_SETTINGS, content });
    cargo.into_iter().chain(maven).collect()
}

fn screaming(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

/// The one registry that npm asks for everything takes the host of `resolved` in lock files, too; one with scopes sends npm
/// on for what it does not have. More scopes have names of their own.
fn npm<'r>(registries: impl Iterator<Item = &'r Registry>) -> Vec<(String, String)> {
    let of_npm = registries.filter_map(|registry| match &registry.kind {
        RegistryKind::Npm { scoped } => Some((registry, scoped.as_ref().map_or(&[][..], |scoped| &scoped.scopes))),
        _ => None,
    });
    let mut of_npm: Vec<(&Registry, &[String])> = of_npm.collect();
    of_npm.sort_by_key(|(_, scopes)| !scopes.is_empty());
    let Some((first, _)) = of_npm.first() else { return Vec::new() };
    let mut variables = vec![
        ("npm_config_registry".to_owned(), address(&first.name)),
        ("npm_config_replace_registry_host".to_owned(), first.url.host_str().unwrap_or_default().to_owned()),
        // What audits are sent to is no read of a package.
        ("npm_config_audit".to_owned(), "false".to_owned()),
    ];
    for (registry, scopes) in &of_npm {
        variables.extend(scopes.iter().map(|scope| (format!("npm_config_{scope}:registry"), address(&registry.name))));
    }
    variables
}

/// For pip and uv.
fn python<'r>(registries: impl Iterator<Item = &'r Registry>) -> Vec<(String, String)> {
    let (mut main, mut more) = (None, Vec::new());
    for registry in registries {
        if let RegistryKind::Pypi { index, extra } = &registry.kind {
            let url = format!("{}{index}", address(&registry.name));
            if *extra { more.push(url) } else { main = Some(url) }
        }
    }
    let main = main.into_iter().flat_map(|url| ["PIP_INDEX_URL", "UV_DEFAULT_INDEX"].map(|name| (name, url.clone())));
    let more = Some(more.join(" ")).filter(|more| !more.is_empty());
    let more = more.into_iter().flat_map(|urls| ["PIP_EXTRA_INDEX_URL", "UV_INDEX"].map(|name| (name, urls.clone())));
    main.chain(more).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Replaces the sources rather than naming others, so that lock files stay as they are.
fn cargo<'r>(registries: impl Iterator<Item = &'r Registry>) -> Option<String> {
    let mut text = String::new();
    for registry in registries {
        let RegistryKind::Cargo { extra } = registry.kind else { continue };
        let (name, address) = (&registry.name, address(&registry.name));
        text.push_str(&format!("[source.dayfly-{name}]\nregistry = \"sparse+{address}\"\n"));
        if extra {
            let index = index_of(&registry.url);
            text.push_str(&format!("[registries.{name}]\nindex = \"{index}\"\n"));
            text.push_str(&format!("[source.of-{name}]\nregistry = \"{index}\"\nreplace-with = \"dayfly-{name}\"\n"));
        } else {
            text.push_str(&format!("[source.crates-io]\nreplace-with = \"dayfly-{name}\"\n"));
        }
    }
    (!text.is_empty()).then_some(text)
}

fn index_of(url: &Url) -> String {
    format!("sparse+{url}")
}

fn maven<'r>(mut registries: impl Iterator<Item = &'r Registry>) -> Option<String> {
    let mirror = registries.find(|registry| registry.kind == RegistryKind::Maven)?;
    let (name, address) = (&mirror.name, address(&mirror.name));
    Some(format!(
        "<settings><mirrors><mirror><id>{name}</id><mirrorOf>*</mirrorOf><url>{address}</url></mirror></mirrors></settings>\n"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::net::registry::samples::{npm_with, registry};

    fn some() -> Vec<Registry> {
        let pypi = |extra| RegistryKind::Pypi { index: "simple/".into(), extra };
        vec![
            registry("scoped", npm_with(&["@acme", "@box"]), "https://npm.example/repo/"),
            registry("all", RegistryKind::Npm { scoped: None }, "https://all.example/"),
            registry("py", pypi(false), "https://py.example/"),
            registry("more-py", pypi(true), "https://py2.example/"),
            registry("crates", RegistryKind::Cargo { extra: false }, "https://crates.example/index/"),
            registry("acme", RegistryKind::Cargo { extra: true }, "https://cargo.example/index/"),
            registry("mvn", RegistryKind::Maven, "https://maven.example/all/"),
            registry("files", RegistryKind::Generic, "https://files.example/"),
        ]
    }

    fn lines(variables: Vec<(String, String)>) -> String {
        variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn tools_find_registries_by_variables_where_there_are_any() {
        insta::assert_snapshot!(lines(variables(some().iter())), @"
        MAVEN_ARGS=--global-settings /run/dayfly/maven.xml
        NODE_USE_ENV_PROXY=1
        DAYFLY_REGISTRY_SCOPED=http://127.0.0.1:3129/scoped/
        DAYFLY_REGISTRY_ALL=http://127.0.0.1:3129/all/
        DAYFLY_REGISTRY_PY=http://127.0.0.1:3129/py/
        DAYFLY_REGISTRY_MORE_PY=http://127.0.0.1:3129/more-py/
        DAYFLY_REGISTRY_CRATES=http://127.0.0.1:3129/crates/
        DAYFLY_REGISTRY_ACME=http://127.0.0.1:3129/acme/
        DAYFLY_REGISTRY_MVN=http://127.0.0.1:3129/mvn/
        DAYFLY_REGISTRY_FILES=http://127.0.0.1:3129/files/
        npm_config_registry=http://127.0.0.1:3129/all/
        npm_config_replace_registry_host=all.example
        npm_config_audit=false
        npm_config_@acme:registry=http://127.0.0.1:3129/scoped/
        npm_config_@box:registry=http://127.0.0.1:3129/scoped/
        PIP_INDEX_URL=http://127.0.0.1:3129/py/simple/
        UV_DEFAULT_INDEX=http://127.0.0.1:3129/py/simple/
        PIP_EXTRA_INDEX_URL=http://127.0.0.1:3129/more-py/simple/
        UV_INDEX=http://127.0.0.1:3129/more-py/simple/
        ");
        let scoped = &some()[..1];
        insta::assert_snapshot!(lines(variables(scoped.iter())), @"
        MAVEN_ARGS=--global-settings /run/dayfly/maven.xml
        NODE_USE_ENV_PROXY=1
        DAYFLY_REGISTRY_SCOPED=http://127.0.0.1:3129/scoped/
        npm_config_registry=http://127.0.0.1:3129/scoped/
        npm_config_replace_registry_host=npm.example
        npm_config_audit=false
        npm_config_@acme:registry=http://127.0.0.1:3129/scoped/
        npm_config_@box:registry=http://127.0.0.1:3129/scoped/
        ");
        assert_eq!(variables([].iter()).len(), 2);
    }

    #[test]
    fn cargo_and_maven_have_files() {
        let files = files(some().iter()).into_iter().map(|file| format!("{}:\n{}", file.path, file.content));
        insta::assert_snapshot!(files.collect::<Vec<_>>().join("\n"), @r#"
        /.cargo/config.toml:
        [source.dayfly-crates]
        registry = "sparse+http://127.0.0.1:3129/crates/"
        [source.crates-io]
        replace-with = "dayfly-crates"
        [source.dayfly-acme]
        registry = "sparse+http://127.0.0.1:3129/acme/"
        [registries.acme]
        index = "sparse+https://cargo.example/index/"
        [source.of-acme]
        registry = "sparse+https://cargo.example/index/"
        replace-with = "dayfly-acme"

        /run/dayfly/maven.xml:
        <settings><mirrors><mirror><id>mvn</id><mirrorOf>*</mirrorOf><url>http://127.0.0.1:3129/mvn/</url></mirror></mirrors></settings>
        "#);
        assert_eq!(super::files([].iter()), []);
    }

    #[test]
    fn programs_with_certificates_of_their_own_are_told() {
        insta::assert_snapshot!(lines(trust_variables()), @"
        SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
        CURL_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt
        GIT_SSL_CAINFO=/etc/ssl/certs/ca-certificates.crt
        REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt
        PIP_CERT=/etc/ssl/certs/ca-certificates.crt
        CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt
        NODE_EXTRA_CA_CERTS=/usr/local/share/ca-certificates/dayfly.crt
        ");
    }
}
