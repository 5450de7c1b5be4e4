//! A guest with a network card: what it reaches, in a world of this test's own. Nothing leaves the machine.
//!
//! The program runs in a namespace that plays the host. Behind it is another one, with servers on addresses that would be public,
//! private or a cloud's, so that whatever is not refused is reached.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dayfly::host::netns::Namespace;
use dayfly::host::wire;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::State;
use crate::support::command::Outcome;
use crate::support::{eventually, host, leaks};

/// Addresses of servers, each with what it is to a guest.
const PUBLIC: &str = "11.0.0.10";
const OTHER: &str = "11.0.0.20";
const PRIVATE: &str = "10.9.0.10";
const METADATA: &str = "169.254.169.254";

/// The host's own address, on which something listens as well.
const HOST: &str = "11.0.0.1";

/// What guests ask for by name.
const NAMES: &str =
    "127.0.0.1 localhost\n11.0.0.10 allowed.example\n11.0.0.20 other.example\n10.9.0.10 inside.example\n";

/// A host, and servers behind it.
struct World {
    host: Namespace,
    _servers: Namespace,
    directory: tempfile::TempDir,
}

impl World {
    /// `None` where namespaces or the programs for them are missing.
    fn new() -> Option<Self> {
        let is_possible = nix::unistd::geteuid().is_root() && host::can_mount();
        let (host, servers) = (Namespace::new().ok()?, Namespace::new().ok()?);
        let lacking = host.within(|| {
            fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            Ok(wire::lacking())
        });
        if let Some(why) = lacking.unwrap().filter(|_| is_possible) {
            host::skipped(&why);
            return None;
        }
        let others = [OTHER, PRIVATE, METADATA].map(|address| format!("address add {address}/32 dev in\n")).concat();
        let links = [
            (
                &host,
                format!("link set lo up\nlink add out type veth peer name in netns {}\n", servers.path().display()),
            ),
            (&host, format!("address add {HOST}/24 dev out\nlink set out up\n")),
            (&host, "route add 10.9.0.0/16 dev out\nroute add 169.254.0.0/16 dev out\n".to_owned()),
            (&servers, format!("link set lo up\naddress add {PUBLIC}/24 dev in\n{others}link set in up\n")),
        ];
        for (namespace, batch) in links {
            ip(namespace, &batch);
        }
        for port in [80, 8080] {
            serve(&servers, port);
            serve(&host, port);
        }
        let directory = host::short_directory();
        fs::write(directory.path().join("hosts"), NAMES).unwrap();
        Some(Self { host, _servers: servers, directory })
    }

    /// The same command on this host, which knows the names.
    fn command(&self, command: &Command) -> Command {
        let script = "mount --bind \"$1\" /etc/hosts; shift; exec \"$@\"";
        let mut inside = Command::new("nsenter");
        inside.arg(net(&self.host)).args([
            "--",
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-ec",
            script,
            "sh",
        ]);
        inside.arg(self.directory.path().join("hosts")).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }
}

fn net(namespace: &Namespace) -> OsString {
    let mut option = OsString::from("--net=");
    option.push(namespace.path());
    option
}

fn ip(namespace: &Namespace, batch: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, batch).unwrap();
    let done =
        Command::new("nsenter").arg(net(namespace)).args(["--", "ip", "-batch"]).arg(file.path()).output().unwrap();
    assert!(done.status.success(), "{batch}{}", String::from_utf8_lossy(&done.stderr));
}

/// A server on every address of a namespace, which says so to whoever connects.
fn serve(namespace: &Namespace, port: u16) {
    let listener = namespace.within(|| TcpListener::bind(("0.0.0.0", port))).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 1024];
            // A client that goes away is not this test's matter.
            drop(stream.read(&mut request));
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"));
        }
    });
}

/// Asks each target for its page, and gives a line with its status; 000 where there is no answer.
fn ask(targets: &[&str]) -> String {
    let one = "printf '%s ' $target; curl --silent --output /dev/null --max-time 5 --write-out '%{http_code}\\n' http://$target/";
    format!("for target in {}; do {one}; done; true", targets.join(" "))
}

fn run(world: &World, state: &State, options: &[&str], script: &str) -> Outcome {
    let mut arguments = vec!["--egress", "nat"];
    arguments.extend(options);
    arguments.extend(["--", "sh", "-c", script]);
    let run = || -> Outcome { world.command(&state.command(&arguments)).output().unwrap().into() };
    let done = run();
    if !done.stderr.contains("has no driver for a network card") {
        return done;
    }
    // An image of all tests that is older than cards.
    let mut build = crate::support::command::dayfly();
    build.args(["image", "build", "base", "--state-dir"]).arg(state.path());
    let built: Outcome = build.output().unwrap().into();
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    run()
}

fn assert_nothing_left(world: &World, state: &Path) {
    leaks::assert_none(state);
    let links =
        world.host.within(|| Ok(nix::net::if_::if_nameindex()?.iter().map(|one| one.name().to_owned()).collect()));
    let links: Vec<std::ffi::CString> = links.unwrap();
    assert_eq!(links, [c"lo".to_owned(), c"out".to_owned()]);
}

#[test]
fn a_card_reaches_the_public_and_neither_the_host_nor_its_neighbours() {
    let Some(world) = World::new() else { return };
    let Some(state) = State::new() else { return };
    let targets = [PUBLIC, "allowed.example", "11.0.0.10:8080", HOST, PRIVATE, METADATA, "inside.example", "192.0.0.1"];
    let script = format!("cat /etc/resolv.conf; env | grep -ci _proxy; {}", ask(&targets));
    let done = run(&world, &state, &[], &script);
    insta::assert_snapshot!(done.stdout, @r"
    nameserver 192.0.0.1
    0
    11.0.0.10 200
    allowed.example 200
    11.0.0.10:8080 000
    11.0.0.1 000
    10.9.0.10 000
    169.254.169.254 000
    inside.example 000
    192.0.0.1 000
    ");
    for refused in ["allowed.example:8080", "11.0.0.1:80", "10.9.0.10:80", "169.254.169.254:80", "inside.example"] {
        assert!(done.stderr.contains(&format!("`{refused}`")), "{refused} is not in the log:\n{}", done.stderr);
    }
    assert_nothing_left(&world, state.path());
}

#[test]
fn a_narrow_card_reaches_what_its_names_lead_to() {
    let Some(world) = World::new() else { return };
    let Some(state) = State::new() else { return };
    let options = [
        "--egress-allow",
        "allowed.example",
        "--egress-allow",
        "inside.example:8080",
        "--egress-address",
        "10.9.0.0/16",
    ];
    // The address of an allowed name is reached once somebody asked for the name.
    let targets = [
        PUBLIC,
        "allowed.example",
        PUBLIC,
        "allowed.example:8080",
        "other.example",
        OTHER,
        "inside.example:8080",
        "other.example:8080",
    ];
    let done = run(&world, &state, &options, &ask(&targets));
    insta::assert_snapshot!(done.stdout, @r"
    11.0.0.10 000
    allowed.example 200
    11.0.0.10 200
    allowed.example:8080 000
    other.example 000
    11.0.0.20 000
    inside.example:8080 200
    other.example:8080 000
    ");
    assert!(done.stderr.contains("`other.example` is not in `allow`"), "{}", done.stderr);
    assert_nothing_left(&world, state.path());
}

/// How many VMs the test below makes.
const COUNT: &str = "DAYFLY_LEAK_REAL_VMS";
const FEW: usize = 2;

/// Every other command, or its VM's monitor, is killed at some moment; `make leaks` makes fifty.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_real_vms_with_cards() {
    let Some(world) = World::new() else { return };
    let Some(state) = State::new() else { return };
    let count = std::env::var(COUNT).map_or(FEW, |count| count.parse().unwrap());
    let script = format!("echo began; {}", ask(&["allowed.example"]));
    let whole = || run(&world, &state, &[], &script);
    assert_eq!(whole().stdout, "began\nallowed.example 200\n");
    let before = Held::of(&world, state.path());
    for number in 1..=count {
        match number % 4 {
            1 | 3 => {
                let mut child = spawn(&world, &state, &script);
                let monitor = monitor_of(&state, &mut child, number % 8 > 4).await;
                let victim = if number % 4 == 1 { Pid::from_raw(child.id() as i32) } else { monitor };
                kill(victim, Signal::SIGKILL).unwrap();
                child.wait().unwrap();
            }
            // The next command removes what a killed one left.
            _ => assert_eq!(whole().stdout, "began\nallowed.example 200\n"),
        }
    }
    assert_eq!(whole().code, Some(0));
    assert_nothing_left(&world, state.path());
    let after = Held::of(&world, state.path());
    eprintln!("leaks: {count} real VMs; before and after: {before:?}");
    assert_eq!(after, before);
}

fn spawn(world: &World, state: &State, script: &str) -> Child {
    let command = state.command(&["--egress", "nat", "--", "sh", "-c", script]);
    world.command(&command).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits for a VM's monitor, and for its command if that shall have begun.
async fn monitor_of(state: &State, child: &mut Child, has_begun: bool) -> Pid {
    let monitor = eventually("a monitor", async || leaks::monitors(state.path()).first().copied()).await;
    if has_begun {
        let mut word = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
    }
    monitor
}

/// What VMs take of a host, beyond what [`leaks::assert_none`] looks at.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    links: usize,
    rules: usize,
    namespaces: usize,
    files: usize,
}

impl Held {
    fn of(world: &World, state: &Path) -> Self {
        let list =
            Command::new("nsenter").arg(net(&world.host)).args(["--", "nft", "list", "ruleset"]).output().unwrap();
        let of_monitors = leaks::monitors(state).into_iter().map(|pid| format!("/proc/{pid}/ns/net"));
        let namespaces = of_monitors.filter(|path| fs::read_link(path).is_ok()).count();
        let files = Command::new("find").arg(state).args(["-not", "-path", "*/images/*"]).output().unwrap();
        let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
        Self {
            links: world.host.within(|| Ok(nix::net::if_::if_nameindex()?.iter().count())).unwrap(),
            rules: lines(&list.stdout),
            namespaces,
            files: lines(&files.stdout),
        }
    }
}
