//! Jobs and actions in containers, in VMs of an image with Docker.
//!
//! They take an image that is built for them, from which containers can start without a registry: `DAYFLY_TEST_IMAGES=docker`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::run::state;
use crate::support::command::{self, Outcome};
use crate::support::repository::Repository;
use crate::support::tls::{self, TlsServer};
use crate::support::{has_test_image, leaks};

pub(crate) const RECIPE: &str = r#"extends = "docker"
description = "Docker with an image that it need not pull"

[distribution]
suite = "trixie"
packages = ["busybox-static", "nodejs", "python3"]

[bake]
script = "bake.sh"
"#;

pub(crate) const BAKE: &str = include_str!("containers/bake.sh");

const INSIDE: &str = r#"on: push
env: { TOP: top }
jobs:
  inside:
    runs-on: docker
    container:
      image: ${{ format('{0}:1', 'local/tiny') }}
      env: { LEVEL: container, SECRET: "${{ secrets.S }}" }
      options: --hostname 'my-host' --cpus 1
    services:
      web:
        image: docker://local/tiny:1
        entrypoint: sh
        command: -c 'mkdir -p /www; echo hello from web > /www/x; echo serving; exec httpd -f -p 80 -h /www'
        ports: ["80", "81/udp"]
        options: --health-cmd "wget -q -O /dev/null http://localhost/x" --health-interval 1s --health-retries 60
      none: { image: "${{ '' }}" }
    steps:
      - uses: actions/checkout@v4
      - run: |
          echo "$TOP $LEVEL $SECRET on $(hostname) in $(pwd) as $(id -u) with $HOME"
          test -s "$GITHUB_EVENT_PATH" && test "$(cat "$GITHUB_WORKSPACE/word")" = "$(cat '${{ github.workspace }}/word')"
          echo "temp=$RUNNER_TEMP tools=$RUNNER_TOOL_CACHE"
          echo "web: $(wget -Y off -q -O - http://web/x)"
          test "${{ job.services.web.ports['80'] }}" -gt 0 && test -n "${{ job.services.web.id }}"
          test "${{ job.container.network }}" = "${{ job.services.web.network }}" && test "${{ job.services.none }}" = ""
      - id: out
        run: |
          echo "o=its output" >> $GITHUB_OUTPUT
          echo "MADE=here" >> $GITHUB_ENV
          mkdir -p /more sub dist; printf '#!/bin/sh\necho own program\n' > /more/prog; chmod +x /more/prog; echo /more >> $GITHUB_PATH
          echo kept > dist/a; chmod 600 dist/a; mkdir ~/cached; echo cached > ~/cached/x
      - { run: 'echo "made=$MADE out=${{ steps.out.outputs.o }} $(prog) below=${PWD##*/}"', working-directory: sub }
      - { uses: ./.github/actions/steps, with: { who: mona } }
      - { uses: ./.github/actions/program, with: { some: thing } }
      - { uses: ./.github/actions/image, with: { who: mona }, env: { URL: "@URL@", LEVEL: step } }
      - run: |
          git fetch -q origin "$GITHUB_SHA" && echo "fetched $(git show FETCH_HEAD:word)"
          echo "curl: $(curl -sS "@URL@") untrusted: $(curl -s --cacert /dev/null "@URL@" || echo no)"
          echo "own: $(grep -c BEGIN "$NODE_EXTRA_CA_CERTS"), maven: $(grep -o -m 1 '<host>[0-9.]*' "${MAVEN_ARGS##* }" | head -n 1)"
          echo "gradle: $(grep http.proxyHost ~/.gradle/gradle.properties) $(ls -ld ~/.gradle | cut -c1-10)"
      - { uses: actions/upload-artifact@v4, with: { name: dist, path: dist } }
      - { uses: actions/cache/save@v4, with: { path: ~/cached, key: k } }
      - run: rm -r ~/cached
      - { uses: actions/cache/restore@v4, with: { path: ~/cached, key: k } }
      - { uses: actions/download-artifact@v4, with: { name: dist, path: /got } }
      - run: echo "got $(cat /got/a) and $(cat ~/cached/x)"
      - { run: sleep 999, timeout-minutes: 0.05, continue-on-error: true }
      - run: if ps | grep -v grep | grep 'sleep 999'; then exit 1; fi
      - uses: actions/checkout@v4
      - run: exit 3
"#;

const BESIDE: &str = r#"on: push
jobs:
  beside:
    runs-on: docker
    services:
      web:
        image: local/tiny:1
        entrypoint: sh
        command: -c 'mkdir -p /www; echo hello to the machine > /www/x; exec httpd -f -p 80 -h /www'
        ports: ["80"]
    steps:
      - uses: actions/checkout@v4
      - run: curl -sS http://localhost:${{ job.services.web.ports[80] }}/x
      - { uses: ./.github/actions/image, with: { who: lisa, where: "${{ github.workspace }}/word" } }
      - id: plain
        uses: docker://local/tiny:1
        env: { A: "b c" }
        with: { args: "sh -c 'echo \"A=$A\"; echo x=y >> $GITHUB_OUTPUT; wget -Y off -q -O - http://web/x'" }
      - run: echo "x=${{ steps.plain.outputs.x }}"
"#;

const UNHEALTHY: &str = r#"on: push
jobs:
  a:
    runs-on: docker
    services:
      bad:
        image: local/tiny:1
        entrypoint: sh
        command: -c 'echo it says why; exit 7'
        options: --health-cmd true
    steps: [run: echo never]
"#;

const STEPS: &str = "inputs: { who: {} }\nruns:\n  using: composite\n  steps:\n    \
    - { run: 'sh \"$GITHUB_ACTION_PATH/say\" ${{ inputs.who }}; sh \"${{ github.action_path }}/say\" again', shell: sh }\n";

const PROGRAM: &str = "inputs: { some: {} }\nruns: { using: node20, pre: pre.js, main: main.js, post: post.js }\n";

const MAIN: &str = "console.log('main', process.env.INPUT_SOME, process.cwd(), process.env.STATE_first)\n";

const IMAGE: &str = "inputs: { who: {}, where: { default: word } }\nruns: { using: docker, image: docker/Dockerfile, \
    args: ['${{ inputs.who }}', 'a b'], env: { INNER: 'inner ${{ inputs.who }}', LEVEL: action }, \
    pre-entrypoint: /pre.sh, post-entrypoint: /post.sh }\n";

const ENTRY: &str = r#"#!/bin/sh
echo "action: <$1> <$2> $INNER of the $LEVEL in $(pwd) with $(cat "$INPUT_WHERE"), after $STATE_pre"
echo st=kept >> $GITHUB_STATE
wget -Y off -q -O - http://web/x
git ls-remote -q origin HEAD | grep -q HEAD && echo asked the forge
[ -z "$URL" ] || echo "curl of the action: $(curl -sS "$URL")"
"#;

const PRE: &str = "#!/bin/sh\necho \"before <$1> <$2> with $INNER\"\necho pre=$1 >> $GITHUB_STATE\n";

const POST: &str = "#!/bin/sh\necho \"post of an image: $STATE_st <$1> <$2> with $INNER of the $LEVEL\"\n";

/// Its first job pulls with credentials, and looks where they are; the registry knows nobody else.
const PRIVATE: &str = r#"on: push
jobs:
  good:
    runs-on: docker
    container:
      image: 127.0.0.1:5000/tiny:1
      credentials: { username: me, password: "${{ secrets.S }}" }
      volumes: ['/var/log:/log:ro']
    steps:
      - run: |
          echo "logins: $(grep -c ' login ' /log/docker-words), pulls: $(grep -c ' pull ' /log/docker-words)"
          echo "shown: $(grep -c 'well[ ]hidden' /log/docker-words), kept: $(find /__w/_temp -name '_docker_*' | wc -l)"
  bad:
    needs: good
    runs-on: docker
    services:
      theirs: { image: '127.0.0.1:5000/theirs:1', credentials: { username: me, password: wrong } }
    steps: [run: echo never]
"#;

fn repository(workflow: &str) -> Repository {
    Repository::new(&[
        (".dayfly/workflows/ci.yml", workflow),
        ("word", "committed"),
        (".github/actions/steps/action.yml", STEPS),
        (".github/actions/steps/say", "echo \"says $1 at ${0%/*}\""),
        (".github/actions/program/action.yml", PROGRAM),
        (
            ".github/actions/program/pre.js",
            "require('fs').appendFileSync(process.env.GITHUB_STATE, 'first=before\\n')\n",
        ),
        (".github/actions/program/main.js", MAIN),
        (".github/actions/program/post.js", "console.log('post', process.env.INPUT_SOME)\n"),
        (".github/actions/image/action.yml", IMAGE),
        (
            ".github/actions/image/docker/Dockerfile",
            "FROM local/tiny:1\nCOPY *.sh /\nRUN chmod +x /*.sh\nENTRYPOINT [\"/entry.sh\"]\n",
        ),
        (".github/actions/image/docker/entry.sh", ENTRY),
        (".github/actions/image/docker/pre.sh", PRE),
        (".github/actions/image/docker/post.sh", POST),
    ])
}

/// The directory with the recipe. It is always the same one: the image is built once.
fn recipes() -> PathBuf {
    let recipes = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recipes");
    let recipe = recipes.join("docker-tiny");
    fs::create_dir_all(&recipe).unwrap();
    for (name, text) in [("image.toml", RECIPE), ("bake.sh", BAKE)] {
        let fresh = tempfile::NamedTempFile::new_in(&recipes).unwrap();
        fs::write(&fresh, text).unwrap();
        // Another test may be reading it.
        fresh.persist(recipe.join(name)).unwrap();
    }
    recipes
}

/// Runs it in a machine of its own image. `egress` is what a configuration says of its profile; else nothing can be reached.
fn run(state: &Path, workflow: &str, egress: Option<&str>) -> Outcome {
    let (repository, recipes) = (repository(workflow), recipes());
    let mut command = command::dayfly();
    command.current_dir(repository.path()).arg("run").env("S", "well hidden").args(["--secret", "S"]);
    if let Some(egress) = egress {
        let config = state.join("dayfly.toml");
        let (state, recipes) = (state.display(), recipes.display());
        let text = format!(
            "[github]\nwebhook_secret = {{ env = 'H' }}\ntoken = {{ env = 'T' }}\n[server]\nstate_dir = '{state}'\n\
             [vm]\nbackend = 'qemu-tcg'\nrecipes_dir = '{recipes}'\n[profile.docker]\nlabels = ['docker']\n\
             image = 'docker-tiny'\nmemory = '1 GiB'\ndisk = '2 GiB'\negress = {egress}\n"
        );
        fs::write(&config, text).unwrap();
        command.arg("--config").arg(config);
    } else {
        command.args(["--backend", "qemu-tcg", "--image", "docker-tiny", "--memory", "1GiB", "--disk", "2GiB"]);
        command.args(["--egress", "none"]).arg("--state-dir").arg(state).arg("--recipes").arg(&recipes);
    }
    command.output().unwrap().into()
}

fn assert_says(done: &Outcome, lines: &[&str]) {
    for line in lines {
        assert!(
            done.stdout.lines().any(|shown| shown.ends_with(line)),
            "`{line}` is not in:\n{}{}",
            done.stdout,
            done.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_steps_run_in_its_container_beside_its_services() {
    if !has_test_image("docker") {
        return;
    }
    let Some(state) = state() else { return };
    let server = TlsServer::start().await;
    fs::write(state.path().join("ca.pem"), &server.authority).unwrap();
    let (host, port) = (tls::HOST, server.port);
    let egress = format!("{{ ca_bundle = 'ca.pem', ports = [{port}], allow_addresses = ['{host}'] }}");
    let workflow = INSIDE.replace("@URL@", &format!("https://{host}:{port}/"));
    let done = tokio::task::block_in_place(|| run(state.path(), &workflow, Some(&egress)));
    assert_says(
        &done,
        &[
            "The service web is healthy",
            "temp=/__w/_temp tools=/__t",
            "web: hello from web",
            "made=here out=its output own program below=sub",
            "before <mona> <a b> with inner mona",
            "asked the forge",
            "curl of the action: over TLS",
            "fetched committed",
            "curl: over TLS untrusted: no",
            "own: 1, maven: <host>172.17.0.1",
            "gradle: systemProp.http.proxyHost=172.17.0.1 drwxrwxrwx",
            "got kept and cached",
            "error: the step took longer than its `timeout-minutes`",
            "error: the step ended with exit code 3",
            "##[group]Log of the service web",
            "serving",
        ],
    );
    let says = |text: &str| assert!(done.stdout.contains(text), "`{text}` is not in:\n{}", done.stdout);
    says("top container *** on my-host in /__w/");
    says(" as 0 with /github/home");
    says("says mona at /__w/");
    says("says again at /home/");
    says("main thing /__w/");
    says("post thing");
    says("action: <mona> <a b> inner mona of the step in /github/workspace with committed, after mona");
    says("post of an image: kept <mona> <a b> with inner mona of the step");
    assert!(!done.stdout.contains("well hidden"), "{}", done.stdout);
    assert_eq!(done.code, Some(1), "{}", done.stdout);
    leaks::assert_none(state.path());
}

#[test]
fn a_machines_steps_reach_services_and_an_unhealthy_one_fails_its_job() {
    if !has_test_image("docker") {
        return;
    }
    let Some(state) = state() else { return };
    let done = run(state.path(), BESIDE, None);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert_says(&done, &["hello to the machine", "A=b c", "x=y", "asked the forge"]);
    let says = |text: &str| assert!(done.stdout.contains(text), "`{text}` is not in:\n{}", done.stdout);
    says("action: <lisa> <a b> inner lisa of the action in /github/workspace with committed, after lisa");
    says("post of an image: kept <lisa> <a b> with inner lisa of the action");

    let done = run(state.path(), UNHEALTHY, None);
    assert_says(&done, &["error: the service `bad` did not start: it ended with exit code 7", "it says why"]);
    assert!(done.code == Some(1) && !done.stdout.contains("] never"), "{}", done.stdout);
    leaks::assert_none(state.path());
}

#[test]
fn an_image_is_pulled_with_credentials_that_no_command_line_shows() {
    if !has_test_image("docker") {
        return;
    }
    let Some(state) = state() else { return };
    let done = run(state.path(), PRIVATE, None);
    assert_says(&done, &["Pulling 127.0.0.1:5000/tiny:1", "logins: 1, pulls: 1", "shown: 0, kept: 0"]);
    let refused = "error: the registry of `127.0.0.1:5000/theirs:1` refused the credentials: ";
    assert!(done.stdout.contains(refused), "{}{}", done.stdout, done.stderr);
    assert!(done.code == Some(1) && !done.stdout.contains("] never"), "{}", done.stdout);
    leaks::assert_none(state.path());
}

#[test]
fn a_job_with_containers_needs_an_image_with_docker() {
    let Some(state) = state() else { return };
    let repository = repository(BESIDE);
    let done: Outcome = crate::run::dayfly_run(&state, &repository, &[]).output().unwrap().into();
    assert_eq!(done.code, Some(1), "{}{}", done.stdout, done.stderr);
    assert_says(&done, &["error: the job has containers, for which the image `base` lacks Docker"]);
    leaks::assert_none(state.path());
}
