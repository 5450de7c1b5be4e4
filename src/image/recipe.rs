//! What an image is made of: `image.toml` and the files it names.
//!
//! A recipe may extend another one: it then has that one's packages, scripts, account and environment, and adds its own.

mod archive;
mod built_in;
mod description;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::description::{Description, ExistingSource, ScriptFile, Setup};
use super::ImageError;
use crate::protocol::message::Owner;

pub use self::description::{Packages, RemoteFile};

/// Raised when the same recipe gives another image.
pub(super) const FORMAT: u32 = 3;

/// Recipes that extend one another.
const MAX_DEPTH: usize = 4;

/// The Debian release whose kernel all guests run, unless a recipe says otherwise: the one that snapshots were tried with.
const KERNEL_SUITE: &str = "bookworm";

/// A recipe, complete: with the files that it names and what it extends.
#[derive(Debug, Clone, Serialize)]
pub struct Recipe {
    pub name: String,
    pub description: String,
    pub source: Source,
    pub kernel: Kernel,
    /// What runs once, in a VM, when the image is built, in this order.
    pub setup: Vec<Script>,
    /// What those scripts find in a directory of that VM.
    pub files: Vec<RemoteFile>,
    /// What runs in each VM that is about to become a snapshot. What it starts runs in every job's machine.
    pub bake: Vec<Script>,
    pub user: User,
    /// The environment of every program in the image's VMs.
    pub environment: BTreeMap<String, String>,
}

/// What the root file system is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Source {
    Packages(Packages),
    /// A tar archive.
    Rootfs(LocalFile),
    /// An image of an OCI image layout.
    OciLayout {
        layout: LocalFile,
        reference: Option<String>,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packages(packages) => write!(out, "Debian {}", packages.suite),
            Self::Rootfs(file) => write!(out, "{}", file.path.display()),
            Self::OciLayout { layout, reference: None } => write!(out, "{}", layout.path.display()),
            Self::OciLayout { layout, reference: Some(reference) } => {
                write!(out, "{} {reference}", layout.path.display())
            }
        }
    }
}

/// Where the guest's kernel comes from, and which of its modules programs in the guest can load.
#[derive(Debug, Clone, Serialize)]
pub struct Kernel {
    pub source: KernelSource,
    pub modules: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum KernelSource {
    /// The newest of a Debian release.
    Archive { suite: String, mirror: Option<String> },
    /// A Debian package.
    Package(LocalFile),
}

/// A file or directory of this host. Its age and size stand for its content, which is read when the image is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LocalFile {
    pub path: PathBuf,
    state: String,
}

/// A script, with the name by which errors call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    pub name: String,
    pub text: String,
}

/// The account that runs jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

impl User {
    /// The account as the agent knows it.
    pub fn owner(&self) -> Owner {
        Owner { uid: self.uid, gid: self.gid }
    }

    /// Its home directory.
    pub fn home(&self) -> String {
        if self.uid == 0 { "/root".to_owned() } else { format!("/home/{}", self.name) }
    }
}

impl Recipe {
    /// Finds the recipe of an image: in `directories` (each holds one directory per image), else a built-in one.
    pub fn find(name: &str, directories: &[PathBuf]) -> Result<Self, ImageError> {
        let place = Place::find(name, directories)?;
        let (mut setup, mut bake) = (Vec::new(), Vec::new());
        let description = read(&place, directories, &mut Vec::new(), &mut |script, to_bake| {
            if to_bake { &mut bake } else { &mut setup }.push(script);
        })?;
        let wrong = |detail: &str| ImageError::Recipe { file: place.file(), detail: detail.to_owned() };
        let source = match (description.distribution, description.source) {
            (Some(_), Some(_)) => {
                return Err(wrong("it has both `[distribution]` and `[source]`; it takes one of them"));
            }
            (None, None) => return Err(wrong("it has neither `[distribution]` nor `[source]` nor `extends`")),
            (Some(distribution), None) => Source::Packages(distribution.complete().map_err(|detail| wrong(&detail))?),
            (None, Some(source)) => existing(source, &wrong)?,
        };
        let kernel = kernel(description.kernel, &source, &wrong)?;
        let files = description.setup.map(Setup::complete).transpose().map_err(|detail| wrong(&detail))?;
        Ok(Self {
            name: name.to_owned(),
            description: description.description.unwrap_or_default(),
            source,
            kernel,
            setup,
            files: files.unwrap_or_default(),
            bake,
            user: description.user.ok_or_else(|| wrong("`[user]` is missing: the account that runs jobs"))?,
            environment: description.environment,
        })
    }

    /// Differs when the recipe, a file that it names, or the way in which images are built has changed: then the image is
    /// built again. Twelve bytes, in hexadecimal.
    pub fn digest(&self) -> String {
        digest(&(FORMAT, self))
    }
}

/// Twelve bytes of the hash of some inputs, in hexadecimal.
pub(super) fn digest(inputs: &impl Serialize) -> String {
    let text = serde_json::to_vec(inputs).expect("inputs are plain data");
    hex::encode(&Sha256::digest(text)[..12])
}

/// Where the files of a recipe are.
enum Place {
    Directory(PathBuf),
    BuiltIn(String, &'static [(&'static str, &'static str)]),
}

impl Place {
    fn find(name: &str, directories: &[PathBuf]) -> Result<Self, ImageError> {
        check_name(name)?;
        let own = directories.iter().map(|directory| directory.join(name));
        if let Some(directory) = own.into_iter().find(|directory| directory.join("image.toml").is_file()) {
            return Ok(Self::Directory(directory));
        }
        let built_in = built_in::files(name).map(|files| Self::BuiltIn(name.to_owned(), files));
        built_in.ok_or_else(|| unknown(name, directories))
    }

    /// `image.toml`, for people.
    fn file(&self) -> String {
        match self {
            Self::Directory(directory) => directory.join("image.toml").display().to_string(),
            Self::BuiltIn(name, _) => format!("{name}/image.toml (built in)"),
        }
    }

    /// The text of a file of the recipe.
    fn text(&self, file: &str) -> Result<String, ImageError> {
        match self {
            Self::Directory(directory) => {
                let path = directory.join(file);
                fs::read_to_string(&path).map_err(ImageError::io(path.display().to_string()))
            }
            Self::BuiltIn(name, files) => {
                let found = files.iter().find(|(known, _)| *known == file);
                let missing = || ImageError::Unusable(format!("the built-in recipe `{name}` has no `{file}`"));
                found.map(|(_, text)| (*text).to_owned()).ok_or_else(missing)
            }
        }
    }

    /// A path of the host that the recipe names.
    fn resolve(&self, path: String) -> String {
        match self {
            Self::Directory(directory) => directory.join(path).display().to_string(),
            Self::BuiltIn(..) => path,
        }
    }
}

/// Reads a description on top of what it extends; the scripts come in the order in which they run.
fn read(
    place: &Place, directories: &[PathBuf], seen: &mut Vec<String>, found: &mut impl FnMut(Script, bool),
) -> Result<Description, ImageError> {
    let file = place.file();
    let wrong = |detail: String| ImageError::Recipe { file: file.clone(), detail };
    let mut description: Description =
        toml::from_str(&place.text("image.toml")?).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
    if let Some(source) = &mut description.source {
        for path in [&mut source.rootfs, &mut source.oci_layout] {
            *path = path.take().map(|path| place.resolve(path));
        }
    }
    description.kernel.package = description.kernel.package.take().map(|path| place.resolve(path));
    seen.push(file.clone());
    let below = match &description.extends {
        None => Description::default(),
        Some(name) => {
            let below = Place::find(name, directories)?;
            if seen.contains(&below.file()) || seen.len() >= MAX_DEPTH {
                return Err(wrong(format!("`extends = \"{name}\"` goes round in a circle, or too deep")));
            }
            read(&below, directories, seen, found)?
        }
    };
    let setup = description.setup.as_ref().map(|setup| &setup.script);
    let bake = description.bake.as_ref().map(|ScriptFile { script }| script);
    for (key, script, to_bake) in [("setup", setup, false), ("bake", bake, true)] {
        if let Some(script) = script {
            if script.contains('/') {
                return Err(wrong(format!("`{key}.script` must name a file beside it, not `{script}`")));
            }
            found(Script { name: format!("{key} script of {file}"), text: place.text(script)? }, to_bake);
        }
    }
    Ok(description.on(below))
}

fn existing(source: ExistingSource, wrong: &impl Fn(&str) -> ImageError) -> Result<Source, ImageError> {
    match source {
        ExistingSource { rootfs: Some(path), oci_layout: None, reference: None } => {
            Ok(Source::Rootfs(LocalFile::look(path.into())?))
        }
        ExistingSource { rootfs: None, oci_layout: Some(path), reference } => {
            Ok(Source::OciLayout { layout: LocalFile::look(path.into())?, reference })
        }
        _ => Err(wrong("`[source]` takes either `rootfs`, or `oci_layout` and perhaps `reference`")),
    }
}

fn kernel(
    kernel: description::Kernel, source: &Source, wrong: &impl Fn(&str) -> ImageError,
) -> Result<Kernel, ImageError> {
    kernel.check_archive().map_err(|detail| wrong(&detail))?;
    let from = match (kernel.package, kernel.suite, kernel.mirror) {
        (Some(package), None, None) => KernelSource::Package(LocalFile::look(package.into())?),
        (Some(_), ..) => return Err(wrong("`[kernel]` takes either `package`, or `suite` and `mirror`")),
        (None, suite, mirror) => {
            // Whoever has an archive of their own has it for the kernel too.
            let mirror = mirror.or_else(|| match source {
                Source::Packages(packages) => packages.mirror.clone(),
                _ => None,
            });
            KernelSource::Archive { suite: suite.unwrap_or_else(|| KERNEL_SUITE.to_owned()), mirror }
        }
    };
    Ok(Kernel { source: from, modules: kernel.modules })
}

impl LocalFile {
    /// Looks at a file. That of a layout in a directory is its index, which names everything else by content.
    fn look(path: PathBuf) -> Result<Self, ImageError> {
        let seen = if path.is_dir() { path.join("index.json") } else { path.clone() };
        let metadata = fs::metadata(&seen).map_err(ImageError::io(format!("`{}`", seen.display())))?;
        let (length, seconds, nanoseconds) = (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        Ok(Self { path, state: format!("{length} {seconds} {nanoseconds}") })
    }
}

/// Image names are directory names.
pub fn check_name(name: &str) -> Result<(), ImageError> {
    let is_valid = (1..=40).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-');
    if is_valid {
        return Ok(());
    }
    let hint = "image names have lower-case letters, digits and `-`, at most 40".to_owned();
    Err(ImageError::Unknown { name: name.to_owned(), hint })
}

/// Every image for which there is a recipe, ordered.
pub fn known(directories: &[PathBuf]) -> Vec<String> {
    let mut known: Vec<String> = built_in::names().map(str::to_owned).collect();
    for directory in directories {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        known.extend(
            entries
                .filter(|entry| entry.path().join("image.toml").is_file())
                .map(|entry| entry.file_name().to_string_lossy().into_owned()),
        );
    }
    known.sort();
    known.dedup();
    known
}

fn unknown(name: &str, directories: &[PathBuf]) -> ImageError {
    let known = known(directories);
    let nearest = known.iter().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
    let hint = match nearest {
        Some(nearest) if strsim::jaro(nearest, name) > 0.75 => format!("did you mean `{nearest}`?"),
        _ => format!("there are recipes for: {}", known.join(", ")),
    };
    ImageError::Unknown { name: name.to_owned(), hint }
}

#[cfg(test)]
#[path = "recipe/tests.rs"]
mod tests;
