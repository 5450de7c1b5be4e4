//! An image of an OCI image layout: which one, whether its files are what their digests say, and what it says of programs.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

use super::leash::{self, Leash};
use super::root::Root;
use super::tree::{Tree, shown};
use super::unpack::{MAX_BYTES, Unpacker, Whiteouts};
use super::{TRASH, UNPACK_LIMIT};
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
    #[serde(rename = "mediaType", default, deserialize_with = "null_is_nothing")]
    media_type: String,
    #[serde(default, deserialize_with = "null_is_nothing")]
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
    #[serde(deserialize_with = "null_is_nothing")]
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    config: Descriptor,
    #[serde(deserialize_with = "null_is_nothing")]
    layers: Vec<Descriptor>,
}

#[derive(Debug, Default, Deserialize)]
struct Document {
    #[serde(default, deserialize_with = "null_is_nothing")]
    config: Settings,
}

#[derive(Debug, Default, Deserialize)]
struct Settings {
    #[serde(rename = "Env", default, deserialize_with = "null_is_nothing")]
    env: Vec<String>,
}

/// Some tools write `null` for what is empty.
fn null_is_nothing<'d, D: Deserializer<'d>, T: Default + Deserialize<'d>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Finds the image in a layout, and compares its digests. A layout in a tar archive is unpacked into `place` first.
pub(super) async fn find(layout: &Path, reference: Option<&str>, place: &Path) -> Result<OciImage, ImageError> {
    let (layout, place) = (layout.to_owned(), place.to_owned());
    let reference = reference.map(str::to_owned);
    let what = format!("reading `{}`", layout.display());
    let work = move |leash: &Leash| {
        let shown = layout.display().to_string();
        let directory = if layout.is_dir() { layout } else { unpacked(&layout, &place, leash)? };
        let directory = directory.canonicalize().and_then(|directory| Tree::open(&directory));
        let directory = directory.map_err(ImageError::io(format!("the image layout `{shown}`")))?;
        Layout { directory, shown, leash: leash.clone() }.image(reference.as_deref())
    };
    leash::work(&what, UNPACK_LIMIT, work).await?
}

fn unpacked(archive: &Path, place: &Path, leash: &Leash) -> Result<PathBuf, ImageError> {
    let unpack = || -> io::Result<()> {
        let mut root = Root::open(place, &place.with_file_name(TRASH))?;
        Unpacker::new(&mut root).unpack(leash.hold(Plain::of(File::open(archive)?)?), Whiteouts::Plain)
    };
    unpack().map_err(ImageError::io(format!("the image layout `{}`", archive.display())))?;
    Ok(place.to_owned())
}

/// The layout, by a directory that nothing in it leads out of.
struct Layout {
    directory: Tree,
    shown: String,
    leash: Leash,
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
        let mut left = MAX_BYTES;
        let layers = manifest.layers.iter().map(|layer| self.verified(layer, &mut left));
        Ok(OciImage {
            layers: layers.collect::<Result<_, _>>()?,
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        })
    }

    /// A file of the layout, after its content was compared with its digest. Its length is taken from what is `left`.
    fn verified(&self, wanted: &Descriptor, left: &mut u64) -> Result<File, ImageError> {
        let path = self.blob(&wanted.digest)?;
        let mut compare = || -> io::Result<File> {
            let mut file = self.directory.read(path.as_bytes())?;
            let length = file.metadata()?.len();
            *left = left.checked_sub(length).ok_or_else(|| invalid(&format!("{length} bytes are too many")))?;
            let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
            let mut content = self.leash.hold((&mut file).take(length));
            loop {
                match content.read(&mut buffer)? {
                    0 => break,
                    length => hash.update(&buffer[..length]),
                }
            }
            if format!("sha256:{}", hex::encode(hash.finalize())) != wanted.digest {
                return Err(invalid("the content does not match the digest"));
            }
            io::Seek::seek(&mut file, io::SeekFrom::Start(0))?;
            Ok(file)
        };
        compare().map_err(ImageError::io(format!("`{path}` of the image layout `{}`", self.shown)))
    }

    fn document(&self, wanted: &Descriptor) -> Result<Vec<u8>, ImageError> {
        self.text(self.verified(wanted, &mut { MAX_DOCUMENT })?)
    }

    /// Where a digest's content is. A digest is no path.
    fn blob(&self, digest: &str) -> Result<String, ImageError> {
        let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match digest.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(is_lower_hex) => Ok(format!("blobs/sha256/{hex}")),
            _ => Err(self.wrong(&format!("names something by `{}`, not by a SHA-256", shown(digest.as_bytes())))),
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let file = self.directory.read(name.as_bytes());
        self.text(file.map_err(ImageError::io(format!("`{name}` of the image layout `{}`", self.shown)))?)
    }

    fn text(&self, file: File) -> Result<Vec<u8>, ImageError> {
        let mut text = Vec::new();
        let read = file.take(MAX_DOCUMENT).read_to_end(&mut text);
        read.map_err(ImageError::io(format!("the image layout `{}`", self.shown)))?;
        Ok(text)
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, name: &str, text: &[u8]) -> Result<T, ImageError> {
        serde_json::from_slice(text).map_err(|error| {
            self.wrong(&format!("has a document that does not read, `{}`: {error}", shown(name.as_bytes())))
        })
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
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
