//! Which cache entries a run reads and which it writes: the rule by which no stranger's job fills a cache that others trust.
//!
//! An entry belongs to the ref of the run that saved it. A run reads its own ref's entries, then those of the branch that
//! its pull request goes to, then the default branch's; it writes its own only. Everything of a pull request, whatever event
//! it came by, belongs to its merge ref, which no branch reads. Pure.

/// What is known of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origin<'a> {
    /// The pull request that it is of, whatever its event.
    pub pull_request: Option<u64>,
    /// Its code is a stranger's.
    pub is_of_fork: bool,
    /// The full ref, such as `refs/heads/main`.
    pub git_ref: &'a str,
    /// The target branch, where there is one.
    pub base_ref: &'a str,
    pub default_branch: &'a str,
}

/// The refs whose entries a run uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scopes {
    /// In the order in which they are searched.
    pub read: Vec<String>,
    /// `None`: it writes nothing.
    pub write: Option<String>,
}

impl Scopes {
    /// The rule.
    pub fn of(origin: Origin<'_>) -> Self {
        let branch = |name: &str| match name {
            "" => None,
            full if full.starts_with("refs/") => Some(full.to_owned()),
            short => Some(format!("refs/heads/{short}")),
        };
        let own = match origin.pull_request {
            Some(number) => Some(format!("refs/pull/{number}/merge")),
            // A stranger's code without its pull request: nobody says where it belongs.
            None if origin.is_of_fork => None,
            None => branch(origin.git_ref),
        };
        let mut read = Vec::new();
        for scope in [own.clone(), branch(origin.base_ref), branch(origin.default_branch)].into_iter().flatten() {
            if !read.contains(&scope) {
                read.push(scope);
            }
        }
        Self { read, write: own }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scopes(origin: Origin<'_>) -> String {
        let Scopes { read, write } = Scopes::of(origin);
        format!("{} -> {}", read.join(" "), write.as_deref().unwrap_or("nothing"))
    }

    #[test]
    fn a_run_reads_its_own_its_base_and_the_default_and_writes_its_own() {
        let on = |git_ref| Origin { git_ref, default_branch: "main", ..Origin::default() };
        assert_eq!(scopes(on("refs/heads/main")), "refs/heads/main -> refs/heads/main");
        assert_eq!(scopes(on("refs/heads/a/b")), "refs/heads/a/b refs/heads/main -> refs/heads/a/b");
        assert_eq!(scopes(on("refs/tags/v1")), "refs/tags/v1 refs/heads/main -> refs/tags/v1");
        let pull = Origin { pull_request: Some(7), base_ref: "release", ..on("refs/pull/7/head") };
        let expected = "refs/pull/7/merge refs/heads/release refs/heads/main -> refs/pull/7/merge";
        assert_eq!(scopes(pull), expected);
        assert_eq!(scopes(Origin { is_of_fork: true, ..pull }), expected);
        // An event of the pull request that runs on the base branch's ref.
        let target = Origin { git_ref: "refs/heads/release", ..pull };
        assert_eq!(scopes(target), expected);
        assert_eq!(scopes(Origin { is_of_fork: true, ..on("refs/heads/main") }), "refs/heads/main -> nothing");
        assert_eq!(scopes(Origin::default()), " -> nothing");
    }

    proptest! {
        #[test]
        fn nothing_of_a_pull_request_is_written_where_a_branch_reads(
            number in any::<u64>(), is_of_fork in any::<bool>(), git_ref in "(refs/heads/)?[a-z/0-9]{0,12}",
            base in "[a-z]{0,6}", other in "[a-z/0-9]{1,12}", default in "[a-z]{0,6}"
        ) {
            let of_pull = Scopes::of(Origin {
                pull_request: Some(number), is_of_fork, git_ref: &git_ref, base_ref: &base, default_branch: &default,
            });
            let of_branch = Scopes::of(Origin {
                git_ref: &format!("refs/heads/{other}"), default_branch: &default, ..Origin::default()
            });
            prop_assert!(of_pull.write.is_some_and(|written| !of_branch.read.contains(&written)));
        }
    }
}
