//! Extended attributes that an archive gives its files: which of them an image takes over. Pure.
//!
//! Taken over are file capabilities and what programs note for themselves. Everything else means something on the host on which the
//! archive was made, and something else, or harm, in a guest: labels of another security policy (`security.selinux`), signatures of other keys
//! (`security.ima`), and what the overlay of a container engine noted for itself (`trusted.overlay.*`, `user.overlay.*`), which the
//! guest's overlay would believe.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Bytes of all names and values of one file. More do not fit beside a file on ext4, which then says that the disk is full.
const MAX_BYTES: usize = 2 << 10;

/// Keys of records in extended headers, before the attribute's name.
const PLAIN: &[u8] = b"SCHILY.xattr.";
/// With `%XX` in the name, and the value in base64.
const ENCODED: &[u8] = b"LIBARCHIVE.xattr.";

/// The capabilities that a program starts with.
const CAPABILITY: &[u8] = b"security.capability";

/// What one entry has, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Xattrs(BTreeMap<CString, Vec<u8>>);

impl Xattrs {
    /// Takes up a record of an extended header. One that is no attribute, or none that is taken over, changes nothing.
    ///
    /// # Errors
    /// When it does not read, or is too much.
    pub(super) fn read(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let malformed = || refused("an extended attribute that does not read");
        let (name, value) = if let Some(name) = key.strip_prefix(PLAIN) {
            (name.to_owned(), value.to_owned())
        } else if let Some(name) = key.strip_prefix(ENCODED) {
            let padding = value.iter().rev().take_while(|byte| **byte == b'=').count();
            let value = STANDARD_NO_PAD.decode(&value[..value.len() - padding]).map_err(|_| malformed())?;
            (unescaped(name).ok_or_else(malformed)?, value)
        } else {
            return Ok(());
        };
        if !is_taken(&name) {
            return Ok(());
        }
        self.0.insert(CString::new(name).map_err(|_| malformed())?, value);
        if self.0.iter().map(|(name, value)| name.count_bytes() + value.len()).sum::<usize>() > MAX_BYTES {
            return Err(refused(&format!("a file with more than {} KiB of extended attributes", MAX_BYTES >> 10)));
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values; those that only root can set are marked.
    pub(super) fn each(&self) -> impl Iterator<Item = (&CString, &[u8], bool)> {
        self.0.iter().map(|(name, value)| (name, value.as_slice(), name.to_bytes() == CAPABILITY))
    }
}

fn is_taken(name: &[u8]) -> bool {
    name == CAPABILITY || (name.starts_with(b"user.") && name.len() > 5 && !name.starts_with(b"user.overlay."))
}

/// A name without its `%XX`.
fn unescaped(name: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            plain.push(*hex::decode(after.get(..2)?).ok()?.first()?);
            rest = &after[2..];
        } else {
            plain.push(byte);
            rest = after;
        }
    }
    Some(plain)
}

fn refused(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the archive has {what}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(records: &[(&str, &[u8])]) -> Result<Vec<String>, String> {
        let mut xattrs = Xattrs::default();
        let done = records.iter().try_for_each(|(key, value)| xattrs.read(key.as_bytes(), value));
        done.map_err(|error| error.to_string())?;
        let shown =
            |(name, value, _): (&CString, &[u8], bool)| format!("{}={}", name.to_string_lossy(), value.escape_ascii());
        Ok(xattrs.each().map(shown).collect())
    }

    #[test]
    fn what_means_the_same_everywhere_is_taken_and_the_rest_is_not() {
        for (key, value, taken) in [
            ("SCHILY.xattr.security.capability", &b"\x01\0"[..], &["security.capability=\\x01\\x00"][..]),
            ("LIBARCHIVE.xattr.security.capability", b"AQA", &["security.capability=\\x01\\x00"]),
            ("LIBARCHIVE.xattr.user.a%20%25b", b"AQ==", &["user.a %b=\\x01"]),
            ("SCHILY.xattr.user.note", b"", &["user.note="]),
            ("SCHILY.xattr.user.", b"1", &[]),
            ("SCHILY.xattr.user.overlay.opaque", b"y", &[]),
            ("LIBARCHIVE.xattr.user%2eoverlay.opaque", b"eQ", &[]),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc", &[]),
            ("SCHILY.xattr.security.selinux", b"x", &[]),
            ("SCHILY.xattr.security.ima", b"x", &[]),
            ("SCHILY.xattr.system.posix_acl_access", b"x", &[]),
            ("SCHILY.acl.access", b"user::rwx", &[]),
        ] {
            assert_eq!(read(&[(key, value)]).unwrap(), taken, "{key}");
        }
        let both = [("SCHILY.xattr.user.a", &b"\x01"[..]), ("LIBARCHIVE.xattr.user.a", b"AQ")];
        assert_eq!(read(&both).unwrap(), ["user.a=\\x01"], "tools write both forms of one attribute");
    }

    #[test]
    fn what_does_not_read_or_is_too_much_is_refused() {
        let malformed = "the archive has an extended attribute that does not read";
        for (key, value) in [
            ("SCHILY.xattr.user.a\0b", &b""[..]),
            ("LIBARCHIVE.xattr.user.a", b"!"),
            ("LIBARCHIVE.xattr.user.%0", b""),
            ("LIBARCHIVE.xattr.user.%zz", b""),
        ] {
            assert_eq!(read(&[(key, value)]).unwrap_err(), malformed, "{key}");
        }
        let too_much = "the archive has a file with more than 2 KiB of extended attributes";
        assert_eq!(read(&[("SCHILY.xattr.user.a", &[0; 3000])]).unwrap_err(), too_much);
        let two = [("SCHILY.xattr.user.a", &[0; 1500][..]), ("SCHILY.xattr.user.b", &[0; 1500])];
        assert_eq!(read(&two).unwrap_err(), too_much);
        assert!(read(&[("SCHILY.xattr.security.ima", &[0; 3000])]).unwrap().is_empty());
    }
}
