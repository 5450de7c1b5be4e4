//! What an example says of itself: lines of its heading that begin with `#: `.
//!
//! | line | |
//! |---|---|
//! | `run ARGUMENTS` | how it is started; without it by a push |
//! | `starts not ARGUMENTS` | an event that does not start it |
//! | `job NAME = CONCLUSION` | a job and how it ends; all of them are listed |
//! | `log NAME = TEXT` | a line of that job's log has this text |
//! | `image NAME` | it needs another image than `base` |
//! | `called` | other workflows call it |
//! | `unsupported TEXT` | it is valid, but not supported; a complaint about it has this text |

use std::fs;
use std::path::{Path, PathBuf};

/// One example.
#[derive(Debug, Default)]
pub(super) struct Example {
    /// Its file's name without the ending.
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// What the workflow calls itself.
    pub(super) workflow: String,
    pub(super) run: Vec<String>,
    pub(super) starts_not: Vec<String>,
    pub(super) jobs: Vec<(String, String)>,
    pub(super) log: Vec<(String, String)>,
    pub(super) image: Option<String>,
    pub(super) is_called: bool,
    pub(super) unsupported: Vec<String>,
}

impl Example {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let workflow = text.lines().find_map(|line| line.strip_prefix("name: ")).expect("an example has a name");
        let mut example = Self { name, path: path.to_owned(), workflow: workflow.to_owned(), ..Self::default() };
        assert!(text.starts_with("# "), "{path:?} begins with what it shows");
        for line in text.lines().filter_map(|line| line.strip_prefix("#: ")) {
            example.take(line);
        }
        example
    }

    fn take(&mut self, line: &str) {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let pair = |text: &str| {
            let (name, value) = text.split_once(" = ").expect("NAME = VALUE");
            (name.to_owned(), value.to_owned())
        };
        let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
        match key {
            "run" => self.run = words(rest),
            "starts" => self.starts_not = words(rest.strip_prefix("not ").unwrap()),
            "job" => self.jobs.push(pair(rest)),
            "log" => self.log.push(pair(rest)),
            "image" => self.image = Some(rest.to_owned()),
            "called" => self.is_called = true,
            "unsupported" => self.unsupported.push(rest.to_owned()),
            _ => panic!("{}: what is `{line}`?", self.name),
        }
    }

    /// Whether the `base` image can run it, started by an event.
    pub(super) fn runs(&self) -> bool {
        self.image.is_none() && !self.is_called && self.unsupported.is_empty()
    }
}

/// All examples, in the order of their names.
pub(super) fn all() -> Vec<Example> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/workflows");
    let mut paths: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| Example::read(path)).collect()
}
