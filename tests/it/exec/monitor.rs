//! A program in QEMU's place, as if a guest had taken over its monitor: what it gets.
//!
//! docs/confinement.md lists what is tried.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::State;
use crate::support::command::{self, Outcome};
use crate::support::leaks;

/// The program. Who runs all tests has it; who runs only some has it built, once.
fn hostile_program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_dayfly")).parent().unwrap().join("examples/hostile-monitor");
    if !program.exists() {
        let arguments = ["build", "--quiet", "--example", "hostile-monitor"];
        let cargo = Command::new(env!("CARGO")).args(arguments).output().unwrap();
        assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    }
    program
}

/// What a hostile program would like to have, on this host and of this test.
struct Prey {
    directory: tempfile::TempDir,
    /// Where the program is: that one place it sees.
    beside: tempfile::TempDir,
    loopback: TcpListener,
    _abstract: UnixListener,
    _sockets: [UnixListener; 2],
}

impl Prey {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("prey-").tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        for file in ["store", "other-disk", "memory"] {
            fs::write(place(file), "as it was").unwrap();
        }
        let hidden = SocketAddr::from_abstract_name(place("abstract").as_os_str().as_encoded_bytes()).unwrap();
        Self {
            loopback: TcpListener::bind("127.0.0.1:0").unwrap(),
            _abstract: UnixListener::bind_addr(&hidden).unwrap(),
            _sockets: ["other-socket", "control-socket"].map(|name| UnixListener::bind(place(name)).unwrap()),
            beside: tempfile::Builder::new().prefix("hunter-").tempdir().unwrap(),
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A copy of the program that knows all of it.
    fn hunter(&self) -> PathBuf {
        let program = self.beside.path().join("hunter");
        fs::copy(hostile_program(), &program).unwrap();
        let mut file = File::options().append(true).open(&program).unwrap();
        writeln!(file, "\n--- what to try ---").unwrap();
        for name in ["store", "other-disk", "other-socket", "control-socket", "abstract"] {
            writeln!(file, "{name}={}", self.path(name).display()).unwrap();
        }
        for name in ["state", "scratch"] {
            writeln!(file, "{name}={}", self.directory.path().display()).unwrap();
        }
        let groups = ["/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/unified/cgroup.procs"];
        let group = groups.into_iter().find(|path| Path::new(path).exists()).unwrap_or(groups[0]);
        let (hostname, address) = (nix::unistd::gethostname().unwrap(), self.loopback.local_addr().unwrap());
        writeln!(file, "cgroup={group}\nhostname={}\nloopback={address}", hostname.display()).unwrap();
        writeln!(file, "service-pid={}", std::process::id()).unwrap();
        program
    }
}

/// The lines about attempts, in what Dayfly or the program printed.
fn attempts(text: &str) -> Vec<&str> {
    let is_attempt = |line: &&str| line.contains(": refused (") || line.ends_with(": got it");
    text.lines()
        .map(|line| line.strip_prefix("error: the virtual machine monitor failed: ").unwrap_or(line))
        .filter(is_attempt)
        .collect()
}

#[test]
fn what_takes_over_a_monitor_gets_nothing() {
    let Some(state) = State::new() else { return };
    // The snapshot is QEMU's, which the hostile program claims to be.
    assert_eq!(state.run(&["--", "true"]).code, Some(0));
    let prey = Prey::new();
    let hunter = prey.hunter();
    let mut unconfined = Command::new(&hunter);
    unconfined.arg("-object").arg(format!("mem-path={}", prey.path("memory").display()));
    let Outcome { stdout, .. } = unconfined.output().unwrap().into();
    let got = attempts(&stdout).iter().filter(|line| line.ends_with(": got it")).count();
    assert!(got > 20, "without confinement there is too little to be had for this test to say anything:\n{stdout}");
    fs::remove_file(prey.path("node")).unwrap();

    let done = state.run(&["--qemu", hunter.to_str().unwrap(), "--", "true"]);
    assert_eq!(done.code, Some(69), "{}", done.stderr);
    insta::assert_snapshot!(attempts(&done.stderr).join("\n"), @"
    read the store: refused (ENOENT)
    read another VM's disk: refused (ENOENT)
    connect to another VM's monitor: refused (ENOENT)
    connect to the control socket: refused (ENOENT)
    list the state directory: refused (ENOENT)
    read a secret of the host: refused (ENOENT)
    write to the shared memory file: refused (EBADF)
    write to the shared image: refused (EBADF)
    grow a disk without end: refused (EFBIG)
    make a file: refused (ENOENT)
    make a directory: refused (EROFS)
    change a library: refused (ENOENT)
    open a cgroup: refused (ENOENT)
    find another descriptor: refused (EBADF)
    see another process: refused (ENOENT)
    signal the service: refused (ESRCH)
    signal any process: refused (ESRCH)
    read another's memory: refused (EPERM)
    start a shell: refused (ENOENT)
    start threads without end: refused (EAGAIN)
    connect over loopback: refused (EPERM)
    send datagrams: refused (EPERM)
    open a vsock: refused (EPERM)
    open a netlink socket: refused (EPERM)
    connect to an abstract socket: refused (ECONNREFUSED)
    raise a limit: refused (EPERM)
    become root: refused (EPERM)
    make a device: refused (EPERM)
    mount something: refused (EPERM)
    change the root: refused (EPERM)
    change the host's name: refused (EPERM)
    make a user namespace: refused (EPERM)
    make a mount namespace: refused (EPERM)
    ");
    assert_eq!(fs::read_to_string(prey.path("store")).unwrap(), "as it was");
    assert_eq!(state.run(&["--", "true"]).code, Some(0), "what all VMs share is as it was");
    leaks::assert_none(state.path());
}

/// In a machine with cgroup v2, which this host may not have; its kernel is the guest's.
#[test]
fn groups_bound_what_is_in_them() {
    let Some(state) = State::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    // Without its tables for debuggers it is a tenth as large.
    let program = place("trial");
    let stripped = Command::new("strip").arg("-o").arg(&program).arg(hostile_program()).status().unwrap();
    assert!(stripped.success());
    for name in ["cold", "warm"] {
        fs::write(place(name), random(8 << 20)).unwrap();
    }
    let cache = format!("{}:/cache", directory.path().display());
    let script =
        "mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup; exec /cache/trial groups /cache";
    let done = state.run(&["--timeout", "120s", "--root", "--cache", &cache, "--", "sh", "-c", script]);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    insta::assert_snapshot!(done.stdout, @"
    by itself: groups in /sys/fs/cgroup/dayfly, this in 0::/
    in a unit: groups in /sys/fs/cgroup/dayfly-trial.service, this in 0::/dayfly-trial.service/service
    memory: signal: 9 (SIGKILL), oom_group_kill 1
    tasks: 255 threads of 1000, refused: true
    freeze: held, let go, held, signal: 9 (SIGKILL), gone: true
    io: rbps=8388608 wbps=8388608 riops=500 wiops=500; signal: 9 (SIGKILL), gone: true
    cold: read 8388608, charged to it: true
    warm: read 8388608, charged to it: false
    ");
}

/// A service that starts only where VMs are confined.
const REFUSING: &str = r#"
[server]
listen = "127.0.0.1:0"
public_url = "http://127.0.0.1"
state_dir = "STATE"
[github]
webhook_secret = { env = "SECRET" }
token = { env = "SECRET" }
[profile.linux]
labels = ["linux"]
[vm]
require_confinement = true
"#;

/// Bytes that no file system stores in less room.
fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

#[test]
fn where_nothing_can_be_confined_vms_run_unless_that_is_refused() {
    let Some(state) = State::new() else { return };
    // Without the right to change users nothing can be confined.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-setuid", env!("CARGO_BIN_EXE_dayfly"), "exec", "--state-dir"]).arg(state.path());
    command.args(["--backend", "qemu-tcg", "--memory", "256MiB", "--disk", "1GiB", "--", "echo", "ran"]);
    let done: Outcome = command.output().unwrap().into();
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "ran\n"), "{}", done.stderr);
    let config = state.path().join("dayfly.toml");
    fs::write(&config, REFUSING.replace("STATE", &state.path().join("state").display().to_string())).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-setuid", env!("CARGO_BIN_EXE_dayfly"), "serve", "--config"]).arg(config);
    let done: Outcome = command.env("SECRET", "0123456789abcdef0123456789abcdef").output().unwrap().into();
    assert_eq!(done.code, Some(69), "{}", done.stderr);
    assert!(
        done.stderr.contains("`[vm] require_confinement` is set") && done.stderr.contains("becoming user 9"),
        "{}",
        done.stderr
    );
    let doctor = command::dayfly().args(["doctor", "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let of = |id: &str| findings.iter().find(|finding| finding["id"] == id).unwrap()["status"].clone();
    assert_eq!((of("confinement.jail"), of("confinement.qemu")), ("ok".into(), "ok".into()), "{report:#}");
    leaks::assert_none(state.path());
}
