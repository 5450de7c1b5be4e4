//! The commands that need no VM: what they print and how they end.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Read;
use std::process::Stdio;

use crate::local_forge::{Forge, Options};
use crate::support::command::{dayfly, run};
use crate::support::{Scene, Settings, host, http};

#[test]
fn config_check_shows_every_mistake_at_once() {
    let directory = host::short_directory();
    let file = directory.path().join("dayfly.toml");
    fs::write(&file, "[server]\nlisten = \"8080\"\nlissten = 1\n[profile.linux]\nlabel = [\"x\"]\nmemory = \"512\"\n")
        .unwrap();
    let checked = run(&["config", "check", file.to_str().unwrap()]);
    assert_eq!(checked.code, Some(64));
    let places = [":2:10: server.listen", ":3:1:", "profile.linux.label", "profile.linux.memory", "webhook_secret"];
    for place in places {
        assert!(checked.stderr.contains(place), "no `{place}` in:\n{}", checked.stderr);
    }
    assert!(checked.stderr.matches("hint:").count() >= 3, "{}", checked.stderr);
    assert_eq!(checked.stdout, "");

    let served = run(&["serve", "--config", file.to_str().unwrap()]);
    assert_eq!(served.code, Some(64), "a service does not start with it either");
    let missing = run(&["config", "check", "/nonexistent/dayfly.toml"]);
    assert_eq!(missing.code, Some(64));
    assert!(missing.stderr.contains("/nonexistent/dayfly.toml"), "{}", missing.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn config_check_is_content_with_what_the_service_runs_with() {
    let (forge, directory) = (Forge::start(Options::default()).await.unwrap(), host::short_directory());
    let file = Settings::without_vms().write(directory.path(), &forge);
    let checked = run(&["config", "check", file.to_str().unwrap()]);
    assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""));
    assert!(checked.stdout.contains("valid"), "{}", checked.stdout);

    // Secrets may be elsewhere than where a configuration is checked; the service needs them.
    fs::remove_file(directory.path().join("webhook-secret")).unwrap();
    assert_eq!(run(&["config", "check", file.to_str().unwrap()]).code, Some(0));
    let served = run(&["serve", "--config", file.to_str().unwrap()]);
    assert_eq!(served.code, Some(64));
    assert!(served.stderr.contains("webhook-secret"), "{}", served.stderr);
}

#[test]
fn every_command_explains_itself() {
    let commands: [&[&str]; 28] = [
        &[],
        &["serve"],
        &["config"],
        &["config", "check"],
        &["exec"],
        &["image"],
        &["image", "build"],
        &["image", "bake"],
        &["image", "list"],
        &["bench", "create"],
        &["jobs"],
        &["job", "show"],
        &["logs"],
        &["why"],
        &["vms"],
        &["deliveries"],
        &["cancel"],
        &["rerun"],
        &["approve"],
        &["completions"],
        &["man"],
        &["doctor"],
        &["bench", "log"],
        &["bench", "webhook"],
        &["bench", "plan"],
        &["workflow"],
        &["workflow", "check"],
        &["eval"],
    ];
    for command in commands {
        let help = run(&[command, &["--help"]].concat());
        assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""), "{command:?}");
        assert!(
            help.stdout.contains("Usage: dayfly") && help.stdout.lines().count() > 5,
            "{command:?}:\n{}",
            help.stdout
        );
    }
    let version = run(&["--version"]);
    assert_eq!((version.code, version.stdout), (Some(0), format!("dayfly {}\n", env!("CARGO_PKG_VERSION"))));
    for wrong in [
        &["exce"][..],
        &["exec"],
        &["exec", "--memory", "none", "--", "true"],
        &["exec", "--timeout", "5", "--", "true"],
        &[],
    ] {
        assert_eq!(run(wrong).code, Some(64), "{wrong:?}");
    }
    // For completions as well.
    let help = run(&["exec", "--help"]).stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("[possible values: auto, qemu-kvm, qemu-tcg, firecracker]"), "{help}");
}

/// Nothing is built for a command that cannot run: there is no image here, and building one would take minutes.
#[test]
fn exec_looks_at_its_arguments_before_it_builds() {
    let state = host::short_directory();
    let given = |arguments: &[&str]| {
        let state = state.path().to_str().unwrap();
        run(&[&["exec", "--state-dir", state], arguments, &["--", "true"]].concat())
    };
    let sha = "4f".repeat(20);
    for (arguments, code, error) in [
        (&["--cache", "/nowhere:/cache"][..], 64, "--cache `/nowhere`: No such file"),
        (&["--artifact", "x", "--artifact-dir", "/dev/null"], 64, "--artifact-dir `/dev/null` is not a directory"),
        (&["--repo", "/nowhere", "--sha", &sha], 64, "--repo `/nowhere`: No such file"),
        (&["--repo", "https://localhost/x", "--sha", &sha, "--token-file", "/nowhere"], 64, "--token-file `/nowhere`"),
        (&["--image", "nothing"], 69, "there is no image `nothing`"),
    ] {
        let refused = given(arguments);
        assert_eq!(refused.code, Some(code), "{arguments:?}: {}", refused.stderr);
        assert!(refused.stderr.starts_with("error: ") && refused.stderr.contains(error), "{}", refused.stderr);
    }
    assert!(!state.path().join("images").exists());
}

#[test]
fn an_image_that_a_profile_uses_stays_unless_it_is_forced() {
    let directory = host::short_directory();
    let (config, state) = (directory.path().join("dayfly.toml"), directory.path().join("state"));
    let text = "[server]\nstate_dir = 'state'\n[github]\nwebhook_secret = { env = 'H' }\ntoken = { env = 'T' }\n\
                [profile.linux]\nlabels = ['linux']\n";
    fs::write(&config, text).unwrap();
    let (config, state) = (config.to_str().unwrap(), state.to_str().unwrap());
    let rm = |more: &[&str]| run(&[&["image", "rm", "base", "--config", config, "--state-dir", state], more].concat());
    let refused = rm(&[]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("in use: the profile `linux`"), "{}", refused.stderr);
    assert!(rm(&["--force"]).stderr.contains("there is no image `base`"));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let directory = host::short_directory();
    let state_dir = directory.path().to_str().unwrap();
    let mut command = dayfly();
    command.args(["image", "list", "--json", "--state-dir", state_dir]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_does_not_exist_is_refused_with_those_that_do() {
    let Some(mut scene) = Scene::start(Settings::without_vms()).await else { return };
    assert!(scene.service.stop().await.success());
    let config = scene.state_dir().parent().unwrap().join("dayfly.toml");
    let mut command = dayfly();
    command.arg("serve").arg("--config").arg(config).env("DAYFLY_FAULT", "kill@outcome-stroed");
    let refused = command.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(64), "{said}");
    assert!(said.contains("DAYFLY_FAULT: there is no step `outcome-stroed`"), "{said}");
    assert!(said.contains("25 `outcome-stored`"), "{said}");
    scene.restart().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_service_on_one_directory_is_refused() {
    let Some(scene) = Scene::start(Settings::without_vms()).await else { return };
    let config = scene.state_dir().parent().unwrap().join("dayfly.toml");
    let second = run(&["serve", "--config", config.to_str().unwrap()]);
    assert_eq!(second.code, Some(69), "{}", second.stderr);
    assert!(second.stderr.contains("another dayfly serves") && second.stderr.contains("hint:"), "{}", second.stderr);
    assert_eq!(http::get(&scene.service.url("/healthz")).await.unwrap().0, 200, "the first one goes on");
    assert!(scene.jobs(&"a".repeat(40)).await.is_empty(), "its control socket too");
    scene.finish().await;
}
