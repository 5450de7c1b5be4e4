//! Where secrets are, and reading them. A secret's text never stands in the configuration file and never in a message.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::{Config, Credential, GitHub, JobSecrets, Registry, RegistryCredential};
use crate::document::{Complaint, Diagnostic, Item, Position, Value};
use crate::webhook::WebhookSecret;

/// Largest file that holds a secret, in bytes. Private keys have about two thousand.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// A webhook secret with fewer characters gets a warning: signatures can be tried offline.
const MIN_WEBHOOK_SECRET: usize = 16;

/// Where systemd puts a service's credentials.
pub const SYSTEMD_CREDENTIALS: &str = "/run/credentials/";

/// Permission bits of a file that let others read or change it.
const OPEN_TO_OTHERS: u32 = 0o006;

/// Where a secret is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlace {
    File(PathBuf),
    Env(String),
}

impl fmt::Display for SecretPlace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(out, "file `{}`", path.display()),
            Self::Env(name) => write!(out, "environment variable `{name}`"),
        }
    }
}

/// A secret's place, and where the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRef {
    pub place: SecretPlace,
    /// The key path, such as `github.webhook_secret`.
    pub key: String,
    pub position: Position,
}

/// Reads `{ file = "path" }` or `{ env = "NAME" }`. A secret that stands there itself is refused without being quoted.
pub(super) fn read_ref(item: &Item<'_>, directory: &Path) -> Option<SecretRef> {
    const FORM: &str = "write `{ file = \"path\" }` or `{ env = \"NAME\" }`";
    if matches!(item.node().value, Value::String(_)) {
        item.refuse(Complaint::new("a secret does not stand in the configuration itself").hint(FORM));
        return None;
    }
    let table = item.table(&["file", "env"])?;
    let file = table.get("file").map(|item| super::values::host_path(&item, directory).map(SecretPlace::File));
    let env = table.get("env").map(|item| item.parse(variable_name).map(SecretPlace::Env));
    let place = match (file, env) {
        (Some(place), None) | (None, Some(place)) => place?,
        (Some(_), Some(_)) => {
            item.refuse(Complaint::new("a secret has one place, not both `file` and `env`").hint("remove one"));
            return None;
        }
        (None, None) => {
            item.refuse(Complaint::new("the secret's place is missing").hint(FORM));
            return None;
        }
    };
    Some(SecretRef { place, key: item.path().to_owned(), position: item.position() })
}

fn variable_name(name: &str) -> Result<String, Complaint> {
    let is_name = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    // A secret in the wrong place ends up here as well, so what does not look like a name is not repeated.
    let hint = "letters, digits and `_`, like `DAYFLY_TOKEN`";
    is_name.then(|| name.to_owned()).ok_or_else(|| Complaint::new("not the name of an environment variable").hint(hint))
}

/// What Dayfly and GitHub know each other by.
#[derive(Debug)]
pub struct GitHubSecrets {
    pub webhook_secret: SecretString,
    pub credential: Credential<SecretString>,
}

/// The secrets themselves. Debug output hides them.
#[derive(Debug)]
pub struct Secrets {
    /// Those of [`Config::github`], if it is served.
    pub github: Option<GitHubSecrets>,
    /// Those of [`Config::registries`], in the same order.
    pub registries: Vec<Option<RegistryCredential<SecretString>>>,
    /// Those of [`Config::gitlab`], in the same order.
    pub gitlab: Vec<GitLabSecrets>,
    /// Those of jobs.
    pub jobs: JobSecrets,
}

/// The secrets of one `[[gitlab]]`.
#[derive(Debug)]
pub struct GitLabSecrets {
    /// What its webhooks are verified by.
    pub webhook: Option<WebhookSecret>,
    /// What reads projects and sets statuses.
    pub token: Option<SecretString>,
    /// The tokens of its runners, in the same order.
    pub runners: Vec<SecretString>,
}

impl Secrets {
    /// Reads all secrets of `config`; `env` looks up an environment variable. Trailing newlines are dropped. Answers the
    /// secrets with warnings, or everything that is missing. Blocks on the file system: call it before serving.
    pub fn resolve(
        config: &Config, env: impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let mut resolver = Resolver { file: &config.file, env, errors: Vec::new(), warnings: Vec::new() };
        let github = config.github.as_ref().map(|github| resolver.read_github(github));
        let registries = resolver.read_registries(&config.registries);
        let gitlab = resolver.read_gitlab(config);
        let jobs = resolver.read_job_secrets(config);
        match (github, registries, gitlab, jobs) {
            (github @ (None | Some(Some(_))), Some(registries), Some(gitlab), Some(jobs)) => {
                Ok((Self { github: github.flatten(), registries, gitlab, jobs }, resolver.warnings))
            }
            _ => Err(resolver.errors),
        }
    }

    /// Reads the secrets of `[[registry]]` alone, in the order of [`Config::registries`], as [`Secrets::resolve`] does.
    pub fn of_registries(
        config: &Config, env: impl Fn(&str) -> Option<String>,
    ) -> Result<Vec<Option<RegistryCredential<SecretString>>>, Vec<Diagnostic>> {
        let mut resolver = Resolver { file: &config.file, env, errors: Vec::new(), warnings: Vec::new() };
        resolver.read_registries(&config.registries).ok_or(resolver.errors)
    }
}

struct Resolver<'c, E> {
    file: &'c str,
    env: E,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl<E: Fn(&str) -> Option<String>> Resolver<'_, E> {
    fn warn(&mut self, secret: &SecretRef, complaint: Complaint) {
        self.warnings.push(complaint.at(self.file, Some(secret.position), &secret.key));
    }

    fn refuse(&mut self, secret: &SecretRef, complaint: Complaint) {
        self.errors.push(complaint.at(self.file, Some(secret.position), &secret.key));
    }

    /// The secret's text; `None` after a complaint.
    fn read(&mut self, secret: &SecretRef) -> Option<String> {
        let read = match &secret.place {
            SecretPlace::File(path) => read_file(path).map(|(text, metadata)| {
                if metadata.permissions().mode() & OPEN_TO_OTHERS != 0 {
                    let complaint = Complaint::new(format!("{} is open to every user of the host", secret.place));
                    self.warn(secret, complaint.hint(format!("chmod 600 {}", path.display())));
                }
                text
            }),
            SecretPlace::Env(name) => (self.env)(name).ok_or_else(|| "is not set".to_owned()),
        };
        let checked = read.and_then(|text| match text.trim_end_matches(['\r', '\n']) {
            "" => Err("is empty".to_owned()),
            trimmed => Ok(trimmed.to_owned()),
        });
        checked.map_err(|why| self.refuse(secret, unread(&secret.place, &why))).ok()
    }

    fn read_github(&mut self, github: &GitHub) -> Option<GitHubSecrets> {
        let webhook_secret = self.read_webhook_secret(&github.webhook_secret);
        let credential = match &github.credential {
            Credential::Token(token) => self.read(token).map(|text| Credential::Token(SecretString::from(text))),
            Credential::App { id, private_key } => self
                .read_private_key(private_key)
                .map(|text| Credential::App { id: *id, private_key: SecretString::from(text) }),
        };
        Some(GitHubSecrets { webhook_secret: webhook_secret?, credential: credential? })
    }

    fn read_webhook_secret(&mut self, secret: &SecretRef) -> Option<SecretString> {
        let text = self.read(secret)?;
        if text.chars().count() < MIN_WEBHOOK_SECRET {
            let complaint = Complaint::new(format!("the secret has fewer than {MIN_WEBHOOK_SECRET} characters"));
            self.warn(secret, complaint.hint("a short one can be guessed from one delivery"));
        }
        Some(text.into())
    }

    /// Every one of them, so that all complaints are there; `None` after one.
    fn read_registries(&mut self, registries: &[Registry]) -> Option<Vec<Option<RegistryCredential<SecretString>>>> {
        let read: Vec<Option<_>> = registries
            .iter()
            .map(|registry| match &registry.credential {
                Some(credential) => {
                    let secret = self.read_header_value(credential.secret())?;
                    Some(Some(credential.with(SecretString::from(secret))))
                }
                None => Some(None),
            })
            .collect();
        read.into_iter().collect()
    }

    /// Every one of them, so that all complaints are there; `None` after one.
    fn read_gitlab(&mut self, config: &Config) -> Option<Vec<GitLabSecrets>> {
        let instances = config.gitlab.iter().map(|instance| {
            let webhook = instance.webhook_secret.as_ref().map(|secret| self.read_gitlab_webhook(secret));
            let token = instance.token.as_ref().map(|token| self.read_header_value(token));
            let tokens = instance.runners.iter().map(|runner| self.read_header_value(&runner.token).map(Into::into));
            let runners = tokens.collect::<Vec<Option<_>>>().into_iter().collect::<Option<_>>()?;
            let webhook = webhook.map_or(Some(None), |read| read.map(Some))?;
            let token = token.map_or(Some(None), |read| read.map(|token| Some(token.into())))?;
            Some(GitLabSecrets { webhook, token, runners })
        });
        instances.collect::<Vec<Option<_>>>().into_iter().collect()
    }

    fn read_gitlab_webhook(&mut self, secret: &SecretRef) -> Option<WebhookSecret> {
        let text = self.read_webhook_secret(secret)?;
        let read = WebhookSecret::parse(text);
        read.map_err(|why| self.refuse(secret, Complaint::new(format!("{} {why}", secret.place)))).ok()
    }

    /// Every one of them, so that all complaints are there; `None` after one.
    fn read_job_secrets(&mut self, config: &Config) -> Option<JobSecrets> {
        let read = config.job_secrets().map(|secret| Some((secret.key.clone(), self.read(secret)?.into())));
        read.collect::<Vec<Option<_>>>().into_iter().collect()
    }

    /// A secret that is sent in a header.
    fn read_header_value(&mut self, secret: &SecretRef) -> Option<String> {
        let text = self.read(secret)?;
        if text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
            return Some(text);
        }
        let complaint = Complaint::new(format!("{} has characters that cannot stand in a header", secret.place));
        self.refuse(secret, complaint.hint("one line of ASCII, without control characters"));
        None
    }

    fn read_private_key(&mut self, secret: &SecretRef) -> Option<String> {
        let text = self.read(secret)?;
        if text.trim_start().starts_with("-----BEGIN ") {
            return Some(text);
        }
        let complaint = Complaint::new(format!("{} is not a private key in PEM form", secret.place));
        self.refuse(secret, complaint.hint("use the .pem file that GitHub offers for download in the App's settings"));
        None
    }
}

/// The complaint about a secret that could not be read; `why` stands after its place.
fn unread(place: &SecretPlace, why: &str) -> Complaint {
    let complaint = Complaint::new(format!("{place} {why}"));
    match place {
        SecretPlace::File(path) if !path.exists() && path.starts_with(SYSTEMD_CREDENTIALS) => complaint.hint(
            "systemd puts it there for the service alone: see `LoadCredential=` in the unit, and whether its source exists",
        ),
        SecretPlace::File(path) if !path.exists() => {
            complaint.hint("relative paths start at the configuration's directory")
        }
        SecretPlace::File(_) => complaint,
        SecretPlace::Env(_) => complaint.hint("set it in the service's environment, such as `EnvironmentFile=` of the unit"),
    }
}

/// A file's text and metadata, or why not, to be read after the file's name.
fn read_file(path: &Path) -> Result<(String, Metadata), String> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
        std::io::ErrorKind::InvalidData => "is not text".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    // Asked before opening: opening a pipe would wait for its writer.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err("is not a regular file".into());
    }
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mut text = String::new();
    file.take(MAX_SECRET_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_SECRET_BYTES {
        return Err(format!("has more than {MAX_SECRET_BYTES} bytes"));
    }
    Ok((text, metadata))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt as _;

    use secrecy::ExposeSecret as _;

    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        use std::io::Write as _;
        let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(mode).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        // The process's umask must not decide what is tested.
        file.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A configuration in a directory of its own, which is called `DIR` in messages.
    struct Place {
        directory: tempfile::TempDir,
        config: Config,
    }

    impl Place {
        fn new(github: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let text = format!("[github]\n{github}\n[profile.linux]\nlabels = ['linux']\n");
            let file = directory.path().join("dayfly.toml").display().to_string();
            let (config, _) = Config::parse(&file, &text).unwrap();
            Self { directory, config }
        }

        fn shown(&self, found: &[Diagnostic]) -> String {
            let lines: Vec<String> = found.iter().map(Diagnostic::to_string).collect();
            lines.join("\n").replace(&self.directory.path().display().to_string(), "DIR")
        }
    }

    #[test]
    fn secrets_are_read_trimmed_and_hidden() {
        let place = Place::new("webhook_secret = { file = 'hook' }\ntoken = { env = 'TOKEN' }");
        write(&place.directory.path().join("hook"), "a secret long enough \r\n\n", 0o600);
        let env = |name: &str| (name == "TOKEN").then(|| "ghp_x".to_owned());
        let (secrets, warnings) = Secrets::resolve(&place.config, env).unwrap();
        assert_eq!(place.shown(&warnings), "");
        let github = secrets.github.as_ref().unwrap();
        assert_eq!(github.webhook_secret.expose_secret(), "a secret long enough ");
        assert!(matches!(&github.credential, Credential::Token(token) if token.expose_secret() == "ghp_x"));
        let debug = format!("{secrets:?}");
        assert!(!debug.contains("ghp_x") && !debug.contains("long enough"), "{debug}");
    }

    #[test]
    fn everything_that_is_missing_is_reported_at_once() {
        let place =
            Place::new("webhook_secret = { env = 'HOOK' }\napp = { id = 7, private_key = { file = 'key.pem' } }");
        let refused = |env: Option<&str>| {
            let env = env.map(str::to_owned);
            place.shown(&Secrets::resolve(&place.config, |_| env.clone()).unwrap_err())
        };
        insta::assert_snapshot!(refused(None), @"
        DIR/dayfly.toml:2:18: github.webhook_secret: environment variable `HOOK` is not set
          hint: set it in the service's environment, such as `EnvironmentFile=` of the unit
        DIR/dayfly.toml:3:31: github.app.private_key: file `DIR/key.pem` does not exist
          hint: relative paths start at the configuration's directory
        ");
        write(&place.directory.path().join("key.pem"), "ghp_not_a_key", 0o600);
        insta::assert_snapshot!(refused(Some("\n")), @"
        DIR/dayfly.toml:2:18: github.webhook_secret: environment variable `HOOK` is empty
          hint: set it in the service's environment, such as `EnvironmentFile=` of the unit
        DIR/dayfly.toml:3:31: github.app.private_key: file `DIR/key.pem` is not a private key in PEM form
          hint: use the .pem file that GitHub offers for download in the App's settings
        ");
        std::fs::remove_file(place.directory.path().join("key.pem")).unwrap();
        std::fs::create_dir(place.directory.path().join("key.pem")).unwrap();
        insta::assert_snapshot!(refused(Some("long enough to be a secret")), @"DIR/dayfly.toml:3:31: github.app.private_key: file `DIR/key.pem` is not a regular file");
    }

    #[test]
    fn an_open_file_and_a_short_secret_are_warnings() {
        let place = Place::new("webhook_secret = { file = 'hook' }\ntoken = { env = 'TOKEN' }");
        write(&place.directory.path().join("hook"), "short", 0o644);
        let (_, warnings) = Secrets::resolve(&place.config, |_| Some("t".into())).unwrap();
        insta::assert_snapshot!(place.shown(&warnings), @"
        DIR/dayfly.toml:2:18: github.webhook_secret: file `DIR/hook` is open to every user of the host
          hint: chmod 600 DIR/hook
        DIR/dayfly.toml:2:18: github.webhook_secret: the secret has fewer than 16 characters
          hint: a short one can be guessed from one delivery
        ");
    }

    #[test]
    fn a_file_that_is_too_large_or_not_text_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("big");
        write(&path, &"x".repeat(MAX_SECRET_BYTES as usize + 1), 0o600);
        assert_eq!(read_file(&path).unwrap_err(), "has more than 65536 bytes");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert_eq!(read_file(&path).unwrap_err(), "is not text");
    }
}
