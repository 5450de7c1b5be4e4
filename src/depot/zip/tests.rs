#![allow(clippy::unwrap_used)]

use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { files: 100, bytes: 1 << 20 };

fn archive(files: &[(&str, &[u8])], level: u32) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), level);
    for (name, content) in files {
        let fill = |out: &mut dyn Write| out.write_all(content);
        writer.file::<io::Error>(name, content.len() as u64, fill).unwrap();
    }
    writer.finish().unwrap()
}

fn files(archive: &[u8]) -> Result<Vec<(String, Vec<u8>)>, ZipError> {
    let mut reader = Reader::open(Cursor::new(archive), LIMITS)?;
    reader
        .entries()
        .iter()
        .map(|entry| {
            let mut content = Vec::new();
            reader.content(entry)?.read_to_end(&mut content)?;
            Ok((entry.name.clone(), content))
        })
        .collect()
}

#[test]
fn what_is_written_reads_back_at_every_level() {
    let content: Vec<u8> = (0..100_000_u32).map(|at| (at.wrapping_mul(at) >> 5) as u8).collect();
    let given: [(&str, &[u8]); 3] = [("a", b""), ("dist/ü/b.txt", b"hello"), ("c", &content)];
    for level in [0, 1, 6, 9] {
        let read = files(&archive(&given, level)).unwrap();
        assert!(read.iter().map(|(name, content)| (name.as_str(), content.as_slice())).eq(given), "level {level}");
    }
    assert!(files(&archive(&[], 6)).unwrap().is_empty());
}

#[test]
fn permissions_and_times_come_back() {
    let mut writer = Writer::new(Vec::new(), 6);
    for (name, mode, modified) in [("a", 0o100_600, 1_700_000_000), ("b", 0o4755, 0), ("c", 0o640, u64::MAX)] {
        writer.file_of::<io::Error>(name, 1, (mode, modified), |out| out.write_all(b"x")).unwrap();
    }
    writer.file::<io::Error>("d", 1, |out| out.write_all(b"x")).unwrap();
    writer.directory("e").unwrap();
    let bytes = writer.finish().unwrap();
    let mut reader = Reader::open(Cursor::new(&bytes), LIMITS).unwrap();
    let found: Vec<_> = reader.entries().iter().map(|entry| (entry.mode().unwrap(), entry.modified())).collect();
    assert_eq!(found, [(0o600, Some(1_700_000_000)), (0o755, Some(0)), (0o640, None), (0o644, None)]);
    let mut content = String::new();
    let last = reader.entries().pop().unwrap();
    reader.content(&last).unwrap().read_to_string(&mut content).unwrap();
    assert_eq!((content.as_str(), reader.directories()), ("x", &["e".to_owned()][..]));
}

#[test]
fn what_has_too_much_or_is_none_is_refused() {
    let bomb = vec![0; 2 << 20];
    assert!(matches!(files(&archive(&[("bomb", &bomb)], 9)), Err(ZipError::TooLarge(_))));
    let names: Vec<String> = (0..101).map(|at| at.to_string()).collect();
    let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    assert!(matches!(files(&archive(&many, 0)), Err(ZipError::TooLarge(_))));
    let endless = "n".repeat(5000);
    assert!(matches!(files(&archive(&[(&endless, b"")], 0)), Err(ZipError::TooLarge(_))));
    assert!(matches!(files(b"PK"), Err(ZipError::Broken(_))));
    assert!(matches!(files(&[0; 4000]), Err(ZipError::Broken(_))));
}

proptest! {
    #[test]
    fn no_archive_panics_or_gives_other_bytes(at in 0..400_usize, value in any::<u8>(), cut in 0..400_usize) {
        let mut bytes = archive(&[("a", b"some text, some text"), ("b/c", b"more")], 6);
        let at = at % bytes.len();
        bytes[at] = value;
        bytes.truncate(bytes.len().saturating_sub(cut % 40));
        for (name, content) in files(&bytes).unwrap_or_default() {
            // A name is not part of a checksum; a content is.
            let known: [&[u8]; 3] = [b"some text, some text", b"more", b""];
            prop_assert!(known.contains(&content.as_slice()), "{name}: {content:?}");
        }
    }
}
