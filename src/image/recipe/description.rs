//! `image.toml` as it is written, and what it becomes on top of the recipe that it extends. Pure.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use url::Url;

use super::User;
use super::archive::{check_mirror, check_package, check_suite};

/// Bytes of the name of a file for set-up scripts.
const MAX_NAME: usize = 100;

/// `image.toml`. A recipe that extends another one says only what differs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    pub(super) description: Option<String>,
    /// The name of the recipe that this one adds to.
    pub(super) extends: Option<String>,
    pub(super) distribution: Option<Distribution>,
    pub(super) source: Option<ExistingSource>,
    #[serde(default)]
    pub(super) kernel: Kernel,
    pub(super) setup: Option<Setup>,
    pub(super) bake: Option<ScriptFile>,
    pub(super) user: Option<User>,
    /// The environment of every program in the image's VMs.
    #[serde(default)]
    pub(super) environment: BTreeMap<String, String>,
}

/// Where packages come from.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Distribution {
    /// A Debian release.
    suite: Option<String>,
    /// Another archive than Debian's own.
    mirror: Option<String>,
    #[serde(default)]
    packages: Vec<String>,
}

/// A root file system that exists. Paths start at the recipe's directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExistingSource {
    /// A tar archive, plain or compressed.
    pub(super) rootfs: Option<String>,
    /// An OCI image layout: a directory or a tar archive of one.
    pub(super) oci_layout: Option<String>,
    /// Which image of the layout: a tag or a digest.
    pub(super) reference: Option<String>,
}

/// The guest's kernel.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kernel {
    /// A package in a file, rather than the newest of an archive.
    pub(super) package: Option<String>,
    pub(super) suite: Option<String>,
    pub(super) mirror: Option<String>,
    /// Modules, besides those that every guest has, that programs in the guest can load.
    #[serde(default)]
    pub(super) modules: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScriptFile {
    /// A file beside `image.toml`.
    pub(super) script: String,
}

/// What runs once, in a VM, when the image is built.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Setup {
    /// A file beside `image.toml`.
    pub(super) script: String,
    /// What the scripts find in the directory `$DAYFLY_FILES`.
    #[serde(default)]
    pub(super) files: Vec<FileOfNetwork>,
}

/// A file that this host fetches.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileOfNetwork {
    url: String,
    sha256: String,
    /// Unless it is that at the end of the address.
    name: Option<String>,
}

/// A file that set-up scripts get, by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    pub name: String,
    pub url: String,
    /// In lower-case hexadecimal.
    pub sha256: String,
}

/// Packages of a Debian release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Packages {
    pub suite: String,
    pub mirror: Option<String>,
    pub packages: Vec<String>,
}

impl Description {
    /// This description on top of `below`.
    pub(super) fn on(self, below: Self) -> Self {
        // Either kind of source replaces the other kind.
        let (distribution, source) = match (self.distribution, self.source) {
            (distribution, Some(source)) => (distribution, Some(source)),
            (Some(above), None) => (Some(above.on(below.distribution.unwrap_or_default())), None),
            (None, None) => (below.distribution, below.source),
        };
        let mut environment = below.environment;
        environment.extend(self.environment);
        Self {
            description: self.description.or(below.description),
            extends: self.extends,
            distribution,
            source,
            kernel: self.kernel.on(below.kernel),
            setup: Setup::joined(self.setup, below.setup),
            bake: self.bake,
            user: self.user.or(below.user),
            environment,
        }
    }
}

impl Setup {
    /// The scripts are told apart where they are read; the files are for all of them.
    fn joined(above: Option<Self>, below: Option<Self>) -> Option<Self> {
        match (above, below) {
            (Some(mut above), Some(below)) => {
                above.files.splice(..0, below.files);
                Some(above)
            }
            (above, below) => above.or(below),
        }
    }

    /// The files, each under a name of its own.
    ///
    /// # Errors
    /// What is wrong with one.
    pub(super) fn complete(self) -> Result<Vec<RemoteFile>, String> {
        let files: Vec<RemoteFile> = self.files.into_iter().map(FileOfNetwork::complete).collect::<Result<_, _>>()?;
        let mut names = HashSet::new();
        match files.iter().find(|file| !names.insert(&file.name)) {
            Some(twice) => Err(format!("two of `setup.files` are named `{}`", twice.name)),
            None => Ok(files),
        }
    }
}

impl FileOfNetwork {
    fn complete(self) -> Result<RemoteFile, String> {
        let Self { url, sha256, name } = self;
        let parsed = Url::parse(&url).map_err(|error| format!("`setup.files`: `{url}` is no address: {error}"))?;
        if !["https", "http"].contains(&parsed.scheme()) || !parsed.username().is_empty() || parsed.password().is_some()
        {
            return Err(format!(
                "`setup.files`: `{url}` must begin with `https://` or `http://`, and have no password"
            ));
        }
        let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if sha256.len() != 64 || !sha256.bytes().all(is_lower_hex) {
            return Err(format!("`setup.files`: `{sha256}` is no SHA-256: 64 digits and letters from `a` to `f`"));
        }
        let name = name.unwrap_or_else(|| parsed.path().rsplit('/').next().unwrap_or_default().to_owned());
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME || name.starts_with('.') || !name.bytes().all(is_plain) {
            return Err(format!(
                "`setup.files`: `{name}` cannot be the name of a file; give it a `name` of letters, digits and `._+-`"
            ));
        }
        Ok(RemoteFile { name, url, sha256 })
    }
}

impl Distribution {
    fn on(self, below: Self) -> Self {
        Self {
            suite: self.suite.or(below.suite),
            mirror: self.mirror.or(below.mirror),
            packages: union(below.packages, self.packages),
        }
    }

    /// The packages to install.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub(super) fn complete(self) -> Result<Packages, String> {
        let Self { suite, mirror, packages } = self;
        let suite = suite.ok_or("`distribution.suite` is missing")?;
        check_suite("distribution.suite", &suite)?;
        mirror.iter().try_for_each(|mirror| check_mirror("distribution.mirror", mirror))?;
        packages.iter().try_for_each(|package| check_package(package))?;
        Ok(Packages { suite, mirror, packages: union(packages, Vec::new()) })
    }
}

impl Kernel {
    /// Fails, with what is wrong, if the archive that it names can be none.
    pub(super) fn check_archive(&self) -> Result<(), String> {
        self.suite.iter().try_for_each(|suite| check_suite("kernel.suite", suite))?;
        self.mirror.iter().try_for_each(|mirror| check_mirror("kernel.mirror", mirror))
    }

    fn on(self, below: Self) -> Self {
        let is_chosen = self.package.is_some() || self.suite.is_some() || self.mirror.is_some();
        let (package, suite, mirror) = if is_chosen {
            (self.package, self.suite, self.mirror)
        } else {
            (below.package, below.suite, below.mirror)
        };
        Self { package, suite, mirror, modules: union(below.modules, self.modules) }
    }
}

/// Both, ordered, each once: the order in a recipe makes no other image.
fn union(mut below: Vec<String>, above: Vec<String>) -> Vec<String> {
    below.extend(above);
    below.sort();
    below.dedup();
    below
}
