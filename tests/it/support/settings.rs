//! Configurations for tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::host::shared_images;
use crate::local_forge::{APP_PRIVATE_KEY, Forge};

/// What signs deliveries.
pub(crate) const WEBHOOK_SECRET: &str = "it is known to the tests";

/// Where people would reach the service; nothing is there.
pub(crate) const PUBLIC_URL: &str = "http://ci.example.test/dayfly";

/// Stands in a profile for the port of the forge, which is known only when it runs.
pub(crate) const FORGE_PORT: &str = "FORGE_PORT";

/// What differs from test to test.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    is_app: bool,
    profiles: String,
    limits: String,
    drain: &'static str,
    server: String,
    github: String,
    runs_vms: bool,
    disk: Option<&'static str>,
    secrets: Vec<(&'static str, String)>,
    /// Lines of `[vm]`; `None` for the images that all tests share.
    own_images: Option<String>,
}

impl Settings {
    /// One profile `linux`, and the App's credential.
    pub(crate) fn new() -> Self {
        let linux = profile("linux", "");
        Self {
            is_app: true,
            profiles: linux,
            limits: "grace = \"1s\"\n".into(),
            drain: "0s",
            server: String::new(),
            github: "sweep = \"off\"\n".into(),
            runs_vms: true,
            disk: None,
            secrets: Vec::new(),
            own_images: None,
        }
    }

    /// For tests in which no VM may start: the profile's image does not exist.
    pub(crate) fn without_vms() -> Self {
        let mut settings = Self::new();
        settings.profiles = "[profile.linux]\nlabels = [\"linux\", \"x64\"]\nimage = \"absent\"\n".to_owned();
        settings.runs_vms = false;
        settings
    }

    /// A person's token instead of the App.
    pub(crate) fn with_plain_token(mut self) -> Self {
        self.is_app = false;
        self
    }

    /// One more profile, with lines of its own.
    pub(crate) fn with_profile(mut self, name: &str, lines: &str) -> Self {
        self.profiles.push_str(&profile(name, lines));
        self
    }

    /// More lines of the profile `linux`.
    pub(crate) fn with_profile_lines(mut self, lines: &str) -> Self {
        self.profiles = self.profiles.replacen("[profile.linux]\n", &format!("[profile.linux]\n{lines}\n"), 1);
        self
    }

    /// More lines of `[limits]`.
    pub(crate) fn with_limits(mut self, lines: &str) -> Self {
        self.limits.push_str(lines);
        self
    }

    /// How long jobs may go on when the service is stopped; else not at all.
    pub(crate) fn with_drain(mut self, limit: &'static str) -> Self {
        self.drain = limit;
        self
    }

    /// Another grace period than the shortest that makes sense.
    pub(crate) fn with_grace(mut self, grace: &str) -> Self {
        self.limits = self.limits.replace("grace = \"1s\"", &format!("grace = \"{grace}\""));
        self
    }

    /// More lines of `[server]`.
    pub(crate) fn with_server(mut self, lines: &str) -> Self {
        self.server.push_str(lines);
        self
    }

    /// More lines of `[github]`.
    pub(crate) fn with_github(mut self, lines: &str) -> Self {
        self.github.push_str(lines);
        self
    }

    /// A section of its own, with its heading.
    pub(crate) fn with_section(mut self, section: &str) -> Self {
        self.profiles.push_str(section);
        self
    }

    /// A file with a secret beside the configuration.
    pub(crate) fn with_secret(mut self, name: &'static str, content: &str) -> Self {
        self.secrets.push((name, content.to_owned()));
        self
    }

    /// A sweep of the forge at this interval, and more lines of `[github]`. Without it there is none: tests count events.
    pub(crate) fn with_sweep(mut self, interval: &str, lines: &str) -> Self {
        self.github = format!("sweep = \"{interval}\"\n{lines}");
        self
    }

    /// A file system of this size, as `mount` takes it, for the state directory, which nobody else sees.
    pub(crate) fn with_disk_of(mut self, size: &'static str) -> Self {
        self.disk = Some(size);
        self
    }

    /// Images of the test's own in `images`, which may lack some, and a directory with recipes.
    pub(crate) fn with_images(mut self, images: &Path, recipes: Option<&Path>) -> Self {
        let recipes = recipes.map(|recipes| format!("recipes_dir = \"{}\"\n", recipes.display()));
        self.own_images = Some(format!("images_dir = \"{}\"\n{}", images.display(), recipes.unwrap_or_default()));
        self
    }

    pub(crate) fn disk(&self) -> Option<&'static str> {
        self.disk
    }

    pub(crate) fn runs_vms(&self) -> bool {
        self.runs_vms
    }

    pub(crate) fn profile_count(&self) -> usize {
        self.profiles.matches("[profile.").count()
    }

    /// Writes the configuration and its secrets; gives its path. The state directory is `state` beside it.
    pub(crate) fn write(&self, directory: &Path, forge: &Forge) -> PathBuf {
        secret_file(directory, "webhook-secret", WEBHOOK_SECRET);
        secret_file(directory, "token", &forge.plain_token());
        secret_file(directory, "app.pem", APP_PRIVATE_KEY);
        for (name, content) in &self.secrets {
            secret_file(directory, name, content);
        }
        let credential = if self.is_app {
            format!("app = {{ id = {}, private_key = {{ file = \"app.pem\" }} }}", forge.app_id())
        } else {
            "token = { file = \"token\" }".to_owned()
        };
        let images = self.own_images.clone();
        let images = images.unwrap_or_else(|| format!("images_dir = \"{}\"", shared_images().display()));
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"{PUBLIC_URL}\"\nstate_dir = \"state\"\n{}\n\
             [github]\napi_url = \"{}\"\nurl = \"{}\"\nwebhook_secret = {{ file = \"webhook-secret\" }}\n{credential}\n{}\n\
             {}\n[limits]\n{}drain = \"{}\"\n[vm]\nbackend = \"qemu-tcg\"\n{images}\n[log]\nformat = \"json\"\n",
            self.server,
            forge.api_url(),
            forge.url(),
            self.github,
            self.profiles.replace(FORGE_PORT, &forge.port().to_string()),
            self.limits,
            self.drain,
        );
        let path = directory.join("dayfly.toml");
        fs::write(&path, text).unwrap();
        path
    }
}

/// A profile of the smallest shape, which all tests share unless `lines` say otherwise: a shape is baked once.
fn profile(name: &str, lines: &str) -> String {
    let mut text = format!("[profile.{name}]\nlabels = [\"{name}\", \"x64\"]\n{lines}\n");
    for (key, line) in [("memory", "memory = \"256 MiB\""), ("disk", "disk = \"1 GiB\"")] {
        if !lines.lines().any(|own| own.starts_with(key)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn secret_file(directory: &Path, name: &str, content: &str) {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}
