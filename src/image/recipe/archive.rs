//! What a recipe says of Debian archives. `mmdebstrap` and `apt-get` get it as arguments, on the host and as root: what could be
//! taken for an option, or for a line of their own files, is refused. Pure.

use url::Url;

/// Schemes of archives that `apt` reads.
const SCHEMES: [&str; 3] = ["http", "https", "file"];

/// Fails, with what is wrong, unless `suite`, the value of `key`, can be the name of a release.
pub(super) fn check_suite(key: &str, suite: &str) -> Result<(), String> {
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_name =
        suite.bytes().next().is_some_and(is_first) && suite.bytes().all(|byte| is_first(byte) || b".-".contains(&byte));
    if is_name {
        return Ok(());
    }
    Err(format!(
        "`{key}`: `{suite}` is no name of a release: lower-case letters, digits, `.` and `-`, for example `bookworm`"
    ))
}

/// The same for the address of an archive.
pub(super) fn check_mirror(key: &str, mirror: &str) -> Result<(), String> {
    let is_plain = !mirror.contains(|letter: char| letter.is_whitespace() || letter.is_control());
    let is_known = |url: Url| SCHEMES.contains(&url.scheme());
    if is_plain
        && mirror.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && Url::parse(mirror).is_ok_and(is_known)
    {
        return Ok(());
    }
    Err(format!("`{key}`: `{mirror}` is no address of an archive: it begins with `https://`, `http://` or `file://`"))
}

/// The same for a package, perhaps with an architecture, a version or a release.
pub(super) fn check_package(package: &str) -> Result<(), String> {
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_name = package.bytes().next().is_some_and(is_first)
        && package.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.:=~/_".contains(&byte));
    if is_name {
        return Ok(());
    }
    Err(format!("`distribution.packages`: `{package}` is no name of a package"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_an_option_or_a_line_is_refused() {
        for suite in ["bookworm", "trixie", "24.04", "experimental", "my-own.1"] {
            check_suite("distribution.suite", suite).unwrap();
        }
        for suite in ["", "-x", "--setup-hook=sh", "/etc/passwd", "a b", "a\nb", "Bookworm", "..", "$(x)"] {
            assert!(check_suite("distribution.suite", suite).is_err(), "{suite}");
        }
        for mirror in ["https://example.org/debian", "http://m", "http://[::1]:80/", "file:///srv/debian"] {
            check_mirror("distribution.mirror", mirror).unwrap();
        }
        let mirrors = [
            "",
            "-",
            "--include=x",
            "ftp://m",
            "copy:/x",
            "deb http://m x main",
            " http://m",
            "http://m\n",
            "/srv",
            "http:",
        ];
        for mirror in mirrors {
            assert!(check_mirror("distribution.mirror", mirror).is_err(), "{mirror}");
        }
        for package in ["g++", "libc6:amd64", "git=1:2.39.5-0+deb12u2", "nodejs/trixie", "7zip"] {
            check_package(package).unwrap();
        }
        for package in ["", "-oDPkg::Pre-Invoke::=sh", "a,-b", "a b", "?essential", "~nx", "./own.deb", "/own.deb", "*"]
        {
            assert!(check_package(package).is_err(), "{package}");
        }
        insta::assert_snapshot!(check_suite("kernel.suite", "--x").unwrap_err(), @"`kernel.suite`: `--x` is no name of a release: lower-case letters, digits, `.` and `-`, for example `bookworm`");
        insta::assert_snapshot!(check_mirror("kernel.mirror", "--x").unwrap_err(), @"`kernel.mirror`: `--x` is no address of an archive: it begins with `https://`, `http://` or `file://`");
        insta::assert_snapshot!(check_package("-x").unwrap_err(), @"`distribution.packages`: `-x` is no name of a package");
    }
}
