//! The configuration and its secrets, with every mistake at once.

use super::counted;
use super::finding::Finding;
use super::subject::{Configuration, SecretsFound, Subject};
use crate::config::{Config, Credential, GitHub, SYSTEMD_CREDENTIALS, SecretPlace, SecretRef};
use crate::document::Diagnostic;

pub(super) fn examine(subject: &Subject) -> Vec<Finding> {
    match &subject.configuration {
        Configuration::None => vec![
            Finding::skipped("config.file", "no configuration was given, and there is none at the usual place")
                .detail(
                    "this is about `dayfly exec` and the like; a service has its forge and profiles in a configuration",
                )
                .hint("`dayfly doctor --config FILE`"),
        ],
        Configuration::Wrong { file, errors } => vec![
            Finding::problem(
                "config.file",
                format!("{} in `{}`", counted(errors.len(), "error", "errors"), file.display()),
            )
            .detail(paragraphs(errors))
            .data("errors", serde_json::to_value(errors).unwrap_or_default()),
        ],
        Configuration::Valid { file, config, warnings, secrets } => {
            vec![
                valid(&file.display().to_string(), config, warnings),
                judge_secrets(secrets, only_the_service_has(config, secrets)),
            ]
        }
    }
}

fn valid(file: &str, config: &Config, warnings: &[Diagnostic]) -> Finding {
    let profiles = counted(config.profiles.len(), "profile", "profiles");
    let finding = match warnings.len() {
        0 => Finding::ok("config.file", format!("`{file}` is valid: {profiles}")),
        count => Finding::warning(
            "config.file",
            format!("`{file}` is valid, with {}", counted(count, "warning", "warnings")),
        )
        .detail(paragraphs(warnings)),
    };
    finding.data("file", file).data("warnings", serde_json::to_value(warnings).unwrap_or_default())
}

/// `may_be_given`: whether all that is missing may be there for the service.
fn judge_secrets(secrets: &SecretsFound, may_be_given: bool) -> Finding {
    const ID: &str = "config.secrets";
    match secrets {
        Ok((_, warnings)) if warnings.is_empty() => Finding::ok(ID, "all secrets are there, and closed to others"),
        Ok((_, warnings)) => {
            Finding::warning(ID, "all secrets are there, but not all are safe").detail(paragraphs(warnings))
        }
        Err(errors) if may_be_given => Finding::skipped(
            ID,
            "secrets that the service alone is given cannot be seen from here",
        )
        .detail(paragraphs(errors))
        .hint(
            "to look as the service does: `systemd-run --pipe --wait -p LoadCredential=… dayfly doctor`, with the \
                     `LoadCredential=` and `EnvironmentFile=` lines of the unit",
        ),
        Err(errors) => Finding::problem(ID, format!("{} cannot be read", counted(errors.len(), "secret", "secrets")))
            .detail(paragraphs(errors)),
    }
}

/// Whether everything that is missing is what a running service is given: credentials, and its environment.
fn only_the_service_has(config: &Config, secrets: &SecretsFound) -> bool {
    let Err(errors) = secrets else { return false };
    let is_given = |secret: &SecretRef| match &secret.place {
        SecretPlace::File(path) => path.starts_with(SYSTEMD_CREDENTIALS) && !path.exists(),
        SecretPlace::Env(name) => std::env::var_os(name).is_none(),
    };
    let of_github = |github: &GitHub| {
        let credential = match &github.credential {
            Credential::Token(token) => token,
            Credential::App { private_key, .. } => private_key,
        };
        [github.webhook_secret.clone(), credential.clone()]
    };
    let all: Vec<SecretRef> = config.github.iter().flat_map(of_github).collect();
    errors.iter().all(|error| all.iter().any(|secret| secret.key == error.path && is_given(secret)))
}

fn paragraphs(found: &[Diagnostic]) -> String {
    found.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::finding::sketch;
    use super::super::subject::Options;
    use super::*;
    use crate::config::Secrets;

    fn config(webhook_secret: &str) -> (Config, Vec<Diagnostic>) {
        let text = format!(
            "[server]\npublic_url = 'https://ci.example.org'\n[github]\nwebhook_secret = {webhook_secret}\n\
             token = {{ env = 'TOKEN' }}\n[profile.linux]\nlabels = ['linux']\n"
        );
        Config::parse("/etc/dayfly/dayfly.toml", &text).unwrap()
    }

    fn found(webhook_secret: &str, variable: Option<&str>) -> (Config, SecretsFound) {
        let (config, _) = config(webhook_secret);
        let found = Secrets::resolve(&config, |_| variable.map(str::to_owned));
        (config, found)
    }

    #[test]
    fn every_state_of_the_secrets_has_its_words() {
        let judged = |variable, may_be_given| judge_secrets(&found("{ env = 'HOOK' }", variable).1, may_be_given);
        insta::assert_snapshot!(sketch(&[
            judged(Some("long enough to be a secret"), false),
            judged(Some("short"), false),
            judged(None, false),
            judged(None, true),
        ]), @"
        ok config.secrets: all secrets are there, and closed to others
        warning config.secrets: all secrets are there, but not all are safe
            /etc/dayfly/dayfly.toml:4:18: github.webhook_secret: the secret has fewer than 16 characters
              hint: a short one can be guessed from one delivery
        problem config.secrets: 2 secrets cannot be read
            /etc/dayfly/dayfly.toml:4:18: github.webhook_secret: environment variable `HOOK` is not set
              hint: set it in the service's environment, such as `EnvironmentFile=` of the unit
            /etc/dayfly/dayfly.toml:5:9: github.token: environment variable `TOKEN` is not set
              hint: set it in the service's environment, such as `EnvironmentFile=` of the unit
        skipped config.secrets: secrets that the service alone is given cannot be seen from here
            /etc/dayfly/dayfly.toml:4:18: github.webhook_secret: environment variable `HOOK` is not set
              hint: set it in the service's environment, such as `EnvironmentFile=` of the unit
            /etc/dayfly/dayfly.toml:5:9: github.token: environment variable `TOKEN` is not set
              hint: set it in the service's environment, such as `EnvironmentFile=` of the unit
            -> to look as the service does: `systemd-run --pipe --wait -p LoadCredential=… dayfly doctor`, with the `LoadCredential=` and `EnvironmentFile=` lines of the unit
        ");
    }

    #[test]
    fn what_the_service_is_given_is_told_from_what_is_missing() {
        let may_be_given = |webhook_secret: &str, variable| {
            let (config, secrets) = found(webhook_secret, variable);
            only_the_service_has(&config, &secrets)
        };
        let credential = "{ file = '/run/credentials/absent.service/webhook-secret' }";
        assert!(may_be_given(credential, Some("a token")));
        assert!(may_be_given("{ env = 'DAYFLY_TEST_ABSENT' }", None));
        assert!(!may_be_given("{ file = '/nowhere/webhook-secret' }", Some("a token")));
        assert!(!may_be_given("{ env = 'HOOK' }", Some("long enough to be a secret")));
    }

    #[test]
    fn what_a_file_says_is_passed_on() {
        let (good, warnings) = config("{ env = 'HOOK' }");
        let wrong = Config::parse("f.toml", "[profile.x]\nlabel = 5\n").unwrap_err();
        let with = |configuration| Subject { configuration, ..Subject::new(Options::default()) };
        let wrong = with(Configuration::Wrong { file: "f.toml".into(), errors: wrong });
        let mut findings = vec![valid("f.toml", &good, &warnings)];
        findings.extend(examine(&wrong));
        findings.extend(examine(&with(Configuration::None)));
        insta::assert_snapshot!(sketch(&findings), @r#"
        ok config.file: `f.toml` is valid: 1 profile
        problem config.file: 3 errors in `f.toml`
            f.toml:1:1: github.webhook_secret: missing key `webhook_secret`
              hint: like `webhook_secret = { file = "webhook-secret" }`
            f.toml:1:1: github: neither `token` nor `app` says as whom to speak to GitHub
              hint: an App gets check runs: `app = { id = 1, private_key = { file = "app.pem" } }`; a token gets statuses: `token = { file = "token" }`
            f.toml:2:1: profile.x.label: unknown key `label`
              hint: did you mean `labels`?
        skipped config.file: no configuration was given, and there is none at the usual place
            this is about `dayfly exec` and the like; a service has its forge and profiles in a configuration
            -> `dayfly doctor --config FILE`
        "#);
    }
}
