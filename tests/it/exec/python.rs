//! Jobs in VMs of the image with Python: `DAYFLY_TEST_IMAGES=python`.

use crate::run::state;
use crate::support::command::{self, Outcome};
use crate::support::repository::Repository;
use crate::support::{has_test_image, leaks};

/// A package index of the job's own has one package, which has to be built: what pip keeps is the wheel.
const WORKFLOW: &str = r#"on: push
jobs:
  a:
    runs-on: python
    steps:
      - uses: actions/checkout@v4
      - { id: set, uses: actions/setup-python@v5, with: { cache: pip } }
      - run: |
          echo "python ${{ steps.set.outputs.python-version }} $(python --version) $(python3 --version)"
          echo "hit=${{ steps.set.outputs.cache-hit }} path=${{ steps.set.outputs.python-path }}"
      - run: |
          mkdir -p "$RUNNER_TEMP/index/simple/answer" && cd "$RUNNER_TEMP/index"
          tar -czf answer-1.0.tar.gz -C "$GITHUB_WORKSPACE" answer-1.0
          echo '<a href="../../answer-1.0.tar.gz">answer-1.0.tar.gz</a>' > simple/answer/index.html
          python -m http.server --bind 127.0.0.1 8000 >/dev/null 2>&1 &
          echo PIP_INDEX_URL=http://127.0.0.1:8000/simple >> $GITHUB_ENV
      - run: pip install -v -r requirements.txt
      - run: |
          python -c 'import answer; print("answer", answer.ANSWER)'
          answer || echo "no program"
      - { uses: actions/setup-python@v5, with: { python-version: "2.7" }, continue-on-error: true, id: old }
      - run: rm .python-version
      - { uses: actions/setup-python@v5, with: { cache: pip, cache-dependency-path: none.txt }, continue-on-error: true, id: bare }
      - { uses: actions/setup-python@v5, with: { cache: pip, cache-dependency-path: "answer-*/pyproject.toml" } }
      - run: echo "old=${{ steps.old.outcome }} bare=${{ steps.bare.outcome }}"
      - run: python -m venv /tmp/env && /tmp/env/bin/pip install --no-index "$RUNNER_TEMP/index/answer-1.0.tar.gz" && /tmp/env/bin/answer
"#;

const PROJECT: &str = r#"[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "answer"
version = "1.0"
"#;

/// Builds a wheel with nothing but what Python has.
const BACKEND: &str = r#"import pathlib, zipfile

def build_wheel(directory, settings=None, metadata=None):
    print("the backend builds")
    name, info = "answer-1.0-py3-none-any.whl", "answer-1.0.dist-info"
    with zipfile.ZipFile(pathlib.Path(directory) / name, "w") as wheel:
        wheel.writestr("answer.py", "ANSWER = 6 * 7\ndef main():\n    print('the program says', ANSWER)\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: answer\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\nanswer = answer:main\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"#;

#[test]
fn what_pip_has_built_is_there_in_the_next_run() {
    if !has_test_image("python") {
        return;
    }
    let Some(state) = state() else { return };
    let repository = Repository::new(&[
        (".dayfly/workflows/ci.yml", WORKFLOW),
        ("requirements.txt", "answer==1.0\n"),
        (".python-version", "# what everybody has\n3.13\n"),
        ("answer-1.0/pyproject.toml", PROJECT),
        ("answer-1.0/backend.py", BACKEND),
    ]);
    let run = || -> Outcome {
        let mut command = command::dayfly();
        command.current_dir(repository.path()).args(["run", "--backend", "qemu-tcg", "--image", "python"]);
        command.args(["--egress", "none", "--memory", "512MiB", "--disk", "1GiB"]).arg("--state-dir").arg(state.path());
        command.output().unwrap().into()
    };
    for is_first in [true, false] {
        let done = run();
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
        let says = |text: &str| assert!(done.stdout.contains(text), "`{text}` is not in:\n{}", done.stdout);
        says("python 3.13.");
        says("path=/usr/bin/python3");
        says(if is_first { "hit=false" } else { "hit=true" });
        says(if is_first {
            "cache saved: setup-python-Linux-x64-python-python-3.13."
        } else {
            "cache restored: setup-python-"
        });
        assert_eq!(done.stdout.contains("the backend builds"), is_first, "{}", done.stdout);
        says("answer 42");
        says("the program says 42");
        says("error: the image `python` has Python 3.13.");
        says("`cache` needs a file that says what is installed");
        says("old=failure bare=failure");
    }
    leaks::assert_none(state.path());
}
