//! Which commit of which repository a checkout is of.
//!
//! A `ref` that names what the event was about, in whichever way, means the commit that the event pinned: a branch may have moved
//! since, and for the code of a fork it may be somebody else's. What names anything else is looked up when the step runs, as its
//! author asks for, and the log says which commit it was.

use std::sync::Arc;

use super::JobRun;
use super::step_plan::{CheckoutPlan, Sparse, Wanted};
use crate::forge::RepoName;
use crate::workflow::contexts::GithubContext;
use crate::workflow::expression::{Environment, ExpressionError, Template};
use crate::workflow::model::{Checkout, Submodules};

/// Longest name of a branch or tag, in bytes.
const MAX_REFERENCE: usize = 255;

/// Patterns of a sparse checkout.
const MAX_PATTERNS: usize = 1000;

/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 4096;

impl JobRun {
    pub(super) fn checkout(
        &self, checkout: &Checkout, environment: &Environment<'_>,
    ) -> Result<CheckoutPlan, ExpressionError> {
        let text = |template: &Option<Template>| match template {
            Some(template) => template.evaluate_text(environment),
            None => Ok(String::new()),
        };
        let path = text(&checkout.path)?;
        // As the action has it: an input that is empty has its default, and what is not `true` is not.
        let flag = |template: &Option<Template>, default: bool| -> Result<bool, ExpressionError> {
            let text = text(template)?;
            Ok(if text.trim().is_empty() { default } else { text.trim().eq_ignore_ascii_case("true") })
        };
        let (repository, wanted) =
            source(&self.place.github, text(&checkout.repository)?.trim(), text(&checkout.reference)?.trim())
                .map_err(ExpressionError::evaluation)?;
        let cone = flag(&checkout.sparse_cone, true)?;
        Ok(CheckoutPlan {
            repository,
            wanted,
            filter: filter(text(&checkout.filter)?.trim()).map_err(ExpressionError::evaluation)?,
            sparse: sparse(&text(&checkout.sparse)?, cone).map_err(ExpressionError::evaluation)?,
            directory: self.directory(&path)?,
            fetch_depth: depth(text(&checkout.fetch_depth)?.trim()),
            fetch_tags: flag(&checkout.fetch_tags, false)?,
            clean: flag(&checkout.clean, true)?,
            submodules: submodules(text(&checkout.submodules)?.trim()),
            lfs: flag(&checkout.lfs, false)?,
        })
    }

    /// The directory that `path` names: the workspace or one below it.
    fn directory(&self, path: &str) -> Result<String, ExpressionError> {
        let mut parts: Vec<&str> = Vec::new();
        let absolute = self.absolute(path)?;
        for part in absolute.split('/').filter(|part| !matches!(*part, "" | ".")) {
            match part {
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let directory = format!("/{}", parts.join("/"));
        let is_within =
            |root: &str| directory.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_within(&self.place.github.workspace) {
            return Ok(directory);
        }
        Err(ExpressionError::evaluation(format!("the checkout's path `{path}` leaves the workspace")))
    }
}

/// Commits of history: what is no number is all of it, as for the action.
fn depth(text: &str) -> u32 {
    if text.is_empty() { 1 } else { text.parse().unwrap_or(0) }
}

fn submodules(text: &str) -> Submodules {
    match text.to_ascii_lowercase().as_str() {
        "recursive" => Submodules::Recursive,
        // The latter is how earlier versions stored it.
        "true" | "direct" => Submodules::Direct,
        _ => Submodules::None,
    }
}

/// The repository, unless it is the job's own, and the commit.
fn source(github: &GithubContext, repository: &str, reference: &str) -> Result<(Option<RepoName>, Wanted), String> {
    let text = |path: &[&str]| path.iter().fold(github.event.clone(), |value, name| value.member(name)).to_text();
    let own: [Arc<str>; 2] = [github.repository.as_str().into(), text(&["pull_request", "head", "repo", "full_name"])];
    let is_own = repository.is_empty() || own.iter().any(|own| own.eq_ignore_ascii_case(repository));
    let other = if is_own { None } else { Some(RepoName::parse_path(repository)?) };
    if !reference.is_empty() {
        check(reference)?;
    }
    let pinned: [Arc<str>; 8] = [
        github.sha.as_str().into(),
        github.git_ref.as_str().into(),
        github.ref_name.as_str().into(),
        github.head_ref.as_str().into(),
        format!("refs/heads/{}", github.head_ref).into(),
        text(&["pull_request", "head", "sha"]),
        text(&["pull_request", "head", "ref"]),
        text(&["after"]),
    ];
    let is_pinned = other.is_none() && (reference.is_empty() || pinned.iter().any(|known| **known == *reference));
    Ok((other, if is_pinned { Wanted::Pinned } else { Wanted::Named(reference.to_owned()) }))
}

/// Git's rules for names, as far as they keep a name from being read as anything else.
fn check(reference: &str) -> Result<(), String> {
    let is_plain = |c: char| !c.is_control() && !" ~^:?*[\\".contains(c);
    let is_name = reference.len() <= MAX_REFERENCE
        && !reference.starts_with(['-', '/', '.'])
        && !reference.contains("..")
        && !reference.contains("@{")
        && reference.chars().all(is_plain);
    if is_name { Ok(()) } else { Err(format!("`{reference}` is not the name of a branch, a tag or a commit")) }
}

fn filter(text: &str) -> Result<Option<String>, String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b":=%+./_-".contains(&b);
    match text {
        "" => Ok(None),
        _ if text.len() <= MAX_REFERENCE && text.bytes().all(is_plain) && !text.starts_with("sparse:") => {
            Ok(Some(text.to_owned()))
        }
        _ => Err(format!("`{text}` is not a filter of git, such as `blob:none`")),
    }
}

fn sparse(text: &str, cone: bool) -> Result<Option<Sparse>, String> {
    let patterns: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if patterns.is_empty() {
        return Ok(None);
    }
    if patterns.len() > MAX_PATTERNS || patterns.iter().any(|pattern| pattern.len() > MAX_PATTERN) {
        return Err(format!("a sparse checkout has at most {MAX_PATTERNS} patterns of {MAX_PATTERN} bytes each"));
    }
    Ok(Some(Sparse { patterns, cone }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn github() -> GithubContext {
        GithubContext {
            repository: "acme/site".into(),
            sha: "a1".repeat(20),
            git_ref: "refs/pull/7/merge".into(),
            ref_name: "7/merge".into(),
            head_ref: "fix".into(),
            event: json!({ "pull_request": { "head": {
                "sha": "a1".repeat(20), "ref": "fix", "repo": { "full_name": "stranger/site" } } } })
            .into(),
            ..GithubContext::default()
        }
    }

    #[test]
    fn what_names_the_event_is_the_pinned_commit_and_nothing_else_is() {
        let shown = |repository: &str, reference: &str| match source(&github(), repository, reference) {
            Ok((repository, wanted)) => {
                let repository = repository.map_or("own".to_owned(), |name| name.to_string());
                match wanted {
                    Wanted::Pinned => format!("{repository}, pinned"),
                    Wanted::Named(name) => format!("{repository}, `{name}`"),
                }
            }
            Err(why) => why,
        };
        let sha = "a1".repeat(20);
        for reference in ["", "fix", "refs/heads/fix", "refs/pull/7/merge", "7/merge", &sha] {
            assert_eq!(shown("", reference), "own, pinned", "{reference}");
            assert_eq!(shown("Acme/Site", reference), "own, pinned", "{reference}");
            assert_eq!(shown("stranger/site", reference), "own, pinned", "{reference}");
        }
        assert_eq!(shown("", "main"), "own, `main`");
        assert_eq!(shown("other/tools", ""), "other/tools, ``");
        assert_eq!(shown("other/tools", "fix"), "other/tools, `fix`", "a branch of that repository");
        assert_eq!(shown("../x", ""), "`../x` is not a project's `group/name`");
        for bad in ["--upload-pack=x", "a b", "a:b", "a..b", "x*", "@{1}a@{", "a\nb"] {
            assert!(shown("", bad).ends_with("is not the name of a branch, a tag or a commit"), "{bad}");
        }
    }

    #[test]
    fn inputs_that_an_earlier_version_stored_are_read() {
        let stored = json!({
            "uses": "actions/checkout@v4", "path": null, "fetch_depth": {"fixed": 0}, "fetch_tags": {"fixed": false},
            "clean": {"computed": "github.event.clean"}, "submodules": "direct", "lfs": {"fixed": true},
        });
        let checkout: Checkout = serde_json::from_value(stored).unwrap();
        let source = |input: &Option<Template>| input.as_ref().unwrap().source().to_owned();
        assert_eq!(source(&checkout.clean), "${{ github.event.clean }}");
        assert_eq!((depth(&source(&checkout.fetch_depth)), source(&checkout.lfs).as_str()), (0, "true"));
        assert_eq!(submodules(&source(&checkout.submodules)), Submodules::Direct);
        let again: Checkout = serde_json::from_value(serde_json::to_value(&checkout).unwrap()).unwrap();
        assert_eq!(again, checkout);
    }

    #[test]
    fn patterns_are_lines_and_filters_are_gits() {
        assert_eq!(sparse(" \n\n", true).unwrap(), None);
        let some = sparse("src \r\n docs\n", false).unwrap().unwrap();
        assert_eq!((some.patterns, some.cone), (vec!["src".to_owned(), "docs".to_owned()], false));
        assert!(sparse(&"x\n".repeat(1001), true).is_err());
        assert_eq!(filter("").unwrap(), None);
        assert_eq!(filter("blob:none").unwrap().unwrap(), "blob:none");
        assert!(filter("blob:none --upload-pack=x").is_err() && filter("sparse:oid=main:x").is_err());
    }
}
