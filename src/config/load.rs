//! From a file to a [`Config`], and the report of `dayfly config check`.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use super::sections::{Claim, PathKind, Sections};
use super::{Config, directory_of};
use crate::document::{Complaint, Diagnostic, Findings, Reader, toml};

impl Config {
    /// Reads the file and checks it against this host: paths that must exist do. Answers the configuration with warnings, or
    /// every error in the order of the text. Secrets are not read.
    pub fn load(path: &Path) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let file = path.display().to_string();
        let unreadable = |what: String, hint: &str| vec![Complaint::new(what).hint(hint).at(&file, None, "")];
        let text = read_bounded(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                unreadable("the file does not exist".into(), "start from `config/dayfly.example.toml`")
            }
            std::io::ErrorKind::InvalidData => unreadable("the file is not UTF-8 text".into(), "is it the right file?"),
            _ => unreadable(format!("the file cannot be read: {error}"), "check its permissions"),
        })?;
        // A service changes its working directory; what it was told at its start stays right only if it is absolute.
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let (parsed, claims) = parse_in(&file, directory_of(&absolute), &text);
        let missing = claims.iter().filter_map(|claim| unmet(&file, claim));
        match parsed {
            Ok((config, warnings)) => {
                let missing: Vec<Diagnostic> = missing.collect();
                if missing.is_empty() { Ok((config, warnings)) } else { Err(missing) }
            }
            Err(mut errors) => {
                errors.extend(missing);
                errors.sort_by_key(|error| error.position);
                Err(errors)
            }
        }
    }

    /// Reads `text` as the content of `file`, without asking this host anything. Relative paths start at the directory part
    /// of `file`.
    pub fn parse(file: &str, text: &str) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        parse_in(file, directory_of(Path::new(file)), text).0
    }
}

type Parsed = Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>>;

fn parse_in(file: &str, directory: &Path, text: &str) -> (Parsed, Vec<Claim>) {
    let document = match toml::read(file, text) {
        Ok(document) => document,
        Err(errors) => return (Err(errors), Vec::new()),
    };
    let reader = Reader::new(file);
    let sections = Sections::new(directory);
    let config = sections.config(file, &reader.root(&document));
    let Findings { errors, warnings } = reader.finish();
    let parsed = match config {
        Some(config) if errors.is_empty() => Ok((config, warnings)),
        _ => Err(errors),
    };
    (parsed, sections.into_claims())
}

/// The file's text; one byte more than the limit is enough for the reader to refuse it.
fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(toml::MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// The complaint about a path that is not what it must be.
fn unmet(file: &str, claim: &Claim) -> Option<Diagnostic> {
    let shown = claim.path.display();
    let complaint = match claim.path.metadata() {
        Ok(metadata) if metadata.is_dir() => return None,
        Ok(_) if claim.kind == PathKind::FileOrDirectory => return None,
        Ok(_) => Complaint::new(format!("`{shown}` is not a directory")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Complaint::new(format!("`{shown}` does not exist"))
                .hint("relative paths start at the configuration's directory")
        }
        Err(error) => Complaint::new(format!("`{shown}` cannot be looked at: {error}")),
    };
    Some(complaint.at(file, Some(claim.position), &claim.key))
}

/// Loads the file for a look at what is wrong with it.
pub fn check(path: &Path) -> CheckReport {
    let file = path.display().to_string();
    match Config::load(path) {
        Ok((config, warnings)) => CheckReport { file, config: Some(config), errors: Vec::new(), warnings },
        Err(errors) => CheckReport { file, config: None, errors, warnings: Vec::new() },
    }
}

/// Everything that is to be said about a configuration file. Displayed as one paragraph per finding and a closing line.
#[derive(Debug)]
pub struct CheckReport {
    file: String,
    config: Option<Config>,
    pub errors: Vec<Diagnostic>,
    pub warnings: Vec<Diagnostic>,
}

impl CheckReport {
    /// Whether the service would start from this file, as far as the file goes.
    pub fn is_valid(&self) -> bool {
        self.config.is_some()
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            writeln!(out, "error: {error}")?;
        }
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        let Some(config) = &self.config else {
            return write!(out, "{} in {}", counted(self.errors.len(), "error", "errors"), self.file);
        };
        let names: Vec<&str> = config.profiles.iter().map(|profile| profile.name.as_str()).collect();
        let profiles = counted(names.len(), "profile", "profiles");
        write!(out, "{} is valid: {profiles} ({})", self.file, names.join(", "))?;
        match config.github.repositories.len() {
            0 => write!(out, ", all repositories")?,
            count => write!(out, ", {}", counted(count, "repository entry", "repository entries"))?,
        }
        match self.warnings.len() {
            0 => Ok(()),
            count => write!(out, ", {}", counted(count, "warning", "warnings")),
        }
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const VALID: &str = "[github]\nwebhook_secret = { env = 'H' }\ntoken = { env = 'T' }\n\
                         [profile.linux]\nlabels = ['linux']\n[profile.big]\nlabels = ['big']\n";

    /// The report about a file with that content; its directory is called `DIR`.
    fn report(content: Option<&str>) -> (bool, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dayfly.toml");
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        std::fs::write(directory.path().join("plain"), "").unwrap();
        let report = check(&path);
        (report.is_valid(), report.to_string().replace(&directory.path().display().to_string(), "DIR"))
    }

    #[test]
    fn a_valid_file_is_summed_up() {
        let (valid, text) = report(Some(VALID));
        assert!(valid);
        insta::assert_snapshot!(text, @"
        warning: DIR/dayfly.toml:1:1: server: `public_url` is not set: links on the forge lead to this host only
          hint: set the address by which people reach this service
        DIR/dayfly.toml is valid: 2 profiles (linux, big), all repositories, 1 warning
        ");
    }

    #[test]
    fn missing_paths_stand_among_the_other_mistakes() {
        let text =
            format!("{VALID}cache = {{ path = 'gone' }}\nvcpus = 0\n[vm]\nrecipes_dir = ['.', 'plain', 'none']\n");
        let (valid, text) = report(Some(&text));
        assert!(!valid);
        insta::assert_snapshot!(text, @"
        error: DIR/dayfly.toml:8:18: profile.big.cache.path: `DIR/gone` does not exist
          hint: relative paths start at the configuration's directory
        error: DIR/dayfly.toml:9:9: profile.big.vcpus: `0` is not between 1 and 64
        error: DIR/dayfly.toml:11:21: vm.recipes_dir[1]: `DIR/plain` is not a directory
        error: DIR/dayfly.toml:11:30: vm.recipes_dir[2]: `DIR/none` does not exist
          hint: relative paths start at the configuration's directory
        4 errors in DIR/dayfly.toml
        ");
    }

    #[test]
    fn a_file_that_is_not_there_or_not_toml_is_reported_like_any_mistake() {
        insta::assert_snapshot!(report(None).1, @"
        error: DIR/dayfly.toml: the file does not exist
          hint: start from `config/dayfly.example.toml`
        1 error in DIR/dayfly.toml
        ");
        insta::assert_snapshot!(report(Some("[server\n")).1, @"
        error: DIR/dayfly.toml:1:8: unclosed table, expected `]`
        1 error in DIR/dayfly.toml
        ");
    }
}
