//! Which forges there are, and what holds for the repositories of each.
//!
//! A repository is told by its forge's name and its own: two forges may have repositories of one name, and what is given to the
//! one is not meant for the other. Places of the file that name repositories without a forge mean those of the
//! [main forge](Config::main_forge).

use std::sync::LazyLock;
use std::time::Duration;

use url::Url;

use super::sections::{GITHUB_API_URL, GITHUB_URL, well_known};
use super::{Config, Forks, GitLab, Repository};
use crate::forge::{RepoName, github};

static PUBLIC_GITHUB: LazyLock<Url> = LazyLock::new(|| well_known(GITHUB_URL));
static PUBLIC_GITHUB_API: LazyLock<Url> = LazyLock::new(|| well_known(GITHUB_API_URL));

/// What holds for the repositories of one forge, but for what each of them may say otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'c> {
    pub(super) workflows_dir: &'c str,
    pub(super) forks: Forks,
    pub(super) repositories: &'c [Repository],
}

/// Where people and programs find a forge.
#[derive(Debug, Clone)]
pub struct Addresses<'c> {
    /// Where people and git go.
    pub url: &'c Url,
    api: String,
    graphql: String,
}

impl Addresses<'_> {
    /// What `GITHUB_SERVER_URL` says: without a slash at its end.
    pub fn server_url(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// What `GITHUB_API_URL` says: without a slash at its end.
    pub fn api_url(&self) -> &str {
        &self.api
    }

    /// What `GITHUB_GRAPHQL_URL` says.
    pub fn graphql_url(&self) -> &str {
        &self.graphql
    }
}

impl Config {
    /// The names of the forges whose repositories may have workflows, as runs have them; the [main](Config::main_forge) one is the first.
    pub fn forge_names(&self) -> impl Iterator<Item = &str> {
        let of_gitlab = self.gitlab.iter().filter(|gitlab| gitlab.token.is_some()).map(|gitlab| gitlab.name.as_str());
        self.github.iter().map(|_| github::NAME).chain(of_gitlab)
    }

    /// The GitLab of that name.
    pub fn gitlab(&self, name: &str) -> Option<&GitLab> {
        self.gitlab.iter().find(|gitlab| gitlab.name == name)
    }

    /// The forge that is meant where none is named: GitHub, or else the first GitLab.
    pub fn main_forge(&self) -> &str {
        self.forge_names().next().unwrap_or(github::NAME)
    }

    /// What the file calls a repository where it names repositories without a forge; nothing, if it is of another than the main
    /// one.
    pub fn named<'r>(&self, forge: &str, repo: &'r RepoName) -> Option<&'r RepoName> {
        (forge == self.main_forge()).then_some(repo)
    }

    /// Where a forge is. One that is not configured any more has those of GitHub; nothing is asked of it.
    pub fn addresses_of(&self, forge: &str) -> Addresses<'_> {
        match (&self.github, self.gitlab(forge)) {
            (_, Some(gitlab)) => Addresses::of_gitlab(&gitlab.url),
            (Some(github), None) => Addresses::of_github(&github.url, &github.api_url),
            (None, None) => Addresses::of_github(&PUBLIC_GITHUB, &PUBLIC_GITHUB_API),
        }
    }

    /// Where the people of GitHub go: those of the configured one, or else of the public one.
    pub fn github_url(&self) -> Url {
        self.addresses_of(github::NAME).url.clone()
    }

    /// The forge whose people and git go to `server_url`, which has no slash at its end.
    pub fn forge_at(&self, server_url: &str) -> Option<&str> {
        self.forge_names().find(|name| self.addresses_of(name).server_url() == server_url)
    }

    /// How often a forge is asked for what its webhooks did not bring; `None`: never.
    pub fn sweep_of(&self, forge: &str) -> Option<Duration> {
        match forge {
            github::NAME => self.github.as_ref()?.sweep,
            name => self.gitlab(name).filter(|gitlab| gitlab.token.is_some())?.sweep,
        }
    }

    /// The one forge on which somebody means a repository by its name alone, or that of the name that they gave.
    ///
    /// # Errors
    /// For people: there is no such forge, or the repository may be of several.
    pub fn forge_of(&self, repo: &RepoName, named: Option<&str>) -> Result<&str, String> {
        let names = || self.forge_names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        if let Some(named) = named {
            let known = self.forge_names().find(|name| *name == named);
            return known.ok_or_else(|| format!("there is no forge `{named}`\n  hint: there are {}", names()));
        }
        let mut serving = self.forge_names().filter(|forge| self.repository(forge, repo).is_some());
        match (serving.next(), serving.next()) {
            (Some(_), Some(_)) => {
                Err(format!("`{repo}` may be of several forges\n  hint: name one with `--forge`: {}", names()))
            }
            (Some(only), None) => Ok(only),
            (None, _) => Ok(self.main_forge()),
        }
    }

    /// What holds for a forge's repositories; `None` if it is not configured.
    pub(super) fn rules_of(&self, forge: &str) -> Option<Rules<'_>> {
        match forge {
            github::NAME => self.github.as_ref().map(|github| Rules {
                workflows_dir: &github.workflows_dir,
                forks: github.forks,
                repositories: &github.repositories,
            }),
            name => self.gitlab(name).filter(|gitlab| gitlab.token.is_some()).map(|gitlab| Rules {
                workflows_dir: &gitlab.workflows_dir,
                forks: gitlab.forks,
                repositories: &gitlab.projects,
            }),
        }
    }

    /// Every entry for repositories, of all forges.
    pub(super) fn repository_entries(&self) -> impl Iterator<Item = &Repository> {
        self.forge_names().flat_map(|forge| self.entries_of(forge))
    }

    /// A forge's entries for repositories, in the order of the file.
    pub fn entries_of(&self, forge: &str) -> &[Repository] {
        self.rules_of(forge).map_or(&[], |rules| rules.repositories)
    }

    /// What of a forge's entries is about a repository: the one for it alone comes last.
    pub(super) fn entries_for(&self, forge: &str, repo: &RepoName) -> Vec<&Repository> {
        let mut covering: Vec<&Repository> =
            self.entries_of(forge).iter().filter(|entry| entry.pattern.matches(repo)).collect();
        covering.sort_by_key(|entry| entry.pattern.is_exact());
        covering
    }
}

impl<'c> Addresses<'c> {
    fn of_github(url: &'c Url, api_url: &Url) -> Self {
        let api = api_url.as_str().trim_end_matches('/').to_owned();
        Self { url, graphql: format!("{api}/graphql"), api }
    }

    fn of_gitlab(url: &'c Url) -> Self {
        let api = format!("{url}api");
        Self { url, graphql: format!("{api}/graphql"), api: format!("{api}/v4") }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Secrets;
    use super::*;

    const REST: &str = "[server]\npublic_url = 'https://ci.example.org'\n[profile.linux]\nlabels = ['linux']\n";
    const GITHUB: &str = "[github]\nwebhook_secret = { env = 'HOOK' }\ntoken = { env = 'TOKEN' }\n";
    const LAB: &str = "[[gitlab]]\nname = 'lab'\nurl = 'https://lab.example.org/git'\ntoken = { env = 'LAB' }\n";

    fn config(text: &str) -> Config {
        Config::parse("f.toml", &format!("{REST}{text}")).unwrap().0
    }

    fn complaints(text: &str) -> String {
        let found = Config::parse("f.toml", &format!("{REST}{text}")).unwrap_err();
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    fn repo(name: &str) -> RepoName {
        RepoName::parse_path(name).unwrap()
    }

    #[test]
    fn any_forge_is_enough_and_none_is_not() {
        let both = config(&format!("{GITHUB}{LAB}"));
        assert_eq!(both.forge_names().collect::<Vec<_>>(), ["github", "lab"]);
        let lab = config(LAB);
        assert_eq!((lab.main_forge(), lab.github.is_none()), ("lab", true));
        let addresses = lab.addresses_of("lab");
        assert_eq!(addresses.server_url(), "https://lab.example.org/git");
        assert_eq!(addresses.api_url(), "https://lab.example.org/git/api/v4");
        assert_eq!(addresses.graphql_url(), "https://lab.example.org/git/api/graphql");
        assert_eq!(lab.forge_at("https://lab.example.org/git"), Some("lab"));
        assert_eq!(lab.github_url().as_str(), "https://github.com/");
        // A runner alone has no repositories.
        let runner = config("[[gitlab]]\nurl = 'https://lab.example.org'\n");
        assert!(runner.forge_names().next().is_none());
        assert!(runner.repository("gitlab", &repo("acme/app")).is_none());
        let nothing = complaints("");
        assert!(nothing.contains("github.webhook_secret: missing key `webhook_secret`"), "{nothing}");
        let unread = complaints("[[gitlab]]\nurl = 'https://lab.example.org'\n[[gitlab.project]]\nname = 'a'\n");
        assert!(unread.contains("gitlab[0].project: workflows of projects need a `token` that reads them"), "{unread}");
        assert!(unread.contains("gitlab[0].project[0].name: `a` is neither `owner/name` nor `owner/*`"), "{unread}");
    }

    #[test]
    fn repositories_of_one_name_are_told_apart_by_their_forge() {
        let text = format!(
            "{GITHUB}[[github.repository]]\nname = 'acme/*'\nvars = {{ A = 'github' }}\n\
             {LAB}forks = 'run'\n[[gitlab.project]]\nname = 'acme/*'\nvars = {{ A = 'lab' }}\n\
             [[gitlab.project]]\nname = 'acme/tools/app'\nforks = 'deny'\n"
        );
        let config = config(&text);
        let a = |forge: &str, name: &str| {
            let values = config.values_of(forge, &repo(name), None, &super::super::JobSecrets::new());
            values.vars().member("A").to_text().to_string()
        };
        assert_eq!((a("github", "acme/app"), a("lab", "acme/app")), ("github".to_owned(), "lab".to_owned()));
        // A group's entry is for its subgroups, too, and not for groups whose names begin alike.
        assert_eq!((a("lab", "acme/tools/deep/x"), a("lab", "acme-evil/x")), ("lab".to_owned(), String::new()));
        let forks = |name: &str| config.repository("lab", &repo(name)).map(|settings| settings.forks);
        assert_eq!(forks("ACME/x"), Some(Forks::Run));
        assert_eq!(forks("acme/tools/app"), Some(Forks::Deny));
        assert_eq!(forks("other/x"), None);
        assert_eq!(config.named("lab", &repo("acme/app")), None);
        let meant = |name: &str, forge: Option<&str>| config.forge_of(&repo(name), forge).map(str::to_owned);
        assert_eq!(meant("acme/tools/app", Some("lab")), Ok("lab".to_owned()));
        let several = "`acme/app` may be of several forges\n  hint: name one with `--forge`: `github`, `lab`";
        assert_eq!(meant("acme/app", None), Err(several.to_owned()));
        let unknown = "there is no forge `hub`\n  hint: there are `github`, `lab`";
        assert_eq!(meant("acme/app", Some("hub")), Err(unknown.to_owned()));
    }

    #[test]
    fn a_key_that_is_none_is_told_before_anything_is_served() {
        let config = config(&format!("{LAB}webhook_secret = {{ env = 'HOOK' }}\n"));
        let with = |hook: &str| {
            let hook = hook.to_owned();
            Secrets::resolve(&config, move |name| Some(if name == "HOOK" { hook.clone() } else { "t".to_owned() }))
        };
        assert!(with("a secret that is long enough").is_ok());
        let refused = with("whsec_not a key at all").unwrap_err();
        assert_eq!(refused[0].path, "gitlab[0].webhook_secret");
        assert!(refused[0].message.ends_with("begins with `whsec_`, and is no key of 24 to 64 bytes in base64"));
    }
}
