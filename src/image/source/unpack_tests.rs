#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tar::Builder;

use super::*;

/// A place for a root file system, with something precious beside it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.0.path().join("outside")).unwrap();
        fs::write(place.outside(), "precious").unwrap();
        place
    }

    fn outside(&self) -> PathBuf {
        self.0.path().join("outside/file")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("root").join(name)
    }

    fn unpack(&self, archives: &[Vec<u8>], whiteouts: Whiteouts) -> io::Result<()> {
        let mut root = Root::open(&self.path(""), &self.0.path().join("trash")).unwrap();
        let mut unpacker = Unpacker::new(&mut root);
        let done = archives.iter().try_for_each(|archive| unpacker.unpack(archive.as_slice(), whiteouts));
        let outside: Vec<_> = fs::read_dir(self.outside().parent().unwrap()).unwrap().collect();
        assert_eq!((fs::read_to_string(self.outside()).unwrap().as_str(), outside.len()), ("precious", 1));
        done
    }

    fn layers(&self, archives: &[Vec<u8>]) {
        self.unpack(archives, Whiteouts::Obeyed).unwrap();
    }
}

/// One entry: kind, path, content or the target of a link.
type Entry<'e> = (EntryType, &'e str, &'e str);

const FILE: EntryType = EntryType::Regular;
const DIRECTORY: EntryType = EntryType::Directory;
const SYMLINK: EntryType = EntryType::Symlink;
const LINK: EntryType = EntryType::Link;

/// An archive, with names as they stand there, however odd.
fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, path, content) in entries {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(if *kind == DIRECTORY { 0o755 } else { 0o4750 });
        header.set_uid(0);
        header.set_gid(0);
        let is_link = matches!(*kind, SYMLINK | LINK);
        if is_link {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        let content = if is_link { "" } else { content };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn files_keep_their_content_mode_and_links() {
    let place = Place::new();
    let (long, longer) = ("d/".repeat(80), "n".repeat(200));
    let mut begun = archive(&[
        (DIRECTORY, "./", ""),
        (DIRECTORY, "usr/bin/", ""),
        (SYMLINK, "bin", "usr/bin"),
        (FILE, "bin/tool", "content"),
        (LINK, "usr/bin/again", "bin/tool"),
        (EntryType::Fifo, "run/fifo", ""),
        (EntryType::Char, "dev/null", ""),
    ]);
    // It goes on where its end is marked.
    begun.truncate(begun.len() - 1024);
    let mut builder = Builder::new(begun);
    let mut header = Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    builder.append_data(&mut header, format!("{long}{longer}"), "long".as_bytes()).unwrap();
    place.unpack(&[builder.into_inner().unwrap()], Whiteouts::Plain).unwrap();
    let tool = place.path("usr/bin/tool");
    assert_eq!(fs::read_to_string(&tool).unwrap(), "content");
    assert_eq!(fs::metadata(&tool).unwrap().permissions().mode() & 0o7777, 0o4750);
    assert_eq!(fs::metadata(&tool).unwrap().ino(), fs::metadata(place.path("usr/bin/again")).unwrap().ino());
    assert_eq!(fs::read_link(place.path("bin")).unwrap(), Path::new("usr/bin"));
    assert_eq!(fs::read_to_string(place.path(&format!("{long}{longer}"))).unwrap(), "long");
    assert!(place.path("run/fifo").exists() && !place.path("dev/null").exists());
}

/// A record of an extended header.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let text = [format!(" {key}=").as_bytes(), value, b"\n"].concat();
    let digits = (1..).find(|digits| (text.len() + digits).to_string().len() == *digits).unwrap();
    [(text.len() + digits).to_string().as_bytes(), &text].concat()
}

#[test]
fn capabilities_and_notes_of_programs_are_taken_over() {
    // Version 2, effective, the capability to open what others may not: what `setcap` writes.
    let capability = [&0x0200_0001_u32.to_le_bytes()[..], &[2, 0, 0, 0], &[0; 12]].concat();
    let records = [
        record("SCHILY.xattr.security.capability", &capability),
        record("SCHILY.xattr.user.note", b"mine"),
        record("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
    ];
    let mut builder = Builder::new(Vec::new());
    for (kind, name) in [(FILE, "tool"), (DIRECTORY, "place"), (SYMLINK, "link"), (LINK, "again")] {
        let mut append = |kind: EntryType, name: &str, content: &[u8], mode: u32| {
            let mut header = Header::new_ustar();
            header.set_path(name).unwrap();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(1);
            header.set_gid(1);
            header.set_size(content.len() as u64);
            if matches!(kind, SYMLINK | LINK) {
                header.set_link_name("tool").unwrap();
            }
            header.set_cksum();
            builder.append(&header, content).unwrap();
        };
        append(EntryType::XHeader, "x", &records.concat(), 0);
        append(kind, name, b"", 0o755);
    }
    let place = Place::new();
    place.layers(&[builder.into_inner().unwrap()]);
    let has = |name: &str, attribute: &std::ffi::CStr| {
        crate::host::xattr::get(&fs::File::open(place.path(name)).unwrap(), attribute, 256)
    };
    assert_eq!(has("tool", c"user.note").unwrap(), b"mine");
    assert_eq!(has("place", c"user.note").unwrap(), b"mine");
    assert_eq!(has("tool", c"trusted.overlay.redirect"), None);
    if nix::unistd::geteuid().is_root() {
        assert_eq!(has("again", c"security.capability").unwrap(), capability);
        assert_eq!(fs::metadata(place.path("tool")).unwrap().uid(), 1, "its owner came first");
    }
}

#[test]
fn layers_hide_what_is_below_them() {
    let place = Place::new();
    let below = [
        (FILE, "a/gone", ""),
        (FILE, "a/kept", ""),
        (FILE, "b/old", ""),
        (FILE, "b/deep/old", ""),
        (FILE, "c", "file"),
        (DIRECTORY, "d", ""),
        (FILE, "d/inside", ""),
        (SYMLINK, "e", "/a"),
        (DIRECTORY, "f", ""),
    ];
    let above = [
        (FILE, "a/.wh.gone", ""),
        (FILE, "b/new", ""),
        (FILE, "b/.wh..wh..opq", ""),
        (DIRECTORY, "c", ""),
        (FILE, "d", "file"),
        (DIRECTORY, "e", ""),
        (FILE, "e/own", ""),
        (FILE, ".wh.f", ""),
        (FILE, ".wh.never-there", ""),
    ];
    place.layers(&[archive(&below), archive(&above)]);
    for (name, is_there) in [
        ("a/gone", false),
        ("a/kept", true),
        ("b/old", false),
        ("b/deep", false),
        ("b/new", true),
        ("d/inside", false),
        ("e/own", true),
        ("a/own", false),
        ("f", false),
        ("b/.wh..wh..opq", false),
    ] {
        assert_eq!(place.path(name).exists(), is_there, "{name}");
    }
    assert!(place.path("c").is_dir() && place.path("d").is_file() && !place.path("e").is_symlink());
}

/// What is unpacked can be named, and so be packed and removed, wherever the directory is.
#[test]
fn what_lies_too_deep_is_refused_however_short_its_name_is() {
    let refused = |archive: Vec<u8>| {
        let place = Place::new();
        let error = place.unpack(&[archive], Whiteouts::Plain).unwrap_err().to_string();
        crate::host::disk::remove_tree(&place.path("")).unwrap();
        error
    };
    let named = |path: &str| {
        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, path, "".as_bytes()).unwrap();
        builder.into_inner().unwrap()
    };
    let long = format!("{}/", "n".repeat(200));
    assert!(refused(named(&format!("{}file", long.repeat(16)))).ends_with("is too long"));
    assert!(refused(named(&format!("{}file", "d/".repeat(300)))).ends_with("lies too deep"));
    // Each link is a short way to where the one before ends.
    let deep = "d/".repeat(40);
    let entries = (0..8).flat_map(|step: u32| {
        let place = format!("{}{deep}", step.checked_sub(1).map_or_else(String::new, |before| format!("l{before}/")));
        [(DIRECTORY, place.clone(), String::new()), (SYMLINK, format!("l{step}"), place)]
    });
    let entries: Vec<_> = entries.collect();
    let entries: Vec<Entry<'_>> =
        entries.iter().map(|(kind, path, content)| (*kind, path.as_str(), content.as_str())).collect();
    assert!(refused(archive(&entries)).ends_with("lies too deep"));
}

#[test]
fn no_path_leads_outside() {
    let outside = "../outside/file";
    let attacks: [&[Entry<'_>]; 10] = [
        &[(FILE, outside, "changed")],
        &[(FILE, "a/../../outside/file", "changed")],
        &[(SYMLINK, "out", "../outside"), (FILE, "out/file", "changed")],
        &[(SYMLINK, "out", "../outside/file"), (FILE, "out", "changed")],
        &[(SYMLINK, "a", "b"), (SYMLINK, "b", "../../../../../../../../tmp"), (FILE, "a/dayfly-escaped", "changed")],
        &[(LINK, "own", outside), (FILE, "own", "changed")],
        &[(SYMLINK, "out", "../outside"), (LINK, "own", "out/file"), (FILE, "own", "changed")],
        &[(SYMLINK, "out", "../outside"), (FILE, "out/.wh.file", "")],
        &[(SYMLINK, "out", "../outside"), (FILE, "out/.wh..wh..opq", "")],
        &[(FILE, ".wh...", ""), (FILE, ".wh.", "")],
    ];
    for entries in attacks {
        let place = Place::new();
        // Whether it is refused or stays inside does not matter here; `unpack` looks at what is outside.
        drop(place.unpack(&[archive(entries)], Whiteouts::Obeyed));
        let place = Place::new();
        let absolute = entries.iter().map(|(kind, path, content)| {
            let target = place.outside().parent().unwrap().display().to_string();
            (*kind, (*path).to_owned(), if *kind == SYMLINK { target } else { (*content).to_owned() })
        });
        let absolute: Vec<_> = absolute.collect();
        let absolute: Vec<Entry<'_>> =
            absolute.iter().map(|(kind, path, content)| (*kind, path.as_str(), content.as_str())).collect();
        drop(place.unpack(&[archive(&absolute)], Whiteouts::Obeyed));
        assert!(!Path::new("/tmp/dayfly-escaped").exists());
    }
    // A link that was there before the first archive, as in a directory that somebody else prepared.
    let place = Place::new();
    fs::create_dir(place.path("")).unwrap();
    symlink(place.outside().parent().unwrap(), place.path("out")).unwrap();
    drop(place.unpack(&[archive(&[(FILE, "out/file", "changed")])], Whiteouts::Plain));
}

#[test]
fn what_is_no_archive_or_says_too_much_is_refused() {
    let place = Place::new();
    let refused = |bytes: Vec<u8>| place.unpack(&[bytes], Whiteouts::Obeyed).unwrap_err().to_string();
    insta::assert_snapshot!(refused(archive(&[(EntryType::GNUSparse, "sparse", "")])), @"`sparse`: the archive has an entry of the kind `S`");
    insta::assert_snapshot!(refused(archive(&[(FILE, "../up", "")])), @"the path `../up` goes up");
    insta::assert_snapshot!(refused(archive(&[(SYMLINK, "link", "")])), @"`link`: the archive has a link to nothing");
    insta::assert_snapshot!(refused(archive(&[(FILE, ".wh...", "")])), @"the archive has a whiteout of nothing, `.wh...`");
    insta::assert_snapshot!(refused(archive(&[(EntryType::XHeader, "x", "99 path=short\n")])), @"the archive has an extended header that is none");
    let huge = "x".repeat(MAX_EXTENSION as usize + 1);
    insta::assert_snapshot!(refused(archive(&[(EntryType::GNULongName, "x", &huge)])), @"the archive has an extended header of more than 1024 KiB");
    assert!(place.unpack(&[vec![7; 4096]], Whiteouts::Obeyed).is_err());
    let mut cut = archive(&[(FILE, "file", &"x".repeat(9000))]);
    cut.truncate(4000);
    assert!(place.unpack(&[cut], Whiteouts::Obeyed).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any sequence of entries over few names, so that they meet each other.
    #[test]
    fn whatever_an_archive_says_the_host_outside_stays_as_it_is(
        entries in proptest::collection::vec(
            (0usize..5, prop_oneof!["[ab]{1}(/[ab.]{1,2}){0,3}", "(\\.\\./){0,3}outside/file", "[ab]/\\.wh\\.[ab.]{0,2}"],
             prop_oneof!["(\\.\\./){0,3}(outside)?(/file)?", "/[ab]", "[ab/]{0,4}"]), 1..12),
    ) {
        let kinds = [FILE, DIRECTORY, SYMLINK, LINK, SYMLINK];
        let entries: Vec<Entry<'_>> = entries.iter().map(|(kind, path, content)| (kinds[*kind], path.as_str(), content.as_str())).collect();
        drop(Place::new().unpack(&[archive(&entries)], Whiteouts::Obeyed));
    }
}
