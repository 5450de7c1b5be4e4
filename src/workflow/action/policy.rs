//! Which actions and workflows of other repositories jobs may use.

use serde::{Deserialize, Serialize};

use super::RemoteAction;

/// What the operator allows. The usual policy allows everything, as GitHub's does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionPolicy {
    pub allowed: Vec<ActionPattern>,
    /// Patterns of workflows; `None`: those of actions count for them too, as on GitHub.
    #[serde(default)]
    pub allowed_workflows: Option<Vec<ActionPattern>>,
    /// Whether only full commit ids are versions of actions. Workflows may have others, as on GitHub.
    pub require_sha_pins: bool,
}

/// `owner/*`, `owner/name`, `owner/name@v1` or `owner/name/path@*`, after `!` for what is not allowed. `*` stands for any
/// letters; a pattern without `@` means every version, and one that ends with a repository every action in it. Names are
/// compared without regard to case, versions with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionPattern {
    text: String,
    is_negative: bool,
    name: String,
    version: String,
}

impl Default for ActionPolicy {
    fn default() -> Self {
        let all = ActionPattern::parse("*").expect("it is a pattern");
        Self { allowed: vec![all], allowed_workflows: None, require_sha_pins: false }
    }
}

impl ActionPolicy {
    /// Whether a job may use the action; the error says why not, for people.
    pub fn check(&self, action: &RemoteAction) -> Result<(), String> {
        check(&self.allowed, action, "allowed")?;
        if self.require_sha_pins && !action.is_pinned() {
            return Err(format!(
                "the action `{action}` is not pinned to a commit\n  hint: write the full commit id behind the `@`, and the \
                 version into a comment"
            ));
        }
        Ok(())
    }

    /// Whether a run may call the workflow of another repository; the error says why not, for people.
    pub fn check_workflow(&self, workflow: &RemoteAction) -> Result<(), String> {
        match &self.allowed_workflows {
            Some(patterns) => check(patterns, workflow, "allowed_workflows"),
            None => check(&self.allowed, workflow, "allowed"),
        }
    }
}

fn check(patterns: &[ActionPattern], wanted: &RemoteAction, key: &str) -> Result<(), String> {
    let matching = |negative: bool| {
        patterns.iter().find(move |pattern| pattern.is_negative == negative && pattern.matches(wanted))
    };
    let (noun, ask) = (wanted.noun(), format!("hint: whoever runs this service lists them in `[actions] {key}`"));
    if let Some(pattern) = matching(true) {
        return Err(format!("the {noun} `{wanted}` is not allowed here: `{}`\n  {ask}", pattern.text));
    }
    match matching(false) {
        Some(_) => Ok(()),
        None => Err(format!("the {noun} `{wanted}` is not among those that are allowed here\n  {ask}")),
    }
}

impl ActionPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What can match nothing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (is_negative, pattern) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (name, version) = pattern.split_once('@').unwrap_or((pattern, "*"));
        let has_owner = name.contains('/') || name == "*";
        if !has_owner || version.is_empty() || name.starts_with('/') || pattern.chars().any(char::is_whitespace) {
            return Err(format!(
                "`{text}` is no pattern of actions\n  hint: write `owner/*`, `owner/name` or `owner/name@version`, with `!` \
                 before what is not allowed"
            ));
        }
        let (name, version) = (name.trim_end_matches('/').to_ascii_lowercase(), version.to_owned());
        Ok(Self { text: text.to_owned(), is_negative, name, version })
    }

    fn matches(&self, action: &RemoteAction) -> bool {
        let (repo, name) = (action.repo.as_str().to_ascii_lowercase(), action.name().to_ascii_lowercase());
        let is_named = matches_wildcard(&self.name, &name) || matches_wildcard(&self.name, &repo);
        is_named && matches_wildcard(&self.version, &action.version)
    }
}

/// `*` stands for any letters, also none. Takes at most the product of the lengths.
fn matches_wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut in_text) = (0, 0);
    // Where the last `*` is, and how much of the text it stands for.
    let mut star: Option<(usize, usize)> = None;
    while in_text < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, in_text));
            at += 1;
        } else if pattern.get(at) == Some(&text[in_text]) {
            (at, in_text) = (at + 1, in_text + 1);
        } else if let Some((of_star, taken)) = star {
            star = Some((of_star, taken + 1));
            (at, in_text) = (of_star + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::ActionRef;
    use super::*;

    fn check(allowed: &[&str], pins: bool, action: &str) -> Result<(), String> {
        let allowed = allowed.iter().map(|text| ActionPattern::parse(text).unwrap()).collect();
        let action = ActionRef::parse(action).unwrap();
        ActionPolicy { allowed, require_sha_pins: pins, ..ActionPolicy::default() }.check(action.remote().unwrap())
    }

    #[test]
    fn patterns_allow_what_they_name() {
        for (allowed, action, expected) in [
            (&["*"][..], "a/b@v1", true),
            (&[], "a/b@v1", false),
            (&["actions/*"], "actions/cache@v4", true),
            (&["actions/*"], "Actions/Cache/restore@v4", true),
            (&["actions/*"], "actions-evil/cache@v4", false),
            (&["acme/tool"], "acme/tool@main", true),
            (&["acme/tool"], "acme/tool/sub@main", true),
            (&["acme/tool"], "acme/toolbox@main", false),
            (&["acme/tool@v1"], "acme/tool@v1", true),
            (&["acme/tool@v1"], "acme/tool@V1", false),
            (&["acme/tool@v1.*"], "acme/tool@v1.2", true),
            (&["acme/tool/sub@*"], "acme/tool@v1", false),
            (&["*", "!acme/*"], "acme/tool@v1", false),
            (&["!acme/*", "*"], "acme/tool@v1", false),
            (&["*/*"], "a/b/c@v1", true),
            (&["a/*b*c@*"], "a/xbxbyc@v1", true),
        ] {
            assert_eq!(check(allowed, false, action).is_ok(), expected, "{allowed:?} {action}");
        }
        for pattern in ["", "acme", "acme/x@", "/x", "a b/c", "!"] {
            assert!(ActionPattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn workflows_have_the_patterns_of_actions_unless_they_have_their_own() {
        let check = |allowed: &[&str], own: Option<&[&str]>, workflow: &str| {
            let patterns = |texts: &[&str]| texts.iter().map(|text| ActionPattern::parse(text).unwrap()).collect();
            let workflow = ActionRef::parse(workflow).unwrap();
            let allowed_workflows = own.map(patterns);
            ActionPolicy { allowed: patterns(allowed), allowed_workflows, require_sha_pins: true }
                .check_workflow(workflow.remote().unwrap())
        };
        let workflow = "acme/ci/.github/workflows/build.yml@v1";
        assert_eq!(check(&["*"], None, workflow), Ok(()), "versions of workflows need not be commits");
        assert_eq!(check(&["acme/ci"], None, workflow), Ok(()));
        assert_eq!(check(&[], Some(&["acme/ci/.github/workflows/build.yml@v*"]), workflow), Ok(()));
        assert!(check(&["*"], Some(&["*", "!acme/ci@v1"]), workflow).is_err());
        insta::assert_snapshot!(check(&["*"], Some(&[]), workflow).unwrap_err(), @"
        the workflow `acme/ci/.github/workflows/build.yml@v1` is not among those that are allowed here
          hint: whoever runs this service lists them in `[actions] allowed_workflows`
        ");
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        insta::assert_snapshot!(check(&["actions/*"], false, "acme/tool@v1").unwrap_err(), @"
        the action `acme/tool@v1` is not among those that are allowed here
          hint: whoever runs this service lists them in `[actions] allowed`
        ");
        insta::assert_snapshot!(check(&["*"], true, "acme/tool@v1").unwrap_err(), @"
        the action `acme/tool@v1` is not pinned to a commit
          hint: write the full commit id behind the `@`, and the version into a comment
        ");
        assert!(check(&["*"], true, "acme/tool@0123456789012345678901234567890123456789").is_ok());
    }
}
