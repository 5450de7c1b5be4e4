//! From a file to a [`Config`], and the report of `dayfly config check`.

use std::fmt;
use std::io::{self, Read as _};
use std::path::Path;

use super::sections::{Claim, Claimed, Sections};
use super::{Config, directory_of, read_certificates};
use crate::document::{Complaint, Diagnostic, Findings, Position, Reader, toml};
use crate::image::ImageError;
use crate::image::recipe::Recipe;

impl Config {
    /// Reads the file and checks it against this host: paths that must exist do. Answers the configuration with warnings, or
    /// every error in the order of the text. Secrets are not read.
    pub fn load(path: &Path) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let file = path.display().to_string();
        let text = read_bounded(path).map_err(|error| unreadable(&error)).and_then(|bytes| decoded(&bytes));
        let text = text.map_err(|(complaint, position)| vec![complaint.at(&file, position, "")])?;
        // A service changes its working directory; what it was told at its start stays right only if it is absolute.
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let (parsed, claims) = parse_in(&file, directory_of(&absolute), &text);
        let missing = claims.iter().filter_map(|claim| unmet(&file, claim));
        match parsed {
            Ok((config, mut warnings)) => {
                let missing: Vec<Diagnostic> = missing.collect();
                if !missing.is_empty() {
                    return Err(missing);
                }
                warnings.extend(claims.iter().filter_map(|claim| without_recipe(&config, claim)));
                warnings.sort_by_key(|warning| warning.position);
                Ok((config, warnings))
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
    let toml::Document { root, errors: damaged } = match toml::read(file, text) {
        Ok(document) => document,
        Err(errors) => return (Err(errors), Vec::new()),
    };
    let reader = Reader::new(file).of_tables();
    let sections = Sections::new(directory);
    let config = sections.config(file, &reader.root(&root));
    let mut claims = sections.into_claims();
    let Findings { mut errors, warnings, .. } = reader.finish();
    if !damaged.is_empty() {
        let is_elsewhere =
            |position: Option<Position>| damaged.iter().all(|error| line(error.position) != line(position));
        errors.retain(|error| is_elsewhere(error.position));
        claims.retain(|claim| is_elsewhere(Some(claim.position)));
        errors.extend(damaged);
        errors.sort_by_key(|error| error.position);
    }
    let parsed = match config {
        Some(config) if errors.is_empty() => Ok((config, warnings)),
        _ => Err(errors),
    };
    (parsed, claims)
}

fn line(position: Option<Position>) -> Option<u32> {
    position.map(|position| position.line)
}

/// The file's bytes; one more than the limit is enough for the reader to refuse it.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(toml::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

type Unreadable = (Complaint, Option<Position>);

fn unreadable(error: &io::Error) -> Unreadable {
    let complaint = match error.kind() {
        io::ErrorKind::NotFound => {
            Complaint::new("the file does not exist").hint("start from `config/dayfly.example.toml`")
        }
        io::ErrorKind::IsADirectory => Complaint::new("this is a directory").hint("name the file in it"),
        io::ErrorKind::PermissionDenied => {
            Complaint::new("this user may not read the file").hint("run it with sudo, or change the file's permissions")
        }
        _ => Complaint::new(format!("the file cannot be read: {error}")),
    };
    (complaint, None)
}

fn decoded(bytes: &[u8]) -> Result<String, Unreadable> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return Ok(text.to_owned()),
        Err(error) => error,
    };
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err((Complaint::new("the file is UTF-16 text").hint("save it as UTF-8"), None));
    }
    let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
    let last_line = before.rsplit('\n').next().unwrap_or_default();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let position =
        Position { line: count(before.matches('\n').count() + 1), column: count(last_line.chars().count() + 1) };
    Err((Complaint::new("this is not UTF-8 text").hint("save the file as UTF-8"), Some(position)))
}

/// The complaint about a path that is not what it must be.
fn unmet(file: &str, claim: &Claim) -> Option<Diagnostic> {
    let (path, is_directory_needed) = match &claim.what {
        Claimed::Directory(path) => (path, true),
        Claimed::FileOrDirectory(path) => (path, false),
        Claimed::Certificates(path) if path.exists() => {
            let why = read_certificates(path).err()?;
            let complaint = Complaint::new(format!("`{}` {why}", path.display()));
            return Some(complaint.at(file, Some(claim.position), &claim.key));
        }
        Claimed::Certificates(path) => (path, false),
        Claimed::Image(_) => return None,
    };
    let shown = path.display();
    let complaint = match path.metadata() {
        Ok(metadata) if metadata.is_dir() || !is_directory_needed => return None,
        Ok(_) => Complaint::new(format!("`{shown}` is not a directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Complaint::new(format!("`{shown}` does not exist"))
            .hint("relative paths start at the configuration's directory"),
        Err(error) => Complaint::new(format!("`{shown}` cannot be looked at: {error}")),
    };
    Some(complaint.at(file, Some(claim.position), &claim.key))
}

/// The complaint about an image that cannot be built. The service starts all the same: it has other profiles.
fn without_recipe(config: &Config, claim: &Claim) -> Option<Diagnostic> {
    let Claimed::Image(name) = &claim.what else { return None };
    let error = Recipe::find(name, &config.vm.recipes_dir).err()?;
    let complaint = match error {
        ImageError::Unknown { name, hint } => Complaint::new(format!("there is no image `{name}`")).hint(hint),
        other => Complaint::new(other.to_string()),
    };
    Some(complaint.at(&config.file, Some(claim.position), &claim.key))
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
        match config.repository_entries().count() {
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
    fn a_value_that_cannot_be_read_hides_nothing_elsewhere() {
        let text = format!(
            "{VALID}memory = 512 MiB\nvcpus = 0\ncache = {{ path = 'gone' }}\n[limits]\nqueue = 0\nqueue = 1\n"
        );
        insta::assert_snapshot!(report(Some(&text)).1, @r#"
        error: DIR/dayfly.toml:8:10: expected a value
          hint: strings stand in quotes: `"…"`
        error: DIR/dayfly.toml:9:9: profile.big.vcpus: `0` is not between 1 and 64
        error: DIR/dayfly.toml:10:18: profile.big.cache.path: `DIR/gone` does not exist
          hint: relative paths start at the configuration's directory
        error: DIR/dayfly.toml:12:9: limits.queue: `0` is not between 1 and 1000000
        error: DIR/dayfly.toml:13:1: the key stands here a second time, first in line 12
          hint: merge the two, or rename one
        5 errors in DIR/dayfly.toml
        "#);
        let text = format!("{VALID}[limits\nqueue = 0\n");
        insta::assert_snapshot!(report(Some(&text)).1, @"
        error: DIR/dayfly.toml:8:8: unclosed table, expected `]`
          hint: what follows is looked at when this is mended
        1 error in DIR/dayfly.toml
        ");
    }

    #[test]
    fn an_image_without_a_recipe_is_a_warning() {
        let text = format!("{VALID}image = 'bse'\n[server]\npublic_url = 'https://ci.example.org'\n");
        insta::assert_snapshot!(report(Some(&text)).1, @"
        warning: DIR/dayfly.toml:8:9: profile.big.image: there is no image `bse`
          hint: did you mean `base`?
        DIR/dayfly.toml is valid: 2 profiles (linux, big), all repositories, 1 warning
        ");
    }

    #[test]
    fn a_file_that_is_no_text_says_where_and_what_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let shown = |bytes: &[u8]| {
            let path = directory.path().join("f");
            std::fs::write(&path, bytes).unwrap();
            check(&path).to_string().replace(&directory.path().display().to_string(), "DIR")
        };
        let texts = [shown(b"[server]\n# gr\xFC\xDFe\n"), shown(b"\xFF\xFE[\0s\0")];
        insta::assert_snapshot!(texts.join("\n"), @"
        error: DIR/f:2:5: this is not UTF-8 text
          hint: save the file as UTF-8
        1 error in DIR/f
        error: DIR/f: the file is UTF-16 text
          hint: save it as UTF-8
        1 error in DIR/f
        ");
        insta::assert_snapshot!(check(directory.path()).to_string().replace(&directory.path().display().to_string(), "DIR"), @"
        error: DIR: this is a directory
          hint: name the file in it
        1 error in DIR
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
          hint: what follows is looked at when this is mended
        1 error in DIR/dayfly.toml
        ");
    }
}
