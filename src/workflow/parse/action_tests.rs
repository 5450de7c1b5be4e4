#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::action;
use crate::workflow::action::manifest::{DockerImage, Runs};

fn complaints(text: &str) -> String {
    let errors = action("action.yml", text).unwrap_err();
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn each_kind_is_read() {
    let composite = action(
        "action.yml",
        "name: Greet\ndescription: says it\nbranding: { icon: x, color: y }\ninputs:\n  who: { description: d, required: true, default: \
         \"${{ github.actor }}\" }\n  bare:\noutputs:\n  said: { description: d, value: \"${{ steps.say.outputs.x }}\" }\nruns:\n  \
         using: composite\n  steps:\n    - { id: say, run: \"echo ${{ inputs.who }}\", shell: bash }\n    - uses: a/b@v1\n    - uses: actions/checkout@v4\n",
    )
    .unwrap();
    assert_eq!((composite.name.as_deref(), composite.inputs.len(), composite.outputs.len()), (Some("Greet"), 2, 1));
    assert!(composite.inputs[0].required && composite.inputs[1].default.is_none());
    assert_eq!(composite.used().map(ToString::to_string).collect::<Vec<_>>(), ["a/b@v1"]);

    let node =
        action("action.yml", "runs: { using: Node20, main: ./dist/a.js, post: b.js, post-if: success() }\n").unwrap();
    let Runs::Node(node) = node.runs else { panic!("it is one") };
    assert_eq!((node.version, node.main.as_str(), node.pre), (20, "dist/a.js", None));
    let post = node.post.unwrap();
    assert_eq!((post.program.as_str(), post.condition.source()), ("b.js", Some("success()")));

    let docker = action(
        "action.yml",
        "runs:\n  using: docker\n  image: Dockerfile\n  args: ['${{ inputs.x }}', 5]\n  env: { A: b }\n  post-entrypoint: /end\n",
    )
    .unwrap();
    let Runs::Docker(docker) = docker.runs else { panic!("it is one") };
    assert_eq!((docker.image, docker.args.len()), (DockerImage::File("Dockerfile".into()), 2));
    assert_eq!(docker.post.unwrap().condition.source(), Some("always()"));
}

#[test]
fn mistakes_are_named_with_their_place_all_at_once() {
    insta::assert_snapshot!(complaints(
        "inputs:\n  a: {}\n  A: {}\noutputs:\n  x: { description: d }\nruns:\n  using: composite\n  main: x.js\n  steps:\n    - run: echo\n    \
         - { run: \"echo ${{ needs.a.result }}\", shell: bash }\n    - { run: echo, shell: bash, timeout-minutes: 5 }\n    - uses: setup\n"
    ), @"
    action.yml:3:3: inputs.A: there is an input `A` already
      hint: names of inputs ignore letter case
    action.yml:8:3: runs.main: unknown key `main`
      hint: known here: `using`, `steps`
    action.yml:10:7: runs.steps[0]: missing key `shell`
      hint: `run` of an action says its shell, such as `shell: bash`
    action.yml:11:7: runs.steps[1]: actions have no context `needs`
      hint: give the value to the action as an input
    action.yml:12:33: runs.steps[2].timeout-minutes: steps of actions have no `timeout-minutes`
      hint: the step that uses the action has one
    action.yml:13:13: runs.steps[3].uses: `setup` names no action
      hint: write `owner/name@ref`, `owner/name/path@ref`, `./path` or `docker://image`
    ");
    insta::assert_snapshot!(complaints("runs: { using: node21, main: x.js }\n"), @"
    action.yml:1:16: runs.using: `using` is `node21`, which is not known
      hint: one of `node24`, `node20`, `node16`, `node12`, `composite` and `docker`
    ");
    insta::assert_snapshot!(complaints("runs: { using: node20, mian: x.js }\n"), @"
    action.yml:1:24: runs.mian: unknown key `mian`
      hint: did you mean `main`?
    ");
    insta::assert_snapshot!(complaints("runs: { using: node20, main: /etc/x.js }\n"), @"
    action.yml:1:30: runs.main: `/etc/x.js` is no path in the action's directory
      hint: write it relative to the `action.yml`
    ");
    insta::assert_snapshot!(complaints("name: x\n"), @"
    action.yml:1:1: missing key `runs`
      hint: it says how the action runs: `runs: { using: composite, … }`
    ");
    insta::assert_snapshot!(complaints("runs: { using: docker }\n"), @"
    action.yml:1:7: runs.image: missing key `image`
      hint: `Dockerfile`, or `docker://` and the name of an image
    ");
    insta::assert_snapshot!(complaints("- a\n"), @"action.yml:1:1: expected a mapping, found a list");
    insta::assert_snapshot!(complaints("runs: [\n"), @"action.yml:2:1: this is not YAML: while parsing a node, did not find expected node content");
}

proptest! {
    /// Whatever a repository has for a description, it is read or refused.
    #[test]
    fn no_description_panics(text in "(runs|inputs|outputs|using|steps|composite|node20|docker|image|main|- |: |\\{|\\}|\n|  |[a-z$]{1,4}){0,40}") {
        drop(action("action.yml", &text));
    }
}
