use super::*;
use crate::document::Diagnostic;

fn config(text: &str) -> Result<Config, String> {
    let text = format!(
        "[server]\npublic_url = 'https://ci.example.org'\n[github]\nwebhook_secret = {{ env = 'H' }}\ntoken = {{ env = 'T' }}\n\
         [profile.linux]\nlabels = ['linux']\n[profile.big]\nlabels = ['big']\n{text}"
    );
    let told = |found: Vec<Diagnostic>| found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    Config::parse("f", &text).map(|(config, _)| config).map_err(told)
}

#[test]
fn a_python_registry_begins_above_its_index() {
    for (url, base, path) in [
        ("https://p.example.org/simple", "https://p.example.org/", "simple/"),
        ("https://p.example.org/root/pypi/+simple/", "https://p.example.org/root/pypi/", "+simple/"),
        ("https://p.example.org/pypi/", "https://p.example.org/pypi/", ""),
    ] {
        let config = config(&format!("[[registry]]\nname = 'a'\nkind = 'pypi'\nurl = '{url}'\n")).unwrap();
        let registry = &config.registries[0];
        assert_eq!(registry.url.as_str(), base);
        assert_eq!(registry.kind, RegistryKind::Pypi { index: path.to_owned(), extra: false });
    }
}

#[test]
fn registries_are_for_whom_they_name_and_not_for_forks() {
    let config = config(
        "[[registry]]\nname = 'a'\nkind = 'npm'\nurl = 'https://n.example.org'\ntoken = { env = 'N' }\n\
         profiles = ['linux']\nrepositories = ['acme/*']\n",
    )
    .unwrap();
    let registry = &config.registries[0];
    let [ours, theirs] = ["acme/site", "other/site"].map(|name| RepoName::parse(name).unwrap());
    assert!(registry.serves(Some(&ours), "linux", false));
    assert!(!registry.serves(Some(&ours), "linux", true), "a fork");
    assert!(!registry.serves(Some(&ours), "big", false));
    assert!(!registry.serves(Some(&theirs), "linux", false));
    assert!(config.keeps_registries_from_forks("github", &ours, config.profile("linux").unwrap()));
    assert!(!config.keeps_registries_from_forks("github", &ours, config.profile("big").unwrap()));
}

#[test]
fn every_mistake_is_told() {
    insta::assert_snapshot!(config(
        "[[registry]]\nname = 'A b'\nkind = 'npn'\nurl = 'ftp://x'\n\
         [[registry]]\nname = 'b'\nkind = 'maven'\nurl = 'https://x.example'\ntoken = 'inline'\nscopes = ['@x']\nextra = true\n\
         [[registry]]\nname = 'c'\nkind = 'npm'\nurl = 'https://x.example'\nuser = 'u'\nscopes = ['acme']\nothers = 'https://o.example'\n\
         [[registry]]\nname = 'd'\nkind = 'pypi'\nurl = 'https://x.example'\nheader = 'Host'\nvalue = { env = 'V' }\nprofiles = ['lnux']\n\
         [[registry]]\nname = 'e'\nkind = 'cargo'\nurl = 'https://x.example'\n\
         [[registry]]\nname = 'e'\nkind = 'cargo'\nurl = 'https://y.example'\nprofiles = ['big']\nrepositories = ['x']\n",
    )
    .unwrap_err(), @r#"
    f:11:8: registry[0].name: `A b` cannot be a registry's name
      hint: 1 to 40 small letters, digits and `-`
    f:12:8: registry[0].kind: `npn` is not a known value
      hint: did you mean `npm`?
    f:13:7: registry[0].url: `ftp://x` is not an http or https address
      hint: write it like `https://ci.example.org`
    f:18:9: registry[1].token: a secret does not stand in the configuration itself
      hint: write `{ file = "path" }` or `{ env = "NAME" }`
    f:19:10: registry[1].scopes: is for registries of kind `npm` only
    f:20:9: registry[1].extra: is for registries of kind `pypi` and `cargo` only
    f:21:1: registry[2]: the keys of the credential do not go together
      hint: either `token`, or `user` and `password`, or `header` and `value`
    f:26:11: registry[2].scopes[0]: `acme` is not a scope
      hint: like `@company`, in small letters
    f:32:10: registry[3].header: `Host` cannot be the header of a credential
      hint: like `X-Api-Key`
    f:34:13: registry[3].profiles[0]: there is no profile `lnux`
      hint: did you mean `linux`?
    f:39:1: registry[5]: there is a registry `e` already, in line 35
    f:39:1: registry[5]: `e` is the registry of Cargo already for some profile
      hint: give each `profiles` of its own; or `scopes` (npm) or `extra = true` (pypi, cargo)
    f:44:17: registry[5].repositories[0]: `x` is neither `owner/name` nor `owner/*`
    "#);
}

#[test]
fn two_may_stand_side_by_side_where_no_tool_has_to_choose() {
    let entry = |name: &str, more: &str| format!("[[registry]]\nname = '{name}'\nurl = 'https://x.example'\n{more}\n");
    let both = |one: &str, other: &str| config(&(entry("a", one) + &entry("b", other))).map(drop);
    assert_eq!(both("kind = 'npm'", "kind = 'npm'\nscopes = '@acme'\nothers = 'https://o.example'"), Ok(()));
    insta::assert_snapshot!(
        both("kind = 'npm'\nscopes = '@acme'", "kind = 'npm'\nothers = 'https://o.example'").unwrap_err(), @"
    f:14:10: registry[0].scopes: `others` is not set: npm has to find what is in no scope
      hint: set it to the address of the registry that has everything else, usually the public one
    f:15:1: registry[1]: `a` is the registry of npm already for some profile
      hint: give each `profiles` of its own; or `scopes` (npm) or `extra = true` (pypi, cargo)
    f:19:10: registry[1].others: goes with `scopes` only
      hint: name the scopes, or remove it
    ");
    assert_eq!(both("kind = 'pypi'", "kind = 'pypi'\nextra = true"), Ok(()));
    assert_eq!(both("kind = 'cargo'\nprofiles = ['big']", "kind = 'cargo'\nprofiles = ['linux']"), Ok(()));
    insta::assert_snapshot!(both("kind = 'npm'\nscopes = ['@x', '@acme']\nothers = 'https://o.example'", "kind = 'npm'\nscopes = '@acme'\nothers = 'https://o.example'").unwrap_err(), @"
    f:16:1: registry[1]: `a` is the registry of npm for `@acme` already for some profile
      hint: give each `profiles` of its own; or `scopes` (npm) or `extra = true` (pypi, cargo)
    ");
}
