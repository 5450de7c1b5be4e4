//! What the documents and the example files claim is true.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use dayfly::config::Config;

const DOCUMENTS: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The text of every Rust file below a directory.
fn sources(directory: PathBuf) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&sources(path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    text
}

/// What stands between two marks, in order.
fn between<'t>(text: &'t str, begin: &str, end: &str) -> Vec<&'t str> {
    text.split(begin).skip(1).filter_map(|rest| rest.split_once(end).map(|(inner, _)| inner)).collect()
}

#[test]
fn every_rule_names_tests_that_exist() {
    let text = read("ARCHITECTURE.md");
    let rules = text.split("## What always holds").nth(1).unwrap().split("\n## ").next().unwrap();
    let sources = sources(root().join("src")) + &sources(root().join("tests"));
    for (number, rule) in (1..=10).zip(rules.split("\n\n").nth(2).unwrap().split(". **").skip(1)) {
        let guards = rule.split("*Tests:*").nth(1).unwrap_or_else(|| panic!("rule {number} names no test"));
        let guards = guards.split("*Missing:*").next().unwrap();
        let names: Vec<&str> = guards.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "rule {number} names no test");
        for name in names {
            assert!(
                sources.contains(&format!("fn {name}(")),
                "rule {number} names the test `{name}`, which is not there"
            );
        }
    }
    assert_eq!(rules.matches("*Tests:*").count(), 10);
}

#[test]
fn every_attack_names_a_test_that_exists() {
    let text = read("docs/hostile-guests.md");
    let sources = sources(root().join("src")) + &sources(root().join("tests"));
    let tables = text.split("## What was tried").skip(1).flat_map(|section| section.split("\n## ").next());
    let rows = tables.flat_map(str::lines).filter(|line| line.starts_with("| ") && !line.starts_with("| attack"));
    let mut named = 0;
    for row in rows {
        let test = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        if test != "the same" {
            let name = test.trim_matches('`');
            assert!(sources.contains(&format!("fn {name}(")), "there is no test `{name}`");
            named += 1;
        }
    }
    assert!(named > 20, "only {named} tests are named");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let manuals =
        fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let manuals = manuals.map(|name| format!("docs/{name}"));
    for name in DOCUMENTS.into_iter().map(str::to_owned).chain(manuals) {
        let text = read(&name);
        let directory = root().join(&name).parent().unwrap().to_owned();
        for target in between(&text, "](", ")") {
            match target.strip_prefix('#') {
                Some(heading) => {
                    let headings: BTreeSet<String> = text.lines().filter_map(anchor).collect();
                    assert!(headings.contains(heading), "`{name}` has no heading `#{heading}`");
                }
                None if target.contains("://") => {}
                None => assert!(
                    directory.join(target.split('#').next().unwrap()).exists(),
                    "`{name}` links to `{target}`, which is not there"
                ),
            }
        }
    }
}

/// A heading as links name it.
fn anchor(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
    Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
}

#[test]
fn configurations_in_documents_and_files_are_valid() {
    let demo = Config::load(&root().join("config/demo.toml")).map_err(|errors| format!("{errors:?}"));
    let (demo, warnings) = demo.unwrap();
    assert_eq!((demo.profiles.len(), warnings.len()), (1, 0), "{warnings:?}");
    for example in between(&read("README.md"), "```toml\n", "```") {
        let (_, warnings) = Config::parse("README.md", example).unwrap_or_else(|errors| panic!("{errors:#?}"));
        assert!(warnings.is_empty(), "{warnings:#?}");
    }
}

#[test]
fn workflows_in_documents_and_of_the_demo_are_valid() {
    let demo = read("examples/demo/repository/.dayfly/workflows/ci.yml");
    let readme = read("README.md");
    let examples = between(&readme, "```yaml\n", "```");
    assert_eq!(examples.len(), 1);
    for text in examples.into_iter().chain([demo.as_str()]) {
        let parsed = dayfly::workflow::parse("ci.yml", text);
        assert!(parsed.is_ok(), "{:#?}", parsed.err());
    }
}
