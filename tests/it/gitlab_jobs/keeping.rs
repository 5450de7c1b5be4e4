//! What is kept of a job for later ones and for people: artifacts, reports, caches.

use std::io::Read as _;

use serde_json::json;

use super::{Hall, artifact, plain, steps, unpacked, variable, verdict};
use crate::local_gitlab::JobState;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_reach_gitlab_and_later_jobs() {
    // All of it over TLS, with certificates that nobody but the configuration knows.
    let files = [("kept", "in the repository\n"), (".gitignore", "*.o\n")];
    let Some(hall) = Hall::open_with_tls(&files).await else { return };
    let first = hall
        .run(json!({
            "steps": steps(&[("script", &[
                "grep -q 'BEGIN CERTIFICATE' \"$CI_SERVER_TLS_CA_FILE\"",
                "mkdir -p dist/empty dist/sub 'dist/ä b'",
                "echo plain > dist/a.txt; echo run > dist/run.sh; chmod +x dist/run.sh; echo no > dist/sub/b.o",
                "chmod 640 dist/a.txt; touch -d '2001-01-01 00:00:00 UTC' dist/a.txt",
                "ln -s ../kept dist/link; ln -s sub dist/directory; echo spaced > 'dist/ä b/-x'",
                "echo new > new.txt; echo '<testsuites/>' > one.xml; echo '<testsuites/>' > two.xml; echo A=b > build.env",
                "echo NAME=from-env >> $GITLAB_ENV",
                "mkdir -p deps/sub; echo cached > deps/sub/file; ln -s file deps/sub/link",
            ])]),
            "artifacts": [
                {"name": "build-$NAME", "paths": ["$DIR", "missing/"], "exclude": ["dist/**/*.o"], "untracked": true, "expire_in": "1 week",
                    "artifact_type": "archive", "artifact_format": "zip"},
                {"name": "junit.xml", "paths": ["*.xml"], "when": "always", "artifact_type": "junit", "artifact_format": "gzip"},
                {"name": ".env", "paths": ["build.env"], "artifact_type": "dotenv", "artifact_format": "gzip"},
                {"name": "failed", "paths": ["kept"], "when": "on_failure", "artifact_type": "metadata"},
            ],
            "cache": [{"key": "deps-$CI_COMMIT_REF_SLUG", "paths": ["deps/", "../outside"], "policy": "$POLICY"}],
            "more_variables": [variable("DIR", "dist", json!({})), variable("CI_COMMIT_REF_SLUG", "main", json!({})),
                variable("POLICY", "pull-push", json!({}))],
        }))
        .await;
    let text = plain(&first);
    assert_eq!(verdict(&first).0, JobState::Success, "{text}");
    let archive = artifact(&first, "archive");
    assert_eq!(
        (archive.file_name.as_str(), archive.expire_in.as_deref()),
        ("build-from-env.zip", Some("1 week")),
        "{text}"
    );
    let files = unpacked(archive);
    for (name, content) in [
        ("dist/a.txt", "plain\n"),
        ("dist/run.sh", "x run\n"),
        ("dist/link", "-> ../kept"),
        ("dist/directory", "-> sub"),
        ("dist/ä b/-x", "spaced\n"),
        ("dist/empty/", ""),
        ("new.txt", "new\n"),
        ("deps/sub/file", "cached\n"),
    ] {
        assert!(files.iter().any(|(one, text)| one == name && text == content), "`{name}` is not in {files:?}");
    }
    assert!(!files.iter().any(|(name, _)| name.ends_with(".o") || name == "kept"), "{files:?}");
    assert!(text.contains("WARNING: missing/: no matching files"), "{text}");
    assert!(text.contains("WARNING: `../outside`: it is not below"), "{text}");
    let mut junit = String::new();
    flate2::read::MultiGzDecoder::new(&artifact(&first, "junit").content[..]).read_to_string(&mut junit).unwrap();
    assert_eq!(junit, "<testsuites/>\n<testsuites/>\n");
    assert_eq!((artifact(&first, "dotenv").format.as_str(), first.artifacts.len()), ("gzip", 3));

    let dependency = json!({"id": first.id, "name": "build", "token": first.token, "artifacts_file": {"filename": archive.file_name, "size": 1}});
    let later = json!({
        "dependencies": [dependency],
        "cache": [{"key": "other", "paths": ["deps"], "policy": "pull", "fallback_keys": ["none", "deps-main"]}],
        "steps": steps(&[("script", &[
            "cat dist/a.txt dist/link; test -x dist/run.sh; test -d dist/empty; test ! -e dist/sub/b.o; cat 'dist/ä b/-x'",
            "cat deps/sub/link; readlink deps/sub/link; stat -c 'mode %a at %Y' dist/a.txt",
        ])]),
    });
    let second = plain(&hall.run(later.clone()).await);
    assert!(second.contains("\nplain\nin the repository\nspaced\n"), "{second}");
    assert!(second.contains("\ncached\nfile\nmode 640 at 978307200\n") && second.contains("Job succeeded"), "{second}");
    assert!(second.contains("Not uploading cache other due to policy"), "{second}");

    // What jobs of other refs keep is not what jobs of protected refs find.
    let mut of_protected = later.clone();
    of_protected["git_info"] = json!({"protected": true});
    of_protected["steps"] = steps(&[("script", &["test ! -e deps/sub/link || readlink deps/sub/nothing"])]);
    of_protected["dependencies"] = json!([]);
    let third = hall.run(of_protected).await;
    assert_eq!(verdict(&third).0, JobState::Success, "{}", plain(&third));

    let mut gone = later;
    gone["dependencies"][0]["id"] = json!(second_without_files(&hall).await);
    let gone = hall.run(gone).await;
    assert_eq!(verdict(&gone), (JobState::Failed, Some("script_failure"), Some(1)), "{}", plain(&gone));
    hall.close().await;
}

/// A job without artifacts.
async fn second_without_files(hall: &Hall) -> u64 {
    hall.run(json!({"steps": steps(&[("script", &["true"])])})).await.id
}
