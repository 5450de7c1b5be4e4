//! What jobs are given as `vars` and `secrets`: everywhere, in some repositories, or for a deployment environment of one.

use std::collections::BTreeMap;
use std::path::Path;

use secrecy::SecretString;

use super::secrets::{self, SecretRef};
use super::{Config, Repository};
use crate::document::reader::quoted;
use crate::document::{Complaint, Field, Item, Table};
use crate::forge::RepoName;
use crate::workflow::values::{MAX_VALUE, Values, check_name};

/// Variables and secrets of one place of the file.
const MAX_VALUES: usize = 500;

/// The `vars` and `secrets` of one place of the file, by name as written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given {
    pub vars: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, SecretRef>,
}

/// Secrets for jobs, by the key that names them in the file: [`SecretRef::key`].
pub type JobSecrets = BTreeMap<String, SecretString>;

impl Given {
    /// Puts its values into `values`, over those of the same name.
    fn put_into(&self, values: &mut Values, secrets: &JobSecrets) {
        for (name, value) in &self.vars {
            values.set_var(name, value.clone());
        }
        for (name, secret) in &self.secrets {
            if let Some(value) = secrets.get(&secret.key) {
                values.set_secret(name, value.clone());
            }
        }
    }
}

impl Config {
    /// Every secret for jobs that the file names.
    pub(super) fn job_secrets(&self) -> impl Iterator<Item = &SecretRef> {
        self.given.secrets.values().chain(self.repository_entries().flat_map(all_of))
    }

    /// What a job of `repo` is given, in this deployment environment if it names one: what says more about where it runs
    /// counts more. Names of environments are not told apart by case.
    pub fn values_of(&self, forge: &str, repo: &RepoName, environment: Option<&str>, secrets: &JobSecrets) -> Values {
        let mut values = Values::default();
        self.given.put_into(&mut values, secrets);
        let covering = self.entries_for(forge, repo);
        for entry in &covering {
            entry.given.put_into(&mut values, secrets);
        }
        let is_meant = |name: &str| environment.is_some_and(|wanted| wanted.eq_ignore_ascii_case(name));
        for (_, given) in covering.iter().flat_map(|entry| &entry.environments).filter(|(name, _)| is_meant(name)) {
            given.put_into(&mut values, secrets);
        }
        values
    }
}

fn all_of(repository: &Repository) -> impl Iterator<Item = &SecretRef> {
    let environments = repository.environments.iter().map(|(_, given)| given);
    std::iter::once(&repository.given).chain(environments).flat_map(|given| given.secrets.values())
}

/// Reads `vars` and `secrets` of a table that may have both.
pub(super) fn read(table: &Table<'_>, directory: &Path) -> Given {
    let vars = table.read_or("vars", BTreeMap::new(), |item| named(item, variable));
    let secrets = table
        .read_or("secrets", BTreeMap::new(), |item| named(item, |field| secrets::read_ref(&field.value, directory)));
    Given { vars, secrets }
}

/// Reads `environment`: tables by the names of deployment environments.
pub(super) fn read_environments(item: &Item<'_>, directory: &Path) -> Option<Vec<(String, Given)>> {
    let read = |field: &Field<'_>| {
        if field.key.trim().is_empty() {
            field.refuse_key("an environment needs a name");
        }
        Some((field.key.to_owned(), self::read(&field.value.table(&["vars", "secrets"])?, directory)))
    };
    Some(item.fields()?.iter().filter_map(read).collect())
}

/// Values by names that jobs use; letter case does not tell two of them apart.
fn named<T>(item: &Item<'_>, read: impl Fn(&Field<'_>) -> Option<T>) -> Option<BTreeMap<String, T>> {
    let fields = item.fields()?;
    if let Some(excess) = fields.get(MAX_VALUES) {
        excess.refuse_key(format!("more than {MAX_VALUES} names"));
        return None;
    }
    let mut found: BTreeMap<String, T> = BTreeMap::new();
    for field in &fields {
        if let Err(complaint) = check_name(field.key) {
            field.refuse_key(complaint);
        } else if found.keys().any(|known| known.eq_ignore_ascii_case(field.key)) {
            let complaint = Complaint::new(format!("{} stands here a second time, in another case", quoted(field.key)));
            field.refuse_key(complaint.hint("names are not told apart by case"));
        } else if let Some(value) = read(field) {
            found.insert(field.key.to_owned(), value);
        }
    }
    Some(found)
}

fn variable(field: &Field<'_>) -> Option<String> {
    let text = field.value.string()?;
    if text.len() > MAX_VALUE {
        field.value.refuse(format!("the value has {} bytes; at most {MAX_VALUE} are allowed", text.len()));
        return None;
    }
    Some(text.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Secrets;
    use super::*;
    use crate::workflow::expression::Value;

    const FILE: &str = "[server]\npublic_url = 'https://ci.example.org'\n[profile.linux]\nlabels = ['linux']\n[github]\n\
                        webhook_secret = { env = 'HOOK' }\ntoken = { env = 'TOKEN' }\n";

    const VALUES: &str = "[vars]\nA = 'all'\nB = 'all'\n[secrets]\nTOKEN = { env = 'ALL' }\n\
        [[github.repository]]\nname = 'acme/site'\nvars = { b = 'site' }\nsecrets = { TOKEN = { env = 'SITE' } }\n\
        [github.repository.environment.Production]\nvars = { C = 'production' }\nsecrets = { token = { env = 'PROD' } }\n\
        [[github.repository]]\nname = 'acme/*'\nvars = { B = 'owner', D = 'owner' }\n";

    fn told(repo: &str, environment: Option<&str>) -> String {
        let (config, _) = Config::parse("f.toml", &format!("{FILE}{VALUES}")).unwrap();
        let (secrets, _) = Secrets::resolve(&config, |name| Some(format!("the value of {name}"))).unwrap();
        let values = config.values_of("github", &RepoName::parse(repo).unwrap(), environment, &secrets.jobs);
        let vars = ["A", "B", "C", "D"].map(|name| values.vars().member(name).to_text().to_string());
        let hides = |name: &str| values.has_secret(&format!("the value of {name}"));
        let secret = ["ALL", "SITE", "PROD"].into_iter().find(|name| hides(name)).unwrap();
        format!("{} {secret}", vars.join(","))
    }

    #[test]
    fn what_says_more_about_where_a_job_runs_counts_more() {
        assert_eq!(told("other/repo", None), "all,all,, ALL");
        assert_eq!(told("acme/other", Some("production")), "all,owner,,owner ALL");
        assert_eq!(told("Acme/Site", None), "all,site,,owner SITE");
        assert_eq!(told("acme/site", Some("production")), "all,site,production,owner PROD");
        assert_eq!(told("acme/site", Some("staging")), "all,site,,owner SITE");
        assert_eq!(Values::default().vars().member("A"), Value::Null);
    }

    #[test]
    fn every_mistake_is_told_and_no_secret_is_quoted() {
        let text = format!(
            "{FILE}[vars]\n1A = 'x'\nA-B = 'x'\nN = 5\nok = 'x'\nOK = 'x'\n[secrets]\nT = 'hunter2'\nU = {{ file = 'a', env = 'B' }}\n\
             [[github.repository]]\nname = 'a/b'\n[github.repository.environment.prod]\nvar = {{}}\n"
        );
        let complaints: Vec<String> =
            Config::parse("f.toml", &text).unwrap_err().iter().map(ToString::to_string).collect();
        assert!(!complaints.join("\n").contains("hunter2"));
        insta::assert_snapshot!(complaints.join("\n"), @r#"
        f.toml:9:1: vars.1A: `1A` is no name of a variable or secret
          hint: letters, digits and `_`; no digit first; at most 100 characters
        f.toml:10:1: vars.A-B: `A-B` is no name of a variable or secret
          hint: letters, digits and `_`; no digit first; at most 100 characters
        f.toml:11:5: vars.N: expected a string, found the number `5`
          hint: put it in quotes
        f.toml:13:1: vars.OK: `OK` stands here a second time, in another case
          hint: names are not told apart by case
        f.toml:15:5: secrets.T: a secret does not stand in the configuration itself
          hint: write `{ file = "path" }` or `{ env = "NAME" }`
        f.toml:16:5: secrets.U: a secret has one place, not both `file` and `env`
          hint: remove one
        f.toml:20:1: github.repository[0].environment.prod.var: unknown key `var`
          hint: did you mean `vars`?
        "#);
    }

    #[test]
    fn a_secret_that_is_not_there_is_told_before_anything_runs() {
        let (config, _) = Config::parse("f.toml", &format!("{FILE}{VALUES}")).unwrap();
        let set = ["HOOK", "TOKEN", "ALL", "SITE"];
        let env = |name: &str| set.contains(&name).then(|| "long enough as secrets go".to_owned());
        let complaints = Secrets::resolve(&config, env).unwrap_err();
        assert_eq!(complaints.len(), 1);
        assert_eq!(complaints[0].path, "github.repository[0].environment.Production.secrets.token");
    }
}
