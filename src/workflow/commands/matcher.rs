//! Problem matchers: patterns by which lines of a program's output become annotations.
//!
//! A matcher of several patterns takes as many lines in a row; with `loop` the last pattern takes every further line that fits. The
//! patterns come from the repository, so they are only matched in time linear in the line.

use std::time::{Duration, Instant};

use regex::{Captures, Regex};

use super::annotation::{Annotation, Level, Said};
use super::matcher_file::{Field, Matcher, Pattern};

/// Matchers of a job.
const MAX_MATCHERS: usize = 32;

/// Bytes of a line that patterns look at: with the sizes of the patterns it bounds the time that a line can take.
const MAX_LINE: usize = 4 * 1024;

/// What looking at lines may take of a job's time together. Patterns of tools take microseconds for a line.
const MAX_SPENT: Duration = Duration::from_secs(20);

/// Bytes that a pattern may take to be quicker; beyond that it is as linear, and slower.
const MAX_CACHE: usize = 512 * 1024;

/// The matchers of one job, the newest first: the first that fits takes the line.
#[derive(Debug, Clone, Default)]
pub struct Matchers {
    running: Vec<Running>,
    spent: Duration,
}

#[derive(Debug, Clone)]
struct Running {
    matcher: Matcher,
    /// What the patterns but the last one have found, each with what those before it found.
    found: Vec<Option<Found>>,
}

/// What lines have told so far.
#[derive(Debug, Clone, Default)]
struct Found([Option<String>; Field::COUNT]);

impl Found {
    fn get(&self, field: Field) -> Option<&str> {
        self.0[field as usize].as_deref().filter(|text| !text.is_empty())
    }

    /// With what a pattern found in one more line; what was found first counts.
    fn and(mut self, pattern: &Pattern, captures: &Captures<'_>) -> Self {
        for (field, group) in &pattern.groups {
            let known = &mut self.0[*field as usize];
            if known.is_none() {
                *known = captures.get(*group).map(|part| part.as_str().to_owned());
            }
        }
        self
    }
}

impl Matchers {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Adds matchers; those with the same owner go.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn add(&mut self, matchers: Vec<Matcher>) -> Result<(), String> {
        self.remove(matchers.iter().map(|matcher| matcher.owner.as_str()));
        if self.running.len() + matchers.len() > MAX_MATCHERS {
            return Err(format!("a job has at most {MAX_MATCHERS} problem matchers"));
        }
        self.running.splice(0..0, matchers.into_iter().map(Running::new));
        Ok(())
    }

    /// Removes the matchers of these owners.
    pub(super) fn remove<'o>(&mut self, owners: impl Iterator<Item = &'o str>) {
        for owner in owners {
            self.running.retain(|running| !running.matcher.owner.eq_ignore_ascii_case(owner));
        }
    }

    /// Looks at a line without its end; gives what it tells.
    pub(super) fn take(&mut self, line: &str, workspace: &str) -> Option<Annotation> {
        if self.spent > MAX_SPENT && !self.running.is_empty() {
            self.running.clear();
            let why = format!("problem matchers took more than {} s, and were removed", MAX_SPENT.as_secs());
            return Some(Annotation::general(Level::Warning, &why));
        }
        let began = Instant::now();
        let annotation = self.look(line, workspace);
        self.spent += began.elapsed();
        annotation
    }

    fn look(&mut self, line: &str, workspace: &str) -> Option<Annotation> {
        let line = without_colours(&line[..line.floor_char_boundary(MAX_LINE)]);
        let (taker, annotation) = self.running.iter_mut().enumerate().find_map(|(index, running)| {
            let found = running.take(&line)?;
            Some((index, annotation(&found, running.matcher.severity.as_deref(), workspace)))
        })?;
        for (_, other) in self.running.iter_mut().enumerate().filter(|(index, _)| *index != taker) {
            other.found.fill(None);
        }
        annotation
    }
}

impl Running {
    fn new(matcher: Matcher) -> Self {
        let found = vec![None; matcher.patterns.len() - 1];
        Self { matcher, found }
    }

    /// What the lines up to this one have told, if it is the last of a match.
    fn take(&mut self, line: &str) -> Option<Found> {
        let last = self.matcher.patterns.len() - 1;
        // From behind, so that one line is not taken by two patterns in a row.
        for (index, pattern) in self.matcher.patterns.iter().enumerate().rev() {
            let before = match index {
                0 => Found::default(),
                _ => match &self.found[index - 1] {
                    Some(found) => found.clone(),
                    None => continue,
                },
            };
            let captures = pattern.regexp.captures(line);
            match captures {
                Some(captures) if index == last => {
                    let kept = pattern.repeats.then(|| before.clone());
                    self.found.fill(None);
                    if let (Some(place), true) = (last.checked_sub(1), kept.is_some()) {
                        self.found[place] = kept;
                    }
                    return Some(before.and(pattern, &captures));
                }
                Some(captures) => self.found[index] = Some(before.and(pattern, &captures)),
                None if index == last => {
                    if let Some(place) = last.checked_sub(1) {
                        self.found[place] = None;
                    }
                }
                None => self.found[index] = None,
            }
        }
        None
    }
}

/// `None` if what was found is no problem: without words, or of a severity that nobody knows.
fn annotation(found: &Found, severity: Option<&str>, workspace: &str) -> Option<Annotation> {
    let message = found.get(Field::Message).filter(|message| !message.trim().is_empty())?;
    let level = match found.get(Field::Severity).or(severity) {
        None => Level::Error,
        Some(name) => Level::named(name.trim())?,
    };
    let file = found.get(Field::File).map(|file| match found.get(Field::FromPath) {
        Some(from) if !file.starts_with('/') => match from.rsplit_once('/') {
            Some((directory, _)) => format!("{directory}/{file}"),
            None => file.to_owned(),
        },
        _ => file.to_owned(),
    });
    let said = Said {
        title: found.get(Field::Code),
        file: file.as_deref(),
        line: found.get(Field::Line),
        column: found.get(Field::Column),
        ..Said::default()
    };
    Some(Annotation::new(level, message, said, workspace))
}

/// Without the sequences that colour text.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("\u{1b}[") {
        plain.push_str(&rest[..at]);
        let sequence = &rest[at + 2..];
        let length = sequence.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
        rest = match sequence.as_bytes().get(length) {
            Some(b'm' | b'K') => &sequence[length + 1..],
            _ => &sequence[length..],
        };
    }
    plain.push_str(rest);
    plain
}

/// A pattern as it is written for the dialect, which is that of JavaScript: there some escapes and brackets mean
/// themselves that mean more here.
pub(super) fn compile(written: &str, limit: usize) -> Result<Regex, String> {
    let (mut pattern, mut is_in_set) = (String::with_capacity(written.len()), false);
    let mut letters = written.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some(plain @ ('<' | '>' | '/' | '"' | '\'' | '`' | '@' | '%' | ',' | ';' | '=' | '!' | ':' | '_')) => {
                    pattern.push(plain);
                }
                Some(escaped) => pattern.extend(['\\', escaped]),
                None => pattern.push('\\'),
            },
            '[' if is_in_set => pattern.push_str("\\["),
            '[' => {
                is_in_set = true;
                pattern.push('[');
                if letters.peek() == Some(&'^') {
                    pattern.extend(letters.next());
                }
            }
            ']' if is_in_set => {
                is_in_set = false;
                pattern.push(']');
            }
            '&' | '~' if is_in_set => pattern.extend(['\\', letter]),
            other => pattern.push(other),
        }
    }
    let built = regex::RegexBuilder::new(&pattern).size_limit(limit).dfa_size_limit(MAX_CACHE).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
        other => other.to_string().lines().last().unwrap_or_default().trim().to_owned(),
    })
}
