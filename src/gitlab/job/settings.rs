//! Variables by which a job changes how it is run.

use std::time::Duration;

use super::variables::Variables;
use crate::config::parse_duration;

/// How long `after_script` may take if the job says nothing.
const AFTER_SCRIPT_LIMIT: Duration = Duration::from_secs(5 * 60);

/// Tries of one stage at most.
const MAX_TRIES: u32 = 10;

/// Variables whose logs show everything.
pub const DEBUG_TRACE: &str = "CI_DEBUG_TRACE";
pub const DEBUG_SERVICES: &str = "CI_DEBUG_SERVICES";

/// What is done with the project's directory before the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The commit is fetched into it. Directories are new for each job, so `clone` and `fetch` are the same.
    Fetch,
    /// It is made, and stays empty.
    Nothing,
    /// The same under a name of its own.
    Empty,
}

/// Which submodules are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submodules {
    None,
    Direct,
    Recursive,
}

/// How the job is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub strategy: Strategy,
    pub checks_out: bool,
    pub clean_flags: Vec<String>,
    pub fetch_flags: Vec<String>,
    pub submodules: Submodules,
    /// `None`: as deep as the repository itself.
    pub submodule_depth: Option<u64>,
    pub submodule_paths: Vec<String>,
    pub submodule_flags: Vec<String>,
    pub skips_lfs: bool,
    /// Where the repository is to be, if not in its usual place.
    pub clone_path: Option<String>,
    pub source_tries: u32,
    pub artifact_tries: u32,
    pub cache_tries: u32,
    /// `None`: as long as the job.
    pub script_limit: Option<Duration>,
    pub after_script_limit: Duration,
    pub ignores_after_script: bool,
    pub is_traced: bool,
    /// The logs of services are shown.
    pub shows_services: bool,
    pub forces_https: bool,
    /// Of archives, from 0, not at all, to 9.
    pub compression: u32,
    /// A key of a cache to fall back on.
    pub fallback_key: Option<String>,
}

/// Reads variables, and keeps what is wrong with them.
struct Reader<'v> {
    variables: &'v Variables,
    complaints: Vec<String>,
}

impl Settings {
    /// Reads them; gives with them what is wrong with which, for the job's log. A wrong one counts as not set.
    pub fn of(variables: &Variables) -> (Self, Vec<String>) {
        let mut reader = Reader { variables, complaints: Vec::new() };
        let text = |name: &str| Some(variables.value(name).to_owned()).filter(|value| !value.is_empty());
        let settings = Self {
            strategy: reader.strategy(),
            checks_out: reader.flag("GIT_CHECKOUT", true),
            clean_flags: reader.words("GIT_CLEAN_FLAGS", &["-ffdx"]),
            fetch_flags: reader.words("GIT_FETCH_EXTRA_FLAGS", &["--prune", "--quiet"]),
            submodules: reader.submodules(),
            submodule_depth: reader.number("GIT_SUBMODULE_DEPTH"),
            submodule_paths: variables.value("GIT_SUBMODULE_PATHS").split_whitespace().map(str::to_owned).collect(),
            submodule_flags: reader.words("GIT_SUBMODULE_UPDATE_FLAGS", &[]),
            forces_https: reader.flag("GIT_SUBMODULE_FORCE_HTTPS", false),
            skips_lfs: reader.flag("GIT_LFS_SKIP_SMUDGE", false),
            clone_path: text("GIT_CLONE_PATH"),
            source_tries: reader.tries("GET_SOURCES_ATTEMPTS"),
            artifact_tries: reader.tries("ARTIFACT_DOWNLOAD_ATTEMPTS"),
            cache_tries: reader.tries("RESTORE_CACHE_ATTEMPTS"),
            script_limit: reader.time("RUNNER_SCRIPT_TIMEOUT"),
            after_script_limit: reader.time("RUNNER_AFTER_SCRIPT_TIMEOUT").unwrap_or(AFTER_SCRIPT_LIMIT),
            ignores_after_script: reader.flag("AFTER_SCRIPT_IGNORE_ERRORS", true),
            is_traced: reader.flag(DEBUG_TRACE, false),
            shows_services: reader.flag(DEBUG_SERVICES, false),
            compression: reader.compression(),
            fallback_key: text("CACHE_FALLBACK_KEY"),
        };
        (settings, reader.complaints)
    }
}

impl Reader<'_> {
    fn complain(&mut self, name: &str, expected: &str) {
        let value = crate::document::text::one_line(self.variables.value(name), 100);
        self.complaints.push(format!("{name}: expected {expected}, and it is `{value}`: the default is used"));
    }

    fn strategy(&mut self) -> Strategy {
        match self.variables.value("GIT_STRATEGY") {
            "" | "clone" | "fetch" => Strategy::Fetch,
            "none" => Strategy::Nothing,
            "empty" => Strategy::Empty,
            _ => {
                self.complain("GIT_STRATEGY", "`clone`, `fetch`, `none` or `empty`");
                Strategy::Fetch
            }
        }
    }

    fn submodules(&mut self) -> Submodules {
        match self.variables.value("GIT_SUBMODULE_STRATEGY") {
            "" | "none" => Submodules::None,
            "normal" => Submodules::Direct,
            "recursive" => Submodules::Recursive,
            _ => {
                self.complain("GIT_SUBMODULE_STRATEGY", "`none`, `normal` or `recursive`");
                Submodules::None
            }
        }
    }

    fn flag(&mut self, name: &str, default: bool) -> bool {
        match self.variables.value(name) {
            "" => default,
            text => flag(text).unwrap_or_else(|| {
                self.complain(name, "`true` or `false`");
                default
            }),
        }
    }

    fn words(&self, name: &str, default: &[&str]) -> Vec<String> {
        match self.variables.value(name) {
            "" => default.iter().map(|&word| word.to_owned()).collect(),
            "none" => Vec::new(),
            words => words.split_whitespace().map(str::to_owned).collect(),
        }
    }

    fn number(&mut self, name: &str) -> Option<u64> {
        match self.variables.value(name) {
            "" => None,
            text => text.parse().ok().or_else(|| {
                self.complain(name, "a whole number");
                None
            }),
        }
    }

    fn tries(&mut self, name: &str) -> u32 {
        let tries = self.number(name).unwrap_or(1);
        u32::try_from(tries).unwrap_or(MAX_TRIES).clamp(1, MAX_TRIES)
    }

    fn time(&mut self, name: &str) -> Option<Duration> {
        match self.variables.value(name).trim() {
            "" | "0" => None,
            text => match parse_duration(text).ok().filter(|time| *time <= LONGEST).or_else(|| fractional(text)) {
                Some(time) => Some(time).filter(|time| !time.is_zero()),
                None => {
                    self.complain(name, "a duration such as `90s` or `1h30m`");
                    None
                }
            },
        }
    }

    fn compression(&mut self) -> u32 {
        match self.variables.value("ARTIFACT_COMPRESSION_LEVEL") {
            "" | "default" => 6,
            "fastest" => 1,
            "fast" => 3,
            "slow" => 7,
            "slowest" => 9,
            _ => {
                self.complain("ARTIFACT_COMPRESSION_LEVEL", "`fastest`, `fast`, `default`, `slow` or `slowest`");
                6
            }
        }
    }
}

/// A yes or no as GitLab's runner reads it; `None` for what is neither.
pub fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// The longest duration that is one.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Durations with parts of a unit, such as `1.5h`.
fn fractional(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 5] = [("ms", 1e-3), ("us", 1e-6), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, behind) = rest.split_at(end);
        let (unit, scale) = UNITS.iter().find(|(unit, _)| behind.starts_with(unit))?;
        seconds += number.parse::<f64>().ok()? * scale;
        rest = &behind[unit.len()..];
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|time| *time <= LONGEST)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::variables::Variable;
    use super::*;

    #[test]
    fn durations_may_have_parts_of_a_unit() {
        for (text, millis) in
            [("1.5h", Some(5_400_000)), ("1h0.5m", Some(3_630_000)), ("250ms", Some(250)), (".5s", Some(500))]
        {
            assert_eq!(fractional(text).map(|time| time.as_millis()), millis, "{text}");
        }
        for text in ["1.5", "h", "1.5.2h", "1d", "-1h", "1e400h", "."] {
            assert_eq!(fractional(text), None, "{text}");
        }
        assert_eq!(of(&[("RUNNER_SCRIPT_TIMEOUT", "0.5h")]).0.script_limit, Some(Duration::from_secs(1800)));
    }

    fn of(given: &[(&str, &str)]) -> (Settings, Vec<String>) {
        let given = given.iter().map(|(key, value)| Variable::own(key, *value)).collect();
        Settings::of(&Variables::new(given, "/t").unwrap())
    }

    #[test]
    fn what_is_not_set_is_as_users_know_it() {
        let (settings, complaints) = of(&[("GIT_STRATEGY", ""), ("GIT_SUBMODULE_STRATEGY", "none")]);
        assert_eq!(complaints, [""; 0]);
        assert_eq!((settings.strategy, settings.submodules), (Strategy::Fetch, Submodules::None));
        assert_eq!(
            (settings.clean_flags, settings.fetch_flags),
            (vec!["-ffdx".into()], vec!["--prune".into(), "--quiet".into()])
        );
        assert_eq!((settings.source_tries, settings.after_script_limit), (1, AFTER_SCRIPT_LIMIT));
        assert!(settings.checks_out && settings.ignores_after_script && !settings.is_traced);
    }

    #[test]
    fn what_is_set_counts() {
        let (settings, complaints) = of(&[
            ("GIT_STRATEGY", "empty"),
            ("GIT_CLEAN_FLAGS", "-ffdx  -e cache/"),
            ("GIT_FETCH_EXTRA_FLAGS", "none"),
            ("GIT_SUBMODULE_STRATEGY", "recursive"),
            ("GIT_SUBMODULE_PATHS", "a :(exclude)b"),
            ("GIT_CHECKOUT", "False"),
            ("GET_SOURCES_ATTEMPTS", "99"),
            ("RESTORE_CACHE_ATTEMPTS", "0"),
            ("RUNNER_SCRIPT_TIMEOUT", "1h30m"),
            ("RUNNER_AFTER_SCRIPT_TIMEOUT", "10s"),
            ("AFTER_SCRIPT_IGNORE_ERRORS", "0"),
            ("CI_DEBUG_TRACE", "true"),
        ]);
        assert_eq!(complaints, [""; 0]);
        assert_eq!((settings.strategy, settings.submodules), (Strategy::Empty, Submodules::Recursive));
        assert_eq!(settings.clean_flags, ["-ffdx", "-e", "cache/"]);
        assert!(settings.fetch_flags.is_empty() && !settings.checks_out && !settings.ignores_after_script);
        assert_eq!((settings.source_tries, settings.cache_tries), (MAX_TRIES, 1));
        assert_eq!(settings.script_limit, Some(Duration::from_secs(5400)));
        assert_eq!(settings.after_script_limit, Duration::from_secs(10));
        assert_eq!(settings.submodule_paths, ["a", ":(exclude)b"]);
    }

    #[test]
    fn what_is_wrong_is_told_and_counts_as_not_set() {
        let (settings, complaints) = of(&[
            ("GIT_STRATEGY", "pull"),
            ("GIT_CHECKOUT", "yes"),
            ("GIT_SUBMODULE_DEPTH", "-1"),
            ("RUNNER_AFTER_SCRIPT_TIMEOUT", "4000000000000000h"),
            ("RUNNER_SCRIPT_TIMEOUT", "long"),
            ("ARTIFACT_COMPRESSION_LEVEL", "11"),
        ]);
        insta::assert_snapshot!(complaints.join("\n"), @"
        GIT_STRATEGY: expected `clone`, `fetch`, `none` or `empty`, and it is `pull`: the default is used
        GIT_CHECKOUT: expected `true` or `false`, and it is `yes`: the default is used
        GIT_SUBMODULE_DEPTH: expected a whole number, and it is `-1`: the default is used
        RUNNER_SCRIPT_TIMEOUT: expected a duration such as `90s` or `1h30m`, and it is `long`: the default is used
        RUNNER_AFTER_SCRIPT_TIMEOUT: expected a duration such as `90s` or `1h30m`, and it is `4000000000000000h`: the default is used
        ARTIFACT_COMPRESSION_LEVEL: expected `fastest`, `fast`, `default`, `slow` or `slowest`, and it is `11`: the default is used
        ");
        assert_eq!((settings.strategy, settings.checks_out, settings.script_limit), (Strategy::Fetch, true, None));
    }
}
