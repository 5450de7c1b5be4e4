//! Single values of the configuration: addresses, paths, names. Each reader complains at its item and answers `None`.

use std::path::{Component, Path, PathBuf};

use url::Url;

use crate::document::reader::quoted;
use crate::document::{Complaint, Item};

/// Longest label of a profile, in bytes.
const MAX_LABEL: usize = 100;

/// Longest name of a profile.
const MAX_PROFILE_NAME: usize = 40;

/// Longest name of an image.
const MAX_IMAGE_NAME: usize = 80;

/// Longest path inside a repository or a guest.
const MAX_INNER_PATH: usize = 200;

/// Nothing is mounted at or below these: the guest would not work, or not be what its snapshot says.
const SYSTEM_TREES: [&str; 11] =
    ["/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr"];

/// Nothing is mounted over these, as it would hide what the image has there; below them is fine.
const SYSTEM_DIRECTORIES: [&str; 7] = ["/home", "/mnt", "/opt", "/root", "/srv", "/tmp", "/var"];

/// An `http` or `https` address without credentials, query and fragment, whose path ends with a slash. Plain `http` to
/// anywhere but this host gets a warning that says what `carries` travels in the clear.
pub(super) fn base_url(item: &Item<'_>, carries: &str) -> Option<Url> {
    let text = item.non_empty_string()?;
    let mut url = match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
        Ok(_) | Err(_) => {
            let complaint = Complaint::new(format!("{} is not an http or https address", quoted(text)));
            item.refuse(complaint.hint("write it like `https://ci.example.org`"));
            return None;
        }
    };
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        // The text is not quoted: it may hold a password.
        item.refuse("the address must not have credentials, a query or a fragment");
        return None;
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        item.warn(Complaint::new(format!("plain `http` carries {carries} unencrypted")).hint("use `https`"));
    }
    if !url.path().ends_with('/') {
        let with_slash = format!("{}/", url.path());
        url.set_path(&with_slash);
    }
    Some(url)
}

/// Whether the address leads to the host itself.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A path on the host; a relative one starts at `directory`.
pub(super) fn host_path(item: &Item<'_>, directory: &Path) -> Option<PathBuf> {
    let text = item.non_empty_string()?;
    if text.contains('\0') {
        item.refuse(format!("{} is not a path", quoted(text)));
        return None;
    }
    Some(directory.join(text))
}

/// A program: a bare name stays as it is, for a look-up in `PATH`.
pub(super) fn program(item: &Item<'_>, directory: &Path) -> Option<PathBuf> {
    let text = item.non_empty_string()?;
    if text.contains('/') { host_path(item, directory) } else { Some(PathBuf::from(text)) }
}

/// A directory inside a repository, without slashes at its ends.
pub(super) fn repository_directory(item: &Item<'_>) -> Option<String> {
    let text = item.non_empty_string()?;
    let trimmed = text.trim_end_matches('/');
    let is_inside = trimmed.len() <= MAX_INNER_PATH
        && trimmed.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !trimmed.chars().any(|c| c.is_control() || c == '\\');
    if !is_inside {
        let complaint = Complaint::new(format!("{} is not a directory inside a repository", quoted(text)));
        item.refuse(complaint.hint("write it relative to the repository, like `.dayfly/workflows`"));
        return None;
    }
    if trimmed == ".github/workflows" {
        let complaint = Complaint::new("GitHub queues the same workflows unless its Actions are switched off");
        item.warn(complaint.hint("switch them off in the repository's settings, or use `.dayfly/workflows`"));
    }
    Some(trimmed.to_owned())
}

/// An absolute path in the guest over which a volume may be mounted.
pub(super) fn guest_mount(item: &Item<'_>) -> Option<String> {
    let text = item.non_empty_string()?;
    let path = Path::new(text);
    let is_plain = path.is_absolute()
        && text.len() <= MAX_INNER_PATH
        && !text.chars().any(char::is_control)
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let complaint = if !is_plain {
        Complaint::new(format!("{} is not an absolute path", quoted(text)))
    } else if path == Path::new("/")
        || SYSTEM_TREES.iter().any(|tree| path.starts_with(tree))
        || SYSTEM_DIRECTORIES.iter().any(|directory| path == Path::new(directory))
    {
        Complaint::new(format!("{} belongs to the guest's system", quoted(text)))
    } else {
        // Components drop doubled and trailing slashes.
        return path.components().collect::<PathBuf>().to_str().map(str::to_owned);
    };
    item.refuse(complaint.hint("choose a directory of its own, like `/cache`"));
    None
}

/// A label: short, printable, without blanks at its ends.
pub(super) fn label(item: &Item<'_>) -> Option<String> {
    let text = item.non_empty_string()?;
    if text.len() > MAX_LABEL || text.chars().any(char::is_control) || text.trim() != text {
        let complaint = Complaint::new(format!("{} is not a label", quoted(text)));
        item.refuse(complaint.hint(format!("at most {MAX_LABEL} bytes, no blanks at the ends")));
        return None;
    }
    Some(text.to_owned())
}

/// The path of a file in a repository.
pub(super) fn repository_file(item: &Item<'_>) -> Option<String> {
    let text = item.non_empty_string()?;
    let is_inside = text.len() <= MAX_INNER_PATH
        && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !text.chars().any(|c| c.is_control() || c == '\\');
    if !is_inside {
        let complaint = Complaint::new(format!("{} is not a file of a repository", quoted(text)));
        item.refuse(complaint.hint("write it relative to the repository, like `package-lock.json`"));
        return None;
    }
    Some(text.to_owned())
}

/// Whether `name` can be a profile's.
pub(super) fn is_profile_name(name: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_PROFILE_NAME).contains(&name.len()) && name.bytes().all(is_letter)
}

/// The name of an image: it becomes a directory's name.
pub(super) fn image_name(item: &Item<'_>) -> Option<String> {
    let name = item.non_empty_string()?;
    let is_letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    if name.len() > MAX_IMAGE_NAME || !name.bytes().all(is_letter) || name.starts_with(['.', '-']) {
        let complaint = Complaint::new(format!("{} is not an image's name", quoted(name)));
        item.refuse(complaint.hint("small letters, digits, `-`, `_` and `.`"));
        return None;
    }
    Some(name.to_owned())
}
