//! What an image is made of: `image.toml` and the files it names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ImageError;
use crate::protocol::message::Owner;

/// Raised when the same recipe gives another image.
const FORMAT: u32 = 1;

/// Recipes that come with the binary.
const BUILT_IN: [(&str, &str, &str); 1] =
    [("base", include_str!("../../runner-images/base/image.toml"), include_str!("../../runner-images/base/setup.sh"))];

/// A recipe, with the files that it names.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub name: String,
    pub description: Description,
    /// The set-up script's text.
    pub setup: Option<String>,
}

/// `image.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    pub description: String,
    pub distribution: Distribution,
    pub setup: Option<Setup>,
    pub user: User,
    /// The environment of every program in the image's VMs.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// Where the packages come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// A Debian release.
    pub suite: String,
    /// Another archive than Debian's own.
    pub mirror: Option<String>,
    pub packages: Vec<String>,
}

/// What runs once, in a VM, when the image is built.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// A file beside `image.toml`.
    pub script: String,
}

/// The account that runs jobs.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
        check_name(name)?;
        for directory in directories {
            let path = directory.join(name).join("image.toml");
            if path.is_file() {
                return Self::read(name, &path);
            }
        }
        match BUILT_IN.iter().find(|(built_in, ..)| *built_in == name) {
            Some((_, description, setup)) => {
                let file = format!("{name}/image.toml (built in)");
                Ok(Self {
                    name: name.to_owned(),
                    description: parse(&file, description)?,
                    setup: Some((*setup).to_owned()),
                })
            }
            None => Err(unknown(name, directories)),
        }
    }

    fn read(name: &str, path: &Path) -> Result<Self, ImageError> {
        let read = |path: &Path| fs::read_to_string(path).map_err(ImageError::io(path.display().to_string()));
        let description = parse(&path.display().to_string(), &read(path)?)?;
        let setup = match &description.setup {
            Some(Setup { script }) if script.contains('/') => {
                let detail = format!("`setup.script` must name a file beside it, not `{script}`");
                return Err(ImageError::Recipe { file: path.display().to_string(), detail });
            }
            Some(Setup { script }) => Some(read(&path.with_file_name(script))?),
            None => None,
        };
        Ok(Self { name: name.to_owned(), description, setup })
    }

    /// Names everything that makes this image another one. Twelve bytes, in hexadecimal.
    pub fn digest(&self) -> String {
        let inputs = (FORMAT, &self.description, &self.setup);
        let text = serde_json::to_vec(&inputs).expect("a recipe is plain data");
        hex::encode(&Sha256::digest(text)[..12])
    }
}

fn parse(file: &str, text: &str) -> Result<Description, ImageError> {
    toml::from_str(text)
        .map_err(|error| ImageError::Recipe { file: file.to_owned(), detail: error.to_string().trim_end().to_owned() })
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

fn unknown(name: &str, directories: &[PathBuf]) -> ImageError {
    let mut known: Vec<String> = BUILT_IN.iter().map(|(name, ..)| (*name).to_owned()).collect();
    for directory in directories {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        known.extend(
            entries
                .filter(|e| e.path().join("image.toml").is_file())
                .map(|e| e.file_name().to_string_lossy().into_owned()),
        );
    }
    let nearest = known.iter().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
    let hint = match nearest {
        Some(nearest) if strsim::jaro(nearest, name) > 0.75 => format!("did you mean `{nearest}`?"),
        _ => format!("there are recipes for: {}", known.join(", ")),
    };
    ImageError::Unknown { name: name.to_owned(), hint }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn built_in_recipes_parse_and_their_digest_follows_their_content() {
        let recipe = Recipe::find("base", &[]).unwrap();
        let mut changed = recipe.clone();
        changed.description.distribution.packages.push("cowsay".into());
        assert_ne!(recipe.digest(), changed.digest());
        assert_eq!(recipe.digest(), Recipe::find("base", &[]).unwrap().digest());
    }

    #[test]
    fn a_missing_image_names_the_nearest() {
        insta::assert_snapshot!(Recipe::find("bse", &[]).unwrap_err(), @r"
        there is no image `bse`
          hint: did you mean `base`?
        ");
        assert!(Recipe::find("../../etc", &[]).is_err());
    }
}
