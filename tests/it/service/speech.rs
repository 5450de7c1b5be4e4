//! What steps say in their output, and what becomes of it.

use sha2::{Digest, Sha256};

use crate::support::{Scene, Settings};

const WORKFLOW: &str = r#"
name: CI
on: pull_request
jobs:
  talk:
    runs-on: linux
    outputs:
      secret: ${{ steps.out.outputs.secret }}
      plain: ${{ steps.out.outputs.plain }}
    steps:
      - run: |
          mkdir -p src/sub && printf 'a' > src/a.txt && printf 'b' > src/sub/b.txt && ln -s ../a.txt src/sub/link.txt
          echo '{"problemMatcher": [{"owner": "t", "pattern": [{"regexp": "^(\\S+):(\\d+): (.*)$", "file": 1, "line": 2, "message": 3}]}]}' > matcher.json
      - id: out
        run: |
          echo '::group::Things'
          echo "::error file=$GITHUB_WORKSPACE/src/a.txt,line=3,title=Bad::very%0Abad" >&2
          echo '::endgroup::'
          printf '::add-mask::hunter2\n'; sleep 0.2; printf 'pass=hun'; sleep 0.2; printf 'ter2\n'
          echo '::set-output name=old::way'
          echo 'secret=x hunter2' >> "$GITHUB_OUTPUT"
          echo 'plain=sight' >> "$GITHUB_OUTPUT"
          echo 'the summary has hunter2' >> "$GITHUB_STEP_SUMMARY"
          echo '::add-matcher::matcher.json'
          echo 'src/sub/b.txt:7: found by a matcher'
          echo '::stop-commands::until-then'
          echo '::error::not one'
          echo '::until-then::'
      - run: |
          echo "old=${{ steps.out.outputs.old }}"
          echo "hash=${{ hashFiles('src/**', '!**/nothing') }}"
          echo "none=[${{ hashFiles('no/such') }}]"
      - shell: sh -e "{0}" "two words"
        run: echo "custom=$1"
      - continue-on-error: true
        run: echo '::set-env name=A::refused'
      - continue-on-error: true
        working-directory: no/such
        run: echo unreachable
      - run: for i in $(seq 60); do echo "::warning::number $i"; done
      - run: for i in $(seq 60); do echo "::notice::number $i"; done; for i in $(seq 60); do echo "::warning::more $i"; done
      - run: for i in $(seq 60); do echo "::notice::last $i"; done; for i in $(seq 60); do echo "::error::last $i"; done
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_steps_say_is_obeyed_masked_and_shown_beside_the_code() {
    let Some(scene) = Scene::start(Settings::new()).await else { return };
    let pull = scene.pull_request(WORKFLOW).await;
    let talk = scene.ended(&pull.sha, "talk").await;
    assert_eq!(talk.job.verdict(), ("success", ""), "{}", talk.log);
    for line in [
        "##[group]Things",
        "##[error]very",
        "##[endgroup]",
        "pass=***",
        "::error::not one",
        "##[error]src/sub/b.txt:7: found by a matcher",
    ] {
        assert!(talk.log.lines().any(|shown| shown == line), "`{line}` is not in:\n{}", talk.log);
    }
    let sum = |text: &str| Sha256::digest(text);
    // Links to files count as the files that they lead to; `link.txt` comes after `b.txt`.
    let hash = hex::encode(Sha256::digest([sum("a"), sum("b"), sum("a")].concat()));
    let said = [("old", "way"), ("hash", hash.as_str()), ("none", "[]"), ("custom", "two words")];
    for (key, value) in said {
        assert_eq!(talk.said(key), value, "{key}");
    }
    assert!(talk.log.contains("`set-env` could not be processed: it is disabled"), "{}", talk.log);
    assert!(talk.log.contains("no/such` is not there"), "{}", talk.log);
    assert!(talk.summary().contains("the summary has ***"), "{}", talk.summary());
    assert!(talk.summary().contains("`secret` of the job is left out"), "{}", talk.summary());
    let shown = [&talk.log, talk.summary(), &talk.check.as_ref().unwrap().output.to_string()].concat();
    let after_mask = shown.replace("::add-mask::hunter2", "");
    assert!(!after_mask.contains("hunter2"), "{after_mask}");

    let annotations = talk.check.as_ref().unwrap().output["annotations"].as_array().unwrap().clone();
    let found = |path: &str| annotations.iter().find(|annotation| annotation["path"] == path).unwrap();
    let told = found("src/a.txt");
    assert_eq!(
        (&told["start_line"], &told["title"], &told["message"]),
        (&3.into(), &"Bad".into(), &"very\nbad".into())
    );
    assert_eq!(
        (&found("src/sub/b.txt")["start_line"], &found("src/sub/b.txt")["annotation_level"]),
        (&7.into(), &"failure".into())
    );
    // Ten of each kind a step, in more than one request; and each of them once.
    let count =
        |words: &str| annotations.iter().filter(|told| told["message"].as_str().unwrap().starts_with(words)).count();
    assert_eq!((count("number"), count("more"), count("last")), (10 + 10, 10, 10 + 10));
    assert_eq!(count("the command `set-env`"), 1);
    scene.finish().await;
}
