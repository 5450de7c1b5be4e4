//! `image.toml` as it is written, and what it becomes on top of the recipe that it extends. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::User;

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
    pub(super) setup: Option<ScriptFile>,
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
            setup: self.setup,
            bake: self.bake,
            user: self.user.or(below.user),
            environment,
        }
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

    /// The packages to install, if the release is known.
    pub(super) fn complete(self) -> Option<Packages> {
        let Self { suite, mirror, packages } = self;
        Some(Packages { suite: suite?, mirror, packages: union(packages, Vec::new()) })
    }
}

impl Kernel {
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
