//! An image of an OCI image layout: which one, whether its files are what their digests say, and what it says of programs.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::root::{Root, shown};
use super::unpack::{Unpacker, Whiteouts};
use super::{TRASH, open};
use crate::image::ImageError;
use crate::image::plain::Plain;

/// Bytes of a document of the layout.
const MAX_DOCUMENT: u64 = 4 << 20;
/// Indexes in indexes.
const MAX_DEPTH: usize = 4;
const MAX_LAYERS: usize = 256;
/// Variables of the environment, and bytes of one.
const MAX_VARIABLES: usize = 256;
const MAX_VARIABLE: usize = 32 << 10;

/// By which an index calls its images.
const TAG: &str = "org.opencontainers.image.ref.name";

/// The image that was meant.
#[derive(Debug)]
pub(super) struct OciImage {
    /// From the lowest on; their digests are right.
    pub(super) layers: Vec<File>,
    pub(super) environment: Vec<(String, String)>,
}

#[derive(Debug, Clone, Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(rename = "mediaType", default)]
    media_type: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Debug, Default, Deserialize)]
struct Document {
    #[serde(default)]
    config: Settings,
}

#[derive(Debug, Default, Deserialize)]
struct Settings {
    #[serde(rename = "Env", default)]
    env: Vec<String>,
}

/// Finds the image in a layout, and compares its digests. A layout in a tar archive is unpacked into `place` first.
pub(super) async fn find(layout: &Path, reference: Option<&str>, place: &Path) -> Result<OciImage, ImageError> {
    let (layout, place) = (layout.to_owned(), place.to_owned());
    let reference = reference.map(str::to_owned);
    let shown = layout.display().to_string();
    let runtime = tokio::runtime::Handle::current();
    let work = move || {
        let _context = runtime.enter();
        let directory = if layout.is_dir() { layout.clone() } else { unpacked(&layout, &place)? };
        Layout { directory, shown: layout.display().to_string() }.image(reference.as_deref())
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ImageError::Unusable(format!("reading `{shown}` was interrupted: {error}")))?
}

fn unpacked(archive: &Path, place: &Path) -> Result<PathBuf, ImageError> {
    let unpack = || -> io::Result<()> {
        let mut root = Root::open(place, &place.with_file_name(TRASH))?;
        Unpacker::new(&mut root).unpack(Plain::of(File::open(archive)?)?, Whiteouts::Plain)
    };
    unpack().map_err(ImageError::io(format!("the image layout `{}`", archive.display())))?;
    Ok(place.to_owned())
}

struct Layout {
    directory: PathBuf,
    shown: String,
}

impl Layout {
    fn wrong(&self, what: &str) -> ImageError {
        ImageError::Unusable(format!("the image layout `{}` {what}", self.shown))
    }

    fn image(&self, reference: Option<&str>) -> Result<OciImage, ImageError> {
        let index: Index = self.parse("index.json", &self.read("index.json")?)?;
        let mut chosen = self.choose(index, reference)?;
        for _ in 0..MAX_DEPTH {
            let text = self.document(&chosen)?;
            if !is_index(&chosen, &text) {
                return self.complete(&self.parse(&chosen.digest, &text)?);
            }
            chosen = self.for_this_machine(self.parse(&chosen.digest, &text)?)?;
        }
        Err(self.wrong("has indexes in indexes, too deep"))
    }

    fn choose(&self, index: Index, reference: Option<&str>) -> Result<Descriptor, ImageError> {
        let tag = |found: &Descriptor| found.annotations.get(TAG).cloned();
        let Some(reference) = reference else {
            return match index.manifests.as_slice() {
                [only] => Ok(only.clone()),
                [] => Err(self.wrong("has no image")),
                several if several.iter().all(|found| found.platform.is_some()) => self.for_this_machine(index),
                several => {
                    let tags: Vec<String> =
                        several.iter().filter_map(tag).map(|tag| format!("`{}`", shown(tag.as_bytes()))).collect();
                    Err(self
                        .wrong(&format!("has several images\n  hint: `reference` takes one of {}", tags.join(", "))))
                }
            };
        };
        let is_meant = |found: &Descriptor| found.digest == reference || tag(found).as_deref() == Some(reference);
        let found = index.manifests.into_iter().find(is_meant);
        found.ok_or_else(|| self.wrong(&format!("has no image `{reference}`")))
    }

    fn for_this_machine(&self, index: Index) -> Result<Descriptor, ImageError> {
        let fits = |platform: &Platform| platform.os == "linux" && platform.architecture == "amd64";
        let found = index.manifests.into_iter().find(|found| found.platform.as_ref().is_some_and(fits));
        found.ok_or_else(|| self.wrong("has no image for linux/amd64"))
    }

    /// The layers, opened, and what the image says of programs.
    fn complete(&self, manifest: &Manifest) -> Result<OciImage, ImageError> {
        if manifest.layers.len() > MAX_LAYERS {
            return Err(self.wrong(&format!("has an image of more than {MAX_LAYERS} layers")));
        }
        let document: Document = self.parse(&manifest.config.digest, &self.document(&manifest.config)?)?;
        let variables =
            document.config.env.iter().filter(|variable| variable.len() <= MAX_VARIABLE).take(MAX_VARIABLES);
        let environment = variables.filter_map(|variable| variable.split_once('='));
        let layers = manifest.layers.iter().map(|layer| self.verified(layer));
        Ok(OciImage {
            layers: layers.collect::<Result<_, _>>()?,
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        })
    }

    /// A file of the layout, after its content was compared with its digest.
    fn verified(&self, wanted: &Descriptor) -> Result<File, ImageError> {
        let path = self.blob(&wanted.digest)?;
        let mut file = open(&path)?;
        let mut hash = Sha256::new();
        let compare = || -> io::Result<File> {
            let mut buffer = vec![0; 1 << 20];
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    length => hash.update(&buffer[..length]),
                }
            }
            if format!("sha256:{}", hex::encode(hash.finalize())) != wanted.digest {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the content does not match the digest"));
            }
            io::Seek::seek(&mut file, io::SeekFrom::Start(0))?;
            Ok(file)
        };
        compare().map_err(ImageError::io(format!("`{}`", path.display())))
    }

    fn document(&self, wanted: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let length = fs::metadata(self.blob(&wanted.digest)?).map_or(0, |metadata| metadata.len());
        if length > MAX_DOCUMENT {
            return Err(self.wrong(&format!("has a document of {length} bytes: `{}`", shown(wanted.digest.as_bytes()))));
        }
        let mut text = Vec::new();
        let read = self.verified(wanted)?.take(MAX_DOCUMENT).read_to_end(&mut text);
        read.map_err(ImageError::io(format!("the image layout `{}`", self.shown)))?;
        Ok(text)
    }

    /// Where a digest's content is. A digest is no path.
    fn blob(&self, digest: &str) -> Result<PathBuf, ImageError> {
        let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match digest.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(is_lower_hex) => {
                Ok(self.directory.join("blobs/sha256").join(hex))
            }
            _ => Err(self.wrong(&format!("names something by `{}`, not by a SHA-256", shown(digest.as_bytes())))),
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let path = self.directory.join(name);
        let mut text = Vec::new();
        open(&path)?.take(MAX_DOCUMENT).read_to_end(&mut text).map_err(ImageError::io(path.display().to_string()))?;
        Ok(text)
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, name: &str, text: &[u8]) -> Result<T, ImageError> {
        serde_json::from_slice(text).map_err(|error| {
            self.wrong(&format!("has a document that does not read, `{}`: {error}", shown(name.as_bytes())))
        })
    }
}

/// Whether a document is an index, by its type or, without one, by what it has.
fn is_index(descriptor: &Descriptor, text: &[u8]) -> bool {
    match descriptor.media_type.as_str() {
        "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json" => true,
        "" => serde_json::from_slice::<Index>(text).is_ok(),
        _ => false,
    }
}

#[cfg(test)]
#[path = "oci_tests.rs"]
mod tests;
