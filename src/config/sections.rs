//! The sections of the file into the model, with the default and the range of every key.
//!
//! A section's fields that may be missing (`?`) come last in its model: those before them are read, and complained about, first.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::units::{duration_between, parse_duration, size_between};
use super::values::{base_url, host_path, image_name, is_profile_name, label, repository_directory};
use super::{
    Config, Credential, Forks, GitHub, Limits, Log, LogFormat, MatrixFork, Metrics, Profile, Server, actions, caches,
    depot, egress, gitlab, given, pools, prepare, registries, reports, repositories, runner, secrets, select, vm,
};
use crate::document::reader::quoted;
use crate::document::{Complaint, Field, Item, Position, Table, Value};
use crate::net::egress::policy::Policy;

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;
pub(super) const TIB: u64 = 1 << 40;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the public GitHub and its people are.
pub(super) const GITHUB_API_URL: &str = "https://api.github.com/";
pub(super) const GITHUB_URL: &str = "https://github.com/";

/// Where workflows live in a repository, unless the operator says otherwise.
pub(super) const WORKFLOWS_DIR: &str = ".dayfly/workflows";

/// How often a forge is asked for what its webhooks did not bring, unless the operator says otherwise.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Profiles of one file.
const MAX_PROFILES: usize = 256;

/// Something that must exist on this host; asked only where the file is loaded, not where its text is parsed.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) key: String,
    pub(super) position: Position,
    pub(super) what: Claimed,
}

/// What must exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claimed {
    Directory(PathBuf),
    FileOrDirectory(PathBuf),
    /// Certificates in PEM form.
    Certificates(PathBuf),
    /// An image, or the recipe of one.
    Image(String),
}

/// What all sections share: where relative paths start, and the claims on paths so far.
#[derive(Debug)]
pub(super) struct Sections<'d> {
    directory: &'d Path,
    claims: RefCell<Vec<Claim>>,
}

impl<'d> Sections<'d> {
    pub(super) fn new(directory: &'d Path) -> Self {
        Self { directory, claims: RefCell::default() }
    }

    pub(super) fn into_claims(self) -> Vec<Claim> {
        self.claims.into_inner()
    }

    /// The whole file; `None` after an error that leaves a hole in the model.
    pub(super) fn config(&self, file: &str, root: &Item<'_>) -> Option<Config> {
        let known = &[
            "server",
            "github",
            "gitlab",
            "profile",
            "registry",
            "vars",
            "secrets",
            "limits",
            "vm",
            "log",
            "metrics",
            "caches",
            "prepared",
            "artifacts",
            "actions_cache",
            "actions",
        ];
        let table = root.table(known)?;
        let server = self.server(&table);
        let profiles = self.profiles(&table);
        let known = profiles.as_deref().unwrap_or_default();
        // Without any forge it is GitHub's section that is missing.
        let is_without_github = table.get("github").is_none() && table.get("gitlab").is_some();
        let github = if is_without_github { Some(None) } else { self.github(&table, known).map(Some) };
        let gitlab = table.read_or("gitlab", Vec::new(), |item| gitlab::read(self, item, known));
        let registries = table.read_or("registry", Vec::new(), |item| registries::read(item, known, self.directory));
        let given = given::read(&table, self.directory);
        let limits = limits(&table);
        if let (Some(profiles), Some(limits)) = (&profiles, &limits) {
            pools::refuse_too_many(&table, profiles, limits);
        }
        let log = log(&table);
        let metrics = metrics(&table, server.as_ref().map(|server| server.listen));
        let prepared = prepare::limits(&table);
        let retention = caches::retention(&table);
        let depot = depot::read(&table);
        let actions = actions::read(&table);
        if let (Some(profiles), Some(github)) = (&profiles, &github) {
            runner::refuse_what_cannot_work(&table, profiles, github.as_ref(), &gitlab);
        }
        let vm = vm::read(self, &table, server.as_ref().map(|server| server.state_dir.as_path()));
        if let (Some(vm), Some(limits)) = (&vm, &limits) {
            vm::refuse_too_few_users(&table, vm, limits);
        }
        Some(Config {
            file: file.to_owned(),
            server: server?,
            github: github?,
            gitlab,
            profiles: profiles?,
            registries,
            limits: limits?,
            vm: vm?,
            log: log?,
            metrics: metrics?,
            prepared: prepared?,
            caches: retention?,
            depot: depot?,
            given,
            actions: actions?,
        })
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory
    }

    pub(super) fn path(&self, item: &Item<'_>) -> Option<PathBuf> {
        host_path(item, self.directory)
    }

    pub(super) fn existing_path(&self, item: &Item<'_>, claimed: fn(PathBuf) -> Claimed) -> Option<PathBuf> {
        let path = self.path(item)?;
        self.claim(item, claimed(path.clone()));
        Some(path)
    }

    fn existing_image(&self, item: &Item<'_>) -> Option<String> {
        let name = image_name(item)?;
        self.claim(item, Claimed::Image(name.clone()));
        Some(name)
    }

    fn claim(&self, item: &Item<'_>, what: Claimed) {
        self.claims.borrow_mut().push(Claim { key: item.path().to_owned(), position: item.position(), what });
    }

    fn server(&self, root: &Table<'_>) -> Option<Server> {
        let table = root.section("server", &["listen", "public_url", "state_dir", "body_limit"])?;
        let listen = table.read_or("listen", SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)), listen_address);
        let public_url = match table.get("public_url") {
            Some(item) => base_url(&item, "log pages"),
            None => {
                let complaint = Complaint::new("`public_url` is not set: links on the forge lead to this host only");
                table.item().warn(complaint.hint("set the address by which people reach this service"));
                Some(local_url(listen))
            }
        };
        Some(Server {
            listen,
            state_dir: table.read_or("state_dir", "/var/lib/dayfly".into(), |item| self.path(item)),
            body_limit: table.read_or("body_limit", 25 * MIB, |item| size_between(item, 64 << 10, GIB)),
            public_url: public_url?,
        })
    }

    fn github(&self, root: &Table<'_>, profiles: &[Profile]) -> Option<GitHub> {
        let known =
            &["api_url", "url", "webhook_secret", "token", "app", "workflows_dir", "forks", "sweep", "repository"];
        let table = root.section("github", known)?;
        let address = |key, default| table.read_or(key, well_known(default), |item| base_url(item, "the credential"));
        let api_url = address("api_url", GITHUB_API_URL);
        let url = address("url", GITHUB_URL);
        let webhook_secret = table
            .required_hint("webhook_secret", "like `webhook_secret = { file = \"webhook-secret\" }`")
            .and_then(|item| secrets::read_ref(&item, self.directory));
        let credential = self.credential(&table);
        let repositories = table
            .read_or("repository", Vec::new(), |item| repositories::OF_GITHUB.read(item, profiles, self.directory));
        Some(GitHub {
            api_url,
            url,
            workflows_dir: table.read_or("workflows_dir", WORKFLOWS_DIR.into(), repository_directory),
            forks: table.read_or("forks", Forks::default(), Forks::read),
            sweep: table.read_or("sweep", Some(SWEEP_INTERVAL), sweep_interval),
            repositories,
            webhook_secret: webhook_secret?,
            credential: credential?,
        })
    }

    fn credential(&self, github: &Table<'_>) -> Option<Credential<secrets::SecretRef>> {
        let read_token = |item: &Item<'_>| secrets::read_ref(item, self.directory).map(Credential::Token);
        match (github.get("token"), github.get("app")) {
            (Some(token), None) => read_token(&token),
            (None, Some(app)) => self.app(&app),
            (Some(token), Some(app)) => {
                // What is wrong with either is told too: one of them stays.
                let _both = (read_token(&token), self.app(&app));
                let complaint = format!("`token` (line {}) and `app` exclude each other", token.position().line);
                app.refuse(Complaint::new(complaint).hint("remove one of them"));
                None
            }
            (None, None) if github.is_misspelt("token") || github.is_misspelt("app") => None,
            (None, None) => {
                let complaint = Complaint::new("neither `token` nor `app` says as whom to speak to GitHub");
                github.item().refuse(complaint.hint(
                    "an App gets check runs: `app = { id = 1, private_key = { file = \"app.pem\" } }`; \
                     a token gets statuses: `token = { file = \"token\" }`",
                ));
                None
            }
        }
    }

    fn app(&self, app: &Item<'_>) -> Option<Credential<secrets::SecretRef>> {
        let table = app.table(&["id", "private_key"])?;
        let id = table
            .required_hint("id", "the \"App ID\" of the App's settings page, like `id = 123456`")
            .and_then(|item| item.integer_in(1..=u64::MAX));
        let private_key = table
            .required_hint("private_key", "like `private_key = { file = \"app.pem\" }`")
            .and_then(|item| secrets::read_ref(&item, self.directory));
        Some(Credential::App { id: id?, private_key: private_key? })
    }

    fn profiles(&self, root: &Table<'_>) -> Option<Vec<Profile>> {
        let hint = "add `[profile.linux]` with `labels = [\"linux\"]`";
        let item = root.required_hint("profile", hint)?;
        if let Value::Sequence(_) = item.node().value {
            item.refuse(
                Complaint::new("each profile is a table of its own").hint("write `[profile.linux]`, not `[[profile]]`"),
            );
            return None;
        }
        let fields = item.fields()?;
        if let Some(excess) = fields.get(MAX_PROFILES) {
            excess.refuse_key(format!("more than {MAX_PROFILES} profiles"));
            return None;
        }
        let read: Vec<Option<Profile>> = fields.iter().map(|field| self.profile(field)).collect();
        refuse_equal_labels(&fields, &read);
        read.into_iter().collect()
    }

    fn profile(&self, field: &Field<'_>) -> Option<Profile> {
        if !is_profile_name(field.key) {
            let complaint = Complaint::new(format!("{} cannot be a profile's name", quoted(field.key)));
            field.refuse_key(complaint.hint("1 to 40 small letters, digits and `-`"));
        }
        let known = &[
            "labels",
            "image",
            "vcpus",
            "memory",
            "disk",
            "timeout",
            "log_limit",
            "cache",
            "pool",
            "prepare",
            "matrix_fork",
            "egress",
            "reports",
            "executor",
            "runner",
        ];
        let table = field.value.table(known)?;
        let labels = table.required_hint("labels", "like `labels = [\"linux\"]`").and_then(|item| labels(&item));
        let cache = table.get("cache").map(|item| caches::cache(self, &item));
        let its_cache = cache.as_ref().and_then(Option::as_ref);
        let pool = table.get("pool").map(|item| pools::read(&item, its_cache));
        let prepare = table.get("prepare").map(|item| prepare::read(&item));
        let executor = runner::executor(&table);
        Some(Profile {
            name: field.key.to_owned(),
            image: table.read_or("image", "base".into(), |item| self.existing_image(item)),
            vcpus: table.read_or("vcpus", 1, |item| item.integer_in(1..=64)),
            memory: table.read_or("memory", 512 * MIB, |item| whole_mib(item, 128 * MIB, TIB)),
            disk: table.read_or("disk", 4 * GIB, |item| whole_mib(item, 64 * MIB, 16 * TIB)),
            timeout: table.read_or("timeout", HOUR, |item| duration_between(item, SECOND, 7 * DAY)),
            log_limit: table.read_or("log_limit", 16 * MIB, |item| size_between(item, 64 << 10, 4 * GIB)),
            matrix_fork: table.read_or("matrix_fork", MatrixFork::Off, |item| {
                item.one_of(&[("auto", MatrixFork::Auto), ("off", MatrixFork::Off)])
            }),
            egress: table.read_or("egress", Policy::default(), |item| egress::policy(self, item)),
            reports: table.read_or("reports", Vec::new(), reports::read),
            labels: labels?,
            cache: match cache {
                Some(read) => Some(read?),
                None => None,
            },
            pool: match pool {
                Some(read) => Some(read?),
                None => None,
            },
            prepare: match prepare {
                Some(read) => Some(read?),
                None => None,
            },
            executor: executor?,
        })
    }
}

/// A default that is a constant of this program.
pub(super) fn well_known(url: &str) -> Url {
    Url::parse(url).expect("the default is an address")
}

/// Where the listener is reached from this host.
fn local_url(listen: SocketAddr) -> Url {
    let host = if listen.ip().is_unspecified() { "localhost".to_owned() } else { listen.ip().to_string() };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Url::parse(&format!("http://{host}:{}/", listen.port())).expect("a socket address makes an address")
}

fn listen_address(item: &Item<'_>) -> Option<SocketAddr> {
    item.parse(|text| {
        text.parse().map_err(|_| {
            let complaint = Complaint::new(format!("{} is not an address and port", quoted(text)));
            complaint.hint("like `127.0.0.1:8080`, `0.0.0.0:80` or `[::1]:8080`")
        })
    })
}

/// Memory and disks come in whole pages and sectors; whole mebibytes are both, and what people mean.
pub(super) fn whole_mib(item: &Item<'_>, smallest: u64, largest: u64) -> Option<u64> {
    let bytes = size_between(item, smallest, largest)?;
    if !bytes.is_multiple_of(MIB) {
        item.refuse("must be a whole number of MiB");
        return None;
    }
    Some(bytes)
}

fn labels(item: &Item<'_>) -> Option<Vec<String>> {
    let items = item.list()?;
    if items.is_empty() {
        item.refuse(Complaint::new("must name at least one label").hint("no job could ask for this profile"));
        return None;
    }
    let read: Vec<Option<String>> = items.iter().map(label).collect();
    read.into_iter().collect()
}

/// Two profiles with the same labels: which one a job gets would be an accident.
fn refuse_equal_labels(fields: &[Field<'_>], profiles: &[Option<Profile>]) {
    let mut first_with = HashMap::new();
    for (field, profile) in fields.iter().zip(profiles) {
        let Some(profile) = profile else { continue };
        let first: &Field<'_> =
            first_with.entry((profile.executor.is_native(), select::label_set(&profile.labels))).or_insert(field);
        if first.key != field.key {
            let (name, line) = (quoted(first.key), first.key_position().line);
            let complaint = Complaint::new(format!("has the same labels as {name} in line {line}"));
            field.refuse_key(complaint.hint("jobs ask by labels: give one of the two a label of its own"));
        }
    }
}

fn limits(root: &Table<'_>) -> Option<Limits> {
    let known = &[
        "max_vms",
        "memory",
        "vcpus",
        "disk_reserve",
        "max_jobs_per_run",
        "queue",
        "attempts",
        "delivery_retention",
        "log_retention",
        "grace",
        "drain",
    ];
    let table = root.section("limits", known)?;
    let retention = |item: &Item<'_>| duration_between(item, HOUR, 3650 * DAY);
    Some(Limits {
        max_vms: table.read_or("max_vms", 0, |item| item.integer_in(0..=10_000)),
        memory: table.read_or("memory", None, |item| unless_auto(item, |item| whole_mib(item, 128 * MIB, 1024 * TIB))),
        vcpus: table.read_or("vcpus", 0, |item| item.integer_in(0..=1_000_000)),
        disk_reserve: table
            .read_or("disk_reserve", None, |item| unless_auto(item, |item| size_between(item, 0, 1024 * TIB))),
        max_jobs_per_run: table.read_or("max_jobs_per_run", 256, |item| item.integer_in(1..=1024)),
        queue: table.read_or("queue", 10_000, |item| item.integer_in(1..=1_000_000)),
        attempts: table.read_or("attempts", 3, |item| item.integer_in(1..=10)),
        delivery_retention: table.read_or("delivery_retention", 14 * DAY, retention),
        log_retention: table.read_or("log_retention", 30 * DAY, retention),
        grace: table.read_or("grace", 10 * SECOND, |item| duration_between(item, Duration::ZERO, 10 * MINUTE)),
        drain: table.read_or("drain", 30 * SECOND, |item| duration_between(item, Duration::ZERO, DAY)),
    })
}

/// What `read` reads, or `auto`.
fn unless_auto<T>(item: &Item<'_>, read: impl Fn(&Item<'_>) -> Option<T>) -> Option<Option<T>> {
    match &item.node().value {
        Value::String(text) if text == "auto" => Some(None),
        _ => read(item).map(Some),
    }
}

/// A duration, or `off`.
pub(super) fn sweep_interval(item: &Item<'_>) -> Option<Option<Duration>> {
    if let Value::String(text) = &item.node().value {
        if text == "off" {
            return Some(None);
        }
        if parse_duration(text) == Ok(Duration::ZERO) {
            item.refuse(
                Complaint::new(format!("{} is not an interval", quoted(text))).hint("write `\"off\"` for never"),
            );
            return None;
        }
    }
    duration_between(item, SECOND, DAY).map(Some)
}

fn log(root: &Table<'_>) -> Option<Log> {
    let table = root.section("log", &["filter", "format"])?;
    Some(Log {
        filter: table.read_or("filter", "info".into(), |item| item.parse(log_filter)),
        format: table.read_or("format", LogFormat::Text, |item| {
            item.one_of(&[("text", LogFormat::Text), ("json", LogFormat::Json)])
        }),
    })
}

fn metrics(root: &Table<'_>, public: Option<SocketAddr>) -> Option<Metrics> {
    let table = root.section("metrics", &["enabled", "listen"])?;
    let listen = match table.get("listen") {
        Some(item) => {
            let address = listen_address(&item)?;
            if Some(address) == public && address.port() != 0 {
                let complaint = Complaint::new("is the address of `server.listen` already");
                item.refuse(complaint.hint("leave it out: the metrics are served there then"));
                return None;
            }
            Some(address)
        }
        None => None,
    };
    Some(Metrics { enabled: table.read_or("enabled", true, |item| item.bool()), listen })
}

fn log_filter(text: &str) -> Result<String, Complaint> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => {
            let complaint = Complaint::new(format!("{} is not a log filter", quoted(text)));
            Err(complaint
                .hint("a level (`error`, `warn`, `info`, `debug`, `trace`) or directives like `info,dayfly::vm=debug`"))
        }
    }
}
