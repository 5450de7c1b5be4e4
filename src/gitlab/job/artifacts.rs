//! What is kept of a job: archives that people download, and reports that GitLab reads.

use super::paths::Patterns;
use super::variables::Variables;

/// The name of an artifact that has none.
const UNNAMED: &str = "artifacts";

/// How the files of an artifact are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One archive.
    Zip,
    /// Each file compressed by itself, one behind the other.
    Gzip,
    /// One file as it is.
    Raw,
}

impl Form {
    /// Reads GitLab's word for it.
    ///
    /// # Errors
    /// It is a form that this runner does not make.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "zip" => Ok(Self::Zip),
            "gzip" => Ok(Self::Gzip),
            "raw" => Ok(Self::Raw),
            other => {
                let other = crate::document::text::one_line(other, 100);
                Err(format!("artifacts of the form `{other}` are not supported: there are `zip`, `gzip` and `raw`"))
            }
        }
    }

    /// GitLab's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::Gzip => "gzip",
            Self::Raw => "raw",
        }
    }
}

/// Whether something is done at the end of a job that succeeded or not, by its `when`.
pub fn is_due(when: &str, succeeded: bool) -> bool {
    match when {
        "always" => true,
        "on_failure" => !succeeded,
        _ => succeeded,
    }
}

/// What an artifact's file is called.
pub fn file_name(name: &str, form: Form, variables: &Variables) -> String {
    let name = variables.expand(name);
    let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let last: String = last.chars().filter(|letter| !letter.is_control()).take(200).collect();
    let name = if matches!(last.as_str(), "" | "." | "..") { UNNAMED } else { &last };
    match form {
        Form::Zip => format!("{name}.zip"),
        Form::Gzip => format!("{name}.gz"),
        Form::Raw => name.to_owned(),
    }
}

/// Which files are kept, by what was asked for.
#[derive(Debug, Clone)]
pub struct Choice {
    pub paths: Patterns,
    pub exclude: Patterns,
    /// Files that git does not know, too.
    pub untracked: bool,
}

impl Choice {
    /// Reads the lists, variables put in; gives with it what is wrong with which line.
    pub fn new(
        paths: &[String], exclude: &[String], untracked: bool, variables: &Variables, project: &str,
    ) -> (Self, Vec<String>) {
        let expanded = |list: &[String]| list.iter().map(|text| variables.expand(text)).collect::<Vec<_>>();
        let (paths, mut complaints) = Patterns::new(&expanded(paths), project);
        let (exclude, more) = Patterns::new(&expanded(exclude), project);
        complaints.extend(more);
        (Self { paths, exclude, untracked }, complaints)
    }

    /// Of what was found, what is kept: sorted, each once. Paths are relative to the project; directories end with `/`.
    /// `untracked` is what git does not know.
    pub fn of<'p>(&self, found: &'p [String], untracked: &'p [String]) -> Vec<&'p str> {
        let of_paths = found.iter().map(String::as_str).filter(|path| self.paths.take(path));
        let of_git = untracked.iter().map(String::as_str).filter(|_| self.untracked);
        let mut kept: Vec<&str> =
            of_paths.chain(of_git).filter(|path| is_inside(path) && !self.exclude.name(path)).collect();
        kept.sort_unstable();
        kept.dedup();
        kept
    }

    /// What is said of each line and of what git does not know, with what nothing was found for first.
    pub fn remarks(&self, found: &[String], untracked: &[String]) -> (Vec<String>, Vec<String>) {
        let (mut missed, mut said) = (Vec::new(), Vec::new());
        for (text, count) in self.paths.counts(found.iter().map(String::as_str)) {
            match count {
                0 => missed.push(format!("{text}: no matching files. Paths are relative to the project's directory.")),
                count => said.push(format!("{text}: found {count} matching files and directories")),
            }
        }
        if self.untracked {
            match untracked.len() {
                0 => missed.push("untracked: no files".to_owned()),
                count => said.push(format!("untracked: found {count} files")),
            }
        }
        let excluded = found.iter().filter(|path| self.paths.take(path) && self.exclude.name(path)).count();
        if excluded > 0 {
            said.push(format!("exclude: left out {excluded} files and directories"));
        }
        (missed, said)
    }
}

/// Whether a path that the machine told is one below the project.
fn is_inside(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    crate::depot::unpack::parts(path).is_some()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::variables::Variable;
    use super::*;

    fn variables() -> Variables {
        let given = [("REF", "a/b"), ("DIR", "dist"), ("CI_PROJECT_DIR", "/builds/g/p")];
        Variables::new(given.map(|(key, value)| Variable::own(key, value)).to_vec(), "/t").unwrap()
    }

    fn choice(paths: &[&str], exclude: &[&str], untracked: bool) -> Choice {
        let list = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        Choice::new(&list(paths), &list(exclude), untracked, &variables(), "/builds/g/p").0
    }

    #[test]
    fn files_are_kept_once_and_what_is_excluded_is_not() {
        let found =
            ["dist/", "dist/a", "dist/b.o", "dist/c/", "dist/c/d", "../x", "/etc", "dist//e", "x"].map(str::to_owned);
        let untracked = ["dist/a", "new.txt", "b.o"].map(str::to_owned);
        let kept = |choice: Choice| choice.of(&found, &untracked).join(" ");
        assert_eq!(kept(choice(&["$DIR"], &[], false)), "dist/ dist/a dist/b.o dist/c/ dist/c/d");
        assert_eq!(kept(choice(&["$CI_PROJECT_DIR/dist/*"], &["**/*.o"], false)), "dist/a dist/c/ dist/c/d");
        assert_eq!(kept(choice(&[], &["**/*.o"], true)), "dist/a new.txt");
        assert_eq!(kept(choice(&["."], &["dist"], false)), "dist/a dist/b.o dist/c/ dist/c/d x");
        assert_eq!(kept(choice(&["none"], &[], false)), "");
    }

    #[test]
    fn each_line_is_remarked_upon() {
        let found = ["dist/".to_owned(), "dist/a".to_owned(), "dist/b".to_owned()];
        let choice = choice(&["dist", "missing/*"], &["dist/b"], true);
        let (missed, said) = choice.remarks(&found, &[]);
        insta::assert_snapshot!([missed, said].concat().join("\n"), @"
        missing/*: no matching files. Paths are relative to the project's directory.
        untracked: no files
        dist: found 3 matching files and directories
        exclude: left out 1 files and directories
        ");
    }

    #[test]
    fn artifacts_have_plain_names() {
        for (name, form, expected) in [
            ("", Form::Zip, "artifacts.zip"),
            ("build-$REF", Form::Zip, "b.zip"),
            ("junit.xml", Form::Gzip, "junit.xml.gz"),
            ("gl-report.json", Form::Raw, "gl-report.json"),
            ("..", Form::Raw, "artifacts"),
            ("ä\n b", Form::Zip, "ä b.zip"),
        ] {
            assert_eq!(file_name(name, form, &variables()), expected);
        }
        assert_eq!(
            ["", "zip", "gzip", "raw"].map(|word| Form::parse(word).unwrap().word()),
            ["zip", "zip", "gzip", "raw"]
        );
        assert!(Form::parse("tarzstd").is_err());
    }

    #[test]
    fn when_says_after_which_end() {
        let due = |when| (is_due(when, true), is_due(when, false));
        assert_eq!(
            ["", "on_success", "on_failure", "always"].map(due),
            [(true, false), (true, false), (false, true), (true, true)]
        );
    }
}
