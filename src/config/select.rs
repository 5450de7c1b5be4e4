//! Which profile a job gets: labels that match nothing must say so, and say what was meant.

use std::collections::BTreeSet;
use std::fmt;

use super::{Config, Profile, RepositorySettings};
use crate::document::reader::{nearest, quoted};

/// Every runner here is one's own, so every profile answers to this label.
const IMPLIED: &str = "self-hosted";

/// Labels that a message lists; a job's labels come from a stranger.
const MAX_LISTED: usize = 8;

/// The labels as they are compared: without regard to case, order, repetition and what is implied.
pub(super) fn label_set<'l>(labels: impl IntoIterator<Item = &'l String>) -> BTreeSet<String> {
    labels.into_iter().map(|label| label.to_lowercase()).filter(|label| label != IMPLIED).collect()
}

impl Config {
    /// The profile whose labels include all of `labels`. Of several the narrowest (fewest labels) wins, then the first of
    /// the file.
    pub fn select_profile(&self, labels: &[String]) -> Result<&Profile, NoProfile> {
        select(self.profiles.iter().filter(|profile| profile.executor.is_native()), labels)
    }

    /// Like [`Config::select_profile`], among the profiles that `settings` allows.
    pub fn select_profile_for(
        &self, settings: &RepositorySettings<'_>, labels: &[String],
    ) -> Result<&Profile, NoProfile> {
        select(self.profiles.iter().filter(|profile| profile.executor.is_native() && settings.allows(profile)), labels)
    }
}

fn select<'c>(
    profiles: impl Iterator<Item = &'c Profile> + Clone, labels: &[String],
) -> Result<&'c Profile, NoProfile> {
    let wanted = label_set(labels);
    let fitting = profiles.clone().filter(|profile| label_set(&profile.labels).is_superset(&wanted));
    // Of equally narrow ones `min_by_key` takes the first.
    fitting.min_by_key(|profile| label_set(&profile.labels).len()).ok_or_else(|| no_profile(profiles, labels, &wanted))
}

fn no_profile<'c>(
    profiles: impl Iterator<Item = &'c Profile> + Clone, labels: &[String], wanted: &BTreeSet<String>,
) -> NoProfile {
    let lacking_of = |profile: &Profile| -> Vec<String> {
        let offered = label_set(&profile.labels);
        wanted.iter().filter(|label| !offered.contains(*label)).cloned().collect()
    };
    let nearest_profile = profiles
        .clone()
        .map(|profile| Nearest { profile: profile.name.clone(), lacks: lacking_of(profile) })
        .min_by_key(|candidate| candidate.lacks.len());
    let offered: BTreeSet<String> = profiles.flat_map(|profile| label_set(&profile.labels)).collect();
    let unknown = wanted.iter().find(|label| !offered.contains(*label));
    let suggestion = unknown.and_then(|label| nearest(label, offered.iter().map(String::as_str))).map(str::to_owned);
    NoProfile { labels: labels.to_vec(), nearest: nearest_profile, suggestion, offered: offered.into_iter().collect() }
}

/// No profile has all the labels of a job. Its text is for the author of the workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoProfile {
    /// The labels of the job, as written.
    pub labels: Vec<String>,
    /// The profile that lacks the fewest of them; `None` if the repository may have none at all.
    pub nearest: Option<Nearest>,
    /// The label that was probably meant.
    pub suggestion: Option<String>,
    /// All labels that the repository's jobs may ask for.
    pub offered: Vec<String>,
}

/// A profile that almost fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest {
    pub profile: String,
    pub lacks: Vec<String>,
}

impl fmt::Display for NoProfile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: usize| if count == 1 { "label" } else { "labels" };
        write!(out, "no runner has the {} {}", plural(self.labels.len()), listed(&self.labels))?;
        match &self.nearest {
            Some(Nearest { profile, lacks }) => {
                write!(out, "; the nearest, {}, lacks {}", quoted(profile), listed(lacks))?
            }
            None => write!(out, "; this repository may use none")?,
        }
        match &self.suggestion {
            Some(meant) => write!(out, "\n  hint: did you mean {}?", quoted(meant)),
            None if self.offered.is_empty() => Ok(()),
            None => write!(out, "\n  hint: `runs-on` may name {}", listed(&self.offered)),
        }
    }
}

impl std::error::Error for NoProfile {}

fn listed(labels: &[String]) -> String {
    let mut shown: Vec<String> = labels.iter().take(MAX_LISTED).map(|label| quoted(label)).collect();
    if labels.len() > MAX_LISTED {
        shown.push(format!("and {} more", labels.len() - MAX_LISTED));
    }
    shown.join(", ")
}
