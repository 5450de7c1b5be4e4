//! What is examined: a configuration's host, or the host as the standalone commands use it.

use std::path::{Path, PathBuf};

use crate::config::{Config, Secrets};
use crate::document::Diagnostic;
use crate::engine::Backend;
use crate::host::process::find_program;
use crate::vm::backend::Vmm;
use crate::vm::firecracker::Programs;
use crate::vm::spec::Shape;

/// Where state is when nobody says otherwise.
const DEFAULT_STATE_DIR: &str = "/var/lib/dayfly";
const DEFAULT_QEMU: &str = "qemu-system-x86_64";

/// What a person asked for; what is absent comes from the configuration, else from the defaults of the standalone commands.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub config: Option<PathBuf>,
    pub state_dir: Option<PathBuf>,
    pub qemu: Option<String>,
    pub firecracker: Option<Programs>,
    pub backend: Option<Backend>,
    pub recipes: Vec<PathBuf>,
}

/// Everything that checks need to know before they look.
#[derive(Debug)]
pub struct Subject {
    pub configuration: Configuration,
    pub state_dir: PathBuf,
    pub images_dir: PathBuf,
    pub recipes: Vec<PathBuf>,
    pub qemu: String,
    pub firecracker: Programs,
    pub backend: Backend,
    pub profiles: Vec<Wanted>,
}

/// What became of the configuration.
#[derive(Debug)]
pub enum Configuration {
    /// None was asked for, and none is at the usual place.
    None,
    Wrong {
        file: PathBuf,
        errors: Vec<Diagnostic>,
    },
    Valid {
        file: PathBuf,
        config: Box<Config>,
        warnings: Vec<Diagnostic>,
        secrets: SecretsFound,
    },
}

/// The secrets with warnings, or everything that is missing.
pub(super) type SecretsFound = Result<(Secrets, Vec<Diagnostic>), Vec<Diagnostic>>;

/// A kind of machine that must be ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The profile's name; `None`: what `dayfly exec` uses without options.
    pub profile: Option<String>,
    pub image: String,
    pub shape: Shape,
}

impl Subject {
    /// Reads the configuration, if there is one. Blocks on the file system.
    pub fn new(options: Options) -> Self {
        let configuration = options.config.as_deref().map_or(Configuration::None, load);
        let config = configuration.config();
        let given = options.state_dir.map(|path| std::path::absolute(&path).unwrap_or(path));
        let place = given.map_or_else(|| Place::of(config), Place::below);
        let backend = options.backend.or(config.map(|config| config.vm.backend.into()));
        Self {
            recipes: config.map_or(options.recipes, |config| config.vm.recipes_dir.clone()),
            qemu: options
                .qemu
                .or(config.map(|config| config.vm.qemu.display().to_string()))
                .unwrap_or_else(|| DEFAULT_QEMU.to_owned()),
            firecracker: options
                .firecracker
                .or(config.map(|config| (&config.vm.firecracker).into()))
                .unwrap_or_default(),
            backend: backend.unwrap_or(Backend::Auto),
            profiles: config.map_or_else(|| vec![Wanted::default()], wanted),
            state_dir: place.state,
            images_dir: place.images,
            configuration,
        }
    }
}

impl Subject {
    /// The monitor that runs the guests.
    pub(super) fn vmm(&self) -> Vmm {
        self.backend.vmm(&self.qemu, &self.firecracker)
    }

    /// What `dayfly image` must be told to work on the same images: nothing, or options with a blank before them. `None` if
    /// it cannot reach them, because the configuration has them in a place of their own.
    pub(super) fn image_options(&self) -> Option<String> {
        if self.images_dir != Place::below(self.state_dir.clone()).images {
            return None;
        }
        let mut options = String::new();
        if self.state_dir != Path::new(DEFAULT_STATE_DIR) {
            options.push_str(&format!(" --state-dir {}", self.state_dir.display()));
        }
        for directory in &self.recipes {
            options.push_str(&format!(" --recipes {}", directory.display()));
        }
        match self.backend {
            Backend::Auto => {}
            Backend::QemuKvm => options.push_str(" --backend qemu-kvm"),
            Backend::QemuTcg => options.push_str(" --backend qemu-tcg"),
            Backend::Firecracker => options.push_str(" --backend firecracker"),
        }
        // One that is not there is a finding of its own, and no command works with it.
        if self.qemu != DEFAULT_QEMU && find_program(&self.qemu).is_some() {
            options.push_str(&format!(" --qemu {}", self.qemu));
        }
        Some(options)
    }
}

/// The two directories that may be anywhere.
struct Place {
    state: PathBuf,
    images: PathBuf,
}

impl Place {
    fn below(state: PathBuf) -> Self {
        Self { images: state.join("images"), state }
    }

    fn of(config: Option<&Config>) -> Self {
        match config {
            Some(config) => Self { state: config.server.state_dir.clone(), images: config.vm.images_dir.clone() },
            None => Self::below(DEFAULT_STATE_DIR.into()),
        }
    }
}

impl Configuration {
    /// The configuration, if it is valid.
    pub fn config(&self) -> Option<&Config> {
        if let Self::Valid { config, .. } = self { Some(config) } else { None }
    }
}

impl Default for Wanted {
    fn default() -> Self {
        Self { profile: None, image: "base".to_owned(), shape: Shape::default() }
    }
}

fn load(file: &Path) -> Configuration {
    match Config::load(file) {
        Ok((config, warnings)) => Configuration::Valid {
            file: file.to_owned(),
            secrets: Secrets::resolve(&config, |name| std::env::var(name).ok()),
            config: Box::new(config),
            warnings,
        },
        Err(errors) => Configuration::Wrong { file: file.to_owned(), errors },
    }
}

fn wanted(config: &Config) -> Vec<Wanted> {
    let of = |profile: &crate::config::Profile| Wanted {
        profile: Some(profile.name.clone()),
        image: profile.image.clone(),
        shape: crate::job::driver::shape_of(profile),
    };
    config.profiles.iter().map(of).collect()
}
