//! `cache` of a profile, and `[caches]`: what jobs find at a place of their machine, and how much of it is kept.

use std::path::PathBuf;
use std::time::Duration;

use super::sections::{Claimed, DAY, GIB, HOUR, MIB, Sections, whole_mib};
use super::units::{duration_between, size_between};
use super::values::{guest_mount, is_profile_name};
use super::{Cache, CacheMode, CacheSource, Config, NamedCache, Profile, Retention, prepare};
use crate::caches::{CacheId, SMALLEST_VOLUME};
use crate::document::reader::quoted;
use crate::document::{Complaint, Item, Table};
use crate::forge::RepoName;
use crate::vm::spec::CACHE_VOLUME_BYTES;

/// The keys of a cache that is named; those of one with a `path` are fewer.
const KEYS: &[&str] = &["path", "name", "mount", "mode", "repository", "fill", "limit"];

/// Keys that mean nothing beside `path`.
const OF_NAMED: [&str; 3] = ["repository", "fill", "limit"];

/// What is kept without `[caches]`.
pub const DEFAULT_RETENTION: Retention =
    Retention { keep: 3, max_size: 64 * GIB, max_age: Duration::from_secs(30 * 24 * 60 * 60) };

/// `cache` of a profile.
pub(super) fn cache(sections: &Sections<'_>, item: &Item<'_>) -> Option<Cache> {
    let table = item.table(KEYS)?;
    let source = source(sections, &table);
    let modes = [("ro", CacheMode::ReadOnly), ("overlay", CacheMode::Overlay)];
    let mode = table.read_or("mode", CacheMode::default(), |item| item.one_of(&modes));
    let mount = table.read_or("mount", "/cache".into(), guest_mount);
    Some(Cache { source: source?, mount, mode })
}

fn source(sections: &Sections<'_>, table: &Table<'_>) -> Option<CacheSource> {
    match (table.get("path"), table.get("name")) {
        (Some(path), None) => {
            for item in OF_NAMED.iter().filter_map(|key| table.get(key)) {
                item.refuse(Complaint::new("is for caches that jobs fill").hint("use `name` instead of `path`"));
            }
            path_of(sections, &path).map(CacheSource::Path)
        }
        (None, Some(name)) => named(table, &name).map(CacheSource::Named),
        (Some(_), Some(name)) => {
            name.refuse(Complaint::new("`path` and `name` exclude each other").hint("remove one of them"));
            None
        }
        (None, None) if table.is_misspelt("path") || table.is_misspelt("name") => None,
        (None, None) => {
            let complaint = Complaint::new("neither `path` nor `name` says what is in it");
            table.item().refuse(complaint.hint(
                "`path = \"/srv/cache\"` shows files of this host; \
                 `name = \"deps\"` with `fill` shows what jobs of the default branch prepared",
            ));
            None
        }
    }
}

fn path_of(sections: &Sections<'_>, item: &Item<'_>) -> Option<PathBuf> {
    sections.existing_path(item, Claimed::FileOrDirectory)
}

fn named(table: &Table<'_>, name: &Item<'_>) -> Option<NamedCache> {
    let cache_name = name.parse(|text| {
        let complaint = || Complaint::new(format!("{} cannot be a cache's name", quoted(text)));
        if is_profile_name(text) {
            Ok(text.to_owned())
        } else {
            Err(complaint().hint("1 to 40 small letters, digits and `-`"))
        }
    });
    let hint = "like `fill = { run = \"npm ci --cache /cache\", key = [\"package-lock.json\"] }`";
    let fill = table.required_hint("fill", hint).and_then(|item| prepare::read(&item));
    let repository = table.read("repository", |item| item.parse(RepoName::parse_path));
    let limit = table.read_or("limit", 8 * GIB, |item| whole_mib(item, SMALLEST_VOLUME, CACHE_VOLUME_BYTES));
    Some(NamedCache { name: cache_name?, repository, fill: fill?, limit })
}

/// `[caches]`.
pub(super) fn retention(root: &Table<'_>) -> Option<Retention> {
    let table = root.section("caches", &["keep", "max_size", "max_age"])?;
    let default = DEFAULT_RETENTION;
    Some(Retention {
        keep: table.read_or("keep", default.keep, |item| item.integer_in(1..=1000)),
        max_size: table.read_or("max_size", default.max_size, |item| size_between(item, MIB, u64::MAX >> 1)),
        max_age: table.read_or("max_age", default.max_age, |item| duration_between(item, HOUR, 3650 * DAY)),
    })
}

impl Config {
    /// Which named cache the jobs of a forge's repository get in `profile`, if it has one. Without a repository: which those of
    /// all get.
    pub fn cache_of(&self, repo: Option<(&str, &RepoName)>, profile: &Profile) -> Option<CacheId> {
        let named = named_cache(profile)?;
        let shared = named.repository.as_ref().map(|repo| (self.main_forge(), repo));
        let (forge, repo) = shared.or(repo)?;
        let url = self.addresses_of(forge).url;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = format!("{}{port}", url.host_str().unwrap_or_default());
        Some(CacheId::new(&host, repo, &profile.name, &named.name))
    }

    /// The named cache of `profile` that the default branch of `repo` fills, if it is the one that does.
    pub fn cache_filled_by<'c>(
        &self, forge: &str, repo: &RepoName, profile: &'c Profile,
    ) -> Option<(CacheId, &'c NamedCache)> {
        let named = named_cache(profile)?;
        let is_its = |owner: &RepoName| {
            self.named(forge, repo).is_some_and(|repo| owner.as_str().eq_ignore_ascii_case(repo.as_str()))
        };
        if !named.repository.as_ref().is_none_or(is_its) {
            return None;
        }
        Some((self.cache_of(Some((forge, repo)), profile)?, named))
    }
}

fn named_cache(profile: &Profile) -> Option<&NamedCache> {
    match &profile.cache.as_ref()?.source {
        CacheSource::Named(named) => Some(named),
        CacheSource::Path(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::document::Diagnostic;

    fn parse(lines: &str) -> Result<Config, String> {
        let text = format!(
            "[server]\npublic_url = \"https://ci.example.org\"\n[github]\nwebhook_secret = {{ env = \"HOOK\" }}\n\
             token = {{ env = \"TOKEN\" }}\n[profile.linux]\nlabels = [\"linux\"]\n{lines}"
        );
        let shown = |found: Vec<Diagnostic>| found.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n");
        Config::parse("f", &text).map(|(config, _)| config).map_err(shown)
    }

    fn cache_of(text: &str) -> Result<Cache, String> {
        parse(&format!("cache = {text}\n")).map(|config| config.profiles[0].cache.clone().unwrap())
    }

    const FILL: &str = "fill = { run = 'npm ci', key = ['package-lock.json', 'a/b'] }";

    #[test]
    fn both_kinds_have_their_defaults() {
        let operators = cache_of("{ path = '/srv/cache' }").unwrap();
        assert_eq!((operators.mount.as_str(), operators.mode), ("/cache", CacheMode::ReadOnly));
        let named = cache_of(&format!("{{ name = 'npm', mode = 'overlay', mount = '/npm', {FILL} }}")).unwrap();
        assert_eq!((named.mount.as_str(), named.mode), ("/npm", CacheMode::Overlay));
        let CacheSource::Named(named) = named.source else { panic!("it has a name") };
        assert_eq!((named.name.as_str(), named.limit, named.repository), ("npm", 8 * GIB, None));
        assert_eq!((named.fill.run.as_str(), named.fill.key.len()), ("npm ci", 2));
        assert_eq!(parse("").unwrap().caches, DEFAULT_RETENTION);
    }

    #[test]
    fn mistakes_have_their_places_and_remedies() {
        let complaint = |text: &str| cache_of(text).unwrap_err();
        insta::assert_snapshot!(complaint("{ mount = '/c' }"), @r#"
        f:8:9: profile.linux.cache: neither `path` nor `name` says what is in it
          hint: `path = "/srv/cache"` shows files of this host; `name = "deps"` with `fill` shows what jobs of the default branch prepared
        "#);
        insta::assert_snapshot!(complaint(&format!("{{ path = '/c', name = 'npm', {FILL} }}")), @"
        f:8:31: profile.linux.cache.name: `path` and `name` exclude each other
          hint: remove one of them
        ");
        insta::assert_snapshot!(complaint("{ path = '/c', limit = '1 GiB', mode = 'rw' }"), @r"
        f:8:32: profile.linux.cache.limit: is for caches that jobs fill
          hint: use `name` instead of `path`
        f:8:48: profile.linux.cache.mode: `rw` is not a known value
          hint: known here: `ro`, `overlay`
        ");
        insta::assert_snapshot!(complaint("{ name = 'NPM', repository = 'acme', limit = '1 MiB', fill = { key = ['../x', '/etc'] } }"), @r#"
        f:8:18: profile.linux.cache.name: `NPM` cannot be a cache's name
          hint: 1 to 40 small letters, digits and `-`
        f:8:38: profile.linux.cache.repository: `acme` is not a project's `group/name`
        f:8:54: profile.linux.cache.limit: `1 MiB` is not between 16 MiB and 64 GiB
        f:8:70: profile.linux.cache.fill.run: missing key `run`
          hint: like `run = "npm ci"`
        f:8:79: profile.linux.cache.fill.key[0]: `../x` is not a file inside a repository
          hint: write it relative to the repository, like `web/package-lock.json`; no patterns
        f:8:87: profile.linux.cache.fill.key[1]: `/etc` is not a file inside a repository
          hint: write it relative to the repository, like `web/package-lock.json`; no patterns
        "#);
        insta::assert_snapshot!(complaint("{ name = 'npm', fill = { run = '', key = [] } }"), @r"
        f:8:40: profile.linux.cache.fill.run: must not be empty
        f:8:50: profile.linux.cache.fill.key: must name 1 to 32 files
          hint: the files that tell what is installed, such as a lock file
        ");
        insta::assert_snapshot!(parse("[caches]\nkeep = 0\nmax_age = '1m'\nmax_size = 5").unwrap_err(), @r#"
        f:9:8: caches.keep: `0` is not between 1 and 1000
        f:10:11: caches.max_age: `1m` is not between 1h and 3650d
        f:11:12: caches.max_size: `5` has no unit
          hint: write it like `"512 MiB"`
        "#);
    }

    /// The cache that the jobs of a repository on GitHub get.
    fn cache(config: &Config, repo: &str) -> Option<CacheId> {
        config.cache_of(Some(("github", &RepoName::parse(repo).unwrap())), &config.profiles[0])
    }

    #[test]
    fn a_shared_cache_is_filled_by_its_own_repository_only() {
        let repo = |name: &str| RepoName::parse(name).unwrap();
        let own = parse(&format!("cache = {{ name = 'npm', {FILL} }}")).unwrap();
        let profile = &own.profiles[0];
        assert_ne!(cache(&own, "acme/site"), cache(&own, "acme/docs"));
        assert!(own.cache_filled_by("github", &repo("acme/docs"), profile).is_some());

        let shared = parse(&format!("cache = {{ name = 'npm', repository = 'acme/tools', {FILL} }}")).unwrap();
        let profile = &shared.profiles[0];
        let id = cache(&shared, "acme/site").unwrap();
        assert_eq!(id.to_string(), "github.com/acme/tools:linux/npm");
        assert_eq!(cache(&shared, "acme/tools"), Some(id.clone()));
        assert_eq!(shared.cache_filled_by("github", &repo("Acme/Tools"), profile).map(|(id, _)| id), Some(id));
        assert!(shared.cache_filled_by("github", &repo("acme/site"), profile).is_none());

        let operators = parse("cache = { path = '/srv' }").unwrap();
        assert!(cache(&operators, "acme/site").is_none());
    }
}
