//! The containers of a job: `container`, in which its steps run, and `services` beside it.
//!
//! Both may be computed as a whole, so what they say is read from values when the job starts, by the rules by which the parser
//! has read what was written. An image that is empty means that there is no container.

pub mod words;

use secrecy::SecretString;

use super::expression::{Environment, ExpressionError, Object, Value};
use super::model::Job;

/// Service containers of one job.
pub const MAX_SERVICES: usize = 64;

/// Ports, volumes or variables of one container.
pub const MAX_ENTRIES: usize = 1000;

/// Keys of a job's container.
pub const CONTAINER_KEYS: &[&str] = &["image", "options", "env", "ports", "volumes", "credentials"];

/// Keys of a service's container.
pub const SERVICE_KEYS: &[&str] =
    &["image", "options", "env", "ports", "volumes", "credentials", "entrypoint", "command"];

/// Options of `docker create` that belong to the runner.
const OWN_OPTIONS: [&str; 3] = ["--network", "--net", "--entrypoint"];

/// All containers of one job.
#[derive(Debug, Clone, Default)]
pub struct Containers {
    /// Where the steps run, if not in the machine itself.
    pub job: Option<ContainerSpec>,
    /// By name, in the order of the text.
    pub services: Vec<(String, ContainerSpec)>,
}

/// One container.
#[derive(Debug, Clone, Default)]
pub struct ContainerSpec {
    /// Never empty.
    pub image: String,
    pub credentials: Option<Credentials>,
    pub env: Vec<(String, String)>,
    /// As Docker's `--publish` takes them.
    pub ports: Vec<String>,
    /// As Docker's `--volume` takes them.
    pub volumes: Vec<String>,
    /// More words for `docker create`.
    pub options: Vec<String>,
    /// What runs in it instead of what its image says.
    pub entrypoint: Option<String>,
    pub command: Vec<String>,
}

/// Who asks for an image.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub username: String,
    pub password: SecretString,
}

impl Containers {
    /// What a job's containers are in this environment.
    ///
    /// # Errors
    /// With the path in the job: an expression's error, or a value that describes no container.
    pub fn resolve(job: &Job, environment: &Environment<'_>) -> Result<Self, (String, ExpressionError)> {
        let mut containers = Self::default();
        if let Some(data) = &job.container {
            let value = data.resolve(environment).map_err(|error| ("container".to_owned(), error))?;
            containers.job = read(&value, CONTAINER_KEYS).map_err(|why| ("container".to_owned(), why.into()))?;
        }
        let Some(data) = &job.services else { return Ok(containers) };
        let fault = |why: String| ("services".to_owned(), ExpressionError::evaluation(why));
        let services = match data.resolve(environment).map_err(|error| ("services".to_owned(), error))? {
            Value::Object(services) => services,
            Value::Null => return Ok(containers),
            Value::String(text) if text.is_empty() => return Ok(containers),
            other => return Err(fault(format!("expected containers by name, but there is {}", other.kind()))),
        };
        if services.len() > MAX_SERVICES {
            return Err(fault(format!("a job has at most {MAX_SERVICES} services, and there are {}", services.len())));
        }
        for (name, value) in services.iter() {
            if !is_service_name(name) {
                return Err(fault(format!("`{name}` is no name of a service")));
            }
            let spec = read(value, SERVICE_KEYS).map_err(|why| (format!("services.{name}"), why.into()))?;
            containers.services.extend(spec.map(|spec| (name.to_owned(), spec)));
        }
        Ok(containers)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.job.is_none() && self.services.is_empty()
    }

    /// Every container.
    pub fn iter(&self) -> impl Iterator<Item = &ContainerSpec> {
        self.job.iter().chain(self.services.iter().map(|(_, spec)| spec))
    }
}

/// What is wrong with a value, in words.
struct Wrong(String);

impl From<Wrong> for ExpressionError {
    fn from(wrong: Wrong) -> Self {
        Self::evaluation(wrong.0)
    }
}

/// Whether a text can name a service: it is a host's name, too.
pub fn is_service_name(name: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.len() <= 100
        && name.chars().all(is_plain)
}

/// The words of `options`.
///
/// # Errors
/// A quote that does not end, or an option that is the runner's; in words.
pub fn options(text: &str) -> Result<Vec<String>, String> {
    let words = words::split(text)?;
    let is_own = |word: &&String| {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        OWN_OPTIONS.contains(&name)
    };
    match words.iter().find(is_own) {
        Some(word) => Err(format!("the option `{word}` is the runner's, which sets it itself")),
        None => Ok(words),
    }
}

fn read(value: &Value, keys: &[&str]) -> Result<Option<ContainerSpec>, Wrong> {
    let object = match value {
        Value::Null => return Ok(None),
        Value::String(image) => return Ok(image_of(image).map(|image| ContainerSpec { image, ..Default::default() })),
        Value::Object(object) => object,
        other => return Err(Wrong(format!("expected an image or a mapping, but there is {}", other.kind()))),
    };
    if let Some((name, _)) = object.iter().find(|(name, _)| !keys.contains(name)) {
        return Err(Wrong(format!("there is no key `{name}`; there are `{}`", keys.join("`, `"))));
    }
    let Some(image) = image_of(&text(object, "image")?) else { return Ok(None) };
    let entrypoint = text(object, "entrypoint")?;
    Ok(Some(ContainerSpec {
        image,
        credentials: credentials(object)?,
        env: variables(object)?,
        ports: texts(object, "ports")?,
        volumes: texts(object, "volumes")?,
        options: options(&text(object, "options")?).map_err(Wrong)?,
        entrypoint: Some(entrypoint).filter(|entrypoint| !entrypoint.trim().is_empty()),
        command: words::split(&text(object, "command")?).map_err(Wrong)?,
    }))
}

/// The name by which Docker knows it; `None` if nothing is named.
fn image_of(written: &str) -> Option<String> {
    let image = written.trim();
    let image = image.strip_prefix("docker://").unwrap_or(image);
    (!image.is_empty()).then(|| image.to_owned())
}

fn scalar(value: &Value, what: &str) -> Result<String, Wrong> {
    if !value.is_primitive() {
        return Err(Wrong(format!("`{what}` is {}, and a text is expected", value.kind())));
    }
    let text = value.to_text();
    if text.contains('\0') { Err(Wrong(format!("`{what}` contains a NUL character"))) } else { Ok(text.to_string()) }
}

fn text(object: &Object, key: &str) -> Result<String, Wrong> {
    object.get(key).map_or_else(|| Ok(String::new()), |value| scalar(value, key))
}

fn texts(object: &Object, key: &str) -> Result<Vec<String>, Wrong> {
    let items = match object.get(key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(Wrong(format!("`{key}` is {}, and a list is expected", other.kind()))),
    };
    check_count(key, items.len())?;
    let texts = items.iter().map(|item| scalar(item, key).map(|text| text.trim().to_owned()));
    texts.filter(|text| !matches!(text, Ok(text) if text.is_empty())).collect()
}

fn variables(object: &Object) -> Result<Vec<(String, String)>, Wrong> {
    let variables = match object.get("env") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(variables)) => variables,
        Some(other) => return Err(Wrong(format!("`env` is {}, and a mapping is expected", other.kind()))),
    };
    check_count("env", variables.len())?;
    let variable = |(name, value): (&str, &Value)| {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Wrong(format!("`{name}` is no name of a variable")));
        }
        Ok((name.to_owned(), scalar(value, name)?))
    };
    variables.iter().map(variable).collect()
}

fn check_count(key: &str, count: usize) -> Result<(), Wrong> {
    if count <= MAX_ENTRIES { Ok(()) } else { Err(Wrong(format!("`{key}` has more than {MAX_ENTRIES} entries"))) }
}

/// Of credentials that are both empty nothing is meant: a fork has none.
fn credentials(object: &Object) -> Result<Option<Credentials>, Wrong> {
    let credentials = match object.get("credentials") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(credentials)) => credentials,
        Some(other) => return Err(Wrong(format!("`credentials` is {}, and a mapping is expected", other.kind()))),
    };
    match (text(credentials, "username")?, text(credentials, "password")?) {
        (username, password) if username.is_empty() && password.is_empty() => Ok(None),
        (username, password) if !username.is_empty() && !password.is_empty() => {
            Ok(Some(Credentials { username, password: password.into() }))
        }
        _ => Err(Wrong("`credentials` need both `username` and `password`, and one of them is empty".to_owned())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::workflow::parse;

    /// The containers of a job with these lines, where `matrix` is this.
    fn resolved(lines: &str, matrix: &str) -> Result<Containers, String> {
        let text = format!("on: push\njobs:\n  a:\n    runs-on: x\n{lines}    steps: [run: x]\n");
        let workflow = parse::parse("ci.yml", &text).map_err(|errors| errors[0].to_string())?;
        let mut contexts = Object::default();
        contexts.insert("matrix", Value::from(serde_json::from_str::<serde_json::Value>(matrix).unwrap()));
        contexts.insert("secrets", Value::from(serde_json::json!({"P": "pass"})));
        Containers::resolve(&workflow.jobs[0], &Environment::new(&contexts))
            .map_err(|(path, error)| format!("{path}: {error}"))
    }

    #[test]
    fn containers_are_what_is_written_or_computed() {
        let whole = "    container:
      image: docker://node:${{ matrix.v }}
      env: { A: 1.10, B: true, C: , D: '${{ secrets.P }}' }
      ports: [80, '8080:80/udp']
      volumes: ['/a:/b', data:/data]
      options: >-
        --cpus 1
        --health-cmd \"a b\"
      credentials: { username: me, password: '${{ secrets.P }}' }
    services:
      db: { image: postgres, command: 'x \"y z\"', entrypoint: /run }
      none: { image: \"${{ matrix.none }}\" }
      also: '${{ matrix.none }}'
      plain: redis
";
        let found = resolved(whole, r#"{"v": 20, "none": ""}"#).unwrap();
        let job = found.job.unwrap();
        assert_eq!(job.image, "node:20");
        let env: Vec<_> = job.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(env, ["A=1.1", "B=true", "C=", "D=pass"]);
        assert_eq!(
            (job.ports, job.volumes),
            (vec!["80".into(), "8080:80/udp".into()], vec!["/a:/b".into(), "data:/data".into()])
        );
        assert_eq!(job.options, ["--cpus", "1", "--health-cmd", "a b"]);
        let credentials = job.credentials.unwrap();
        assert_eq!((credentials.username.as_str(), credentials.password.expose_secret()), ("me", "pass"));
        let names: Vec<&str> = found.services.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["db", "plain"]);
        let db = &found.services[0].1;
        assert_eq!(
            (db.entrypoint.as_deref(), &db.command[..]),
            (Some("/run"), &["x".to_owned(), "y z".to_owned()][..])
        );
    }

    #[test]
    fn a_container_may_be_one_expression() {
        let computed =
            |matrix| resolved("    container: ${{ matrix.c }}\n", matrix).map(|found| found.job.map(|job| job.image));
        assert_eq!(computed(r#"{"c": "alpine:3"}"#), Ok(Some("alpine:3".into())));
        assert_eq!(computed(r#"{"c": {"image": "alpine", "env": {"A": 1}}}"#), Ok(Some("alpine".into())));
        assert_eq!(
            (computed(r#"{"c": ""}"#), computed("{}"), computed(r#"{"c": {"image": ""}}"#)),
            (Ok(None), Ok(None), Ok(None))
        );
        for (matrix, why) in [
            (r#"{"c": 1}"#, "container: expected an image or a mapping, but there is a number"),
            (r#"{"c": {"image": "x", "port": 1}}"#, "there is no key `port`"),
            (r#"{"c": {"image": "x", "ports": 1}}"#, "`ports` is a number, and a list is expected"),
            (r#"{"c": {"image": "x", "options": "--net=host"}}"#, "`--net=host` is the runner's"),
            (r#"{"c": {"image": "x", "options": "'"}}"#, "a quote `'` that does not end"),
            (r#"{"c": {"image": "x", "credentials": {"username": "x"}}}"#, "need both"),
        ] {
            let error = computed(matrix).unwrap_err();
            assert!(error.contains(why), "{matrix}: {error}");
        }
        let services = resolved("    services: ${{ matrix.s }}\n", r#"{"s": {"a b": "x"}}"#).unwrap_err();
        assert!(services.contains("`a b` is no name of a service"), "{services}");
        assert!(resolved("    services: ${{ matrix.s }}\n", "{}").unwrap().is_empty());
    }
}
