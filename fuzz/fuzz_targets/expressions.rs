//! An expression in the first line, its contexts as JSON in the others.
#![no_main]

use dayfly::workflow::expression::{
    Environment, ErrorKind, Expression, FileHashes, Object, Scope, Status, Template, Value,
};
use dayfly::workflow::file_patterns::FilePatterns;
use libfuzzer_sys::fuzz_target;

/// Files that are not there, looked for by patterns of a stranger.
#[derive(Debug)]
struct Files;

impl FileHashes for Files {
    fn hash_files(&self, patterns: &[String]) -> Result<String, String> {
        let found = FilePatterns::new(patterns, "/work")?.take(&["src", "main.rs"]);
        Ok(found.to_string())
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (source, contexts) = text.split_once('\n').unwrap_or((text, ""));
    let contexts: serde_json::Map<String, serde_json::Value> = serde_json::from_str(contexts).unwrap_or_default();
    let contexts: Object = contexts.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
    let mut names: Vec<&str> = contexts.iter().map(|(name, _)| name).collect();
    names.extend(["github", "env"]);
    let scope = Scope { contexts: &names, status_functions: true, hash_files: true };
    let environment = Environment::new(&contexts).with_status(Status::Failure).with_files(&Files);
    match Expression::parse(source, &scope) {
        Ok(expression) => {
            let read = Expression::try_from(expression.source().to_owned()).expect("what was read can be read again");
            let values = [&expression, &read].map(|expression| expression.evaluate(&environment));
            match values {
                [Ok(first), Ok(second)] => assert_eq!(first, second),
                [Err(first), Err(second)] => {
                    assert_eq!(first, second);
                    assert_eq!(first.kind, ErrorKind::Evaluation);
                }
                [first, second] => panic!("{first:?} and then {second:?}"),
            }
        }
        Err(error) => {
            assert_ne!(error.kind, ErrorKind::Evaluation);
            assert!(error.position.is_none_or(|position| position <= source.chars().count()));
        }
    }
    if let Ok(template) = Template::parse(text, &scope) {
        drop(template.evaluate_text(&environment));
    }
});
