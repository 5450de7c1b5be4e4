//! What a default branch's commit asks to be prepared: its own file and the profiles say it, nothing else does.

use std::collections::BTreeMap;

use super::contents::Unknown;
use super::key::{Base, NoKey, hash};
use super::{End, Trouble};
use crate::config::prepare::{no_such_profile, read_repository_file, repository_path};
use crate::config::{Prepare, Profile, RepositorySettings};
use crate::core::{Core, heavy};
use crate::document::Diagnostic;
use crate::forge::ForgeError;
use crate::image::Logged;
use crate::job::driver::shape_of;
use crate::store::{Findings, NewUpkeep, Upkeep, UpkeepKey, UpkeepKind};

/// Largest file in which a repository says what to prepare, in bytes.
const MAX_FILE: usize = 128 << 10;

/// Complaints that are kept of one file.
const MAX_COMPLAINTS: usize = 5;

/// What is to be prepared with which profile.
struct Asked<'c> {
    kind: UpkeepKind,
    profile: &'c Profile,
    recipe: Prepare,
    /// The repository asks for it itself, and wants to know why it cannot be had.
    is_own: bool,
}

/// What is known so far.
#[derive(Debug, Default, PartialEq)]
struct Found {
    wishes: Vec<NewUpkeep>,
    unknown: Vec<(UpkeepKind, String)>,
    problems: Vec<String>,
}

impl Found {
    /// Takes what was found out of one thing. What is wrong with it keeps nothing else from being made.
    ///
    /// # Errors
    /// When nothing can be found out of the others either.
    fn take(&mut self, asked: &Asked<'_>, wished: Result<NewUpkeep, Trouble>) -> Result<(), Trouble> {
        let profile = &asked.profile.name;
        match wished {
            Ok(wish) => self.wishes.push(wish),
            // The profile's recipe is for those repositories that have such files.
            Err(Trouble::NoKey(NoKey::NoFile(_))) if !asked.is_own => {}
            Err(Trouble::NoKey(why)) => self.problems.push(format!("nothing is prepared for `{profile}`: {why}")),
            // The image is followed until there is one.
            Err(Trouble::Image(why)) => {
                self.unknown.push((asked.kind, profile.clone()));
                self.problems.push(format!("nothing can be prepared for `{profile}` until its image is made: {why}"));
            }
            Err(trouble) => return Err(trouble),
        }
        Ok(())
    }
}

/// Finds out, and stores it.
pub(super) async fn look(core: &Core, look: &Upkeep) -> Result<End, Trouble> {
    let mut found = Found::default();
    core.kept.bakes.forget(&look.key);
    if let Some(settings) = core.config.repository(&look.key.forge, &look.key.repo) {
        let mut all = fills(core, look, &settings);
        if core.config.prepared.max_size > 0 {
            all.extend(preparations(core, look, &settings, &mut found.problems).await?);
        }
        for asked in all {
            found.take(&asked, wish(core, look, &asked).await)?;
        }
    }
    let Found { wishes, unknown, problems } = found;
    let detail = problems.join("\n");
    if !detail.is_empty() {
        tracing::warn!(repo = %look.key.repo, sha = %look.sha, problems = detail, "not all can be prepared");
    }
    core.store.finish_look(look, Findings { wishes, unknown, detail }, crate::clock::now_ms()).await?;
    Ok(End::Stored)
}

/// The caches that the repository fills.
fn fills<'c>(core: &'c Core, look: &Upkeep, settings: &RepositorySettings<'_>) -> Vec<Asked<'c>> {
    let fill = |profile: &'c Profile| {
        let (_, named) = core.config.cache_filled_by(&look.key.forge, &look.key.repo, profile)?;
        Some(Asked { kind: UpkeepKind::Fill, profile, recipe: named.fill.clone(), is_own: false })
    };
    core.config.profiles.iter().filter(|profile| settings.allows(profile)).filter_map(fill).collect()
}

/// Snapshots by profile; what the repository says itself wins over what the operator says for all.
async fn preparations<'c>(
    core: &'c Core, look: &Upkeep, settings: &RepositorySettings<'_>, problems: &mut Vec<String>,
) -> Result<Vec<Asked<'c>>, Trouble> {
    let mut asked = BTreeMap::new();
    let allowed: Vec<&Profile> = core.config.profiles.iter().filter(|profile| settings.allows(profile)).collect();
    for profile in &allowed {
        if let Some(recipe) = profile.prepare.clone() {
            asked.insert(profile.name.as_str(), Asked { kind: UpkeepKind::Prepare, profile, recipe, is_own: false });
        }
    }
    let file = repository_path(settings.workflows_dir);
    let Some(text) = read_own(core, look, &file).await? else { return Ok(asked.into_values().collect()) };
    let own = String::from_utf8(text).map_err(|_| vec![]);
    match own.and_then(|text| heavy(|| read_repository_file(&file, &text))) {
        Ok(own) => {
            for name in &own.profiles {
                match allowed.iter().find(|profile| profile.name == *name) {
                    Some(profile) => {
                        let recipe = own.prepare.clone();
                        let own = Asked { kind: UpkeepKind::Prepare, profile, recipe, is_own: true };
                        asked.insert(profile.name.as_str(), own);
                    }
                    None => {
                        let known: Vec<&str> = allowed.iter().map(|profile| profile.name.as_str()).collect();
                        problems.push(no_such_profile(&file, name, &known).to_string());
                    }
                }
            }
        }
        Err(complaints) if complaints.is_empty() => problems.push(format!("{file}: this is not UTF-8 text")),
        Err(complaints) => problems.extend(complaints.iter().take(MAX_COMPLAINTS).map(Diagnostic::to_string)),
    }
    Ok(asked.into_values().collect())
}

/// The repository's own file, if it has one. "Not found" is believed only of a commit that can be read.
async fn read_own(core: &Core, look: &Upkeep, file: &str) -> Result<Option<Vec<u8>>, Trouble> {
    let forge = core.forges.of(&look.key.forge)?;
    match forge.read_file(&look.access, file, &look.sha, MAX_FILE).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(ForgeError::NotFound { what }) => match forge.has_commit(&look.access, &look.sha).await? {
            true => Ok(None),
            false => Err(Trouble::Forge(ForgeError::NotFound { what })),
        },
        Err(error) => Err(error.into()),
    }
}

async fn wish(core: &Core, look: &Upkeep, asked: &Asked<'_>) -> Result<NewUpkeep, Trouble> {
    let Asked { kind, profile, recipe, .. } = asked;
    let forge = core.forges.of(&look.key.forge)?;
    let contents = match core.kept.contents.contents(&**forge, &look.access, &look.sha, recipe).await {
        Ok(contents) => contents,
        Err(Unknown::NoKey(why)) => return Err(why.into()),
        Err(Unknown::Forge(error)) => return Err(error.into()),
        Err(Unknown::TimedOut) => return Err(Trouble::Again(Unknown::TimedOut.to_string())),
    };
    let hash = |bake: &str| {
        let UpkeepKey { forge, repo, .. } = &look.key;
        hash(&Base { kind: *kind, forge, repo, profile: &profile.name, bake }, recipe, &contents)
    };
    let (hash, is_made) = match kind {
        UpkeepKind::Fill => {
            let hash = hash("")?;
            let is_made = is_filled(core, look, profile, &hash)?;
            (hash, is_made)
        }
        UpkeepKind::Prepare | UpkeepKind::Look => {
            let key = UpkeepKey { kind: *kind, profile: profile.name.clone(), ..look.key.clone() };
            core.kept.bakes.await_first(key.clone());
            let image = core.engine.prepare(&profile.image, shape_of(profile), &Logged).await?;
            core.kept.bakes.note(key, &image.bake.key);
            let hash = hash(&image.bake.key)?;
            let is_made = core.kept.usable(core, &hash).await.is_some();
            (hash, is_made)
        }
    };
    Ok(NewUpkeep { kind: *kind, profile: profile.name.clone(), hash, recipe: recipe.clone(), is_made })
}

/// Whether the newest generation of the cache that the repository fills is of that key.
fn is_filled(core: &Core, look: &Upkeep, profile: &Profile, hash: &str) -> Result<bool, Trouble> {
    let Some((cache, _)) = core.config.cache_filled_by(&look.key.forge, &look.key.repo, profile) else {
        return Ok(false);
    };
    Ok(core.engine.caches().generations(&cache)?.last().is_some_and(|newest| newest.info.key == hash))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::forge::RepoName;
    use crate::image::ImageError;

    #[test]
    fn what_is_wrong_with_one_profile_is_said_and_leaves_the_others_alone() {
        let text = "[server]\npublic_url = 'https://ci.example.org'\n[github]\nwebhook_secret = { env = 'HOOK' }\n\
                    token = { env = 'TOKEN' }\n[profile.big]\nlabels = ['big']\n[profile.linux]\nlabels = ['linux']\n";
        let config = Config::parse("dayfly.toml", text).unwrap().0;
        let recipe = Prepare { key: vec!["a.lock".into()], run: "make deps".into() };
        let asked = |profile: &str| Asked {
            kind: UpkeepKind::Prepare,
            profile: config.profile(profile).unwrap(),
            recipe: recipe.clone(),
            is_own: false,
        };
        let wish = NewUpkeep {
            kind: UpkeepKind::Prepare,
            profile: "linux".into(),
            hash: "one".into(),
            recipe: recipe.clone(),
            is_made: false,
        };
        let mut found = Found::default();
        let no_image = ImageError::Unusable("the image `big` could not be built".into());
        found.take(&asked("big"), Err(no_image.into())).unwrap();
        found.take(&asked("linux"), Ok(wish.clone())).unwrap();
        found.take(&asked("big"), Err(NoKey::NoFile("a.lock".into()).into())).unwrap();
        let problem = "nothing can be prepared for `big` until its image is made: the image `big` could not be built";
        let expected = Found {
            wishes: vec![wish],
            unknown: vec![(UpkeepKind::Prepare, "big".into())],
            problems: vec![problem.into()],
        };
        assert_eq!(found, expected);
        let repo = RepoName::parse("demo/hello").unwrap();
        let unreachable = ForgeError::NotFound { what: format!("`{repo}`") };
        found.take(&asked("linux"), Err(unreachable.into())).unwrap_err();
    }
}
