//! Tar archives of root file systems, which strangers may have made, laid one over the other as the layers of an image.
//!
//! Headers are read by the `tar` crate; which of them count, their limits and what happens on this host are decided here. Devices are
//! left out: a guest makes its own. Times are too, and of extended attributes some ([`Xattrs`]).

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;

use sha2::{Digest, Sha256};
use tar::{Archive, EntryType, Header};

use super::root::{Attributes, Root};
use super::tree::{relative, shown};
use super::xattrs::Xattrs;

/// Entries of all archives of an image together.
const MAX_ENTRIES: u64 = 2_000_000;
/// Bytes of all files together, unpacked.
pub(super) const MAX_BYTES: u64 = 64 << 30;
/// Bytes of a header that describes the next entry.
const MAX_EXTENSION: u64 = 1 << 20;

/// Beginning of the name of a file that removes one of a layer below, and the one that removes all of a directory.
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Lays archives over a root file system.
#[derive(Debug)]
pub(super) struct Unpacker<'r> {
    root: &'r mut Root,
    entries: u64,
    bytes: u64,
}

/// The paths that an archive brought. Of each only a mark is kept: there may be two million, with thousands of bytes each.
#[derive(Debug, Default)]
struct Brought(HashSet<[u8; 16]>);

impl Brought {
    fn note(&mut self, path: &[u8]) {
        self.0.insert(Self::mark(path));
    }

    fn has(&self, path: &[u8]) -> bool {
        self.0.contains(&Self::mark(path))
    }

    fn mark(path: &[u8]) -> [u8; 16] {
        *Sha256::digest(path).first_chunk().expect("a SHA-256 has 32 bytes")
    }
}

/// What headers before an entry say about it.
#[derive(Debug, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    xattrs: Xattrs,
}

/// Whether files of the form `.wh.NAME` remove what is below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whiteouts {
    Obeyed,
    Plain,
}

impl<'r> Unpacker<'r> {
    pub(super) fn new(root: &'r mut Root) -> Self {
        Self { root, entries: 0, bytes: 0 }
    }

    /// Lays one archive over what is there.
    pub(super) fn unpack(&mut self, archive: impl Read, whiteouts: Whiteouts) -> io::Result<()> {
        let mut archive = Archive::new(archive);
        let mut extensions = Extensions::default();
        // What this archive brought, which its own opaque directories do not hide.
        let mut brought = Brought::default();
        for entry in archive.entries()?.raw(true) {
            let mut entry = entry?;
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(refused(format!("more than {MAX_ENTRIES} entries")));
            }
            let header = entry.header().clone();
            if extensions.read(&header, &mut entry)? {
                continue;
            }
            let extensions = std::mem::take(&mut extensions);
            let path = relative(&extensions.path.unwrap_or_else(|| entry.path_bytes().into_owned()))?;
            if extensions.size.is_some_and(|size| size != entry.size()) {
                return Err(refused(format!("`{}` is larger than this reads", shown(&path))));
            }
            if whiteouts == Whiteouts::Obeyed && self.hide(&path, &brought)? {
                continue;
            }
            let attributes = attributes(&header, extensions.uid, extensions.gid)?;
            let link = extensions.link.or_else(|| entry.link_name_bytes().map(|link| link.into_owned()));
            self.place(&path, &header, (attributes, &extensions.xattrs), link, &mut entry)
                .map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", shown(&path))))?;
            if whiteouts == Whiteouts::Obeyed {
                brought.note(&path);
            }
        }
        Ok(())
    }

    fn place(
        &mut self, path: &[u8], header: &Header, (attributes, xattrs): (Attributes, &Xattrs), link: Option<Vec<u8>>,
        content: &mut impl Read,
    ) -> io::Result<()> {
        // The top is there.
        if path.is_empty() {
            return Ok(());
        }
        let spot = self.root.spot(path)?;
        let target =
            || link.clone().filter(|link| !link.is_empty()).ok_or_else(|| refused("a link to nothing".to_owned()));
        match header.entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let left = MAX_BYTES - self.bytes;
                let length = self.root.file(&spot, &mut content.take(left + 1), attributes)?;
                self.bytes += length;
                if length > left {
                    return Err(refused(format!("more than {} GiB", MAX_BYTES >> 30)));
                }
                self.root.extend(&spot, xattrs)
            }
            EntryType::Directory => {
                self.root.directory(&spot, attributes)?;
                self.root.extend(&spot, xattrs)
            }
            EntryType::Symlink => self.root.symlink(&spot, &target()?, attributes),
            EntryType::Link => self.root.hard_link(&spot, &target()?),
            EntryType::Fifo => self.root.fifo(&spot, attributes),
            EntryType::Char | EntryType::Block => Ok(()),
            other => Err(refused(format!("an entry of the kind `{}`", other.as_byte().escape_ascii()))),
        }
    }

    /// Obeys a whiteout; gives whether it was one.
    fn hide(&mut self, path: &[u8], brought: &Brought) -> io::Result<bool> {
        let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let (before, name) = path.split_at(start);
        if name == OPAQUE {
            let is_new = |name: &OsStr| brought.has(&[before, name.as_bytes()].concat());
            self.root.empty(before, is_new)?;
            return Ok(true);
        }
        let Some(hidden) = name.strip_prefix(WHITEOUT) else { return Ok(false) };
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(refused(format!("a whiteout of nothing, `{}`", shown(path))));
        }
        self.root.remove(&[before, hidden].concat())?;
        Ok(true)
    }
}

impl Extensions {
    /// Takes up a header that describes the next entry; gives whether it was one.
    fn read(&mut self, header: &Header, content: &mut impl Read) -> io::Result<bool> {
        match header.entry_type() {
            EntryType::GNULongName => self.path = Some(text(content)?),
            EntryType::GNULongLink => self.link = Some(text(content)?),
            EntryType::XHeader => self.read_records(&extension(content)?)?,
            // Comments and the like, for all entries.
            EntryType::XGlobalHeader => drop(extension(content)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn read_records(&mut self, mut records: &[u8]) -> io::Result<()> {
        let malformed = || refused("an extended header that is none".to_owned());
        while !records.is_empty() {
            let space = records.iter().position(|byte| *byte == b' ').ok_or_else(malformed)?;
            let length: usize = number(&records[..space]).ok_or_else(malformed)?;
            let record = records.get(space + 1..length).ok_or_else(malformed)?;
            records = &records[length..];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let value = value.strip_suffix(b"\n").ok_or_else(malformed)?;
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number(value).ok_or_else(malformed)?),
                b"uid" => self.uid = Some(number(value).ok_or_else(malformed)?),
                b"gid" => self.gid = Some(number(value).ok_or_else(malformed)?),
                key => self.xattrs.read(key, value)?,
            }
        }
        Ok(())
    }
}

fn extension(content: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    content.take(MAX_EXTENSION + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_EXTENSION {
        return Err(refused(format!("an extended header of more than {} KiB", MAX_EXTENSION >> 10)));
    }
    Ok(bytes)
}

/// A name that is too long for a header: up to its zero byte.
fn text(content: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut name = extension(content)?;
    name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
    Ok(name)
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn attributes(header: &Header, uid: Option<u32>, gid: Option<u32>) -> io::Result<Attributes> {
    let id = |id: u64| u32::try_from(id).map_err(|_| refused(format!("the owner {id}")));
    Ok(Attributes {
        mode: header.mode()?,
        uid: uid.map_or_else(|| id(header.uid()?), Ok)?,
        gid: gid.map_or_else(|| id(header.gid()?), Ok)?,
    })
}

fn refused(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the archive has {what}"))
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
