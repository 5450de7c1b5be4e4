//! Which cache a person means. Pure.

use std::collections::BTreeMap;

use crate::caches::CacheId;
use crate::document::reader::{nearest, quoted};

/// Caches that a complaint lists.
const MAX_LISTED: usize = 8;

/// The one cache whose name is `wanted`, or ends with it at the beginning of a part.
pub(super) fn chosen<'c>(caches: &[&'c CacheId], wanted: &str) -> Result<&'c CacheId, String> {
    let named: BTreeMap<String, &'c CacheId> = caches.iter().map(|&id| (id.to_string(), id)).collect();
    if let Some(exact) = named.get(wanted) {
        return Ok(exact);
    }
    let meant: Vec<(&String, &'c CacheId)> =
        named.iter().filter(|(name, _)| ends_with_parts(name, wanted)).map(|(name, id)| (name, *id)).collect();
    match meant.as_slice() {
        [(_, id)] => Ok(id),
        [] => Err(unknown(&named, wanted)),
        several => {
            let names: Vec<&str> = several.iter().take(MAX_LISTED).map(|(name, _)| name.as_str()).collect();
            Err(format!("{} may be each of {}\n  hint: name more of it", quoted(wanted), names.join(", ")))
        }
    }
}

fn ends_with_parts(name: &str, wanted: &str) -> bool {
    name.strip_suffix(wanted).is_some_and(|rest| !wanted.is_empty() && rest.ends_with(['/', ':']))
}

fn unknown(named: &BTreeMap<String, &CacheId>, wanted: &str) -> String {
    let similar = nearest(wanted, named.keys().map(String::as_str));
    let hint = match similar {
        Some(name) => format!("did you mean {}?", quoted(name)),
        None => "`dayfly cache list` shows what there is".to_owned(),
    };
    format!("there is no cache {}\n  hint: {hint}", quoted(wanted))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::forge::RepoName;

    #[test]
    fn a_cache_is_named_by_any_end_that_no_other_has() {
        let id = |repo: &str, name| CacheId::new("forge", &RepoName::parse(repo).unwrap(), "linux", name);
        let (site, site_tools, docs) = (id("acme/site", "deps"), id("acme/site", "tools"), id("acme/docs", "deps"));
        // One name for each generation.
        let all = [&site, &site, &site_tools, &docs];
        let told = |wanted: &str| chosen(&all, wanted).map(ToString::to_string).unwrap_or_else(|complaint| complaint);
        insta::assert_snapshot!(told("tools"), @"forge/acme/site:linux/tools");
        insta::assert_snapshot!(told("docs:linux/deps"), @"forge/acme/docs:linux/deps");
        insta::assert_snapshot!(told("forge/acme/site:linux/deps"), @"forge/acme/site:linux/deps");
        insta::assert_snapshot!(told("deps"), @r"
        `deps` may be each of forge/acme/docs:linux/deps, forge/acme/site:linux/deps
          hint: name more of it
        ");
        insta::assert_snapshot!(told("eps"), @r"
        there is no cache `eps`
          hint: `dayfly cache list` shows what there is
        ");
        insta::assert_snapshot!(told(""), @r"
        there is no cache ``
          hint: `dayfly cache list` shows what there is
        ");
    }
}
