//! The container that a job's scripts run in, and the services beside it, as `image` and `services` name them.
//!
//! Names of images and aliases have variables put in. A service is known by the names that follow from its image's, and by its
//! aliases; of two services with the same name the first has it. It sees variables that are public, and its own.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::plan::of_wire;
use super::variables::{Variable, Variables};
use crate::document::text::one_line;
use crate::gitlab::wire::{Image, JobResponse};

/// Services of one job.
const MAX_SERVICES: usize = 64;

/// The variable with credentials of registries, as Docker's client keeps them.
const AUTH_CONFIG: &str = "DOCKER_AUTH_CONFIG";

/// The variable of a service that names the port by which it is ready.
const CHECK_PORT: &str = "HEALTHCHECK_TCP_PORT";

/// What a job has of containers.
#[derive(Debug, Clone, Default)]
pub struct Containers {
    /// The one that its scripts run in.
    pub job: Option<Container>,
    pub services: Vec<Service>,
}

/// One container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    pub image: String,
    /// Empty: the image's own; a first word that is empty: none.
    pub entrypoint: Vec<String>,
    /// Empty: the image's own.
    pub command: Vec<String>,
    /// One after the other, until one of them comes to the image.
    pub pull: Vec<Pull>,
    pub platform: Option<String>,
    pub user: Option<String>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    Always,
    IfNotPresent,
    Never,
}

/// A container beside the job's.
#[derive(Clone)]
pub struct Service {
    pub container: Container,
    /// The names by which others reach it; at least one.
    pub aliases: Vec<String>,
    /// Secrets may be among them.
    pub variables: BTreeMap<String, String>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Service({} as {})", self.container.image, self.aliases.join(" "))
    }
}

impl Service {
    /// The port by which it is ready, if it names one.
    pub fn check_port(&self) -> Option<u16> {
        self.variables.get(CHECK_PORT)?.parse().ok()
    }
}

impl Containers {
    /// Reads them; gives with them what the job's author should know.
    ///
    /// # Errors
    /// They make no sense, or are too many; in words.
    pub fn of(job: &JobResponse, variables: &Variables) -> Result<(Self, Vec<String>), String> {
        let container_of = |image: &Image| container_of(image, variables);
        let own = job.image.as_ref().map(container_of).transpose()?.filter(|own| !own.image.is_empty());
        if job.services.len() > MAX_SERVICES {
            return Err(format!("the job has {} services, which is more than {MAX_SERVICES}", job.services.len()));
        }
        let public = public_of(job, variables);
        let (mut services, mut known, mut remarks) = (Vec::new(), BTreeSet::new(), Vec::new());
        for image in &job.services {
            let container = container_of(image)?;
            if container.image.is_empty() {
                let name = one_line(&image.name, 200);
                return Err(format!("the image of the service `{name}` is empty once its variables are put in"));
            }
            let mut aliases = aliases_of(&container.image);
            let given = variables.expand(image.alias.as_deref().unwrap_or_default());
            aliases.extend(given.split([',', ' ', '\t', '\n', '\r']).filter(|one| !one.is_empty()).map(str::to_owned));
            aliases.retain(|alias| {
                let is_name = is_host_name(alias);
                if !is_name {
                    remarks.push(format!("`{}` is no name that a service can have", one_line(alias, 100)));
                }
                is_name && known.insert(alias.to_ascii_lowercase())
            });
            if aliases.is_empty() {
                let name = one_line(&container.image, 200);
                remarks.push(format!(
                    "the service `{name}` is there already and is not started again: give it an `alias`"
                ));
                continue;
            }
            let variables = variables_of(&public, image)?;
            services.push(Service { container, aliases, variables });
        }
        Ok((Self { job: own, services }, remarks))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.job.is_none() && self.services.is_empty()
    }
}

fn container_of(image: &Image, variables: &Variables) -> Result<Container, String> {
    let pull = match image.pull_policy.as_slice() {
        [] => vec![Pull::IfNotPresent],
        words => words.iter().map(|word| pull_of(word)).collect::<Result<_, _>>()?,
    };
    let said = |text: &Option<String>| text.as_ref().map(|text| variables.expand(text)).filter(|text| !text.is_empty());
    Ok(Container {
        image: variables.expand(&image.name).trim().to_owned(),
        entrypoint: image.entrypoint.clone(),
        command: image.command.clone(),
        pull,
        platform: said(&image.executor_opts.docker.platform),
        user: said(&image.executor_opts.docker.user),
    })
}

fn pull_of(word: &str) -> Result<Pull, String> {
    match word {
        "always" => Ok(Pull::Always),
        "if-not-present" => Ok(Pull::IfNotPresent),
        "never" => Ok(Pull::Never),
        other => {
            let other = one_line(other, 100);
            Err(format!("unknown pull policy `{other}`: there are `always`, `if-not-present` and `never`"))
        }
    }
}

/// The names by which a service is reached, by its image's: without port, tag and digest, and with something in place of `/`.
fn aliases_of(image: &str) -> Vec<String> {
    let name = image.split('@').next().unwrap_or_default();
    let (path, last) = name.rsplit_once('/').map_or(("", name), |(path, last)| (path, last));
    let last = last.split(':').next().unwrap_or_default();
    let (registry, path) = path.split_once('/').map_or((path, ""), |(registry, path)| (registry, path));
    let registry = registry.split(':').next().unwrap_or_default();
    let parts: Vec<&str> =
        [registry].into_iter().chain(path.split('/')).chain([last]).filter(|part| !part.is_empty()).collect();
    let (first, second) = (parts.join("__"), parts.join("-"));
    if first == second { vec![first] } else { vec![first, second] }
}

/// Whether a file of hosts can have it.
fn is_host_name(name: &str) -> bool {
    let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || b"._-".contains(&letter);
    !name.is_empty() && name.len() <= 253 && !name.starts_with('-') && name.bytes().all(is_letter)
}

/// The job's variables that anybody may see who sees the job.
fn public_of(job: &JobResponse, variables: &Variables) -> Vec<Variable> {
    let is_public: BTreeMap<&str, bool> =
        job.variables.iter().map(|variable| (variable.key.as_str(), variable.public && !variable.masked)).collect();
    let all = variables.environment().into_iter();
    let public = all.filter(|(key, _)| is_public.get(key.as_str()).copied().unwrap_or(true));
    public.map(|(key, value)| Variable::own(&key, value)).collect()
}

fn variables_of(public: &[Variable], image: &Image) -> Result<BTreeMap<String, String>, String> {
    let all = public.iter().cloned().chain(image.variables.iter().map(of_wire)).collect();
    let all = Variables::new(all, "").map_err(|error| error.to_string())?;
    // Such a file is nowhere.
    Ok(all.environment().into_keys().map(|key| (key.clone(), all.value(&key).to_owned())).collect())
}

/// A file of credentials for Docker's client: those that GitLab sends with the job, and before them those of the job's own variable.
/// Nothing where there are none. Gives with it what is wrong with the variable.
pub fn credentials(job: &JobResponse, variables: &Variables) -> (Option<String>, Option<String>) {
    let registries = job.credentials.iter().flatten().filter(|one| one.kind == "registry" && !one.url.is_empty());
    let mut auths: Map<String, Value> = registries
        .map(|one| {
            let auth = STANDARD.encode(format!("{}:{}", one.username, one.password.expose()));
            (one.url.clone(), serde_json::json!({ "auth": auth }))
        })
        .collect();
    let text = variables.value(AUTH_CONFIG).trim();
    let (mut config, complaint) = match serde_json::from_str(text) {
        _ if text.is_empty() => (Map::new(), None),
        Ok(Value::Object(config)) => (config, None),
        _ => (Map::new(), Some(format!("{AUTH_CONFIG} is no JSON object and is not used"))),
    };
    if let Some(Value::Object(own)) = config.remove("auths") {
        auths.extend(own);
    }
    if !auths.is_empty() {
        config.insert("auths".to_owned(), Value::Object(auths));
    }
    ((!config.is_empty()).then(|| Value::Object(config).to_string()), complaint)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(more: Value) -> JobResponse {
        let mut job = json!({
            "id": 7, "token": "t", "git_info": {"repo_url": "https://g/a/b.git", "sha": "x"},
            "variables": [
                {"key": "TAG", "value": "16", "public": true}, {"key": "SECRET", "value": "hidden", "public": false},
                {"key": "EMPTY", "value": "", "public": true}],
        });
        job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(job).unwrap()
    }

    fn of(more: Value) -> Result<(Containers, Vec<String>), String> {
        let job = job(more);
        let given = job.variables.iter().map(of_wire).chain([Variable::own("CI_PROJECT_DIR", "/builds/g/p")]).collect();
        Containers::of(&job, &Variables::new(given, "/t").unwrap())
    }

    #[test]
    fn names_follow_from_the_images() {
        for (image, aliases) in [
            ("postgres", "postgres"),
            ("postgres:16.1", "postgres"),
            ("tutum/wordpress:latest", "tutum__wordpress tutum-wordpress"),
            (
                "registry.example.org:5000/group/part/app:v1",
                "registry.example.org__group__part__app registry.example.org-group-part-app",
            ),
            ("localhost:5000/x@sha256:0a", "localhost__x localhost-x"),
            ("docker:27-dind", "docker"),
            ("mysql@sha256:0a", "mysql"),
        ] {
            assert_eq!(aliases_of(image).join(" "), aliases, "{image}");
        }
    }

    #[test]
    fn services_have_their_names_once_and_what_is_public() {
        let (found, remarks) = of(json!({"services": [
            {"name": "postgres:$TAG", "alias": "db, db-$TAG  db", "command": ["postgres", "-c", "$TAG"],
                "variables": [{"key": "USER", "value": "u$TAG"}, {"key": "TAG", "value": "own"}, {"key": "RAW", "value": "$TAG", "raw": true}]},
            {"name": "postgres:15", "alias": "old"},
            {"name": "postgres:14"},
            {"name": "a/b", "alias": "x:y", "entrypoint": [""], "pull_policy": ["always", "never"],
                "variables": [{"key": "HEALTHCHECK_TCP_PORT", "value": "81"}]},
        ]}))
        .unwrap();
        assert!(!found.is_empty() && found.job.is_none());
        let names: Vec<String> = found.services.iter().map(|one| format!("{one:?}")).collect();
        insta::assert_snapshot!(names.join("\n"), @"
        Service(postgres:16 as postgres db db-16)
        Service(postgres:15 as old)
        Service(a/b as a__b a-b)
        ");
        insta::assert_snapshot!(remarks.join("\n"), @"
        the service `postgres:14` is there already and is not started again: give it an `alias`
        `x:y` is no name that a service can have
        ");
        let first = &found.services[0];
        assert_eq!(first.container.command, ["postgres", "-c", "$TAG"]);
        let value = |key: &str| first.variables.get(key).map(String::as_str);
        assert_eq!((value("USER"), value("TAG"), value("RAW")), (Some("uown"), Some("own"), Some("$TAG")));
        assert_eq!((value("SECRET"), value("CI_PROJECT_DIR")), (None, Some("/builds/g/p")));
        let last = &found.services[2];
        assert_eq!((last.check_port(), first.check_port()), (Some(81), None));
        assert_eq!(last.container.pull, [Pull::Always, Pull::Never]);
        assert_eq!(last.container.entrypoint, [""]);
    }

    #[test]
    fn the_jobs_container_is_as_its_image_says() {
        let image = json!({"name": " node:$TAG ", "entrypoint": ["/bin/sh", "-c"], "pull_policy": null,
            "executor_opts": {"docker": {"platform": "linux/amd64", "user": "$EMPTY"}}});
        let own = of(json!({"image": image})).unwrap().0.job.unwrap();
        assert_eq!((own.image.as_str(), own.pull.as_slice()), ("node:16", &[Pull::IfNotPresent][..]));
        assert_eq!((own.platform.as_deref(), own.user), (Some("linux/amd64"), None));
        for none in [json!({"name": "$EMPTY"}), json!({"name": ""}), Value::Null] {
            assert!(of(json!({"image": none})).unwrap().0.is_empty());
        }
        let wrong = [
            of(json!({"services": [{"name": "$EMPTY"}]})),
            of(json!({"image": {"name": "a", "pull_policy": ["sometimes"]}})),
            of(json!({"services": vec![json!({"name": "a"}); 65]})),
        ];
        insta::assert_snapshot!(wrong.map(|one| one.map(drop).unwrap_err()).join("\n"), @"
        the image of the service `$EMPTY` is empty once its variables are put in
        unknown pull policy `sometimes`: there are `always`, `if-not-present` and `never`
        the job has 65 services, which is more than 64
        ");
    }

    #[test]
    fn credentials_of_the_job_come_before_gitlabs() {
        let of = |config: &str, sent: Value| {
            let job = job(json!({"credentials": sent}));
            let variables = Variables::new(vec![Variable::own(AUTH_CONFIG, config)], "/t").unwrap();
            credentials(&job, &variables)
        };
        let sent = json!([
            {"type": "registry", "url": "r.example", "username": "u", "password": "p"},
            {"type": "registry", "url": "other.example", "username": "u", "password": "é"},
            {"type": "other", "url": "x", "username": "u", "password": "p"}]);
        assert_eq!(of("", Value::Null), (None, None));
        assert_eq!(
            of("", sent.clone()).0.unwrap(),
            r#"{"auths":{"r.example":{"auth":"dTpw"},"other.example":{"auth":"dTrDqQ=="}}}"#
        );
        let own = r#"{"auths": {"r.example": {"auth": "eDp5"}}, "credHelpers": {"a": "b"}}"#;
        assert_eq!(
            of(own, sent).0.unwrap(),
            r#"{"credHelpers":{"a":"b"},"auths":{"r.example":{"auth":"eDp5"},"other.example":{"auth":"dTrDqQ=="}}}"#
        );
        assert_eq!(
            of("[", Value::Null),
            (None, Some("DOCKER_AUTH_CONFIG is no JSON object and is not used".to_owned()))
        );
    }
}
