//! Descriptions of jobs as several years of GitLab write them.
#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn the_least_that_an_instance_says_is_enough_and_nulls_are_nothing() {
    let least = r#"{"id": 7, "token": "t", "git_info": {"repo_url": "https://g/a/b.git", "sha": "x"}}"#;
    let job: JobResponse = serde_json::from_str(least).unwrap();
    assert!(job.steps.is_empty() && job.variables.is_empty() && job.artifacts.is_none());
    let nulls = r#"{"id": 7, "token": "t", "git_info": {"repo_url": "https://g/a/b.git", "sha": "x", "refspecs": null},
        "variables": null, "steps": null, "services": null, "image": null, "hooks": null, "news": {"of": 2030},
        "cache": [{"key": null, "paths": null, "policy": null, "when": null}],
        "artifacts": [{"name": null, "paths": ["a"], "when": "always", "artifact_type": "junit", "artifact_format": "gzip"}]}"#;
    let job: JobResponse = serde_json::from_str(nulls).unwrap();
    assert_eq!(job.cache.unwrap()[0].policy, "");
    assert_eq!(job.artifacts.unwrap()[0].when, When::Always);
}

/// Everything that a job may have, each once.
const FULL: &str = r#"{"id": 7, "token": "t", "allow_git_fetch": true,
    "job_info": {"id": 7, "name": "n", "stage": "s", "project_id": 1, "project_name": "p", "project_full_path": "g/p",
        "time_in_queue_seconds": 1.5},
    "git_info": {"repo_url": "u", "sha": "x", "ref": "main", "before_sha": "y", "ref_type": "branch", "refspecs": ["r"], "depth": 20,
        "repo_object_format": "sha1", "protected": false},
    "runner_info": {"timeout": 60, "runner_session_url": "u"},
    "variables": [{"key": "A", "value": "1", "public": true, "file": false, "masked": false, "raw": false}],
    "steps": [{"name": "script", "script": ["true"], "timeout": 60, "when": "always", "allow_failure": true}],
    "hooks": [{"name": "h", "script": ["true"]}],
    "image": {"name": "i", "alias": "a", "command": ["c"], "entrypoint": ["e"], "variables": [], "ports": [], "pull_policy": ["always"],
        "executor_opts": {"docker": {"platform": "p", "user": "u"}}},
    "services": [{"name": "i", "variables": [{"key": "A", "value": "1", "raw": true}]}],
    "artifacts": [{"name": "n", "untracked": true, "paths": ["p"], "exclude": ["e"], "when": "always", "artifact_type": "t",
        "artifact_format": "zip", "expire_in": "1 day", "access": "all"}],
    "cache": [{"key": "k", "untracked": true, "policy": "pull", "paths": ["p"], "when": "always", "fallback_keys": ["k"], "unprotect": true}],
    "credentials": [{"type": "registry", "url": "u", "username": "n", "password": "p"}],
    "dependencies": [{"id": 1, "name": "n", "token": "t", "artifacts_file": {"filename": "f", "size": 1}}],
    "features": {"trace_sections": true, "token_mask_prefixes": ["p"], "failure_reasons": ["r"], "two_phase_job_commit": true},
    "secrets": {}, "run": null}"#;

/// Paths of all that is in a document.
fn paths(value: &serde_json::Value, at: &str, found: &mut Vec<String>) {
    let inner: Vec<(String, &serde_json::Value)> = match value {
        serde_json::Value::Object(map) => map.iter().map(|(key, value)| (format!("{at}/{key}"), value)).collect(),
        serde_json::Value::Array(list) => {
            list.iter().enumerate().map(|(at_index, value)| (format!("{at}/{at_index}"), value)).collect()
        }
        _ => Vec::new(),
    };
    for (path, value) in inner {
        paths(value, &path, found);
        found.push(path);
    }
}

#[test]
fn whatever_need_not_be_there_may_be_null() {
    let needed = ["id", "token", "git_info", "repo_url", "sha", "key", "name"];
    let full: serde_json::Value = serde_json::from_str(FULL).unwrap();
    let mut all = Vec::new();
    paths(&full, "", &mut all);
    let is_needed = |path: &str| {
        let name = path.rsplit('/').next().unwrap();
        let is_entry = name.parse::<usize>().is_ok();
        let is_named = ["/steps/", "/hooks/", "/variables/", "/dependencies/", "/git_info/"]
            .iter()
            .any(|place| path.contains(place));
        is_entry || (needed.contains(&name) && (is_named || path.matches('/').count() == 1))
    };
    assert!(all.len() > 80);
    for path in all.iter().filter(|path| !is_needed(path)) {
        let mut one = full.clone();
        *one.pointer_mut(path).unwrap() = serde_json::Value::Null;
        serde_json::from_value::<JobResponse>(one).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

#[test]
fn what_is_stored_reads_back() {
    let text = r#"{"id": 7, "token": "t", "git_info": {"repo_url": "u", "sha": "x", "ref": "main", "depth": 20},
        "steps": [{"name": "script", "script": ["true"], "timeout": 3600, "when": "on_success", "allow_failure": false}],
        "variables": [{"key": "A", "value": "1", "public": true, "masked": false, "file": false, "raw": true}]}"#;
    let job: JobResponse = serde_json::from_str(text).unwrap();
    let again: JobResponse = serde_json::from_value(serde_json::to_value(&job).unwrap()).unwrap();
    assert_eq!(format!("{job:?}"), format!("{again:?}"));
    assert_eq!((again.token.expose(), again.variables[0].value.as_str()), ("t", "1"));
    assert!(!format!("{job:?}").contains("\"t\""), "secrets do not print");
}
