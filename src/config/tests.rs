#![allow(clippy::unwrap_used)]

use super::*;
use crate::document::Diagnostic;
use crate::forge::RepoName;

/// The smallest file that is valid.
const SMALL: &str = r#"
[server]
public_url = "https://ci.example.org"
[github]
webhook_secret = { env = "HOOK" }
token = { env = "TOKEN" }
[profile.linux]
labels = ["linux"]
"#;

fn shown(found: &[Diagnostic]) -> String {
    found.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}

fn errors(text: &str) -> String {
    shown(&Config::parse("dayfly.toml", text).expect_err("the file has mistakes"))
}

fn parsed(text: &str) -> (Config, String) {
    match Config::parse("/etc/dayfly/dayfly.toml", text) {
        Ok((config, warnings)) => (config, shown(&warnings)),
        Err(errors) => panic!("{}", shown(&errors)),
    }
}

fn github_of(config: &Config) -> &GitHub {
    config.github.as_ref().unwrap()
}

#[test]
fn the_smallest_file_gets_the_documented_defaults() {
    let (config, warnings) = parsed(SMALL);
    assert_eq!(warnings, "");
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.control_socket(), Path::new("/var/lib/dayfly/control.sock"));
    assert_eq!(config.vm.images_dir, Path::new("/var/lib/dayfly/images"));
    assert_eq!(config.vm.qemu, Path::new("qemu-system-x86_64"));
    assert_eq!(github_of(&config).workflows_dir, ".dayfly/workflows");
    assert_eq!(github_of(&config).api_url.as_str(), "https://api.github.com/");
    let linux = config.profile("linux").unwrap();
    assert_eq!((linux.vcpus, linux.memory, linux.disk), (1, 512 << 20, 4 << 30));
    assert_eq!((linux.timeout, linux.log_limit), (Duration::from_secs(3600), 16 << 20));
    assert_eq!((config.limits.max_jobs_per_run, config.limits.queue, config.limits.attempts), (256, 10_000, 3));
    assert_eq!(config.limits.grace, Duration::from_secs(10));
}

/// The example shows defaults in comments; this reads it with them switched on, so that they can neither rot nor lie.
#[test]
fn the_example_is_valid_and_shows_the_defaults() {
    let example = include_str!("../../config/dayfly.example.toml");
    let (as_written, warnings) = parsed(example);
    assert_eq!(warnings, "");
    let switched_on: Vec<&str> = example
        .lines()
        .map(|line| match line.strip_prefix("# ").and_then(|rest| Some((rest, rest.split_once(" = ")?.0))) {
            Some((_, "token" | "cache" | "pool" | "prepare" | "reports")) => line,
            Some((rest, key)) if key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => rest,
            _ => line,
        })
        .collect();
    let (explicit, warnings) = parsed(&switched_on.join("\n"));
    assert_eq!(warnings, "");
    assert_eq!(format!("{:#?}", strip_positions(explicit)), format!("{:#?}", strip_positions(as_written)));
    for key in ["listen", "body_limit", "vcpus", "recipes_dir", "format", "grace", "keep"] {
        assert!(switched_on.iter().any(|line| line.starts_with(&format!("{key} = "))), "{key} is not in the example");
    }
}

fn strip_positions(mut config: Config) -> Config {
    let nowhere = crate::document::Position { line: 0, column: 0 };
    let github = config.github.as_mut().unwrap();
    github.webhook_secret.position = nowhere;
    if let Credential::App { private_key, .. } = &mut github.credential {
        private_key.position = nowhere;
    }
    config
}

#[test]
fn every_mistake_is_reported_at_once_with_its_place_and_remedy() {
    insta::assert_snapshot!(errors(r#"
[server]
listen = "localhost"
public_url = "ci.example.org"
body_limit = 25
[github]
webhook_secret = "hunter2"
token = { file = "a", env = "B" }
workflow_dir = "ci"
[profile.linux]
labels = ["linux", 5]
memory = "512 MB"
vcpus = 65
disk = "1 MiB"
image = "../base"
cache = { path = "c", mount = "/usr/lib" }
[profile.Big]
labels = []
timeout = "1 hour"
[limit]
[vm]
backend = "qemu-kwm"
[log]
filter = "dayfly=loud"
"#), @r#"
dayfly.toml:3:10: server.listen: `localhost` is not an address and port
  hint: like `127.0.0.1:8080`, `0.0.0.0:80` or `[::1]:8080`
dayfly.toml:4:14: server.public_url: `ci.example.org` is not an http or https address
  hint: write it like `https://ci.example.org`
dayfly.toml:5:14: server.body_limit: `25` has no unit
  hint: write it like `"512 MiB"`
dayfly.toml:7:18: github.webhook_secret: a secret does not stand in the configuration itself
  hint: write `{ file = "path" }` or `{ env = "NAME" }`
dayfly.toml:8:9: github.token: a secret has one place, not both `file` and `env`
  hint: remove one
dayfly.toml:9:1: github.workflow_dir: unknown key `workflow_dir`
  hint: did you mean `workflows_dir`?
dayfly.toml:11:20: profile.linux.labels[1]: expected a string, found the number `5`
  hint: put it in quotes
dayfly.toml:12:10: profile.linux.memory: `512 MB` is not a size
  hint: did you mean `512 MiB`?
dayfly.toml:13:9: profile.linux.vcpus: `65` is not between 1 and 64
dayfly.toml:14:8: profile.linux.disk: `1 MiB` is not between 64 MiB and 16 TiB
dayfly.toml:15:9: profile.linux.image: `../base` is not an image's name
  hint: small letters, digits, `-`, `_` and `.`
dayfly.toml:16:31: profile.linux.cache.mount: `/usr/lib` belongs to the guest's system
  hint: choose a directory of its own, like `/cache`
dayfly.toml:17:10: profile.Big: `Big` cannot be a profile's name
  hint: 1 to 40 small letters, digits and `-`
dayfly.toml:18:10: profile.Big.labels: must name at least one label
  hint: no job could ask for this profile
dayfly.toml:19:11: profile.Big.timeout: `1 hour` is not a duration
  hint: units are `ms`, `s`, `m`, `h` and `d`
dayfly.toml:20:2: limit: unknown key `limit`
  hint: did you mean `limits`?
dayfly.toml:22:11: vm.backend: `qemu-kwm` is not a known value
  hint: did you mean `qemu-kvm`?
dayfly.toml:24:10: log.filter: `dayfly=loud` is not a log filter
  hint: a level (`error`, `warn`, `info`, `debug`, `trace`) or directives like `info,dayfly::vm=debug`
"#);
}

#[test]
fn users_and_limits_of_monitors_are_read_and_bounded() {
    let with = |vm: &str| format!("{SMALL}[vm]\n{vm}\n");
    let given = "uids = { first = 500000, count = 16 }\nio = { bandwidth = \"100 MiB\" }\nrequire_confinement = true";
    let vm = parsed(&with(given)).0.vm;
    assert_eq!((vm.uids.first, vm.uids.count, vm.require_confinement), (500_000, 16, true));
    let too_many = errors(&format!("{SMALL}[limits]\nmax_vms = 17\n[vm]\n{given}\n"));
    assert!(too_many.contains("`max_vms` is 17, and there are 16 users for VMs"), "{too_many}");
    assert_eq!((vm.io.bandwidth, vm.io.operations), (Some(100 << 20), None));
    for (wrong, complaint) in [
        ("uids = { first = 4294967290, count = 16 }", "go beyond the last one"),
        ("uids = { first = 0, count = 16 }", "vm.uids.first"),
        ("uids = { first = 500000 }", "vm.uids.count"),
        ("io = { bandwidth = \"1 B\" }", "vm.io.bandwidth"),
    ] {
        let told = errors(&with(wrong));
        assert!(told.contains(complaint), "{wrong}: {told}");
    }
}

#[test]
fn what_is_prepared_is_read_and_bounded() {
    let with = |prepare: &str| format!("{SMALL}prepare = {prepare}\n[prepared]\nmax_size = \"0 B\"\n");
    let (config, warnings) = parsed(&with("{ key = [\"b.lock\", \"a.lock\"], run = \"npm ci\" }"));
    assert_eq!(warnings, "");
    let expected = Prepare { key: vec!["a.lock".into(), "b.lock".into()], run: "npm ci".into() };
    assert_eq!(config.profile("linux").unwrap().prepare, Some(expected));
    assert_eq!((config.prepared.max_size, config.prepared.max_age), (0, Duration::from_secs(14 * 86400)));
    insta::assert_snapshot!(errors(&with("{ key = \"a/../b\", rum = \"npm ci\" }")), @"
    dayfly.toml:9:19: profile.linux.prepare.key: `a/../b` is not a file inside a repository
      hint: write it relative to the repository, like `web/package-lock.json`; no patterns
    dayfly.toml:9:29: profile.linux.prepare.rum: unknown key `rum`
      hint: did you mean `run`?
    ");
}

#[test]
fn an_empty_file_says_what_is_needed() {
    insta::assert_snapshot!(errors(""), @r#"
    dayfly.toml:1:1: profile: missing key `profile`
      hint: add `[profile.linux]` with `labels = ["linux"]`
    dayfly.toml:1:1: github.webhook_secret: missing key `webhook_secret`
      hint: like `webhook_secret = { file = "webhook-secret" }`
    dayfly.toml:1:1: github: neither `token` nor `app` says as whom to speak to GitHub
      hint: an App gets check runs: `app = { id = 1, private_key = { file = "app.pem" } }`; a token gets statuses: `token = { file = "token" }`
    "#);
}

#[test]
fn a_misspelt_key_is_not_also_a_missing_one() {
    insta::assert_snapshot!(errors("[github]\nwebhok_secret = {}\ntokn = {}\n[profile.linux]\nlables = ['x']\n"), @"
    dayfly.toml:2:1: github.webhok_secret: unknown key `webhok_secret`
      hint: did you mean `webhook_secret`?
    dayfly.toml:3:1: github.tokn: unknown key `tokn`
      hint: did you mean `token`?
    dayfly.toml:5:1: profile.linux.lables: unknown key `lables`
      hint: did you mean `labels`?
    ");
    let app = "[github]\nwebhook_secret = { env = 'X' }\napp = { idd = 1 }\n[profile.linux]\nlabels = ['x']\n";
    insta::assert_snapshot!(errors(app), @r#"
    dayfly.toml:3:7: github.app.private_key: missing key `private_key`
      hint: like `private_key = { file = "app.pem" }`
    dayfly.toml:3:9: github.app.idd: unknown key `idd`
      hint: did you mean `id`?
    "#);
}

#[test]
fn values_of_another_kind_lead_to_the_right_one() {
    let text = "server = 5\nprofile = 'x'\n[github]\nwebhook_secret = { env = 'X' }\ntoken = { env = 'Y' }\n[github.repository]\n\
                name = 'a/b'\n[limits]\nmax_vms = '4'\nattempts = 2.5\ngrace = true\nlog_retention = 1.5\n";
    insta::assert_snapshot!(errors(text), @r#"
    dayfly.toml:1:10: server: expected a table, found the number `5`
    dayfly.toml:2:11: profile: expected a table, found the string `x`
    dayfly.toml:6:1: github.repository: repositories are a list
      hint: write `[[github.repository]]`, once for each of them
    dayfly.toml:9:11: limits.max_vms: expected a whole number, found the string `4`
      hint: write it without quotes
    dayfly.toml:10:12: limits.attempts: expected a whole number, found the number `2.5`
    dayfly.toml:11:9: limits.grace: expected something like `"30s"`, found `true`
    dayfly.toml:12:17: limits.log_retention: `1.5` has no unit
      hint: write it like `"30s"`
    "#);
    insta::assert_snapshot!(errors("[[profile]]\nname = 'linux'\n[github]\nwebhook_secret = { env = 'X' }\ntoken = { env = 'Y' }\n"), @"
    dayfly.toml:1:1: profile: each profile is a table of its own
      hint: write `[profile.linux]`, not `[[profile]]`
    ");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let text = SMALL.replace("token =", "app = { id = 0, private_key = { env = \"not a name\" } }\ntoken =")
        + r#"
[[github.repository]]
name = "Acme/site"
profiles = ["linx"]
[[github.repository]]
name = "acme/SITE"
profiles = []
[[github.repository]]
name = "acme"
workflows_dir = "../x"
[profile.other]
labels = ["Linux", "self-hosted"]
"#;
    insta::assert_snapshot!(errors(&text), @"
    dayfly.toml:6:7: github.app: `token` (line 7) and `app` exclude each other
      hint: remove one of them
    dayfly.toml:6:14: github.app.id: `0` is not between 1 and 18446744073709551615
    dayfly.toml:6:39: github.app.private_key.env: not the name of an environment variable
      hint: letters, digits and `_`, like `DAYFLY_TOKEN`
    dayfly.toml:13:13: github.repository[0].profiles[0]: there is no profile `linx`
      hint: did you mean `linux`?
    dayfly.toml:15:8: github.repository[1].name: `acme/SITE` stands here a second time, first in line 12
      hint: merge the two entries
    dayfly.toml:16:12: github.repository[1].profiles: an empty list allows no profile at all
      hint: remove the key to allow all
    dayfly.toml:18:8: github.repository[2].name: `acme` is neither `owner/name` nor `owner/*`
    dayfly.toml:19:17: github.repository[2].workflows_dir: `../x` is not a directory inside a repository
      hint: write it relative to the repository, like `.dayfly/workflows`
    dayfly.toml:20:10: profile.other: has the same labels as `linux` in line 8
      hint: jobs ask by labels: give one of the two a label of its own
    ");
}

#[test]
fn what_works_but_surprises_is_a_warning() {
    let text =
        SMALL.replace("https://ci", "http://ci").replace("[profile", "workflows_dir = '.github/workflows/'\n[profile");
    insta::assert_snapshot!(parsed(&text).1, @"
    /etc/dayfly/dayfly.toml:3:14: server.public_url: plain `http` carries log pages unencrypted
      hint: use `https`
    /etc/dayfly/dayfly.toml:7:17: github.workflows_dir: GitHub queues the same workflows unless its Actions are switched off
      hint: switch them off in the repository's settings, or use `.dayfly/workflows`
    ");
    let local = parsed(&SMALL.replace("public_url = \"https://ci.example.org\"", "listen = '[::]:80'"));
    assert_eq!(local.0.server.public_url.as_str(), "http://localhost/");
    insta::assert_snapshot!(local.1, @"
    /etc/dayfly/dayfly.toml:2:1: server: `public_url` is not set: links on the forge lead to this host only
      hint: set the address by which people reach this service
    ");
}

#[test]
fn relative_paths_start_at_the_files_directory() {
    let text =
        SMALL.replace("env = \"HOOK\"", "file = \"hook\"").replace("[server]", "[server]\nstate_dir = \"state\"");
    let (config, _) = parsed(&text);
    assert_eq!(github_of(&config).webhook_secret.place, SecretPlace::File("/etc/dayfly/hook".into()));
    assert_eq!(config.server.state_dir, Path::new("/etc/dayfly/state"));
    assert_eq!(config.vm.images_dir, Path::new("/etc/dayfly/state/images"));
}

#[test]
fn the_sweep_has_an_interval_or_is_off() {
    let with = |value: &str| SMALL.replace("[profile", &format!("sweep = {value}\n[profile"));
    assert_eq!(github_of(&parsed(SMALL).0).sweep, Some(Duration::from_secs(600)));
    assert_eq!(github_of(&parsed(&with("'off'")).0).sweep, None);
    assert_eq!(github_of(&parsed(&with("'1h 30m'")).0).sweep, Some(Duration::from_secs(5400)));
    let complaints = ["'0s'", "'2d'", "10", "'never'", "false"].map(|value| errors(&with(value)));
    insta::assert_snapshot!(complaints.join("\n"), @r#"
    dayfly.toml:7:9: github.sweep: `0s` is not an interval
      hint: write `"off"` for never
    dayfly.toml:7:9: github.sweep: `2d` is not between 1s and 1d
    dayfly.toml:7:9: github.sweep: `10` has no unit
      hint: write it like `"30s"`
    dayfly.toml:7:9: github.sweep: `never` is not a duration
      hint: write it like `30s` or `1h 30m`
    dayfly.toml:7:9: github.sweep: expected something like `"30s"`, found `false`
    "#);
}

#[test]
fn mounts_over_the_guests_system_are_refused() {
    let mount = |path: &str| {
        let text = format!("{SMALL}cache = {{ path = '/c', mount = '{path}' }}");
        Config::parse("f", &text).map(|(config, _)| config.profiles[0].cache.clone().unwrap().mount)
    };
    for bad in ["/", "//", "/usr", "/usr/local", "/proc/x", "/tmp", "/home/", "cache", "/a/../etc", "/a\u{7}", ""] {
        assert!(mount(bad).is_err(), "{bad}");
    }
    for (good, kept) in [("/cache", "/cache"), ("/var/cache/ci/", "/var/cache/ci"), ("/home//runner", "/home/runner")] {
        assert_eq!(mount(good).unwrap(), kept);
    }
}

#[test]
fn events_of_unlisted_repositories_are_ignored_and_the_nearer_entry_wins() {
    let repo = |name: &str| RepoName::parse(name).unwrap();
    let (open, _) = parsed(SMALL);
    assert_eq!(open.repository("github", &repo("any/body")).unwrap().workflows_dir, ".dayfly/workflows");

    let (listed, _) = parsed(&format!(
        "{SMALL}[profile.big]\nlabels = ['big']\n[[github.repository]]\nname = 'acme/*'\nprofiles = ['linux']\n\
         [[github.repository]]\nname = 'acme/site'\nworkflows_dir = 'ci/'\n"
    ));
    assert!(listed.repository("github", &repo("any/body")).is_none());
    assert!(listed.repository("github", &repo("acme-evil/site")).is_none());
    let site = listed.repository("github", &repo("ACME/Site")).unwrap();
    let other = listed.repository("github", &repo("acme/other")).unwrap();
    assert_eq!((site.workflows_dir, other.workflows_dir), ("ci", ".dayfly/workflows"));
    let big = ["big".to_owned()];
    assert_eq!(listed.select_profile_for(&site, &big).unwrap().name, "big");
    insta::assert_snapshot!(listed.select_profile_for(&other, &big).unwrap_err(), @"
    no runner has the label `big`; the nearest, `linux`, lacks `big`
      hint: `runs-on` may name `linux`
    ");
}

#[test]
fn forks_are_held_unless_the_nearest_entry_says_otherwise() {
    let repo = |name: &str| RepoName::parse(name).unwrap();
    let (open, _) = parsed(SMALL);
    assert_eq!(open.repository("github", &repo("any/body")).unwrap().forks, Forks::Approve);
    let (listed, _) = parsed(&format!(
        "{}[[github.repository]]\nname = 'acme/*'\n[[github.repository]]\nname = 'acme/site'\nforks = 'run'\n",
        SMALL.replace("[profile", "forks = 'deny'\n[profile")
    ));
    let forks = ["acme/other", "acme/site"].map(|name| listed.repository("github", &repo(name)).unwrap().forks);
    assert_eq!(forks, [Forks::Deny, Forks::Run]);
    insta::assert_snapshot!(errors(&SMALL.replace("[profile", "forks = 'aprove'\n[profile")), @r"
    dayfly.toml:7:9: github.forks: `aprove` is not a known value
      hint: did you mean `approve`?
    ");
}

fn labels(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_narrowest_profile_with_all_labels_wins() {
    let (config, _) = parsed(&format!(
        "{SMALL}[profile.gpu]\nlabels = ['Linux', 'gpu', 'x64']\n[profile.arm]\nlabels = ['linux', 'arm64']\n\
         [profile.twin]\nlabels = ['linux', 'riscv']\n"
    ));
    let table = [
        ("linux", "linux"),
        ("self-hosted LINUX", "linux"),
        ("Self-Hosted", "linux"),
        ("linux gpu", "gpu"),
        ("GPU gpu", "gpu"),
        ("x64 linux", "gpu"),
        ("riscv", "twin"),
    ];
    for (wanted, profile) in table {
        assert_eq!(config.select_profile(&labels(wanted)).unwrap().name, profile, "{wanted}");
    }
    let refused = |wanted: &str| config.select_profile(&labels(wanted)).unwrap_err().to_string();
    insta::assert_snapshot!(refused("linux arm46"), @"
    no runner has the labels `linux`, `arm46`; the nearest, `linux`, lacks `arm46`
      hint: did you mean `arm64`?
    ");
    insta::assert_snapshot!(refused("windows arm64 linux"), @"
    no runner has the labels `windows`, `arm64`, `linux`; the nearest, `arm`, lacks `windows`
      hint: `runs-on` may name `arm64`, `gpu`, `linux`, `riscv`, `x64`
    ");
    insta::assert_snapshot!(refused("gpu arm64"), @"
    no runner has the labels `gpu`, `arm64`; the nearest, `gpu`, lacks `arm64`
      hint: `runs-on` may name `arm64`, `gpu`, `linux`, `riscv`, `x64`
    ");
    let flood: Vec<String> = (0..1000).map(|n| format!("\u{1b}label{n}")).collect();
    let text = config.select_profile(&flood).unwrap_err().to_string();
    assert!(text.len() < 600 && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn metrics_are_on_and_may_move() {
    let metrics = |text: &str| parsed(&format!("{SMALL}{text}")).0.metrics;
    assert_eq!(metrics(""), Metrics { enabled: true, listen: None });
    let moved = metrics("[metrics]\nlisten = \"127.0.0.1:9464\"\n");
    assert_eq!(moved.listen.map(|address| address.port()), Some(9464));
    assert!(!metrics("[metrics]\nenabled = false\n").enabled);
    insta::assert_snapshot!(errors(&format!("{SMALL}[metrics]\nlisten = \"127.0.0.1:8080\"\nlissten = 1\n")));
}

#[test]
fn pools_and_limits_are_compared() {
    let pool = |value: &str| parsed(&format!("{SMALL}pool = {value}")).0.profiles[0].pool.unwrap();
    let hour = Duration::from_secs(3600);
    assert_eq!(parsed(SMALL).0.profiles[0].pool, None);
    assert_eq!(pool("{ max = 3 }"), Pool { min: 0, max: 3, max_age: hour });
    assert_eq!(pool("{ min = 2 }"), Pool { min: 2, max: 2, max_age: hour });
    assert_eq!(pool("{ min = 1, max = 4, max_age = \"10m\" }").max_age, hour / 6);
    let wrong =
        ["{}", "{ min = 3, max = 2 }", "{ max = 0 }", "{ max = 1, max_age = \"1s\" }", "{ maximum = 1, min = 1 }", "2"];
    insta::assert_snapshot!(wrong.map(|value| errors(&format!("{SMALL}pool = {value}"))).join("\n"));
    let limits = "memory = \"2 GiB\"\nvcpus = 2\nmax_vms = 2\n";
    insta::assert_snapshot!(errors(&format!("{SMALL}vcpus = 2\npool = {{ min = 5 }}\n[limits]\n{limits}")));
    let within =
        parsed(&format!("{SMALL}pool = {{ min = 2, max = 9 }}\n[limits]\n{limits}disk_reserve = \"0 B\"\n")).0.limits;
    assert_eq!((within.memory, within.vcpus, within.disk_reserve), (Some(2 << 30), 2, Some(0)));
    assert_eq!(parsed(&format!("{SMALL}[limits]\nmemory = \"auto\"\n")).0.limits.memory, None);
}

#[test]
fn egress_is_read_and_repositories_narrow_it() {
    let (config, warnings) = parsed(
        r#"
[server]
public_url = "https://ci.example.org"
[github]
webhook_secret = { env = "S" }
token = { env = "T" }
[[github.repository]]
name = "o/narrow"
egress = { allow = ["a.example", "*.b.example:8443"], deny = ["x.b.example"] }
[[github.repository]]
name = "o/off"
egress = { mode = "none" }
[profile.linux]
labels = ["linux"]
[profile.linux.egress]
allow = ["*.example", "*.example:8443"]
allow_addresses = ["10.0.0.0/8"]
audit = true
limits = { connections = 3, bandwidth = "1 MiB" }
[profile.big]
labels = ["big"]
"#,
    );
    assert_eq!(warnings, "");
    let linux = &config.profile("linux").unwrap().egress;
    assert!(linux.audit && linux.allow.len() == 2 && linux.addresses.allow.len() == 1);
    assert_eq!((linux.limits.connections, linux.limits.bandwidth, linux.limits.bytes), (3, 1 << 20, 64 << 30));
    assert_eq!(config.profile("big").unwrap().egress, Default::default());
    let of = |name: &str| config.repository("github", &RepoName::parse(name).unwrap()).unwrap().egress.unwrap().clone();
    assert!(of("o/off").is_off && !of("o/narrow").is_off);
    assert_eq!(of("o/narrow").allow.unwrap().len(), 2);
}

#[test]
fn egress_that_is_wrong_or_would_widen_is_refused() {
    insta::assert_snapshot!(errors(
        r#"
[server]
public_url = "https://ci.example.org"
[github]
webhook_secret = { env = "S" }
token = { env = "T" }
[[github.repository]]
name = "o/wide"
egress = { allow = ["a.example", "b.org", "a.example:22"], ports = [22] }
[profile.linux]
labels = ["linux"]
egress = { allow = ["*.example"] }
[profile.nat]
labels = ["nat"]
egress = { mode = "nat", allow = [], ports = [0, 65536], deny = ["https://x.example/"], limits = { connections = 101 } }
[profile.wrong]
labels = ["wrong"]
egress = { mode = "open", allow_addresses = ["0.0.0.0/0", "10.1.2.3/8"], ca_bundle = 5 }
"#), @r#"
dayfly.toml:9:43: github.repository[0].egress.allow[2]: `a.example:22` would widen what the profile allows
  hint: add it to `allow` of a profile, such as `linux`
dayfly.toml:9:60: github.repository[0].egress.ports: unknown key `ports`
  hint: known here: `mode`, `allow`, `deny`
dayfly.toml:15:34: profile.nat.egress.allow: an empty list allows nothing at all
  hint: write `mode = "none"`
dayfly.toml:15:47: profile.nat.egress.ports[0]: `0` is not between 1 and 65535
dayfly.toml:15:50: profile.nat.egress.ports[1]: `65536` is not between 1 and 65535
dayfly.toml:15:66: profile.nat.egress.deny[0]: `https://x.example/` is not a host
  hint: leave the scheme and the path out: `example.org`
dayfly.toml:15:114: profile.nat.egress.limits.connections: `101` is not between 1 and 100
dayfly.toml:18:19: profile.wrong.egress.mode: `open` is not a known value
  hint: known here: `proxy`, `nat`, `none`
dayfly.toml:18:46: profile.wrong.egress.allow_addresses[0]: `0.0.0.0/0` is not a range of addresses
  hint: a range has at least `/8`: name what is really meant
dayfly.toml:18:59: profile.wrong.egress.allow_addresses[1]: `10.1.2.3/8` is not a range of addresses
  hint: did you mean `10.0.0.0/8`?
dayfly.toml:18:86: profile.wrong.egress.ca_bundle: expected a string, found the number `5`
  hint: put it in quotes
"#);
}

const GITLAB: &str = "[[gitlab]]\nurl = 'https://gitlab.example.org'\n";

#[test]
fn runners_of_gitlab_have_a_token_and_a_profile() {
    let runner = "[[gitlab.runner]]\ntoken = { file = 'glrt' }\nprofile = 'linux'\n";
    let (config, warnings) = parsed(&format!("{SMALL}{GITLAB}{runner}{runner}name = 'second'\nlimit = 2\n"));
    assert_eq!(warnings, "");
    let gitlab = &config.gitlab[0];
    assert_eq!((gitlab.name.as_str(), gitlab.url.as_str()), ("gitlab", "https://gitlab.example.org/"));
    let runners: Vec<_> = gitlab.runners.iter().map(|runner| (runner.name.as_str(), runner.limit)).collect();
    assert_eq!(runners, [("linux", None), ("second", Some(2))]);
    let wrong = format!(
        "{GITLAB}{GITLAB}name = 'github'\n{runner}{runner}[[gitlab.runner]]\nprofile = 'none'\ntoken = 'glrt-x'\n"
    );
    insta::assert_snapshot!(errors(&format!("{SMALL}{wrong}")), @r#"
    dayfly.toml:13:8: gitlab[1].name: `github` cannot be the name of a GitLab or a runner
      hint: 1 to 40 small letters, digits and `-`; not `github` or `dayfly`
    dayfly.toml:17:1: gitlab[1].runner[1]: `linux` is the name of the entry in line 14, too
      hint: give each a `name` of its own
    dayfly.toml:21:11: gitlab[1].runner[2].profile: there is no profile `none`
      hint: known here: `linux`
    dayfly.toml:22:9: gitlab[1].runner[2].token: a secret does not stand in the configuration itself
      hint: write `{ file = "path" }` or `{ env = "NAME" }`
    "#);
    insta::assert_snapshot!(errors(&format!("{SMALL}[gitlab]\nurl = 'x'\n")), @"
    dayfly.toml:9:1: gitlab: `gitlab` is a list
      hint: write `[[gitlab]]`, once for each of them
    ");
}
