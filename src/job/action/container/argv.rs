//! Command lines of Docker for the containers of actions. Pure.
//!
//! No value stands in them that a workflow could have secret: variables go by name, and Docker's client has their values in its
//! environment. What a workflow writes stands where only a value can stand, so that it is never an option.

use std::collections::BTreeMap;

/// Directories of the machine, and where the container has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounts(Vec<(String, &'static str)>);

impl Mounts {
    /// As GitHub's runner has them.
    pub(super) fn new(workspace: &str, temp: &str) -> Self {
        Self(vec![
            (workspace.to_owned(), "/github/workspace"),
            (format!("{temp}/_github_home"), HOME),
            (format!("{temp}/_github_workflow"), "/github/workflow"),
            (format!("{temp}/_runner_file_commands"), "/github/file_commands"),
            // After those that are in it.
            (temp.to_owned(), "/github/runner_temp"),
        ])
    }

    /// The directories that must be there.
    pub(super) fn directories(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(directory, _)| directory.as_str())
    }

    /// The same path in the container, if it is below one of the directories.
    fn translate(&self, path: &str) -> Option<String> {
        self.0.iter().find_map(|(directory, place)| {
            let rest = path.strip_prefix(directory.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{place}{rest}"))
        })
    }

    /// The variables of a step as a container's programs have to see them. `PATH` is the image's.
    pub(super) fn environment(&self, env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let is_runners = |name: &str| name.starts_with("GITHUB_") || name.starts_with("RUNNER_");
        let own = env.iter().filter(|(name, _)| !matches!(name.as_str(), "PATH" | "HOME") && !name.contains('='));
        own.map(|(name, value)| {
            let translated = is_runners(name).then(|| self.translate(value)).flatten();
            (name.clone(), translated.unwrap_or_else(|| value.clone()))
        })
        .collect()
    }
}

const HOME: &str = "/github/home";

/// One container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Container<'a> {
    pub(super) image: &'a str,
    pub(super) entrypoint: Option<&'a str>,
    pub(super) arguments: &'a [String],
    pub(super) mounts: &'a Mounts,
}

impl Container<'_> {
    /// Makes it, runs it to its end and removes it. `variables` are the names of those that it gets.
    pub(super) fn run<'v>(&self, variables: impl Iterator<Item = &'v String>) -> Vec<String> {
        let mut argv = words(&["docker", "run", "--rm", "--workdir", "/github/workspace"]);
        argv.extend(words(&["--env", &format!("HOME={HOME}")]));
        for name in variables {
            argv.extend(words(&["--env", name]));
        }
        argv.extend(words(&["--volume", "/run/docker.sock:/var/run/docker.sock"]));
        for (directory, place) in &self.mounts.0 {
            // Not `--volume`: a colon in a name would change its meaning.
            argv.extend(words(&["--mount", &format!("type=bind,{},target={place}", field("source", directory))]));
        }
        if let Some(entrypoint) = self.entrypoint {
            argv.push(format!("--entrypoint={entrypoint}"));
        }
        argv.extend(words(&["--", self.image]));
        argv.extend(self.arguments.iter().cloned());
        argv
    }
}

/// Makes the image `tag` of a Dockerfile, with the action's directory for its files.
pub(super) fn build(tag: &str, dockerfile: &str, directory: &str) -> Vec<String> {
    words(&[
        "docker",
        "build",
        "--quiet",
        "--tag",
        tag,
        "--file",
        &format!("{directory}/{dockerfile}"),
        "--",
        directory,
    ])
}

/// A field of comma-separated values, quoted as those are.
fn field(name: &str, value: &str) -> String {
    let field = format!("{name}={value}");
    if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// The words of a text, as a shell reads them, without expanding anything.
///
/// # Errors
/// A quote that does not end.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut is_word) = (Vec::new(), String::new(), false);
    let mut letters = text.chars();
    let unended = |quote: char| format!("the arguments `{text}` have a quote `{quote}` that does not end");
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                is_word = true;
                loop {
                    match letters.next().ok_or_else(|| unended('\''))? {
                        '\'' => break,
                        letter => word.push(letter),
                    }
                }
            }
            '"' => {
                is_word = true;
                loop {
                    match letters.next().ok_or_else(|| unended('"'))? {
                        '"' => break,
                        '\\' => match letters.next().ok_or_else(|| unended('"'))? {
                            escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                            other => word.extend(['\\', other]),
                        },
                        letter => word.push(letter),
                    }
                }
            }
            '\\' => {
                is_word = true;
                word.extend(letters.next());
            }
            letter if letter.is_whitespace() => {
                if std::mem::take(&mut is_word) {
                    words.push(std::mem::take(&mut word));
                }
            }
            letter => {
                is_word = true;
                word.push(letter);
            }
        }
    }
    if is_word {
        words.push(word);
    }
    Ok(words)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_container_gets_what_githubs_runner_gives_it() {
        let mounts = Mounts::new("/home/ci/jobs/site/site", "/home/ci/jobs/_temp");
        let env: BTreeMap<String, String> = [
            ("GITHUB_ENV", "/home/ci/jobs/_temp/_runner_file_commands/env_1"),
            ("GITHUB_WORKSPACE", "/home/ci/jobs/site/site"),
            ("INPUT_TOKEN", "secret"),
            ("INPUT_PATH", "/home/ci/jobs/site/site/x"),
            ("PATH", "/bin"),
            ("RUNNER_TEMP", "/home/ci/jobs/_temp"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let env = mounts.environment(&env);
        let arguments = ["--flag".to_owned(), "two words".to_owned()];
        let container = Container { image: "i:1", entrypoint: Some("/x"), arguments: &arguments, mounts: &mounts };
        insta::assert_snapshot!(container.run(env.keys()).join("\n"), @"
        docker
        run
        --rm
        --workdir
        /github/workspace
        --env
        HOME=/github/home
        --env
        GITHUB_ENV
        --env
        GITHUB_WORKSPACE
        --env
        INPUT_PATH
        --env
        INPUT_TOKEN
        --env
        RUNNER_TEMP
        --volume
        /run/docker.sock:/var/run/docker.sock
        --mount
        type=bind,source=/home/ci/jobs/site/site,target=/github/workspace
        --mount
        type=bind,source=/home/ci/jobs/_temp/_github_home,target=/github/home
        --mount
        type=bind,source=/home/ci/jobs/_temp/_github_workflow,target=/github/workflow
        --mount
        type=bind,source=/home/ci/jobs/_temp/_runner_file_commands,target=/github/file_commands
        --mount
        type=bind,source=/home/ci/jobs/_temp,target=/github/runner_temp
        --entrypoint=/x
        --
        i:1
        --flag
        two words
        ");
        let values: Vec<&str> = env.values().map(String::as_str).collect();
        assert_eq!(
            values,
            [
                "/github/file_commands/env_1",
                "/github/workspace",
                "/home/ci/jobs/site/site/x",
                "secret",
                "/github/runner_temp"
            ]
        );
    }

    #[test]
    fn names_stay_values() {
        assert_eq!(field("source", "/a,b\"c"), "\"source=/a,b\"\"c\"");
        assert_eq!(build("t", "Dockerfile", "/a").join(" "), "docker build --quiet --tag t --file /a/Dockerfile -- /a");
    }

    #[test]
    fn words_are_those_of_a_shell_without_its_expansions() {
        for (text, expected) in [
            ("", &[][..]),
            ("  a  b\tc\n", &["a", "b", "c"]),
            ("'a b' \"c d\"", &["a b", "c d"]),
            ("a'b'\"c\"d", &["abcd"]),
            ("'' \"\"", &["", ""]),
            (r#""a\"b\\c\d" e\ f"#, &["a\"b\\c\\d", "e f"]),
            ("$HOME $(x) `y` *", &["$HOME", "$(x)", "`y`", "*"]),
        ] {
            assert_eq!(split(text).unwrap(), expected, "{text}");
        }
        assert!(split("'a").is_err() && split("\"a\\").is_err());
    }

    proptest! {
        /// What is quoted comes back as it was.
        #[test]
        fn quoted_words_come_back(words in proptest::collection::vec("[ -~]{0,8}", 0..5)) {
            let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
            prop_assert_eq!(split(&quoted.join(" ")).unwrap(), words);
        }
    }
}
