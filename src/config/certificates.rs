//! Certificates in a file of the operator, which guests trust besides those of their images.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Largest file of certificates, in bytes. A distribution's whole set has some 220 KiB.
const MAX_BYTES: u64 = 2 << 20;

/// What a file of certificates must not hold: every guest gets it.
const PRIVATE: &str = "PRIVATE KEY-----";

/// The text of a file of certificates in PEM form.
///
/// # Errors
/// To be read after the file's name: it cannot be read, has no certificate in it, or something that is none.
pub fn read_certificates(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("has more than {MAX_BYTES} bytes"));
    }
    if text.contains(PRIVATE) {
        return Err("has a private key in it, and every guest would get it".to_owned());
    }
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let certificate =
            certificate.map_err(|_| format!("is not in PEM form after its first {count} certificates"))?;
        count += 1;
        if !is_sequence(&certificate) {
            return Err(format!("has no certificate where its entry {count} is"));
        }
    }
    // A last line without its end would run into what comes behind it.
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if count > 0 { Ok(text) } else { Err("has no certificate in it (`-----BEGIN CERTIFICATE-----`)".to_owned()) }
}

/// Whether all of `der` is one sequence, as a certificate is.
fn is_sequence(der: &[u8]) -> bool {
    let Some(([0x30, first], rest)) = der.split_first_chunk() else { return false };
    let (length, rest) = match first {
        0..=0x7F => (usize::from(*first), rest),
        0x81..=0x84 => {
            let Some((bytes, rest)) = rest.split_at_checked(usize::from(first - 0x80)) else { return false };
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return false,
    };
    rest.len() == length
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), text).unwrap();
        read_certificates(&directory.path().join("ca.pem"))
    }

    fn pem(label: &str, content: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----", STANDARD.encode(content))
    }

    #[test]
    fn only_certificates_are_given_to_guests() {
        let good = pem("CERTIFICATE", &[0x30, 3, 1, 2, 3]);
        assert_eq!(read(&good), Ok(format!("{good}\n")));
        let long = [&[0x30, 0x81, 0x90][..], &[7; 0x90]].concat();
        assert!(read(&format!("# ours\n{good}\n\n{}\n", pem("CERTIFICATE", &long))).is_ok());
        let errors = [
            read(""),
            read("0\u{1}\u{2}"),
            read(&pem("CERTIFICATE", &[0x30, 9, 1])),
            read(&format!("{good}\n{}", pem("PRIVATE KEY", &[0x30, 0]))),
            read(&good.replace("MAMB", "M!MB")),
            read(&"x".repeat(3 << 20)),
            read_certificates(Path::new("/nowhere/ca.pem")),
        ];
        insta::assert_snapshot!(errors.map(Result::unwrap_err).join("\n"), @"
        has no certificate in it (`-----BEGIN CERTIFICATE-----`)
        has no certificate in it (`-----BEGIN CERTIFICATE-----`)
        has no certificate where its entry 1 is
        has a private key in it, and every guest would get it
        is not in PEM form after its first 0 certificates
        has more than 2097152 bytes
        cannot be read: No such file or directory (os error 2)
        ");
    }
}
