//! The kernel itself, out of the file that distributions ship.
//!
//! That file unpacks itself while it boots. Not every monitor starts such a file, and one that starts the unpacked kernel has a
//! guest that boots sooner.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{ImageError, lz4};
use crate::host::command;

/// Largest unpacked kernel, in bytes.
const MAX_KERNEL: u32 = 512 << 20;

/// How long a program may take to unpack one.
const UNPACK_LIMIT: Duration = Duration::from_secs(60);

/// Where the boot protocol of x86 has what is needed here.
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR: usize = 512;

/// What an unpacked kernel begins with.
const ELF: &[u8] = b"\x7fELF";

/// A packed kernel.
#[derive(Debug, PartialEq, Eq)]
struct Payload<'a> {
    packed: &'a [u8],
    /// Bytes of the unpacked kernel.
    length: u32,
}

/// Writes the unpacked kernel of the file `kernel` to `to`.
pub(super) async fn unpack(kernel: &Path, to: &Path) -> Result<(), ImageError> {
    let context = || ImageError::io(format!("the kernel `{}`", kernel.display()));
    let file = fs::read(kernel).map_err(context())?;
    if file.starts_with(ELF) {
        return fs::copy(kernel, to).map(drop).map_err(context());
    }
    let refused = |why: &str| ImageError::Unusable(format!("the kernel `{}` {why}", kernel.display()));
    let payload = payload_of(&file).ok_or_else(|| refused("is neither an ELF file nor a bzImage"))?;
    let unpacked = if payload.packed.starts_with(&lz4::MAGIC) {
        lz4::unpack(payload.packed, payload.length as usize).ok_or_else(|| refused("is damaged"))?
    } else {
        let program = packer_of(payload.packed).ok_or_else(|| refused("is packed in a way that is not known"))?;
        let packed = to.with_extension("packed");
        fs::write(&packed, payload.packed).map_err(context())?;
        let unpacked = command::run(program, &["-dc", &packed.display().to_string()], UNPACK_LIMIT, |_| {}).await;
        fs::remove_file(&packed).map_err(context())?;
        unpacked?
    };
    if !unpacked.starts_with(ELF) || unpacked.len() != payload.length as usize {
        return Err(refused("unpacks to something that is no kernel"));
    }
    fs::write(to, unpacked).map_err(context())
}

/// The packed kernel in a bzImage. Behind it stands how long it is unpacked.
fn payload_of(file: &[u8]) -> Option<Payload<'_>> {
    let number = |at: usize| Some(u32::from_le_bytes(*file.get(at..)?.first_chunk::<4>()?));
    if file.get(MAGIC..)?.first_chunk::<4>()? != b"HdrS" {
        return None;
    }
    // None given means four, in the protocol's oldest version.
    let sectors = match *file.get(SETUP_SECTORS)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * SECTOR + number(PAYLOAD_OFFSET)? as usize;
    let whole = file.get(start..)?.get(..number(PAYLOAD_LENGTH)? as usize)?;
    let (packed, length) = whole.split_last_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    (length <= MAX_KERNEL).then_some(Payload { packed, length })
}

/// The program that unpacks it.
fn packer_of(packed: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 3] = [(b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\x1f\x8b", "gzip")];
    known.into_iter().find(|(magic, _)| packed.starts_with(magic)).map(|(_, program)| program)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bz_image(packed: &[u8], length: u32) -> Vec<u8> {
        let mut file = vec![0; 3 * SECTOR + 16];
        file[SETUP_SECTORS] = 2;
        file[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        file[PAYLOAD_OFFSET] = 16;
        file[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&(packed.len() as u32 + 4).to_le_bytes());
        file.extend_from_slice(packed);
        file.extend_from_slice(&length.to_le_bytes());
        file.extend_from_slice(b"what follows");
        file
    }

    #[tokio::test]
    async fn the_kernel_comes_out_of_each_wrapping() {
        let directory = tempfile::tempdir().unwrap();
        let (kernel, to) = (directory.path().join("kernel"), directory.path().join("vmlinux"));
        let mut packed = lz4::MAGIC.to_vec();
        packed.extend([9, 0, 0, 0, 0x80]);
        packed.extend(b"\x7fELFabcd");
        for file in [bz_image(&packed, 8), b"\x7fELFabcd".to_vec()] {
            fs::write(&kernel, file).unwrap();
            unpack(&kernel, &to).await.unwrap();
            assert_eq!(fs::read(&to).unwrap(), b"\x7fELFabcd");
        }
    }

    #[tokio::test]
    async fn what_is_no_kernel_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (kernel, to) = (directory.path().join("kernel"), directory.path().join("vmlinux"));
        let mut packed = lz4::MAGIC.to_vec();
        packed.extend([9, 0, 0, 0, 0x80]);
        packed.extend(b"\x7fELFabcd");
        let cut = &bz_image(&packed, 8)[..3 * SECTOR + 20];
        for (file, why) in [
            (b"text".to_vec(), "neither"),
            (cut.to_vec(), "neither"),
            (bz_image(&packed, u32::MAX), "neither"),
            (bz_image(&packed, 7), "damaged"),
            (bz_image(&packed, 9), "no kernel"),
            (bz_image(b"BZh9", 9), "not known"),
        ] {
            fs::write(&kernel, file).unwrap();
            let error = unpack(&kernel, &to).await.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
