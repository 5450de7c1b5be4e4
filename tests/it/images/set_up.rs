//! The VM in which set-up scripts run: what they get, and how it ends before they do.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use axum::Router;
use axum::routing::get;
use dayfly::host::xattr;
use nix::sys::signal::{Signal, kill};

use super::tiny::{SHAPE, Tiny};
use crate::support::command::Outcome;
use crate::support::{eventually, host, leaks};

const SET_UP: &str = "[setup]\nscript = 'setup.sh'\n";

/// What `setcap cap_dac_read_search+ep` writes: the kernel's structure in its second version.
fn may_read_everything() -> Vec<u8> {
    let fields: [u32; 5] = [0x0200_0001, 1 << 2, 0, 0, 0];
    fields.into_iter().flat_map(u32::to_le_bytes).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_get_files_of_the_network_and_programs_keep_their_capabilities() {
    // Of `a tool of the network`.
    const SHA256: &str = "362106b0df42fd73573a9bb282859bfb6d2cbd613cd2ecbe66f2c08bc6956617";
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        axum::serve(listener, Router::new().route("/tool", get(async || "a tool of the network"))).await
    });
    let files = format!("{SET_UP}files = [{{ url = 'http://{address}/tool', sha256 = '{SHA256}' }}]\n");
    let Some(tiny) = Tiny::new(&files) else { return };
    fs::write(tiny.file("setup.sh"), "#!/bin/sh\ncat \"$DAYFLY_FILES/tool\" > /tool").unwrap();
    let reader = tiny.in_root("bin/reader");
    fs::copy(tiny.in_root("bin/cat"), &reader).unwrap();
    xattr::set(&File::open(reader).unwrap(), c"security.capability", &may_read_everything()).unwrap();
    tiny.pack_root();
    let script = "cat /tool; echo; test -e /run/dayfly-files && echo left; \
                  as() { setpriv --reuid 7 --regid 7 --clear-groups \"$@\"; }; umask 077; echo secret > /secret; \
                  as reader /secret; as cat /secret || echo refused";
    let mut command = tiny.dayfly(&[&["exec", "--image", "tiny"], &SHAPE[..]].concat());
    command.env("NO_PROXY", "127.0.0.1").args(["--", "sh", "-c", script]);
    let done: Outcome = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap().into();
    assert_eq!(done.stdout, "a tool of the network\nsecret\nrefused\n", "{}", done.stderr);
    let shown = tiny.run(&["image", "show", "tiny"]);
    assert!(
        shown.stdout.contains(&format!("file         tool of http://{address}/tool\n             SHA-256 {SHA256}\n")),
        "{}",
        shown.stdout
    );
    assert!(!tiny.state_dir().join("images/tiny/current/fetched").exists());
    server.abort();
    leaks::assert_none(tiny.state_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_scripts_run_nothing_is_left_and_the_next_build_works() {
    let Some(tiny) = Tiny::new(SET_UP) else { return };
    fs::write(tiny.file("setup.sh"), "#!/bin/sh\nsleep 1000000").unwrap();
    let monitors = async || Some(leaks::monitors(tiny.state_dir())).filter(|monitors| !monitors.is_empty());
    let build = || {
        let mut command = tiny.dayfly(&["image", "build", "tiny"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut killed = build();
    eventually("the VM of the set-up", monitors).await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    let is_gone = async || leaks::monitors(tiny.state_dir()).is_empty().then_some(());
    eventually("its end, with the command", is_gone).await;

    let robbed = build();
    for monitor in eventually("the VM of the set-up", monitors).await {
        kill(monitor, Signal::SIGKILL).unwrap();
    }
    let ended: Outcome = robbed.wait_with_output().unwrap().into();
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
    assert!(ended.stderr.contains("the virtual machine monitor"), "{}", ended.stderr);
    assert_eq!(tiny.unfinished(), [""; 0]);

    fs::write(tiny.file("setup.sh"), "#!/bin/sh\necho o > /proc/sysrq-trigger; sleep 1000000").unwrap();
    let ended = tiny.run(&["image", "build", "tiny"]);
    assert!(ended.stderr.contains("the VM was lost: the guest powered itself off"), "{}", ended.stderr);

    fs::write(tiny.file("setup.sh"), "#!/bin/sh\necho set up > /state").unwrap();
    assert_eq!(tiny.exec("cat /state").stdout, "set up\n");
    leaks::assert_none(tiny.state_dir());
}

/// Room for an image, its snapshot and a VM, but not for what the next image's script writes.
const SMALL: &str = "340m";

#[test]
fn a_script_that_fills_the_disk_is_named_and_the_last_good_image_stays() {
    let Some(tiny) = Tiny::new("") else { return };
    if !host::can_mount() {
        return;
    }
    let first = fs::read(tiny.file("image.toml")).unwrap();
    tiny.write_recipe(SET_UP);
    fs::rename(tiny.file("image.toml"), tiny.file("next.toml")).unwrap();
    fs::write(tiny.file("image.toml"), first).unwrap();
    fs::write(tiny.file("setup.sh"), "#!/bin/sh\nhead -c 400000000 /dev/zero > /big; sync").unwrap();
    let mut exec = tiny.dayfly(&[&["exec", "--image", "tiny"], &SHAPE[..]].concat());
    exec.args(["--", "cat", "/version"]);
    let mut command = host::on_small_disk(tiny.state_dir(), SMALL, Path::new("sh"));
    let script = "cd \"$0\"; \"$@\" && mv next.toml image.toml && \"$@\"; find . -name '.building-*'";
    command.args(["-c", script]).arg(tiny.file("")).arg(exec.get_program()).args(exec.get_args());
    let done: Outcome = command.output().unwrap().into();
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "oneone"), "{}", done.stderr);
    assert!(done.stderr.contains("using the image of "), "{}", done.stderr);
    assert!(done.stderr.contains("the host's disk is full"), "{}", done.stderr);
    assert_eq!(leaks::monitors(tiny.state_dir()), []);
}
